"""The EHR's half of CDS Hooks, as the commands play it."""

import json

import httpx
import pytest

from cds.cli.ehr import CallError, FhirServer, Question, filled, hook_body, hook_context, prefetched

DRAFT = {"resourceType": "MedicationRequest", "id": "m1"}
OTHER = {"resourceType": "ServiceRequest", "id": "s1"}
CONTEXT = {"userId": "Practitioner/d1", "patientId": "p 1", "encounterId": "e1"}


@pytest.mark.parametrize(
    ("template", "query"),
    [
        ("Patient/{{context.patientId}}", "Patient/p%201"),
        (
            "Observation?patient={{context.patientId}}&x={{ context.encounterId }}",
            "Observation?patient=p%201&x=e1",
        ),
        ("Practitioner/{{userPractitionerId}}", "Practitioner/d1"),
        ("Patient/{{userPatientId}}", None),
        ("Encounter/{{context.unheardOf}}", None),
        ("Condition?_count=5", "Condition?_count=5"),
    ],
)
def test_templates_are_filled_from_the_context(template: str, query: str | None) -> None:
    assert filled(template, CONTEXT) == query


def test_context_of_each_hook() -> None:
    assert hook_context("patient-view", Question("p1")) == {
        "userId": "Practitioner/example",
        "patientId": "p1",
    }
    question = Question("p1", drafts=(DRAFT, OTHER), selected=("s1",))
    assert hook_context("order-select", question)["selections"] == ["ServiceRequest/s1"]
    both = hook_context("order-select", Question("p1", drafts=(DRAFT, OTHER)))
    assert both["selections"] == ["MedicationRequest/m1", "ServiceRequest/s1"]
    assert "selections" not in hook_context("order-sign", question)
    appointment = {"resourceType": "Appointment", "id": "a1"}
    booked = hook_context("appointment-book", Question("p1", appointments=(appointment,), encounter="e1"))
    assert booked["appointments"]["entry"] == [{"resource": appointment}]
    assert booked["encounterId"] == "e1"


@pytest.mark.parametrize(
    ("hook", "question", "reason"),
    [
        ("order-sign", Question("p1"), "draftOrders: give --order"),
        ("encounter-discharge", Question("p1"), "encounterId: give --encounter"),
        ("appointment-book", Question("p1"), "appointments: give --appointment"),
        ("order-select", Question("p1", drafts=(DRAFT,), selected=("x",)), "there are MedicationRequest/m1"),
        ("unheard-of", Question("p1"), "not known here"),
    ],
)
def test_what_a_hook_lacks_is_named(hook: str, question: Question, reason: str) -> None:
    with pytest.raises(CallError, match=reason):
        hook_context(hook, question)


def test_the_token_goes_into_the_authorization_and_nowhere_else() -> None:
    server = FhirServer("http://127.0.0.1:1", "secret-token")
    body = hook_body("patient-view", Question("p1", hook_instance="i"), server)
    assert body["fhirAuthorization"]["access_token"] == "secret-token"
    assert "secret-token" not in repr(server)
    assert "fhirAuthorization" not in hook_body("patient-view", Question("p1"), FhirServer("http://x"))
    assert "fhirServer" not in hook_body("patient-view", Question("p1"), None)


async def test_prefetch_says_found_empty_or_failed() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["authorization"] == "Bearer t"
        kind = request.url.path.split("/")[-1]
        answers = {
            "p1": httpx.Response(200, json={"resourceType": "Patient", "id": "p1"}),
            "gone": httpx.Response(404, json={"resourceType": "OperationOutcome"}),
            "Condition": httpx.Response(403, json={"resourceType": "OperationOutcome", "issue": []}),
            "Procedure": httpx.Response(500, text="oops"),
            "Observation": httpx.Response(200, text="<html>"),
        }
        if kind == "Encounter":
            raise httpx.ConnectTimeout("late")
        return answers[kind]

    templates = {
        "patient": "Patient/p1",
        "gone": "Patient/gone",
        "refused": "Condition?x=1",
        "broken": "Procedure?x=1",
        "html": "Observation?x=1",
        "late": "Encounter?x=1",
        "unfilled": "Encounter/{{context.encounterId}}",
        "made-to-fail": "Patient/p1",
    }
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        server = FhirServer("http://fhir.test", "t")
        found = await prefetched(client, server, templates, {"patientId": "p1"}, {"made-to-fail"})
    assert found["patient"] == {"resourceType": "Patient", "id": "p1"}
    assert found["gone"] is None
    assert "unfilled" not in found
    outcomes = {key for key, value in found.items() if value and value["resourceType"] == "OperationOutcome"}
    assert outcomes == {"refused", "broken", "html", "late", "made-to-fail"}
    assert list(found) == [key for key in templates if key != "unfilled"]
    json.dumps(found)
