"""Checklist 1.2: what a hook request must be, and what is tolerated."""

from __future__ import annotations

from typing import Any

import pytest

from cds.protocol import Note, ProtocolError, parse_request

INSTANCE = "0b6f9f0e-6d2e-4d0c-8a60-1f6f3a2f7d11"


def body(hook: str = "patient-view", **changes: Any) -> dict[str, Any]:
    context: dict[str, Any] = {"userId": "Practitioner/d1", "patientId": "p1"}
    if hook in ("order-select", "order-sign"):
        context["draftOrders"] = {"resourceType": "Bundle", "entry": []}
    if hook == "order-select":
        context["selections"] = []
    if hook.startswith("encounter-"):
        context["encounterId"] = "e1"
    if hook == "appointment-book":
        context["appointments"] = {"resourceType": "Bundle", "entry": []}
    context |= changes.pop("context", {})
    raw = {"hook": hook, "hookInstance": INSTANCE, "context": context, **changes}
    return {key: value for key, value in raw.items() if value is not ...}


def refused(raw: object, hook: str = "patient-view") -> ProtocolError:
    with pytest.raises(ProtocolError) as caught:
        parse_request(raw, hook)
    assert caught.value.status == 400
    return caught.value


@pytest.mark.parametrize(
    "hook",
    [
        "patient-view",
        "order-select",
        "order-sign",
        "encounter-start",
        "encounter-discharge",
        "appointment-book",
    ],
)
def test_20_minimal_body_of_every_hook_is_read(hook: str) -> None:
    request = parse_request(body(hook), hook)
    assert (request.hook, request.patient_id, request.hook_instance) == (hook, "p1", INSTANCE)
    assert request.prefetch == {}
    assert request.notes == frozenset()


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (body() | {"hook": None}, "hook"),
        (body() | {"hook": ""}, "hook"),
        (body() | {"hook": 7}, "hook"),
        (body(hookInstance=...), "hookInstance"),
        (body(hookInstance=""), "hookInstance"),
        (body(hookInstance=["x"]), "hookInstance"),
        (body() | {"context": None}, "context"),
        (body() | {"context": [1]}, "context"),
        (body() | {"context": {}}, "context.patientId"),
        (body(context={"patientId": ""}), "context.patientId"),
        (body(context={"patientId": "  "}), "context.patientId"),
        (body(context={"patientId": "Patient/"}), "context.patientId"),
        (body(context={"patientId": 12}), "context.patientId"),
        (body(context={"patientId": "x" * 256}), "context.patientId"),
        (body(prefetch=[]), "prefetch"),
        (body(prefetch="all"), "prefetch"),
        (body(fhirServer=5), "fhirServer"),
        ([], "request"),
        ("hook", "request"),
        (None, "request"),
    ],
)
def test_21_what_is_missing_or_of_another_kind_is_named(raw: object, field: str) -> None:
    assert refused(raw).field == field


@pytest.mark.parametrize(
    ("hook", "field"),
    [
        ("order-select", "draftOrders"),
        ("order-sign", "draftOrders"),
        ("encounter-start", "encounterId"),
        ("encounter-discharge", "encounterId"),
        ("appointment-book", "appointments"),
    ],
)
def test_21_required_context_field_of_the_hook_is_named(hook: str, field: str) -> None:
    raw = body(hook)
    for missing in (None, ""):
        raw["context"][field] = missing
        assert refused(raw, hook).field == f"context.{field}"
    del raw["context"][field]
    assert refused(raw, hook).field == f"context.{field}"


def test_22_hook_instance_of_any_uuid_version_is_fine_and_another_text_is_noted() -> None:
    v1 = parse_request(body(hookInstance="23f1a303-991f-4118-86c5-11d99a39222e".upper()), "patient-view")
    assert Note.INSTANCE_NOT_UUID not in v1.notes
    odd = parse_request(body(hookInstance="abc-1"), "patient-view")
    assert odd.hook_instance == "abc-1"
    assert Note.INSTANCE_NOT_UUID in odd.notes


def test_22_hook_instance_over_255_characters_is_refused() -> None:
    assert parse_request(body(hookInstance="x" * 255), "patient-view").hook_instance == "x" * 255
    assert refused(body(hookInstance="x" * 256)).field == "hookInstance"


def test_23_another_hook_than_the_services_is_refused() -> None:
    assert refused(body("order-sign"), "patient-view").field == "hook"


AUTH = {
    "access_token": "t0ken",
    "token_type": "Bearer",
    "expires_in": 300,
    "scope": "patient/*.read",
    "subject": "s",
}


def test_24_authorization_without_server_is_refused() -> None:
    assert refused(body(fhirAuthorization=AUTH)).field == "fhirServer"


def with_auth(**changes: Any) -> dict[str, Any]:
    auth = {key: value for key, value in (AUTH | changes).items() if value is not ...}
    return body(fhirServer="https://fhir.example.org", fhirAuthorization=auth)


def test_25_authorization_is_read() -> None:
    request = parse_request(with_auth(), "patient-view")
    assert request.authorization is not None
    assert request.authorization.token == "t0ken"
    assert request.authorization.expires_in == 300
    assert request.notes == frozenset()


@pytest.mark.parametrize(
    ("changes", "expires", "note"),
    [
        ({"expires_in": "3600"}, 3600, Note.EXPIRY_AS_TEXT),
        ({"expires_in": ...}, None, Note.EXPIRY_UNREADABLE),
        ({"expires_in": "soon"}, None, Note.EXPIRY_UNREADABLE),
        ({"expires_in": True}, None, Note.EXPIRY_UNREADABLE),
        ({"scope": ...}, 300, Note.SCOPE_MISSING),
        ({"subject": ...}, 300, Note.SUBJECT_MISSING),
        ({"patient": "p2"}, 300, Note.TOKEN_OF_OTHER_PATIENT),
    ],
)
def test_25_breaches_that_real_ehrs_commit_are_noted(
    changes: dict[str, Any], expires: float | None, note: Note
) -> None:
    request = parse_request(with_auth(**changes), "patient-view")
    assert request.authorization is not None
    assert request.authorization.expires_in == expires
    assert note in request.notes


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"access_token": ...}, "access_token"),
        ({"access_token": ""}, "access_token"),
        ({"access_token": 4}, "access_token"),
        ({"access_token": "a\r\nX: y"}, "access_token"),
        ({"token_type": "MAC"}, "token_type"),
        ({"token_type": 1}, "token_type"),
    ],
)
def test_25_authorization_that_cannot_be_used_is_refused(changes: dict[str, Any], field: str) -> None:
    assert refused(with_auth(**changes)).field == f"fhirAuthorization.{field}"


def test_25_lower_case_bearer_is_bearer() -> None:
    assert parse_request(with_auth(token_type="bearer"), "patient-view").authorization is not None
    assert parse_request(with_auth(token_type=None), "patient-view").authorization is not None


def test_token_is_in_no_representation() -> None:
    assert "t0ken" not in repr(parse_request(with_auth(), "patient-view"))


def test_27_28_unknown_fields_and_extensions_are_ignored() -> None:
    raw = body(extension={"com.example": {"a": 1}}, weather="rain", context={"mood": "good"})
    assert parse_request(raw, "patient-view").patient_id == "p1"


def test_29_prefetch_null_and_unknown_keys_are_no_error() -> None:
    assert parse_request(body(prefetch=None), "patient-view").prefetch == {}
    assert parse_request(body(prefetch={"x": None}), "patient-view").prefetch == {"x": None}


@pytest.mark.parametrize(
    "given",
    [
        "Patient/123",
        "123",
        " 123 ",
        "https://fhir.example.org/r4/Patient/123",
        "Patient/123/_history/4",
    ],
)
def test_30_patient_reference_is_its_id(given: str) -> None:
    request = parse_request(body(context={"patientId": given}), "patient-view")
    assert request.patient_id == "123"
    assert (Note.PATIENT_REFERENCE in request.notes) == ("Patient/" in given)


@pytest.mark.parametrize(
    "user",
    ["Practitioner/1", "PractitionerRole/1", "Patient/1", "RelatedPerson/a.b-c", "Practitioner/1/_history/2"],
)
def test_31_every_user_type_is_accepted(user: str) -> None:
    request = parse_request(body(context={"userId": user}), "patient-view")
    assert request.user_id == user
    assert request.notes == frozenset()


@pytest.mark.parametrize(
    ("user", "note"),
    [
        ("dr-who", Note.USER_FORMAT),
        ("Device/1", Note.USER_FORMAT),
        (5, Note.USER_FORMAT),
        (None, Note.USER_MISSING),
        ("", Note.USER_MISSING),
    ],
)
def test_31_a_bad_user_is_noted_and_not_refused(user: object, note: Note) -> None:
    assert note in parse_request(body(context={"userId": user}), "patient-view").notes


DRAFT = {"resourceType": "MedicationRequest", "id": "m1"}
OTHER = {"resourceType": "ServiceRequest", "id": "s1"}


@pytest.mark.parametrize(
    "orders",
    [
        {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": DRAFT}, {"resource": OTHER}]},
        {"resourceType": "Bundle", "entry": [{"resource": DRAFT}, {"resource": OTHER}]},
        {"entry": [{"resource": DRAFT}, {"resource": OTHER}]},
        [DRAFT, OTHER],
        [{"resource": DRAFT}, OTHER],
    ],
)
def test_drafts_are_found_in_every_shape_that_clients_send(orders: object) -> None:
    request = parse_request(body("order-sign", context={"draftOrders": orders}), "order-sign")
    assert request.draft_orders == (DRAFT, OTHER)
    assert request.unreadable_entries == 0


def test_a_draft_without_an_id_takes_the_one_of_its_address() -> None:
    entry = {"fullUrl": "urn:uuid:abc", "resource": {"resourceType": "Medication"}}
    kept = {"fullUrl": "urn:uuid:def", "resource": {"resourceType": "Medication", "id": "m"}}
    orders = {"resourceType": "Bundle", "entry": [entry, kept]}
    request = parse_request(body("order-sign", context={"draftOrders": orders}), "order-sign")
    assert [order["id"] for order in request.draft_orders] == ["abc", "m"]


def test_a_single_resource_is_one_draft() -> None:
    assert parse_request(body("order-sign", context={"draftOrders": DRAFT}), "order-sign").draft_orders == (
        DRAFT,
    )


def test_entries_that_are_no_resource_are_counted() -> None:
    entries = [{"resource": DRAFT}, None, {"resource": 5}, {"resource": {"id": "x"}}, {"fullUrl": "urn:x"}]
    orders = {"resourceType": "Bundle", "entry": entries}
    request = parse_request(body("order-sign", context={"draftOrders": orders}), "order-sign")
    assert request.draft_orders == (DRAFT,)
    assert request.unreadable_entries == 4
    assert Note.ENTRY_UNREADABLE in request.notes


@pytest.mark.parametrize("orders", [7, "Bundle", {}, {"entry": 4}, True])
def test_drafts_of_no_readable_shape_are_refused_rather_than_taken_for_none(orders: object) -> None:
    raw = body("order-sign", context={"draftOrders": orders})
    assert refused(raw, "order-sign").field == "context.draftOrders"


def test_drafts_of_another_hook_are_not_read() -> None:
    assert parse_request(body(context={"draftOrders": 9}), "patient-view").draft_orders == ()


@pytest.mark.parametrize(
    ("selections", "chosen"),
    [
        (["MedicationRequest/m1"], {"MedicationRequest/m1"}),
        (["MedicationRequest/m1/_history/2"], {"MedicationRequest/m1"}),
        (["https://x.org/fhir/MedicationRequest/m1"], {"MedicationRequest/m1"}),
        ([{"reference": "MedicationRequest/m1"}], {"MedicationRequest/m1"}),
        (["m1"], {"MedicationRequest/m1"}),
        ("MedicationRequest/m1", {"MedicationRequest/m1"}),
        (["MedicationRequest/gone"], {"MedicationRequest/gone"}),
        ([], None),
        (None, None),
        ([3, "?", None], None),
    ],
)
def test_selections_are_compared_as_type_and_id(selections: object, chosen: set[str] | None) -> None:
    raw = body("order-select", context={"draftOrders": [DRAFT, OTHER], "selections": selections})
    assert parse_request(raw, "order-select").selections == chosen


def test_selections_of_another_kind_are_refused() -> None:
    raw = body("order-select", context={"selections": 5})
    assert refused(raw, "order-select").field == "context.selections"


def test_encounter_and_appointments_are_read() -> None:
    appointment = {"resourceType": "Appointment", "id": "a1"}
    raw = body("appointment-book", context={"appointments": [appointment], "encounterId": "Encounter/e9"})
    request = parse_request(raw, "appointment-book")
    assert request.appointments == (appointment,)
    assert request.encounter_id == "e9"
    for nothing in (None, ""):
        raw["context"]["encounterId"] = nothing
        assert parse_request(raw, "appointment-book").encounter_id == ""
