"""Saved hook requests answered without any network: what `evaluate` and `replay` rest on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from cds.access import FhirClient, OutgoingGuard
from cds.cli.ehr import CallError, FhirServer, prefetched
from cds.cli.fixtures import Saved, folder
from cds.pipeline import Answer, Runtime, answer, build_runtime
from cds.protocol import ProtocolError
from cds.settings import Mode, Settings, load

Json = Mapping[str, Any]

_EVERY_CARD = 1000  # more than any chart gives
_UNHURRIED = {"mode": Mode.ACTIVE, "budget_seconds": 60.0, "evaluation_seconds": 30.0}


def runtime_for(
    clock: datetime | None, site_file: Path | None = None, *, every_card: bool = False
) -> Runtime:
    """The rules as this site runs them, without haste and never silent.

    `clock` applies unless `TCELL_CDS_CLOCK` is set; `site_file` replaces the configured one; `every_card`:
    an answer is not cut to the most cards that an EHR is sent. Raises the errors of settings, site file, site
    map and rule data.
    """
    settings = load()
    changes: dict[str, Any] = dict(_UNHURRIED)
    if settings.clock is None and clock is not None:
        changes["clock"] = clock
    if site_file is not None:
        changes["site_file"] = site_file
    if every_card:
        changes["max_cards"] = _EVERY_CARD
    return build_runtime(settings.model_copy(update=changes), FhirClient(OutgoingGuard(())))


def at(runtime: Runtime, clock: datetime | None, configured: Settings) -> Runtime:
    """The same rules at another instant; a configured clock stays."""
    if configured.clock is not None or clock is None:
        return runtime
    settings = runtime.settings.model_copy(update={"clock": clock})
    return Runtime(settings, runtime.rulebook, runtime.resolver, runtime.sign_offs)


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The answer of one service, or why it gave none."""

    service: str
    answer: Answer | None
    refusal: ProtocolError | None = None

    @property
    def cards(self) -> list[dict[str, Any]]:
        cards: list[dict[str, Any]] = [] if self.answer is None else self.answer.response["cards"]
        return cards


def services_for(runtime: Runtime, saved: Saved, wanted: str) -> list[str]:
    """The services to ask: the named one, else every rule of the hook in one go. Raises CallError."""
    if wanted:
        return [wanted]
    hook = saved.body.get("hook")
    every = [s.id for s in runtime.rulebook.services.values() if s.hook == hook and not s.domain]
    if not every:
        raise CallError(f"no service answers the hook {hook}")
    return every


async def evaluate(runtime: Runtime, service: str, body: Json, language: str = "") -> Evaluated:
    """One service on one saved body. Nothing leaves the machine: the body's FHIR server is forgotten."""
    kept = {k: v for k, v in body.items() if k not in ("fhirServer", "fhirAuthorization")}
    try:
        found = await answer(runtime, service, kept, accept_language=language or None)
    except ProtocolError as refusal:
        return Evaluated(service, None, refusal)
    return Evaluated(service, found)


def chart_file(saved: Saved, path: Path) -> Path | None:
    """The chart of a request that only names its story: beside it, or among the demo patients."""
    if not saved.story or saved.body.get("prefetch"):
        return None
    beside = path.resolve().parent.parent / "patients" / f"{saved.story}.json"
    packaged = folder() / "patients" / f"{saved.story}.json"
    return next((candidate for candidate in (beside, packaged) if candidate.exists()), None)


async def with_chart(runtime: Runtime, service: str, body: Json, bundle: object) -> dict[str, Any]:
    """The body with its prefetch filled from a Bundle, as an EHR fills it. Raises CallError."""
    from cds.sandbox import create_fhir_app

    plan = runtime.plans.get(service)
    if plan is None:
        raise CallError(f"there is no service {service}")
    context = body.get("context")
    transport = httpx.ASGITransport(create_fhir_app([bundle]))
    async with httpx.AsyncClient(transport=transport) as client:
        server = FhirServer("http://fhir.invalid")
        filled = await prefetched(
            client, server, plan.published, context if isinstance(context, dict) else {}
        )
    return {"hookInstance": str(uuid4()), **body, "prefetch": filled}
