"""How CRS ran before hyperinflammation set in: the question that parts CRS/MAS from IEC-HS.

Hines MR, TCT 2023;29:438; handbook table 14. The course is every recorded grade in time order; on days
without one the grade computed from that day's last vital signs stands in.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from cards.finding import Evidence
from cds.engine.case import Case, once_per_case
from cds.rules.after_cart import (
    clinical_course,
    coded_episodes,
    doses_since,
    recorded_grades,
    therapy_start,
)
from cds.rules.dosing.steroid_course import in_crs_steroids
from cds.rules.evidence import of_drug_start
from cds.rules.grading.crs_episode import Gate, crs_at, crs_now
from cds.rules.grading.fever import hours
from fhir_mapping.chart import ConditionState, DrugRecord, Moment, Precision, instant

RULE = "grading.hlh-compare"
_ANTICYTOKINES = ("tocilizumab", "siltuximab", "sarilumab", "anakinra", "emapalumab", "ruxolitinib")
_STEROIDS = ("dexamethasone", "methylprednisolone")
_NO_WORD = frozenset({Gate.CANNOT_TELL, Gate.CLINICIAN})


class Course(StrEnum):
    """CRS up to one moment; the values are catalogue keys."""

    UNDOCUMENTED = "undocumented"
    NEVER = "never"
    PERSISTING = "persisting"  # never better, and not treated long enough to say more
    REFRACTORY = "refractory"
    RESOLVING = "resolving"
    RESOLVED = "resolved"
    WORSE_AGAIN = "worse-again"  # worse after an initial improvement


IMPROVED = frozenset({Course.RESOLVING, Course.RESOLVED, Course.WORSE_AGAIN})


@dataclass(frozen=True, slots=True)
class Point:
    """CRS grade at one time."""

    when: Moment
    grade: int
    reference: str = ""


@dataclass(frozen=True, slots=True)
class CrsCourse:
    """CRS up to `at`. `improved`: when it first fell below its worst grade."""

    course: Course
    peak: int
    last: int
    improved: Moment | None
    points: tuple[Point, ...]
    treatment: tuple[DrugRecord, ...]

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        found = [Evidence(p.reference, "crs_grade", p.grade, "", p.when) for p in self.points if p.reference]
        return (*found[-4:], *(of_drug_start(d) for d in self.treatment[:1]))


@once_per_case
def crs_points(case: Case) -> tuple[Point, ...]:
    """Every known grade since the infusion, oldest first."""
    start = therapy_start(case)
    if start is None:
        return ()
    found = [
        Point(r.when, r.grade, r.reference)
        for r in recorded_grades(case, "crs_grade", start)
        if r.grade is not None and r.when.earliest <= case.now
    ]
    for condition in coded_episodes(case, "crs", start):
        assert condition.onset is not None
        grade = condition.grade.value if condition.grade is not None else 1
        if condition.onset.earliest <= case.now:
            found.append(Point(condition.onset, grade, condition.reference))
        if condition.end is not None and condition.end.earliest <= case.now:
            found.append(Point(condition.end, 0, condition.reference))
        elif condition.state is ConditionState.HISTORY and not crs_now(case).present:
            over = Moment(condition.onset.earliest, case.now, Precision.YEAR)  # on some day since
            found.append(Point(over, 0, condition.reference))
    told = {p.when.date for p in found if p.when.day_known}
    last_of_day: dict[object, datetime] = {}
    for concept in ("body_temperature", "bp_systolic", "bp_panel", "oxygen_device", "o2_flow_rate", "spo2"):
        for observation in case.chart.series(concept):
            at = observation.when.latest
            if observation.when.exact and start <= at <= case.now and at.date() not in told:
                last_of_day[at.date()] = max(at, last_of_day.get(at.date(), at))
    for at in last_of_day.values():
        state = crs_at(case, at)
        if state.low is not None and state.gate not in _NO_WORD:
            found.append(Point(instant(at), state.low))
    return tuple(sorted(found, key=lambda p: (p.when.latest, p.grade)))


def crs_course(case: Case, at: datetime) -> CrsCourse:
    """The course up to `at`. Raises ValueError before any infusion."""
    start = therapy_start(case)
    if start is None:
        raise ValueError("a CRS course begins with an infusion")
    points = tuple(p for p in crs_points(case) if p.when.earliest <= at)
    begun = next((p.when.earliest for p in points if p.grade), None)
    word, _ = clinical_course(case, "crs", start, at)
    treatment: tuple[DrugRecord, ...] = ()
    if begun is not None:
        known = doses_since(case, begun, *_ANTICYTOKINES, *_STEROIDS)
        treatment = tuple(
            d
            for d in known
            if d.is_any(frozenset(_ANTICYTOKINES)) or (d.is_any(frozenset(_STEROIDS)) and in_crs_steroids(d))
        )
    if not points and not word:
        return CrsCourse(Course.UNDOCUMENTED, 0, 0, None, (), ())
    peak, before = 0, 0
    improved: Moment | None = None
    again = False
    for point in points:
        if improved is not None and point.grade > before:
            again = True
        elif point.grade < peak:
            improved = improved or point.when
        peak, before = max(peak, point.grade), point.grade
    last = points[-1].grade if points else 0
    course = _named(case, at, begun, peak, last, improved is not None, again, word, treatment)
    return CrsCourse(course, peak, last, improved, points, treatment)


def _named(
    case: Case,
    at: datetime,
    begun: datetime | None,
    peak: int,
    last: int,
    improved: bool,
    again: bool,
    word: str,
    treatment: tuple[DrugRecord, ...],
) -> Course:
    if peak == 0 and not word:
        return Course.NEVER
    if last and improved and again:
        return Course.WORSE_AGAIN
    if (peak and last == 0) or word == "resolved":
        return Course.RESOLVED
    if improved or word == "improving":
        return Course.RESOLVING
    if word in ("refractory", "worse"):
        return Course.REFRACTORY
    wanted = hours(case.p(RULE)["refractory_after_hours"])
    long_enough = any(
        d.timing.first is not None and at - d.timing.first.earliest >= wanted for d in treatment
    )
    return Course.REFRACTORY if begun is not None and long_enough else Course.PERSISTING


def improved_lately(case: Case, course: CrsCourse) -> bool:
    """CRS got better less than a day ago: both pathways are open."""
    if course.improved is None or not course.improved.day_known:
        return False
    return case.now - course.improved.latest < timedelta(hours=case.p(RULE).int("mixed_hours"))
