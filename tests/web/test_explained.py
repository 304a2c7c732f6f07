"""The page's own route: what stands behind an answer, under the rules that guard the hook itself."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import httpx
import pytest
from starlette.requests import Request

from cds.app import create_app
from cds.cli.fixtures import folder, load_saved
from cds.cli.offline import at, runtime_for, with_chart
from cds.pipeline import Answer, Runtime
from cds.protocol import IssueCode, ProtocolError
from cds.settings import Mode
from cds.web import explained
from tests.conftest import client_of, settings_for_tests

STORY = "demo-icaht-day-16"
ID = "grading-patient-view"
SERVICE = f"/ui/explain/{ID}"


@cache
def _runtime() -> Runtime:
    return runtime_for(None)


async def _body() -> dict[str, Any]:
    """The hook request of the story, its prefetch filled."""
    saved = load_saved(folder() / "requests" / f"{STORY}-1.json")
    chart = json.loads((folder() / "patients" / f"{STORY}.json").read_bytes())
    return await with_chart(at(_runtime(), saved.clock, _runtime().settings), ID, saved.body, chart)


def _client(seen: list[Answer] | None = None, **options: Any) -> httpx.AsyncClient:
    clock = load_saved(folder() / "requests" / f"{STORY}-1.json").clock
    authenticate = options.pop("authenticate", None)
    app = create_app(
        settings_for_tests(clock=clock, **options),
        explain=explained,
        authenticate=authenticate,
        listeners=[] if seen is None else [seen.append],
    )
    return client_of(app)


@pytest.mark.parametrize(("language", "word"), [("en", "grade 3"), ("zh-TW", "第 3 級")])
async def test_it_tells_the_verdicts_their_evidence_and_the_data(language: str, word: str) -> None:
    async with _client() as client:
        found = (await client.post(SERVICE, json=await _body(), headers={"Accept-Language": language})).json()
    rule = next(rule for rule in found["rules"] if rule["rule"] == "grading.icaht")
    assert rule["verdicts"][0]["outcome"].lower() == word
    assert all(item["reference"].startswith("Observation/") for item in rule["verdicts"][0]["evidence"])
    assert {key["key"]: key["state"] for key in found["keys"]}["labs"] == "found"
    assert set(found["milliseconds"]) == {"read", "rules", "render"}
    assert found["course"]["day0"]
    assert found["silent"]


@pytest.mark.parametrize(
    ("asked", "width"), [("500", 500), ("1", 300), ("99999", 1200), ("", 620), ("x", 620)]
)
async def test_pictures_come_in_the_width_asked_for_within_bounds(asked: str, width: int) -> None:
    async with _client() as client:
        found = (await client.post(f"{SERVICE}?width={asked}", json=await _body())).json()
    assert f'width="{width}"' in found["pictures"][0]["svg"]


async def test_it_is_no_hook_of_an_ehr() -> None:
    seen: list[Answer] = []
    async with _client(seen) as client:
        await client.post(SERVICE, json=await _body())
        assert seen == []
        assert "tcell_cds_hook_seconds_count{" not in (await client.get("/metrics")).text
        await client.post(f"/cds-services/{ID}", json=await _body())
    assert len(seen) == 1


async def test_silent_mode_tells_nothing() -> None:
    async with _client(mode=Mode.SILENT) as client:
        assert (await client.post(SERVICE, json=await _body())).json() == {}


async def test_it_asks_for_the_same_token_as_the_hook() -> None:
    async def nobody(request: Request) -> str:
        raise ProtocolError(401, IssueCode.LOGIN, "a token is needed")

    async with _client(authenticate=nobody) as client:
        assert (await client.post(SERVICE, json=await _body())).status_code == 401


async def test_faults_are_those_of_the_hook() -> None:
    async with _client() as client:
        assert (await client.post("/ui/explain/none", json=await _body())).status_code == 404
        assert (await client.post(SERVICE, json={})).status_code == 400


async def test_without_a_draft_that_concerns_anybody_nothing_was_read() -> None:
    body = {
        "hook": "order-sign",
        "hookInstance": "0b6f9f0e-6d2e-4d0c-8a60-1f6f3a2f7d11",
        "context": {
            "userId": "Practitioner/d",
            "patientId": STORY,
            "draftOrders": {"resourceType": "Bundle", "entry": [{"resource": {
                "resourceType": "MedicationRequest", "id": "d1", "status": "draft", "intent": "order",
                "medicationCodeableConcept": {"text": "shampoo"},
            }}]},
        },
    }  # fmt: skip
    async with _client() as client:
        found = (await client.post("/ui/explain/grading-order-sign", json=body)).json()
    assert found.get("issue") or found == {"milliseconds": {}, "keys": []}
