"""Orders of a lymphodepletion regimen to offer, and what speaks against offering any."""

from __future__ import annotations

from decimal import Decimal

from cards.finding import (
    Action,
    Basis,
    Create,
    Delete,
    DrugProposal,
    Items,
    Message,
    Name,
    Repeat,
    Shown,
    Suggestion,
    msg,
)
from cds.engine.case import Case
from cds.rules.after_cart import confirmed_infections
from cds.rules.disease import disease_concept
from cds.rules.dosing.ldc import (
    RULE,
    PlannedDrug,
    Regimen,
    advised,
    body_surface,
    bounded_clearance,
    creatinine_clearance,
    orders,
    regimens,
    same_day_orders,
)
from cds.rules.evidence import shown as shown_quantity
from fhir_mapping.chart import Amount, ConditionState, DrugRecord, DrugSource, DrugState, Result, Route


def blocked(case: Case) -> tuple[Message, ...]:
    """Reasons not to offer lymphodepletion orders at all."""
    numbers = case.p(RULE)
    found: list[Message] = []
    if pregnant(case):
        found.append(msg("block.pregnancy"))
    clearance = _blocking_clearance(case)
    if clearance is not None:
        found.append(msg("block.clearance", value=clearance, limit=numbers.int("clearance_block_ml_min")))
    if confirmed_infections(case):
        found.append(msg("block.infection"))
    status = case.chart.latest("product_status")
    if status is not None and not {"failed", "manufacturing"}.isdisjoint(status.value.codes):
        found.append(msg("block.product", status=Items(tuple(Name(code) for code in status.value.codes))))
    return tuple(found)


def _blocking_clearance(case: Case) -> Shown | None:
    """The clearance that forbids lymphodepletion, None where it does not."""
    limit = case.p(RULE)["clearance_block_ml_min"]
    bound = bounded_clearance(case)
    told = None if bound is None else bound.value.quantity
    if told is not None and told.at_most(limit):
        return shown_quantity(told)
    renal = creatinine_clearance(case)
    if renal.value is None or renal.value > limit:
        return None
    return Amount(round(renal.value, 1), renal.unit)


def pregnant(case: Case) -> bool:
    if any(c.state is ConditionState.ACTIVE for c in case.chart.conditions.of("pregnancy")):
        return True
    days = case.days_back(case.p(RULE).int("pregnancy_test_max_age_days"))
    tests = (
        case.chart.series(concept).latest(case.now, days)
        for concept in ("hcg_serum_qual", "hcg_serum_quant", "hcg_urine")
    )
    return any(test is not None and test.value.result is Result.POSITIVE for test in tests)


def _proposal(case: Case, regimen: Regimen, plan: PlannedDrug) -> DrugProposal:
    m2 = body_surface(case)
    dose = None if plan.mg is None else Amount(plan.mg, "mg")
    basis = None
    if m2.value is not None:
        measure = Amount(m2.value.quantize(Decimal("0.001")), "m2")
        basis = Basis(Amount(plan.per_m2, "mg/m2"), measure, formula=m2.formula)
    start = regimen.start if regimen.start is not None and regimen.start >= case.today else None
    return DrugProposal(
        drug=plan.drug,
        route=Route.INTRAVENOUS,
        dose=dose,
        basis=basis,
        repeat=Repeat(every_hours=24, days=plan.days),
        start=start,
        infusion_minutes=plan.minutes,
        purpose="purpose_lymphodepletion",
        reason=disease_concept(case),
        note=None if dose is not None else msg("note.no-surface"),
    )


def _allergic(case: Case, regimen: Regimen) -> bool:
    return any(case.chart.allergy_to(plan.drug) for plan in regimen.drugs)


def plan_suggestions(case: Case, regimen: Regimen, there: frozenset[str]) -> tuple[Suggestion, ...]:
    """One button with the drugs of the regimen that are not ordered yet, in place of drafts of another one.

    Beside a standing order of another regimen nothing is offered: it would be given twice.
    """
    open_drugs = [plan for plan in regimen.drugs if plan.drug not in there]
    if not open_drugs or body_surface(case).value is None or _allergic(case, regimen):
        return ()
    own = {plan.drug for plan in regimen.drugs}
    others = [r for r in case.chart.course.ldc_records if own.isdisjoint(r.ingredients)]
    if any(r.source is DrugSource.ORDER and r.state is DrugState.ACTIVE for r in others):
        return ()
    drafts = [d.reference for d in orders(case).drugs if own.isdisjoint(d.ingredients)]
    actions: list[Action] = [Delete(reference) for reference in drafts]
    actions += [Create(_proposal(case, regimen, plan)) for plan in open_drugs]
    label = msg("suggest.replace" if drafts else "suggest.regimen", regimen=regimen.id)
    return (Suggestion(regimen.id, label, tuple(actions), recommended=True),)


def correction(case: Case, record: DrugRecord, regimen: Regimen, plan: PlannedDrug) -> tuple[Suggestion, ...]:
    if plan.mg is None or blocked(case):
        return ()
    standing = same_day_orders(case, plan.drug, record)
    if any(order.state is DrugState.ACTIVE for order in standing):
        remove = msg("suggest.remove", drug=Name(plan.drug))
        return (Suggestion("remove", remove, (Delete(record.reference),), recommended=True),)
    drafts = [d.reference for d in orders(case).drugs if plan.drug in d.ingredients]
    actions: list[Action] = [Delete(name) for name in dict.fromkeys((record.reference, *drafts))]
    actions.append(Create(_proposal(case, regimen, plan)))
    return (
        Suggestion("correct", msg("suggest.correct", drug=Name(plan.drug)), tuple(actions), recommended=True),
    )


def offer(case: Case) -> tuple[Suggestion, ...]:
    """Orders of the advised regimen, all drugs; none where something speaks against it."""
    regimen = advised(case)
    if regimen is None or blocked(case):
        return ()
    return plan_suggestions(case, regimen, frozenset())


def other_regimen(case: Case, record: DrugRecord, regimen: Regimen) -> tuple[Suggestion, ...]:
    """The disease's other regimen in place of the one with the allergy: the clinician's decision."""
    other = next((r for r in regimens(case) if r.id != regimen.id), None)
    if other is None or _allergic(case, other) or body_surface(case).value is None or blocked(case):
        return ()
    own = {plan.drug for plan in regimen.drugs}
    drafts = [d.reference for d in orders(case).drugs if not own.isdisjoint(d.ingredients)]
    deletes = tuple(Delete(reference) for reference in dict.fromkeys((record.reference, *drafts)))
    creates = tuple(Create(_proposal(case, other, plan)) for plan in other.drugs)
    return (Suggestion(other.id, msg("suggest.other", regimen=other.id), (*deletes, *creates)),)
