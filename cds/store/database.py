"""Connections: the URL as operators write it, SQLite made safe for several workers, migrations."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, event, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from cds.settings import PREFIX, SettingsError

_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "postgresql": "postgresql+asyncpg",
    "postgres": "postgresql+asyncpg",
}
NEWEST = "0001"  # revision that this version of the service needs
_MIGRATION_LOCK = 7_261_553  # any number that nobody else locks in this database
_BUSY_SECONDS = 5


class DatabaseUrlError(SettingsError):
    """A database URL that cannot be used. Never quotes the URL: it may hold a password."""


def async_url(written: str) -> URL:
    """The URL with its async driver. Raises DatabaseUrlError."""
    try:
        url = make_url(written)
    except (ArgumentError, ValueError):
        raise DatabaseUrlError(f"{PREFIX}DATABASE_URL: not a SQLAlchemy URL") from None
    backend = url.drivername.partition("+")[0]
    if backend not in _DRIVERS:
        raise DatabaseUrlError(f"{PREFIX}DATABASE_URL: sqlite or postgresql is expected, not {backend}")
    return url.set(drivername=_DRIVERS[backend])


def connect(written: str, *, timeout: float = 5.0) -> AsyncEngine:
    """An engine, not connected yet. `timeout` in seconds bounds connecting. Raises DatabaseUrlError."""
    url = async_url(written)
    try:
        if url.get_backend_name() == "sqlite":
            engine = create_async_engine(url, connect_args={"timeout": _BUSY_SECONDS})
            _prepare_sqlite(engine, url)
            return engine
        return create_async_engine(
            url, pool_pre_ping=True, pool_size=3, max_overflow=2, pool_timeout=timeout,
            connect_args={"timeout": timeout, "command_timeout": timeout},
        )  # fmt: skip
    except (ArgumentError, NoSuchModuleError, TypeError):
        raise DatabaseUrlError(f"{PREFIX}DATABASE_URL: cannot be used") from None


def _prepare_sqlite(engine: AsyncEngine, url: URL) -> None:
    """WAL lets readers and one writer work at once; the file is for the service's account only."""

    @event.listens_for(engine.sync_engine, "do_connect")
    def private(dialect: Any, record: Any, args: Any, options: Any) -> None:
        path = url.database
        if path and path != ":memory:" and not path.startswith("file:"):
            os.close(os.open(Path(path), os.O_WRONLY | os.O_CREAT, 0o600))

    @event.listens_for(engine.sync_engine, "connect")
    def pragmas(connection: Any, record: Any) -> None:
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", f"busy_timeout={_BUSY_SECONDS * 1000}"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()


async def migrate(engine: AsyncEngine) -> None:
    """Bring the database to the newest schema; workers that start at once take turns."""
    async with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            await connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
        else:
            await connection.exec_driver_sql("BEGIN IMMEDIATE")
        if not await connection.run_sync(_is_newest):
            await connection.run_sync(_upgrade)


def _is_newest(connection: Connection) -> bool:
    if not inspect(connection).has_table("alembic_version"):
        return False
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all() == [NEWEST]


def _upgrade(connection: Connection) -> None:
    # Alembic is a tenth of the time to start, and hardly any start migrates
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it tells each of its plugins
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "cds.store:migrations")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
