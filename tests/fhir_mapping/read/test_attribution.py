"""What an event is attributed to (chart-facts T9): evidence in the Condition, or an Observation about it."""

from typing import Any

from fhir_mapping import read_chart
from fhir_mapping.chart import Chart
from fhir_mapping.terminology import load
from tests.casebook.shorthand import ZONE, Bench, add
from tests.conftest import FROZEN

ATC = "http://www.whocc.no/atc"


def _chart(condition: dict[str, Any], *entries: dict[str, Any]) -> Chart:
    bench = Bench(now=FROZEN, d0=FROZEN)
    add({"patient": "p1"}, bench)
    add({"condition": "neutropenia", "since": "-3d", "id": "event"}, bench)
    bench.resources[-1] |= condition
    for entry in entries:
        add(entry, bench)
    return read_chart(bench.resources, patient_id="p1", now=FROZEN, zone=ZONE, terminology=load())


def test_t9_evidence_code_names_the_cause() -> None:
    cause = [{"code": [{"coding": [{"system": ATC, "code": "L01EL01"}]}]}]
    (event,) = _chart({"evidence": cause}).conditions.of("neutropenia")
    assert "ibrutinib" in event.attributed_to


def test_t9_an_observation_about_the_condition_names_the_cause() -> None:
    stated = {"obs": "attributed_to", "value": "ibrutinib", "at": "-1d", "focus": "Condition/event"}
    (event,) = _chart({}, stated).conditions.of("neutropenia")
    assert "ibrutinib" in event.attributed_to


def test_t9_an_observation_about_something_else_does_not() -> None:
    stated = {"obs": "attributed_to", "value": "ibrutinib", "at": "-1d", "focus": "Condition/other"}
    (event,) = _chart({}, stated).conditions.of("neutropenia")
    assert not event.attributed_to
