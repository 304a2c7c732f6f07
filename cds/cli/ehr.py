"""The EHR's side of CDS Hooks: discovery, the hook request, prefetch filled from a FHIR server, the call."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx

from cds.cli.console import USAGE, fail, read_json
from cds.protocol.hooks import HOOKS, FieldKind, Presence

Json = Mapping[str, Any]

_TOKEN = re.compile(r"\{\{(.*?)\}\}")
_FHIR_JSON = "application/fhir+json"


class CallError(Exception):
    """The service or the FHIR server did not answer as it must. `body` is what came instead."""

    def __init__(self, text: str, body: object = None) -> None:
        super().__init__(text)
        self.body = body


@dataclass(frozen=True, slots=True)
class Service:
    """One entry of the discovery answer."""

    id: str
    hook: str
    prefetch: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class FhirServer:
    """Where the patient's data are; `token` "" = open server."""

    base: str
    token: str = field(default="", repr=False)

    @property
    def headers(self) -> dict[str, str]:
        headers = {"Accept": _FHIR_JSON}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        return headers


@dataclass(frozen=True, slots=True)
class Question:
    """What a hook is fired with, beside the patient's data."""

    patient: str
    user: str = "Practitioner/example"
    encounter: str = ""
    drafts: tuple[Json, ...] = ()
    selected: tuple[str, ...] = ()  # ids or Type/id; () = all drafts
    appointments: tuple[Json, ...] = ()
    hook_instance: str = ""


def resources_of(paths: Iterable[Path], name: str) -> tuple[dict[str, Any], ...]:
    """Resources of the files: each a resource, a list or a Bundle. Those without an id get one."""
    found: list[dict[str, Any]] = []
    for path in paths:
        data = read_json(path)
        if isinstance(data, dict) and data.get("resourceType") == "Bundle":
            data = [entry.get("resource") for entry in data.get("entry") or () if isinstance(entry, dict)]
        items = data if isinstance(data, list) else [data]
        for item in items:
            if not isinstance(item, dict) or not isinstance(item.get("resourceType"), str):
                fail(f"{path}: a FHIR resource or Bundle is expected", USAGE)
            found.append(item if item.get("id") else {**item, "id": f"{name}-{len(found) + 1}"})
    return tuple(found)


def hook_context(hook: str, question: Question) -> dict[str, Any]:
    """The context that the hook's definition asks for. Raises CallError where a required part is missing."""
    spec = HOOKS.get(hook)
    if spec is None:
        raise CallError(f"the service answers the hook {hook}, which is not known here")
    references = [f"{draft['resourceType']}/{draft['id']}" for draft in question.drafts]
    chosen = [r for r in references if r in question.selected or r.partition("/")[2] in question.selected]
    if question.selected and len(chosen) != len(set(question.selected)):
        raise CallError(f"--select names no given order; there are {', '.join(references) or 'none'}")
    values: dict[str, Any] = {
        "userId": question.user,
        "patientId": question.patient,
        "encounterId": question.encounter,
        "draftOrders": _bundle(question.drafts),
        "selections": chosen or references,
        "appointments": _bundle(question.appointments),
    }
    context: dict[str, Any] = {}
    for item in spec.fields:
        value = values.get(item.name)
        if value:
            context[item.name] = value
        elif item.presence is Presence.REQUIRED:
            option = {
                FieldKind.RESOURCES: "--appointment" if item.name == "appointments" else "--order",
                FieldKind.REFERENCES: "--order",
            }.get(item.kind, f"--{item.name.removesuffix('Id')}")
            raise CallError(f"the hook {hook} needs {item.name}: give {option}")
    return context


def _bundle(resources: Sequence[Json]) -> dict[str, Any] | None:
    if not resources:
        return None
    entries = [{"resource": resource} for resource in resources]
    return {"resourceType": "Bundle", "type": "collection", "entry": entries}


def hook_body(hook: str, question: Question, server: FhirServer | None) -> dict[str, Any]:
    """A hook request without prefetch. Raises CallError."""
    body: dict[str, Any] = {
        "hook": hook,
        "hookInstance": question.hook_instance or str(uuid4()),
        "context": hook_context(hook, question),
    }
    if server is not None:
        body["fhirServer"] = server.base
        if server.token:
            body["fhirAuthorization"] = {
                "access_token": server.token,
                "token_type": "Bearer",
                "expires_in": 300,
                "scope": "patient/*.read",
                "subject": "tcell-cds-call",
            }
    return body


def filled(template: str, context: Json) -> str | None:
    """The query of a prefetch template; None where the context lacks a value."""
    user_type, _, user_id = str(context.get("userId", "")).partition("/")
    complete = True

    def value(match: re.Match[str]) -> str:
        nonlocal complete
        token = match[1].strip()
        if token.startswith("context."):
            found = context.get(token.removeprefix("context."))
        else:
            found = user_id if token == f"user{user_type}Id" else None
        complete = complete and isinstance(found, str) and bool(found)
        return quote(str(found), safe="")

    query = _TOKEN.sub(value, template)
    return query if complete else None


def failure(text: str) -> dict[str, Any]:
    """What an EHR sends for a key that it could not fill."""
    issue = {"severity": "error", "code": "exception", "diagnostics": text}
    return {"resourceType": "OperationOutcome", "issue": [issue]}


async def prefetched(
    client: httpx.AsyncClient,
    server: FhirServer,
    templates: Mapping[str, str],
    context: Json,
    failing: Collection[str] = (),
) -> dict[str, Any]:
    """Every key as an EHR fills it: the resource or Bundle, null for "not there", an OperationOutcome for a
    failure; a key whose template needs an absent context value is left out."""

    async def answer(query: str) -> Any:
        try:
            response = await client.get(f"{server.base}/{query}", headers=server.headers)
        except httpx.HTTPError as error:
            return failure(type(error).__name__)
        if response.status_code in (404, 410):
            return None
        try:
            body = response.json()
        except ValueError:
            body = None
        if not isinstance(body, dict) or (
            response.is_error and body.get("resourceType") != "OperationOutcome"
        ):
            return failure(f"the FHIR server answered {response.status_code}")
        return body

    keys = {
        key: query for key, template in templates.items() if (query := filled(template, context)) is not None
    }
    asked = [key for key in keys if key not in failing]
    answers = await asyncio.gather(*(answer(keys[key]) for key in asked))
    found = dict(zip(asked, answers, strict=True))
    return {key: found[key] if key in found else failure("made to fail") for key in keys}


async def discover(client: httpx.AsyncClient, base: str) -> dict[str, Service]:
    """The services by id. Raises CallError."""
    response = await client.get(f"{base}/cds-services", headers={"Accept": "application/json"})
    try:
        body = response.json()
        services = body["services"]
    except (ValueError, KeyError, TypeError):
        raise CallError(f"discovery answered {response.status_code} without services") from None
    return {s["id"]: Service(s["id"], s["hook"], s.get("prefetch") or {}) for s in services}


async def call(
    client: httpx.AsyncClient, base: str, service: str, body: Json, language: str = ""
) -> dict[str, Any]:
    """The service's answer. Raises CallError with the OperationOutcome of a refusal."""
    headers = {"Accept": "application/json"} | ({"Accept-Language": language} if language else {})
    response = await client.post(f"{base}/cds-services/{service}", json=body, headers=headers)
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if response.is_error or not isinstance(answer, dict):
        raise CallError(f"{service} answered {response.status_code}", answer)
    return answer
