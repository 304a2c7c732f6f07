"""ICANS and other neurotoxicity after tarlatamab: graded, suspected by symptoms, or seen once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from cards.finding import Evidence
from cds.engine.case import Case, once_per_case
from cds.rules.after_cart import closings, coded_episodes, recorded_grades
from cds.rules.bispecific.tarlatamab import exposures, start_of
from cds.rules.bispecific.toxicity import tarlatamab_view
from fhir_mapping.chart import ConditionState, Moment, Observation

SYMPTOMS = frozenset({"confusion", "disorientation", "somnolence", "lethargy", "slowed_thinking", "syncope"})
_SYMPTOM_CONDITIONS = (
    "delirium",
    "encephalopathy",
    "coma",
    "seizure",
    "status_epilepticus",
    *sorted(SYMPTOMS),
)
# ICE total -> grade (ASTCT, Lee DW, BBMT 2019;25:625); the lowest total of each grade
_AWAKE = ("awake", "to_voice", "to_touch", "to_vigorous_touch", "unarousable")
_CONSCIOUSNESS_GRADE = {"to_voice": 2, "to_touch": 3, "to_vigorous_touch": 4, "unarousable": 4}


@dataclass(frozen=True, slots=True)
class NeuroState:
    """`grade` now (None: cannot be graded), `ever` the worst grade recorded, `onset` of the open episode.

    `symptoms` are facts that ask for an ICE score; `ice` the newest total. `unresolved` an open ICANS
    episode; `resolved` when the last one ended.
    """

    grade: int | None
    ever: int
    unresolved: bool
    onset: Moment | None = None
    resolved: datetime | None = None
    ice: Observation | None = None
    symptoms: tuple[Evidence, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    clinician: bool = False


def _ice_grade(total: int, bands: tuple[tuple[int, Decimal], ...]) -> int:
    """Grade of an ICE total; `bands` are (grade, highest total) from the worst grade up."""
    for grade, highest in bands:
        if total <= highest:
            return grade
    return 0


def ice_total(observation: Observation) -> int | None:
    value = observation.value
    if value.number is not None and 0 <= value.number <= 10:
        return value.number
    quantity = value.quantity
    if quantity is not None and not quantity.comparator and 0 <= quantity.value <= 10:
        return int(quantity.value)
    return None


def _symptoms(case: Case, since: datetime) -> Iterator[Evidence]:
    newest = {}
    for obs in case.chart.series("neuro_symptom"):
        if obs.when.latest >= since:
            newest[obs.reference] = obs
    recent = case.now - timedelta(days=1)
    for obs in newest.values():
        for code in obs.value.codes:
            if code in SYMPTOMS and obs.when.latest >= recent:
                yield Evidence(obs.reference, code, effective=obs.when)
    for condition in case.chart.conditions.of(*_SYMPTOM_CONDITIONS):
        begun = condition.onset
        if condition.state is ConditionState.ACTIVE and begun is not None and begun.latest >= since:
            concept = next(c for c in _SYMPTOM_CONDITIONS if c in condition.concepts)
            yield Evidence(condition.reference, concept, effective=begun)
    event = case.chart.latest("seizure_event")
    if event is not None and event.when.latest >= max(since, recent) and set(event.value.codes) - {"none"}:
        yield Evidence(event.reference, "seizure", effective=event.when)


def _coded_consciousness(case: Case, since: datetime, fresh: datetime) -> tuple[int, Evidence] | None:
    level = case.chart.latest("consciousness_level")
    if level is None or level.when.latest < max(since, fresh):
        return None
    word = next((c for c in level.value.codes if c in _AWAKE), "")
    grade = _CONSCIOUSNESS_GRADE.get(word, 0)
    return (
        (grade, Evidence(level.reference, "consciousness_level", word, effective=level.when))
        if grade
        else None
    )


@once_per_case
def neuro_state(case: Case) -> NeuroState | None:
    """Neurotoxicity since the first dose; None before any. ICE and consciousness of the last 24 h grade."""
    view = tarlatamab_view(case)
    if view is None:
        return None
    p = case.p("dosing.icans-tarlatamab")
    since = start_of(exposures(case)[0], case.now)
    fresh = case.now - timedelta(hours=float(p["ice_max_age_hours"]))
    recorded = recorded_grades(view, "icans_grade", since)
    coded = coded_episodes(view, "icans", since)
    ended = closings(view, "icans_grade", "icans", since)
    ever = max([0, *(r.grade or 0 for r in recorded), *(c.grade.value for c in coded if c.grade is not None)])
    bands = tuple((g, p[f"ice_grade_{g}_max"]) for g in (3, 2, 1))
    computed: list[tuple[int, Evidence, Moment]] = []
    ice: Observation | None = None
    for obs in case.chart.series("ice_score"):
        total = ice_total(obs)
        if total is None or obs.when.latest < since:
            continue
        ice = obs
        grade = _ice_grade(total, bands)
        computed.append((grade, Evidence(obs.reference, "ice_score", total, effective=obs.when), obs.when))
    evidence: list[Evidence] = []
    now_grade: int | None = None
    onset: Moment | None = None
    if computed and computed[-1][2].latest >= fresh:
        now_grade = computed[-1][0]
        evidence.append(computed[-1][1])
        onset = _run_start([(g, w) for g, _, w in computed])
    if aware := _coded_consciousness(case, since, fresh):
        now_grade = max(now_grade or 0, aware[0])
        evidence.append(aware[1])
        onset = onset or aware[1].effective
    open_runs = [r for r in recorded if r.grade]
    clinician = False
    if open_runs and not any(t >= open_runs[-1].when.latest for t in ended):
        newest = open_runs[-1]
        evidence.append(Evidence(newest.reference, "icans_grade", newest.grade, effective=newest.when))
        if now_grade is None or (newest.grade or 0) > now_grade:
            now_grade, clinician = newest.grade, True
        onset = _run_start([(r.grade or 0, r.when) for r in recorded]) or onset
    for condition in coded:
        if condition.state is ConditionState.ACTIVE and condition.end is None and condition.onset is not None:
            if any(t >= condition.onset.latest for t in ended):
                continue
            grade = 0 if condition.grade is None else condition.grade.value
            evidence.append(Evidence(condition.reference, "icans", grade or None, effective=condition.onset))
            if now_grade is None or grade > now_grade:
                now_grade, clinician = grade or now_grade, True
            onset = condition.onset
    unresolved = bool(now_grade) or any(e.concept == "icans" for e in evidence)
    worst_computed = max((g for g, _, _ in computed), default=0)
    ever = max(ever, worst_computed, now_grade or 0)
    resolved = max(ended, default=None)
    if resolved is None and not unresolved:
        zero_after = [w.latest for g, _, w in computed if g == 0]
        raised = [w.latest for g, _, w in computed if g]
        if raised and zero_after and zero_after[-1] > raised[-1]:
            resolved = next(t for t in zero_after if t > raised[-1])
    return NeuroState(
        now_grade,
        ever,
        unresolved,
        onset,
        resolved,
        ice,
        tuple(_symptoms(case, since)),
        tuple(evidence),
        clinician,
    )


def _run_start(grades: list[tuple[int, Moment]]) -> Moment | None:
    """Start of the run of grades >= 1 that reaches to the newest; None when the newest is 0."""
    start: Moment | None = None
    for grade, when in grades:
        start = (start or when) if grade else None
    return start


def worst_now(state: NeuroState | None) -> int:
    return 0 if state is None or not state.unresolved else state.grade or 1


__all__ = ["SYMPTOMS", "NeuroState", "ice_total", "neuro_state", "worst_now"]
