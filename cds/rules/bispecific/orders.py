"""Orders against the ladder: rows D3-D16 of the inventory, one verdict per draft, in date order.

Each earlier draft, and each active order not yet due, counts as a provisional dose once corrected
(the batch rule).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from enum import StrEnum
from itertools import pairwise

from cds.rules.bispecific.agents import Ladder, Limit
from cds.rules.bispecific.history import DoseEvent
from cds.rules.bispecific.ladder import (
    Due,
    OffLadder,
    Place,
    advance,
    broken,
    due_after,
    label_after,
    place_of,
    restart_label,
    third_after_restart,
)
from fhir_mapping.chart import Dose, DrugRecord, DrugState, Flag, Moment, Timing


class Row(StrEnum):
    """Draft rows; D1 and D2 belong to the hold rule."""

    UNREADABLE = "D3"
    ROUTE = "D4"
    STRENGTH = "D5"
    FIRST_DOSE = "D6"
    UNPLACED = "D7"
    RESTEP = "D8"
    DOSE = "D9"
    EARLY = "D10"
    REPEAT = "D11"
    LATE = "D12"
    CORRECT = "D13"
    VIALS = "D14"
    DURATION = "D15"
    DUPLICATE = "D16"
    THIRD_EARLY = "R3-early"
    THIRD_OPEN = "R3-open"


CRITICAL_ROWS = frozenset(
    {Row.ROUTE, Row.STRENGTH, Row.FIRST_DOSE, Row.RESTEP, Row.DOSE, Row.EARLY, Row.REPEAT, Row.THIRD_EARLY}
)
RESTART_ROWS = frozenset({Row.RESTEP, Row.THIRD_EARLY, Row.THIRD_OPEN})


@dataclass(frozen=True, slots=True)
class Planned:
    """An order of the agent: its planned days, first one first; a day twice: two doses on it.

    `dose`: what it asks for first; `steps`: its doses differ; `again`: a further dose of an order in force.
    """

    record: DrugRecord
    draft: bool
    days: tuple[date, ...]
    dose: Dose | None
    steps: bool = False
    again: bool = False

    @property
    def day(self) -> date:
        return self.days[0]

    @property
    def mg(self) -> Decimal | None:
        return None if self.dose is None else self.dose.mg


@dataclass(frozen=True, slots=True)
class Judged:
    """The verdict on one planned order.

    `due` and `place` describe the ladder before it; `start` the day of the corrected order; `gap` calendar
    days since the last dose; `follow_up` the day of the dose after a new first step; `restep`: `limit` is
    exceeded, whatever else is wrong with the order.
    """

    planned: Planned
    row: Row
    place: Place | None
    due: Due | None
    dose: Decimal | None  # due dose
    label: str
    gap: int | None = None
    earliest: date | None = None
    start: date | None = None
    late: int = 0
    limit: Limit | None = None
    follow_up: date | None = None
    off: OffLadder | None = None
    extra: tuple[Row, ...] = ()
    verified: bool = True
    restep: bool = False

    @property
    def reference(self) -> str:
        return self.planned.record.reference


_HORIZON_DOSES = 6  # doses of an open-ended order that are checked


def _day_of(moment: Moment, today: date) -> date:
    """The planned day; of a month or a year the first day that is left."""
    return moment.date if moment.day_known else min(max(moment.first_date, today), moment.date)


def _days_of(timing: Timing, today: date) -> list[date]:
    """The days of one dosage instruction, one for each dose; without any date, today."""
    days = [_day_of(moment, today) for moment in timing.doses]
    if not days:
        days = [today if timing.first is None else _day_of(timing.first, today)]
    if timing.ongoing and timing.interval_hours is not None and len(days) < _HORIZON_DOSES:
        step = max(1, round(float(timing.interval_hours) / 24))
        days += [days[-1] + timedelta(days=step * n) for n in range(1, _HORIZON_DOSES + 1)]
    per_day = timing.per_day
    if per_day is not None and per_day > 1 and (len(days) > 1 or timing.ongoing):
        days = [days[0], *days]  # twice on one day is denser than any ladder
    return days


def planned_order(record: DrugRecord, draft: bool, today: date) -> Planned:
    """The doses an order asks for, whichever of its dosage instructions they stand in."""
    parts: list[tuple[Timing, Dose | None]] = [
        (part.timing, part.dose) for part in record.instructions if part.dose is not None
    ]
    if not parts:
        parts = [(record.timing, record.dose)]
    doses = [(day, dose) for timing, dose in parts for day in _days_of(timing, today)]
    doses.sort(key=lambda pair: pair[0])
    first = doses[0][1]
    differ = any((None if d is None else d.mg) != (None if first is None else first.mg) for _, d in doses)
    return Planned(record, draft, tuple(day for day, _ in doses), first, differ)


def _pending(
    records: Iterable[DrugRecord], events: Sequence[DoseEvent], today: date, drafted: frozenset[str]
) -> list[Planned]:
    """Active orders not yet due and not yet given, dose by dose."""
    carried_out = {r.request for e in events for r in e.records if r.request}
    given_days = {e.day for e in events}
    pending = []
    for record in records:
        if record.state is not DrugState.ACTIVE or record.reference in drafted:
            continue
        if record.timing.first is None or not record.timing.stated:
            continue
        planned = planned_order(record, False, today)
        if record.reference in carried_out and len(planned.days) == 1:
            continue
        days = [d for d in planned.days if d >= today and d not in given_days]
        pending += [replace(planned, days=(day,), again=n > 0) for n, day in enumerate(days)]
    return pending


def judge_orders(
    ladder: Ladder,
    events: Sequence[DoseEvent],
    drafts: Iterable[DrugRecord],
    orders: Iterable[DrugRecord],
    *,
    today: date,
    tolerance: Decimal,
    early_days: int,
) -> tuple[Judged, ...]:
    """Verdicts on every draft, in date order."""
    wanted = [planned_order(record, True, today) for record in drafts]
    drafted = frozenset(p.record.reference for p in wanted)
    active = _pending(orders, events, today, drafted)
    draft_days = {p.day for p in wanted}
    duplicates = {p.day for p in active if p.day in draft_days}
    provisional = [p for p in active if p.day not in draft_days]
    # same day: the lower step first, so that a set of orders is read as the ladder it is meant to be
    queue = sorted([*wanted, *provisional], key=lambda p: (p.day, p.mg or Decimal(0), p.record.reference))
    position = place_of(ladder, events, tolerance)
    verdicts = []
    accepted: list[Judged] = []
    for planned in queue:
        if isinstance(position, OffLadder):
            if planned.draft:
                verdicts.append(_off(ladder, planned, position))
            continue
        judged = _judge(ladder, position, planned, today, early_days)
        twin = next(
            (v for v in accepted if v.planned.day == planned.day and v.planned.mg == planned.mg), None
        )
        if twin is not None and judged.row in CRITICAL_ROWS:
            judged = replace(twin, planned=planned, extra=(Row.DUPLICATE,))  # as wrong as the first
        elif not planned.again or judged.row in (Row.CORRECT, Row.LATE):
            accepted.append(judged)
            position = _provisionally(ladder, position, judged)
        if planned.draft:
            verdicts.append(_with_extras(ladder, judged, planned.day in duplicates))
    return tuple(verdicts)


def _off(ladder: Ladder, planned: Planned, off: OffLadder) -> Judged:
    """No dose is due on a history that cannot be placed; what is wrong with any history still is."""
    row = Row.UNPLACED
    if planned.mg is None:
        row = Row.UNREADABLE
    elif planned.record.route not in (None, ladder.route):
        row = Row.ROUTE
    elif planned.mg not in ladder.doses:
        row = Row.STRENGTH
    return Judged(planned, row, None, None, None, "", off=off)


def _provisionally(ladder: Ladder, place: Place, judged: Judged) -> Place:
    """The place after the (corrected) order is given; unreadable orders move nothing."""
    if judged.row is Row.UNREADABLE or judged.dose is None:
        return place
    day = judged.start or judged.planned.day
    onward = advance(ladder, place, judged.dose, day)
    if onward is None:
        return place
    for later in judged.planned.days[1:] if judged.row in (Row.CORRECT, Row.LATE) else ():
        mg = judged.planned.mg
        step = None if mg is None else advance(ladder, onward, mg, later)
        onward = onward if step is None else step
    return onward


def _judge(ladder: Ladder, place: Place, planned: Planned, today: date, early_days: int) -> Judged:
    due = due_after(ladder, place)
    day = planned.day
    given_on = max(day, today)  # whatever the order says, nothing is given before today
    limit = broken(ladder, place, given_on)
    gap = None if place.last is None else ((given_on if limit else day) - place.last).days
    dose = ladder.first.dose if limit else due.dose
    label = restart_label(ladder) if limit else due.label
    earliest = None if limit else due.earliest
    base = Judged(
        planned,
        Row.CORRECT,
        place,
        due,
        dose,
        label,
        gap,
        earliest,
        limit=limit or due.limit,
        verified=due.limit is None or due.limit.verified,
        restep=limit is not None,
    )
    correction = max(day, today, earliest or day)
    follow_up = _follow_up(ladder, dose, correction)
    mg, route = planned.mg, planned.record.route
    if mg is None:
        return replace(base, row=Row.UNREADABLE)
    if route is not None and route is not ladder.route:
        return replace(base, row=Row.ROUTE, start=correction, follow_up=follow_up)
    if mg not in ladder.doses:
        return replace(base, row=Row.STRENGTH, start=correction, follow_up=follow_up)
    if place.given == 0 and mg != dose:
        return replace(base, row=Row.FIRST_DOSE, start=correction, follow_up=follow_up)
    if limit is not None and mg != dose:
        return replace(base, row=Row.RESTEP, start=correction, follow_up=follow_up)
    if mg != dose:
        return replace(base, row=Row.DOSE, start=correction)
    third = third_after_restart(ladder, place) if limit is None else None
    if third and gap is not None and gap < third.floor - early_days:
        clear = (place.last or day) + timedelta(days=third.clear)
        return replace(base, row=Row.THIRD_EARLY, start=max(today, clear), verified=False)
    if earliest is not None and day < earliest - timedelta(days=early_days):
        return replace(base, row=Row.EARLY, start=max(today, earliest))
    if not _repeats_fit(ladder, place, planned, early_days):
        return replace(base, row=Row.REPEAT, start=max(day, today))
    if planned.dose is not None and Flag.RANGE_HIGH_END in planned.dose.flags:
        return replace(base, row=Row.UNREADABLE)  # its high end would be right, its low end is no step
    if third and gap is not None and gap < third.clear:
        return replace(base, row=Row.THIRD_OPEN, verified=False)
    if due.on_schedule is not None and limit is None and given_on > due.on_schedule:
        return replace(base, row=Row.LATE, late=(given_on - due.on_schedule).days)
    return base


def _follow_up(ladder: Ladder, dose: Decimal, start: date) -> date | None:
    if dose != ladder.first.dose:
        return None
    return start + timedelta(days=ladder.steps[1].due_gap)


def _repeats_fit(ladder: Ladder, place: Place, planned: Planned, early_days: int) -> bool:
    """Would every further dose of a standing order be due on its day?"""
    mg = planned.mg
    if mg is None or len(planned.days) < 2:
        return True
    if planned.steps:
        return False
    onward = advance(ladder, place, mg, planned.day)
    for day in planned.days[1:]:
        if onward is None:
            return False
        due = due_after(ladder, onward)
        if broken(ladder, onward, day) or mg != due.dose:
            return False
        if due.earliest is not None and day < due.earliest - timedelta(days=early_days):
            return False
        onward = advance(ladder, onward, mg, day)
    return True


def _with_extras(ladder: Ladder, judged: Judged, duplicate: bool) -> Judged:
    extra = list(judged.extra)
    record = judged.planned.record
    strength = _written_strength(record)
    if strength is not None and judged.planned.mg is not None and strength != judged.planned.mg:
        extra.append(Row.VIALS)
    minutes = record.timing.infusion_minutes
    if minutes is not None and minutes != ladder.infusion_minutes:
        extra.append(Row.DURATION)
    if duplicate and Row.DUPLICATE not in extra:
        extra.append(Row.DUPLICATE)
    return replace(judged, extra=tuple(extra))


def _written_strength(record: DrugRecord) -> Decimal | None:
    """Strength in mg that the product's written name states ("Imdelltra 1 mg")."""
    words = record.name.casefold().replace("mg", " mg ").split()
    for number, unit in pairwise(words):
        if unit == "mg" and number.replace(".", "", 1).isdigit():
            return Decimal(number)
    return None


def inexact(planned: Planned) -> bool:
    """The order names a month or a year only."""
    return Flag.PARTIAL_DATE in planned.record.timing.flags


def undated(planned: Planned) -> bool:
    """The planned day is only the day of writing."""
    return Flag.AUTHORED_DATE in planned.record.timing.flags or not planned.record.timing.stated


__all__ = [
    "CRITICAL_ROWS",
    "RESTART_ROWS",
    "Judged",
    "Planned",
    "Row",
    "inexact",
    "judge_orders",
    "label_after",
    "planned_order",
    "undated",
]
