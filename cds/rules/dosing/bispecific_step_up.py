"""Listed bispecifics other than tarlatamab: judged where the agent table is verified, else only named."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from cards.finding import Bullet, Evidence, Finding, Indicator, Name, Outcome, Paragraph, Shown, msg
from cds.engine.case import Case
from cds.engine.rule import Hook, rule
from cds.rules.bispecific import answers
from cds.rules.bispecific.agents import Agent, Ladder, agents
from cds.rules.bispecific.history import DoseEvent, dose_events
from cds.rules.bispecific.ladder import OffLadder, broken, due_after, place_of
from cds.rules.bispecific.orders import Judged, judge_orders
from cds.rules.bispecific.setting import unmonitored
from cds.rules.bispecific.tarlatamab import DRUG, STEP_UP, history_unread
from cds.rules.evidence import of_drug
from fhir_mapping.chart import DrugRecord, DrugState

RULE = "dosing.bispecific-step-up"


@rule(RULE)
def bispecific_step_up(case: Case) -> Iterator[Finding]:
    for agent in agents().values():
        if agent.concept == DRUG:
            continue  # has rules of its own
        if case.ordering:
            yield from _orders(case, agent)
        else:
            yield from _in_use(case, agent)


def _orders(case: Case, agent: Agent) -> Iterator[Finding]:
    drafts = case.judged_drugs(agent.concept)
    if agent.ladder is None:
        yield from (_unverified(agent, draft.reference, draft) for draft in drafts)
        return
    yield from _judged(case, agent.ladder, {draft.reference for draft in drafts})


def _events(case: Case, ladder: Ladder) -> tuple[DoseEvent, ...]:
    """Dose events up to today."""
    return tuple(e for e in dose_events(case.chart, ladder.agent) if e.day is None or e.day <= case.today)


def _judged(case: Case, ladder: Ladder, wanted: set[str]) -> Iterator[Finding]:
    events = _events(case, ladder)
    if history_unread(case) and not events:
        yield from (answers.unread_finding(RULE, ladder, reference) for reference in sorted(wanted))
        return
    verdicts = judge_orders(
        ladder,
        events,
        case.chart.drafts.drugs.of(ladder.agent),
        case.chart.orders(ladder.agent),
        today=case.today,
        tolerance=case.p(STEP_UP)["admin_dose_tolerance"],
        early_days=case.p(STEP_UP).int("early_tolerance_days"),
    )
    for verdict in verdicts:
        if verdict.reference in wanted:
            yield answers.order_finding(RULE, ladder, verdict, events, blocked=None)
            yield from _place(case, ladder, verdict)


def _place(case: Case, ladder: Ladder, verdict: Judged) -> Iterator[Finding]:
    """A first step outside a place that can treat CRS."""
    encounter = unmonitored(case, ladder, verdict.planned.record, verdict.label)
    if encounter is not None:
        shown: dict[str, Shown] = {"drug": Name(ladder.agent), "label": verdict.label}
        yield Finding(
            rule=RULE,
            outcome=Outcome.CAUTION,
            indicator=Indicator.WARNING,
            summary=msg("summary.setting", **shown),
            subject=f"{verdict.reference}#setting",
            detail=(Paragraph(msg("detail.class")), answers.table_line(ladder)),
            values={"row": "setting", "label": verdict.label},
            evidence=(Evidence(encounter.reference, value=encounter.class_code),),
            resource=verdict.reference,
        )


def _plan(case: Case, ladder: Ladder) -> Iterator[Finding]:
    """The next dose of an agent in use with a verified table."""
    events = _events(case, ladder)
    since = case.today - timedelta(days=case.p(STEP_UP).int("on_treatment_days"))
    ordered = any(order.state is DrugState.ACTIVE for order in case.chart.orders(ladder.agent))
    if not ordered and not any(e.day is not None and e.day >= since for e in events):
        return
    where = place_of(ladder, events, case.p(STEP_UP)["admin_dose_tolerance"])
    if isinstance(where, OffLadder):
        yield answers.unplaced_finding(RULE, ladder, where, events)
        return
    limit = broken(ladder, where, case.today)
    if limit is not None and where.last is not None:
        yield answers.restart_finding(RULE, ladder, limit, where.last, events, case.today)
    else:
        yield answers.plan_finding(RULE, ladder, due_after(ladder, where), events, case.today)


def _in_use(case: Case, agent: Agent) -> Iterator[Finding]:
    """Ordered, or given lately: the next dose, or without a verified table one card of information."""
    if agent.ladder is not None:
        if case.hook is Hook.PATIENT_VIEW:
            yield from _plan(case, agent.ladder)
        return
    since = case.now - timedelta(days=case.p(RULE).int("recent_days"))
    for record in reversed(case.chart.drugs.of(agent.concept)):
        last = record.timing.last or record.timing.first
        recent = record.given and last is not None and last.latest >= since
        if recent or record.state is DrugState.ACTIVE:
            yield _unverified(agent, "", record)
            return


def _unverified(agent: Agent, reference: str, record: DrugRecord) -> Finding:
    evidence: tuple[Evidence, ...] = (of_drug(record),)
    return Finding(
        rule=RULE,
        outcome=Outcome.INFO,
        indicator=Indicator.INFO,
        summary=msg("summary.unverified", drug=Name(agent.concept)),
        subject=reference or agent.concept,
        detail=(
            Paragraph(msg("detail.unverified", drug=Name(agent.concept))),
            Bullet(msg("detail.class")),
            Bullet(msg("detail.version", version=agent.version, dated=agent.dated)),
        ),
        values={"row": "E2", "agent": agent.concept, "table_version": agent.version},
        evidence=evidence,
        resource=reference,
    )
