"""The first weeks after the cells: temperature, support, grades of CRS and ICANS, and what was given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal

from cards.finding import Finding, Name
from cds.engine.case import Case
from cds.pictures import plot
from cds.pictures.pen import Pen, Table
from cds.pictures.picture import Picture
from cds.pictures.svg import Node, circle, line, polygon, polyline, rect, text
from cds.rules.after_cart import doses_since, therapy_start
from cds.rules.grading.crs_course import Point, crs_points
from cds.rules.grading.fever import STEROIDS, temperatures
from cds.rules.grading.hemodynamics import infusions
from cds.rules.grading.icans_course import icans_points
from cds.rules.grading.oxygen_support import Support, device_records
from fhir_mapping.chart import Amount, DrugRecord

CRS_RULES = ("grading.crs", "grading.crs-tarlatamab")
ICANS_RULES = ("grading.icans", "dosing.icans-tarlatamab")
_SHOWN = timedelta(days=14)  # a longer course is read by its last two weeks
_NOW = 26.0  # room for the grade of now, right of the axis
_TEMPERATURE = 92.0
_LANE, _BAR = 38.0, 17.0
_TREATMENTS = ("tocilizumab", "siltuximab", "anakinra")
_MARK = 9.0


@dataclass(frozen=True, slots=True)
class Span:
    """Something that went on from `start` to `end`. `end` None: still going on."""

    name: str
    start: datetime
    end: datetime | None


@dataclass(frozen=True, slots=True)
class Dose:
    name: str
    amount: str
    at: datetime


@dataclass(frozen=True, slots=True)
class _Sketch:
    """Everything that is drawn, read once; `crs_now` and `icans_now` are the findings' grades."""

    scale: plot.TimeAxis
    temperatures: tuple[tuple[datetime, Decimal, bool], ...]
    limit: Decimal
    oxygen: tuple[Span, ...]
    pressors: tuple[Span, ...]
    crs: tuple[Point, ...]
    icans: tuple[Point, ...]
    crs_now: int | None
    icans_now: int | None
    cytokine_blockers: tuple[Dose, ...]
    steroids: tuple[Dose, ...]


def toxicity(case: Case, findings: Sequence[Finding], pen: Pen) -> Picture | None:
    """`case` is the one whose course begins with the cells or with the bispecific antibody. None where no
    toxicity was graded and nothing was measured or given."""
    start = therapy_start(case)
    if start is None:
        return None
    sketch = _read(case, findings, pen, start)
    graded = any(p.grade for p in (*sketch.crs, *sketch.icans)) or sketch.crs_now or sketch.icans_now
    if not graded and not sketch.pressors and not sketch.steroids and not sketch.cytokine_blockers:
        return None
    drawn, height = _drawn(sketch, pen, case)
    rules = tuple(dict.fromkeys(f.rule for f in findings if f.rule in (*CRS_RULES, *ICANS_RULES)))
    title = pen.say("toxicity.title")
    return pen.picture("toxicity", rules, title, _said(sketch, pen), _table(sketch, pen), height, drawn)


# --- reading


def _read(case: Case, findings: Sequence[Finding], pen: Pen, start: datetime) -> _Sketch:
    begin = max(start, case.now - _SHOWN)
    scale = plot.TimeAxis(begin, case.now + timedelta(minutes=1), 40, pen.width - 8 - _NOW)
    return _Sketch(
        scale,
        tuple(_temperatures(case, begin)),
        case.p("grading.crs")["fever_cel"],
        tuple(_oxygen(case, begin, pen)),
        tuple(_pressors(case, begin, pen)),
        _changes(crs_points(case)),
        _changes(icans_points(case)),
        _grade(findings, CRS_RULES),
        _grade(findings, ICANS_RULES),
        tuple(_doses(doses_since(case, begin, *_TREATMENTS), pen)),
        tuple(_doses((d for d in doses_since(case, begin, *STEROIDS) if _systemic(d)), pen)),
    )


def _grade(findings: Iterable[Finding], rules: tuple[str, ...]) -> int | None:
    return next((f.grade for f in findings if f.rule in rules and f.grade is not None), None)


def _changes(points: Sequence[Point]) -> tuple[Point, ...]:
    """The points at which the grade became another one."""
    before = (None, *(point.grade for point in points))
    return tuple(point for point, last in zip(points, before, strict=False) if point.grade != last)


def _systemic(record: DrugRecord) -> bool:
    return record.route is None or record.route.systemic


def _temperatures(case: Case, begin: datetime) -> Iterable[tuple[datetime, Decimal, bool]]:
    for observation, hot in temperatures(case):
        quantity = observation.value.quantity
        if quantity is not None and observation.when.exact and begin <= observation.when.latest <= case.now:
            yield observation.when.latest, round(quantity.value, 1), hot  # converted from °F: no more digits


def _oxygen(case: Case, begin: datetime, pen: Pen) -> Iterable[Span]:
    """Each device until the next record of one, its flow beside its name."""
    records = [r for r in device_records(case) if r.start <= case.now]
    for place, record in enumerate(records):
        if record.kind is Support.NONE or record.until < begin:
            continue
        following = [later.start for later in records[place + 1 :] if later.start > record.start]
        end = record.until if record.lasting else min([record.until, *following[:1]])
        name = pen.show(Name(record.concept))
        if record.flow is not None:
            flow = record.flow.reported or Amount(record.flow.value, record.flow.unit)
            name = f"{name} {pen.show(flow)}"
        yield Span(name, max(record.start, begin), None if end >= case.now else end)


def _pressors(case: Case, begin: datetime, pen: Pen) -> Iterable[Span]:
    for record in infusions(case):
        first, last = record.timing.first, record.timing.last
        if first is None or first.earliest > case.now or (last is not None and last.latest < begin):
            continue
        end = None if last is None or last.latest >= case.now else last.latest
        yield Span(pen.show(Name(record.ingredients[0])), max(first.earliest, begin), end)


def _doses(records: Iterable[DrugRecord], pen: Pen) -> Iterable[Dose]:
    for record in records:
        assert record.timing.first is not None
        name = pen.show(Name(record.ingredients[0])) if record.ingredients else pen.show(record.name)
        amount = record.dose.amount if record.dose is not None else None
        yield Dose(name, "" if amount is None else pen.show(amount), record.timing.first.earliest)


# --- drawing


def _drawn(sketch: _Sketch, pen: Pen, case: Case) -> tuple[list[Node], float]:
    """Temperature on top, then one lane for each kind of thing that is on the chart."""
    lanes: list[Node] = []
    y = 14.0
    if sketch.temperatures:
        lanes += _temperature_panel(sketch, pen, y)
        y += _TEMPERATURE + 22
    support = [(pen.say("lane.oxygen"), sketch.oxygen, plot.NEUTRAL)] if sketch.oxygen else []
    for name in dict.fromkeys(span.name for span in sketch.pressors):
        own = tuple(span for span in sketch.pressors if span.name == name)
        support.append((pen.say("lane.pressors"), own, plot.BAD))
    for heading, spans, colour in support:
        lanes += _spans(sketch.scale, heading, spans, y, colour)
        y += _LANE
    for key, points, current in (
        ("crs", sketch.crs, sketch.crs_now),
        ("icans", sketch.icans, sketch.icans_now),
    ):
        if points or current is not None:
            lanes += _grades(sketch.scale, pen, pen.say(f"lane.{key}"), points, current, y)
            y += _LANE
    for key, doses, colour in (
        ("blockers", sketch.cytokine_blockers, plot.NEUTRAL),
        ("steroids", sketch.steroids, plot.CAUTION),
    ):
        if doses:
            lanes += _marks(sketch.scale, pen.say(f"lane.{key}"), doses, y, colour)
            y += _LANE + 8
    day0 = case.chart.course.day0

    def label(day: date) -> str:
        return f"{day:%m-%d}" if day0 is None else pen.say("axis.day", day=(day - day0).days)

    return [*plot.axis(sketch.scale, 8, y, label), *lanes], y + 24


def _temperature_panel(sketch: _Sketch, pen: Pen, top: float) -> list[Node]:
    values = [value for _, value, _ in sketch.temperatures]
    low, high = min(Decimal(36), *values), max(Decimal(40), *values)
    bottom = top + 14 + _TEMPERATURE

    def y(value: Decimal) -> float:
        return bottom - float((value - low) / (high - low)) * _TEMPERATURE

    scale = sketch.scale
    drawn = [text(8, top + 4, pen.say("lane.temperature"), font_weight=600)]
    degree = int(low)
    while degree <= high:
        if degree >= low:
            drawn.append(text(34, y(Decimal(degree)) + 4, str(degree), text_anchor="end", fill=plot.SOFT))
            drawn.append(
                line(scale.left, y(Decimal(degree)), scale.right, y(Decimal(degree)), stroke=plot.RULE)
            )
        degree += 1
    fever = y(sketch.limit)
    drawn.append(line(scale.left, fever, scale.right, fever, stroke=plot.BAD, stroke_dasharray="5 3"))
    points = tuple((scale.x(at), y(value)) for at, value, _ in sketch.temperatures)
    drawn.append(polyline(points, stroke=plot.SOFT, stroke_width=1.4))
    for (x, height), (_, _, hot) in zip(points, sketch.temperatures, strict=True):
        drawn.append(circle(x, height, 3.2, fill=plot.BAD if hot else plot.SOFT))
    return drawn


def _spans(scale: plot.TimeAxis, heading: str, spans: Sequence[Span], top: float, colour: str) -> list[Node]:
    names = {span.name for span in spans}
    title = f"{heading}: {next(iter(names))}" if len(names) == 1 else heading
    drawn = [text(8, top + 12, plot.fitted(title, scale.right - 8), font_weight=600)]
    for span in spans:
        x1 = scale.x(span.start)
        x2 = scale.right if span.end is None else scale.x(span.end)
        drawn.append(rect(x1, top + 17, max(x2 - x1, 2), _BAR, fill=colour, fill_opacity=0.16, stroke=colour))
        if len(names) > 1 and x2 - x1 > 34:
            drawn.append(text(x1 + 4, top + 17 + 12.5, plot.fitted(span.name, x2 - x1 - 8), fill=colour))
    return drawn


def _in_view(points: Sequence[Point], scale: plot.TimeAxis) -> Iterator[tuple[Point, datetime]]:
    """The grades of the time shown, and the one that reaches into it; each with its end."""
    for place, point in enumerate(points):
        end = points[place + 1].when.earliest if place + 1 < len(points) else scale.end
        if end > scale.start:
            yield point, end


def _grades(
    scale: plot.TimeAxis, pen: Pen, heading: str, points: Sequence[Point], current: int | None, top: float
) -> list[Node]:
    """Each grade until the next known one; the finding's own grade stands at the end, as now."""
    drawn = [text(8, top + 12, heading, font_weight=600)]
    y = top + 17
    drawn.append(rect(scale.left, y, scale.right - scale.left, _BAR, fill=plot.GRADES[0]))
    for point, end in _in_view(points, scale):
        if point.grade:
            begin = scale.x(point.when.earliest)
            drawn += plot.band(begin, scale.x(end), y, _BAR, point.grade, str(point.grade))
    if current is not None:
        drawn += plot.band(scale.right + 3, scale.right + _NOW, y, _BAR, current, str(current))
        now = text(scale.right + _NOW, top + 12, pen.say("now"), text_anchor="end", fill=plot.SOFT)
        drawn.append(now)
    return drawn


def _marks(scale: plot.TimeAxis, heading: str, doses: Sequence[Dose], top: float, colour: str) -> list[Node]:
    """A triangle for each dose; its amount beside it where the one before leaves room."""
    names = list(dict.fromkeys(dose.name for dose in doses))
    title = f"{heading}: {', '.join(names)}" if names else heading
    drawn = [text(8, top + 12, plot.fitted(title, scale.right - 8), font_weight=600)]
    free = 0.0
    y = top + 20
    for dose in doses:
        x = scale.x(dose.at)
        drawn.append(polygon(((x - 5, y), (x + 5, y), (x, y + _MARK)), fill=colour))
        width = plot.text_width(dose.amount, 11)
        begin = min(max(x - width / 2, scale.left - 30), scale.right + _NOW - width)
        if dose.amount and begin > free:
            drawn.append(text(begin, y + 21, dose.amount, fill=colour, font_size=11))
            free = begin + width + 6
    return drawn


# --- words


def _said(sketch: _Sketch, pen: Pen) -> str:
    parts = []
    for key, current, points in (
        ("crs", sketch.crs_now, sketch.crs),
        ("icans", sketch.icans_now, sketch.icans),
    ):
        if current is None:
            continue
        worst = max([current, *(point.grade for point in points)])
        parts.append(pen.say("toxicity.grade", toxicity=pen.say(f"lane.{key}"), now=current, worst=worst))
    if sketch.temperatures:
        highest = max(sketch.temperatures, key=lambda item: item[1])
        parts.append(pen.say("toxicity.highest", value=Amount(highest[1], "Cel"), when=highest[0]))
    counts = len(sketch.cytokine_blockers), len(sketch.steroids)
    parts.append(pen.say("toxicity.doses", blockers=counts[0], steroids=counts[1]))
    return " ".join(parts)


def _table(sketch: _Sketch, pen: Pen) -> Table:
    """Everything drawn in time order, the grades of now last; of the temperatures the highest of each day."""
    found: list[tuple[datetime, str, str]] = []
    days: dict[date, tuple[datetime, Decimal]] = {}
    for at, value, _ in sketch.temperatures:
        if at.date() not in days or value > days[at.date()][1]:
            days[at.date()] = (at, value)
    highest = pen.say("row.highest")
    found += [(at, highest, pen.show(Amount(value, "Cel"))) for at, value in days.values()]
    for key, spans in (("oxygen", sketch.oxygen), ("pressors", sketch.pressors)):
        for span in spans:
            until = pen.say("ongoing") if span.end is None else pen.say("until", when=span.end)
            found.append((span.start, pen.say(f"lane.{key}"), f"{span.name}, {until}"))
    for key, points in (("crs", sketch.crs), ("icans", sketch.icans)):
        heading = pen.say(f"lane.{key}")
        found += [
            (p.when.earliest, heading, pen.say("grade", grade=p.grade))
            for p, _ in _in_view(points, sketch.scale)
            if p.grade or sketch.scale.holds(p.when.earliest)
        ]
    for dose in (*sketch.cytokine_blockers, *sketch.steroids):
        found.append((dose.at, dose.name, dose.amount))
    header = tuple(pen.say(f"head.{name}") for name in ("when", "what", "value"))
    rows = [(pen.show(at), what, value) for at, what, value in sorted(found, key=lambda item: item[0])]
    for key, current in (("crs", sketch.crs_now), ("icans", sketch.icans_now)):
        if current is not None:
            rows.append((pen.say("now"), pen.say(f"lane.{key}"), pen.say("grade", grade=current)))
    return header, rows
