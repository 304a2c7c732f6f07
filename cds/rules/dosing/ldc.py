"""Lymphodepletion as ordered and as it should be: orders of the hook, regimen of the patient, doses, dates.

Shared by the four rules on lymphodepletion. Doses are the handbook's (2.1.1, 2.1.2); surface area is
Mosteller's; calculated doses are rounded to 0.1 mg and orders are compared with the rounded figure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal
from enum import StrEnum
from typing import Any

from cards.finding import Evidence
from cds.engine.case import Case, once_per_case
from cds.rules.body_size import Measure, surface
from cds.rules.disease import Disease, disease
from cds.rules.readiness.phase import collected, infused
from cds.rules.renal import Clearance, clearance, measured_bound
from fhir_mapping.chart import (
    Condition,
    ConditionState,
    DrugRecord,
    DrugSource,
    DrugState,
    Moment,
    Observation,
    ServiceOrder,
)

RULE = "dosing.lymphodepletion"
TENTH = Decimal("0.1")
LONGEST_DAYS = 366  # an order over more than a year names no days
SET_DAYS = 7  # drugs of one regimen within a week are one set
STALE_OR_OPEN = (ConditionState.ACTIVE, ConditionState.HISTORY)


@dataclass(frozen=True, slots=True)
class PlannedDrug:
    """One drug of a regimen. `mg` None: the surface area is not known."""

    drug: str
    per_m2: Decimal
    days: int
    minutes: int | None
    mg: Decimal | None

    @property
    def total_per_m2(self) -> Decimal:
        return self.per_m2 * self.days


@dataclass(frozen=True, slots=True)
class Regimen:
    """A row R1 to R4 with the doses for this patient. `start` None: D0 is not planned."""

    id: str
    alternate: bool
    drugs: tuple[PlannedDrug, ...]
    start: date | None

    def drug(self, concept: str) -> PlannedDrug | None:
        return next((item for item in self.drugs if item.drug == concept), None)


class Reason(StrEnum):
    """Why the alternate regimen is advised."""

    CYSTITIS = "cystitis"
    REFRACTORY = "refractory"


@dataclass(frozen=True, slots=True)
class Why:
    reason: Reason
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Orders:
    """Lymphodepletion orders under judgement: drug drafts, a service order for the whole, or both."""

    drugs: tuple[DrugRecord, ...]
    services: tuple[ServiceOrder, ...]

    @property
    def reference(self) -> str:
        """The order that a card about the whole belongs to: the drug that begins first."""
        dated = sorted(
            (d.timing.first.earliest, d.reference) for d in self.drugs if d.timing.first is not None
        )
        if dated:
            return dated[0][1]
        every = [*(d.reference for d in self.drugs), *(s.reference for s in self.services)]
        return every[0]

    def __bool__(self) -> bool:
        return bool(self.drugs or self.services)


def orders(case: Case) -> Orders:
    """Judged drafts that are lymphodepletion; none before the collection or after the infusion."""
    if not collected(case) or infused(case):
        return Orders((), ())
    own = {record.reference for record in case.chart.course.ldc_records}
    drugs = tuple(draft for draft in case.judged_drugs() if draft.reference in own)
    return Orders(drugs, case.judged_services("lymphodepletion", "regimen_flu_cy"))


@once_per_case
def body_surface(case: Case) -> Measure:
    return surface(case, case.p(RULE).int("body_max_age_days"))


@once_per_case
def creatinine_clearance(case: Case) -> Clearance:
    numbers = case.p(RULE)
    return clearance(case, numbers.int("lab_max_age_days"), numbers.int("body_max_age_days"))


@once_per_case
def bounded_clearance(case: Case) -> Observation | None:
    """The newest measured clearance where it is a bound; it counts where it decides."""
    return measured_bound(case, case.p(RULE).int("lab_max_age_days"))


def rounded(mg: Decimal) -> Decimal:
    """To 0.1 mg, half up."""
    return mg.quantize(TENTH, ROUND_HALF_UP)


def _regimen(case: Case, row: Mapping[str, Any]) -> Regimen:
    numbers = case.p(RULE)
    m2 = body_surface(case).value
    drugs = tuple(
        PlannedDrug(
            drug=dose["drug"],
            per_m2=numbers[dose["per"]],
            days=numbers.int(dose["days"]),
            minutes=numbers.int(dose["minutes"]) if "minutes" in dose else None,
            mg=None if m2 is None else rounded(numbers[dose["per"]] * m2),
        )
        for dose in numbers.table("doses")
        if dose["regimen"] == row["regimen"]
    )
    day0 = case.chart.course.day0_any
    start = None if day0 is None else day0 + timedelta(days=numbers.int(row["first_day"]))
    return Regimen(row["regimen"], bool(row["alternate"]), drugs, start)


@once_per_case
def regimens(case: Case) -> tuple[Regimen, ...]:
    """The standard and the alternate regimen of the patient's disease; none for other diseases."""
    own: Disease = disease(case)
    return tuple(_regimen(case, row) for row in case.p(RULE).table("regimens") if row["disease"] == own.value)


def own_regimen(case: Case, drug: str) -> Regimen | None:
    """The regimen of the patient's disease that holds the drug."""
    return next((regimen for regimen in regimens(case) if regimen.drug(drug) is not None), None)


def every_regimen_drug(case: Case) -> frozenset[str]:
    return frozenset(row["drug"] for row in case.p(RULE).table("doses"))


# --- when the alternate regimen is advised


def _severe_cystitis(case: Case) -> tuple[Condition | None, Condition | None]:
    """(a graded event that counts, an event without a grade) of haemorrhagic cystitis by cyclophosphamide."""
    limit = case.p(RULE).int("cystitis_grade")
    ungraded: Condition | None = None
    for condition in case.chart.conditions.of("hemorrhagic_cystitis"):
        if condition.state not in STALE_OR_OPEN:
            continue
        if condition.attributed_to and "cyclophosphamide" not in condition.attributed_to:
            continue
        if condition.grade is None:
            ungraded = condition
        elif condition.grade.value >= limit:
            return condition, None
    return None, ungraded


def cystitis_without_grade(case: Case) -> Condition | None:
    """A haemorrhagic cystitis whose grade must be asked for, None where there is none or one is graded."""
    return _severe_cystitis(case)[1]


def _refractory_to_cyclophosphamide(case: Case) -> Observation | None:
    """Newest statement that the disease did not respond to cyclophosphamide or a regimen with it."""
    containing = {"cyclophosphamide"}
    containing |= {row["regimen"] for row in case.p(RULE).table("cyclophosphamide_regimens")}
    for observation in reversed(case.chart.series("refractory_to_agent")):
        if not containing.isdisjoint(observation.value.codes):
            return observation
    for observation in reversed(case.chart.series("disease_response")):
        agent = observation.component("agent")
        no_response = {"progressive_disease", "stable_disease"} & set(observation.value.codes)
        if no_response and agent is not None and not containing.isdisjoint(agent.codes):
            return observation
    return None


def _last_cyclophosphamide(case: Case, by: date) -> date | None:
    """Last day of cyclophosphamide, or of a regimen with it, on or before the day `by`."""
    own = {record.reference for record in case.chart.course.ldc_records}
    days: list[date] = []
    for record in case.chart.drugs.of("cyclophosphamide"):
        if record.given and record.reference not in own:
            moment = record.timing.last or record.timing.first
            if moment is not None:
                days.append(moment.date)
    containing = {row["regimen"] for row in case.p(RULE).table("cyclophosphamide_regimens")}
    for procedure in case.chart.procedures.of("chemotherapy"):
        end: Moment | None = procedure.end or procedure.start
        if end is not None and not containing.isdisjoint(procedure.regimens):
            days.append(end.date)
    return max((day for day in days if day <= by), default=None)


@once_per_case
def alternate_reasons(case: Case) -> tuple[Why, ...]:
    """Grade 4 haemorrhagic cystitis by cyclophosphamide, or disease refractory to it shortly before."""
    found: list[Why] = []
    severe, _ = _severe_cystitis(case)
    if severe is not None:
        grade = severe.grade.value if severe.grade is not None else None
        evidence = Evidence(severe.reference, "hemorrhagic_cystitis", grade, "", severe.onset)
        found.append(Why(Reason.CYSTITIS, evidence))
    statement = _refractory_to_cyclophosphamide(case)
    if statement is not None:
        # what was given after the statement is another therapy than the one that failed
        last = _last_cyclophosphamide(case, statement.when.date) or statement.when.date
        reference_day = min(filter(None, (_first_dose(case), case.chart.course.day0_any)), default=case.today)
        if (reference_day - last).days <= case.p(RULE).int("shortly_before_days"):
            evidence = Evidence(statement.reference, "refractory_to_agent", effective=statement.when)
            found.append(Why(Reason.REFRACTORY, evidence))
    return tuple(found)


def _first_dose(case: Case) -> date | None:
    first = case.chart.course.ldc_first
    return None if first is None else first.date


@once_per_case
def advised(case: Case) -> Regimen | None:
    """The regimen for this patient: standard, or alternate for one of the two reasons."""
    wanted = bool(alternate_reasons(case))
    return next((regimen for regimen in regimens(case) if regimen.alternate is wanted), None)


# --- what an order says


def doses_per_day(record: DrugRecord) -> Decimal:
    """How many doses an order gives on one of its days."""
    doses = record.timing.doses
    if doses:
        return Decimal(len(doses)) / len({moment.date for moment in doses})
    return record.timing.per_day or Decimal(1)


def dose_days(record: DrugRecord) -> frozenset[date] | None:
    """Calendar days on which the record gives a dose; None where it has no end or no day at all."""
    timing = record.timing
    if timing.doses:
        return frozenset(moment.date for moment in timing.doses)
    if timing.ongoing or timing.first is None:
        return None
    first, last = timing.first.date, (timing.last or timing.first).date
    if (last - first).days > LONGEST_DAYS:
        return None
    return frozenset(first + timedelta(days=n) for n in range((last - first).days + 1))


def planned_days(record: DrugRecord) -> int | None:
    """Number of days with a dose; None where the order has no end. An order without a day is one dose."""
    if record.timing.first is None and not record.timing.ongoing:
        return 1
    days = dose_days(record)
    return None if days is None else len(days)


def _same_set(record: DrugRecord, near: DrugRecord) -> bool:
    """Do two records belong to one lymphodepletion (an earlier one is over for weeks)?"""
    own, other = record.timing.first, near.timing.first
    if own is None or other is None:
        return True
    return abs((own.date - other.date).days) <= SET_DAYS


def _of_set(case: Case, drug: str, near: DrugRecord) -> list[DrugRecord]:
    return [r for r in case.chart.course.ldc_records if drug in r.ingredients and _same_set(r, near)]


def set_days(case: Case, drug: str, near: DrugRecord) -> int | None:
    """Days of this lymphodepletion with a dose of the drug, given or ordered; None where `near` has no end.

    A day of a standing order that has passed without a dose is no day of the drug.
    """
    own = planned_days(near)
    if own is None:
        return None
    days: set[date] = set()
    for record in _of_set(case, drug, near):
        found = dose_days(record) or frozenset()
        if record.state is DrugState.ACTIVE and not record.given:
            found = frozenset(day for day in found if day >= case.today)
        days |= found
    return max(len(days), own)


def same_day_orders(case: Case, drug: str, near: DrugRecord) -> tuple[DrugRecord, ...]:
    """Other drafts and standing orders of the drug with a dose on a day of this one."""
    days = dose_days(near) or frozenset()
    return tuple(
        record
        for record in _of_set(case, drug, near)
        if record.source is DrugSource.ORDER
        and record.state in (DrugState.ACTIVE, DrugState.DRAFT)
        and record.reference != near.reference
        and not days.isdisjoint(dose_days(record) or frozenset())
    )


def first_day(case: Case, drug: str, near: DrugRecord) -> date | None:
    """First dose of the drug in this lymphodepletion, ordered, drafted or given."""
    days = [record.timing.first.date for record in _of_set(case, drug, near) if record.timing.first]
    return min(days) if days else None


def ordered_drugs(case: Case, extra: Iterable[DrugRecord]) -> frozenset[str]:
    """Drugs of lymphodepletion that are drafted, ordered or given."""
    records = (*case.chart.course.ldc_records, *extra)
    return frozenset(drug for record in records for drug in record.ingredients)
