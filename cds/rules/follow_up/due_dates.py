"""Points of a follow-up schedule counted in months from the infusion, and which of them an event serves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta

from fhir_mapping.chart import add_months

_BEFORE_FIRST = timedelta(days=7)  # nothing long before the first window serves the first point


@dataclass(frozen=True, slots=True)
class Point:
    """One due date. `opens`, `closes`: first and last day of its window; `interval`: months to the next."""

    month: int
    day: date
    opens: date
    closes: date
    interval: int


def point(start: date, month: int, tolerance: int, interval: int) -> Point:
    day = add_months(start, month)
    margin = timedelta(days=tolerance)
    return Point(month, day, day - margin, day + margin, interval)


def halfway(this: Point) -> date:
    """Middle of the way to the next point: half the months, the odd month as 15 days."""
    months, odd = divmod(this.interval, 2)
    return add_months(this.day, months) + timedelta(days=15 if odd else 0)


def served_by(points: tuple[Point, ...], day: date) -> Point | None:
    """The nearest point, where it is within half the interval on that side; else None. The first point is not
    served by what was done more than a week before its window."""
    if not points:
        return None
    nearest = min(points, key=lambda p: abs((p.day - day).days))
    place = points.index(nearest)
    if day >= nearest.day:
        return nearest if day <= halfway(nearest) else None
    if place:
        return nearest
    earliest = max(nearest.day - timedelta(days=nearest.interval * 15), nearest.opens - _BEFORE_FIRST)
    return nearest if day >= earliest else None


def served(points: tuple[Point, ...], days: Iterable[date]) -> dict[int, date]:
    """Month of each served point -> newest day that serves it."""
    result: dict[int, date] = {}
    for day in sorted(days):
        found = served_by(points, day)
        if found is not None:
            result[found.month] = day
    return result
