"""Checklist 1.4: every fault that an answer can have is found, and a good answer has none."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from cds.protocol import ProtocolError, operation_outcome
from cds.protocol.errors import IssueCode
from cds.protocol.walker import error_problems, fhir_fault, house_problems, problems, utf16_length

DRAFTS = {"MedicationRequest/m1": {"resourceType": "MedicationRequest", "id": "m1", "status": "draft"}}
ORDER = {
    "resourceType": "MedicationRequest",
    "status": "draft",
    "intent": "order",
    "subject": {"reference": "Patient/p1"},
    "medicationCodeableConcept": {"text": "tocilizumab"},
}
GOOD: dict[str, Any] = {
    "cards": [
        {
            "uuid": "4e0a3a1e-3283-4575-ab82-028d55fe2719",
            "summary": "CRS grade 3: 39.1 Cel, one vasopressor",
            "detail": "CRP < 5 mg/L, platelets <500 /uL, a\\<b; see [Lee 2019](https://doi.org/10.1).",
            "indicator": "critical",
            "source": {
                "label": "ASTCT 2019",
                "url": "https://doi.org/10.1016/x",
                "topic": {"system": "urn:tcell-cds:rule", "code": "grading.crs", "display": "CRS"},
            },
            "suggestions": [
                {
                    "label": "Tocilizumab 560 mg",
                    "uuid": "e56e1945-20b3-4393-8503-a1a20fd73152",
                    "isRecommended": True,
                    "actions": [
                        {
                            "type": "delete",
                            "description": "Delete the draft",
                            "resourceId": "MedicationRequest/m1",
                        },
                        {"type": "create", "description": "Order tocilizumab", "resource": ORDER},
                        {
                            "type": "update",
                            "description": "Move the draft",
                            "resource": {**ORDER, "id": "m1"},
                        },
                    ],
                    "extension": {"org.tcell-cds.rule": "dosing.crs"},
                }
            ],
            "selectionBehavior": "at-most-one",
            "overrideReasons": [
                {"code": "other", "system": "urn:tcell-cds:override-reason", "display": "Other"}
            ],
            "links": [{"label": "Guideline", "url": "https://example.org", "type": "absolute"}],
            "extension": {
                "org.tcell-cds.finding": {
                    "rule": "grading.crs",
                    "outcome": "grade-3",
                    "rulesetVersion": "0.1.0+1a2b3c4d",
                }
            },
        }
    ]
}


def test_51_good_answers_have_no_fault() -> None:
    assert problems({"cards": []}) == []
    assert problems(GOOD, drafts=DRAFTS, validate_fhir=fhir_fault) == []
    assert house_problems(GOOD) == []


def edited(path: str, value: Any) -> dict[str, Any]:
    """GOOD with one place changed; `...` deletes it."""
    answer = deepcopy(GOOD)
    *way, last = [int(part) if part.isdigit() else part for part in path.split("/")]
    place: Any = answer
    for step in way:
        place = place[step]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return answer


CARD, SUGGESTION = "cards/0", "cards/0/suggestions/0"
ACTION = f"{SUGGESTION}/actions"


@pytest.mark.parametrize(
    ("item", "path", "value", "fault"),
    [
        (51, "cards", ..., "cards: is required"),
        (51, "cards", {}, "an array is required"),
        (51, "cards", ["x"], "cards[0]: an object"),
        (52, f"{CARD}/detail", None, "null or empty"),
        (52, f"{CARD}/links", [], "null or empty"),
        (52, f"{CARD}/source/url", "", "null or empty"),
        (52, f"{ACTION}/1/resource/note", {}, "resource.note: null or empty"),
        (52, f"{ACTION}/1/resource/note", [{"text": None}], "null or empty"),
        (53, f"{CARD}/summary", ..., "summary: a non-empty string"),
        (53, f"{CARD}/summary", "x" * 140, "140 characters"),
        (53, f"{CARD}/summary", "細" * 138 + "\U0001f9ec", "140 characters"),
        (53, f"{CARD}/summary", "a\nb", "more than one line"),
        (54, f"{CARD}/indicator", "hard-stop", "info, warning or critical"),
        (54, f"{CARD}/indicator", ..., "info, warning or critical"),
        (55, f"{CARD}/source", ..., "source: is required"),
        (55, f"{CARD}/source/label", ..., "source.label"),
        (56, f"{CARD}/source/url", "/local", "absolute"),
        (56, f"{CARD}/source/icon", "icon.png", "absolute"),
        (56, f"{CARD}/source/link", "https://x.org", "unknown field"),
        (57, f"{CARD}/source/topic/system", ..., "topic.system"),
        (57, f"{CARD}/source/topic", "grading.crs", "a Coding"),
        (58, f"{CARD}/uuid", "urn:uuid:4e0a3a1e-3283-4575-ab82-028d55fe2719", "bare UUID"),
        (58, f"{CARD}/uuid", "7", "bare UUID"),
        (58, f"{SUGGESTION}/uuid", "4e0a3a1e-3283-4575-ab82-028d55fe2719", "used twice"),
        (59, f"{CARD}/detail", "<script>alert(1)</script>", "raw HTML"),
        (59, f"{CARD}/detail", "x <!-- y", "raw HTML"),
        (59, f"{CARD}/detail", "![x](https://evil.example/p.png)", "image"),
        (59, f"{CARD}/detail", "[x](javascript:alert(1))", "not http"),
        (59, f"{CARD}/detail", "see data:text/html,x", "script or data"),
        (59, f"{CARD}/detail", "a\x00b", "control"),
        (59, f"{CARD}/summary", "<b>x</b>", "raw HTML"),
        (60, f"{CARD}/selectionBehavior", ..., "beside suggestions"),
        (60, f"{CARD}/selectionBehavior", "all", "beside suggestions"),
        (60, f"{CARD}/suggestions", ..., "without suggestions"),
        (61, f"{SUGGESTION}/label", ..., "label"),
        (61, f"{SUGGESTION}/isRecommended", "yes", "true or false"),
        (63, f"{ACTION}/1/type", "CREATE", "create, update or delete"),
        (63, f"{ACTION}/1/description", ..., "description"),
        (64, f"{ACTION}/1/resource", "{}", "a FHIR resource"),
        (64, f"{ACTION}/1/resource/id", "new", "no id"),
        (64, f"{ACTION}/1/resource/resourceType", ..., "resourceType"),
        (64, f"{ACTION}/1/resourceId", "MedicationRequest/m1", "only a delete"),
        (65, f"{ACTION}/2/resource/id", ..., "keeps its id"),
        (65, f"{ACTION}/2/resource/id", "m2", "no draft"),
        (65, f"{ACTION}/2/resource/status", ..., "status left out"),
        (66, f"{ACTION}/0/resourceId", "m1", "relative reference"),
        (66, f"{ACTION}/0/resourceId", "https://x.org/MedicationRequest/m1", "relative reference"),
        (66, f"{ACTION}/0/resourceId", "MedicationRequest/m2", "no draft"),
        (66, f"{ACTION}/0/resource", ORDER, "carries no resource"),
        (67, ACTION, [], "null or empty"),
        (67, f"{ACTION}/0/type", "update", "deletes come first"),
        (68, f"{SUGGESTION}/actionSelectionBehavior", "all", "configured"),
        (69, "systemActions", [{"type": "delete", "resourceId": "ServiceRequest/1"}], "not agreed"),
        (70, f"{CARD}/overrideReasons/0/display", ..., "display"),
        (70, f"{CARD}/overrideReasons/0", "other", "an object"),
        (71, f"{CARD}/links/0/type", "relative", "absolute or smart"),
        (71, f"{CARD}/links/0/url", "guide.html", "absolute http"),
        (71, f"{CARD}/links/0/appContext", "x", "only with a smart"),
        (71, f"{CARD}/links/0/autolaunchable", True, "safety card"),
        (72, f"{CARD}/extension", ["x"], "object"),
        (72, f"{CARD}/extension/finding", 1, "reverse-domain"),
        (72, "extension", {"finding": 1}, "reverse-domain"),
        (73, f"{ACTION}/1/resource/intent", ..., "not valid FHIR"),
        (73, f"{ACTION}/1/resource/colour", "red", "not valid FHIR"),
        (73, f"{ACTION}/1/resource/reason", [{"concept": {}}], "R5"),
        (73, f"{ACTION}/1/resource/resourceType", "Potion", "no resource type Potion"),
        (0, f"{CARD}/title", "x", "unknown field"),
    ],
)
def test_walker_finds(item: int, path: str, value: Any, fault: str) -> None:
    found = problems(edited(path, value), drafts=DRAFTS, validate_fhir=fhir_fault)
    assert any(fault in line for line in found), (item, found)


def test_62_at_most_one_is_recommended_under_at_most_one() -> None:
    answer = deepcopy(GOOD)
    card = answer["cards"][0]
    twin = deepcopy(card["suggestions"][0]) | {"uuid": "e56e1945-20b3-4393-8503-a1a20fd73153"}
    card["suggestions"].append(twin)
    assert any("more than one is recommended" in line for line in problems(answer))
    card["selectionBehavior"] = "any"
    assert problems(answer) == []
    assert any("at most one is recommended" in line for line in house_problems(answer))


def test_53_summary_is_measured_in_utf16() -> None:
    assert utf16_length("細胞🧬") == 4
    assert problems(edited("cards/0/summary", "細" * 137 + "🧬")) == []


def test_73_service_request_of_r5_is_found() -> None:
    resource = {**ORDER, "resourceType": "ServiceRequest", "code": {"concept": {"text": "MRI"}}}
    found = problems(edited("cards/0/suggestions/0/actions/1/resource", resource))
    assert any("code.concept: an element of R5" in line for line in found)


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        ("cards/0/uuid", ..., "every card"),
        ("cards/0/overrideReasons", ..., "every warning and critical"),
        ("cards/0/source/topic", ..., "names the rule"),
        ("cards/0/extension", ..., "carries org.tcell-cds.finding"),
        ("cards/0/extension/org.tcell-cds.finding/rule", "dosing.crs", "source.topic.code"),
        ("cards/0/extension/org.tcell-cds.finding/outcome", ..., "outcome"),
        ("cards/0/suggestions/0/uuid", ..., "every suggestion"),
    ],
)
def test_house_rules(path: str, value: Any, fault: str) -> None:
    assert any(fault in line for line in house_problems(edited(path, value)))


def test_house_order_of_cards() -> None:
    answer = deepcopy(GOOD)
    answer["cards"].insert(0, deepcopy(answer["cards"][0]) | {"indicator": "info"})
    assert any("ordered critical" in line for line in house_problems(answer))


@pytest.mark.parametrize("answer", [None, [], "x", 5])
def test_walker_never_raises(answer: object) -> None:
    assert problems(answer)
    assert house_problems(answer)
    assert error_problems(400, answer)


def test_45_error_bodies_are_operation_outcomes() -> None:
    error = ProtocolError(
        400, IssueCode.REQUIRED, "is required", "context.patientId", diagnostics="Send the patient."
    )
    body = operation_outcome(error)
    assert error_problems(400, body) == []
    assert body["issue"][0]["details"]["text"] == "context.patientId: is required"
    assert fhir_fault(body) == ""


@pytest.mark.parametrize(
    ("status", "body", "fault"),
    [
        (200, {"resourceType": "OperationOutcome"}, "no error"),
        (500, {"detail": "x"}, "OperationOutcome is required"),
        (500, {"resourceType": "OperationOutcome", "issue": []}, "at least one"),
        (
            500,
            {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "exception"}]},
            "details",
        ),
        (
            500,
            {
                "resourceType": "OperationOutcome",
                "issue": [{"severity": "error", "code": "x", "details": {"text": "Traceback (most"}}],
            },
            "stack trace",
        ),
    ],
)
def test_45_walker_finds_faults_of_error_bodies(status: int, body: object, fault: str) -> None:
    assert any(fault in line for line in error_problems(status, body))
