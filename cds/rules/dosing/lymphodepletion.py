"""Lymphodepletion orders against the handbook's regimens R1 to R4, and the plan with mg and dates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from enum import StrEnum

from cards.finding import (
    Action,
    Basis,
    Block,
    Bullet,
    Create,
    Days,
    Delete,
    DrugProposal,
    Evidence,
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
    Selection,
    Shown,
    Suggestion,
    Table,
    Text,
    msg,
)
from cds.engine.case import Case
from cds.engine.rule import Hook, rule
from cds.rules.after_cart import confirmed_infections
from cds.rules.body_size import recorded_apart, weight
from cds.rules.disease import Disease, disease, disease_concept, disease_evidence
from cds.rules.dosing.ldc import (
    RULE,
    Orders,
    PlannedDrug,
    Reason,
    Regimen,
    Why,
    advised,
    alternate_reasons,
    body_surface,
    bounded_clearance,
    creatinine_clearance,
    cystitis_without_grade,
    dose_days,
    doses_per_day,
    every_regimen_drug,
    first_day,
    ordered_drugs,
    orders,
    regimens,
    same_day_orders,
    set_days,
)
from cds.rules.evidence import shown as shown_quantity
from cds.rules.washout import lymphodepletion as washout
from cds.rules.washout.wording import shown_name
from fhir_mapping.chart import (
    Amount,
    ConditionState,
    DrugRecord,
    DrugSource,
    DrugState,
    Flag,
    LossReason,
    Result,
    Route,
)

_HANDBOOK_PRODUCT = "tisagenlecleucel"


class Problem(StrEnum):
    """What is wrong with a lymphodepletion order, worst first."""

    ALLERGY = "allergy"
    OTHER_REGIMEN = "other-regimen"
    ALTERNATE_ADVISED = "alternate-advised"
    ROUTE = "route"
    DOSE_HIGH = "dose-high"
    DOSE_LOW = "dose-low"
    DAYS = "days"
    START = "start"


OUTCOMES = {
    Problem.ALLERGY: Outcome.CONTRAINDICATED,
    Problem.OTHER_REGIMEN: Outcome.REVIEW,
    Problem.ALTERNATE_ADVISED: Outcome.REVIEW,
    Problem.ROUTE: Outcome.WRONG_ROUTE,
    Problem.DOSE_HIGH: Outcome.WRONG_DOSE,
    Problem.DOSE_LOW: Outcome.WRONG_DOSE,
    Problem.DAYS: Outcome.REVIEW,
    Problem.START: Outcome.REVIEW,
}


class Uncheckable(StrEnum):
    """Why a dose could not be compared."""

    NO_SURFACE = "no-surface"
    NO_DOSE = "no-dose"


@dataclass(frozen=True, slots=True)
class DoseCheck:
    """Ordered against calculated dose of one day. `percent` is the signed difference."""

    ordered: Amount | None
    target: Amount | None
    percent: Decimal | None
    uncheckable: Uncheckable | None = None


def check_dose(
    record: DrugRecord,
    plan: PlannedDrug,
    beside: Iterable[DrugRecord] = (),
    kg: Decimal | None = None,
) -> DoseCheck:
    """mg of one day against the calculated mg; an order per m2 against the mg/m2 of the regimen, one per kg
    by the weight. Of days with different doses the one furthest from the target counts.

    `beside` are other orders of the same day; their doses are added as far as they have the same unit.
    """
    amounts = [_amount(part, kg) for part in record.by_instruction()]
    units = {None if amount is None else amount.unit for amount in amounts}
    unit = next(iter(units)) if len(units) == 1 else None
    if unit not in ("mg", "mg/m2"):
        written = None if record.dose is None else record.dose.amount
        weight_lacks = unit == "mg/kg" and kg is None
        return DoseCheck(written, None, None, Uncheckable.NO_SURFACE if weight_lacks else Uncheckable.NO_DOSE)
    more = sum((max(_daily_doses(other, unit, kg), default=Decimal(0)) for other in beside), Decimal(0))
    days = [daily + more for daily in _daily_doses(record, unit, kg)]
    if unit == "mg/m2":
        target = Amount(plan.per_m2, "mg/m2")
    elif plan.mg is None:
        return DoseCheck(Amount(max(days), unit), None, None, Uncheckable.NO_SURFACE)
    else:
        target = Amount(plan.mg, "mg")
    daily = max(days, key=lambda dose: abs(dose - target.value))
    return DoseCheck(Amount(daily, unit), target, (daily - target.value) / target.value * 100)


def _amount(record: DrugRecord, kg: Decimal | None) -> Amount | None:
    """One dose as written; a dose per kg in mg where the weight is known."""
    amount = None if record.dose is None else record.dose.amount
    if amount is not None and amount.unit == "mg/kg" and kg is not None:
        return Amount(amount.value * kg, "mg")
    return amount


def _daily_doses(record: DrugRecord, unit: str, kg: Decimal | None) -> list[Decimal]:
    """Dose of each day that an instruction names, in the unit; nothing where it is written in another one."""
    every_day = Decimal(0)
    days: dict[date, Decimal] = {}
    for part in record.by_instruction():
        amount = _amount(part, kg)
        if amount is None or amount.unit != unit:
            continue
        daily = amount.value * doses_per_day(part)
        named = dose_days(part)
        if named is None:
            every_day += daily
        for day in named or ():
            days[day] = days.get(day, Decimal(0)) + daily
    return [dose + every_day for dose in days.values()] or ([every_day] if every_day else [])


def check_order(case: Case, record: DrugRecord, plan: PlannedDrug) -> DoseCheck:
    """The dose that the order gives on one of its days, with the other orders of that day."""
    kg = weight(case, case.p(RULE).int("body_max_age_days")).value
    return check_dose(record, plan, same_day_orders(case, plan.drug, record), kg)


def kidneys_allow_less(case: Case) -> bool:
    """Reduced clearance: a dose below target is the adjustment the organ rule asks to consider."""
    value = creatinine_clearance(case).value
    return value is not None and value < case.p(RULE)["clearance_adjust_ml_min"]


def _own_regimen(case: Case, drug: str) -> Regimen | None:
    """The regimen of the patient's disease that holds the drug."""
    return next((regimen for regimen in regimens(case) if regimen.drug(drug) is not None), None)


def _problems(case: Case, record: DrugRecord, drug: str, regimen: Regimen | None) -> list[Problem]:
    found: list[Problem] = []
    if case.chart.allergy_to(drug):
        found.append(Problem.ALLERGY)
    plan = None if regimen is None else regimen.drug(drug)
    if regimen is None or plan is None:
        found.append(Problem.OTHER_REGIMEN)
        return found
    if alternate_reasons(case) and not regimen.alternate:
        found.append(Problem.ALTERNATE_ADVISED)
    if record.route is not None and record.route is not Route.INTRAVENOUS:
        found.append(Problem.ROUTE)
    check = check_order(case, record, plan)
    tolerance = case.p(RULE)["tolerance_percent"]
    if check.percent is not None and check.percent > tolerance:
        found.append(Problem.DOSE_HIGH)
    if check.percent is not None and check.percent < -tolerance and not kidneys_allow_less(case):
        found.append(Problem.DOSE_LOW)
    if _leads(case, record, drug) and set_days(case, drug, record) != plan.days:
        found.append(Problem.DAYS)
    if _tells_start(case, record, drug) and _starts_apart(case, record):
        found.append(Problem.START)
    return found


def _leads(case: Case, record: DrugRecord, drug: str) -> bool:
    """Of several drafts of one drug the first speaks for the set."""
    drafts = [d for d in orders(case).drugs if drug in d.ingredients] or [record]
    first = min(drafts, key=lambda d: (d.timing.first.earliest if d.timing.first else case.now, d.reference))
    return record.reference == first.reference


def _tells_start(case: Case, record: DrugRecord, drug: str) -> bool:
    """The draft that tells that the drugs start apart: cyclophosphamide, else fludarabine."""
    drafted = {d for order in orders(case).drugs for d in order.ingredients}
    teller = "cyclophosphamide" if "cyclophosphamide" in drafted else "fludarabine"
    return drug == teller and _leads(case, record, drug)


def _starts_apart(case: Case, record: DrugRecord) -> bool:
    """Cyclophosphamide begins on another day than fludarabine."""
    fludarabine = first_day(case, "fludarabine", record)
    cyclophosphamide = first_day(case, "cyclophosphamide", record)
    return None not in (fludarabine, cyclophosphamide) and fludarabine != cyclophosphamide


# --- suggestions


def _blocked(case: Case) -> tuple[Message, ...]:
    """Reasons not to offer lymphodepletion orders at all."""
    numbers = case.p(RULE)
    found: list[Message] = []
    if _pregnant(case):
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


def _pregnant(case: Case) -> bool:
    if any(c.state is ConditionState.ACTIVE for c in case.chart.conditions.of("pregnancy")):
        return True
    days = timedelta(days=case.p(RULE).int("pregnancy_test_max_age_days"))
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


def _plan_suggestions(case: Case, regimen: Regimen, there: frozenset[str]) -> tuple[Suggestion, ...]:
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


def _correction(
    case: Case, record: DrugRecord, regimen: Regimen, plan: PlannedDrug
) -> tuple[Suggestion, ...]:
    if plan.mg is None or _blocked(case):
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
    if regimen is None or _blocked(case):
        return ()
    return _plan_suggestions(case, regimen, frozenset())


def _other_regimen(case: Case, record: DrugRecord, regimen: Regimen) -> tuple[Suggestion, ...]:
    """The disease's other regimen in place of the one with the allergy: the clinician's decision."""
    other = next((r for r in regimens(case) if r.id != regimen.id), None)
    if other is None or _allergic(case, other) or body_surface(case).value is None or _blocked(case):
        return ()
    own = {plan.drug for plan in regimen.drugs}
    drafts = [d.reference for d in orders(case).drugs if not own.isdisjoint(d.ingredients)]
    deletes = tuple(Delete(reference) for reference in dict.fromkeys((record.reference, *drafts)))
    creates = tuple(Create(_proposal(case, other, plan)) for plan in other.drugs)
    return (Suggestion(other.id, msg("suggest.other", regimen=other.id), (*deletes, *creates)),)


# --- one card per order at fault


def _order_findings(case: Case, record: DrugRecord) -> Iterator[Finding]:
    for drug in record.ingredients:
        if drug not in every_regimen_drug(case):
            continue
        regimen = _own_regimen(case, drug)
        if disease(case) in (Disease.UNKNOWN, Disease.OTHER):
            regimen = None
            if not case.chart.allergy_to(drug):
                continue
        problems = _problems(case, record, drug, regimen)
        plan = None if regimen is None else regimen.drug(drug)
        if problems:
            yield _problem_finding(case, record, drug, regimen, problems)
        elif plan is not None:
            check = check_order(case, record, plan)
            if check.uncheckable is not None:
                yield _uncheckable_finding(case, record, plan, check.uncheckable)


def _percent(value: Decimal) -> Decimal:
    return value.quantize(Decimal("0.1"))


def _dose_values(check: DoseCheck | None) -> dict[str, Scalar]:
    values: dict[str, Scalar] = {}
    if check is None:
        return values
    unit = {"mg": "mg", "mg/m2": "mg_m2"}
    if check.ordered is not None and check.ordered.unit in unit:
        values[f"ordered_{unit[check.ordered.unit]}"] = check.ordered.value
    if check.target is not None:
        values[f"target_{unit[check.target.unit]}"] = check.target.value
    if check.percent is not None:
        values["difference_percent"] = _percent(check.percent)
    return values


def _problem_finding(
    case: Case, record: DrugRecord, drug: str, regimen: Regimen | None, problems: list[Problem]
) -> Finding:
    worst = problems[0]
    plan = None if regimen is None else regimen.drug(drug)
    check = None if plan is None else check_order(case, record, plan)
    percent = None if check is None else check.percent
    shown: dict[str, Shown] = {
        "drug": Name(drug),
        "regimen": regimen.id if regimen is not None else msg("none"),
        "days": Days(set_days(case, drug, record) or 0),
        "needed": Days(plan.days if plan is not None else 0),
        "ordered": check.ordered if check is not None and check.ordered is not None else msg("none"),
        "target": check.target if check is not None and check.target is not None else msg("none"),
        "percent": _percent(percent) if percent is not None else msg("none"),
        "route": Name(record.route.value) if record.route is not None else msg("none"),
    }
    detail: list[Block] = [Paragraph(msg("detail.order", name=Text(record.name), **shown))]
    endless = set_days(case, drug, record) is None
    detail += [Bullet(msg(f"problem.{_said(problem, endless)}", **shown)) for problem in problems]
    if plan is not None and same_day_orders(case, drug, record):
        detail.append(Bullet(msg("detail.same-day")))
    if Problem.DOSE_LOW in problems and drug == "fludarabine":
        detail.append(Bullet(msg("detail.under-dosing")))
    if worst is Problem.ALLERGY:
        detail.append(Bullet(_alternative(case, regimen)))
    if Problem.ALTERNATE_ADVISED in problems:
        detail += [Bullet(_reason(case, why)) for why in alternate_reasons(case)]
    detail += _other_product(case)
    values: dict[str, Scalar | list[Scalar] | list[dict[str, Scalar]]] = dict(_dose_values(check))
    values["drug"] = drug
    values["problems"] = list[Scalar](problem.value for problem in problems)
    if regimen is not None:
        values["row"] = values["regimen"] = regimen.id
    if plan is not None:
        if not endless:
            values["days"] = set_days(case, drug, record) or 0
        values["needed_days"] = plan.days
    suggestions: tuple[Suggestion, ...] = ()
    fixable = {Problem.ROUTE, Problem.DOSE_HIGH, Problem.DOSE_LOW, Problem.DAYS}
    if regimen is not None and first_day(case, "fludarabine", record) == regimen.start:
        fixable.add(Problem.START)  # the calculated order begins with the fludarabine
    if regimen is not None and plan is not None and set(problems) <= fixable:
        suggestions = _correction(case, record, regimen, plan)
    elif worst is Problem.ALLERGY and regimen is not None:
        suggestions = _other_regimen(case, record, regimen)
    critical = worst is Problem.ALLERGY and case.hook is Hook.ORDER_SIGN
    allergies = tuple(Evidence(allergy.reference, drug) for allergy in case.chart.allergy_to(drug))
    whys = tuple(why.evidence for why in alternate_reasons(case))
    return Finding(
        rule=RULE,
        outcome=OUTCOMES[worst],
        indicator=Indicator.CRITICAL if critical else Indicator.WARNING,
        summary=msg(f"summary.{_said(worst, endless)}", **shown),
        subject=record.reference,
        detail=tuple(detail),
        values=values,
        evidence=(*_evidence(case, record, drug), *allergies, *whys),
        resource=record.reference,
        suggestions=suggestions,
    )


def _said(problem: Problem, endless: bool) -> str:
    """Message key of a problem; an order without an end has no number of days to name."""
    return "days-open" if problem is Problem.DAYS and endless else problem.value


def _alternative(case: Case, regimen: Regimen | None) -> Message:
    """An allergy is none of the two reasons of the source: the other regimen is the clinician's decision."""
    other = next((r for r in regimens(case) if regimen is not None and r.id != regimen.id), None)
    if other is None:
        return msg("detail.allergy")
    return msg("detail.allergy-alternative", other=other.id)


def _evidence(case: Case, record: DrugRecord, drug: str) -> tuple[Evidence, ...]:
    amount = None if record.dose is None else record.dose.amount
    own = Evidence(
        record.reference,
        drug,
        None if amount is None else amount.value,
        "" if amount is None else amount.unit,
        record.timing.first,
    )
    return (own, *body_surface(case).evidence, *disease_evidence(case))


def _uncheckable_finding(case: Case, record: DrugRecord, plan: PlannedDrug, why: Uncheckable) -> Finding:
    per = Amount(plan.per_m2, "mg/m2")
    missing = body_surface(case).missing if why is Uncheckable.NO_SURFACE else (Missing(plan.drug),)
    if why is Uncheckable.NO_DOSE and record.dose is not None:
        written = record.dose.unreadable or (record.dose.amount.unit if record.dose.amount else "")
        if written:
            missing = (Missing(plan.drug, LossReason.UNIT, record.reference, written),)
    return Finding(
        rule=RULE,
        outcome=Outcome.CANNOT_CHECK,
        indicator=Indicator.WARNING,
        summary=msg(f"summary.{why.value}", drug=Name(plan.drug), per=per),
        subject=record.reference,
        detail=(Paragraph(msg(f"detail.{why.value}", drug=Name(plan.drug), per=per, days=Days(plan.days))),),
        values={"drug": plan.drug, "target_mg_m2": plan.per_m2, "needed_days": plan.days},
        evidence=_evidence(case, record, plan.drug),
        missing=missing,
        resource=record.reference,
        unconcluded=True,
    )


# --- the plan


def _reason(case: Case, why: Why) -> Message:
    """Why the alternate regimen is advised, with the grade on record."""
    grade = why.evidence.value if why.reason is Reason.CYSTITIS else None
    return msg(f"reason.{why.reason.value}", grade=grade or case.p(RULE).int("cystitis_grade"))


def _plan_table(case: Case, regimen: Regimen) -> Table:
    header = tuple(msg(f"head.{name}") for name in ("drug", "per", "daily", "days", "dates", "minutes"))
    rows = tuple(
        (
            Name(plan.drug),
            Amount(plan.per_m2, "mg/m2"),
            Amount(plan.mg, "mg") if plan.mg is not None else msg("none"),
            plan.days,
            _dates(regimen.start, plan.days),
            plan.minutes if plan.minutes is not None else msg("none"),
        )
        for plan in regimen.drugs
    )
    return Table(header, rows)


def _dates(start: date | None, days: int) -> Shown:
    if start is None:
        return msg("none")
    if days == 1:
        return start
    return msg("dates", first=start, last=start + timedelta(days=days - 1))


def _plan_values(case: Case, regimen: Regimen) -> dict[str, Scalar]:
    values: dict[str, Scalar] = {"row": regimen.id, "regimen": regimen.id}
    m2 = body_surface(case).value
    if m2 is not None:
        values["bsa_m2"] = m2.quantize(Decimal("0.0001"))
    if regimen.start is not None:
        values["start"] = regimen.start
    for plan in regimen.drugs:
        if plan.mg is not None:
            values[f"{plan.drug}_mg"] = plan.mg
        values[f"{plan.drug}_mg_m2"] = plan.per_m2
        values[f"{plan.drug}_days"] = plan.days
        if regimen.start is not None:
            values[f"{plan.drug}_first"] = regimen.start
            values[f"{plan.drug}_last"] = regimen.start + timedelta(days=plan.days - 1)
    return values


def _plan_key(case: Case, found: Orders, sound: bool, hold: bool) -> str:
    """Which sentence sums up the plan."""
    if hold:
        return "plan-hold"
    if body_surface(case).value is None:
        return "plan-no-surface"
    if not sound:
        return "plan"
    return "plan-reduced" if _reduced(case, found) else "plan-complete"


def _reduced(case: Case, found: Orders) -> bool:
    """Is any drug ordered below the tolerance, as a reduced clearance allows?"""
    limit = -case.p(RULE)["tolerance_percent"]
    for record in found.drugs:
        for drug in record.ingredients:
            regimen = _own_regimen(case, drug)
            plan = None if regimen is None else regimen.drug(drug)
            percent = None if plan is None else check_order(case, record, plan).percent
            if percent is not None and percent < limit:
                return True
    return False


def _plan_finding(case: Case, found: Orders) -> Finding:
    regimen = advised(case)
    if regimen is None:
        return _no_regimen(case, found)
    there = ordered_drugs(case, found.drugs)
    complete = all(plan.drug in there for plan in regimen.drugs)
    sound = complete and not any(
        True for record in _standing(case, found) for _ in _order_findings(case, record)
    )
    m2 = body_surface(case)
    blocked = _blocked(case)
    shown: dict[str, Shown] = {
        "regimen": regimen.id,
        "disease": Name(disease_concept(case)),
        "doses": _doses_text(regimen),
    }
    detail: list[Block] = [
        Paragraph(msg("detail.plan", **shown)),
        _plan_table(case, regimen),
    ]
    if m2.value is not None:
        area = Amount(m2.value.quantize(Decimal("0.01")), "m2")
        detail.append(Bullet(msg(f"detail.surface-{m2.formula.lower()}", area=area)))
    else:
        detail.append(Bullet(msg("detail.surface-missing")))
    detail += _other_product(case)
    detail += _measures_apart(case, found)
    detail += [Bullet(_reason(case, why)) for why in alternate_reasons(case)]
    cystitis = cystitis_without_grade(case)
    if cystitis is not None:
        detail.append(Bullet(msg("detail.cystitis-grade", grade=case.p(RULE).int("cystitis_grade"))))
    if not regimen.alternate and any(r.alternate and _ordered(r, there) for r in regimens(case)):
        detail.append(
            Bullet(msg("detail.alternate-without-reason", grade=case.p(RULE).int("cystitis_grade")))
        )
    detail += [Bullet(msg("detail.blocked", reason=reason)) for reason in blocked]
    detail += _too_close(case, found)
    if case.chart.latest("product_status") is None:
        detail.append(Bullet(msg("detail.confirm-product")))
    detail += [Bullet(msg(f"toxicity.{plan.drug}")) for plan in regimen.drugs]
    detail.append(Bullet(msg("toxicity.class")))
    if regimen.start is None:
        detail.append(Bullet(msg("detail.no-day0")))
    missing = [*m2.missing] if m2.value is None else []
    if cystitis is not None:
        missing.append(Missing("hemorrhagic_cystitis", resource=cystitis.reference))
    shown["tolerance"] = case.p(RULE).int("tolerance_percent")
    pregnant = _pregnant(case)
    hold = bool(blocked) and (sound or pregnant)
    critical = pregnant and case.hook is Hook.ORDER_SIGN
    if hold:
        shown["reason"] = blocked[0]
    return Finding(
        rule=RULE,
        outcome=Outcome.HOLD if hold else Outcome.PASS if sound else Outcome.ADVISE,
        indicator=Indicator.CRITICAL if critical else Indicator.WARNING if hold else Indicator.INFO,
        summary=msg(f"summary.{_plan_key(case, found, sound, hold)}", **shown),
        subject="plan",
        detail=tuple(detail),
        values=dict(_plan_values(case, regimen)),
        evidence=(
            *m2.evidence,
            *disease_evidence(case),
            *(why.evidence for why in alternate_reasons(case)),
        ),
        missing=tuple(missing),
        resource=found.reference,
        suggestions=() if blocked else _plan_suggestions(case, regimen, there),
        selection=Selection.AT_MOST_ONE,
    )


def _other_product(case: Case) -> list[Block]:
    """The handbook's regimens are those of tisagenlecleucel; another product brings its own."""
    product = case.chart.course.product
    if product is None or product.concept == _HANDBOOK_PRODUCT:
        return []
    return [Bullet(msg("detail.other-product", own=Name(_HANDBOOK_PRODUCT), product=Name(product.concept)))]


def _too_close(case: Case, found: Orders) -> list[Block]:
    """Bridging that lies too close to the first ordered dose (washout.lymphodepletion)."""
    starts = [d.timing.first.date for d in found.drugs if d.timing.first is not None]
    first = case.chart.course.ldc_first
    day = min(starts) if starts else None if first is None else first.date
    if day is None:
        return []
    failing = [x for x in washout.lines_before(case, day) if x.outcome is Outcome.NOT_MET]
    names = tuple(dict.fromkeys(shown_name(line.use) for line in failing))
    return [Bullet(msg("detail.washout", drugs=Items(names), day=day))] if names else []


def _standing(case: Case, found: Orders) -> tuple[DrugRecord, ...]:
    """Every order of the set, judged in this hook or not: unselected drafts and standing orders too."""
    ordered = [
        record
        for record in case.chart.course.ldc_records
        if record.source is DrugSource.ORDER and record.state in (DrugState.ACTIVE, DrugState.DRAFT)
    ]
    return tuple({record.reference: record for record in (*found.drugs, *ordered)}.values())


def _measures_apart(case: Case, found: Orders) -> list[Block]:
    """A recorded surface area beside the calculated one, and orders whose two doses do not agree."""
    numbers = case.p(RULE)
    share = numbers["surface_apart_percent"] / 100
    recorded = recorded_apart(case, numbers.int("body_max_age_days"), share)
    blocks: list[Block] = []
    if recorded is not None and recorded.value is not None:
        area = Amount(recorded.value.quantize(Decimal("0.01")), "m2")
        blocks.append(Bullet(msg("detail.surface-apart", area=area)))
    clash = [r for r in found.drugs if r.dose is not None and Flag.DOSE_CLASH in r.dose.flags]
    names = tuple(dict.fromkeys(drug for record in clash for drug in record.ingredients))
    if names:
        blocks.append(Bullet(msg("detail.dose-clash", drugs=Items(tuple(Name(name) for name in names)))))
    return blocks


def _ordered(regimen: Regimen, there: frozenset[str]) -> bool:
    return any(plan.drug in there for plan in regimen.drugs)


def _doses_text(regimen: Regimen) -> Shown:
    parts: list[Shown] = []
    for plan in regimen.drugs:
        dose = Amount(plan.mg, "mg") if plan.mg is not None else Amount(plan.per_m2, "mg/m2")
        parts.append(msg("dose", drug=Name(plan.drug), dose=dose, days=plan.days))
    return Items(tuple(parts))


def _no_regimen(case: Case, found: Orders) -> Finding:
    own = disease(case)
    key = "no-disease" if own is Disease.UNKNOWN else "other-disease"
    name: Shown = Name(disease_concept(case)) if disease_concept(case) else msg("none")
    return Finding(
        rule=RULE,
        outcome=Outcome.CANNOT_CHECK,
        indicator=Indicator.WARNING,
        summary=msg(f"summary.{key}", disease=name),
        subject="plan",
        detail=(Paragraph(msg(f"detail.{key}", disease=name)),),
        evidence=disease_evidence(case),
        missing=(Missing("b_all"), Missing("dlbcl"), Missing("follicular_lymphoma"))
        if own is Disease.UNKNOWN
        else (),
        resource=found.reference,
        unconcluded=True,
    )


@rule(RULE)
def lymphodepletion(case: Case) -> Iterator[Finding]:
    """One card per order at fault, one card with the plan of the regimen."""
    found = orders(case)
    if not found:
        return
    for record in found.drugs:
        yield from _order_findings(case, record)
    yield _plan_finding(case, found)
