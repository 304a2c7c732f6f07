"""Does the patient fit one of the three indications of tisagenlecleucel?

Rows A (B-ALL), B (DLBCL), C (FL), D (target absent), E (lymphoma, an element is lacking), F (other disease);
D decides first. Lines and relapses are read, never counted from regimens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from cards.finding import (
    Block,
    Bullet,
    Create,
    Finding,
    Indicator,
    Message,
    Missing,
    Name,
    Outcome,
    Paragraph,
    Scalar,
    ServiceProposal,
    Shown,
    Suggestion,
    msg,
)
from cds.engine.case import Case
from cds.engine.rule import Hook, rule
from cds.rules.disease import Disease, disease, disease_concept, disease_evidence
from cds.rules.readiness.checklist import OVERRIDES
from cds.rules.readiness.history import History, history
from cds.rules.readiness.phase import candidate, collection_order
from cds.rules.readiness.target import Antigen, AntigenResult, cd19_latest

RULE = "readiness.indication"


@dataclass(frozen=True, slots=True)
class Answer:
    """Row and outcome; `key` names the texts `summary.<key>` and `detail.<key>`."""

    row: str
    outcome: Outcome
    key: str
    missing: tuple[Missing, ...] = ()
    notes: tuple[Message, ...] = ()
    warn: bool = False
    test_target: bool = False
    extra: dict[str, Scalar] = field(default_factory=dict)


def _unknown(row: str, key: str, *concepts: str, test_target: bool = False) -> Answer:
    missing = tuple(Missing(concept) for concept in concepts)
    return Answer(row, Outcome.UNKNOWN, key, missing, test_target=test_target)


def _leukaemia(case: Case, past: History, target: AntigenResult | None) -> Answer:
    p = case.p(RULE)
    limit, needed = p.int("all_max_age_years"), p.int("all_relapses")
    age = case.chart.patient.age(case.today)
    if age is not None and age[0] > limit:
        return Answer("A''", Outcome.NOT_MET, "all-age")
    if disease_concept(case) == "all_lineage_unspecified":
        return _unknown("A", "lineage", "b_all")
    fits = past.refractory or past.after_transplant or (past.relapses or 0) >= needed
    if not fits:
        # one relapse without a graft or refractory disease on the chart does not fit; silence is not asked
        first = past.relapses is not None and (past.relapses == 1 or past.refractory is False)
        if first and past.transplanted and past.relapses == 1 and past.after_transplant is None:
            return _unknown("A", "after-transplant", "relapse_after_transplant")
        if first:
            return Answer("A'", Outcome.NOT_MET, "all-line")
        return _unknown("A", "all-history", "relapse_number", "refractory_disease")
    if age is None or age[1] > limit:
        return _unknown("A", "age-unknown", "birth_date")
    if target is None:
        return _unknown("A", "target-unknown", "cd19_expression", test_target=True)
    day0 = case.chart.course.day0_any
    then = None if day0 is None else case.chart.patient.age(day0)
    if day0 is not None and then is not None and then[1] > limit:
        note = msg("note.turns", age=limit + 1, day0=day0)
        return Answer("A", Outcome.MET, "met-turning", notes=(note,), warn=True, extra={"indication": 1})
    return Answer("A", Outcome.MET, "met", extra={"indication": 1})


def _lymphoma(case: Case, past: History, target: AntigenResult | None, number: int) -> Answer:
    p = case.p(RULE)
    adult, needed = p.int("adult_min_age_years"), p.int("lymphoma_min_lines")
    age = case.chart.patient.age(case.today)
    if age is not None and age[1] < adult:
        return Answer("E", Outcome.NOT_MET, "lymphoma-age", extra={"element": "age"})
    if past.lines is not None and past.lines < needed:
        return Answer("E", Outcome.NOT_MET, "lymphoma-lines", extra={"element": "lines"})
    if past.active_again is False:
        return Answer("E", Outcome.NOT_MET, "lymphoma-relapse", extra={"element": "relapsed-or-refractory"})
    row = "B" if number == 2 else "C"
    if age is None or age[0] < adult:
        return _unknown(row, "age-unknown", "birth_date")
    lacking = []
    if past.lines is None:
        lacking.append("prior_lines_of_therapy")
    if past.active_again is None:
        lacking += ["relapse_number", "refractory_disease"]
    if lacking:
        return _unknown(row, "lymphoma-history", *lacking)
    if disease_concept(case) == "transformed_follicular_lymphoma":
        return Answer(row, Outcome.REVIEW, "transformed", warn=True)
    notes = []
    if target is None:
        notes.append(msg("note.confirm-target"))
    if number == 3:
        notes.append(msg("note.accelerated"))
    return Answer(row, Outcome.MET, "met", notes=tuple(notes), extra={"indication": number})


def judge(case: Case) -> Answer:
    """The first row that fits."""
    target, own, past = cd19_latest(case), disease(case), history(case)
    if target is not None and target.antigen is Antigen.NEGATIVE:
        return Answer("D", Outcome.NOT_MET, "target-absent")
    if own is Disease.UNKNOWN:
        return _unknown("F", "disease-unknown", "b_all", "dlbcl", "follicular_lymphoma")
    if own is Disease.OTHER or disease_concept(case) == "high_grade_b_cell_lymphoma":
        return Answer("F", Outcome.NOT_MET, "other-disease")
    if own is Disease.B_ALL:
        return _leukaemia(case, past, target)
    return _lymphoma(case, past, target, 2 if own is Disease.DLBCL else 3)


def _resource(case: Case) -> str | None:
    """The draft judged; None where no draft concerns the rule. "" on the patient's page."""
    if not case.ordering:
        return ""
    judged = (
        *case.judged_drugs("tisagenlecleucel"),
        *case.judged_services("tisagenlecleucel", "car_t_infusion"),
        collection_order(case),
    )
    return next((order.reference for order in judged if order is not None), None)


def _indicator(case: Case, answer: Answer) -> Indicator | None:
    if answer.outcome is Outcome.MET:
        if answer.warn:
            return Indicator.WARNING
        return None if case.ordering else Indicator.INFO
    if answer.outcome is Outcome.UNKNOWN and not case.ordering:
        return Indicator.WARNING if answer.test_target else None
    if answer.row == "D" and case.hook is Hook.ORDER_SIGN:
        return Indicator.CRITICAL
    return Indicator.WARNING


@rule(RULE)
def indication(case: Case) -> Iterator[Finding]:
    """One verdict for the patient, on the page or on the order of product or collection."""
    resource = _resource(case)
    product = case.chart.course.product
    if resource is None or not candidate(case) or (product and product.concept != "tisagenlecleucel"):
        return
    answer, past, target = judge(case), history(case), cd19_latest(case)
    age = case.chart.patient.age(case.today)
    p = case.p(RULE)
    named = disease_concept(case)
    shown: dict[str, Shown] = {
        "disease": Name(named) if named else msg("none"),
        "age": age[1] if age is not None else msg("none"),
        "lines": past.lines if past.lines is not None else msg("none"),
        "relapses": past.relapses if past.relapses is not None else msg("none"),
        "refractory": msg(f"refractory.{past.refractory}".lower()),
        "graft": past.transplants[-1] if past.transplants else msg("none"),
        "target": msg(f"target.{target.antigen.value}", when=target.when) if target else msg("none"),
        "limit": p.int("all_max_age_years"),
        "adult": p.int("adult_min_age_years"),
        "needed": p.int("lymphoma_min_lines"),
        "number": answer.extra.get("indication", 0) or 0,
    }
    values: dict[str, Scalar] = {"row": answer.row, **answer.extra}
    if age is not None and age[0] == age[1]:
        values["age_years"] = age[0]
    counted = {"lines": past.lines, "relapses": past.relapses}
    values |= {key: number for key, number in counted.items() if number is not None}
    detail: list[Block] = [
        Paragraph(msg("detail.found", **shown)),
        Bullet(msg(f"detail.{answer.key}", **shown)),
    ]
    detail += [Bullet(note) for note in answer.notes]
    suggestions: tuple[Suggestion, ...] = ()
    if answer.test_target:
        create = Create(ServiceProposal("cd19_expression"))
        suggestions = (Suggestion("cd19", msg("suggest.cd19"), (create,), recommended=True),)
    yield Finding(
        rule=RULE,
        outcome=answer.outcome,
        indicator=_indicator(case, answer),
        summary=msg(f"summary.{answer.key}", **shown),
        subject=resource,
        detail=tuple(detail),
        values=dict(values),
        evidence=(*disease_evidence(case), *past.evidence, *((target.evidence,) if target else ())),
        missing=answer.missing,
        resource=resource,
        suggestions=suggestions,
        overrides=OVERRIDES,
        unconcluded=answer.outcome is Outcome.UNKNOWN,
    )
