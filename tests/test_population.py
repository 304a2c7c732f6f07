"""Patients without CAR-T cells or bispecific antibodies: no card and no error, whatever else they have."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from cds.protocol.hooks import HOOKS, Presence
from tests.casebook.shorthand import Bench, Resource, add, medication_request
from tests.conftest import FROZEN, client_of, hook_request

PATIENTS = 500
CONDITIONS = (
    "dlbcl b_all follicular_lymphoma multiple_myeloma sclc hbv hiv heart_failure arrhythmia pneumonia sepsis "
    "fever hypotension seizure neutropenia pregnancy gvhd covid19 g6pd_deficiency aki"
).split()
DRUGS = (
    "dexamethasone prednisolone methotrexate cyclophosphamide rituximab filgrastim imatinib tacrolimus "
    "acyclovir entecavir levofloxacin norepinephrine tocilizumab bendamustine fludarabine ivig allopurinol "
    "rasburicase paracetamol"
).split()
VACCINES = "vac_mmr vac_rzv vac_influenza_inactivated vac_covid19 vac_yellow_fever vac_hepb".split()
LABS = {
    "anc": ("10*3/uL", 0, 8),
    "platelets": ("10*9/L", 5, 400),
    "creatinine": ("umol/L", 40, 400),
    "alt": ("U/L", 5, 400),
    "ferritin": ("ug/L", 10, 9000),
    "uric_acid": ("mg/dL", 2, 12),
    "potassium": ("mmol/L", 2, 7),
    "igg": ("g/L", 1, 20),
    "body_temperature": ("Cel", 36, 40),
    "bp_systolic": ("mm[Hg]", 70, 180),
    "spo2": ("%", 80, 100),
}


def _days(dice: random.Random, most: int) -> str:
    return f"-{dice.randint(1, most)}d"


def somebody(number: int) -> Bench:
    """One synthetic patient: a random mixture of problems, drugs, vaccines, results and visits."""
    dice = random.Random(number)
    bench = Bench(now=FROZEN, d0=FROZEN, patient=f"out-{number}")
    birth = (FROZEN - timedelta(days=dice.randint(200, 33000))).date()
    add({"patient": "p", "birth": birth, "sex": dice.choice(["male", "female", "unknown"])}, bench)
    for concept in dice.sample(CONDITIONS, dice.randint(0, 5)):
        status = dice.choice(["active", "resolved", "remission", "relapse"])
        add({"condition": concept, "since": _days(dice, 900), "status": status}, bench)
    for drug in dice.sample(DRUGS, dice.randint(0, 6)):
        kind = dice.choice(["given", "order", "taking", "dispensed"])
        entry: dict[str, Any] = {kind: drug, "dose": "5 mg", "route": "route_intravenous"}
        add({**entry, ("from" if kind == "taking" else "at"): _days(dice, 400)}, bench)
    for vaccine in dice.sample(VACCINES, dice.randint(0, 2)):
        add({"vaccine": vaccine, "at": _days(dice, 700)}, bench)
    for concept in dice.sample(sorted(LABS), dice.randint(0, len(LABS))):
        unit, low, high = LABS[concept]
        value = f"{round(dice.uniform(low, high), 1)} {unit}"
        add({"obs": concept, "value": value, "at": f"-{dice.randint(1, 72)}h"}, bench)
    if dice.random() < 0.5:
        add({"encounter": dice.choice(["IMP", "AMB", "EMER"]), "from": "-2d"}, bench)
    if dice.random() < 0.2:
        add(
            {"procedure": dice.choice(["auto_hct", "hemodialysis", "bone_marrow_aspiration"]), "at": "-90d"},
            bench,
        )
    return bench


def drafts(number: int, bench: Bench) -> list[Resource]:
    dice = random.Random(-number)
    chosen = [*dice.sample(DRUGS, 2), dice.choice(VACCINES)]
    return [
        medication_request(
            name, {"id": f"d{i}", "dose": "10 mg", "route": "route_intravenous", "at": "+1d"}, bench, "draft"
        )
        for i, name in enumerate(chosen)
    ]


def _bundle(resources: list[Resource]) -> Resource:
    return {"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": r} for r in resources]}


async def _answer(client: httpx.AsyncClient, service: str, hook: str, number: int) -> list[Any]:
    bench = somebody(number)
    orders = drafts(number, bench)
    context: dict[str, Any] = {}
    for field in HOOKS[hook].fields:
        if field.name == "draftOrders":
            context[field.name] = {**_bundle(orders), "type": "collection"}
        elif field.name == "selections":
            context[field.name] = [f"MedicationRequest/{o['id']}" for o in orders]
        elif field.name == "appointments":
            appointment = {
                "resourceType": "Appointment",
                "id": "a1",
                "status": "proposed",
                "start": "2025-05-01T09:00:00+08:00",
                "participant": [{"actor": bench.subject, "status": "accepted"}],
            }
            context[field.name] = {**_bundle([appointment]), "type": "collection"}
        elif field.name == "encounterId" and field.presence is Presence.REQUIRED:
            context[field.name] = "enc"
    others = [r for r in bench.resources if r["resourceType"] != "Patient"]
    patient = next(r for r in bench.resources if r["resourceType"] == "Patient")
    prefetch = {"patient": patient, "procedures": _bundle(others), "labs": None}
    request = hook_request(hook, bench.patient, prefetch=prefetch, context=context)
    response = await client.post(f"/cds-services/{service}", json=request)
    assert response.status_code == 200, (service, number, response.text[:400])
    cards: list[Any] = response.json()["cards"]
    return cards


@pytest.mark.parametrize("hook", ["patient-view", "order-sign", "encounter-discharge"])
async def test_five_hundred_patients_out_of_scope_get_no_card(hook: str, cds_app: FastAPI) -> None:
    async with client_of(cds_app) as client:
        for number in range(PATIENTS):
            cards = await _answer(client, f"all-{hook}", hook, number)
            assert not cards, (number, [c["summary"] for c in cards])


async def test_every_service_is_silent_for_them(cds_app: FastAPI) -> None:
    async with client_of(cds_app) as client:
        services = (await client.get("/cds-services")).json()["services"]
        for service in services:
            for number in range(20):
                cards = await _answer(client, service["id"], service["hook"], number)
                assert not cards, (service["id"], number, [c["summary"] for c in cards])
