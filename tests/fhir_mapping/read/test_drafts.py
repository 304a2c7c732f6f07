"""What a hook brings (chart-facts section 18)."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from fhir_mapping import read_drafts
from fhir_mapping.chart import DrugState, EventState, Flag
from fhir_mapping.terminology import load
from tests.fhir_mapping.read.charts import NOW, TAIPEI, cc, chart, local, order, q, service, visit


def bare(**more: Any) -> dict[str, Any]:
    return {
        "resourceType": "MedicationRequest",
        "id": "d",
        "medicationCodeableConcept": cc("bendamustine"),
        **more,
    }


def test_missing_parts_of_a_draft_have_defaults() -> None:
    (draft,) = chart(drafts=[bare()]).drafts.drugs.all
    assert draft.state is DrugState.DRAFT
    assert draft.authored is not None
    assert draft.authored.earliest == NOW
    assert draft.timing.doses
    assert draft.timing.doses[0].earliest == NOW
    assert Flag.NO_SUBJECT not in draft.flags


@pytest.mark.parametrize("status", ["draft", "active", "completed"])
def test_a_draft_may_be_signed_again(status: str) -> None:
    assert [d.state for d in chart(drafts=[bare(status=status)]).drafts.drugs] == [DrugState.DRAFT]


@pytest.mark.parametrize(
    ("status", "state"), [("stopped", DrugState.STOPPED), ("on-hold", DrugState.ON_HOLD)]
)
def test_a_draft_may_end_an_order(status: str, state: DrugState) -> None:
    assert [d.state for d in chart(drafts=[bare(status=status)]).drafts.drugs] == [state]


def test_a_cancelled_draft_is_gone() -> None:
    assert not chart(drafts=[bare(status="cancelled")]).drafts.drugs.all


def test_a_draft_with_intent_plan_is_judged() -> None:
    assert len(chart(drafts=[bare(intent="plan")]).drafts.drugs) == 1


def test_a_draft_for_another_patient_is_dropped_and_named() -> None:
    seen = chart(drafts=[bare(subject={"reference": "Patient/p2"})])
    assert not seen.drafts.drugs.all
    assert [x.text for x in seen.losses] == ["another patient's data"]


def test_sandbox_shapes_are_read() -> None:
    bundle = {
        "entry": [{"resource": bare(category={"text": "inpatient"}, unknownField=1, status="draft")}],
        "resourceType": "Bundle",
    }
    assert len(chart(drafts=[bundle]).drafts.drugs) == 1


def test_entries_that_are_no_orders_are_ignored_without_a_loss() -> None:
    others = [
        {"resourceType": kind, "id": "x"}
        for kind in ("NutritionOrder", "VisionPrescription", "CommunicationRequest")
    ]
    seen = chart(drafts=others)
    assert not seen.losses


def test_a_medication_among_the_drafts_resolves_a_reference() -> None:
    medication = {"resourceType": "Medication", "id": "m", "code": cc("tocilizumab")}
    draft = bare(medicationCodeableConcept=None, medicationReference={"reference": "Medication/m"})
    assert chart(drafts=[medication, draft]).drafts.drugs.all[0].ingredients == ("tocilizumab",)


def test_a_medication_on_the_chart_resolves_a_draft() -> None:
    medication = {"resourceType": "Medication", "id": "m", "code": cc("tocilizumab")}
    draft = bare(medicationCodeableConcept=None, medicationReference={"reference": "Medication/m"})
    assert chart(medication, drafts=[draft]).drafts.drugs.all[0].ingredients == ("tocilizumab",)


@pytest.mark.parametrize(
    "draft",
    [
        bare(id="old"),
        bare(priorPrescription={"reference": "MedicationRequest/old"}),
        bare(replaces=[{"reference": "https://ehr.example/fhir/MedicationRequest/old"}]),
        bare(identifier=[{"system": "urn:orders", "value": "7"}]),
    ],
)
def test_a_draft_takes_the_place_of_the_order_it_replaces(draft: dict[str, Any]) -> None:
    old = order("bendamustine", id="old", identifier=[{"system": "urn:orders", "value": "7"}])
    seen = chart(old, order("fludarabine", id="other"), drafts=[draft])
    assert [d.reference for d in seen.drugs] == ["MedicationRequest/other"]
    assert len(seen.drafts.drugs) == 1


def test_a_draft_without_an_id_replaces_nothing() -> None:
    bare_draft = {key: value for key, value in bare().items() if key != "id"}
    seen = chart(order("bendamustine", id="old"), drafts=[bare_draft])
    assert len(seen.drugs) == 1


def test_service_and_device_drafts() -> None:
    device = {"resourceType": "DeviceRequest", "id": "x", "codeCodeableConcept": local("dev_cpap")}
    transfusion = {
        "resourceType": "ServiceRequest",
        "id": "y",
        "code": local("red_cells"),
        "quantityQuantity": q(2),
    }
    found = chart(drafts=[device, transfusion]).drafts.services
    assert {(s.reference, s.state) for s in found} == {
        ("DeviceRequest/x", EventState.DRAFT),
        ("ServiceRequest/y", EventState.DRAFT),
    }
    assert len(found.of("red_cells")) == 1


def test_a_vaccine_order_is_a_vaccine_and_a_drug() -> None:
    drafts = chart(drafts=[bare(medicationCodeableConcept=cc("vac_rzv"))]).drafts
    assert len(drafts.vaccines.of("vac_rzv")) == 1
    assert len(drafts.drugs.of("vac_rzv")) == 1


def test_a_contradictory_draft_is_kept_unidentified() -> None:
    seen = chart(drafts=[bare(medicationCodeableConcept=cc("bendamustine", "fludarabine"))])
    (draft,) = seen.drafts.drugs.all
    assert (draft.identified, draft.concepts) == (False, frozenset())
    assert [x.reason.value for x in seen.losses] == ["contradictory"]


def test_the_appointment_under_test_stands_beside_the_booked_one() -> None:
    purpose = {"reasonCode": [local("purpose_car_t_collection")]}
    booked = visit("leukapheresis", "2025-05-10T08:00:00+08:00", **purpose)
    proposed = visit("leukapheresis", "2025-05-20T08:00:00+08:00", id="new", status="proposed", **purpose)
    seen = chart(booked, appointments=[proposed])
    assert seen.course.leukapheresis is not None
    assert seen.course.leukapheresis.date == date(2025, 5, 20)
    assert [(a.reference, a.proposed) for a in seen.drafts.appointments] == [("Appointment/new", True)]
    assert [a.proposed for a in seen.appointments] == [False]


def test_drafts_can_be_read_without_a_chart() -> None:
    found = read_drafts(
        [bare(), service("red_cells", status="draft")],
        patient_id="p1",
        now=NOW,
        zone=TAIPEI,
        terminology=load(),
        appointments=[visit("car_t_infusion", status="proposed")],
    )
    whole = chart(
        drafts=[bare(), service("red_cells", status="draft")],
        appointments=[visit("car_t_infusion", status="proposed")],
    )
    assert found.drugs.all == whole.drafts.drugs.all
    assert found.services.all == whole.drafts.services.all
    assert found.appointments.all == whole.drafts.appointments.all
