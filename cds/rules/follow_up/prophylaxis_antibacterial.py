"""Antibacterial (fluoroquinolone) prophylaxis: who may get it, when it is not advised (Table 15)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from cards.finding import Bullet, Evidence, Finding, Indicator, Missing, Outcome, Scalar, msg
from cds.engine.case import Case
from cds.engine.rule import rule
from cds.rules import evidence
from cds.rules.after_cart import confirmed_infections
from cds.rules.follow_up.neutropenia import Count, current_anc, days_below, score_evidence
from cds.rules.follow_up.prophylaxis import Use, begun, drug_use, for_treatment, start_evidence
from cds.rules.grading.icaht_risk import Risk, icaht_risk
from fhir_mapping.chart import ConditionState, Result, reaches_the_body

RULE = "follow-up.prophylaxis-antibacterial"
QUINOLONES = ("class_fluoroquinolones",)


@dataclass(frozen=True, slots=True)
class Situation:
    """Risk and neutrophils. `high` None: risk not classified."""

    high: bool | None
    count: Count | None
    long_days: int  # days with ANC below the very low limit
    cautions: tuple[Bullet, ...]
    colonised: bool  # with multidrug-resistant bacteria
    allergic: bool  # to a fluoroquinolone
    evidence: tuple[Evidence, ...]
    values: dict[str, Scalar] = field(default_factory=dict)


def situation(case: Case) -> Situation:
    p = case.p(RULE)
    risk = icaht_risk(case)
    count = current_anc(case, p.int("anc_age_days"))
    shown: list[Evidence] = list(score_evidence(case))
    values: dict[str, Scalar] = {"icaht_risk": risk.value}
    long_days = 0
    if count is not None:
        shown.append(count.evidence)
        values["anc_per_ul"] = count.per_ul.value
        long_days = days_below(case, p["very_low_anc_per_ul"], count)
        values["very_low_days"] = long_days
    cautions: list[Bullet] = []
    for condition in case.chart.conditions.of("mdr_colonization"):
        if condition.state is ConditionState.ACTIVE:
            cautions.append(Bullet(msg("caution.colonised")))
            shown.append(evidence.of_fact(condition, "mdr_colonization"))
            break
    else:
        newest = case.chart.latest("mdr_colonization")
        if newest is not None and newest.value.result is Result.POSITIVE:
            cautions.append(Bullet(msg("caution.colonised")))
            shown.append(evidence.of_observation(newest))
    colonised = bool(cautions)
    allergic = bool(case.chart.allergy_to(*QUINOLONES, "levofloxacin", "ciprofloxacin"))
    if allergic:
        cautions.append(Bullet(msg("caution.allergy")))
    if case.facility.high_mdr_rate:
        cautions.append(Bullet(msg("caution.local-rate")))
    high = None if risk is Risk.UNKNOWN else risk.high
    return Situation(high, count, long_days, tuple(cautions), colonised, allergic, tuple(shown), values)


@rule(RULE)
def antibacterial_prophylaxis(case: Case) -> Iterator[Finding]:
    """What the neutrophils and the risk say; on order-sign the fluoroquinolone drafts."""
    if not begun(case):
        return
    if case.ordering:
        yield from _orders(case)
        return
    finding = _state(case)
    if finding is not None:
        yield finding


def _state(case: Case) -> Finding | None:
    p = case.p(RULE)
    now = situation(case)
    use = drug_use(case, *QUINOLONES)
    running = use.use is Use.ACTIVE and not any(for_treatment(r) for r in use.active)
    if use.use is Use.ACTIVE and not running:
        return None
    low = None if now.count is None else now.count.per_ul.below(p["anc_per_ul"])
    over = None if now.count is None else now.count.per_ul.above(p["anc_per_ul"])
    long_run = now.long_days > p["very_low_days"]
    indicator: Indicator | None = Indicator.INFO
    missing: tuple[Missing, ...] = ()
    unconcluded = False
    if running:
        if over is not True or confirmed_infections(case):
            return None
        outcome, row, summary = Outcome.REVIEW, "review-stop", msg("summary.review-stop")
    elif long_run:
        outcome, row, summary = Outcome.CONSIDER, "long", msg("summary.long", days=now.long_days)
    elif low is not True:
        return None
    elif now.high is True:
        outcome, row, summary = Outcome.CONSIDER, "consider", msg("summary.consider")
    elif now.high is None:
        outcome, row, summary = Outcome.UNKNOWN, "risk-unknown", msg("summary.risk-unknown")
        indicator, unconcluded, missing = None, True, (Missing("car_hematotox"),)
    else:
        return None
    if now.colonised and outcome is Outcome.CONSIDER:
        outcome, row, summary = Outcome.CAUTION, "mdr", msg("summary.order-mdr")
    return Finding(
        rule=RULE,
        outcome=outcome,
        indicator=indicator,
        summary=summary,
        detail=(*now.cautions, Bullet(msg("detail.no-dose"))),
        values={"row": row, **now.values},
        evidence=(*start_evidence(case), *now.evidence, *(use.evidence if running else ())),
        missing=missing,
        unconcluded=unconcluded,
    )


def _orders(case: Case) -> Iterator[Finding]:
    p = case.p(RULE)
    now = situation(case)
    low = None if now.count is None else now.count.per_ul.below(p["anc_per_ul"])
    long_run = now.long_days > p["very_low_days"]
    for draft in case.judged_drugs(*QUINOLONES):
        if not reaches_the_body(draft.route):
            continue
        prevents = "purpose_prophylaxis" in draft.purposes
        if for_treatment(draft) or (not prevents and (draft.reasons or confirmed_infections(case))):
            continue
        outcome: Outcome = Outcome.PASS
        indicator: Indicator | None = None
        row, summary = "pass", msg("summary.order-pass")
        missing: tuple[Missing, ...] = ()
        if long_run:
            row, summary = "long", msg("summary.long", days=now.long_days)
            outcome = Outcome.CONSIDER
        elif now.high is False:
            outcome, indicator, row = Outcome.REVIEW, Indicator.WARNING, "low-risk"
            summary = msg("summary.order-low-risk")
        elif now.high is None:
            outcome, indicator, row = Outcome.CANNOT_CHECK, Indicator.INFO, "risk-unknown"
            summary, missing = msg("summary.risk-unknown"), (Missing("car_hematotox"),)
        elif low is True:
            outcome, row, summary = Outcome.CONSIDER, "consider", msg("summary.consider")
        elif low is None:
            outcome, indicator, row = Outcome.CANNOT_CHECK, Indicator.INFO, "anc-unknown"
            summary, missing = msg("summary.order-anc-unknown"), (Missing("anc"),)
        if now.allergic:
            outcome, indicator, row = Outcome.CONTRAINDICATED, Indicator.CRITICAL, "allergy"
            summary, missing = msg("summary.order-allergy"), ()
        elif now.cautions and outcome is not Outcome.REVIEW:
            outcome, indicator, row = Outcome.CAUTION, Indicator.WARNING, "mdr"
            summary = msg("summary.order-mdr")
        yield Finding(
            rule=RULE,
            outcome=outcome,
            indicator=indicator,
            summary=summary,
            subject=draft.reference,
            resource=draft.reference,
            detail=(*now.cautions, Bullet(msg("detail.no-dose"))),
            values={"row": row, **now.values},
            evidence=(*start_evidence(case), evidence.of_drug(draft), *now.evidence),
            missing=missing,
            unconcluded=outcome is Outcome.CANNOT_CHECK,
        )
