"""Kidney and liver function when lymphodepletion is ordered: a signal, never a computed reduction."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal

from cards.finding import (
    Block,
    Bullet,
    Evidence,
    Finding,
    Indicator,
    Missing,
    Name,
    Outcome,
    Paragraph,
    Scalar,
    Shown,
    msg,
)
from cds.engine.case import Case
from cds.engine.rule import Hook, rule
from cds.rules.dosing.ldc import Orders, advised, bounded_clearance, creatinine_clearance, orders
from cds.rules.dosing.ldc_dose import check_order
from cds.rules.evidence import figure, of_observation
from cds.rules.evidence import shown as as_shown
from cds.rules.renal import Method, lacking
from fhir_mapping.chart import Amount, ConditionState, LossReason, Observation, Quantity

RULE = "dosing.lymphodepletion-organ"
REDUCED_DRUGS = frozenset({"fludarabine", "cyclophosphamide"})  # those that the source would reduce


def reduced(case: Case, found: Orders) -> bool:
    """Every drafted drug that can be compared is ordered below its target; at least one is."""
    regimen = advised(case)
    limit = -case.p(RULE)["reduced_below_percent"]
    answers: list[bool] = []
    for record in found.drugs if regimen is not None else ():
        for drug in record.ingredients:
            plan = regimen.drug(drug) if regimen is not None else None
            percent = check_order(case, record, plan).percent if plan is not None else None
            if percent is not None:
                answers.append(percent < limit)
    return bool(answers) and all(answers)


def _drugs(case: Case, found: Orders) -> frozenset[str]:
    """Drugs that are ordered; of an order for the whole those of the regimen."""
    ordered = frozenset(drug for record in found.drugs for drug in record.ingredients)
    regimen = advised(case)
    return ordered or frozenset(plan.drug for plan in (regimen.drugs if regimen is not None else ()))


def _blocked_by_bound(case: Case, found: Orders, test: Observation, told: Quantity) -> Finding:
    """A measured clearance that is told only as below a figure, and that figure blocks."""
    numbers = case.p(RULE)
    limits = (numbers["clearance_block_ml_min"], numbers["clearance_adjust_ml_min"])
    shown: dict[str, Shown] = {
        "value": as_shown(told),
        "method": msg(f"method.{Method.MEASURED.value}"),
        "block": Amount(limits[0], "mL/min"),
        "adjust": Amount(limits[1], "mL/min"),
    }
    return Finding(
        rule=RULE,
        outcome=Outcome.CONTRAINDICATED,
        indicator=Indicator.CRITICAL if case.hook is Hook.ORDER_SIGN else Indicator.WARNING,
        summary=msg("summary.block", **shown),
        subject="kidney",
        detail=(
            Paragraph(msg("detail.clearance", **shown)),
            Bullet(msg("detail.block", **shown)),
            Bullet(msg("detail.references")),
        ),
        values={"clearance_ml_min": figure(told), "method": Method.MEASURED.value, "row": "block"},
        evidence=(of_observation(test),),
        resource=found.reference,
    )


def _kidney(case: Case, found: Orders) -> Iterator[Finding]:
    numbers = case.p(RULE)
    renal = creatinine_clearance(case)
    block, adjust = numbers["clearance_block_ml_min"], numbers["clearance_adjust_ml_min"]
    bound = bounded_clearance(case)
    told = None if bound is None else bound.value.quantity
    if bound is not None and told is not None and told.at_most(block):
        yield _blocked_by_bound(case, found, bound, told)
        return
    if told is not None and told.at_least(adjust):
        return
    if renal.value is None:
        yield Finding(
            rule=RULE,
            outcome=Outcome.CANNOT_CHECK,
            indicator=Indicator.WARNING,
            summary=msg("summary.clearance-unknown"),
            subject="kidney",
            detail=(Paragraph(msg("detail.clearance-unknown")),),
            values={"row": "unknown"},
            evidence=renal.evidence,
            missing=(lacking(case, "creatinine_clearance", numbers.int("lab_max_age_days")), *renal.missing),
            resource=found.reference,
            unconcluded=True,
        )
        return
    if renal.value >= adjust:
        return
    value = Amount(renal.value.quantize(Decimal("0.1")), renal.unit)
    method = renal.method or Method.MEASURED
    shown: dict[str, Shown] = {
        "value": value,
        "method": msg(f"method.{method.value}"),
        "block": Amount(block, "mL/min"),
        "adjust": Amount(adjust, "mL/min"),
    }
    values: dict[str, Scalar] = {"clearance_ml_min": renal.value, "method": method.value}
    detail: list[Block] = [Paragraph(msg("detail.clearance", **shown))]
    if renal.value <= block:
        signing = case.hook is Hook.ORDER_SIGN
        outcome, key = Outcome.CONTRAINDICATED, "at-limit" if renal.value == block else "block"
        indicator = Indicator.CRITICAL if signing else Indicator.WARNING
        values["row"] = "block"
        detail.append(Bullet(msg("detail.block", **shown)))
    elif reduced(case, found):
        outcome, key, indicator = Outcome.PASS, "reduced", Indicator.INFO
        values["row"] = "reduced"
        detail.append(Bullet(msg("detail.reduced")))
    else:
        named = not REDUCED_DRUGS.isdisjoint(_drugs(case, found))
        outcome, key, indicator = Outcome.REVIEW, "adjust" if named else "adjust-other", Indicator.WARNING
        values["row"] = "adjust"
        detail += [Bullet(msg(f"detail.{key}")), Bullet(msg("detail.tension"))]
    detail.append(Bullet(msg("detail.references")))
    yield Finding(
        rule=RULE,
        outcome=outcome,
        indicator=indicator,
        summary=msg(f"summary.{key}", **shown),
        subject="kidney",
        detail=tuple(detail),
        values=dict(values),
        evidence=renal.evidence,
        resource=found.reference,
    )


def _newest(case: Case, concept: str) -> Observation | None:
    days = case.days_back(case.p(RULE).int("lab_max_age_days"))
    return case.chart.series(concept).latest(case.now, days, lambda o: o.value.quantity is not None)


def _gilbert(case: Case) -> bool:
    return any(c.state is not ConditionState.REFUTED for c in case.chart.conditions.of("gilbert"))


def _liver(case: Case, found: Orders) -> Iterator[Finding]:
    numbers = case.p(RULE)
    over: list[Bullet] = []
    evidence: list[Evidence] = []
    missing: list[Missing] = []
    values: dict[str, Scalar] = {"row": "liver"}
    days = numbers.int("lab_max_age_days")
    bilirubin = _newest(case, "bilirubin_total")
    quantity = None if bilirubin is None else bilirubin.value.quantity
    limit = numbers["bilirubin_gilbert_mg_dl"] if _gilbert(case) else numbers["bilirubin_mg_dl"]
    outside: bool | None = None
    if quantity is not None:
        outside = quantity.above(limit) if _gilbert(case) else quantity.at_least(limit)
    if outside is None:
        missing.append(lacking(case, "bilirubin_total", days))
    elif outside and bilirubin is not None and quantity is not None:
        value = replace(quantity, value=quantity.value.quantize(Decimal("0.01")))
        over.append(Bullet(msg("liver.bilirubin", value=as_shown(value), limit=Amount(limit, "mg/dL"))))
        values["bilirubin_mg_dl"] = quantity.value
        evidence.append(of_observation(bilirubin))
    for concept in ("alt", "ast"):
        test = _newest(case, concept)
        measured = None if test is None else test.value.quantity
        if test is None or measured is None:
            missing.append(lacking(case, concept, days))
            continue
        if test.uln is None or test.uln.value <= 0:
            missing.append(Missing(concept, LossReason.NO_REFERENCE_RANGE, test.reference))
            continue
        high = measured.above(numbers["transaminase_uln"] * test.uln.value)
        if high is None:
            missing.append(lacking(case, concept, days))
        elif high:
            ratio = (measured.value / test.uln.value).quantize(Decimal("0.01"))
            times: Shown = f"{measured.comparator}{ratio}" if measured.comparator else ratio
            over.append(Bullet(msg("liver.enzyme", test=Name(concept), ratio=times)))
            values[f"{concept}_uln_multiple"] = ratio
            evidence.append(of_observation(test))
    if over:
        yield Finding(
            rule=RULE,
            outcome=Outcome.REVIEW,
            indicator=Indicator.WARNING,
            summary=msg("summary.liver"),
            subject="liver",
            detail=(*over, Bullet(msg("detail.liver"))),
            values=dict(values),
            evidence=tuple(evidence),
            missing=tuple(missing),
            resource=found.reference,
        )
    elif missing:
        yield Finding(
            rule=RULE,
            outcome=Outcome.UNKNOWN,
            indicator=Indicator.INFO,
            summary=msg("summary.liver-unknown"),
            subject="liver",
            detail=(Paragraph(msg("detail.liver-unknown")),),
            missing=tuple(missing),
            resource=found.reference,
            unconcluded=True,
        )


@rule(RULE)
def organ(case: Case) -> Iterator[Finding]:
    """One card for the kidney, one for the liver, of the lymphodepletion that is ordered."""
    found = orders(case)
    if not found:
        return
    kidney, liver = list(_kidney(case, found)), list(_liver(case, found))
    if kidney and liver and liver[0].outcome is Outcome.UNKNOWN:
        # missing liver tests are listed on the card that is shown anyway
        kidney[0] = replace(kidney[0], missing=(*kidney[0].missing, *liver[0].missing))
        liver = []
    yield from kidney
    yield from liver
