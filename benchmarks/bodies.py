"""Hook requests of CAR-T patients whose rules all have work to do, with a chosen number of Observations."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import orjson

from tests.casebook.shorthand import ZONE, Bench, add

NOW = datetime(2026, 3, 16, 10, 0, tzinfo=ZONE)
Resource = dict[str, Any]

_KEY_OF_TYPE = {
    "Condition": "conditions",
    "Procedure": "procedures",
    "MedicationAdministration": "administrations",
    "MedicationRequest": "orders-active",
    "ServiceRequest": "service-requests",
    "Appointment": "appointments",
    "AllergyIntolerance": "allergies",
    "Immunization": "immunizations",
    "Encounter": "encounters",
}
_EMPTY_KEYS = (
    "course-drugs", "orders-past", "dispenses", "statements", "assessments", "own-codes", "body-size",
    "fever", "counts", "once-labs", "reports", "specimens",
)  # fmt: skip
_LABS = {
    "wbc": ("10*3/uL", 0.4, 6), "anc": ("10*3/uL", 0.05, 3), "hemoglobin": ("g/dL", 7, 12),
    "platelets": ("10*3/uL", 15, 200), "creatinine": ("mg/dL", 0.6, 1.4), "alt": ("U/L", 12, 90),
    "ast": ("U/L", 12, 90), "bilirubin_total": ("mg/dL", 0.3, 2), "ldh": ("U/L", 120, 600),
    "potassium": ("mmol/L", 3.3, 5.2), "phosphate": ("mg/dL", 2, 5), "uric_acid": ("mg/dL", 2, 9),
    "crp": ("mg/L", 1, 180), "ferritin": ("ng/mL", 80, 4000), "fibrinogen": ("mg/dL", 120, 500),
    "igg": ("mg/dL", 200, 900), "cd4_abs": ("/uL", 20, 400),
}  # fmt: skip
_VITALS = {
    "body_temperature": ("Cel", 36.4, 39.4), "heart_rate": ("/min", 60, 130),
    "respiratory_rate": ("/min", 12, 28),
    "spo2": ("%", 90, 99), "bp_systolic": ("mm[Hg]", 84, 140), "bp_diastolic": ("mm[Hg]", 45, 90),
}  # fmt: skip


def _observations(bench: Bench, count: int, days: int) -> None:
    dice = random.Random(count)
    concepts = [*_LABS.items(), *_VITALS.items()]
    step = timedelta(days=days) / max(count, 1)
    for number in range(count):
        concept, (unit, low, high) = concepts[number % len(concepts)]
        value = round(dice.uniform(low, high), 1)
        when = NOW - step * number - timedelta(minutes=20)
        category = "laboratory" if concept in _LABS else "vital-signs"
        add({"obs": concept, "value": f"{value} {unit}", "at": when, "uln": f"{high} {unit}"}, bench)
        bench.resources[-1]["category"] = [
            {
                "coding": [
                    {
                        "system": "http://terminology.hl7.org/CodeSystem/observation-category",
                        "code": category,
                    }
                ]
            }
        ]


def _common(bench: Bench) -> None:
    for entry in (
        {"patient": "p", "birth": "1968-02-11", "sex": "male"},
        {"condition": "dlbcl", "since": "2023-05-10", "status": "relapse"},
        {"condition": "heart_failure", "since": "2020-01-01", "status": "resolved"},
        {"encounter": "IMP", "from": "-12d"},
        {"obs": "body_weight", "value": "70 kg", "at": "-1d"},
        {"obs": "body_height", "value": "172 cm", "at": "-10d"},
    ):
        add(entry, bench)


def _drugs(bench: Bench, count: int) -> None:
    names = ("acyclovir", "levofloxacin", "paracetamol", "allopurinol", "entecavir", "potassium_chloride")
    for number in range(count):
        name = names[number % len(names)]
        add({"given": name, "at": f"-{3 + number * 5}h", "dose": "400 mg", "route": "route_oral"}, bench)
    for name in names[:4]:
        add({"order": name, "dose": "400 mg", "route": "route_oral", "at": "-9d", "every": "12h"}, bench)


def _infused(bench: Bench, day: int) -> None:
    start = NOW - timedelta(days=day)
    bench.d0 = start
    for entry in (
        {"procedure": "leukapheresis", "at": "d-40", "purpose": "purpose_car_t_collection"},
        {"given": "fludarabine", "at": "d-5T09:00", "dose": "45 mg", "route": "route_intravenous"},
        {"given": "cyclophosphamide", "at": "d-5T11:00", "dose": "450 mg", "route": "route_intravenous"},
        {"given": "tisagenlecleucel", "at": start.isoformat(), "bag": "B1", "route": "route_intravenous"},
    ):
        add(entry, bench)


def _grading(bench: Bench) -> None:
    _infused(bench, 6)
    for entry in (
        {"condition": "crs", "since": "-3d"},
        {"given": "norepinephrine", "from": "-3h", "running": True, "rate": "0.1 ug/kg/min"},
        {"given": "tocilizumab", "at": "-14h", "dose": "560 mg", "route": "route_intravenous"},
        {"given": "dexamethasone", "at": "-12h", "dose": "10 mg", "route": "route_intravenous"},
        {"obs": "body_temperature", "value": "39.2 Cel", "at": "-2h"},
        {
            "obs": "o2_flow_rate",
            "value": "8 L/min",
            "at": "-15min",
            "components": {"oxygen_device": "dev_nasal_cannula"},
        },
        {"obs": "ice_score", "value": 8, "at": "-1h"},
    ):
        add(entry, bench)


def _washout(bench: Bench, drug: str = "bendamustine") -> None:
    for entry in (
        {"service": "car_t_evaluation", "at": "-10d"},
        {"appointment": "leukapheresis", "at": "+38d", "purpose": "purpose_car_t_collection"},
        {"given": "bendamustine", "at": "-60d", "dose": "160 mg", "route": "route_intravenous"},
        {"given": "dexamethasone", "at": "-2d", "dose": "8 mg", "route": "route_intravenous"},
    ):
        add(entry, bench)
    add(
        {"draft": drug, "id": "d1", "dose": "160 mg", "route": "route_intravenous", "at": "+1d"},
        bench,
    )


def _unconcerned(bench: Bench) -> None:
    """An order that no rule of the service asks about."""
    _washout(bench, "paracetamol")


def _dosing(bench: Bench) -> None:
    for entry in (
        {"condition": "sclc", "since": "2024-01-01"},
        {"given": "tarlatamab", "from": "-8d", "to": "-8d", "dose": "1 mg", "route": "route_intravenous"},
    ):
        add(entry, bench)
    add(
        {"draft": "tarlatamab", "id": "d1", "dose": "10 mg", "route": "route_intravenous", "at": "+1d"}, bench
    )


def _follow_up(bench: Bench) -> None:
    _infused(bench, 200)
    add({"given": "ivig", "at": "-30d", "dose": "30 g", "route": "route_intravenous"}, bench)


_SCENES: dict[str, tuple[Callable[[Bench], None], str, int]] = {
    "grading-patient-view": (_grading, "patient-view", 20),
    "washout-order-sign": (_washout, "order-sign", 200),
    "washout-order-sign/unconcerned": (_unconcerned, "order-sign", 200),
    "dosing-order-sign": (_dosing, "order-sign", 60),
    "follow-up-patient-view": (_follow_up, "patient-view", 190),
}
SERVICES = tuple(name for name in _SCENES if "/" not in name)
UNCONCERNED = "washout-order-sign/unconcerned"


def resources(service: str, observations: int) -> tuple[list[Resource], list[Resource]]:
    """Chart and draft resources of one scene: a service, or a variant of one."""
    scene, _, days = _SCENES[service]
    bench = Bench(now=NOW, d0=NOW, patient="bench")
    _common(bench)
    scene(bench)
    _drugs(bench, 40)
    _observations(bench, observations, days)
    return bench.resources, bench.drafts


def body(service: str, observations: int) -> bytes:
    """A complete hook request of the service with everything in prefetch."""
    chart, drafts = resources(service, observations)
    hook = _SCENES[service][1]
    keys: dict[str, list[Resource]] = {}
    prefetch: dict[str, Any] = {}
    for resource in chart:
        kind = resource["resourceType"]
        if kind == "Patient":
            prefetch["patient"] = resource
        elif kind == "Observation":
            category = resource.get("category", [{"coding": [{"code": "vital-signs"}]}])[0]["coding"][0][
                "code"
            ]
            keys.setdefault("labs" if category == "laboratory" else "vitals", []).append(resource)
        else:
            keys.setdefault(_KEY_OF_TYPE[kind], []).append(resource)
    for key in (*set(_KEY_OF_TYPE.values()), "labs", "vitals", *_EMPTY_KEYS):
        entries = [{"resource": r, "search": {"mode": "match"}} for r in keys.get(key, [])]
        prefetch[key] = {
            "resourceType": "Bundle",
            "type": "searchset",
            "total": len(entries),
            "entry": entries,
        }
        if not entries:
            del prefetch[key]["entry"]
    context: dict[str, Any] = {"userId": "Practitioner/bench", "patientId": "bench"}
    if hook == "order-sign":
        context["draftOrders"] = {
            "resourceType": "Bundle",
            "type": "collection",
            "entry": [{"resource": draft} for draft in drafts],
        }
    return orjson.dumps(
        {
            "hook": hook,
            "hookInstance": "5e2f6f7e-5c9f-4d6e-8f53-6f1f1f0c2b11",
            "context": context,
            "prefetch": prefetch,
        }
    )
