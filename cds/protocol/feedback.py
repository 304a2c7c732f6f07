"""Feedback on cards: checked before it is stored (CDS Hooks 2.0, section Feedback)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from cds.protocol.errors import invalid, required

# RFC 3339: a date, a time with seconds, and an offset
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
_LONGEST = 255
_MOST_ITEMS = 1000


class FeedbackOutcome(StrEnum):
    ACCEPTED = "accepted"
    OVERRIDDEN = "overridden"


@dataclass(frozen=True, slots=True)
class OverrideReason:
    """The coded reason; `userComment` is free text that may hold patient data, so it is dropped here and
    only `commented` remembers that there was one."""

    code: str = ""
    system: str = ""
    display: str = ""
    commented: bool = False


@dataclass(frozen=True, slots=True)
class FeedbackItem:
    """One item. `card` and `suggestions` are uuids as this service gave them; `at` is aware."""

    card: str
    outcome: FeedbackOutcome
    at: datetime
    suggestions: tuple[str, ...] = ()
    reason: OverrideReason | None = None


def parse_feedback(body: object) -> tuple[FeedbackItem, ...]:
    """Every item of a feedback call, all or none. Raises ProtocolError(400) naming the field."""
    if not isinstance(body, dict):
        raise invalid("a JSON object is expected", "request")
    items = body.get("feedback")
    if items is None:
        raise required("feedback")
    if not isinstance(items, list) or not items:
        raise invalid("a non-empty array is expected", "feedback")
    if len(items) > _MOST_ITEMS:
        raise invalid(f"more than {_MOST_ITEMS} items", "feedback")
    return tuple(_item(item, f"feedback[{number}]") for number, item in enumerate(items))


def _item(raw: object, path: str) -> FeedbackItem:
    if not isinstance(raw, dict):
        raise invalid("a JSON object is expected", path)
    card = _uuid(raw, "card", path)
    try:
        outcome = FeedbackOutcome(str(raw.get("outcome")))
    except ValueError:
        raise invalid("accepted or overridden is expected", f"{path}.outcome") from None
    at = _instant(raw.get("outcomeTimestamp"), f"{path}.outcomeTimestamp")
    if outcome is FeedbackOutcome.ACCEPTED:
        return FeedbackItem(card, outcome, at, suggestions=_accepted(raw, path))
    return FeedbackItem(
        card, outcome, at, reason=_reason(raw.get("overrideReason"), f"{path}.overrideReason")
    )


def _uuid(raw: Mapping[str, Any], name: str, path: str) -> str:
    value = raw.get(name)
    if not isinstance(value, str) or not value.strip():
        raise required(f"{path}.{name}")
    if len(value) > _LONGEST:
        raise invalid(f"is longer than {_LONGEST} characters", f"{path}.{name}")
    return value.strip().removeprefix("urn:uuid:").lower()


def _instant(value: object, path: str) -> datetime:
    if value is None:
        raise required(path)
    if isinstance(value, str) and _INSTANT.fullmatch(value):
        try:
            return datetime.fromisoformat(value.upper())
        except ValueError:
            pass
    raise invalid("an RFC 3339 instant is expected", path)


def _accepted(raw: Mapping[str, Any], path: str) -> tuple[str, ...]:
    chosen = raw.get("acceptedSuggestions")
    if not isinstance(chosen, list) or not chosen:
        raise required(f"{path}.acceptedSuggestions")
    ids = []
    for number, item in enumerate(chosen):
        place = f"{path}.acceptedSuggestions[{number}]"
        if not isinstance(item, dict):
            raise invalid("a JSON object is expected", place)
        ids.append(_uuid(item, "id", place))
    return tuple(ids)


def _reason(raw: object, path: str) -> OverrideReason | None:
    if raw is None:
        return None
    if not isinstance(raw, dict):
        raise invalid("a JSON object is expected", path)
    coding, comment = raw.get("reason"), raw.get("userComment")
    if comment is not None and not isinstance(comment, str):
        raise invalid("a string is expected", f"{path}.userComment")
    if coding is None:
        if not comment:
            raise invalid("reason or userComment is expected", path)
        return OverrideReason(commented=True)
    if not isinstance(coding, dict):
        raise invalid("a Coding is expected", f"{path}.reason")
    code = coding.get("code")
    if not isinstance(code, str) or not code:
        raise required(f"{path}.reason.code")
    system, display = (
        value if isinstance(value := coding.get(name), str) else "" for name in ("system", "display")
    )
    return OverrideReason(code[:_LONGEST], system[:_LONGEST], display[:_LONGEST], bool(comment))
