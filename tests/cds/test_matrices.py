"""SSRF, prefetch states and FHIR faults as matrices over HTTP (contract section 6, checklist 35 to 49)."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from cds.sandbox import Fault, FaultKind, create_fhir_app
from tests.conftest import client_of, hook_request, walk

SERVICE = "grading-patient-view"
SERVER = "http://localhost:8080"
TOKEN = {"access_token": "t0ken", "token_type": "Bearer", "expires_in": 300, "scope": "x", "subject": "y"}
ATC, LOINC = "http://www.whocc.no/atc", "http://loinc.org"
SUBJECT = {"reference": "Patient/p1"}
PATIENT = {"resourceType": "Patient", "id": "p1", "birthDate": "1968-02-11", "gender": "male"}
INFUSION = {
    "resourceType": "MedicationAdministration",
    "id": "cart",
    "status": "completed",
    "subject": SUBJECT,
    "medicationCodeableConcept": {"coding": [{"system": ATC, "code": "L01XL04"}]},
    "effectiveDateTime": "2025-04-12T14:00:00+08:00",
}
FEVER = {
    "resourceType": "Observation",
    "id": "t",
    "status": "final",
    "subject": SUBJECT,
    "category": [{"coding": [{"code": "vital-signs"}]}],
    "code": {"coding": [{"system": LOINC, "code": "8310-5"}]},
    "effectiveDateTime": "2025-04-16T08:10:00+08:00",
    "valueQuantity": {"value": 39.1, "unit": "Cel", "system": "http://unitsofmeasure.org", "code": "Cel"},
}
CHART = [PATIENT, INFUSION, FEVER]
Json = dict[str, Any]
Make = Callable[..., FastAPI]


def searchset(*resources: Json) -> Json:
    entries = [{"resource": item} for item in resources]
    return {"resourceType": "Bundle", "type": "searchset", **({"entry": entries} if entries else {})}


def outcome(code: str) -> Json:
    return {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": code}]}


class Outside(httpx.AsyncBaseTransport):
    """Whatever leaves the machine arrives here."""

    def __init__(self) -> None:
        self.urls: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.urls.append(str(request.url))
        return httpx.Response(200, json=searchset())


# --- SSRF

BAD_SERVERS = [
    *(
        "http://169.254.169.254/latest/meta-data",
        "http://[fd00:ec2::254]/",
        "http://metadata.google.internal/",
    ),
    *(
        "https://evil.example/fhir",
        "http://10.0.0.1/fhir",
        "http://192.168.1.1/",
        "http://[::ffff:10.0.0.1]/",
    ),
    *(
        "http://2130706433/",
        "http://0x7f.1/",
        "http://017700000001/",
        "http://0/",
        "http://127.1.evil.example/",
    ),
    *("http://localhost.evil.example/", "http://localhost@evil.example/", "http://evil.example#@localhost/"),
    *("http://user:pass@localhost/", "http://localhost:80@evil.example/", "http://localhost\\@evil.example/"),
    *("file:///etc/passwd", "gopher://localhost/", "ftp://localhost/", "//evil.example/fhir", "localhost"),
    *(
        "javascript:alert(1)",
        "http://",
        "http:///x",
        "http://localhost:99999/",
        "http://local host/",
        "é://x",
    ),
    *("http://localhost/fhir?x=http://evil.example", "http://localhost/#x", "unix:///var/run/docker.sock"),
    *("http://ⓛocalhost.evil.example/", "http://evil.example:8080/", "https://ehr.example.evil.example/"),
]


@pytest.mark.parametrize("server", BAD_SERVERS)
@pytest.mark.parametrize("allowed", [None, "ehr.example"])
async def test_48_no_call_leaves_for_a_server_that_is_not_listed(
    make_app: Make, server: str, allowed: str | None
) -> None:
    outside = Outside()
    app = make_app(fhir_transport=outside, fhir_allowed_hosts=allowed)
    async with client_of(app) as client:
        request = hook_request("patient-view", fhirServer=server, fhirAuthorization=TOKEN)
        refused = await client.post(f"/cds-services/{SERVICE}", json=request)
        assert refused.status_code == 412
        filled = request | {"prefetch": {"patient": PATIENT, "procedures": searchset(), **_given()}}
        answered = await client.post(f"/cds-services/{SERVICE}", json=filled)
        assert answered.status_code == 200
    assert outside.urls == []


def _given() -> Json:
    return {"administrations": searchset(INFUSION), "vitals": searchset(FEVER)}


@pytest.mark.parametrize(
    "link",
    [
        "https://evil.example/next",
        "//evil.example/next",
        "http://localhost:8081/next",
        "https://localhost:8080/next",
        "http://localhost:8080@evil.example/next",
        "http://user@localhost:8080/next",
        "ftp://localhost:8080/next",
        "http://169.254.169.254/latest",
        "\\\\evil.example\\x",
    ],
)
async def test_46_a_next_link_to_another_origin_is_not_followed(make_app: Make, link: str) -> None:
    outside = Outside()
    vitals = searchset(FEVER) | {"link": [{"relation": "next", "url": link}]}
    prefetch = {"patient": PATIENT, "administrations": searchset(INFUSION), "vitals": vitals}
    request = hook_request("patient-view", prefetch=prefetch, fhirServer=SERVER, fhirAuthorization=TOKEN)
    async with client_of(make_app(fhir_transport=outside)) as client:
        assert (await client.post(f"/cds-services/{SERVICE}", json=request)).status_code == 200
    assert outside.urls  # the other keys were asked for, at the server that was named
    for url in map(httpx.URL, outside.urls):
        assert (url.scheme, url.host, url.port, url.userinfo) == ("http", "localhost", 8080, b"")
        assert not url.path.endswith(("next", "latest"))


# --- prefetch states


@pytest.fixture
def fhir() -> FastAPI:
    found: FastAPI = create_fhir_app([CHART], token="t0ken")  # type: ignore[assignment]
    return found


@pytest.fixture
async def client(make_app: Make, fhir: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    app = make_app(fhir_transport=httpx.ASGITransport(fhir), budget_seconds=10, fhir_retries=0)
    async with client_of(app) as found:
        found.app = app  # type: ignore[attr-defined]
        yield found


def full(app: Any) -> Json:
    prefetch: Json = {key: searchset() for key in app.state.runtime.plans[SERVICE].published}
    return prefetch | {"patient": PATIENT, **_given()}


ABSENT = object()
OTHERS = {**FEVER, "id": "o", "subject": {"reference": "Patient/p2"}}
STATES: list[tuple[str, Any, bool]] = [
    ("absent", ABSENT, True),
    ("null", None, False),
    ("empty searchset", searchset(), False),
    ("found", searchset(FEVER), False),
    ("forbidden", outcome("forbidden"), False),
    ("not supported", outcome("not-supported"), False),
    ("transient", outcome("transient"), True),
    ("timeout", outcome("timeout"), True),
    ("throttled", outcome("throttled"), True),
    ("another patient's", searchset(OTHERS), False),
    ("a wrong type", searchset(PATIENT), False),
    ("entries that are none", {"resourceType": "Bundle", "entry": [None, 1, {}, {"resource": []}]}, False),
    ("outcome entry", {"resourceType": "Bundle", "entry": [{"resource": outcome("x")}]}, False),
]


@pytest.mark.parametrize(("name", "state", "fetched"), STATES, ids=[name for name, _, _ in STATES])
async def test_35_41_the_state_of_a_key_decides_whether_it_is_fetched(
    client: Any, fhir: FastAPI, name: str, state: Any, fetched: bool
) -> None:
    prefetch = full(client.app)
    if state is ABSENT:
        del prefetch["vitals"]
    else:
        prefetch["vitals"] = state
    request = hook_request("patient-view", prefetch=prefetch, fhirServer=SERVER, fhirAuthorization=TOKEN)
    response = await client.post(f"/cds-services/{SERVICE}", json=request)
    assert response.status_code == 200
    asked = [str(item) for item in fhir.state.sandbox.seen]
    assert bool(asked) == fetched, asked
    assert len(asked) <= 2  # no other key is fetched again
    has_fever = "39.1" in response.text
    assert has_fever == (fetched or name == "found")


@pytest.mark.parametrize("state", [ABSENT, outcome("forbidden"), outcome("transient"), None, [], "x", 7])
@pytest.mark.parametrize("key", ["patient", "administrations", "vitals", "labs"])
async def test_43_44_without_a_server_every_state_of_every_key_is_answered(
    cds_client: httpx.AsyncClient, cds_app: FastAPI, key: str, state: Any
) -> None:
    prefetch = full(cds_app)
    if state is ABSENT:
        prefetch.pop(key, None)
    else:
        prefetch[key] = state
    request = hook_request("patient-view", prefetch=prefetch)
    response = await cds_client.post(f"/cds-services/{SERVICE}", json=request)
    assert response.status_code == (412 if key == "patient" else 200)


# --- FHIR faults

FAULTS = [
    *(
        Fault(FaultKind.STATUS, status=status)
        for status in (400, 401, 403, 404, 410, 422, 429, 500, 502, 503)
    ),
    Fault(FaultKind.TRUNCATED),
    Fault(FaultKind.HTML),
    Fault(FaultKind.CONTENT_TYPE),
    Fault(FaultKind.OUTCOME),
    Fault(FaultKind.REDIRECT),
    Fault(FaultKind.FOREIGN_NEXT),
    Fault(FaultKind.ENDLESS_NEXT),
    Fault(FaultKind.DELAY, seconds=0.6),
]
NAMES = [f"{fault.kind}-{fault.status}" if fault.kind is FaultKind.STATUS else fault.kind for fault in FAULTS]


@pytest.mark.parametrize("where", ["", "Patient", "Observation", "MedicationAdministration"])
@pytest.mark.parametrize("fault", FAULTS, ids=NAMES)
async def test_43_44_a_fault_is_a_card_or_a_412_never_a_guess_or_a_crash(
    make_app: Make, fhir: FastAPI, fault: Fault, where: str
) -> None:
    played = copy.copy(fault)
    played.resource_type = where
    fhir.state.sandbox.faults.append(played)
    app = make_app(
        fhir_transport=httpx.ASGITransport(fhir), budget_seconds=2, fhir_retries=0, fhir_timeout_seconds=0.3
    )
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    hooks = {"response": [walk]}
    async with httpx.AsyncClient(
        transport=transport, base_url="http://cds.test", event_hooks=hooks
    ) as client:
        request = hook_request("patient-view", fhirServer=SERVER, fhirAuthorization=TOKEN)
        response = await client.post(f"/cds-services/{SERVICE}", json=request)
    assert response.status_code in (200, 412)
    harmless = fault.kind in (FaultKind.CONTENT_TYPE, FaultKind.FOREIGN_NEXT, FaultKind.ENDLESS_NEXT)
    if where in ("", "Patient") and not harmless:
        assert response.status_code == 412
    if where == "Observation" and not harmless:
        cards = response.json()["cards"]
        assert cards
        losses = [
            loss["reason"]
            for card in cards
            for loss in card["extension"]["org.tcell-cds.finding"].get("losses", ())
        ]
        assert "not-fetched" in losses
    assert all("evil" not in str(item) for item in fhir.state.sandbox.seen)
