"""Recognisable patient data and tokens go in by every door; none comes out where it must not.

Looked at: every log line that the configured handler writes (all libraries, level DEBUG), the metrics, every
error body, and every row of the store.
"""

from __future__ import annotations

import io
import json
import logging
import sqlite3
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from cds.logs import configure, safe_handler
from cds.sandbox import Fault, FaultKind, create_fhir_app
from cds.wiring import service
from tests.conftest import settings_for_tests

ID = "canary-patient-4711"
WORDS = (
    *(ID, "CanaryFamily", "CanaryGiven", "canary-mrn-0815", "1931-07-19", "0912-canary", "canary-note"),
    *("canary-doctor", "canary-order", "canary-encounter", "canary-comment", "canary-reason", "canary-card"),
    *("canary-token", "canary-jwt", "canary-query", "canary-service", "canary-instance", "canary-value"),
)
LOINC, ATC = "http://loinc.org", "http://www.whocc.no/atc"
GRADING, DOSING = "grading-patient-view", "all-order-sign"
AUTHORIZATION = {
    "access_token": "canary-token",
    "token_type": "Bearer",
    "expires_in": 300,
    "scope": "patient/*.read",
    "subject": "canary-value",
    "patient": ID,
}


def resource(kind: str, name: str, **fields: Any) -> dict[str, Any]:
    subject = {"reference": f"Patient/{ID}", "display": "CanaryFamily"}
    text = {"status": "generated", "div": "<div>canary-note</div>"}
    note = [{"text": "canary-note"}]
    return {"resourceType": kind, "id": name, "subject": subject, "text": text, "note": note, **fields}


PATIENT = {
    "resourceType": "Patient",
    "id": ID,
    "name": [{"family": "CanaryFamily", "given": ["CanaryGiven"]}],
    "identifier": [{"system": "urn:mrn", "value": "canary-mrn-0815"}],
    "telecom": [{"system": "phone", "value": "0912-canary"}],
    "birthDate": "1931-07-19",
    "gender": "female",
}
CHART = [
    PATIENT,
    resource(
        "MedicationAdministration",
        "canary-value-1",
        status="completed",
        medicationCodeableConcept={"coding": [{"system": ATC, "code": "L01XL04"}], "text": "canary-value"},
        effectiveDateTime="2025-04-12T14:00:00+08:00",
    ),
    resource(
        "Observation",
        "canary-value-2",
        status="final",
        code={"coding": [{"system": LOINC, "code": "8310-5", "display": "canary-value"}]},
        effectiveDateTime="2025-04-16T08:10:00+08:00",
        valueQuantity={"value": 39.1, "unit": "canary-value", "code": "Cel"},
    ),
    resource("Observation", "canary-value-3", status="final", code={"text": "canary-value"}),
]
DRAFT = resource(
    "MedicationRequest",
    "canary-order",
    status="draft",
    intent="order",
    medicationCodeableConcept={"coding": [{"system": ATC, "code": "H02AB02"}], "text": "canary-value"},
    dosageInstruction=[{"text": "canary-value"}],
)


def searchset(*resources: Any) -> dict[str, Any]:
    entries = [{"resource": item} for item in resources]
    return {"resourceType": "Bundle", "type": "searchset", **({"entry": entries} if entries else {})}


def body(hook: str = "patient-view", **more: Any) -> dict[str, Any]:
    context: dict[str, Any] = {"userId": "Practitioner/canary-doctor", "patientId": ID}
    context["encounterId"] = "canary-encounter"
    if hook == "order-sign":
        context["draftOrders"] = searchset(DRAFT)
    return {"hook": hook, "hookInstance": "canary-instance", "context": context, **more}


PREFETCH = {
    "patient": PATIENT,
    "administrations": searchset(CHART[1]),
    "vitals": searchset(*CHART[2:]),
    "procedures": None,
}
PULL = {"fhirServer": "http://localhost:8080", "fhirAuthorization": AUTHORIZATION}


class Watched:
    """The service, the log it writes, and what was read of its answers."""

    def __init__(self, app: FastAPI, client: httpx.AsyncClient, log: io.StringIO) -> None:
        self.app, self.client, self.log = app, client, log
        self.bodies: list[str] = []

    async def send(self, status: int, path: str, method: str = "POST", **options: Any) -> httpx.Response:
        response = await self.client.request(method, path, **options)
        assert response.status_code == status, response.text
        if status >= 300:
            self.bodies.append(response.text)
            self.bodies.append(repr(response.headers))
        else:
            assert "canary-token" not in response.text
        return response

    async def leaks(self, database: Path) -> list[str]:
        metrics = (await self.client.get("/metrics")).text
        await self.client.get("/health/ready")
        with sqlite3.connect(database) as connection:
            rows = "\n".join(connection.iterdump())
        places = {
            "log": self.log.getvalue(),
            "metrics": metrics,
            "rows": rows,
            "bodies": "".join(self.bodies),
        }
        return [
            f"{word} in {place}"
            for place, text in places.items()
            for word in WORDS
            if word.lower() in text.lower()
        ]


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    kept = list(root.handlers), root.level
    levels = {name: logging.getLogger(name).level for name in ("httpx", "httpcore", "aiosqlite")}
    configure("DEBUG")
    stream = io.StringIO()
    root.handlers[:] = [safe_handler(stream)]
    yield stream
    root.handlers[:] = kept[0]
    root.setLevel(kept[1])
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def fhir() -> FastAPI:
    found: FastAPI = create_fhir_app([searchset(*CHART)], token="canary-token")  # type: ignore[assignment]
    return found


@pytest.fixture
async def watched(database: Path, log: io.StringIO, fhir: FastAPI) -> AsyncIterator[Watched]:
    settings = settings_for_tests(
        database_url=f"sqlite:///{database}", site_key="a key for tests, nothing secret", budget_seconds=5
    )
    app = service(settings, fhir_transport=httpx.ASGITransport(fhir))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://cds.test") as client,
    ):
        yield Watched(app, client, log)


async def stored(watched: Watched) -> None:
    """Everything queued is in the database: a look at its rows must see it."""
    await watched.app.state.store.writer.idle()


async def test_success(watched: Watched, database: Path) -> None:
    given = await watched.send(200, f"/cds-services/{GRADING}", json=body(prefetch=PREFETCH))
    pulled = await watched.send(200, f"/cds-services/{GRADING}", json=body(**PULL))
    await watched.send(200, f"/cds-services/{DOSING}", json=body("order-sign", prefetch=PREFETCH))
    assert given.json()["cards"]
    assert pulled.json()["cards"]
    await stored(watched)
    with sqlite3.connect(database) as connection:
        assert connection.execute("select count(*) from call").fetchone() == (3,)
    assert '"hook answered"' in watched.log.getvalue()
    assert await watched.leaks(database) == []


async def test_feedback(watched: Watched, database: Path) -> None:
    cards = await watched.send(200, f"/cds-services/{GRADING}", json=body(prefetch=PREFETCH))
    at = datetime.now(UTC).isoformat()
    coding = {"code": "canary-reason", "system": "urn:canary-reason", "display": "canary-reason"}
    reason = {"reason": coding, "userComment": "canary-comment"}
    said = {"outcome": "overridden", "outcomeTimestamp": at, "overrideReason": reason}
    accepted = {"outcome": "accepted", "outcomeTimestamp": at, "acceptedSuggestions": [{"id": "canary-card"}]}
    path = f"/cds-services/{GRADING}/feedback"
    items = [said | {"card": card["uuid"]} for card in cards.json()["cards"]]
    items += [said | {"card": "canary-card"}, accepted | {"card": "canary-card"}]
    await watched.send(200, path, json={"feedback": items})
    await watched.send(400, path, json={"feedback": [said | {"outcome": "canary-reason"}]})
    await watched.send(
        400, path, json={"feedback": [said | {"card": "x", "outcomeTimestamp": "canary-value"}]}
    )
    await stored(watched)
    with sqlite3.connect(database) as connection:
        reasons = {row[0] for row in connection.execute("select reason from feedback")}
    assert reasons == {"unlisted"}
    assert await watched.leaks(database) == []


async def test_refusals(watched: Watched, database: Path) -> None:
    path = f"/cds-services/{GRADING}"
    for status, changes in (
        (400, {"hook": "canary-value"}),
        (400, {"hookInstance": "canary-instance" * 50}),
        (400, {"context": {"patientId": [ID]}}),
        (400, {"context": {"patientId": ID * 30}}),
        (400, {"prefetch": "canary-value"}),
        (400, {"fhirServer": ["canary-value"]}),
        (400, {"fhirServer": "https://x", "fhirAuthorization": {"access_token": "canary-token\n"}}),
        (400, {"fhirAuthorization": AUTHORIZATION}),
        (412, {}),
        (412, {"fhirServer": "https://canary-value.example/", "fhirAuthorization": AUTHORIZATION}),
        (412, {"fhirServer": "http://canary-value@localhost/canary-query"}),
        (412, {"prefetch": {"canary-value": PATIENT}}),
    ):
        await watched.send(status, path, json=body() | changes)
    await watched.send(404, "/cds-services/canary-service?canary-query", json=body())
    await watched.send(404, "/canary-service", "GET", params={"q": "canary-query"})
    await watched.send(405, path, "DELETE", headers={"Authorization": "Bearer canary-jwt"})
    await watched.send(400, path, content=b'{"canary-value": "CanaryFamily')
    await watched.send(400, path, content=json.dumps([PATIENT]).encode())
    await watched.send(415, path, content=b"canary-value", headers={"Content-Type": "text/canary-value"})
    await watched.send(413, path, content=b"x", headers={"Content-Length": "99999999"})
    bad_id = {"X-Request-Id": "canary-value <CanaryFamily>", "Accept-Language": "canary-value"}
    await watched.send(412, path, json=body(), headers=bad_id)
    assert await watched.leaks(database) == []


@pytest.mark.parametrize(
    "fault",
    [
        Fault(FaultKind.STATUS, status=401),
        Fault(FaultKind.STATUS, status=500),
        Fault(FaultKind.TRUNCATED),
        Fault(FaultKind.HTML),
        Fault(FaultKind.OUTCOME),
        Fault(FaultKind.REDIRECT),
        Fault(FaultKind.FOREIGN_NEXT),
        Fault(FaultKind.DELAY, seconds=2),
    ],
    ids=lambda fault: str(fault.kind),
)
async def test_a_fhir_server_that_fails(
    watched: Watched, database: Path, fhir: FastAPI, fault: Fault
) -> None:
    fhir.state.sandbox.faults.append(fault)
    response = await watched.client.post(f"/cds-services/{GRADING}", json=body(**PULL))
    if response.status_code >= 300:
        watched.bodies.append(response.text)
    assert response.status_code in (200, 412)
    assert await watched.leaks(database) == []


class CanaryError(Exception):
    """An exception whose text quotes the chart, as many do."""


def crash(*arguments: Any, **options: Any) -> Any:
    raise CanaryError(f"cannot read CanaryFamily {ID} canary-token {arguments}")


@pytest.mark.parametrize(
    ("place", "status"),
    [
        ("cds.pipeline.parse_request", 500),
        ("cds.pipeline.read_chart", 500),
        ("cds.pipeline.run", 500),
        ("cds.pipeline.render", 500),
        ("cards.render.detail", 500),
        ("cds.engine.run.complete", 500),
        ("cards.render._suggestions", 500),
        ("cds.store.store.answer_rows", 200),
    ],
)
async def test_crashes(
    watched: Watched, database: Path, monkeypatch: pytest.MonkeyPatch, place: str, status: int
) -> None:
    monkeypatch.setattr(place, crash)
    response = await watched.client.post(f"/cds-services/{GRADING}", json=body(prefetch=PREFETCH))
    monkeypatch.undo()
    assert response.status_code == status, response.text
    if response.status_code >= 300:
        watched.bodies.append(response.text)
    assert "CanaryError" in watched.log.getvalue()
    assert await watched.leaks(database) == []


async def test_a_rule_that_crashes(watched: Watched, database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rule = watched.app.state.runtime.rulebook.rules["grading.crs"]
    for found in watched.app.state.runtime.rulebook.services.values():
        rules = tuple(r if r.id != rule.id else _crashing(r) for r in found.rules)
        object.__setattr__(found, "rules", rules)
    response = await watched.send(200, f"/cds-services/{GRADING}", json=body(prefetch=PREFETCH))
    names = [card["source"]["topic"]["code"] for card in response.json()["cards"]]
    assert "grading.crs" in names
    assert "CanaryFamily" not in response.text
    assert '"rule":"grading.crs"' in watched.log.getvalue()
    await stored(watched)
    assert await watched.leaks(database) == []


def _crashing(rule: Any) -> Any:
    from dataclasses import replace

    return replace(rule, evaluate=crash)


async def test_a_store_that_refuses(
    watched: Watched, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Database errors quote the row that they refused."""
    monkeypatch.setattr("cds.store.store.migrate", crash)
    monkeypatch.setattr("cds.store.store.Store._insert", crash)
    await watched.send(200, f"/cds-services/{GRADING}", json=body(prefetch=PREFETCH))
    await stored(watched)
    assert watched.app.state.store.writer.lost > 0
    assert "audit rows lost" in watched.log.getvalue()
    assert await watched.leaks(database) == []


async def test_client_tokens(log: io.StringIO, database: Path) -> None:
    settings = settings_for_tests(
        database_url=f"sqlite:///{database}",
        site_key="a key for tests, nothing secret",
        auth_mode="jwt",
        base_url="https://cds.example",
        jwt_clients={"https://ehr.example": {"jku": ["https://ehr.example/keys"]}},
    )
    app = service(settings)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://cds.test") as client,
    ):
        watched = Watched(app, client, log)
        for given in ("Bearer canary-jwt", "Bearer canary-jwt.canary-jwt.canary-jwt", "Basic canary-jwt"):
            await watched.send(401, f"/cds-services/{GRADING}", json=body(), headers={"Authorization": given})
        assert await watched.leaks(database) == []
