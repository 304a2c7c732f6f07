"""Shapes of STU3 and R5: read where they mean the same, else lost with a name."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from fhir_mapping.chart import Chart, ConditionState, DrugState, EventState
from tests.fhir_mapping.read.charts import SUBJECT, cc, chart, q


def resource(kind: str, **fields: Any) -> dict[str, Any]:
    return {"resourceType": kind, "id": "x", "subject": SUBJECT, **fields}


def first_drug(seen: Chart) -> tuple[Any, ...]:
    (record,) = seen.drugs.all
    return record.ingredients, record.state, record.timing.first and record.timing.first.date


CASES = [
    (
        "R5 administration",
        resource(
            "MedicationAdministration",
            status="completed",
            medication={"concept": cc("tocilizumab")},
            occurenceDateTime="2025-04-10",
        ),
        first_drug,
        (("tocilizumab",), DrugState.GIVEN, date(2025, 4, 10)),
    ),
    (
        "R5 statement",
        resource(
            "MedicationStatement",
            status="recorded",
            medication={"concept": cc("prednisone")},
            effectiveDateTime="2025-04-10",
        ),
        first_drug,
        (("prednisone",), DrugState.ACTIVE, date(2025, 4, 10)),
    ),
    (
        "R5 request with a reference",
        resource(
            "MedicationRequest",
            status="active",
            intent="order",
            medication={"reference": {"reference": "#m"}},
            contained=[{"resourceType": "Medication", "id": "m", "code": cc("fludarabine")}],
            authoredOn="2025-04-10",
        ),
        first_drug,
        (("fludarabine",), DrugState.ACTIVE, date(2025, 4, 10)),
    ),
    (
        "STU3 dose beside the instruction",
        resource(
            "MedicationRequest",
            status="active",
            intent="order",
            medicationCodeableConcept=cc("fludarabine"),
            dosageInstruction=[{"doseQuantity": q(50, "mg")}],
        ),
        lambda c: c.drugs.all[0].dose.mg,
        50,
    ),
    (
        "STU3 condition",
        resource(
            "Condition",
            clinicalStatus="resolved",
            verificationStatus="confirmed",
            code=cc("dlbcl"),
            assertedDate="2024-01-02",
        ),
        lambda c: [(x.state, x.recorded.date) for x in c.conditions],
        [(ConditionState.HISTORY, date(2024, 1, 2))],
    ),
    (
        "R5 procedure",
        resource("Procedure", status="completed", code=cc("hemodialysis"), occurrenceDateTime="2025-04-01"),
        lambda c: [(p.state, p.start.date) for p in c.procedures],
        [(EventState.DONE, date(2025, 4, 1))],
    ),
    (
        "R5 service",
        resource("ServiceRequest", status="active", intent="order", code={"concept": cc("eeg")}),
        lambda c: len(c.services.of("eeg")),
        1,
    ),
    (
        "R5 encounter",
        resource(
            "Encounter",
            status="completed",
            **{"class": [{"coding": [{"code": "IMP"}]}]},
            actualPeriod={"start": "2025-04-01", "end": "2025-04-03"},
        ),
        lambda c: [(e.class_code, e.finished, e.end.date) for e in c.encounters],
        [("IMP", True, date(2025, 4, 3))],
    ),
    (
        "R5 appointment",
        resource(
            "Appointment",
            status="booked",
            start="2025-05-01T08:00:00Z",
            serviceType=[{"concept": cc("car_t_infusion")}],
        ),
        lambda c: len(c.appointments.of("car_t_infusion")),
        1,
    ),
    (
        "STU3 immunization",
        {
            "resourceType": "Immunization",
            "id": "x",
            "patient": SUBJECT,
            "status": "completed",
            "vaccineCode": cc("vac_rzv"),
            "date": "2025-01-02",
        },
        lambda c: [v.when.date for v in c.vaccines],
        [date(2025, 1, 2)],
    ),
]


@pytest.mark.parametrize(
    ("sent", "read", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_other_versions(sent: dict[str, Any], read: Any, expected: Any) -> None:
    assert read(chart(sent)) == expected


def test_a_drug_that_no_version_has_is_unidentified_and_named() -> None:
    seen = chart(resource("MedicationRequest", status="active", intent="order", drug=cc("fludarabine")))
    assert [record.identified for record in seen.drugs] == [False]
    assert [(loss.resource, loss.text) for loss in seen.losses] == [("MedicationRequest/x", "medication")]


@pytest.mark.parametrize(
    "denied",
    [
        resource(
            "MedicationAdministration", status="completed", notGiven=True, effectiveDateTime="2025-04-10"
        ),
        resource("MedicationStatement", status="active", taken="n", effectiveDateTime="2025-04-10"),
    ],
)
def test_what_stu3_says_was_not_given_or_taken_is_no_exposure(denied: dict[str, Any]) -> None:
    assert not chart({**denied, "medicationCodeableConcept": cc("tocilizumab")}).drugs.all
