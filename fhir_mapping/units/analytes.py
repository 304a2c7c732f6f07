"""Per concept: the unit that rules compare in, limits of what is no entry error, usual ranges."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from functools import cache

from fhir_mapping.units.tables import rows


class Sex(StrEnum):
    ANY = "any"
    MALE = "male"
    FEMALE = "female"


@dataclass(frozen=True, slots=True)
class UsualRange:
    """Adult range for fixtures and display; no rule may use it. None = open on that side."""

    sex: Sex
    low: Decimal | None
    high: Decimal | None


@dataclass(frozen=True, slots=True)
class Analyte:
    """Limits are inclusive, in `unit`; None = none stated. `step`: whole multiples only (scores)."""

    concept: str
    unit: str
    reject_below: Decimal | None
    reject_above: Decimal | None
    step: Decimal | None
    may_lack_unit: bool
    usual: tuple[UsualRange, ...]


def _number(text: str) -> Decimal | None:
    return Decimal(text) if text else None


def _ranges(text: str) -> tuple[UsualRange, ...]:
    found = []
    for part in filter(None, text.split("|")):
        sex, _, limits = part.rpartition(" ")
        low, _, high = limits.partition("..")
        found.append(UsualRange(Sex(sex or "any"), _number(low), _number(high)))
    return tuple(found)


@cache
def table() -> dict[str, Analyte]:
    return {
        row["concept"]: Analyte(
            row["concept"],
            row["unit"],
            _number(row["reject_below"]),
            _number(row["reject_above"]),
            _number(row["step"]),
            row["may_lack_unit"] == "yes",
            _ranges(row["usual_range"]),
        )
        for row in rows("analytes.csv")
    }


def analyte(concept: str) -> Analyte | None:
    """None for a concept without a unit of its own."""
    return table().get(concept)


def preferred(concept: str) -> str | None:
    """The canonical unit in which rules compare the concept; None when it has none."""
    found = table().get(concept)
    return found.unit if found else None


def default_unit(concept: str) -> str | None:
    """Unit of a number sent without one: scores and INR only. None = the unit must be stated."""
    found = table().get(concept)
    return found.unit if found and found.may_lack_unit else None


def plausible(concept: str, value: Decimal) -> bool:
    """False when a value in the preferred unit can only be an entry or unit error."""
    if not value.is_finite():
        return False
    found = table().get(concept)
    if found is None:
        return True
    if found.reject_below is not None and value < found.reject_below:
        return False
    if found.reject_above is not None and value > found.reject_above:
        return False
    return found.step is None or value % found.step == 0
