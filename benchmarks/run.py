"""Floor, peer and tcell-cds side by side: req/s, p50, p99, RSS and the ratios.

    python -m benchmarks.run [--quick]

Servers run one worker each on one core, the load generator on the other. Results go to
benchmarks/results/<time>.json and, as a table, to the terminal. Only ratios of one run mean anything. The
ratios compare requests per second of the server's CPU time: one worker is busy on one core, so this is its
throughput on a quiet machine, and a busy one blurs it less.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from benchmarks.bodies import NOW, SERVICES, UNCONCERNED, body, resources
from benchmarks.load import Load, measure

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PEER_VENV = ROOT / "benchmarks" / ".peer-venv"
SERVER_CORE, LOAD_CORE = 0, 1
SIZES = (100, 1000, 5000)
console = Console()


@dataclass(frozen=True, slots=True)
class Row:
    """One measured pair of server and body."""

    server: str
    service: str
    observations: int
    load: Load
    rss_mb: float
    cpu_ms: float  # of the server per request: comparable even where other work shares the cores


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _pinned(command: Sequence[str], core: int) -> list[str]:
    return ["taskset", "-c", str(core), *command] if shutil.which("taskset") else list(command)


def _rss_mb(pid: int) -> float:
    """Resident set of the process and its children, MB."""
    total = 0.0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        except OSError:
            continue
        own = int(fields["Pid"]) == pid or int(fields["PPid"]) == pid
        if own and "VmRSS" in fields:
            total += int(fields["VmRSS"].split()[0]) / 1024
    return total


def _cpu_seconds(pid: int) -> float:
    """User and system time of the process so far, with the children it waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(ticks) for ticks in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def _environment(own: dict[str, str]) -> dict[str, str]:
    """As a deployment has it: compiled modules are kept, so that only the first start compiles."""
    inherited = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return {**inherited, **own}


@contextmanager
def server(
    command: Sequence[str], ready: str, environment: dict[str, str] | None = None
) -> Iterator[tuple[int, float]]:
    """Start a server, wait until `ready` answers; yields its pid and the seconds that took."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        _pinned(command, SERVER_CORE),
        cwd=ROOT,
        env=_environment(environment or {}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while True:
            try:
                httpx.get(ready, timeout=1)
                break
            except httpx.HTTPError:
                if process.poll() is not None or time.perf_counter() - begun > 60:
                    raise RuntimeError(f"did not start: {' '.join(command)}") from None
                time.sleep(0.02)
        yield process.pid, time.perf_counter() - begun
    finally:
        process.terminate()
        process.wait(60)


def _uvicorn(python: Path | str, app: str, port: int) -> list[str]:
    return [str(python), "-m", "uvicorn", app, "--port", str(port), "--no-access-log", "--log-level", "error"]


def _own(port: int, workers: int = 1) -> list[str]:
    return [
        str(Path(sys.executable).with_name("tcell-cds")),
        "serve",
        "--port",
        str(port),
        "--workers",
        str(workers),
    ]


OWN_ENVIRONMENT = {
    "TCELL_CDS_CLOCK": NOW.isoformat(),
    "TCELL_CDS_DATABASE_URL": "sqlite+aiosqlite:///:memory:",
}


def _peer_python() -> Path | None:
    """The peer's own environment, made on first use; None where it cannot be had."""
    python = PEER_VENV / "bin" / "python"
    if not python.exists():
        made = subprocess.run([sys.executable, "-m", "venv", str(PEER_VENV)], check=False).returncode == 0
        install = [str(python), "-m", "pip", "install", "--quiet", "healthchain==0.16.1", "uvicorn[standard]"]
        if not made or subprocess.run(install, check=False).returncode:
            return None
    return python


def _measured(url: str, payload: bytes, connections: int, seconds: float) -> Load:
    """One checked request, then the load."""
    httpx.post(
        url, content=payload, headers={"Content-Type": "application/json"}, timeout=30
    ).raise_for_status()
    return measure(url, payload, connections=connections, seconds=seconds, core=LOAD_CORE)


def compare(seconds: float, sizes: Sequence[int], connections: int) -> list[Row]:
    """Every service and size on floor, peer (patient-view bodies only) and tcell-cds."""
    rows: list[Row] = []
    peer = _peer_python()
    for service in SERVICES:
        for size in sizes:
            payload = body(service, size)
            for name, command, path in _servers(service, peer):
                port = free_port()
                with server(command(port), f"http://127.0.0.1:{port}/", OWN_ENVIRONMENT) as (pid, _):
                    url = f"http://127.0.0.1:{port}{path}"
                    _measured(url, payload, connections, 1)  # warm
                    begun = _cpu_seconds(pid)
                    load = _measured(url, payload, connections, seconds)
                    cpu_ms = (_cpu_seconds(pid) - begun) / load.requests * 1e3
                    rows.append(Row(name, service, size, load, _rss_mb(pid), cpu_ms))
                console.print(
                    f"{service} {size} {name}: {load.per_second:.0f} req/s, p99 {load.p99_ms:.1f} ms, "
                    f"{cpu_ms:.2f} ms CPU"
                )
    return rows


def _servers(service: str, peer: Path | None) -> list[tuple[str, Any, str]]:
    python = sys.executable
    found: list[tuple[str, Any, str]] = [
        (
            "floor",
            lambda port: _uvicorn(python, "benchmarks.servers.floor:app", port),
            f"/cds-services/{service}",
        ),
        ("tcell-cds", _own, f"/cds-services/{service}"),
    ]
    if peer is not None and service.endswith("patient-view"):
        command = lambda port: _uvicorn(peer, "benchmarks.servers.peer:app", port)  # noqa: E731
        found.insert(1, ("healthchain", command, "/cds/cds-services/empty"))
    return found


def slope(rows: Sequence[Row], service: str) -> float | None:
    """Log-log slope of CPU time per request over the number of Observations."""
    points = [(r.observations, r.cpu_ms) for r in rows if r.server == "tcell-cds" and r.service == service]
    if len(points) < 2:
        return None
    (n1, t1), (n2, t2) = points[0], points[-1]
    return math.log(t2 / t1) / math.log(n2 / n1)


LATENCIES_MS = (20, 120)


def pull_round_trips() -> dict[str, float]:
    """Pull mode against the embedded FHIR server with a latency added to each of its answers.

    What a longer latency adds to a call, divided by how much longer it is, is the number of round trips that
    follow one another; the evaluation and the FHIR server's own work cancel out.
    """
    short, long = (_pull_median(latency) for latency in LATENCIES_MS)
    trips = (long - short) / (LATENCIES_MS[1] - LATENCIES_MS[0])
    return {
        f"median_ms_at_{LATENCIES_MS[0]}_ms": short,
        f"median_ms_at_{LATENCIES_MS[1]}_ms": long,
        "round_trips": trips,
    }


def _pull_median(latency_ms: int) -> float:
    fhir_port, port = free_port(), free_port()
    chart, _ = resources("grading-patient-view", 100)
    fhir = [sys.executable, "-m", "benchmarks.servers.fhir", str(fhir_port), str(latency_ms)]
    request = {
        "hook": "patient-view",
        "hookInstance": "0c7f4f4a-3f6c-4f4e-9a5e-0b0a1f0c2b11",
        "fhirServer": f"http://127.0.0.1:{fhir_port}",
        "context": {"userId": "Practitioner/bench", "patientId": "bench"},
    }
    environment = {**OWN_ENVIRONMENT, "TCELL_CDS_BUDGET_SECONDS": "10"}
    with (
        server(fhir, f"http://127.0.0.1:{fhir_port}/metadata"),
        server(_own(port), f"http://127.0.0.1:{port}/health/live", environment),
        httpx.Client(timeout=30) as client,
    ):
        bundle = {
            "resourceType": "Bundle",
            "type": "transaction",
            "entry": [
                {"resource": r, "request": {"method": "PUT", "url": f"{r['resourceType']}/{r['id']}"}}
                for r in chart
            ],
        }
        client.post(f"http://127.0.0.1:{fhir_port}/", json=bundle).raise_for_status()
        times = []
        for _ in range(20):
            begun = time.perf_counter()
            url = f"http://127.0.0.1:{port}/cds-services/grading-patient-view"
            client.post(url, json=request).raise_for_status()
            times.append((time.perf_counter() - begun) * 1e3)
    return statistics.median(times)


def unconcerned(seconds: float) -> dict[str, float]:
    """CPU time of an order hook whose draft concerns no rule, beside the floor's."""
    payload = body(UNCONCERNED, 1000)
    found = {}
    for name, command, path in _servers("washout-order-sign", None):
        port = free_port()
        with server(command(port), f"http://127.0.0.1:{port}/", OWN_ENVIRONMENT) as (pid, _):
            url = f"http://127.0.0.1:{port}{path}"
            _measured(url, payload, 4, 1)  # warm
            begun = _cpu_seconds(pid)
            load = _measured(url, payload, 4, seconds)
            found[name] = (_cpu_seconds(pid) - begun) / load.requests * 1e3
    floor, own = found["floor"], found["tcell-cds"]
    return {"floor_cpu_ms": floor, "cpu_ms": own, "ratio": own / floor}


def one_client(seconds: float) -> dict[str, float]:
    """Latency of a client that waits for each answer: with more connections than workers, calls queue."""
    port = free_port()
    with server(_own(port), f"http://127.0.0.1:{port}/health/live", OWN_ENVIRONMENT):
        url = f"http://127.0.0.1:{port}/cds-services/grading-patient-view"
        payload = body("grading-patient-view", 1000)
        _measured(url, payload, 1, 2)  # warm
        load = _measured(url, payload, 1, max(seconds, 5))
    return {"requests": load.requests, "p50_ms": load.p50_ms, "p99_ms": load.p99_ms}


def memory(requests: int) -> dict[str, float]:
    """RSS of one worker after the first tenth and after all of the requests; its audit rows go to a file,
    for in memory they would be what grows."""
    payload = body("grading-patient-view", 1000)
    port = free_port()
    with (
        TemporaryDirectory() as folder,
        server(
            _own(port),
            f"http://127.0.0.1:{port}/health/live",
            {**OWN_ENVIRONMENT, "TCELL_CDS_DATABASE_URL": f"sqlite:///{folder}/audit.db"},
        ) as (pid, _),
        httpx.Client(timeout=30) as client,
    ):
        sizes = []
        for number in range(1, requests + 1):
            client.post(
                f"http://127.0.0.1:{port}/cds-services/grading-patient-view",
                content=payload,
                headers={"Content-Type": "application/json"},
            ).raise_for_status()
            if number in (requests // 10, requests):
                sizes.append(_rss_mb(pid))
    return {"requests": requests, "rss_mb_after_a_tenth": sizes[0], "rss_mb": sizes[1]}


def start_up() -> float:
    """Seconds from start to the first answer."""
    port = free_port()
    with server(_own(port), f"http://127.0.0.1:{port}/health/ready", OWN_ENVIRONMENT) as (_, seconds):
        return seconds


def workers(seconds: float) -> dict[str, float]:
    """Throughput of two workers over one, both cores free for the server."""
    rates = {}
    payload = body("grading-patient-view", 1000)
    for count in (1, 2):
        port = free_port()
        command = _own(port, count)
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=_environment(OWN_ENVIRONMENT),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            url = f"http://127.0.0.1:{port}/cds-services/grading-patient-view"
            for _ in range(500):
                try:
                    httpx.get(f"http://127.0.0.1:{port}/health/live", timeout=1)
                    break
                except httpx.HTTPError:
                    time.sleep(0.02)
            _measured(url, payload, 4, 1)  # warm
            rates[str(count)] = _measured(url, payload, 4, seconds).per_second
        finally:
            process.terminate()
            process.wait(10)
    return {**rates, "ratio": rates["2"] / rates["1"]}


def _table(rows: Sequence[Row]) -> Table:
    table = Table(
        "service", "observations", "server", "req/s", "p50 ms", "p99 ms", "CPU ms", "RSS MB", "c/a", "c/b"
    )
    for row in rows:
        rates = {
            r.server: 1 / r.cpu_ms
            for r in rows
            if r.service == row.service and r.observations == row.observations
        }
        own = row.server == "tcell-cds"
        table.add_row(
            row.service,
            str(row.observations),
            row.server,
            f"{row.load.per_second:.0f}",
            f"{row.load.p50_ms:.2f}",
            f"{row.load.p99_ms:.2f}",
            f"{row.cpu_ms:.2f}",
            f"{row.rss_mb:.0f}",
            f"{rates[row.server] / rates['floor']:.3f}" if own else "",
            f"{rates[row.server] / rates['healthchain']:.2f}" if own and "healthchain" in rates else "",
        )
    return table


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="1 s a measurement, sizes 100 and 1000")
    options = parser.parse_args()
    seconds = 1 if options.quick else 5
    sizes = SIZES[:2] if options.quick else SIZES
    rows = compare(seconds, sizes, connections=4)
    extra = {
        "start_up_s": start_up(),
        "pull": pull_round_trips(),
        "unconcerned_order": unconcerned(seconds),
        "one_client_grading_1000": one_client(seconds),
        "memory": memory(500 if options.quick else 10_000),
        "workers": workers(seconds),
        "slope": {service: slope(rows, service) for service in SERVICES},
        "machine": {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "python": platform.python_version(),
    }
    console.print(_table(rows))
    console.print_json(data=extra)
    RESULTS.mkdir(parents=True, exist_ok=True)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    path = RESULTS / f"{stamp}.json"
    path.write_text(json.dumps({"rows": [asdict(r) for r in rows], **extra}, indent=1))
    console.print(f"written: {path.relative_to(ROOT)}")
    return 1 if any(row.load.errors for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
