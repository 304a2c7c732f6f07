"""The store as the service sees it: told of answers and feedback, asked for overrides and used tokens."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from types import TracebackType
from typing import Any, TypeVar

from sqlalchemy import bindparam, delete, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from cards.finding import Finding, Override
from cds.access.replay import KEPT_BEYOND_EXPIRY
from cds.engine.rule import Hook
from cds.pipeline import Answer
from cds.protocol import FeedbackItem, FeedbackOutcome, HookRequest
from cds.store.audit import answer_rows, feedback_row
from cds.store.database import connect, migrate
from cds.store.identity import Identity, Kind
from cds.store.models import Base, Call, Feedback, UsedToken, Verdict
from cds.store.orders import order_parts
from cds.store.writer import Row, Writer
from fhir_mapping.chart import Chart

log = logging.getLogger(__name__)

_REASONS = frozenset(reason.value for reason in Override)
_QUEUE = 20_000  # rows, a few MB
_OPEN_SECONDS = _CLOSE_SECONDS = 5.0
_TIDY_SECONDS = 3600.0

T = TypeVar("T")
Counted = Callable[[int], None]

# Built once: to put it together costs as much as to run it.
_OVERRIDDEN = (
    select(Verdict.rule, Verdict.outcome, Verdict.indicator, Verdict.order)
    .join(Feedback, Feedback.card == Verdict.card)
    .where(
        Verdict.user == bindparam("user"),
        Verdict.patient == bindparam("patient"),
        Verdict.hook == Hook.ORDER_SELECT.value,
        Verdict.order.in_(bindparam("orders", expanding=True)),
        Feedback.outcome == FeedbackOutcome.OVERRIDDEN.value,
        Feedback.received_at > bindparam("since"),
    )
    .distinct()
)


class Unavailable(Exception):  # noqa: N818 - a state of the store that callers handle
    """The database did not answer, or not in time."""


class State(StrEnum):
    UP = "up"
    DOWN = "down"


class Store:
    """One per process; an async context that starts and stops the writer."""

    def __init__(
        self,
        url: str,
        identity: Identity,
        *,
        mode: str = "active",
        queue: int = _QUEUE,
        retention_days: int = 0,
        on_lost: Counted = lambda count: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`now` is the real clock: audit never follows the frozen clock of a demo. Raises SettingsError."""
        self.identity = identity
        self._engine: AsyncEngine = connect(url)
        self._mode, self._now, self._retention = mode, now, retention_days
        self._ready, self._preparing = False, asyncio.Lock()
        self._tidied = 0.0
        self.writer = Writer(self._flush, queue, on_lost)
        self._feedback = 0  # ticket of the newest
        self._reading: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Store:
        try:
            async with asyncio.timeout(_OPEN_SECONDS):
                await self._prepared()
        except (SQLAlchemyError, OSError, TimeoutError) as error:  # the service answers without it
            log.warning("store away", extra={"error": type(error).__name__})
        self.writer.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.writer.close(_CLOSE_SECONDS)
        for task in tuple(self._reading):
            task.cancel()
        await asyncio.gather(*self._reading, return_exceptions=True)
        await self._engine.dispose()

    # --- told, never waiting

    def answered(self, answer: Answer) -> None:
        """A listener of the application: queues the call and its verdicts."""
        self.writer.put(answer_rows(answer, self.identity, self._mode, self._now()))

    async def feedback(self, service: str, items: Sequence[FeedbackItem]) -> None:
        """A feedback sink of the application: queues the items that could be about a card of ours."""
        now = self._now()
        rows = [row for item in items if (row := feedback_row(item, _REASONS, now)) is not None]
        self._feedback = self.writer.put(rows)

    # --- asked; the caller's patience is `seconds`

    async def overridden(
        self, request: HookRequest, findings: Sequence[Finding], chart: Chart, *, hours: float, seconds: float
    ) -> frozenset[int]:
        """Positions of the findings that this user overrode at order-select, for the same patient and order,
        in the last `hours`. Raises Unavailable.
        """
        user = self.identity.of(Kind.USER, request.user_id)
        orders = [self.identity.of(Kind.ORDER, *order_parts(item.resource, chart)) for item in findings]
        if not user or not any(orders):
            return frozenset()
        asked = {
            "user": user,
            "patient": self.identity.of(Kind.PATIENT, request.fhir_server, request.patient_id),
            "orders": sorted({order for order in orders if order}),
            "since": self._now() - timedelta(hours=hours),
        }
        try:
            async with asyncio.timeout(seconds):
                await self.writer.written(self._feedback)  # that of a moment ago may still be on its way
                found = await self._to_its_end(self._rows_of(asked))
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            raise Unavailable(type(error).__name__) from None
        names = [
            (item.rule, item.outcome.value, "" if item.indicator is None else item.indicator.value, order)
            for item, order in zip(findings, orders, strict=True)
        ]
        return frozenset(place for place, name in enumerate(names) if name[3] and name in found)

    async def _rows_of(self, asked: Mapping[str, Any]) -> set[tuple[Any, ...]]:
        async with self._engine.connect() as connection:
            return {tuple(row) for row in await connection.execute(_OVERRIDDEN, asked)}

    async def _to_its_end(self, reading: Coroutine[Any, Any, T]) -> T:
        """The result, if the caller waits for it: a query that is broken off costs its connection, and a busy
        service would open a new one for every call."""
        task = asyncio.create_task(reading)
        self._reading.add(task)
        task.add_done_callback(self._read)
        return await asyncio.shield(task)

    def _read(self, task: asyncio.Task[Any]) -> None:
        self._reading.discard(task)
        if not task.cancelled():
            task.exception()  # told to the caller, if it still waits

    async def use_token(self, issuer: str, token: str, expires: int, seconds: float) -> bool:
        """True the first time that any worker sees the token. Raises Unavailable."""
        row = {"token": self.identity.of(Kind.TOKEN, issuer, token), "expires": expires}
        try:
            async with asyncio.timeout(seconds):
                await self._prepared()
                async with self._engine.begin() as connection:
                    result = await connection.execute(self._insert(UsedToken), row)
                    return result.rowcount == 1
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            raise Unavailable(type(error).__name__) from None

    async def state(self, seconds: float = 1.0) -> State:
        """Does the database answer?"""
        try:
            async with asyncio.timeout(seconds), self._engine.connect() as connection:
                await connection.execute(text("SELECT 1"))
        except (SQLAlchemyError, OSError, TimeoutError):
            return State.DOWN
        return State.DOWN if self.writer.away else State.UP

    # --- the writer's side

    async def _prepared(self) -> None:
        if self._ready:
            return
        async with self._preparing:
            if not self._ready:
                await migrate(self._engine)
                self._ready = True

    async def _flush(self, rows: Sequence[Row]) -> None:
        await self._prepared()
        tables: dict[type[Base], list[Mapping[str, Any]]] = defaultdict(list)
        for table, row in rows:
            tables[table].append(_columns(table, row))
        async with self._engine.begin() as connection:
            for table, found in tables.items():
                await connection.execute(self._insert(table), found)
        if time.monotonic() - self._tidied > _TIDY_SECONDS or not self._tidied:
            self._tidied = time.monotonic()
            await self._tidy()

    def _insert(self, table: type[Base]) -> Any:
        """For any number of rows, so that it is compiled once. Rows that are there already (a repeated
        feedback) are left as they are."""
        dialect = postgresql if self._engine.dialect.name == "postgresql" else sqlite
        return dialect.insert(table).on_conflict_do_nothing()

    async def _tidy(self) -> None:
        """Forget expired tokens, and audit rows that are older than the site keeps."""
        now = self._now()
        try:
            async with self._engine.begin() as connection:
                oldest_token = int(now.timestamp()) - KEPT_BEYOND_EXPIRY
                await connection.execute(delete(UsedToken).where(UsedToken.expires < oldest_token))
                if self._retention:
                    oldest = now - timedelta(days=self._retention)
                    await connection.execute(delete(Verdict).where(Verdict.at < oldest))
                    await connection.execute(delete(Call).where(Call.at < oldest))
                    await connection.execute(delete(Feedback).where(Feedback.received_at < oldest))
        except DBAPIError as error:
            log.warning("store not tidied", extra={"error": type(error).__name__})


def _columns(table: type[Base], row: Mapping[str, Any]) -> dict[str, Any]:
    attributes = table.__mapper__.columns
    return {attributes[name].name: value for name, value in row.items()}
