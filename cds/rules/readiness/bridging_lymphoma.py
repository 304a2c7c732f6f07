"""Bridging options in DLBCL and FL with when to stop before lymphodepletion; information only."""

from __future__ import annotations

from collections.abc import Iterator

from cards.finding import (
    Block,
    Bullet,
    Create,
    Evidence,
    Finding,
    Indicator,
    Items,
    Name,
    Outcome,
    Scalar,
    ServiceProposal,
    Shown,
    Suggestion,
    Table,
    msg,
)
from cds.engine.case import Case
from cds.engine.rule import rule
from cds.rules.disease import disease, disease_evidence
from cds.rules.evidence import of_fact
from cds.rules.readiness.bridging_course import antineoplastic, bridging_time, causes, intervals
from cds.rules.readiness.checklist import OVERRIDES
from fhir_mapping.chart import ConditionState

RULE = "readiness.bridging-lymphoma"
_CYTOPENIA = ("neutropenia", "thrombocytopenia", "anemia", "pancytopenia", "adverse_event")


def _options(case: Case) -> Table:
    header = tuple(msg(f"head.{name}") for name in ("option", "before-ldc", "note"))
    rows: list[tuple[Shown, ...]] = []
    for row in case.p(RULE).table("options"):
        allergic = [drug for drug in row["drugs"] if case.chart.allergy_to(drug)]
        note: Shown = msg("cell.none")
        if allergic:
            note = msg("cell.allergy", drugs=Items(tuple(Name(d) for d in allergic)))
        rows.append(
            (msg(f"option.{row['option']}"), msg(f"interval.{row['option']}", **intervals(case)), note)
        )
    return Table(header, tuple(rows))


def _ibrutinib_cytopenia(case: Case) -> tuple[Evidence, ...]:
    return tuple(
        of_fact(c, "ibrutinib")
        for c in case.chart.conditions.of(*_CYTOPENIA)
        if c.state is ConditionState.ACTIVE and "ibrutinib" in causes(case, c)
    )


def _resource(case: Case) -> tuple[str, bool] | None:
    """(draft judged, it is tafasitamab); None where no draft is bridging."""
    if not case.ordering:
        return "", False
    for draft in case.judged_drugs("tafasitamab"):
        return draft.reference, True
    named = {drug for row in case.p(RULE).table("options") for drug in row["drugs"]}
    own = {record.reference for record in case.chart.course.ldc_records}
    for draft in case.judged_drugs():
        listed = antineoplastic(draft) or not named.isdisjoint(draft.ingredients)
        if listed and draft.reference not in own:
            return draft.reference, False
    return next(((s.reference, False) for s in case.judged_services("radiotherapy")), None)


@rule(RULE)
def bridging_lymphoma(case: Case) -> Iterator[Finding]:
    """One card with the options; tafasitamab is a warning."""
    if not disease(case).lymphoma or not bridging_time(case):
        return
    judged = _resource(case)
    if judged is None:
        return
    resource, directed = judged
    cytopenia = _ibrutinib_cytopenia(case)
    values: dict[str, Scalar] = {"row": "tafasitamab" if directed else "options"}
    detail: list[Block] = [_options(case)]
    suggestions: tuple[Suggestion, ...] = ()
    if directed:
        detail.insert(0, Bullet(msg("note.tafasitamab")))
        create = Create(ServiceProposal("cd19_expression"))
        suggestions = (Suggestion("cd19", msg("suggest.cd19"), (create,), recommended=True),)
    if cytopenia:
        values["ibrutinib_cytopenia"] = True
        detail.append(Bullet(msg("note.ibrutinib-cytopenia", **intervals(case))))
    detail.append(Bullet(msg("note.toxic")))
    yield Finding(
        rule=RULE,
        outcome=Outcome.CAUTION if directed else Outcome.INFO,
        indicator=Indicator.WARNING if directed else Indicator.INFO,
        summary=msg("summary.tafasitamab" if directed else "summary.options"),
        subject=resource,
        detail=tuple(detail),
        values=dict(values),
        evidence=(*disease_evidence(case), *cytopenia),
        resource=resource,
        suggestions=suggestions,
        overrides=OVERRIDES,
    )
