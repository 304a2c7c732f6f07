"""Work-up, monitoring and transfer in ICANS: what the chart does not show."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from cards.finding import (
    Block,
    Bullet,
    Create,
    Evidence,
    Finding,
    Indicator,
    Items,
    Message,
    Name,
    Outcome,
    Paragraph,
    Selection,
    ServiceProposal,
    Suggestion,
    Table,
    msg,
)
from cds.engine.case import Case
from cds.engine.rule import rule
from cds.rules.after_cart import in_icu
from cds.rules.dosing.steroid_course import steroid_in_force
from cds.rules.evidence import of_fact, of_observation, shown
from cds.rules.follow_up.prophylaxis import drug_use
from cds.rules.follow_up.prophylaxis_antifungal import ANTIFUNGALS
from cds.rules.grading.fever import hours
from cds.rules.grading.icans import evidence as icans_evidence
from cds.rules.grading.icans_episode import Domain, IcansState, icans_now
from cds.rules.work_up import Found, WorkUp, look_for
from fhir_mapping.chart import Amount, ConditionState, reaches_the_body

RULE = "follow-up.icans-workup"


def mri_impossible(case: Case) -> Evidence | None:
    """What rules out MRI (C15); None where nothing on the chart does."""
    for condition in case.chart.conditions.of("mri_contraindicated"):
        if condition.state in (ConditionState.ACTIVE, ConditionState.SUSPECTED):
            return of_fact(condition, "mri_contraindicated")
    stated = case.chart.latest("mri_contraindicated")
    if stated is not None and stated.value.yes:
        return of_observation(stated)
    for document in case.chart.documents.of("mri_contraindicated"):
        return of_fact(document, "mri_contraindicated")
    return None


def lumbar_puncture_blocks(case: Case, state: IcansState) -> tuple[tuple[Message, Evidence], ...]:
    """What on the chart speaks against a lumbar puncture, as (reason, fact)."""
    p = case.p(RULE)
    within = timedelta(days=p.int("blood_max_age_days"))
    found: list[tuple[Message, Evidence]] = []
    platelets = case.chart.series("platelets").latest(case.now, within)
    count = None if platelets is None else platelets.value.quantity
    if platelets is not None and count is not None and count.below(p["lp_platelets"]):
        limit = Amount(p["lp_platelets"], count.unit)
        reason = msg("block.platelets", value=shown(count), when=platelets.when, limit=limit)
        found.append((reason, of_observation(platelets)))
    inr = case.chart.series("inr").latest(case.now, within)
    ratio = None if inr is None else inr.value.quantity
    if inr is not None and ratio is not None and ratio.above(p["lp_inr"]):
        limit = Amount(p["lp_inr"], "")
        reason = msg("block.inr", value=shown(ratio), when=inr.when, limit=limit)
        found.append((reason, of_observation(inr)))
    pressure = state.domain(Domain.PRESSURE)
    if pressure is not None and pressure.why == "pressure.diffuse":
        found += [(msg("block.oedema"), fact) for fact in pressure.evidence[:1]]
    return tuple(found)


def _antifungal(case: Case) -> WorkUp:
    for record in drug_use(case, *ANTIFUNGALS).active:
        return WorkUp(Found.DONE, ANTIFUNGALS[0], record.timing.first, record.reference)
    for record in case.chart.drafts.drugs.of(*ANTIFUNGALS):
        if reaches_the_body(record.route):
            return WorkUp(Found.ORDERED, ANTIFUNGALS[0], record.timing.first, record.reference)
    return WorkUp(Found.NOT_FOUND, ANTIFUNGALS[0])


@rule(RULE)
def work_up_icans(case: Case) -> Iterator[Finding]:
    """A checklist while ICANS is grade 1 or more."""
    state = icans_now(case)
    if state is None or not state.low or case.chart.patient.deceased:
        return
    p = case.p(RULE)
    begun = state.onset.earliest if state.onset is not None else case.now
    since = begun - hours(p["workup_window_hours"])
    no_mri, blocks = mri_impossible(case), lumbar_puncture_blocks(case, state)
    items = [look_for(case, since, "eeg", "continuous_eeg")]
    items.append(look_for(case, since, "ct_head" if no_mri is not None else "mri_brain"))
    if not blocks:
        items.append(look_for(case, since, "lumbar_puncture"))
    items.append(look_for(case, since, "neurology_consult"))
    limit = p.int("icu_from_grade" if case.facility.experienced else "icu_from_grade_less_experienced")
    icu_needed = state.low >= limit
    if icu_needed:
        place = in_icu(case)
        items.append(WorkUp(Found.DONE, "icu_transfer") if place else look_for(case, since, "icu_transfer"))
    if steroid_in_force(case):
        items.append(_antifungal(case))
    open_items = [i for i in items if not i.covered]
    names = Items(tuple(Name(i.concept) for i in open_items[:3]))
    more = len(open_items) - 3
    summary: Message = msg("summary.complete")
    outcome, indicator = Outcome.READY, None
    if open_items:
        outcome, indicator = Outcome.INCOMPLETE, Indicator.WARNING
        summary = msg("summary.missing", grade=state.low, items=names)
        if more > 0:
            summary = msg("summary.missing-more", grade=state.low, items=names, more=more)
        if any(i.concept == "icu_transfer" for i in open_items) and state.low >= p["icu_from_grade"]:
            indicator = Indicator.CRITICAL
            summary = msg("summary.icu", grade=state.low, count=len(open_items))
    elif blocks:
        outcome, indicator = Outcome.READY_WITH_POINTS, Indicator.INFO
        summary = msg("summary.blocked")
    yield Finding(
        rule=RULE,
        outcome=outcome,
        indicator=indicator,
        summary=summary,
        detail=tuple(_detail(items, blocks, no_mri, state)),
        grade=state.low,
        values={
            "row": open_items[0].concept if open_items else "complete",
            "not_found": [i.concept for i in open_items],
            "lumbar_puncture_blocked": bool(blocks),
            "mri_possible": no_mri is None,
        },
        evidence=(
            *icans_evidence(state),
            *(fact for _, fact in blocks),
            *((no_mri,) if no_mri is not None else ()),
            *(e for i in items for e in i.evidence),
        ),
        suggestions=_suggestions(open_items),
        selection=Selection.ANY,
    )


def _detail(
    items: list[WorkUp],
    blocks: tuple[tuple[Message, Evidence], ...],
    no_mri: Evidence | None,
    state: IcansState,
) -> Iterator[Block]:
    rows = []
    for item in sorted(items, key=lambda i: i.covered):
        when = msg("at", when=item.when) if item.when is not None else msg("no-date")
        rows.append((Name(item.concept), msg(f"found.{item.found.value}"), when))
    yield Table((msg("head.item"), msg("head.status"), msg("head.when")), tuple(rows))
    for reason, _ in blocks:
        yield Bullet(reason)
    yield Bullet(msg("mri.impossible" if no_mri is not None else "mri.sequences"))
    yield Bullet(msg("eeg"))
    yield Bullet(msg("monitor"))
    if state.low is not None and state.low >= 1:
        yield Bullet(msg("notify"))
    yield Paragraph(msg("not-found-means"))


def _suggestions(open_items: list[WorkUp]) -> tuple[Suggestion, ...]:
    services = tuple(i.concept for i in open_items if i.concept != "class_antimycotics")
    if not services:
        return ()
    actions = tuple(Create(ServiceProposal(concept, reason="icans")) for concept in services)
    label = msg("suggest.needed", items=Items(tuple(Name(c) for c in services)))
    return (Suggestion("needed", label, actions, True),)
