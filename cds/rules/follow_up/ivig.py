"""Immunoglobulin replacement after CAR-T cells (Figure 11): start, continue, hold, restart, release."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum

from cards.finding import (
    Bullet,
    Create,
    DrugProposal,
    Evidence,
    Finding,
    Indicator,
    Message,
    Missing,
    Outcome,
    Paragraph,
    Scalar,
    ServiceProposal,
    Shown,
    Suggestion,
    msg,
)
from cds.engine.case import Case, once_per_case
from cds.engine.rule import rule
from cds.rules import evidence
from cds.rules.after_cart import INFECTIONS
from cds.rules.body_size import is_adult
from cds.rules.follow_up.b_cell_recovery import b_cells
from cds.rules.follow_up.infections import Burden, burden
from cds.rules.unread import DOSES, unread
from fhir_mapping.chart import (
    Amount,
    DrugRecord,
    DrugSource,
    DrugState,
    LossReason,
    Moment,
    Observation,
    Route,
    add_months,
)

RULE = "follow-up.ivig"
DRUGS = ("ivig", "subcutaneous_immunoglobulin")


class State(StrEnum):
    """Columns of the figure."""

    NEVER = "A"
    REPLACED = "B"
    HELD = "C"
    RELEASED = "D"


@dataclass(frozen=True, slots=True)
class Replacement:
    """Where the patient stands, and what was tested since the last dose."""

    state: State
    last: date | None  # last dose given
    next_dose: date | None
    records: tuple[DrugRecord, ...]
    high_run: tuple[Observation, ...] = ()  # unbroken run of tests above the limit, oldest first
    hold_test: Observation | None = None  # the result that led to the hold


def _doses(case: Case) -> tuple[DrugRecord, ...]:
    return tuple(
        d for d in case.chart.drugs.of(*DRUGS) if d.given and "hyperimmune_globulin" not in d.concepts
    )


def _last_day(record: DrugRecord, today: date) -> date | None:
    """Day of the last dose that is not in the future."""
    for moment in (record.timing.last, record.timing.first):
        if moment is not None and moment.date <= today:
            return moment.date
    return None


def _dose_days(case: Case, until: date, test: Moment | None = None) -> list[date]:
    """Days of the doses up to `until`, those recorded as immunizations included (chart-facts M20); doses that
    were given after the very hour of `test` are left out."""
    days = [
        day
        for dose in _doses(case)
        if not _drawn_before(test, dose.timing.first) and (day := _last_day(dose, until)) is not None
    ]
    given = [v.when for v in case.chart.vaccines.of(*DRUGS) if v.when is not None]
    return days + [when.date for when in given if when.date <= until and not _drawn_before(test, when)]


def _drawn_before(test: Moment | None, dose: Moment | None) -> bool:
    if test is None or dose is None or not (test.exact and dose.exact):
        return False
    return test.latest <= dose.earliest


def _plan(case: Case) -> tuple[bool, date | None, tuple[DrugRecord, ...]]:
    """Is a further dose planned, on which day, by which orders."""
    found: list[DrugRecord] = []
    days: list[date] = []
    for record in case.chart.drugs.of(*DRUGS):
        if not record.in_force or record.timing.as_needed:
            continue
        timing = record.timing
        ahead = [m.date for m in timing.doses if m.date >= case.today]
        if timing.first is not None and timing.first.date >= case.today:
            ahead.append(timing.first.date)
        if timing.last is not None and timing.last.date > case.today:
            ahead.append(timing.last.date)
        running = timing.ongoing or (record.source is DrugSource.STATEMENT and timing.last is None)
        if running or ahead:
            found.append(record)
            days += ahead
    return bool(found), min(days, default=None), tuple(found)


def _held_orders(case: Case) -> tuple[DrugRecord, ...]:
    """Orders and statements on hold, or stopped since the infusion (of unknown time included)."""
    start = case.chart.course.last_day0

    def held(record: DrugRecord) -> bool:
        if record.source not in (DrugSource.ORDER, DrugSource.STATEMENT):
            return False
        if record.state is DrugState.ON_HOLD:
            return True
        end = record.timing.last or record.timing.first
        before = end is not None and start is not None and end.date < start
        return record.state is DrugState.STOPPED and not before

    return tuple(d for d in case.chart.drugs.of(*DRUGS) if held(d))


def _tests_since(case: Case, last: date | None) -> list[Observation]:
    """IgG results that are troughs of the time without doses."""
    wash = case.p(RULE).int("trough_days")
    return [
        o
        for o in case.chart.series("igg")
        if o.value.quantity is not None and (last is None or (o.when.date - last).days >= wash)
    ]


def _hold_test(case: Case, last: date) -> Observation | None:
    """The result above the limit that led to the hold: drawn around the last dose, else before the next one
    would have been due."""
    p = case.p(RULE)
    high = [
        o
        for o in case.chart.series("igg")
        if o.value.quantity is not None and o.value.quantity.above(p["igg_mg_dl"]) is True
    ]
    around = [
        o for o in high if -p.int("hold_before_days") <= (o.when.date - last).days < p.int("trough_days")
    ]
    if around:
        return around[-1]
    return next(
        (o for o in high if p.int("trough_days") <= (o.when.date - last).days <= p.int("dose_days")), None
    )


def _chain(case: Case, last: date | None) -> tuple[tuple[Observation, ...], Observation | None]:
    """The four-weekly tests above the limit that follow the result which led to the hold.

    A value at or below the limit, or one that does not decide, begins the run anew.
    """
    p = case.p(RULE)
    tests = _tests_since(case, last)
    hold = None if last is None else _hold_test(case, last)
    run: list[Observation] = []
    previous = hold.when.date if hold is not None else last
    for test in tests:
        if hold is not None and test.when.latest <= hold.when.latest:
            continue
        assert test.value.quantity is not None
        if test.value.quantity.above(p["igg_mg_dl"]) is not True:
            run, previous = [], test.when.date
            continue
        if previous is not None and (test.when.date - previous).days < p.int("test_gap_days"):
            continue
        run.append(test)
        previous = test.when.date
    return tuple(run), hold


@once_per_case
def replacement(case: Case) -> Replacement:
    """State A to D of the figure from doses, plans and the tests since the last dose."""
    p = case.p(RULE)
    given = _doses(case)
    last = max(_dose_days(case, case.today), default=None)
    planned, next_dose, orders = _plan(case)
    held = _held_orders(case)
    if planned:
        return Replacement(State.REPLACED, last, next_dose, (*given[-1:], *orders))
    if last is not None and not held and (case.today - last).days <= p.int("dose_days"):
        return Replacement(State.REPLACED, last, None, given[-1:])
    start = case.chart.course.last_day0
    if not held and (last is None or (start is not None and last < start)):
        return Replacement(State.NEVER, last, None, given[-1:])  # no hold after the infusion
    run, hold = _chain(case, last)
    released = len(run) >= p.int("release_tests")
    state = State.RELEASED if released else State.HELD
    return Replacement(state, last, None, (*given[-1:], *held), run, hold)


def released(case: Case) -> bool:
    """The figure asks for no further IgG tests (state D)."""
    return replacement(case).state is State.RELEASED


@dataclass(frozen=True, slots=True)
class Trough:
    """The IgG that decides; `test` None: none is fit, `missing` says why."""

    test: Observation | None
    missing: tuple[Missing, ...] = ()


def trough(case: Case) -> Trough:
    """Newest IgG that was not drawn too soon after a dose, and is not too old."""
    p = case.p(RULE)
    tests = case.chart.series("igg")
    newest = tests.latest(case.now, None, lambda o: o.value.quantity is not None)
    if newest is None:
        return Trough(None, (Missing("igg"),))
    fit = tests.latest(case.now, None, lambda o: o.value.quantity is not None and not _soon_after(case, o))
    if fit is None or (case.today - fit.when.first_date).days > p.int("igg_age_days"):
        return Trough(None, (Missing("igg", LossReason.STALE, newest.reference),))
    return Trough(fit)


def _soon_after(case: Case, test: Observation) -> bool:
    """Drawn within the trough time after a dose; one drawn in the hours before that day's dose is not."""
    days = _dose_days(case, test.when.date, test.when)
    return bool(days) and (test.when.date - max(days)).days < case.p(RULE).int("trough_days")


@dataclass(frozen=True, slots=True)
class Answer:
    """One row of the table."""

    row: str
    outcome: Outcome
    indicator: Indicator
    start: bool = False
    tests: bool = False


def table_row(state: State, low: bool, early: bool, infection: bool, child_aplasia: bool) -> Answer:
    """The table of the rule for states A to C (D is decided by its tests, not by one value)."""
    if state is State.NEVER:
        if not low:
            return Answer("A-high", Outcome.INFO, Indicator.INFO)
        if early:
            return Answer("A-early", Outcome.START, Indicator.WARNING, start=True)
        if infection:
            return Answer("A-infection", Outcome.START, Indicator.WARNING, start=True)
        if child_aplasia:
            return Answer("A-child", Outcome.START, Indicator.WARNING, start=True)
        return Answer("A-choice", Outcome.CONSIDER, Indicator.INFO)
    if state is State.REPLACED:
        if not low:
            return Answer("B-high", Outcome.HOLD, Indicator.WARNING, tests=True)
        if early:
            return Answer("B-early", Outcome.CONTINUE, Indicator.INFO)
        if infection:
            return Answer("B-infection", Outcome.CONTINUE, Indicator.INFO)
        return Answer("B-may-stop", Outcome.MAY_STOP, Indicator.INFO, tests=True)
    if low and infection:
        return Answer("C-restart", Outcome.START, Indicator.WARNING, start=True)
    if low:
        return Answer("C-no-restart", Outcome.WAIT, Indicator.INFO, tests=True)
    return Answer("C-testing", Outcome.WAIT, Indicator.INFO, tests=True)


@rule(RULE)
def immunoglobulin_replacement(case: Case) -> Iterator[Finding]:
    """State and next step; on order-sign the immunoglobulin drafts."""
    if case.chart.course.last_day0 is None or case.chart.patient.deceased:
        return
    if case.ordering:
        for draft in case.judged_drugs(*DRUGS):
            finding = _answer(case, draft)
            if finding is not None:
                yield finding
        return
    finding = _answer(case, None)
    if finding is not None:
        yield finding


def _infected(case: Case) -> Burden:
    p = case.p(RULE)
    return burden(case, p.int("infection_months"), p.int("recurrence_days"))


def _answer(case: Case, draft: DrugRecord | None) -> Finding | None:
    p = case.p(RULE)
    start = case.chart.course.last_day0
    assert start is not None
    if unread(case, DOSES):
        lost = (Missing("ivig", LossReason.NOT_FETCHED),)
        return _unknown(case, draft, lost, {}, (), "summary.unread")
    now = replacement(case)
    infections = _infected(case)
    infection = infections.relevant or (draft is not None and not draft.reasons.isdisjoint(INFECTIONS))
    reasons = frozenset() if draft is None else draft.reasons
    if reasons and not infection and "hypogammaglobulinemia" not in reasons:
        return None  # another indication
    values: dict[str, Scalar] = {"state": now.state.value}
    if now.last is not None:
        values["immunoglobulin_last"] = now.last
    shown = [*(evidence.of_drug(r) for r in now.records), *infections.evidence]
    if now.state is State.RELEASED and draft is None:
        return _released(case, now, infections, values, tuple(shown))
    fit = trough(case)
    quantity = None if fit.test is None else fit.test.value.quantity
    low = None if quantity is None else quantity.at_most(p["igg_mg_dl"])
    if fit.test is None or quantity is None or low is None:
        missing = fit.missing or (Missing("igg", resource="" if fit.test is None else fit.test.reference),)
        stale = any(m.reason is LossReason.STALE for m in missing)
        key = "summary.stale" if stale else "summary.no-igg"
        return _unknown(case, draft, missing, values, tuple(shown), key)
    shown.append(evidence.of_observation(fit.test))
    values["igg_mg_dl"] = evidence.figure(quantity)
    early = case.today <= add_months(start, p.int("early_months"))
    child = is_adult(case) is False and b_cells(case).aplasia
    state = State.HELD if now.state is State.RELEASED else now.state
    answer = table_row(state, low, early, infection, child)
    if draft is not None:
        dates = () if low else _four_weekly(case, fit.test.when.date, p.int("release_tests"))
        return _order(case, draft, answer, dates, evidence.shown(quantity), values, tuple(shown))
    values |= {"row": answer.row, "infection": infection}
    texts: dict[str, Shown] = {
        "igg": evidence.shown(quantity),
        "limit": Amount(p["igg_mg_dl"], "mg/dL"),
        "months": p.int("early_months"),
        "days": p.int("test_days"),
    }
    dates = _test_dates(case, answer, now, fit.test)
    if dates:
        values["next_igg"] = dates[0]
    return Finding(
        rule=RULE,
        outcome=answer.outcome,
        indicator=answer.indicator,
        summary=msg(f"summary.{answer.row}", **_used(answer.row, texts, dates)),
        detail=(
            Paragraph(msg("detail.found", day=fit.test.when.date, **texts)),
            *((Bullet(msg("detail.last-dose", day=now.last)),) if now.last is not None else ()),
            *((_infection_note(case, infections),) if infections.relevant else ()),
            *((Bullet(msg("detail.dose")),) if answer.start else ()),
            *(Bullet(msg("detail.test", day=day)) for day in dates),
            _vaccine_note(case),
        ),
        values=values,
        evidence=tuple(dict.fromkeys(shown)),
        suggestions=(*_start(case, answer.start), *_tests(dates)),
        until=dates[0] if dates else None,
    )


def _vaccine_note(case: Case) -> Bullet:
    key = "immunoglobulin_months"
    inactivated, live = case.p("vaccination.inactivated").int(key), case.p("vaccination.live").int(key)
    return Bullet(msg("detail.vaccines", inactivated=inactivated, live=live))


def _infection_note(case: Case, infections: Burden) -> Bullet:
    months = case.p(RULE).int("infection_months")
    return Bullet(msg("detail.infection", months=months, count=infections.episodes))


def _used(row: str, texts: dict[str, Shown], dates: tuple[date, ...]) -> dict[str, Shown]:
    if row in ("C-no-restart", "C-testing") and dates:
        return {**texts, "next": dates[0]}
    return texts


def _test_dates(case: Case, answer: Answer, now: Replacement, test: Observation) -> tuple[date, ...]:
    """Days of the four-weekly IgG tests still to come, counted from the result that led to the hold."""
    if not answer.tests:
        return ()
    p = case.p(RULE)
    if answer.row == "C-testing" and now.high_run:
        count = p.int("release_tests") - len(now.high_run)
        begin = now.high_run[-1].when.date
    elif answer.row == "C-no-restart":
        count, begin = 1, test.when.date
    else:
        count, begin = p.int("release_tests"), test.when.date
    return _four_weekly(case, begin, count)


def _four_weekly(case: Case, begin: date, count: int) -> tuple[date, ...]:
    """Days of that many regular tests after `begin`; one that is overdue falls on today."""
    step = case.p(RULE).int("test_days")
    return tuple(max(begin + timedelta(days=step * n), case.today) for n in range(1, count + 1))


def _released(
    case: Case, now: Replacement, infections: Burden, values: dict[str, Scalar], shown: tuple[Evidence, ...]
) -> Finding:
    """No further tests, until an infection later than the newest one asks for it."""
    tests = tuple(evidence.of_observation(o) for o in now.high_run)
    since = now.high_run[-1].when.date
    infection = infections.relevant and infections.newest is not None and infections.newest >= since
    values |= {"row": "D-infection" if infection else "D", "released_on": since}
    return Finding(
        rule=RULE,
        outcome=Outcome.DUE if infection else Outcome.DONE,
        indicator=Indicator.WARNING if infection else Indicator.INFO,
        summary=msg("summary.D-infection" if infection else "summary.D", day=since, count=len(now.high_run)),
        detail=(Bullet(msg("detail.released", count=len(now.high_run))),),
        values=values,
        evidence=(*shown, *tests),
        suggestions=_tests((case.today,)) if infection else (),
    )


def _unknown(
    case: Case,
    draft: DrugRecord | None,
    missing: tuple[Missing, ...],
    values: dict[str, Scalar],
    shown: tuple[Evidence, ...],
    key: str,
) -> Finding:
    p = case.p(RULE)
    row = {"summary.stale": "not-a-trough", "summary.no-igg": "no-igg"}.get(key, "unread")
    stale = row == "not-a-trough"
    texts: dict[str, Shown] = {"days": p.int("igg_age_days"), "wash": p.int("trough_days")} if stale else {}
    reference = "" if draft is None else draft.reference
    return Finding(
        rule=RULE,
        outcome=Outcome.CANNOT_CHECK,
        indicator=None if draft is None else Indicator.INFO,
        summary=msg(key, **texts),
        subject=reference,
        resource=reference,
        values={**values, "row": row},
        evidence=shown,
        missing=missing,
        suggestions=_tests((case.today,)),
        unconcluded=True,
    )


def _order(
    case: Case,
    draft: DrugRecord,
    answer: Answer,
    dates: tuple[date, ...],
    igg: Shown,
    values: dict[str, Scalar],
    shown: tuple[Evidence, ...],
) -> Finding:
    p = case.p(RULE)
    limit = Amount(p["igg_mg_dl"], "mg/dL")
    outcome: Outcome = Outcome.PASS
    indicator: Indicator | None = None
    summary: Message = msg("summary.order-pass", igg=igg)
    buttons: tuple[Suggestion, ...] = ()
    row = answer.row
    if dates:
        outcome, indicator, row = Outcome.HOLD, Indicator.WARNING, "order-high"
        summary = msg("summary.order-high", igg=igg, limit=limit, days=p.int("test_days"))
        buttons = _tests(dates)
    elif not answer.start and answer.outcome is not Outcome.CONTINUE:
        outcome, indicator = answer.outcome, Indicator.INFO
        summary = msg("summary.order-choice", igg=igg)
    return Finding(
        rule=RULE,
        outcome=outcome,
        indicator=indicator,
        summary=summary,
        subject=draft.reference,
        resource=draft.reference,
        detail=(_vaccine_note(case),),
        values={**values, "row": row},
        evidence=(evidence.of_drug(draft), *shown),
        suggestions=buttons,
    )


def _start(case: Case, wanted: bool) -> tuple[Suggestion, ...]:
    if not wanted:
        return ()
    proposal = DrugProposal(
        "ivig",
        Route.INTRAVENOUS,
        start=case.today,
        purpose="purpose_replacement",
        reason="hypogammaglobulinemia",
        note=msg("detail.dose"),
    )
    return (Suggestion("start", msg("suggest.start"), (Create(proposal),), recommended=True),)


def _tests(days: tuple[date, ...]) -> tuple[Suggestion, ...]:
    if not days:
        return ()
    actions = tuple(Create(ServiceProposal("igg", day)) for day in days)
    return (Suggestion("igg", msg("suggest.igg", count=len(days)), actions),)
