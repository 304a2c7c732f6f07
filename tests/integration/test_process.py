"""The service as a process of its own: killed under load, told to stop under load, started again."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from benchmarks.bodies import NOW, body

pytestmark = pytest.mark.integration

SERVICE = "grading-patient-view"
BODY = body(SERVICE, 100)
SERVE = "from cds.cli import app; app()"
JSON = {"Content-Type": "application/json"}
ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True, slots=True)
class Process:
    running: subprocess.Popen[bytes]
    client: httpx.AsyncClient

    async def fire(self) -> int:
        """Status of one hook call; 0 where the process was gone."""
        try:
            return (
                await self.client.post(f"/cds-services/{SERVICE}", content=BODY, headers=JSON)
            ).status_code
        except httpx.HTTPError:
            return 0


@asynccontextmanager
async def served(database: Path) -> AsyncIterator[Process]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {
        "TCELL_CDS_DATABASE_URL": f"sqlite:///{database}",
        "TCELL_CDS_SITE_KEY_FILE": str(database.with_suffix(".key")),
        "TCELL_CDS_CLOCK": NOW.isoformat(),
    }
    running = subprocess.Popen(
        [sys.executable, "-c", SERVE, "serve", "--port", str(port)],
        cwd=ROOT,
        env={**os.environ, **settings},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            await _ready(running, client)
            yield Process(running, client)
    finally:
        running.kill()
        running.wait(10)


async def _ready(running: subprocess.Popen[bytes], client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(60):
        while running.poll() is None:
            try:
                if (await client.get("/health/ready")).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            await asyncio.sleep(0.05)
    raise AssertionError("the service ended before it was ready")


def _calls(database: Path) -> int:
    with sqlite3.connect(database) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return int(connection.execute("SELECT count(*) FROM call").fetchone()[0])


async def test_killed_under_load_it_starts_again_with_its_store_whole(tmp_path: Path) -> None:
    database = tmp_path / "store.db"
    async with served(database) as first:
        answered = [await first.fire() for _ in range(5)]
        under_way = [asyncio.create_task(first.fire()) for _ in range(20)]
        await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
        first.running.kill()
        assert set(await asyncio.gather(*under_way)) <= {0, 200}
    assert answered == [200] * 5
    before = _calls(database)
    async with served(database) as second:
        assert await second.fire() == 200
        second.running.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(second.running.wait, 30) in (0, -signal.SIGTERM)
    assert _calls(database) == before + 1


async def test_told_to_stop_it_answers_what_is_under_way_and_keeps_its_audit(tmp_path: Path) -> None:
    database = tmp_path / "store.db"
    async with served(database) as process:
        under_way = [asyncio.create_task(process.fire()) for _ in range(20)]
        await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
        process.running.send_signal(signal.SIGTERM)
        statuses = await asyncio.gather(*under_way)
        assert await asyncio.to_thread(process.running.wait, 30) in (0, -signal.SIGTERM)
    assert set(statuses) <= {0, 200}  # 0: not yet accepted when the listener closed
    assert _calls(database) == statuses.count(200) > 0
