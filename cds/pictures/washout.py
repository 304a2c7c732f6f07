"""Washout: when each drug was last given, how long it must stay away, and the day that follows from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from cards.finding import Days, Finding, Message, Name, Outcome, Shown
from cds.pictures import plot
from cds.pictures.pen import Pen, Table
from cds.pictures.picture import Picture
from cds.pictures.svg import Node, circle, polygon, rect

TARGETS: Mapping[str, tuple[str, ...]] = {
    "leukapheresis": ("washout.leukapheresis", "washout.five-half-lives"),
    "lymphodepletion": ("washout.lymphodepletion",),
}
"""What the drugs must be washed out for, and the rules that say so; also the key of the day in `values`."""

_COLOURS = {
    Outcome.MET: plot.GOOD,
    Outcome.MET_MINIMUM: plot.GOOD,
    Outcome.INFO: plot.NEUTRAL,
    Outcome.WAIVED: plot.CAUTION,
    Outcome.REVIEW: plot.CAUTION,
    Outcome.UNKNOWN: plot.SOFT,
}
_LONGEST_PAST = timedelta(days=365)  # older doses begin at the edge
_ROW, _TOP, _FOOT = 40.0, 34.0, 24.0


@dataclass(frozen=True, slots=True)
class _Line:
    """One drug as the rule judged it. `last` None: running, or its end is not known."""

    name: Shown
    outcome: Outcome
    last: date | None
    ongoing: bool
    gap: int | None
    needed: int | None
    earliest: date | None
    preferred: date | None

    @property
    def colour(self) -> str:
        return _COLOURS.get(self.outcome, plot.BAD)


def _line(values: Mapping[str, Any]) -> _Line:
    drug = str(values["drug"])
    intrathecal = values.get("route") == "route_intrathecal"
    name: Shown = Message("name.intrathecal", {"drug": Name(drug)}) if intrathecal else Name(drug)
    return _Line(
        name,
        Outcome(str(values["outcome"])),
        values.get("last_dose"),
        bool(values.get("ongoing")),
        values.get("gap_days"),
        values.get("needed_days"),
        values.get("earliest"),
        values.get("earliest_preferred"),
    )


def _lines(findings: Iterable[Finding]) -> tuple[_Line, ...]:
    """Every judged drug once, in the order of the findings."""
    found: dict[tuple[str, str], _Line] = {}
    for finding in findings:
        listed = finding.values.get("lines")
        rows: Sequence[Any] = listed if isinstance(listed, list | tuple) else (finding.values,)
        for row in rows:
            if isinstance(row, Mapping) and row.get("drug") and row.get("needed_days") is not None:
                values = {"outcome": finding.outcome.value, **row}
                found.setdefault((str(row["drug"]), str(row.get("route", ""))), _line(values))
    return tuple(found.values())


def washout(target: str, findings: Sequence[Finding], pen: Pen) -> Picture | None:
    """The timeline before one target; None where no drug has an interval to keep."""
    lines = _lines(findings)
    if not lines:
        return None
    planned = next((v for f in findings if isinstance(v := f.values.get(target), date)), None)
    dates = [line.earliest for line in lines if line.earliest is not None]
    earliest = next(
        (v for f in findings if "lines" in f.values and isinstance(v := f.values.get("earliest"), date)), None
    )
    today = pen.now.date()
    known = [d for x in lines for d in (x.last, x.earliest, x.preferred) if d is not None]
    first = max(min([today, *known]), today - _LONGEST_PAST)
    last = max([today, *known, *([planned] if planned else [])])
    margin = timedelta(days=max(2, (last - first).days // 20))
    scale = plot.TimeAxis(
        plot.midnight(first - margin, pen.now), plot.midnight(last + margin, pen.now), 8, pen.width - 8
    )
    foot = _TOP + _ROW * len(lines)
    drawn = plot.axis(scale, _TOP, foot, scale.label)
    drawn += _flags(pen, scale, foot, target, planned)
    for place, row in enumerate(lines):
        drawn += _row(pen, scale, _TOP + place * _ROW, row)
    rules = tuple(dict.fromkeys(finding.rule for finding in findings))
    title = pen.say(f"washout.title.{target}")
    summary = (
        pen.say("washout.earliest", count=len(lines), day=max(dates) if earliest is None else earliest)
        if dates
        else pen.say("washout.no-date", count=len(lines))
    )
    if planned is not None:
        summary = f"{summary} {pen.say(f'washout.planned.{target}', day=planned)}"
    return pen.picture(f"washout-{target}", rules, title, summary, _table(pen, lines), foot + _FOOT, drawn)


def _flags(pen: Pen, scale: plot.TimeAxis, foot: float, target: str, planned: date | None) -> list[Node]:
    room = (4.0, pen.width - 4)
    today = scale.of_day(pen.now.date())
    drawn = plot.flag(today, _TOP, foot, pen.say("today"), room, plot.SOFT, True)
    if planned is not None:
        x, words = scale.of_day(planned), pen.say(f"target.{target}")
        top = _TOP
        if abs(x - today) < (plot.text_width(words) + plot.text_width(pen.say("today"))) / 2 + 6:
            top -= 14  # one name above the other
        drawn += plot.flag(x, top, foot, words, room, plot.INK, False)
    return drawn


def _row(pen: Pen, scale: plot.TimeAxis, top: float, row: _Line) -> list[Node]:
    """Name and verdict on one line of text, the interval below it."""
    y, verdict = top + 24, pen.show(row.outcome)
    if row.earliest is not None:
        verdict = pen.say("washout.verdict", outcome=row.outcome, day=row.earliest)
    room = pen.width - 28 - plot.text_width(verdict) * 1.08
    drawn = [
        *plot.backed(8, top + 15, plot.fitted(pen.show(row.name), room)),
        *plot.backed(pen.width - 8, top + 15, verdict, row.colour, ends=True),
    ]
    if row.ongoing or row.last is None:
        today = scale.of_day(pen.now.date())
        if row.ongoing:
            drawn.append(rect(scale.left, y, today - scale.left, 9, fill=row.colour, fill_opacity=0.85))
            drawn.append(polygon(((today, y - 3), (today + 9, y + 4.5), (today, y + 12)), fill=row.colour))
        return drawn
    begin = scale.of_day(row.last)
    if row.earliest is not None:
        end = scale.of_day(row.earliest)
        drawn.append(rect(begin, y, end - begin, 9, fill=row.colour, fill_opacity=0.35, stroke=row.colour))
        if row.preferred is not None and row.preferred > row.earliest:
            more = scale.of_day(row.preferred)
            drawn.append(
                rect(end, y + 2, more - end, 5, fill="none", stroke=row.colour, stroke_dasharray="3 2")
            )
        drawn.append(rect(end - 1.5, y - 3, 3, 15, fill=row.colour))
    drawn.append(circle(begin, y + 4.5, 5, fill=row.colour))
    return drawn


def _table(pen: Pen, lines: Sequence[_Line]) -> Table:
    header = tuple(
        pen.say(f"head.{name}") for name in ("drug", "last", "gap", "needed", "earliest", "verdict")
    )
    rows = []
    for row in lines:
        last = pen.say("ongoing") if row.ongoing else pen.show(row.last) if row.last else pen.say("unknown")
        rows.append(
            (
                pen.show(row.name),
                last,
                pen.show(Days(row.gap)) if row.gap is not None else "",
                pen.show(Days(row.needed)) if row.needed is not None else "",
                pen.show(row.earliest) if row.earliest is not None else "",
                pen.show(row.outcome),
            )
        )
    return header, rows
