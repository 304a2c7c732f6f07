"""Listed bispecifics other than tarlatamab: judged where the agent table is verified, else only named."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from cards.finding import Bullet, Evidence, Finding, Indicator, Name, Outcome, Paragraph, msg
from cds.engine.case import Case
from cds.engine.rule import rule
from cds.rules.bispecific import answers
from cds.rules.bispecific.agents import Agent, Ladder, agents
from cds.rules.bispecific.history import dose_events
from cds.rules.bispecific.orders import judge_orders
from cds.rules.bispecific.tarlatamab import DRUG, STEP_UP
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


def _judged(case: Case, ladder: Ladder, wanted: set[str]) -> Iterator[Finding]:
    events = dose_events(case.chart, ladder.agent)
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


def _in_use(case: Case, agent: Agent) -> Iterator[Finding]:
    """Ordered, or given lately, without a verified table: one card of information."""
    if agent.ladder is not None:
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
