"""Acetaminophen and diphenhydramine 30 to 60 minutes before the CAR-T infusion (handbook 2.2.3).

Permissive wording: absence is never a fault. A steroid as premedication is critical here as well as in
washout.infusion, because a site may subscribe to one of the two domains only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from math import ceil, floor

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
    Selection,
    msg,
)
from cds.engine.case import Case
from cds.engine.rule import rule
from cds.rules.dosing.premedication import DRUGS, OFFERS, RULE, infusion_start, suggestions, withheld
from cds.rules.readiness.phase import collected
from cds.rules.washout import infusion
from fhir_mapping.chart import DrugRecord, Moment


@dataclass(frozen=True, slots=True)
class Timed:
    """One premedication dose. `minutes` before the start, whole ones, a begun one counted where the dose is
    too early; None where either hour is unknown."""

    record: DrugRecord
    drug: str
    minutes: int | None
    outcome: Outcome


def minutes_before(dose: Moment | None, start: Moment | None) -> float | None:
    """Minutes from the dose to the start of the infusion; None without both hours."""
    if dose is None or start is None or not dose.exact or not start.exact:
        return None
    return (start.earliest - dose.earliest) / timedelta(minutes=1)


def timing_outcome(minutes: float | None, earliest: int, latest: int) -> Outcome:
    """`earliest` (60) >= minutes >= `latest` (30) is met."""
    if minutes is None:
        return Outcome.UNKNOWN
    if minutes > earliest:
        return Outcome.TOO_EARLY
    return Outcome.TOO_LATE if minutes < latest else Outcome.MET


def premedication(case: Case, records: tuple[DrugRecord, ...]) -> tuple[Timed, ...]:
    """Doses meant as premedication: said so, or within the hours before the start (M15)."""
    numbers = case.p(RULE)
    start = infusion_start(case)
    found: list[Timed] = []
    for record in records:
        drug = next((d for d in record.ingredients if d in DRUGS), None)
        if drug is None or record.timing.as_needed:
            continue
        for dose in record.timing.doses or (record.timing.first,):
            minutes = minutes_before(dose, start)
            near = minutes is not None and 0 <= minutes <= numbers.int("window_h") * 60
            meant = "purpose_premedication" in record.purposes
            if not near and not (meant and (minutes is None or minutes <= 24 * 60)):
                continue
            outcome = timing_outcome(minutes, numbers.int("earliest_min"), numbers.int("latest_min"))
            whole = ceil if outcome is Outcome.TOO_EARLY else floor
            found.append(Timed(record, drug, None if minutes is None else whole(minutes), outcome))
    return tuple(found)


def _timing_finding(case: Case, dose: Timed) -> Finding:
    numbers = case.p(RULE)
    shown = {
        "drug": Name(dose.drug),
        "minutes": dose.minutes if dose.minutes is not None else msg("cell.none"),
        "latest": numbers.int("latest_min"),
        "earliest": numbers.int("earliest_min"),
    }
    off = dose.outcome in (Outcome.TOO_EARLY, Outcome.TOO_LATE)
    values: dict[str, str | int] = {"drug": dose.drug}
    if dose.minutes is not None:
        values["minutes_before"] = dose.minutes
    return Finding(
        rule=RULE,
        outcome=dose.outcome,
        indicator=Indicator.INFO if off else None,
        summary=msg(f"summary.{dose.outcome.value}", **shown),
        subject=dose.record.reference,
        detail=(Paragraph(msg("detail.timing", **shown)),),
        values=values,
        evidence=(Evidence(dose.record.reference, dose.drug, effective=dose.record.timing.first),),
        resource=dose.record.reference if case.ordering else "",
    )


def _offer(case: Case, resource: str) -> Finding | None:
    """What may be given; None where both are ordered or given already."""
    records = (*case.chart.drugs.of(*DRUGS), *case.chart.drafts.drugs.of(*DRUGS))
    doses = premedication(case, records)
    there = {dose.drug for dose in doses}
    served = {dose.drug for dose in doses if dose.outcome in (Outcome.MET, Outcome.TOO_LATE)}
    barred = tuple(entry for entry in withheld(case) if entry.drug not in served)
    offered = tuple(s for s in suggestions(case) if OFFERS[s.key] not in there)
    numbers = case.p(RULE)
    shown = {"latest": numbers.int("latest_min"), "earliest": numbers.int("earliest_min")}
    detail: list[Block] = [Paragraph(msg("detail.offer", **shown))]
    if not numbers.flag("propose_doses"):
        detail.append(Bullet(msg("detail.no-dose")))
    detail += [Bullet(msg(f"detail.withheld-{w.why}", drug=Name(w.drug))) for w in barred]
    if any(w.drug == DRUGS[1] for w in barred):
        detail.append(Bullet(msg("detail.other-antihistamine")))
    start = infusion_start(case)
    known = start is not None and start.exact
    if not known:
        detail.append(Bullet(msg("detail.no-start")))
    if not offered and not barred:
        return None
    return Finding(
        rule=RULE,
        outcome=Outcome.CONSIDER,
        indicator=Indicator.INFO,
        summary=msg("summary.offer", **shown),
        subject=resource,
        detail=tuple(detail),
        values={"withheld": [w.drug for w in barred]} if barred else {},
        missing=() if known else (Missing("car_t_infusion"),),
        resource=resource,
        suggestions=offered,
        selection=Selection.ANY,
    )


def _steroid(case: Case, draft: DrugRecord) -> Finding | None:
    """A steroid as premedication, or any before the cells on the day of infusion."""
    hit = infusion.judge(case, draft)
    if hit is None or hit.row is not infusion.Row.STEROID_DAY0 or hit.indicator is not Indicator.CRITICAL:
        return None
    return Finding(
        rule=RULE,
        outcome=Outcome.CONTRAINDICATED,
        indicator=Indicator.CRITICAL,
        summary=msg("summary.steroid", drug=Name(hit.drug)),
        subject=draft.reference,
        detail=(Paragraph(msg("detail.steroid", drug=Name(hit.drug))),),
        values={"row": hit.row.value, "drug": hit.drug},
        evidence=(Evidence(draft.reference, hit.drug, effective=draft.timing.first),),
        resource=draft.reference,
        suggestions=suggestions(case, draft),
        selection=Selection.ANY,
    )


def _infusion_order(case: Case) -> str | None:
    """Reference of the infusion order of this hook; None where none is judged.

    Before the collection a product order is one for manufacturing.
    """
    if not collected(case):
        return None
    drugs = case.judged_drugs("class_cell_gene_therapy", "car_t_infusion")
    services = case.judged_services("car_t_infusion")
    references = [*(d.reference for d in drugs), *(s.reference for s in services)]
    return references[0] if references else None


@rule(RULE)
def infusion_premedication(case: Case) -> Iterator[Finding]:
    """Offers, times and, for steroids, stops premedication."""
    if case.ordering:
        order = _infusion_order(case)
        drafts = case.judged_drugs()
        for draft in drafts:
            meant = order is not None or "purpose_premedication" in draft.purposes
            finding = _steroid(case, draft) if meant else None
            if finding is not None:
                yield finding
        for dose in premedication(case, drafts):
            yield _timing_finding(case, dose)
        if order is not None:
            offer = _offer(case, order)
            if offer is not None:
                yield offer
        return
    course = case.chart.course
    if course.day0_any != case.today:
        return
    given = case.chart.administrations(*DRUGS)
    for dose in premedication(case, given):
        yield _timing_finding(case, dose)
    if course.infused is None:
        offer = _offer(case, "")
        if offer is not None:
            yield offer
