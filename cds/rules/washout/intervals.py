"""Minimum intervals between a use and an anchor: reading the rows, choosing the row, counting the days.

Gaps are whole calendar days, date of the anchor minus date of the last dose; an interval of N days is met
when the gap is at least N. A range row is met from its upper figure, met-minimum from its lower one.
Months are calendar months, clipped to the end of the month.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

from cards.finding import Days, Indicator, Outcome, Shown, msg
from cds.engine.parameters import Parameters
from cds.rules.washout.uses import End, Use
from fhir_mapping.chart import Moment, add_months


@dataclass(frozen=True, slots=True)
class Interval:
    """One row: `classes` it holds for, or the `drugs` it names (which beats a class row)."""

    row: str
    low: int  # days, or months where `months`
    full: int  # upper figure of a range; equals `low` where there is none
    classes: frozenset[str]
    drugs: frozenset[str]
    months: bool = False
    waivable: bool = False  # never not-met: short gaps are waived (rituximab)
    needs_counts: bool = False  # besides the days, enough T cells in the blood
    asks: bool = False  # a short gap is a question, no verdict (transplant of unknown type)
    verified: bool = True  # False: nobody has compared the figure with its primary source

    @property
    def ranged(self) -> bool:
        return self.full != self.low

    def needed(self) -> Shown:
        """The interval in words: "84 days", "21 to 28 days", "6 months"."""
        if self.months:
            return msg("interval.months", months=self.low)
        if self.ranged:
            return msg("interval.range", low=self.low, high=self.full)
        return Days(self.low)


@dataclass(frozen=True, slots=True)
class Line:
    """The verdict on one use. Without an anchor `outcome` is INFO and only `earliest` speaks."""

    use: Use
    interval: Interval
    end: End
    outcome: Outcome
    gap: int | None = None
    needed: int | None = None  # days, lower figure
    earliest: date | None = None  # first day that meets the lower figure; unknown while ongoing
    full: date | None = None  # first day that meets the upper figure of a range
    possible: tuple[Interval, date | None] | None = None  # row and day if the unreadable dose was high


def read_intervals(numbers: Parameters, table: str = "intervals") -> tuple[Interval, ...]:
    """Rows of a rule's table; the figures stand in its parameters, so a site may change them."""
    return tuple(_interval(numbers, row) for row in numbers.table(table))


def _interval(numbers: Parameters, row: Mapping[str, Any]) -> Interval:
    low = numbers.int(row["low"])
    return Interval(
        row=row["row"],
        low=low,
        full=numbers.int(row["full"]) if "full" in row else low,
        classes=frozenset(row.get("classes") or ()),
        drugs=frozenset(row.get("drugs") or ()),
        months=bool(row.get("months", False)),
        waivable=bool(row.get("waivable", False)),
        needs_counts=bool(row.get("needs_counts", False)),
        asks=bool(row.get("asks", False)),
        verified=numbers.items[row["low"]].verified,
    )


def fitting(use: Use, intervals: Iterable[Interval]) -> tuple[tuple[Interval, End], ...]:
    """Rows for a use with the end of use that counts for each. A row naming the drug beats class rows."""
    rows = tuple(intervals)
    named = [row for row in rows if use.drug and use.drug in row.drugs and use.ends.keys() != {""}]
    if named:
        return tuple((row, use.end) for row in named)
    return tuple((row, use.ends[name]) for row in rows for name in sorted(row.classes & set(use.ends)))


def plan_day(plan: Moment, today: date) -> date:
    """The day a plan is judged by: of a month or year the first day that can still come."""
    return plan.date if plan.day_known else min(max(plan.first_date, today), plan.date)


def earliest_after(last: date, interval: Interval, figure: int) -> date:
    return add_months(last, figure) if interval.months else last + timedelta(days=figure)


def judge(use: Use, interval: Interval, end: End, anchor: date | None) -> Line:
    short = Outcome.WAIVED if interval.waivable else Outcome.UNKNOWN if interval.asks else Outcome.NOT_MET
    if end.ongoing:
        return Line(use, interval, end, short, 0 if anchor else None, _days(interval))
    if end.last is None:
        return Line(use, interval, end, Outcome.UNKNOWN, needed=_days(interval))
    last = end.last.date
    earliest = earliest_after(last, interval, interval.low)
    full = earliest_after(last, interval, interval.full)
    needed = (earliest - last).days
    if anchor is None:
        return Line(use, interval, end, Outcome.INFO, None, needed, earliest, full)
    gap = max((anchor - last).days, 0)
    if anchor >= full:
        outcome = Outcome.MET
    elif anchor >= earliest:
        outcome = Outcome.MET_MINIMUM
    else:
        outcome = short
    return Line(use, interval, end, outcome, gap, needed, earliest, full)


def _days(interval: Interval) -> int | None:
    return None if interval.months else interval.low


_WORST = (Outcome.NOT_MET, Outcome.UNKNOWN, Outcome.WAIVED, Outcome.MET_MINIMUM, Outcome.INFO)


def badness(line: Line) -> tuple[int, int, int, str]:
    """Sort key, worst first; among equals the later earliest day, then the later full day."""
    rank = _WORST.index(line.outcome) if line.outcome in _WORST else len(_WORST)
    earliest, full = ((day or date.max).toordinal() for day in (line.earliest, line.full))
    return (rank, -earliest, -full, line.interval.row)


def worst_line(use: Use, intervals: Iterable[Interval], anchor: date | None) -> Line | None:
    """The row that binds: of several rows the one with the latest free day; None where no row fits."""
    rows = tuple(intervals)
    lines = [judge(use, row, end, anchor) for row, end in fitting(use, rows)]
    if not lines:
        return None
    line = min(lines, key=badness)
    for name, end in use.possible.items():
        for row in rows:
            if name in row.classes:
                high = judge(use, row, end, anchor)
                if high.outcome not in (Outcome.MET, Outcome.MET_MINIMUM) or anchor is None:
                    line = replace(line, possible=(high.interval, high.earliest))
    return line


def order_indicator(line: Line) -> Indicator | None:
    """Indicator on order hooks: what is met is silent, what is waived is worth knowing."""
    if line.outcome in (Outcome.NOT_MET, Outcome.UNKNOWN):
        return Indicator.WARNING
    if line.outcome is Outcome.WAIVED or line.possible is not None:
        return Indicator.INFO
    return None
