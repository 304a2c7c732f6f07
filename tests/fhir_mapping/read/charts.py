"""FHIR resources in few words, and the chart they make."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from fhir_mapping import read_chart
from fhir_mapping.chart import Chart, Value
from fhir_mapping.terminology import load

Resource = dict[str, Any]
TAIPEI = ZoneInfo("Asia/Taipei")
NOW = datetime(2025, 4, 16, 10, 0, tzinfo=TAIPEI)
UCUM = "http://unitsofmeasure.org"
LOCAL = "urn:tcell-cds:concept"
LOINC = "http://loinc.org"
SNOMED = "http://snomed.info/sct"
ATC = "http://www.whocc.no/atc"
ICD = "http://hl7.org/fhir/sid/icd-10-cm"
RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
CVX = "http://hl7.org/fhir/sid/cvx"
SUBJECT = {"reference": "Patient/p1"}


def cc(*concepts: str, text: str = "") -> Resource:
    """CodeableConcept: standard code where one is verified, else the local one; "system|code" as is."""
    codings = []
    for concept in concepts:
        if "|" in concept:
            system, code = concept.split("|")
            codings.append({"system": system, "code": code})
            continue
        codes = load().codes(concept)
        code_of = {"system": codes[0].system, "code": codes[0].code} if codes else None
        codings.append(code_of or {"system": LOCAL, "code": concept.replace("_", "-")})
    result: Resource = {"coding": codings} if codings else {}
    return {**result, "text": text} if text else result


def local(concept: str) -> Resource:
    return {"coding": [{"system": LOCAL, "code": concept.replace("_", "-")}]}


def q(value: float | int, unit: str = "", comparator: str = "") -> Resource:
    result: Resource = {"value": value}
    if unit:
        result |= {"unit": unit, "system": UCUM, "code": unit}
    return {**result, "comparator": comparator} if comparator else result


def value_x(value: Any) -> Resource:
    """value[x]: bool, int, (number, unit[, comparator]), concept word in `cc:`, else string."""
    if isinstance(value, dict):
        return value
    if isinstance(value, bool):
        return {"valueBoolean": value}
    if isinstance(value, int):
        return {"valueInteger": value}
    if isinstance(value, tuple):
        return {"valueQuantity": q(*value)}
    if isinstance(value, str) and value.startswith("cc:"):
        return {"valueCodeableConcept": local(value[3:])}
    return {"valueString": value}


def obs(
    code: str | Resource, value: Any = None, at: str = "2025-04-16T08:00:00+08:00", **more: Any
) -> Resource:
    parts = more.pop("parts", {})
    result: Resource = {
        "resourceType": "Observation",
        "id": more.pop(
            "id", f"o-{code if isinstance(code, str) else 'x'}-{at}".replace(":", "-").replace("|", "-")
        ),
        "status": more.pop("status", "final"),
        "subject": SUBJECT,
        "code": cc(code) if isinstance(code, str) else code,
        "effectiveDateTime": at,
    }
    if value is not None:
        result |= value_x(value)
    if parts:
        result["component"] = [{"code": cc(name), **value_x(part)} for name, part in parts.items()]
    return {key: item for key, item in {**result, **more}.items() if item is not None}


def condition(code: str | Resource, **more: Any) -> Resource:
    result: Resource = {
        "resourceType": "Condition",
        "id": more.pop("id", f"c-{code if isinstance(code, str) else 'x'}".replace("|", "-")),
        "subject": SUBJECT,
        "code": cc(code) if isinstance(code, str) else code,
        "clinicalStatus": {"coding": [{"code": more.pop("clinical", "active")}]},
        "verificationStatus": {"coding": [{"code": more.pop("verification", "confirmed")}]},
    }
    return {key: item for key, item in {**result, **more}.items() if item is not None}


def procedure(code: str | Resource, at: str = "2025-04-10T08:00:00+08:00", **more: Any) -> Resource:
    result: Resource = {
        "resourceType": "Procedure",
        "id": more.pop("id", f"pr-{code if isinstance(code, str) else 'x'}".replace("|", "-")),
        "status": "completed",
        "subject": SUBJECT,
        "code": cc(code) if isinstance(code, str) else code,
        "performedDateTime": at,
    }
    return {key: item for key, item in {**result, **more}.items() if item is not None}


def given(drug: str | Resource, at: str = "2025-04-15T08:00:00+08:00", **more: Any) -> Resource:
    dosage = {
        key: more.pop(name)
        for name, key in (("dose", "dose"), ("route", "route"), ("rate", "rateQuantity"))
        if name in more
    }
    if isinstance(dosage.get("route"), str):
        dosage["route"] = cc(dosage["route"])
    result: Resource = {
        "resourceType": "MedicationAdministration",
        "id": more.pop("id", f"ma-{drug if isinstance(drug, str) else 'x'}".replace("|", "-")),
        "status": "completed",
        "subject": SUBJECT,
        "medicationCodeableConcept": cc(drug) if isinstance(drug, str) else drug,
        "effectiveDateTime": at,
        "dosage": dosage or None,
    }
    return {key: item for key, item in {**result, **more}.items() if item is not None}


def order(drug: str | Resource, **more: Any) -> Resource:
    """MedicationRequest; timing, dose, route, prn go into its one instruction."""
    instruction: Resource = {}
    if "timing" in more:
        instruction["timing"] = more.pop("timing")
    if "route" in more:
        instruction["route"] = cc(more.pop("route"))
    if "doses" in more:
        instruction["doseAndRate"] = more.pop("doses")
    if "dose" in more:
        instruction["doseAndRate"] = [{"doseQuantity": more.pop("dose")}]
    if more.pop("prn", False):
        instruction["asNeededBoolean"] = True
    if "sig" in more:
        instruction["text"] = more.pop("sig")
    result: Resource = {
        "resourceType": "MedicationRequest",
        "id": more.pop("id", f"mr-{drug if isinstance(drug, str) else 'x'}".replace("|", "-")),
        "status": "active",
        "intent": "order",
        "subject": SUBJECT,
        "medicationCodeableConcept": cc(drug) if isinstance(drug, str) else drug,
        "authoredOn": "2025-04-01T08:00:00+08:00",
        "dosageInstruction": [instruction] if instruction else None,
    }
    return {key: item for key, item in {**result, **more}.items() if item is not None}


def dispense(drug: str, at: str = "2025-03-01", days: int | None = None, **more: Any) -> Resource:
    result: Resource = {
        "resourceType": "MedicationDispense",
        "id": f"md-{drug}",
        "status": "completed",
        "subject": SUBJECT,
        "medicationCodeableConcept": cc(drug),
        "whenHandedOver": at,
        "daysSupply": None if days is None else q(days, "d"),
    }
    return {key: item for key, item in {**result, **more}.items() if item is not None}


def statement(drug: str | Resource, **more: Any) -> Resource:
    result: Resource = {
        "resourceType": "MedicationStatement",
        "id": f"ms-{drug if isinstance(drug, str) else 'x'}",
        "status": "active",
        "subject": SUBJECT,
        "medicationCodeableConcept": cc(drug) if isinstance(drug, str) else drug,
    }
    return {key: item for key, item in {**result, **more}.items() if item is not None}


def service(code: str | Resource, **more: Any) -> Resource:
    result: Resource = {
        "resourceType": "ServiceRequest",
        "id": more.pop("id", f"sr-{code if isinstance(code, str) else 'x'}"),
        "status": "active",
        "intent": "order",
        "subject": SUBJECT,
        "code": cc(code) if isinstance(code, str) else code,
        "authoredOn": "2025-04-01T08:00:00+08:00",
    }
    return {key: item for key, item in {**result, **more}.items() if item is not None}


def visit(code: str | Resource, start: str | None = "2025-04-20T08:00:00+08:00", **more: Any) -> Resource:
    """Appointment."""
    result: Resource = {
        "resourceType": "Appointment",
        "id": more.pop("id", f"ap-{code if isinstance(code, str) else 'x'}"),
        "status": "booked",
        "start": start,
        "serviceType": [cc(code) if isinstance(code, str) else code],
        "participant": [{"actor": SUBJECT, "status": "accepted"}],
    }
    return {key: item for key, item in {**result, **more}.items() if item is not None}


def shot(code: str | Resource, at: str | None = "2025-04-01", **more: Any) -> Resource:
    """Immunization."""
    result: Resource = {
        "resourceType": "Immunization",
        "id": more.pop("id", f"im-{code if isinstance(code, str) else 'x'}"),
        "status": "completed",
        "patient": SUBJECT,
        "vaccineCode": cc(code) if isinstance(code, str) else code,
        "occurrenceDateTime": at,
    }
    return {key: item for key, item in {**result, **more}.items() if item is not None}


def allergy(code: str | Resource, **more: Any) -> Resource:
    result: Resource = {
        "resourceType": "AllergyIntolerance",
        "id": more.pop("id", f"al-{code if isinstance(code, str) else 'x'}"),
        "patient": SUBJECT,
        "code": cc(code) if isinstance(code, str) else code,
        "clinicalStatus": {"coding": [{"code": more.pop("clinical", "active")}]},
        "verificationStatus": {"coding": [{"code": more.pop("verification", "confirmed")}]},
    }
    return {key: item for key, item in {**result, **more}.items() if item is not None}


def stay(code: str = "IMP", **more: Any) -> Resource:
    """Encounter."""
    result: Resource = {
        "resourceType": "Encounter",
        "id": more.pop("id", "e1"),
        "status": "in-progress",
        "subject": SUBJECT,
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": code},
        "period": {"start": "2025-04-14T08:00:00+08:00"},
    }
    return {key: item for key, item in {**result, **more}.items() if item is not None}


def report(code: str, **more: Any) -> Resource:
    return {
        "resourceType": "DiagnosticReport",
        "id": f"dr-{code}",
        "status": "final",
        "subject": SUBJECT,
        "code": cc(code),
        "effectiveDateTime": "2025-04-15T08:00:00+08:00",
        **more,
    }


def specimen(kind: str | Resource, id: str = "s1", **more: Any) -> Resource:
    return {
        "resourceType": "Specimen",
        "id": id,
        "subject": SUBJECT,
        "type": cc(kind) if isinstance(kind, str) else kind,
        **more,
    }


def patient(**more: Any) -> Resource:
    return {"resourceType": "Patient", "id": "p1", "birthDate": "1968-02-11", "gender": "male", **more}


def chart(*resources: Resource, now: datetime = NOW, **more: Any) -> Chart:
    return read_chart(list(resources), patient_id="p1", now=now, zone=TAIPEI, terminology=load(), **more)


def only(chart_: Chart, concept: str) -> Value:
    """The value of the single Observation of a concept."""
    (item,) = chart_.series(concept).items
    return item.value


def reasons(chart_: Chart) -> set[tuple[str, str, str]]:
    return {(loss.resource, loss.concept, loss.reason.value) for loss in chart_.losses}


def moments(values: Iterable[Any]) -> list[str]:
    return [value.earliest.isoformat() for value in values]
