"""The embedded FHIR server behaves as the servers it stands for."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from cds.sandbox import Fault, FaultKind, create_fhir_app

LOINC, LOCAL = "http://loinc.org", "urn:local"


def observation(number: int, loinc: str = "718-7", /, **changes: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": f"o{number}",
        "status": "final",
        "category": [{"coding": [{"code": "laboratory"}]}],
        "code": {"coding": [{"system": LOINC, "code": loinc}]},
        "subject": {"reference": "Patient/p1"},
        "effectiveDateTime": f"2025-04-{number:02d}T08:00:00+08:00",
        **changes,
    }


CHART: list[dict[str, Any]] = [
    {"resourceType": "Patient", "id": "p1"},
    *[observation(number) for number in range(1, 6)],
    observation(6, "8310-5", category=[{"coding": [{"code": "vital-signs"}]}]),
    observation(7, subject={"reference": "Patient/p2"}),
    observation(8, "85354-9", component=[{"code": {"coding": [{"system": LOINC, "code": "8480-6"}]}}]),
    observation(9, code={"coding": [{"system": LOCAL, "code": "718-7"}]}, effectiveDateTime="?"),
    {
        "resourceType": "MedicationRequest",
        "id": "m1",
        "status": "active",
        "subject": {"reference": "https://x.org/fhir/Patient/p1"},
        "medicationCodeableConcept": {"coding": [{"system": "http://www.whocc.no/atc", "code": "L04AC07"}]},
    },
    {
        "resourceType": "Appointment",
        "id": "a1",
        "status": "booked",
        "participant": [{"actor": {"reference": "Patient/p1"}}],
    },
    {
        "resourceType": "AllergyIntolerance",
        "id": "al1",
        "patient": {"reference": "Patient/p1"},
        "odd": {"x": []},
    },
]


def client(**options: Any) -> httpx.AsyncClient:
    app = create_fhir_app([{"resourceType": "Bundle", "entry": [{"resource": r} for r in CHART]}], **options)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://fhir.test")


async def ids(query: str, **options: Any) -> list[str]:
    async with client(**options) as http:
        answer = await http.get(query)
    assert answer.status_code == 200, answer.text
    return [entry["resource"]["id"] for entry in answer.json().get("entry", [])]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (
            "Observation?patient=p1&category=laboratory&_sort=-date",
            ["o8", "o5", "o4", "o3", "o2", "o1", "o9"],
        ),
        ("Observation?subject=Patient/p2", ["o7"]),
        ("Observation?patient=p1&_sort=date&_count=2", ["o1", "o2"]),
        ("Observation?patient=p1&category=vital-signs,survey", ["o6"]),
        ("Observation?patient=p1&code=8310-5", ["o6"]),
        (f"Observation?patient=p1&code={LOCAL}|718-7,{LOINC}|8310-5", ["o6", "o9"]),
        (f"Observation?patient=p1&code={LOCAL}|", ["o9"]),
        ("Observation?patient=p1&code=|718-7", []),
        ("Observation?patient=p1&code=8480-6", []),
        ("Observation?patient=p1&combo-code=8480-6", ["o8"]),
        ("Observation?patient=p1&date=ge2025-04-05&date=lt2025-04-08", ["o5", "o6"]),
        ("Observation?patient=p1&date=2025-04-05", ["o5"]),
        ("Observation?patient=p1&status=preliminary", []),
        ("Observation?_id=o1,o7", ["o1", "o7"]),
        ("MedicationRequest?patient=p1&status=active,draft", ["m1"]),
        ("Appointment?patient=p1&_sort=-date", ["a1"]),
        ("AllergyIntolerance?patient=p1", ["al1"]),
        ("Specimen?patient=p1", []),
    ],
)
async def test_search(query: str, found: list[str]) -> None:
    assert await ids(query) == found


async def test_pages_are_linked_until_the_last() -> None:
    async with client(page_cap=3) as http:
        answer = (await http.get("Observation?patient=p1&_sort=-date&_count=100")).json()
        pages, seen = 1, [entry["resource"]["id"] for entry in answer["entry"]]
        while more := [link["url"] for link in answer["link"] if link["relation"] == "next"]:
            answer = (await http.get(more[0])).json()
            pages += 1
            seen += [entry["resource"]["id"] for entry in answer["entry"]]
    assert pages == 3
    assert seen == ["o8", "o6", "o5", "o4", "o3", "o2", "o1", "o9"]


async def test_dirty_resources_come_back_as_they_are() -> None:
    async with client() as http:
        assert (await http.get("AllergyIntolerance/al1")).json() == CHART[-1]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("Patient/gone", 404),
        ("Observation?weather=rain", 400),
        ("Observation?_count=many", 400),
        ("Observation?date=soon", 400),
        ("Observation?_sort=colour", 400),
    ],
)
async def test_refusals_are_operation_outcomes(query: str, status: int) -> None:
    async with client() as http:
        answer = await http.get(query)
    assert answer.status_code == status
    assert answer.json()["resourceType"] == "OperationOutcome"


async def test_write_read_remove() -> None:
    async with client() as http:
        made = await http.post("Observation", json={"resourceType": "Observation", "status": "final"})
        assert made.status_code == 201
        place = made.headers["location"]
        assert (await http.get(place)).json()["id"] == place.rpartition("/")[2]
        assert (await http.put("Patient/p9", json={"resourceType": "Patient", "id": "p9"})).status_code == 201
        assert (await http.put("Patient/p9", json={"resourceType": "Patient", "id": "p9"})).status_code == 200
        assert (await http.put("Patient/p9", json={"resourceType": "Group"})).status_code == 400
        assert (await http.delete("Patient/p9")).status_code == 204
        assert (await http.get("Patient/p9")).status_code == 404
        assert (await http.post("Observation", content=b"{")).status_code == 400


async def test_transaction_links_its_own_entries() -> None:
    patient = {
        "fullUrl": "urn:uuid:1",
        "resource": {"resourceType": "Patient"},
        "request": {"method": "POST", "url": "Patient"},
    }
    weight = {
        "fullUrl": "urn:uuid:2",
        "resource": {"resourceType": "Observation", "subject": {"reference": "urn:uuid:1"}},
        "request": {"method": "POST", "url": "Observation"},
    }
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [weight, patient]}
    async with client() as http:
        answer = (await http.post("/", json=bundle)).json()
        observed, created = (entry["response"]["location"] for entry in answer["entry"])
        assert (await http.get(observed)).json()["subject"] == {"reference": created}
        batch = {
            "resourceType": "Bundle",
            "type": "batch",
            "entry": [
                {"request": {"method": "GET", "url": created}},
                {"request": {"method": "GET", "url": "Observation?patient=p2"}},
                {"request": {"method": "DELETE", "url": created}},
                {"request": {"method": "GET", "url": created}},
            ],
        }
        answer = (await http.post("/", json=batch)).json()
        assert [entry["response"]["status"] for entry in answer["entry"]] == ["200", "200", "204", "404"]
        assert answer["entry"][1]["resource"]["total"] == 1
        assert (await http.post("/", json={"resourceType": "Bundle", "type": "history"})).status_code == 400


async def test_metadata_lists_what_is_there() -> None:
    async with client() as http:
        statement = (await http.get("metadata")).json()
    types = [item["type"] for item in statement["rest"][0]["resource"]]
    assert statement["fhirVersion"] == "4.0.1"
    assert "Observation" in types


async def test_token_is_required_where_one_is_set() -> None:
    async with client(token="s3cret") as http:
        assert (await http.get("Patient/p1")).status_code == 401
        assert (await http.get("Patient/p1", headers={"Authorization": "Bearer s3cret"})).status_code == 200


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        (Fault(FaultKind.STATUS, status=503, retry_after="1"), lambda a: a.headers["retry-after"] == "1"),
        (Fault(FaultKind.STATUS, status=403), lambda a: a.status_code == 403),
        (Fault(FaultKind.DELAY, seconds=0.01), lambda a: a.json()["total"] == 8),
        (Fault(FaultKind.TRUNCATED), lambda a: not a.text.endswith("}")),
        (Fault(FaultKind.HTML), lambda a: a.headers["content-type"].startswith("text/html")),
        (Fault(FaultKind.CONTENT_TYPE), lambda a: a.headers["content-type"].startswith("text/plain")),
        (Fault(FaultKind.OUTCOME), lambda a: a.json()["resourceType"] == "OperationOutcome"),
        (Fault(FaultKind.FOREIGN_NEXT), lambda a: "elsewhere" in a.json()["link"][0]["url"]),
        (Fault(FaultKind.ENDLESS_NEXT), lambda a: "patient=p1" in a.json()["link"][0]["url"]),
        (Fault(FaultKind.REDIRECT), lambda a: a.status_code == 302),
    ],
)
async def test_faults_are_played(fault: Fault, check: Any) -> None:
    async with client(faults=[fault]) as http:
        assert check(await http.get("Observation?patient=p1"))


async def test_a_fault_hits_only_its_target_and_only_so_often() -> None:
    fault = Fault(FaultKind.STATUS, "Observation", "category=laboratory", times=1)
    async with client(faults=[fault]) as http:
        assert (await http.get("Patient/p1")).status_code == 200
        assert (await http.get("Observation?patient=p1")).status_code == 200
        assert (await http.get("Observation?patient=p1&category=laboratory")).status_code == 500
        assert (await http.get("Observation?patient=p1&category=laboratory")).status_code == 200


async def test_requests_are_recorded() -> None:
    app = create_fhir_app(CHART)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://fhir.test") as http:
        await http.get("Observation?patient=p1%26x")
    (seen,) = app.state.sandbox.seen
    assert (seen.method, seen.resource_type, seen.query) == ("GET", "Observation", "patient=p1&x")
