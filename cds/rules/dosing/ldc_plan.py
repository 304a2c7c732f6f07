"""The plan of the advised lymphodepletion regimen: doses in mg, dates, and what to know beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from decimal import Decimal

from cards.finding import (
    Block,
    Bullet,
    Finding,
    Indicator,
    Items,
    Message,
    Missing,
    Name,
    Outcome,
    Paragraph,
    Scalar,
    Selection,
    Shown,
    Table,
    msg,
)
from cds.engine.case import Case
from cds.engine.rule import Hook
from cds.rules.body_size import recorded_apart
from cds.rules.disease import Disease, disease, disease_concept, disease_evidence
from cds.rules.dosing.ldc import (
    RULE,
    Orders,
    Reason,
    Regimen,
    Why,
    advised,
    alternate_reasons,
    body_surface,
    cystitis_without_grade,
    ordered_drugs,
    own_regimen,
    regimens,
)
from cds.rules.dosing.ldc_dose import check_order
from cds.rules.dosing.ldc_offers import blocked, plan_suggestions, pregnant
from cds.rules.washout import lymphodepletion as washout
from cds.rules.washout.wording import shown_name
from fhir_mapping.chart import Amount, Flag

_HANDBOOK_PRODUCT = "tisagenlecleucel"


def reason_text(case: Case, why: Why) -> Message:
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
            regimen = own_regimen(case, drug)
            plan = None if regimen is None else regimen.drug(drug)
            percent = None if plan is None else check_order(case, record, plan).percent
            if percent is not None and percent < limit:
                return True
    return False


def _plan_detail(case: Case, found: Orders, regimen: Regimen, shown: Mapping[str, Shown]) -> Iterator[Block]:
    yield Paragraph(msg("detail.plan", **shown))
    yield _plan_table(case, regimen)
    m2 = body_surface(case)
    if m2.value is None:
        yield Bullet(msg("detail.surface-missing"))
    else:
        area = Amount(m2.value.quantize(Decimal("0.01")), "m2")
        yield Bullet(msg(f"detail.surface-{m2.formula.lower()}", area=area))
    yield from other_product(case)
    yield from _measures_apart(case, found)
    for why in alternate_reasons(case):
        yield Bullet(reason_text(case, why))
    grade = case.p(RULE).int("cystitis_grade")
    if cystitis_without_grade(case) is not None:
        yield Bullet(msg("detail.cystitis-grade", grade=grade))
    there = ordered_drugs(case, found.drugs)
    if not regimen.alternate and any(r.alternate and _ordered(r, there) for r in regimens(case)):
        yield Bullet(msg("detail.alternate-without-reason", grade=grade))
    for reason in blocked(case):
        yield Bullet(msg("detail.blocked", reason=reason))
    yield from _too_close(case, found)
    if case.chart.latest("product_status") is None:
        yield Bullet(msg("detail.confirm-product"))
    for plan in regimen.drugs:
        yield Bullet(msg(f"toxicity.{plan.drug}"))
    yield Bullet(msg("toxicity.class"))
    if regimen.start is None:
        yield Bullet(msg("detail.no-day0"))


def _plan_missing(case: Case) -> Iterator[Missing]:
    m2, cystitis = body_surface(case), cystitis_without_grade(case)
    if m2.value is None:
        yield from m2.missing
    if cystitis is not None:
        yield Missing("hemorrhagic_cystitis", resource=cystitis.reference)


def plan_finding(case: Case, found: Orders, *, faultless: bool) -> Finding:
    """The plan of the advised regimen. `faultless`: nothing is wrong with the orders that are there."""
    regimen = advised(case)
    if regimen is None:
        return _no_regimen(case, found)
    there = ordered_drugs(case, found.drugs)
    sound = faultless and all(plan.drug in there for plan in regimen.drugs)
    reasons, hazard = blocked(case), pregnant(case)
    shown: dict[str, Shown] = {
        "regimen": regimen.id,
        "disease": Name(disease_concept(case)),
        "doses": _doses_text(regimen),
    }
    detail = tuple(_plan_detail(case, found, regimen, shown))
    shown["tolerance"] = case.p(RULE).int("tolerance_percent")
    hold = bool(reasons) and (sound or hazard)
    critical = hazard and case.hook is Hook.ORDER_SIGN
    if hold:
        shown["reason"] = reasons[0]
    return Finding(
        rule=RULE,
        outcome=Outcome.HOLD if hold else Outcome.PASS if sound else Outcome.ADVISE,
        indicator=Indicator.CRITICAL if critical else Indicator.WARNING if hold else Indicator.INFO,
        summary=msg(f"summary.{_plan_key(case, found, sound, hold)}", **shown),
        subject="plan",
        detail=detail,
        values=dict(_plan_values(case, regimen)),
        evidence=(
            *body_surface(case).evidence,
            *disease_evidence(case),
            *(why.evidence for why in alternate_reasons(case)),
        ),
        missing=tuple(_plan_missing(case)),
        resource=found.reference,
        suggestions=() if reasons else plan_suggestions(case, regimen, there),
        selection=Selection.AT_MOST_ONE,
    )


def other_product(case: Case) -> Iterator[Block]:
    """The handbook's regimens are those of tisagenlecleucel; another product brings its own."""
    product = case.chart.course.product
    if product is not None and product.concept != _HANDBOOK_PRODUCT:
        names = {"own": Name(_HANDBOOK_PRODUCT), "product": Name(product.concept)}
        yield Bullet(msg("detail.other-product", **names))


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
