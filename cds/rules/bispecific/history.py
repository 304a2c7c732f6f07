"""What was given: one dose event per local calendar day (chart-facts K9)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
    """All of one day's records of one kind, what runs with what is done; mg summed.

    `mg` None: a dose missing or unreadable. `day` None: the day is not known.
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
    """The dose of the event; a statement that still runs, was broken off or spans days tells of no single
    dose."""
    if record.source is DrugSource.STATEMENT and (record.state is not DrugState.GIVEN or _spans_days(record)):
        return None
    return None if record.dose is None else record.dose.mg


def _spans_days(record: DrugRecord) -> bool:
    first, last = record.timing.first, record.timing.last
    return first is not None and last is not None and last.date > first.date


def _day(record: DrugRecord) -> date | None:
    """The day of the dose; of a statement that spans days the last one. None where no day is known."""
    spans = record.source is DrugSource.STATEMENT and _spans_days(record)
    moment = record.timing.last if spans else record.timing.first
    return moment.date if moment is not None and moment.day_known else None


def _total(records: Iterable[DrugRecord]) -> Decimal | None:
    doses = [_mg(r) for r in records]
    return None if any(d is None for d in doses) else sum((d for d in doses if d is not None), Decimal(0))


def _adds(report: DoseEvent, administered: Mapping[date | None, Decimal | None]) -> bool:
    """Does a report tell of a dose that no administration stands for?"""
    if report.day in administered or report.start is None:
        return False
    if report.day is not None:
        latest = max((day for day in administered if day is not None), default=date.min)
        return report.mg is not None or report.day > latest
    earliest, last = report.start.first_date, report.latest_day
    return report.mg is not None and not any(
        day is not None and last is not None and earliest <= day <= last and mg == report.mg
        for day, mg in administered.items()
    )


def dose_events(chart: Chart, concept: str) -> tuple[DoseEvent, ...]:
    """Dose events in order of days, undated ones first. Orders and dispenses are never doses.

    Beside administrations a report adds nothing on a day that has one, without any date, without a dose
    unless it is the latest event, or where its dose was administered within the time that it leaves open.
    """
    grouped: dict[tuple[date | None, Kind], list[DrugRecord]] = {}
    for record in chart.drugs.of(concept):
        kind = _kind(record)
        if kind is None:
            continue
        if kind is Kind.RUNNING:
            kind = Kind.COMPLETED  # one dose of one day, whichever part of it still runs
        grouped.setdefault((_day(record), kind), []).append(record)
    administered = {
        day: _total(records) for (day, kind), records in grouped.items() if kind is not Kind.REPORTED
    }
    events = []
    for (day, kind), records in grouped.items():
        running = kind is Kind.COMPLETED and any(r.state is DrugState.RUNNING for r in records)
        event = DoseEvent(day, _total(records), Kind.RUNNING if running else kind, tuple(records))
        if kind is not Kind.REPORTED or not administered or _adds(event, administered):
            events.append(event)
    return tuple(
        sorted(events, key=lambda e: (e.day is not None, e.day or date.min, e.kind is Kind.INCOMPLETE))
    )
