"""Disease, remission and relapse after the infusion, shared by the follow-up rules (chart-facts D1, D10)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from cards.finding import Evidence
from cds.engine.case import Case, once_per_case
from cds.rules import evidence
from fhir_mapping.chart import Condition, ConditionState, Observation

B_ALL = ("b_all", "all_lineage_unspecified")
LYMPHOMA = (
    "dlbcl",
    "follicular_lymphoma",
    "mantle_cell_lymphoma",
    "primary_cns_lymphoma",
    "pmbcl",
    "burkitt_lymphoma",
    "high_grade_b_cell_lymphoma",
    "transformed_follicular_lymphoma",
    "cll",
)
MYELOMA = ("multiple_myeloma",)
DISEASES = (*B_ALL, *LYMPHOMA, *MYELOMA)
_RELAPSED_WORDS = frozenset({"relapse", "progressive_disease"})
_RELAPSED_STATUS = frozenset({"relapse", "recurrence"})


@dataclass(frozen=True, slots=True)
class Event:
    """A dated turn of the disease. `day` None: on the chart without a date."""

    day: date | None
    evidence: Evidence


def infusion_day(case: Case) -> date | None:
    return case.chart.course.last_day0


def diseases(case: Case) -> tuple[Condition, ...]:
    """Conditions of the disease that is treated, active ones first; suspected and refuted ones left out."""
    found = [
        c
        for c in case.chart.conditions.of(*DISEASES)
        if c.state in (ConditionState.ACTIVE, ConditionState.HISTORY)
    ]
    return tuple(sorted(found, key=lambda c: c.state is not ConditionState.ACTIVE))


def has_disease(case: Case, *concepts: str) -> bool:
    return any(not c.concepts.isdisjoint(concepts) for c in diseases(case))


def _after(day: date | None, start: date | None) -> bool:
    return day is not None and start is not None and day > start


def assessments(case: Case) -> tuple[Observation, ...]:
    """Recorded responses after the infusion, oldest first."""
    start = infusion_day(case)
    return tuple(o for o in case.chart.series("disease_response") if _after(o.when.date, start))


@once_per_case
def remission(case: Case) -> Event | None:
    """First complete response after the infusion: an assessment, else a disease coded in remission."""
    for observation in assessments(case):
        if "complete_response" in observation.value.codes:
            return Event(observation.when.date, evidence.of_observation(observation))
    start = infusion_day(case)
    days: list[Event] = []
    for condition in case.chart.conditions.of(*DISEASES):
        if condition.clinical_status != "remission":
            continue
        for moment in (condition.end, condition.recorded):
            if moment is not None and _after(moment.date, start):
                concept = next(c for c in DISEASES if c in condition.concepts)
                days.append(Event(moment.date, evidence.of_fact(condition, concept)))
                break
    return min(days, key=lambda event: event.day or date.max, default=None)


@once_per_case
def relapses(case: Case) -> tuple[Event, ...]:
    """Every sign of relapse or progression after the infusion, oldest first: an assessment, or a disease so
    coded since then.

    A disease that was coded relapsed before the infusion is why the cells were given, not a relapse.
    """
    start = infusion_day(case)
    events: list[Event] = []
    for observation in assessments(case):
        if _RELAPSED_WORDS & set(observation.value.codes):
            events.append(Event(observation.when.date, evidence.of_observation(observation)))
    for condition in case.chart.conditions.of(*DISEASES, "relapse"):
        if condition.state not in (ConditionState.ACTIVE, ConditionState.HISTORY):
            continue
        if condition.clinical_status not in _RELAPSED_STATUS and "relapse" not in condition.concepts:
            continue
        # the onset may be that of the disease; what was recorded since the infusion tells of a later relapse
        days = (moment.date for moment in (condition.onset, condition.recorded) if moment is not None)
        day = next((day for day in days if _after(day, start)), None)
        if day is not None:
            concept = next((c for c in DISEASES if c in condition.concepts), "relapse")
            events.append(Event(day, evidence.of_fact(condition, concept)))
    return tuple(sorted(events, key=lambda event: event.day or date.max))


def relapse(case: Case) -> Event | None:
    """The first relapse after the infusion; it ends the schedule of the cells."""
    return next(iter(relapses(case)), None)


def _complete_responses(case: Case) -> list[date]:
    return [o.when.date for o in assessments(case) if "complete_response" in o.value.codes]


def last_relapse(case: Case) -> Event | None:
    """Where the newest relapse began: its first sign after the complete response before it."""
    events = [event for event in relapses(case) if event.day is not None]
    if not events or events[-1].day is None:
        return None
    newest = events[-1].day
    since = max((day for day in _complete_responses(case) if day < newest), default=date.min)
    return next(event for event in events if event.day is not None and event.day > since)


def relapse_is_over(case: Case) -> bool:
    """A complete response is newer than every sign of relapse."""
    events = [event.day for event in relapses(case) if event.day is not None]
    return bool(events) and any(day > max(events) for day in _complete_responses(case))
