"""Inactivated, recombinant, toxoid and conjugate vaccines after CAR-T cells."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

from cards.finding import Bullet, Finding, Indicator, Name, Outcome, Paragraph, Suggestion, msg
from cds.engine.case import Case
from cds.engine.rule import rule
from cds.rules.unread import VACCINES, unread
from cds.rules.vaccination.answers import later, offered, removal
from cds.rules.vaccination.classes import (
    Classified,
    VaccineClass,
    at_most_info,
    classify,
    concerns,
    drafted,
    name_of,
    post_exposure,
)
from cds.rules.vaccination.eligibility import (
    INACTIVATED,
    Gate,
    GateId,
    after_therapy,
    alive,
    all_evidence,
    all_missing,
    before_next_course,
    earliest,
    failing,
    gate_values,
    immunoglobulin,
    inactivated_gates,
    planned_day,
    table_of,
    unknown,
)
from cds.rules.vaccination.influenza import vaccines_unread
from fhir_mapping.chart import Vaccine, add_months


@rule(INACTIVATED, concerns=concerns(VaccineClass.INACTIVATED))
def inactivated_vaccine(case: Case) -> Iterator[Finding]:
    """Each drafted vaccine of the class; on patient-view a reminder from month 6 on."""
    if case.ordering:
        for vaccine, told in drafted(case, VaccineClass.INACTIVATED):
            finding = _order(case, vaccine, told)
            if finding is not None:
                yield finding
    else:
        yield from _reminder(case)


def _order(case: Case, vaccine: Vaccine, told: Classified) -> Finding | None:
    on = planned_day(case, vaccine.when)
    if not after_therapy(case, on):
        return None
    name = name_of(vaccine, told)
    gates = inactivated_gates(case, on)
    bad, open_ones, first = failing(gates), unknown(gates), earliest(gates, on)
    drugs = next((g for g in bad if g.id is GateId.ISFREE), None)
    suggestions: tuple[Suggestion, ...] = ()
    if post_exposure(vaccine):
        outcome, indicator, row = Outcome.PASS, Indicator.INFO, "post-exposure"
        summary = msg("summary.post-exposure", vaccine=name)
    elif drugs is not None:
        outcome, indicator, row = Outcome.CONTRAINDICATED, Indicator.WARNING, "ISFREE"
        summary = msg("summary.suppressed", vaccine=name, drugs=drugs.reason.values["drugs"])
        suggestions = (removal(vaccine),)
    elif bad:
        row = "P6" if any(g.id is GateId.P6 for g in bad) else "IG2"
        outcome, indicator = Outcome.TOO_EARLY, Indicator.WARNING
        if immunoglobulin(case, on).running:
            key = "running-open" if first is None else "running"
            summary = msg(f"summary.{key}", vaccine=name, **({} if first is None else {"first": first}))
        elif first is not None:
            summary = msg("summary.too-early", vaccine=name, first=first)
            suggestions = (later(case, vaccine, told, first),)
        else:
            summary = msg("summary.too-early-undated", vaccine=name)
    elif open_ones:
        outcome, indicator, row = Outcome.CANNOT_CHECK, Indicator.WARNING, "unknown"
        summary = msg("summary.unknown", vaccine=name, open=len(open_ones))
    elif before_next_course(case, on):
        return None
    else:
        outcome, indicator, row = Outcome.ELIGIBLE, Indicator.INFO, "none"
        summary = msg("summary.eligible", vaccine=name)
    return Finding(
        rule=INACTIVATED,
        outcome=outcome,
        indicator=at_most_info(vaccine, indicator),
        summary=summary,
        subject=vaccine.reference,
        resource=vaccine.reference,
        detail=(
            table_of(gates),
            *_notes(case, gates, on),
            Paragraph(msg("detail.response")),
        ),
        values={
            "row": row,
            "vaccine_class": VaccineClass.INACTIVATED.value,
            "planned": on,
            **gate_values(gates),
            **({} if first is None else {"earliest": first}),
        },
        evidence=all_evidence(gates),
        missing=all_missing(gates),
        suggestions=offered(vaccine, suggestions),
        until=first if row != "post-exposure" else None,
        unconcluded=outcome is Outcome.CANNOT_CHECK,
    )


def _notes(case: Case, gates: tuple[Gate, ...], on: date) -> tuple[Bullet, ...]:
    notes = [Bullet(msg("detail.counts-not-needed"))]
    if any(g.id is GateId.IG2 and g.holds is False for g in gates) and immunoglobulin(case, on).running:
        notes.append(Bullet(msg("detail.ivig")))
    p = case.p(INACTIVATED)
    months = p.int("b_antibody_months")
    antibodies = {str(row["drug"]) for row in p.table("b_antibodies")}
    start = case.chart.course.last_day0
    for exposure in case.chart.exposures:
        if exposure.ingredient not in antibodies or exposure.last is None:
            continue
        after = start is None or exposure.last.date > start
        if after and exposure.last.date <= on <= add_months(exposure.last.date, months):
            name = Name(exposure.ingredient)
            notes.append(Bullet(msg("detail.b-antibody", drug=name, last=exposure.last.date, months=months)))
    return tuple(notes)


def _reminder(case: Case) -> Iterator[Finding]:
    start = case.chart.course.last_day0
    p = case.p(INACTIVATED)
    if start is None or not alive(case) or before_next_course(case, case.today):
        return
    if case.today < add_months(start, p.int("months_after_infusion")):
        return
    opened = add_months(start, p.int("months_after_infusion")) + timedelta(days=1)
    given = [
        v
        for v in case.chart.vaccines.all
        if v.when is not None
        and v.when.first_date >= opened
        and not v.subpotent
        and classify(v).vaccine_class is VaccineClass.INACTIVATED
    ]
    if given:
        yield Finding(INACTIVATED, Outcome.DONE, None, msg("summary.begun"), values={"row": "done"})
        return
    if unread(case, VACCINES):
        yield vaccines_unread(INACTIVATED, "class_vaccines")
        return
    gates = inactivated_gates(case, case.today)
    bad, open_ones, first = failing(gates), unknown(gates), earliest(gates, case.today)
    if not bad and not open_ones:
        outcome, summary = Outcome.DUE, msg("summary.due", opened=opened)
    elif first is not None:
        outcome, summary = Outcome.WAIT, msg("summary.wait-until", first=first)
    else:
        outcome, summary = Outcome.WAIT, msg("summary.wait", unmet=len(bad), open=len(open_ones))
    yield Finding(
        rule=INACTIVATED,
        outcome=outcome,
        indicator=Indicator.INFO,
        summary=summary,
        detail=(table_of(gates), *_notes(case, gates, case.today), Paragraph(msg("detail.response"))),
        values={
            "row": outcome.value,
            "recorded_since_opening": len(given),
            **gate_values(gates),
            **({} if first is None else {"earliest": first}),
        },
        evidence=all_evidence(gates),
        missing=all_missing(gates),
        until=first,
    )
