"""`python -m fuzz.run [--count N] [--seed S] [--minutes M]`: hostile requests over ASGI, in this process.

Exit code 1 where any answer was a 5xx or was rejected by the response walker; each such request is kept in
`artifacts/fuzz/` with its seed. Prints the rate, statuses and how memory grew after the first tenth.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from cds.cli.fixtures import folder, load_saved
from cds.cli.offline import chart_file, with_chart
from cds.pipeline import Runtime
from cds.protocol.walker import error_problems, house_problems, problems
from cds.settings import load
from cds.wiring import service
from fuzz.mutate import encoded, mutated

ARTIFACTS = Path("artifacts/fuzz")


@dataclass
class Tally:
    sent: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    cards: int = 0
    bad: list[str] = field(default_factory=list)
    rss: list[int] = field(default_factory=list)
    slowest: float = 0.0


def resident() -> int:
    """Resident memory in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


async def corpus(runtime: Runtime) -> list[tuple[str, bytes]]:
    """(service, body) of every demo request, prefetch filled, for each service of each hook that fits."""
    found = []
    for path in sorted((folder() / "requests").glob("*.json")):
        saved = load_saved(path)
        chart = chart_file(saved, path)
        bundle = json.loads(chart.read_bytes()) if chart else {"resourceType": "Bundle"}
        drafts = saved.body["context"].get("draftOrders", {"resourceType": "Bundle", "entry": []})
        entries = drafts.get("entry", [])
        for hook in sorted({str(item.hook) for item in runtime.rulebook.services.values()}):
            context = {**saved.body["context"], "draftOrders": drafts, "encounterId": "e1"}
            context |= {"appointments": {"resourceType": "Bundle", "entry": []}}
            names = (f"{e['resource']['resourceType']}/{e['resource'].get('id')}" for e in entries)
            context["selections"] = list(names)
            body = {**saved.body, "hook": hook, "context": context}
            filled = await with_chart(runtime, f"all-{hook}", body, bundle)
            same = [item.id for item in runtime.rulebook.services.values() if item.hook == hook]
            data = json.dumps(filled).encode()
            found += [(name, data) for name in same]
    return found


def drafts_of(body: Any) -> dict[str, Any]:
    """What updates and deletes of the answer may name."""
    context = body.get("context") if isinstance(body, dict) else None
    found = {}
    for name in ("draftOrders", "appointments"):
        held = context.get(name) if isinstance(context, dict) else None
        entries = held.get("entry", [held]) if isinstance(held, dict) else held
        for entry in entries if isinstance(entries, list) else [entries]:
            resource = entry.get("resource", entry) if isinstance(entry, dict) else None
            if isinstance(resource, dict) and "id" in resource:
                found[f"{resource.get('resourceType')}/{resource['id']}"] = resource
    return found


def judge(status: int, answer: Any, body: Any) -> list[str]:
    if status >= 500:
        return [f"status {status}"]
    if status >= 300:
        return error_problems(status, answer)
    return problems(answer, drafts=drafts_of(body)) + house_problems(answer)


async def one(client: httpx.AsyncClient, name: str, data: bytes, seed: str, tally: Tally) -> None:
    started = time.monotonic()
    response = await client.post(f"/cds-services/{name}", content=data)
    tally.slowest = max(tally.slowest, time.monotonic() - started)
    tally.sent += 1
    tally.statuses[response.status_code] += 1
    answer = response.json()
    if response.status_code == 200:
        tally.cards += len(answer["cards"])
    try:
        sent = json.loads(data)
    except (ValueError, RecursionError):
        sent = None
    if wrong := judge(response.status_code, answer, sent):
        tally.bad.append(f"{seed} {name}: {wrong[0]}")
        ARTIFACTS.mkdir(parents=True, exist_ok=True)
        (ARTIFACTS / f"{seed}-{name}.json").write_bytes(data)


async def fuzz(app: FastAPI, count: int, seed: int, minutes: float) -> Tally:
    """`minutes` 0: no limit of time."""
    tally = Tally()
    bodies = await corpus(app.state.runtime)
    ends = time.monotonic() + minutes * 60 if minutes else float("inf")
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://fuzz.test", timeout=60) as client:
        for number in range(count):
            if time.monotonic() > ends:
                break
            dice = random.Random(f"{seed}:{number}")
            name, data = dice.choice(bodies)
            changed = mutated(data, dice)
            await one(client, name, encoded(changed, dice), f"{seed}-{number}", tally)
            if number % max(1, count // 20) == 0:
                gc.collect()
                tally.rss.append(resident())
    return tally


def report(tally: Tally, seconds: float) -> str:
    early = tally.rss[len(tally.rss) // 5] if tally.rss else 1
    growth = 100 * (tally.rss[-1] / early - 1) if tally.rss else 0.0
    statuses = ", ".join(f"{status}: {count}" for status, count in sorted(tally.statuses.items()))
    lines = [
        f"{tally.sent} requests in {seconds:.0f} s ({tally.sent / max(seconds, 0.001):.0f}/s), "
        f"slowest {tally.slowest * 1000:.0f} ms",
        f"statuses {statuses}; {tally.cards} cards",
        f"memory {early / 2**20:.0f} MiB after a fifth, {growth:+.1f} % at the end",
        f"{len(tally.bad)} answers 5xx or rejected",
        *tally.bad[:20],
    ]
    return "\n".join(lines)


async def main(count: int, seed: int, minutes: float) -> int:
    with tempfile.TemporaryDirectory() as scratch:
        settings = load(
            _env_file=None,
            clock="2026-03-16T10:00:00+08:00",
            database_url=f"sqlite:///{scratch}/fuzz.db",
            site_key_file=f"{scratch}/fuzz.key",
            budget_seconds=10,
        )
        app = service(settings)
        started = time.monotonic()
        async with app.router.lifespan_context(app):
            tally = await fuzz(app, count, seed, minutes)
        print(report(tally, time.monotonic() - started))
    return 1 if tally.bad else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=0.0)
    given = parser.parse_args()
    sys.exit(asyncio.run(main(given.count, given.seed, given.minutes)))
