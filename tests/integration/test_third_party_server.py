"""The service against a FHIR R4 server that this project did not write (Medplum's router, in memory).

Needs Node and the packages of tests/integration/medplum (`npm ci` there); skipped with the reason otherwise.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from cds.app import create_app
from cds.cli.ehr import FhirServer, discover, prefetched
from tests.casebook.build_fixtures import FIXTURES
from tests.conftest import settings_for_tests, walk

pytestmark = pytest.mark.integration

SERVER = Path(__file__).parent / "medplum"
TOKEN = "integration-token"
REQUESTS = sorted((FIXTURES / "requests").glob("*.json"))
CALLS = [(path, service) for path in REQUESTS for service in json.loads(path.read_bytes())["services"]]
FHIR_JSON = {"Content-Type": "application/fhir+json", "Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="session")
def fhir() -> Iterator[str]:
    """Base URL of the running server; every demo patient has a repository of its own at <base>/<name>."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node is not installed")
    if not (SERVER / "node_modules").is_dir():
        pytest.skip("the FHIR server's packages are not installed: run npm ci in tests/integration/medplum")
    process = subprocess.Popen(
        [node, "server.mjs", "0"],
        cwd=SERVER,
        env={"PATH": str(Path(node).parent), "FHIR_TOKEN": TOKEN},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("listening "), line
        base = f"http://127.0.0.1:{int(line.split()[1])}"
        with httpx.Client(timeout=120) as client:
            for path in sorted((FIXTURES / "patients").glob("*.json")):
                answer = client.post(f"{base}/{path.stem}", content=path.read_bytes(), headers=FHIR_JSON)
                assert answer.status_code == 200, answer.text[:400]
                statuses = {entry["response"]["status"] for entry in answer.json()["entry"]}
                assert statuses <= {"200", "201"}, statuses
        yield base
    finally:
        process.terminate()
        process.wait(10)
        if process.stdout is not None:
            process.stdout.close()


@pytest.fixture
async def cds_transport() -> AsyncIterator[httpx.ASGITransport]:
    """The service, its connections closed in the loop that opened them."""
    clock = datetime.fromisoformat(json.loads(REQUESTS[0].read_bytes())["clock"])
    settings = settings_for_tests(clock=clock, budget_seconds=60, fhir_timeout_seconds=30)
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        yield httpx.ASGITransport(app=app)


def _authorization(token: str = TOKEN) -> dict[str, Any]:
    return {
        "access_token": token,
        "token_type": "Bearer",
        "expires_in": 300,
        "scope": "patient/*.read",
        "subject": "integration",
    }


async def _ask(transport: httpx.ASGITransport, service: str, body: dict[str, Any]) -> httpx.Response:
    async with httpx.AsyncClient(
        transport=transport, base_url="http://cds.test", event_hooks={"response": [walk]}
    ) as client:
        return await client.post(f"/cds-services/{service}", json=body)


@pytest.mark.parametrize(("path", "service"), CALLS, ids=lambda v: v.stem if isinstance(v, Path) else v)
async def test_pull_from_the_third_party_server_gives_the_cards_of_prefetch(
    path: Path, service: str, fhir: str, cds_transport: httpx.ASGITransport
) -> None:
    saved = json.loads(path.read_bytes())
    body = {**saved["request"], "hookInstance": "7c1f3b0e-52a4-4b43-9d0c-2f0f6c7f1a10"}
    async with (
        httpx.AsyncClient(transport=cds_transport, base_url="http://cds.test") as cds,
        httpx.AsyncClient(timeout=60) as client,
    ):
        services = await discover(cds, "http://cds.test")
        filled = await prefetched(
            client, FhirServer(f"{fhir}/{saved['story']}", TOKEN), services[service].prefetch, body["context"]
        )
    pushed = await _ask(cds_transport, service, {**body, "prefetch": filled})
    pulled = await _ask(
        cds_transport,
        service,
        {**body, "fhirServer": f"{fhir}/{saved['story']}", "fhirAuthorization": _authorization()},
    )
    assert pushed.status_code == pulled.status_code == 200
    assert pushed.json() == pulled.json()


@pytest.mark.parametrize("name", [path.stem for path in sorted((FIXTURES / "patients").glob("*.json"))])
async def test_every_domain_answers_for_every_demo_patient(
    name: str, fhir: str, cds_transport: httpx.ASGITransport
) -> None:
    body = {
        "hook": "patient-view",
        "hookInstance": "7c1f3b0e-52a4-4b43-9d0c-2f0f6c7f1a10",
        "fhirServer": f"{fhir}/{name}",
        "fhirAuthorization": _authorization(),
        "context": {"userId": "Practitioner/demo", "patientId": name},
    }
    response = await _ask(cds_transport, "all-patient-view", body)
    assert response.status_code == 200, response.text[:300]
    not_read = "not-fetched"
    assert not_read not in response.text


async def test_a_refused_token_is_412_and_nothing_else(fhir: str, cds_transport: httpx.ASGITransport) -> None:
    body = {
        "hook": "patient-view",
        "hookInstance": "7c1f3b0e-52a4-4b43-9d0c-2f0f6c7f1a10",
        "fhirServer": f"{fhir}/demo-crs-grade-3",
        "fhirAuthorization": _authorization("wrong"),
        "context": {"userId": "Practitioner/demo", "patientId": "demo-crs-grade-3"},
    }
    response = await _ask(cds_transport, "grading-patient-view", body)
    assert response.status_code == 412
    assert "wrong" not in response.text
