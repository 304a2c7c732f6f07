"""Urine output of the last hours (chart-facts O12): volumes over their periods, or a charted rate."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from cards.finding import Evidence
from cds.engine.case import Case
from cds.rules.evidence import of_observation
from fhir_mapping.chart import Observation


@dataclass(frozen=True, slots=True)
class UrineOutput:
    """Mean rate over `hours`: in mL/h, and in mL/kg/h where the chart gives that instead."""

    ml_h: Decimal | None
    ml_kg_h: Decimal | None
    hours: Decimal
    evidence: tuple[Evidence, ...]


def _periods(
    case: Case, start: datetime, end: datetime
) -> list[tuple[datetime, datetime, Decimal, Observation]]:
    """Charted volumes with their periods; a point volume covers the time since the previous record."""
    found = []
    previous: datetime | None = None
    for o in case.chart.series("urine_output"):
        quantity = o.value.quantity
        if quantity is None or quantity.comparator:
            continue
        begun = o.started.earliest if o.started is not None else previous
        previous = o.when.latest
        if begun is None or begun >= o.when.latest:
            continue
        if o.when.latest > start and begun < end:
            found.append((begun, o.when.latest, quantity.value, o))
    return found


def _end_of_record(case: Case, span: timedelta) -> datetime:
    """When the newest charted volume ends; now where none ended within the span. Charting lags behind the
    clock: the last hours are those that the chart covers."""
    ends = [
        o.when.latest
        for o in case.chart.series("urine_output")
        if o.value.quantity is not None and case.now - span <= o.when.latest <= case.now
    ]
    return max(ends, default=case.now)


def urine_output(case: Case, hours: Decimal) -> UrineOutput | None:
    """Mean urine output of the last `hours` on the chart; None where none is charted."""
    span = timedelta(hours=float(hours))
    end = _end_of_record(case, span)
    start = end - span
    volume, covered = Decimal(0), Decimal(0)
    evidence: list[Evidence] = []
    for begun, finished, ml, observation in _periods(case, start, end):
        share = (min(finished, end) - max(begun, start)) / (finished - begun)
        volume += ml * Decimal(str(share))
        covered += Decimal(str((min(finished, end) - max(begun, start)) / timedelta(hours=1)))
        evidence.append(of_observation(observation))
    if covered > 0:
        return UrineOutput(volume / covered, None, covered, tuple(evidence))
    rates = [
        o
        for o in case.chart.series("urine_output_rate").between(start, end)
        if o.value.quantity is not None and not o.value.quantity.comparator
    ]
    per_hour: list[Decimal] = []
    per_kg: list[Decimal] = []
    for o in rates:
        assert o.value.quantity is not None
        reported = o.value.quantity.reported
        if reported is not None and reported.unit == "mL/kg/h":
            per_kg.append(reported.value)
        elif o.value.quantity.unit == "mL/kg/h":
            per_kg.append(o.value.quantity.value)
        elif o.value.quantity.unit == "mL/h":
            per_hour.append(o.value.quantity.value)
    facts = tuple(of_observation(o) for o in rates)
    if per_hour:
        return UrineOutput(sum(per_hour, Decimal(0)) / len(per_hour), None, hours, facts)
    if per_kg:
        return UrineOutput(None, sum(per_kg, Decimal(0)) / len(per_kg), hours, facts)
    return _of_a_day(case)


def _of_a_day(case: Case) -> UrineOutput | None:
    """The mean of a 24-hour collection that ended in the last day: all that some charts have."""
    newest = case.chart.series("urine_output_24h").latest(case.now, timedelta(days=1))
    quantity = None if newest is None else newest.value.quantity
    if newest is None or quantity is None or quantity.comparator:
        return None
    return UrineOutput(quantity.value / 24, None, Decimal(24), (of_observation(newest),))
