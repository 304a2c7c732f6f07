"""`python -m fuzz.soak [--minutes 10] [--rate 0]`: steady load over real HTTP, well-formed requests.

Starts the service with its store (TCELL_CDS_DATABASE_URL, else a SQLite file of its own), fires demo requests
at a steady rate (0: 80 % of what it measures first) and watches errors and memory of this process. Stop and
start the database meanwhile: hooks must not fail, and what the store lost is printed. Exit code 1 on any
failed hook, or on growth above 5 %.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import random
import sys
import tempfile
import time
from collections import Counter

import httpx

from cds.cli.servers import running
from cds.settings import load
from cds.wiring import service
from fuzz.run import corpus, resident

MOST_GROWTH = 5.0  # percent, after the first tenth of the time
MEASURED_SECONDS, CONNECTIONS, SHARE = 20.0, 4, 0.8  # of the throughput; that it bears


async def main(minutes: float, rate: float) -> int:
    with tempfile.TemporaryDirectory() as scratch:
        url = os.environ.get("TCELL_CDS_DATABASE_URL", f"sqlite:///{scratch}/soak.db")
        clock = "2026-03-16T10:00:00+08:00"
        key_file = f"{scratch}/soak.key"
        app = service(load(_env_file=None, clock=clock, database_url=url, site_key_file=key_file))
        failed: Counter[str] = Counter()
        sent = 0
        memory: list[int] = []
        waits: list[float] = []
        dice = random.Random(1)
        async with running(app) as base, httpx.AsyncClient(base_url=base, timeout=30) as client:
            bodies = await corpus(app.state.runtime)

            async def fire(name: str, data: bytes) -> None:
                started = time.monotonic()
                try:
                    status = str((await client.post(f"/cds-services/{name}", content=data)).status_code)
                except httpx.HTTPError as error:
                    status = type(error).__name__
                waits.append(time.monotonic() - started)
                if status != "200":
                    failed[status] += 1

            async def one_after_another(until: float) -> None:
                while time.monotonic() < until:
                    await fire(*dice.choice(bodies))

            if not rate:
                until = time.monotonic() + MEASURED_SECONDS
                await asyncio.gather(*(one_after_another(until) for _ in range(CONNECTIONS)))
                rate = SHARE * len(waits) / MEASURED_SECONDS
                print(
                    f"{len(waits) / MEASURED_SECONDS:.1f} hooks a second measured, {rate:.1f} sent",
                    flush=True,
                )
                waits.clear()
            begun = time.monotonic()
            tasks: set[asyncio.Task[None]] = set()
            while (passed := time.monotonic() - begun) < minutes * 60:
                task = asyncio.create_task(fire(*dice.choice(bodies)))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                sent += 1
                if len(memory) < 100 * passed / (minutes * 60):
                    gc.collect()
                    memory.append(resident())
                await asyncio.sleep(max(0.0, begun + sent / rate - time.monotonic()))
            await asyncio.gather(*tasks)
            lost = app.state.store.writer.lost
        early = memory[len(memory) // 10]
        growth = 100 * (memory[-1] / early - 1)
        waits.sort()
        print(
            f"{sent} hooks in {minutes:g} min, {failed.total()} failed {dict(failed)}, "
            f"{lost} audit rows lost; "
            f"p50 {waits[len(waits) // 2] * 1000:.0f} ms, p99 {waits[len(waits) * 99 // 100] * 1000:.0f} ms; "
            f"memory {early / 2**20:.0f} MiB, {growth:+.1f} %"
        )
    return 1 if failed or growth > MOST_GROWTH else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=0.0, help="hooks a second; 0: measure")
    given = parser.parse_args()
    sys.exit(asyncio.run(main(given.minutes, given.rate)))
