"""`tcell-cds serve`: the service, and with `--demo` a FHIR server with the demo patients beside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import uvicorn
from fastapi import FastAPI
from rich.text import Text

from cds.access import PUBLIC_TEST_CLIENTS
from cds.cli.console import err, fail, out
from cds.cli.fixtures import load_story, story_names
from cds.cli.page import demo_of
from cds.cli.servers import IDLE_SECONDS, NotStartedError, running
from cds.cli.shift import shifted
from cds.edge import Edge
from cds.logs import configure
from cds.sandbox import create_fhir_app
from cds.settings import AuthMode, Settings, SettingsError, check_startup, is_loopback, load
from cds.web import explained, page_routes
from cds.wiring import service
from fhir_mapping.terminology import load as terminology

DEMO_BUDGET_SECONDS = 10.0  # both servers share one process, and nobody waits for a demo as an EHR does
GRACE_SECONDS = 15  # for calls under way when the service is told to stop


def application() -> FastAPI:
    """The service as the environment configures it; what uvicorn's workers call."""
    configure()  # in every worker
    settings = load()
    return service(settings, routes=page_routes(partial(terminology, settings.site_map)), explain=explained)


def demo_clock() -> datetime:
    """The instant at which the demo stories happen."""
    clocks = [clock for name in story_names() if (clock := load_story(name).clock) is not None]
    return min(clocks) if clocks else fail("the demo requests are not installed")


def demo_settings(clock: datetime) -> Settings:
    """The configured settings for a demo: frozen clock, open, FHIR on this machine only."""
    frozen = {"auth_mode": AuthMode.OFF, "fhir_allowed_hosts": None}
    settings = load().model_copy(update=frozen)
    return settings if settings.clock is not None else settings.model_copy(update={"clock": clock})


def demo_bundles(clock: datetime) -> list[Any]:
    """The demo charts, moved so that every story happens at the clock."""
    bundles = []
    for name in story_names():
        story = load_story(name)
        moved = story.clock is not None and story.clock != clock
        bundles.append(shifted(story.bundle, clock - story.clock) if moved and story.clock else story.bundle)
    return bundles


def serve(host: str, port: int, workers: int) -> None:
    """Serve until interrupted. Ends the command where the settings are not safe for the host."""
    configure()
    settings = load()
    check_startup(settings, host)
    app = application()  # a broken set-up is told here, in one line, not by every worker
    uvicorn.run(
        app if workers == 1 else "cds.cli.serve:application",
        factory=workers != 1,
        host=host,
        port=port,
        workers=workers,
        access_log=False,  # paths hold no PHI, but a query string might
        server_header=False,
        proxy_headers=False,
        log_config=None,  # ours alone: uvicorn's own lines may quote a request
        timeout_graceful_shutdown=GRACE_SECONDS,
        timeout_keep_alive=IDLE_SECONDS,
    )


def serve_demo(host: str, port: int) -> None:
    """Serve service and FHIR server from this process until interrupted; loopback only."""
    if not is_loopback(host):
        raise SettingsError(f"--demo is open to anyone and listens on this machine only, not on {host}")
    try:
        asyncio.run(_demo(host, port))
    except NotStartedError as error:
        fail(str(error))
    except KeyboardInterrupt:
        err.print("stopped", style="dim")


async def _demo(host: str, port: int) -> None:
    with TemporaryDirectory() as folder:  # what a demo stores is forgotten with it
        await _demo_in(Path(folder), host, port)


def served_demo_settings(folder: Path, host: str, port: int) -> Settings:
    """A demo to point a client at. AUTH_MODE=jwt asks for tokens here too, so that a client can be tried; the
    public test clients are accepted."""
    settings, configured = demo_settings(demo_clock()), load()
    update: dict[str, Any] = {
        "database_url": f"sqlite:///{folder / 'demo.db'}",
        "site_key_file": folder / "demo.key",
        "budget_seconds": max(settings.budget_seconds, DEMO_BUDGET_SECONDS),
    }
    if configured.auth_mode is AuthMode.JWT:
        base_url = configured.base_url or f"http://{host}:{port}"
        update |= {"auth_mode": AuthMode.JWT, "base_url": base_url}
    return settings.model_copy(update=update)


@dataclass(frozen=True, slots=True)
class RunningDemo:
    """A demo that answers: base URLs of the service and of the FHIR server, and its settings."""

    base: str
    fhir: str
    settings: Settings


@asynccontextmanager
async def demo_running(folder: Path, host: str, port: int) -> AsyncIterator[RunningDemo]:
    """The demo on two ports, 0 for any free ones; what it stores lies in `folder`. Raises NotStartedError."""
    settings = served_demo_settings(folder, host, port)
    fhir_port = port + 1 if port else 0
    charts = Edge(create_fhir_app(demo_bundles(settings.now())), settings.cors_origins)
    async with running(charts, host, fhir_port) as fhir:
        page = page_routes(partial(terminology, settings.site_map), demo_of(fhir, settings.now()))
        app = service(settings, test_clients=PUBLIC_TEST_CLIENTS, routes=page, explain=explained)
        async with running(app, host, port) as base:
            yield RunningDemo(base, fhir, settings)


async def _demo_in(folder: Path, host: str, port: int) -> None:
    async with demo_running(folder, host, port) as demo:
        out.print(Text("demo", style="bold").append(" - synthetic patients, frozen clock, no security"))
        out.print(Text(f"page          {demo.base}/"))
        out.print(Text(f"CDS service   {demo.base}/cds-services"))
        out.print(Text(f"FHIR server   {demo.fhir}"))
        out.print(Text(f"clock         {demo.settings.now().isoformat(timespec='minutes')}"))
        out.print(Text(f"patients      {', '.join(story_names())}"))
        example = f"tcell-cds call all-patient-view --service {demo.base} --fhir-server {demo.fhir}"
        out.print(Text(f"try           {example} --patient {story_names()[0]}"))
        await asyncio.Event().wait()
