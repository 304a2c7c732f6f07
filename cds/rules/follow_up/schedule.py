"""Visits and tests to year 15 (Tables 17 and 18), from day 100 on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum

from cards.finding import (
    AppointmentMove,
    Block,
    Bullet,
    Create,
    Evidence,
    Finding,
    Indicator,
    Message,
    Outcome,
    Paragraph,
    Scalar,
    ServiceProposal,
    Shown,
    Suggestion,
    Table,
    Update,
    msg,
)
from cds.engine.case import Case
from cds.engine.rule import Hook, rule
from cds.rules import evidence
from cds.rules.follow_up.due_dates import Point, point, served, served_by
from cds.rules.follow_up.ivig import released
from cds.rules.follow_up.response import relapse
from fhir_mapping.chart import Appointment, EventState, Observation, Result, add_months

RULE = "follow-up.schedule"
VISIT = "car_t_follow_up"
CONTACT = ("vital_signs_panel", "wbc")  # an observation of the day that proves a contact
SUBSETS = ("cd3_abs", "cd4_abs", "cd8_abs", "nk_abs", "cd19_abs")
PERSISTENCE = "cart_persistence"


def points(case: Case, start: date) -> tuple[Point, ...]:
    """Every due date of Table 17."""
    result: list[Point] = []
    rows = case.p(RULE).table("visits")
    months = [
        (month, int(row["tolerance_days"]))
        for row in rows
        for month in range(int(row["from_month"]), int(row["to_month"]) + 1, int(row["every_months"]))
    ]
    for place, (month, tolerance) in enumerate(months):
        following = months[place + 1][0] if place + 1 < len(months) else month + 12
        result.append(point(start, month, tolerance, following - month))
    return tuple(result)


def first_day(case: Case, start: date) -> date:
    return start + timedelta(days=case.p(RULE).int("first_day"))


def contacts(case: Case, start: date) -> tuple[tuple[date, Evidence], ...]:
    """Outpatient contacts since the schedule began, oldest first: visits, appointments kept, counts taken."""
    begin, chart = first_day(case, start), case.chart
    found: list[tuple[date, Evidence]] = []
    for encounter in chart.encounters:
        if encounter.planned or encounter.start is None:
            continue
        if VISIT in encounter.concepts or encounter.ambulatory:
            found.append(
                (encounter.start.date, Evidence(encounter.reference, VISIT, effective=encounter.start))
            )
    for appointment in chart.appointments.of(VISIT):
        if appointment.state is EventState.TOOK_PLACE and appointment.start is not None:
            found.append((appointment.start.date, evidence.of_fact(appointment, VISIT)))
    for concept in CONTACT:
        for observation in chart.series(concept):
            if observation.when.day_known:
                found.append((observation.when.date, evidence.of_observation(observation)))
    return tuple(sorted((f for f in found if begin <= f[0] <= case.today), key=lambda item: item[0]))


class Need(StrEnum):
    DUE = "due"
    DONE = "done"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of Table 18. `orders`: what a due test orders."""

    word: str
    state: Need
    last: date | None
    orders: tuple[str, ...] = ()


def _newest(case: Case, *concepts: str) -> date | None:
    found = [o.when.date for c in concepts if (o := case.chart.latest(c)) is not None]
    for concept in concepts:
        documents = case.chart.documents.of(concept)
        found += [d.when.date for d in documents if d.when is not None and not d.pending]
    return max(found, default=None)


def _in_range(observation: Observation) -> bool:
    """Within the reference range of that very result."""
    quantity = observation.value.quantity
    if quantity is None or (observation.lln is None and observation.uln is None):
        return False
    low = observation.lln is None or quantity.at_least(observation.lln.value) is True
    return low and (observation.uln is None or quantity.at_most(observation.uln.value) is True)


def subsets_normal(case: Case, start: date) -> bool:
    """Every newest subset since the infusion lies within its own reference range (T cells, CD4, CD8, NK and B
    cells)."""
    newest = [case.chart.latest(concept) for concept in SUBSETS]
    return all(o is not None and o.when.date > start and _in_range(o) for o in newest)


def persistence_over(case: Case, start: date) -> bool:
    """Undetectable twice in a row, newest results since the infusion."""
    since = (o for o in case.chart.series(PERSISTENCE) if o.when.date > start)
    results = [o.value.result for o in since if not o.pending]
    results = [r for r in results if r is not None]
    needed = case.p(RULE).int("undetectable_in_a_row")
    return len(results) >= needed and all(r is Result.NEGATIVE for r in results[-needed:])


def tests(case: Case, every: tuple[Point, ...], start: date) -> tuple[Row, ...]:
    """Tests of Table 18 for the visit that is on: due where the newest result belongs to an earlier visit."""
    past = [p for p in every if p.opens <= case.today]
    this = past[-1].opens if past else first_day(case, start)
    second = past[-2].opens if len(past) > 1 else first_day(case, start)

    def row(word: str, floor: date, orders: tuple[str, ...], *concepts: str) -> Row:
        last = _newest(case, *concepts)
        done = last is not None and last >= floor
        return Row(word, Need.DONE if done else Need.DUE, last, () if done else orders)

    counts = row("cbc", this, ("cbc_panel",), "cbc_panel", "wbc")
    chemistry = row("chemistry", this, ("metabolic_panel",), "metabolic_panel", "creatinine")
    igg = row("immunoglobulins", this, ("igg",), "igg")
    cells = row("immunophenotype", second, SUBSETS, "cd4_abs", "cd3_abs")
    if subsets_normal(case, start):
        cells = Row("immunophenotype", Need.STOPPED, cells.last)
    persistence = row("persistence", this, (PERSISTENCE,), PERSISTENCE)
    if persistence_over(case, start):
        persistence = Row("persistence", Need.STOPPED, persistence.last)
    return counts, chemistry, igg, cells, persistence


@rule(RULE)
def follow_up_schedule(case: Case) -> Iterator[Finding]:
    """Next visit and tests; overdue visits; on appointment-book, which due date a booking serves."""
    start = case.chart.course.last_day0
    if start is None or case.chart.patient.deceased:
        return
    every = points(case, start)
    if case.hook is Hook.APPOINTMENT_BOOK:
        for appointment in case.judged_appointments(VISIT):
            finding = _booking(case, every, appointment)
            if finding is not None:
                yield finding
        return
    if case.today < first_day(case, start):
        if case.hook is Hook.ENCOUNTER_DISCHARGE:
            yield _first(case, every, start)
        return
    yield _status(case, every, start)


def _first(case: Case, every: tuple[Point, ...], start: date) -> Finding:
    first = every[0]
    return Finding(
        rule=RULE,
        outcome=Outcome.WAIT,
        indicator=Indicator.INFO,
        summary=msg("summary.not-started", day=first_day(case, start), next=first.day),
        detail=(Bullet(msg("detail.before")),),
        values={"row": "not-started", "next_visit": first.day, "next_month": first.month},
        until=first.day,
    )


def _status(case: Case, every: tuple[Point, ...], start: date) -> Finding:
    seen = contacts(case, start)
    days = served(every, (day for day, _ in seen))
    last = every[-1]
    final = last.month in days or case.today > last.closes
    values: dict[str, Scalar | list[Scalar]] = {}
    if seen:
        values["last_visit"] = seen[-1][0]
    shown = tuple(item for _, item in seen[-1:])
    if final:
        return Finding(
            rule=RULE,
            outcome=Outcome.DONE,
            indicator=Indicator.INFO,
            summary=msg("summary.complete", month=last.month),
            values={"row": "complete", **values},
            evidence=shown,
        )
    latest = max(days, default=0)
    missed = [p for p in every if p.closes < case.today and p.month not in days and p.month > latest]
    now = [p for p in every if p.day <= case.today <= p.closes and p.month not in days]
    ahead = [p for p in every if p.day > case.today and p.month not in days]
    upcoming = ahead[0] if ahead else last
    rows = tests(case, every, start)
    due_tests = tuple(r for r in rows if r.state is Need.DUE)
    indicator = Indicator.INFO
    until: date | None = upcoming.day
    if missed:
        target = missed[-1]
        outcome, indicator, row = Outcome.OVERDUE, Indicator.WARNING, "overdue"
        values |= {"month": target.month, "due": target.day, "days_overdue": (case.today - target.day).days}
        summary = msg("summary.overdue", month=target.month, due=target.day, next=upcoming.day)
    elif now:
        target = now[-1]
        outcome, row, until = Outcome.DUE, "due", None
        values |= {"month": target.month, "due": target.day}
        summary = msg("summary.due", month=target.month, due=target.day, last=target.closes)
    else:
        outcome, row = Outcome.WAIT, "next"
        summary = msg("summary.next", month=upcoming.month, next=upcoming.day)
    values |= {
        "next_visit": upcoming.day,
        "next_month": upcoming.month,
        "tests_due": [r.word for r in due_tests],
        "persistence": "stopped" if persistence_over(case, start) else "continue",
    }
    orders = tuple(concept for r in due_tests for concept in r.orders)
    buttons: tuple[Suggestion, ...] = ()
    here_today = bool(seen) and seen[-1][0] == case.today
    if orders and (row != "next" or here_today):
        actions = tuple(Create(ServiceProposal(concept)) for concept in orders)
        buttons = (Suggestion("tests", msg("suggest.tests"), actions),)
    return Finding(
        rule=RULE,
        outcome=outcome,
        indicator=indicator,
        summary=summary,
        detail=_detail(case, rows, seen, start),
        values={"row": row, **values},
        evidence=shown,
        suggestions=buttons,
        until=until,
    )


def _detail(
    case: Case, rows: tuple[Row, ...], seen: tuple[tuple[date, Evidence], ...], start: date
) -> tuple[Block, ...]:
    cells: list[tuple[Shown, ...]] = []
    for row in rows:
        last: Shown = msg("word.none") if row.last is None else row.last
        cells.append((msg(f"test.{row.word}"), last, msg(f"word.{row.state.value}")))
    header = (msg("header.test"), msg("header.last"), msg("header.state"))
    blocks: list[Block] = [
        Paragraph(msg("detail.visits")),
        Bullet(msg("detail.last-visit", day=seen[-1][0]) if seen else msg("detail.no-visit")),
        Table(header, tuple(cells)),
        Bullet(msg("detail.viral")),
        Bullet(msg("detail.endocrine")),
        Bullet(msg("detail.content")),
    ]
    if released(case):
        blocks.append(Bullet(msg("detail.igg-released")))
    if relapse(case) is not None:
        blocks.append(Bullet(msg("detail.relapse")))
    if case.today >= add_months(start, 24):
        blocks.append(Bullet(msg("detail.fda")))
    return tuple(blocks)


def _booking(case: Case, every: tuple[Point, ...], appointment: Appointment) -> Finding | None:
    if appointment.start is None:
        return None
    day = appointment.start.date
    target = served_by(every, day)
    if target is None or target.opens <= day <= target.closes:
        return None
    late = day > target.closes
    at = appointment.start.latest + timedelta(days=(target.day - day).days)
    move = Update(AppointmentMove(appointment.reference, at))
    summary: Message = msg(
        "summary.booked-late" if late else "summary.booked-early",
        day=day,
        month=target.month,
        first=target.opens,
        last=target.closes,
    )
    return Finding(
        rule=RULE,
        outcome=Outcome.TOO_LATE if late else Outcome.TOO_EARLY,
        indicator=Indicator.WARNING,
        summary=summary,
        subject=appointment.reference,
        resource=appointment.reference,
        detail=(Paragraph(msg("detail.visits")),),
        values={
            "row": "booking",
            "month": target.month,
            "due": target.day,
            "booked": day,
            "days_outside": (day - target.closes).days if late else (target.opens - day).days,
        },
        evidence=(evidence.of_fact(appointment, VISIT),),
        suggestions=(Suggestion("move", msg("suggest.move", day=target.day), (move,), recommended=True),)
        if target.day >= case.today
        else (),
    )
