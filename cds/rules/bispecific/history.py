"""What was given: one dose event per local calendar day (chart-facts K9)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum

from fhir_mapping.chart import Chart, DrugRecord, DrugSource, DrugState, Moment


class Kind(StrEnum):
    COMPLETED = "completed"
    REPORTED = "reported"  # statement with date and dose
    RUNNING = "running"  # infusion in progress: a provisional dose
    INCOMPLETE = "incomplete"  # stopped: exposure yes, a rung no


@dataclass(frozen=True, slots=True)
class DoseEvent:
    """All of one day's records of one kind; mg summed. `mg` None: a dose missing or unreadable.

    `day` None: the day is not known.
    """

    day: date | None
    mg: Decimal | None
    kind: Kind
    records: tuple[DrugRecord, ...]

    @property
    def start(self) -> Moment | None:
        starts = [r.timing.first for r in self.records if r.timing.first is not None]
        return min(starts, key=lambda m: m.earliest) if starts else None

    @property
    def latest_day(self) -> date | None:
        """The last day on which the dose may have been given; None where nothing bounds it."""
        starts = [r.timing.first for r in self.records]
        return None if None in starts else max(m.latest.date() for m in starts if m is not None)

    @property
    def end(self) -> Moment | None:
        """End of the infusion; None while it runs or where no end was written."""
        if self.kind is Kind.RUNNING:
            return None
        ends = [
            r.timing.last
            for r in self.records
            if r.timing.last is not None and r.timing.last != r.timing.first
        ]
        return max(ends, key=lambda m: m.latest) if ends else None


def _kind(record: DrugRecord) -> Kind | None:
    if record.source is DrugSource.ADMINISTRATION:
        match record.state:
            case DrugState.GIVEN:
                return Kind.COMPLETED
            case DrugState.RUNNING:
                return Kind.RUNNING
            case DrugState.PARTIAL | DrugState.ON_HOLD:
                return Kind.INCOMPLETE
    if record.source is DrugSource.STATEMENT and record.given:
        return Kind.REPORTED
    return None


def _mg(record: DrugRecord) -> Decimal | None:
    """The dose of the event; a statement that still runs or was broken off tells of no single dose."""
    if record.source is DrugSource.STATEMENT and record.state is not DrugState.GIVEN:
        return None
    return None if record.dose is None else record.dose.mg


def dose_events(chart: Chart, concept: str) -> tuple[DoseEvent, ...]:
    """Dose events in order of days, undated ones first. Orders and dispenses are never doses.

    A report of a day with an administration of its own adds nothing; neither does a report without day or
    dose beside any administration.
    """
    grouped: dict[tuple[date | None, Kind], list[DrugRecord]] = {}
    for record in chart.drugs.of(concept):
        kind = _kind(record)
        if kind is None:
            continue
        first = record.timing.first
        day = first.date if first is not None and first.day_known else None
        grouped.setdefault((day, kind), []).append(record)
    administered = {day for day, kind in grouped if kind is not Kind.REPORTED}
    events = []
    for (day, kind), records in grouped.items():
        doses = [_mg(r) for r in records]
        mg = None if any(d is None for d in doses) else sum((d for d in doses if d is not None), Decimal(0))
        if kind is Kind.REPORTED and administered and (day in administered or day is None or mg is None):
            continue
        events.append(DoseEvent(day, mg, kind, tuple(records)))
    return tuple(
        sorted(events, key=lambda e: (e.day is not None, e.day or date.min, e.kind is Kind.INCOMPLETE))
    )
