"""Neutrophils as the prophylaxis rules read them: the current count and how long it has been low (chart-facts
L2). The graded count of ICAHT days is grading.icaht's."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

from cards.finding import Evidence
from cds.engine.case import Case
from cds.rules import evidence
from cds.rules.grading.car_hematotox import Group, hematotox, recorded_score
from fhir_mapping.chart import Observation, Quantity

MAX_GAP_DAYS = 7  # a longer gap between two counts ends a run (as in the counting of ICAHT days)


@dataclass(frozen=True, slots=True)
class Count:
    """The newest count that is current. `per_ul` keeps a comparator."""

    per_ul: Quantity
    day: date
    evidence: Evidence


def _per_ul(observation: Observation) -> Quantity | None:
    quantity = observation.value.quantity
    if quantity is None:
        return None
    return Quantity(quantity.value * 1000, "/uL", quantity.comparator)


def current_anc(case: Case, days: int) -> Count | None:
    """Newest ANC at most `days` old, in cells/uL."""
    found = case.chart.series("anc").latest(
        case.now, timedelta(days=days), lambda o: o.value.quantity is not None
    )
    quantity = None if found is None else _per_ul(found)
    if found is None or quantity is None:
        return None
    return Count(quantity, found.when.date, evidence.of_observation(found))


def days_below(case: Case, limit: Decimal, count: Count | None) -> int:
    """Days from the first to the current count of the unbroken run of daily lowest values below `limit`;
    0 when the current count is not below it. Today counts while the newest count is current."""
    if count is None or count.per_ul.below(limit) is not True:
        return 0
    first = previous = count.day
    by_day = case.chart.series("anc").by_day()
    for day in sorted(by_day, reverse=True):
        if day >= count.day:
            continue
        lows = [q for o in by_day[day] if (q := _per_ul(o)) is not None]
        low = any(q.below(limit) is True for q in lows)
        if not low or (previous - day).days > MAX_GAP_DAYS + 1:
            break
        first = previous = day
    return (case.today - first).days + 1


def score_evidence(case: Case) -> tuple[Evidence, ...]:
    """What decides the CAR-HEMATOTOX group: the five values, else the recorded score."""
    score = hematotox(case)
    if score is not None and score.group is not Group.UNCLEAR:
        return score.evidence
    recorded = recorded_score(case)
    return () if recorded is None else (evidence.of_observation(recorded[1]),)
