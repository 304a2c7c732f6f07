"""No two cards of an answer offer the same order."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal

import pytest

from cards.finding import (
    Bullet,
    Create,
    Delete,
    DrugProposal,
    Finding,
    Indicator,
    Outcome,
    Repeat,
    ServiceProposal,
    Suggestion,
    msg,
)
from cards.once import offered_once
from fhir_mapping.chart import Amount, Route
from tests.cards.desk import ZONE

TODAY = date(2026, 3, 28)
STEROID = DrugProposal("dexamethasone", Route.INTRAVENOUS)
OTHER = DrugProposal("anakinra", Route.INTRAVENOUS)


def _button(*actions: Create | Delete, recommended: bool = False) -> Suggestion:
    return Suggestion("key", msg("label"), actions, recommended)


def _card(*suggestions: Suggestion) -> Finding:
    return Finding("grading.crs", Outcome.ADVISE, Indicator.WARNING, msg("summary"), suggestions=suggestions)


FIRST = _button(Create(STEROID))
LATER_TODAY = replace(STEROID, start=datetime(2026, 3, 28, 20, 0, tzinfo=ZONE))


@pytest.mark.parametrize(
    ("second", "left"),
    [
        (FIRST, (1, 0)),
        (_button(Create(LATER_TODAY)), (1, 0)),
        (_button(Create(STEROID), recommended=True), (0, 1)),
        (_button(Create(replace(STEROID, route=Route.ORAL))), (1, 1)),
        (_button(Create(replace(STEROID, start=date(2026, 4, 4)))), (1, 1)),
        (_button(Create(replace(STEROID, dose=Amount(Decimal(20), "mg")))), (1, 1)),
        (_button(Create(replace(STEROID, repeat=Repeat(every_hours=6)))), (1, 1)),
        (_button(Create(STEROID), Create(OTHER)), (1, 1)),
        (_button(Create(STEROID), Create(ServiceProposal("ferritin"))), (1, 1)),
        (_button(Delete("MedicationRequest/m1"), Create(STEROID)), (1, 1)),
        (_button(Create(ServiceProposal("ferritin"))), (1, 1)),
    ],
    ids=[
        "the same drug stays on the first card",
        "another hour of the day is the same offer",
        "the card that recommends it keeps it",
        "another route is another offer",
        "another day is another offer",
        "another dose is another offer",
        "another interval is another offer",
        "a set with another drug stays whole",
        "a set with a test stays whole",
        "an order that replaces a draft stays with its draft",
        "a test is no drug",
    ],
)
def test_which_card_offers(second: Suggestion, left: tuple[int, int]) -> None:
    shown = offered_once([_card(FIRST), _card(second)], TODAY)
    assert tuple(len(card.suggestions) for card in shown) == left
    for card in shown:
        keys = [block.message.key for block in card.detail if isinstance(block, Bullet)]
        assert keys == ([] if card.suggestions else ["common.offered-elsewhere"])


def test_choices_of_one_card_stay() -> None:
    card = _card(FIRST, replace(FIRST, key="longer"))
    assert offered_once([card, _card()], TODAY) == [card, _card()]


def test_tests_may_stand_on_several_cards() -> None:
    cards = [_card(_button(Create(ServiceProposal("ferritin"))))] * 2
    assert offered_once(cards, TODAY) == cards
