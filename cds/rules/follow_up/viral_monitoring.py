"""Routine viral PCR after CAR-T cells: not without a risk or a symptom (section 3.2.1)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal

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
from cds.rules.follow_up import icaht_workup
from cds.rules.follow_up.prophylaxis_antifungal import steroid_run
from cds.rules.grading.fever import fevers_between
from cds.rules.grading.iec_hs_episode import Status, iec_hs_now
from cds.rules.unread import PROCEDURES, unread
from cds.rules.vaccination.eligibility import transplants
from fhir_mapping.chart import DrugRecord, DrugSource, EventState, LossReason, ServiceOrder

RULE = "follow-up.viral-monitoring"
PCRS = ("cmv_pcr", "ebv_pcr", "adenovirus_pcr", "hhv6_pcr", "bkv_pcr", "jcv_pcr")
TRANSPLANTS = ("allo_hct", "auto_hct", "hct_unspecified", "hx_stem_cell_transplant")


def symptoms(case: Case) -> bool:
    """Symptoms always justify a test: fever of the last days, a confirmed infection, or a toxicity whose
    work-up asks for viruses."""
    start = case.now - timedelta(days=case.p(RULE).int("symptom_days"))
    if fevers_between(case, start, case.now) or confirmed_infections(case):
        return True
    hyperinflamed = iec_hs_now(case)
    return (
        icaht_workup.wanted(case)
        or icaht_workup.neurological_signs(case)
        or (hyperinflamed is not None and hyperinflamed.status.rank >= Status.POSSIBLE.rank)
    )


def _daily_doses(records: tuple[DrugRecord, ...]) -> Iterator[Decimal]:
    """mg prednisone per day: what each step of an order or statement says, alone and with the steps that it
    meets, and what was given on each day."""
    given: dict[date, Decimal] = defaultdict(Decimal)
    for record in records:
        if record.source is not DrugSource.ADMINISTRATION:
            for step in record.by_instruction():
                begins = None if step.timing.first is None else step.timing.first.date
                alone, together = steroids.daily_equivalent(step), steroids.daily_equivalent(record, begins)
                yield from filter(None, (alone, together))
        elif (one := steroids.dose_equivalent(record)) is not None and record.timing.first is not None:
            given[record.timing.first.date] += one
    yield from given.values()


def long_steroid(case: Case) -> bool:
    """High-dose steroid for a long time, running or ended lately; an unreadable dose of a long course
    counts."""
    p = case.p(RULE)
    run = steroid_run(case, timedelta(days=p.int("steroid_ended_days")))
    if run is None or run.days < p.int("steroid_days"):
        return False
    known = tuple(_daily_doses(run.records))
    return not known or max(known) >= p["steroid_prednisone_mg"]


@rule(RULE)
def viral_monitoring(case: Case) -> Iterator[Finding]:
    """Orders of a routine PCR that no risk and no symptom explains."""
    day = case.chart.course.last_day(case.today)
    if day is None or day < case.p(RULE).int("first_day") or case.chart.patient.deceased:
        return
    if case.chart.course.candidate:
        return  # viruses are looked for before the next cells
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
