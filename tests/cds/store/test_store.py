"""The store on both databases: schema, tokens, override look-up, loss and return of the database."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import insert, select, text

from cards.finding import Finding, Indicator, Message, Outcome
from cds.access.replay import KEPT_BEYOND_EXPIRY
from cds.protocol import FeedbackItem, FeedbackOutcome, HookRequest, OverrideReason
from cds.settings import SettingsError
from cds.store import Identity, State, Store, Unavailable, async_url, connect
from cds.store.database import NEWEST, migrate
from cds.store.identity import Kind
from cds.store.models import Base, Feedback, UsedToken, Verdict
from cds.store.orders import order_parts
from fhir_mapping.chart import Chart
from tests.cds.store.conftest import KEY, Cluster

NOW = datetime(2026, 3, 16, 2, 0, tzinfo=UTC)


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    async with Store(database_url, Identity(KEY), now=lambda: NOW) as made:
        yield made


async def test_the_migrations_build_the_models(database_url: str) -> None:
    engine = connect(database_url)
    await migrate(engine)
    await migrate(engine)  # again is nothing
    async with engine.connect() as connection:
        differences = await connection.run_sync(
            lambda sync: compare_metadata(MigrationContext.configure(sync), Base.metadata)
        )
    await engine.dispose()
    assert differences == []


def test_the_newest_revision_is_the_head_of_the_migrations() -> None:
    config = Config()
    config.set_main_option("script_location", "cds.store:migrations")
    assert ScriptDirectory.from_config(config).get_heads() == [NEWEST]


async def test_workers_that_start_at_once_take_turns(database_url: str) -> None:
    stores = [Store(database_url, Identity(KEY)) for _ in range(4)]
    await asyncio.gather(*(store.__aenter__() for store in stores))
    assert [await store.state() for store in stores] == [State.UP] * 4
    await asyncio.gather(*(store.__aexit__(None, None, None) for store in stores))


async def test_a_token_is_new_once_in_all_workers(database_url: str, store: Store) -> None:
    async with Store(database_url, Identity(KEY)) as other:
        name = uuid4().hex
        assert await store.use_token("https://ehr", name, 2_000_000_000, 1)
        assert not await other.use_token("https://ehr", name, 2_000_000_000, 1)
        assert await other.use_token("https://other-ehr", name, 2_000_000_000, 1)


async def test_of_workers_that_see_a_token_at_once_one_wins(store: Store) -> None:
    name = uuid4().hex
    found = await asyncio.gather(*(store.use_token("i", name, 2_000_000_000, 5) for _ in range(8)))
    assert sorted(found) == [False] * 7 + [True]


async def test_expired_tokens_are_forgotten(database_url: str) -> None:
    name = uuid4().hex
    async with Store(database_url, Identity(KEY), now=lambda: NOW) as store:
        await store.use_token("i", name, int(NOW.timestamp()) - KEPT_BEYOND_EXPIRY - 3600, 1)
        await store.feedback("s", [item(str(uuid4()))])
        await store.writer.idle()
    engine = connect(database_url)
    async with engine.connect() as connection:
        hashed = Identity(KEY).of(Kind.TOKEN, "i", name)
        found = (await connection.execute(select(UsedToken).where(UsedToken.token == hashed))).all()
    await engine.dispose()
    assert found == []


def item(card: str, code: str = "", outcome: FeedbackOutcome = FeedbackOutcome.OVERRIDDEN) -> FeedbackItem:
    return FeedbackItem(card, outcome, NOW, reason=OverrideReason(code, "s", "Mr Lee says no", True))


async def feedback_of(store: Store, card: str) -> list[tuple[str, str]]:
    await store.writer.idle()
    async with store._engine.connect() as connection:
        query = select(Feedback.outcome, Feedback.reason).where(Feedback.card == card)
        return [tuple(row) for row in (await connection.execute(query)).all()]


async def test_feedback_is_kept_once_however_often_it_is_sent(store: Store) -> None:
    card = str(uuid4())
    await store.feedback("s", [item(card, "other"), item(card, "other")])
    await store.feedback("s", [item(card, "other")])
    assert await feedback_of(store, card) == [("overridden", "other")]


@pytest.mark.parametrize(
    ("code", "kept"), [("specialist-advice", "specialist-advice"), ("Lee 1968", "unlisted"), ("", "comment")]
)
async def test_of_a_reason_only_our_own_words_are_kept(store: Store, code: str, kept: str) -> None:
    card = str(uuid4())
    await store.feedback("s", [item(card, code)])
    assert await feedback_of(store, card) == [("overridden", kept)]


async def test_feedback_on_what_is_no_card_of_ours_is_not_kept(store: Store) -> None:
    await store.feedback("s", [item("Lee, 1968")])
    await store.writer.idle()
    assert store.writer.lost == 0
    async with store._engine.connect() as connection:
        cards = (await connection.execute(select(Feedback.card))).scalars().all()
    assert not any("lee" in card.lower() for card in cards)


# --- overrides


def finding(**changes: object) -> Finding:
    fields = {"rule": "washout.leukapheresis", "outcome": Outcome.NOT_MET, "indicator": Indicator.WARNING}
    fields |= {"summary": Message("x"), "resource": "MedicationRequest/d1"}
    return Finding(**(fields | changes))  # type: ignore[arg-type]


def request(user: str, patient: str = "p1") -> HookRequest:
    return HookRequest("order-sign", "i", {}, {}, patient, user)


async def overridden_before(store: Store, user: str, hours_ago: float = 1.0, **changes: object) -> None:
    """An order-select verdict of the finding above, and its override."""
    identity, card = Identity(KEY), str(uuid4())
    row = {
        "id": uuid4().hex,
        "call": uuid4().hex,
        "card": card,
        "at": NOW,
        "hook": "order-select",
        "rule": "washout.leukapheresis",
        "outcome": "not-met",
        "indicator": "warning",
        "shown": "card",
        "ruleset": "v",
        "patient": identity.of(Kind.PATIENT, "", "p1"),
        "user": identity.of(Kind.USER, user),
        "order": identity.of(Kind.ORDER, "id", "MedicationRequest/d1"),
    }
    at = NOW - timedelta(hours=hours_ago)
    said = {"id": uuid4().hex, "card": card, "outcome": "overridden", "at": at, "received_at": at}
    async with store._engine.begin() as connection:
        await connection.execute(insert(Verdict).values(row | changes))
        await connection.execute(insert(Feedback).values(said | {"reason": ""}))


async def look_up(store: Store, asked: HookRequest, *findings: Finding) -> frozenset[int]:
    return await store.overridden(asked, findings, None, hours=24, seconds=5)  # type: ignore[arg-type]


async def test_an_override_is_found_by_rule_order_and_user(store: Store) -> None:
    user = f"Practitioner/{uuid4().hex}"
    await overridden_before(store, user)
    asked = (finding(), finding(rule="dosing.crs"), finding(resource="MedicationRequest/d2"), finding())
    assert await look_up(store, request(user), *asked) == {0, 3}


@pytest.mark.parametrize(
    "asked",
    [
        finding(outcome=Outcome.ONGOING),
        finding(indicator=Indicator.CRITICAL),
        finding(resource=""),
        finding(resource="ServiceRequest/d1"),
    ],
)
async def test_what_has_changed_since_is_said_again(store: Store, asked: Finding) -> None:
    user = f"Practitioner/{uuid4().hex}"
    await overridden_before(store, user)
    if not asked.resource:
        assert await look_up(store, request(user), asked) == frozenset()
    else:
        assert await look_up(store, request(user), asked, finding()) == {1}


async def test_other_users_patients_hooks_and_days_do_not_count(store: Store) -> None:
    user = f"Practitioner/{uuid4().hex}"
    await overridden_before(store, user, hours_ago=24.1)
    await overridden_before(store, user, hook="patient-view")
    await overridden_before(store, user, hook="order-sign")
    assert await look_up(store, request(user), finding()) == frozenset()
    await overridden_before(store, user, hours_ago=23.9)
    assert await look_up(store, request(user), finding()) == {0}
    assert await look_up(store, request(user, "p2"), finding()) == frozenset()
    assert await look_up(store, request(user + "x"), finding()) == frozenset()
    assert await look_up(store, request(""), finding()) == frozenset()


async def test_a_look_up_that_takes_too_long_is_given_up(store: Store) -> None:
    with pytest.raises(Unavailable):
        await store.overridden(request("u"), [finding()], no_chart(), hours=24, seconds=0)


async def test_a_look_up_that_is_given_up_keeps_its_connection(store: Store) -> None:
    for _ in range(5):
        with pytest.raises(Unavailable):
            await store.overridden(request("u"), [finding()], no_chart(), hours=24, seconds=0)
    await asyncio.wait_for(asyncio.gather(*store._reading), 5)
    assert store._reading == set()
    assert await store.overridden(request("u"), [finding()], no_chart(), hours=24, seconds=5) == frozenset()


def no_chart() -> Chart:
    return None  # type: ignore[return-value]


def test_the_order_of_a_finding_without_order_is_nothing() -> None:
    assert order_parts("", no_chart()) == ()
    assert order_parts("MedicationRequest/d1", no_chart()) == ("id", "MedicationRequest/d1")
    assert order_parts("MedicationRequest", no_chart()) == ()


# --- a database that is not there


def test_urls_as_operators_write_them(tmp_path: Path) -> None:
    assert async_url("sqlite:///x.db").drivername == "sqlite+aiosqlite"
    assert async_url("postgres://u:p@h/d").drivername == "postgresql+asyncpg"
    assert async_url("postgresql+psycopg2://u@h/d").drivername == "postgresql+asyncpg"
    for wrong in ("", "mysql://u:hunter2@h/d", "x"):
        with pytest.raises(SettingsError) as caught:
            connect(wrong)
        assert "hunter2" not in str(caught.value)


async def test_the_file_is_private(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    async with Store(f"sqlite:///{path}", Identity(KEY)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_store_that_cannot_be_opened_is_down_and_harms_nobody(tmp_path: Path) -> None:
    async with Store(f"sqlite:///{tmp_path / 'no' / 's.db'}", Identity(KEY), queue=2) as store:
        await store.feedback("s", [item(str(uuid4())) for _ in range(2)])
        await store.feedback("s", [item(str(uuid4()))])
        assert await store.state() is State.DOWN
        assert store.writer.lost == 1
        with pytest.raises(Unavailable):
            await store.use_token("i", "t", 2_000_000_000, 0.5)
        (tmp_path / "no").mkdir()
        await asyncio.wait_for(store.writer.idle(), 10)
        assert await store.state() is State.UP


async def test_a_full_disk_loses_rows_and_nothing_else(tmp_path: Path) -> None:
    async with Store(f"sqlite:///{tmp_path / 's.db'}", Identity(KEY), queue=300) as store:
        async with store._engine.connect() as connection:
            pages = (await connection.execute(text("PRAGMA page_count"))).scalar_one()
        await store._engine.dispose()
        from sqlalchemy import event

        @event.listens_for(store._engine.sync_engine, "connect")
        def full(connection: object, record: object) -> None:
            cursor = connection.cursor()  # type: ignore[attr-defined]
            cursor.execute(f"PRAGMA max_page_count={pages}")
            cursor.close()

        for _ in range(4):
            await store.feedback("s", [item(str(uuid4())) for _ in range(100)])
        while not store.writer.away:
            await asyncio.sleep(0.005)
        assert store.writer.lost == 100
        await store.writer.close(0)
        assert store.writer.lost == 400


@pytest.mark.integration
async def test_postgresql_down_and_back_loses_nothing_that_fits(cluster: Cluster) -> None:
    async with Store(cluster.url, Identity(KEY)) as store:
        await store.feedback("s", [item(first := str(uuid4()))])
        await store.writer.idle()
        cluster.stop()
        try:
            await store.feedback("s", [item(second := str(uuid4()))])
            assert await store.state() is State.DOWN
            with pytest.raises(Unavailable):
                await store.use_token("i", uuid4().hex, 2_000_000_000, 0.5)
        finally:
            cluster.start()
        await asyncio.wait_for(store.writer.idle(), 30)
        assert (
            await feedback_of(store, first) == await feedback_of(store, second) == [("overridden", "comment")]
        )
        assert store.writer.lost == 0
