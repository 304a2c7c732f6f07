"""Shorthand entries of a case file -> FHIR R4 resources.

Each entry is a mapping whose first key names its kind: {obs: body_temperature, value: 39.1 Cel, at: -2h}.
Codes come from the project's terminology (first standard code, else the local code), so that a case also
tests the mapper.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

from fhir_mapping.terminology import load

ZONE = ZoneInfo("Asia/Taipei")
LOCAL = "urn:tcell-cds:concept"
UCUM = "http://unitsofmeasure.org"
Entry = Mapping[str, Any]
Resource = dict[str, Any]

_OFFSET = re.compile(r"^([+-])(\d+(?:\.\d+)?)(min|h|d)$")
_DAY = re.compile(r"^d([+-]\d+)(?:T(\d\d:\d\d))?$")
_HOUR = re.compile(r"^h([+-]\d+(?:\.\d+)?)$")
_LENGTH = re.compile(r"^(\d+(?:\.\d+)?)\s*(min|h|d|wk|mo)$")
_NUMBER = re.compile(r"^(<=|>=|<|>)?\s*([+-]?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?)\s*(.*)$")


@dataclass
class Bench:
    """One case under construction: its clock, its chart and what the hook carries."""

    now: datetime
    d0: datetime
    patient: str = "p1"
    resources: list[Resource] = field(default_factory=list)
    drafts: list[Resource] = field(default_factory=list)
    appointments: list[Resource] = field(default_factory=list)
    _counter: int = 0

    def next_id(self, kind: str) -> str:
        self._counter += 1
        return f"{kind}-{self._counter}"

    @property
    def subject(self) -> Resource:
        return {"reference": f"Patient/{self.patient}"}


def moment(text: object, bench: Bench) -> str:
    """A time of a case as FHIR writes it: relative to now, to D0, or absolute."""
    if isinstance(text, datetime):
        stamp = text if text.tzinfo else text.replace(tzinfo=ZONE)
        return stamp.isoformat()
    if isinstance(text, date):
        return text.isoformat()
    words = str(text).strip()
    if words == "now":
        return bench.now.isoformat()
    if match := _OFFSET.match(words):
        sign, count, unit = match.groups()
        length = timedelta(**{{"min": "minutes", "h": "hours", "d": "days"}[unit]: float(count)})
        return (bench.now + length if sign == "+" else bench.now - length).isoformat()
    if match := _DAY.match(words):
        day = bench.d0.astimezone(ZONE).date() + timedelta(days=int(match[1]))
        clock = time.fromisoformat(match[2] or "08:00")
        return datetime.combine(day, clock, ZONE).isoformat()
    if match := _HOUR.match(words):
        return (bench.d0 + timedelta(hours=float(match[1]))).isoformat()
    if re.fullmatch(r"\d{4}(-\d\d(-\d\d)?)?", words):
        return words
    stamp = datetime.fromisoformat(words)
    return (stamp if stamp.tzinfo else stamp.replace(tzinfo=ZONE)).isoformat()


@cache
def _known(concept: str) -> tuple[tuple[str, str], ...]:
    terminology = load()
    if concept not in terminology:
        raise KeyError(f"no such concept: {concept}")
    return tuple((code.system, code.code) for code in terminology.codes(concept))


def coding(concept: str) -> Resource:
    codes = _known(concept)
    if codes:
        return {"system": codes[0][0], "code": codes[0][1]}
    return {"system": LOCAL, "code": concept.replace("_", "-")}


def codeable(concept: str, entry: Entry | None = None) -> Resource:
    """CodeableConcept of a concept; `coding: [system, code]`, `coding: none` and `text:` of the entry win."""
    entry = entry or {}
    result: Resource = {}
    chosen = entry.get("coding")
    if chosen is None:
        result["coding"] = [coding(concept)]
    elif chosen != "none":
        result["coding"] = [{"system": chosen[0], "code": str(chosen[1])}]
    if "text" in entry:
        result["text"] = entry["text"]
    return result


def answer(word: str) -> Resource:
    return {"coding": [coding(word) if word in load() else {"system": LOCAL, "code": word.replace("_", "-")}]}


def quantity(text: object) -> Resource:
    match = _NUMBER.match(str(text).strip())
    if match is None:
        raise ValueError(f"not a quantity: {text!r}")
    comparator, number, unit = match.groups()
    number = number.replace(",", "")
    result: Resource = {"value": int(number) if re.fullmatch(r"[+-]?\d+", number) else float(number)}
    if comparator:
        result["comparator"] = comparator
    if unit:
        result |= {"unit": unit, "system": UCUM, "code": unit}
    return result


def value(raw: object) -> Resource:
    """value[x] for a case's `value`."""
    if isinstance(raw, bool):
        return {"valueBoolean": raw}
    if isinstance(raw, int):
        return {"valueInteger": raw}
    if isinstance(raw, Mapping):
        return dict(raw)  # {"valueDateTime": ...} and the like, as FHIR writes it
    words = str(raw)
    if _NUMBER.match(words):
        return {"valueQuantity": quantity(words)}
    if re.fullmatch(r"[a-z0-9_]+", words):
        return {"valueCodeableConcept": answer(words)}
    return {"valueString": words}


def _base(kind: str, entry: Entry, bench: Bench, status: str | None) -> Resource:
    resource: Resource = {"resourceType": kind, "id": str(entry.get("id") or bench.next_id(kind.lower()))}
    if status is not None:
        resource["status"] = entry.get("status", status)
    return resource


def _span(entry: Entry, bench: Bench, name: str, period: str) -> Resource:
    if "from" in entry:
        span = {"start": moment(entry["from"], bench)}
        if "to" in entry:
            span["end"] = moment(entry["to"], bench)
        return {period: span}
    return {name: moment(entry["at"], bench)} if "at" in entry else {}


def _codes(concepts: object) -> list[Resource]:
    words = concepts if isinstance(concepts, list) else [concepts]
    return [{"coding": [coding(str(word))]} for word in words]


def _obs(entry: Entry, bench: Bench) -> None:
    resource = _base("Observation", entry, bench, "final")
    resource |= {"code": codeable(entry["obs"], entry), "subject": bench.subject}
    resource |= _span(entry, bench, "effectiveDateTime", "effectivePeriod")
    if "value" in entry:
        resource |= value(entry["value"])
    if "absent" in entry:
        resource["dataAbsentReason"] = {"coding": [{"code": entry["absent"]}]}
    limits = {key: quantity(entry[name]) for name, key in (("lln", "low"), ("uln", "high")) if name in entry}
    if limits:
        resource["referenceRange"] = [limits]
    if "components" in entry:
        resource["component"] = [
            {"code": codeable(concept), **value(raw)} for concept, raw in entry["components"].items()
        ]
    if "note" in entry:
        resource["note"] = [{"text": entry["note"]}]
    if "site" in entry:
        resource["bodySite"] = {"coding": [coding(entry["site"])]}
    if "focus" in entry:
        resource["focus"] = [{"reference": entry["focus"]}]
    if "performers" in entry:
        resource["performer"] = [{"reference": ref} for ref in entry["performers"]]
    if "specimen" in entry:
        specimen_id = str(entry.get("specimen_id", f"spec-{entry['specimen']}"))
        specimen: Resource = {
            "resourceType": "Specimen",
            "id": specimen_id,
            "type": {"coding": [coding(entry["specimen"])]},
            "subject": bench.subject,
        }
        if "specimen_id" in entry:
            specimen["identifier"] = [{"value": specimen_id}]
        if all(r.get("id") != specimen_id for r in bench.resources):
            bench.resources.append(specimen)
        resource["specimen"] = {"reference": f"Specimen/{specimen_id}"}
    bench.resources.append(resource)


def _purposes(entry: Entry) -> list[Resource]:
    words: list[str] = []
    for key in ("reason", "purpose"):
        raw = entry.get(key, [])
        words += raw if isinstance(raw, list) else [raw]
    return [{"coding": [coding(word)]} for word in words]


def _dose_rate(entry: Entry) -> Resource:
    rate: Resource = {}
    if "rate" in entry:
        rate["rateQuantity"] = quantity(entry["rate"])
    return rate


def _given(entry: Entry, bench: Bench) -> None:
    running = bool(entry.get("running"))
    resource = _base("MedicationAdministration", entry, bench, "in-progress" if running else "completed")
    resource |= {"medicationCodeableConcept": codeable(entry["given"], entry), "subject": bench.subject}
    resource |= _span(entry, bench, "effectiveDateTime", "effectivePeriod")
    dosage: Resource = _dose_rate(entry)
    if "dose" in entry:
        dosage["dose"] = quantity(entry["dose"])
    if "route" in entry:
        dosage["route"] = {"coding": [coding(entry["route"])]}
    if dosage:
        resource["dosage"] = dosage
    if reasons := _purposes(entry):
        resource["reasonCode"] = reasons
    if "regimen" in entry:
        resource["category"] = {"coding": [coding(entry["regimen"])]}
    if "request" in entry:
        resource["request"] = {"reference": entry["request"]}
    if "bag" in entry:
        resource["identifier"] = [{"type": {"coding": [coding("bag_number")]}, "value": str(entry["bag"])}]
    bench.resources.append(resource)


def _dispensed(entry: Entry, bench: Bench) -> None:
    resource = _base("MedicationDispense", entry, bench, "completed")
    resource |= {
        "medicationCodeableConcept": codeable(entry["dispensed"], entry),
        "subject": bench.subject,
        "whenHandedOver": moment(entry["at"], bench),
    }
    if "days" in entry:
        resource["daysSupply"] = {"value": entry["days"], "unit": "d", "system": UCUM, "code": "d"}
    if "route" in entry:
        resource["dosageInstruction"] = [{"route": {"coding": [coding(entry["route"])]}}]
    bench.resources.append(resource)


def _taking(entry: Entry, bench: Bench) -> None:
    resource = _base("MedicationStatement", entry, bench, "active")
    resource |= {"medicationCodeableConcept": codeable(entry["taking"], entry), "subject": bench.subject}
    resource |= _span(entry, bench, "effectiveDateTime", "effectivePeriod")
    dosage: Resource = {}
    if "route" in entry:
        dosage["route"] = {"coding": [coding(entry["route"])]}
    if "dose" in entry:
        dosage["doseAndRate"] = [{"doseQuantity": quantity(entry["dose"])}]
    if dosage:
        resource["dosage"] = [dosage]
    if reasons := _purposes(entry):
        resource["reasonCode"] = reasons
    bench.resources.append(resource)


_PERIOD_UNIT = {"min": "min", "h": "h", "d": "d", "wk": "wk", "mo": "mo"}


def _length(text: str) -> tuple[float, str]:
    match = _LENGTH.match(str(text))
    if match is None:
        raise ValueError(f"not a length of time: {text!r}")
    count = float(match[1])
    return (int(count) if count.is_integer() else count), _PERIOD_UNIT[match[2]]


def medication_request(drug: str, entry: Entry, bench: Bench, status: str) -> Resource:
    resource = _base("MedicationRequest", entry, bench, status)
    resource |= {
        "intent": entry.get("intent", "order"),
        "medicationCodeableConcept": codeable(drug, entry),
        "subject": bench.subject,
        "authoredOn": moment(entry.get("authored", "now"), bench),
    }
    repeat: Resource = {}
    timing: Resource = {}
    if "at" in entry:
        starts = entry["at"] if isinstance(entry["at"], list) else [entry["at"]]
        events = [moment(start, bench) for start in starts]
        if "every" in entry or "for" in entry or "until" in entry:
            bounds = {"start": events[0]}
            if "until" in entry:
                bounds["end"] = moment(entry["until"], bench)
                repeat["boundsPeriod"] = bounds
            elif "for" in entry:
                count, unit = _length(entry["for"])
                begin = datetime.fromisoformat(events[0])
                days = {"min": 1 / 1440, "h": 1 / 24, "d": 1, "wk": 7, "mo": 30}[unit] * count
                last = begin + timedelta(days=days) - timedelta(days=1 if unit != "h" else 0)
                bounds["end"] = last.isoformat() if "T" in events[0] else last.date().isoformat()
                repeat["boundsPeriod"] = bounds
            else:
                repeat["boundsPeriod"] = bounds
        else:
            timing["event"] = events
    if "every" in entry:
        count, unit = _length(entry["every"])
        repeat |= {"frequency": 1, "period": count, "periodUnit": unit}
    if "count" in entry:
        repeat["count"] = entry["count"]
    if "minutes" in entry:
        repeat |= {"duration": entry["minutes"], "durationUnit": "min"}
    if repeat:
        timing["repeat"] = repeat
    instruction: Resource = {}
    if timing:
        instruction["timing"] = timing
    if "prn" in entry:
        instruction["asNeededBoolean"] = bool(entry["prn"])
    if "route" in entry:
        instruction["route"] = {"coding": [coding(entry["route"])]}
    doses: list[Resource] = []
    kind = "http://terminology.hl7.org/CodeSystem/dose-rate-type"
    if "dose" in entry or "rate" in entry:
        dose: Resource = _dose_rate(entry)
        if "dose" in entry:
            dose["doseQuantity"] = quantity(entry["dose"])
        if "per" in entry:
            dose["type"] = {"coding": [{"system": kind, "code": "ordered"}]}
        doses.append(dose)
    if "per" in entry:
        doses.append(
            {
                "type": {"coding": [{"system": kind, "code": "calculated"}]},
                "doseQuantity": quantity(entry["per"]),
            }
        )
    if doses:
        instruction["doseAndRate"] = doses
    if "sig" in entry:
        instruction["text"] = entry["sig"]
    if instruction:
        resource["dosageInstruction"] = [instruction]
    if reasons := _purposes(entry):
        resource["reasonCode"] = reasons
    if "regimen" in entry:
        resource["groupIdentifier"] = {"system": LOCAL, "value": str(entry["regimen"]).replace("_", "-")}
    if "replaces" in entry:
        resource["priorPrescription"] = {"reference": entry["replaces"]}
    if "encounter" in entry:
        resource["encounter"] = {"reference": entry["encounter"]}
    return resource


def _condition(entry: Entry, bench: Bench) -> None:
    resource = _base("Condition", entry, bench, None)
    resource |= {"code": codeable(entry["condition"], entry), "subject": bench.subject}
    if (status := entry.get("status", "active")) != "none":
        resource["clinicalStatus"] = {"coding": [{"code": status}]}
    resource["verificationStatus"] = {"coding": [{"code": entry.get("verification", "confirmed")}]}
    if "since" in entry:
        resource["onsetDateTime"] = moment(entry["since"], bench)
    if "until" in entry:
        resource["abatementDateTime"] = moment(entry["until"], bench)
    if "recorded" in entry:
        resource["recordedDate"] = moment(entry["recorded"], bench)
    if "grade" in entry:
        resource["severity"] = {"coding": [coding(f"grade_{entry['grade']}")]}
    if "severity" in entry:
        resource["severity"] = {"coding": [{"system": "http://snomed.info/sct", "code": entry["severity"]}]}
    if "site" in entry:
        resource["bodySite"] = _codes(entry["site"])
    if "category" in entry:
        resource["category"] = _codes(entry["category"])
    bench.resources.append(resource)


def _procedure(entry: Entry, bench: Bench) -> None:
    resource = _base("Procedure", entry, bench, "completed")
    code = codeable(entry["procedure"], entry)
    resource |= {"code": code, "subject": bench.subject}
    resource |= _span(entry, bench, "performedDateTime", "performedPeriod")
    if "site" in entry:
        resource["bodySite"] = _codes(entry["site"])
    if reasons := _purposes(entry):
        resource["reasonCode"] = reasons
    if "used" in entry:
        resource["usedCode"] = _codes(entry["used"])
    if "regimen" in entry:
        code["coding"].append(coding(entry["regimen"]))
    bench.resources.append(resource)


def _service_request(concept: str, entry: Entry, bench: Bench, status: str) -> Resource:
    resource = _base("ServiceRequest", entry, bench, status)
    resource |= {"intent": "order", "code": codeable(concept, entry), "subject": bench.subject}
    resource["authoredOn"] = moment(entry.get("authored", "now"), bench)
    resource |= _span(entry, bench, "occurrenceDateTime", "occurrencePeriod")
    if "details" in entry:
        resource["orderDetail"] = _codes(entry["details"])
    if "quantity" in entry:
        resource["quantityQuantity"] = quantity(entry["quantity"])
    if reasons := _purposes(entry):
        resource["reasonCode"] = reasons
    return resource


def _appointment(concept: str, entry: Entry, bench: Bench, status: str) -> Resource:
    resource = _base("Appointment", entry, bench, status)
    resource |= {
        "serviceType": [codeable(concept, entry)],
        "participant": [{"actor": bench.subject, "status": "accepted"}],
    }
    if "at" in entry:
        start = moment(entry["at"], bench)
        resource["start"] = start if "T" in start else f"{start}T09:00:00+08:00"
        resource["end"] = resource["start"]
    if reasons := _purposes(entry):
        resource["reasonCode"] = reasons
    return resource


def _vaccine(entry: Entry, bench: Bench) -> None:
    resource = _base("Immunization", entry, bench, "completed")
    resource |= {"vaccineCode": codeable(entry["vaccine"], entry), "patient": bench.subject}
    resource["occurrenceDateTime"] = moment(entry["at"], bench)
    bench.resources.append(resource)


def _allergy(entry: Entry, bench: Bench) -> None:
    resource = _base("AllergyIntolerance", entry, bench, None)
    resource |= {
        "code": codeable(entry["allergy"], entry),
        "patient": bench.subject,
        "clinicalStatus": {"coding": [{"code": entry.get("status", "active")}]},
        "verificationStatus": {"coding": [{"code": entry.get("verification", "confirmed")}]},
    }
    if "at" in entry:
        resource["recordedDate"] = moment(entry["at"], bench)
    if "reaction" in entry:
        reaction: Resource = {"manifestation": _codes(entry["reaction"])}
        if "severity" in entry:
            reaction["severity"] = entry["severity"]
        resource["reaction"] = [reaction]
    bench.resources.append(resource)


def _encounter(entry: Entry, bench: Bench) -> None:
    resource = _base("Encounter", entry, bench, "finished" if "to" in entry else "in-progress")
    resource |= {
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": entry["encounter"]},
        "subject": bench.subject,
    }
    if "from" in entry:
        resource["period"] = {"start": moment(entry["from"], bench)}
        if "to" in entry:
            resource["period"]["end"] = moment(entry["to"], bench)
    if entry.get("icu"):
        location = {
            "resourceType": "Location",
            "id": "icu",
            "type": [
                {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-RoleCode", "code": "ICU"}]}
            ],
        }
        resource["contained"] = [location]
        resource["location"] = [{"location": {"reference": "#icu"}, "status": "active"}]
    if "type" in entry:
        resource["type"] = _codes(entry["type"])
    if reasons := _purposes(entry):
        resource["reasonCode"] = reasons
    bench.resources.append(resource)


def _report(entry: Entry, bench: Bench) -> None:
    resource = _base("DiagnosticReport", entry, bench, "final")
    resource |= {"code": codeable(entry["report"], entry), "subject": bench.subject}
    resource |= _span(entry, bench, "effectiveDateTime", "effectivePeriod")
    if "conclusion" in entry:
        resource["conclusionCode"] = _codes(entry["conclusion"])
    bench.resources.append(resource)


def _patient(entry: Entry, bench: Bench) -> None:
    bench.resources[:] = [r for r in bench.resources if r.get("resourceType") != "Patient"]
    resource: Resource = {"resourceType": "Patient", "id": bench.patient}
    if "birth" in entry:
        resource["birthDate"] = str(entry["birth"])
    if "sex" in entry:
        resource["gender"] = entry["sex"]
    if entry.get("died") is True:
        resource["deceasedBoolean"] = True
    elif "died" in entry:
        resource["deceasedDateTime"] = moment(entry["died"], bench)
    bench.resources.append(resource)


def _add_order(entry: Entry, bench: Bench) -> None:
    bench.resources.append(medication_request(entry["order"], entry, bench, "active"))


def _add_draft(entry: Entry, bench: Bench) -> None:
    bench.drafts.append(medication_request(entry["draft"], entry, bench, "draft"))


def _add_draft_vaccine(entry: Entry, bench: Bench) -> None:
    bench.drafts.append(medication_request(entry["draft_vaccine"], entry, bench, "draft"))


def _add_service(entry: Entry, bench: Bench) -> None:
    bench.resources.append(_service_request(entry["service"], entry, bench, "active"))


def _add_draft_service(entry: Entry, bench: Bench) -> None:
    bench.drafts.append(_service_request(entry["draft_service"], entry, bench, "draft"))


def _add_appointment(entry: Entry, bench: Bench) -> None:
    bench.resources.append(_appointment(entry["appointment"], entry, bench, "booked"))


def _add_booking(entry: Entry, bench: Bench) -> None:
    bench.appointments.append(_appointment(entry["book"], entry, bench, "proposed"))


def _add_raw(entry: Entry, bench: Bench) -> None:
    bench.resources.append(dict(entry["raw"]))


def _add_raw_draft(entry: Entry, bench: Bench) -> None:
    bench.drafts.append(dict(entry["raw_draft"]))


KINDS: Mapping[str, Callable[[Entry, Bench], None]] = {
    "obs": _obs,
    "given": _given,
    "dispensed": _dispensed,
    "taking": _taking,
    "order": _add_order,
    "draft": _add_draft,
    "condition": _condition,
    "procedure": _procedure,
    "service": _add_service,
    "draft_service": _add_draft_service,
    "appointment": _add_appointment,
    "book": _add_booking,
    "vaccine": _vaccine,
    "draft_vaccine": _add_draft_vaccine,
    "allergy": _allergy,
    "encounter": _encounter,
    "report": _report,
    "patient": _patient,
    "raw": _add_raw,
    "raw_draft": _add_raw_draft,
}


def add(entry: Entry, bench: Bench) -> None:
    """Put one shorthand entry on the bench. Raises ValueError on an unknown kind."""
    kind = next(iter(entry))
    if kind not in KINDS:
        raise ValueError(f"unknown kind of entry {kind!r}; known: {', '.join(KINDS)}")
    KINDS[kind](entry, bench)
