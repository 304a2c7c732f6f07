"""From the last dose of lymphodepletion to the infusion: too early, in the window, late, to be repeated.

Days are calendar days; where the end of the last dose and the start of the infusion both have an hour, hours
decide the 48-hour test.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from cards.finding import (
    AppointmentMove,
    Block,
    Bullet,
    Create,
    Days,
    Evidence,
    Finding,
    Indicator,
    Missing,
    Outcome,
    Paragraph,
    Scalar,
    ServiceProposal,
    Shown,
    Suggestion,
    Update,
    msg,
)
from cds.engine.case import Case
from cds.engine.rule import Hook, rule
from cds.rules.disease import Disease, disease, disease_evidence
from cds.rules.dosing.ldc import creatinine_clearance, orders
from cds.rules.dosing.ldc_offers import offer
from cds.rules.dosing.lymphodepletion_omit import infusion_order
from cds.rules.dosing.white_cells import per_ul, week_before
from cds.rules.evidence import figure, of_observation
from cds.rules.readiness.phase import collected, infused
from fhir_mapping.chart import Moment, Observation, whole_day

RULE = "dosing.lymphodepletion-timing"


class Row(StrEnum):
    TOO_EARLY = "T1"
    EARLY_WINDOW = "T2"
    LATE_WINDOW = "T3"
    LATE = "T4"
    REPEAT = "T5"


@dataclass(frozen=True, slots=True)
class Interval:
    """Last dose to infusion. `hours` None where either hour is unknown."""

    last: Moment
    planned: bool  # the last dose is an order, not an administration
    start: Moment
    days: int
    hours: float | None
    row: Row


def classify(days: int, hours: float | None, least_h: float, limits: tuple[int, int, int, int]) -> Row:
    """Row of an interval; `limits` are least days, last day of the first window, latest day, repeat after."""
    least, first, latest, repeat = limits
    if days > repeat:
        return Row.REPEAT
    if (hours is not None and hours < least_h) or (hours is None and days < least):
        return Row.TOO_EARLY
    if days <= first:
        return Row.EARLY_WINDOW
    return Row.LATE_WINDOW if days <= latest else Row.LATE


def _limits(case: Case) -> tuple[int, int, int, int]:
    numbers = case.p(RULE)
    names = ("least_days", "fl_latest_days", "latest_days", "repeat_after_days")
    least, first, latest, repeat = (numbers.int(name) for name in names)
    return least, first, latest, repeat


def _last_dose(case: Case) -> tuple[Moment, bool] | None:
    """End of the last dose of lymphodepletion and whether it is only planned."""
    last = case.chart.course.ldc_last
    if last is None:
        return None
    moment = last.end or last.when
    return None if moment is None else (moment, not last.done)


def _interval(case: Case, start: Moment) -> Interval | None:
    found = _last_dose(case)
    if found is None:
        return None
    last, planned = found
    days = (start.date - last.date).days
    hours = None
    if last.exact and start.exact:
        hours = (start.earliest - last.latest) / timedelta(hours=1)
    row = classify(days, hours, float(case.p(RULE)["least_h"]), _limits(case))
    return Interval(last, planned, start, days, hours, row)


def _white_cells(case: Case, day0: date) -> Observation | None:
    return week_before(case, "wbc", min(day0, case.today), case.p(RULE).int("wbc_window_days"))


def _window(case: Case, last: date) -> tuple[date, date, date]:
    """Earliest, latest and repeat-after day of the infusion."""
    least, fl_latest, latest, repeat = _limits(case)
    end = fl_latest if disease(case) is Disease.FL else latest
    return last + timedelta(days=least), last + timedelta(days=end), last + timedelta(days=repeat)


def _earliest(case: Case, found: Interval) -> datetime | date:
    """First moment that satisfies the 48 hours; a day where the hour of the last dose is unknown."""
    if found.last.exact:
        return found.last.latest + timedelta(hours=float(case.p(RULE)["least_h"]))
    return found.last.date + timedelta(days=case.p(RULE).int("least_days"))


def _day(moment: datetime | date) -> date:
    return moment.date() if isinstance(moment, datetime) else moment


# --- one verdict


def _verdict(case: Case, found: Interval) -> tuple[Outcome, Indicator | None, str]:
    """Outcome, indicator and message key of an interval."""
    if found.row is Row.TOO_EARLY:
        return Outcome.TOO_EARLY, Indicator.CRITICAL, "T1"
    if found.row is Row.EARLY_WINDOW or (found.row is Row.LATE_WINDOW and disease(case) is not Disease.FL):
        return Outcome.MET, None, "met"
    if found.row is Row.LATE_WINDOW:
        return Outcome.TOO_LATE, Indicator.WARNING, "T3-fl"
    if found.row is Row.LATE:
        return Outcome.TOO_LATE, Indicator.WARNING, "T4"
    return _repeat(case, found)


def _repeat(case: Case, found: Interval) -> tuple[Outcome, Indicator, str]:
    """After four weeks: ALL repeats whatever the count, lymphoma with white cells above the limit."""
    if not disease(case).lymphoma:
        return Outcome.DUE, Indicator.WARNING, "T5-repeat"
    test = _white_cells(case, found.start.date)
    count = None if test is None else per_ul(test)
    above = None if count is None else count.above(case.p(RULE)["wbc_per_ul"])
    if above is None:
        return Outcome.UNKNOWN, Indicator.WARNING, "T5-unknown"
    if above:
        return Outcome.DUE, Indicator.WARNING, "T5-repeat"
    return Outcome.REVIEW, Indicator.WARNING, "T5-not-required"


def _hour_decides(case: Case, found: Interval) -> bool:
    """On the first day that counts the hours could still be too few; they are not known."""
    return found.hours is None and found.days == case.p(RULE).int("least_days")


def _notes(case: Case, found: Interval, key: str) -> tuple[list[Block], list[Evidence], dict[str, Scalar]]:
    numbers = case.p(RULE)
    blocks: list[Block] = []
    evidence: list[Evidence] = []
    values: dict[str, Scalar] = {}
    if _hour_decides(case, found):
        blocks.append(Bullet(msg("note.ask-hour", hours=numbers.int("least_h"))))
    if found.planned:
        blocks.append(Bullet(msg("note.planned")))
    if found.row is Row.REPEAT:
        test = _white_cells(case, found.start.date)
        count = None if test is None else per_ul(test)
        if test is not None and count is not None:
            values["wbc_per_ul"] = figure(count)
            evidence.append(of_observation(test))
            blocks.append(Bullet(msg("note.wbc", wbc=figure(count))))
            few = count.at_most(numbers["wbc_per_ul"])
            if few and key == "T5-repeat":
                blocks.append(Bullet(msg("note.label-conflict", limit=numbers["wbc_per_ul"])))
        if disease(case) in (Disease.UNKNOWN, Disease.OTHER):
            blocks.append(Bullet(msg("note.disease-unknown")))
        blocks.append(Bullet(msg("note.check-again")))
    renal = creatinine_clearance(case)
    low, high = numbers["clearance_block_ml_min"], numbers["clearance_adjust_ml_min"]
    if renal.value is not None and low < renal.value < high:
        blocks.append(Bullet(msg("note.longer-interval", value=renal.value.quantize(Decimal("0.1")))))
        values["clearance_ml_min"] = renal.value
        evidence += renal.evidence
    return blocks, evidence, values


def _suggestions(case: Case, found: Interval, key: str, resource: str) -> tuple[Suggestion, ...]:
    if key == "T5-unknown":
        return (Suggestion("counts", msg("suggest.counts"), (Create(ServiceProposal("cbc_panel")),)),)
    if key == "T5-repeat":
        return tuple(
            Suggestion(
                s.key,
                msg("suggest.repeat", regimen=s.key),
                s.actions,
                s.recommended,
            )
            for s in offer(case)
        )
    if key == "T1" and resource.startswith("Appointment/"):
        earliest = _earliest(case, found)
        move = Update(AppointmentMove(resource, earliest))
        return (Suggestion("move", msg("suggest.move", earliest=earliest), (move,), recommended=True),)
    return ()


def _finding(case: Case, found: Interval, resource: str) -> Finding:
    outcome, indicator, key = _verdict(case, found)
    first, latest, repeat = _window(case, found.last.date)
    earliest = _earliest(case, found)
    shown: dict[str, Shown] = {
        "last": found.last,
        "start": found.start,
        "days": Days(found.days),
        "hours": Decimal(str(round(found.hours, 1))) if found.hours is not None else msg("none"),
        "earliest": earliest,
        "first": first,
        "latest": latest,
        "repeat": repeat,
        "limit": case.p(RULE)["wbc_per_ul"],
        "least": case.p(RULE).int("least_h"),
    }
    blocks, evidence, extra = _notes(case, found, key)
    values: dict[str, Scalar] = {
        "row": found.row.value,
        "interval_days": found.days,
        "latest": latest,
        "repeat_after": repeat,
        **extra,
    }
    early = found.row is Row.TOO_EARLY
    if early or outcome is Outcome.MET:
        values["earliest"] = earliest if early else first
    if found.hours is not None:
        values["interval_h"] = Decimal(str(round(found.hours, 2)))
    if found.planned:
        values["planned"] = True
    if indicator is None and (case.hook is Hook.PATIENT_VIEW or _hour_decides(case, found)):
        indicator = Indicator.INFO
    missing = (Missing("wbc"),) if key == "T5-unknown" else ()
    end = case.chart.course.ldc_last
    own = (Evidence(end.reference, "lymphodepletion", effective=found.last),) if end is not None else ()
    return Finding(
        rule=RULE,
        outcome=outcome,
        indicator=indicator,
        summary=msg(f"summary.{key}", **shown),
        subject=resource,
        detail=(
            Paragraph(msg("detail.found" if found.hours is None else "detail.found-hours", **shown)),
            Bullet(msg("detail.window", **shown)),
            Bullet(msg(f"detail.{key}", **shown)),
            *blocks,
        ),
        values=dict(values),
        evidence=(*own, *evidence, *disease_evidence(case)),
        missing=missing,
        resource=resource,
        suggestions=_suggestions(case, found, key, resource),
        until=_day(earliest) if early else None,
        unconcluded=outcome is Outcome.UNKNOWN,
    )


# --- hooks


def _planned_infusion(case: Case) -> Moment | None:
    """Planned start; a planned day that has passed without an infusion counts as today."""
    planned = case.chart.course.infusion_planned
    if planned is None or planned.when is None:
        return None
    if planned.when.date < case.today:
        return whole_day(case.today, case.now)
    return planned.when


def _signed(case: Case) -> tuple[str, Moment] | None:
    """The order under judgement and the infusion it is measured against."""
    planned = _planned_infusion(case)
    signed = infusion_order(case)
    if signed is not None:
        start = signed[1] or planned
        return None if start is None else (signed[0], start)
    found = orders(case)
    return (found.reference, planned) if found and planned is not None else None


def _page(case: Case) -> Iterator[Finding]:
    last = _last_dose(case)
    if last is None:
        return
    start = _planned_infusion(case)
    if start is not None:
        found = _interval(case, start)
        if found is not None:
            yield _finding(case, found, "")
        return
    today = whole_day(case.today, case.now)
    found = _interval(case, today)
    if found is None:
        return
    if found.row in (Row.LATE, Row.REPEAT) or (found.row is Row.LATE_WINDOW and disease(case) is Disease.FL):
        yield _finding(case, found, "")
        return
    first, latest, repeat = _window(case, found.last.date)
    yield Finding(
        rule=RULE,
        outcome=Outcome.INFO,
        indicator=Indicator.INFO,
        summary=msg("summary.window", first=first, latest=latest),
        detail=(Paragraph(msg("detail.window", first=first, latest=latest, repeat=repeat)),),
        values={"earliest": first, "latest": latest, "repeat_after": repeat},
        evidence=disease_evidence(case),
        missing=(Missing("car_t_infusion"),),
    )


@rule(RULE)
def timing(case: Case) -> Iterator[Finding]:
    """The interval of a signed order, of a booking, or of the course as it stands."""
    if not collected(case) or infused(case):
        return
    if case.ordering:
        signed = _signed(case)
        if signed is not None:
            found = _interval(case, signed[1])
            if found is not None:
                yield _finding(case, found, signed[0])
    elif case.hook is Hook.APPOINTMENT_BOOK:
        for booking in case.judged_appointments("car_t_infusion", "class_cell_gene_therapy"):
            found = None if booking.start is None else _interval(case, booking.start)
            if found is not None:
                yield _finding(case, found, booking.reference)
        planned = _planned_infusion(case)
        for booking in case.judged_appointments("lymphodepletion"):
            found = None if planned is None else _interval(case, planned)
            if found is not None:
                # the booking may not be moved to where the infusion would have to go
                yield replace(_finding(case, found, booking.reference), suggestions=())
    else:
        yield from _page(case)
