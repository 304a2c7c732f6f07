"""The neutrophil curve after the infusion, with the neutropenic runs that ICAHT counts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

from cards.finding import Days, Finding
from cds.engine.case import Case
from cds.pictures import plot
from cds.pictures.pen import Pen, Table
from cds.pictures.picture import Picture
from cds.pictures.svg import Node, circle, line, polyline, rect, text
from cds.rules.grading.icaht_episode import Count, IcahtState, Run, icaht_now
from fhir_mapping.chart import Amount

RULE = "grading.icaht"
_LOW, _HIGH = 10.0, 20000.0  # cells/uL; values beyond are drawn at the edge
_TOP, _HEIGHT = 48.0, 170.0
_TICKS = (10, 100, 500, 1000, 10000)
_HALF = timedelta(hours=12)  # a day reaches from noon to noon around its mark
_SHOWN = 60  # days; of a longer course the last ones


def neutrophils(case: Case, findings: Sequence[Finding], pen: Pen) -> Picture | None:
    """None where the rule has no card of its own, or without a single count."""
    finding = next((f for f in findings if f.rule == RULE and f.indicator is not None), None)
    state, day0 = icaht_now(case), case.chart.course.day0
    if finding is None or state is None or day0 is None or not state.counts:
        return None
    first = max(0, state.day - _SHOWN)
    begin = plot.midnight(day0 + timedelta(days=first), pen.now) - _HALF
    end = plot.midnight(day0 + timedelta(days=max(state.day, first + 7)), pen.now) + _HALF
    scale = plot.TimeAxis(begin, end, 46, pen.width - 10)
    bottom = _TOP + _HEIGHT

    def label(day: date) -> str:
        return pen.say("axis.day", day=(day - day0).days)

    drawn = plot.axis(scale, _TOP, bottom, label)
    drawn += _limits(case, scale, bottom)
    if state.early is not None:
        p = case.p(RULE)
        runs = ((state.early.run, p.int("early_limit"), 0), (state.early.deep, p.int("early_deep_limit"), 1))
        for run, limit, place in runs:
            if run is not None:
                drawn += _run(pen, scale, day0, run, limit, place)
    drawn += _curve(scale, day0, tuple(c for c in state.counts if c.day >= first), bottom)
    return pen.picture(
        "neutrophils",
        (RULE,),
        pen.say("anc.title"),
        _said(pen, state, finding),
        _table(pen, state, day0),
        bottom + 24,
        drawn,
    )


def _y(cells: float, bottom: float) -> float:
    return plot.log_y(max(cells, _LOW), _LOW, _HIGH, _TOP, bottom)


def _limits(case: Case, scale: plot.TimeAxis, bottom: float) -> list[Node]:
    p = case.p(RULE)
    limits = {p.int("early_limit"), p.int("early_deep_limit")}
    drawn = [text(8, 14, "ANC /µL", fill=plot.SOFT, font_size=11)]
    for value in sorted({*_TICKS, *limits}):
        y = _y(value, bottom)
        colour = plot.BAD if value in limits else plot.SOFT
        dash = {"stroke": plot.BAD, "stroke_dasharray": "5 3"} if value in limits else {"stroke": plot.RULE}
        drawn.append(line(scale.left, y, scale.right, y, **dash))
        drawn.append(text(40, y + 4, str(value), text_anchor="end", fill=colour, font_size=11))
    return drawn


def _run(pen: Pen, scale: plot.TimeAxis, day0: date, run: Run, limit: int, place: int) -> list[Node]:
    """A bracket over the run with its length; the deep run below the other."""
    x1 = scale.x(plot.midnight(day0 + timedelta(days=run.first), pen.now) - _HALF)
    x2 = scale.x(plot.midnight(day0 + timedelta(days=run.last), pen.now) + _HALF)
    colour = (plot.CAUTION, plot.BAD)[place]
    words = pen.say("anc.run", limit=limit, days=Days(run.days))
    width, y = plot.text_width(words, 11.5), _TOP - 29 + place * 21
    left = min(max((x1 + x2 - width) / 2, scale.left), scale.right - width)
    return [
        rect(x1, _TOP, x2 - x1, _HEIGHT, fill=colour, fill_opacity=0.09),
        rect(x1, y + 4, x2 - x1, 3, fill=colour),
        text(left, y, words, fill=colour, font_size=11.5, font_weight=600),
    ]


def _curve(scale: plot.TimeAxis, day0: date, counts: Sequence[Count], bottom: float) -> list[Node]:
    """Measured days joined by a line; a bound ("<100") is an open mark."""
    points = tuple((scale.of_day(day0 + timedelta(days=c.day)), _y(float(c.cells), bottom)) for c in counts)
    drawn: list[Node] = [polyline(points, stroke=plot.INK, stroke_width=1.6)]
    for (x, y), count in zip(points, counts, strict=True):
        fill = "#fff" if count.comparator else plot.INK
        drawn.append(circle(x, y, 3.4, fill=fill, stroke=plot.INK))
    return drawn


def _said(pen: Pen, state: IcahtState, finding: Finding) -> str:
    lowest = min(state.counts, key=lambda c: c.cells)
    parts = [pen.say("anc.lowest", cells=lowest.cells, day=lowest.day)]
    if state.early is not None and state.early.run is not None:
        run = state.early.run
        parts.append(pen.say("anc.longest", days=Days(run.days), first=run.first, last=run.last))
    if finding.grade is not None:
        parts.insert(0, pen.say("anc.grade", grade=finding.grade))
    return " ".join(parts)


def _table(pen: Pen, state: IcahtState, day0: date) -> Table:
    header = tuple(pen.say(f"head.{name}") for name in ("day", "date", "anc"))
    rows = [
        (
            str(count.day),
            pen.show(day0 + timedelta(days=count.day)),
            count.comparator + pen.show(Amount(count.cells, "/uL")),
        )
        for count in state.counts
    ]
    return header, rows
