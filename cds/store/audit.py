"""An answer as audit rows: which rule version said what about which hashed patient, and was it shown."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid4

from cards.finding import Finding
from cds.pipeline import Answer
from cds.protocol import FeedbackItem
from cds.store.identity import Identity, Kind
from cds.store.models import Call, Feedback, Verdict
from cds.store.orders import order_parts
from cds.store.writer import Row

FINDING = "org.tcell-cds.finding"
UNLISTED = "unlisted"  # a reason that our cards do not offer: its text may be anything, so it is not kept
COMMENT = "comment"  # only a comment was given; it is not kept


class Shown(StrEnum):
    """What became of a finding that has an indicator."""

    CARD = "card"
    SILENT = "silent"  # silent mode: counted, not sent
    SHORTENED = "shortened"  # overridden before, critical: sent again, short
    REPEAT = "repeat"  # overridden before: not sent again
    CUT = "cut"  # beyond the most cards of one answer


def answer_rows(answer: Answer, identity: Identity, mode: str, now: datetime) -> list[Row]:
    """The call and its verdicts."""
    request, call_id = answer.request, uuid4().hex
    patient = identity.of(Kind.PATIENT, request.fhir_server, request.patient_id)
    user = identity.of(Kind.USER, request.user_id)
    shared: dict[str, Any] = {
        "call": call_id,
        "at": now,
        "hook": str(request.hook),
        "ruleset": answer.ruleset,
    }
    shared |= {"patient": patient, "user": user}
    call = {
        "id": call_id,
        "at": now,
        "service": answer.service.id,
        "hook": str(request.hook),
        "mode": mode,
        "ruleset": answer.ruleset,
        "patient": patient,
        "user": user,
        "cards": len(answer.response["cards"]),
        "milliseconds": round(answer.seconds * 1000),
    }
    rows: list[Row] = [(Call, call)]
    for verdict in _verdicts(answer, mode):
        order = identity.of(Kind.ORDER, *order_parts(verdict.pop("resource"), answer.chart))
        rows.append((Verdict, {"id": uuid4().hex, **shared, **verdict, "order": order}))
    return rows


def _verdicts(answer: Answer, mode: str) -> Iterator[dict[str, Any]]:
    repeated = {(f.rule, f.subject) for f in answer.shortened}
    findings = [f for f in (answer.run.findings if answer.run else ()) if f.indicator is not None]
    if mode == "silent":
        yield from (_of_finding(finding, Shown.SILENT) for finding in findings)
        return
    cards = list(answer.response["cards"])
    for card in cards:
        yield _of_card(card, repeated, findings)
    sent = [(card["source"]["topic"]["code"], card["indicator"]) for card in cards]
    for finding in findings:
        name = (finding.rule, str(finding.indicator))
        if name in sent:
            sent.remove(name)
        else:
            yield _of_finding(finding, Shown.CUT)
    yield from (_of_finding(finding, Shown.REPEAT) for finding in answer.suppressed)


def _of_card(
    card: Mapping[str, Any], repeated: set[tuple[str, str]], findings: list[Finding]
) -> dict[str, Any]:
    machine = card["extension"][FINDING]
    rule, resource = card["source"]["topic"]["code"], machine.get("resource", "")
    short = any(
        f.rule == rule and f.resource == resource and (f.rule, f.subject) in repeated for f in findings
    )
    return {
        "card": card["uuid"],
        "rule": rule,
        "outcome": machine["outcome"],
        "indicator": card["indicator"],
        "shown": (Shown.SHORTENED if short else Shown.CARD).value,
        "resource": resource,
    }


def _of_finding(finding: Finding, shown: Shown) -> dict[str, Any]:
    return {
        "card": "",
        "rule": finding.rule,
        "outcome": finding.outcome.value,
        "indicator": "" if finding.indicator is None else finding.indicator.value,
        "shown": shown.value,
        "resource": finding.resource,
    }


def feedback_row(item: FeedbackItem, known_reasons: frozenset[str], now: datetime) -> Row | None:
    """None where the card's uuid is none of ours: nothing could ever match it, and it may be any text."""
    try:
        card = str(UUID(item.card))
    except ValueError:
        return None
    reason = ""
    if item.reason is not None:
        reason = item.reason.code if item.reason.code in known_reasons else UNLISTED
        if not item.reason.code:
            reason = COMMENT
    identity = UUID(card).hex[:16] + _digest(item.outcome.value, reason, item.at.isoformat())
    row = {"id": identity, "card": card, "outcome": item.outcome.value, "at": item.at, "received_at": now}
    return Feedback, {**row, "reason": reason}


def _digest(*parts: str) -> str:
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:16]
