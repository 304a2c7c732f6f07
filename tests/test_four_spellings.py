"""One patient, written by four hospitals: the findings are the same.

Coded with SI units, with US customary units, by name only, and in the hospital's own codes with a site map.
Names alone tell drugs, vaccines, devices, laboratory and vital values; everything else keeps its code.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from fhir_mapping.terminology import load
from tests.casebook.shorthand import LOCAL, Bench, Resource, add
from tests.conftest import FROZEN, client_of, hook_request

HOSPITAL = "urn:example:hospital-codes"
FINDING = "org.tcell-cds.finding"
NAMED = {"drug", "vaccine", "device", "lab", "vital", "score"}  # what chart-facts lets a name alone tell

SI = {
    "body_temperature": "39.0 Cel",
    "bp_systolic": "11.5 kPa",
    "bp_diastolic": "6.4 kPa",
    "anc": "0.42 10*9/L",
    "platelets": "160 10*9/L",
    "hemoglobin": "88 g/L",
    "crp": "52 mg/L",
    "ferritin": "1500 ug/L",
    "uric_acid": "500 umol/L",
    "creatinine": "124 umol/L",
    "igg": "3.6 g/L",
    "body_weight": "70 kg",
}
US = {
    "body_temperature": "102.2 [degF]",
    "bp_systolic": "86 mm[Hg]",
    "bp_diastolic": "48 mm[Hg]",
    "anc": "420 /uL",
    "platelets": "160 10*3/uL",
    "hemoglobin": "8.8 g/dL",
    "crp": "5.2 mg/dL",
    "ferritin": "1500 ng/mL",
    "uric_acid": "8.41 mg/dL",
    "creatinine": "1.4 mg/dL",
    "igg": "360 mg/dL",
    "body_weight": "154.32 [lb_av]",
}


def _chart(values: dict[str, str]) -> Bench:
    """CRS with a vasopressor and oxygen, neutropenia, after lymphodepletion; drafts to judge."""
    bench = Bench(now=FROZEN, d0=FROZEN.replace(day=10, hour=9))
    entries: list[dict[str, Any]] = [
        {"patient": "p1", "birth": "1970-01-01", "sex": "male"},
        {"condition": "dlbcl", "since": "2023-01-01"},
        {"procedure": "leukapheresis", "at": "2025-03-01", "purpose": "purpose_car_t_collection"},
        {"given": "fludarabine", "at": "d-5", "dose": "45 mg", "route": "route_intravenous"},
        {"given": "cyclophosphamide", "at": "d-5", "dose": "450 mg", "route": "route_intravenous"},
        {"given": "tisagenlecleucel", "at": "d+0T09:00", "bag": "B1", "route": "route_intravenous"},
        {"given": "norepinephrine", "from": "-3h", "running": True, "rate": "0.1 ug/kg/min"},
        {"given": "ivig", "at": "-20d", "dose": "30 g", "route": "route_intravenous"},
        {"obs": "body_weight", "value": values["body_weight"], "at": "-1d"},
        {"obs": "body_temperature", "value": values["body_temperature"], "at": "-2h"},
        {
            "obs": "bp_panel",
            "at": "-30min",
            "components": {k: values[k] for k in ("bp_systolic", "bp_diastolic")},
        },
        {
            "obs": "o2_flow_rate",
            "value": "5 L/min",
            "at": "-20min",
            "components": {"oxygen_device": "dev_nasal_cannula"},
        },
        *({"obs": "anc", "value": values["anc"], "at": f"-{n}d"} for n in range(4)),
        *(
            {"obs": concept, "value": values[concept], "at": "d-6"}
            for concept in ("platelets", "hemoglobin", "crp", "ferritin")
        ),
        *({"obs": c, "value": values[c], "at": "-5h"} for c in ("uric_acid", "creatinine", "igg")),
    ]
    for entry in entries:
        add(entry, bench)
    add(
        {"draft": "tocilizumab", "id": "toci", "dose": "800 mg", "route": "route_intravenous", "at": "+1h"},
        bench,
    )
    add({"draft_vaccine": "vac_mmr", "id": "mmr", "at": "+1d", "route": "route_subcutaneous"}, bench)
    return bench


def _rewritten(value: Any, change: Callable[[Resource], Resource | None], holder: str = "") -> Any:
    """Every CodeableConcept below `value` that names one of our concepts, as `change` writes it."""
    if isinstance(value, list):
        return [_rewritten(item, change, holder) for item in value]
    if not isinstance(value, dict):
        return value
    if isinstance(value.get("coding"), list):
        return change({**value, "_holder": holder}) or value
    name = str(value.get("resourceType", ""))
    return {
        key: item
        if key in ("clinicalStatus", "verificationStatus")
        else _rewritten(item, change, f"{name}.{key}")
        for key, item in value.items()
    }


def _concept(concept: Resource) -> str:
    terminology = load()
    found: set[str] = set()
    for coding in concept["coding"]:
        found |= set(terminology.concepts_for(str(coding.get("system", "")), str(coding["code"])))
    drugs = {c for c in found if not c.startswith("class_")}
    return min(drugs, key=len) if drugs else ""


def _by_name(concept: Resource) -> Resource | None:
    name = _concept(concept)
    if concept["_holder"].startswith("Condition") or not name:
        return None
    if load().concept(name).kind not in NAMED:
        return None
    shown = load().display(name, "en")
    return {"text": shown} if name in load().by_name(shown) else None


def _by_hospital(used: set[str]) -> Callable[[Resource], Resource | None]:
    def change(concept: Resource) -> Resource | None:
        name = _concept(concept)
        if not name:
            return None
        used.add(name)
        return {"coding": [{"system": HOSPITAL, "code": f"H-{name.upper()}"}]}

    return change


async def _findings(client: httpx.AsyncClient, bench: Bench) -> dict[str, list[tuple[Any, ...]]]:
    keys = {"procedures": [r for r in bench.resources if r["resourceType"] != "Patient"], "labs": []}
    prefetch: dict[str, Any] = {
        key: {"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": r} for r in found]}
        for key, found in keys.items()
    }
    prefetch["patient"] = next(r for r in bench.resources if r["resourceType"] == "Patient")
    found = {}
    services = {s["id"]: s for s in (await client.get("/cds-services")).json()["services"]}
    for service in ("all-patient-view", "all-order-sign"):
        context = {}
        if service.endswith("order-sign"):
            entries = [{"resource": draft} for draft in bench.drafts]
            context["draftOrders"] = {"resourceType": "Bundle", "type": "collection", "entry": entries}
        for key in services[service]["prefetch"]:
            prefetch.setdefault(key, None)
        request = hook_request(services[service]["hook"], prefetch=prefetch, context=context)
        response = await client.post(f"/cds-services/{service}", json=request)
        assert response.status_code == 200, response.text
        found[service] = [
            (
                card["indicator"],
                card["extension"][FINDING]["rule"],
                card["extension"][FINDING]["outcome"],
                card["extension"][FINDING].get("grade"),
                card["extension"][FINDING].get("values", {}).get("row"),
                card["extension"][FINDING].get("resource"),
                sorted(s["label"] for s in card.get("suggestions", [])),
            )
            for card in response.json()["cards"]
        ]
    return found


@pytest.fixture
async def reference(cds_app: FastAPI) -> dict[str, list[tuple[Any, ...]]]:
    async with client_of(cds_app) as client:
        found = await _findings(client, _chart(SI))
    rules = {row[1] for rows in found.values() for row in rows}
    assert {"grading.crs", "grading.icaht", "dosing.crs-tocilizumab", "vaccination.live"} <= rules
    return found


async def test_us_customary_units(cds_app: FastAPI, reference: dict[str, list[tuple[Any, ...]]]) -> None:
    async with client_of(cds_app) as client:
        assert await _findings(client, _chart(US)) == reference


async def test_units_as_text_only(cds_app: FastAPI, reference: dict[str, list[tuple[Any, ...]]]) -> None:
    bench = _chart(US)
    text = json.dumps(bench.resources).replace('"system": "http://unitsofmeasure.org", ', "")
    bench.resources = json.loads(text)
    for resource in bench.resources:
        if isinstance(resource.get("valueQuantity"), dict):
            resource["valueQuantity"].pop("code", None)
            resource["valueQuantity"].pop("system", None)
    async with client_of(cds_app) as client:
        assert await _findings(client, bench) == reference


async def test_names_instead_of_codes(cds_app: FastAPI, reference: dict[str, list[tuple[Any, ...]]]) -> None:
    bench = _chart(SI)
    bench.resources = [_rewritten(r, _by_name) for r in bench.resources]
    bench.drafts = [_rewritten(r, _by_name) for r in bench.drafts]
    shown = json.dumps(bench.resources)
    assert shown.count('"text"') > 10
    async with client_of(cds_app) as client:
        assert await _findings(client, bench) == reference


async def test_hospital_codes_with_a_site_map(
    make_app: Callable[..., FastAPI], tmp_path: Path, reference: dict[str, list[tuple[Any, ...]]]
) -> None:
    used: set[str] = set()
    bench = _chart(SI)
    bench.resources = [_rewritten(r, _by_hospital(used)) for r in bench.resources]
    bench.drafts = [_rewritten(r, _by_hospital(used)) for r in bench.drafts]
    assert "loinc" not in json.dumps(bench.resources)
    assert LOCAL not in json.dumps(bench.drafts)
    site_map = tmp_path / "site-map.csv"
    rows = [f"{name},{HOSPITAL},H-{name.upper()}" for name in sorted(used)]
    site_map.write_text("concept_id,system,code\n" + "\n".join(rows) + "\n", encoding="utf-8")
    async with client_of(make_app(site_map=site_map)) as client:
        assert await _findings(client, bench) == reference
