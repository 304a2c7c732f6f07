"""Bridging tiers in B-ALL by burden and pace; information only, no orders."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from cards.finding import (
    Block,
    Bullet,
    Evidence,
    Finding,
    Indicator,
    Items,
    Missing,
    Name,
    Outcome,
    Scalar,
    Shown,
    Table,
    msg,
)
from cds.engine.case import Case
from cds.engine.rule import rule
from cds.rules.body_size import surface
from cds.rules.disease import Disease, disease, disease_evidence
from cds.rules.evidence import of_observation
from cds.rules.readiness.biology import Mark, Spread, central_disease, extramedullary, marker
from cds.rules.readiness.bridging_course import bridging_time, causes, drafts, intervals
from cds.rules.readiness.checklist import newest, with_number
from fhir_mapping.chart import Amount, ConditionState

RULE = "readiness.bridging-all"
TIERS = ("none", "low", "intermediate", "high", "very-high")
_PACE = {
    "smoldering": "none",
    "slow": "low",
    "progressing": "intermediate",
    "aggressive": "high",
    "rapid": "very-high",
}
_DISEASES = ("b_all", "all_lineage_unspecified")
_NEURO = ("seizure", "encephalopathy", "delirium", "aphasia", "preexisting_neurologic_disease")


def tier(case: Case) -> tuple[str, tuple[Evidence, ...]]:
    """The highest tier that any recorded sign calls for; "" where burden and pace are not recorded."""
    found: list[tuple[str, tuple[Evidence, ...]]] = []
    within = case.days_back(case.p(RULE).int("tumour_max_age_days"))
    pace = newest(case, "disease_pace", within).observation
    if pace is not None:
        found += [(_PACE[word], (of_observation(pace),)) for word in pace.value.codes if word in _PACE]
    burden = newest(case, "tumor_burden", within).observation
    if burden is not None:
        words = {"low": "low", "high": "intermediate"}
        found += [(words[w], (of_observation(burden),)) for w in burden.value.codes if w in words]
    blasts = newest(case, "marrow_blasts", within, with_number)
    if blasts.observation is not None and blasts.quantity is not None and (not found or pace is None):
        low = blasts.quantity.below(case.p(RULE)["low_blasts_percent"])
        found.append(("low" if low else "intermediate", blasts.evidence))
    outside, central = extramedullary(case, _DISEASES), central_disease(case)
    if outside is not None and outside.spread is Spread.ACTIVE:
        found.append(("high", outside.evidence))
    if central.active:
        found.append(("high", central.evidence))
    if not found:
        return "", ()
    smouldering = any(t == "none" for t, _ in found)
    ranked = max(found, key=lambda f: TIERS.index(f[0]))[0]
    if smouldering and TIERS.index(ranked) <= TIERS.index("low"):
        ranked = "none"
    return ranked, tuple(dict.fromkeys(e for _, evidence in found for e in evidence))


def _methotrexate_harmed(case: Case) -> bool:
    return any(
        "methotrexate" in causes(case, c) and c.state in (ConditionState.ACTIVE, ConditionState.HISTORY)
        for c in case.chart.conditions.of(*_NEURO)
    )


def _options(case: Case, chosen: str) -> Table:
    header = tuple(msg(f"head.{name}") for name in ("tier", "option", "before-ldc", "note"))
    rows: list[tuple[Shown, ...]] = []
    for row in case.p(RULE).table("options"):
        if chosen and row["tier"] != chosen:
            continue
        allergic = [drug for drug in row["drugs"] if case.chart.allergy_to(drug)]
        note: Shown = msg("cell.none")
        if allergic:
            note = msg("cell.allergy", drugs=Items(tuple(Name(d) for d in allergic)))
        option = row["option"]
        rows.append(
            (
                msg(f"tier.{row['tier']}"),
                msg(f"option.{option}"),
                msg(f"interval.{option}", **intervals(case)),
                note,
            )
        )
    return Table(header, tuple(rows))


@rule(RULE)
def bridging_all(case: Case) -> Iterator[Finding]:
    """One card with the tier that fits, or all tiers where burden and pace are not recorded."""
    if disease(case) is not Disease.B_ALL or not bridging_time(case):
        return
    resource = ""
    if case.ordering:
        found = drafts(case)
        if not found:
            return
        resource = found[0].reference
    chosen, evidence = tier(case)
    p = case.p(RULE)
    values: dict[str, Scalar] = {"row": chosen or "unknown", "tier": chosen or "unknown"}
    detail: list[Block] = [_options(case, chosen)]
    philadelphia = marker(case, "ph_positive")
    if philadelphia is not None and philadelphia.mark is Mark.PRESENT:
        values["ph_positive"] = True
        detail.append(Bullet(msg("note.tki", **intervals(case))))
        evidence = (*evidence, *philadelphia.evidence)
    if central_disease(case).active:
        values["cns"] = True
        detail.append(
            Bullet(
                msg(
                    "note.methotrexate-harm" if _methotrexate_harmed(case) else "note.methotrexate",
                    **intervals(case),
                )
            )
        )
    area = surface(case, p.int("body_max_age_days"))
    if chosen in ("", "low", "intermediate"):
        per = Amount(p["dexamethasone_mg_m2"], "mg/m2")
        if area.value is None:
            detail.append(Bullet(msg("note.dexamethasone-per", per=per)))
        else:
            mg = (area.value * per.value).quantize(Decimal("0.1"))
            values["dexamethasone_mg"] = mg
            detail.append(Bullet(msg("note.dexamethasone", dose=Amount(mg, "mg"), per=per)))
            evidence = (*evidence, *area.evidence)
    if chosen == "very-high":
        detail.append(Bullet(msg("note.sequential")))
    yield Finding(
        rule=RULE,
        outcome=Outcome.INFO,
        indicator=Indicator.INFO,
        summary=msg("summary.tier" if chosen else "summary.unknown", tier=msg(f"tier.{chosen or 'none'}")),
        subject=resource,
        detail=tuple(detail),
        values=dict(values),
        evidence=(*disease_evidence(case), *evidence),
        missing=() if chosen else (Missing("tumor_burden"), Missing("disease_pace")),
        resource=resource,
    )
