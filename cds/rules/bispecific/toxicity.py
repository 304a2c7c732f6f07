"""CRS and neurotoxicity after tarlatamab, read with the interpretation shared by all T-cell therapies.

The shared reading counts from the start of a CAR-T infusion. `tarlatamab_view` is the same chart with the
first tarlatamab dose in that place, so that fever gate, pressure and oxygen are read in one way only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cds.engine.case import Case, once_per_case
from cds.rules.after_cart import closings, coded_episodes, recorded_grades, undated_episodes
from cds.rules.bispecific.tarlatamab import engager_exposures, exposures, last_exposure, start_of
from cds.rules.grading.crs_episode import OPEN, CrsState, Gate, crs_now, episode_at, worst_grade
from cds.rules.grading.fever import hours
from fhir_mapping.chart import Anchor, CarTCourse, ConditionState, Moment, instant
from fhir_mapping.chart import Evidence as AnchorEvidence


@once_per_case
def tarlatamab_view(case: Case) -> Case | None:
    """The case with the first tarlatamab exposure as start of therapy; None before any."""
    given = engager_exposures(case)
    if not given:
        return None
    first = given[0]
    anchor = Anchor(
        AnchorEvidence.DONE,
        first.records[0].reference,
        first.start or instant(start_of(first, case.now)),
        first.end,
    )
    course = CarTCourse(infused=anchor)
    return replace(case, chart=replace(case.chart, course=course), _memo={})


@dataclass(frozen=True, slots=True)
class CrsHistory:
    """CRS on tarlatamab: `state` now; `unresolved` an open episode; `ever` the worst grade of any episode
    (recorded, or computed now); `last_onset` of the newest episode, `last_grade` its worst grade. `outside`:
    the signs begin too long after a dose to be called CRS."""

    state: CrsState
    unresolved: bool
    ever: int
    last_onset: Moment | None = None
    last_grade: int = 0
    resolved: datetime | None = None
    outside: bool = False


def _outside_reach(case: Case, state: CrsState, onset: Moment | None) -> bool:
    """Signs too long after a dose to be called CRS by the chart alone: onset later than the longest reported
    one, or masked fever more than two days after the dose."""
    p = case.p("grading.crs-tarlatamab")
    starts = [start_of(e, case.now) for e in engager_exposures(case)]
    if state.gate is Gate.MASKED:
        return case.now - max(starts) > hours(p["strong_hours"])
    if not exposures(case):
        days = case.p("dosing.tarlatamab-step-up").int("on_treatment_days")
        return case.now - max(starts) > timedelta(days=days)
    if onset is None:
        return False
    before = [s for s in starts if s <= onset.latest]
    return bool(before) and onset.latest - max(before) > hours(p["plausible_hours"])


@once_per_case
def crs_history(case: Case) -> CrsHistory | None:
    """None before the first dose."""
    view = tarlatamab_view(case)
    if view is None:
        return None
    state = crs_now(view)
    start = start_of(engager_exposures(case)[0], case.now)
    recorded = [r.grade or 0 for r in recorded_grades(view, "crs_grade", start)]
    undated = undated_episodes(view, "crs")
    coded = (*coded_episodes(view, "crs", start), *undated)
    recorded += [c.grade.value for c in coded if c.grade is not None]
    episode = episode_at(view, case.now)
    worst = 0
    onset: Moment | None = None
    resolved: datetime | None = None
    if episode is not None and episode.onset is not None:
        onset = episode.onset
        in_episode = [
            r.grade or 0 for r in recorded_grades(view, "crs_grade", start) if r.when.reaches(episode.begun)
        ]
        in_episode += [
            c.grade.value
            for c in coded
            if c.grade is not None and c.onset is not None and c.onset.latest >= episode.begun
        ]
        worst = max([worst_grade(view, state), *in_episode])
        resolved = episode.closed or (episode.last if state.gate is Gate.RESOLVED else None)
    closed = closings(view, "crs_grade", "crs", start)
    runs = [r for r in recorded_grades(view, "crs_grade", start) if r.grade]
    # a clinician's episode ends by grade 0, an abatement or "resolved", never by silence
    open_run = bool(runs) and not any(t >= runs[-1].when.latest for t in closed)
    open_code = any(
        c.state is ConditionState.ACTIVE
        and c.end is None
        and not any(t >= (start if c.onset is None else c.onset.latest) for t in closed)
        for c in coded
    )
    far = _outside_reach(case, state, onset) and not recorded
    computed = state.present and state.gate is not Gate.INFECTION and not far
    if far:
        worst = 0
    if state.gate is Gate.INFECTION:
        # fever beside an infection: no grade is fixed by the chart, the infection rows speak
        worst = max(recorded, default=0)
    if open_code:
        worst = max([worst, *(c.grade.value for c in undated if c.grade is not None)])
    unresolved = computed or open_run or open_code
    return CrsHistory(state, unresolved, max([0, worst, *recorded]), onset, worst, resolved, far)


def crs_since_previous_dose(case: Case) -> int:
    """Worst CRS grade with onset since the last dose began; 0 none."""
    history = crs_history(case)
    last = last_exposure(case)
    if history is None or last is None or history.last_onset is None:
        return 0
    return history.last_grade if history.last_onset.latest >= start_of(last, case.now) else 0


__all__ = [
    "OPEN",
    "CrsHistory",
    "CrsState",
    "Gate",
    "crs_history",
    "crs_since_previous_dose",
    "tarlatamab_view",
]
