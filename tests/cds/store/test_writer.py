"""The queue in front of the database: never waits, never fails, counts what it loses."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import pytest
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from cds.store.models import Call
from cds.store.writer import Row, Writer, is_away


def rows(count: int, start: int = 0) -> list[Row]:
    return [(Call, {"id": str(number)}) for number in range(start, start + count)]


class Database:
    def __init__(self) -> None:
        self.ids: list[str] = []
        self.away = False
        self.refused: set[str] = set()
        self.tries = 0

    async def flush(self, batch: Sequence[Row]) -> None:
        self.tries += 1
        if self.away:
            raise OperationalError("x", None, Exception())
        if any(row["id"] in self.refused for _, row in batch):
            raise IntegrityError("x", None, Exception())
        self.ids += [row["id"] for _, row in batch]


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cds.store.writer._FIRST_PAUSE", 0.001)


@pytest.fixture
async def unhurried(database: Database, monkeypatch: pytest.MonkeyPatch) -> Writer:
    """A started writer that gathers rows for an hour unless somebody waits for them."""
    monkeypatch.setattr("cds.store.writer._GATHER", 3600)
    writer = Writer(database.flush, 2000, lambda count: None)
    writer.start()
    return writer


async def test_rows_arrive_in_order(database: Database) -> None:
    writer = Writer(database.flush, 2000, lambda count: None)
    writer.start()
    writer.put(rows(700))
    writer.put(rows(5, 700))
    await asyncio.wait_for(writer.idle(), 1)
    assert database.ids == [str(n) for n in range(705)]
    assert writer.waiting == writer.lost == 0
    await writer.close(1)


async def test_who_waits_for_one_row_does_not_wait_for_later_ones(
    database: Database, unhurried: Writer
) -> None:
    writer = unhurried
    first = writer.put(rows(5))
    await asyncio.wait_for(writer.written(first), 1)
    assert len(database.ids) == 5
    second = writer.put(rows(5, 5))
    assert writer.put([]) == second  # nothing put: the newest ticket there is
    await asyncio.wait_for(writer.written(first), 1)
    await asyncio.sleep(0.01)
    assert writer.waiting == 5  # of interest to nobody: they still gather
    await asyncio.wait_for(writer.written(second), 1)
    assert writer.waiting == 0
    await writer.close(1)


async def test_who_waits_for_rows_does_not_wait_for_others_to_gather(
    database: Database, unhurried: Writer
) -> None:
    writer = unhurried
    for start in (0, 5):
        writer.put(rows(5, start))
        await asyncio.sleep(0)
        await asyncio.wait_for(writer.idle(), 1)
        assert database.ids == [str(n) for n in range(start + 5)]
    await asyncio.wait_for(writer.idle(), 1)  # nothing waits: nobody is hurried
    writer.put(rows(1, 10))
    await asyncio.sleep(0.01)
    assert writer.waiting == 1
    await writer.close(1)
    assert writer.lost == 0
    assert len(database.ids) == 11


async def test_what_does_not_fit_is_lost_whole_counted_and_logged_without_content(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    lost: list[int] = []
    writer = Writer(database.flush, 10, lost.append)
    writer.put(rows(8))
    with caplog.at_level(logging.ERROR):
        writer.put(rows(3, 8))
        writer.put(rows(3, 11))
    assert (lost, writer.lost, writer.waiting) == ([3, 3], 6, 8)
    (record,) = caplog.records  # one line, not one per loss
    assert (record.message, record.count) == ("audit rows lost", 3)
    writer.put(rows(2, 8))
    writer.start()
    await writer.close(1)
    assert len(database.ids) == 10


async def test_a_database_that_comes_back_gets_what_waited(database: Database) -> None:
    database.away = True
    writer = Writer(database.flush, 100, lambda count: None)
    writer.start()
    writer.put(rows(4))
    while database.tries < 3:
        await asyncio.sleep(0.001)
    assert writer.away
    assert writer.waiting == 4
    database.away = False
    await asyncio.wait_for(writer.idle(), 1)
    assert database.ids == ["0", "1", "2", "3"]
    assert not writer.away
    await writer.close(1)


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (DBAPIError(None, None, Exception()), True),  # a login that is refused
        (DBAPIError("INSERT", None, Exception()), False),
        (DBAPIError("INSERT", None, Exception(), connection_invalidated=True), True),
        (OperationalError("INSERT", None, Exception()), True),
        (IntegrityError("INSERT", None, Exception()), False),
        (ConnectionRefusedError(), True),
        (ValueError(), False),
    ],
)
def test_what_counts_as_away(error: Exception, away: bool) -> None:
    assert is_away(error) is away


async def test_a_refused_row_does_not_take_its_neighbours_along(database: Database) -> None:
    database.refused = {"1"}
    writer = Writer(database.flush, 100, lambda count: None)
    writer.put(rows(3))
    writer.start()
    await asyncio.wait_for(writer.idle(), 1)
    assert (database.ids, writer.lost) == (["0", "2"], 1)
    await writer.close(1)


async def test_closing_does_not_wait_for_ever(database: Database) -> None:
    database.away = True
    writer = Writer(database.flush, 100, lambda count: None)
    writer.start()
    writer.put(rows(4))
    await asyncio.wait_for(writer.close(0.02), 1)
    assert writer.lost == 4
    writer.put(rows(1))
    assert writer.lost == 5
