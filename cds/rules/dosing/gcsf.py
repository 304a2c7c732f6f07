"""G-CSF after CAR-T cells: days given, dose per kg, refractoriness (handbook figure 9, table 15)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

from cards.finding import Evidence
from cds.engine.case import Case, once_per_case
from cds.rules.after_cart import doses_since, dosing_weight, therapy_start
from cds.rules.evidence import of_drug
from cds.rules.grading.icaht_risk import icaht_risk
from fhir_mapping.chart import DrugRecord, Observation

RULE = "dosing.icaht"
G_CSF = ("class_csf",)
DAILY = frozenset({"filgrastim", "lenograstim", "tbo_filgrastim", "molgramostim", "sargramostim"})


@dataclass(frozen=True, slots=True)
class Course:
    """G-CSF of this course. `given` holds the long-acting ones too; `days` is the current unbroken run of
    calendar days with a daily one, counted back from the last; `days_at_dose` those at the full dose (None: a
    dose or the weight is unknown)."""

    given: tuple[DrugRecord, ...]
    last: date | None
    days: int
    days_at_dose: int | None
    current: bool  # a daily dose today or yesterday, a long-acting one that still works, or an order in force


@dataclass(frozen=True, slots=True)
class Neutrophils:
    """The newest usable ANC, cells/uL."""

    cells: Decimal
    comparator: str
    observation: Observation

    def below(self, limit: Decimal) -> bool | None:
        quantity = self.observation.value.quantity
        return None if quantity is None else quantity.below(limit / 1000)

    def above(self, limit: Decimal) -> bool | None:
        quantity = self.observation.value.quantity
        return None if quantity is None else quantity.above(limit / 1000)


@once_per_case
def neutrophils(case: Case) -> Neutrophils | None:
    """ANC at most `anc_max_age_days` old."""
    found = case.chart.series("anc").latest(
        case.now, timedelta(days=case.p(RULE).int("anc_max_age_days")), lambda o: o.value.quantity is not None
    )
    if found is None or found.value.quantity is None:
        return None
    return Neutrophils(found.value.quantity.value * 1000, found.value.quantity.comparator, found)


def ug_per_kg(case: Case, record: DrugRecord) -> Decimal | None:
    """Dose of one record in ug/kg; None where dose or weight is unknown."""
    amount = None if record.dose is None else record.dose.amount
    if amount is None:
        return None
    if amount.unit == "mg/kg":
        return amount.value * 1000
    weight = dosing_weight(case).value
    if amount.unit != "mg" or not weight:
        return None
    return amount.value * 1000 / weight


@once_per_case
def gcsf_course(case: Case) -> Course:
    """What was given since the infusion."""
    start = therapy_start(case)
    if start is None:
        return Course((), None, 0, 0, False)
    given = doses_since(case, start, *G_CSF)
    by_day: dict[date, list[DrugRecord]] = {}
    current = bool(case.chart.active_drugs(*G_CSF))
    for record in given:
        assert record.timing.first is not None
        on = record.timing.first.date
        daily = bool(DAILY & set(record.ingredients))
        works = 1 if daily else case.p(RULE).int("long_acting_days")
        current = current or case.today - on <= timedelta(days=works)
        if daily:
            by_day.setdefault(on, []).append(record)
    if not by_day:
        return Course(given, None, 0, 0, current)
    last = max(by_day)
    days, at_dose, unknown = 0, 0, False
    full = case.p(RULE)["gcsf_ug_per_kg"] * (1 - case.p(RULE)["dose_tolerance"])
    day = last
    while day in by_day:
        days += 1
        doses = [ug_per_kg(case, record) for record in by_day[day]]
        known = [dose for dose in doses if dose is not None]
        if len(known) < len(doses):
            unknown = True
        elif at_dose == days - 1 and sum(known) >= full:
            at_dose = days
        day -= timedelta(days=1)
    return Course(given, last, days, None if unknown else at_dose, current)


@once_per_case
def refractory(case: Case) -> bool | None:
    """At least 5 consecutive days at 5 ug/kg or more without an ANC above 500 since they began; None where
    doses or counts do not tell."""
    course = gcsf_course(case)
    needed = case.p(RULE).int("refractory_days")
    if course.days < needed or course.last is None:
        return False
    if course.days_at_dose is None:
        return None
    if course.days_at_dose < needed:
        return False
    begun = course.last - timedelta(days=course.days_at_dose - 1)
    limit = case.p(RULE)["therapeutic_below"]
    counts = [
        o
        for o in case.chart.series("anc")
        if o.value.quantity is not None and o.when.date > begun and o.when.earliest <= case.now
    ]
    if not counts:
        return None
    return not any(o.value.quantity is not None and o.value.quantity.above(limit / 1000) for o in counts)


@once_per_case
def prophylaxis_due(case: Case) -> bool:
    """High risk, day 2 or later (to day 30), no G-CSF yet and no need for it by the count."""
    day0 = case.chart.course.last_day0
    if day0 is None:
        return False
    p = case.p(RULE)
    day = (case.today - day0).days
    if not p.int("prophylaxis_from_day") <= day <= p.int("prophylaxis_to_day"):
        return False
    course = gcsf_course(case)
    return icaht_risk(case).high and not course.given and not course.current


def course_evidence(case: Case) -> tuple[Evidence, ...]:
    return tuple(of_drug(record) for record in gcsf_course(case).given[-5:])
