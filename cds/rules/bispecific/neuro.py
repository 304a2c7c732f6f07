"""ICANS and other neurotoxicity after tarlatamab or another listed engager: graded, suspected, seen once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from cards.finding import Evidence
from cds.engine.case import Case, once_per_case
from cds.rules.after_cart import closings, coded_episodes, recorded_grades, undated_episodes
from cds.rules.bispecific.tarlatamab import engager_exposures, start_of
from cds.rules.bispecific.toxicity import tarlatamab_view
from cds.rules.grading.bedside import Score
from cds.rules.grading.icans_episode import SYMPTOMS, icans_at
from cds.rules.grading.ice import ice_contribution, ice_scores
from fhir_mapping.chart import ConditionState, Moment

_SYMPTOM_CONDITIONS = (
    "delirium",
    "encephalopathy",
    "coma",
    "seizure",
    "status_epilepticus",
    *sorted(SYMPTOMS),
)


@dataclass(frozen=True, slots=True)
class Run:
    """One episode of ICANS: its onset, its worst grade."""

    onset: Moment
    worst: int


@dataclass(frozen=True, slots=True)
class NeuroState:
    """`grade` now (None: cannot be graded), `ever` the worst grade recorded, `onset` of the open episode.

    `symptoms` are facts that ask for an ICE score; `ice` the newest total. `unresolved` an open ICANS
    episode; `resolved` when the last one ended; `runs` all episodes, open or not.
    """

    grade: int | None
    ever: int
    unresolved: bool
    onset: Moment | None = None
    resolved: datetime | None = None
    ice: Score | None = None
    symptoms: tuple[Evidence, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    clinician: bool = False
    runs: tuple[Run, ...] = ()

    @property
    def newest(self) -> Run | None:
        """The latest episode."""
        return max(self.runs, key=lambda run: (run.onset.latest, run.worst), default=None)

    def worst_since(self, start: datetime) -> int:
        """Worst grade of the episodes that began since then; 0 none."""
        return max((run.worst for run in self.runs if run.onset.latest >= start), default=0)


def ice_total(score: Score) -> int | None:
    """The total where it is known."""
    return score.low if score.low is not None and score.low == score.high else None


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


@once_per_case
def neuro_state(case: Case) -> NeuroState | None:
    """Neurotoxicity since the first dose; None before any. The bedside grade is that of grading.icans."""
    view = tarlatamab_view(case)
    if view is None:
        return None
    since = start_of(engager_exposures(case)[0], case.now)
    shared = icans_at(view, case.now, since)
    recorded = recorded_grades(view, "icans_grade", since)
    coded = (*coded_episodes(view, "icans", since), *undated_episodes(view, "icans"))
    ended = closings(view, "icans_grade", "icans", since)
    ever = max([0, *(r.grade or 0 for r in recorded), *(c.grade.value for c in coded if c.grade is not None)])
    computed: list[tuple[int, Moment]] = []
    ice: Score | None = None
    for score in ice_scores(view):
        total = ice_total(score)
        if total is not None and since <= score.when.latest and score.when.earliest <= case.now:
            ice = score
            computed.append((ice_contribution(case, total), score.when))
    evidence: list[Evidence] = []
    now_grade: int | None = None
    onset: Moment | None = None
    if shared.low is not None and not shared.by_clinician:
        now_grade = shared.low
        evidence += [e for domain in shared.domains for e in domain.evidence]
        onset = _run_start(computed) or (shared.onset if shared.low else None)
    open_runs = [r for r in recorded if r.grade]
    clinician = False
    if open_runs and not any(t >= open_runs[-1].when.latest for t in ended):
        newest = open_runs[-1]
        evidence.append(Evidence(newest.reference, "icans_grade", newest.grade, effective=newest.when))
        if now_grade is None or (newest.grade or 0) > now_grade:
            now_grade, clinician = newest.grade, True
        onset = _run_start([(r.grade or 0, r.when) for r in recorded]) or onset
    for condition in coded:
        if condition.state is ConditionState.ACTIVE and condition.end is None:
            begun = since if condition.onset is None else condition.onset.latest
            if any(t >= begun for t in ended):
                continue
            grade = 0 if condition.grade is None else condition.grade.value
            evidence.append(Evidence(condition.reference, "icans", grade or None, effective=condition.onset))
            if now_grade is None or grade > now_grade:
                now_grade, clinician = grade or now_grade, clinician or grade > 0
            onset = condition.onset or onset
    unresolved = bool(now_grade) or any(e.concept == "icans" for e in evidence)
    worst_computed = max((g for g, _ in computed), default=0)
    ever = max(ever, worst_computed, now_grade or 0)
    resolved = max(ended, default=None)
    if resolved is None and not unresolved:
        zero_after = [w.latest for g, w in computed if g == 0]
        raised = [w.latest for g, w in computed if g]
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
        (
            *_runs([(r.grade or 0, r.when) for r in recorded]),
            *_runs(computed),
            *(Run(c.onset, c.grade.value) for c in coded if c.onset is not None and c.grade is not None),
        ),
    )


def _runs(grades: list[tuple[int, Moment]]) -> Iterator[Run]:
    """Every run of grades >= 1."""
    current: Run | None = None
    for grade, when in grades:
        if grade:
            current = Run(when, grade) if current is None else Run(current.onset, max(current.worst, grade))
        elif current is not None:
            yield current
            current = None
    if current is not None:
        yield current


def _run_start(grades: list[tuple[int, Moment]]) -> Moment | None:
    """Start of the run of grades >= 1 that reaches to the newest; None when the newest is 0."""
    start: Moment | None = None
    for grade, when in grades:
        start = (start or when) if grade else None
    return start


def worst_now(state: NeuroState | None) -> int:
    return 0 if state is None or not state.unresolved else state.grade or 1


__all__ = ["NeuroState", "ice_total", "neuro_state", "worst_now"]
