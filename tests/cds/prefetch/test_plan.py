"""Checklist 7, 12-15, 37: the published templates, and how a call's values get into them."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl

import pytest

from cds.engine import needs as engine_needs
from cds.prefetch import KEYS, SCOPE, TemplateError, make_plan, substituted
from cds.prefetch.plan import LONGEST
from cds.protocol import HOOKS, ServiceDescription, discovery, parse_request
from cds.protocol.walker import discovery_problems
from fhir_mapping.terminology import Terminology, load

ALL = tuple(name for name in KEYS if name != "encounter")


@pytest.fixture(scope="module")
def terminology() -> Terminology:
    return load()


@pytest.mark.parametrize("hook", ["patient-view", "order-sign", "encounter-discharge", "appointment-book"])
def test_every_template_passes_the_discovery_walker(terminology: Terminology, hook: str) -> None:
    plan = make_plan(ALL, [c.id for c in terminology.concepts()], hook, terminology)
    described = ServiceDescription("x", hook, "X", "X", plan.published, plan.usage_requirements)
    assert discovery_problems(discovery([described])) == []


def test_published_text_of_the_plain_keys() -> None:
    plan = make_plan(["patient", "conditions", "labs"], [], "patient-view", load())
    assert plan.published == {
        "patient": "Patient/{{context.patientId}}",
        "conditions": "Condition?patient={{context.patientId}}&_count=500",
        "labs": "Observation?patient={{context.patientId}}&category=laboratory&_sort=-date&_count=800",
    }


def test_only_declared_keys_are_published_in_the_order_of_the_table(terminology: Terminology) -> None:
    plan = make_plan({"labs", "patient", "procedures"}, [], "patient-view", terminology)
    assert list(plan.published) == ["patient", "procedures", "labs"]
    assert plan.scope == ("procedures",)
    with pytest.raises(KeyError, match="weather"):
        make_plan({"weather"}, [], "patient-view", terminology)


def test_encounter_hooks_also_read_their_encounter(terminology: Terminology) -> None:
    assert "encounter" in make_plan({"encounters"}, [], "encounter-discharge", terminology).published
    assert "encounter" not in make_plan({"encounters"}, [], "patient-view", terminology).published
    assert "encounter" not in make_plan({"labs"}, [], "encounter-start", terminology).published


def test_keys_agree_with_what_the_engine_asks_for(terminology: Terminology) -> None:
    assert [name for name in KEYS if name != "encounter"] == list(engine_needs.ORDER)
    assert set(SCOPE) == set(engine_needs.SCOPE_KEYS)
    for concept in terminology.concepts():
        if concept.kind not in ("lab", "vital", "observation"):
            continue
        carried = {name for name, spec in KEYS.items() if concept.id in spec.concepts}
        wanted = engine_needs.keys_of_concept(concept.id, terminology) & {
            "body-size",
            "fever",
            "counts",
            "once-labs",
        }
        assert carried == wanted, concept.id


def test_concepts_of_the_code_keys_exist(terminology: Terminology) -> None:
    missing = [concept for spec in KEYS.values() for concept in spec.concepts if concept not in terminology]
    assert missing == []


def codes(text: str) -> list[str]:
    return dict(parse_qsl(text.partition("?")[2]))["code"].split(",")


def test_code_keys_hold_standard_and_own_codes(terminology: Terminology) -> None:
    plan = make_plan({"body-size", "course-drugs"}, [], "patient-view", terminology)
    assert {"29463-7", "body-weight"} <= set(codes(plan.published["body-size"]))
    assert {"L01FX33", "tarlatamab", "L04AC07"} <= set(codes(plan.published["course-drugs"]))


def test_site_codes_join_the_code_keys(tmp_path: Path) -> None:
    site = tmp_path / "site.csv"
    site.write_text("concept_id,system,code\nbody_weight,urn:hospital,W|1\nbody_weight,urn:hospital,WT.KG\n")
    plan = make_plan({"body-size"}, [], "patient-view", load(site))
    text = plan.published["body-size"]
    assert "WT.KG" in codes(text)
    assert "W%5C%7C1" in text  # a pipe in a code is escaped for FHIR, then for the URL


def test_own_codes_are_those_of_the_service(terminology: Terminology) -> None:
    plan = make_plan({"own-codes"}, ["consciousness_level", "creatinine"], "patient-view", terminology)
    assert codes(plan.published["own-codes"]) == ["consciousness-level"]
    assert make_plan({"own-codes"}, ["creatinine"], "patient-view", terminology).published == {}


def test_a_key_over_the_limit_is_split(terminology: Terminology) -> None:
    concepts = [c.id for c in terminology.concepts()]
    plan = make_plan({"own-codes"}, concepts, "patient-view", terminology)
    assert list(plan.published) == ["own-codes", "own-codes-2"]
    assert all(template.spec.name == "own-codes" for template in plan.templates)
    joined = [code for text in plan.published.values() for code in codes(text)]
    assert len(joined) == len(set(joined))
    for text in plan.published.values():
        assert len(text.replace("{{context.patientId}}", "x" * 64)) <= LONGEST


def test_a_site_may_override_a_template(terminology: Terminology) -> None:
    text = "Observation?patient={{context.patientId}}&category=lab&_count=50"
    plan = make_plan({"labs"}, [], "patient-view", terminology, {"labs": text, "vitals": text})
    assert plan.published == {"labs": text}


@pytest.mark.parametrize(
    ("key", "text", "fault"),
    [
        ("weather", "Observation?x=1", "unknown key weather"),
        ("labs", "Condition?patient={{context.patientId}}", "must read Observation"),
        ("labs", "https://evil.example/Observation?x", "must read Observation"),
        ("labs", "Observation?patient={{context.draftOrders}}", "unknown token context.draftOrders"),
        ("labs", "Observation?patient={{patientId}}", "unknown token patientId"),
        ("labs", "Observation?patient={context.patientId}", "broken token"),
        ("labs", "Observation?patient={{context.patientId}}&x=a b", "no relative query"),
        ("labs", "Observation?code=" + "1," * 1000, "longer than"),
    ],
)
def test_an_override_that_no_client_could_fill_is_refused(
    terminology: Terminology, key: str, text: str, fault: str
) -> None:
    with pytest.raises(TemplateError, match=fault):
        make_plan({"labs"}, [], "patient-view", terminology, {key: text})


def request(patient: str, **context: str) -> object:
    return {"hook": "patient-view", "hookInstance": "i", "context": {"patientId": patient, **context}}


@pytest.mark.parametrize(
    ("patient", "query"),
    [
        ("p1", "Observation?patient=p1&_count=5"),
        ("1&_count=1", "Observation?patient=1%26_count%3D1&_count=5"),
        ("$1/../x?y#z", "Observation?patient=%241%2F..%2Fx%3Fy%23z&_count=5"),
        ("病人 1", "Observation?patient=%E7%97%85%E4%BA%BA%201&_count=5"),
        ("{{context.userId}}", "Observation?patient=%7B%7Bcontext.userId%7D%7D&_count=5"),
    ],
)
def test_37_values_are_percent_encoded(patient: str, query: str) -> None:
    call = parse_request(request(patient), "patient-view")
    assert substituted("Observation?patient={{context.patientId}}&_count=5", call) == query


def test_tokens_of_the_user_and_the_encounter() -> None:
    call = parse_request(
        request("p1", userId="PractitionerRole/r1", encounterId="Encounter/e1"), "patient-view"
    )
    assert substituted("Encounter/{{context.encounterId}}", call) == "Encounter/e1"
    assert substituted("PractitionerRole/{{userPractitionerRoleId}}", call) == "PractitionerRole/r1"
    assert substituted("X?a={{context.userId}}", call) == "X?a=PractitionerRole%2Fr1"
    assert substituted("Practitioner/{{userPractitionerId}}", call) is None
    assert (
        substituted("Encounter/{{context.encounterId}}", parse_request(request("p1"), "patient-view")) is None
    )


def test_every_hook_of_the_engine_is_in_the_library() -> None:
    from cds.engine.rule import Hook

    assert {hook.value for hook in Hook} <= set(HOOKS)
