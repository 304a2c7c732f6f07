"""The step-up ladder as a state machine: where the patient stands, what is due and when.

Counting is by doses given, not by the calendar; days are facility-local calendar days.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from enum import StrEnum

from cds.rules.bispecific.agents import Ladder, Limit, Step, ThirdDose
from cds.rules.bispecific.history import DoseEvent, Kind

_CYCLE = re.compile(r"C(\d+)D(\d+)")


@dataclass(frozen=True, slots=True)
class Place:
    """Position on the ladder: doses since the latest first step.

    `restarted`: that first step followed earlier doses. `broke_late`: the break before it came after the
    third step had been given.
    """

    given: int = 0
    last: date | None = None
    last_label: str = ""
    restarted: bool = False
    broke_late: bool = False
    reached: int = 0  # most doses ever given in one climb


class OffReason(StrEnum):
    """Why a history cannot be placed (row D7)."""

    FIRST_DOSE = "first-dose"
    STRENGTH = "strength"
    DOSE_MISSING = "dose-missing"
    DAY_MISSING = "day-missing"
    INCOMPLETE = "incomplete"


@dataclass(frozen=True, slots=True)
class OffLadder:
    reason: OffReason
    event: DoseEvent


@dataclass(frozen=True, slots=True)
class Due:
    """The next dose. `earliest`, `on_schedule`, `last_day` None before the first dose."""

    step: Step
    label: str
    dose: Decimal
    earliest: date | None
    on_schedule: date | None
    last_day: date | None
    limit: Limit | None


def label_after(ladder: Ladder, place: Place) -> str:
    """Name of the next dose: C1D1 ..., R-D1/R-D8 after a restart, then cycle and day counted on from the last
    step's own; a last step named otherwise keeps its name."""
    given = place.given
    if given < len(ladder.steps) - 1:
        label = ladder.step(given).label
        return label.replace("C1", "R-") if place.restarted and 0 < given < 2 else label
    last = ladder.steps[-1]
    named = _CYCLE.fullmatch(last.label)
    if named is None:
        return last.label
    cycle, position = divmod(given - (len(ladder.steps) - 1), ladder.per_cycle)
    return f"C{int(named[1]) + cycle}D{int(named[2]) + position * last.due_gap}"


def restart_label(ladder: Ladder) -> str:
    return ladder.first.label.replace("C1", "R-")


def advance(ladder: Ladder, place: Place, mg: Decimal, day: date) -> Place | None:
    """The place after `mg` on `day`; None where the dose is no rung of the ladder from here."""
    if mg == ladder.first.dose:
        again = place.given > 0 or place.restarted
        return Place(
            given=1,
            last=day,
            last_label=restart_label(ladder) if again else ladder.first.label,
            restarted=again,
            broke_late=place.reached >= 3,
            reached=max(place.reached, 1),
        )
    if place.given == 0 or mg != ladder.step(place.given).dose:
        return None
    return replace(
        place,
        given=place.given + 1,
        last=day,
        last_label=label_after(ladder, place),
        reached=max(place.reached, place.given + 1),
    )


def _rung(ladder: Ladder, mg: Decimal, tolerance: Decimal) -> Decimal | None:
    """The nominal dose that a recorded dose stands for (+-`tolerance`, a fraction)."""
    for dose in ladder.doses:
        if abs(mg - dose) <= dose * tolerance:
            return dose
    return None


def place_of(ladder: Ladder, events: Iterable[DoseEvent], tolerance: Decimal) -> Place | OffLadder:
    """Where the history stands. Doses before the latest first step matter only as "was given before";
    an incomplete infusion only when no complete dose followed it. A dose of unknown day may be the last one:
    it leaves the place open unless it must lie before the latest first step."""
    place: Place = Place()
    off: OffLadder | None = None
    undated: list[DoseEvent] = []
    climb: date | None = None
    for event in events:
        if event.kind is Kind.INCOMPLETE:
            if event.day is None or place.last is None or event.day > place.last:
                off = off or OffLadder(OffReason.INCOMPLETE, event)
            continue
        if event.day is None:
            undated.append(event)
            continue
        if event.mg is None:
            off = OffLadder(OffReason.DOSE_MISSING, event)
            continue
        rung = _rung(ladder, event.mg, tolerance)
        onward = None if rung is None else advance(ladder, place, rung, event.day)
        if onward is None:
            reason = OffReason.STRENGTH if rung is None or place.given else OffReason.FIRST_DOSE
            off = OffLadder(reason, event)
            continue
        if rung == ladder.first.dose or (off is not None and off.reason is OffReason.INCOMPLETE):
            off = None
        if rung == ladder.first.dose:
            climb = event.day
        place = onward
    for event in undated:
        latest = event.latest_day
        if climb is None or latest is None or latest >= climb:
            return OffLadder(OffReason.DAY_MISSING, event)
    return place if off is None else off


def due_after(ladder: Ladder, place: Place) -> Due:
    """The next dose while no re-step-up is due."""
    step = ladder.step(place.given)
    limit = ladder.limit(place.given)
    if place.last is None or place.given == 0:
        return Due(ladder.first, label_after(ladder, place), ladder.first.dose, None, None, None, None)
    on_schedule = place.last + timedelta(days=step.due_gap)
    if third := third_after_restart(ladder, place):
        on_schedule = place.last + timedelta(days=third.clear)
    return Due(
        step,
        label_after(ladder, place),
        step.dose,
        place.last + timedelta(days=step.min_gap),
        on_schedule,
        None if limit is None else place.last + timedelta(days=limit.max_days),
        limit,
    )


def third_after_restart(ladder: Ladder, place: Place) -> ThirdDose | None:
    """The interval of the next dose, where it is the one that two readings of the label leave open."""
    return ladder.third_dose if place.restarted and place.broke_late and place.given == 2 else None


def broken(ladder: Ladder, place: Place, day: date) -> Limit | None:
    """The restart row whose limit a dose on `day` would exceed; None while the ladder goes on."""
    limit = ladder.limit(place.given)
    if limit is None or place.last is None:
        return None
    return limit if (day - place.last).days > limit.max_days else None
