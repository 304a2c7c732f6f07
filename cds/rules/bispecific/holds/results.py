"""Results since the first dose, and the episodes they form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from cds.engine.case import Case
from cds.rules.bispecific.tarlatamab import first_exposure, last_exposure, start_of
from cds.rules.grading.ctcae_labs import LabGrade, baseline_before, grade_lab
from fhir_mapping.chart import Condition, ConditionState, Observation, Quantity

_UNREADABLE = 10**6  # counts per litre


def first_start(case: Case) -> datetime:
    first = first_exposure(case)
    assert first is not None
    return start_of(first, case.now)


def results_of(case: Case, concept: str) -> tuple[Observation, ...]:
    start = first_start(case)
    return tuple(
        o for o in case.chart.series(concept).between(start, case.now) if o.value.quantity is not None
    )


def _baseline(case: Case, concept: str) -> Observation | None:
    return baseline_before(case.chart.series(concept), first_start(case))


def grades_of(case: Case, concept: str) -> tuple[LabGrade, ...]:
    base = _baseline(case, concept)
    return tuple(grade_lab(o, base) for o in results_of(case, concept))


def shown_value(obs: Observation) -> Quantity:
    """As the laboratory wrote it, bounds included; a count written per litre in the usual unit."""
    quantity = obs.value.quantity
    assert quantity is not None
    reported = quantity.reported
    if reported is None or reported.value >= _UNREADABLE:
        return quantity
    return Quantity(reported.value, reported.unit, quantity.comparator)


@dataclass(frozen=True, slots=True)
class Episode:
    """A run of failing results up to the first recovered one."""

    start: Observation
    last_failing: Observation
    recovered: Observation | None

    @property
    def day0(self) -> date:
        return self.start.when.date

    @property
    def until(self) -> datetime:
        return self.last_failing.when.latest

    @property
    def longest(self) -> int:
        """Days from the first to the last failing result."""
        return (self.last_failing.when.date - self.day0).days


def episodes(
    results: Sequence[LabGrade], failing: Callable[[LabGrade], bool], fine: Callable[[LabGrade], bool]
) -> list[Episode]:
    found: list[Episode] = []
    start: Observation | None = None
    last: Observation | None = None
    for graded in results:
        obs = graded.observation
        if failing(graded):
            start, last = start or obs, obs
        elif start is not None and last is not None and fine(graded):
            found.append(Episode(start, last, obs))
            start = last = None
    if start is not None and last is not None:
        found.append(Episode(start, last, None))
    return found


def is_severe(graded: LabGrade) -> bool:
    return graded.grade is not None and graded.grade >= 3


def is_mild(graded: LabGrade) -> bool:
    return graded.grade is not None and graded.grade <= 2


def dose_after(case: Case, obs: Observation) -> bool:
    """A dose followed that result: whoever gave it had judged it."""
    last = last_exposure(case)
    return last is not None and last.day is not None and last.day > obs.when.date


def active_since_first(case: Case, *concepts: str) -> tuple[Condition, ...]:
    start = first_start(case)
    return tuple(
        c
        for c in case.chart.conditions.of(*concepts)
        if c.state is ConditionState.ACTIVE and (c.onset is None or c.onset.latest >= start)
    )
