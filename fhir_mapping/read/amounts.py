"""Doses, rates and volumes as written (chart-facts M4, M5)."""

from __future__ import annotations

from decimal import Decimal
from functools import cache

from fhir_mapping import units
from fhir_mapping.chart import Amount
from fhir_mapping.read.shape import Json, number, obj, text

_PER_HOUR = {"h": Decimal(1), "min": Decimal(60), "d": Decimal(1) / 24, "s": Decimal(3600)}


def amount(raw: object) -> Amount | None:
    """A dose quantity: mass in mg, everything else in its canonical unit. None: no number or no unit."""
    quantity = obj(raw)
    value = number(quantity.get("value"))
    if value is None or value < 0:
        return None
    return in_dose_units(value, quantity)


_TARGETS = ("mg", "mg/kg", "mg/m2", "mg/kg/d", "mg/m2/d", "mg/d", "mL", "[IU]", "{cells}", "{cells}/kg")
_COUNTED = frozenset({"{tbl}", "{vial}", "1", "%", "{score}"})  # says nothing without the product's strength


@cache
def _target(unit: str) -> str:
    """The unit in which doses of this dimension are compared; the unit itself where none is agreed."""
    return next((to for to in _TARGETS if units.same_dimension(unit, to)), unit)


def in_dose_units(value: Decimal, quantity: Json) -> Amount | None:
    unit = _canonical(quantity)
    if unit is None or unit in _COUNTED:
        return None
    target = _target(unit)
    converted = units.convert(None, value, unit, target)
    return Amount(value, unit) if converted is None else Amount(converted, target)


def rate(raw: object) -> Amount | None:
    """A rate in its canonical unit as written (mL/h, ug/kg/min)."""
    quantity = obj(raw)
    value, unit = number(quantity.get("value")), _canonical(quantity)
    return None if value is None or value < 0 or unit is None else Amount(value, unit)


def _canonical(quantity: Json) -> str | None:
    get = quantity.get
    return units.canonical(text(get("unit")) or None, text(get("code")) or None, text(get("system")) or None)


def written(raw: object) -> str:
    """A quantity as it stands in the resource."""
    quantity = obj(raw)
    value = quantity.get("value")
    number_text = str(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else ""
    return f"{number_text} {text(quantity.get('unit')) or text(quantity.get('code'))}".strip()


def volume_ml(raw: object) -> Decimal | None:
    """A volume in mL."""
    quantity = obj(raw)
    value, unit = number(quantity.get("value")), _canonical(quantity)
    return None if value is None or unit is None else units.convert(None, value, unit, "mL")


def as_ml(dose: Amount | None) -> Decimal | None:
    """The volume of a dose in mL, where it is a volume."""
    return None if dose is None else units.convert(None, dose.value, dose.unit, "mL")


def per_hour(flow: Amount) -> Amount | None:
    """A rate without body size as amount per hour: 0.5 mL/min -> 30 mL/h."""
    thing, _, time = flow.unit.rpartition("/")
    if not thing or "/" in thing or time not in _PER_HOUR:
        return None
    value = flow.value * _PER_HOUR[time]
    target = _target(thing)
    converted = units.convert(None, value, thing, target)
    return Amount(value, thing) if converted is None else Amount(converted, target)
