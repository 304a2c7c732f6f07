"""The command line as a user runs it, and a demo service with its FHIR server on real ports."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from cds.app import create_app
from cds.cli import app, console
from cds.cli.serve import demo_bundles, demo_clock, demo_settings
from cds.cli.servers import running
from cds.sandbox import create_fhir_app

FIXTURES = Path(__file__).parents[3] / "fixtures"


@dataclass(frozen=True)
class Demo:
    service: str
    fhir: str


@pytest.fixture(scope="session")
def demo() -> Iterator[Demo]:
    """Both demo servers, in a thread of their own as long as the tests run."""
    ready = threading.Event()
    stop: list[Callable[[], None]] = []
    found: list[Demo] = []

    async def serve() -> None:
        done = asyncio.Event()
        loop = asyncio.get_running_loop()
        stop.append(lambda: loop.call_soon_threadsafe(done.set))
        settings = demo_settings(demo_clock())
        async with (
            running(create_fhir_app(demo_bundles(settings.now()))) as fhir,
            running(create_app(settings)) as service,
        ):
            found.append(Demo(service, fhir))
            ready.set()
            await done.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert ready.wait(30)
    yield found[0]
    stop[0]()
    thread.join(10)


@pytest.fixture(autouse=True)
def quiet_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings of the machine, a wide terminal, and files that commands write go to a fresh folder."""
    import os

    for name in [name for name in os.environ if name.startswith("TCELL_CDS_")]:
        monkeypatch.delenv(name)
    for screen in (console.out, console.err):  # which have read the width of the caller's terminal by now
        monkeypatch.setattr(screen, "width", 240)
    monkeypatch.chdir(tmp_path)


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def run() -> Callable[..., Ended]:
    """`run("rules", "--json")`: the command in this process; any exception but its own exit is an error."""

    def ended(*arguments: str | Path) -> Ended:
        result: Result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ended(result.exit_code, result.stdout, result.stderr)

    return ended


@pytest.fixture
def fixtures() -> Path:
    return FIXTURES
