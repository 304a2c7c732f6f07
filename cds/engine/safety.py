"""No suggestion that the chart forbids: allergy, G6PD deficiency, a second order of the same thing.

Rules need not think of it; they name the alternative in their text.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from fhir_mapping.terminology import Terminology

from cards.finding import Action, Create, Delete, DrugProposal, Finding, ServiceProposal, Suggestion
from cds.engine.case import Case
from cds.engine.tables import shared_table
from cds.rules.g6pd import G6pd, g6pd_state
from fhir_mapping.chart import DrugRecord, DrugState, EventState

_SAME_DOSE = Decimal("0.01")  # relative difference below which two doses are one


def _allergic(case: Case, drug: str, terminology: Terminology) -> bool:
    classes = terminology.classes(drug) | {
        str(row["class"]) for row in shared_table("allergy_classes").table("members") if row["drug"] == drug
    }
    for allergy in case.chart.allergies.all:
        if not allergy.active:
            continue
        if drug in allergy.concepts:
            return True
        # an allergy to one drug carries its ATC classes too; only an allergy to the class itself spreads
        named = {c for c in allergy.concepts if c in terminology and terminology.concept(c).kind == "drug"}
        if not named and not classes.isdisjoint(allergy.concepts):
            return True
    return False


def _g6pd_blocks(case: Case, drug: str) -> bool:
    rows = shared_table("g6pd_drugs").table("drugs")
    return any(row["drug"] == drug for row in rows) and g6pd_state(case) in (
        G6pd.DEFICIENT,
        G6pd.INTERMEDIATE,
    )


def _pending(record: DrugRecord, case: Case) -> bool:
    """The order still has a dose to come."""
    timing = record.timing
    if timing.ongoing:
        return True
    last = timing.last or timing.first
    return last is not None and last.latest.date() >= case.today


def _duplicates(proposal: DrugProposal, record: DrugRecord) -> bool:
    if proposal.drug not in record.ingredients:
        return False
    if proposal.route is not None and record.route is not None and proposal.route is not record.route:
        return False
    if proposal.dose is None or record.dose is None or record.dose.amount is None:
        return True
    if proposal.dose.unit != record.dose.amount.unit:
        return True
    return abs(proposal.dose.value - record.dose.amount.value) <= proposal.dose.value * _SAME_DOSE


def _already_ordered(case: Case, proposal: DrugProposal, deleted: set[str]) -> bool:
    given_for = {d.request for d in case.chart.administrations(proposal.drug) if d.request}
    for record in case.chart.orders(proposal.drug):
        if (
            record.state is DrugState.ACTIVE
            and record.reference not in deleted
            and record.reference not in given_for
            and _pending(record, case)
            and _duplicates(proposal, record)
        ):
            return True
    return any(
        draft.reference not in deleted and _duplicates(proposal, draft)
        for draft in case.chart.drafts.drugs.of(proposal.drug)
    )


def _service_ordered(case: Case, proposal: ServiceProposal, deleted: set[str]) -> bool:
    if proposal.quantity is not None:
        return False
    for order in (
        *case.chart.services.of(proposal.concept),
        *case.chart.drafts.services.of(proposal.concept),
    ):
        open_order = order.state in (EventState.ACTIVE, EventState.DRAFT)
        if open_order and order.reference not in deleted:
            when = order.when
            if when is None or when.latest.date() >= case.today:
                return True
    return False


def _filtered(case: Case, suggestion: Suggestion, terminology: Terminology) -> Suggestion | None:
    deleted = {a.resource for a in suggestion.actions if isinstance(a, Delete)}
    kept: list[Action] = []
    for action in suggestion.actions:
        if isinstance(action, Create):
            proposal = action.proposal
            if isinstance(proposal, DrugProposal):
                if _allergic(case, proposal.drug, terminology) or _g6pd_blocks(case, proposal.drug):
                    return None
                if _already_ordered(case, proposal, deleted):
                    continue
            elif isinstance(proposal, ServiceProposal) and _service_ordered(case, proposal, deleted):
                continue
        kept.append(action)
    created = any(isinstance(action, Create) for action in suggestion.actions)
    if not kept or (created and not any(isinstance(action, Create) for action in kept)):
        return None
    return replace(suggestion, actions=tuple(kept))


def safe(case: Case, finding: Finding, terminology: Terminology) -> Finding:
    """The finding without suggestions that the chart forbids."""
    if not finding.suggestions:
        return finding
    kept = tuple(s for s in (_filtered(case, s, terminology) for s in finding.suggestions) if s is not None)
    return finding if kept == finding.suggestions else replace(finding, suggestions=kept)
