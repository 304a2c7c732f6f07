"""CRS grade after tarlatamab: the axes of grading.crs, the fever gate read for a premedicated drug."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from cards.finding import (
    Block,
    Bullet,
    Evidence,
    Finding,
    Indicator,
    Items,
    Message,
    Missing,
    Name,
    Outcome,
    Paragraph,
    Scalar,
    graded,
    msg,
)
from cds.engine.case import Case, once_per_case
from cds.engine.rule import Hook, rule
from cds.rules.bispecific.agents import agents
from cds.rules.bispecific.history import DoseEvent, Kind
from cds.rules.bispecific.tarlatamab import (
    engager,
    engager_exposures,
    exposures,
    label_of_last,
    on_treatment,
    start_of,
)
from cds.rules.bispecific.toxicity import CrsState, Gate, crs_history, tarlatamab_view
from cds.rules.evidence import as_reported, of_drug
from cds.rules.grading.crs_episode import episode_at
from cds.rules.grading.fever import hours
from fhir_mapping.chart import Moment

RULE = "grading.crs-tarlatamab"
Found = tuple[Block, tuple[Evidence, ...]]  # a line of the card and what it rests on
MONITORED_FIRST = ("C1D1", "C1D8", "R-D1", "R-D8")


class Onset(StrEnum):
    """When CRS began, relative to the latest infusion before it."""

    DURING = "during"
    AFTER = "after"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class TarlatamabCrs:
    """CRS now. `grade` None with `infection`: infection or CRS, no grade fixed.

    `at_least`: pressure or oxygen is not on the chart; `low`, `high` bound the grade.
    """

    state: CrsState
    grade: int | None
    low: int
    high: int
    at_least: bool
    masked: bool
    infection: bool
    onset: Moment | None
    timing: Onset
    hours_since_dose: float | None
    missing: tuple[str, ...]
    recorded_grade: int | None
    outside: bool = False


def latest_start(case: Case) -> tuple[DoseEvent, datetime] | None:
    given = engager_exposures(case)
    if not given:
        return None
    last = max(given, key=lambda e: start_of(e, case.now))
    return last, start_of(last, case.now)


def _timing(case: Case, onset: Moment | None) -> Onset:
    """During the infusion: between its start and its end (now, while it runs)."""
    if onset is None or not onset.exact:
        return Onset.UNKNOWN
    before = [e for e in engager_exposures(case) if start_of(e, case.now) <= onset.latest]
    if not before:
        return Onset.UNKNOWN
    event = max(before, key=lambda e: start_of(e, case.now))
    if event.start is None or not event.start.exact:
        return Onset.UNKNOWN
    if event.kind is Kind.RUNNING:
        return Onset.DURING
    end = event.end
    if end is None or not end.exact:
        return Onset.UNKNOWN
    return Onset.DURING if onset.latest <= end.latest else Onset.AFTER


@once_per_case
def tarlatamab_crs(case: Case) -> TarlatamabCrs | None:
    """CRS of the latest doses; None where nothing speaks of CRS."""
    history, view, dose = crs_history(case), tarlatamab_view(case), latest_start(case)
    if history is None or view is None or dose is None:
        return None
    if case.chart.course.infused is not None and not exposures(case):
        return None  # after CAR-T cells grading.crs speaks
    p = case.p(RULE)
    state = history.state
    since = (case.now - dose[1]) / timedelta(hours=1)
    masked = state.gate in (Gate.MASKED, Gate.FEVER_GONE)
    if state.gate in (Gate.NO_FEVER, Gate.CANNOT_TELL) and state.signs:
        first_steps = label_of_last(case) in MONITORED_FIRST
        if not (first_steps and since <= float(p["strong_hours"])):
            return None
        low, high = max(1, state.bp.low, state.o2.low), max(1, state.bp.high, state.o2.high)
        state = replace(state, gate=Gate.MASKED, low=low, high=high)
        masked = True
    if not state.present or state.low is None:
        return None
    if history.outside and (masked or not on_treatment(case)):
        return None
    infection = state.gate is Gate.INFECTION and not (state.recorded is not None and state.recorded.grade)
    lacking = list(state.missing)
    pressors = bool(state.bp.pressors or state.bp.vasopressin or state.bp.coded)
    if not state.bp.measured and not pressors:
        lacking.append("bp_systolic")
    if not state.o2.recorded:
        lacking.append("spo2")
    high = state.high if state.high is not None else state.low
    computed = state.gate is not Gate.CLINICIAN
    episode = episode_at(view, case.now)
    onset = history.last_onset if episode is not None else None
    recorded = None if state.recorded is None else state.recorded.grade
    at_least = computed and state.low < 4 and (state.open_ended or (state.low == 1 and bool(lacking)))
    return TarlatamabCrs(
        state,
        None if infection else state.low,
        state.low,
        high,
        at_least,
        masked,
        infection,
        onset,
        _timing(case, onset),
        since,
        tuple(dict.fromkeys(lacking)) if computed else (),
        recorded,
        history.outside,
    )


@rule(RULE)
def crs_tarlatamab(case: Case) -> Iterator[Finding]:
    reference = ""
    if case.hook is Hook.ORDER_SELECT:
        drafts = case.judged_drugs(*agents(), "tocilizumab", "class_glucocorticoids")
        if not drafts:
            return
        reference = drafts[0].reference
    found = tarlatamab_crs(case)
    if found is None:
        yield from _unread(case, reference)
        return
    if found.outside:
        yield _outside(case, found, reference)
    elif found.infection:
        yield _finding(
            case,
            found,
            reference,
            Outcome.POSSIBLE,
            Indicator.CRITICAL if found.low >= 3 else Indicator.WARNING,
            msg("summary.infection", drug=Name(engager(case))),
        )
    else:
        yield _graded(case, found, reference)


def _dose_before(case: Case, onset: Moment | None) -> datetime | None:
    if onset is None:
        return None
    starts = [start_of(e, case.now) for e in engager_exposures(case)]
    before = [s for s in starts if s <= onset.latest]
    return max(before, default=None)


def _graded(case: Case, found: TarlatamabCrs, reference: str) -> Finding:
    grade = found.low
    indicator = Indicator.CRITICAL if grade >= 3 else Indicator.WARNING
    if found.at_least:
        return _finding(
            case,
            found,
            reference,
            Outcome.AT_LEAST_GRADE_N,
            indicator,
            msg("summary.at-least", grade=grade, drug=Name(engager(case))),
        )
    if found.high != grade:
        summary = msg("summary.range", low=grade, high=found.high, drug=Name(engager(case)))
        return _finding(case, found, reference, Outcome.RANGE, indicator, summary)
    key = "summary.masked" if found.masked else "summary.grade"
    return _finding(
        case, found, reference, graded(grade), indicator, msg(key, grade=grade, drug=Name(engager(case)))
    )


def _outside(case: Case, found: TarlatamabCrs, reference: str) -> Finding:
    limit = case.p(RULE).int("plausible_hours")
    return _finding(
        case, found, reference, Outcome.INFO, Indicator.INFO, msg("summary.outside", limit=limit), bare=True
    )


def _unread(case: Case, reference: str) -> Iterator[Finding]:
    """Soon after a dose and nothing to grade by: one line of the shared card."""
    dose = latest_start(case)
    history = crs_history(case)
    if dose is None or history is None or reference:
        return
    soon = case.now - dose[1] <= hours(case.p(RULE)["strong_hours"])
    if soon and history.state.gate is Gate.CANNOT_TELL:
        yield Finding(
            rule=RULE,
            outcome=Outcome.CANNOT_GRADE,
            indicator=None,
            summary=msg("summary.unread"),
            missing=(Missing("body_temperature"),),
            unconcluded=True,
        )


def _temperature(state: CrsState) -> Iterator[Found]:
    fever = state.fever.temperature if state.fever is not None else state.temperature
    quantity = None if fever is None else fever.value.quantity
    if fever is not None and quantity is not None:
        line = Bullet(msg("found.temperature", value=as_reported(quantity), when=fever.when))
        yield line, (Evidence(fever.reference, fever.concept, quantity.value, quantity.unit, fever.when),)


def _pressure(state: CrsState) -> Iterator[Found]:
    running = (*state.bp.pressors, *state.bp.vasopressin)
    if running:
        names = Items(tuple(Name(d.ingredients[0]) for d in running if d.ingredients))
        line = Bullet(msg("found.pressors", drugs=names, component=state.bp.low))
        yield line, tuple(of_drug(d) for d in running)
    elif state.bp.low:
        yield Bullet(msg("found.hypotension", component=state.bp.low)), ()
    pressure = state.bp.pressure
    if pressure is None:
        return
    for concept, value in (("bp_systolic", pressure.systolic), ("bp_mean", pressure.mean)):
        if value is not None:
            shown = as_reported(value)
            line = Bullet(msg("found.pressure", name=Name(concept), value=shown, when=pressure.when))
            yield line, (Evidence(pressure.references[0], concept, value.value, value.unit, pressure.when),)


def _oxygen(state: CrsState) -> Iterator[Found]:
    if state.o2.low:
        device: Name | Message = Name(state.o2.device) if state.o2.device else msg("found.oxygen-unknown")
        line = Bullet(msg("found.oxygen", device=device, component=state.o2.low))
        yield line, tuple(Evidence(reference, "oxygen_device") for reference in state.o2.references)


def _judgement(found: TarlatamabCrs) -> Iterator[Found]:
    """What stands between the measured and a grade: infection, masking, what is missing, the clinician."""
    state = found.state
    if found.infection:
        yield Bullet(msg("detail.infection", grade=found.low)), state.infections
    if found.masked:
        yield Bullet(msg("detail.masked")), ()
    if found.at_least:
        yield Bullet(msg("detail.record")), ()
    if found.recorded_grade is not None and state.recorded is not None:
        when = state.recorded.when
        line = Bullet(msg("found.recorded", grade=found.recorded_grade, when=when))
        yield line, (Evidence(state.recorded.reference, "crs_grade", found.recorded_grade, "", when),)


def _values(case: Case, found: TarlatamabCrs, outcome: Outcome) -> dict[str, Scalar]:
    values: dict[str, Scalar] = {
        "bp_component": found.state.bp.low,
        "o2_component": found.state.o2.low,
        "onset_timing": found.timing.value,
    }
    if found.onset is not None and found.onset.exact:
        values["onset"] = found.onset.earliest
        started = _dose_before(case, found.onset)
        if started is not None:
            values["hours_after_dose"] = _hours(started, found.onset.earliest)
    if found.hours_since_dose is not None:
        values["hours_since_dose"] = round(found.hours_since_dose)
    if outcome is Outcome.RANGE or found.at_least:
        values |= {"grade_min": found.low, "grade_max": 4 if found.at_least else found.high}
    if found.infection:
        values["grade_if_crs"] = found.low
    if found.masked:
        values["masked"] = True
    if found.recorded_grade is not None and found.state.recorded is not None:
        values["recorded_grade"] = found.recorded_grade
    return values


def _finding(
    case: Case,
    found: TarlatamabCrs,
    reference: str,
    outcome: Outcome,
    indicator: Indicator,
    summary: Message,
    *,
    bare: bool = False,
) -> Finding:
    state = found.state
    lines = [*_temperature(state), *_pressure(state), *_oxygen(state)]
    if found.onset is not None:
        lines.append((Bullet(msg(f"found.onset-{found.timing.value}", when=found.onset)), ()))
    lines += _judgement(found)
    closing = [] if bare else [Paragraph(msg("criterion"))]
    if closing and exposures(case):
        closing.append(Paragraph(msg("reported")))
    return Finding(
        rule=RULE,
        outcome=outcome,
        indicator=indicator,
        summary=summary,
        subject=reference,
        detail=(*(line for line, _ in lines), *closing),
        grade=None if bare or outcome is Outcome.RANGE else found.grade,
        values=_values(case, found, outcome),
        evidence=tuple(dict.fromkeys(e for _, several in lines for e in several)),
        missing=tuple(Missing(concept) for concept in found.missing),
        resource=reference,
    )


def _hours(start: datetime, end: datetime) -> int:
    return round((end - start) / timedelta(hours=1))
