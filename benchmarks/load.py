"""A bounded load on one loopback URL: wrk where it is installed, else a small asyncio client."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

_WRK_SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local file = io.open("{body}", "rb")
wrk.body = file:read("*a")
file:close()
done = function(summary, latency, requests)
  io.write(string.format("RESULT %d %d %d %d %d %d\\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), summary.errors.status,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout))
end
"""


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of the generator measured."""

    requests: int
    per_second: float
    p50_ms: float
    p99_ms: float
    errors: int
    generator: str


def measure(url: str, body: bytes, *, connections: int, seconds: float, core: int) -> Load:
    """Post `body` to `url` over `connections` keep-alive connections for about `seconds`."""
    if shutil.which("wrk"):
        return _wrk(url, body, connections, seconds, core)
    return asyncio.run(_client(url, body, connections, seconds))


def _wrk(url: str, body: bytes, connections: int, seconds: float, core: int) -> Load:
    with tempfile.TemporaryDirectory() as folder:
        payload, script = Path(folder, "body.json"), Path(folder, "post.lua")
        payload.write_bytes(body)
        script.write_text(_WRK_SCRIPT.replace("{body}", str(payload)))
        command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "-s", str(script), url]
        if shutil.which("taskset"):
            command = ["taskset", "-c", str(core), *command]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    match = re.search(r"RESULT (\d+) (\d+) (\d+) (\d+) (\d+) (\d+)", output)
    if match is None:
        raise RuntimeError(f"wrk printed no result: {output[-400:]}")
    requests, duration, p50, p99, status, failed = map(int, match.groups())
    return Load(requests, requests / (duration / 1e6), p50 / 1e3, p99 / 1e3, status + failed, "wrk")


async def _client(url: str, body: bytes, connections: int, seconds: float) -> Load:
    latencies: list[float] = []
    errors = 0
    stop = time.perf_counter() + seconds
    headers = {"Content-Type": "application/json"}

    async def worker(client: httpx.AsyncClient) -> None:
        nonlocal errors
        while time.perf_counter() < stop:
            begun = time.perf_counter()
            response = await client.post(url, content=body, headers=headers)
            latencies.append(time.perf_counter() - begun)
            errors += response.status_code != 200

    begun = time.perf_counter()
    async with httpx.AsyncClient(timeout=30) as client:
        await asyncio.gather(*(worker(client) for _ in range(connections)))
    elapsed = time.perf_counter() - begun
    ordered = sorted(latencies)
    p50, p99 = ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return Load(len(ordered), len(ordered) / elapsed, p50 * 1e3, p99 * 1e3, errors, "httpx")
