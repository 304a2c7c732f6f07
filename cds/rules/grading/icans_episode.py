"""Neurotoxicity (ICANS) at any time: the five ASTCT domains, the grade, the onset.

Lee DW et al., BBMT 2019;25:625, tables 6 to 8. The grade is the worst domain. Never counted: tremor and
myoclonus, intracranial haemorrhage with or without its oedema, consciousness while sedated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from itertools import pairwise
from typing import Any

from cards.finding import Evidence
from cds.engine.case import Case, once_per_case
from cds.rules.after_cart import (
    Recorded,
    closings,
    coded_episodes,
    coded_grade,
    long_coded,
    recorded_grades,
    therapy_start,
    without_death,
)
from cds.rules.evidence import of_fact, of_observation
from cds.rules.grading.bedside import Score, newest, whole_number
from cds.rules.grading.capd import capd_contribution, capd_scores
from cds.rules.grading.fever import hours
from cds.rules.grading.ice import ice_contribution, ice_scores
from cds.rules.grading.instrument import Instrument, instrument
from cds.rules.grading.sedation import sedation_at
from fhir_mapping.chart import Condition, ConditionState, Moment, Observation, Quantity, Value

RULE = "grading.icans"
SYMPTOMS = frozenset({"confusion", "disorientation", "somnolence", "lethargy", "slowed_thinking", "syncope"})
_CODED_SYMPTOMS = ("delirium", "encephalopathy", "aphasia", *sorted(SYMPTOMS))
_AROUSAL = ("consciousness_level", "gcs_eye", "rass")  # in order of precedence


class Domain(StrEnum):
    """ASTCT domains; the values are catalogue keys."""

    COGNITION = "cognition"
    CONSCIOUSNESS = "consciousness"
    SEIZURE = "seizure"
    MOTOR = "motor"
    PRESSURE = "pressure"


@dataclass(frozen=True, slots=True)
class DomainState:
    """What one domain contributes: `low` <= grade <= `high`. `why` is a catalogue key of grading.icans."""

    domain: Domain
    low: int
    high: int
    why: str
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class IcansState:
    """ICANS at one time. `low` None: cannot be graded. `open_ended`: only "at least `low`" holds."""

    at: datetime
    low: int | None
    high: int | None
    domains: tuple[DomainState, ...]
    open_ended: bool = False
    not_assessed: tuple[Domain, ...] = ()
    missing: tuple[str, ...] = ()
    sedation: tuple[Evidence, ...] = ()
    bleeding: bool = False
    symptoms: tuple[Evidence, ...] = ()  # of the last 24 h; they ask for a score and never grade
    by_clinician: bool = False
    onset: Moment | None = None
    recorded: Recorded | None = None
    has_data: bool = field(default=False)  # neurological data of the last 24 h
    open_episode: bool = False
    long_coded: bool = False  # a coded grade without any finding for so long that it is asked about

    @property
    def grade(self) -> int | None:
        """Grade to act on: the computed one (lower end), else the clinician's."""
        return self.low

    def domain(self, wanted: Domain) -> DomainState | None:
        return next((d for d in self.domains if d.domain is wanted), None)


# --- domains


def _unsedated(case: Case, when: Moment | None, at: datetime) -> bool:
    """The assessment was not made under sedation. One of unknown time is taken to be of `at`."""
    return not sedation_at(case, at if when is None else min(when.latest, at))


def _cognition(case: Case, at: datetime) -> tuple[DomainState | None, Score | None, str]:
    """The cognition domain, its score, and the concept that would tell it."""
    chosen = instrument(case)

    def current(scores: list[Score], rule: str) -> Score | None:
        within = hours(case.p(rule)["max_age_hours"])
        return newest(scores, at, within, lambda s: _unsedated(case, s.when, at))

    found: tuple[str, Score] | None = None
    if chosen is not Instrument.CAPD:
        score = current(ice_scores(case), "grading.ice")
        found = ("ice_score", score) if score is not None else None
    if found is None and chosen is not Instrument.ICE:
        score = current(capd_scores(case), "grading.capd")
        found = ("capd_score", score) if score is not None else None
    missing = "capd_score" if chosen is Instrument.CAPD else "ice_score"
    if found is None:
        return None, None, missing
    concept, score = found
    evidence = tuple(Evidence(r, concept, score.low, effective=score.when) for r in score.references)
    if score.not_testable:
        if score.not_testable == "unarousable":
            return DomainState(Domain.COGNITION, 4, 4, "untestable", evidence), score, missing
        return None, score, missing
    if score.low is None or score.high is None:
        return None, score, missing
    if concept == "ice_score":
        low, high = ice_contribution(case, score.high), ice_contribution(case, score.low)
    else:
        low, high = capd_contribution(case, score.low), capd_contribution(case, score.high)
    return DomainState(Domain.COGNITION, low, high, concept, evidence), score, missing


def _arousal(case: Case, at: datetime, within: timedelta) -> Observation | None:
    """The newest assessment of consciousness. Of those of one round the stated level decides over the eye
    item of the GCS, and that over the RASS."""
    newest_of = []
    for concept in _AROUSAL:
        seen = case.chart.series(concept).latest(
            at, within, lambda o: _grade_of(case, o) is not None and _unsedated(case, o.when, at)
        )
        if seen is not None:
            newest_of.append(seen)
    if not newest_of:
        return None
    apart = timedelta(minutes=case.p("grading.ice").int("items_within_minutes"))
    latest = max(o.when.latest for o in newest_of)
    return next(o for o in newest_of if o.when.latest >= latest - apart)


def _grade_of(case: Case, observation: Observation) -> tuple[int, int, str] | None:
    """Lowest and highest grade that one assessment of consciousness means, and its catalogue key."""
    number = whole_number(observation.value)
    if observation.concept == "rass" and number is not None and number >= 0:
        return 0, 0, "consciousness.rass"

    def holds(row: Mapping[str, Any]) -> bool:
        if observation.concept == "consciousness_level":
            return row.get("answer") in observation.value.codes
        return number is not None and row.get(observation.concept) == number

    row = next(filter(holds, case.p(RULE).table("consciousness")), None)
    if row is None:
        return None
    key = row.get("answer") or observation.concept.removesuffix("_eye")
    return int(row["low"]), int(row["high"]), f"consciousness.{key}"


def _consciousness(case: Case, at: datetime, since: datetime, within: timedelta) -> DomainState | None:
    chart = case.chart
    assessed = _arousal(case, at, within)
    meant = None if assessed is None else _grade_of(case, assessed)
    if assessed is not None and meant is not None:
        low, high, why = meant
        return DomainState(Domain.CONSCIOUSNESS, low, high, why, (of_observation(assessed),))
    for condition in chart.conditions.of("coma"):
        before = condition.onset is not None and condition.onset.latest < since
        told = not before and _unsedated(case, condition.onset, at)
        if condition.state is ConditionState.ACTIVE and _begun_by(condition, at) and told:
            evidence = (of_fact(condition, "coma"),)
            return DomainState(Domain.CONSCIOUSNESS, 4, 4, "consciousness.coma", evidence)
    return None


def _begun_by(condition: Condition, at: datetime) -> bool:
    begun = condition.onset is None or condition.onset.earliest <= at
    ended = condition.end is not None and condition.end.latest <= at
    return begun and not ended


def _since(condition: Condition, since: datetime, at: datetime) -> bool:
    """Active at `at` with an onset after the therapy began."""
    onset = condition.onset
    return (
        condition.state in (ConditionState.ACTIVE, ConditionState.HISTORY)
        and onset is not None
        and onset.latest >= since
        and _begun_by(condition, at)
    )


def _in_window(condition: Condition, start: datetime, since: datetime, at: datetime) -> bool:
    """Began after the therapy and was there in [start, at]: still active, or over but not before `start`."""
    onset = condition.onset
    if onset is None or onset.latest < since or onset.earliest > at:
        return False
    if condition.state is ConditionState.ACTIVE and _begun_by(condition, at):
        return True
    over = condition.end or onset
    return condition.state in (ConditionState.ACTIVE, ConditionState.HISTORY) and over.latest >= start


# seizures


@dataclass(frozen=True, slots=True)
class Seizure:
    """One seizure event. `long`: over the limit; None where no length, or a bound that leaves it open."""

    when: Moment
    convulsive: bool
    long: bool | None
    returned: bool | None
    ended_by_treatment: bool | None
    evidence: Evidence


def _long(quantity: Quantity | None, minutes: Decimal) -> bool | None:
    """Longer than the limit; a bound (> 5 min) counts where it decides."""
    limits = {"min": minutes, "s": 60 * minutes}
    if quantity is None or quantity.unit not in limits:
        return None
    shown, limit = quantity.in_reported_unit(limits)
    return shown.above(limit)


def _yes(value: Value | None) -> bool | None:
    return None if value is None else value.yes


@once_per_case
def seizures(case: Case) -> tuple[Seizure, ...]:
    """Seizure events on the chart, oldest first: bedside events, then coded seizures."""
    found = []
    limit = case.p(RULE)["long_seizure_minutes"]
    for o in case.chart.series("seizure_event"):
        kinds = set(o.value.codes) & {"clinical_focal", "clinical_generalized", "nonconvulsive_eeg"}
        if not kinds:
            continue
        length = o.component("seizure_duration")
        found.append(
            Seizure(
                o.when,
                kinds != {"nonconvulsive_eeg"},
                _long(length.quantity if length is not None else None, limit),
                _yes(o.component("returned_to_baseline")),
                _yes(o.component("ended_by_treatment")),
                of_observation(o),
            )
        )
    for condition in case.chart.conditions.of("seizure"):
        if condition.onset is None or "status_epilepticus" in condition.concepts:
            continue
        if condition.state not in (ConditionState.ACTIVE, ConditionState.HISTORY):
            continue
        lasted_long = None
        if condition.end is not None and condition.onset.exact and condition.end.exact:
            lasted = condition.end.latest - condition.onset.earliest
            lasted_long = lasted > timedelta(minutes=float(limit))
        found.append(Seizure(condition.onset, True, lasted_long, None, None, of_fact(condition, "seizure")))
    return tuple(sorted(found, key=lambda s: (s.when.latest, s.evidence.reference)))


def _seizure(case: Case, at: datetime, since: datetime, within: timedelta) -> DomainState | None:
    p = case.p(RULE)
    start = max(since, at - within)
    for condition in case.chart.conditions.of("status_epilepticus"):
        if _in_window(condition, start, since, at):
            return DomainState(
                Domain.SEIZURE, 4, 4, "seizure.status", (of_fact(condition, "status_epilepticus"),)
            )
    events = [s for s in seizures(case) if s.when.latest >= start and s.when.earliest <= at]
    if not events:
        none = case.chart.series("seizure_event").latest(at, within, lambda o: "none" in o.value.codes)
        return (
            None
            if none is None
            else DomainState(Domain.SEIZURE, 0, 0, "seizure.none", (of_observation(none),))
        )
    evidence = tuple(s.evidence for s in events)
    if any(s.long for s in events):
        return DomainState(Domain.SEIZURE, 4, 4, "seizure.long", evidence)
    window = hours(p["repeated_within_hours"])
    for one, other in pairwise(events):
        if other.when.latest - one.when.earliest <= window and (
            one.returned is False or other.returned is False
        ):
            return DomainState(Domain.SEIZURE, 4, 4, "seizure.repeated", evidence)
    if any(not s.convulsive and s.ended_by_treatment is False for s in events):
        return DomainState(Domain.SEIZURE, 3, 4, "seizure.eeg-ongoing", evidence)
    unknown = all(s.long is None and s.returned is None for s in events)
    return DomainState(
        Domain.SEIZURE, 3, 3, "seizure.unknown-length" if unknown else "seizure.brief", evidence
    )


# motor, pressure


def _motor(case: Case, at: datetime, since: datetime, within: timedelta) -> DomainState | None:
    weakness = case.chart.series("motor_weakness").latest(at, within, lambda o: bool(o.value.codes))
    if weakness is not None and "deep_focal" in weakness.value.codes:
        return DomainState(Domain.MOTOR, 4, 4, "motor.deep", (of_observation(weakness),))
    for condition in case.chart.conditions.of("hemiparesis", "paraparesis"):
        if condition.state is ConditionState.ACTIVE and _since(condition, since, at):
            concept = "hemiparesis" if "hemiparesis" in condition.concepts else "paraparesis"
            return DomainState(Domain.MOTOR, 4, 4, "motor.deep", (of_fact(condition, concept),))
    if weakness is None:
        return None
    return DomainState(Domain.MOTOR, 0, 0, "motor.none", (of_observation(weakness),))


_FINDINGS = frozenset(
    {"normal", "focal_edema", "diffuse_edema", "hemorrhage", "hemorrhage_with_edema", "other"}
)


def _brain_imaging(case: Case) -> Iterator[tuple[Moment, frozenset[str], Evidence]]:
    """What each brain imaging showed: findings charted one by one, then conclusions of reports."""
    for o in case.chart.series("brain_imaging_finding"):
        if seen := _FINDINGS & set(o.value.codes):
            yield o.when, seen, of_observation(o)
    for document in case.chart.documents.of("mri_brain", "ct_head", "brain_imaging_finding"):
        seen = _FINDINGS & document.conclusions
        if document.when is not None and seen:
            yield document.when, seen, of_fact(document, "brain_imaging_finding")


def _imaging(case: Case, at: datetime, since: datetime) -> tuple[frozenset[str], tuple[Evidence, ...]]:
    """Findings of the newest brain imaging that still stands, with its evidence."""
    within = hours(case.p(RULE)["imaging_max_age_hours"])
    start = max(since, at - within)
    found = [f for f in _brain_imaging(case) if f[0].latest >= start and f[0].earliest <= at]
    if not found:
        return frozenset(), ()
    newest_time = max(when.latest for when, _, _ in found)
    same = [f for f in found if f[0].latest == newest_time]
    return frozenset().union(*(seen for _, seen, _ in same)), tuple(fact for _, _, fact in same)


def bleeding(case: Case, at: datetime, since: datetime) -> bool:
    """Intracranial haemorrhage coded or seen: its oedema is no ICANS."""
    coded = any(
        c.state is ConditionState.ACTIVE and _since(c, since, at)
        for c in case.chart.conditions.of("intracranial_hemorrhage")
    )
    findings, _ = _imaging(case, at, since)
    return coded or bool(findings & {"hemorrhage", "hemorrhage_with_edema"})


def _pressure(case: Case, at: datetime, since: datetime, within: timedelta) -> DomainState | None:
    chart = case.chart
    signs = [
        o
        for o in chart.series("raised_icp_sign").between(max(since, at - within), at)
        if o.value.codes and o.when.earliest <= at
    ]
    cleared = max((o.when.latest for o in signs if set(o.value.codes) == {"none"}), default=since)
    positive = [o for o in signs if set(o.value.codes) - {"none"} and o.when.latest >= cleared]
    if positive:
        return DomainState(Domain.PRESSURE, 4, 4, "pressure.sign", tuple(of_observation(o) for o in positive))
    for condition in chart.conditions.of("papilledema"):
        if condition.state is ConditionState.ACTIVE and _since(condition, since, at):
            return DomainState(Domain.PRESSURE, 4, 4, "pressure.sign", (of_fact(condition, "papilledema"),))
    findings, evidence = _imaging(case, at, since)
    bled = bleeding(case, at, since)
    if not bled:
        if "diffuse_edema" in findings:
            return DomainState(Domain.PRESSURE, 4, 4, "pressure.diffuse", evidence)
        if "focal_edema" in findings:
            return DomainState(Domain.PRESSURE, 3, 3, "pressure.focal", evidence)
        for condition in chart.conditions.of("cerebral_edema"):
            if condition.state is ConditionState.ACTIVE and _since(condition, since, at):
                coded = (of_fact(condition, "cerebral_edema"),)
                return DomainState(Domain.PRESSURE, 3, 4, "pressure.extent", coded)
    if findings or signs:
        why = "pressure.bleed" if bled else "pressure.none"
        return DomainState(Domain.PRESSURE, 0, 0, why, evidence or (of_observation(signs[-1]),))
    return None


# --- symptoms without a grade


def _symptoms(case: Case, at: datetime, since: datetime, within: timedelta) -> Iterator[Evidence]:
    """New confusion and the like, while onset of ICANS is watched for."""
    if (at.date() - since.date()).days > case.p(RULE).int("symptoms_to_day"):
        return
    start = max(since, at - within)
    for o in case.chart.series("neuro_symptom").between(start, at):
        for code in sorted(SYMPTOMS.intersection(o.value.codes)):
            yield Evidence(o.reference, code, effective=o.when)
    for condition in case.chart.conditions.of(*_CODED_SYMPTOMS):
        onset = condition.onset
        begun = onset is not None and onset.reaches(start) and _begun_by(condition, at)
        if begun and condition.state is ConditionState.ACTIVE:
            concept = next(c for c in _CODED_SYMPTOMS if c in condition.concepts)
            yield of_fact(condition, concept)


# --- the grade


@once_per_case
def _states(case: Case) -> dict[tuple[datetime, datetime], IcansState]:
    return {}


def icans_at(case: Case, at: datetime, since: datetime) -> IcansState:
    """ICANS as it stood at `at`; `since` is the start of the therapy."""
    known = _states(case)
    if (at, since) not in known:
        known[at, since] = _state(case, at, since)
    return known[at, since]


def icans_now(case: Case) -> IcansState | None:
    """ICANS now after a CAR-T infusion; None when none was given."""
    start = therapy_start(case)
    return None if start is None else icans_at(case, case.now, start)


def worst_icans(case: Case) -> int | None:
    """Worst grade since the infusion that the chart certainly shows; None where it shows none."""
    start = therapy_start(case)
    if start is None:
        return None
    now = icans_at(case, case.now, start)
    times = {m.latest for m in _abnormal(case, start) if start <= m.latest <= case.now}
    worst = max((icans_at(case, at, start).low or 0 for at in times), default=0)
    return max(worst, now.low or 0) or now.grade


def _state(case: Case, at: datetime, since: datetime) -> IcansState:
    within = hours(case.p(RULE)["bedside_max_age_hours"])
    sedation = sedation_at(case, at)
    cognition, score, wanted = _cognition(case, at)
    conscious = _consciousness(case, at, since, within)
    has_data = conscious is not None or _assessed(case, at, within)
    if sedation:  # what was seen before the sedation is a lower bound; its absence proves nothing
        cognition = cognition if cognition is not None and cognition.low else None
        conscious = conscious if conscious is not None and conscious.low else None
    others = [
        _seizure(case, at, since, within),
        _motor(case, at, since, within),
        _pressure(case, at, since, within),
    ]
    if cognition is not None and cognition.why == "ice_score" and score is not None and score.low == 0:
        cognition = _zero(cognition, conscious, score)
    present = [d for d in (cognition, conscious, *others) if d is not None]
    symptoms = tuple(_symptoms(case, at, since, within))
    has_data = has_data or bool(symptoms) or any(d is not None for d in others)
    recorded = _recorded_at(case, at, since)
    onset, open_episode = _onset(case, at, since)
    state = IcansState(
        at,
        None,
        None,
        tuple(present),
        sedation=sedation,
        bleeding=bleeding(case, at, since),
        symptoms=symptoms,
        recorded=recorded,
        has_data=has_data or recorded is not None,
        onset=onset,
        open_episode=open_episode,
    )
    low = max((d.low for d in present), default=0)
    not_assessed = tuple(
        domain
        for domain, known in ((Domain.COGNITION, cognition), (Domain.CONSCIOUSNESS, conscious))
        if known is None
    )
    names = (wanted,) if cognition is None else ()
    if cognition is None and conscious is None:
        names = (*names, "consciousness_level")
        if low == 0:
            state = replace(state, not_assessed=not_assessed, missing=names)
            if recorded is not None and recorded.grade is not None:
                if long_coded(case, recorded, at):
                    return replace(state, long_coded=True)
                grade = without_death(case, recorded.grade)
                return replace(state, low=grade, high=grade, by_clinician=True)
            return state
    high = max(d.high for d in present)
    open_ended = (cognition is None or bool(sedation)) and low < 4
    return replace(state, low=low, high=high, open_ended=open_ended, not_assessed=not_assessed, missing=names)


def _assessed(case: Case, at: datetime, within: timedelta) -> bool:
    """Something was charted on cognition or consciousness, sedated or not."""
    scores = [*ice_scores(case), *capd_scores(case)]
    return newest(scores, at, within) is not None or any(
        case.chart.series(concept).latest(at, within) is not None for concept in _AROUSAL
    )


def _zero(cognition: DomainState, conscious: DomainState | None, score: Score) -> DomainState:
    """ICE 0 grades 3 in an arousable patient (vigorous touch arouses) and 4 in an unarousable one."""
    if conscious is None:
        return replace(cognition, high=4)
    if conscious.low >= 4 and conscious.why != "consciousness.to_vigorous_touch":
        return replace(cognition, low=4 if score.high == 0 else cognition.low, high=4)
    return cognition


def _recorded_at(case: Case, at: datetime, since: datetime) -> Recorded | None:
    window = hours(case.p("grading.crs")["recorded_grade_hours"])
    graded = [
        r
        for r in recorded_grades(case, "icans_grade", since)
        if r.when.earliest <= at and r.when.reaches(at - window)
    ]
    if graded:
        return graded[-1]
    return coded_grade(case, "icans", since, at)


# --- onset


def _abnormal(case: Case, since: datetime) -> Iterator[Moment]:
    """Times at which something spoke for ICANS."""
    comas = (c.onset for c in coded_episodes(case, "coma", since) if c.onset is not None)
    for when in (*_low_scores_and_levels(case), *comas):
        if not sedation_at(case, when.latest):
            yield when
    for seizure in seizures(case):
        yield seizure.when
    for o in case.chart.series("motor_weakness"):
        if "deep_focal" in o.value.codes:
            yield o.when
    for when, seen, _ in _brain_imaging(case):
        if {"focal_edema", "diffuse_edema"} & seen and not bleeding(case, when.latest, since):
            yield when
    for o in case.chart.series("raised_icp_sign"):
        if set(o.value.codes) - {"none"}:
            yield o.when
    for recorded in recorded_grades(case, "icans_grade", since):
        if recorded.grade:
            yield recorded.when
    for concept in _CODED_SIGNS:
        for condition in coded_episodes(case, concept, since):
            if condition.onset is not None:
                yield condition.onset
    for condition in coded_episodes(case, "cerebral_edema", since):
        if condition.onset is not None and not bleeding(case, condition.onset.latest, since):
            yield condition.onset


_CODED_SIGNS = ("icans", "status_epilepticus", "hemiparesis", "paraparesis", "papilledema")


def _low_scores_and_levels(case: Case) -> Iterator[Moment]:
    """Assessments of cognition and consciousness that contribute a grade."""
    chosen = instrument(case)
    for score in ice_scores(case) if chosen is not Instrument.CAPD else ():
        low_total = score.high is not None and ice_contribution(case, score.high) > 0
        if low_total or score.not_testable == "unarousable":
            yield score.when
    for score in capd_scores(case) if chosen is not Instrument.ICE else ():
        if (score.low is not None and score.low > 0) or score.not_testable == "unarousable":
            yield score.when
    for concept in _AROUSAL:
        for o in case.chart.series(concept):
            meant = _grade_of(case, o)
            if meant is not None and meant[0] > 0:
                yield o.when


def _onset(case: Case, at: datetime, since: datetime) -> tuple[Moment | None, bool]:
    """Onset of the newest episode, and whether it is still open at `at`. A coded onset decides over the
    first abnormal finding."""
    times = sorted(
        (m for m in _abnormal(case, since) if m.latest >= since and m.earliest <= at),
        key=lambda m: (m.earliest, m.latest),
    )
    if not times:
        return None, False
    gap = hours(case.p(RULE)["episode_gap_hours"])
    closed = closings(case, "icans_grade", "icans", since)
    first = last = times[0]
    for moment in times[1:]:
        if moment.earliest - last.latest > gap or any(last.latest <= c <= moment.earliest for c in closed):
            first = moment
        last = moment
    is_open = at - last.latest <= gap and not any(last.latest <= c <= at for c in closed)
    for condition in coded_episodes(case, "icans", since):
        if condition.state is ConditionState.ACTIVE and _begun_by(condition, at):
            assert condition.onset is not None
            return condition.onset, True
    return first, is_open
