"""Inactivated influenza vaccine after CAR-T cells: from more than three months on, every season."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date

from cards.finding import (
    Bullet,
    Create,
    Finding,
    Indicator,
    Missing,
    Outcome,
    Paragraph,
    Shown,
    Suggestion,
    VaccineProposal,
    msg,
)
from cds.engine.case import Case
from cds.engine.rule import rule
from cds.rules import evidence
from cds.rules.follow_up.b_cell_recovery import Share, b_cells
from cds.rules.unread import VACCINES, unread
from cds.rules.vaccination.answers import allowed, later, offered
from cds.rules.vaccination.classes import (
    Classified,
    VaccineClass,
    at_most_info,
    concerns,
    drafted,
    name_of,
)
from cds.rules.vaccination.eligibility import (
    Gate,
    GateId,
    after_therapy,
    alive,
    drug_names,
    months_passed,
    planned_day,
    suppressing_drugs,
)
from fhir_mapping.chart import LossReason, Vaccine

RULE = "vaccination.influenza"
PRODUCT = "vac_influenza_inactivated"
_OF_INFLUENZA = frozenset(
    {PRODUCT, "vac_influenza_laiv", "vac_influenza_adjuvanted", "vac_influenza_unspecified"}
)


def season_start(case: Case, on: date) -> date | None:
    """First day of the season that `on` falls in; None out of season."""
    first, last = case.facility.influenza_season
    inside = first <= on.month <= last if first <= last else on.month >= first or on.month <= last
    if not inside:
        return None
    return date(on.year if on.month >= first else on.year - 1, first, 1)


def season_of_dose(case: Case, on: date) -> date:
    """First day of the season that a dose on that day counts for: the running one, else the last begun."""
    first = case.facility.influenza_season[0]
    return season_start(case, on) or date(on.year if on.month >= first else on.year - 1, first, 1)


def given(case: Case, counts: Callable[[Vaccine], bool]) -> tuple[tuple[Vaccine, date], ...]:
    """Full doses on the chart that count, with their day, oldest first; of a partial date the first day, so
    that a dose counts only where any of its days would."""
    found = [
        (v, v.when.first_date)
        for v in case.chart.vaccines.all
        if v.when is not None and not v.subpotent and v.when.first_date <= case.today and counts(v)
    ]
    return tuple(sorted(found, key=lambda dose: dose[1]))


def against_influenza(vaccine: Vaccine) -> bool:
    """Of any form: what was given counts, live or not, and also where nobody wrote down which."""
    return not vaccine.concepts.isdisjoint(_OF_INFLUENZA)


def day_of(vaccine: Vaccine) -> Shown:
    """The day of a dose as a card names it: 2025-10-05, or 2025-10 where the chart says no more."""
    when = vaccine.when
    return "" if when is None else (when.date if when.day_known else when)


def weak_response(case: Case, on: date) -> tuple[Bullet, ...]:
    """Why a poor response is likely: B-cell aplasia, immunosuppression."""
    reasons = []
    if b_cells(case).aplasia:
        reasons.append(Bullet(msg("detail.aplasia")))
    drugs = suppressing_drugs(case, on)
    if drugs:
        reasons.append(Bullet(msg("detail.suppressed", drugs=drug_names(drugs))))
    return tuple(reasons)


def waiting_gate(case: Case, rule_id: str, on: date) -> Gate:
    """P3 with the rule's own number of months."""
    return months_passed(case, GateId.P3, case.p(rule_id).int("months_after_infusion"), on)


@rule(RULE, concerns=concerns(VaccineClass.INFLUENZA))
def influenza_vaccine(case: Case) -> Iterator[Finding]:
    """Each drafted influenza vaccine; on patient-view what is due in season."""
    if case.ordering:
        for vaccine, told in drafted(case, VaccineClass.INFLUENZA):
            on = planned_day(case, vaccine.when)
            if after_therapy(case, on):
                yield order_of(case, RULE, vaccine, told, on)
    else:
        yield from _due(case)


def order_of(case: Case, rule_id: str, vaccine: Vaccine, told: Classified, on: date) -> Finding:
    """Verdict on one order of an influenza or SARS-CoV-2 vaccine: only the time since infusion counts."""
    gate = waiting_gate(case, rule_id, on)
    name = name_of(vaccine, told)
    weak = weak_response(case, on)
    indicator: Indicator | None
    suggestions: tuple[Suggestion, ...] = ()
    if gate.holds is False:
        outcome, indicator = Outcome.TOO_EARLY, Indicator.WARNING
        if gate.opens is None:
            months = case.p(rule_id).int("months_after_infusion")
            summary = msg("summary.order-undated", vaccine=name, months=months)
        else:
            summary = msg("summary.order-too-early", vaccine=name, first=gate.opens)
            suggestions = (later(case, vaccine, told, gate.opens),)
    elif gate.holds is None:
        outcome, indicator = Outcome.CANNOT_CHECK, Indicator.WARNING
        summary = msg("summary.order-unknown", vaccine=name)
    elif weak:
        outcome, indicator = Outcome.PASS, Indicator.INFO
        summary = msg("summary.order-weak", vaccine=name)
    else:
        outcome, indicator = Outcome.PASS, None
        summary = msg("summary.order-pass", vaccine=name)
    waiting = gate.holds is False and gate.opens is not None
    return Finding(
        rule=rule_id,
        outcome=outcome,
        indicator=None if indicator is None else at_most_info(vaccine, indicator),
        summary=summary,
        subject=vaccine.reference,
        resource=vaccine.reference,
        detail=(Paragraph(gate.reason), *weak, Paragraph(msg("detail.response"))),
        values={
            "row": "P3" if outcome is not Outcome.PASS else "permitted",
            "vaccine_class": told.vaccine_class.value,
            "planned": on,
            **({"earliest": gate.opens} if waiting and gate.opens is not None else {}),
        },
        evidence=gate.evidence,
        missing=gate.missing,
        suggestions=offered(vaccine, suggestions),
        until=gate.opens if waiting else None,
        unconcluded=gate.holds is None,
    )


def vaccines_unread(rule_id: str, product: str) -> Finding:
    """The vaccine records could not be read: neither due nor done."""
    return Finding(
        rule_id,
        Outcome.CANNOT_CHECK,
        None,
        msg("summary.unread"),
        values={"row": "unread"},
        missing=(Missing(product, LossReason.NOT_FETCHED),),
        unconcluded=True,
    )


def _offer(case: Case, start: date) -> tuple[Suggestion, ...]:
    if not allowed(case, PRODUCT):
        return ()
    label = msg("suggest.vaccine", start=start)
    return (Suggestion("vaccine", label, (Create(VaccineProposal(PRODUCT, start)),), recommended=True),)


def _due(case: Case) -> Iterator[Finding]:
    if case.chart.course.last_day0 is None or not alive(case):
        return
    season = season_start(case, case.today)
    if season is None:
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
    values: dict[str, str | date | int] = {"season_from": season}
    doses = given(case, against_influenza)
    this_season = [dose for dose in doses if dose[1] >= season]
    shown = (*gate.evidence, *(evidence.of_fact(v, PRODUCT) for v, _ in this_season))
    if not gate.holds:
        yield Finding(
            rule=RULE,
            outcome=Outcome.WAIT,
            indicator=Indicator.WARNING,
            summary=msg("summary.wait", first=opens),
            detail=(Paragraph(gate.reason), *_early_note(this_season), Paragraph(msg("detail.response"))),
            values={"row": "not-P3", "earliest": opens, **values},
            evidence=shown,
            suggestions=_offer(case, opens),
            until=opens,
        )
        return
    counting = [dose for dose in this_season if dose[1] >= opens]
    early = [dose for dose in this_season if opens > dose[1] > case.chart.course.last_day0]
    recovered = b_cells(case)
    summary = msg("summary.due")
    outcome, indicator, row = Outcome.DUE, Indicator.WARNING, "due"
    if counting:
        outcome, indicator, row = Outcome.DONE, Indicator.INFO, "done"
        last, values["given_on"] = counting[-1]
        summary = msg("summary.done", day=day_of(last))
        since = recovered.recovered_on
        if recovered.state is Share.RECOVERED and since is not None and since > counting[-1][1]:
            outcome, row = Outcome.CONSIDER, "booster"
            values["recovered_on"] = since
            summary = msg("summary.booster", day=day_of(last), recovered=since)
    elif early:
        outcome, indicator, row = Outcome.CONSIDER, Indicator.INFO, "early-dose"
        last, values["given_on"] = early[-1]
        months = case.p(RULE).int("months_after_infusion")
        summary = msg("summary.early-dose", day=day_of(last), months=months)
    offered = outcome in (Outcome.DUE, Outcome.CONSIDER)
    before = not counting and not early and bool(this_season)
    yield Finding(
        rule=RULE,
        outcome=outcome,
        indicator=indicator,
        summary=summary,
        detail=(
            Paragraph(gate.reason),
            *((Bullet(msg("detail.whatever-recovery")),) if row == "due" else ()),
            *((Bullet(msg("detail.before-infusion", day=day_of(this_season[-1][0]))),) if before else ()),
            *((Bullet(msg("detail.none-recorded")),) if row == "due" and not this_season else ()),
            *weak_response(case, case.today),
            Paragraph(msg("detail.response")),
        ),
        values={"row": row, **values},
        evidence=shown,
        suggestions=_offer(case, case.today) if offered else (),
    )


def _early_note(doses: list[tuple[Vaccine, date]]) -> tuple[Bullet, ...]:
    return (Bullet(msg("detail.given-already", day=day_of(doses[-1][0]))),) if doses else ()
