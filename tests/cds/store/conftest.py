"""A store on SQLite, and on a private PostgreSQL cluster where its programs are installed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest

KEY = "a key for tests, nothing secret"
_ACCOUNT = "postgres"


def _program(name: str) -> str | None:
    debian = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(debian[-1]) if debian else None)


@dataclass
class Cluster:
    """A PostgreSQL server of this test run, started and stopped at will."""

    folder: Path
    port: int

    def _run(self, program: str, *arguments: str) -> None:
        options: dict[str, Any] = {"user": _ACCOUNT} if os.geteuid() == 0 else {}
        path = _program(program)
        assert path is not None
        subprocess.run(
            [path, *arguments], check=True, capture_output=True, timeout=60, cwd=self.folder, **options
        )

    def create(self) -> None:
        self._run("initdb", "-D", str(self.folder / "data"), "-U", "tester", "-A", "trust", "--no-sync")

    def start(self) -> None:
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        log = str(self.folder / "log")
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-l", log, "-o", options, "-w", "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "-w", "stop")

    @property
    def url(self) -> str:
        return f"postgresql://tester@127.0.0.1:{self.port}/postgres"


def _why_not() -> str:
    missing = [name for name in ("initdb", "pg_ctl", "postgres") if _program(name) is None]
    if missing:
        return f"PostgreSQL is not installed here: {', '.join(missing)} not found (Debian: postgresql)"
    if os.geteuid() == 0:
        import pwd

        try:
            pwd.getpwnam(_ACCOUNT)
        except KeyError:
            return f"PostgreSQL refuses to run as root, and there is no account {_ACCOUNT}"
    return ""


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    if reason := _why_not():
        pytest.skip(reason)
    folder = Path(mkdtemp(prefix="tcell-pg-"))
    if os.geteuid() == 0:
        shutil.chown(folder, _ACCOUNT)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    made = Cluster(folder, port)
    made.create()
    made.start()
    yield made
    with suppress(subprocess.CalledProcessError):  # a test left it stopped
        made.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.integration)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store that may hold rows of earlier tests (PostgreSQL): tests use names of their own."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.db'}"
    found: Cluster = request.getfixturevalue("cluster")
    return found.url
