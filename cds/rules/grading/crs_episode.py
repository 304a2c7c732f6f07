"""The course of cytokine release syndrome after CAR-T cells: fever gate, grade at any time, episode.

Lee DW et al., BBMT 2019;25:625. The fever gate:

    F1  fever in the last 24 h                                            grade
    F2  fever earlier in this episode, antipyretic or anticytokine since  grade by pressure and oxygen
    F3  no fever, but a masking drug, with hypotension or hypoxia         provisional ("may be masked")
    F4  no fever, nothing masking                                         not CRS
    F5  fever earlier, afebrile, nothing masking, signs persist           provisional
    F6  F1 or F2 beside a confirmed infection                             grade "if CRS"

An episode ends once, for 24 h, there is no fever, no hypotension and no oxygen, or when a clinician says so.
"""

from __future__ import annotations

from dataclasses import field, replace
from datetime import date, datetime, timedelta
from enum import StrEnum

from cards.finding import Evidence
from cds.engine.case import Case, once_per_case
from cds.rules.after_cart import (
    Recorded,
    closings,
    coded_episodes,
    coded_grade,
    confirmed_infections,
    long_coded,
    recorded_grades,
    therapy_start,
    without_death,
)
from cds.rules.grading.fever import Fever, fevers, fevers_between, hours, masking, measured
from cds.rules.grading.hemodynamics import (
    BloodPressureState,
    blood_pressure_at,
    hypotension_spans,
    hypotensive,
    pressures,
)
from cds.rules.grading.oxygen_support import OxygenState, oxygen_at, oxygen_spans
from fhir_mapping.chart import DrugRecord, Moment, Observation, frozen


class Gate(StrEnum):
    """Fever gate; the values are the inventory's row ids."""

    FEVER = "F1"
    FEVER_EARLIER = "F2"
    MASKED = "F3"
    NO_FEVER = "F4"
    FEVER_GONE = "F5"
    INFECTION = "F6"
    RESOLVED = "resolved"
    CANNOT_TELL = "cannot-tell"
    CLINICIAN = "clinician"  # nothing computable: the recorded grade stands in


PROVISIONAL = frozenset({Gate.MASKED, Gate.FEVER_GONE, Gate.INFECTION})
OPEN = frozenset({Gate.FEVER, Gate.FEVER_EARLIER, Gate.INFECTION, Gate.FEVER_GONE, Gate.MASKED})


@frozen
class Episode:
    """One run of CRS: `onset` its first fever or a clinician's word (None: signs without either, which are
    no CRS and cannot be closed), `last` the end of its last sign."""

    begun: datetime
    last: datetime
    onset: Moment | None
    onset_reference: str = ""
    closed: datetime | None = None  # a clinician's grade 0 or abatement


@frozen
class CrsState:
    """CRS at one time. `low` and `high` bound the grade (None: cannot be graded); `open_ended` means that
    only "at least `low`" holds. `grade` is what a rule acts on."""

    at: datetime
    gate: Gate
    low: int | None
    high: int | None
    bp: BloodPressureState
    o2: OxygenState
    open_ended: bool = False
    episode: Episode | None = None
    fever: Fever | None = None  # newest sign of fever of the episode
    temperature: Observation | None = None  # newest temperature of the last 24 h
    masking: tuple[DrugRecord, ...] = ()
    infections: tuple[Evidence, ...] = ()
    recorded: Recorded | None = None
    missing: tuple[str, ...] = field(default=())
    long_coded: bool = False  # a coded grade without any sign for so long that it is asked about

    @property
    def grade(self) -> int | None:
        """Grade to act on: the computed one (lower end), else the clinician's."""
        return self.low

    @property
    def onset(self) -> Moment | None:
        return None if self.episode is None else self.episode.onset

    @property
    def signs(self) -> bool:
        """Hypotension or hypoxia is present."""
        return self.bp.low > 0 or self.o2.low > 0

    @property
    def present(self) -> bool:
        """CRS of at least grade 1, provisional grades included."""
        return self.low is not None and self.low >= 1


# --- episode


@frozen
class _Sign:
    begun: datetime
    end: datetime
    component: int = 0
    fever: Fever | None = None


@once_per_case
def _signs(case: Case) -> tuple[_Sign, ...]:
    """Every sign since the infusion, in time order."""
    start = therapy_start(case)
    if start is None:
        return ()
    found = [
        _Sign(max(f.when.earliest, start), max(f.when.earliest, start), 1, f)
        for f in fevers(case)
        if f.when.latest >= start and f.when.earliest <= case.now
    ]
    found += [_Sign(*span) for span in hypotension_spans(case, start, case.now)]
    found += [_Sign(*span) for span in oxygen_spans(case, start, case.now, start)]
    return tuple(sorted(found, key=lambda s: (s.begun, s.end)))


def _quiet_between(case: Case, last: datetime, following: datetime) -> bool:
    """The chart shows that an episode ended between two signs: 24 h and more without fever, documented by
    temperatures over at least half that time and by a normal pressure."""
    needed = hours(case.p("grading.crs")["resolved_after_hours"])
    if following - last <= needed:
        return False
    quiet = [o for o, hot in measured(case, last, following) if not hot and last < o.when.latest < following]
    if not quiet or quiet[-1].when.latest - quiet[0].when.latest < needed / 2:
        return False
    if quiet[-1].when.latest - last < needed:
        return False
    return any(last < p.when.latest < following and hypotensive(case, p) is False for p in pressures(case))


@once_per_case
def _closings(case: Case) -> tuple[datetime, ...]:
    start = therapy_start(case)
    return () if start is None else closings(case, "crs_grade", "crs", start)


def _gap(case: Case) -> timedelta:
    return timedelta(days=case.p("grading.crs").int("episode_gap_days"))


def episode_at(case: Case, at: datetime) -> Episode | None:
    """The newest episode that had begun by `at`, whether or not it has ended. An episode needs a fever or a
    clinician's word; signs without either are none. A sign after a pause longer than CRS lasts opens
    another."""
    start = therapy_start(case)
    if start is None:
        return None
    signs = [s for s in _signs(case) if s.begun <= at]
    for coded in coded_episodes(case, "crs", start):
        assert coded.onset is not None
        if coded.onset.earliest <= at:
            moment = max(coded.onset.earliest, start)
            signs.append(_Sign(moment, moment, fever=Fever(coded.onset, coded.reference)))
    for recorded in recorded_grades(case, "crs_grade", start):
        if recorded.grade and recorded.when.earliest <= at:
            moment = max(recorded.when.earliest, start)
            signs.append(_Sign(moment, moment, fever=Fever(recorded.when, recorded.reference)))
    closings_of_all = _closings(case)
    gap = _gap(case)
    begun: datetime | None = None
    first: Fever | None = None  # first fever of the episode
    last = newest = start  # a clinician's closing after the beginning of the newest sign ends the episode
    for sign in sorted(signs, key=lambda s: (s.begun, s.end)):
        if begun is not None and (
            any(newest <= closing <= sign.begun for closing in closings_of_all)
            or sign.begun - last > gap
            or _quiet_between(case, last, sign.begun)
        ):
            begun = None
        newest = sign.begun
        if begun is None:
            begun, last, first = sign.begun, sign.begun, None
        first = first or sign.fever
        last = max(last, min(sign.end, at))
    if begun is None:
        return None
    if first is None:
        return Episode(begun, last, None)
    closed = next((closing for closing in closings_of_all if newest <= closing <= at), None)
    return Episode(begun, last, first.when, first.reference, closed)


def _lapsed(case: Case, episode: Episode, at: datetime) -> bool:
    """Nothing was seen of the episode for longer than CRS lasts, and no open Condition speaks for it."""
    start = therapy_start(case)
    silent = at - episode.last > _gap(case)
    return silent and start is not None and coded_grade(case, "crs", start, at) is None


# --- grade


def _recorded_at(case: Case, at: datetime) -> Recorded | None:
    """The clinician's grade that stands at `at`: newest of the last 24 h, else the grade coded on an open
    episode."""
    start = therapy_start(case)
    if start is None:
        return None
    window = hours(case.p("grading.crs")["recorded_grade_hours"])
    graded = [
        r
        for r in recorded_grades(case, "crs_grade", start)
        if r.when.earliest <= at and r.when.reaches(at - window)
    ]
    if graded:
        return graded[-1]
    return coded_grade(case, "crs", start, at)


@once_per_case
def _states(case: Case) -> dict[datetime, CrsState]:
    return {}


def crs_at(case: Case, at: datetime) -> CrsState:
    """CRS as it stood at `at`, from facts of that time. Raises ValueError before any infusion."""
    known = _states(case)
    if at not in known:
        known[at] = _state(case, at)
    return known[at]


def crs_now(case: Case) -> CrsState:
    """CRS now. Raises ValueError before any infusion."""
    return crs_at(case, case.now)


def _state(case: Case, at: datetime) -> CrsState:
    start = therapy_start(case)
    if start is None:
        raise ValueError("CRS is graded after an infusion only")
    p = case.p("grading.crs")
    window = hours(p["fever_window_hours"])
    bp, o2 = blood_pressure_at(case, at, start), oxygen_at(case, at, start)
    episode = episode_at(case, at)
    recent = fevers_between(case, max(start, at - window), at)
    temperatures = measured(case, max(start, at - window), at)
    newest = temperatures[-1][0] if temperatures else None
    infections = confirmed_infections(case)
    recorded = _recorded_at(case, at)
    base = CrsState(
        at,
        Gate.CANNOT_TELL,
        None,
        None,
        bp,
        o2,
        episode=episode,
        temperature=newest,
        infections=infections,
        recorded=recorded,
    )
    if episode is not None and episode.closed is not None:
        return _without_crs(base, Gate.RESOLVED)
    if recent:
        gate = Gate.INFECTION if infections else Gate.FEVER
        return _graded(replace(base, gate=gate, fever=recent[-1]))
    if episode is not None and episode.onset is not None:
        last_fever = next((f for f in reversed(fevers(case)) if f.when.earliest <= at), None)
        hidden = masking(case, episode.onset.earliest, at)
        base = replace(base, fever=last_fever)
        quiet = at - episode.last > hours(p["resolved_after_hours"])
        no_signs = bp.high == 0 and o2.high == 0
        if quiet and no_signs and newest is not None:
            return _without_crs(replace(base, masking=hidden), Gate.RESOLVED)
        if not _lapsed(case, episode, at):
            return _going_on(case, base, hidden)
        base = replace(base, episode=None, fever=None)
    base = replace(base, masking=masking(case, at - window, at))
    if newest is None:
        return _by_clinician(case, replace(base, missing=("body_temperature",)))
    if base.masking and base.signs:
        return _graded(replace(base, gate=Gate.MASKED))
    return _without_crs(base, Gate.NO_FEVER)


def _going_on(case: Case, state: CrsState, hidden: tuple[DrugRecord, ...]) -> CrsState:
    """An open episode without a fever in the last 24 h; `hidden` are the drugs that may mask one."""
    bp, o2, recorded = state.bp, state.o2, state.recorded
    unmeasured = () if state.temperature is not None else ("body_temperature",)
    blank = bool(unmeasured) and not bp.measured and not bp.low and not o2.recorded
    if blank and recorded is not None and recorded.grade is not None:
        return _by_clinician(case, replace(state, missing=("body_temperature", "bp_systolic")))
    if hidden:
        gate = Gate.INFECTION if state.infections else Gate.FEVER_EARLIER
        return _graded(replace(state, gate=gate, masking=hidden))
    if state.signs:
        return _graded(replace(state, gate=Gate.FEVER_GONE, missing=unmeasured))
    if unmeasured:
        return _by_clinician(case, replace(state, missing=unmeasured))
    if recorded is not None and recorded.grade:
        # coded or graded CRS without a fever on this chart: the clinician saw more than the chart shows
        return _by_clinician(case, state)
    if bp.high or o2.high:
        return replace(state, missing=_missing(state))
    return _without_crs(state, Gate.RESOLVED)


def _without_crs(state: CrsState, gate: Gate) -> CrsState:
    return replace(state, gate=gate, low=0, high=0)


def _missing(state: CrsState) -> tuple[str, ...]:
    names = list(state.missing)
    if state.bp.age_missing:
        names.append("birth_date")
    elif not state.bp.measured and state.bp.low < state.bp.high:
        names.append("bp_systolic")
    if state.o2.flow_missing:
        names.append("o2_flow_rate")
    if state.o2.device_missing:
        names.append("oxygen_device")
    return tuple(dict.fromkeys(names))


def _graded(state: CrsState) -> CrsState:
    """The grade of an open gate: the worst of 1, pressure and oxygen."""
    low = max(1, state.bp.low, state.o2.low)
    high = max(low, state.bp.high, state.o2.high)
    bp_unknown = not state.bp.measured and state.bp.low < state.bp.high
    open_ended = low < 4 and (bp_unknown or state.o2.open_ended)
    return replace(state, low=low, high=high, open_ended=open_ended, missing=_missing(state))


def _by_clinician(case: Case, state: CrsState) -> CrsState:
    recorded = state.recorded
    if recorded is None or recorded.grade is None:
        return state
    if long_coded(case, recorded, state.at):
        return replace(state, long_coded=True)
    grade = without_death(case, recorded.grade)
    return replace(state, gate=Gate.CLINICIAN, low=grade, high=grade)


# --- course


def worst_grade(case: Case, state: CrsState) -> int:
    """Worst computed grade of the episode so far; without one, the grade now."""
    grades = [state.low or 0]
    if state.episode is not None and state.episode.onset is not None:
        begun = state.episode.begun
        grades += [1, *(s.component for s in _signs(case) if begun <= s.begun <= state.at)]
    return max(grades)


def day_of(case: Case, moment: Moment) -> int | None:
    """Day of the course of a moment; None where its day is not known."""
    return case.chart.course.last_day(moment.first_date) if moment.day_known else None


def crs_applies(case: Case) -> bool:
    """Day 0 to day 30, later only while an episode that began by then is open."""
    p = case.p("grading.crs")
    today = case.chart.course.last_day(case.today)
    if today is None or today < p.int("first_day") or therapy_start(case) is None:
        return False
    if today <= p.int("last_day"):
        return True
    day0: date | None = case.chart.course.last_day0
    assert day0 is not None
    state = crs_now(case)
    if state.episode is None or state.gate is Gate.RESOLVED:
        return False
    limit = day0 + timedelta(days=p.int("last_day"))
    return state.episode.onset is not None and state.episode.onset.first_date <= limit
