"""The follow-up calendar: visits and response assessments with their windows, bookings, other dates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from cards.finding import Finding, Message
from cards.writer import RULE_TITLE
from cds.engine.case import Case
from cds.pictures import plot
from cds.pictures.pen import Pen, Table
from cds.pictures.picture import Picture
from cds.pictures.svg import Node, circle, line, polygon, rect, text
from cds.rules.follow_up import disease_status, schedule
from cds.rules.follow_up.due_dates import Point, served
from fhir_mapping.chart import EventState

VISITS, RESPONSE = schedule.RULE, disease_status.RULE
_TOP, _LANE = 34.0, 52.0
_PIXELS_A_MONTH = 42.0


@dataclass(frozen=True, slots=True)
class Mark:
    """One date. `state` is done, missed, due, next, later, booked or other."""

    day: date
    label: str
    state: str
    first: date | None = None
    last: date | None = None


def calendar(case: Case, findings: Sequence[Finding], pen: Pen) -> Picture | None:
    """Only where the rules of the schedule spoke; the months around today."""
    rules = tuple(dict.fromkeys(f.rule for f in findings if f.rule in (VISITS, RESPONSE)))
    start = case.chart.course.day0
    if start is None or not rules:
        return None
    lanes: dict[str, tuple[Mark, ...]] = {}
    if VISITS in rules:
        days = served(schedule.points(case, start), (d for d, _ in schedule.contacts(case, start)))
        lanes["visits"] = tuple(_points(schedule.points(case, start), days, case.today, pen))
    if RESPONSE in rules:
        every = disease_status.points(case, start)
        days = served(every, (d for d, _ in disease_status.assessments(case, start)))
        lanes["response"] = tuple(_points(every, days, case.today, pen))
    lanes["booked"] = tuple(_booked(case, pen))
    lanes["other"] = tuple(_other(findings, rules, pen))
    begin, end = _window(case, pen)
    said = _said(pen, lanes)
    lanes = {
        name: kept
        for name, marks in lanes.items()
        if (kept := tuple(m for m in marks if begin <= m.day <= end)) or name in ("visits", "response")
    }
    drawn, height = _drawn(pen, lanes, begin, end)
    title = pen.say("calendar.title")
    return pen.picture("follow-up", rules, title, said, _table(pen, lanes), height, drawn)


def _window(case: Case, pen: Pen) -> tuple[date, date]:
    """As many months as the width shows well, one third of them behind today."""
    months = min(max(round(pen.width / _PIXELS_A_MONTH), 9), 24)
    behind = timedelta(days=round(months * 30.4 / 3))
    return case.today - behind, case.today - behind + timedelta(days=round(months * 30.4))


# --- reading


def _points(points: Iterable[Point], days: Mapping[int, date], today: date, pen: Pen) -> Iterable[Mark]:
    """Every due date: done on the day that served it, missed, due now, next, later."""
    ahead = False
    latest = max(days, default=0)
    for point in points:
        label = pen.say("calendar.month", month=point.month)
        window = (point.opens, point.closes)
        if point.month in days:
            yield Mark(days[point.month], label, "done")
        elif point.closes < today:
            yield Mark(point.day, label, "missed" if point.month > latest else "later", *window)
        elif point.opens <= today:
            yield Mark(point.day, label, "due", *window)
        else:
            yield Mark(point.day, label, "later" if ahead else "next", *window)
            ahead = True


def _booked(case: Case, pen: Pen) -> Iterable[Mark]:
    for appointment in case.chart.appointments:
        if appointment.state is EventState.BOOKED and appointment.start is not None:
            yield Mark(appointment.start.date, pen.say("calendar.booked"), "booked")


def _other(findings: Sequence[Finding], rules: tuple[str, ...], pen: Pen) -> Iterable[Mark]:
    """The earliest dates that the other cards argue for."""
    for finding in findings:
        if finding.until is not None and finding.indicator is not None and finding.rule not in rules:
            yield Mark(finding.until, pen.show(Message(RULE_TITLE, {}, finding.rule)), "other")


# --- drawing


def _drawn(pen: Pen, lanes: Mapping[str, Sequence[Mark]], begin: date, end: date) -> tuple[list[Node], float]:
    bottom = _TOP + _LANE * len(lanes)
    scale = plot.TimeAxis(plot.midnight(begin, pen.now), plot.midnight(end, pen.now), 8, pen.width - 8)
    drawn = plot.axis(scale, _TOP, bottom, lambda day: f"{day:%Y-%m}")
    drawn += plot.flag(
        scale.of_day(pen.now.date()), _TOP, bottom, pen.say("today"), (4.0, pen.width - 4), plot.SOFT, True
    )
    for place, (name, marks) in enumerate(lanes.items()):
        top = _TOP + place * _LANE
        words = pen.say(f"calendar.{name}")
        drawn += plot.backed(8, top + 14, words)
        free = 0.0
        for mark in sorted(marks, key=lambda m: m.day):
            drawn += _mark(scale, top + 27, mark)
            width = plot.text_width(mark.label, 11)
            at = min(max(scale.of_day(mark.day) - width / 2, 4.0), pen.width - width - 4)
            if at >= free:
                drawn.append(text(at, top + 46, mark.label, fill=plot.SOFT, font_size=11))
                free = at + width + 5
    return drawn, bottom + 24


def _mark(scale: plot.TimeAxis, y: float, mark: Mark) -> list[Node]:
    x, drawn = scale.of_day(mark.day), list[Node]()
    if mark.first is not None and mark.last is not None and mark.state in ("due", "next", "missed"):
        colour = plot.BAD if mark.state == "missed" else plot.NEUTRAL
        x1, x2 = scale.of_day(mark.first), scale.of_day(mark.last)
        drawn.append(rect(x1, y - 5, max(x2 - x1, 2), 10, fill=colour, fill_opacity=0.18))
    diamond = ((x, y - 7), (x + 7, y), (x, y + 7), (x - 7, y))
    match mark.state:
        case "done":
            drawn.append(circle(x, y, 5.5, fill=plot.GOOD))
        case "missed":
            drawn.append(line(x - 5, y - 5, x + 5, y + 5, stroke=plot.BAD, stroke_width=2.4))
            drawn.append(line(x - 5, y + 5, x + 5, y - 5, stroke=plot.BAD, stroke_width=2.4))
        case "due":
            drawn.append(polygon(diamond, fill=plot.NEUTRAL))
        case "next":
            drawn.append(polygon(diamond, fill="#fff", stroke=plot.NEUTRAL, stroke_width=2))
        case "booked":
            drawn.append(rect(x - 5, y - 5, 10, 10, fill=plot.INK))
        case "other":
            drawn.append(polygon(((x - 6, y - 5), (x + 6, y - 5), (x, y + 6)), fill=plot.CAUTION))
        case _:
            drawn.append(circle(x, y, 4, fill="#fff", stroke=plot.SOFT, stroke_width=1.5))
    return drawn


# --- words


def _said(pen: Pen, lanes: Mapping[str, Sequence[Mark]]) -> str:
    parts = []
    for name in ("visits", "response"):
        marks = lanes.get(name, ())
        for state in ("missed", "due", "next"):
            found = [m for m in marks if m.state == state]
            if found:
                lane = pen.say(f"calendar.{name}")
                day = found[-1 if state == "missed" else 0].day
                parts.append(pen.say(f"calendar.said.{state}", lane=lane, day=day))
    return " ".join(parts) or pen.say("calendar.said.none")


def _table(pen: Pen, lanes: Mapping[str, Sequence[Mark]]) -> Table:
    header = tuple(pen.say(f"head.{name}") for name in ("date", "what", "value", "state"))
    rows = [
        (mark.day, pen.say(f"calendar.{name}"), mark.label, pen.say(f"calendar.state.{mark.state}"))
        for name, marks in lanes.items()
        for mark in marks
    ]
    rows.sort(key=lambda row: row[0])
    return header, [(pen.show(day), *words) for day, *words in rows]
