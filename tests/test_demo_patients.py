"""Every demo request as an EHR sends it: both modes agree, order never matters, damage costs one entry."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import httpx
import pytest

from cds.app import create_app
from cds.cli.ehr import FhirServer, discover, prefetched
from cds.sandbox import create_fhir_app
from tests.casebook.build_fixtures import FIXTURES, outputs
from tests.conftest import settings_for_tests, walk

FHIR = "http://127.0.0.1:9"
REQUESTS = sorted((FIXTURES / "requests").glob("*.json"))
CALLS = [(path, service) for path in REQUESTS for service in json.loads(path.read_bytes())["services"]]
Json = dict[str, Any]


@cache
def _fhir() -> httpx.ASGITransport:
    bundles = [json.loads(path.read_bytes()) for path in sorted((FIXTURES / "patients").glob("*.json"))]
    return httpx.ASGITransport(app=create_fhir_app(bundles))


@cache
def _cds(clock: str) -> httpx.ASGITransport:
    settings = settings_for_tests(clock=datetime.fromisoformat(clock), budget_seconds=60)
    return httpx.ASGITransport(app=create_app(settings, fhir_transport=_fhir()))


async def _ask(saved: Mapping[str, Any], service: str, **extra: Any) -> Json:
    body = {**saved["request"], "hookInstance": "7c1f3b0e-52a4-4b43-9d0c-2f0f6c7f1a10", **extra}
    async with httpx.AsyncClient(
        transport=_cds(saved["clock"]), base_url="http://cds.test", event_hooks={"response": [walk]}
    ) as client:
        response = await client.post(f"/cds-services/{service}", json=body)
    assert response.status_code == 200, response.text
    answer: Json = response.json()
    return answer


async def _prefetch(saved: Mapping[str, Any], service: str) -> Json:
    async with (
        httpx.AsyncClient(transport=_cds(saved["clock"]), base_url="http://cds.test") as cds,
        httpx.AsyncClient(transport=_fhir()) as fhir,
    ):
        services = await discover(cds, "http://cds.test")
        templates = services[service].prefetch
        return await prefetched(fhir, FhirServer(FHIR), templates, saved["request"]["context"])


def _load(path: Path) -> Json:
    saved: Json = json.loads(path.read_bytes())
    return saved


def test_fixtures_are_what_their_stories_say() -> None:
    stale = [str(path.name) for path, text in outputs() if path.read_text(encoding="utf-8") != text]
    assert not stale, "run python -m tests.casebook.build_fixtures"


@pytest.mark.parametrize(("path", "service"), CALLS, ids=lambda v: v.stem if isinstance(v, Path) else v)
async def test_prefetch_and_pull_give_the_same_cards(path: Path, service: str) -> None:
    saved = _load(path)
    pushed = await _ask(saved, service, prefetch=await _prefetch(saved, service))
    pulled = await _ask(saved, service, fhirServer=FHIR)
    assert pushed == pulled


@pytest.mark.parametrize(("path", "service"), CALLS, ids=lambda v: v.stem if isinstance(v, Path) else v)
async def test_the_order_of_entries_never_matters(path: Path, service: str) -> None:
    saved = _load(path)
    prefetch = await _prefetch(saved, service)
    usual = await _ask(saved, service, prefetch=prefetch)
    dice = random.Random(path.stem)
    for value in prefetch.values():
        if isinstance(value, dict) and value.get("entry"):
            dice.shuffle(value["entry"])
    keys = list(prefetch)
    dice.shuffle(keys)
    assert await _ask(saved, service, prefetch={key: prefetch[key] for key in keys}) == usual


def _address(name: str) -> str:
    return f"urn:uuid:{uuid5(NAMESPACE_URL, name)}"


def _by_address(prefetch: Json) -> Json:
    """As a collection Bundle refers to its own entries: by address instead of by id."""
    names = {
        f"{entry['resource']['resourceType']}/{entry['resource']['id']}"
        for value in prefetch.values()
        if isinstance(value, dict)
        for entry in value.get("entry", [])
    }
    names.add(f"Patient/{prefetch['patient']['id']}")

    def renamed(value: Any) -> Any:
        if isinstance(value, list):
            return [renamed(one) for one in value]
        if not isinstance(value, dict):
            return value
        reference = value.get("reference")
        return {key: renamed(one) for key, one in value.items()} | (
            {"reference": _address(reference)} if reference in names else {}
        )

    def bundle(resources: list[Json]) -> Json:
        entries = [
            {
                "fullUrl": _address(f"{one['resourceType']}/{one['id']}"),
                "resource": renamed(one),
            }
            for one in resources
        ]
        return {"resourceType": "Bundle", "type": "collection", "entry": entries}

    return {
        key: bundle([entry["resource"] for entry in value["entry"]])
        if isinstance(value, dict) and value.get("entry")
        else bundle([value])
        if key == "patient"
        else value
        for key, value in prefetch.items()
    }


@pytest.mark.parametrize(("path", "service"), CALLS[::5], ids=lambda v: v.stem if isinstance(v, Path) else v)
async def test_references_by_address_are_references_by_id(path: Path, service: str) -> None:
    saved = _load(path)
    prefetch = await _prefetch(saved, service)
    expected = await _ask(saved, service, prefetch=prefetch)
    assert await _ask(saved, service, prefetch=_by_address(prefetch)) == expected


@pytest.mark.parametrize(("path", "service"), CALLS, ids=lambda v: v.stem if isinstance(v, Path) else v)
async def test_a_damaged_entry_costs_that_entry_only(path: Path, service: str) -> None:
    saved = _load(path)
    prefetch = await _prefetch(saved, service)
    usual = await _ask(saved, service, prefetch=prefetch)
    labs = prefetch.get("labs")
    if not isinstance(labs, dict):
        pytest.skip("this service reads no laboratory key")
    damaged = {"resourceType": "Observation", "id": "broken", "status": "final", "code": 7, "subject": []}
    labs.setdefault("entry", []).append({"resource": damaged})
    answer = await _ask(saved, service, prefetch=prefetch)

    def verdicts(cards: list[Json]) -> list[tuple[Any, ...]]:
        return [
            (c["summary"], c["indicator"], c["extension"]["org.tcell-cds.finding"].get("values"))
            for c in cards
        ]

    assert verdicts(answer["cards"]) == verdicts(usual["cards"])


async def test_the_damaged_entry_is_named_on_the_card() -> None:
    saved = _load(FIXTURES / "requests" / "demo-crs-grade-3-1.json")
    prefetch = await _prefetch(saved, "grading-patient-view")
    damaged = {"resourceType": "Observation", "id": "broken", "status": "final", "code": 7}
    prefetch["labs"]["entry"].append({"resource": damaged})
    answer = await _ask(saved, "grading-patient-view", prefetch=prefetch)
    crs = next(c for c in answer["cards"] if c["source"]["topic"]["code"] == "grading.crs")
    losses = crs["extension"]["org.tcell-cds.finding"]["losses"]
    assert {"resource": "Observation/broken", "reason": "malformed"} in losses


async def test_the_shapes_that_real_clients_send_are_served() -> None:
    saved = _load(FIXTURES / "requests" / "demo-washout-bendamustine-1.json")
    service = "washout-order-sign"
    prefetch = await _prefetch(saved, service)
    usual = await _ask(saved, service, prefetch=prefetch)
    assert usual["cards"]
    context = json.loads(json.dumps(saved["request"]["context"]))
    del context["draftOrders"]["type"]
    draft = context["draftOrders"]["entry"][0]["resource"]
    draft["category"] = {"coding": [{"code": "outpatient"}]}
    draft["unknownField"] = {"a": 1}
    context["patientId"] = f"Patient/{context['patientId']}"
    authorization = {
        "access_token": "t",
        "token_type": "Bearer",
        "expires_in": "3600",
        "subject": "x",
    }
    odd = await _ask(
        {**saved, "request": {**saved["request"], "context": context}},
        service,
        prefetch=prefetch,
        fhirServer=FHIR,
        fhirAuthorization=authorization,
        extension={"com.example": {"a": 1}},
    )
    assert odd == usual


@pytest.mark.parametrize("story", ["demo-nothing-to-say"])
async def test_a_patient_without_such_therapy_gets_no_card(story: str) -> None:
    saved = _load(FIXTURES / "requests" / f"{story}-1.json")
    async with httpx.AsyncClient(transport=_cds(saved["clock"]), base_url="http://cds.test") as client:
        services = await discover(client, "http://cds.test")
    for service in services.values():
        if service.hook == "patient-view":
            answer = await _ask(saved, service.id, fhirServer=FHIR)
            assert answer == {"cards": []}, service.id


EXPECTED = {
    ("demo-crs-grade-3-1", "grading-patient-view"): ("grading.crs", "grade-3", "critical"),
    ("demo-crs-grade-1-text-only-1", "grading-patient-view"): ("grading.crs", "grade-1", "warning"),
    ("demo-washout-bendamustine-1", "washout-order-sign"): ("washout.leukapheresis", "not-met", "warning"),
    ("demo-tarlatamab-first-dose-1", "dosing-order-sign"): (
        "dosing.tarlatamab-step-up",
        "wrong-dose",
        "critical",
    ),
    ("demo-tarlatamab-late-dose-1", "dosing-order-sign"): (
        "dosing.tarlatamab-restart",
        "too-late",
        "critical",
    ),
    ("demo-live-vaccine-month-5-1", "vaccination-order-sign"): (
        "vaccination.live",
        "contraindicated",
        "critical",
    ),
    ("demo-vaccines-month-7-2", "vaccination-order-sign"): ("vaccination.adjuvanted", "too-early", "warning"),
}


@pytest.mark.parametrize("call", EXPECTED, ids=lambda call: call[0])
async def test_the_demo_shows_what_its_story_promises(call: tuple[str, str]) -> None:
    saved = _load(FIXTURES / "requests" / f"{call[0]}.json")
    answer = await _ask(saved, call[1], fhirServer=FHIR)
    shown = [
        (
            c["source"]["topic"]["code"],
            c["extension"]["org.tcell-cds.finding"]["outcome"],
            c["indicator"],
        )
        for c in answer["cards"]
    ]
    assert EXPECTED[call] in shown
