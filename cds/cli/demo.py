"""`python -m cds.cli.demo`: both servers up, every saved hook fired over real HTTP, the cards printed."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import httpx
from rich.text import Text

from cds.app import create_app
from cds.cli.console import out
from cds.cli.ehr import FhirServer, call, discover, prefetched
from cds.cli.fixtures import Saved, folder, load_saved
from cds.cli.serve import demo_bundles, demo_clock, demo_settings
from cds.cli.servers import running
from cds.cli.show import print_cards
from cds.protocol.walker import house_problems, problems
from cds.sandbox import create_fhir_app


async def fire(client: httpx.AsyncClient, service: str, fhir: str, saved: Saved) -> list[list[Any]]:
    """One saved hook as an EHR sends it: prefetch filled, FHIR server named. Cards per service."""
    services = await discover(client, service)
    found = []
    server = FhirServer(fhir)
    for name in saved.services:
        context: Mapping[str, Any] = saved.body["context"]
        body = {
            **saved.body,
            "hookInstance": str(uuid5(NAMESPACE_URL, saved.name)),
            "fhirServer": fhir,
            "prefetch": await prefetched(client, server, services[name].prefetch, context),
        }
        answer = await call(client, service, name, body)
        if wrong := problems(answer) + house_problems(answer):
            raise SystemExit(f"{saved.name}: {wrong[0]}")
        found.append(answer["cards"])
    return found


async def main() -> int:
    """0 when every hook was answered by conformant cards."""
    clock = demo_clock()
    settings = demo_settings(clock)
    paths = sorted((folder() / "requests").glob("*.json"))
    count = 0
    async with (
        running(create_fhir_app(demo_bundles(settings.now()))) as fhir,
        running(create_app(settings)) as service,
        httpx.AsyncClient(timeout=30) as client,
    ):
        out.print(
            Text(f"CDS service {service}, FHIR server {fhir}, clock {settings.now():%Y-%m-%d %H:%M %Z}")
        )
        for path in paths:
            saved = load_saved(path)
            for name, cards in zip(saved.services, await fire(client, service, fhir, saved), strict=True):
                print_cards(cards, f"{saved.story} -> {name}")
                count += len(cards)
    out.print(Text(f"demo: {len(paths)} hooks answered with {count} cards", style="bold green"))
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
