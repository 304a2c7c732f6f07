"""Which tarlatamab dose, when, and is this order right (monograph: infusion schedule).

Rows D3-D7 and D9-D16; D1 and D2 speak through `dosing.tarlatamab-hold`, the restart table through
`dosing.tarlatamab-restart`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from cards.finding import (
    Finding,
    Missing,
    Name,
    Outcome,
    msg,
)
from cds.engine.case import Case
from cds.engine.rule import Hook, rule
from cds.rules.bispecific import answers
from cds.rules.bispecific.holds.rows import Action
from cds.rules.bispecific.holds.state import hold_state
from cds.rules.bispecific.ladder import OffLadder, broken, due_after
from cds.rules.bispecific.orders import RESTART_ROWS, Judged, Row
from cds.rules.bispecific.tarlatamab import (
    DRUG,
    STEP_UP,
    dosed,
    history_unread,
    on_treatment,
    place,
    tarlatamab_events,
    tarlatamab_ladder,
    under_judgement,
)
from cds.rules.bispecific.toxicity import crs_history
from cds.rules.readiness.tarlatamab_pregnancy import Pregnancy, pregnancy
from fhir_mapping.chart import LossReason


def stopped_or_held(case: Case) -> bool:
    """Rows D1, D2: the hold rule answers for every order."""
    return hold_state(case).action in (Action.STOP, Action.HOLD)


def order_findings(case: Case, rule_id: str) -> Iterator[Finding]:
    """Findings of the drafts under judgement that belong to `rule_id` (decision 1: restart or step-up)."""
    pregnant = pregnancy(case).state is Pregnancy.PREGNANT
    blocked = answers.m("detail.blocked-pregnancy") if pregnant else None
    for judged in under_judgement(case):
        restart = judged.row in RESTART_ROWS
        if restart is (rule_id == STEP_UP):
            continue
        yield answers.order_finding(
            rule_id,
            tarlatamab_ladder(),
            _slower_allowed(case, judged),
            tarlatamab_events(case),
            blocked=blocked,
        )


def _slower_allowed(case: Case, judged: Judged) -> Judged:
    """After CRS a slower infusion is no point to make (row D15)."""
    minutes, history = judged.planned.record.timing.infusion_minutes, crs_history(case)
    slower = minutes is not None and minutes > tarlatamab_ladder().infusion_minutes
    if not slower or history is None or not history.ever:
        return judged
    return replace(judged, extra=tuple(row for row in judged.extra if row is not Row.DURATION))


@rule(STEP_UP)
def step_up(case: Case) -> Iterator[Finding]:
    if case.hook is Hook.PATIENT_VIEW:
        yield from _plan(case)
        return
    if stopped_or_held(case):
        return
    if history_unread(case) and not dosed(case):
        for judged in under_judgement(case):
            yield answers.unread_finding(STEP_UP, tarlatamab_ladder(), judged.reference)
        return
    yield from order_findings(case, STEP_UP)


def _plan(case: Case) -> Iterator[Finding]:
    """Patient view: the next dose. Silent while a stop or hold speaks, and once a re-step-up is due."""
    if not on_treatment(case) or stopped_or_held(case):
        return
    where = place(case)
    events = tarlatamab_events(case)
    if isinstance(where, OffLadder):
        yield answers.unplaced_finding(STEP_UP, tarlatamab_ladder(), where, events)
        return
    ladder = tarlatamab_ladder()
    if history_unread(case) and not dosed(case):
        yield Finding(
            rule=STEP_UP,
            outcome=Outcome.CANNOT_CHECK,
            indicator=None,
            summary=msg("summary.unread", drug=Name(DRUG)),
            missing=(Missing(DRUG, LossReason.NOT_FETCHED),),
            unconcluded=True,
        )
        return
    if not broken(ladder, where, case.today):
        yield answers.plan_finding(STEP_UP, ladder, due_after(ladder, where), events, case.today)
