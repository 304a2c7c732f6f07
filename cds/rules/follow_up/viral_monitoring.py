"""Routine viral PCR after CAR-T cells: not without a risk or a symptom (section 3.2.1)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from cards.finding import (
    Bullet,
    Delete,
    Finding,
    Indicator,
    Missing,
    Name,
    Outcome,
    Paragraph,
    Suggestion,
    msg,
)
from cds.engine.case import Case
from cds.engine.rule import rule
from cds.rules import evidence, steroids
from cds.rules.after_cart import confirmed_infections
from cds.rules.follow_up.prophylaxis_antifungal import steroid_run
from cds.rules.grading.fever import fevers_between
from cds.rules.unread import PROCEDURES, unread
from cds.rules.vaccination.eligibility import transplants
from fhir_mapping.chart import EventState, LossReason, ServiceOrder

RULE = "follow-up.viral-monitoring"
PCRS = ("cmv_pcr", "ebv_pcr", "adenovirus_pcr", "hhv6_pcr", "bkv_pcr", "jcv_pcr")
TRANSPLANTS = ("allo_hct", "auto_hct", "hct_unspecified", "hx_stem_cell_transplant")


def symptoms(case: Case) -> bool:
    """Fever of the last days, or a confirmed infection: symptoms always justify a test."""
    start = case.now - timedelta(days=case.p(RULE).int("symptom_days"))
    return bool(fevers_between(case, start, case.now)) or bool(confirmed_infections(case))


def long_steroid(case: Case) -> bool:
    """High-dose steroid for a long time; an unreadable dose of a long course counts."""
    p = case.p(RULE)
    run = steroid_run(case)
    if run is None or run.days < p.int("steroid_days"):
        return False
    doses = [steroids.daily_equivalent(record) for record in run.records]
    known = [dose for dose in doses if dose is not None]
    return not known or max(known) >= p["steroid_prednisone_mg"]


@rule(RULE)
def viral_monitoring(case: Case) -> Iterator[Finding]:
    """Orders of a routine PCR that no risk and no symptom explains."""
    day = case.chart.course.last_day(case.today)
    if day is None or day < case.p(RULE).int("first_day") or case.chart.patient.deceased:
        return
    if case.ordering:
        orders = case.judged_services(*PCRS)
    else:
        active = (EventState.ACTIVE, EventState.PLANNED)
        orders = tuple(s for s in case.chart.services.of(*PCRS) if s.state in active and _open(s, case))
    routine = [order for order in orders if not order.reasons]
    if not routine or symptoms(case):
        return
    if transplants(case, *TRANSPLANTS) or long_steroid(case):
        return
    if unread(case, PROCEDURES):
        yield Finding(
            RULE,
            Outcome.UNKNOWN,
            Indicator.INFO if case.ordering else None,
            msg("summary.history"),
            subject=routine[0].reference if case.ordering else "",
            resource=routine[0].reference if case.ordering else "",
            values={"row": "history-unknown"},
            missing=(Missing("allo_hct", LossReason.NOT_FETCHED),),
            unconcluded=True,
        )
        return
    if case.ordering:
        for order in routine:
            yield _card(order, order.reference)
    else:
        yield _card(routine[0], "")


def _open(order: ServiceOrder, case: Case) -> bool:
    end = order.until or order.when
    return order.ongoing or end is None or end.date >= case.today - timedelta(days=1)


def _card(order: ServiceOrder, resource: str) -> Finding:
    concept = next(c for c in PCRS if c in order.concepts)
    buttons = (Suggestion("remove", msg("suggest.remove"), (Delete(resource),)),) if resource else ()
    return Finding(
        rule=RULE,
        outcome=Outcome.REVIEW,
        indicator=Indicator.INFO,
        summary=msg("summary.not-needed", test=Name(concept)),
        subject=resource,
        resource=resource,
        detail=(Paragraph(msg("detail.rule")), Bullet(msg("detail.none-recorded"))),
        values={"row": "not-needed", "test": concept},
        evidence=(evidence.of_fact(order, concept),),
        suggestions=buttons,
    )
