from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cds.cli.scrub import HOOK_INSTANCE, SCRUBBED, Scrubber
from fhir_mapping.terminology import load

Run = Callable[..., Any]
REQUEST = "requests/demo-washout-bendamustine-1.json"


def _essence(cards: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(card["source"]["topic"]["code"], card["summary"]) for card in cards]


def test_a_saved_request_gives_its_cards(run: Run, fixtures: Path) -> None:
    ended = run("evaluate", fixtures / REQUEST, "--json")
    assert ended.code == 0
    (answer,) = ended.json
    assert answer["service"] == "all-order-sign"
    rules = [rule for rule, _ in _essence(answer["cards"])]
    assert "washout.leukapheresis" in rules


def test_one_service_can_be_chosen_and_the_language_too(run: Run, fixtures: Path) -> None:
    (english,) = run("evaluate", fixtures / REQUEST, "--service-id", "washout-order-sign", "--json").json
    arguments = (fixtures / REQUEST, "--service-id", "washout-order-sign", "--language", "zh-TW", "--json")
    (chinese,) = run("evaluate", *arguments).json
    assert {rule.partition(".")[0] for rule, _ in _essence(english["cards"])} == {"washout"}
    assert english["cards"][0]["uuid"] != ""
    assert english["cards"][0]["summary"] != chinese["cards"][0]["summary"]


def test_every_card_of_the_hook_is_given_and_one_service_is_cut_as_an_ehr_gets_it(
    run: Run, fixtures: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("TCELL_CDS_MAX_CARDS", "1")
    request = fixtures / "requests/demo-vaccines-month-7-1.json"
    (whole,) = run("evaluate", request, "--json").json
    (cut,) = run("evaluate", request, "--service-id", "all-patient-view", "--json").json
    assert len(whole["cards"]) > len(cut["cards"])


def test_cards_are_printed_for_a_reader(run: Run, fixtures: Path) -> None:
    out = run("evaluate", fixtures / REQUEST, "--service-id", "washout-order-sign").out
    assert "WARNING" in out
    assert "Bendamustine 38 days before leukapheresis" in out
    assert "washout.leukapheresis · not-met" in out


def test_explain_says_what_was_looked_at(run: Run, fixtures: Path) -> None:
    out = run("evaluate", fixtures / REQUEST, "--explain").out
    assert "looked at" in out
    assert "leukapheresis planned 2026-04-25" in out
    assert "silent: " in out
    (answer,) = run("evaluate", fixtures / REQUEST, "--explain", "--json").json
    explained = {rule["rule"]: rule for rule in answer["explanation"]["rules"]}
    assert explained["washout.leukapheresis"]["answers"]
    assert answer["explanation"]["keys"]["patient"] == "1 found"


def test_explain_where_no_draft_concerns_the_service(run: Run, tmp_path: Path) -> None:
    draft = {"resourceType": "ServiceRequest", "id": "s1", "code": {"text": "chair"}}
    context = {"patientId": "p1", "draftOrders": {"resourceType": "Bundle", "entry": [{"resource": draft}]}}
    path = _saved(tmp_path, {"hook": "order-sign", "hookInstance": "i", "context": context})
    out = run("evaluate", path, "--service-id", "washout-order-sign", "--explain").out
    assert "no cards" in out
    assert "nothing was read" in out


def _saved(folder: Path, body: object) -> Path:
    path = folder / "saved.json"
    path.write_text(json.dumps(body), encoding="utf-8")
    return path


def test_a_refusal_is_told_and_is_a_failure(run: Run, tmp_path: Path) -> None:
    path = _saved(tmp_path, {"hook": "patient-view", "hookInstance": "i", "context": {"patientId": "p1"}})
    ended = run("evaluate", path)
    assert ended.code == 1
    assert "all-patient-view: refused with 412" in ended.err
    (answer,) = run("evaluate", path, "--json").json
    assert answer["status"] == 412


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not JSON"),
        ("[]", "a JSON object is expected"),
        ('{"hook": "unheard-of"}', "no service answers the hook unheard-of"),
    ],
)
def test_a_wrong_file_is_a_wrong_question(run: Run, tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text, encoding="utf-8")
    ended = run("evaluate", path)
    assert (ended.code, ended.out) == (2, "")
    assert reason in ended.err
    assert run("evaluate", tmp_path / "absent.json").code == 2


def test_nothing_is_fetched(run: Run, tmp_path: Path, fixtures: Path, monkeypatch: Any) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("a call left the command")

    monkeypatch.setattr("httpx.AsyncHTTPTransport.handle_async_request", never)
    body = {"hook": "patient-view", "hookInstance": "i", "context": {"patientId": "p1"}}
    server = {"fhirServer": "http://127.0.0.1:9", "fhirAuthorization": {"access_token": "t"}}
    assert run("evaluate", _saved(tmp_path, body | server)).code == 1
    assert run("evaluate", fixtures / REQUEST, "--json").code == 0


def test_the_clock_can_be_set(run: Run, fixtures: Path) -> None:
    request = fixtures / "requests/demo-crs-grade-3-1.json"
    assert "CRS grade 3 (ASTCT) on day 4" in run("evaluate", request).out
    later = run("evaluate", request, "--now", "2026-03-17T06:00+08:00").out
    assert "on day 5" in later
    assert "on day 4" not in later


# --- scrub


def test_scrub_writes_a_copy_with_the_same_verdicts(run: Run, tmp_path: Path, fixtures: Path) -> None:
    target = tmp_path / "copy.json"
    ended = run("evaluate", fixtures / REQUEST, "--scrub", "--output", target)
    assert ended.code == 0
    assert "same verdicts" in ended.err
    text = target.read_text(encoding="utf-8")
    for secret in ("demo-washout-bendamustine", "Synthetic", "2026-03-16", "demo-patient"):
        assert secret not in text
    again = run("evaluate", target, "--json")
    assert [len(answer["cards"]) for answer in again.json] == [
        len(answer["cards"]) for answer in run("evaluate", fixtures / REQUEST, "--json").json
    ]


def test_scrub_keeps_what_rules_read_and_drops_who_it_is() -> None:
    body = {
        "hook": "patient-view",
        "hookInstance": "b2e5",
        "fhirServer": "https://ehr.example/fhir",
        "fhirAuthorization": {"access_token": "token"},
        "context": {"patientId": "12345", "userId": "Practitioner/dr-lin"},
        "prefetch": {
            "patient": {
                "resourceType": "Patient",
                "id": "12345",
                "name": [{"family": "林"}],
                "telecom": [{"value": "0912"}],
                "birthDate": "1968-02-11",
                "gender": "female",
                "text": {"status": "generated", "div": "<div>林</div>"},
                "identifier": [{"system": "urn:mrn", "value": "A123456789"}],
            },
            "labs": {
                "resourceType": "Bundle",
                "link": [{"relation": "next", "url": "https://ehr.example/fhir?page=2"}],
                "entry": [
                    {
                        "fullUrl": "https://ehr.example/fhir/Observation/o1",
                        "resource": {
                            "resourceType": "Observation",
                            "id": "o1",
                            "code": {
                                "coding": [{"system": "http://loinc.org", "code": "8310-5"}],
                                "text": "林's 體溫",
                            },
                            "subject": {
                                "reference": "https://ehr.example/fhir/Patient/12345",
                                "display": "林",
                            },
                            "effectiveDateTime": "2026-03-16T08:00:00+08:00",
                            "valueQuantity": {"value": 39.1, "unit": "Cel"},
                            "note": [{"text": "family of 林 told us"}],
                        },
                    },
                    {
                        "resource": {
                            "resourceType": "Observation",
                            "id": "o2",
                            "valueString": "<0.5",
                            "hasMember": [{"reference": "Observation/o1"}],
                            "identifier": [{"system": "https://hospital.example/bag", "value": "BAG-77"}],
                            "groupIdentifier": {
                                "system": "urn:tcell-cds:concept",
                                "value": "regimen-flu-cy",
                            },
                        }
                    },
                    {"resource": {"resourceType": "Observation", "id": "o3", "valueString": "陰性"}},
                    {
                        "resource": {
                            "resourceType": "MedicationRequest",
                            "medicationCodeableConcept": {"text": "Bendamustine"},
                        }
                    },
                ],
            },
        },
    }
    scrubbed = Scrubber(load(), timedelta(days=-400)).request(body)
    text = json.dumps(scrubbed, ensure_ascii=False)
    for secret in (
        "林",
        "0912",
        "A123456789",
        "12345",
        "dr-lin",
        "ehr.example",
        "hospital.example",
        "BAG-77",
        "token",
        "b2e5",
        "2026-03-16",
    ):
        assert secret not in text, secret
    assert scrubbed["hookInstance"] == HOOK_INSTANCE
    patient, labs = scrubbed["prefetch"]["patient"], scrubbed["prefetch"]["labs"]
    assert scrubbed["context"]["patientId"] == patient["id"]
    first, second, third, order = (entry["resource"] for entry in labs["entry"])
    assert first["subject"]["reference"] == f"Patient/{patient['id']}"
    assert first["effectiveDateTime"] == "2025-02-09T08:00:00+08:00"
    assert first["valueQuantity"] == {"value": 39.1, "unit": "Cel"}
    assert first["code"]["coding"] == [{"system": "http://loinc.org", "code": "8310-5"}]
    assert first["note"] == [{"text": SCRUBBED}]
    assert (second["valueString"], third["valueString"]) == ("<0.5", "陰性")
    assert second["groupIdentifier"]["value"] == "regimen-flu-cy"
    assert second["hasMember"] == [{"reference": f"Observation/{first['id']}"}]
    assert order["medicationCodeableConcept"]["text"] == "Bendamustine"
    assert labs["link"] == [{"relation": "next", "url": "https://scrubbed.example/next"}]
    assert "identifier" not in patient
    assert patient["birthDate"] == "1967-01-07"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "text", "reference", "link", "coding", "value", "name"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=5), _JSON, max_size=4))
def test_any_json_is_scrubbed_without_failing(body: dict[str, Any]) -> None:
    json.dumps(Scrubber(load(), timedelta(days=-1)).request(body))


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("valueString", "0912345678"),  # a telephone number is no result
        ("valueString", "12 Canary"),
        ("conclusion", "12 Canary"),
        ("effectiveDateTime", "2025-01-01TCanary"),
        ("start", "Canary"),
        ("authoredOn", "of Canary"),
        ("status", "final Canary"),
        ("type", "of Canary"),
        ("unknownField", "Canary"),
    ],
)
def test_scrub_keeps_no_text_where_a_date_a_word_or_a_result_is_expected(key: str, text: str) -> None:
    body = {"hook": "patient-view", "prefetch": {"labs": {"resourceType": "Observation", key: text}}}
    assert text not in json.dumps(Scrubber(load(), timedelta(days=-400)).request(body))


def test_scrub_keeps_references_as_type_and_renamed_id() -> None:
    body = {
        "a": {"reference": "https://ehr.example/fhir/Patient/77"},
        "b": {"reference": "Mrs Canary/77"},
        "c": {"valueString": "150000 /uL"},
    }
    scrubbed = Scrubber(load(), timedelta(days=-400)).request(body)
    assert scrubbed["a"]["reference"].startswith("Patient/")
    assert "Canary" not in scrubbed["b"]["reference"]
    assert scrubbed["c"]["valueString"] == "150000 /uL"
