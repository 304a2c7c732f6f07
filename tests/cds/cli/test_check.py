"""The conformance table: all well with our service, and faults found in one that has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from cds.cli.check import Line, Probe, Verdict, run


async def _lines(app: Starlette) -> list[Line]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport) as client:
        return [line async for line in run(Probe(client, "http://service.test"))]


def _failed(lines: list[Line]) -> str:
    return "\n".join(
        f"{line.items} {line.text}: {line.why}" for line in lines if line.verdict is Verdict.FAIL
    )


def test_our_service_passes(run: Callable[..., Any], demo: Any) -> None:
    ended = run("check", demo.service, "--json")
    lines = [line for line in ended.json if line["verdict"] == "fail"]
    assert lines == []
    assert ended.code == 0
    items = {item for line in ended.json for item in line["items"].split(", ")}
    assert {"43", "51-73", "77", "94"} <= items
    (charts,) = [line for line in ended.json if "demo patients" in line["text"]]
    assert "(0 cards)" not in charts["text"], "the walker needs real cards to judge"


def test_nobody_there_is_told_in_one_line(run: Callable[..., Any]) -> None:
    ended = run("check", "http://127.0.0.1:1")
    assert ended.code == 1
    assert "ConnectError" in ended.err
    assert run("check", "service").code == 2


async def _careless(request: Request) -> Response:
    """A service as many are: every body is fine, cards are sloppy, errors are plain text."""
    if request.url.path == "/cds-services" and request.method == "GET":
        services = [{"id": "x", "hook": "patient-view", "description": "", "prefetch": {}}]
        return JSONResponse({"services": services}, headers={"Access-Control-Allow-Origin": "*"})
    if request.url.path == "/cds-services":
        return Response(headers={"Access-Control-Allow-Origin": "*"})
    if request.url.path == "/cds-services/x":
        card = {"summary": "x" * 200, "indicator": "hard-stop", "source": {}, "links": None}
        return JSONResponse({"cards": [card]})
    return PlainTextResponse("Not Found", 404)


async def test_faults_of_a_careless_service_are_found() -> None:
    app = Starlette(
        routes=[Route("/{path:path}", _careless, methods=["GET", "POST", "PUT", "OPTIONS"])],
    )
    failed = _failed(await _lines(app))
    for expected in (
        "services[0].description",  # discovery
        "services[0].prefetch",
        "x has none",  # no title
        "refused with 400: no hook: answered 200",
        "33 refused: NaN: answered 200",
        "an unknown service is 404: body: an OperationOutcome is required",
        "cards[0].summary: 200 characters",
        "cards[0].indicator",
        "feedback on a card that nobody knows is taken: answered 404",
        "94 an unknown browser origin is not let in: allows *",
    ):
        assert expected in failed, expected


async def _locked(request: Request) -> Response:
    outcome = {
        "resourceType": "OperationOutcome",
        "issue": [{"severity": "error", "code": "login", "details": {"text": "a client token is required"}}],
    }
    token = request.headers.get("authorization", "")
    if token.endswith("AAAA"):  # the flaw: any three-part token is let in
        return JSONResponse({"services": []})
    return JSONResponse(outcome, 401, headers={"WWW-Authenticate": "Bearer"})


async def test_a_service_that_believes_a_forged_token_is_found() -> None:
    lines = await _lines(Starlette(routes=[Route("/{path:path}", _locked, methods=["GET", "OPTIONS"])]))
    verdicts = {line.text: line.verdict for line in lines}
    assert verdicts["discovery asks for a client token"] is Verdict.PASS
    assert verdicts["a client token that is unsigned is refused"] is Verdict.PASS
    assert verdicts["a client token that is symmetric is refused"] is Verdict.FAIL


@pytest.mark.parametrize("body", ["[]", "nonsense", '{"services": 1}'])
async def test_a_page_that_is_no_discovery_ends_the_probe(body: str) -> None:
    async def page(request: Request) -> Response:
        return Response(body, media_type="application/json")

    lines = await _lines(Starlette(routes=[Route("/{path:path}", page, methods=["GET", "OPTIONS"])]))
    assert lines[0].verdict is Verdict.FAIL
    assert not any(line.items.startswith("21") for line in lines)
