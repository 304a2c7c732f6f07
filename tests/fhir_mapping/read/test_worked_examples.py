"""The worked examples of the chart-facts table are read as it says."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any

from fhir_mapping.chart import Amount, Evidence, Route
from tests.fhir_mapping.read.charts import ATC, LOINC, SNOMED, SUBJECT, TAIPEI, UCUM, cc, chart, local

TW = "https://twcore.mohw.gov.tw/ig/twcore/CodeSystem"


def ucum(value: float, code: str) -> dict[str, Any]:
    return {"value": value, "system": UCUM, "code": code}


def test_crs_with_one_vasopressor_and_a_cannula() -> None:
    seen = chart(
        {"resourceType": "Patient", "id": "p1", "birthDate": "1968-02-11", "gender": "male"},
        {
            "resourceType": "Condition",
            "id": "dx",
            "subject": SUBJECT,
            "clinicalStatus": {"coding": [{"code": "active"}]},
            "code": cc(f"{SNOMED}|109969005"),
        },
        {
            "resourceType": "MedicationAdministration",
            "id": "cart",
            "status": "completed",
            "subject": SUBJECT,
            "identifier": [{"type": local("bag_number"), "value": "B1"}],
            "medicationCodeableConcept": cc(f"{ATC}|L01XL04"),
            "effectivePeriod": {"start": "2025-04-12T14:00:00+08:00", "end": "2025-04-12T14:20:00+08:00"},
        },
        {
            "resourceType": "Observation",
            "id": "t",
            "status": "final",
            "subject": SUBJECT,
            "code": cc(f"{LOINC}|8310-5"),
            "effectiveDateTime": "2025-04-16T08:10:00+08:00",
            "valueQuantity": ucum(39.1, "Cel"),
        },
        {
            "resourceType": "Observation",
            "id": "bp",
            "status": "final",
            "subject": SUBJECT,
            "code": cc(f"{LOINC}|85354-9"),
            "effectiveDateTime": "2025-04-16T09:45:00+08:00",
            "component": [
                {"code": cc(f"{LOINC}|8480-6"), "valueQuantity": ucum(96, "mm[Hg]")},
                {"code": cc(f"{LOINC}|8462-4"), "valueQuantity": ucum(58, "mm[Hg]")},
            ],
        },
        {
            "resourceType": "MedicationAdministration",
            "id": "ne",
            "status": "in-progress",
            "subject": SUBJECT,
            "medicationCodeableConcept": cc(f"{ATC}|C01CA03"),
            "effectivePeriod": {"start": "2025-04-16T07:30:00+08:00"},
            "dosage": {"route": cc(f"{SNOMED}|47625008"), "rateQuantity": ucum(0.12, "ug/kg/min")},
        },
        {
            "resourceType": "Observation",
            "id": "o2",
            "status": "final",
            "subject": SUBJECT,
            "code": cc(f"{LOINC}|3151-8"),
            "effectiveDateTime": "2025-04-16T09:45:00+08:00",
            "valueQuantity": ucum(4, "L/min"),
            "component": [
                {"code": local("oxygen_device"), "valueCodeableConcept": cc(f"{SNOMED}|336623009")},
            ],
        },
    )
    assert seen.losses == ()
    assert (seen.course.day0, seen.course.day(date(2025, 4, 16))) == (date(2025, 4, 12), 4)
    assert [bag.bag_number for bag in seen.course.bags] == ["B1"]
    temperature = seen.latest("body_temperature")
    assert temperature is not None
    assert temperature.value.quantity is not None
    assert temperature.value.quantity.at_least(38)
    (vasopressor,) = [d for d in seen.administrations("norepinephrine") if d.timing.ongoing]
    assert vasopressor.rate == Amount(Decimal("0.12"), "ug/kg/min")
    assert vasopressor.route is Route.INTRAVENOUS
    flow = seen.latest("o2_flow_rate")
    assert flow is not None
    device = flow.component("oxygen_device")
    assert device is not None
    assert device.codes == ("dev_nasal_cannula",)


def test_drafted_bendamustine_before_a_booked_collection() -> None:
    draft = {
        "resourceType": "MedicationRequest",
        "id": "m1",
        "status": "draft",
        "intent": "order",
        "subject": SUBJECT,
        "authoredOn": "2025-03-01T09:00:00+08:00",
        "medicationCodeableConcept": cc(f"{ATC}|L01AA09", text="Bendamustine"),
        "dosageInstruction": [
            {
                "timing": {
                    "event": ["2025-03-03T09:00:00+08:00", "2025-03-04T09:00:00+08:00"],
                    "repeat": {"duration": 60, "durationUnit": "min"},
                },
                "route": cc(f"{TW}/medication-path-tw|IVD"),
                "doseAndRate": [
                    {"type": {"coding": [{"code": "ordered"}]}, "doseQuantity": ucum(160, "mg")},
                    {"type": {"coding": [{"code": "calculated"}]}, "doseQuantity": ucum(90, "mg/m2")},
                ],
            }
        ],
    }
    seen = chart(
        {
            "resourceType": "Condition",
            "id": "dx",
            "subject": SUBJECT,
            "clinicalStatus": {"coding": [{"code": "relapse"}]},
            "code": cc(f"{TW}/icd-10-cm-2023-tw|C83.39"),
        },
        {
            "resourceType": "Appointment",
            "id": "a1",
            "status": "booked",
            "start": "2025-04-11T08:00:00+08:00",
            "serviceType": [cc(f"{SNOMED}|127788007")],
            "reasonCode": [local("purpose_car_t_collection")],
            "participant": [{"actor": SUBJECT, "status": "accepted"}],
        },
        now=datetime(2025, 3, 1, 9, 0, tzinfo=TAIPEI),
        drafts=[draft],
        hook="order-sign",
    )
    assert seen.losses == ()
    (order,) = seen.drafts.drugs.of("bendamustine")
    assert order.reference == "MedicationRequest/m1"
    assert order.timing.last is not None
    assert order.timing.last.date == date(2025, 3, 4)
    assert order.timing.infusion_minutes == 60
    assert order.dose is not None
    assert (order.dose.mg, order.dose.per) == (Decimal(160), Amount(Decimal(90), "mg/m2"))
    assert order.route is Route.INTRAVENOUS
    assert seen.course.leukapheresis is not None
    assert (seen.course.leukapheresis.evidence, seen.course.leukapheresis.date) == (
        Evidence.BOOKED,
        date(2025, 4, 11),
    )
    assert len(seen.conditions.of("dlbcl")) == 1


def test_second_tarlatamab_dose_drafted_a_day_early() -> None:
    draft = {
        "resourceType": "MedicationRequest",
        "id": "t2",
        "status": "draft",
        "intent": "order",
        "subject": SUBJECT,
        "medicationCodeableConcept": cc(f"{ATC}|L01FX33", text="tarlatamab"),
        "dosageInstruction": [
            {
                "timing": {
                    "event": ["2025-03-09T09:00:00+08:00"],
                    "repeat": {"duration": 1, "durationUnit": "h"},
                },
                "route": cc(f"{SNOMED}|47625008"),
                "doseAndRate": [{"doseQuantity": ucum(10, "mg")}],
            }
        ],
    }
    given = {
        "resourceType": "MedicationAdministration",
        "id": "t1",
        "status": "completed",
        "subject": SUBJECT,
        "medicationCodeableConcept": cc(f"{ATC}|L01FX33"),
        "effectivePeriod": {"start": "2025-03-03T09:00:00+08:00", "end": "2025-03-03T10:00:00+08:00"},
        "dosage": {"route": cc(f"{SNOMED}|47625008"), "dose": ucum(1, "mg")},
    }
    disease = {
        "resourceType": "Condition",
        "id": "dx",
        "subject": SUBJECT,
        "clinicalStatus": {"coding": [{"code": "active"}]},
        "code": cc(f"{SNOMED}|254632001"),
    }
    seen = chart(
        given, disease, now=datetime(2025, 3, 8, 10, 0, tzinfo=TAIPEI), drafts=[draft], hook="order-sign"
    )
    (dose,) = seen.administrations("tarlatamab")
    (planned,) = seen.drafts.drugs.of("tarlatamab")
    assert (dose.dose and dose.dose.mg, planned.dose and planned.dose.mg) == (Decimal(1), Decimal(10))
    assert dose.timing.first is not None
    assert planned.timing.first is not None
    assert (planned.timing.first.date - dose.timing.first.date).days == 6
    assert planned.timing.infusion_minutes == 60
    assert len(seen.conditions.of("sclc")) == 1
    assert seen.losses == ()
