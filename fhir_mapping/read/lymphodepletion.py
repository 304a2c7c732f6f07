"""Lymphodepletion planned and given (chart-facts K4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from fhir_mapping.chart import (
    Anchor,
    DrugRecord,
    DrugSource,
    DrugState,
    EventState,
    Evidence,
    Flag,
    Moment,
    Procedure,
    ServiceOrder,
)
from fhir_mapping.read.course_facts import OPEN_ORDER, STRENGTH, CourseFacts, may_be_after

_SAME_LDC = timedelta(days=14)  # doses further apart belong to another lymphodepletion
_LDC_GAP = (2, 14)  # days from the last inferred dose to the infusion
_LDC = "purpose_lymphodepletion"
_LDC_REGIMEN = "regimen_flu_cy"
_DEPLETING = frozenset({"class_antineoplastics", "class_immunosuppressants"})


def _ldc_state(drug: DrugRecord) -> bool:
    if drug.source is DrugSource.ORDER:
        return drug.state in (DrugState.ACTIVE, DrugState.COMPLETED, DrugState.DRAFT)
    return drug.source is DrugSource.ADMINISTRATION and drug.state in (
        DrugState.GIVEN,
        DrugState.RUNNING,
        DrugState.PARTIAL,
    )


def _stated(drug: DrugRecord) -> bool:
    """Said to be for lymphodepletion. Fluids, antiemetics and steroids of its order set deplete nothing."""
    if _LDC not in drug.purposes or drug.regimens - {_LDC_REGIMEN}:
        return False
    return not drug.ingredients or drug.is_any(_DEPLETING)


def _other_purpose(drug: DrugRecord) -> bool:
    return bool(drug.purposes - {_LDC}) or bool(drug.regimens - {_LDC_REGIMEN})


def _last_day(drug: DrugRecord) -> date | None:
    moment = drug.timing.last or drug.timing.first
    return None if moment is None else moment.date


def _inferred(drugs: list[DrugRecord], collected: date | None, infusion: date | None) -> list[DrugRecord]:
    """Drugs that can only be lymphodepletion: after the collection, before the infusion, no other purpose."""
    if collected is None:
        return []
    window = [
        d
        for d in drugs
        if not _other_purpose(d)
        and d.timing.first is not None
        and d.timing.first.date > collected
        and (infusion is None or d.timing.first.date < infusion)
    ]
    fludarabine = [d for d in window if "fludarabine" in d.concepts]
    chosen = list(fludarabine)
    starts = [d.timing.first.date for d in fludarabine if d.timing.first is not None]
    etoposide = any("etoposide" in d.concepts for d in window)
    for drug in window:
        first, last = drug.timing.first, _last_day(drug)
        if first is None or drug in chosen:
            continue
        if fludarabine:
            # with fludarabine goes the cyclophosphamide that starts beside it; all else is bridging
            if "cyclophosphamide" in drug.concepts and any(
                abs((first.date - day).days) <= 1 for day in starts
            ):
                chosen.append(drug)
            continue
        gap = None if infusion is None or last is None else (infusion - last).days
        in_time = gap is not None and _LDC_GAP[0] <= gap <= _LDC_GAP[1]
        fits = drug.is_any({"cyclophosphamide", "bendamustine"}) or (
            etoposide and drug.is_any({"cytarabine", "etoposide"})
        )
        if "etoposide" in drug.concepts and not any("cytarabine" in d.concepts for d in window):
            fits = False
        if in_time and fits:
            chosen.append(drug)
    return chosen


@dataclass(frozen=True, slots=True)
class _Dose:
    start: Moment
    end: Moment | None
    evidence: Evidence
    reference: str
    flags: frozenset[Flag]


def _booked_doses(bookings: list[Anchor], today: date) -> list[_Dose]:
    """Booked days to come, of the stronger kind; where all have passed, the days that were booked."""
    dated = [a for a in bookings if a.when is not None]
    ahead = [a for a in dated if a.date is not None and a.date >= today]
    chosen = ahead or dated
    strongest = min((STRENGTH.index(a.evidence) for a in chosen), default=0)
    return [
        _Dose(a.when, None, a.evidence, a.reference, a.flags)
        for a in chosen
        if a.when is not None and a.evidence is STRENGTH[strongest]
    ]


def _with_bookings(found: list[_Dose], bookings: list[Anchor], today: date) -> list[_Dose]:
    """Until the first dose is given, a booked day to come beats the days of earlier orders."""
    if any(dose.evidence is Evidence.DONE for dose in found):
        return found
    booked = _booked_doses(bookings, today)
    days = [dose.start.date for dose in booked]
    if found and (not days or max(days) < today):
        return found
    return [*booked, *(dose for dose in found if dose.start.date >= min(days))]


def ldc_doses(
    records: list[DrugRecord],
    events: Sequence[Procedure | ServiceOrder],
    bookings: list[Anchor],
    today: date,
) -> list[_Dose]:
    found: list[_Dose] = []
    for record in records:
        if record.timing.first is None:
            continue
        if record.source is DrugSource.ADMINISTRATION:
            last = record.timing.last or record.timing.first
            found.append(_Dose(record.timing.first, last, Evidence.DONE, record.reference, record.flags))
            continue
        if Flag.AUTHORED_DATE in record.timing.flags and not record.timing.doses:
            continue
        evidence = Evidence.DRAFT if record.state is DrugState.DRAFT else Evidence.ORDERED
        points = record.timing.doses or tuple(
            m for m in (record.timing.first, record.timing.last) if m is not None
        )
        found += [_Dose(point, None, evidence, record.reference, record.flags) for point in points]
    for event in events:
        if isinstance(event, Procedure):
            if event.start is not None:
                evidence = Evidence.DONE if event.state.begun else Evidence.ORDERED
                found.append(_Dose(event.start, event.end, evidence, event.reference, event.flags))
                if event.end is not None and event.end.date != event.start.date:
                    found.append(_Dose(event.end, event.end, evidence, event.reference, event.flags))
        elif event.when is not None and Flag.AUTHORED_DATE not in event.flags:
            evidence = Evidence.DRAFT if event.state is EventState.DRAFT else Evidence.ORDERED
            found.append(_Dose(event.when, event.until, evidence, event.reference, event.flags))
            if event.until is not None and event.until.date != event.when.date:
                found.append(_Dose(event.until, event.until, evidence, event.reference, event.flags))
    return sorted(
        _with_bookings(found, bookings, today),
        key=lambda d: (d.start.latest, d.start.earliest, STRENGTH.index(d.evidence), d.reference),
    )


def _latest_set(doses: list[_Dose]) -> list[_Dose]:
    """The doses of one lymphodepletion: the latest ones without a long gap."""
    chosen: list[_Dose] = []
    for dose in reversed(doses):
        if chosen and chosen[-1].start.date - dose.start.date > _SAME_LDC:
            break
        chosen.append(dose)
    return chosen[::-1]


def _given_as_planned(doses: list[_Dose]) -> list[_Dose]:
    """A dose that was given stands for the planned one of its day."""
    given = {d.start.date for d in doses if d.evidence is Evidence.DONE}
    return [d for d in doses if d.evidence is Evidence.DONE or d.start.date not in given]


def ldc_anchors(doses: list[_Dose]) -> tuple[Anchor | None, Anchor | None]:
    chosen = _given_as_planned(_latest_set(doses))
    if not chosen:
        return None, None
    first = chosen[0]
    last = max(chosen, key=lambda d: ((d.end or d.start).latest, d.start.latest, d.reference))
    return (
        Anchor(first.evidence, first.reference, first.start, first.end, first.flags),
        Anchor(last.evidence, last.reference, last.start, last.end, last.flags),
    )


def ldc_parts(
    facts: CourseFacts, since: date | None, until: date | None, collected: date | None, infusion: date | None
) -> tuple[list[DrugRecord], list[Procedure | ServiceOrder]]:
    """Lymphodepletion records of a course that lies after `since` and not after `until`."""

    def inside(moment: Moment | None) -> bool:
        if moment is None:
            return until is None
        return (since is None or moment.date > since) and (until is None or moment.first_date <= until)

    drugs = [d for d in [*facts.drugs, *facts.draft_drugs] if _ldc_state(d) and inside(d.timing.first)]
    stated = [d for d in drugs if _stated(d)]
    inferred = _inferred(drugs, collected, infusion)
    records = [d for d in drugs if d in stated or d in inferred]
    events: list[Procedure | ServiceOrder] = [
        p for p in facts.procedures if "lymphodepletion" in p.concepts and inside(p.start)
    ]
    events += [
        s
        for s in facts.all_services
        if "lymphodepletion" in s.concepts and s.state in OPEN_ORDER and inside(s.when)
    ]
    return records, events


def ldc_bookings(facts: CourseFacts, since: date | None) -> list[Anchor]:
    return [
        Anchor(Evidence.PROPOSED if a.proposed else Evidence.BOOKED, a.reference, a.start, flags=a.flags)
        for a in facts.all_appointments
        if "lymphodepletion" in a.concepts
        and a.state is EventState.BOOKED
        and a.start is not None
        and may_be_after(since, a.start)
    ]
