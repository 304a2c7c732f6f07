"""Arbitrary JSON in every place that a client or server fills: refused or read, never a crash."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cds.prefetch import KEYS
from cds.prefetch.bundles import read_page
from cds.prefetch.horizon import horizon
from cds.protocol import HOOKS, ProtocolError, operation_outcome, parse_feedback, parse_request
from cds.protocol.walker import discovery_problems, error_problems, house_problems, problems

WORDS = st.sampled_from(
    [
        *("resourceType", "Bundle", "Patient", "Observation", "OperationOutcome", "entry", "resource", "id"),
        *("link", "relation", "next", "url", "search", "mode", "issue", "code", "total", "subject"),
        *("hook", "hookInstance", "context", "patientId", "prefetch", "fhirServer", "fhirAuthorization"),
        *("access_token", "draftOrders", "selections", "patient-view", "order-select", "p1", "p1/x", ""),
        *("cards", "summary", "source", "label", "suggestions", "actions", "type", "create", "extension"),
        *("feedback", "card", "outcome", "accepted", "acceptedSuggestions", "services", "uuid", "services"),
        *("effectiveDateTime", "effectivePeriod", "start", "2025-04-16", "2025", "status", "final"),
    ]
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**60), 2**60),
    st.floats(allow_nan=False, allow_infinity=False),
    WORDS,
    st.text(max_size=5),
)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(WORDS, inner, max_size=5)),
    max_leaves=25,
)
OBJECT = st.dictionaries(WORDS, JSON, max_size=6)


def refusal(body: Any, hook: str) -> ProtocolError | None:
    try:
        parse_request(body, hook)
    except ProtocolError as error:
        return error
    return None


@given(JSON, st.sampled_from(sorted(HOOKS)))
def test_any_json_as_a_request_is_refused_with_its_field(body: Any, hook: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_request(body, hook)
    assert caught.value.status == 400
    assert error_problems(400, operation_outcome(caught.value)) == []


@given(OBJECT, OBJECT, st.sampled_from(["patient-view", "order-select", "order-sign", "appointment-book"]))
def test_any_json_around_the_required_fields_is_read_or_refused(context: Any, around: Any, hook: str) -> None:
    body = {
        **around,
        "hook": hook,
        "hookInstance": "i",
        "context": {"draftOrders": [], **context, "patientId": "p1"},
    }
    error = refusal(body, hook)
    assert error is None or (error.status == 400 and error.field)


@given(JSON)
def test_any_json_as_feedback_is_refused(body: Any) -> None:
    for raw in (body, {"feedback": body}, {"feedback": [body]}):
        with pytest.raises(ProtocolError):
            parse_feedback(raw)


@given(JSON)
def test_the_walker_reads_anything(answer: Any) -> None:
    for raw in (answer, {"cards": answer}, {"cards": [answer]}):
        problems(raw, drafts={})
        house_problems(raw)
    for raw in (answer, {"services": [answer]}):
        discovery_problems(raw)
    assert error_problems(500, answer)


@given(JSON)
def test_any_json_is_a_page_of_some_shape(answer: Any) -> None:
    for raw in (
        answer,
        {"resourceType": "Bundle", "entry": answer},
        {"resourceType": "Bundle", "link": answer},
    ):
        page = read_page(raw)
        horizon(page.matches, KEYS["labs"].sort, ZoneInfo("Asia/Taipei"))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(sorted(KEYS)), JSON, max_size=6))
def test_any_json_in_prefetch_is_answered(cds_app: FastAPI, prefetch: dict[str, Any]) -> None:
    body = {
        "hook": "patient-view",
        "hookInstance": "i",
        "context": {"userId": "Practitioner/1", "patientId": "p1"},
        "prefetch": {**prefetch, "patient": {"resourceType": "Patient", "id": "p1"}, "procedures": None},
    }

    async def post() -> httpx.Response:
        transport = httpx.ASGITransport(cds_app)
        async with httpx.AsyncClient(transport=transport, base_url="http://cds.test") as client:
            return await client.post("/cds-services/all-patient-view", content=json.dumps(body))

    response = asyncio.run(post())
    assert response.status_code == 200, response.text
    assert problems(response.json()) == []
