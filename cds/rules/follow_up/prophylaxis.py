"""What the infection prophylaxis rules share (handbook Table 15): when it begins, whether a drug is running,
and the stop predicate "12 months after infusion and CD4 above the limit"."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum

from cards.finding import Bullet, Evidence, Finding, Missing, Outcome, Scalar, msg
from cds.engine.case import Case
from cds.rules import evidence
from cds.rules.after_cart import INFECTIONS, next_course_begun
from cds.rules.body_size import is_adult
from cds.rules.steroids import active_on
from cds.rules.unread import ORDERS, unread
from fhir_mapping.chart import (
    DrugRecord,
    DrugSource,
    DrugState,
    LossReason,
    Route,
    add_months,
    reaches_the_body,
)

TREATMENT = "purpose_treatment"
_ENDED = (DrugState.STOPPED, DrugState.COMPLETED, DrugState.ON_HOLD)


def begun(case: Case) -> bool:
    """Lymphodepletion has begun, or the cells were given; ends with death."""
    course = case.chart.course
    if case.chart.patient.deceased:
        return False
    if course.last_infused is not None or course.infused_date_unknown:
        return True
    first = course.ldc_first
    return first is not None and first.date is not None and first.date <= case.today


def current_day0(case: Case) -> date | None:
    """D0 of the course under way; None from the lymphodepletion of a further course to its infusion."""
    return None if next_course_begun(case) else case.chart.course.last_day0


def start_evidence(case: Case) -> tuple[Evidence, ...]:
    course = case.chart.course
    if course.last_infused is not None and not next_course_begun(case):
        return (evidence.of_anchor(course.last_infused, "car_t_infusion"),)
    if course.ldc_first is not None:
        return (evidence.of_anchor(course.ldc_first, "lymphodepletion"),)
    return ()


def for_treatment(record: DrugRecord) -> bool:
    """The order says that an infection is treated, not prevented."""
    if "purpose_prophylaxis" in record.purposes:
        return False
    return TREATMENT in record.purposes or not record.reasons.isdisjoint(INFECTIONS)


class Use(StrEnum):
    NEVER = "never"  # nothing since lymphodepletion
    STOPPED = "stopped"
    ACTIVE = "active"


@dataclass(frozen=True, slots=True)
class DrugUse:
    """Use of one group of drugs. `last`: last day covered by a record that is not active."""

    use: Use
    active: tuple[DrugRecord, ...] = ()
    past: tuple[DrugRecord, ...] = ()
    last: date | None = None

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        return tuple(evidence.of_drug(record) for record in self.active or self.past[-1:])


def _given_lately(record: DrugRecord, today: date, days: int) -> bool:
    """A dose of the last days on a site that writes administrations only."""
    if record.source is not DrugSource.ADMINISTRATION or not record.given:
        return False
    end = record.timing.last or record.timing.first
    return end is not None and 0 <= (today - end.date).days <= days


def course_floor(case: Case) -> date | None:
    """Use before this day belongs to an earlier time: 30 days before lymphodepletion or infusion."""
    course = case.chart.course
    begun_by = (course.ldc_first,) if next_course_begun(case) else (course.ldc_first, course.last_infused)
    anchors = [a.date for a in begun_by if a is not None and a.date is not None]
    return min(anchors) - timedelta(days=30) if anchors else None


def drug_use(case: Case, *drugs: str, recent_days: int = 1) -> DrugUse:
    """Active: an order, statement or supply that covers today, or a dose at most `recent_days` ago.

    Use before this course does not count as stopped.
    """
    since = course_floor(case)
    active: list[DrugRecord] = []
    past: list[DrugRecord] = []
    last: date | None = None
    for record in case.chart.drugs.of(*drugs):
        if not reaches_the_body(record.route) and record.route is not Route.INHALED:
            continue  # drops and creams prevent nothing; pentamidine is inhaled
        if active_on(record, case.today) or _given_lately(record, case.today, recent_days):
            active.append(record)
            continue
        begins = record.timing.first
        if record.source is DrugSource.ORDER:
            if record.state is DrugState.ACTIVE and begins is not None and begins.first_date > case.today:
                continue
            if record.state not in (*_ENDED, DrugState.ACTIVE) or record.timing.as_needed:
                continue
        elif not record.given:
            continue
        end = record.timing.last or begins
        if end is not None and since is not None and end.date < since:
            continue
        past.append(record)
        # of an order that names no end only its start is known: no day is then said
        known = record.timing.last if record.source is DrugSource.ORDER else end
        if known is not None and known.date <= case.today:
            last = known.date if last is None else max(last, known.date)
    if active:
        return DrugUse(Use.ACTIVE, tuple(active), tuple(past), last)
    if past:
        return DrugUse(Use.STOPPED, (), tuple(past), last)
    return DrugUse(Use.NEVER)


def replaced(case: Case, *drugs: str) -> bool:
    """Another drug of the group takes the place of those that end: drafted beside them, or in use."""
    drafted = any(d.state is DrugState.DRAFT for d in case.chart.drafts.drugs.of(*drugs))
    ended = {drug for d in case.ending_drugs(*drugs) for drug in d.ingredients}
    return drafted or any(ended.isdisjoint(r.ingredients) for r in drug_use(case, *drugs).active)


@dataclass(frozen=True, slots=True)
class Stop:
    """The stop predicate. `months_over`, `cd4_over` None: cannot be told. `from_day`: first day on which the
    months are over."""

    months: int
    months_over: bool | None
    cd4_over: bool | None
    from_day: date | None
    evidence: tuple[Evidence, ...] = ()
    missing: tuple[Missing, ...] = ()
    values: tuple[tuple[str, Scalar], ...] = ()

    @property
    def holds(self) -> bool | None:
        if self.months_over is False or self.cd4_over is False:
            return False
        if self.months_over is None or self.cd4_over is None:
            return None
        return True


def stop_predicate(case: Case, rule_id: str) -> Stop:
    """12 months after infusion reached, and CD4 above the limit on a value that is not too old."""
    p = case.p(rule_id)
    start = current_day0(case)
    from_day = None if start is None else add_months(start, p.int("stop_months"))
    if from_day is not None:
        months: bool | None = case.today >= from_day
    else:
        months = None if case.chart.course.infused_date_unknown and not next_course_begun(case) else False
    series = case.chart.series("cd4_abs")
    newest = series.latest(case.now, None, lambda o: o.value.quantity is not None)
    missing: tuple[Missing, ...] = ()
    cd4: bool | None = None
    shown: tuple[Evidence, ...] = ()
    values: list[tuple[str, Scalar]] = []
    if newest is None or newest.value.quantity is None:
        missing = (Missing("cd4_abs"),)
    elif (case.today - newest.when.first_date).days > p.int("cd4_age_days"):
        missing = (Missing("cd4_abs", LossReason.STALE, newest.reference),)
    else:
        cd4 = newest.value.quantity.above(p["cd4_per_ul"])
        shown = (evidence.of_observation(newest),)
        values.append(("cd4_per_ul", evidence.figure(newest.value.quantity)))
        if cd4 is None:
            missing = (Missing("cd4_abs", resource=newest.reference),)
    return Stop(p.int("stop_months"), months, cd4, from_day, shown, missing, tuple(values))


class Row(StrEnum):
    """Rows of the state table of Table 15's antiviral and PJP prophylaxis."""

    NO_DRUG = "no-drug"
    ACTIVE = "active"
    STOPPED = "stopped"
    CD4_MISSING = "cd4-missing"
    MAY_STOP = "may-stop"
    OVER = "over"  # no drug and none needed any more: nothing to say


def row_of(use: Use, stop: Stop) -> Row:
    """First row of the table that fits (rows that overlap: the one listed first)."""
    if stop.holds is True:
        return Row.MAY_STOP if use is Use.ACTIVE else Row.OVER
    if use is Use.NEVER:
        return Row.NO_DRUG
    if stop.holds is None and stop.months_over is True:
        return Row.CD4_MISSING
    return Row.ACTIVE if use is Use.ACTIVE else Row.STOPPED


def stop_notes(stop: Stop) -> tuple[Bullet, ...]:
    """The two halves of the stop predicate as the card says them (keys of each rule's own catalogue)."""
    notes = []
    if stop.from_day is not None:
        notes.append(Bullet(msg("detail.stop-months", day=stop.from_day)))
    if stop.cd4_over is True and stop.months_over is False:
        notes.append(Bullet(msg("detail.one-of-two", months=stop.months)))
    if stop.cd4_over is False:
        notes.append(Bullet(msg("detail.cd4-low")))
    return tuple(notes)


def orders_unread(case: Case, rule_id: str, drug: str, use: Use) -> Finding | None:
    """No drug was found, but the active orders could not be read: the rule cannot conclude."""
    if use is Use.ACTIVE or not unread(case, ORDERS):
        return None
    return Finding(
        rule_id,
        Outcome.CANNOT_CHECK,
        None,
        msg("summary.unread"),
        values={"row": "unread"},
        missing=(Missing(drug, LossReason.NOT_FETCHED),),
        unconcluded=True,
    )


def adult(case: Case) -> bool:
    """18 years or more; an unknown age gives no dose."""
    return is_adult(case) is True
