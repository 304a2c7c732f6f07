"""Blood pressure, vasopressors and fluid boluses: the hypotension axis of ASTCT CRS grading.

    0  no hypotension          2  hypotension, no vasopressor (fluid-responsive included)
    3  one vasopressor, with or without vasopressin; vasopressin alone
    4  two or more vasopressors (vasopressin not counted) running at the same time

Lee DW et al., BBMT 2019;25:625. The limits of hypotension are a product default (grading/crs.yaml).
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

from cds.engine.case import Case, once_per_case
from cds.rules.grading.fever import hours
from fhir_mapping.chart import (
    ConditionState,
    DrugRecord,
    DrugSource,
    DrugState,
    Moment,
    Quantity,
    Route,
    any_of,
    frozen,
)

VASOPRESSORS = ("norepinephrine", "epinephrine", "phenylephrine", "dopamine", "metaraminol", "angiotensin_ii")
VASOPRESSIN_ARM = ("vasopressin", "terlipressin")
_COUNTED = frozenset(VASOPRESSORS)
_ARM = frozenset(VASOPRESSIN_ARM)
_FLUIDS = ("sodium_chloride", "crystalloid")
_CELLS = frozenset({"class_cell_gene_therapy", "car_t_infusion"})


@frozen
class Pressure:
    """The pressures of one time. Each is None where it was not measured then."""

    when: Moment
    systolic: Quantity | None
    mean: Quantity | None
    references: tuple[str, ...]


@frozen
class BloodPressureState:
    """The hypotension component at one time: `low` <= truth <= `high` (they differ where data are missing).

    `pressure` is None where none of the window is on the chart; vasopressors decide without one.
    """

    low: int
    high: int
    pressors: tuple[DrugRecord, ...] = ()
    vasopressin: tuple[DrugRecord, ...] = ()
    pressure: Pressure | None = None
    bolus: str = ""  # reference of the fluid bolus that answered the hypotension
    coded: str = ""  # reference of the coded hypotension
    ordered_only: bool = False
    age_missing: bool = False

    @property
    def measured(self) -> bool:
        return self.pressure is not None

    @property
    def references(self) -> tuple[str, ...]:
        running = tuple(d.reference for d in (*self.pressors, *self.vasopressin))
        of_pressure = self.pressure.references if self.pressure is not None else ()
        return (*running, *of_pressure, *(r for r in (self.bolus, self.coded) if r))


# --- pressures


@once_per_case
def pressures(case: Case) -> tuple[Pressure, ...]:
    """Systolic and mean pressures, oldest first; values of one instant stand together."""
    at: dict[tuple[datetime, datetime], Pressure] = {}
    for concept in ("bp_systolic", "bp_mean"):
        for o in case.chart.series(concept):
            value = o.value.quantity
            if value is None:
                continue
            key = (o.when.earliest, o.when.latest)
            known = at.get(key, Pressure(o.when, None, None, ()))
            known = replace(known, references=tuple(dict.fromkeys((*known.references, o.reference))))
            if concept == "bp_systolic":
                at[key] = replace(known, systolic=_lower(known.systolic, value))
            else:
                at[key] = replace(known, mean=_lower(known.mean, value))
    return tuple(sorted(at.values(), key=lambda p: p.when.latest))


def _lower(known: Quantity | None, other: Quantity) -> Quantity:
    return other if known is None or other.value < known.value else known


@frozen
class _Limits:
    systolic: Decimal
    mean: Decimal | None


def _limits_at_age(case: Case, years: int) -> _Limits:
    p = case.p("grading.crs")
    if years >= p.int("adult_from_years"):
        return _Limits(p["sbp_adult_mmhg"], p["map_adult_mmhg"])
    if years < 1:
        return _Limits(p["sbp_infant_mmhg"], None)
    if years > p.int("sbp_child_formula_to_years"):
        return _Limits(p["sbp_older_child_mmhg"], None)
    return _Limits(p["sbp_child_base_mmhg"] + p["sbp_child_per_year_mmhg"] * years, None)


def _below(pressure: Pressure, limits: _Limits) -> bool | None:
    answers = []
    if pressure.systolic is not None:
        answers.append(pressure.systolic.below(limits.systolic))
    if pressure.mean is not None and limits.mean is not None:
        answers.append(pressure.mean.below(limits.mean))
    return any_of(answers) if answers else None


def hypotensive(case: Case, pressure: Pressure) -> bool | None:
    """Is this pressure below the limit for the patient's age? None: age or a bound leaves it open."""
    age = case.chart.patient.age(case.today)
    adult = case.p("grading.crs").int("adult_from_years")
    years = range(age[0], age[1] + 1) if age is not None else range(adult + 1)
    answers = {_below(pressure, _limits_at_age(case, y)) for y in years}
    return answers.pop() if len(answers) == 1 else None


# --- vasopressors


def _is_infusion(record: DrugRecord) -> bool:
    """A vasopressor given as an infusion: other routes and single boluses never count."""
    return record.route in (None, Route.INTRAVENOUS) and not _stopped(record)


def _stopped(record: DrugRecord) -> bool:
    """A rate of zero says that the infusion was turned off."""
    return record.rate is not None and record.rate.value <= 0


@once_per_case
def _stops(case: Case) -> dict[str, list[datetime]]:
    """When each vasopressor was turned off by a rate of zero."""
    found: dict[str, list[datetime]] = {}
    for record in case.chart.administrations(*VASOPRESSORS, *VASOPRESSIN_ARM):
        first = record.timing.first
        if _stopped(record) and first is not None:
            for drug in record.ingredients:
                found.setdefault(drug, []).append(first.earliest)
    return found


def _span(case: Case, record: DrugRecord) -> tuple[datetime, datetime | None] | None:
    """Start and end of an infusion; end None while it runs. None: a bolus, or no time written."""
    first, last = record.timing.first, record.timing.last
    if first is None:
        return None
    if record.state is DrugState.RUNNING:
        stops = (t for drug in record.ingredients for t in _stops(case).get(drug, ()))
        return first.earliest, min((t for t in stops if t > first.earliest), default=None)
    if last is None or last.latest <= first.earliest:
        return None
    return first.earliest, last.latest


@once_per_case
def infusions(case: Case) -> tuple[DrugRecord, ...]:
    """Vasopressor infusions on the chart (vasopressin arm included). Where the site charts no
    administrations at all, active infusion orders stand in, flagged."""
    found = tuple(
        d
        for d in case.chart.administrations(*VASOPRESSORS, *VASOPRESSIN_ARM)
        if _is_infusion(d) and _span(case, d) is not None
    )
    if found or any(
        d.source is DrugSource.ADMINISTRATION and d.concepts.isdisjoint(_CELLS) for d in case.chart.drugs.all
    ):
        return found
    return tuple(
        d
        for d in case.chart.orders(*VASOPRESSORS, *VASOPRESSIN_ARM)
        if d.state is DrugState.ACTIVE and _is_infusion(d) and not d.timing.as_needed
    )


@frozen
class _Timeline:
    """Infusions that ended, by start, with the longest of them; those that still run or are only ordered."""

    starts: list[datetime]
    ended: list[tuple[datetime, datetime, DrugRecord]]
    longest: timedelta
    open_ended: tuple[DrugRecord, ...]


@once_per_case
def _timeline(case: Case) -> _Timeline:
    ended: list[tuple[datetime, datetime, DrugRecord]] = []
    open_ended: list[DrugRecord] = []
    for record in infusions(case):
        span = _span(case, record) if record.source is not DrugSource.ORDER else None
        if span is None or span[1] is None:
            open_ended.append(record)
        else:
            ended.append((span[0], span[1], record))
    ended.sort(key=lambda e: (e[0], e[2].reference))
    longest = max((end - begun for begun, end, _ in ended), default=timedelta(0))
    return _Timeline([e[0] for e in ended], ended, longest, tuple(open_ended))


def running_at(case: Case, at: datetime) -> tuple[DrugRecord, ...]:
    """Vasopressor infusions running at `at`; one that ends just then no longer runs."""
    line = _timeline(case)
    found = []
    index = bisect_right(line.starts, at)
    while index and line.starts[index - 1] >= at - line.longest:
        index -= 1
        if line.ended[index][1] > at:
            found.append(line.ended[index][2])
    for record in line.open_ended:
        first, last = record.timing.first, record.timing.last
        ordered = record.source is DrugSource.ORDER
        if (first is None and not ordered) or (first is not None and first.earliest > at):
            continue
        if not ordered or last is None or last.latest > at:
            found.append(record)
    return tuple(found)


def _distinct(records: tuple[DrugRecord, ...], wanted: frozenset[str]) -> dict[str, DrugRecord]:
    """The newest record of each of the wanted drugs: a change of rate is a record of its own."""
    return {i: r for r in sorted(records, key=_begun) for i in r.ingredients if i in wanted}


def _begun(record: DrugRecord) -> float:
    return 0.0 if record.timing.first is None else record.timing.first.latest.timestamp()


# --- fluid boluses


@once_per_case
def _boluses(case: Case) -> tuple[tuple[datetime, str], ...]:
    """Fluid boluses (B7): start and reference. Volume and length as grading/crs.yaml has them."""
    p = case.p("grading.crs")
    needed = p["bolus_adult_ml"]
    age = case.chart.patient.age(case.today)
    if age is not None and age[1] < p.int("adult_from_years"):
        weight = case.chart.latest("body_weight")
        if weight is not None and weight.value.quantity is not None:
            needed = p["bolus_child_ml_per_kg"] * weight.value.quantity.value
    longest = timedelta(minutes=float(p["bolus_max_minutes"]))
    found = []
    for record in case.chart.administrations(*_FLUIDS):
        amount = record.dose.amount if record.dose is not None else None
        first, last = record.timing.first, record.timing.last
        if amount is None or first is None:
            continue
        volume = {"mL": Decimal(1), "L": Decimal(1000)}.get(amount.unit)
        if volume is None or amount.value * volume < needed:
            continue
        if last is None or last.latest - first.earliest > longest:
            continue
        found.append((first.earliest, record.reference))
    for procedure in case.chart.procedures.of("fluid_bolus"):
        if procedure.start is not None:
            found.append((procedure.start.earliest, procedure.reference))
    return tuple(sorted(found))


# --- the component


def _coded_hypotension(
    case: Case, at: datetime, since: datetime, window: datetime, normal: Moment | None
) -> str:
    """Reference of a coded hypotension that holds at `at`. One coded before the window of vital signs gives
    way to a normal pressure measured since (`normal`)."""
    for condition in case.chart.conditions.of("hypotension"):
        if condition.state is not ConditionState.ACTIVE and condition.end is None:
            continue
        onset, end = condition.onset, condition.end
        if onset is None or not onset.reaches(since) or onset.earliest > at:
            continue
        if normal is not None and onset.latest < min(normal.earliest, window):
            continue
        if end is None or end.earliest > at:
            return condition.reference
    return ""


def _pressor_grade(case: Case, counted: int) -> int:
    """Component of running vasopressors; `counted` without vasopressin, which runs alone where it is 0."""
    p = case.p("grading.crs")
    if counted >= p.int("vasopressors_for_grade_4"):
        return 4
    return 3 if counted else p.int("vasopressin_alone_component")


def blood_pressure_at(case: Case, at: datetime, since: datetime) -> BloodPressureState:
    """The hypotension component at `at`, from what was on the chart by then. `since`: start of the therapy
    (a hypotension coded before it never counts)."""
    p = case.p("grading.crs")
    running = running_at(case, at)
    counted, arm = _distinct(running, _COUNTED), _distinct(running, _ARM)
    start = at - hours(p["vitals_max_age_hours"])
    window = [x for x in pressures(case) if x.when.reaches(start) and x.when.earliest <= at]
    newest = window[-1] if window else None
    ordered = any(r.source is DrugSource.ORDER for r in running)
    pressors, vasopressin = tuple(counted.values()), tuple(arm.values())
    if pressors or vasopressin:
        grade = _pressor_grade(case, len(counted))
        return BloodPressureState(grade, grade, pressors, vasopressin, newest, ordered_only=ordered)
    low = None if newest is None else hypotensive(case, newest)
    normal = newest.when if newest is not None and low is False else None
    if coded := _coded_hypotension(case, at, since, start, normal):
        return BloodPressureState(2, 2, pressure=newest, coded=coded)
    if newest is None:
        return BloodPressureState(0, 2)
    if low is None:
        age = case.chart.patient.age(case.today)
        age_missing = age is None or age[0] < age[1]
        return BloodPressureState(0, 2, pressure=newest, age_missing=age_missing)
    if low:
        return BloodPressureState(2, 2, pressure=newest)
    fluid_start = at - hours(p["fluid_response_hours"])
    for earlier in reversed(window):
        if not earlier.when.reaches(fluid_start) or not hypotensive(case, earlier):
            continue
        for begun, reference in _boluses(case):
            if earlier.when.earliest <= begun <= at:
                return BloodPressureState(2, 2, pressure=earlier, bolus=reference)
    return BloodPressureState(0, 0, pressure=newest)


def hypotension_spans(
    case: Case, start: datetime, end: datetime
) -> tuple[tuple[datetime, datetime, int], ...]:
    """When the hypotension component was above 0 in [start, end]: (from, to, component)."""
    spans: list[tuple[datetime, datetime, int]] = []
    for pressure in pressures(case):
        if pressure.when.reaches(start) and pressure.when.earliest <= end and hypotensive(case, pressure):
            moment = min(max(pressure.when.earliest, start), end)
            spans.append((moment, moment, 2))
    for record in infusions(case):
        span = _span(case, record) if record.source is not DrugSource.ORDER else None
        if span is None:
            continue
        begun, finish = span[0], span[1] or end
        if begun > end or finish < start:
            continue
        together = _distinct(running_at(case, begun), _COUNTED)
        spans.append((max(begun, start), min(finish, end), _pressor_grade(case, len(together))))
    return tuple(sorted(spans))
