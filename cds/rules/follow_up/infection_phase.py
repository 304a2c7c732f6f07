"""Phase after CAR-T cells and the pathogens that are typical of it (Figure 10)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from cards.finding import Bullet, Evidence, Finding, Indicator, Outcome, Paragraph, msg
from cds.engine.case import Case
from cds.engine.rule import rule
from cds.rules import evidence
from cds.rules.after_cart import CULTURES, confirmed_infections
from cds.rules.grading.fever import fevers_between
from fhir_mapping.chart import EventState

RULE = "follow-up.infection-phase"
WORK_UP = (*CULTURES, "viral_pcr_other", "fungal_marker", "cmv_pcr", "ebv_pcr", "adenovirus_pcr", "hhv6_pcr")


def phase_of(case: Case, day: int) -> int:
    """1 acute, 2 delayed, 3 late."""
    p = case.p(RULE)
    if day < p.int("delayed_from_day"):
        return 1
    return 2 if day < p.int("late_from_day") else 3


def _signs(case: Case) -> tuple[Evidence, ...]:
    """Fever of the last days, a confirmed infection, or tests for one taken, or ordered for now."""
    since = case.now - timedelta(days=case.p(RULE).int("sign_days"))
    shown = [
        evidence.of_observation(f.temperature)
        if f.temperature is not None
        else Evidence(f.reference, "fever", effective=f.when)
        for f in fevers_between(case, since, case.now)
    ][-1:]
    shown += confirmed_infections(case)
    for order in case.chart.services.of(*WORK_UP):
        tomorrow = case.today + timedelta(days=1)
        recent = order.when is not None and order.when.latest >= since and order.when.first_date <= tomorrow
        if order.state is EventState.ACTIVE and recent:
            shown.append(evidence.of_fact(order, next(c for c in WORK_UP if c in order.concepts)))
    for concept in CULTURES:
        newest = case.chart.series(concept).latest(case.now)
        if newest is not None and newest.when.latest >= since:
            shown.append(evidence.of_observation(newest))
    return tuple(dict.fromkeys(shown))


@rule(RULE)
def infection_phase(case: Case) -> Iterator[Finding]:
    """The phase, where fever or a work-up asks for it."""
    day = case.chart.course.last_day(case.today)
    if day is None or day < 0 or case.chart.patient.deceased:
        return
    signs = _signs(case)
    if not signs:
        return
    p = case.p(RULE)
    phase = phase_of(case, day)
    early = day <= p.int("text_early_day")
    between = phase == 2 and early
    yield Finding(
        rule=RULE,
        outcome=Outcome.INFO,
        indicator=Indicator.INFO,
        summary=msg(f"summary.phase-{phase}", day=day),
        detail=(
            Paragraph(msg(f"detail.driver-{phase}")),
            Bullet(msg(f"detail.typical-{phase}")),
            *((Bullet(msg("detail.text-early", last=p.int("text_early_day"))),) if between else ()),
            Paragraph(msg("detail.indicative")),
        ),
        values={"row": phase, "phase": phase, "day": day, "text_period": "early" if early else "late"},
        evidence=signs,
    )
