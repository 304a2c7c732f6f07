"""From the end of collection to the frozen product: waiting, freezing, cryomedium, culture, identity.

Meant for the cell laboratory: silent where none of its records is on the chart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from cards.finding import Evidence, Finding, Hours, Indicator, Message, Missing, Shown, msg
from cds.engine.case import Case
from cds.engine.rule import rule
from cds.rules.evidence import of_anchor, of_fact, of_observation
from cds.rules.readiness.checklist import NOTHING, Line, Status, checklist, shown
from cds.rules.readiness.identity import Identity, Stage, identity
from cds.rules.readiness.phase import collected, infused
from cds.rules.readiness.product import COLLECTED, freezings, results
from fhir_mapping.chart import EventState, Moment, Observation, Result, all_of

RULE = "readiness.apheresis-logistics"
_CULTURE = "product_culture"
_RECORDS = (
    "cryoprotectant_added",
    "freezing_start",
    "freezing_completed",
    "storage_temperature",
    "dmso_percent",
    "hsa_percent",
    "autologous_plasma_percent",
    "ab_plasma_percent",
    "product_wbc_per_ml",
    "qc_vial_volume",
    _CULTURE,
)


@dataclass(frozen=True, slots=True)
class Stamp:
    """A step of the laboratory with its time."""

    when: Moment
    evidence: Evidence


def _newest(case: Case, concept: str) -> Observation | None:
    course = case.chart.course
    found = results(case, concept, COLLECTED, course.collections[-1:])
    return found[-1] if found else None


def _stamp(case: Case, concept: str) -> Stamp | None:
    """Time of a step: the Observation's value, else the period of the freezing procedure."""
    observation = _newest(case, concept)
    if observation is not None and observation.value.time is not None:
        time = observation.value.time
        if concept == "freezing_completed" and observation.value.period_end is not None:
            time = observation.value.period_end
        return Stamp(time, of_observation(observation))
    for procedure in reversed(freezings(case)):
        done = procedure.state is EventState.DONE
        when = {"freezing_start": procedure.start, "freezing_completed": procedure.end if done else None}
        moment = when.get(concept)
        if moment is not None:
            return Stamp(moment, of_fact(procedure, "cryopreservation"))
    return None


def _unknown(
    row: str, *concepts: str, limits: dict[str, Shown] | None = None, found: Shown = NOTHING
) -> Line:
    missing = tuple(Missing(concept) for concept in concepts)
    return Line(row, Status.UNKNOWN, found, limits or {}, weight=Indicator.INFO, missing=missing)


def _hours(begin: Moment | None, end: Moment | datetime) -> Decimal | None:
    """Hours between two steps; None where one is not known or the second lies before the first."""
    hours = None if begin is None else begin.hours_to(end)
    return None if hours is None or hours < 0 else Decimal(str(hours)).quantize(Decimal("0.0001"))


def _spent(hours: Decimal, limit: Decimal) -> Shown:
    """Hours for a card; where they would round onto the limit that they exceed, in words."""
    return msg("found.over", hours=Hours(limit)) if round(hours, 1) == limit < hours else Hours(hours)


def _waiting(case: Case, end: Moment | None, start: Stamp | None, done: Stamp | None) -> Line:
    """Longer than the limit between collection and freezing is good only where 2-8 C was recorded.

    Where only the end of the freezing is known, one within the limit says that it began within it.
    """
    p = case.p(RULE)
    limits: dict[str, Shown] = {"hours": p["wait_hours"], "low": p["store_min_c"], "high": p["store_max_c"]}
    if start is None and done is not None:
        spent = _hours(end, done.when)
        if spent is None or spent > p["wait_hours"]:
            return _unknown("waiting", "freezing_start", limits=limits)
        return Line("waiting", Status.MET, Hours(spent), limits, evidence=(done.evidence,))
    until: Moment | datetime = case.now if start is None else start.when
    hours = _hours(end, until)
    if hours is None or end is None:
        return _unknown("waiting", "freezing_start", limits=limits)
    evidence = () if start is None else (start.evidence,)
    values = {"waiting_hours": hours}
    if hours <= p["wait_hours"]:
        if start is None:
            return _unknown("waiting", "freezing_start", limits=limits, found=Hours(hours))
        return Line("waiting", Status.MET, Hours(hours), limits, values=values, evidence=evidence)
    last = until.latest if isinstance(until, Moment) else until
    measured = [
        o
        for o in case.chart.series("storage_temperature").between(end.earliest, last)
        if o.value.quantity is not None and (o.specimen is None or "car_t_product" not in o.specimen.concepts)
    ]
    evidence = (*evidence, *(of_observation(o) for o in measured))
    cold = [
        o.value.quantity.within(p["store_min_c"], p["store_max_c"])
        for o in measured
        if o.value.quantity is not None
    ]
    if measured and all_of(cold) is None:
        return _unknown("waiting", "storage_temperature", limits=limits, found=Hours(hours))
    if measured and all(cold):
        return Line("waiting", Status.MET, Hours(hours), limits, values=values, evidence=evidence)
    if start is None and not measured:
        return _unknown("waiting", "freezing_start", "storage_temperature", limits=limits, found=Hours(hours))
    notes = (msg("note.waiting"),)
    lacking = () if measured else (Missing("storage_temperature"),)
    return Line(
        "waiting",
        Status.NOT_MET,
        _spent(hours, p["wait_hours"]),
        limits,
        notes,
        None,
        values,
        evidence,
        lacking,
    )


def _frozen(case: Case, end: Moment | None, done: Stamp | None) -> Line:
    limit = case.p(RULE)["freeze_hours"]
    hours = None if done is None else _hours(end, done.when)
    if hours is None or done is None:
        return _unknown("frozen", "freezing_completed", limits={"hours": limit})
    status = Status.MET if hours <= limit else Status.NOT_MET
    return Line(
        "frozen",
        status,
        _spent(hours, limit),
        {"hours": limit},
        values={"frozen_hours": hours},
        evidence=(done.evidence,),
    )


def _cryoprotectant(case: Case, added: Stamp | None, start: Stamp | None) -> Line:
    limit = case.p(RULE)["cryoprotectant_minutes"]
    limits: dict[str, Shown] = {"minutes": limit}
    hours = None if added is None or start is None else _hours(added.when, start.when)
    if hours is None or added is None or start is None:
        lacking = [c for c, s in (("cryoprotectant_added", added), ("freezing_start", start)) if s is None]
        return _unknown("cryoprotectant", *(lacking or ["cryoprotectant_added"]), limits=limits)
    minutes = (hours * 60).quantize(Decimal("0.1"))
    return Line(
        "cryoprotectant",
        Status.MET if minutes <= limit else Status.NOT_MET,
        msg("minutes", minutes=minutes.normalize()),
        limits,
        values={"cryoprotectant_minutes": minutes},
        evidence=(added.evidence, start.evidence),
    )


def _between(case: Case, row: str, concept: str, low: str, high: str) -> Line:
    p = case.p(RULE)
    limits: dict[str, Shown] = {"low": p[low], "high": p[high]}
    seen = _newest(case, concept)
    quantity = None if seen is None else seen.value.quantity
    if seen is None or quantity is None:
        return _unknown(row, concept, limits=limits)
    inside = quantity.within(p[low], p[high])
    if inside is None:
        return _unknown(row, concept, limits=limits, found=shown(seen))
    status = Status.MET if inside else Status.NOT_MET
    return Line(row, status, shown(seen), limits, evidence=(of_observation(seen),))


def _protein(case: Case) -> Line:
    """Albumin, autologous plasma (any share) or AB plasma: one that is right is enough."""
    p = case.p(RULE)
    limits: dict[str, Shown] = {"low": p["hsa_min"], "high": p["hsa_max"], "plasma": p["ab_plasma_below"]}
    own = _newest(case, "autologous_plasma_percent")
    albumin, plasma = _newest(case, "hsa_percent"), _newest(case, "ab_plasma_percent")
    answers: list[tuple[Observation, bool | None]] = []
    if own is not None and own.value.quantity is not None:
        answers.append((own, True))
    if albumin is not None and (q := albumin.value.quantity) is not None:
        answers.append((albumin, q.within(p["hsa_min"], p["hsa_max"])))
    if plasma is not None and (q := plasma.value.quantity) is not None:
        answers.append((plasma, q.below(p["ab_plasma_below"])))
    if not answers:
        return _unknown("protein", "hsa_percent", limits=limits)
    best = min(answers, key=lambda item: (True, None, False).index(item[1]))
    evidence = tuple(of_observation(o) for o, _ in answers)
    if best[1] is None:
        return _unknown("protein", best[0].concept, limits=limits, found=shown(best[0]))
    return Line(
        "protein", Status.MET if best[1] else Status.NOT_MET, shown(best[0]), limits, evidence=evidence
    )


def _vial(case: Case) -> Line:
    limit = case.p(RULE)["qc_vial_ml"]
    limits: dict[str, Shown] = {"limit": limit}
    seen = _newest(case, "qc_vial_volume")
    quantity = None if seen is None else seen.value.quantity
    if seen is None or quantity is None:
        return _unknown("vial", "qc_vial_volume", limits=limits)
    origin = seen.component("from_final_product")
    enough = quantity.at_least(limit)
    evidence = (of_observation(seen),)
    if enough is False or (origin is not None and origin.yes is False):
        return Line("vial", Status.NOT_MET, shown(seen), limits, evidence=evidence)
    if enough is None or origin is None or origin.yes is None:
        return _unknown("vial", "from_final_product", limits=limits, found=shown(seen))
    return Line("vial", Status.MET, shown(seen), limits, evidence=evidence)


def _culture(case: Case, added: Stamp | None) -> Line:
    """Any growth of this product is critical, whenever the sample was taken."""
    course = case.chart.course
    cultures = results(case, _CULTURE, COLLECTED, course.collections[-1:])
    grown = [o for o in cultures if o.value.result is Result.POSITIVE]
    if grown:
        return Line(
            "culture",
            Status.NOT_MET,
            shown(grown[-1]),
            notes=(msg("note.culture"),),
            weight=Indicator.CRITICAL,
            evidence=tuple(of_observation(o) for o in grown),
        )
    clean = [
        o
        for o in cultures
        if o.value.result is Result.NEGATIVE and (added is None or o.when.latest >= added.when.earliest)
    ]
    if clean:
        return Line("culture", Status.MET, shown(clean[-1]), evidence=(of_observation(clean[-1]),))
    pending = bool(case.chart.series(_CULTURE).pending)
    return _unknown("culture", _CULTURE, found=msg("pending") if pending else NOTHING)


def _present(case: Case, row: str, concept: str) -> Line:
    seen = _newest(case, concept)
    if seen is None or not seen.value.yes:
        return _unknown(row, concept)
    return Line(row, Status.MET, shown(seen), evidence=(of_observation(seen),))


def _identity(case: Case) -> Line:
    p = case.p(RULE)
    persons, needed = p.int("persons"), p.int("identifiers")
    limits: dict[str, Shown] = {"persons": persons, "identifiers": needed}
    check = identity(case, Stage.COLLECTION)
    if check is None or check.answer is None:
        missing = (Missing("identity_check"),)
        return Line("identity", Status.UNKNOWN, NOTHING, limits, missing=missing)
    found = msg("identity", answer=msg(f"identity.{check.answer.value}"), persons=check.persons)
    if check.answer is not Identity.MATCH:
        weight = Indicator.CRITICAL if check.answer is Identity.MISMATCH else None
        notes: tuple[Message, ...] = (msg("note.identity"),)
        return Line("identity", Status.NOT_MET, found, limits, notes, weight, evidence=check.evidence)
    lacking = []
    if check.persons < persons:
        lacking.append(Missing("checker_count"))
    if check.identifiers is None or check.identifiers < needed:
        lacking.append(Missing("identifier_count"))
    consent = case.chart.latest("consent_data_use")
    signed = consent is not None and consent.value.yes
    if not signed and not case.chart.documents.of("consent_data_use"):
        lacking.append(Missing("consent_data_use"))
    status = Status.UNKNOWN if lacking else Status.MET
    return Line("identity", status, found, limits, evidence=check.evidence, missing=tuple(lacking))


def _kept_records(case: Case) -> bool:
    """The cell laboratory keeps its records of this collection on the chart."""
    course = case.chart.course
    if any(results(case, concept, COLLECTED, course.collections[-1:]) for concept in _RECORDS):
        return True
    return bool(freezings(case)) or identity(case, Stage.COLLECTION) is not None


@rule(RULE)
def apheresis_logistics(case: Case) -> Iterator[Finding]:
    """One checklist for the cell laboratory, from the collection to the infusion."""
    anchor = case.chart.course.collected
    if not collected(case) or infused(case) or anchor is None or not _kept_records(case):
        return
    end = None if anchor.end == anchor.when else anchor.end  # a point in time is the start
    start, added = _stamp(case, "freezing_start"), _stamp(case, "cryoprotectant_added")
    done = _stamp(case, "freezing_completed")
    lines = [
        _waiting(case, end, start, done),
        _frozen(case, end, done),
        _cryoprotectant(case, added, start),
        _between(case, "dmso", "dmso_percent", "dmso_min", "dmso_max"),
        _protein(case),
        _between(case, "wbc", "product_wbc_per_ml", "wbc_min", "wbc_max"),
        _vial(case),
        _culture(case, added),
        _present(case, "transport", "transport_temperature_log"),
        _present(case, "ln2", "ln2_temperature_log"),
        _identity(case),
    ]
    extra = (msg("note.place"),)
    finding = checklist(case, RULE, lines, extra=extra)
    if finding.indicator is Indicator.CRITICAL:
        row = next(line.row for line in lines if line.indicator is Indicator.CRITICAL)
        finding = replace(finding, summary=msg(f"summary.{row}"))
    if anchor.when is not None:
        finding = replace(finding, evidence=(of_anchor(anchor, "leukapheresis"), *finding.evidence))
    yield finding
