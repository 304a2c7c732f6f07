"""Tumour lysis syndrome from laboratory values and organ signs.

Laboratory (LTLS): two of uric acid, potassium, phosphate, corrected calcium abnormal within 24 h (Howard SC,
N Engl J Med 2011;364:1844), with the limits of Cairo MS, Bishop M, Br J Haematol 2004;127:3. The 2004 wording
(change from baseline, not at the same time) is computed beside it. Clinical (CTLS): LTLS and an organ sign.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum

from cards.finding import Evidence
from cds.engine.case import Case, once_per_case
from cds.rules.after_cart import dosing_weight
from cds.rules.body_size import is_adult
from cds.rules.evidence import of_fact, of_observation
from cds.rules.grading.fever import hours
from cds.rules.grading.tls_risk import ldc_start
from cds.rules.urine import urine_output
from fhir_mapping.chart import ConditionState, Observation, Quantity

RULE = "grading.tls"
ANALYTES = ("uric_acid", "potassium", "phosphate", "calcium")


class Level(StrEnum):
    """What the values amount to."""

    NONE = "none"
    SINGLE = "single"
    LABORATORY_2004 = "2004"
    LABORATORY = "ltls"
    CLINICAL = "ctls"


@dataclass(frozen=True, slots=True)
class Abnormal:
    """One abnormal value. `absolute`: beyond the fixed limit; else by its change from baseline."""

    analyte: str
    observation: Observation
    absolute: bool


@dataclass(frozen=True, slots=True)
class OrganSign:
    """An organ sign with its 2004 grade."""

    key: str
    grade: int
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True, slots=True)
class TlsState:
    level: Level
    abnormal: tuple[Abnormal, ...]
    signs: tuple[OrganSign, ...]
    available: tuple[str, ...]  # analytes measured in the last 24 h
    late: bool
    uncorrected_calcium: bool
    begun: datetime

    @property
    def syndrome(self) -> bool:
        """Laboratory (24-h definition) or clinical TLS."""
        return self.level in (Level.LABORATORY, Level.CLINICAL)

    @property
    def grade(self) -> int | None:
        if self.level is not Level.CLINICAL:
            return None
        return max(s.grade for s in self.signs)


# --- window


def tls_window(case: Case) -> tuple[datetime, datetime] | None:
    """From 3 days before lymphodepletion (before the infusion where there is none) to day 100."""
    p = case.p(RULE)
    day0 = case.chart.course.day0_any
    begun = ldc_start(case)
    if begun is None:
        if day0 is None:
            return None
        begun = datetime.combine(day0, time(), case.now.tzinfo)
    last = day0 if day0 is not None else begun.date()
    end = datetime.combine(last, time(), case.now.tzinfo) + timedelta(days=p.int("last_day") + 1)
    return begun - timedelta(days=p.int("days_before")), end


# --- values


def series_of(case: Case, analyte: str, since: datetime) -> tuple[Observation, ...]:
    """Usable values of one analyte from `since` on, oldest first. Calcium: corrected, else total where no
    albumin of that day is on the chart."""
    if analyte != "calcium":
        return tuple(o for o in case.chart.series(analyte).since(since) if o.value.quantity is not None)
    corrected = [o for o in case.chart.series("calcium_corrected") if o.value.quantity is not None]
    days = {o.when.date for o in corrected if o.when.day_known}
    plain = [
        o
        for o in case.chart.series("calcium_total").since(since)
        if o.value.quantity is not None and not (o.when.day_known and o.when.date in days)
    ]
    recent = [o for o in corrected if o.when.latest >= since]
    return tuple(sorted((*recent, *plain), key=lambda o: (o.when.latest, o.reference)))


def _limits(case: Case, analyte: str) -> dict[str, Decimal]:
    p = case.p(RULE)
    if analyte == "uric_acid":
        return {"mg/dL": p["uric_acid_mg_dl"], "umol/L": p["uric_acid_umol_l"]}
    if analyte == "potassium":
        return {"mmol/L": p["potassium_mmol_l"]}
    if analyte == "calcium":
        return {"mg/dL": p["calcium_mg_dl"], "mmol/L": p["calcium_mmol_l"]}
    group = "child" if is_adult(case) is False else "adult"
    return {"mg/dL": p[f"phosphate_{group}_mg_dl"], "mmol/L": p[f"phosphate_{group}_mmol_l"]}


def beyond_limit(case: Case, analyte: str, observation: Observation) -> bool | None:
    """Does a value meet the absolute criterion? None where a bound leaves it open."""
    quantity = observation.value.quantity
    if quantity is None:
        return None
    shown, limit = quantity.in_reported_unit(_limits(case, analyte))
    if analyte == "calcium":
        return shown.at_most(limit)
    answer = shown.at_least(limit)
    own_limit = analyte == "uric_acid" and is_adult(case) is False and observation.uln is not None
    if not answer and own_limit and observation.uln is not None:
        return quantity.above(observation.uln.value)
    return answer


def _baseline_week(case: Case) -> tuple[datetime, datetime] | None:
    """The week before lymphodepletion (before the infusion where there is none)."""
    begun = ldc_start(case)
    if begun is None:
        day0 = case.chart.course.day0
        if day0 is None:
            return None
        begun = datetime.combine(day0, time(), case.now.tzinfo)
    return begun - timedelta(days=case.p(RULE).int("baseline_days")), begun


def _baseline(observations: Sequence[Observation], week: tuple[datetime, datetime] | None) -> Quantity | None:
    """Last value of the baseline week."""
    if week is None:
        return None
    before = [o for o in observations if week[0] <= o.when.latest < week[1]]
    return before[-1].value.quantity if before else None


def _first_of_interest(start: datetime, week: tuple[datetime, datetime] | None) -> datetime:
    return start if week is None else min(start, week[0])


def _changed(case: Case, analyte: str, observation: Observation, baseline: Quantity | None) -> bool:
    quantity = observation.value.quantity
    if quantity is None or baseline is None or quantity.comparator or baseline.comparator:
        return False
    change = baseline.value * case.p(RULE)["change_pct"] / 100
    if analyte == "calcium":
        return quantity.value <= baseline.value - change
    return quantity.value >= baseline.value + change


def _abnormal(case: Case, start: datetime) -> Iterator[Abnormal]:
    begun, week = ldc_start(case), _baseline_week(case)
    for analyte in ANALYTES:
        observations = series_of(case, analyte, _first_of_interest(start, week))
        baseline = _baseline(observations, week)
        for observation in observations:
            if observation.when.latest < start or observation.when.earliest > case.now:
                continue
            if beyond_limit(case, analyte, observation):
                yield Abnormal(analyte, observation, True)
            elif (begun is None or observation.when.latest >= begun) and _changed(
                case, analyte, observation, baseline
            ):
                yield Abnormal(analyte, observation, False)


def _together(found: tuple[Abnormal, ...], span: timedelta) -> bool:
    """Two analytes beyond their absolute limits within the span."""
    absolute = [a for a in found if a.absolute]
    return any(
        one.analyte != other.analyte
        and abs(one.observation.when.latest - other.observation.when.latest) <= span
        for index, one in enumerate(absolute)
        for other in absolute[index + 1 :]
    )


def _passed(case: Case, found: tuple[Abnormal, ...], fresh: timedelta) -> bool:
    """Every abnormal analyte has been normal since, and the last abnormal value is more than a day old."""
    for abnormal in found:
        newest = series_of(case, abnormal.analyte, abnormal.observation.when.latest)[-1]
        if any(a.observation.reference == newest.reference for a in found):
            return False
    return all(case.now - a.observation.when.latest > fresh for a in found)


# --- organ signs


def _creatinine_sign(case: Case, start: datetime) -> OrganSign | None:
    p = case.p(RULE)
    week = _baseline_week(case)
    measured = case.chart.series("creatinine").since(_first_of_interest(start, week))
    observations = tuple(o for o in measured if o.value.quantity is not None)
    baseline = _baseline(observations, week)
    worst: OrganSign | None = None
    for o in observations:
        quantity = o.value.quantity
        if quantity is None or o.when.latest < start or o.when.earliest > case.now:
            continue
        grade = 0
        if o.uln is not None and quantity.at_least(p["creatinine_x_uln"] * o.uln.value):
            grade = 1
            for limit, step in (
                (p["creatinine_x_uln"], 2),
                (p["creatinine_grade_2_x_uln"], 3),
                (p["creatinine_grade_3_x_uln"], 4),
            ):
                if quantity.above(limit * o.uln.value):
                    grade = step
        elif baseline is not None and _risen(case, quantity, baseline):
            grade = 1
        if grade and (worst is None or grade > worst.grade):
            worst = OrganSign("creatinine", grade, (of_observation(o),))
    return worst


def _risen(case: Case, quantity: Quantity, baseline: Quantity) -> bool:
    p = case.p(RULE)
    if quantity.comparator or baseline.comparator:
        return False
    one, other = quantity.reported, baseline.reported
    if one is not None and other is not None and one.unit == other.unit == "umol/L":
        return one.value - other.value >= p["creatinine_rise_umol_l"]
    return quantity.value - baseline.value >= p["creatinine_rise_mg_dl"]


def _arrhythmia(case: Case, start: datetime) -> OrganSign | None:
    for condition in case.chart.conditions.of("arrhythmia"):
        new = condition.onset is not None and condition.onset.latest >= start
        if condition.state is not ConditionState.ACTIVE or not new:
            continue
        grades = {"none": 1, "non_urgent": 2, "device": 3, "life_threatening": 4}
        grade = 1 if condition.grade is None else min(condition.grade.value, 4)
        for o in case.chart.series("arrhythmia_control").between(start, case.now):
            answer = o.component("intervention")
            if answer is not None:
                grade = max([grade, *(grades.get(code, 1) for code in answer.codes)])
        return OrganSign("arrhythmia", grade, (of_fact(condition, "arrhythmia"),))
    return None


def _seizure(case: Case, start: datetime) -> OrganSign | None:
    for condition in case.chart.conditions.of("status_epilepticus"):
        if condition.onset is not None and condition.onset.latest >= start:
            return OrganSign("seizure", 4, (of_fact(condition, "status_epilepticus"),))
    found: list[tuple[Evidence, bool]] = []
    for o in case.chart.series("seizure_event").between(start, case.now):
        if set(o.value.codes) & {"clinical_focal", "clinical_generalized", "nonconvulsive_eeg"}:
            back = o.component("returned_to_baseline")
            found.append((of_observation(o), back is not None and back.yes is False))
    for condition in case.chart.conditions.of("seizure"):
        counts = condition.state in (ConditionState.ACTIVE, ConditionState.HISTORY)
        if counts and condition.onset is not None and condition.onset.latest >= start:
            found.append((of_fact(condition, "seizure"), False))
    if not found:
        return None
    poorly = len(found) > 1 or any(altered for _, altered in found)
    return OrganSign("seizure", 3 if poorly else 2, tuple(e for e, _ in found))


def _other_signs(case: Case, start: datetime) -> Iterator[OrganSign]:
    p = case.p(RULE)
    for condition in case.chart.conditions.of("symptomatic_hypocalcemia"):
        if condition.state is ConditionState.ACTIVE:
            yield OrganSign("hypocalcaemia", 1, (of_fact(condition, "symptomatic_hypocalcemia"),))
            break
    else:
        stated = case.chart.series("symptomatic_hypocalcemia").latest(case.now, timedelta(days=2))
        if stated is not None and stated.value.yes:
            yield OrganSign("hypocalcaemia", 1, (of_observation(stated),))
    urine = urine_output(case, p["urine_hours"])
    weight = dosing_weight(case).value
    if urine is not None and urine.hours >= p["urine_hours"]:
        rate = urine.ml_kg_h
        if rate is None and urine.ml_h is not None and weight is not None:
            rate = urine.ml_h / weight
        if rate is not None and rate < p["urine_ml_kg_h"]:
            yield OrganSign("urine", 1, urine.evidence)
    if case.chart.patient.deceased:
        died = case.chart.patient.died
        if died is None or died.latest >= start:
            yield OrganSign("death", 5, (Evidence(case.chart.patient.reference, "deceased"),))


def organ_signs(case: Case, start: datetime) -> tuple[OrganSign, ...]:
    """Organ signs since `start`; none is attributed."""
    first = (_creatinine_sign(case, start), _arrhythmia(case, start), _seizure(case, start))
    return (*(s for s in first if s is not None), *_other_signs(case, start))


# --- the state


@once_per_case
def tls_state(case: Case) -> TlsState | None:
    """TLS now; None outside its window."""
    window = tls_window(case)
    if window is None or not window[0] <= case.now < window[1]:
        return None
    p = case.p(RULE)
    fresh = hours(p["fresh_hours"])
    start = max(window[0], case.now - timedelta(days=p.int("lookback_days")))
    found = tuple(_abnormal(case, start))
    if found and _passed(case, found, fresh):
        found = ()
    available = tuple(analyte for analyte in ANALYTES if series_of(case, analyte, case.now - fresh))
    day0 = case.chart.course.day0
    late = day0 is not None and (case.today - day0).days > p.int("classical_days")
    used = any(a.analyte == "calcium" and a.observation.concept == "calcium_total" for a in found)
    state = TlsState(Level.NONE, found, (), available, late, used, start)
    if _together(found, hours(p["span_hours"])):
        signs = organ_signs(case, start)
        level = Level.CLINICAL if signs else Level.LABORATORY
        return replace(state, level=level, signs=signs)
    if len({a.analyte for a in found}) >= 2:
        return replace(state, level=Level.LABORATORY_2004, signs=organ_signs(case, start))
    if any(a.absolute for a in found):
        return replace(state, level=Level.SINGLE)
    return state
