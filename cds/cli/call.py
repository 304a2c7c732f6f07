"""`tcell-cds call`: one hook, fired as an EHR fires it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx

from cds.cli.console import fail
from cds.cli.ehr import CallError, FhirServer, Question, call, discover, hook_body, prefetched
from cds.cli.show import outcome_text

T = TypeVar("T")


class Delivery(StrEnum):
    """How the data reach the service."""

    PREFETCH = "prefetch"  # the EHR fills the templates
    PULL = "pull"  # the service fetches everything from the FHIR server


@dataclass(frozen=True, slots=True)
class Data:
    """Where the chart is, how it is handed over, which prefetch keys are left out or sent as failed."""

    server: FhirServer
    delivery: Delivery = Delivery.PREFETCH
    omitted: frozenset[str] = field(default_factory=frozenset)
    failing: frozenset[str] = field(default_factory=frozenset)


@asynccontextmanager
async def _service(url: str, fhir: FhirServer) -> AsyncIterator[tuple[httpx.AsyncClient, str]]:
    """A client of the running service, or of one inside this process that may read that FHIR server."""
    if url:
        async with httpx.AsyncClient(timeout=30) as client:
            yield client, url
        return
    from cds.app import create_app
    from cds.settings import is_loopback, load

    settings = load()
    host = urlsplit(fhir.base).hostname or ""
    allowed = settings.fhir_allowed_hosts
    if not is_loopback(host) or allowed is not None:
        netloc = urlsplit(fhir.base).netloc
        settings = settings.model_copy(update={"fhir_allowed_hosts": (*(allowed or ()), host, netloc)})
    app = create_app(settings)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://cds.invalid", timeout=60) as client,
    ):
        yield client, "http://cds.invalid"


async def fire(service_id: str, question: Question, data: Data, url: str, language: str) -> dict[str, Any]:
    """The service's answer. Raises CallError, httpx.HTTPError, and the errors of the settings."""
    async with (
        _service(url, data.server) as (client, base),
        httpx.AsyncClient(timeout=30) as fhir,
    ):
        services = await discover(client, base)
        service = services.get(service_id)
        if service is None:
            raise CallError(f"there is no service {service_id}; there are {', '.join(services)}")
        if unknown := sorted((data.omitted | data.failing) - set(service.prefetch)):
            raise CallError(
                f"{service_id} has no prefetch key {unknown[0]}; it has {', '.join(service.prefetch)}"
            )
        body = hook_body(service.hook, question, data.server)
        if data.delivery is Delivery.PREFETCH:
            wanted = {key: text for key, text in service.prefetch.items() if key not in data.omitted}
            body["prefetch"] = await prefetched(fhir, data.server, wanted, body["context"], data.failing)
        return await call(client, base, service_id, body, language)


def waited(work: Coroutine[Any, Any, T]) -> T:
    """Run it; a refusal or a dead line ends the command with one line."""
    try:
        return asyncio.run(work)
    except CallError as error:
        detail = outcome_text(error.body)
        fail(f"{error}: {detail}" if detail else str(error))
    except httpx.HTTPError as error:
        fail(f"no answer: {type(error).__name__}")
