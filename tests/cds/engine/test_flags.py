"""Flags of the facts that decided reach the evidence, whatever the rule does."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from cards.finding import Evidence, Finding, Indicator, Outcome, msg
from cds.engine.flags import flagged
from fhir_mapping.chart import Chart, Flag
from fhir_mapping.read import read_chart
from fhir_mapping.terminology import load

ZONE = ZoneInfo("Asia/Taipei")
SUBJECT = {"reference": "Patient/p1"}
PATIENT = {"resourceType": "Patient", "id": "p1"}


def _concept(name: str) -> dict[str, Any]:
    return {"coding": [{"system": "urn:tcell-cds:concept", "code": name}]}


def _chart(*resources: dict[str, Any]) -> Chart:
    now = datetime(2026, 3, 28, 14, 30, tzinfo=ZONE)
    return read_chart([PATIENT, *resources], patient_id="p1", now=now, zone=ZONE, terminology=load())


def _finding(*evidence: Evidence) -> Finding:
    return Finding("grading.crs", Outcome.GRADE_1, Indicator.INFO, msg("summary.x"), evidence=evidence)


TEMPERATURE = {
    "resourceType": "Observation",
    "id": "o1",
    "status": "preliminary",
    "code": _concept("body-temperature"),
    "subject": SUBJECT,
    "effectiveDateTime": "2026-03-28T10:00:00+08:00",
    "valueQuantity": {"value": 39, "system": "http://unitsofmeasure.org", "code": "Cel"},
}
INFECTION = {
    "resourceType": "Condition",
    "id": "c1",
    "code": _concept("sepsis"),
    "subject": SUBJECT,
    "recordedDate": "2026-03-27",
}
BY_NAME = {
    "resourceType": "MedicationAdministration",
    "id": "a1",
    "status": "completed",
    "medicationCodeableConcept": {"text": "Tocilizumab"},
    "subject": SUBJECT,
    "effectiveDateTime": "2026-03-28T09:00:00+08:00",
}


@pytest.mark.parametrize(
    ("resource", "evidence", "flag"),
    [
        (TEMPERATURE, Evidence("Observation/o1", "body_temperature"), Flag.PRELIMINARY),
        (INFECTION, Evidence("Condition/c1", "sepsis"), Flag.RECORDED_DATE),
        (BY_NAME, Evidence("MedicationAdministration/a1", "tocilizumab"), Flag.BY_NAME),
    ],
)
def test_a_flag_of_the_chart_is_named(resource: dict[str, Any], evidence: Evidence, flag: Flag) -> None:
    (found,) = flagged(_finding(evidence), _chart(resource)).evidence
    assert flag in found.flags
    assert replace(found, flags=frozenset()) == evidence


@pytest.mark.parametrize(
    "evidence",
    [
        Evidence("Observation/other", "body_temperature"),
        Evidence("Observation/o1"),
        Evidence("Patient/p1", "sepsis"),
        Evidence("", "body_temperature"),
    ],
)
def test_what_is_not_on_the_chart_stays_as_it_is(evidence: Evidence) -> None:
    finding = _finding(evidence)
    assert flagged(finding, _chart(TEMPERATURE)) is finding


def test_flags_that_a_rule_gave_are_kept() -> None:
    evidence = Evidence("Observation/o1", "body_temperature", flags=frozenset({Flag.DERIVED}))
    assert flagged(_finding(evidence), _chart(TEMPERATURE)).evidence == (evidence,)
