"""The whole service with its store: overrides that are not repeated, audit, the feedback report."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from joserfc import jwk, jwt

from cds.cli.fixtures import load_saved
from cds.cli.offline import chart_file, with_chart
from cds.store import connect, usage
from cds.wiring import service
from tests.conftest import client_of, post_hook, settings_for_tests

REQUESTS = Path(__file__).parents[2] / "fixtures" / "requests"
CRITICAL_AND_WARNING = REQUESTS / "demo-tarlatamab-first-dose-1.json"
STEP_UP, LABS = "dosing.tarlatamab-step-up", "follow-up.tarlatamab-labs"

Body = dict[str, Any]
Open = Callable[..., Any]


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    return {
        "database_url": f"sqlite:///{tmp_path / 'store.db'}",
        "site_key": "a key for tests, nothing secret",
        "clock": load_saved(CRITICAL_AND_WARNING).clock,
        "budget_seconds": 20,
    }


@asynccontextmanager
async def running(settings: dict[str, Any], **changes: Any) -> AsyncIterator[httpx.AsyncClient]:
    app = service(settings_for_tests(**settings | changes))
    async with app.router.lifespan_context(app), client_of(app) as client:
        client.app = app  # type: ignore[attr-defined]
        yield client


@pytest.fixture
async def order(settings: dict[str, Any]) -> Body:
    """A draft order with critical and warning cards, its prefetch filled, as an order-select request."""
    saved = load_saved(CRITICAL_AND_WARNING)
    runtime = service(settings_for_tests(**settings)).state.runtime
    chart = json.loads((chart_file(saved, CRITICAL_AND_WARNING) or Path()).read_bytes())
    return await with_chart(runtime, "all-order-sign", {**saved.body, "hook": "order-select"}, chart)


def signed(body: Body, **context: Any) -> Body:
    changed = deepcopy(body)
    changed |= {"hook": "order-sign", "hookInstance": "5b2c7a52-6c0b-4d6e-9f5e-1c9a3f1d2b10"}
    changed["context"] |= context
    return changed


async def override(client: httpx.AsyncClient, cards: list[Body]) -> None:
    said = {"outcome": "overridden", "outcomeTimestamp": datetime.now(UTC).isoformat()}
    body = {"feedback": [said | {"card": card["uuid"]} for card in cards]}
    response = await client.post("/cds-services/all-order-select/feedback", json=body)
    assert response.status_code == 200


def by_rule(cards: list[Body]) -> dict[str, Body]:
    return {card["source"]["topic"]["code"]: card for card in cards}


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cds.wiring.LOOK_UP_SECONDS", 5.0)  # a busy machine is no bug


async def test_an_overridden_warning_is_silent_and_a_critical_card_is_short(
    settings: dict[str, Any], order: Body
) -> None:
    async with running(settings) as client:
        before = await post_hook(client, "all-order-sign", signed(order))
        cards = await post_hook(client, "all-order-select", order)
        await override(client, cards)
        after = await post_hook(client, "all-order-sign", signed(order))
    shown, full = by_rule(after), by_rule(before)
    assert {card["source"]["topic"]["code"] for card in cards if card["indicator"] == "warning"} >= {LABS}
    assert LABS in full
    assert LABS not in shown
    assert full[STEP_UP]["summary"] == shown[STEP_UP]["summary"]
    assert shown[STEP_UP]["indicator"] == "critical"
    assert len(shown[STEP_UP]["detail"]) < len(full[STEP_UP]["detail"])
    assert "first step" not in shown[STEP_UP]["detail"]
    assert "overrode" in shown[STEP_UP]["detail"]
    # was a warning at order-select and is critical now: nobody overrode that
    assert shown["dosing.tarlatamab-concomitant"] == full["dosing.tarlatamab-concomitant"]


@pytest.mark.parametrize(
    "changes", [{"userId": "Practitioner/another"}, {"userId": ""}, {"draft": "another"}], ids=str
)
async def test_another_user_or_another_order_sees_the_whole_card(
    settings: dict[str, Any], order: Body, changes: dict[str, str]
) -> None:
    async with running(settings) as client:
        await override(client, await post_hook(client, "all-order-select", order))
        asked = signed(order)
        if draft := changes.pop("draft", ""):
            asked["context"]["draftOrders"]["entry"][0]["resource"]["id"] = draft
        asked["context"] |= changes
        assert LABS in by_rule(await post_hook(client, "all-order-sign", asked))


async def test_without_a_draft_id_drug_dose_and_date_tell_the_order(
    settings: dict[str, Any], order: Body
) -> None:
    del order["context"]["draftOrders"]["entry"][0]["resource"]["id"]
    order["context"]["selections"] = []
    async with running(settings) as client:
        cards = await post_hook(client, "all-order-select", order)
        assert LABS in by_rule(cards)
        await override(client, cards)
        assert LABS not in by_rule(await post_hook(client, "all-order-sign", signed(order)))
        other = signed(order)
        dosage = other["context"]["draftOrders"]["entry"][0]["resource"]["dosageInstruction"][0]
        dosage["doseAndRate"][0]["doseQuantity"]["value"] = 1
        assert LABS in by_rule(await post_hook(client, "all-order-sign", other))


async def test_an_accepted_card_and_a_card_of_order_sign_are_no_override(
    settings: dict[str, Any], order: Body
) -> None:
    async with running(settings) as client:
        cards = await post_hook(client, "all-order-sign", signed(order))
        await override(client, cards)
        assert LABS in by_rule(await post_hook(client, "all-order-sign", signed(order)))


async def test_a_site_can_have_everything_repeated(settings: dict[str, Any], order: Body) -> None:
    async with running(settings, override_hours=0) as client:
        await override(client, await post_hook(client, "all-order-select", order))
        assert LABS in by_rule(await post_hook(client, "all-order-sign", signed(order)))


async def test_a_look_up_without_answer_repeats_the_card_in_time(
    settings: dict[str, Any], order: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(settings) as client:
        await override(client, await post_hook(client, "all-order-select", order))
        before = await post_hook(client, "all-order-sign", signed(order))
        assert LABS not in by_rule(before)

        class Stuck:
            async def __aenter__(self) -> None:
                await asyncio.Event().wait()

            async def __aexit__(self, *error: object) -> None: ...

        monkeypatch.setattr("cds.wiring.LOOK_UP_SECONDS", 0.02)
        monkeypatch.setattr("sqlalchemy.ext.asyncio.AsyncEngine.connect", lambda self: Stuck())
        assert LABS in by_rule(await post_hook(client, "all-order-sign", signed(order)))
        assert 'what="not-looked-up"} 1.0' in (await client.get("/metrics")).text


async def test_metrics_tell_stages_and_what_a_chart_lost(settings: dict[str, Any], order: Body) -> None:
    vitals = order["prefetch"]["vitals"]
    broken = {"resourceType": "Observation", "id": "x", "status": 7}
    vitals["entry"] = [*vitals.get("entry", []), {"resource": broken}]
    async with running(settings) as client:
        await post_hook(client, "all-order-sign", signed(order))
        metrics = (await client.get("/metrics")).text
    for stage in ("read", "rules", "render"):
        assert f'tcell_cds_stage_seconds_count{{stage="{stage}"}} 1.0' in metrics
    assert 'tcell_cds_chart_losses_total{reason="malformed"} ' in metrics


async def test_silent_mode_sends_nothing_and_keeps_the_verdicts(
    settings: dict[str, Any], order: Body
) -> None:
    async with running(settings, mode="silent") as client:
        assert await post_hook(client, "all-order-sign", signed(order)) == []
    found = await report(settings)
    use = {rule.rule: rule for rule in found.rules}[STEP_UP]
    assert (use.fired, use.withheld) == (0, {"silent": 1})


async def report(settings: dict[str, Any], later: timedelta = timedelta(seconds=1), days: int = 28) -> Any:
    engine = connect(settings["database_url"])
    try:
        return await usage(engine, datetime.now(UTC) + later, days)
    finally:
        await engine.dispose()


async def test_the_report_counts_cards_answers_and_reasons(settings: dict[str, Any], order: Body) -> None:
    async with running(settings) as client:
        cards = await post_hook(client, "all-order-select", order)
        assert await post_hook(client, "all-order-select", order) == cards  # same instance: the same cards
        chosen = by_rule(cards)
        at = datetime.now(UTC)
        accepted = {"outcome": "accepted", "acceptedSuggestions": [{"id": "s"}]}
        reason = {"reason": {"code": "specialist-advice"}, "userComment": "Mr Lee"}
        said: list[Body] = [
            {"card": chosen[LABS]["uuid"], **accepted, "outcomeTimestamp": at.isoformat()},
            {
                "card": chosen[LABS]["uuid"],
                "outcome": "overridden",
                "overrideReason": reason,
                "outcomeTimestamp": (at + timedelta(seconds=1)).isoformat(),
            },
            {"card": chosen[STEP_UP]["uuid"], **accepted, "outcomeTimestamp": at.isoformat()},
            {
                "card": "b3c1f0a8-58b5-4d2f-a7b0-0f36b44d9a01",
                "outcome": "overridden",
                "outcomeTimestamp": at.isoformat(),
            },
        ]
        await client.post("/cds-services/all-order-select/feedback", json={"feedback": said})
        await client.post("/cds-services/all-order-select/feedback", json={"feedback": said})
    found = await report(settings)
    uses = {rule.rule: rule for rule in found.rules}
    assert (found.calls, found.patients, found.unmatched) == (2, 1, 1)
    labs, step_up = uses[LABS], uses[STEP_UP]
    assert (labs.fired, labs.accepted, labs.overridden, labs.override_percent) == (1, 0, 1, 100)
    assert labs.reasons == {"specialist-advice": 1}
    assert (step_up.fired, step_up.accepted, step_up.override_percent) == (1, 1, 0)
    assert step_up.indicators == {"critical": 1}
    later = {rule.rule: rule for rule in (await report(settings, timedelta(days=30), 28)).rules}[LABS]
    assert (later.fired, later.before) == (0, 1)
    assert "Lee" not in "".join(sqlite3.connect(path_of(settings)).iterdump())


def path_of(settings: dict[str, Any]) -> str:
    path: str = settings["database_url"].removeprefix("sqlite:///")
    return path


async def test_an_audit_row_tells_which_version_said_what(settings: dict[str, Any], order: Body) -> None:
    async with running(settings) as client:
        version = client.app.state.runtime.rulebook.version  # type: ignore[attr-defined]
        cards = await post_hook(client, "all-order-select", order)
    with sqlite3.connect(path_of(settings)) as database:
        rows = database.execute(
            "select card, rule, outcome, indicator, ruleset, length(patient) from verdict"
        )
        kept = {row[0]: row[1:] for row in rows}
        calls = database.execute("select service, hook, mode, ruleset, cards from call").fetchall()
    assert calls == [("all-order-select", "order-select", "active", version, len(cards))]
    for card in cards:
        outcome = card["extension"]["org.tcell-cds.finding"]["outcome"]
        rule = card["source"]["topic"]["code"]
        assert kept[card["uuid"]] == (rule, outcome, card["indicator"], version, 32)


async def test_the_service_answers_without_its_store_and_says_so(
    settings: dict[str, Any], order: Body, tmp_path: Path
) -> None:
    lost = settings | {"database_url": f"sqlite:///{tmp_path / 'no' / 'such.db'}"}
    async with running(lost) as client:
        ready = await client.get("/health/ready")
        assert (ready.status_code, ready.json()["dependencies"]) == (200, {"store": "down"})
        assert LABS in by_rule(await post_hook(client, "all-order-sign", signed(order)))


async def test_more_calls_than_the_limit_are_told_to_retry(settings: dict[str, Any], order: Body) -> None:
    async with running(settings, concurrency=1) as client:

        async def slow() -> AsyncIterator[bytes]:
            yield b"{"
            await release.wait()

        release = asyncio.Event()
        first = asyncio.create_task(client.post("/cds-services/all-order-sign", content=slow()))
        await asyncio.sleep(0.05)
        second = await client.post("/cds-services/all-order-sign", json=signed(order))
        assert (second.status_code, second.headers["retry-after"]) == (503, "1")
        release.set()
        assert (await first).status_code == 400
        assert await post_hook(client, "all-order-sign", signed(order))


async def test_a_token_used_at_one_worker_is_used_at_all(settings: dict[str, Any], tmp_path: Path) -> None:
    key = jwk.ECKey.generate_key("P-384", {"kid": "k"})
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps({"keys": [key.as_dict(private=False)]}))
    base, now = "https://cds.example", int(time.time())
    claims = {"iss": "https://ehr", "aud": f"{base}/cds-services", "iat": now, "exp": now + 60, "jti": "once"}
    header = {"alg": "ES384", "kid": "k", "typ": "JWT"}
    token = {"Authorization": "Bearer " + jwt.encode(header, claims, key, algorithms=["ES384"])}
    jwt_mode = settings | {
        "auth_mode": "jwt",
        "base_url": base,
        "jwt_clients": {"https://ehr": {"jwks_file": keys}},
    }
    async with running(jwt_mode) as one, running(jwt_mode) as other:
        assert (await one.get("/cds-services")).status_code == 401
        assert (await one.get("/cds-services", headers=token)).status_code == 200
        assert (await other.get("/cds-services", headers=token)).status_code == 401
        metrics = (await other.get("/metrics")).text
        assert 'tcell_cds_client_refusals_total{reason="replay"} 1.0' in metrics
        ready = (await one.get("/health/ready")).json()
        assert ready["dependencies"] == {"store": "up", "client-keys": "up"}
