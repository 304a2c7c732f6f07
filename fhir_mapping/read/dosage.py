"""Doses, rates and infusion lengths of dosage instructions (chart-facts M4, M5)."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from fhir_mapping.chart import Amount, Dose, Flag
from fhir_mapping.read.amounts import amount, as_ml, in_dose_units, per_hour, rate, written
from fhir_mapping.read.coding import codings
from fhir_mapping.read.medication import FLUIDS, Identity, mg_per_ml
from fhir_mapping.read.shape import EMPTY, Json, number, obj, objs
from fhir_mapping.read.timing import length

_PER_BODY = ("/kg", "/m2")
_CLASH = Decimal("0.1")  # ordered and calculated dose further apart than this are named


@dataclass(frozen=True, slots=True)
class BodySize:
    """Latest weight (kg) and surface (m2), to compare a calculated dose with the ordered one."""

    weight: Decimal | None = None
    surface: Decimal | None = None


UNKNOWN_SIZE = BodySize()


def _dose_of(entry: Json) -> tuple[Json, bool]:
    """The dose quantity of a dose entry, and whether it is the high end of a range."""
    quantity = obj(entry.get("doseQuantity"))
    if quantity:
        return quantity, False
    spread = obj(entry.get("doseRange"))
    high = obj(spread.get("high")) or obj(spread.get("low"))
    return high, bool(high) and spread.get("low") != spread.get("high")


def _entries(instruction: Json) -> list[Json]:
    entries = objs(instruction.get("doseAndRate"))
    if entries:
        return entries
    return (
        [instruction]
        if "doseQuantity" in instruction or "doseRange" in instruction or _has_rate(instruction)
        else []
    )


def _has_rate(entry: Json) -> bool:
    return any(key in entry for key in ("rateQuantity", "rateRatio", "rateRange"))


def _is_calculated(entry: Json) -> bool:
    return any(code == "calculated" for _, code in codings(entry.get("type")))


def _ratio_rate(entry: Json) -> Amount | None:
    ratio = obj(entry.get("rateRatio"))
    top, bottom = obj(ratio.get("numerator")), obj(ratio.get("denominator"))
    value, per = number(top.get("value")), length(bottom)
    if value is None or per is None or per == 0:
        return None
    read = in_dose_units(value / per, top)
    return None if read is None else Amount(read.value, f"{read.unit}/h")


def read_rate(entries: list[Json]) -> Amount | None:
    """Rate of an infusion: canonical unit (mL/h, ug/kg/min, mg/h)."""
    for entry in entries:
        if not _has_rate(entry):
            continue
        spread = obj(entry.get("rateRange"))
        found = (
            rate(entry.get("rateQuantity"))
            or _ratio_rate(entry)
            or rate(spread.get("high") or spread.get("low"))
        )
        if found is not None:
            return found
    return None


def infusion_minutes(dose: Dose | None, flow: Amount | None, entries: list[Json]) -> Decimal | None:
    """Length of one administration from volume and rate, else from the denominator of the rate."""
    hourly = per_hour(flow) if flow is not None else None
    if dose is not None and hourly is not None and hourly.value > 0:
        volume = as_ml(dose.volume)
        if volume is not None and hourly.unit == "mL":
            return volume / hourly.value * 60
        if dose.amount is not None and dose.amount.unit == hourly.unit:
            return dose.amount.value / hourly.value * 60
    for entry in entries:
        hours = length(obj(entry.get("rateRatio")).get("denominator"))
        if hours is not None:
            return hours * 60
    return None


def _in_mg(quantity: Json, identity: Identity) -> tuple[Amount | None, Amount | None]:
    """(dose, volume): a volume becomes mg where the product's strength is known."""
    read = amount(quantity)
    volume = as_ml(read)
    if volume is None:
        return read, None
    strength = mg_per_ml(identity)
    if strength is None or not FLUIDS.isdisjoint(identity.concepts):
        return Amount(volume, "mL"), Amount(volume, "mL")
    return Amount(volume * strength, "mg"), Amount(volume, "mL")


def _clash(dose: Amount | None, per: Amount | None, body: BodySize) -> bool:
    if dose is None or per is None:
        return False
    expected: Decimal | None = None
    if per.unit == dose.unit:
        expected = per.value
    elif per.unit == f"{dose.unit}/kg" and body.weight is not None:
        expected = per.value * body.weight
    elif per.unit == f"{dose.unit}/m2" and body.surface is not None:
        expected = per.value * body.surface
    return expected is not None and expected > 0 and abs(dose.value - expected) > _CLASH * expected


def read_dose(
    entries: list[Json], identity: Identity, body: BodySize = UNKNOWN_SIZE, rate_hours: Decimal | None = None
) -> Dose | None:
    """Dose of one administration. None: no dose written.

    The ordered dose is judged; a calculated one (mg/kg, mg/m2) stands beside it. A dose in mL needs the
    product's strength; tablets, vials and the like are unreadable and kept as text. Without a dose, rate
    times length of the infusion counts.
    """
    ordered = [e for e in entries if not _is_calculated(e) and _dose_of(e)[0]]
    calculated = [e for e in entries if _is_calculated(e) and _dose_of(e)[0]]
    if not ordered and not calculated:
        return _from_rate(entries, rate_hours)
    ordered.sort(key=lambda e: _is_per_body(_dose_of(e)[0]))
    main = ordered[0] if ordered else calculated[0]
    quantity, high_end = _dose_of(main)
    dose, volume = _in_mg(quantity, identity)
    second = next((e for e in (calculated if ordered else ())), EMPTY)
    if not second:  # an EHR that does not say which is which: the one per body size is the calculated one
        second = next((e for e in ordered[1:] if _is_per_body(_dose_of(e)[0])), EMPTY)
    per = amount(_dose_of(second)[0])
    flags: set[Flag] = set()
    if high_end:
        flags.add(Flag.RANGE_HIGH_END)
    if _clash(dose, per, body):
        flags.add(Flag.DOSE_CLASH)
    return Dose(
        amount=dose,
        per=per,
        unreadable="" if dose is not None else written(quantity) or "dose",
        flags=frozenset(flags),
        volume=volume,
    )


def _is_per_body(quantity: Json) -> bool:
    read = amount(quantity)
    return read is not None and read.unit.endswith(_PER_BODY)


def _from_rate(entries: list[Json], rate_hours: Decimal | None) -> Dose | None:
    flow = read_rate(entries)
    hourly = per_hour(flow) if flow is not None else None
    if hourly is None or rate_hours is None:
        return None
    total = Amount(hourly.value * rate_hours, hourly.unit)
    return Dose(amount=total, flags=frozenset({Flag.DERIVED}), volume=total if total.unit == "mL" else None)


def dose_entries(instruction: Json) -> list[Json]:
    """Entries with a dose or a rate: `doseAndRate`, or the instruction itself in older FHIR."""
    return _entries(instruction)
