"""The same chart, written as another hospital would: codes, units, zones, value types, panels, references.

Every change keeps the meaning (chart-facts sections 1 and 2, units page), so that no rule may answer anything
else. What is changed is drawn from a seeded generator; `Speller.changes` names it.
"""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

from fhir_mapping.terminology import load
from fhir_mapping.terminology.model import Result
from tests.casebook.shorthand import LOCAL, UCUM, Bench, Resource

SNOMED, LOINC = "http://snomed.info/sct", "http://loinc.org"
HOUSE = "urn:oid:1.2.3.4.5"
CBC_PANEL = {"coding": [{"system": LOINC, "code": "58410-2"}]}

SAME_NUMBER: Mapping[str, Sequence[str]] = {
    "10*3/uL": ("10*9/L", "10^3/uL", "x10^3/uL", "K/uL", "10e3/uL", "×10³/µL", "G/L", "/nL", "GPt/L"),
    "10*9/L": ("10*3/uL", "10^9/L", "x10^3/uL", "K/µL", "G/L"),
    "/uL": ("/mm3", "cells/uL", "/µL", "10*6/L", "{cells}/uL", "/cumm"),
    "g/dL": ("g/dl", "gm/dL", "g%", "G/DL"),
    "mg/dL": ("mg/dl", "MG/DL", "mg%"),
    "mg/L": ("ug/mL", "µg/mL", "mcg/mL", "mg/l"),
    "ng/mL": ("ug/L", "µg/L", "NG/ML", "mcg/L"),
    "pg/mL": ("ng/L",),
    "umol/L": ("µmol/L", "μmol/L", "umol/l"),
    "mmol/L": ("mmol/l", "mM"),
    "U/L": ("[IU]/L", "IU/L", "U/l", "u/L"),
    "Cel": ("°C", "℃", "degC", "C"),
    "mm[Hg]": ("mmHg", "mm Hg", "Torr"),
    "/min": ("bpm", "{beats}/min", "次/分", "breaths/min"),
    "L/min": ("LPM", "l/min", "L/minute"),
    "mL/min": ("ml/min", "cc/min"),
    "mL/min/{1.73_m2}": ("mL/min/1.73m2", "ml/min/1.73m²"),
    "s": ("sec", "秒", "seconds"),
    "kg": ("公斤",),
    "cm": ("公分",),
}
TIMES: Mapping[str, Sequence[tuple[str, str]]] = {
    "10*3/uL": (("/uL", "1000"),),
    "10*9/L": (("/uL", "1000"),),
    "/uL": (("10*3/uL", "0.001"), ("10*9/L", "0.001")),
    "g/dL": (("g/L", "10"),),
    "mg/dL": (("mg/L", "10"), ("g/L", "0.01")),
    "mg/L": (("mg/dL", "0.1"),),
    "ng/mL": (("ug/mL", "0.001"),),
    "pg/mL": (("ng/mL", "0.001"),),
    "kg": (("g", "1000"),),
    "cm": (("m", "0.01"),),
    "L/min": (("mL/min", "1000"),),
}
DOSE_TIMES: Mapping[str, Sequence[tuple[str, str]]] = {
    "mg": (("g", "0.001"), ("ug", "1000")),
    "g": (("mg", "1000"),),
    "ug": (("mg", "0.001"),),
}
RESULTS: Mapping[Result, Sequence[Resource]] = {
    Result.POSITIVE: (
        {"valueCodeableConcept": {"coding": [{"system": SNOMED, "code": "10828004"}]}},
        {"valueCodeableConcept": {"coding": [{"system": LOINC, "code": "LA6576-8"}]}},
        {"valueCodeableConcept": {"text": "陽性"}},
        {"valueString": "POSITIVE (+)"},
        {"interpretation": [{"coding": [{"code": "POS"}]}]},
    ),
    Result.NEGATIVE: (
        {"valueCodeableConcept": {"coding": [{"system": SNOMED, "code": "260385009"}]}},
        {"valueCodeableConcept": {"coding": [{"system": LOINC, "code": "LA6577-6"}]}},
        {"valueCodeableConcept": {"text": "Negative"}},
        {"valueString": "陰性"},
        {"interpretation": [{"coding": [{"code": "NEG"}]}]},
    ),
}
YES_NO: Mapping[bool, Sequence[Resource]] = {
    True: ({"coding": [{"system": SNOMED, "code": "373066001"}]}, {"text": "Yes"}, {"text": "是"}),
    False: ({"coding": [{"system": LOINC, "code": "LA32-8"}]}, {"text": "no"}, {"text": "否"}),
}
# hours between doses -> `repeat` fields, or a code of HL7 V3 GTSAbbreviation
RHYTHMS: Mapping[int, Sequence[Resource | str]] = {
    6: ({"frequency": 4, "period": 1, "periodUnit": "d"}, "QID", "Q6H"),
    8: ({"frequency": 3, "period": 1, "periodUnit": "d"}, "TID", "Q8H"),
    12: ({"frequency": 2, "period": 1, "periodUnit": "d"}, "BID", "Q12H"),
    24: ({"frequency": 1, "period": 24, "periodUnit": "h"}, "QD"),
    168: ({"frequency": 1, "period": 7, "periodUnit": "d"},),
}
HOURS = {"h": 1, "d": 24, "wk": 168}
ZONES = (timezone.utc, timezone(timedelta(hours=-5)), timezone(timedelta(hours=9, minutes=30)))  # noqa: UP017
NAMED = frozenset({"drug", "vaccine", "device", "lab", "vital", "score"})  # what a name alone may tell
WITH_NAME = frozenset(
    {"Observation", "MedicationRequest", "MedicationAdministration", "MedicationStatement", "Immunization"}
)
PLAIN_RESULT = frozenset(
    (
        "resourceType",
        "id",
        "status",
        "code",
        "subject",
        "effectiveDateTime",
        "valueQuantity",
        "referenceRange",
    )
)


def _number(value: Decimal) -> int | float:
    return int(value) if value == value.to_integral_value() else float(value)


def _meant(coding: Resource) -> tuple[str, list[tuple[str, str]]] | None:
    """(concept, codes that mean it and nothing else) where a case wrote a concept by its first code."""
    terminology = load()
    system, code = str(coding.get("system", "")), str(coding.get("code", ""))
    owners = terminology.concepts_for(system, code)
    for owner in owners:
        local = (LOCAL, owner.replace("_", "-"))
        codes = [(one.system, one.code) for one in terminology.codes(owner)]
        if (system, code) in (codes[:1] or [local]):
            return owner, [one for one in (*codes, local) if terminology.concepts_for(*one) == owners]
    return None


class Speller:
    """Rewrites a bench in place."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._medications: list[Resource] = []
        self.changes: set[str] = set()

    def _now(self, change: str, share: float) -> bool:
        if self._random.random() >= share:
            return False
        self.changes.add(change)
        return True

    def bench(self, bench: Bench) -> None:
        """Everything in another spelling, other patients' and wrong entries beside it, shuffled."""
        self._gather(bench)
        bench.resources = [self._resource(one) for one in bench.resources]
        bench.drafts = [self._resource(one) for one in bench.drafts]
        bench.appointments = [self._resource(one) for one in bench.appointments]
        bench.resources += self._medications
        bench.resources += [one for known in bench.resources for one in self._beside(known)]
        self._random.shuffle(bench.resources)

    # --- whole resources

    def _gather(self, bench: Bench) -> None:
        """Plain results of one moment become components or members of a panel."""
        together: dict[str, list[Resource]] = {}
        terminology = load()
        for one in bench.resources:
            if one["resourceType"] != "Observation" or not {"valueQuantity", "effectiveDateTime"} <= set(one):
                continue
            codings = one["code"].get("coding", [])
            owners = terminology.concepts_for(codings[0]["system"], codings[0]["code"]) if codings else ()
            blood_count = [owner for owner in owners if owner in ("wbc", "anc", "platelets", "hemoglobin")]
            if blood_count and set(one) <= PLAIN_RESULT and one["status"] == "final":
                together.setdefault(one["effectiveDateTime"], []).append(one)
        for stamp, results in together.items():
            codes = [str(one["code"]) for one in results]
            if len(set(codes)) < len(codes) or len(codes) < 2:
                continue
            panel: Resource = {
                "resourceType": "Observation",
                "id": f"panel-{results[0]['id']}",
                "status": "final",
                "code": CBC_PANEL,
                "subject": results[0]["subject"],
                "effectiveDateTime": stamp,
            }
            if self._now("components", 0.5):
                kept = ("code", "valueQuantity", "referenceRange")
                panel["component"] = [{k: one[k] for k in kept if k in one} for one in results]
                bench.resources = [one for one in bench.resources if all(one is not r for r in results)]
            elif self._now("members", 0.5):
                panel["hasMember"] = [{"reference": f"Observation/{one['id']}"} for one in results]
            else:
                continue
            bench.resources.append(panel)

    def _beside(self, known: Resource) -> list[Resource]:
        """What must not matter: the same entry twice, entered in error, or another patient's."""
        draw = self._random.random()
        if draw < 0.1:
            return [copy.deepcopy(known)]
        other = copy.deepcopy(known) | {"id": f"{known['id']}-x"}
        if draw < 0.2 and known["resourceType"] in ("Observation", "MedicationAdministration", "Procedure"):
            return [other | {"status": "entered-in-error"}]
        if draw < 0.3 and "subject" in known and known["resourceType"] != "Specimen":
            return [other | {"subject": {"reference": "Patient/somebody-else"}}]
        return []

    def _resource(self, known: Resource) -> Resource:
        self._name_only(one := copy.deepcopy(known))
        one = {key: value if key == "contained" else self._walk(value, key) for key, value in one.items()}
        change = {
            "Observation": self._observation,
            "DiagnosticReport": self._amended,
            "MedicationRequest": self._order,
            "MedicationAdministration": self._administration,
            "Procedure": self._procedure,
            "Condition": self._condition,
        }.get(one["resourceType"])
        if change is not None:
            change(one)
        self._medication(one)
        for key in ("subject", "patient"):
            if isinstance(one.get(key), dict) and "reference" in one[key] and self._now("reference", 0.3):
                reference = str(one[key]["reference"])
                other = f"https://ehr.example.org/fhir/{reference}", f"{reference}/_history/2"
                one[key] = {"reference": self._random.choice(other), "display": "Test"}
        if self._now("metadata", 0.3):
            one["meta"] = {"versionId": "3", "lastUpdated": "2019-01-01T00:00:00Z"}
            one["language"] = "zh-TW"
        return one

    def _amended(self, one: Resource) -> None:
        if one.get("status") == "final" and self._now("status", 0.4):
            one["status"] = self._random.choice(("amended", "corrected"))

    def _observation(self, one: Resource) -> None:
        self._amended(one)
        quantity = one.get("valueQuantity")
        if "valueInteger" in one and self._now("integer", 0.5):
            unit = {"unit": "{score}", "system": UCUM, "code": "{score}"}
            one["valueQuantity"] = {"value": one.pop("valueInteger")} | unit
        elif isinstance(quantity, dict) and "component" not in one and self._now("string", 0.2):
            del one["valueQuantity"]
            words = quantity.get("comparator", ""), str(quantity["value"]), " ", quantity.get("unit", "")
            one["valueString"] = "".join(words).strip()
        elif "valueCodeableConcept" in one:
            self._result(one)
        for holder in (one, *one.get("component", [])):
            if isinstance(holder.get("valueBoolean"), bool) and self._now("yes or no", 0.5):
                holder["valueCodeableConcept"] = self._random.choice(YES_NO[holder.pop("valueBoolean")])
        self._as_period(one, "effectiveDateTime", "effectivePeriod", 0.15)
        if "T" in str(one.get("effectiveDateTime", "")) and self._now("instant", 0.3):
            one["effectiveInstant"] = one.pop("effectiveDateTime")

    def _result(self, one: Resource) -> None:
        codings = one["valueCodeableConcept"].get("coding", [])
        if len(codings) != 1 or codings[0].get("system") != LOCAL:
            return
        plain = ("positive", "negative")
        result = Result(codings[0]["code"]) if codings[0]["code"] in plain else None
        if result in RESULTS and self._now("result", 0.7):
            del one["valueCodeableConcept"]
            one |= copy.deepcopy(self._random.choice(RESULTS[result]))

    def _order(self, one: Resource) -> None:
        for instruction in one.get("dosageInstruction", []):
            timing = instruction.get("timing", {})
            repeat = timing.get("repeat", {})
            hours = HOURS.get(repeat.get("periodUnit", ""), 0) * repeat.get("period", 0)
            if repeat.get("frequency") != 1 or hours not in RHYTHMS or not self._now("rhythm", 0.7):
                continue
            rhythm = self._random.choice(RHYTHMS[hours])
            for key in ("frequency", "period", "periodUnit"):
                del repeat[key]
            if isinstance(rhythm, str):
                timing["code"] = {"coding": [{"code": rhythm}], "text": rhythm}
                if not repeat:
                    del timing["repeat"]
            else:
                repeat |= rhythm

    def _administration(self, one: Resource) -> None:
        self._as_period(one, "effectiveDateTime", "effectivePeriod", 0.4)

    def _procedure(self, one: Resource) -> None:
        self._as_period(one, "performedDateTime", "performedPeriod", 0.4)

    def _condition(self, one: Resource) -> None:
        if "onsetDateTime" in one and self._now("onset", 0.3):
            one["onsetPeriod"] = {"start": one.pop("onsetDateTime")}
        for coding in one.get("clinicalStatus", {}).get("coding", []):
            coding["system"] = "http://terminology.hl7.org/CodeSystem/condition-clinical"

    def _as_period(self, one: Resource, moment: str, period: str, share: float) -> None:
        if "T" in str(one.get(moment, "")) and self._now(period, share):
            one[period] = {"start": one[moment], "end": one.pop(moment)}

    def _medication(self, one: Resource) -> None:
        if "medicationCodeableConcept" not in one or not self._now("Medication", 0.3):
            return
        medication = {"resourceType": "Medication", "code": one.pop("medicationCodeableConcept")}
        if self._random.random() < 0.5:
            one["contained"] = [*one.get("contained", []), medication | {"id": "med"}]
            one["medicationReference"] = {"reference": "#med"}
        else:
            self._medications.append(medication | {"id": f"med-{one['id']}"})
            one["medicationReference"] = {"reference": f"Medication/med-{one['id']}"}

    def _name_only(self, one: Resource) -> None:
        terminology = load()
        for key in ("medicationCodeableConcept", "vaccineCode", "code"):
            concept = one.get(key, {})
            if (
                one["resourceType"] not in WITH_NAME
                or len(concept.get("coding", [])) != 1
                or "text" in concept
            ):
                continue
            meant = _meant(concept["coding"][0])
            if meant is None or terminology.concept(meant[0]).kind not in NAMED:
                continue
            names = [terminology.display(meant[0], language) for language in ("en", "zh-TW")]
            known = [name for name in names if terminology.by_name(name) == (meant[0],)]
            if known and self._now("name", 0.2):
                how: tuple[Callable[[str], str], ...] = (str.upper, str.lower, " {} ".format)
                name = self._random.choice(how)(self._random.choice(known))
                house = {"coding": [{"system": HOUSE, "code": "17", "display": name}]}
                one[key] = self._random.choice(({"text": name}, house))

    # --- their parts

    def _walk(self, value: Any, key: str) -> Any:
        if isinstance(value, dict):
            if key in ("valueQuantity", "low", "high"):
                return self._quantity(value, TIMES, SAME_NUMBER)
            if key in ("dose", "doseQuantity"):
                return self._quantity(value, DOSE_TIMES, {})
            if isinstance(value.get("coding"), list):
                return self._concept(value, key)
            return {name: self._walk(one, name) for name, one in value.items()}
        if isinstance(value, list):
            return [self._walk(one, key) for one in value]
        return self._stamp(value) if isinstance(value, str) else value

    def _concept(self, concept: Resource, key: str) -> Resource:
        codings = [self._coding(one) for one in concept["coding"]]
        if key in ("code", "medicationCodeableConcept", "vaccineCode") and self._now("house code", 0.2):
            codings.insert(0, {"system": HOUSE, "code": "4711"})
        return concept | {"coding": codings}

    def _coding(self, coding: Resource) -> Resource:
        meant = _meant(coding)
        if meant is None or not meant[1] or not self._now("code", 0.5):
            return coding
        system, code = self._random.choice(meant[1])
        return coding | {"system": system, "code": code}

    def _stamp(self, words: str) -> str:
        if not re.fullmatch(r"\d{4}-\d\d-\d\dT.*(Z|[+-]\d\d:\d\d)", words) or not self._now("zone", 0.5):
            return words
        zone = self._random.choice(ZONES)
        written = datetime.fromisoformat(words).astimezone(zone).isoformat()
        return written.replace("+00:00", self._random.choice(("Z", ".000Z", "+00:00")))

    def _quantity(
        self,
        quantity: Resource,
        times: Mapping[str, Sequence[tuple[str, str]]],
        same: Mapping[str, Sequence[str]],
    ) -> Resource:
        unit, value = quantity.get("code"), quantity.get("value")
        if unit is None or isinstance(value, bool) or not isinstance(value, int | float):
            return quantity
        if unit == "Cel" and self._now("degF", 0.3):
            fahrenheit = _number(Decimal(str(value)) * 9 / 5 + 32)
            return quantity | {"value": fahrenheit, "unit": "[degF]", "code": "[degF]"}
        if unit in times and self._now("unit", 0.4):
            unit, factor = self._random.choice(times[unit])
            other = _number(Decimal(str(value)) * Decimal(factor))
            quantity = quantity | {"value": other, "unit": unit, "code": unit}
        if unit in same and self._now("unit as text", 0.4):
            kept = {key: one for key, one in quantity.items() if key not in ("system", "code")}
            return kept | {"unit": self._random.choice(same[unit])}
        return quantity
