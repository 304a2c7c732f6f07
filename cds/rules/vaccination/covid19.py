"""SARS-CoV-2 vaccine after CAR-T cells: re-vaccination from more than three months on."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from cards.finding import (
    Bullet,
    Create,
    Evidence,
    Finding,
    Indicator,
    Outcome,
    Paragraph,
    ServiceProposal,
    Suggestion,
    VaccineProposal,
    msg,
)
from cds.engine.case import Case
from cds.engine.rule import rule
from cds.rules import evidence
from cds.rules.unread import VACCINES, unread
from cds.rules.vaccination.answers import allowed
from cds.rules.vaccination.classes import VaccineClass, concerns, drafted, protects_as
from cds.rules.vaccination.eligibility import after_therapy, alive, planned_day
from cds.rules.vaccination.influenza import (
    day_of,
    given,
    order_of,
    vaccines_unread,
    waiting_gate,
    weak_response,
)
from fhir_mapping.chart import Vaccine

RULE = "vaccination.covid19"
PRODUCT = "vac_covid19"


def against_covid19(vaccine: Vaccine) -> bool:
    """The dose counts, one combined with influenza too."""
    return protects_as(vaccine, VaccineClass.COVID19)


@rule(RULE, concerns=concerns(VaccineClass.COVID19))
def covid19_vaccine(case: Case) -> Iterator[Finding]:
    """Each drafted SARS-CoV-2 vaccine; on patient-view whether re-vaccination is due."""
    if case.ordering:
        for vaccine, told in drafted(case, VaccineClass.COVID19):
            on = planned_day(case, vaccine.when)
            if after_therapy(case, on):
                yield order_of(case, RULE, vaccine, told, on)
    else:
        yield from _due(case)


def _due(case: Case) -> Iterator[Finding]:
    if case.chart.course.last_day0 is None or not alive(case):
        return
    gate = waiting_gate(case, RULE, case.today)
    opens = gate.opens
    if opens is None:
        return
    if gate.holds and case.chart.course.candidate:
        return  # a new course is planned: vaccination.pre-cart speaks
    if gate.holds and unread(case, VACCINES):
        yield vaccines_unread(RULE, PRODUCT)
        return
    doses = given(case, against_covid19)
    shown = (*gate.evidence, *(evidence.of_fact(v, PRODUCT) for v, _ in doses[-1:]))
    weak = weak_response(case, case.today)
    if not gate.holds:
        yield Finding(
            rule=RULE,
            outcome=Outcome.WAIT,
            indicator=Indicator.INFO,
            summary=msg("summary.wait", first=opens),
            detail=(Paragraph(gate.reason), Paragraph(msg("detail.response"))),
            values={"row": "not-P3", "earliest": opens},
            evidence=shown,
            until=opens,
        )
        return
    counting = [dose for dose in doses if dose[1] >= opens]
    if counting:
        yield _done(case, *counting[-1], gate.evidence)
        return
    row = "revaccinate" if doses else "due"
    note = (
        msg("detail.earlier-doses", count=len(doses), day=day_of(doses[-1][0]))
        if doses
        else msg("detail.none-recorded")
    )
    buttons: tuple[Suggestion, ...] = ()
    if allowed(case, PRODUCT):
        proposal = VaccineProposal(PRODUCT, case.today)
        buttons = (
            Suggestion(
                "vaccine", msg("suggest.vaccine", start=case.today), (Create(proposal),), recommended=True
            ),
        )
    yield Finding(
        rule=RULE,
        outcome=Outcome.DUE,
        indicator=Indicator.WARNING,
        summary=msg("summary.revaccinate") if doses else msg("summary.due"),
        detail=(
            Paragraph(gate.reason),
            Bullet(note),
            Bullet(msg("detail.whatever-recovery")),
            *weak,
            Paragraph(msg("detail.response")),
        ),
        values={"row": row, "doses_recorded": len(doses)},
        evidence=shown,
        suggestions=buttons,
    )


def _done(case: Case, dose: Vaccine, day: date, shown: tuple[Evidence, ...]) -> Finding:
    """A dose after the waiting time: monitor the response, once."""
    serology = [o for o in case.chart.series("vaccine_serology") if o.when.date >= day]
    found = bool(serology)
    buttons = (
        ()
        if found
        else (
            Suggestion("serology", msg("suggest.serology"), (Create(ServiceProposal("vaccine_serology")),)),
        )
    )
    return Finding(
        rule=RULE,
        outcome=Outcome.DONE,
        indicator=None if found else Indicator.INFO,
        summary=msg("summary.done", day=day_of(dose)),
        detail=(Bullet(msg("detail.serology")), Paragraph(msg("detail.response"))),
        values={"row": "done", "given_on": day, "serology_recorded": found},
        evidence=(
            *shown,
            evidence.of_fact(dose, PRODUCT),
            *(evidence.of_observation(o) for o in serology[-1:]),
        ),
        suggestions=buttons,
    )
