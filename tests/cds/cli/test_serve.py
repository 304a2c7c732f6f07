from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from cds.access import PUBLIC_TEST_CLIENTS
from cds.cli import demo as demo_module
from cds.cli.fixtures import load_saved
from cds.cli.serve import application, demo_bundles, demo_clock, demo_settings, served_demo_settings
from cds.cli.servers import NotStartedError, running
from cds.wiring import service

Run = Callable[..., Any]


@pytest.fixture
def uvicorn_calls(monkeypatch: Any) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr("uvicorn.run", lambda target, **options: calls.append({"target": target, **options}))
    return calls


def test_serve_listens_where_it_is_told(run: Run, uvicorn_calls: list[dict[str, Any]]) -> None:
    assert run("serve", "--port", "8123", "--workers", "2").code == 0
    (call,) = uvicorn_calls
    assert (call["host"], call["port"], call["workers"]) == ("127.0.0.1", 8123, 2)
    assert call["factory"] is True
    assert call["access_log"] is False


def test_an_open_service_is_refused_outside_this_machine(
    run: Run, uvicorn_calls: list[dict[str, Any]]
) -> None:
    ended = run("serve", "--host", "0.0.0.0")
    assert ended.code == 2
    assert "TCELL_CDS_AUTH_MODE" in ended.err
    assert "on this machine only" in " ".join(run("serve", "--demo", "--host", "0.0.0.0").err.split())
    assert uvicorn_calls == []


def test_a_frozen_clock_is_refused_outside_this_machine(
    run: Run, uvicorn_calls: list[dict[str, Any]], monkeypatch: Any
) -> None:
    monkeypatch.setenv("TCELL_CDS_CLOCK", "2026-03-16T10:00+08:00")
    monkeypatch.setenv("TCELL_CDS_AUTH_MODE", "proxy")
    assert "TCELL_CDS_CLOCK" in run("serve", "--host", "0.0.0.0").err
    assert uvicorn_calls == []


def test_a_broken_set_up_is_one_line(
    run: Run, uvicorn_calls: list[dict[str, Any]], monkeypatch: Any, tmp_path: Any
) -> None:
    site = tmp_path / "site.toml"
    site.write_text('[rules."no.rule"]\nenabled = false\n', encoding="utf-8")
    monkeypatch.setenv("TCELL_CDS_SITE_FILE", str(site))
    ended = run("serve")
    assert ended.code == 2
    assert "unknown rule no.rule" in ended.err
    assert uvicorn_calls == []


def test_the_workers_application_is_the_service() -> None:
    assert any(route.path == "/cds-services" for route in application().routes)  # type: ignore[attr-defined]


def test_the_demo_is_frozen_open_and_local(monkeypatch: Any) -> None:
    monkeypatch.setenv("TCELL_CDS_AUTH_MODE", "jwt")
    settings = demo_settings(demo_clock())
    assert settings.clock == demo_clock()
    assert settings.auth_mode.value == "off"
    assert settings.fhir_allowed_hosts is None


def test_demo_charts_follow_another_clock() -> None:
    from datetime import timedelta

    clock = demo_clock() + timedelta(days=365)
    text = str(demo_bundles(clock))
    assert str(demo_bundles(demo_clock())) != text
    assert "2027-03" in text


async def test_a_taken_port_is_told(demo: Any) -> None:
    port = int(demo.service.rpartition(":")[2])
    with pytest.raises(NotStartedError, match=f"127.0.0.1:{port} is taken"):
        async with running(application(), port=port):
            pass


async def test_the_demo_fires_a_saved_hook_over_http(demo: Any, fixtures: Any) -> None:
    saved = load_saved(fixtures / "requests/demo-crs-grade-3-1.json")
    async with httpx.AsyncClient(timeout=30) as client:
        (cards,) = await demo_module.fire(client, demo.service, demo.fhir, saved)
    assert cards[0]["indicator"] == "critical"
    assert cards[0]["extension"]["org.tcell-cds.finding"]["grade"] == 3


def test_version_and_help(run: Run) -> None:
    assert run("--version").out.startswith("tcell-cds ")
    text = run("--help").out
    for command in ("serve", "call", "evaluate", "replay", "rules", "load", "check", "codes"):
        assert command in text


def test_a_demo_can_ask_for_tokens_of_the_public_test_clients(monkeypatch: Any, tmp_path: Path) -> None:
    assert served_demo_settings(tmp_path, "127.0.0.1", 8000).auth_mode.value == "off"
    monkeypatch.setenv("TCELL_CDS_AUTH_MODE", "jwt")
    settings = served_demo_settings(tmp_path, "127.0.0.1", 8000)
    assert (settings.auth_mode.value, settings.base_url) == ("jwt", "http://127.0.0.1:8000")
    assert service(settings, test_clients=PUBLIC_TEST_CLIENTS)
