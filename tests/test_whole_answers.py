"""Whole answers of `all-<hook>` at moments of a patient's course, read as one physician reads them.

A rule's own cases ask whether that rule is right. Here the cards of one answer stand side by side: they must
not contradict each other, and a patient without CAR-T cells or an engager gets none. Each moment is asked in
both languages and with the chart turned round.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from fastapi import FastAPI

from cds.app import create_app
from tests.casebook.over_http import CLOCK, FINDING, CaseClock
from tests.casebook.shorthand import Bench, Resource, add
from tests.conftest import client_of, hook_request

STORY = yaml.safe_load(Path(__file__).with_name("whole_answers.yaml").read_text(encoding="utf-8"))
Card = dict[str, Any]


@pytest.fixture(scope="module")
def app() -> FastAPI:
    return create_app(CaseClock(max_cards=50, budget_seconds=60))


def _bench(moment: dict[str, Any]) -> Bench:
    now = datetime.fromisoformat(moment["now"])
    bench = Bench(now=now, d0=now)
    for part in moment.get("of", []):
        for entry in STORY["patients"][part]:
            add(entry, bench)
    for entry in moment["chart"]:
        add(entry, bench)
    return bench


def _bundle(resources: list[Resource]) -> Resource:
    return {"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": r} for r in resources]}


async def _answer(
    client: httpx.AsyncClient, bench: Bench, hook: str, language: str, turned: bool
) -> list[Card]:
    CLOCK.set(bench.now)
    chart = [r for r in bench.resources if r["resourceType"] != "Patient"]
    services = (await client.get("/cds-services")).json()["services"]
    service = next(s for s in services if s["id"] == f"all-{hook}")
    prefetch: dict[str, Any] = dict.fromkeys(service["prefetch"])
    prefetch["patient"] = next(r for r in bench.resources if r["resourceType"] == "Patient")
    prefetch["procedures"] = _bundle(chart[::-1] if turned else chart)
    context: dict[str, Any] = {}
    if hook == "order-sign":
        context["draftOrders"] = _bundle(bench.drafts) | {"type": "collection"}
    if hook.startswith("encounter-"):
        context["encounterId"] = "e1"
    response = await client.post(
        f"/cds-services/all-{hook}",
        json=hook_request(hook, prefetch=prefetch, context=context),
        headers={"Accept-Language": language},
    )
    assert response.status_code == 200, response.text
    cards: list[Card] = response.json()["cards"]
    return cards


def _said(card: Card) -> str:
    finding = card["extension"][FINDING]
    return f"{finding['rule']} {finding['outcome']} {card['indicator']}"


def _chosen(card: Card) -> bool:
    return any(suggestion.get("isRecommended") for suggestion in card.get("suggestions", []))


@pytest.mark.parametrize("moment", STORY["moments"], ids=lambda moment: moment["moment"])
async def test_cards_of_one_answer(moment: dict[str, Any], app: FastAPI) -> None:
    bench = _bench(moment)
    async with client_of(app) as client:
        cards = await _answer(client, bench, moment["hook"], "en", turned=False)
        other = await _answer(client, bench, moment["hook"], "zh-TW", turned=True)
    said = [_said(card) for card in cards]
    assert sorted(said) == sorted(map(_said, other))
    if moment.get("none"):
        assert said == []
    assert set(moment.get("has", [])) <= set(said)
    assert not [s for s in said if s.split()[0] in moment.get("lacks", [])]
    assert not [_said(c) for c in cards if _said(c).split()[0] in moment.get("not_chosen", []) and _chosen(c)]
