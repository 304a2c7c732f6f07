"""The factor table against an independent UCUM implementation, wherever both know the unit."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from fhir_mapping.units import convert
from fhir_mapping.units.tables import rows

ucumvert = pytest.importorskip("ucumvert")

FACTORS = list(rows("factors.csv"))
# An annotation means nothing to a converter: there our table says more than UCUM does.
OURS = ("{", "10*6[IU]", "Cel/min")
CONSTANT = {"kPa": Decimal("1e-5")}  # a rounded constant on purpose


@pytest.fixture(scope="module")
def registry() -> Any:
    return ucumvert.PintUcumRegistry()


COMPARED = [row for row in FACTORS if not any(mark in row["unit"] + row["base"] for mark in OURS)]


@pytest.mark.parametrize("row", COMPARED, ids=lambda row: row["unit"])
def test_factor_agrees_with_ucum(row: dict[str, str], registry: Any) -> None:
    for value in (Decimal(1), Decimal("36.6"), Decimal(250)):
        ours = convert(None, value, row["unit"], row["base"])
        assert ours is not None or row["unit"] == "1"
        if ours is None:
            continue
        unit, base = registry.from_ucum(row["unit"]).units, registry.from_ucum(row["base"]).units
        scale = _scale(registry, row["unit"]) / _scale(registry, row["base"])
        if row["base"] == "Cel":
            theirs = registry.Quantity(float(value), unit).to(base).magnitude
        else:
            theirs = (float(value) * scale * registry.Quantity(1, unit)).to(base).magnitude
        tolerance = CONSTANT.get(row["unit"], Decimal("1e-9"))
        assert abs(Decimal(theirs) - ours) <= abs(ours) * tolerance + Decimal("1e-9") * (row["base"] == "Cel")


def _scale(registry: Any, unit: str) -> float:
    """The number in front of a unit such as `10*3/uL`, which ucumvert keeps apart from the unit."""
    if unit in ("Cel", "[degF]"):
        return 1.0
    return float(registry.from_ucum(unit).magnitude)


def test_most_of_the_table_is_compared() -> None:
    assert len(COMPARED) > 90
