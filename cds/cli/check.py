"""`tcell-cds check`: the conformance checklist against a running service, over HTTP, from outside.

Each probe names the checklist items that it answers. A service that lacks the data answers 412, which is as
good as 200 wherever the question was not about data.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
from rich.table import Table
from rich.text import Text

from cds.cli.console import out
from cds.cli.ehr import CallError, FhirServer, Service, discover, prefetched
from cds.cli.fixtures import load_story, story_names
from cds.cli.shift import shifted
from cds.protocol.hooks import HOOKS
from cds.protocol.walker import discovery_problems, error_problems, fhir_fault, problems
from cds.settings import is_loopback

Json = Mapping[str, Any]

DATA = (200, 412)  # answered, or said that it lacks the data
_TOLD = 6  # faults named in one line of the table


class Verdict(StrEnum):
    PASS = "pass"
    FAIL = "fail"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table: checklist items, what is asked, the verdict and why."""

    items: str
    text: str
    verdict: Verdict
    why: str = ""

    def as_json(self) -> dict[str, str]:
        entry = {"items": self.items, "text": self.text, "verdict": self.verdict.value, "why": self.why}
        return {key: value for key, value in entry.items() if value}


def _line(items: str, text: str, faults: list[str]) -> Line:
    if not faults:
        return Line(items, text, Verdict.PASS)
    more = f" (and {len(faults) - _TOLD} more)" if len(faults) > _TOLD else ""
    return Line(items, text, Verdict.FAIL, "; ".join(faults[:_TOLD]) + more)


@dataclass
class Probe:
    """A service under test. `answers` collects every hook answer for the response walker."""

    client: httpx.AsyncClient
    base: str
    services: dict[str, Service] = field(default_factory=dict)
    answers: list[tuple[str, Any]] = field(default_factory=list)
    needs_token: bool = False

    def body(self, service: Service, **changes: Any) -> dict[str, Any]:
        """A hook request with an empty chart: the patient, and nothing on every other key."""
        context: dict[str, Any] = {"userId": "Practitioner/check", "patientId": "check"}
        draft = {
            "resourceType": "MedicationRequest",
            "id": "check-1",
            "status": "draft",
            "intent": "order",
            "subject": {"reference": "Patient/check"},
            "medicationCodeableConcept": {"text": "conformance check"},
        }
        if service.hook in ("order-select", "order-sign"):
            context["draftOrders"] = {"resourceType": "Bundle", "entry": [{"resource": draft}]}
        if service.hook == "order-select":
            context["selections"] = ["MedicationRequest/check-1"]
        if service.hook.startswith("encounter-"):
            context["encounterId"] = "check"
        if service.hook == "appointment-book":
            appointment = {
                "resourceType": "Appointment",
                "id": "check-2",
                "status": "proposed",
                "participant": [{"actor": {"reference": "Patient/check"}, "status": "needs-action"}],
            }
            context["appointments"] = {"resourceType": "Bundle", "entry": [{"resource": appointment}]}
        prefetch: dict[str, Any] = dict.fromkeys(service.prefetch)
        if "patient" in prefetch:
            prefetch["patient"] = {"resourceType": "Patient", "id": "check"}
        body = {"hook": service.hook, "hookInstance": str(uuid4()), "context": context, "prefetch": prefetch}
        return {**body, **changes}

    async def post(self, service: str, **sent: Any) -> httpx.Response:
        response = await self.client.post(f"{self.base}/cds-services/{service}", **sent)
        if response.status_code == 200:
            self.answers.append((service, _json(response)))
        return response

    async def ask(self, service: Service, **changes: Any) -> httpx.Response:
        return await self.post(service.id, json=self.body(service, **changes))


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None


def _refusal(response: httpx.Response, *statuses: int) -> list[str]:
    """Faults of an answer that must be a refusal with one of the statuses."""
    if response.status_code not in statuses:
        return [f"answered {response.status_code}, not {' or '.join(map(str, statuses))}"]
    return error_problems(response.status_code, _json(response))


def _status(response: httpx.Response, *statuses: int) -> list[str]:
    if response.status_code in statuses:
        return []
    return [f"answered {response.status_code}, not {' or '.join(map(str, statuses))}"]


# --- discovery


async def _discovery(probe: Probe) -> AsyncIterator[Line]:
    response = await probe.client.get(f"{probe.base}/cds-services")
    if response.status_code == 401:
        probe.needs_token = True
        yield Line("17", "discovery asks for a client token", Verdict.PASS)
        yield _line("45, 93", "the refusal is an OperationOutcome and says Bearer", _unauthorized(response))
        return
    body = _json(response)
    faults = _status(response, 200)
    if not response.headers.get("content-type", "").startswith("application/json"):
        faults.append(f"content type {response.headers.get('content-type')}")
    if not isinstance(body, dict) or not isinstance(body.get("services"), list):
        yield _line("1, 2", "discovery is a JSON object with an array of services", [*faults, "no services"])
        return
    yield _line("1, 2", "discovery is a JSON object with an array of services", faults)
    yield _line("3-15, 18", "every service is described as the specification asks", discovery_problems(body))
    untitled = [str(s.get("id")) for s in body["services"] if isinstance(s, dict) and not s.get("title")]
    yield _line("6", "every service has a title", [f"{name} has none" for name in untitled])
    probe.services = await discover(probe.client, probe.base)


def _unauthorized(response: httpx.Response) -> list[str]:
    faults = _refusal(response, 401)
    if not response.headers.get("www-authenticate", "").lower().startswith("bearer"):
        faults.append("no WWW-Authenticate: Bearer")
    return faults


async def _every_service(probe: Probe) -> AsyncIterator[Line]:
    unknown = [s.id for s in probe.services.values() if s.hook not in HOOKS]
    for name in unknown:
        yield Line("3", f"{name}: its hook is in the hook library", Verdict.SKIP, "not known here")
    faults: list[str] = []
    slowest = 0.0
    for service in probe.services.values():
        if service.id in unknown:
            continue
        started = time.perf_counter()
        response = await probe.ask(service)
        slowest = max(slowest, time.perf_counter() - started)
        faults += [f"{service.id} {fault}" for fault in _status(response, *DATA)]
    yield _line("5, 20, 38", "every service answers a call whose keys are null", faults)
    late = [f"the slowest took {slowest * 1000:.0f} ms"] if slowest > 0.5 else []
    yield _line("50", "answers within 500 ms where nothing must be fetched", late)


# --- requests that must be refused, or must not be


Change = Callable[[dict[str, Any]], object]


def _without(*names: str) -> Change:
    def change(body: dict[str, Any]) -> None:
        for name in names:
            body.pop(name, None)

    return change


def _with(**values: Any) -> Change:
    return lambda body: body.update(values)


def _in_context(**values: Any) -> Change:
    return lambda body: body["context"].update(values)


_NESTED = '{"a":' * 10_000 + "1" + "}" * 10_000

REFUSED: tuple[tuple[str, str, Change], ...] = (
    ("21", "no hook", _without("hook")),
    ("21", "no hookInstance", _without("hookInstance")),
    ("21", "an empty hookInstance", _with(hookInstance="")),
    ("21", "no context", _without("context")),
    ("21", "a context that is no object", _with(context="x")),
    ("21", "no patient", lambda body: body["context"].pop("patientId")),
    ("22", "a hookInstance of 300 characters", _with(hookInstance="x" * 300)),
    ("23", "the hook of another service", _with(hook="medication-refill")),
    ("24", "fhirAuthorization without fhirServer", _with(fhirAuthorization={"access_token": "x"})),
)
ACCEPTED: tuple[tuple[str, str, Change], ...] = (
    ("22", "a hookInstance that is no UUID", _with(hookInstance="call-1")),
    ("27", "unknown fields", _with(vendor={"a": 1})),
    ("27", "unknown context fields", _in_context(vendor="x")),
    ("28", "an extension with unknown keys", _with(extension={"com.example.x": {"y": 1}})),
    ("29", "an unknown prefetch key", lambda body: body["prefetch"].update(vendor=None)),
    ("30", "patientId written as Patient/id", _in_context(patientId="Patient/check")),
    ("31", "a badly written userId", _in_context(userId="dr who")),
)
BROKEN: tuple[tuple[str, str, bytes, str, tuple[int, ...]], ...] = (
    ("33", "a body that is not JSON", b"{", "application/json", (400,)),
    ("33", "a JSON array", b"[]", "application/json", (400,)),
    ("33", "NaN", b'{"hook": NaN}', "application/json", (400,)),
    ("33", "10 000 nested objects", _NESTED.encode(), "application/json", (400, 413)),
    ("32", "text/plain", b"hook", "text/plain", (400, 415)),
)


async def _requests(probe: Probe) -> AsyncIterator[Line]:
    service = _first(probe)
    for items, text, change in REFUSED:
        body = probe.body(service)
        change(body)
        yield _line(
            items, f"refused with 400: {text}", _refusal(await probe.post(service.id, json=body), 400)
        )
    for items, text, change in ACCEPTED:
        body = probe.body(service)
        change(body)
        yield _line(items, f"accepted: {text}", _status(await probe.post(service.id, json=body), *DATA))
    for items, text, content, kind, statuses in BROKEN:
        response = await probe.post(service.id, content=content, headers={"Content-Type": kind})
        yield _line(items, f"refused: {text}", _refusal(response, *statuses))
    charset = {"Content-Type": "application/json; charset=utf-8"}
    response = await probe.client.post(
        f"{probe.base}/cds-services/{service.id}", json=probe.body(service), headers=charset
    )
    yield _line("32", "accepted: a content type with charset", _status(response, *DATA))
    text_expiry = {"access_token": "x", "token_type": "Bearer", "expires_in": "300"}
    response = await probe.ask(service, fhirServer="https://fhir.invalid/r4", fhirAuthorization=text_expiry)
    yield _line("25", "accepted: expires_in as text, no scope", _status(response, *DATA))
    missing = await probe.post("no-such-service", json=probe.body(service))
    yield _line("19, 45", "an unknown service is 404", _refusal(missing, 404))
    wrong = await probe.client.put(f"{probe.base}/cds-services/{service.id}", json={})
    yield _line("19", "a wrong method is 404 or 405", _refusal(wrong, 404, 405))


def _first(probe: Probe) -> Service:
    """A service that needs the least: patient-view where there is one."""
    known = [service for service in probe.services.values() if service.hook in HOOKS]
    return next((service for service in known if service.hook == "patient-view"), known[0])


# --- data


async def _data(probe: Probe) -> AsyncIterator[Line]:
    service = _first(probe)
    body = probe.body(service)
    body.pop("prefetch")
    if service.prefetch:
        yield _line("43, 45", "no data at all is 412", _refusal(await probe.post(service.id, json=body), 412))
    else:
        yield Line("43", "no data at all is 412", Verdict.SKIP, "the service asks for no prefetch")
    empty = {"resourceType": "Bundle", "type": "searchset", "total": 0}
    outcome = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "exception"}]}
    stranger = {
        "resourceType": "Bundle",
        "type": "searchset",
        "entry": [
            {"resource": {"resourceType": "Condition", "id": "c", "subject": {"reference": "Patient/x"}}}
        ],
    }
    patient = probe.body(service)["prefetch"].get("patient")
    for items, text, value in (
        ("39", "an empty searchset is no data, not an error", empty),
        ("49", "another patient's data do no harm", stranger),
    ):
        prefetch = dict.fromkeys(service.prefetch, value) | ({"patient": patient} if patient else {})
        yield _line(items, text, _status(await probe.ask(service, prefetch=prefetch), 200))
    keys = [key for key in service.prefetch if key != "patient"]
    broken = probe.body(service)["prefetch"] | dict.fromkeys(keys[-1:], outcome)
    yield _line(
        "40, 44", "one key that failed is not fatal", _status(await probe.ask(service, prefetch=broken), 200)
    )
    started = time.perf_counter()
    response = await probe.ask(service, prefetch={}, fhirServer="https://192.0.2.1/fhir")
    faults = _status(response, *DATA)
    if time.perf_counter() - started > 5:
        faults.append("took more than 5 s")
    yield _line("48", "a FHIR server that is not allowed costs no time", faults)
    body = probe.body(service)
    first, second = [_json(await probe.post(service.id, json=body)) for _ in range(2)]
    yield _line(
        "34", "the same call twice gives the same answer", [] if first == second else ["answers differ"]
    )


async def _charts(probe: Probe) -> AsyncIterator[Line]:
    """The demo patients, moved to now, so that there are real cards to judge."""
    from cds.sandbox import create_fhir_app

    names = story_names()
    faults: list[str] = []
    cards = 0
    for name in names:
        story = load_story(name)
        span = datetime.now(UTC) - story.clock if story.clock is not None else None
        bundle = story.bundle if span is None else shifted(story.bundle, span)
        transport = httpx.ASGITransport(create_fhir_app([bundle]))
        async with httpx.AsyncClient(transport=transport) as fhir:
            for service in probe.services.values():
                if service.hook != "patient-view":
                    continue
                context = {"userId": "Practitioner/check", "patientId": name}
                server = FhirServer("http://fhir.invalid")
                prefetch = await prefetched(fhir, server, service.prefetch, context)
                response = await probe.ask(service, context=context, prefetch=prefetch)
                faults += [f"{service.id}, {name}: {fault}" for fault in _status(response, 200)]
                answer = _json(response)
                cards += len(answer.get("cards", [])) if isinstance(answer, dict) else 0
    yield _line("20, 51", f"{len(names)} demo patients are answered ({cards} cards)", faults)


async def _responses(probe: Probe) -> AsyncIterator[Line]:
    """Every answer seen so far, through the response walker."""
    faults = [
        f"{service}: {fault}"
        for service, answer in probe.answers
        for fault in problems(answer, validate_fhir=fhir_fault)
    ]
    text = f"every card is conformant ({len(probe.answers)} answers)"
    yield _line("51-73", text, list(dict.fromkeys(faults)))
    response = await probe.ask(_first(probe))
    kind = response.headers.get("content-type", "")
    right = kind.startswith("application/json")
    yield _line("74", "answers are application/json", [] if right else [f"content type {kind}"])


# --- feedback


def _item(outcome: str, **changes: Any) -> dict[str, Any]:
    stamp = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return {"card": str(uuid4()), "outcome": outcome, "outcomeTimestamp": stamp} | changes


async def _feedback(probe: Probe) -> AsyncIterator[Line]:
    service = _first(probe).id
    accepted = _item("accepted", acceptedSuggestions=[{"id": str(uuid4())}])
    overridden = _item("overridden")
    sandbox = _item("overridden", overrideReason={"reason": {"code": "other"}})
    commented = _item("overridden", overrideReason={"userComment": "check"})
    offset = _item("overridden", outcomeTimestamp="2025-04-16T10:00:00+08:00")
    good = (
        ("75, 81", "feedback on a card that nobody knows is taken", [accepted]),
        ("78", "overridden without a reason is taken", [overridden]),
        ("78", "a reason without system and display is taken", [sandbox]),
        ("78, 83", "a comment alone is taken", [commented]),
        ("79", "a time stamp with an offset is taken", [offset]),
        ("80", "several items, and one twice, are taken", [accepted, overridden, accepted]),
    )
    for items, text, feedback in good:
        response = await probe.client.post(
            f"{probe.base}/cds-services/{service}/feedback", json={"feedback": feedback}
        )
        fine = 200 <= response.status_code < 300
        yield _line(items, text, [] if fine else [f"answered {response.status_code}"])
    bad = (
        ("76", "an unknown outcome is refused", [_item("ignored")]),
        ("77", "accepted without a suggestion is refused", [_item("accepted")]),
        ("79", "an unreadable time stamp is refused", [_item("overridden", outcomeTimestamp="soon")]),
    )
    for items, text, feedback in bad:
        response = await probe.client.post(
            f"{probe.base}/cds-services/{service}/feedback", json={"feedback": feedback}
        )
        yield _line(items, text, _refusal(response, 400))
    response = await probe.client.post(
        f"{probe.base}/cds-services/no-such-service/feedback", json={"feedback": [overridden]}
    )
    yield _line("75", "feedback for an unknown service is 404", _refusal(response, 404))


# --- security

# {"alg": "none", "typ": "JWT"} and {"alg": "HS256", "typ": "JWT"} over {"iss": "check"}, without a key.
_UNSIGNED = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJpc3MiOiJjaGVjayJ9."
_SYMMETRIC = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJjaGVjayJ9.AAAA"


async def _security(probe: Probe) -> AsyncIterator[Line]:
    parts = urlsplit(probe.base)
    outside = parts.scheme == "http" and not is_loopback(parts.hostname or "")
    yield _line("84", "TLS outside this machine", ["plain http"] if outside else [])
    url = f"{probe.base}/cds-services"
    for name, token in (("unsigned", _UNSIGNED), ("symmetric", _SYMMETRIC), ("garbage", "x")):
        text = f"a client token that is {name} is refused"
        if not probe.needs_token:
            yield Line("86, 88", text, Verdict.SKIP, "the service asks for no client token")
            continue
        response = await probe.client.get(url, headers={"Authorization": f"Bearer {token}"})
        yield _line("86, 88, 93", text, _unauthorized(response))
    preflight = {
        "Origin": "https://unheard-of.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    response = await probe.client.options(url, headers=preflight)
    allowed = response.headers.get("access-control-allow-origin", "")
    faults = [f"allows {allowed}"] if allowed in ("*", preflight["Origin"]) else []
    if response.status_code >= 500:
        faults.append(f"answered {response.status_code}")
    yield _line("94", "an unknown browser origin is not let in", faults)


async def run(probe: Probe) -> AsyncIterator[Line]:
    """Every line of the table, in the order of the checklist. Raises httpx.HTTPError where nobody answers."""
    async for line in _discovery(probe):
        yield line
    if any(service.hook in HOOKS for service in probe.services.values()):
        for part in (_every_service, _requests, _data, _charts, _responses, _feedback):
            try:
                async for line in part(probe):
                    yield line
            except (httpx.HTTPError, CallError) as error:
                yield Line(
                    "-", f"{part.__name__.strip('_')} came to an end", Verdict.FAIL, type(error).__name__
                )
    async for line in _security(probe):
        yield line


_COLOURS = {Verdict.PASS: "green", Verdict.FAIL: "bold red", Verdict.SKIP: "dim"}


def print_lines(lines: list[Line], base: str) -> None:
    table = Table(title=f"CDS Hooks conformance of {base}", title_justify="left")
    for heading in ("items", "check", "", "why"):
        table.add_column(heading, overflow="fold")
    for line in lines:
        verdict = Text(line.verdict.value, style=_COLOURS[line.verdict])
        table.add_row(Text(line.items), Text(line.text), verdict, Text(line.why))
    out.print(table)
    failed = sum(line.verdict is Verdict.FAIL for line in lines)
    skipped = sum(line.verdict is Verdict.SKIP for line in lines)
    out.print(Text(f"{len(lines)} checks, {failed} failed, {skipped} not applicable"))
