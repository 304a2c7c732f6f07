"""Verdicts on orders and plans as findings; one text catalogue for every agent of the table."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal

from cards.finding import (
    ONCE,
    Block,
    Bullet,
    Create,
    Days,
    Delete,
    DrugProposal,
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
    Shown,
    Suggestion,
    Text,
    msg,
)
from cds.rules.bispecific.agents import Ladder, Limit
from cds.rules.bispecific.history import DoseEvent, Kind
from cds.rules.bispecific.ladder import Due, OffLadder, OffReason, restart_label
from cds.rules.bispecific.orders import CRITICAL_ROWS, Judged, Row, inexact, undated
from fhir_mapping.chart import Amount, Dose, DrugRecord, LossReason

CATALOGUE = "dosing.tarlatamab-step-up"
RESTART_CATALOGUE = "dosing.tarlatamab-restart"

_OUTCOMES = {
    Row.UNREADABLE: Outcome.CANNOT_CHECK,
    Row.ROUTE: Outcome.WRONG_ROUTE,
    Row.STRENGTH: Outcome.WRONG_DOSE,
    Row.FIRST_DOSE: Outcome.WRONG_DOSE,
    Row.UNPLACED: Outcome.CANNOT_CHECK,
    Row.RESTEP: Outcome.TOO_LATE,
    Row.DOSE: Outcome.WRONG_DOSE,
    Row.EARLY: Outcome.TOO_EARLY,
    Row.REPEAT: Outcome.TOO_EARLY,
    Row.LATE: Outcome.PASS,
    Row.CORRECT: Outcome.PASS,
    Row.VIALS: Outcome.INFO,
    Row.DURATION: Outcome.INFO,
    Row.DUPLICATE: Outcome.DUPLICATE,
    Row.THIRD_EARLY: Outcome.TOO_EARLY,
    Row.THIRD_OPEN: Outcome.REVIEW,
}
_WARNING_ROWS = frozenset({Row.UNREADABLE, Row.UNPLACED, Row.THIRD_OPEN, Row.DUPLICATE})
_INFO_ROWS = frozenset({Row.LATE, Row.VIALS, Row.DURATION})
_ROW_IDS = {Row.THIRD_EARLY: "D10", Row.THIRD_OPEN: "D10"}
_KEYS = {
    Row.UNREADABLE: "unreadable",
    Row.ROUTE: "route",
    Row.STRENGTH: "strength",
    Row.FIRST_DOSE: "first-dose",
    Row.UNPLACED: "unplaced",
    Row.RESTEP: "restep",
    Row.DOSE: "dose",
    Row.EARLY: "early",
    Row.REPEAT: "repeat",
    Row.LATE: "late",
    Row.CORRECT: "correct",
    Row.VIALS: "vials",
    Row.DURATION: "duration",
    Row.DUPLICATE: "duplicate",
    Row.THIRD_EARLY: "early",
    Row.THIRD_OPEN: "third-open",
}


def m(key: str, /, **values: Shown) -> Message:
    """A text of the shared catalogue."""
    return Message(key, values, CATALOGUE)


def milligrams(value: Decimal) -> Amount:
    return Amount(value, "mg")


def indicator_of(row: Row) -> Indicator | None:
    if row in CRITICAL_ROWS:
        return Indicator.CRITICAL
    if row in _WARNING_ROWS:
        return Indicator.WARNING
    return Indicator.INFO if row in _INFO_ROWS else None


def shown_row(judged: Judged) -> Row:
    """The row that the card is about: the verdict, else the worst addition."""
    rows = (judged.row, *judged.extra)
    return max(rows, key=lambda row: -1 if (i := indicator_of(row)) is None else i.rank)


def event_evidence(events: Sequence[DoseEvent], drug: str) -> tuple[Evidence, ...]:
    return tuple(
        Evidence(
            record.reference,
            drug,
            None if record.dose is None else record.dose.mg,
            "mg",
            record.timing.first,
        )
        for event in events
        for record in event.records
    )


def event_bullets(events: Sequence[DoseEvent]) -> list[Block]:
    """Every dose event with its day, dose and kind; all of them, since each may decide."""
    bullets: list[Block] = []
    for event in events:
        day: Shown = m("event.no-day") if event.day is None else event.day
        dose: Shown = m("event.no-dose") if event.mg is None else milligrams(event.mg)
        bullets.append(Bullet(m("event.line", day=day, dose=dose, kind=m(f"event.{event.kind.value}"))))
    return bullets


def written_dose(dose: Dose | None) -> Shown:
    if dose is None:
        return m("event.no-dose")
    return Text(dose.unreadable) if dose.amount is None else dose.amount


def correction(
    ladder: Ladder, record: DrugRecord, dose: Decimal, start: date, *, recommended: bool
) -> Suggestion:
    """Delete the draft, order the due dose once."""
    return Suggestion(
        key="correct",
        label=m(
            "suggest.correct",
            drug=Name(ladder.agent),
            dose=milligrams(dose),
            route=m(f"given.{ladder.route.value}"),
            start=start,
        ),
        actions=(Delete(record.reference), Create(dose_order(ladder, dose, start))),
        recommended=recommended,
    )


def dose_order(ladder: Ladder, dose: Decimal, start: date) -> DrugProposal:
    return DrugProposal(
        drug=ladder.agent,
        route=ladder.route,
        dose=milligrams(dose),
        repeat=ONCE,
        start=start,
        infusion_minutes=ladder.infusion_minutes,
    )


def _texts(ladder: Ladder, judged: Judged, row: Row) -> dict[str, Shown]:
    values: dict[str, Shown] = {
        "drug": Name(ladder.agent),
        "day": judged.planned.day,
        "ordered": written_dose(judged.planned.dose),
        "label": judged.label,
        "doses": Items(tuple(milligrams(dose) for dose in sorted(ladder.doses))),
    }
    if judged.dose is not None:
        values["dose"] = milligrams(judged.dose)
    if judged.gap is not None:
        values["gap"] = Days(judged.gap)
    if judged.earliest is not None:
        values["earliest"] = judged.earliest
    if judged.start is not None:
        values["start"] = judged.start
    if judged.place is not None and judged.place.last is not None:
        values["last"] = judged.place.last
    if judged.limit is not None:
        values["limit"] = Days(judged.limit.max_days)
    if row is Row.LATE:
        values["late"] = Days(judged.late)
    if row is Row.DURATION:
        values["minutes"] = ladder.infusion_minutes
    if row is Row.ROUTE and judged.planned.record.route is not None:
        values["route"] = Name(judged.planned.record.route.value)
        values["needed"] = m(f"given.{ladder.route.value}")
    return values


def _values(ladder: Ladder, judged: Judged, row: Row) -> dict[str, Scalar | list[Scalar]]:
    values: dict[str, Scalar | list[Scalar]] = {
        "row": _ROW_IDS.get(row, row.value),
        "planned_date": judged.planned.day,
    }
    rows: list[Scalar] = [_ROW_IDS.get(r, r.value) for r in (judged.row, *judged.extra)]
    if len(rows) > 1:
        values["rows"] = rows
    if judged.planned.mg is not None:
        values["dose_mg"] = judged.planned.mg
    if judged.dose is not None:
        values["due_dose_mg"] = judged.dose
        values["label"] = judged.label
    place = judged.place
    if place is not None and place.last is not None:
        values["last_dose"] = place.last
    if judged.gap is not None:
        values["gap_days"] = judged.gap
    if judged.due is not None and judged.gap is not None:
        values["needed_days"] = judged.due.step.min_gap
    if judged.earliest is not None:
        values["earliest"] = judged.earliest
    if judged.late:
        values["late_days"] = judged.late
    if judged.limit is not None and _limit_decides(judged, row):
        values["limit_days"] = judged.limit.max_days
        values["restart_row"] = judged.limit.row + ("'" if judged.restep else "")
    if row in (Row.THIRD_EARLY, Row.THIRD_OPEN):
        values["restart_row"] = "third-dose"
    if judged.follow_up is not None:
        values["follow_up_date"] = judged.follow_up
        values["follow_up_dose_mg"] = ladder.steps[1].dose
    if judged.off is not None:
        values["history"] = judged.off.reason.value
    if not judged.verified and (_limit_decides(judged, row) or row in (Row.THIRD_EARLY, Row.THIRD_OPEN)):
        values["unverified"] = True
    return values


def _limit_decides(judged: Judged, row: Row) -> bool:
    """Does the answer rest on the limit of the break?"""
    return row is Row.LATE or (judged.restep and row in CRITICAL_ROWS)


def _follow_up(rule: str, ladder: Ladder, day: date) -> Block:
    """The step after a new first one; what goes along with it only where rules of the agent's own say so."""
    key = "detail.follow-up" if rule in (CATALOGUE, RESTART_CATALOGUE) else "detail.follow-up-plain"
    return Bullet(m(key, drug=Name(ladder.agent), dose=milligrams(ladder.steps[1].dose), day=day))


def _detail(
    rule: str, ladder: Ladder, judged: Judged, events: Sequence[DoseEvent], row: Row
) -> tuple[Block, ...]:
    blocks: list[Block] = []
    if events:
        blocks.append(Paragraph(m("detail.given", drug=Name(ladder.agent))))
        blocks += event_bullets(events)
    else:
        blocks.append(Paragraph(m("detail.nothing-given", drug=Name(ladder.agent))))
    blocks.append(
        Paragraph(m("detail.order", ordered=written_dose(judged.planned.dose), day=judged.planned.day))
    )
    if undated(judged.planned):
        blocks.append(Bullet(m("detail.undated")))
    elif inexact(judged.planned):
        blocks.append(Bullet(m("detail.inexact-day", day=judged.planned.day)))
    if judged.off is not None:
        blocks.append(Bullet(m(f"off.{judged.off.reason.value}")))
    texts = _texts(ladder, judged, row)
    rows = [judged.row, *judged.extra]
    if judged.restep and judged.row in CRITICAL_ROWS:
        rows.append(Row.RESTEP)  # why the first step is due, whatever the card is about
    for each in dict.fromkeys(rows):
        if each is not Row.CORRECT:
            blocks.append(Paragraph(m(f"criterion.{_KEYS[each]}", **_texts(ladder, judged, each))))
    if judged.dose is not None and row in CRITICAL_ROWS:
        blocks.append(Bullet(m("detail.due", **_pick(texts, "drug", "dose", "label", "start"))))
    if judged.planned.mg is not None and judged.planned.mg == ladder.trial_dose:
        blocks.append(Bullet(m("detail.trial-arm", dose=milligrams(judged.planned.mg))))
    if judged.follow_up is not None:
        blocks.append(_follow_up(rule, ladder, judged.follow_up))
    if not judged.verified and judged.limit is not None and _limit_decides(judged, row):
        blocks.append(Bullet(m("detail.unverified", limit=Days(judged.limit.max_days))))
    if row in (Row.THIRD_EARLY, Row.THIRD_OPEN) and ladder.third_dose is not None:
        blocks.append(Bullet(m("detail.third-unverified", clear=Days(ladder.third_dose.clear))))
    blocks.append(table_line(ladder))
    return tuple(blocks)


def table_line(ladder: Ladder) -> Block:
    """Which edition of the agent table the numbers are from."""
    return Bullet(m("detail.table", version=ladder.version, dated=ladder.dated))


def _pick(values: dict[str, Shown], *keys: str) -> dict[str, Shown]:
    return {key: values[key] for key in keys if key in values}


def order_finding(
    rule: str, ladder: Ladder, judged: Judged, events: Sequence[DoseEvent], *, blocked: Message | None
) -> Finding:
    """The finding of one draft. `blocked` says why no dose may be suggested (pregnancy)."""
    row = shown_row(judged)
    record = judged.planned.record
    suggestions: tuple[Suggestion, ...] = ()
    detail = _detail(rule, ladder, judged, events, row)
    again = Row.DUPLICATE in judged.extra  # its corrected order would be a second one as well
    if row in CRITICAL_ROWS and judged.dose is not None and judged.start is not None and not again:
        if blocked is None:
            sure = judged.verified or not judged.restep
            suggestions = (correction(ladder, record, judged.dose, judged.start, recommended=sure),)
        else:
            detail = (*detail, Bullet(blocked))
    missing: tuple[Missing, ...] = ()
    if row is Row.UNREADABLE:
        dose = judged.planned.dose
        unreadable = "" if dose is None else dose.unreadable
        reason = LossReason.UNIT if dose is not None else LossReason.NOT_ON_CHART
        if judged.planned.mg is not None:  # a range
            reason = LossReason.MALFORMED
        missing = (Missing("dose", reason, record.reference, unreadable),)
    return Finding(
        rule=rule,
        outcome=_OUTCOMES[row],
        indicator=indicator_of(row),
        summary=m(_summary_key(judged, row), **_texts(ladder, judged, row)),
        subject=record.reference,
        detail=detail,
        values=_values(ladder, judged, row),
        evidence=event_evidence(events, ladder.agent),
        missing=missing,
        resource=record.reference,
        suggestions=suggestions,
        until=judged.earliest if row in (Row.EARLY, Row.THIRD_EARLY) else None,
        unconcluded=row is Row.UNREADABLE,
    )


def _summary_key(judged: Judged, row: Row) -> str:
    """A limit that no source bears out is never shown without saying so."""
    unverified = row is Row.RESTEP and not judged.verified
    return f"summary.{_KEYS[row]}" + ("-unverified" if unverified else "")


def unread_finding(rule: str, ladder: Ladder, reference: str) -> Finding:
    """An order while the administrations could not be read: the first step is never assumed."""
    return Finding(
        rule=rule,
        outcome=Outcome.CANNOT_CHECK,
        indicator=Indicator.WARNING,
        summary=m("summary.unread", drug=Name(ladder.agent)),
        subject=reference,
        detail=(Paragraph(m("criterion.unread", drug=Name(ladder.agent))),),
        values={"row": "D7"},
        missing=(Missing(ladder.agent, LossReason.NOT_FETCHED),),
        resource=reference,
        unconcluded=True,
    )


def unplaced_finding(rule: str, ladder: Ladder, off: OffLadder, events: Sequence[DoseEvent]) -> Finding:
    """Patient view: the history cannot be placed."""
    return Finding(
        rule=rule,
        outcome=Outcome.CANNOT_CHECK,
        indicator=Indicator.WARNING,
        summary=m("summary.unplaced", drug=Name(ladder.agent)),
        detail=(
            Paragraph(m("detail.given", drug=Name(ladder.agent))),
            *event_bullets(events),
            Bullet(m(f"off.{off.reason.value}")),
            Paragraph(m("criterion.unplaced", drug=Name(ladder.agent))),
        ),
        values={"row": "D7", "history": off.reason.value},
        evidence=event_evidence(events, ladder.agent),
    )


def plan_finding(rule: str, ladder: Ladder, due: Due, events: Sequence[DoseEvent], today: date) -> Finding:
    """Patient view: the next dose of an unbroken ladder."""
    outcome, key = _standing(due, today)
    shown: dict[str, Shown] = {
        "drug": Name(ladder.agent),
        "dose": milligrams(due.dose),
        "label": due.label,
    }
    values: dict[str, Scalar] = {"label": due.label, "due_dose_mg": due.dose}
    detail: list[Block] = []
    if events:
        detail.append(Paragraph(m("detail.given", drug=Name(ladder.agent))))
        detail += event_bullets(events)
    if due.earliest is not None and due.on_schedule is not None and due.last_day is not None:
        window: dict[str, Shown] = {
            "earliest": due.earliest,
            "due": due.on_schedule,
            "last_day": due.last_day,
        }
        values |= {"earliest": due.earliest, "due_date": due.on_schedule, "last_date": due.last_day}
        detail.append(Paragraph(m("detail.window", **shown, **window)))
        if due.limit is not None and not due.limit.verified:
            detail.append(Bullet(m("detail.unverified", limit=Days(due.limit.max_days))))
            values["unverified"] = True
        summary = m(f"summary.{key}", **shown, **window)
    else:
        summary = m("summary.plan-first", **shown)
        detail.append(Paragraph(m("detail.plan-first", **shown)))
    detail.append(table_line(ladder))
    return Finding(
        rule=rule,
        outcome=outcome,
        indicator=Indicator.INFO,
        summary=summary,
        detail=tuple(detail),
        values=values,
        evidence=event_evidence(events, ladder.agent),
        until=due.earliest,
    )


def _standing(due: Due, today: date) -> tuple[Outcome, str]:
    if due.earliest is None or due.on_schedule is None:
        return Outcome.DUE, "plan-first"
    if today < due.earliest:
        return Outcome.WAIT, "plan-wait"
    if today <= due.on_schedule:
        return Outcome.DUE, "plan-due"
    return Outcome.OVERDUE, "plan-overdue"


def restart_finding(
    rule: str, ladder: Ladder, limit: Limit, last: date, events: Sequence[DoseEvent], today: date
) -> Finding:
    """Patient view: the break was too long, the climb begins again."""
    gap = (today - last).days
    second = ladder.steps[1]
    follow_up = today + timedelta(days=second.due_gap)
    drug = Name(ladder.agent)
    shown: dict[str, Shown] = {
        "drug": drug,
        "gap": Days(gap),
        "last": last,
        "limit": Days(limit.max_days),
        "dose": milligrams(ladder.first.dose),
    }
    detail: list[Block] = [
        Paragraph(m("detail.given", drug=drug)),
        *event_bullets(events),
        Paragraph(Message("detail.restart", shown, RESTART_CATALOGUE)),
        _follow_up(rule, ladder, follow_up),
    ]
    if not limit.verified:
        detail.append(Bullet(m("detail.unverified", limit=Days(limit.max_days))))
    detail.append(table_line(ladder))
    return Finding(
        rule=rule,
        outcome=Outcome.OVERDUE,
        indicator=Indicator.WARNING,
        summary=Message("summary.restart", shown, RESTART_CATALOGUE),
        detail=tuple(detail),
        values={
            "row": limit.row + "'",
            "label": restart_label(ladder),
            "gap_days": gap,
            "limit_days": limit.max_days,
            "due_dose_mg": ladder.first.dose,
            "last_dose": last,
            "follow_up_date": follow_up,
            "follow_up_dose_mg": second.dose,
            "unverified": not limit.verified,
        },
        evidence=event_evidence(events, ladder.agent),
    )


__all__ = [
    "CATALOGUE",
    "Kind",
    "OffReason",
    "correction",
    "dose_order",
    "event_bullets",
    "event_evidence",
    "indicator_of",
    "m",
    "milligrams",
    "msg",
    "order_finding",
    "plan_finding",
    "restart_finding",
    "shown_row",
    "table_line",
    "unplaced_finding",
    "unread_finding",
    "written_dose",
]
