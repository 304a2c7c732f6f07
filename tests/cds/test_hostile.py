"""A small share of `make fuzz`: mutated hook requests get cards or a refusal, never a crash."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import orjson
from fastapi import FastAPI

from cds.cli.fixtures import load_saved
from cds.cli.offline import chart_file, with_chart
from fuzz.mutate import encoded, mutated, places
from fuzz.run import Tally, judge, one

SAVED = Path(__file__).parents[2] / "fixtures" / "requests" / "demo-washout-bendamustine-1.json"


def test_places_finds_every_value() -> None:
    value = {"a": [1, {"b": 2}], "c": None}
    found = {(type(holder).__name__, key) for holder, key in places(value)}
    assert found == {("dict", "a"), ("dict", "c"), ("dict", "b"), ("list", 0), ("list", 1)}


def test_mutations_change_a_copy_and_repeat_with_their_seed() -> None:
    data = b'{"hook":"order-sign","context":{"patientId":"p"},"prefetch":{"x":[1,2,3]}}'
    made = [mutated(data, random.Random(seed)) for seed in range(40)]
    assert made == [mutated(data, random.Random(seed)) for seed in range(40)]
    assert sum(body != json.loads(data) for body in made) > 30


def test_a_wrong_answer_is_noticed() -> None:
    assert judge(500, {}, {})
    assert judge(200, {"cards": [{}]}, {})
    assert judge(400, {"detail": "x"}, {})
    assert judge(200, {"cards": []}, {}) == []


async def test_mutated_requests_are_answered(make_app: Callable[..., FastAPI]) -> None:
    saved = load_saved(SAVED)
    app = make_app(clock=saved.clock, budget_seconds=20)
    chart = json.loads((chart_file(saved, SAVED) or Path()).read_bytes())
    body: Any = await with_chart(app.state.runtime, "all-order-sign", saved.body, chart)
    data, tally = orjson.dumps(body), Tally()
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://fuzz.test") as client:
        for seed in range(60):
            dice = random.Random(seed)
            sent = encoded(mutated(data, dice), dice)
            await one(client, "all-order-sign", sent, str(seed), tally)
    assert tally.bad == []
    assert tally.statuses[200] > 20
