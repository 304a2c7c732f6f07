"""No suggestion that the chart forbids: allergy, G6PD deficiency, a second order of the same thing, an order
for a patient who has died.

Rules need not think of it: the detail gets a line that names the drug and why it is not suggested. They name
the alternative in their text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

from cards.finding import (
    Action,
    Bullet,
    Create,
    Delete,
    DrugProposal,
    Finding,
    Items,
    Name,
    Proposal,
    ServiceProposal,
    Suggestion,
    VaccineProposal,
    msg,
)
from cds.engine.case import Case
from cds.engine.tables import shared_table
from cds.rules.g6pd import G6pd, g6pd_state
from fhir_mapping.chart import DrugRecord, DrugState, EventState, Flag, ServiceOrder
from fhir_mapping.terminology import Terminology

_UNDATED_ORDER = timedelta(days=7)  # how long an active order without a day counts as still to be done
_SAME_DOSE = Decimal("0.01")  # relative difference below which two doses are one


def _allergic(case: Case, drug: str, terminology: Terminology) -> bool:
    """To the drug, an ingredient of it, a class it belongs to, or a drug that reacts alike."""
    alike = {
        str(row["to"]) for row in shared_table("allergy_classes").table("spreads") if row["drug"] == drug
    }
    blocking = {drug, *terminology.broader(drug), *terminology.classes(drug), *alike}
    return bool(case.chart.allergy_to(*blocking))


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


def _forbidden(case: Case, drug: str, terminology: Terminology) -> str | None:
    """Why the chart forbids this drug: the key of the line that says so; None where it does not."""
    if _allergic(case, drug, terminology):
        return "common.withheld.allergy"
    return "common.withheld.g6pd" if _g6pd_blocks(case, drug) else None


def _withheld(case: Case, dropped: Iterable[Suggestion], terminology: Terminology) -> Iterator[Bullet]:
    """One line per reason, naming the drugs that would have been suggested."""
    why: dict[str, dict[str, None]] = {}
    for suggestion in dropped:
        for action in suggestion.actions:
            if isinstance(action, Create) and isinstance(action.proposal, DrugProposal):
                drug = action.proposal.drug
                if (key := _forbidden(case, drug, terminology)) is not None:
                    why.setdefault(key, {})[drug] = None
    for key, drugs in why.items():
        yield Bullet(msg(key, drugs=Items(tuple(Name(drug) for drug in drugs))))


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


def _overlap(case: Case, proposal: DrugProposal, record: DrugRecord) -> bool:
    """The proposed doses and those of the order fall into the same days; an unknown day counts as today."""
    begin = proposal.start or case.today
    begin = begin.date() if isinstance(begin, datetime) else begin
    repeat, timing = proposal.repeat, record.timing
    end = None
    if repeat.count == 1:
        end = begin
    elif repeat.days is not None:
        end = begin + timedelta(days=repeat.days - 1)
    first = case.today if timing.first is None else timing.first.first_date
    last = None if timing.ongoing else (timing.last or timing.first)
    return (end is None or first <= end) and (timing.ongoing or last is None or last.date >= begin)


def _already_ordered(case: Case, proposal: DrugProposal, deleted: set[str]) -> bool:
    given_for = {d.request for d in case.chart.administrations(proposal.drug) if d.request}
    for record in case.chart.orders(proposal.drug):
        if (
            record.state is DrugState.ACTIVE
            and record.reference not in deleted
            and record.reference not in given_for
            and _pending(record, case)
            and _overlap(case, proposal, record)
            and _duplicates(proposal, record)
        ):
            return True
    return any(
        draft.reference not in deleted and _overlap(case, proposal, draft) and _duplicates(proposal, draft)
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
        if open_order and order.reference not in deleted and _to_come(case, order):
            return True
    return False


def _to_come(case: Case, order: ServiceOrder) -> bool:
    """The order still stands: it goes on, its day is not over, or it names no day and was written lately."""
    end = order.until or order.when
    if order.ongoing or end is None:
        return True
    grace = _UNDATED_ORDER if Flag.AUTHORED_DATE in order.flags else timedelta(0)
    return end.latest.date() + grace >= case.today


def _vaccine_ordered(case: Case, proposal: VaccineProposal, deleted: set[str]) -> bool:
    return any(
        proposal.vaccine in order.concepts
        and not order.recommendation
        and order.reference not in deleted
        and (order.when is None or order.when.latest.date() >= case.today)
        for order in (*case.chart.vaccine_orders.all, *case.chart.drafts.vaccines.all)
    )


def _ordered(case: Case, proposal: Proposal, deleted: set[str]) -> bool:
    """The same thing is on order and is not deleted by this suggestion."""
    if isinstance(proposal, DrugProposal):
        return _already_ordered(case, proposal, deleted)
    if isinstance(proposal, ServiceProposal):
        return _service_ordered(case, proposal, deleted)
    return _vaccine_ordered(case, proposal, deleted)


def _filtered(case: Case, suggestion: Suggestion, terminology: Terminology) -> Suggestion | None:
    deleted = {a.resource for a in suggestion.actions if isinstance(a, Delete)}
    kept: list[Action] = []
    for action in suggestion.actions:
        if isinstance(action, Create):
            proposal = action.proposal
            if case.chart.patient.deceased:
                continue
            if isinstance(proposal, DrugProposal) and _forbidden(case, proposal.drug, terminology):
                return None
            if _ordered(case, proposal, deleted):
                continue
        kept.append(action)
    created = any(isinstance(action, Create) for action in suggestion.actions)
    if not kept or (created and not any(isinstance(action, Create) for action in kept)):
        return None
    return replace(suggestion, actions=tuple(kept))


def safe(case: Case, finding: Finding, terminology: Terminology) -> Finding:
    """The finding without suggestions that the chart forbids; its detail names allergy or G6PD deficiency."""
    if not finding.suggestions:
        return finding
    answers = [(suggestion, _filtered(case, suggestion, terminology)) for suggestion in finding.suggestions]
    kept = tuple(answer for _, answer in answers if answer is not None)
    if kept == finding.suggestions:
        return finding
    withheld = tuple(_withheld(case, (s for s, answer in answers if answer is None), terminology))
    return replace(finding, suggestions=kept, detail=(*finding.detail, *withheld))
