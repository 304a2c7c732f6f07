"""Facts that every rule after the infusion reads: start, recorded grades, infections, place, weight.

Sources: chart-facts sections 2.3 (grades), 8 (episodes, infections), 17 (place of care); conventions of the
after-CAR-T inventory (age of the weight).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from cards.finding import Evidence, Missing
from cds.engine.case import Case, once_per_case
from cds.rules.body_size import Measure, weight
from fhir_mapping.chart import (
    Condition,
    ConditionState,
    DrugRecord,
    DrugSource,
    Encounter,
    LossReason,
    Moment,
    Observation,
    Precision,
    Result,
)

INFECTIONS = (  # the named ones first: they say most
    "sepsis",
    "bacteremia",
    "pneumonia",
    "cmv_disease",
    "candidiasis",
    "aspergillosis",
    "invasive_mold_infection",
    "pneumocystosis",
    "c_difficile",
    "herpes_zoster",
    "covid19",
    "infection_bacterial",
    "infection_viral",
    "infection_fungal",
    "infection",
    "infection_any",
)
CULTURES = ("blood_culture", "urine_culture", "sputum_culture")
_GRADES = {f"grade_{n}": n for n in range(6)}


def therapy_start(case: Case) -> datetime | None:
    """Instant of the first bag (start of D0 where only the day is known); None when not infused."""
    infused = case.chart.course.last_infused
    return None if infused is None or infused.when is None else infused.when.earliest


def recorded_grade(observation: Observation) -> int | None:
    """The grade 0-5 that a clinician recorded: number, score or coded grade."""
    value = observation.value
    if value.number is not None:
        return value.number if 0 <= value.number <= 5 else None
    if value.quantity is not None and value.quantity.value == value.quantity.value.to_integral_value():
        number = int(value.quantity.value)
        return number if 0 <= number <= 5 and not value.quantity.comparator else None
    coded = [_GRADES[c] for c in value.codes if c in _GRADES]
    return coded[0] if len(coded) == 1 else None


def next_course_begun(case: Case) -> bool:
    """Lymphodepletion of a further course has begun, its cells are not given yet."""
    course = case.chart.course
    first = course.ldc_first
    return (
        course.infused is None and first is not None and first.date is not None and first.date <= case.today
    )


@dataclass(frozen=True, slots=True)
class Recorded:
    """A clinician's grade at one time; `grade` None: coded without a grade."""

    when: Moment
    grade: int | None
    reference: str


def recorded_grades(case: Case, score: str, since: datetime) -> tuple[Recorded, ...]:
    """Grade observations of one toxicity since the therapy began, oldest first."""
    found = []
    for observation in case.chart.series(score):
        grade = recorded_grade(observation)
        if grade is not None and observation.when.reaches(since):
            found.append(Recorded(observation.when, grade, observation.reference))
    return tuple(found)


def coded_episodes(case: Case, concept: str, since: datetime) -> tuple[Condition, ...]:
    """Conditions of one toxicity with onset since the therapy began; suspected and refuted ones left out."""
    return tuple(
        c
        for c in case.chart.conditions.of(concept)
        if c.state in (ConditionState.ACTIVE, ConditionState.HISTORY)
        and c.onset is not None
        and c.onset.latest >= since
    )


def undated_episodes(case: Case, concept: str) -> tuple[Condition, ...]:
    """Conditions of one toxicity that are active and tell no onset."""
    return tuple(
        c
        for c in case.chart.conditions.of(concept)
        if c.state is ConditionState.ACTIVE and c.onset is None and c.end is None
    )


def without_death(case: Case, grade: int) -> int:
    """A clinician's grade to go by: 5 is death, of a living patient it counts as 4 (chart-facts P3, T2)."""
    return grade if case.chart.patient.deceased else min(grade, 4)


def coded_grade(case: Case, concept: str, since: datetime, at: datetime) -> Recorded | None:
    """The grade of the newest coded episode that is open at `at`. One without a date comes last: it began at
    some time since the therapy."""
    for condition in (*reversed(coded_episodes(case, concept, since)), *undated_episodes(case, concept)):
        begun = condition.onset or Moment(since, max(since, at), Precision.YEAR)
        ended = condition.end is not None and condition.end.earliest <= at
        open_then = condition.state is ConditionState.ACTIVE or condition.end is not None
        if begun.earliest <= at and open_then and not ended:
            grade = None if condition.grade is None else condition.grade.value
            return Recorded(begun, grade, condition.reference)
    return None


def long_coded(case: Case, recorded: Recorded, at: datetime) -> bool:
    """Coded so long ago that, with nothing on the chart since, it must be asked whether it still holds."""
    return at - recorded.when.earliest > timedelta(days=case.p("grading.crs").int("coded_stale_days"))


def closings(case: Case, score: str, concept: str, since: datetime) -> tuple[datetime, ...]:
    """When a clinician closed the toxicity: grade 0, an abatement, or "resolved". Of an episode that is over
    since an unknown day, its onset alone holds nothing open."""
    times = [r.when.latest for r in recorded_grades(case, score, since) if r.grade == 0]
    for condition in coded_episodes(case, concept, since):
        over = condition.end or (condition.onset if condition.state is ConditionState.HISTORY else None)
        if over is not None:
            times.append(over.latest)
    for observation in case.chart.series("toxicity_course"):
        about = observation.component("toxicity")
        if about is not None and concept in about.codes and "resolved" in observation.value.codes:
            times.append(observation.when.latest)
    return tuple(sorted(t for t in times if t >= since))


def clinical_course(
    case: Case, concept: str, since: datetime, until: datetime
) -> tuple[str, Observation | None]:
    """The newest statement on how a toxicity runs (T6): improving, unchanged, worse, refractory, resolved;
    "" where none was made in (since, until]."""
    about_conditions = {c.reference for c in case.chart.conditions.of(concept)}
    for observation in reversed(case.chart.series("toxicity_course")):
        if observation.when.earliest > until:
            continue
        if observation.when.latest <= since:
            break
        about = observation.component("toxicity")
        named = about is not None and concept in about.codes
        if not named and about_conditions.isdisjoint(observation.focus):
            continue
        for word in observation.value.codes:
            if word in ("improving", "unchanged", "worse", "refractory", "resolved"):
                return word, observation
    return "", None


# --- infections


def culture_is_positive(observation: Observation) -> bool:
    """Positive and not called a contaminant."""
    contaminant = observation.component("contaminant")
    return observation.value.result is Result.POSITIVE and not (contaminant is not None and contaminant.yes)


@once_per_case
def confirmed_infections(case: Case) -> tuple[Evidence, ...]:
    """Confirmed active infections (T10): coded and active, or a positive culture of the last 7 days that is
    no contaminant."""
    found = []
    for condition in case.chart.conditions.of(*INFECTIONS):
        stale = condition.onset is not None and condition.onset.latest < case.now - timedelta(days=30)
        if condition.state is ConditionState.ACTIVE and not stale:
            concept = next((c for c in INFECTIONS if c in condition.concepts), "infection_any")
            found.append(Evidence(condition.reference, concept, effective=condition.onset))
    week = case.now - timedelta(days=7)
    for concept in CULTURES:
        for observation in case.chart.series(concept):
            if observation.when.latest >= week and culture_is_positive(observation):
                found.append(Evidence(observation.reference, concept, "positive", "", observation.when))
    return tuple(found)


# --- place and weight


def current_encounters(case: Case) -> Iterator[Encounter]:
    """Visits that are under way."""
    for encounter in case.chart.encounters:
        if encounter.planned or encounter.finished:
            continue
        if encounter.start is not None and encounter.start.earliest > case.now:
            continue
        if encounter.end is None or encounter.end.latest >= case.now:
            yield encounter


def inpatient(case: Case) -> bool:
    """An inpatient stay is on the chart and under way."""
    return any(e.inpatient for e in current_encounters(case))


def in_icu(case: Case) -> bool | None:
    """Place now (E2): True in intensive care, False on a ward, None where the chart does not say."""
    places = list(current_encounters(case))
    if any(e.icu or "icu" in e.concepts for e in places):
        return True
    return False if any(e.inpatient for e in places) else None


def dosing_weight(case: Case) -> Measure:
    """Actual weight fit for a dose: at most 7 days old for an inpatient, 30 days otherwise."""
    p = case.p("grading.crs")
    return weight(case, p.int("weight_age_inpatient_days" if inpatient(case) else "weight_age_days"))


def doses_since(case: Case, start: datetime, *concepts: str) -> tuple[DrugRecord, ...]:
    """Administrations since `start`, oldest first. Only these count for numbers of doses and for hours."""
    found = [
        d
        for d in case.chart.drugs.of(*concepts)
        if d.source is DrugSource.ADMINISTRATION
        and d.given
        and d.timing.first is not None
        and d.timing.first.latest >= start
        and d.timing.first.earliest <= case.now
    ]
    return tuple(sorted(found, key=_begun))


def _begun(record: DrugRecord) -> tuple[datetime, str]:
    assert record.timing.first is not None
    return record.timing.first.earliest, record.reference


def unread_dose(draft: DrugRecord, concept: str) -> Missing:
    """The dose of a draft that names none, or one that is no mass (mL, tablets, vials)."""
    if draft.dose is None:
        return Missing(concept, LossReason.NOT_ON_CHART, draft.reference)
    return Missing(concept, LossReason.UNIT, draft.reference, draft.dose.unreadable)
