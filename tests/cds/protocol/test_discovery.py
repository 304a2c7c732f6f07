"""Checklist 1.1 and 1.7: discovery answers and the hook library behind them."""

from __future__ import annotations

from typing import Any

import pytest

from cds.protocol import HOOKS, Presence, ServiceDescription, discovery, with_versions
from cds.protocol.walker import discovery_problems

SERVICE = ServiceDescription(
    "grading-patient-view",
    "patient-view",
    "Toxicity grades",
    "Grades CRS.",
    {
        "patient": "Patient/{{context.patientId}}",
        "labs": "Observation?patient={{context.patientId}}&_count=5",
    },
    "Required prefetch keys: patient.",
)


def test_01_answer_lists_services_and_passes_the_walker() -> None:
    answer = discovery([SERVICE])
    assert answer["services"][0]["usageRequirements"] == "Required prefetch keys: patient."
    assert discovery_problems(answer) == []
    assert discovery_problems(with_versions(answer)) == []


def test_02_no_service_is_an_empty_array() -> None:
    assert discovery([]) == {"services": []}
    assert discovery_problems({"services": []}) == []


def test_07_nothing_to_prefetch_leaves_the_field_out() -> None:
    bare = ServiceDescription("a", "patient-view", "A", "B")
    assert "prefetch" not in discovery([bare])["services"][0]
    assert "usageRequirements" not in discovery([bare])["services"][0]


def test_09_10_versions_are_added_only_when_wanted() -> None:
    plain = discovery([SERVICE])["services"][0]
    assert "version" not in plain
    versioned = with_versions(discovery([SERVICE]))["services"][0]
    assert (versioned["version"], versioned["hookVersion"]) == ("2.0.1", "1.0")


def changed(**changes: Any) -> dict[str, Any]:
    service = discovery([SERVICE])["services"][0] | changes
    return {"services": [{key: value for key, value in service.items() if value is not ...}]}


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ([], "object is required"),
        ({}, "services: is required"),
        ({"services": {}}, "services: an array"),
        ({"services": [3]}, "services[0]: an object"),
        (changed(hook=...), "hook: a non-empty string"),
        (changed(description=""), "description"),
        (changed(id=5), "id: a non-empty string"),
        (changed(id="a/b"), "URL path"),
        (changed(title=""), "title"),
        (changed(prefetch={}), "prefetch: null or empty"),
        (changed(prefetch="x"), "prefetch: an object"),
        (changed(prefetch={"a": 5}), "prefetch.a: a string"),
        (changed(prefetch={"a": "Patient/{{context.draftOrders}}"}), "no prefetch token draftOrders"),
        (changed(prefetch={"a": "Patient/{{context.patientId.value}}"}), "not a root context field"),
        (changed(prefetch={"a": "Patient/{{patientId}}"}), "not a root context field"),
        (changed(prefetch={"a": "Observation?date=gt{{today()}}"}), "not a root context field"),
        (changed(prefetch={"a": "Patient/{context.patientId}"}), "delimited"),
        (changed(prefetch={"a": "Patient?_include=x"}), "_include"),
        (changed(prefetch={"a": "Observation?subject.name=x"}), "chains"),
        (changed(prefetch={"a": "Observation?code:text=x"}), "modifiers"),
        (changed(prefetch={"a": "https://x.org/Patient/1"}), "a read"),
        (changed(prefetch={"a": "Observation?code=" + "1," * 1500}), "longer than"),
        (changed(version="2"), "semantic version"),
        (changed(hookVersion="2.0"), "published as 1.0"),
        (changed(usage_requirements="x"), "unknown field"),
        (changed(extension={"x": 1}), "reverse-domain"),
        ({"services": changed()["services"] * 2}, "unique"),
    ],
)
def test_walker_names_the_fault_of_a_discovery_answer(answer: object, fault: str) -> None:
    assert any(fault in line for line in discovery_problems(answer)), discovery_problems(answer)


def test_13_user_tokens_are_tokens_of_every_hook() -> None:
    assert discovery_problems(changed(prefetch={"a": "Practitioner/{{userPractitionerId}}"})) == []


def test_17_library_has_the_hooks_with_their_versions() -> None:
    versions = {name: spec.version for name, spec in HOOKS.items()}
    assert versions["patient-view"] == versions["order-select"] == versions["order-sign"] == "1.0"
    assert versions["encounter-discharge"] == versions["appointment-book"] == "1.0"
    assert versions["order-dispatch"] == "1.1"
    assert HOOKS["order-dispatch"].tokens == {"patientId", "dispatchedOrders", "performer"}
    assert HOOKS["order-select"].tokens == {"userId", "patientId", "encounterId"}


def test_17_encounter_id_is_required_on_encounter_hooks_only() -> None:
    needed = {
        name
        for name, spec in HOOKS.items()
        for item in spec.fields
        if item.name == "encounterId" and item.presence is Presence.REQUIRED
    }
    assert needed == {"encounter-start", "encounter-discharge"}
