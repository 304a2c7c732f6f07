"""`call` and `load` against real loopback servers."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from cds.cli.fixtures import Story, load_story
from cds.cli.load import ServerError, put, remove, span_to, transaction
from cds.sandbox import create_fhir_app

Run = Callable[..., Any]
PATIENT = "demo-washout-bendamustine"
ZONE = ZoneInfo("Asia/Taipei")


def _call(run: Run, demo: Any, service: str, *more: Any, patient: str = PATIENT) -> Any:
    return run(
        "call", service, "--service", demo.service, "--fhir-server", demo.fhir, "--patient", patient, *more
    )


@pytest.fixture
def draft(fixtures: Path, tmp_path: Path) -> Path:
    request = json.loads((fixtures / "requests" / f"{PATIENT}-1.json").read_bytes())
    path = tmp_path / "draft.json"
    path.write_text(json.dumps(request["request"]["context"]["draftOrders"]), encoding="utf-8")
    return path


def test_both_ways_of_getting_the_data_end_in_the_same_cards(run: Run, demo: Any, draft: Path) -> None:
    given = _call(run, demo, "washout-order-sign", "--order", draft, "--json")
    pulled = _call(run, demo, "washout-order-sign", "--order", draft, "--no-prefetch", "--json")
    assert (given.code, pulled.code) == (0, 0)
    assert given.json["cards"][0]["summary"].startswith("Bendamustine 38 days before leukapheresis")
    cards = [
        [(c["summary"], c["detail"], c["extension"]["org.tcell-cds.finding"]) for c in ended.json["cards"]]
        for ended in (given, pulled)
    ]
    assert cards[0] == cards[1]


def test_cards_are_printed_in_the_language_asked_for(run: Run, demo: Any, draft: Path) -> None:
    ended = _call(run, demo, "washout-order-select", "--order", draft, "--language", "zh-TW")
    assert ended.code == 0
    assert "WARNING" in ended.out
    assert "臨床狀態" in ended.out


def test_an_omitted_key_is_fetched_and_a_failed_one_is_named(run: Run, demo: Any) -> None:
    whole = _call(run, demo, "washout-patient-view", "--json").json
    omitted = _call(run, demo, "washout-patient-view", "--omit", "administrations", "--json").json
    assert [c["summary"] for c in omitted["cards"]] == [c["summary"] for c in whole["cards"]]
    failed = _call(run, demo, "washout-patient-view", "--fail", "administrations", "--json").json
    assert failed != whole


def test_the_service_can_run_inside_the_command(run: Run, demo: Any, draft: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("TCELL_CDS_CLOCK", "2026-03-16T10:00+08:00")
    arguments = (
        "call",
        "washout-order-sign",
        "--fhir-server",
        demo.fhir,
        "--patient",
        PATIENT,
        "--order",
        draft,
    )
    inside = run(*arguments, "--json")
    assert inside.code == 0
    outside = _call(run, demo, "washout-order-sign", "--order", draft, "--json")
    summaries = [[c["summary"] for c in ended.json["cards"]] for ended in (inside, outside)]
    assert summaries[0] == summaries[1]


def test_nothing_to_say_is_said(run: Run, demo: Any) -> None:
    ended = _call(run, demo, "grading-patient-view", patient="demo-nothing-to-say")
    assert ended.code == 0
    assert "nothing to say" in ended.out


@pytest.mark.parametrize(
    ("service", "more", "reason"),
    [
        ("no-such-service", (), "there is no service no-such-service"),
        ("washout-order-sign", (), "the hook order-sign needs draftOrders: give --order"),
        ("washout-patient-view", ("--omit", "nonsense"), "has no prefetch key nonsense"),
        ("washout-patient-view", ("--token-env", "TCELL_NO_SUCH"), "TCELL_NO_SUCH is not set"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(
    run: Run, demo: Any, service: str, more: tuple[str, ...], reason: str
) -> None:
    ended = _call(run, demo, service, *more)
    assert (ended.code, ended.out) == (1, "")
    assert reason in ended.err


def test_an_unknown_patient_is_the_service_s_refusal(run: Run, demo: Any) -> None:
    ended = _call(run, demo, "washout-patient-view", patient="nobody")
    assert ended.code == 1
    assert "washout-patient-view answered 412" in ended.err


def test_wrong_options_are_wrong_questions(run: Run, demo: Any, tmp_path: Path) -> None:
    assert run("call", "x", "--fhir-server", "fhir", "--patient", "p").code == 2
    order = tmp_path / "order.json"
    order.write_text('{"no": "resource"}', encoding="utf-8")
    ended = _call(run, demo, "washout-order-sign", "--order", order)
    assert ended.code == 2
    assert "a FHIR resource or Bundle is expected" in ended.err


def test_a_dead_service_is_no_trace(run: Run) -> None:
    ended = run(
        "call",
        "x",
        "--service",
        "http://127.0.0.1:1",
        "--fhir-server",
        "http://127.0.0.1:1",
        "--patient",
        "p",
    )
    assert ended.code == 1
    assert "no answer: ConnectError" in ended.err


# --- load


def _story(**changes: Any) -> Story:
    bundle = {
        "resourceType": "Bundle",
        "entry": [
            {
                "resource": {
                    "resourceType": "Patient",
                    "id": "tiny",
                    "identifier": [{"system": "urn:tcell-cds:demo-patient", "value": "tiny"}],
                }
            },
            {
                "resource": {
                    "resourceType": "Observation",
                    "id": "o1",
                    "subject": {"reference": "Patient/tiny"},
                    "effectiveDateTime": "2026-03-16T08:00:00+08:00",
                }
            },
        ],
    }
    clock = datetime(2026, 3, 16, 10, tzinfo=ZONE)
    return Story("tiny", bundle, changes.get("clock", clock))


def test_a_story_moves_to_a_day_or_to_now() -> None:
    now = datetime(2026, 11, 24, 4, 30, tzinfo=UTC)
    assert span_to(_story(), date(2026, 3, 20), now, ZONE) == timedelta(days=4)
    assert _story().clock + span_to(_story(), None, now, ZONE) == now  # type: ignore[operator]
    assert span_to(_story(clock=None), None, now, ZONE) == timedelta()


def test_a_transaction_creates_everything_anew() -> None:
    bundle = transaction(_story().bundle, timedelta(days=4))
    patient, observation = bundle["entry"]
    assert "id" not in patient["resource"]
    assert patient["request"] == {"method": "POST", "url": "Patient"}
    assert observation["resource"]["subject"]["reference"] == patient["fullUrl"]
    assert observation["resource"]["effectiveDateTime"] == "2026-03-20T08:00:00+08:00"


async def test_load_and_remove_leave_the_server_as_it_was() -> None:
    app = create_fhir_app()
    transport = httpx.ASGITransport(app)
    loaded = await put("http://fhir.test", [(_story(), timedelta())] * 2, "", transport)
    assert [item.before for item in loaded] == ["Patient/tiny", "Observation/o1"] * 2
    assert len({item.after for item in loaded}) == 4
    store = app.state.sandbox.store
    patients = {f"Patient/{resource['id']}" for resource in store.all("Patient")}
    assert patients == {item.after for item in loaded if item.before == "Patient/tiny"}
    assert {o["subject"]["reference"] for o in store.all("Observation")} == patients
    deleted = await remove("http://fhir.test", ["tiny"], "", transport)
    assert set(deleted) == {item.after for item in loaded}
    assert not list(store.all("Patient"))
    assert not list(store.all("Observation"))


async def test_a_server_that_refuses_is_named() -> None:
    transport = httpx.ASGITransport(create_fhir_app(token="right"))
    with pytest.raises(ServerError, match="POST answered 401"):
        await put("http://fhir.test", [(_story(), timedelta())], "wrong", transport)


def test_load_prints_the_new_ids_and_takes_them_away(run: Run, demo: Any, tmp_path: Path) -> None:
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(_story().bundle), encoding="utf-8")
    ended = run("load", "--fhir-server", demo.fhir, path)
    assert ended.code == 0
    assert "tiny: Patient/" in ended.out
    as_json = run("load", "--fhir-server", demo.fhir, path, "--as-of", "2026-03-20", "--json").json
    assert [item["before"] for item in as_json] == ["Patient/tiny", "Observation/o1"]
    removed = run("load", "--fhir-server", demo.fhir, path, "--remove")
    assert "removed 4 resources" in removed.out


def test_load_names_what_it_does_not_have(run: Run, tmp_path: Path) -> None:
    ended = run("load", "--fhir-server", "http://127.0.0.1:1", "no-such-story")
    assert ended.code == 2
    assert "demo-crs-grade-3" in ended.err
    path = tmp_path / "x.json"
    path.write_text("{}", encoding="utf-8")
    assert "a FHIR Bundle is expected" in run("load", "--fhir-server", "http://127.0.0.1:1", path).err
    dead = run("load", "--fhir-server", "http://127.0.0.1:1", "demo-nothing-to-say")
    assert (dead.code, "could not be reached" in dead.err) == (1, True)


def test_every_demo_story_knows_when_it_happens(fixtures: Path) -> None:
    for path in (fixtures / "patients").glob("*.json"):
        assert load_story(path.stem).clock is not None
