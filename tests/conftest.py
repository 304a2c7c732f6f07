"""Shared by all tests: a client of the service whose every answer passes the response walker.

`cds_client` talks to the application in process, clock frozen. `post_hook` sends one hook request and gives
the cards. Both fail the test where the walker finds a problem in an answer of any kind.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import hypothesis
import orjson
import pytest
from fastapi import FastAPI

from cds.app import create_app
from cds.protocol.walker import (
    discovery_problems,
    error_problems,
    fhir_fault,
    house_problems,
    problems,
)
from cds.settings import Settings, load

Json = Mapping[str, Any]

# a busy machine is no bug: no time limit per example
hypothesis.settings.register_profile(
    "house", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("house")


@pytest.hookimpl(tryfirst=True)  # before xdist looks at the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that start programs of their own take turns in one worker, so as not to crowd each other."""
    for item in items:
        if any(item.get_closest_marker(name) for name in ("integration", "browser")):
            item.add_marker(pytest.mark.xdist_group("programs"))


FROZEN = datetime(2025, 4, 16, 10, tzinfo=ZoneInfo("Asia/Taipei"))
INSTANCE = "0b6f9f0e-6d2e-4d0c-8a60-1f6f3a2f7d11"


def settings_for_tests(**changes: Any) -> Settings:
    """Defaults, independent of the machine's environment, clock frozen."""
    return load(_env_file=None, **({"clock": FROZEN} | changes))


async def walk(response: httpx.Response) -> None:
    """Fail where an answer breaks CDS Hooks or the contract; an httpx response hook."""
    await response.aread()
    path, method = response.request.url.path, response.request.method
    if response.status_code >= 300:
        found = error_problems(response.status_code, response.json())
    elif method == "GET" and path == "/cds-services":
        found = discovery_problems(response.json())
    elif method == "POST" and path.startswith("/cds-services/") and not path.endswith("/feedback"):
        sent = orjson.loads(response.request.content)
        found = problems(response.json(), drafts=_drafts(sent), validate_fhir=fhir_fault)
        found += house_problems(response.json())
    else:
        return
    assert not found, "\n".join([f"{method} {path}", *found])


def _drafts(request: Any) -> dict[str, Json]:
    """What updates and deletes may name: the hook's draft orders and appointments."""
    context = request.get("context", {})
    found: dict[str, Json] = {}
    for name in ("draftOrders", "appointments"):
        held = context.get(name) or {}
        entries = held.get("entry", [held]) if isinstance(held, dict) else held
        for entry in entries or ():
            resource = entry.get("resource", entry) if isinstance(entry, dict) else None
            if isinstance(resource, dict) and "id" in resource:
                found[f"{resource.get('resourceType')}/{resource['id']}"] = resource
    return found


def client_of(app: FastAPI) -> httpx.AsyncClient:
    """An HTTP client bound to the application, every answer walked."""
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url="http://cds.test",
        event_hooks={"response": [walk]},
    )


def hook_request(
    hook: str,
    patient: str = "p1",
    *,
    prefetch: Json | None = None,
    context: Json | None = None,
    **more: Any,
) -> dict[str, Any]:
    """A complete hook request; `context` and `more` add or replace fields."""
    fields: dict[str, Any] = {"userId": "Practitioner/d1", "patientId": patient, **(context or {})}
    request: dict[str, Any] = {"hook": hook, "hookInstance": INSTANCE, "context": fields, **more}
    if prefetch is not None:
        request["prefetch"] = prefetch
    return request


async def post_hook(
    client: httpx.AsyncClient, service: str, request: Json, *, language: str = ""
) -> list[dict[str, Any]]:
    """The cards of one call; fails on any status but 200."""
    headers = {"Accept-Language": language} if language else {}
    response = await client.post(f"/cds-services/{service}", json=request, headers=headers)
    assert response.status_code == 200, response.text
    cards: list[dict[str, Any]] = response.json()["cards"]
    return cards


@pytest.fixture(scope="session")
def cds_app() -> FastAPI:
    """The service with default settings and a frozen clock; built once, it holds no state of a test."""
    return create_app(settings_for_tests())


@pytest.fixture
async def cds_client(cds_app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(cds_app) as client:
        yield client


@pytest.fixture
def make_app() -> Callable[..., FastAPI]:
    """`make_app(max_cards=3, feedback=sink)`: settings by name, the rest goes to create_app."""

    def make(**options: Any) -> FastAPI:
        wired = {
            key: options.pop(key)
            for key in ("fhir_transport", "authenticate", "feedback", "listeners", "routes")
            if key in options
        }
        return create_app(settings_for_tests(**options), **wired)

    return make
