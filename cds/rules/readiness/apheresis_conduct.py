"""Performing the collection: access, rate, anticoagulant, calcium, priming of the circuit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal

from cards.finding import (
    Create,
    DrugProposal,
    Evidence,
    Finding,
    Indicator,
    Items,
    Message,
    Missing,
    Name,
    Outcome,
    ServiceProposal,
    Shown,
    Suggestion,
    msg,
)
from cds.engine.case import Case
from cds.engine.rule import rule
from cds.rules.evidence import of_drug, of_fact, of_observation
from cds.rules.readiness.apheresis_volume import counts
from cds.rules.readiness.blood_volume import blood_volume
from cds.rules.readiness.checklist import NOTHING, Line, Status, checklist, shown
from cds.rules.readiness.in_force import active_today
from cds.rules.readiness.phase import candidate, collection_order, collection_running, infused
from fhir_mapping.chart import Amount, DrugRecord, EventState, Flag, Route, ServiceOrder

RULE = "readiness.apheresis-conduct"
_ACCESS = ("peripheral", "central_venous_catheter", "double_lumen_catheter")
_CALCIUM = ("calcium_ionized", "calcium_corrected", "calcium_total")
_RED_CELLS = ("red_cells", "red_cells_irradiated", "transfusion_rbc")
_PRIME = "leukoreduced_red_cells"
_OPEN = (EventState.ACTIVE, EventState.DRAFT, EventState.PLANNED, EventState.RUNNING)
_MET_ROUTES = (None, Route.INTRAVENOUS, Route.OTHER)


def _today(case: Case) -> bool:
    """The collection takes place today: planned, under way or done."""
    course = case.chart.course
    planned = course.leukapheresis is not None and course.leukapheresis.date == case.today
    done = course.collected is not None and course.collected.date == case.today
    return planned or done or (course.candidate and collection_running(case) is not None)


# --- rows


def _access(case: Case) -> Line:
    evidence: list[Evidence] = []
    found: list[Shown] = []
    seen = case.chart.latest("venous_access")
    if seen is not None and not seen.value.empty:
        evidence.append(of_observation(seen))
        found.append(shown(seen))
    for concept in ("venous_access", *_ACCESS):
        for procedure in case.chart.procedures.of(concept):
            if procedure.state in (EventState.DONE, EventState.RUNNING):
                evidence.append(of_fact(procedure, concept))
                found.append(Name(concept))
        for document in case.chart.documents.of(concept):
            evidence.append(of_fact(document, concept))
            found.append(Name(concept))
    if not found:
        missing = (Missing("venous_access"),)
        return Line("access", Status.CAUTION, NOTHING, weight=Indicator.INFO, missing=missing)
    return Line("access", Status.MET, Items(tuple(found[-2:])), evidence=tuple(evidence))


def _rate(case: Case) -> Line:
    """Advice only: slower where the counts are low."""
    p, found_counts = case.p(RULE), counts(case)
    low = found_counts.row in ("V1", "V2")
    rate = p["rate_low_ml_min"] if low else p["rate_ml_min"]
    limits: dict[str, Shown] = {"rate": Amount(rate, "mL/min"), "slow": p["rate_low_ml_min"]}
    recorded = case.chart.latest("collection_rate")
    found: Shown = (
        shown(recorded) if recorded is not None and recorded.value.quantity is not None else NOTHING
    )
    notes = (msg("note.slow", rate=rate),) if low else ()
    values = {"rate_ml_min": rate}
    evidence = tuple(e for look in found_counts.looks for e in look.evidence)
    status = Status.MET if found_counts.row else Status.NOT_APPLICABLE
    return Line("rate", status, found, limits, notes, None, values, evidence)


def _in_force(case: Case, concept: str) -> tuple[DrugRecord, ...]:
    """Drafts of the hook, orders and running infusions of a drug given into the blood."""
    drafts = case.chart.drafts.drugs.of(concept)
    return tuple(d for d in (*drafts, *active_today(case, concept)) if d.route in _MET_ROUTES)


def _anticoagulant(case: Case) -> Line:
    acd, heparin = _in_force(case, "acd_a"), _in_force(case, "heparin")
    evidence = tuple(of_drug(d) for d in (*acd, *heparin))
    if acd:
        return Line("anticoagulant", Status.MET, Name("acd_a"), evidence=evidence)
    if heparin:
        notes = (msg("note.heparin"),)
        missing = (Missing("acd_a"),)
        return Line(
            "anticoagulant", Status.NOT_MET, Name("heparin"), notes=notes, evidence=evidence, missing=missing
        )
    return Line("anticoagulant", Status.NOT_APPLICABLE)


def _calcium(case: Case) -> Line:
    """Any calcium below its own range since the collection began."""
    procedure = collection_running(case)
    if procedure is None or procedure.start is None:
        return Line("calcium", Status.NOT_APPLICABLE)
    ended = procedure.state is EventState.DONE and procedure.end not in (None, procedure.start)
    end = min(procedure.end.latest, case.now) if ended and procedure.end is not None else case.now
    measured = [
        o
        for concept in _CALCIUM
        for o in case.chart.series(concept).between(procedure.start.earliest, end)
        if o.value.quantity is not None
    ]
    evidence = tuple(of_observation(o) for o in measured)
    low = [
        o for o in measured if o.lln is not None and o.value.quantity and o.value.quantity.below(o.lln.value)
    ]
    if low:
        notes = (msg("note.calcium"),)
        return Line("calcium", Status.NOT_MET, shown(low[-1]), notes=notes, evidence=evidence)
    judged = [o for o in measured if o.lln is not None]
    if not judged:
        missing = (Missing("calcium_ionized"),)
        return Line("calcium", Status.UNKNOWN, weight=Indicator.INFO, missing=missing, evidence=evidence)
    return Line("calcium", Status.MET, shown(judged[-1]), evidence=evidence)


def _prime_orders(case: Case) -> list[ServiceOrder]:
    """Red cells without leukocytes, ordered or drafted; not those that were due on a day before."""
    orders = (*case.chart.services.of(*_RED_CELLS), *case.chart.drafts.services.of(*_RED_CELLS))
    return [o for o in orders if o.state in _OPEN and "leukoreduced" in o.details and not _past(case, o)]


def _past(case: Case, order: ServiceOrder) -> bool:
    due = order.until or order.when
    return due is not None and Flag.AUTHORED_DATE not in order.flags and due.date < case.today


def _fill(case: Case) -> tuple[Decimal, Evidence | None]:
    """Volume of the circuit in mL: as recorded, else that of the usual device."""
    seen = case.chart.series("circuit_fill_volume").latest(
        case.now, usable=lambda o: o.value.quantity is not None and not o.value.quantity.comparator
    )
    if seen is None or seen.value.quantity is None:
        return case.p(RULE)["circuit_ml"], None
    return seen.value.quantity.value, of_observation(seen)


def _prime(case: Case) -> Line:
    limit = case.p(RULE)["prime_above_percent"]
    blood = blood_volume(case, case.p(RULE).int("weight_max_age_days"))
    fill, source = _fill(case)
    limits: dict[str, Shown] = {"limit": limit}
    if blood.ml is None:
        return Line("prime", Status.UNKNOWN, NOTHING, limits, missing=blood.missing, evidence=blood.evidence)
    percent = 100 * fill / blood.ml
    evidence = (*blood.evidence, *((source,) if source is not None else ()))
    values = {"fill_ml": fill, "tbv_ml": blood.ml, "fill_percent": percent}
    found: Message = msg(
        "fill", fill=fill, tbv=blood.ml.normalize(), percent=percent.quantize(Decimal("0.01"))
    )
    if percent <= limit:
        return Line("prime", Status.MET, found, limits, values=values, evidence=evidence)
    recorded = case.chart.latest("circuit_prime")
    ordered = _prime_orders(case)
    primed = recorded is not None and _PRIME in recorded.value.codes and recorded.when.date == case.today
    if primed or ordered:
        evidence = (*evidence, *(of_fact(o, "red_cells") for o in ordered))
        return Line("prime", Status.MET, found, limits, (msg("note.prime-ordered"),), None, values, evidence)
    notes = (msg("note.prime"),)
    return Line("prime", Status.NOT_MET, found, limits, notes, None, values, evidence)


def _suggestions(case: Case, lines: dict[str, Line]) -> tuple[Suggestion, ...]:
    found: list[Suggestion] = []
    if lines["prime"].status is Status.NOT_MET:
        day = case.chart.course.leukapheresis
        when = None if day is None or day.date is None or day.date < case.today else day.date
        unit = ServiceProposal(
            "red_cells", when, Amount(Decimal(1), "{unit}"), ("leukoreduced", "irradiated")
        )
        found.append(Suggestion("prime", msg("suggest.prime"), (Create(unit),), recommended=True))
    if lines["calcium"].status is Status.NOT_MET:
        drug = DrugProposal("calcium_gluconate", Route.INTRAVENOUS, note=msg("suggest.calcium-note"))
        found.append(Suggestion("calcium", msg("suggest.calcium"), (Create(drug),)))
    return tuple(found)


def _summary(finding: Finding, lines: dict[str, Line]) -> Message:
    prime = lines["prime"]
    if prime.status is Status.NOT_MET:
        percent = prime.values["fill_percent"]
        assert isinstance(percent, Decimal)
        limit = prime.limits["limit"]
        return msg("summary.prime", percent=percent.quantize(Decimal("0.1")), limit=limit)
    if lines["calcium"].status is Status.NOT_MET:
        return msg("summary.calcium", found=lines["calcium"].found)
    if lines["anticoagulant"].status is Status.NOT_MET:
        return msg("summary.heparin")
    return finding.summary


@rule(RULE)
def apheresis_conduct(case: Case) -> Iterator[Finding]:
    """One card on the order of the collection or on its day."""
    resource = ""
    if case.ordering:
        order = collection_order(case)
        if order is None or not candidate(case):
            return
        resource = order.reference
    elif not _today(case):
        return
    if infused(case):
        return
    rows = [_access(case), _rate(case), _anticoagulant(case), _calcium(case), _prime(case)]
    lines = {line.row: line for line in rows}
    extra = (msg("note.line"), msg("note.electrolytes"))
    suggestions = _suggestions(case, lines)
    finding = checklist(case, RULE, rows, resource=resource, extra=extra, suggestions=suggestions)
    finding = replace(finding, summary=_summary(finding, lines))
    if finding.indicator is Indicator.INFO and case.ordering:
        finding = replace(finding, indicator=None)
    if finding.outcome is Outcome.INCOMPLETE and lines["prime"].status is Status.UNKNOWN:
        finding = replace(finding, unconcluded=True)
    yield finding
