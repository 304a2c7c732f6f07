"""Chromium and a demo service of its own, for the tests of the page."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from cds.cli import serve
from cds.cli.serve import RunningDemo

CHROMIUM = Path("/usr/bin/chromium")


@contextmanager
def demo_in_thread() -> Iterator[RunningDemo]:
    """A demo service with its FHIR server, in a thread of this process."""
    found: list[RunningDemo] = []
    ready, loop = threading.Event(), asyncio.new_event_loop()
    stop = asyncio.Event()

    async def run() -> None:
        with TemporaryDirectory() as folder:
            async with serve.demo_running(Path(folder), "127.0.0.1", 0) as demo:
                found.append(demo)
                ready.set()
                await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()), daemon=True)
    thread.start()
    assert ready.wait(60), "the demo did not start"
    yield found[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join(20)
    loop.close()


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    """The base URL of a demo service."""
    with demo_in_thread() as demo:
        yield demo.base


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """Ends with the module: the driver keeps an event loop running, which no asynchronous test may meet."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not installed")
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield launched
        launched.close()
