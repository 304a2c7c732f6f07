"""The service over HTTP: checklist 1.1 to 1.5 and the fault table of the contract, section 6."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import re
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from cds.pipeline import Answer
from cds.protocol import FeedbackItem, IssueCode, ProtocolError
from cds.sandbox import Fault, FaultKind, create_fhir_app
from cds.settings import SettingsError
from tests.conftest import client_of, hook_request, post_hook

SERVER = "http://localhost:8080"
Make = Callable[..., FastAPI]
LOINC, ATC = "http://loinc.org", "http://www.whocc.no/atc"
UCUM = "http://unitsofmeasure.org"


def coded(system: str, code: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code}]}


def resource(resource_type: str, resource_id: str, **fields: Any) -> dict[str, Any]:
    return {
        "resourceType": resource_type,
        "id": resource_id,
        "subject": {"reference": "Patient/p1"},
        **fields,
    }


def observation(resource_id: str, code: str, value: float, unit: str, at: str) -> dict[str, Any]:
    return resource(
        "Observation",
        resource_id,
        status="final",
        category=[{"coding": [{"code": "vital-signs"}]}],
        code=coded(LOINC, code),
        effectiveDateTime=at,
        valueQuantity={"value": value, "unit": unit, "system": UCUM, "code": unit},
    )


PATIENT = {"resourceType": "Patient", "id": "p1", "birthDate": "1968-02-11", "gender": "male"}
INFUSION = resource(
    "MedicationAdministration",
    "cart",
    status="completed",
    medicationCodeableConcept=coded(ATC, "L01XL04"),
    effectivePeriod={"start": "2025-04-12T14:00:00+08:00", "end": "2025-04-12T14:20:00+08:00"},
)
NOREPINEPHRINE = resource(
    "MedicationAdministration",
    "ne",
    status="in-progress",
    medicationCodeableConcept=coded(ATC, "C01CA03"),
    effectivePeriod={"start": "2025-04-16T07:30:00+08:00"},
    dosage={
        "route": coded("http://snomed.info/sct", "47625008"),
        "rateQuantity": {"value": 0.12, "unit": "ug/kg/min", "system": UCUM, "code": "ug/kg/min"},
    },
)
FEVER = observation("t", "8310-5", 39.1, "Cel", "2025-04-16T08:10:00+08:00")
WEIGHT = observation("w", "29463-7", 70, "kg", "2025-04-16T07:00:00+08:00")
CHART = [PATIENT, INFUSION, NOREPINEPHRINE, FEVER, WEIGHT]
GRADING = "grading-patient-view"


def bundle(*resources: Any, **fields: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"resourceType": "Bundle", "type": "searchset", **fields}
    if resources:
        found["entry"] = [{"resource": item} for item in resources]
    return found


def filled(app: FastAPI, service: str, resources: Sequence[dict[str, Any]] = CHART) -> dict[str, Any]:
    """Prefetch as an EHR would fill it from these resources; keys without a match are empty."""
    plan = app.state.runtime.plans[service]
    first_of = {"Observation": "vitals", "MedicationAdministration": "administrations"}
    prefetch: dict[str, Any] = {name: bundle() for name in plan.published}
    for item in resources:
        kind = item["resourceType"]
        if kind == "Patient":
            prefetch["patient"] = item
            continue
        name = first_of.get(kind) or next(t.name for t in plan.templates if t.spec.resource_type == kind)
        prefetch[name] = bundle(*(e["resource"] for e in prefetch.get(name, {}).get("entry", ())), item)
    return prefetch


def rules_of(cards: Sequence[dict[str, Any]]) -> list[str]:
    return [card["source"]["topic"]["code"] for card in cards]


def crs(cards: Sequence[dict[str, Any]]) -> dict[str, Any]:
    (card,) = (card for card in cards if card["source"]["topic"]["code"] == "grading.crs")
    return card


def outcome_of(card: dict[str, Any]) -> str:
    outcome: str = card["extension"]["org.tcell-cds.finding"]["outcome"]
    return outcome


def outcome_text(response: httpx.Response) -> str:
    text: str = response.json()["issue"][0]["details"]["text"]
    return text


@pytest.fixture
def fhir() -> FastAPI:
    return create_fhir_app([CHART], token="t0ken")  # type: ignore[return-value]


@pytest.fixture
async def pulling(make_app: Make, fhir: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """The service with an embedded FHIR server behind it."""
    app = make_app(fhir_transport=httpx.ASGITransport(fhir), budget_seconds=5)
    async with client_of(app) as client:
        yield client


def with_server(request: dict[str, Any], token: str = "t0ken") -> dict[str, Any]:
    auth = {
        "access_token": token,
        "token_type": "Bearer",
        "expires_in": 300,
        "scope": "patient/*.read",
        "subject": "cds",
    }
    return {**request, "fhirServer": SERVER, "fhirAuthorization": auth}


# --- discovery


async def test_01_discovery(cds_client: httpx.AsyncClient) -> None:
    response = await cds_client.get("/cds-services")
    assert response.headers["content-type"] == "application/json"
    services = {service["id"]: service for service in response.json()["services"]}
    assert services[GRADING]["hook"] == "patient-view"
    assert all(service["title"] for service in services.values())
    assert all(service["id"].endswith(f"-{service['hook']}") for service in services.values())


async def test_05_every_service_answers(cds_client: httpx.AsyncClient, cds_app: FastAPI) -> None:
    contexts: dict[str, dict[str, Any]] = {
        "order-select": {"draftOrders": bundle(), "selections": []},
        "order-sign": {"draftOrders": bundle()},
        "encounter-start": {"encounterId": "e1"},
        "encounter-discharge": {"encounterId": "e1"},
        "appointment-book": {"appointments": bundle()},
    }
    for service in (await cds_client.get("/cds-services")).json()["services"]:
        prefetch = filled(cds_app, service["id"], [PATIENT])
        request = hook_request(service["hook"], prefetch=prefetch, context=contexts.get(service["hook"], {}))
        assert await post_hook(cds_client, service["id"], request) == []


async def test_07_prefetch_names_the_required_keys(cds_client: httpx.AsyncClient) -> None:
    for service in (await cds_client.get("/cds-services")).json()["services"]:
        assert "patient" in service["prefetch"]
        assert "procedures" in service["usageRequirements"]


async def test_09_versions_can_be_switched_off(make_app: Make) -> None:
    async with client_of(make_app(discovery_version=False)) as client:
        for service in (await client.get("/cds-services")).json()["services"]:
            assert "version" not in service
            assert "hookVersion" not in service


async def test_17_discovery_asks_for_the_client_where_one_is_required(make_app: Make) -> None:
    async def nobody(request: Request) -> str:
        raise ProtocolError(
            401, IssueCode.LOGIN, "a client token is required", headers={"WWW-Authenticate": "Bearer"}
        )

    async with client_of(make_app(authenticate=nobody)) as client:
        for response in (
            await client.get("/cds-services"),
            await client.post(f"/cds-services/{GRADING}", json=hook_request("patient-view")),
            await client.post(f"/cds-services/{GRADING}/feedback", json={}),
        ):
            assert response.status_code == 401
            assert response.headers["www-authenticate"] == "Bearer"
        assert (await client.get("/health/live")).status_code == 200


def test_jwt_without_a_check_does_not_start(make_app: Make) -> None:
    with pytest.raises(SettingsError, match="no token check"):
        make_app(auth_mode="jwt")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/cds-services/", 404),
        ("POST", "/cds-services", 405),
        ("DELETE", "/cds-services", 405),
        ("GET", f"/cds-services/{GRADING}", 405),
        ("PUT", f"/cds-services/{GRADING}", 405),
        ("POST", f"/cds-services/{GRADING}/", 404),
        ("POST", f"/cds-services/{GRADING}/x", 404),
        ("POST", "/cds-services/unknown", 404),
        ("POST", "/cds-services/unknown/feedback", 404),
        ("POST", "/health/live", 405),
        ("OPTIONS", "/cds-services", 405),
    ],
)
async def test_19_other_paths_and_methods(
    cds_client: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    response = await cds_client.request(method, path, json={} if method in ("POST", "PUT") else None)
    assert response.status_code == status
    assert response.json()["resourceType"] == "OperationOutcome"


# --- requests


async def test_20_a_minimal_body_needs_data(cds_client: httpx.AsyncClient) -> None:
    request = {"hook": "patient-view", "hookInstance": "x", "context": {"patientId": "p1"}}
    response = await cds_client.post(f"/cds-services/{GRADING}", json=request)
    assert response.status_code == 412
    assert response.json()["issue"][0]["diagnostics"] == "patient: no-server"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"hook": ""}, "hook"),
        ({"hook": "order-sign"}, "hook"),
        ({"hookInstance": None}, "hookInstance"),
        ({"context": []}, "context"),
        ({"context": {}}, "context.patientId"),
        ({"prefetch": []}, "prefetch"),
        ({"fhirAuthorization": {"access_token": "x"}}, "fhirServer"),
    ],
)
async def test_21_23_24_bad_requests_name_the_field(
    cds_client: httpx.AsyncClient, changes: dict[str, Any], field: str
) -> None:
    request = hook_request("patient-view") | changes
    response = await cds_client.post(f"/cds-services/{GRADING}", json=request)
    assert response.status_code == 400
    assert response.json()["issue"][0]["expression"] == [field]
    assert outcome_text(response).startswith(f"{field}: ")


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 412),
        ("application/json; charset=utf-8", 412),
        ("Application/JSON;charset=UTF-8", 412),
        (None, 412),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("application/fhir+json", 415),
        ("", 415),
    ],
)
async def test_32_content_type(cds_client: httpx.AsyncClient, content_type: str | None, status: int) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    body = json.dumps(hook_request("patient-view"))
    response = await cds_client.post(f"/cds-services/{GRADING}", content=body, headers=headers)
    assert response.status_code == status


async def test_32_an_encoded_body_is_refused(cds_client: httpx.AsyncClient) -> None:
    response = await cds_client.post(
        f"/cds-services/{GRADING}", content=b"x", headers={"Content-Encoding": "gzip"}
    )
    assert response.status_code == 415


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'"x"', b"null", b'{"a": NaN}', b"\xff", b"[" * 10_000, b"[" * 300 + b"]" * 300],
)
async def test_33_what_is_no_request_is_refused(cds_client: httpx.AsyncClient, body: bytes) -> None:
    response = await cds_client.post(f"/cds-services/{GRADING}", content=body)
    assert response.status_code == 400


@pytest.mark.parametrize(
    ("field", "depth"),
    [("context", 300), ("context", 1000), ("extension", 300), ("extension", 1000), ("prefetch", 10_000)],
)
async def test_33_absurd_nesting_is_refused_wherever_it_is(
    cds_client: httpx.AsyncClient, field: str, depth: int
) -> None:
    request = hook_request("patient-view")
    body = json.dumps({**request, field: {**request.get(field, {}), "patient": "here"}})
    deep = '{"a":' * depth + "1" + "}" * depth
    response = await cds_client.post(f"/cds-services/{GRADING}", content=body.replace('"here"', deep))
    assert response.status_code == 400
    assert "nested too deeply" in response.json()["issue"][0]["details"]["text"]


@pytest.mark.parametrize("opened", ['{"a":', '{"extension":[{"valueReference":', '{"contained":[', "["])
@pytest.mark.parametrize("member", ["code", "component", "subject", "contained", "id", "extension", "entry"])
async def test_33_resources_nested_as_deeply_as_json_may_be_cost_no_card(
    cds_client: httpx.AsyncClient, cds_app: FastAPI, opened: str, member: str
) -> None:
    request = hook_request("patient-view", prefetch=filled(cds_app, GRADING))
    cards = await post_hook(cds_client, GRADING, request)
    labs = request["prefetch"]["labs"]
    labs["entry"] = [
        *labs.get("entry", ()),
        {"fullUrl": "urn:uuid:u1", "resource": {"resourceType": "Observation", "id": "o9", member: "here"}},
        {"fullUrl": "urn:uuid:u1", "resource": "here"},
    ]
    closed = opened.replace(":", "")[::-1].translate(str.maketrans("{[", "}]"))
    levels = 1000 // sum(opened.count(bracket) for bracket in "{[")
    deep = opened * levels + "1" + "".join(c for c in closed if c in "}]") * levels
    body = json.dumps(request).replace('"here"', deep)
    response = await cds_client.post(f"/cds-services/{GRADING}", content=body)
    assert response.status_code == 200
    assert [card["summary"] for card in response.json()["cards"]] == [card["summary"] for card in cards]


async def test_33_a_body_over_the_limit_is_refused_declared_or_streamed(make_app: Make) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 100

    async with client_of(make_app(body_bytes=2048)) as client:
        declared = await client.post(f"/cds-services/{GRADING}", content=b" " * 4096)
        streamed = await client.post(f"/cds-services/{GRADING}", content=chunks())
    assert declared.status_code == streamed.status_code == 413


async def test_33_a_body_that_does_not_come_is_not_waited_for(make_app: Make) -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    async with client_of(make_app(body_seconds=0.05)) as client:
        response = await client.post(f"/cds-services/{GRADING}", content=slow())
    assert response.status_code == 408


async def test_34_the_same_call_gives_the_same_cards(cds_client: httpx.AsyncClient, cds_app: FastAPI) -> None:
    request = hook_request("patient-view", prefetch=filled(cds_app, GRADING))
    assert await post_hook(cds_client, GRADING, request) == await post_hook(cds_client, GRADING, request)


# --- the two ways of getting data


async def test_35_full_prefetch_makes_no_call(pulling: httpx.AsyncClient, fhir: FastAPI) -> None:
    app = pulling._transport.app  # type: ignore[attr-defined]
    request = with_server(hook_request("patient-view", prefetch=filled(app, GRADING)))
    cards = await post_hook(pulling, GRADING, request)
    assert outcome_of(crs(cards)) == "grade-3"
    assert fhir.state.sandbox.seen == []


@pytest.mark.parametrize("seed", range(8))
async def test_36_every_mixture_of_prefetch_and_pull_gives_the_same_cards(
    pulling: httpx.AsyncClient, seed: int
) -> None:
    app = pulling._transport.app  # type: ignore[attr-defined]
    full = filled(app, GRADING)
    expected = await post_hook(pulling, GRADING, hook_request("patient-view", prefetch=full))
    dice = random.Random(seed)
    some = {key: value for key, value in full.items() if dice.random() < seed / 7}
    mixed = await post_hook(pulling, GRADING, with_server(hook_request("patient-view", prefetch=some)))
    assert mixed == expected


@pytest.mark.parametrize("seed", range(4))
async def test_order_and_repetition_of_entries_never_matter(
    cds_client: httpx.AsyncClient, cds_app: FastAPI, seed: int
) -> None:
    expected = await post_hook(
        cds_client, GRADING, hook_request("patient-view", prefetch=filled(cds_app, GRADING))
    )
    dice = random.Random(seed)
    shuffled = [*CHART[1:], *dice.sample(CHART[1:], 2)]
    dice.shuffle(shuffled)
    prefetch = filled(cds_app, GRADING, [PATIENT, *shuffled])
    assert await post_hook(cds_client, GRADING, hook_request("patient-view", prefetch=prefetch)) == expected


async def test_40_44_a_failed_key_is_named_and_the_rest_is_checked(
    cds_client: httpx.AsyncClient, cds_app: FastAPI
) -> None:
    outcome = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "forbidden"}]}
    lost = {"body-size": outcome, "vitals": outcome, "assessments": outcome}
    prefetch = filled(cds_app, GRADING, [PATIENT, INFUSION, NOREPINEPHRINE]) | lost
    prefetch["fever"] = bundle(FEVER)
    card = crs(await post_hook(cds_client, GRADING, hook_request("patient-view", prefetch=prefetch)))
    losses = card["extension"]["org.tcell-cds.finding"]["losses"]
    assert {"concept": "body_weight", "reason": "not-fetched"} in losses


@pytest.mark.parametrize(
    ("key", "concept"), [("vitals", "body_temperature"), ("labs", "anc"), ("counts", "anc")]
)
async def test_40_one_unread_key_is_enough_to_say_that_a_fact_could_not_be_read(
    cds_client: httpx.AsyncClient, cds_app: FastAPI, key: str, concept: str
) -> None:
    prefetch = filled(cds_app, GRADING, [PATIENT, INFUSION, NOREPINEPHRINE])

    async def reasons() -> set[str]:
        cards = await post_hook(cds_client, GRADING, hook_request("patient-view", prefetch=prefetch))
        findings = [card["extension"]["org.tcell-cds.finding"] for card in cards]
        return {x["reason"] for f in findings for x in f.get("losses", []) if x.get("concept") == concept}

    assert await reasons() == {"not-on-chart"}
    prefetch[key] = forbidden()
    assert await reasons() == {"not-fetched"}
    del prefetch[key]
    assert await reasons() == {"not-fetched"}


async def test_41_what_a_paged_key_does_not_reach_is_said(
    cds_client: httpx.AsyncClient, cds_app: FastAPI
) -> None:
    prefetch = filled(cds_app, GRADING, [PATIENT, INFUSION, NOREPINEPHRINE, FEVER])
    sodium = observation("na", "2951-2", 140, "mmol/L", "2025-04-15T08:00:00+08:00")
    prefetch["labs"] = bundle(sodium, link=[{"relation": "next", "url": "https://ehr.example/2"}])
    cards = await post_hook(cds_client, GRADING, hook_request("patient-view", prefetch=prefetch))
    findings = [card["extension"]["org.tcell-cds.finding"] for card in cards]
    lost = [loss for finding in findings for loss in finding.get("losses", ())]
    assert {"concept": "anc", "reason": "beyond-horizon"} in lost
    assert "read back to 2025-04-15 only" in " ".join(card["detail"] for card in cards)
    far = observation("na", "2951-2", 140, "mmol/L", "2024-04-15T08:00:00+08:00")
    prefetch["labs"] = bundle(sodium, far, link=[{"relation": "next", "url": "https://ehr.example/2"}])
    cards = await post_hook(cds_client, GRADING, hook_request("patient-view", prefetch=prefetch))
    assert "read back to" not in " ".join(card["detail"] for card in cards)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(FaultKind.STATUS, "Patient", status=401),
        Fault(FaultKind.STATUS, "Patient", status=403),
        Fault(FaultKind.STATUS, "Patient", status=500),
        Fault(FaultKind.HTML, "Patient"),
        Fault(FaultKind.TRUNCATED, "Patient"),
    ],
)
async def test_43_without_the_patient_412_and_nothing_else(make_app: Make, fault: Fault) -> None:
    fhir = create_fhir_app([CHART], faults=[fault])
    app = make_app(fhir_transport=httpx.ASGITransport(fhir))
    async with client_of(app) as client:
        response = await client.post(
            f"/cds-services/{GRADING}", json=with_server(hook_request("patient-view"))
        )
    assert response.status_code == 412
    assert response.json()["issue"][0]["expression"] == ["prefetch.patient"]
    assert "t0ken" not in response.text


async def test_43_a_dead_server_is_a_412_within_the_budget(make_app: Make) -> None:
    fhir = create_fhir_app([CHART], latency=3600)
    app = make_app(fhir_transport=httpx.ASGITransport(fhir), budget_seconds=0.5, evaluation_seconds=0.1)
    async with client_of(app) as client:
        response = await client.post(
            f"/cds-services/{GRADING}", json=with_server(hook_request("patient-view"))
        )
    assert response.status_code == 412


async def test_48_a_foreign_server_is_never_called(cds_client: httpx.AsyncClient, cds_app: FastAPI) -> None:
    request = hook_request("patient-view") | {"fhirServer": "https://evil.example/fhir"}
    response = await cds_client.post(f"/cds-services/{GRADING}", json=request)
    assert response.status_code == 412
    assert response.json()["issue"][0]["diagnostics"] == "patient: not-allowed"
    full = hook_request("patient-view", prefetch=filled(cds_app, GRADING))
    cards = await post_hook(cds_client, GRADING, full | {"fhirServer": "https://evil.example/fhir"})
    assert outcome_of(crs(cards)) == "grade-3"


async def test_49_another_patients_data_is_not_used(cds_client: httpx.AsyncClient, cds_app: FastAPI) -> None:
    foreign = {**NOREPINEPHRINE, "subject": {"reference": "Patient/p2"}}
    prefetch = filled(cds_app, GRADING, [PATIENT, INFUSION, foreign, FEVER, WEIGHT])
    cards = await post_hook(cds_client, GRADING, hook_request("patient-view", prefetch=prefetch))
    assert outcome_of(crs(cards)) != "grade-3"


async def test_30_a_patient_reference_is_its_id(cds_client: httpx.AsyncClient, cds_app: FastAPI) -> None:
    request = hook_request("patient-view", "Patient/p1", prefetch=filled(cds_app, GRADING))
    assert outcome_of(crs(await post_hook(cds_client, GRADING, request))) == "grade-3"


async def test_29_unknown_keys_carry_data_too(cds_client: httpx.AsyncClient) -> None:
    prefetch = {"patient": PATIENT, "procedures": None, "everything": bundle(*CHART[1:])}
    cards = await post_hook(cds_client, GRADING, hook_request("patient-view", prefetch=prefetch))
    assert outcome_of(crs(cards)) == "grade-3"


async def test_damaged_entries_cost_themselves_only(cds_client: httpx.AsyncClient, cds_app: FastAPI) -> None:
    prefetch = filled(cds_app, GRADING)
    for name in ("vitals", "administrations", "conditions"):
        junk = [None, 5, {}, {"resource": None}, {"resource": {"resourceType": 7}}, {"resource": []}]
        broken = {"resourceType": "Observation", "id": 4, "code": "x", "subject": [], "status": {}}
        prefetch[name] = {**prefetch[name], "entry": [*prefetch[name].get("entry", []), *junk]}
        prefetch[name]["entry"].append({"resource": broken})
    cards = await post_hook(cds_client, GRADING, hook_request("patient-view", prefetch=prefetch))
    assert outcome_of(crs(cards)) == "grade-3"


# --- order hooks

STEP_UP = "dosing-order-sign"
TARLATAMAB = resource(
    "MedicationRequest",
    "t2",
    status="draft",
    intent="order",
    medicationCodeableConcept=coded(ATC, "L01FX33"),
    dosageInstruction=[
        {
            "timing": {"event": ["2025-04-17T09:00:00+08:00"]},
            "route": coded("http://snomed.info/sct", "47625008"),
            "doseAndRate": [{"doseQuantity": {"value": 10, "system": UCUM, "code": "mg"}}],
        }
    ],
)
PARACETAMOL = resource(
    "MedicationRequest",
    "x1",
    status="draft",
    intent="order",
    medicationCodeableConcept=coded(ATC, "A02BC01"),
)


async def test_drafts_that_concern_no_rule_are_answered_without_a_call(
    pulling: httpx.AsyncClient, fhir: FastAPI
) -> None:
    request = with_server(hook_request("order-sign", context={"draftOrders": bundle(PARACETAMOL)}))
    assert await post_hook(pulling, "washout-order-sign", request) == []
    assert fhir.state.sandbox.seen == []
    concerned = with_server(hook_request("order-sign", context={"draftOrders": bundle(TARLATAMAB)}))
    await post_hook(pulling, STEP_UP, concerned)
    assert fhir.state.sandbox.seen


@pytest.mark.parametrize(
    "orders",
    [
        bundle(TARLATAMAB),
        {"resourceType": "Bundle", "entry": [{"resource": TARLATAMAB}]},
        {"entry": [{"resource": {**TARLATAMAB, "category": {"text": "x"}, "oddity": {"a": []}}}]},
        [TARLATAMAB],
        bundle(TARLATAMAB, {"resourceType": "NutritionOrder", "id": "n"}),
    ],
)
async def test_draft_orders_in_every_shape_are_judged(
    cds_client: httpx.AsyncClient, cds_app: FastAPI, orders: Any
) -> None:
    request = hook_request(
        "order-sign", prefetch=filled(cds_app, STEP_UP, [PATIENT]), context={"draftOrders": orders}
    )
    cards = await post_hook(cds_client, STEP_UP, request)
    findings = [card["extension"]["org.tcell-cds.finding"] for card in cards]
    assert "MedicationRequest/t2" in {finding.get("resource") for finding in findings}


# --- answers


async def test_an_uninvolved_patient_gets_no_card(cds_client: httpx.AsyncClient, cds_app: FastAPI) -> None:
    for service in cds_app.state.runtime.rulebook.services.values():
        if service.hook == "patient-view":
            prefetch = filled(cds_app, service.id, [PATIENT, FEVER, WEIGHT])
            assert (
                await post_hook(cds_client, service.id, hook_request("patient-view", prefetch=prefetch)) == []
            )


async def test_74_answers_are_json_and_not_stored(cds_client: httpx.AsyncClient, cds_app: FastAPI) -> None:
    request = hook_request("patient-view", prefetch=filled(cds_app, GRADING))
    response = await cds_client.post(f"/cds-services/{GRADING}", json=request)
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("accept", "chinese"),
    [("zh-TW", True), ("zh-Hant;q=0.9, en;q=0.5", True), ("en-US", False), ("fr", False), ("", False)],
)
async def test_cards_are_in_the_language_asked_for(
    cds_client: httpx.AsyncClient, cds_app: FastAPI, accept: str, chinese: bool
) -> None:
    request = hook_request("patient-view", prefetch=filled(cds_app, GRADING))
    summary = crs(await post_hook(cds_client, GRADING, request, language=accept))["summary"]
    assert any("\u4e00" <= letter <= "\u9fff" for letter in summary) == chinese


async def test_silent_mode_evaluates_counts_and_says_nothing(make_app: Make) -> None:
    app = make_app(mode="silent")
    async with client_of(app) as client:
        request = hook_request("patient-view", prefetch=filled(app, GRADING))
        assert await post_hook(client, GRADING, request) == []
        metrics = (await client.get("/metrics")).text
    assert 'tcell_cds_findings_total{indicator="critical",rule="grading.crs"} 1.0' in metrics


async def test_all_services_of_a_hook_hold_the_cards_of_its_domains(
    cds_client: httpx.AsyncClient, cds_app: FastAPI
) -> None:
    request = hook_request("patient-view", prefetch=filled(cds_app, "all-patient-view"))
    cards = await post_hook(cds_client, "all-patient-view", request)
    assert "grading.crs" in rules_of(cards)
    indicators = [card["indicator"] for card in cards]
    assert indicators == sorted(indicators, key=["critical", "warning", "info"].index)


# --- feedback

CARD = "4e0a3a1e-3283-4575-ab82-028d55fe2719"
OVERRIDDEN = {"card": CARD, "outcome": "overridden", "outcomeTimestamp": "2025-04-16T02:00:00Z"}


async def test_75_80_81_feedback_is_handed_to_the_store(make_app: Make) -> None:
    stored: list[tuple[str, FeedbackItem]] = []

    async def keep(service: str, items: Sequence[FeedbackItem]) -> None:
        stored.extend((service, item) for item in items)

    app = make_app(feedback=keep)
    async with client_of(app) as client:
        response = await client.post(
            f"/cds-services/{GRADING}/feedback", json={"feedback": [OVERRIDDEN, OVERRIDDEN]}
        )
        assert response.status_code == 200
        metrics = (await client.get("/metrics")).text
    assert [(service, item.card) for service, item in stored] == [(GRADING, CARD)] * 2
    assert f'tcell_cds_feedback_total{{outcome="overridden",service="{GRADING}"}} 2.0' in metrics


async def test_75_feedback_survives_the_loss_of_the_store(make_app: Make) -> None:
    async def broken(service: str, items: Sequence[FeedbackItem]) -> None:
        raise OSError("database on fire")

    async with client_of(make_app(feedback=broken)) as client:
        response = await client.post(f"/cds-services/{GRADING}/feedback", json={"feedback": [OVERRIDDEN]})
    assert response.status_code == 200


async def test_76_bad_feedback_names_the_field(cds_client: httpx.AsyncClient) -> None:
    response = await cds_client.post(
        f"/cds-services/{GRADING}/feedback", json={"feedback": [{**OVERRIDDEN, "outcome": "ignored"}]}
    )
    assert response.status_code == 400
    assert response.json()["issue"][0]["expression"] == ["feedback[0].outcome"]


# --- around the answers


async def test_94_cors_for_configured_origins_only(make_app: Make) -> None:
    async with client_of(make_app(cors_origins=("https://ehr.example",))) as client:
        asked = {"Access-Control-Request-Method": "POST"}
        preflight = await client.options(
            f"/cds-services/{GRADING}", headers={"Origin": "https://ehr.example", **asked}
        )
        assert preflight.status_code == 204
        assert preflight.headers["access-control-allow-origin"] == "https://ehr.example"
        assert preflight.headers["access-control-allow-methods"] == "GET, POST"
        assert {"Authorization", "Content-Type"} <= set(
            preflight.headers["access-control-allow-headers"].split(", ")
        )
        assert "access-control-allow-credentials" not in preflight.headers
        answer = await client.get("/cds-services", headers={"Origin": "https://ehr.example"})
        assert answer.headers["access-control-allow-origin"] == "https://ehr.example"
        assert answer.headers["vary"] == "Origin"
        for origin in ("https://evil.example", "null", "https://ehr.example.evil.example"):
            foreign = await client.options("/cds-services", headers={"Origin": origin, **asked})
            assert foreign.status_code == 405
            assert "access-control-allow-origin" not in foreign.headers
            plain = await client.get("/cds-services", headers={"Origin": origin})
            assert "access-control-allow-origin" not in plain.headers


async def test_94_no_cors_at_all_when_unset(cds_client: httpx.AsyncClient) -> None:
    response = await cds_client.get("/cds-services", headers={"Origin": "https://ehr.example"})
    assert not [name for name in response.headers if name.startswith("access-control")]


async def test_request_id_is_returned_and_a_hostile_one_replaced(cds_client: httpx.AsyncClient) -> None:
    given = await cds_client.get("/health/live", headers={"X-Request-Id": "abc-1"})
    assert given.headers["x-request-id"] == "abc-1"
    hostile = await cds_client.get("/health/live", headers={"X-Request-Id": "a b\t<x>"})
    assert hostile.headers["x-request-id"].isalnum()


async def test_health(pulling: httpx.AsyncClient, fhir: FastAPI) -> None:
    assert (await pulling.get("/health/live")).json() == {"status": "live"}
    ready = (await pulling.get("/health/ready")).json()
    assert ready["status"] == "ready"
    assert ready["rules"] > 0
    assert "notOffered" not in ready
    fhir.state.sandbox.faults.append(Fault(FaultKind.STATUS, "Condition", status=404))
    await post_hook(pulling, GRADING, with_server(hook_request("patient-view")))
    ready = (await pulling.get("/health/ready")).json()
    assert ready["notOffered"] == [{"server": SERVER, "types": ["Condition"]}]


async def test_docs_describe_the_real_services(cds_client: httpx.AsyncClient, cds_app: FastAPI) -> None:
    described = (await cds_client.get("/openapi.json")).json()
    for service in cds_app.state.runtime.rulebook.services:
        assert "post" in described["paths"][f"/cds-services/{service}"]


async def test_the_page_of_the_interface_needs_nothing_from_outside(cds_client: httpx.AsyncClient) -> None:
    page = await cds_client.get("/docs")
    assert page.status_code == 200
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(loaded) >= 2
    for address in loaded:
        assert address.startswith("/")
        assert (await cds_client.get(address)).status_code == 200
    assert not re.search(r"https?://", page.text)


async def test_extra_routes_join(make_app: Make) -> None:
    async def page(request: Request) -> PlainTextResponse:
        return PlainTextResponse("page")

    async with client_of(make_app(routes=[Route("/", page)])) as client:
        assert (await client.get("/")).text == "page"


async def test_listeners_see_answers_and_cannot_break_them(make_app: Make) -> None:
    seen: list[Answer] = []

    def broken(answer: Answer) -> None:
        raise RuntimeError("audit on fire")

    app = make_app(listeners=[broken, seen.append])
    async with client_of(app) as client:
        request = hook_request("patient-view", prefetch=filled(app, GRADING))
        cards = await post_hook(client, GRADING, request)
    (answer,) = seen
    assert answer.response["cards"] == cards
    assert answer.run is not None
    assert {trace.rule for trace in answer.run.traces} >= {"grading.crs", "dosing.crs"}


async def test_a_bug_is_a_500_without_stack_trace_or_patient(
    make_app: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise ValueError("Secret Patientname 39.1")

    app = make_app()
    monkeypatch.setattr("cds.pipeline.read_chart", broken)
    with caplog.at_level(logging.DEBUG):
        async with client_of(app) as client:
            request = hook_request("patient-view", prefetch=filled(app, GRADING))
            response = await client.post(f"/cds-services/{GRADING}", json=request)
    assert response.status_code == 500
    assert "Secret" not in response.text
    assert "Secret" not in caplog.text
    assert response.headers["x-request-id"] in response.json()["issue"][0]["diagnostics"]


async def test_logs_and_metrics_hold_nothing_of_the_patient(
    pulling: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        await post_hook(pulling, GRADING, with_server(hook_request("patient-view")))
        metrics = (await pulling.get("/metrics")).text
    clocks = ("created", "msecs", "relativeCreated", "thread", "process")  # any digits may stand in these
    told = [{k: v for k, v in vars(record).items() if k not in clocks} for record in caplog.records]
    metrics = re.sub(r"(_(?:sum|created)\S*) [0-9.e+-]+", r"\1", metrics)
    shown = caplog.text + str(told) + metrics
    for secret in ("t0ken", "p1", "1968", "39.1"):
        assert secret not in shown.replace('le="', "")


@pytest.mark.parametrize("setting", ["site_file", "site_map", "sign_off_file"])
def test_a_broken_file_stops_the_start(make_app: Make, tmp_path: Any, setting: str) -> None:
    path = tmp_path / "broken.toml"
    path.write_text("nonsense = [")
    with pytest.raises(Exception, match=r"broken\.toml"):
        make_app(**{setting: path})


async def test_a_client_has_its_own_budget(make_app: Make) -> None:
    async def known(request: Request) -> str:
        return "https://ehr.example"

    fhir = create_fhir_app([CHART], latency=0.3)
    options: dict[str, Any] = {
        "fhir_transport": httpx.ASGITransport(fhir),
        "budget_seconds": 0.1,
        "evaluation_seconds": 0,
        "client_budgets": {"https://ehr.example": 5},
    }
    request = with_server(hook_request("patient-view"))
    async with client_of(make_app(**options)) as client:
        assert (await client.post(f"/cds-services/{GRADING}", json=request)).status_code == 412
    async with client_of(make_app(authenticate=known, **options)) as client:
        assert (await client.post(f"/cds-services/{GRADING}", json=request)).status_code == 200


# --- what could not be read is said


def forbidden(code: str = "forbidden") -> dict[str, Any]:
    return {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": code}]}


async def test_40_silence_is_explained_where_the_therapy_may_be_hidden(
    cds_client: httpx.AsyncClient, cds_app: FastAPI
) -> None:
    prefetch = filled(cds_app, GRADING, [PATIENT, FEVER]) | {"administrations": forbidden()}
    (card,) = await post_hook(cds_client, GRADING, hook_request("patient-view", prefetch=prefetch))
    finding = card["extension"]["org.tcell-cds.finding"]
    assert (card["indicator"], finding["outcome"]) == ("info", "not-checked")
    assert "drug administrations" in card["summary"]
    assert finding["losses"] == [{"resource": "MedicationAdministration", "reason": "not-fetched"}]
    seen = filled(cds_app, GRADING) | {"procedures": forbidden()}
    cards = await post_hook(cds_client, GRADING, hook_request("patient-view", prefetch=seen))
    assert "could not be read" not in " ".join(card["summary"] for card in cards)


async def test_draft_entries_that_are_no_resource_are_named(
    cds_client: httpx.AsyncClient, cds_app: FastAPI
) -> None:
    orders = {"resourceType": "Bundle", "entry": [{"resource": TARLATAMAB}, {"resource": 5}, None]}
    prefetch = filled(cds_app, STEP_UP, [PATIENT])
    request = hook_request("order-sign", prefetch=prefetch, context={"draftOrders": orders})
    summaries = [card["summary"] for card in await post_hook(cds_client, STEP_UP, request)]
    assert "2 draft entries could not be read and were not checked" in summaries
    assert len(summaries) > 1
    none_of_ours = hook_request("order-sign", prefetch=prefetch, context={"draftOrders": [None]})
    assert await post_hook(cds_client, STEP_UP, none_of_ours) == []


async def test_49_a_key_with_nothing_but_another_patients_data_was_not_read(
    cds_client: httpx.AsyncClient, cds_app: FastAPI
) -> None:
    strange = {**INFUSION, "subject": {"reference": "Patient/p2"}}
    prefetch = filled(cds_app, GRADING, [PATIENT, FEVER]) | {"administrations": bundle(strange)}
    (card,) = await post_hook(cds_client, GRADING, hook_request("patient-view", prefetch=prefetch))
    assert "drug administrations" in card["summary"]
    assert "CRS" not in card["summary"]
    mixed = prefetch | {"administrations": bundle(strange, resource("MedicationAdministration", "m"))}
    assert await post_hook(cds_client, GRADING, hook_request("patient-view", prefetch=mixed)) == []


async def test_49_a_draft_for_another_patient_is_not_judged_and_that_is_said(
    cds_client: httpx.AsyncClient, cds_app: FastAPI
) -> None:
    strange = {**TARLATAMAB, "id": "t9", "subject": {"reference": "Patient/p2"}}
    prefetch = filled(cds_app, STEP_UP)
    request = hook_request("order-sign", prefetch=prefetch, context={"draftOrders": bundle(strange)})
    (card,) = await post_hook(cds_client, STEP_UP, request)
    assert card["indicator"] == "warning"
    assert card["summary"] == "1 draft is written for another patient and was not checked"
    visit = resource("Appointment", "a1", status="proposed", start="2025-05-01T09:00:00+08:00")
    del visit["subject"]
    visit["participant"] = [{"actor": {"reference": "Patient/p2"}, "status": "accepted"}]
    booking = hook_request(
        "appointment-book",
        prefetch=filled(cds_app, "follow-up-appointment-book"),
        context={"appointments": bundle(visit)},
    )
    cards = await post_hook(cds_client, "follow-up-appointment-book", booking)
    assert "another patient" in " ".join(card["summary"] for card in cards)
    uninvolved = {**request, "prefetch": filled(cds_app, STEP_UP, [PATIENT])}
    assert await post_hook(cds_client, STEP_UP, uninvolved) == []


async def test_50_a_full_request_of_a_busy_chart_is_answered_whole(
    cds_client: httpx.AsyncClient, cds_app: FastAPI
) -> None:
    prefetch = filled(cds_app, "all-patient-view")
    labs = [
        observation(f"o{number}", "718-7", 9.1, "g/dL", f"2025-04-{number % 15 + 1:02d}T08:00:00+08:00")
        for number in range(500)
    ]
    prefetch["labs"] = bundle(*labs)
    request = hook_request("patient-view", prefetch=prefetch)
    cards = await post_hook(cds_client, "all-patient-view", request)
    assert "grading.crs" in rules_of(cards)
    assert not any("not checked, the" in card["summary"] for card in cards)
