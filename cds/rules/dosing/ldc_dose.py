"""The dose of a lymphodepletion order against the calculated one of its regimen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum

from cds.engine.case import Case
from cds.rules.body_size import weight
from cds.rules.dosing.ldc import (
    RULE,
    PlannedDrug,
    creatinine_clearance,
    dose_days,
    doses_per_day,
    same_day_orders,
)
from fhir_mapping.chart import Amount, DrugRecord


class Uncheckable(StrEnum):
    """Why a dose could not be compared."""

    NO_SURFACE = "no-surface"
    NO_DOSE = "no-dose"


@dataclass(frozen=True, slots=True)
class DoseCheck:
    """Ordered against calculated dose of one day. `percent` is the signed difference."""

    ordered: Amount | None
    target: Amount | None
    percent: Decimal | None
    uncheckable: Uncheckable | None = None


def check_dose(
    record: DrugRecord,
    plan: PlannedDrug,
    beside: Iterable[DrugRecord] = (),
    kg: Decimal | None = None,
) -> DoseCheck:
    """mg of one day against the calculated mg; an order per m2 against the mg/m2 of the regimen, one per kg
    by the weight. Of days with different doses the one furthest from the target counts.

    `beside` are other orders of the same day; their doses are added as far as they have the same unit.
    """
    amounts = [_amount(part, kg) for part in record.by_instruction()]
    units = {None if amount is None else amount.unit for amount in amounts}
    unit = next(iter(units)) if len(units) == 1 else None
    if unit not in ("mg", "mg/m2"):
        written = None if record.dose is None else record.dose.amount
        weight_lacks = unit == "mg/kg" and kg is None
        return DoseCheck(written, None, None, Uncheckable.NO_SURFACE if weight_lacks else Uncheckable.NO_DOSE)
    more = sum((max(_daily_doses(other, unit, kg), default=Decimal(0)) for other in beside), Decimal(0))
    days = [daily + more for daily in _daily_doses(record, unit, kg)]
    if unit == "mg/m2":
        target = Amount(plan.per_m2, "mg/m2")
    elif plan.mg is None:
        return DoseCheck(Amount(max(days), unit), None, None, Uncheckable.NO_SURFACE)
    else:
        target = Amount(plan.mg, "mg")
    daily = max(days, key=lambda dose: abs(dose - target.value))
    return DoseCheck(Amount(daily, unit), target, (daily - target.value) / target.value * 100)


def _amount(record: DrugRecord, kg: Decimal | None) -> Amount | None:
    """One dose as written; a dose per kg in mg where the weight is known."""
    amount = None if record.dose is None else record.dose.amount
    if amount is not None and amount.unit == "mg/kg" and kg is not None:
        return Amount(amount.value * kg, "mg")
    return amount


def _daily_doses(record: DrugRecord, unit: str, kg: Decimal | None) -> list[Decimal]:
    """Dose of each day that an instruction names, in the unit; nothing where it is written in another one."""
    every_day = Decimal(0)
    days: dict[date, Decimal] = {}
    for part in record.by_instruction():
        amount = _amount(part, kg)
        if amount is None or amount.unit != unit:
            continue
        daily = amount.value * doses_per_day(part)
        named = dose_days(part)
        if named is None:
            every_day += daily
        for day in named or ():
            days[day] = days.get(day, Decimal(0)) + daily
    return [dose + every_day for dose in days.values()] or ([every_day] if every_day else [])


def check_order(case: Case, record: DrugRecord, plan: PlannedDrug) -> DoseCheck:
    """The dose that the order gives on one of its days, with the other orders of that day."""
    kg = weight(case, case.p(RULE).int("body_max_age_days")).value
    return check_dose(record, plan, same_day_orders(case, plan.drug, record), kg)


def kidneys_allow_less(case: Case) -> bool:
    """Reduced clearance: a dose below target is the adjustment the organ rule asks to consider."""
    value = creatinine_clearance(case).value
    return value is not None and value < case.p(RULE)["clearance_adjust_ml_min"]
