"""Refractory CRS: further targets for discussion, no doses (Morris EC, Nat Rev Immunol 2022;22:85)."""

from __future__ import annotations

from collections.abc import Iterator

from cards.finding import (
    Block,
    Bullet,
    Evidence,
    Finding,
    Indicator,
    Items,
    Name,
    Outcome,
    Paragraph,
    msg,
)
from cds.engine.case import Case
from cds.engine.rule import rule
from cds.rules.after_cart import coded_episodes, therapy_start
from cds.rules.dosing.crs_ladder import Node, Step, crs_step
from cds.rules.dosing.steroid_course import Tier
from cds.rules.dosing.tocilizumab import tocilizumab_doses
from cds.rules.evidence import of_drug_start, of_observation
from cds.rules.grading.crs_episode import crs_applies
from cds.rules.grading.icans_episode import icans_now
from fhir_mapping.chart import DrugRecord, Observation

RULE = "dosing.crs-refractory"
_ALWAYS_JUDGED = ("siltuximab", "anakinra")
_OTHER_REASONS = frozenset({"icans", "iec_hs", "hlh"})


def ferritin_rise(case: Case, step: Step) -> tuple[Observation, Observation] | None:
    """The lowest and the newest ferritin of the episode, where the newest is at least twice the lowest."""
    episode = step.state.episode
    if episode is None:
        return None
    values = [
        o
        for o in case.chart.series("ferritin").between(episode.begun, case.now)
        if o.value.quantity is not None and not o.value.quantity.comparator
    ]
    if len(values) < 2:
        return None
    newest = values[-1]
    lowest = min(values[:-1], key=lambda o: o.value.quantity.value if o.value.quantity else 0)
    assert newest.value.quantity is not None
    assert lowest.value.quantity is not None
    if newest.value.quantity.value >= case.p(RULE)["ferritin_fold"] * lowest.value.quantity.value:
        return lowest, newest
    return None


def _targets(case: Case) -> Iterator[Block]:
    for row in case.p(RULE).table("targets"):
        drugs = Items(tuple(Name(drug) for drug in row["drugs"]))
        yield Bullet(msg("target", target=msg(f"target.{row['target']}"), drugs=drugs))


@rule(RULE)
def advise_refractory(case: Case) -> Iterator[Finding]:
    """On patient-view node 5 of the ladder; on order hooks drugs of later lines that come too early."""
    if therapy_start(case) is None or not crs_applies(case):
        return
    step = crs_step(case)
    if step is None or step.node is Node.IEC_HS:
        return
    if case.ordering:
        yield from _on_orders(case, step)
    elif step.node is Node.N5:
        yield _refractory(case, step)


def _refractory(case: Case, step: Step) -> Finding:
    evidence: list[Evidence] = [of_drug_start(d) for d in tocilizumab_doses(case)]
    detail: list[Block] = [Paragraph(msg("advice")), *_targets(case), Paragraph(msg("no-dose"))]
    values: dict[str, str | int] = {"row": "5", "tocilizumab_given": len(tocilizumab_doses(case))}
    if step.run is not None:
        values["steroid_day"] = step.run.day_at(case.today)
        evidence.append(of_drug_start(step.run.records[0]))
    rise = ferritin_rise(case, step)
    if rise is not None:
        detail.append(Bullet(msg("ferritin")))
        evidence += [of_observation(rise[0]), of_observation(rise[1])]
        values["ferritin"] = "rising"
    return Finding(
        rule=RULE,
        outcome=Outcome.ADVISE,
        indicator=Indicator.CRITICAL,
        summary=msg("summary.refractory"),
        detail=tuple(detail),
        grade=step.state.low,
        values=values,
        evidence=tuple(evidence),
    )


def _for_another_reason(case: Case, draft: DrugRecord) -> bool:
    if "crs" in draft.reasons:
        return False
    start = therapy_start(case)
    assert start is not None
    neuro = icans_now(case)
    if not draft.reasons.isdisjoint(_OTHER_REASONS) or (neuro is not None and (neuro.grade or 0) >= 2):
        return True
    return bool(coded_episodes(case, "iec_hs", start) or coded_episodes(case, "hlh", start))


def _on_orders(case: Case, step: Step) -> Iterator[Finding]:
    if step.node is Node.N5:
        return
    drugs = {drug for row in case.p(RULE).table("targets") for drug in row["drugs"]} - {"tocilizumab"}
    for draft in case.judged_drugs(*sorted(drugs)):
        if _for_another_reason(case, draft):
            continue
        if draft.concepts.isdisjoint(_ALWAYS_JUDGED) and not (
            "crs" in draft.reasons or "purpose_car_t_switch_off" in draft.purposes
        ):
            continue
        given = bool(tocilizumab_doses(case))
        steroid = step.run is not None and step.run.tier >= Tier.D10
        if given and steroid:
            continue
        drug = next(i for i in draft.ingredients if i in drugs)
        key = "summary.not-first" if not given else "summary.no-steroid"
        yield Finding(
            rule=RULE,
            outcome=Outcome.REVIEW,
            indicator=Indicator.WARNING,
            summary=msg(key, drug=Name(drug), grade=step.state.low or 0),
            subject=draft.reference,
            detail=(Paragraph(msg("lines")),),
            grade=step.state.low,
            values={"row": "not-first-line", "node": step.node.value},
            evidence=tuple(of_drug_start(d) for d in tocilizumab_doses(case)),
            resource=draft.reference,
        )
