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
from fhir_mapping.chart import Condition, ConditionState, Observation, Quantity

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


def _begun(case: Case) -> datetime | None:
    """Start of the first day of lymphodepletion, of the infusion where there is none; planned or done."""
    day0 = case.chart.course.day0_any
    if (begun := ldc_start(case)) is not None or day0 is None:
        return begun
    return datetime.combine(day0, time(), case.now.tzinfo)


def _window(case: Case, begun: datetime) -> tuple[datetime, datetime]:
    """From 3 days before the treatment to day 100."""
    p = case.p(RULE)
    day0 = case.chart.course.day0_any or begun.date()
    end = datetime.combine(day0, time(), case.now.tzinfo) + timedelta(days=p.int("last_day") + 1)
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
    recent = [o for o in corrected if o.when.reaches(since)]
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
    answer, own = shown.at_least(limit), observation.uln
    if not answer and analyte == "uric_acid" and own is not None and is_adult(case) is False:
        return quantity.above(own.value)
    return answer


@dataclass(frozen=True, slots=True)
class _Span:
    """The stretch of a chart that counts: values from `start` on; a baseline of the week before `begun`."""

    start: datetime
    begun: datetime
    week: datetime

    @property
    def first(self) -> datetime:
        return min(self.start, self.week)

    def baseline(self, observations: Sequence[Observation]) -> Quantity | None:
        """Last value of the baseline week."""
        before = [o for o in observations if self.week <= o.when.latest < self.begun]
        return before[-1].value.quantity if before else None


def _counting(case: Case, observations: Sequence[Observation], start: datetime) -> list[Observation]:
    """Those since `start`: the others are baseline, or lie ahead."""
    return [o for o in observations if o.when.reaches(start) and o.when.earliest <= case.now]


def _changed(case: Case, analyte: str, observation: Observation, baseline: Quantity | None) -> bool:
    quantity = observation.value.quantity
    if quantity is None or baseline is None or quantity.comparator or baseline.comparator:
        return False
    change = baseline.value * case.p(RULE)["change_pct"] / 100
    if analyte == "calcium":
        return quantity.value <= baseline.value - change
    return quantity.value >= baseline.value + change


def _abnormal(case: Case, span: _Span) -> Iterator[Abnormal]:
    for analyte in ANALYTES:
        observations = series_of(case, analyte, span.first)
        baseline = span.baseline(observations)
        for observation in _counting(case, observations, span.start):
            if beyond_limit(case, analyte, observation):
                yield Abnormal(analyte, observation, True)
            elif observation.when.latest >= span.begun and _changed(case, analyte, observation, baseline):
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


def _creatinine_sign(case: Case, span: _Span) -> OrganSign | None:
    measured = case.chart.series("creatinine").since(span.first)
    observations = tuple(o for o in measured if o.value.quantity is not None)
    baseline = span.baseline(observations)
    signs = [
        OrganSign("creatinine", grade, (of_observation(o),))
        for o in _counting(case, observations, span.start)
        if (grade := _creatinine_grade(case, o, baseline))
    ]
    return max(signs, key=lambda sign: sign.grade, default=None)


def _creatinine_grade(case: Case, observation: Observation, baseline: Quantity | None) -> int:
    """2004 grade of one creatinine; 0: no sign."""
    p = case.p(RULE)
    quantity, uln = observation.value.quantity, observation.uln
    if quantity is None:
        return 0
    if uln is not None and quantity.at_least(p["creatinine_x_uln"] * uln.value):
        limits = (p["creatinine_x_uln"], p["creatinine_grade_2_x_uln"], p["creatinine_grade_3_x_uln"])
        return 1 + sum(quantity.above(limit * uln.value) is True for limit in limits)
    return 1 if baseline is not None and _risen(case, quantity, baseline) else 0


def _risen(case: Case, quantity: Quantity, baseline: Quantity) -> bool:
    p = case.p(RULE)
    if quantity.comparator or baseline.comparator:
        return False
    one, other = quantity.reported, baseline.reported
    if one is not None and other is not None and one.unit == other.unit == "umol/L":
        return one.value - other.value >= p["creatinine_rise_umol_l"]
    return quantity.value - baseline.value >= p["creatinine_rise_mg_dl"]


def _since(condition: Condition, start: datetime) -> bool:
    """It is or was there, and began at or after `start`."""
    present = condition.state in (ConditionState.ACTIVE, ConditionState.HISTORY)
    return present and condition.onset is not None and condition.onset.latest >= start


def _arrhythmia(case: Case, start: datetime) -> OrganSign | None:
    """The worst of the new arrhythmias that go on, by their severity or by what was done about them."""
    new = [
        c
        for c in case.chart.conditions.of("arrhythmia")
        if c.state is ConditionState.ACTIVE and _since(c, start)
    ]
    if not new:
        return None
    evidence = [of_fact(c, "arrhythmia") for c in new]
    grade_of = {str(row["intervention"]): int(row["grade"]) for row in case.p(RULE).table("arrhythmia")}
    grades = [1, *(min(c.grade.value, 4) for c in new if c.grade is not None)]
    for o in case.chart.series("arrhythmia_control").between(start, case.now):
        answer = o.component("intervention")
        if answer is not None:
            grades += [grade_of[code] for code in answer.codes if code in grade_of]
            evidence.append(of_observation(o))
    return OrganSign("arrhythmia", max(grades), tuple(evidence))


def _seizure(case: Case, start: datetime) -> OrganSign | None:
    for condition in case.chart.conditions.of("status_epilepticus"):
        if _since(condition, start):
            return OrganSign("seizure", 4, (of_fact(condition, "status_epilepticus"),))
    found: list[tuple[Evidence, bool]] = []
    for o in case.chart.series("seizure_event").between(start, case.now):
        if set(o.value.codes) & {"clinical_focal", "clinical_generalized", "nonconvulsive_eeg"}:
            back = o.component("returned_to_baseline")
            found.append((of_observation(o), back is not None and back.yes is False))
    for condition in case.chart.conditions.of("seizure"):
        if _since(condition, start):
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
        if urine.ml_h is not None and weight is not None:
            rate = urine.ml_h / weight
        if rate is not None and rate < p["urine_ml_kg_h"]:
            yield OrganSign("urine", 1, urine.evidence)
    if _died(case, start):
        yield OrganSign("death", 5, (Evidence(case.chart.patient.reference, "deceased"),))


def _died(case: Case, start: datetime) -> bool:
    """Died since `start`; a death without a date counts only beside a coded episode (chart-facts P3)."""
    patient = case.chart.patient
    if patient.died is not None:
        return patient.died.latest >= start
    coded = any(c.state is ConditionState.ACTIVE for c in case.chart.conditions.of("tls"))
    return patient.deceased and coded


def _organ_signs(case: Case, span: _Span) -> tuple[OrganSign, ...]:
    """Organ signs of the span; none is attributed."""
    first = (_creatinine_sign(case, span), _arrhythmia(case, span.start), _seizure(case, span.start))
    return (*(s for s in first if s is not None), *_other_signs(case, span.start))


# --- the state


@once_per_case
def tls_state(case: Case) -> TlsState | None:
    """TLS now; None outside its window."""
    begun = _begun(case)
    if begun is None:
        return None
    opens, ends = _window(case, begun)
    if not opens <= case.now < ends:
        return None
    p = case.p(RULE)
    fresh = hours(p["fresh_hours"])
    start = max(opens, case.now - timedelta(days=p.int("lookback_days")))
    span = _Span(start, begun, begun - timedelta(days=p.int("baseline_days")))
    found = tuple(_abnormal(case, span))
    if found and _passed(case, found, fresh):
        found = ()
    available = tuple(analyte for analyte in ANALYTES if series_of(case, analyte, case.now - fresh))
    day0 = case.chart.course.day0
    late = day0 is not None and (case.today - day0).days > p.int("classical_days")
    used = any(a.analyte == "calcium" and a.observation.concept == "calcium_total" for a in found)
    state = TlsState(Level.NONE, found, (), available, late, used, start)
    if _together(found, hours(p["span_hours"])):
        signs = _organ_signs(case, span)
        level = Level.CLINICAL if signs else Level.LABORATORY
        return replace(state, level=level, signs=signs)
    if len({a.analyte for a in found}) >= 2:
        return replace(state, level=Level.LABORATORY_2004, signs=_organ_signs(case, span))
    if any(a.absolute for a in found):
        return replace(state, level=Level.SINGLE)
    return state
