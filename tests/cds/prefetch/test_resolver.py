"""Checklist 35-49 and the fault table of prefetch: what a call has after prefetch and the FHIR server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import combinations
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
import respx

from cds.access import FhirClient, OutgoingGuard
from cds.prefetch import (
    Empty,
    Failed,
    Fetched,
    Found,
    KeyState,
    Limits,
    NotAsked,
    OfferedTypes,
    Plan,
    Reason,
    Resolver,
    coverage,
    make_plan,
)
from cds.protocol import ProtocolError, parse_request
from cds.sandbox import Fault, FaultKind, create_fhir_app
from fhir_mapping.chart import KeyState as CoverageState
from fhir_mapping.terminology import load

TAIPEI = ZoneInfo("Asia/Taipei")
NOW = datetime(2025, 4, 16, 10, tzinfo=TAIPEI)
SERVER = "https://fhir.example.org"
TERMINOLOGY = load()
NAMES = ("patient", "conditions", "procedures", "administrations", "orders-active", "appointments", "labs")
PLAN = make_plan(NAMES, [], "patient-view", TERMINOLOGY)

PATIENT = {"resourceType": "Patient", "id": "p1"}


def of(resource_type: str, number: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": resource_type,
        "id": f"{resource_type[0].lower()}{number}",
        "subject": {"reference": "Patient/p1"},
        **more,
    }


LAB = of("Observation", 1, category=[{"coding": [{"code": "laboratory"}]}], effectiveDateTime="2025-04-15")
PROCEDURE = of("Procedure", 1, status="completed", performedDateTime="2025-04-01")
CHART = [PATIENT, LAB, PROCEDURE, of("Condition"), of("MedicationRequest", 1, status="active")]


def bundle(*resources: Any, next_url: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {"resourceType": "Bundle", "type": "searchset"}
    if resources:
        found["entry"] = [{"resource": resource} for resource in resources]
    if next_url:
        found["link"] = [{"relation": "next", "url": next_url}]
    return found


FULL: dict[str, Any] = {
    "patient": PATIENT,
    "conditions": bundle(of("Condition")),
    "procedures": bundle(PROCEDURE),
    "administrations": None,
    "orders-active": bundle(of("MedicationRequest", 1, status="active")),
    "appointments": bundle(),
    "labs": bundle(LAB),
}
AUTH = {"access_token": "t0ken", "token_type": "Bearer", "expires_in": 300, "scope": "s", "subject": "x"}


def call(prefetch: Any = None, *, server: str = SERVER, auth: Any = AUTH, patient: str = "p1") -> Any:
    raw: dict[str, Any] = {"hook": "patient-view", "hookInstance": "i", "context": {"patientId": patient}}
    if prefetch is not None:
        raw["prefetch"] = prefetch
    if server:
        raw["fhirServer"] = server
        if auth is not None:
            raw["fhirAuthorization"] = auth
    return parse_request(raw, "patient-view")


class World:
    """A resolver over the embedded server or over mocked routes."""

    def __init__(self, transport: httpx.AsyncBaseTransport, **limits: Any) -> None:
        guard = OutgoingGuard(["fhir.example.org"])
        self.client = FhirClient(guard, transport=transport)
        self.offered = OfferedTypes(600)
        self.resolver = Resolver(self.client, self.offered, Limits(**limits))

    async def resolve(
        self,
        request: Any,
        plan: Plan = PLAN,
        *,
        seconds: float = 5.0,
        in_scope: Callable[[Sequence[Any]], bool] = lambda resources: True,
    ) -> Fetched:
        return await self.resolver.resolve(
            request, plan, now=NOW, deadline=time.monotonic() + seconds, in_scope=in_scope
        )


def sandboxed(*resources: Any, faults: Sequence[Fault] = (), page_cap: int = 1000, **limits: Any) -> Any:
    app = create_fhir_app([list(resources or CHART)], faults=faults, token="t0ken", page_cap=page_cap)
    world = World(httpx.ASGITransport(app), **limits)
    world.sandbox = app.state.sandbox  # type: ignore[attr-defined]
    return world


@pytest.fixture
def routes() -> respx.Router:
    router = respx.Router(assert_all_called=False)
    router.get(f"{SERVER}/Patient/p1").respond(json=PATIENT)
    return router


def mocked(routes: respx.Router, **limits: Any) -> World:
    """Everything that no route catches is an empty searchset."""
    routes.get(url__startswith=SERVER).respond(json=bundle())
    return World(httpx.MockTransport(routes.async_handler), **limits)


def ids(fetched: Fetched) -> set[str]:
    return {f"{resource['resourceType']}/{resource['id']}" for resource in fetched.resources}


EVERYTHING = {"Patient/p1", "Observation/o1", "Procedure/p1", "Condition/c1", "MedicationRequest/m1"}


async def test_35_full_prefetch_makes_no_call() -> None:
    world = sandboxed()
    fetched = await world.resolve(call(FULL))
    assert world.sandbox.seen == []
    assert fetched.asked == ()
    assert ids(fetched) == EVERYTHING
    assert fetched.patient == PATIENT


async def test_full_pull_reads_the_same() -> None:
    world = sandboxed()
    fetched = await world.resolve(call())
    assert ids(fetched) == EVERYTHING
    assert set(fetched.asked) == set(NAMES)
    assert {seen.authorization for seen in world.sandbox.seen} == {"Bearer t0ken"}


@pytest.mark.parametrize(
    "given", [keys for n in range(len(NAMES) + 1) for keys in combinations(NAMES, n)][::3]
)
async def test_36_any_subset_of_keys_gives_the_same_resources_and_states(given: tuple[str, ...]) -> None:
    world = sandboxed()
    fetched = await world.resolve(call({key: FULL[key] for key in given}))
    assert ids(fetched) == EVERYTHING
    assert set(fetched.asked) == set(NAMES) - set(given)
    kinds = {name: type(state) for name, state in fetched.states.items()}
    assert kinds == {
        "patient": Found,
        "conditions": Found,
        "procedures": Found,
        "administrations": Empty,
        "orders-active": Found,
        "appointments": Empty,
        "labs": Found,
    }


async def test_37_a_hostile_patient_id_reaches_the_server_as_one_value(routes: respx.Router) -> None:
    odd = "1&_count=1"
    route = routes.get(f"{SERVER}/Patient/1%26_count%3D1").respond(
        json={"resourceType": "Patient", "id": odd}
    )
    world = mocked(routes)
    await world.resolve(call(patient=odd))
    assert route.called
    for sent in routes.calls:
        if sent.request.url.path != "/Patient/1&_count=1":
            assert sent.request.url.params["patient"] == odd


@pytest.mark.parametrize(
    "nothing", [None, bundle(), {"resourceType": "Bundle", "type": "searchset", "total": 0}]
)
async def test_38_39_null_or_empty_is_looked_at_and_not_fetched(nothing: Any) -> None:
    world = sandboxed()
    fetched = await world.resolve(call(FULL | {"labs": nothing}))
    assert world.sandbox.seen == []
    assert fetched.states["labs"] == Empty()
    assert coverage(fetched.states["labs"]).state is CoverageState.EMPTY


async def test_38_a_null_patient_is_fetched() -> None:
    world = sandboxed()
    fetched = await world.resolve(call(FULL | {"patient": None}))
    assert fetched.asked == ("patient",)
    assert fetched.patient == PATIENT


def outcome(code: str) -> dict[str, Any]:
    return {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": code}]}


@pytest.mark.parametrize("code", ["transient", "timeout", "throttled"])
async def test_40_a_transient_outcome_is_fetched_again(code: str) -> None:
    world = sandboxed()
    fetched = await world.resolve(call(FULL | {"labs": outcome(code)}))
    assert fetched.asked == ("labs",)
    assert isinstance(fetched.states["labs"], Found)
    alone = await world.resolve(call(FULL | {"labs": outcome(code)}, server=""))
    assert alone.states["labs"] == Failed(Reason.OUTCOME)


@pytest.mark.parametrize("code", ["forbidden", "exception", "not-found"])
async def test_40_another_outcome_is_reported_and_not_fetched(code: str) -> None:
    world = sandboxed()
    fetched = await world.resolve(call(FULL | {"labs": outcome(code)}))
    assert world.sandbox.seen == []
    assert fetched.states["labs"] == Failed(Reason.OUTCOME)
    assert coverage(fetched.states["labs"]).reason == "operation-outcome"


@pytest.mark.parametrize("junk", ["x", 5, {}, {"entry": 5}, True])
async def test_a_key_that_is_no_fhir_is_fetched_else_named(junk: Any) -> None:
    world = sandboxed()
    assert (await world.resolve(call(FULL | {"labs": junk}))).asked == ("labs",)
    alone = await world.resolve(call(FULL | {"labs": junk}, server=""))
    assert alone.states["labs"] == Failed(Reason.MALFORMED)


async def test_resources_under_unknown_keys_are_read() -> None:
    extra = {"mine": bundle(of("DiagnosticReport")), "more": None, "odd": 7, "one": of("Specimen")}
    fetched = await sandboxed().resolve(call(FULL | extra))
    assert {"DiagnosticReport/d1", "Specimen/s1"} <= ids(fetched)
    assert set(fetched.states) == set(NAMES)


async def test_a_patient_under_another_key_serves() -> None:
    given = {key: value for key, value in FULL.items() if key != "patient"}
    fetched = await sandboxed().resolve(call(given | {"mine": bundle(PATIENT)}, server=""))
    assert fetched.patient == PATIENT
    assert isinstance(fetched.states["patient"], Found)


async def test_a_patient_in_a_bundle_or_without_id_serves() -> None:
    world = sandboxed()
    assert (await world.resolve(call(FULL | {"patient": bundle(PATIENT)}))).patient == PATIENT
    bare = await world.resolve(call(FULL | {"patient": {"resourceType": "Patient"}}))
    assert bare.patient == PATIENT
    assert PATIENT in bare.resources


# --- 412


async def refused(world: Any, request: Any, plan: Plan = PLAN) -> ProtocolError:
    with pytest.raises(ProtocolError) as caught:
        await world.resolve(request, plan)
    return caught.value


OTHER = {"resourceType": "Patient", "id": "p2", "name": [{"family": "Secret"}]}


@pytest.mark.parametrize(
    ("patient", "reason"),
    [
        (..., "no-server"),
        (None, "no-server"),
        (outcome("forbidden"), "operation-outcome"),
        (OTHER, "other-patient"),
        ({}, "malformed"),
        (bundle(), "other-patient"),
    ],
)
async def test_43_without_the_patient_there_is_no_answer(patient: Any, reason: str) -> None:
    given = {key: value for key, value in (FULL | {"patient": patient}).items() if value is not ...}
    error = await refused(sandboxed(), call(given, server=""))
    assert (error.status, error.field) == (412, "prefetch.patient")
    assert error.diagnostics == f"patient: {reason}"


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(FaultKind.STATUS, "Patient", status=401), "unauthorized"),
        (Fault(FaultKind.STATUS, "Patient", status=403), "forbidden"),
        (Fault(FaultKind.STATUS, "Patient", status=404), "not-found"),
        (Fault(FaultKind.STATUS, "Patient", status=500), "server-error"),
        (Fault(FaultKind.TRUNCATED, "Patient"), "malformed"),
        (Fault(FaultKind.HTML, "Patient"), "not-fhir"),
        (Fault(FaultKind.REDIRECT, "Patient"), "redirected"),
        (Fault(FaultKind.OUTCOME, "Patient"), "operation-outcome"),
    ],
)
async def test_43_a_patient_that_cannot_be_fetched(fault: Fault, reason: str) -> None:
    error = await refused(sandboxed(faults=[fault]), call())
    assert (error.status, error.field, error.diagnostics) == (412, "prefetch.patient", f"patient: {reason}")


async def test_49_the_server_answers_with_another_patient(routes: respx.Router) -> None:
    routes.get(f"{SERVER}/Patient/p1").respond(json=OTHER)
    error = await refused(mocked(routes), call())
    assert error.diagnostics == "patient: other-patient"
    assert "Secret" not in repr(vars(error))


async def test_49_another_patient_in_prefetch_is_fetched_anew() -> None:
    fetched = await sandboxed().resolve(call(FULL | {"patient": OTHER}))
    assert fetched.asked == ("patient",)
    assert OTHER not in fetched.resources


async def test_43_without_any_scope_key_there_is_no_answer() -> None:
    error = await refused(sandboxed(), call({"patient": PATIENT, "labs": bundle(LAB)}, server=""))
    assert (error.status, error.field) == (412, "prefetch")
    assert error.diagnostics == "procedures: no-server, administrations: no-server, orders-active: no-server"


@pytest.mark.parametrize("key", ["procedures", "administrations", "orders-active"])
@pytest.mark.parametrize("value", [None, bundle()])
async def test_44_one_scope_key_is_enough_and_the_rest_is_named(key: str, value: Any) -> None:
    fetched = await sandboxed().resolve(call({"patient": PATIENT, key: value}, server=""))
    assert fetched.states[key] == Empty()
    assert fetched.states["labs"] == NotAsked(Reason.NO_SERVER)
    assert coverage(fetched.states["labs"]).state is CoverageState.NOT_ASKED


# --- who may be called


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"server": "https://evil.example"}, Reason.NOT_ALLOWED),
        ({"server": "http://fhir.example.org"}, Reason.NOT_ALLOWED),
        ({"server": "http://169.254.169.254"}, Reason.NOT_ALLOWED),
        ({"server": "not a url"}, Reason.NOT_ALLOWED),
        ({"auth": AUTH | {"expires_in": 0}}, Reason.TOKEN),
        ({"auth": AUTH | {"expires_in": "-1"}}, Reason.TOKEN),
        ({"auth": AUTH | {"patient": "p2"}}, Reason.TOKEN),
    ],
)
async def test_26_47_48_no_call_leaves_and_prefetch_answers(changes: dict[str, Any], reason: Reason) -> None:
    world = sandboxed()
    given = {key: value for key, value in FULL.items() if key != "labs"}
    fetched = await world.resolve(call(given, **changes))
    assert fetched.states["labs"] == NotAsked(reason)
    assert (await refused(world, call({}, **changes))).status == 412
    assert world.sandbox.seen == []


async def test_46_an_open_server_is_asked_without_token(routes: respx.Router) -> None:
    world = mocked(routes)
    await world.resolve(call(auth=None))
    assert routes.calls
    assert all("authorization" not in sent.request.headers for sent in routes.calls)


# --- faults of single keys


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(FaultKind.STATUS, "Observation", status=401), Reason.UNAUTHORIZED),
        (Fault(FaultKind.STATUS, "Observation", status=429), Reason.THROTTLED),
        (Fault(FaultKind.STATUS, "Observation", status=503), Reason.SERVER_ERROR),
        (Fault(FaultKind.TRUNCATED, "Observation"), Reason.MALFORMED),
        (Fault(FaultKind.HTML, "Observation"), Reason.NOT_FHIR),
        (Fault(FaultKind.REDIRECT, "Observation"), Reason.REDIRECTED),
        (Fault(FaultKind.OUTCOME, "Observation"), Reason.OUTCOME),
    ],
)
async def test_44_a_fault_of_one_key_costs_that_key(fault: Fault, reason: Reason) -> None:
    fetched = await sandboxed(faults=[fault]).resolve(call())
    assert fetched.states["labs"] == Failed(reason)
    assert ids(fetched) == EVERYTHING - {"Observation/o1"}
    assert coverage(fetched.states["labs"]).state is CoverageState.FAILED
    assert coverage(fetched.states["labs"]).reason == reason.value


async def test_44_one_bad_answer_is_repeated() -> None:
    fault = Fault(FaultKind.STATUS, "Observation", status=503, times=1)
    assert ids(await sandboxed(faults=[fault]).resolve(call())) == EVERYTHING


async def test_44_a_slow_key_costs_no_more_than_the_deadline() -> None:
    world = sandboxed(faults=[Fault(FaultKind.DELAY, "Observation", seconds=3600)])
    fetched = await world.resolve(call(), seconds=2)
    assert fetched.states["labs"] == Failed(Reason.TIMEOUT)
    assert ids(fetched) == EVERYTHING - {"Observation/o1"}


async def test_keys_are_fetched_at_once_and_no_more_than_allowed() -> None:
    under_way = most = 0

    async def serve(request: httpx.Request) -> httpx.Response:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.01)
        under_way -= 1
        return httpx.Response(200, json=PATIENT if "/Patient/" in str(request.url) else bundle())

    await World(httpx.MockTransport(serve)).resolve(call())
    assert most >= 3
    most = 0
    await World(httpx.MockTransport(serve), concurrency=1).resolve(call())
    assert most == 1


# --- servers that refuse


async def test_400_is_asked_again_without_sort() -> None:
    fault = Fault(FaultKind.STATUS, "Observation", "_sort", status=400)
    world = sandboxed(faults=[fault])
    assert ids(await world.resolve(call())) == EVERYTHING
    queries = [seen.query for seen in world.sandbox.seen if seen.resource_type == "Observation"]
    assert queries == [
        "patient=p1&category=laboratory&_sort=-date&_count=800",
        "patient=p1&category=laboratory&_count=800",
    ]


ASSESSMENTS = make_plan(["patient", "procedures", "assessments"], [], "patient-view", TERMINOLOGY)


async def test_400_is_split_by_category() -> None:
    def score(number: int, category: str) -> Any:
        return of("Observation", number, category=[{"coding": [{"code": category}]}])

    fault = Fault(FaultKind.STATUS, "Observation", "survey,", status=400)
    world = sandboxed(PATIENT, score(1, "survey"), score(2, "exam"), score(3, "therapy"), faults=[fault])
    fetched = await world.resolve(call(), ASSESSMENTS)
    assert {"Observation/o1", "Observation/o2", "Observation/o3"} <= ids(fetched)
    state = fetched.states["assessments"]
    assert isinstance(state, Found)
    assert state.horizon is None


async def test_a_category_that_fails_makes_the_key_fail_but_keeps_the_others() -> None:
    exam = of("Observation", 2, category=[{"coding": [{"code": "exam"}]}])
    faults = [
        Fault(FaultKind.STATUS, "Observation", "survey,", status=400),
        Fault(FaultKind.STATUS, "Observation", "category=survey&", status=500),
    ]
    fetched = await sandboxed(PATIENT, exam, faults=faults).resolve(call(), ASSESSMENTS)
    state = fetched.states["assessments"]
    assert isinstance(state, Failed)
    assert state.reason is Reason.SERVER_ERROR
    assert "Observation/o2" in ids(fetched)


@pytest.mark.parametrize("status", [400, 403, 404])
async def test_a_refused_type_is_remembered(status: int) -> None:
    world = sandboxed(faults=[Fault(FaultKind.STATUS, "Appointment", status=status)])
    first = await world.resolve(call())
    assert first.states["appointments"] == Failed(Reason.NOT_OFFERED)
    calls = len([seen for seen in world.sandbox.seen if seen.resource_type == "Appointment"])
    second = await world.resolve(call())
    assert second.states["appointments"] == first.states["appointments"]
    assert len([seen for seen in world.sandbox.seen if seen.resource_type == "Appointment"]) == calls
    assert world.offered.refused() == {SERVER: ("Appointment",)}
    await world.resolve(call(auth=AUTH | {"scope": "wider"}))
    assert len([seen for seen in world.sandbox.seen if seen.resource_type == "Appointment"]) > calls


async def test_a_refused_key_of_a_type_that_is_offered_is_not_remembered() -> None:
    plan = make_plan(["patient", "procedures", "labs", "vitals"], [], "patient-view", TERMINOLOGY)
    world = sandboxed(faults=[Fault(FaultKind.STATUS, "Observation", "vital-signs", status=403)])
    fetched = await world.resolve(call(), plan)
    assert fetched.states["vitals"] == Failed(Reason.FORBIDDEN)
    assert isinstance(fetched.states["labs"], Found)
    assert world.offered.refused() == {}


def test_the_memory_of_refusals_fades_and_is_bounded() -> None:
    clock = [0.0]
    offered = OfferedTypes(60, lambda: clock[0])
    offered.refuse("s", "", "Specimen")
    assert not offered.offers("s", "", "Specimen")
    assert offered.offers("other", "", "Specimen")
    clock[0] = 61
    assert offered.offers("s", "", "Specimen")
    assert offered.refused() == {}
    for number in range(2000):
        offered.refuse(f"s{number}", "", "Specimen")
    assert len(offered.refused()) == 1000
    switched_off = OfferedTypes(0)
    switched_off.refuse("s", "", "Specimen")
    assert switched_off.offers("s", "", "Specimen")


# --- pages


def lab(day: int, month: int = 4) -> dict[str, Any]:
    stamp = f"2025-{month:02d}-{day:02d}T08:00:00+08:00"
    number = month * 100 + day
    return {**LAB, "id": f"o{number}", "effectiveDateTime": stamp}


def old_lab(year: int) -> dict[str, Any]:
    return {**LAB, "id": f"o{year}", "effectiveDateTime": f"{year}-01-01T08:00:00+08:00"}


def horizon_of(state: KeyState) -> datetime | None:
    assert isinstance(state, Found), state
    return state.horizon


async def test_41_pages_are_read_until_the_rules_are_satisfied() -> None:
    labs = [lab(15), lab(14), old_lab(2024), old_lab(2023), old_lab(2022), old_lab(2021)]
    world = sandboxed(PATIENT, *labs, page_cap=2)
    fetched = await world.resolve(call())
    pages = [seen for seen in world.sandbox.seen if "laboratory" in seen.query]
    assert len(pages) == 2  # the second page reaches further back than any rule
    assert horizon_of(fetched.states["labs"]) == datetime(2023, 1, 1, 8, tzinfo=TAIPEI)
    assert coverage(fetched.states["labs"]).state is CoverageState.HORIZON


async def test_41_a_whole_list_is_read_to_its_end() -> None:
    conditions = [of("Condition", number) for number in range(7)]
    world = sandboxed(PATIENT, *conditions, page_cap=3)
    fetched = await world.resolve(call())
    assert horizon_of(fetched.states["conditions"]) is None
    assert len([r for r in fetched.resources if r["resourceType"] == "Condition"]) == 7


async def test_41_the_page_limit_leaves_a_horizon_or_says_incomplete() -> None:
    many = [of("Condition", number) for number in range(20)] + [lab(day) for day in range(1, 16)]
    fetched = await sandboxed(PATIENT, *many, page_cap=2, pages=3).resolve(call())
    state = fetched.states["conditions"]
    assert isinstance(state, Failed)
    assert (state.reason, len(state.resources)) == (Reason.INCOMPLETE, 6)
    assert horizon_of(fetched.states["labs"]) == datetime(2025, 4, 10, 8, tzinfo=TAIPEI)


@pytest.mark.parametrize("kind", [FaultKind.FOREIGN_NEXT, FaultKind.ENDLESS_NEXT])
async def test_41_46_foreign_and_endless_pages_are_not_followed(kind: FaultKind) -> None:
    world = sandboxed(faults=[Fault(kind, "Condition"), Fault(kind, "Observation")])
    fetched = await world.resolve(call())
    assert isinstance(fetched.states["conditions"], Failed)
    assert "Condition/c1" in ids(fetched)
    assert horizon_of(fetched.states["labs"]) is not None
    assert len([seen for seen in world.sandbox.seen if seen.resource_type == "Condition"]) == 1


async def test_41_pages_in_circles_end(routes: respx.Router) -> None:
    page = iter(range(1000))

    def serve(request: httpx.Request) -> httpx.Response:
        url = f"{SERVER}/Condition?page={next(page)}"
        return httpx.Response(200, json=bundle(of("Condition"), next_url=url))

    routes.get(f"{SERVER}/Condition").mock(side_effect=serve)
    fetched = await mocked(routes, pages=50).resolve(call())
    state = fetched.states["conditions"]
    assert isinstance(state, Failed)
    assert state.reason is Reason.INCOMPLETE
    assert next(page) == 2


async def test_41_a_page_that_fails_leaves_what_was_read(routes: respx.Router) -> None:
    routes.get(f"{SERVER}/Condition", params={"page": "2"}).respond(500)
    routes.get(f"{SERVER}/Condition").respond(
        json=bundle(of("Condition"), next_url=f"{SERVER}/Condition?page=2")
    )
    fetched = await mocked(routes).resolve(call())
    assert fetched.states["conditions"] == Failed(Reason.INCOMPLETE, (of("Condition"),))


async def test_41_a_paged_prefetch_is_read_on_with_the_token() -> None:
    world = sandboxed(PATIENT, *(of("Condition", number) for number in range(4)))
    paged = bundle(of("Condition", 0), next_url=f"{SERVER}/Condition?patient=p1&_offset=1")
    fetched = await world.resolve(call(FULL | {"conditions": paged}))
    assert isinstance(fetched.states["conditions"], Found)
    assert {f"Condition/c{number}" for number in range(4)} <= ids(fetched)
    assert [seen.authorization for seen in world.sandbox.seen] == ["Bearer t0ken"]


async def test_41_a_paged_prefetch_without_server_is_incomplete_or_has_a_horizon() -> None:
    url = f"{SERVER}/x?page=2"
    given = {
        "conditions": bundle(of("Condition"), next_url=url),
        "labs": bundle(lab(15), lab(3), next_url=url),
    }
    fetched = await sandboxed().resolve(call(FULL | given, server=""))
    assert fetched.states["conditions"] == Failed(Reason.INCOMPLETE, (of("Condition"),))
    assert horizon_of(fetched.states["labs"]) == datetime(2025, 4, 3, 8, tzinfo=TAIPEI)


async def test_41_a_paged_prefetch_that_reaches_far_enough_needs_no_call() -> None:
    world = sandboxed()
    paged = bundle(lab(15), old_lab(2023), next_url=f"{SERVER}/x?page=2")
    fetched = await world.resolve(call(FULL | {"labs": paged}))
    assert world.sandbox.seen == []
    assert horizon_of(fetched.states["labs"]) == datetime(2023, 1, 1, 8, tzinfo=TAIPEI)


async def test_41_an_answer_that_is_not_newest_first_has_no_horizon() -> None:
    paged = bundle(lab(3), lab(15), next_url=f"{SERVER}/x?page=2")
    fetched = await sandboxed().resolve(call(FULL | {"labs": paged}, server=""))
    assert isinstance(fetched.states["labs"], Failed)


async def test_41_a_first_page_without_its_links_is_not_the_whole() -> None:
    world = sandboxed()
    given = {"conditions": {**bundle(of("Condition")), "total": 9}, "labs": {**bundle(lab(15)), "total": 2}}
    fetched = await world.resolve(call(FULL | given))
    assert fetched.states["conditions"] == Failed(Reason.INCOMPLETE, (of("Condition"),))
    assert horizon_of(fetched.states["labs"]) == datetime(2025, 4, 15, 8, tzinfo=TAIPEI)
    assert world.sandbox.seen == []


async def test_a_relative_next_link_is_followed(routes: respx.Router) -> None:
    routes.get(f"{SERVER}/Condition", params={"page": "2"}).respond(json=bundle(of("Condition", 2)))
    routes.get(f"{SERVER}/Condition").respond(json=bundle(of("Condition"), next_url="?page=2"))
    fetched = await mocked(routes).resolve(call())
    assert {"Condition/c1", "Condition/c2"} <= ids(fetched)


# --- two waves


async def test_two_waves_leave_out_what_an_uninvolved_patient_does_not_need() -> None:
    world = sandboxed()
    fetched = await world.resolve(call(), in_scope=lambda resources: False)
    asked = [seen.resource_type for seen in world.sandbox.seen]
    assert "Observation" not in asked
    assert fetched.states["labs"] == NotAsked(Reason.OUT_OF_SCOPE)
    assert isinstance(fetched.states["conditions"], Found)


async def test_weaker_signs_are_asked_before_a_patient_is_called_uninvolved() -> None:
    world = sandboxed()
    judged: list[set[str]] = []

    def in_scope(resources: Sequence[Any]) -> bool:
        judged.append({resource["resourceType"] for resource in resources})
        return "Condition" in judged[-1]

    fetched = await world.resolve(call(), in_scope=in_scope)
    assert ids(fetched) == EVERYTHING
    assert "Condition" not in judged[0]
    assert "Condition" in judged[1]


async def test_an_unread_scope_key_leaves_nothing_out() -> None:
    world = sandboxed(faults=[Fault(FaultKind.STATUS, "Procedure", status=503)])
    fetched = await world.resolve(call(), in_scope=lambda resources: False)
    assert isinstance(fetched.states["labs"], Found)


async def test_a_scope_key_that_the_server_does_not_have_hides_nothing() -> None:
    world = sandboxed(faults=[Fault(FaultKind.STATUS, "MedicationAdministration", status=404)])
    fetched = await world.resolve(call(), in_scope=lambda resources: False)
    assert fetched.states["labs"] == NotAsked(Reason.OUT_OF_SCOPE)


# --- bounds and split keys


async def test_too_many_resources_are_refused() -> None:
    labs = bundle(*(lab(day) for day in range(1, 12)))
    with pytest.raises(ProtocolError) as caught:
        await sandboxed(entries=10).resolve(call(FULL | {"labs": labs}))
    assert caught.value.status == 413


async def test_a_split_key_has_one_state() -> None:
    concepts = [concept.id for concept in TERMINOLOGY.concepts()]
    plan = make_plan(["patient", "procedures", "own-codes"], concepts, "patient-view", TERMINOLOGY)
    given = {"patient": PATIENT, "procedures": None, "own-codes": bundle(LAB), "own-codes-2": None}
    world = sandboxed()
    both = await world.resolve(call(given, server=""), plan)
    assert both.states["own-codes"] == Found((LAB,))
    del given["own-codes-2"]
    half = await world.resolve(call(given, server=""), plan)
    assert half.states["own-codes"] == NotAsked(Reason.NO_SERVER, (LAB,))


async def test_a_template_whose_context_is_missing_is_not_asked() -> None:
    plan = make_plan(["patient", "procedures", "encounters"], [], "encounter-discharge", TERMINOLOGY)
    world = sandboxed()
    fetched = await world.resolve(call(), plan)
    assert fetched.states["encounter"] == NotAsked(Reason.NO_CONTEXT)
