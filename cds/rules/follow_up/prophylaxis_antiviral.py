"""HSV and VZV prophylaxis from lymphodepletion on (Table 15)."""

from __future__ import annotations

from collections.abc import Iterator

from cards.finding import (
    Block,
    Bullet,
    Create,
    DrugProposal,
    Finding,
    Indicator,
    Items,
    Message,
    Missing,
    Name,
    Outcome,
    Paragraph,
    Repeat,
    Scalar,
    ServiceProposal,
    Suggestion,
    msg,
)
from cds.engine.case import Case
from cds.engine.rule import rule
from cds.rules import evidence
from cds.rules.follow_up.prophylaxis import (
    DrugUse,
    Row,
    Use,
    adult,
    begun,
    drug_use,
    for_treatment,
    orders_unread,
    replaced,
    row_of,
    start_evidence,
    stop_notes,
    stop_predicate,
)
from cds.rules.renal import Clearance, clearance
from fhir_mapping.chart import Allergy, Amount, DrugRecord, Route

RULE = "follow-up.prophylaxis-antiviral"
DRUGS = ("acyclovir", "valacyclovir", "famciclovir")
COVERING = ("ganciclovir", "valganciclovir")
_ONE_DRUG = ("acyclovir", "valacyclovir")  # the second turns into the first: an allergy covers both
_OUTCOMES = {
    Row.NO_DRUG: (Outcome.START, Indicator.WARNING),
    Row.ACTIVE: (Outcome.CONTINUE, Indicator.INFO),
    Row.STOPPED: (Outcome.START, Indicator.WARNING),
    Row.CD4_MISSING: (Outcome.DUE, Indicator.WARNING),
    Row.MAY_STOP: (Outcome.MAY_STOP, Indicator.INFO),
}


@rule(RULE)
def antiviral_prophylaxis(case: Case) -> Iterator[Finding]:
    """State of the prophylaxis; on order-sign the drafts of its drugs."""
    if not begun(case):
        return
    if case.ordering:
        yield from _orders(case)
        return
    covered = drug_use(case, *COVERING)
    use = drug_use(case, *DRUGS)
    if use.use is not Use.ACTIVE and covered.use is Use.ACTIVE:
        names = Items(tuple(Name(r.ingredients[0]) for r in covered.active if r.ingredients))
        yield Finding(
            RULE,
            Outcome.CONTINUE,
            Indicator.INFO,
            msg("summary.covered", drugs=names),
            detail=(Bullet(msg("detail.covered")),),
            values={"row": "covered"},
            evidence=(*start_evidence(case), *covered.evidence),
        )
        return
    finding = orders_unread(case, RULE, "valacyclovir", use.use) or _state(case, use)
    if finding is not None:
        yield finding


def _state(case: Case, use: DrugUse) -> Finding | None:
    stop = stop_predicate(case, RULE)
    row = row_of(use.use, stop)
    if row is Row.OVER:
        return None
    outcome, indicator = _OUTCOMES[row]
    wanted = row in (Row.NO_DRUG, Row.STOPPED)
    if row is Row.STOPPED and use.last is not None:
        summary = msg("summary.stopped", last=use.last)
    elif row in (Row.ACTIVE, Row.MAY_STOP, Row.CD4_MISSING, Row.NO_DRUG):
        summary = msg(f"summary.{row.value}", months=stop.months)
    else:
        summary = msg("summary.stopped-undated")
    allergic = wanted and bool(case.chart.allergy_to(*_ONE_DRUG))
    if allergic:
        summary = msg("summary.allergy")
    notes: tuple[Block, ...] = (Paragraph(msg("detail.regimen", **_doses(case))), *stop_notes(stop))
    if wanted:
        notes += _renal_notes(case)
    if wanted and not adult(case):
        notes += (Bullet(msg("detail.child")),)
    buttons: tuple[Suggestion, ...] = ()
    if wanted and not allergic:
        buttons = _drugs(case)
    elif row is Row.CD4_MISSING:
        buttons = (Suggestion("cd4", msg("suggest.cd4"), (Create(ServiceProposal("cd4_abs")),), True),)
    return Finding(
        rule=RULE,
        outcome=outcome,
        indicator=indicator,
        summary=summary,
        detail=notes,
        values={
            "row": row.value,
            **dict(stop.values),
            **({} if stop.from_day is None else {"stop_from": stop.from_day}),
            **({} if use.last is None else {"last_day": use.last}),
        },
        evidence=(*start_evidence(case), *use.evidence, *stop.evidence),
        missing=stop.missing if row is Row.CD4_MISSING else (),
        suggestions=buttons,
    )


def _doses(case: Case) -> dict[str, Amount]:
    p = case.p(RULE)
    return {
        "valaciclovir": Amount(p["valaciclovir_mg"], "mg"),
        "aciclovir": Amount(p["aciclovir_mg"], "mg"),
    }


def _clearance(case: Case) -> Clearance:
    p = case.p(RULE)
    return clearance(case, p.int("creatinine_age_days"), p.int("body_age_days"))


def _renal(case: Case) -> bool:
    """Clearance below the label's first limit: no dose is suggested."""
    value = _clearance(case).value
    return value is not None and value < case.p(RULE)["clearance_ml_min"]


def _renal_notes(case: Case) -> tuple[Bullet, ...]:
    found = _clearance(case)
    if found.value is None:
        return (Bullet(msg("detail.renal-unknown")),)
    if not _renal(case):
        return ()
    return (Bullet(msg("detail.renal", clearance=Amount(round(found.value, 1), found.unit))),)


def _drugs(case: Case) -> tuple[Suggestion, ...]:
    p = case.p(RULE)
    stated = adult(case) and not _renal(case)
    result = []
    for drug, name in (("valacyclovir", "valaciclovir_mg"), ("acyclovir", "aciclovir_mg")):
        proposal = DrugProposal(
            drug,
            Route.ORAL,
            Amount(p[name], "mg") if stated else None,
            repeat=Repeat(every_hours=p.int("every_hours")),
            start=case.today,
            purpose="purpose_prophylaxis",
            note=msg("suggest.label-dose") if not stated else None,
        )
        label = msg("suggest.drug", drug=Name(drug))
        result.append(Suggestion(drug, label, (Create(proposal),), recommended=drug == "valacyclovir"))
    return tuple(result)


def _per_day(record: DrugRecord) -> Amount | None:
    mg = None if record.dose is None else record.dose.mg
    if mg is None or record.timing.as_needed:
        return None
    if record.timing.per_day is not None:
        return Amount(mg * record.timing.per_day, "mg")
    if record.timing.interval_hours:
        return Amount(mg * 24 / record.timing.interval_hours, "mg")
    return None


def _orders(case: Case) -> Iterator[Finding]:
    stop = stop_predicate(case, RULE)
    ending = case.ending_drugs(*DRUGS)
    for draft in (*case.judged_drugs(*DRUGS), *ending):
        if for_treatment(draft):
            continue
        outcome, indicator, row = Outcome.PASS, None, "pass"
        summary: Message = msg("summary.order-pass")
        values: dict[str, Scalar] = {}
        missing: tuple[Missing, ...] = ()
        allergies = _against(case, draft)
        if draft in ending:
            row = "stop-order"
            if stop.holds is True:
                outcome, summary = Outcome.MAY_STOP, msg("summary.may-stop", months=stop.months)
            elif not replaced(case, *DRUGS, *COVERING):
                outcome, indicator = Outcome.REVIEW, Indicator.WARNING
                summary = msg("summary.order-stop")
                missing = stop.missing if stop.holds is None else ()
        elif allergies:
            outcome, indicator, row = Outcome.CONTRAINDICATED, Indicator.CRITICAL, "allergy"
            summary = msg("summary.order-allergy", drug=Items(tuple(map(Name, draft.ingredients))))
        else:
            listed = _listed(draft, case)
            daily = _per_day(draft)
            if listed is not None and daily is not None and adult(case) and not _renal(case):
                if daily.value < listed.value:
                    outcome, indicator, row = Outcome.WRONG_DOSE, Indicator.INFO, "below"
                elif daily.value > listed.value:
                    outcome, indicator, row = Outcome.WRONG_DOSE, Indicator.INFO, "above"
                if row != "pass":
                    summary = msg(f"summary.order-{row}", dose=daily, listed=listed)
                    values = {"dose_mg_per_day": daily.value, "listed_mg_per_day": listed.value}
        yield Finding(
            rule=RULE,
            outcome=outcome,
            indicator=indicator,
            summary=summary,
            subject=draft.reference,
            resource=draft.reference,
            detail=(Paragraph(msg("detail.regimen", **_doses(case))), *stop_notes(stop)),
            values={"row": row, **values, **dict(stop.values)},
            evidence=(
                *start_evidence(case),
                evidence.of_drug(draft),
                *(evidence.of_fact(a, draft.ingredients[0]) for a in allergies),
                *stop.evidence,
            ),
            missing=missing,
        )


def _against(case: Case, draft: DrugRecord) -> tuple[Allergy, ...]:
    """Allergies of the chart that rule this drug out."""
    related = _ONE_DRUG if draft.is_any(frozenset(_ONE_DRUG)) else ()
    return case.chart.allergy_to(*draft.ingredients, *related)


def _listed(draft: DrugRecord, case: Case) -> Amount | None:
    p = case.p(RULE)
    names = {"valacyclovir": "valaciclovir_mg", "acyclovir": "aciclovir_mg"}
    for drug in draft.ingredients:
        if drug in names and draft.route in (None, Route.ORAL):
            return Amount(p[names[drug]] * 24 / p["every_hours"], "mg")
    return None
