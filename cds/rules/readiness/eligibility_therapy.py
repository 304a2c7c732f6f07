"""Criteria E6 to E8: prior transplant, prior CD19-directed therapy, immunosuppression."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

from cards.finding import Days, Evidence, Items, Message, Missing, Name, Shown, Text, msg
from cds.engine.case import Case
from cds.rules import evidence as facts
from cds.rules.disease import Disease, disease
from cds.rules.drug_classes import drug_classes
from cds.rules.readiness.checklist import Line, Status
from cds.rules.readiness.history import history
from cds.rules.readiness.immunosuppression import immunosuppressants
from cds.rules.readiness.suspected import suspected, suspicion
from cds.rules.readiness.target import Antigen, cd19_latest, cd19_results
from cds.rules.unread import DOSES, ORDERS, PROCEDURES, unread
from fhir_mapping.chart import Amount, ConditionState, DrugRecord, LossReason, Moment

RULE = "readiness.eligibility"


def _names(records: tuple[DrugRecord, ...]) -> Shown:
    shown: dict[str, Shown] = {}
    for record in records:
        for drug in record.ingredients or (record.name,):
            shown[drug] = Name(drug) if record.ingredients else Text(drug)
    return Items(tuple(shown.values()))


def transplant_line(case: Case) -> Line:
    """E6: 100 days from an allogeneic graft to the infusion, no GvHD, no immunosuppressant."""
    past = history(case)
    needed = case.p(RULE).int("transplant_gap_days")
    limits = {"days": needed}
    if not past.transplanted and unread(case, PROCEDURES):
        lost = (Missing("allo_hct", LossReason.NOT_FETCHED),)
        return Line("E6", Status.UNKNOWN, limits=limits, missing=lost)
    if not past.transplanted:
        return Line("E6", Status.MET, msg("found.none-coded"), limits)
    evidence = tuple(
        e for e in past.evidence if e.concept in ("allo_hct", "hct_unspecified", "hx_stem_cell_transplant")
    )
    notes: list[Message] = []
    if any(e.concept != "allo_hct" for e in evidence):
        notes.append(msg("note.graft-type"))
    if not past.transplants:
        missing = (Missing("allo_hct"),)
        return Line("E6", Status.UNKNOWN, msg("found.graft-undated"), limits, tuple(notes), missing=missing)
    last = past.transplants[-1].date
    earliest = last + timedelta(days=needed)
    day0 = case.chart.course.day0_any
    if day0 is not None and day0 < case.today:
        day0 = None  # planned for a day that has passed: no day to count to
    values: dict[str, str | int | date] = {"transplant_earliest": earliest}
    if disease(case) is Disease.B_ALL:
        notes.append(msg("note.graft-all"))
    gvhd = [c for c in case.chart.conditions.of("gvhd") if c.state is ConditionState.ACTIVE]
    drugs = immunosuppressants(case)
    if gvhd:
        notes.append(msg("note.gvhd"))
        evidence = (*evidence, *(facts.of_fact(c, "gvhd") for c in gvhd))
    if drugs:
        notes.append(msg("note.graft-suppressed", drugs=_names(drugs)))
        evidence = (*evidence, *(facts.of_drug(d) for d in drugs))
    found: Shown = msg("found.graft", date=last)
    if day0 is not None:
        gap = (day0 - last).days
        values["transplant_gap_days"] = gap
        found = msg("found.graft-gap", date=last, days=Days(gap), day0=day0)
        if gap < needed:
            notes.insert(0, msg("note.graft-early", earliest=earliest))
            return Line(
                "E6",
                Status.NOT_MET,
                found,
                limits,
                tuple(notes),
                values=values,
                evidence=evidence,
                brief=Amount(Decimal(gap), "d"),
            )
    elif case.today < earliest:
        notes.insert(0, msg("note.graft-early", earliest=earliest))
        missing = (Missing("car_t_infusion"),)
        return Line(
            "E6",
            Status.UNKNOWN,
            found,
            limits,
            tuple(notes),
            values=values,
            evidence=evidence,
            missing=missing,
        )
    unsure = suspected(case, "gvhd")
    if unsure and not gvhd and not drugs:
        return replace(suspicion("E6", unsure, limits), values=values)
    status = Status.CAUTION if gvhd or drugs else Status.MET
    return Line("E6", status, found, limits, tuple(notes), values=values, evidence=evidence)


def _last_directed(case: Case) -> tuple[Moment | None, bool, tuple[DrugRecord, ...], tuple[Evidence, ...]]:
    """(last dose, ongoing, records, evidence) of CD19-directed therapy, earlier CAR-T cells included."""
    records = tuple(r for r in case.chart.drugs.of(*sorted(drug_classes().drugs("DC22"))) if r.given)
    ends: list[Moment] = []
    ongoing = False
    evidence = [facts.of_drug(r) for r in records]
    for record in records:
        moment = record.timing.last or record.timing.first
        if record.state.value == "running" or (record.timing.ongoing and record.in_force):
            ongoing = True
        elif moment is not None:
            ends.append(moment)
    for anchor in case.chart.course.earlier:
        evidence.append(facts.of_anchor(anchor, "car_t_infusion"))
        if anchor.when is not None:
            ends.append(anchor.when)
    last = max(ends, key=lambda m: m.latest, default=None)
    return last, ongoing, records, tuple(dict.fromkeys(evidence))


def target_line(case: Case) -> Line:
    """E7: CD19 shown again after the last CD19-directed dose."""
    last, ongoing, records, evidence = _last_directed(case)
    course = case.chart.course
    cells = bool(course.earlier) or course.infused_date_unknown
    if not evidence and not cells and unread(case, DOSES):
        lost = (Missing("blinatumomab", LossReason.NOT_FETCHED),)
        return Line("E7", Status.UNKNOWN, missing=lost)
    if not evidence and not cells:
        return Line("E7", Status.MET, msg("found.none-coded"))
    notes: list[Message] = []
    if any("blinatumomab" in r.ingredients for r in records):
        notes.append(msg("note.blinatumomab"))
    if cells or any("class_cell_gene_therapy" in r.concepts for r in records):
        notes.append(msg("note.prior-cells"))
    found: Shown = msg("found.directed", drugs=_names(records) if records else Name("car_t_infusion"))
    if last is not None:
        found = msg(
            "found.directed-on", drugs=_names(records) if records else Name("car_t_infusion"), date=last
        )
    later = [
        r
        for r in cd19_results(case)
        if r.antigen is not Antigen.INDETERMINATE
        and last is not None
        and not ongoing
        and r.when.first_date > last.date
    ]
    newest = later[-1] if later else None
    if newest is None:
        current = cd19_latest(case)
        if current is not None and current.antigen is Antigen.NEGATIVE:
            newest = current if last is None or current.when.latest >= last.earliest else None
    if newest is not None:
        evidence = (*evidence, newest.evidence)
        if newest.antigen is Antigen.NEGATIVE:
            notes.insert(0, msg("note.target-lost", when=newest.when))
            return Line("E7", Status.NOT_MET, found, notes=tuple(notes), evidence=evidence)
        if newest.antigen is Antigen.DIM:
            notes.append(msg("note.target-dim"))
        return Line("E7", Status.MET, found, notes=tuple(notes), evidence=evidence)
    if disease(case).lymphoma:
        notes.insert(0, msg("note.target-lymphoma"))
        return Line("E7", Status.MET, found, notes=tuple(notes), evidence=evidence)
    notes.insert(0, msg("note.target-retest"))
    missing, tests = (Missing("cd19_expression"),), ("cd19_expression",)
    return Line(
        "E7", Status.UNKNOWN, found, notes=tuple(notes), evidence=evidence, missing=missing, tests=tests
    )


def immunosuppression_line(case: Case) -> Line:
    """E8: any systemic immunosuppressant in force is a relative contraindication."""
    drugs = immunosuppressants(case)
    if not drugs and unread(case, ORDERS):
        lost = (Missing("class_immunosuppressants", LossReason.NOT_FETCHED),)
        return Line("E8", Status.UNKNOWN, missing=lost)
    if not drugs:
        return Line("E8", Status.MET, msg("found.none-coded"))
    evidence = tuple(facts.of_drug(d) for d in drugs)
    return Line("E8", Status.CAUTION, _names(drugs), notes=(msg("note.suppressed"),), evidence=evidence)
