"""CAR-T related HLH by the MD Anderson criteria (Neelapu SS, Nat Rev Clin Oncol 2018;15:47).

Kept for comparison; the IEC-HS rule leads. Ferritin above 10,000 ng/mL and at least two of: liver, kidney and
lung toxicity of grade 3 or more (CTCAE v5.0), haemophagocytosis.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

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
from cds.rules.grading.ctcae_labs import times_uln
from cds.rules.grading.hlh_signs import baseline, criteria, exceeds, lacking, new_conditions, recent
from cds.rules.grading.iec_hs_episode import dialysis_given
from cds.rules.grading.oxygen_support import oxygen_at
from fhir_mapping.chart import Observation, Quantity

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
    answers: list[tuple[Observation, bool | None]] = []
    missing: list[Missing] = []
    for concept, factor in factors.items():
        base, values = baseline(case, concept), recent(case, concept)
        judged = [(o, exceeds(o, base, factor)) for o in values]
        answers += judged
        if all(answer is None for _, answer in judged):
            missing.append(lacking(case, concept, values))
    facts = tuple(of_observation(o) for o, answer in answers if answer)
    return _item("liver", facts, [answer for _, answer in answers], missing)


def _kidney(case: Case) -> Item:
    factor = case.p(RULE)["creatinine_factor"]
    base, values = baseline(case, "creatinine"), recent(case, "creatinine")
    answers = [(o, _raised(o, None if base is None else base.value.quantity, factor)) for o in values]
    facts = (*dialysis_given(case), *(of_observation(o) for o, answer in answers if answer))
    missing = [lacking(case, "creatinine", values)]
    return _item("kidney", facts, [answer for _, answer in answers], missing)


def _raised(observation: Observation, before: Quantity | None, factor: Decimal) -> bool | None:
    """Above `factor` x baseline or x upper limit; None: neither can be told."""
    quantity, answers = observation.value.quantity, [times_uln(observation, factor)]
    if quantity is not None and before is not None and not before.comparator:
        answers.append(quantity.above(before.value * factor))
    known = [answer for answer in answers if answer is not None]
    return any(known) if known else None


def _item(
    key: str, facts: tuple[Evidence, ...], answers: Sequence[bool | None], missing: Sequence[Missing]
) -> Item:
    if facts:
        return Item(key, True, facts)
    return Item(key, False) if False in answers else Item(key, None, missing=tuple(missing))


def _lung(case: Case) -> Item:
    oedema = new_conditions(case, "pulmonary_edema")
    if not oedema:
        return Item("lung", False)
    start = therapy_start(case)
    assert start is not None
    oxygen = oxygen_at(case, case.now, start)
    new = {fact.reference for fact in oedema}
    severe = any(
        c.grade is not None and c.grade.value >= 3
        for c in case.chart.conditions.of("pulmonary_edema")
        if c.reference in new
    )
    if severe or (oxygen.low and not oxygen.provisional):
        return Item("lung", True, (*oedema, *(Evidence(r, oxygen.device) for r in oxygen.references)))
    return Item("lung", False) if oxygen.recorded else Item("lung", None, oedema, (Missing("oxygen_device"),))


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
