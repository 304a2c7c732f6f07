"""`tcell-cds load`: demo patients on any FHIR R4 server, under ids that the server gives."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import httpx

from cds.cli.console import fail, tracked
from cds.cli.fixtures import DEMO_IDENTIFIER, Story
from cds.cli.shift import shifted
from cds.cli.show import outcome_text

FHIR_JSON = "application/fhir+json"

# Types of a chart, those that others refer to last, so that they can be deleted in this order.
TYPES = (
    "Observation DiagnosticReport MedicationAdministration MedicationDispense MedicationStatement "
    "MedicationRequest ServiceRequest Procedure Immunization AllergyIntolerance Appointment Specimen "
    "Condition Encounter"
).split()


@dataclass(frozen=True, slots=True)
class Loaded:
    """One resource as it now stands on the server."""

    fixture: str
    before: str  # Type/id in the fixture
    after: str  # Type/id on the server


class ServerError(Exception):
    """The FHIR server did not do what was asked; the text says what it answered, without patient data."""


def span_to(story: Story, as_of: date | None, now: datetime, zone: tzinfo) -> timedelta:
    """How far the story must move: to the day `as_of` at its own time of day, without a day to `now`."""
    if story.clock is None:
        return timedelta()
    if as_of is None:
        return now - story.clock
    return timedelta(days=(as_of - story.clock.astimezone(zone).date()).days)


def transaction(bundle: Mapping[str, Any], span: timedelta) -> dict[str, Any]:
    """The Bundle as a transaction that creates everything anew: no ids, references by urn:uuid."""
    resources = list(_resources(bundle))
    names = {f"{r['resourceType']}/{r.get('id')}": _urn(r) for r in resources}
    entries = []
    for resource in resources:
        moved = shifted(_renamed({k: v for k, v in resource.items() if k != "id"}, names), span)
        entries.append(
            {
                "fullUrl": _urn(resource),
                "resource": moved,
                "request": {"method": "POST", "url": resource["resourceType"]},
            }
        )
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def _resources(bundle: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for entry in bundle.get("entry") or ():
        resource = entry.get("resource") if isinstance(entry, Mapping) else None
        if isinstance(resource, Mapping) and isinstance(resource.get("resourceType"), str):
            yield resource


def _urn(resource: Mapping[str, Any]) -> str:
    name = f"{resource['resourceType']}/{resource.get('id')}"
    return f"urn:uuid:{uuid5(NAMESPACE_URL, name)}"


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {
            key: names.get(item, item)
            if key == "reference" and isinstance(item, str)
            else _renamed(item, names)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_renamed(item, names) for item in value]
    return value


def _client(token: str, transport: httpx.AsyncBaseTransport | None) -> httpx.AsyncClient:
    headers = {"Accept": FHIR_JSON, "Content-Type": FHIR_JSON, "Cache-Control": "no-cache"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    return httpx.AsyncClient(headers=headers, timeout=60, transport=transport)


async def _answer(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        body = None
    if response.is_error or not isinstance(body, dict):
        text = outcome_text(body) or "no FHIR answer"
        raise ServerError(f"{response.request.method} answered {response.status_code}: {text}")
    return body


async def put(
    base: str,
    stories: Sequence[tuple[Story, timedelta]],
    token: str = "",
    transport: httpx.AsyncBaseTransport | None = None,
) -> list[Loaded]:
    """Create every story on the server. Raises ServerError, httpx.HTTPError."""
    loaded: list[Loaded] = []
    async with _client(token, transport) as client:
        for story, span in tracked(stories, "loading"):
            bundle = transaction(story.bundle, span)
            answer = await _answer(await client.post(base, json=bundle))
            locations = [
                str((e.get("response") or {}).get("location", "")) for e in answer.get("entry") or ()
            ]
            for resource, location in zip(_resources(story.bundle), locations, strict=False):
                parts = location.partition("/_history")[0].rstrip("/").split("/")
                before = f"{resource['resourceType']}/{resource.get('id')}"
                loaded.append(Loaded(story.name, before, "/".join(parts[-2:])))
    return loaded


async def remove(
    base: str, names: Sequence[str], token: str = "", transport: httpx.AsyncBaseTransport | None = None
) -> list[str]:
    """Delete every copy of the named demo patients with all that refers to them; the deleted `Type/id`s.

    Raises ServerError, httpx.HTTPError.
    """
    deleted: list[str] = []
    async with _client(token, transport) as client:
        for name in tracked(names, "removing"):
            patients = await _search(client, base, f"Patient?identifier={DEMO_IDENTIFIER}|{name}")
            for patient in patients:
                for resource_type in TYPES:
                    deleted += await _delete_all(client, base, resource_type, patient["id"])
                await client.delete(f"{base}/Patient/{patient['id']}")
                deleted.append(f"Patient/{patient['id']}")
    return deleted


async def _delete_all(client: httpx.AsyncClient, base: str, resource_type: str, patient_id: str) -> list[str]:
    deleted: list[str] = []
    query = f"{resource_type}?patient={patient_id}&_count=200"
    while found := [
        r for r in await _search(client, base, query) if f"{resource_type}/{r['id']}" not in deleted
    ]:
        for resource in found:
            response = await client.delete(f"{base}/{resource_type}/{resource['id']}")
            if response.is_error and response.status_code not in (404, 410):
                raise ServerError(f"DELETE {resource_type} answered {response.status_code}")
            deleted.append(f"{resource_type}/{resource['id']}")
    return deleted


async def _search(client: httpx.AsyncClient, base: str, query: str) -> list[dict[str, Any]]:
    bundle = await _answer(await client.get(f"{base}/{query}"))
    return [
        resource
        for resource in _resources(bundle)
        if isinstance(resource, dict) and resource["resourceType"] == query.partition("?")[0]
    ]


def token_of(variable: str) -> str:
    """The token in an environment variable; "" without a name. Ends the command where it is not set."""
    if not variable:
        return ""
    if not (token := os.environ.get(variable, "").strip()):
        fail(f"the environment variable {variable} is not set")
    return token


def waited(work: Any) -> Any:
    """Run the coroutine; server and network failures end the command with one line."""
    try:
        return asyncio.run(work)
    except ServerError as error:
        fail(str(error))
    except httpx.HTTPError as error:
        fail(f"{type(error).__name__}: the FHIR server could not be reached")
