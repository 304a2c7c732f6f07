"""Relapse, refractory disease, lines and transplant as recorded (chart-facts D2, D3, X1); never counted from
regimens."""

from __future__ import annotations

from dataclasses import dataclass

from cards.finding import Evidence
from cds.engine.case import Case, once_per_case
from cds.rules.evidence import of_fact, of_observation
from fhir_mapping.chart import Condition, ConditionState, Moment, Observation

_RELAPSED = ("relapse", "recurrence")
_DISEASES = (
    "b_all",
    "all_lineage_unspecified",
    "dlbcl",
    "follicular_lymphoma",
    "transformed_follicular_lymphoma",
    "high_grade_b_cell_lymphoma",
)
_SAME_GRAFT_DAYS = 31  # a history is often dated by its month
_TRANSPLANTS = ("allo_hct", "hct_unspecified")


@dataclass(frozen=True, slots=True)
class History:
    """`relapses`: recorded number, None unknown. `relapsed`, `refractory`: True, False or not recorded."""

    relapses: int | None
    relapsed: bool | None
    refractory: bool | None
    after_transplant: bool | None
    lines: int | None
    transplants: tuple[Moment, ...]  # dated allogeneic grafts (or of unknown type), oldest first
    transplanted: bool
    evidence: tuple[Evidence, ...]

    @property
    def active_again(self) -> bool | None:
        """Relapsed or refractory; None where neither is recorded one way or the other."""
        if self.relapsed or self.refractory:
            return True
        return False if self.relapsed is False and self.refractory is False else None


def _transplants(case: Case) -> tuple[list[Moment], bool, list[Evidence]]:
    moments: list[Moment] = []
    evidence: list[Evidence] = []
    for concept in _TRANSPLANTS:
        for procedure in case.chart.procedures.of(concept):
            if procedure.state.begun:
                evidence.append(of_fact(procedure, concept))
                if procedure.start is not None:
                    moments.append(procedure.start)
    own = [p.start for p in case.chart.procedures.of("auto_hct") if p.state.begun]
    for condition in case.chart.conditions.of("hx_stem_cell_transplant"):
        if condition.state in (ConditionState.ACTIVE, ConditionState.HISTORY) and not _same_graft(
            condition, own
        ):
            evidence.append(of_fact(condition, "hx_stem_cell_transplant"))
            if condition.onset is not None:
                moments.append(condition.onset)
    return sorted(moments, key=lambda m: m.latest), bool(evidence), evidence


def _same_graft(condition: Condition, own: list[Moment | None]) -> bool:
    """A history of transplant of unknown type is the autologous one of that time on the chart."""
    onset = condition.onset
    return onset is not None and any(
        start is not None and abs((onset.date - start.date).days) <= _SAME_GRAFT_DAYS for start in own
    )


def _relapse_day(condition: Condition) -> Moment | None:
    return condition.onset or condition.recorded


def _stated(case: Case, concept: str) -> Observation | None:
    """The newest entry that says a number, yes or no."""

    def says(observation: Observation) -> bool:
        return observation.value.number is not None or observation.value.yes is not None

    return case.chart.series(concept).latest(case.now, usable=says)


@once_per_case
def history(case: Case) -> History:
    """What the chart records of the course of the disease."""
    chart = case.chart
    evidence: list[Evidence] = []
    number = _stated(case, "relapse_number")
    relapses = None if number is None else number.value.number
    if number is not None and relapses is not None:
        evidence.append(of_observation(number))
    transplants, transplanted, seen = _transplants(case)
    again = [
        c
        for c in chart.conditions.of(*_DISEASES)
        if c.clinical_status in _RELAPSED and c.state is ConditionState.ACTIVE
    ]
    evidence += [of_fact(c, next(d for d in _DISEASES if d in c.concepts)) for c in again]
    relapsed: bool | None = True if again or relapses else (False if relapses == 0 else None)
    stated = _stated(case, "refractory_disease")
    refractory = None if stated is None else stated.value.yes
    if stated is not None and refractory is not None:
        evidence.append(of_observation(stated))
    said = _stated(case, "relapse_after_transplant")
    after = None if said is None else said.value.yes
    if said is not None and after is not None:
        evidence.append(of_observation(said))
    elif transplants:
        first = transplants[0]
        days = [m for m in map(_relapse_day, again) if m is not None]
        if any(day.date > first.date for day in days):
            after = True
        evidence += seen
    lines = _stated(case, "prior_lines_of_therapy")
    count = None if lines is None else lines.value.number
    if lines is not None and count is not None:
        evidence.append(of_observation(lines))
    return History(
        relapses, relapsed, refractory, after, count, tuple(transplants), transplanted, tuple(evidence)
    )
