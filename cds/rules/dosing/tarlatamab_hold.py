"""Withhold, resume, stop tarlatamab: the card. The worst of stop > hold > review > go over all rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from cards.finding import (
    Block,
    Bullet,
    Create,
    Days,
    Delete,
    Finding,
    Heading,
    Indicator,
    Message,
    Outcome,
    Override,
    Paragraph,
    Scalar,
    ServiceProposal,
    Suggestion,
    msg,
)
from cds.engine.case import Case
from cds.engine.rule import Hook, rule
from cds.rules.bispecific import labs
from cds.rules.bispecific.holds.rows import RULE, Action, HoldRow
from cds.rules.bispecific.holds.state import hold_state
from cds.rules.bispecific.orders import Judged
from cds.rules.bispecific.tarlatamab import dosed, live_orders, on_treatment, recorded_stop, under_judgement

_OUTCOME = {
    Action.STOP: Outcome.STOP,
    Action.HOLD: Outcome.HOLD,
    Action.REVIEW: Outcome.REVIEW,
    Action.NOTE: Outcome.INFO,
}


@rule(RULE)
def tarlatamab_hold(case: Case) -> Iterator[Finding]:
    state = hold_state(case)
    if case.hook is Hook.PATIENT_VIEW:
        ordered_after_stop = recorded_stop(case) is not None and bool(live_orders(case))
        if state.own and (on_treatment(case) or ordered_after_stop):
            yield _finding(case, state.own, None)
        return
    judged = under_judgement(case)
    for one in judged:
        if state.own:
            yield _finding(case, state.own, one)
    if judged and state.action < Action.HOLD and dosed(case):
        yield from _uncleared(case, judged[0])


def _indicator(case: Case, worst: HoldRow) -> Indicator:
    ordering = case.hook is not Hook.PATIENT_VIEW
    match worst.action:
        case Action.STOP:
            return Indicator.CRITICAL
        case Action.HOLD:
            return Indicator.CRITICAL if ordering or worst.alarming else Indicator.WARNING
        case Action.REVIEW:
            return Indicator.WARNING
    return Indicator.INFO


def _finding(case: Case, rows: Sequence[HoldRow], judged: Judged | None) -> Finding:
    worst = rows[0]
    reference = "" if judged is None else judged.reference
    values: dict[str, Scalar | list[Scalar]] = {"row": worst.row, **worst.values}
    values["rows"] = list(dict.fromkeys(row.row for row in rows))
    if worst.day0 is not None:
        values["since"] = worst.day0
    if worst.days_left is not None:
        values["days_left"] = worst.days_left
    return Finding(
        rule=RULE,
        outcome=_OUTCOME[worst.action],
        indicator=_indicator(case, worst),
        summary=msg(f"summary.{_OUTCOME[worst.action].value}", why=worst.text),
        subject=reference,
        detail=tuple(_detail(rows)),
        values=values,
        evidence=tuple(dict.fromkeys(e for row in rows for e in row.evidence)),
        missing=tuple(m for row in rows for m in row.missing),
        resource=reference,
        suggestions=tuple(_suggestions(rows, worst, judged)),
        overrides=(
            Override.RISK_BENEFIT,
            Override.OTHER_CAUSE,
            Override.SPECIALIST_ADVICE,
            Override.DATA_OUTDATED,
            Override.OTHER,
        ),
    )


def _detail(rows: Sequence[HoldRow]) -> Iterator[Block]:
    """The rows, then what to do. After a stop nothing resumes: what else was found stands apart."""
    worst = rows[0].action
    deciding = [row for row in rows if worst is not Action.STOP or row.action is Action.STOP]
    for row in deciding:
        yield Bullet(row.text)
    for row in deciding:
        if row.action is Action.HOLD and row.days_left is not None and row.days_left >= 0:
            yield Bullet(msg("detail.days-left", row=row.row, left=Days(row.days_left)))
    if any(row.row in ("N1", "N2") for row in rows):
        yield Bullet(msg("detail.gcsf"))
    if any(row.row in ("N1", "N2", "P1") for row in rows):
        yield Paragraph(msg("detail.onset"))
    if worst in (Action.HOLD, Action.STOP):
        yield Heading(msg("heading.what"))
        yield Paragraph(msg(f"detail.{_OUTCOME[worst].value}"))
    others = [row for row in rows if row not in deciding]
    if others:
        yield Heading(msg("heading.also"))
        yield from (Bullet(row.text) for row in others)


def _suggestions(rows: Iterable[HoldRow], worst: HoldRow, judged: Judged | None) -> Iterator[Suggestion]:
    if judged is not None and worst.action in (Action.STOP, Action.HOLD):
        yield Suggestion("delete", msg("suggest.delete"), (Delete(judged.reference),), recommended=True)
    tests = tuple(dict.fromkeys(test for row in rows for test in row.labs))
    if tests:
        yield lab_orders("repeat", msg("suggest.repeat"), tests)


def lab_orders(key: str, label: Message, tests: Iterable[str]) -> Suggestion:
    return Suggestion(key, label, tuple(Create(ServiceProposal(test)) for test in tests))


def _uncleared(case: Case, judged: Judged) -> Iterator[Finding]:
    """Results before the dose are missing or stale: the dose cannot be cleared (not a hold)."""
    days = case.p("readiness.tarlatamab").int("pre_dose_lab_max_age_days")
    start = labs.planned_start(case, judged.planned.record)
    found = labs.gaps(case, (*labs.CBC, *labs.LIVER), start, days)
    if not found:
        return
    yield Finding(
        rule=RULE,
        outcome=Outcome.CANNOT_CHECK,
        indicator=Indicator.WARNING,
        summary=msg("summary.uncleared", days=Days(days)),
        subject=f"{judged.reference}#labs",
        detail=(Paragraph(msg("detail.uncleared", days=Days(days))),),
        values={"row": "labs", "tests": [gap.concept for gap in found]},
        missing=tuple(gap.missing for gap in found),
        resource=judged.reference,
        suggestions=(lab_orders("labs", msg("suggest.labs"), [gap.concept for gap in found]),),
        unconcluded=True,
    )
