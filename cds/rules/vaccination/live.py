"""Live vaccines after CAR-T cells: blocked until every condition of the gate is proven."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from cards.finding import (
    Bullet,
    Finding,
    Indicator,
    Name,
    Outcome,
    Override,
    Paragraph,
    Selection,
    Suggestion,
    msg,
)
from cds.engine.case import Case
from cds.engine.rule import rule
from cds.rules.vaccination.answers import offered, removal, substitute, tests
from cds.rules.vaccination.classes import (
    VaccineClass,
    alternative,
    at_most_info,
    classify,
    concerns,
    drafted,
    name_of,
)
from cds.rules.vaccination.eligibility import (
    LIVE,
    after_therapy,
    alive,
    all_evidence,
    all_missing,
    before_next_course,
    earliest,
    failing,
    gate_values,
    live_gates,
    planned_day,
    table_of,
    transplants,
    unknown,
)
from fhir_mapping.chart import add_months

OVERRIDES = (Override.SPECIALIST_ADVICE, Override.RISK_BENEFIT, Override.DATA_OUTDATED, Override.OTHER)


@rule(LIVE, concerns=concerns(VaccineClass.LIVE))
def live_vaccine(case: Case) -> Iterator[Finding]:
    """Each drafted live vaccine; on patient-view what opens when, from month 11 on."""
    if case.ordering:
        yield from _orders(case)
    else:
        reminder = reminder_of(case, LIVE, VaccineClass.LIVE)
        if reminder is not None:
            yield reminder


def _orders(case: Case) -> Iterator[Finding]:
    for vaccine, told in drafted(case, VaccineClass.LIVE):
        on = planned_day(case, vaccine.when)
        if not after_therapy(case, on):
            continue
        gates = live_gates(case, on)
        name, bad, open_ones = name_of(vaccine, told), failing(gates), unknown(gates)
        first = earliest(gates, on)
        if bad:
            outcome, indicator = Outcome.CONTRAINDICATED, Indicator.CRITICAL
            if first is None:
                summary = msg("summary.contraindicated", vaccine=name, unmet=len(bad), all=len(gates))
            else:
                summary = msg(
                    "summary.contraindicated-until", vaccine=name, unmet=len(bad), all=len(gates), first=first
                )
        elif open_ones:
            outcome, indicator = Outcome.CANNOT_CHECK, Indicator.CRITICAL
            summary = msg("summary.not-cleared", vaccine=name, open=len(open_ones), all=len(gates))
        elif before_next_course(case, on):
            continue
        else:
            outcome, indicator = Outcome.ELIGIBLE, Indicator.INFO
            summary = msg("summary.eligible", vaccine=name, all=len(gates))
        blocked = outcome is not Outcome.ELIGIBLE
        other = alternative(told.concept)
        buttons: tuple[Suggestion, ...] = ()
        if blocked:
            buttons = (removal(vaccine), *substitute(case, vaccine, told, on), *tests(gates))
        yield Finding(
            rule=LIVE,
            outcome=outcome,
            indicator=at_most_info(vaccine, indicator),
            summary=summary,
            subject=vaccine.reference,
            resource=vaccine.reference,
            detail=(
                table_of(gates),
                *((Bullet(msg("detail.instead", vaccine=Name(other))),) if blocked and other else ()),
                *((Bullet(msg("detail.non-live")),) if blocked and not other else ()),
                *((Bullet(msg("detail.tests")),) if open_ones else ()),
                *_autologous(case, on),
                Paragraph(msg("detail.response")),
            ),
            values={
                "row": outcome.value,
                "vaccine_class": VaccineClass.LIVE.value,
                "planned": on,
                **gate_values(gates),
                **({} if first is None else {"earliest": first}),
            },
            evidence=all_evidence(gates),
            missing=all_missing(gates),
            suggestions=offered(vaccine, buttons),
            selection=Selection.ANY if not bad and open_ones else Selection.AT_MOST_ONE,
            overrides=OVERRIDES,
            until=first,
            unconcluded=outcome is Outcome.CANNOT_CHECK,
        )


def _autologous(case: Case, on: date) -> tuple[Bullet, ...]:
    """The origin paper asks for two years after an autologous transplant too; the handbook does not."""
    months = case.p(LIVE).int("auto_hct_months")
    for graft in transplants(case, "auto_hct"):
        moment = getattr(graft, "start", None) or getattr(graft, "onset", None)
        if moment is not None and on <= add_months(moment.date, months):
            return (Bullet(msg("detail.autologous", day=moment.date, months=months)),)
    return ()


def given_since(case: Case, kind: VaccineClass) -> bool:
    """A vaccine of the class was given after the infusion."""
    start = case.chart.course.last_day0
    return any(
        v.when is not None
        and start is not None
        and v.when.first_date > start
        and not v.subpotent
        and classify(v).vaccine_class is kind
        for v in case.chart.vaccines.all
    )


def reminder_of(case: Case, rule_id: str, kind: VaccineClass) -> Finding | None:
    """The patient-view card of a gated class: open now, or what is still to be met."""
    start = case.chart.course.last_day0
    if start is None or not alive(case) or before_next_course(case, case.today):
        return None
    if case.today < add_months(start, case.p(LIVE).int("reminder_months")):
        return None
    gates = live_gates(case, case.today)
    if given_since(case, kind):
        return Finding(rule_id, Outcome.DONE, None, msg("summary.given"), values={"row": "done"})
    first = earliest(gates, case.today)
    bad, open_ones = failing(gates), unknown(gates)
    if not bad and not open_ones:
        outcome, summary = Outcome.ELIGIBLE, msg("summary.may-be-given")
    elif first is not None:
        outcome, summary = (
            Outcome.WAIT,
            msg("summary.wait-until", first=first, unmet=len(bad), open=len(open_ones)),
        )
    else:
        outcome, summary = Outcome.WAIT, msg("summary.wait", unmet=len(bad), open=len(open_ones))
    return Finding(
        rule=rule_id,
        outcome=outcome,
        indicator=Indicator.INFO,
        summary=summary,
        detail=(table_of(gates), *_autologous_of(case, rule_id), Paragraph(msg("detail.response"))),
        values={
            "row": outcome.value,
            **gate_values(gates),
            **({} if first is None else {"earliest": first}),
        },
        evidence=all_evidence(gates),
        missing=all_missing(gates),
        suggestions=tests(gates),
        until=first,
    )


def _autologous_of(case: Case, rule_id: str) -> tuple[Bullet, ...]:
    return _autologous(case, case.today) if rule_id == LIVE else ()
