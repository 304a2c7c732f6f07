"""CAR-T related HLH by the MD Anderson criteria (Neelapu SS, Nat Rev Clin Oncol 2018;15:47).

Kept for comparison; the IEC-HS rule leads. Ferritin above 10,000 ng/mL and at least two of: liver, kidney and
lung toxicity of grade 3 or more (CTCAE v5.0), haemophagocytosis.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cards.finding import (
    Block,
    Bullet,
    Evidence,
    Finding,
    Indicator,
    Items,
    Message,
    Missing,
    Name,
    Outcome,
    Paragraph,
    Table,
    msg,
)
from cds.engine.case import Case, once_per_case
from cds.engine.rule import rule
from cds.rules.after_cart import therapy_start
from cds.rules.evidence import of_observation, shown
from cds.rules.grading.hlh_signs import baseline, criteria, exceeds, new_conditions, recent
from cds.rules.grading.iec_hs_episode import dialysis_given
from cds.rules.grading.oxygen_support import oxygen_at
from fhir_mapping.chart import LossReason, Observation

RULE = "grading.cart-hlh-2018"


@dataclass(frozen=True, slots=True)
class Item:
    """One of the four. `met` None: cannot be told."""

    key: str
    met: bool | None
    evidence: tuple[Evidence, ...] = ()
    missing: tuple[Missing, ...] = ()


@dataclass(frozen=True, slots=True)
class HlhState:
    """Ferritin (the highest of the last days) and the four items."""

    ferritin: Observation
    ferritin_met: bool | None
    items: tuple[Item, ...]

    @property
    def count(self) -> int:
        return sum(bool(i.met) for i in self.items)


def _liver(case: Case) -> Item:
    p = case.p(RULE)
    factors = {"alt": p["transaminase_factor"], "ast": p["transaminase_factor"]}
    factors["bilirubin_total"] = p["bilirubin_factor"]
    facts: list[Evidence] = []
    known = False
    missing: list[Missing] = []
    for concept, factor in factors.items():
        base, values = baseline(case, concept), recent(case, concept)
        for observation in values:
            answer = exceeds(observation, base, factor)
            known = known or answer is not None
            if answer:
                facts.append(of_observation(observation))
        if not values:
            missing.append(Missing(concept))
        elif values[-1].uln is None:
            missing.append(Missing(concept, LossReason.NO_REFERENCE_RANGE, values[-1].reference))
    met = True if facts else False if known else None
    return Item("liver", met, tuple(facts), () if known else tuple(missing))


def _kidney(case: Case) -> Item:
    factor = case.p(RULE)["creatinine_factor"]
    facts = list(dialysis_given(case))
    base, values = baseline(case, "creatinine"), recent(case, "creatinine")
    before = base.value.quantity if base is not None else None
    known = bool(facts)
    for observation in values:
        quantity = observation.value.quantity
        assert quantity is not None
        answers = []
        if before is not None and not before.comparator and before.value > 0:
            answers.append(quantity.above(before.value * factor))
        if observation.uln is not None:
            answers.append(quantity.above(observation.uln.value * factor))
        known = known or any(a is not None for a in answers)
        if True in answers:
            facts.append(of_observation(observation))
    met = True if facts else False if known else None
    reason = LossReason.NO_REFERENCE_RANGE if values else LossReason.NOT_ON_CHART
    reference = values[-1].reference if values else ""
    return Item("kidney", met, tuple(facts), () if known else (Missing("creatinine", reason, reference),))


def _lung(case: Case) -> Item:
    start = therapy_start(case)
    assert start is not None
    oedema = new_conditions(case, "pulmonary_edema")
    oxygen = oxygen_at(case, case.now, start)
    new = {hit.evidence.reference for hit in oedema}
    severe = [
        c
        for c in case.chart.conditions.of("pulmonary_edema")
        if c.grade is not None and c.grade.value >= 3 and c.reference in new
    ]
    if oedema and (severe or (oxygen.low > 0 and not oxygen.provisional)):
        facts = tuple(h.evidence for h in oedema)
        return Item("lung", True, (*facts, *(Evidence(r, oxygen.device) for r in oxygen.references)))
    if oedema and not oxygen.recorded:
        return Item("lung", None, tuple(h.evidence for h in oedema), (Missing("oxygen_device"),))
    return Item("lung", False)


def _haemophagocytosis(case: Case) -> Item:
    found = next(c for c in criteria(case) if c.key == "C4")
    met = True if found.hits else False if found.assessed else None
    return Item("haemophagocytosis", met, tuple(h.evidence for h in found.hits), found.missing)


@once_per_case
def cart_hlh(case: Case) -> HlhState | None:
    """The state from day 0 to day 90 where a ferritin of the last days is on the chart."""
    day = case.chart.course.last_day(case.today)
    p = case.p(RULE)
    values = recent(case, "ferritin")
    if day is None or not p.int("first_day") <= day <= p.int("last_day") or not values:
        return None
    limit = p["ferritin_ng_ml"]
    above = [o for o in values if o.value.quantity is not None and o.value.quantity.above(limit)]
    chosen = above[-1] if above else values[-1]
    quantity = chosen.value.quantity
    assert quantity is not None
    items = (_liver(case), _kidney(case), _lung(case), _haemophagocytosis(case))
    return HlhState(chosen, quantity.above(limit), items)


def _detail(case: Case, state: HlhState) -> Iterator[Block]:
    p = case.p(RULE)
    quantity = state.ferritin.value.quantity
    assert quantity is not None
    yield Bullet(Message("ferritin", {"value": shown(quantity), "when": state.ferritin.when}))
    rows = []
    for item in state.items:
        key = "met" if item.met else "not-met" if item.met is False else "not-assessed"
        names = tuple(dict.fromkeys(Name(e.concept) for e in item.evidence if e.concept))
        rows.append((msg(f"item.{item.key}"), msg(key), Items(names) if names else msg("no-fact")))
    yield Table((msg("head.item"), msg("head.met"), msg("head.fact")), tuple(rows))
    yield Paragraph(msg("criterion", limit=p["ferritin_ng_ml"], needed=p.int("needed")))
    yield Paragraph(msg("leads"))


@rule(RULE)
def compare_with_2018(case: Case) -> Iterator[Finding]:
    """Criteria met (critical), or a ferritin above the limit with fewer than two others (warning)."""
    state = cart_hlh(case)
    if state is None:
        return
    met = state.count >= case.p(RULE).int("needed")
    outcome, indicator, row = Outcome.NOT_PRESENT, None, "not-met"
    summary = msg("summary.not-met")
    quantity = state.ferritin.value.quantity
    assert quantity is not None
    if state.ferritin_met:
        row = "met" if met else "ferritin-only"
        outcome = Outcome.MEETS_CRITERIA if met else Outcome.POSSIBLE
        indicator = Indicator.CRITICAL if met else Indicator.WARNING
        summary = Message(f"summary.{row}", {"value": shown(quantity), "count": state.count})
    unknown = state.ferritin_met is None
    yield Finding(
        rule=RULE,
        outcome=Outcome.CANNOT_GRADE if unknown else outcome,
        indicator=indicator,
        summary=msg("summary.cannot-grade") if unknown else summary,
        detail=tuple(_detail(case, state)),
        values={
            "row": "cannot-grade" if unknown else row,
            "ferritin_ng_ml": quantity.value,
            "criteria_met": state.count,
            **{item.key: item.met for item in state.items if item.met is not None},
        },
        evidence=(of_observation(state.ferritin), *(e for i in state.items for e in i.evidence)),
        missing=(Missing("ferritin"),) if unknown else tuple(m for i in state.items for m in i.missing),
        unconcluded=unknown,
    )
