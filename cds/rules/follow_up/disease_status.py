"""Response assessment after CAR-T cells: when it is due, which test by disease (section 3.3)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta

from cards.finding import (
    AppointmentMove,
    Bullet,
    Create,
    Evidence,
    Finding,
    Indicator,
    Name,
    Outcome,
    Paragraph,
    Scalar,
    ServiceProposal,
    Suggestion,
    Update,
    msg,
)
from cds.engine.case import Case
from cds.engine.rule import Hook, rule
from cds.rules import evidence
from cds.rules.follow_up.due_dates import Point, halfway, point, served, served_by
from cds.rules.follow_up.response import B_ALL, LYMPHOMA, MYELOMA, has_disease, relapse
from fhir_mapping.chart import Appointment, EventState, Flag, Observation

RULE = "follow-up.disease-status"
MARROW = ("bone_marrow_aspiration", "marrow_biopsy", "mrd", "marrow_blasts", "marrow_flow_cytometry")
IMAGING = ("pet_ct", "ct", "mri", "imaging_other")
VISITS = ("disease_assessment", "pet_ct", "bone_marrow_aspiration")


def points(case: Case, start: date) -> tuple[Point, ...]:
    """Months 1 (its own window), 3, 6, 9, 12, then every 6 months to the last month."""
    p = case.p(RULE)
    first, last = p.int("month1_from_day"), p.int("month1_to_day")
    found = [
        Point(
            1, start + timedelta(days=first), start + timedelta(days=first), start + timedelta(days=last), 2
        )
    ]
    months = [int(word) for word in p.words("first_year_months")]
    step = p.int("later_interval_months")
    later = list(range(months[-1] + step, p.int("last_month") + 1, step))
    every = [*months, *later]
    for place, month in enumerate(every):
        following = every[place + 1] if place + 1 < len(every) else month + step
        near = p.int("early_window_days") if month <= months[-1] else p.int("late_window_days")
        found.append(point(start, month, near, following - month))
    return tuple(found)


def _tests_of(case: Case) -> tuple[str, ...]:
    """What can assess the disease: an image alone does not tell whether leukaemia is gone."""
    leukaemia_only = has_disease(case, *B_ALL) and not has_disease(case, *LYMPHOMA, *MYELOMA)
    return MARROW if leukaemia_only else (*MARROW, *IMAGING)


def _tells(observation: Observation) -> bool:
    """There is a result, and it could be evaluated."""
    value = observation.value
    if observation.pending or (value.empty and value.absent_reason):
        return False
    return "not_evaluable" not in value.codes


def assessments(case: Case, start: date) -> tuple[tuple[date, Evidence], ...]:
    """Every sign of a response assessment after the infusion, oldest first: recorded response, MRD, marrow,
    imaging."""
    chart = case.chart
    tests = _tests_of(case)
    found: list[tuple[date, Evidence]] = []
    for concept in ("disease_response", *tests):
        for observation in chart.series(concept):
            if _tells(observation):
                found.append((observation.when.date, evidence.of_observation(observation)))
    for procedure in chart.procedures.of(*tests):
        if procedure.state in (EventState.DONE, EventState.RUNNING) and procedure.start is not None:
            concept = next(c for c in tests if c in procedure.concepts)
            found.append((procedure.start.date, evidence.of_fact(procedure, concept)))
    for document in chart.documents.of(*tests):
        if document.when is not None and not document.pending:
            concept = next(c for c in tests if c in document.concepts)
            found.append((document.when.date, evidence.of_fact(document, concept)))
    return tuple(sorted((f for f in found if start < f[0] <= case.today), key=lambda item: item[0]))


def _booked(case: Case) -> bool:
    """An assessment is booked from today on."""
    booked = (a for a in case.chart.appointments.of(*VISITS) if a.state is EventState.BOOKED)
    return any(a.start is not None and a.start.date >= case.today for a in booked)


def test_of(case: Case) -> str:
    """The assessment of the disease: marrow for leukaemia and myeloma, PET for lymphoma; "" unknown."""
    if has_disease(case, *B_ALL, *MYELOMA):
        return "bone_marrow_aspiration"
    return "pet_ct" if has_disease(case, *LYMPHOMA) else ""


@rule(RULE)
def disease_status(case: Case) -> Iterator[Finding]:
    """The assessment that is due or overdue; on appointment-book, which due date a booking serves."""
    start = case.chart.course.last_day0
    if start is None or case.chart.patient.deceased or relapse(case) is not None:
        return
    if case.hook is Hook.APPOINTMENT_BOOK:
        for appointment in case.judged_appointments(*VISITS):
            finding = _booking(case, start, appointment)
            if finding is not None:
                yield finding
        return
    finding = _due(case, start)
    if finding is not None:
        yield finding


def _due(case: Case, start: date) -> Finding | None:
    every = points(case, start)
    open_ones = [p for p in every if p.opens <= case.today]
    if not open_ones:
        return None
    current = open_ones[-1]
    done = assessments(case, start)
    days = served(every, (day for day, _ in done))
    values: dict[str, Scalar] = {
        "month": current.month,
        "due": current.day,
        "window_from": current.opens,
        "window_to": current.closes,
    }
    if current.month in days:
        values |= {"row": "done", "done_on": days[current.month]}
        return Finding(RULE, Outcome.DONE, None, msg("summary.done", day=days[current.month]), values=values)
    if case.today <= current.closes:
        outcome, indicator, row = Outcome.DUE, Indicator.INFO, "due"
    elif case.today < halfway(current):
        outcome, indicator, row = Outcome.OVERDUE, Indicator.WARNING, "overdue"
        values["days_overdue"] = (case.today - current.closes).days
    else:
        return None
    test = test_of(case)
    summary = msg(
        f"summary.{row}", month=current.month, first=current.opens, last=current.closes, due=current.day
    )
    buttons: tuple[Suggestion, ...] = ()
    if test and not _booked(case):
        label = msg("suggest.order", test=Name(test))
        buttons = (Suggestion("order", label, (Create(ServiceProposal(test)),), recommended=True),)
    last = (Bullet(msg("detail.last", day=done[-1][0])),) if done else (Bullet(msg("detail.none")),)
    return Finding(
        rule=RULE,
        outcome=outcome,
        indicator=indicator,
        summary=summary,
        detail=(
            Paragraph(msg("detail.rule")),
            *last,
            *(
                (Bullet(msg("detail.test", test=Name(test))),)
                if test
                else (Bullet(msg("detail.no-disease")),)
            ),
            *((Bullet(msg("detail.month1")),) if current.month == 1 else ()),
        ),
        values={"row": row, **values},
        evidence=tuple(item for _, item in done[-1:]),
        suggestions=buttons,
        until=current.day if current.day > case.today else None,
    )


def _booking(case: Case, start: date, appointment: Appointment) -> Finding | None:
    if appointment.start is None:
        return None
    day = appointment.start.date
    every = points(case, start)
    target = served_by(every, day)
    if target is None or target.opens <= day <= target.closes:
        return None
    late = day > target.closes
    off = (day - target.closes).days if late else (target.opens - day).days
    at: date | datetime = target.day
    if appointment.start.exact:
        at = appointment.start.latest + timedelta(days=(target.day - day).days)
    move = Update(AppointmentMove(appointment.reference, at))
    estimated = Flag.BOOKING_ONLY in appointment.flags
    return Finding(
        rule=RULE,
        outcome=Outcome.TOO_LATE if late else Outcome.TOO_EARLY,
        indicator=Indicator.WARNING,
        summary=msg(
            "summary.booked-late" if late else "summary.booked-early",
            day=day,
            month=target.month,
            first=target.opens,
            last=target.closes,
        ),
        subject=appointment.reference,
        resource=appointment.reference,
        detail=(Paragraph(msg("detail.rule")),),
        values={
            "row": "booking",
            "month": target.month,
            "due": target.day,
            "booked": day,
            "days_outside": off,
            **({"estimated": True} if estimated else {}),
        },
        evidence=(evidence.of_fact(appointment, "disease_assessment"),),
        suggestions=(Suggestion("move", msg("suggest.move", day=target.day), (move,), recommended=True),)
        if target.day >= case.today
        else (),
    )
