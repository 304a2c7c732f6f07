"""One order, one button: no two cards of an answer offer the same dose of a drug for the same day.

Each card stands for itself, but whoever presses both buttons has ordered the drug twice. Where two cards want
another dose, each keeps its own: which is right is the clinician's choice. Tests may stand on several cards:
ordered twice they do no harm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime

from cards.finding import Bullet, Create, DrugProposal, Finding, Items, Name, Repeat, Suggestion, msg
from fhir_mapping.chart import Amount, Route

_Offer = tuple[str, Route | None, date, Amount | None, Repeat]


def offered_once(findings: Sequence[Finding], today: date) -> list[Finding]:
    """The findings, in card order, without orders that another card offers; the detail says so. The card that
    recommends the order keeps it, else the first one."""
    if sum(bool(finding.suggestions) for finding in findings) < 2:
        return list(findings)
    keeper: dict[_Offer, int] = {}
    for recommended in (True, False):
        for place, finding in enumerate(findings):
            for suggestion in finding.suggestions:
                if suggestion.recommended is recommended:
                    for offer in _offers(suggestion, today):
                        keeper.setdefault(offer, place)
    return [_without(finding, place, keeper, today) for place, finding in enumerate(findings)]


def _without(finding: Finding, place: int, keeper: dict[_Offer, int], today: date) -> Finding:
    dropped = [
        suggestion
        for suggestion in finding.suggestions
        if (offers := _offers(suggestion, today)) and all(keeper[offer] != place for offer in offers)
    ]
    if not dropped:
        return finding
    drugs = dict.fromkeys(drug for suggestion in dropped for drug, *_ in _offers(suggestion, today))
    note = Bullet(msg("common.offered-elsewhere", drugs=Items(tuple(Name(drug) for drug in drugs))))
    kept = tuple(suggestion for suggestion in finding.suggestions if suggestion not in dropped)
    return replace(finding, suggestions=kept, detail=(*finding.detail, note))


def _offers(suggestion: Suggestion, today: date) -> list[_Offer]:
    """The drugs of a suggestion that orders nothing else; [] where it replaces a draft or orders a test."""
    found: list[_Offer] = []
    for action in suggestion.actions:
        if not isinstance(action, Create) or not isinstance(action.proposal, DrugProposal):
            return []
        proposal = action.proposal
        start = proposal.start or today
        day = start.date() if isinstance(start, datetime) else start
        found.append((proposal.drug, proposal.route, day, proposal.dose, proposal.repeat))
    return found
