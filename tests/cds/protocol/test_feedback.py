"""Checklist 1.5: feedback is checked item by item and refused as a whole."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from cds.protocol import FeedbackOutcome, ProtocolError, parse_feedback

CARD = "4e0a3a1e-3283-4575-ab82-028d55fe2719"
ACCEPTED = {
    "card": CARD,
    "outcome": "accepted",
    "acceptedSuggestions": [{"id": "e56e1945-20b3-4393-8503-a1a20fd73152"}],
    "outcomeTimestamp": "2025-04-16T02:00:00Z",
}
OVERRIDDEN = {"card": CARD, "outcome": "overridden", "outcomeTimestamp": "2025-04-16T10:00:00.25+08:00"}


def one(item: dict[str, Any], **changes: Any) -> dict[str, Any]:
    merged = {key: value for key, value in (item | changes).items() if value is not ...}
    return {"feedback": [merged]}


def refused(raw: object) -> str:
    with pytest.raises(ProtocolError) as caught:
        parse_feedback(raw)
    assert caught.value.status == 400
    return caught.value.field


def test_75_both_outcomes_are_read() -> None:
    first, second = parse_feedback({"feedback": [ACCEPTED, OVERRIDDEN]})
    assert first.outcome is FeedbackOutcome.ACCEPTED
    assert first.suggestions == ("e56e1945-20b3-4393-8503-a1a20fd73152",)
    assert second.outcome is FeedbackOutcome.OVERRIDDEN
    assert second.reason is None
    assert second.at == datetime(2025, 4, 16, 2, 0, 0, 250_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (None, "request"),
        ([], "request"),
        ({}, "feedback"),
        ({"feedback": []}, "feedback"),
        ({"feedback": {}}, "feedback"),
        ({"feedback": [ACCEPTED] * 1001}, "feedback"),
        ({"feedback": [ACCEPTED, 5]}, "feedback[1]"),
        (one(ACCEPTED, card=...), "feedback[0].card"),
        (one(ACCEPTED, card=" "), "feedback[0].card"),
        (one(ACCEPTED, card="x" * 256), "feedback[0].card"),
    ],
)
def test_75_what_is_no_feedback_is_refused(raw: object, field: str) -> None:
    assert refused(raw) == field


@pytest.mark.parametrize("outcome", ["ignored", "", None, 3, ["accepted"], ...])
def test_76_outcome_is_accepted_or_overridden(outcome: object) -> None:
    assert refused(one(OVERRIDDEN, outcome=outcome)) == "feedback[0].outcome"


@pytest.mark.parametrize(
    ("chosen", "field"),
    [
        (..., "acceptedSuggestions"),
        ([], "acceptedSuggestions"),
        ("x", "acceptedSuggestions"),
        (["x"], "acceptedSuggestions[0]"),
        ([{}], "acceptedSuggestions[0].id"),
        ([{"id": ""}], "acceptedSuggestions[0].id"),
    ],
)
def test_77_accepted_names_the_suggestion(chosen: object, field: str) -> None:
    assert refused(one(ACCEPTED, acceptedSuggestions=chosen)) == f"feedback[0].{field}"


def test_78_reason_may_be_a_bare_code_and_the_comment_is_dropped() -> None:
    reason = {"reason": {"code": "other"}, "userComment": "Mr Lee said so"}
    (item,) = parse_feedback(one(OVERRIDDEN, overrideReason=reason))
    assert item.reason is not None
    assert (item.reason.code, item.reason.system, item.reason.commented) == ("other", "", True)
    assert "Lee" not in repr(item)


def test_78_a_comment_alone_is_enough() -> None:
    (item,) = parse_feedback(one(OVERRIDDEN, overrideReason={"userComment": "seen"}))
    assert item.reason is not None
    assert item.reason.code == ""


@pytest.mark.parametrize(
    ("reason", "field"),
    [
        ({}, "overrideReason"),
        ("other", "overrideReason"),
        ({"reason": "other"}, "overrideReason.reason"),
        ({"reason": {"display": "Other"}}, "overrideReason.reason.code"),
        ({"userComment": 4}, "overrideReason.userComment"),
    ],
)
def test_78_a_reason_that_says_nothing_is_refused(reason: object, field: str) -> None:
    assert refused(one(OVERRIDDEN, overrideReason=reason)) == f"feedback[0].{field}"


@pytest.mark.parametrize(
    "stamp",
    ["2025-04-16", "2025-04-16T10:00:00", "yesterday", "2025-13-16T10:00:00Z", 5, None, "20250416T100000Z"],
)
def test_79_unreadable_time_is_refused(stamp: object) -> None:
    assert refused(one(OVERRIDDEN, outcomeTimestamp=stamp)) == "feedback[0].outcomeTimestamp"


def test_79_offset_is_tolerated() -> None:
    (item,) = parse_feedback(one(OVERRIDDEN, outcomeTimestamp="2025-04-16T10:00:00+08:00"))
    assert item.at == datetime(2025, 4, 16, 2, tzinfo=UTC)


def test_80_repeats_and_several_cards_are_all_read() -> None:
    assert len(parse_feedback({"feedback": [ACCEPTED, ACCEPTED, OVERRIDDEN]})) == 3


def test_58_a_prefixed_uuid_is_the_bare_one() -> None:
    (item,) = parse_feedback(one(OVERRIDDEN, card=f"urn:uuid:{CARD.upper()}"))
    assert item.card == CARD
