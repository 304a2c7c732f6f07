"""References by the `urn:uuid:` address of a Bundle's entry."""

from __future__ import annotations

from typing import Any

import pytest

from cds.protocol.addresses import readdressed

PATIENT, DRUG = (
    "urn:uuid:aaaaaaaa-0000-4000-8000-000000000001",
    "urn:uuid:aaaaaaaa-0000-4000-8000-000000000002",
)


def entry(address: str, resource: Any) -> dict[str, Any]:
    return {"fullUrl": address, "resource": resource}


def order(patient: str = PATIENT, drug: str = DRUG, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "MedicationRequest",
        "subject": {"reference": patient},
        "medicationReference": {"reference": drug},
        **more,
    }


def test_a_resource_with_an_id_is_referred_to_by_it_under_every_key() -> None:
    held = {
        "patient": {"entry": [entry(PATIENT, {"resourceType": "Patient", "id": "p1"})]},
        "orders": {"entry": [entry("urn:uuid:x", order(id="o1")), {"resource": order(id="o2")}]},
        "drugs": {"entry": [entry(DRUG, {"resourceType": "Medication", "id": "m1"})]},
        "nothing": None,
    }
    found = readdressed(held)
    for one in found["orders"]["entry"]:
        assert one["resource"]["subject"] == {"reference": "Patient/p1"}
        assert one["resource"]["medicationReference"] == {"reference": "Medication/m1"}
    assert held["orders"]["entry"][1]["resource"]["subject"] == {"reference": PATIENT}  # type: ignore[index]


def test_a_resource_without_id_takes_the_id_of_its_address() -> None:
    found = readdressed(
        {
            "draftOrders": {
                "entry": [entry("urn:uuid:u1", order()), entry(DRUG, {"resourceType": "Medication"})]
            }
        }
    )
    first, second = (one["resource"] for one in found["draftOrders"]["entry"])
    assert first["id"] == "u1"
    assert second["id"] == DRUG.removeprefix("urn:uuid:")
    assert first["medicationReference"] == {"reference": f"Medication/{second['id']}"}


@pytest.mark.parametrize(
    "value",
    [
        {
            "entry": [
                entry("https://ehr.example.org/Medication/m1", {"resourceType": "Medication", "id": "m1"})
            ]
        },
        {"entry": [entry("urn:uuid:m1", {"resourceType": "Medication", "id": "m1"})]},
        {"entry": [entry(PATIENT, {"resourceType": "Patient"})]},
        {"entry": [entry(PATIENT, "x"), entry(PATIENT, {"id": "p1"}), 5, {"fullUrl": 5}, {}]},
        {"entry": {"resource": {}}},
        "x",
        [],
    ],
)
def test_what_needs_no_change_is_left_as_it_is(value: Any) -> None:
    held = {"key": value}
    assert readdressed(held) is held
