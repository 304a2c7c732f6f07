"""Checklist 43-48 and the contract's fault table, one FHIR answer at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
import respx

from cds.access import FailureKind, FhirClient, FhirFailure, OutgoingGuard

BASE = "https://fhir.example.org/r4"
PATIENT = {"resourceType": "Patient", "id": "p1"}
Maker = Callable[..., FhirClient]


@pytest.fixture
def routes() -> respx.Router:
    return respx.Router(assert_all_called=False)


@pytest.fixture
def make(routes: respx.Router) -> Maker:
    def build(**options: object) -> FhirClient:
        transport = httpx.MockTransport(routes.async_handler)
        guard = OutgoingGuard(["fhir.example.org"])
        return FhirClient(guard, transport=transport, **options)  # type: ignore[arg-type]

    return build


async def fetch(client: FhirClient, query: str = "Patient/p1", seconds: float = 5.0) -> dict[str, object]:
    target = client.target(BASE, "t0ken")
    return await client.get(target, target.url(query), time.monotonic() + seconds)


async def failure(client: FhirClient, seconds: float = 5.0) -> FhirFailure:
    with pytest.raises(FhirFailure) as caught:
        await fetch(client, seconds=seconds)
    return caught.value


async def test_46_the_token_of_the_call_is_sent(routes: respx.Router, make: Maker) -> None:
    route = routes.get(f"{BASE}/Patient/p1").respond(json=PATIENT)
    client = make()
    assert await fetch(client) == PATIENT
    request = route.calls.last.request
    assert request.headers["authorization"] == "Bearer t0ken"
    assert request.headers["accept"].startswith("application/fhir+json")
    open_server = client.target(BASE)
    await client.get(open_server, open_server.url("Patient/p1"), time.monotonic() + 5)
    assert "authorization" not in route.calls.last.request.headers


async def test_48_a_host_that_is_not_listed_is_never_called(routes: respx.Router, make: Maker) -> None:
    with pytest.raises(FhirFailure) as caught:
        make().target("https://evil.example/r4", "t0ken")
    assert caught.value.kind is FailureKind.NOT_ALLOWED
    assert not routes.calls


@pytest.mark.parametrize(
    ("status", "kind", "calls"),
    [
        (400, FailureKind.REFUSED, 1),
        (401, FailureKind.UNAUTHORIZED, 1),
        (403, FailureKind.FORBIDDEN, 1),
        (404, FailureKind.NOT_FOUND, 1),
        (410, FailureKind.NOT_FOUND, 1),
        (422, FailureKind.REFUSED, 1),
        (204, FailureKind.REFUSED, 1),
        (429, FailureKind.THROTTLED, 2),
        (500, FailureKind.SERVER_ERROR, 2),
        (501, FailureKind.REFUSED, 1),
        (503, FailureKind.SERVER_ERROR, 2),
    ],
)
async def test_43_status_codes(
    routes: respx.Router, make: Maker, status: int, kind: FailureKind, calls: int
) -> None:
    route = routes.get(f"{BASE}/Patient/p1").respond(status)
    found = await failure(make())
    assert (found.kind, found.status, route.call_count) == (kind, status, calls)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_46_a_redirect_is_never_followed(routes: respx.Router, make: Maker, status: int) -> None:
    routes.get(f"{BASE}/Patient/p1").respond(status, headers={"location": "https://evil.example/steal"})
    evil = routes.get("https://evil.example/steal").respond(json=PATIENT)
    assert (await failure(make())).kind is FailureKind.REDIRECTED
    assert not evil.called


@pytest.mark.parametrize(
    ("body", "media_type", "kind"),
    [
        ("<html>Please log in</html>", "text/html; charset=utf-8", FailureKind.NOT_FHIR),
        ("<html>Please log in</html>", "application/json", FailureKind.NOT_FHIR),
        ("<Patient/>", "application/fhir+xml", FailureKind.NOT_FHIR),
        ('{"resourceType": "Patient", "na', "application/fhir+json", FailureKind.MALFORMED),
        ("[1, 2", "application/fhir+json", FailureKind.MALFORMED),
        ("", "application/fhir+json", FailureKind.NOT_FHIR),
        ("[]", "application/fhir+json", FailureKind.NOT_FHIR),
        ('{"error": "x"}', "application/json", FailureKind.NOT_FHIR),
        ('{"resourceType": 5}', "application/json", FailureKind.NOT_FHIR),
        ("[" * 300 + "]" * 300, "application/json", FailureKind.NOT_FHIR),
    ],
)
async def test_answers_that_are_no_fhir(
    routes: respx.Router, make: Maker, body: str, media_type: str, kind: FailureKind
) -> None:
    routes.get(f"{BASE}/Patient/p1").respond(content=body.encode(), content_type=media_type)
    assert (await failure(make())).kind is kind


@pytest.mark.parametrize("media_type", ["application/json", "text/json", "application/octet-stream", ""])
async def test_fhir_under_an_odd_content_type_is_read(
    routes: respx.Router, make: Maker, media_type: str
) -> None:
    routes.get(f"{BASE}/Patient/p1").respond(
        content=b'{"resourceType": "Patient"}', headers={"content-type": media_type}
    )
    assert (await fetch(make()))["resourceType"] == "Patient"


async def test_an_endless_answer_is_cut(routes: respx.Router, make: Maker) -> None:
    routes.get(f"{BASE}/Patient/p1").respond(
        content=b'{"resourceType": "Patient", "x": "' + b"y" * 3000 + b'"}'
    )
    assert (await failure(make(response_bytes=2048))).kind is FailureKind.TOO_LARGE


async def test_one_bad_answer_is_repeated(routes: respx.Router, make: Maker) -> None:
    route = routes.get(f"{BASE}/Patient/p1")
    route.side_effect = [httpx.Response(503), httpx.Response(200, json=PATIENT)]
    assert await fetch(make()) == PATIENT
    route.side_effect = [httpx.ConnectError("x"), httpx.Response(200, json=PATIENT)]
    assert await fetch(make()) == PATIENT


async def test_repeats_are_bounded(routes: respx.Router, make: Maker) -> None:
    route = routes.get(f"{BASE}/Patient/p1")
    route.side_effect = httpx.ReadError("x")
    assert (await failure(make(retries=2))).kind is FailureKind.UNREACHABLE
    assert route.call_count == 3


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that the client would have waited between its attempts; it waits none."""
    seconds: list[float] = []

    async def sleep(wait: float) -> None:
        seconds.append(wait)

    monkeypatch.setattr("cds.access.fhir_client.asyncio.sleep", sleep)
    return seconds


async def test_retry_after_is_honoured_within_the_budget(
    routes: respx.Router, make: Maker, waits: list[float]
) -> None:
    route = routes.get(f"{BASE}/Patient/p1")
    route.side_effect = [
        httpx.Response(429, headers={"retry-after": "2"}),
        httpx.Response(200, json=PATIENT),
    ]
    assert await fetch(make()) == PATIENT
    assert waits == [2]


@pytest.mark.parametrize("written_as", ["seconds", "date"])
async def test_retry_after_beyond_the_budget_is_not_waited_for(
    routes: respx.Router, make: Maker, waits: list[float], written_as: str
) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(minutes=1), usegmt=True)
    value = "30" if written_as == "seconds" else later
    route = routes.get(f"{BASE}/Patient/p1").respond(429, headers={"retry-after": value})
    found = await failure(make(), seconds=1)
    assert (found.kind, route.call_count) == (FailureKind.THROTTLED, 1)
    assert not waits


async def test_unreadable_retry_after_is_ignored(routes: respx.Router, make: Maker) -> None:
    routes.get(f"{BASE}/Patient/p1").respond(429, headers={"retry-after": "later"})
    assert (await failure(make())).retry_after is None


async def test_a_slow_server_costs_no_more_than_the_deadline(routes: respx.Router, make: Maker) -> None:
    async def slow(request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        return httpx.Response(200, json=PATIENT)

    routes.get(f"{BASE}/Patient/p1").mock(side_effect=slow)
    assert (await failure(make(timeout=3600), seconds=0.1)).kind is FailureKind.TIMEOUT


async def test_no_call_after_the_deadline(routes: respx.Router, make: Maker) -> None:
    route = routes.get(f"{BASE}/Patient/p1").respond(json=PATIENT)
    assert (await failure(make(), seconds=-1)).kind is FailureKind.TIMEOUT
    assert not route.called


@pytest.mark.parametrize(
    ("link", "followed"),
    [
        ("https://fhir.example.org/r4?_getpages=1", "https://fhir.example.org/r4?_getpages=1"),
        ("https://fhir.example.org:443/other", "https://fhir.example.org/other"),
        ("?page=2", "https://fhir.example.org/r4/Observation?page=2"),
        ("/r4/Observation?page=2", "https://fhir.example.org/r4/Observation?page=2"),
        ("http://fhir.example.org/r4?page=2", ""),
        ("https://fhir.example.org:8443/r4?page=2", ""),
        ("https://evil.example/r4?page=2", ""),
        ("//evil.example/r4", ""),
        ("https://x:y@fhir.example.org/r4", ""),
        ("https://[broken", ""),
    ],
)
async def test_46_next_links_stay_on_the_origin(make: Maker, link: str, followed: str) -> None:
    assert make().target(BASE).follow(f"{BASE}/Observation?patient=p1", link) == followed


async def test_the_token_is_in_no_representation(make: Maker) -> None:
    assert "t0ken" not in repr(make().target(BASE, "t0ken"))
