"""Non-live vaccines with a novel adjuvant: the handbook's gate of live vaccines, as a matter of timing."""

from __future__ import annotations

from collections.abc import Iterator

from cards.finding import Bullet, Finding, Indicator, Name, Outcome, Paragraph, Selection, Suggestion, msg
from cds.engine.case import Case
from cds.engine.rule import rule
from cds.rules.vaccination.answers import later, offered, removal, substitute, tests
from cds.rules.vaccination.classes import (
    VaccineClass,
    alternative,
    at_most_info,
    concerns,
    drafted,
    name_of,
)
from cds.rules.vaccination.eligibility import (
    after_therapy,
    all_evidence,
    all_missing,
    before_next_course,
    earliest,
    failing,
    gate_values,
    live_gates,
    planned_day,
    table_of,
    unknown,
)
from cds.rules.vaccination.live import reminder_of

RULE = "vaccination.adjuvanted"


@rule(RULE, concerns=concerns(VaccineClass.ADJUVANTED))
def adjuvanted_vaccine(case: Case) -> Iterator[Finding]:
    """Each drafted vaccine of the class; on patient-view what opens when, from month 11 on."""
    if case.ordering:
        yield from _orders(case)
    else:
        reminder = reminder_of(case, RULE, VaccineClass.ADJUVANTED)
        if reminder is not None:
            yield reminder


def _orders(case: Case) -> Iterator[Finding]:
    for vaccine, told in drafted(case, VaccineClass.ADJUVANTED):
        on = planned_day(case, vaccine.when)
        if not after_therapy(case, on):
            continue
        gates = live_gates(case, on)
        name, bad, open_ones = name_of(vaccine, told), failing(gates), unknown(gates)
        first = earliest(gates, on)
        if bad and first is not None:
            outcome, indicator = Outcome.TOO_EARLY, Indicator.WARNING
            summary = msg("summary.not-before", vaccine=name, unmet=len(bad), all=len(gates), first=first)
        elif bad:
            outcome, indicator = Outcome.REVIEW, Indicator.WARNING
            summary = msg("summary.not-met", vaccine=name, unmet=len(bad), all=len(gates))
        elif open_ones:
            outcome, indicator = Outcome.CANNOT_CHECK, Indicator.WARNING
            summary = msg("summary.not-cleared", vaccine=name, open=len(open_ones), all=len(gates))
        elif before_next_course(case, on):
            continue
        else:
            outcome, indicator = Outcome.ELIGIBLE, Indicator.INFO
            summary = msg("summary.eligible", vaccine=name, all=len(gates))
        other = alternative(told.concept)
        buttons: tuple[Suggestion, ...] = ()
        if bad or open_ones:
            only_dates = not open_ones and all(gate.opens is not None for gate in bad)
            move = later(case, vaccine, told, first) if first is not None and only_dates else removal(vaccine)
            buttons = (move, *substitute(case, vaccine, told, on), *tests(gates))
        yield Finding(
            rule=RULE,
            outcome=outcome,
            indicator=at_most_info(vaccine, indicator),
            summary=summary,
            subject=vaccine.reference,
            resource=vaccine.reference,
            detail=(
                table_of(gates),
                *((Bullet(msg("detail.timing")),) if bad or open_ones else ()),
                *((_instead(case, other),) if other and (bad or open_ones) else ()),
                *((Bullet(msg("detail.tests")),) if open_ones else ()),
                Paragraph(msg("detail.response")),
            ),
            values={
                "row": outcome.value,
                "vaccine_class": VaccineClass.ADJUVANTED.value,
                "planned": on,
                **gate_values(gates),
                **({} if first is None else {"earliest": first}),
            },
            evidence=all_evidence(gates),
            missing=all_missing(gates),
            suggestions=offered(vaccine, buttons),
            selection=Selection.ANY if not bad and open_ones else Selection.AT_MOST_ONE,
            until=first,
            unconcluded=outcome is Outcome.CANNOT_CHECK,
        )


def _instead(case: Case, other: str) -> Bullet:
    months = case.p("vaccination.inactivated").int("months_after_infusion")
    return Bullet(msg("detail.instead", vaccine=Name(other), months=months))
