"""Laboratory results around a dose: what is fresh enough before it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from cards.finding import Missing
from cds.engine.case import Case
from fhir_mapping.chart import DrugRecord, LossReason, Moment, Observation, Result, whole_day

CBC = ("anc", "platelets", "hemoglobin")
LIVER = ("alt", "ast", "bilirubin_total")
HEPATITIS_B = ("hbsag", "anti_hbc", "anti_hbs")


@dataclass(frozen=True, slots=True)
class LabGap:
    """A result missing (`last` None) or too old before the planned dose."""

    concept: str
    last: Observation | None

    @property
    def missing(self) -> Missing:
        reason = LossReason.NOT_ON_CHART if self.last is None else LossReason.STALE
        return Missing(self.concept, reason, "" if self.last is None else self.last.reference)


def planned_start(case: Case, record: DrugRecord | None) -> Moment:
    """Planned start of a draft; today where it has none."""
    first = None if record is None else record.timing.first
    return whole_day(case.today, case.now) if first is None else first


def is_fresh(result: Moment, start: Moment, days: int) -> bool:
    """At most `days` x 24 h before the start; by calendar days where either knows no hour."""
    if result.exact and start.exact:
        return start.latest - result.earliest <= timedelta(days=days)
    return (start.date - result.first_date).days <= days


def newest(case: Case, concept: str) -> Observation | None:
    return case.chart.series(concept).latest(case.now, usable=lambda o: o.value.quantity is not None)


def gaps(case: Case, concepts: Iterable[str], start: Moment, days: int) -> tuple[LabGap, ...]:
    """The tests among `concepts` without a usable result within `days` before `start`."""
    found = []
    for concept in concepts:
        last = newest(case, concept)
        if last is None or not is_fresh(last.when, start, days):
            found.append(LabGap(concept, last))
    return tuple(found)


def hepatitis_gaps(case: Case, days: int) -> tuple[Missing, ...]:
    """Hepatitis B tests to order: none on the chart, older than `days`, or indeterminate at last. A positive
    HBsAg or anti-HBc stands whatever its date."""
    found = []
    for concept in HEPATITIS_B:
        results = [o for o in case.chart.series(concept) if o.value.result is not None]
        if concept != "anti_hbs" and any(o.value.result is Result.POSITIVE for o in results):
            continue
        last = results[-1] if results else None
        if last is None or last.value.result is Result.INDETERMINATE:
            found.append(Missing(concept, resource="" if last is None else last.reference))
        elif (case.today - last.when.first_date).days > days:
            found.append(Missing(concept, LossReason.STALE, last.reference))
    return tuple(found)


def since(series: Sequence[Observation], start: date | None) -> tuple[Observation, ...]:
    """Usable results from a day on."""
    return tuple(
        o for o in series if o.value.quantity is not None and start is not None and o.when.date >= start
    )
