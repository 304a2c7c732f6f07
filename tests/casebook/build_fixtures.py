"""Stories (stories/*.yaml) -> fixtures/patients/*.json and fixtures/requests/*.json.

    python -m tests.casebook.build_fixtures          # write
    python -m tests.casebook.build_fixtures --check  # fail where a fixture is not what its story says

A story is a case in shorthand plus `background`: the vitals, laboratory series and old problems among which
a real chart hides the few facts that matter, in the units and codes of a US, a Taiwanese or an SI laboratory.
All patients are synthetic.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml

from fhir_mapping.terminology import load
from tests.casebook.shorthand import UCUM, ZONE, Bench, Resource, add, coding, moment

STORIES = Path(__file__).parent / "stories"
FIXTURES = Path(__file__).parent.parent.parent / "fixtures"
NHI = "https://twcore.mohw.gov.tw/ig/twcore/CodeSystem/medical-service-payment-tw"
CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"

# concept: (LOINC concept, NHI order code, US unit, US value, spread, low, high, SI unit, SI factor)
LABS: Mapping[str, tuple[str, str, float, float, float | None, float | None, str, float]] = {
    "wbc": ("08002C", "10*3/uL", 5.2, 0.6, 3.9, 10.6, "10*9/L", 1),
    "anc": ("", "10*3/uL", 3.1, 0.4, 1.5, 7.5, "10*9/L", 1),
    "hemoglobin": ("08003C", "g/dL", 11.4, 0.4, 12.0, 16.0, "g/L", 10),
    "platelets": ("08006C", "10*3/uL", 182, 15, 150, 400, "10*9/L", 1),
    "creatinine": ("09015C", "mg/dL", 0.8, 0.05, 0.6, 1.3, "umol/L", 88.42),
    "alt": ("09026C", "U/L", 24, 5, None, 40, "U/L", 1),
    "ast": ("09025C", "U/L", 22, 4, None, 40, "U/L", 1),
    "bilirubin_total": ("09029C", "mg/dL", 0.7, 0.1, 0.2, 1.2, "umol/L", 17.1),
    "ldh": ("09033C", "U/L", 190, 20, 120, 250, "U/L", 1),
    "potassium": ("09022C", "mmol/L", 4.1, 0.2, 3.5, 5.1, "mmol/L", 1),
    "sodium": ("09021C", "mmol/L", 139, 1.5, 136, 145, "mmol/L", 1),
    "crp": ("12015C", "mg/dL", 0.4, 0.1, None, 0.5, "mg/L", 10),
    "albumin": ("09038C", "g/dL", 3.9, 0.1, 3.5, 5.0, "g/L", 10),
}
VITALS: Mapping[str, tuple[str, float, float]] = {
    "body_temperature": ("Cel", 36.7, 0.2),
    "heart_rate": ("/min", 82, 6),
    "respiratory_rate": ("/min", 16, 1),
    "spo2": ("%", 97, 1),
}


def _observation(bench: Bench, concept: str, when: datetime, category: str) -> Resource:
    return {
        "resourceType": "Observation",
        "id": bench.next_id(concept.replace("_", "-")),
        "meta": {"lastUpdated": (when + timedelta(minutes=40)).isoformat()},
        "status": "final",
        "category": [{"coding": [{"system": CATEGORY, "code": category}]}],
        "code": {"coding": [coding(concept)]},
        "subject": bench.subject,
        "effectiveDateTime": when.isoformat(),
        "issued": (when + timedelta(minutes=40)).isoformat(),
    }


def _number(value: float, digits: int) -> int | float:
    rounded = round(value, digits)
    return int(rounded) if digits == 0 else rounded


def _lab(
    bench: Bench, concept: str, when: datetime, style: str, dice: random.Random, centre: float
) -> Resource:
    nhi, unit, _, spread, low, high, si_unit, factor = LABS[concept]
    value, scale = max(centre * 0.5, centre + dice.uniform(-spread, spread)), 1.0
    resource = _observation(bench, concept, when, "laboratory")
    quantity: Resource = {}
    if style == "si":
        unit, scale = si_unit, factor
    if style == "tw" and nhi:
        resource["code"] = {"coding": [{"system": NHI, "code": nhi}], "text": concept.upper()}
        quantity = {"unit": unit}
    else:
        quantity = {"unit": unit, "system": UCUM, "code": unit}
    digits = 0 if value * scale >= 50 else 2
    resource["valueQuantity"] = {"value": _number(value * scale, digits), **quantity}
    limits = {
        key: {"value": float(Decimal(str(limit)) * Decimal(str(scale))), **quantity}
        for key, limit in (("low", low), ("high", high))
        if limit is not None
    }
    resource["referenceRange"] = [limits]
    return resource


def _vital_set(
    bench: Bench, when: datetime, style: str, dice: random.Random, centres: Mapping[str, Any]
) -> Iterator[Resource]:
    for concept, (unit, centre, spread) in VITALS.items():
        value = float(centres.get(concept, centre)) + dice.uniform(-spread, spread)
        digits = 1 if concept == "body_temperature" else 0
        resource = _observation(bench, concept, when, "vital-signs")
        if concept == "body_temperature" and style == "us":
            value, unit = value * 9 / 5 + 32, "[degF]"
        if concept == "spo2":
            value = min(value, 100)
        resource["valueQuantity"] = {
            "value": _number(value, digits),
            "unit": unit,
            "system": UCUM,
            "code": unit,
        }
        yield resource
    panel = _observation(bench, "bp_panel", when, "vital-signs")
    systolic = int(centres.get("bp_systolic", 118)) + dice.randint(-5, 5)
    panel["component"] = [
        {
            "code": {"coding": [coding(concept)]},
            "valueQuantity": {"value": value, "unit": "mmHg", "system": UCUM, "code": "mm[Hg]"},
        }
        for concept, value in (("bp_systolic", systolic), ("bp_diastolic", systolic - 46))
    ]
    yield panel


def _stamps(span: Mapping[str, Any], bench: Bench) -> Iterator[datetime]:
    start = datetime.fromisoformat(moment(span["from"], bench))
    end = datetime.fromisoformat(moment(span.get("to", "now"), bench))
    hours = {"h": 1, "d": 24, "wk": 168}
    text = str(span["every"])
    unit = "wk" if text.endswith("wk") else text[-1]
    step = timedelta(hours=float(text.removesuffix(unit)) * hours[unit])
    while start <= end:
        yield start
        start += step


def _background(raw: Mapping[str, Any], bench: Bench, dice: random.Random) -> None:
    style = raw.get("style", "us")
    for span in raw.get("vitals", []):
        for when in _stamps(span, bench):
            bench.resources += _vital_set(bench, when, style, dice, span)
    for span in raw.get("labs", []):
        for when in _stamps(span, bench):
            for concept in LABS:
                centre = span.get(concept, LABS[concept][2])
                if centre != "none":
                    bench.resources.append(_lab(bench, concept, when, style, dice, float(centre)))


def build(path: Path) -> tuple[Resource, list[Resource]]:
    """One story -> its patient as a transaction Bundle, and its hook requests."""
    story = yaml.safe_load(path.read_text(encoding="utf-8"))
    stem = path.stem
    now = datetime.fromisoformat(str(story["now"])).astimezone(ZONE)
    d0 = datetime.fromisoformat(str(story.get("d0", story["now"]))).astimezone(ZONE)
    bench = Bench(now=now, d0=d0, patient=stem)
    for entry in story["chart"]:
        add(entry, bench)
    _categorise(story, bench)
    _background(story.get("background", {}), bench, random.Random(stem))
    patient = next(r for r in bench.resources if r["resourceType"] == "Patient")
    patient["name"] = [{"text": story["name"]["en"], "family": "Synthetic", "given": [stem]}]
    patient["identifier"] = [{"system": "urn:tcell-cds:demo-patient", "value": stem}]
    for number, resource in enumerate(r for r in bench.resources if r is not patient):
        resource["id"] = f"{stem}-{number}" if not _kept(resource, story) else resource["id"]
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {"resource": r, "request": {"method": "PUT", "url": f"{r['resourceType']}/{r['id']}"}}
            for r in bench.resources
        ],
    }
    return bundle, [_request(raw, stem, story, bench) for raw in story.get("requests", [])]


def _categorise(story: Mapping[str, Any], bench: Bench) -> None:
    """EHRs file every Observation under a category; searches by category find nothing else."""
    written = [entry for entry in story["chart"] if "obs" in entry]
    observations = [r for r in bench.resources if r["resourceType"] == "Observation"]
    for entry, resource in zip(written, observations, strict=True):
        kind = load().concept(entry["obs"]).kind
        category = {"lab": "laboratory", "vital": "vital-signs"}.get(kind, "exam")
        resource["category"] = [{"coding": [{"system": CATEGORY, "code": category}]}]


def _kept(resource: Resource, story: Mapping[str, Any]) -> bool:
    """Ids that the story itself gives stay; generated ones become unique across patients."""
    return resource["id"] in {str(e["id"]) for e in story["chart"] if "id" in e} or resource["id"].startswith(
        "spec-"
    )


def _request(raw: Mapping[str, Any], stem: str, story: Mapping[str, Any], bench: Bench) -> Resource:
    hooked = Bench(now=bench.now, d0=bench.d0, patient=stem)
    for entry in raw.get("drafts", []):
        add(entry, hooked)
    context: Resource = {"userId": "Practitioner/demo", "patientId": stem}
    if hooked.drafts:
        context["draftOrders"] = {
            "resourceType": "Bundle",
            "type": "collection",
            "entry": [{"resource": draft} for draft in hooked.drafts],
        }
    if raw["hook"] == "order-select":
        context["selections"] = [f"{d['resourceType']}/{d['id']}" for d in hooked.drafts]
    if hooked.appointments:
        context["appointments"] = {
            "resourceType": "Bundle",
            "type": "collection",
            "entry": [{"resource": a} for a in hooked.appointments],
        }
    if "encounter" in raw:
        context["encounterId"] = raw["encounter"]
    return {
        "story": stem,
        "title": story["name"],
        "asks": raw["asks"],
        "services": raw["services"],
        "clock": bench.now.isoformat(),
        "request": {"hook": raw["hook"], "context": context},
    }


def outputs() -> Iterator[tuple[Path, str]]:
    """Every fixture file and its text."""
    for path in sorted(STORIES.glob("*.yaml")):
        bundle, requests = build(path)
        yield FIXTURES / "patients" / f"{path.stem}.json", _text(bundle)
        for number, request in enumerate(requests, 1):
            yield FIXTURES / "requests" / f"{path.stem}-{number}.json", _text(request)


def _text(data: Resource) -> str:
    return json.dumps(data, ensure_ascii=False, indent=1) + "\n"


def main(arguments: list[str]) -> int:
    stale = 0
    wanted = dict(outputs())
    for path, text in wanted.items():
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        if "--check" in arguments:
            print(f"stale: {path.relative_to(FIXTURES)}")
            stale += 1
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    for folder in ("patients", "requests"):
        for path in (FIXTURES / folder).glob("*.json"):
            if path not in wanted:
                print(f"no story: {path.relative_to(FIXTURES)}")
                stale += 1
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
