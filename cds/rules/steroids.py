"""Systemic corticosteroids (chart-facts M12): which records count, how much prednisone they are."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from functools import cache

from cds.engine.case import Case
from cds.engine.tables import shared_table
from fhir_mapping.chart import ConditionState, DrugRecord, DrugSource, reaches_the_body

GLUCOCORTICOIDS = (
    "class_glucocorticoids",
    "dexamethasone",
    "methylprednisolone",
    "prednisolone",
    "prednisone",
    "hydrocortisone",
    "betamethasone",
)
PREDNISONE_MG = Decimal(5)
REPLACEMENT_DRUGS = frozenset({"hydrocortisone", "prednisolone", "prednisone", "cortisone"})


@cache
def _equivalents() -> dict[str, Decimal]:
    rows = shared_table("steroid_equivalents").table("equivalents")
    return {str(row["drug"]): Decimal(row["mg"]) for row in rows}


def prednisone_equivalent(drug: str, mg: Decimal) -> Decimal | None:
    """mg of prednisone with the same effect; None for a drug without an equivalent in the table."""
    own = _equivalents().get(drug)
    return None if own is None else mg * PREDNISONE_MG / own


def from_prednisone(drug: str, mg: Decimal) -> Decimal | None:
    """mg of `drug` equal to `mg` of prednisone."""
    own = _equivalents().get(drug)
    return None if own is None else mg * own / PREDNISONE_MG


def dose_equivalent(record: DrugRecord) -> Decimal | None:
    """mg prednisone of one dose of the record; None where the dose or the drug has no equivalent."""
    if record.dose is None or record.dose.mg is None:
        return None
    for drug in record.ingredients:
        if drug in _equivalents():
            return prednisone_equivalent(drug, record.dose.mg)
    return None


def daily_equivalent(record: DrugRecord, on: date | None = None) -> Decimal | None:
    """mg prednisone per day of an order or statement; without a stated rhythm one dose counts as a day's.

    Of an order with several instructions those that cover the day `on` are added up.
    """
    if on is not None and record.instructions:
        doses = [daily_equivalent(part) for part in record.by_instruction() if active_on(part, on)]
        known = [dose for dose in doses if dose is not None]
        return sum(known, Decimal(0)) if len(known) == len(doses) else None
    one = dose_equivalent(record)
    if one is None:
        return None
    timing = record.timing
    if timing.per_day is not None:
        return one * timing.per_day
    if timing.interval_hours:
        return one * 24 / timing.interval_hours
    return one


def is_replacement(record: DrugRecord, case: Case) -> bool:
    """Physiological replacement: said by the order, or adrenal insufficiency on the chart (C8)."""
    if "purpose_replacement" in record.purposes or "adrenal_insufficiency" in record.reasons:
        return True
    return not record.reasons and adrenal_insufficiency(case)


def replaces(record: DrugRecord, drug: str, case: Case) -> bool:
    """Replacement where a wrong yes would let a harmful steroid pass: said by the order; of adrenal
    insufficiency on the chart only for a drug that replaces and an order that names no other use."""
    if "purpose_replacement" in record.purposes or "adrenal_insufficiency" in record.reasons:
        return True
    if drug not in REPLACEMENT_DRUGS or record.purposes or record.reasons:
        return False
    return adrenal_insufficiency(case)


def adrenal_insufficiency(case: Case) -> bool:
    """Coded as active (C8)."""
    conditions = case.chart.conditions.of("adrenal_insufficiency")
    return any(condition.state is ConditionState.ACTIVE for condition in conditions)


def last_day(record: DrugRecord) -> date | None:
    """The last day with a dose; a supply of 28 days from day 1 ends with day 28."""
    first, last = record.timing.first, record.timing.last
    if last is None:
        return None
    if record.source is DrugSource.DISPENSE and first is not None and last.date > first.date:
        return last.date - timedelta(days=1)
    return last.date


def active_on(record: DrugRecord, on: date) -> bool:
    """The drug is taken on that day: an order, statement or supply that covers it, or a dose of that day.

    As-needed orders without an administration are no exposure (chart-facts 2.6).
    """
    timing = record.timing
    first = None if timing.first is None else timing.first.first_date
    last = last_day(record)
    if record.source is DrugSource.ADMINISTRATION:
        if not record.given:
            return False
        return record.in_force or (first is not None and last is not None and first <= on <= last)
    if record.source is DrugSource.DISPENSE:
        return record.given and first is not None and last is not None and first <= on <= last
    if not record.in_force or timing.as_needed:
        return False
    if first is not None and first > on:
        return False
    return timing.ongoing or last is None or last >= on


def systemic_steroids(case: Case) -> tuple[DrugRecord, ...]:
    """Every record of a glucocorticoid by a systemic route, in time order."""
    return tuple(d for d in case.chart.drugs.of(*GLUCOCORTICOIDS) if reaches_the_body(d.route))
