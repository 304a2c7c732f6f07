"""Rows on their way to the database: a bounded queue and one task that empties it.

`put` never waits and never fails. While the database is away the batch in hand is kept and tried again, the
queue fills up, and what no longer fits is lost, counted and logged.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from cds.store.models import Base

log = logging.getLogger(__name__)

Row = tuple[type[Base], Mapping[str, Any]]
Flush = Callable[[Sequence[Row]], Awaitable[None]]

_BATCH = 500  # rows of one transaction
_GATHER = 0.05  # seconds in which rows come together: a transaction a call costs as much as a small call
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds between tries
_LOG_EVERY = 10.0  # seconds between two lines about losses


def is_away(error: BaseException) -> bool:
    """The database is not there or not able now (restart, network, login, lock, full disk): try again."""
    if isinstance(error, DBAPIError) and (error.connection_invalidated or error.statement is None):
        return True  # without a statement it was the connection that failed
    return isinstance(error, OperationalError | InterfaceError | OSError | TimeoutError)


class Writer:
    """One per process. `lost` counts rows that never reached the database."""

    def __init__(self, flush: Flush, size: int, on_lost: Callable[[int], None]) -> None:
        self._flush, self._size, self._on_lost = flush, size, on_lost
        self._rows: deque[Row] = deque()
        self._in_hand = 0
        self._taken = 0  # rows ever put on the queue
        self._wake, self._idle, self._hurry = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._logged = -_LOG_EVERY
        self._unlogged = 0
        self.lost = 0
        self.away = False

    @property
    def waiting(self) -> int:
        return len(self._rows) + self._in_hand

    def put(self, rows: Sequence[Row]) -> int:
        """All of the rows, or none where the queue has no room for them. Their ticket, for `written`."""
        if rows and (self._closing or self.waiting + len(rows) > self._size):
            self._lose(len(rows), "full" if not self._closing else "closed")
        elif rows:
            self._rows.extend(rows)
            self._taken += len(rows)
            self._idle.clear()
            self._wake.set()
        return self._taken

    async def written(self, ticket: int) -> None:
        """Returns when the rows of the ticket, and all before them, are off the queue. The caller bounds the
        wait."""
        if self._taken - self.waiting < ticket:
            await self.idle()

    async def idle(self) -> None:
        """Begin to write at once; returns when all was written that was put. The caller bounds the wait."""
        if not self._idle.is_set():
            self._hurry.set()
            await self._idle.wait()

    def start(self) -> None:
        self._closing = False
        self._task = asyncio.create_task(self._run(), name="store writer")

    async def close(self, seconds: float) -> None:
        """Write what waits, for at most `seconds`; the rest is lost."""
        self._closing = True
        if self._task is None:
            return
        try:
            async with asyncio.timeout(seconds):
                await self.idle()
        except TimeoutError:
            pass
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None
        if self.waiting:
            self._lose(self.waiting, "closed")
            self._rows.clear()
            self._in_hand = 0

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._gathered()
            while self._rows:
                batch = [self._rows.popleft() for _ in range(min(_BATCH, len(self._rows)))]
                self._in_hand = len(batch)
                await self._written(batch)
                self._in_hand = 0
            self._idle.set()

    async def _gathered(self) -> None:
        """Until rows had time to come together, or somebody waits for them."""
        try:
            async with asyncio.timeout(_GATHER):
                await self._hurry.wait()
        except TimeoutError:
            pass
        self._hurry.clear()

    async def _written(self, batch: Sequence[Row]) -> None:
        pause = _FIRST_PAUSE
        while True:
            try:
                await self._flush(batch)
                self.away = False
                return
            except Exception as error:
                if not is_away(error):
                    await self._one_by_one(batch, error)
                    return
                if not self.away:
                    log.warning("store away", extra={"error": type(error).__name__})
                self.away = True
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _one_by_one(self, batch: Sequence[Row], error: Exception) -> None:
        """One bad row must not take its neighbours along."""
        if len(batch) == 1:
            log.error("row not stored", extra={"error": type(error).__name__})
            self._lose(1, "refused")
            return
        for row in batch:
            await self._written([row])

    def _lose(self, count: int, reason: str) -> None:
        self.lost += count
        self._unlogged += count
        self._on_lost(count)
        now = time.monotonic()
        if now - self._logged >= _LOG_EVERY or self._closing:
            log.error("audit rows lost", extra={"count": self._unlogged, "reason": reason})
            self._logged, self._unlogged = now, 0
