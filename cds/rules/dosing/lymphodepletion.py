"""Lymphodepletion orders against the handbook's regimens R1 to R4, and the plan with mg and dates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from cards.finding import (
    Block,
    Bullet,
    Days,
    Evidence,
    Finding,
    Indicator,
    Message,
    Missing,
    Name,
    Outcome,
    Paragraph,
    Scalar,
    Shown,
    Suggestion,
    Text,
    msg,
)
from cds.engine.case import Case
from cds.engine.rule import Hook, rule
from cds.rules.disease import Disease, disease, disease_evidence
from cds.rules.dosing.ldc import (
    RULE,
    Orders,
    PlannedDrug,
    Regimen,
    alternate_reasons,
    body_surface,
    every_regimen_drug,
    first_day,
    orders,
    own_regimen,
    regimens,
    same_day_orders,
    set_days,
)
from cds.rules.dosing.ldc_dose import DoseCheck, Uncheckable, check_order, kidneys_allow_less
from cds.rules.dosing.ldc_offers import correction, other_regimen
from cds.rules.dosing.ldc_plan import other_product, plan_finding, reason_text
from fhir_mapping.chart import Amount, DrugRecord, DrugSource, DrugState, LossReason, Route

_TENTH = Decimal("0.1")


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


# --- one card per order at fault


def _order_findings(case: Case, record: DrugRecord) -> Iterator[Finding]:
    for drug in record.ingredients:
        if drug not in every_regimen_drug(case):
            continue
        regimen = own_regimen(case, drug)
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
        values["difference_percent"] = check.percent.quantize(_TENTH)
    return values


@dataclass(frozen=True, slots=True)
class _Fault:
    """An order and all that is wrong with it, the worst first."""

    record: DrugRecord
    drug: str
    problems: tuple[Problem, ...]
    regimen: Regimen | None
    plan: PlannedDrug | None
    check: DoseCheck | None
    days: int | None  # of the whole set; None: without an end

    @property
    def worst(self) -> Problem:
        return self.problems[0]


def _shown(fault: _Fault) -> dict[str, Shown]:
    check, plan, none = fault.check, fault.plan, msg("none")
    return {
        "drug": Name(fault.drug),
        "regimen": none if fault.regimen is None else fault.regimen.id,
        "days": Days(fault.days or 0),
        "needed": Days(0 if plan is None else plan.days),
        "ordered": none if check is None else check.ordered or none,
        "target": none if check is None else check.target or none,
        "percent": none if check is None or check.percent is None else check.percent.quantize(_TENTH),
        "route": none if fault.record.route is None else Name(fault.record.route.value),
    }


def _problem_detail(case: Case, fault: _Fault) -> Iterator[Block]:
    shown = _shown(fault)
    yield Paragraph(msg("detail.order", name=Text(fault.record.name), **shown))
    for problem in fault.problems:
        yield Bullet(msg(f"problem.{_said(problem, fault)}", **shown))
    if fault.plan is not None and same_day_orders(case, fault.drug, fault.record):
        yield Bullet(msg("detail.same-day"))
    if Problem.DOSE_LOW in fault.problems and fault.drug == "fludarabine":
        yield Bullet(msg("detail.under-dosing"))
    if fault.worst is Problem.ALLERGY:
        yield Bullet(_alternative(case, fault.regimen))
    if Problem.ALTERNATE_ADVISED in fault.problems:
        for why in alternate_reasons(case):
            yield Bullet(reason_text(case, why))
    yield from other_product(case)


def _problem_values(fault: _Fault) -> dict[str, Scalar | list[Scalar] | list[dict[str, Scalar]]]:
    values: dict[str, Scalar | list[Scalar] | list[dict[str, Scalar]]] = dict(_dose_values(fault.check))
    values["drug"] = fault.drug
    values["problems"] = list[Scalar](problem.value for problem in fault.problems)
    if fault.regimen is not None:
        values["row"] = values["regimen"] = fault.regimen.id
    if fault.plan is not None:
        if fault.days is not None:
            values["days"] = fault.days
        values["needed_days"] = fault.plan.days
    return values


def _problem_suggestions(case: Case, fault: _Fault) -> tuple[Suggestion, ...]:
    record, regimen, plan = fault.record, fault.regimen, fault.plan
    if regimen is None:
        return ()
    fixable = {Problem.ROUTE, Problem.DOSE_HIGH, Problem.DOSE_LOW, Problem.DAYS}
    if first_day(case, "fludarabine", record) == regimen.start:
        fixable.add(Problem.START)  # the calculated order begins with the fludarabine
    if plan is not None and fixable.issuperset(fault.problems):
        return correction(case, record, regimen, plan)
    return other_regimen(case, record, regimen) if fault.worst is Problem.ALLERGY else ()


def _problem_finding(
    case: Case, record: DrugRecord, drug: str, regimen: Regimen | None, problems: list[Problem]
) -> Finding:
    plan = None if regimen is None else regimen.drug(drug)
    check = None if plan is None else check_order(case, record, plan)
    fault = _Fault(record, drug, tuple(problems), regimen, plan, check, set_days(case, drug, record))
    critical = fault.worst is Problem.ALLERGY and case.hook is Hook.ORDER_SIGN
    return Finding(
        rule=RULE,
        outcome=OUTCOMES[fault.worst],
        indicator=Indicator.CRITICAL if critical else Indicator.WARNING,
        summary=msg(f"summary.{_said(fault.worst, fault)}", **_shown(fault)),
        subject=record.reference,
        detail=tuple(_problem_detail(case, fault)),
        values=_problem_values(fault),
        evidence=(
            *_evidence(case, record, drug),
            *(Evidence(allergy.reference, drug) for allergy in case.chart.allergy_to(drug)),
            *(why.evidence for why in alternate_reasons(case)),
        ),
        resource=record.reference,
        suggestions=_problem_suggestions(case, fault),
    )


def _said(problem: Problem, fault: _Fault) -> str:
    """Message key of a problem; an order without an end has no number of days to name."""
    return "days-open" if problem is Problem.DAYS and fault.days is None else problem.value


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


# --- the rule


def _standing(case: Case, found: Orders) -> tuple[DrugRecord, ...]:
    """Every order of the set, judged in this hook or not: unselected drafts and standing orders too."""
    ordered = [
        record
        for record in case.chart.course.ldc_records
        if record.source is DrugSource.ORDER and record.state in (DrugState.ACTIVE, DrugState.DRAFT)
    ]
    return tuple({record.reference: record for record in (*found.drugs, *ordered)}.values())


def _faultless(case: Case, found: Orders) -> bool:
    return not any(True for order in _standing(case, found) for _ in _order_findings(case, order))


@rule(RULE)
def lymphodepletion(case: Case) -> Iterator[Finding]:
    """One card per order at fault, one card with the plan of the regimen."""
    found = orders(case)
    if not found:
        return
    for record in found.drugs:
        yield from _order_findings(case, record)
    yield plan_finding(case, found, faultless=_faultless(case, found))
