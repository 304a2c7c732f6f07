"""Exact conversion between canonical units, by dimension and, where a substance is known, by analyte."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction
from functools import cache, lru_cache

from fhir_mapping.units.aliases import canonical
from fhir_mapping.units.analytes import preferred
from fhir_mapping.units.tables import exact, rows

_CONTEXT = Context(prec=34, traps=[])  # an absurd value gives an infinity, not an exception
_TEN = Decimal(10)
_LOGARITHM = {"{Log_IU}/mL": "[IU]/mL", "{Log_copies}/mL": "{copies}/mL"}
_FRACTION = "1"
_LIMIT_LOG = Decimal(30)


@dataclass(frozen=True, slots=True)
class Linear:
    """to = from * over / under + offset, all exact."""

    over: Decimal
    under: Decimal
    offset: Decimal

    def apply(self, value: Decimal) -> Decimal | None:
        result = _CONTEXT.multiply(value, self.over)
        if self.offset:
            result = _CONTEXT.add(result, self.offset)
        if self.under != 1:
            result = _CONTEXT.divide(result, self.under)
        return result if result.is_finite() else None


@dataclass(frozen=True, slots=True)
class _Unit:
    base: str
    factor: Fraction
    offset: Fraction


@cache
def _units() -> dict[str, _Unit]:
    return {
        row["unit"]: _Unit(row["base"], exact(row["factor"]), exact(row["offset"]))
        for row in rows("factors.csv")
    }


@cache
def _analyte_factors() -> dict[str, tuple[tuple[str, Fraction], ...]]:
    found: dict[str, list[tuple[str, Fraction]]] = {}
    for row in rows("analyte-factors.csv"):
        found.setdefault(row["concept"], []).append((row["from_unit"], exact(row["factor"])))
    return {concept: tuple(factors) for concept, factors in found.items()}


def _by_dimension(unit: str, to: str) -> tuple[Fraction, Fraction] | None:
    source, target = _units().get(unit), _units().get(to)
    if source is None or target is None or source.base != target.base:
        return None
    return source.factor / target.factor, (source.offset - target.offset) / target.factor


def _by_analyte(concept: str, unit: str, to: str, home: str) -> tuple[Fraction, Fraction] | None:
    """Through the analyte's own unit `home`: unit -> listed unit -> home -> to, or the reverse."""
    factors = _analyte_factors().get(concept, ())
    for listed, factor in sorted(factors, key=lambda row: row[0] not in (unit, to)):  # 1 is no fraction of %
        first, last = _by_dimension(unit, listed), _by_dimension(home, to)
        if first and last:
            return first[0] * factor * last[0], Fraction(0)
        first, last = _by_dimension(unit, home), _by_dimension(listed, to)
        if first and last:
            return first[0] / factor * last[0], Fraction(0)
    return None


@lru_cache(maxsize=4096)
def _linear(concept: str | None, unit: str, to: str) -> Linear | None:
    found = _by_dimension(unit, to)
    home = preferred(concept) if concept else None
    if found is None and concept is not None and home is not None:
        found = _by_analyte(concept, unit, to, home)
    if found is None:
        return None
    factor, offset = found
    under = factor.denominator * offset.denominator
    return Linear(
        Decimal(factor.numerator * offset.denominator),
        Decimal(under),
        Decimal(offset.numerator * factor.denominator),
    )


def same_dimension(unit: str, to: str) -> bool:
    """Whether two canonical units convert into each other without knowing the substance."""
    return _by_dimension(unit, to) is not None


def convert(concept: str | None, value: Decimal, unit: str, to: str) -> Decimal | None:
    """`value` in canonical unit `unit`, expressed in canonical unit `to`.

    None when the dimension does not allow it and no factor of this analyte is listed, when a fraction lies
    outside 0-1, or when the number is not finite. Logarithmic viral loads become 10**v and back.
    """
    if not value.is_finite():
        return None
    if unit == to:
        return value
    if unit in _LOGARITHM:
        linear = _linear(concept, _LOGARITHM[unit], to)
        if linear is None or abs(value) > _LIMIT_LOG:
            return None
        return linear.apply(_CONTEXT.power(_TEN, value))
    if to in _LOGARITHM:
        plain = convert(concept, value, unit, _LOGARITHM[to])
        return _CONTEXT.log10(plain) if plain is not None and plain > 0 else None
    if unit == _FRACTION and to == "%" and not 0 <= value <= 1:
        return None
    linear = _linear(concept, unit, to)
    return None if linear is None else linear.apply(value)


def mass_mg(value: Decimal, unit: str) -> Decimal | None:
    """A dose in mg from any listed spelling of a mass (g, mg, mcg, µg ...); None for anything else."""
    known = canonical(unit)
    return convert(None, value, known, "mg") if known else None
