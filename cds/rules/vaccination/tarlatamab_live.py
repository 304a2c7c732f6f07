"""Vaccines during and after tarlatamab: live ones are not given, others need the treating doctor's word."""

from __future__ import annotations

from collections.abc import Iterator

from cards.finding import (
    Bullet,
    Days,
    Delete,
    Evidence,
    Finding,
    Indicator,
    Message,
    Missing,
    Outcome,
    Paragraph,
    Scalar,
    Suggestion,
    msg,
)
from cds.engine.case import Case
from cds.engine.rule import Hook, rule
from cds.rules.bispecific.agents import agents
from cds.rules.bispecific.tarlatamab import (
    DRUG,
    dosed,
    engager_exposures,
    last_exposure,
    live_orders,
    on_treatment,
)
from cds.rules.evidence import of_drug, of_fact
from cds.rules.vaccination.classes import (
    BCG_INTO_BLADDER,
    Classified,
    VaccineClass,
    at_most_info,
    classify,
    concerns,
    drafted,
    name_of,
)
from cds.rules.vaccination.eligibility import planned_day
from fhir_mapping.chart import Vaccine

RULE = "vaccination.tarlatamab-live"
_ALL = (
    VaccineClass.LIVE,
    VaccineClass.INFLUENZA,
    VaccineClass.COVID19,
    VaccineClass.ADJUVANTED,
    VaccineClass.INACTIVATED,
    VaccineClass.UNKNOWN,
)


@rule(RULE, concerns=concerns(*_ALL))
def tarlatamab_live(case: Case) -> Iterator[Finding]:
    if case.hook is Hook.PATIENT_VIEW:
        yield from _given(case)
        return
    drafts = case.chart.drafts.drugs.of(DRUG)
    if not (dosed(case) or on_treatment(case) or drafts):
        yield from _other_engagers(case)
        return
    for vaccine, told in drafted(case, *_ALL):
        if BCG_INTO_BLADDER not in vaccine.concepts:
            yield from _ordered(case, vaccine, told, treated=_treated(case, vaccine))


def _other_engagers(case: Case) -> Iterator[Finding]:
    """Another listed bispecific lately: live vaccines are named, without any number of that drug."""
    days = case.p("dosing.tarlatamab-step-up").int("on_treatment_days")
    recent = [e for e in engager_exposures(case) if e.day is not None and (case.today - e.day).days <= days]
    ordered = any(case.chart.active_drugs(agent) for agent in agents())
    if not (recent or ordered) or case.chart.course.infused is not None:
        return
    for vaccine, told in drafted(case, VaccineClass.LIVE):
        if BCG_INTO_BLADDER not in vaccine.concepts:
            yield _finding(case, vaccine, told, "live-other", Outcome.INFO, Indicator.INFO)


def _treated(case: Case, vaccine: Vaccine) -> bool:
    """On treatment on the day of the vaccine: an order in force, a draft, or a dose lately enough."""
    if case.chart.drafts.drugs.of(DRUG) or (live_orders(case) and on_treatment(case)):
        return True
    last = last_exposure(case)
    if last is None or last.day is None:
        return dosed(case)
    day = planned_day(case, vaccine.when)
    return (day - last.day).days <= case.p("dosing.tarlatamab-step-up").int("on_treatment_days")


def _ordered(case: Case, vaccine: Vaccine, told: Classified, *, treated: bool) -> Iterator[Finding]:
    live = told.vaccine_class is VaccineClass.LIVE
    unknown = told.vaccine_class is VaccineClass.UNKNOWN
    if live and treated:
        yield _finding(case, vaccine, told, "live", Outcome.CONTRAINDICATED, Indicator.CRITICAL)
    elif live:
        yield _finding(case, vaccine, told, "live-after", Outcome.REVIEW, Indicator.WARNING)
    elif unknown:
        yield _finding(case, vaccine, told, "unknown", Outcome.REVIEW, Indicator.WARNING)
    elif treated:
        yield _finding(case, vaccine, told, "non-live", Outcome.INFO, Indicator.INFO)


def _given(case: Case) -> Iterator[Finding]:
    """Patient view: a live vaccine given lately, on treatment."""
    if not on_treatment(case):
        return
    days = case.p(RULE).int("given_days")
    for vaccine in case.chart.vaccines.all:
        told = classify(vaccine)
        if told.vaccine_class is not VaccineClass.LIVE or vaccine.when is None:
            continue
        if vaccine.when.first_date > case.today:
            continue
        # of a month that has not ended the last day that has come
        gap = max((case.today - vaccine.when.date).days, 0)
        if gap <= days:
            yield _finding(case, vaccine, told, "given", Outcome.REVIEW, Indicator.WARNING, gap=gap)


def _finding(
    case: Case,
    vaccine: Vaccine,
    told: Classified,
    row: str,
    outcome: Outcome,
    indicator: Indicator,
    *,
    gap: int | None = None,
) -> Finding:
    name = name_of(vaccine, told)
    if isinstance(name, Message):
        name = Message(name.key, name.values, "vaccination.class")
    values: dict[str, Scalar] = {"row": row, "vaccine_class": told.vaccine_class.value}
    last = last_exposure(case)
    evidence: list[Evidence] = [of_fact(vaccine, told.concept)]
    if last is not None and last.day is not None:
        values["last_dose"] = last.day
        values["days_since_dose"] = (case.today - last.day).days
        evidence += [of_drug(record) for record in last.records]
    if gap is not None:
        values["gap_days"] = gap
        summary = msg("summary.given", vaccine=name, gap=Days(gap))
    else:
        summary = msg(f"summary.{row}", vaccine=name)
    order = "" if row == "given" else vaccine.reference
    suggestions: tuple[Suggestion, ...] = ()
    if row == "live" and not vaccine.recommendation:
        suggestions = (Suggestion("delete", msg("suggest.delete"), (Delete(order),), recommended=True),)
    missing = (
        (Missing("class_vaccines", resource=vaccine.reference, text=vaccine.text),)
        if row == "unknown"
        else ()
    )
    return Finding(
        rule=RULE,
        outcome=outcome,
        indicator=at_most_info(vaccine, indicator),
        summary=summary,
        subject=vaccine.reference,
        detail=(Paragraph(msg(f"detail.{row}")), Bullet(msg("criterion"))),
        values=values,
        evidence=tuple(evidence),
        missing=missing,
        resource=order,
        suggestions=suggestions,
    )
