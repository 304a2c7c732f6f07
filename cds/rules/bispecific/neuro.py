"""ICANS and other neurotoxicity after tarlatamab or another listed engager: graded, suspected, seen once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cards.finding import Evidence
from cds.engine.case import Case, once_per_case
from cds.rules.after_cart import Recorded, closings, coded_episodes, recorded_grades, undated_episodes
from cds.rules.bispecific.tarlatamab import engager_exposures, start_of
from cds.rules.bispecific.toxicity import tarlatamab_view
from cds.rules.grading.bedside import Score
from cds.rules.grading.icans_episode import SYMPTOMS, IcansState, icans_at
from cds.rules.grading.ice import ice_contribution, ice_scores
from fhir_mapping.chart import Condition, ConditionState, Moment

Graded = tuple[int, Moment]

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


def _ice(case: Case, view: Case, since: datetime) -> tuple[list[Graded], Score | None]:
    """What each ICE total of the treatment means as a grade, and the newest total."""
    grades: list[Graded] = []
    newest: Score | None = None
    for score in ice_scores(view):
        total = ice_total(score)
        if total is not None and since <= score.when.latest and score.when.earliest <= case.now:
            newest = score
            grades.append((ice_contribution(case, total), score.when))
    return grades, newest


@dataclass(slots=True)
class _Now:
    """The grade of now while its sources are read one after the other."""

    ended: tuple[datetime, ...]
    grade: int | None = None
    onset: Moment | None = None
    clinician: bool = False
    evidence: list[Evidence] = field(default_factory=list)

    def _closed(self, begun: datetime) -> bool:
        return any(closing >= begun for closing in self.ended)

    def _raise(self, grade: int) -> None:
        if grade and (self.grade is None or grade > self.grade):
            self.grade, self.clinician = grade, True

    def bedside(self, shared: IcansState, computed: list[Graded]) -> None:
        if shared.low is not None and not shared.by_clinician:
            self.grade = shared.low
            self.evidence += [e for domain in shared.domains for e in domain.evidence]
            self.onset = _run_start(computed) or (shared.onset if shared.low else None)

    def recorded(self, recorded: tuple[Recorded, ...]) -> None:
        newest = next((r for r in reversed(recorded) if r.grade), None)
        if newest is None or newest.grade is None or self._closed(newest.when.latest):
            return
        self.evidence.append(Evidence(newest.reference, "icans_grade", newest.grade, effective=newest.when))
        self._raise(newest.grade)
        self.onset = _run_start(_graded(recorded)) or self.onset

    def coded(self, condition: Condition, since: datetime) -> None:
        begun = since if condition.onset is None else condition.onset.latest
        if condition.state is not ConditionState.ACTIVE or condition.end is not None or self._closed(begun):
            return
        grade = 0 if condition.grade is None else condition.grade.value
        self.evidence.append(Evidence(condition.reference, "icans", grade or None, effective=condition.onset))
        self._raise(grade)
        self.onset = condition.onset or self.onset


def _graded(recorded: Iterable[Recorded]) -> list[Graded]:
    return [(r.grade or 0, r.when) for r in recorded]


def _recovered(computed: list[Graded]) -> datetime | None:
    """The first total without ICANS after the last with it; None while the newest ones show it."""
    raised = [when.latest for grade, when in computed if grade]
    normal = [when.latest for grade, when in computed if not grade]
    return next((t for t in normal if t > raised[-1]), None) if raised and normal else None


@once_per_case
def neuro_state(case: Case) -> NeuroState | None:
    """Neurotoxicity since the first dose; None before any. The bedside grade is that of grading.icans."""
    view = tarlatamab_view(case)
    if view is None:
        return None
    since = start_of(engager_exposures(case)[0], case.now)
    recorded = recorded_grades(view, "icans_grade", since)
    coded = (*coded_episodes(view, "icans", since), *undated_episodes(view, "icans"))
    computed, ice = _ice(case, view, since)
    now = _Now(closings(view, "icans_grade", "icans", since))
    now.bedside(icans_at(view, case.now, since), computed)
    now.recorded(recorded)
    for condition in coded:
        now.coded(condition, since)
    graded = [(c.onset, c.grade.value) for c in coded if c.grade is not None]
    seen = [*_graded(recorded), *computed]
    unresolved = bool(now.grade) or any(e.concept == "icans" for e in now.evidence)
    resolved = max(now.ended, default=None)
    return NeuroState(
        grade=now.grade,
        ever=max([now.grade or 0, *(grade for grade, _ in seen), *(grade for _, grade in graded)]),
        unresolved=unresolved,
        onset=now.onset,
        resolved=_recovered(computed) if resolved is None and not unresolved else resolved,
        ice=ice,
        symptoms=tuple(_symptoms(case, since)),
        evidence=tuple(now.evidence),
        clinician=now.clinician,
        runs=(
            *_runs(_graded(recorded)),
            *_runs(computed),
            *(Run(onset, grade) for onset, grade in graded if onset is not None),
        ),
    )


def _runs(grades: list[Graded]) -> Iterator[Run]:
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


def _run_start(grades: list[Graded]) -> Moment | None:
    """Start of the run of grades >= 1 that reaches to the newest; None when the newest is 0."""
    start: Moment | None = None
    for grade, when in grades:
        start = (start or when) if grade else None
    return start


def worst_now(state: NeuroState | None) -> int:
    return 0 if state is None or not state.unresolved else state.grade or 1


__all__ = ["NeuroState", "ice_total", "neuro_state", "worst_now"]
