"""The tarlatamab ladder: doses given, the dose that is due with its window, the orders under judgement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

from cards.finding import Shown
from cds.engine.case import Case
from cds.pictures import plot
from cds.pictures.pen import Pen, Table
from cds.pictures.picture import Picture
from cds.pictures.svg import Node, circle, line, polygon, rect, text
from cds.rules.bispecific.history import Kind
from cds.rules.bispecific.ladder import OffLadder, broken, place_of, restart_label
from cds.rules.bispecific.orders import CRITICAL_ROWS
from cds.rules.bispecific.tarlatamab import (
    STEP_UP,
    next_due,
    place,
    tarlatamab_events,
    tarlatamab_ladder,
    under_judgement,
)
from cds.rules.dosing.tarlatamab_step_up import stopped_or_held
from fhir_mapping.chart import Amount

RULES = ("dosing.tarlatamab-step-up", "dosing.tarlatamab-restart", "dosing.tarlatamab-hold")
_TOP, _LANE, _SHOWN = 44.0, 56.0, 8  # doses shown; earlier ones are in the table


@dataclass(frozen=True, slots=True)
class Rung:
    """A dose on its day. `state` is given, incomplete, due, follow-up, order or order-at-fault."""

    day: date
    mg: Decimal
    label: str
    state: str
    first: date | None = None  # window of a due dose
    last: date | None = None


def ladder(case: Case, pen: Pen) -> Picture | None:
    """None before the first dose and without a dated order."""
    rungs = (*_given(case), *_due(case), *_ordered(case))
    if not rungs:
        return None
    shown = sorted(rungs, key=lambda r: r.day)
    given = [r for r in shown if r.state in ("given", "incomplete")][-_SHOWN:]
    since = given[0].day if given else min(r.day for r in shown)
    drawn, height = _drawn(pen, [rung for rung in shown if rung.day >= since])
    title = pen.say("ladder.title")
    return pen.picture("ladder", RULES, title, _said(case, pen, shown), _table(pen, shown), height, drawn)


# --- reading


def _given(case: Case) -> tuple[Rung, ...]:
    """Dose events, each with the name that the ladder gives it at that time."""
    events, tolerance = tarlatamab_events(case), case.p(STEP_UP)["admin_dose_tolerance"]
    found = []
    for number, event in enumerate(events, 1):
        if event.day is None or event.mg is None:
            continue
        where = place_of(tarlatamab_ladder(), events[:number], tolerance)
        whole = event.kind is not Kind.INCOMPLETE
        label = "" if isinstance(where, OffLadder) or not whole else where.last_label
        found.append(Rung(event.day, event.mg, label, "given" if whole else "incomplete"))
    return tuple(found)


def _due(case: Case) -> tuple[Rung, ...]:
    """What the ladder asks for next; nothing while treatment is held or stopped, or the place is unknown."""
    where, steps = place(case), tarlatamab_ladder()
    if isinstance(where, OffLadder) or where.last is None or stopped_or_held(case):
        return ()
    if broken(steps, where, case.today) is not None:
        second = steps.steps[1]
        follow_up = case.today + timedelta(days=second.due_gap)
        return (
            Rung(case.today, steps.first.dose, restart_label(steps), "due"),
            Rung(follow_up, second.dose, second.label.replace("C1", "R-"), "follow-up"),
        )
    due = next_due(case)
    if due is None or due.on_schedule is None:
        return ()
    return (Rung(due.on_schedule, due.dose, due.label, "due", due.earliest, due.last_day),)


def _ordered(case: Case) -> tuple[Rung, ...]:
    found = []
    for judged in under_judgement(case):
        record = judged.planned.record
        mg = None if record.dose is None else record.dose.mg
        if mg is not None:
            fault = bool({judged.row, *judged.extra} & CRITICAL_ROWS)
            found.append(Rung(judged.planned.days[0], mg, "", "order-at-fault" if fault else "order"))
    return tuple(found)


# --- drawing


def _drawn(pen: Pen, rungs: Sequence[Rung]) -> tuple[list[Node], float]:
    doses = sorted({*tarlatamab_ladder().doses, *(rung.mg for rung in rungs)}, reverse=True)
    bottom = _TOP + _LANE * len(doses)
    days = [d for r in rungs for d in (r.day, r.first, r.last) if d is not None] + [pen.now.date()]
    first, last = min(days), max(days)
    margin = timedelta(days=max(2, (last - first).days // 12))
    scale = plot.TimeAxis(
        plot.midnight(first - margin, pen.now), plot.midnight(last + margin, pen.now), 52, pen.width - 10
    )
    drawn = plot.axis(scale, _TOP, bottom, scale.label)
    heights = {mg: _TOP + _LANE * (n + 0.55) for n, mg in enumerate(doses)}
    for mg, y in heights.items():
        drawn.append(line(scale.left, y, scale.right, y, stroke=plot.RULE))
        words = pen.show(Amount(mg, "mg"))
        drawn.append(text(46, y + 4, words, text_anchor="end", font_weight=600))
    drawn += plot.flag(
        scale.of_day(pen.now.date()),
        _TOP - 6,
        bottom,
        pen.say("today"),
        (4.0, pen.width - 4),
        plot.SOFT,
        True,
    )
    free: dict[float, float] = {}
    for rung in sorted(rungs, key=lambda r: r.day):
        drawn += _rung(pen, scale, heights[rung.mg], rung, free)
    return drawn, bottom + 24


def _rung(pen: Pen, scale: plot.TimeAxis, y: float, rung: Rung, free: dict[float, float]) -> list[Node]:
    """The mark of one dose; its name above it where the name before leaves room."""
    x, drawn = scale.of_day(rung.day), list[Node]()
    colour = {
        "given": plot.GOOD,
        "incomplete": plot.CAUTION,
        "due": plot.NEUTRAL,
        "follow-up": plot.NEUTRAL,
        "order": plot.INK,
        "order-at-fault": plot.BAD,
    }[rung.state]
    if rung.first is not None and rung.last is not None:
        x1, x2 = scale.of_day(rung.first), scale.of_day(rung.last)
        drawn.append(rect(x1, y - 7, x2 - x1, 14, fill=plot.NEUTRAL, fill_opacity=0.16, stroke=plot.NEUTRAL))
    match rung.state:
        case "given":
            drawn.append(circle(x, y, 7, fill=colour))
        case "incomplete":
            drawn.append(circle(x, y, 6, fill="#fff", stroke=colour, stroke_width=2))
        case "due" | "follow-up":
            fill = colour if rung.state == "due" else "#fff"
            points = ((x, y - 9), (x + 9, y), (x, y + 9), (x - 9, y))
            drawn.append(polygon(points, fill=fill, stroke=colour, stroke_width=1.5))
        case _:
            drawn.append(rect(x - 7, y - 7, 14, 14, fill="none", stroke=colour, stroke_width=2))
    ordered = rung.state.startswith("order")
    words = pen.say(f"ladder.{rung.state}") if ordered else rung.label
    height = y + 22 if ordered else y - 13
    width = plot.text_width(words, 11)
    begin = min(max(x - width / 2, scale.left - 44), scale.right - width + 8)
    if words and begin >= free.get(height, 0.0):
        drawn.append(text(begin, height, words, fill=colour, font_size=11, font_weight=600))
        free[height] = begin + width + 5
    return drawn


# --- words


def _said(case: Case, pen: Pen, rungs: Sequence[Rung]) -> str:
    given = [rung for rung in rungs if rung.state == "given"]
    parts = [pen.say("ladder.count", count=len(given))]
    if given:
        last = given[-1]
        parts.append(pen.say("ladder.last", dose=Amount(last.mg, "mg"), label=last.label, day=last.day))
    due = next((rung for rung in rungs if rung.state == "due"), None)
    if due is None:
        first = next_due(case)
        if stopped_or_held(case):
            parts.append(pen.say("ladder.held"))
        elif first is not None and not given:
            parts.append(pen.say("ladder.due-first", dose=Amount(first.dose, "mg"), label=first.label))
        return " ".join(parts)
    shown: dict[str, Shown] = {"dose": Amount(due.mg, "mg"), "label": due.label, "day": due.day}
    if due.first is not None and due.last is not None:
        parts.append(pen.say("ladder.due-window", **shown, first=due.first, last=due.last))
    else:
        parts.append(pen.say("ladder.due-restart", **shown))
    return " ".join(parts)


def _table(pen: Pen, rungs: Sequence[Rung]) -> Table:
    header = tuple(pen.say(f"head.{name}") for name in ("date", "dose", "step", "state", "window"))
    rows = []
    for rung in rungs:
        window = (
            pen.say("ladder.window", first=rung.first, last=rung.last) if rung.first and rung.last else ""
        )
        rows.append(
            (
                pen.show(rung.day),
                pen.show(Amount(rung.mg, "mg")),
                rung.label,
                pen.say(f"ladder.{rung.state}"),
                window,
            )
        )
    return header, rows
