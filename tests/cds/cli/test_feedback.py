from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import insert

from cds.store import connect
from cds.store.database import migrate
from cds.store.models import Call, Feedback, Verdict

Run = Callable[..., Any]


async def fill(url: str) -> None:
    engine, now = connect(url), datetime.now(UTC)
    await migrate(engine)
    shared = {"at": now, "hook": "order-sign", "ruleset": "1+a", "patient": "p", "user": "u"}
    async with engine.begin() as connection:
        call = {"id": "c", "service": "all-order-sign", "mode": "active", "cards": 2, "milliseconds": 9}
        await connection.execute(insert(Call).values(shared | call))
        for rule, outcome in (("washout.leukapheresis", "overridden"), ("washout.infusion", "accepted")):
            card = str(uuid4())
            verdict = {"id": uuid4().hex, "call": "c", "card": card, "rule": rule, "outcome": "not-met"}
            verdict |= {"indicator": "warning", "shown": "card", "order": ""}
            await connection.execute(insert(Verdict).values(shared | verdict))
            said = {"id": uuid4().hex, "card": card, "outcome": outcome, "at": now, "received_at": now}
            await connection.execute(insert(Feedback).values(said | {"reason": "other"}))
    await engine.dispose()


def test_feedback_prints_the_use_of_every_rule(run: Run, monkeypatch: Any, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 's.db'}"
    asyncio.run(fill(url))
    monkeypatch.setenv("TCELL_CDS_DATABASE_URL", url)
    ended = run("feedback")
    assert ended.code == 0
    assert "washout.leukapheresis" in ended.out
    assert "other 1" in ended.out
    found = json.loads(run("feedback", "--json").out)
    assert (found["calls"], found["patients"]) == (1, 1)
    rules = {rule["rule"]: rule for rule in found["rules"]}
    assert rules["washout.leukapheresis"]["overridePercent"] == 100
    assert rules["washout.leukapheresis"]["reasons"] == {"other": 1}
    assert rules["washout.infusion"]["overridePercent"] == 0


def test_feedback_of_an_empty_store(run: Run, monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setenv("TCELL_CDS_DATABASE_URL", f"sqlite:///{tmp_path / 's.db'}")
    assert run("feedback").code == 0
    assert json.loads(run("feedback", "--json").out)["rules"] == []


def test_a_store_that_cannot_be_read_is_one_line_without_the_password(run: Run, monkeypatch: Any) -> None:
    monkeypatch.setenv("TCELL_CDS_DATABASE_URL", "sqlite:////no/such/folder/s.db")
    ended = run("feedback")
    assert (ended.code, "cannot be read" in ended.err) == (1, True)
    monkeypatch.setenv("TCELL_CDS_DATABASE_URL", "mysql://u:hunter2@h/d")
    ended = run("feedback")
    assert (ended.code, "hunter2" in ended.err) == (2, False)
