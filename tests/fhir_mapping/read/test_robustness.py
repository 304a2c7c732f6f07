"""Whatever arrives, in whatever order: the chart is the same, and nothing raises."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_mapping.chart import Chart
from tests.fhir_mapping.read import charts as make
from tests.fhir_mapping.read import rows_bedside, rows_course, rows_disease, rows_drugs, rows_labs
from tests.fhir_mapping.read.charts import NOW, Resource, chart, local, obs, q

ROWS = [*rows_labs.ROWS, *rows_bedside.ROWS, *rows_disease.ROWS, *rows_drugs.ROWS, *rows_course.ROWS]
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))

FULL: list[Resource] = [
    make.patient(),
    make.condition("dlbcl", onsetDateTime="2024-01-02", recordedDate="2024-01-03"),
    make.condition(
        "http://hl7.org/fhir/sid/icd-10-cm|D89.832", id="crs", onsetDateTime="2025-04-13T20:00:00+08:00"
    ),
    make.procedure(
        "leukapheresis", "2025-03-01T08:00:00+08:00", reasonCode=[local("purpose_car_t_collection")]
    ),
    make.given("fludarabine", "2025-04-07T09:00:00+08:00", dose=q(54, "mg"), route="route_intravenous"),
    make.given(
        "fludarabine", "2025-04-08T09:00:00+08:00", id="flu2", dose=q(54, "mg"), route="route_intravenous"
    ),
    make.given("tisagenlecleucel", "2025-04-12T14:00:00+08:00"),
    make.given("tocilizumab", "2025-04-14T02:30:00+08:00", dose=q(560, "mg")),
    make.order(
        "acyclovir", timing={"repeat": {"frequency": 2, "period": 1, "periodUnit": "d"}}, dose=q(400, "mg")
    ),
    make.order("imatinib", status="stopped"),
    make.dispense("imatinib", "2025-01-01", 28),
    make.statement(
        "prednisone", status="completed", effectivePeriod={"start": "2025-01-01", "end": "2025-02"}
    ),
    make.service("eeg", occurrenceDateTime="2025-04-17"),
    make.visit("http://x|1", reasonCode=[local("car_t_follow_up")]),
    make.shot("vac_rzv", "2024-11-01"),
    make.allergy("rasburicase"),
    make.stay(),
    make.report("mri_brain", conclusionCode=[local("focal_edema")]),
    make.specimen(local("csf"), "csf1"),
    obs("wbc", (2.0, "10*3/uL"), "2025-04-15T06:00:00+08:00"),
    obs("neutrophil_pct", (25, "%"), "2025-04-15T06:00:00+08:00"),
    obs("platelets", (40, "10*9/L"), "2025-04-15T06:00:00+08:00", referenceRange=[{"low": q(150, "10*9/L")}]),
    obs("hbv_dna", (20, "[IU]/mL", "<"), "2025-04-01"),
    obs("body_temperature", (39.1, "Cel"), "2025-04-16T08:10:00+08:00"),
    obs(
        "bp_panel",
        at="2025-04-16T09:45:00+08:00",
        parts={"bp_systolic": (96, "mm[Hg]"), "bp_diastolic": (58, "mm[Hg]")},
    ),
    obs(
        "o2_flow_rate",
        (4, "L/min"),
        "2025-04-16T09:45:00+08:00",
        parts={"oxygen_device": "cc:dev_nasal_cannula"},
    ),
    obs("ice_score", 7, "2025-04-16T09:00:00+08:00", parts={"ice_naming": 2}),
    obs("raised_icp_sign", "cc:papilledema", "2025-04-16T09:00:00+08:00", id="icp1"),
    obs("raised_icp_sign", "cc:cushing_triad", "2025-04-16T09:00:00+08:00", id="icp2"),
    obs("body_weight", (70, "kg"), "2025-04-14"),
]
CONCEPTS = (
    "wbc neutrophil_pct anc platelets hbv_dna body_temperature bp_panel bp_systolic bp_diastolic "
    "o2_flow_rate oxygen_device ice_score ice_naming raised_icp_sign body_weight"
).split()


def snapshot(seen: Chart) -> dict[str, Any]:
    """Everything a rule could see."""
    return {
        "patient": seen.patient,
        "series": {
            c: (seen.series(c).items, seen.series(c).losses, seen.series(c).pending) for c in CONCEPTS
        },
        "conditions": seen.conditions.all,
        "procedures": seen.procedures.all,
        "services": seen.services.all,
        "appointments": seen.appointments.all,
        "encounters": seen.encounters,
        "drugs": seen.drugs.all,
        "vaccines": (seen.vaccines.all, seen.vaccine_orders.all),
        "allergies": seen.allergies.all,
        "documents": seen.documents.all,
        "course": seen.course,
        "exposures": seen.exposures,
        "losses": seen.losses,
    }


EXPECTED = snapshot(chart(*FULL))


def test_the_reference_chart_is_read_without_a_loss() -> None:
    assert EXPECTED["losses"] == ()
    assert all(items for concept, (items, _, _) in EXPECTED["series"].items()), EXPECTED["series"]


@QUICK
@given(st.randoms(use_true_random=False))
def test_order_never_matters(rng: random.Random) -> None:
    shuffled = copy.deepcopy(FULL)
    rng.shuffle(shuffled)
    assert snapshot(chart(*shuffled)) == EXPECTED


@QUICK
@given(st.lists(st.integers(0, len(FULL) - 1), max_size=12))
def test_copies_never_matter(again: list[int]) -> None:
    assert snapshot(chart(*FULL, *(copy.deepcopy(FULL[n]) for n in again))) == EXPECTED


@QUICK
@given(st.data())
def test_split_into_bundles_never_matters(data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(FULL)), max_size=4)))
    edges = [0, *cuts, len(FULL)]
    bundles = [
        {"resourceType": "Bundle", "entry": [{"resource": r} for r in FULL[a:b]]} for a, b in pairwise(edges)
    ]
    assert snapshot(chart(*bundles)) == EXPECTED


def mistaken(resource: Resource) -> Resource:
    """The same content under another id, entered in error."""
    other = {**copy.deepcopy(resource), "id": f"{resource['id']}-mistake"}
    if resource["resourceType"] in ("Condition", "AllergyIntolerance"):
        return {**other, "verificationStatus": {"coding": [{"code": "entered-in-error"}]}}
    return {**other, "status": "entered-in-error"}


@pytest.mark.parametrize(
    "resource",
    [r for r in FULL if r["resourceType"] not in ("Patient", "Specimen")],
    ids=lambda r: f"{r['resourceType']}/{r['id']}",
)
def test_what_was_entered_in_error_never_matters(resource: Resource) -> None:
    assert snapshot(chart(*FULL, mistaken(resource))) == EXPECTED


def in_another_zone(value: Any, hours: int) -> Any:
    """Every stamp with a zone, written in another one."""
    if isinstance(value, dict):
        return {key: in_another_zone(item, hours) for key, item in value.items()}
    if isinstance(value, list):
        return [in_another_zone(item, hours) for item in value]
    if isinstance(value, str) and len(value) > 18 and value[4:5] == "-" and "T" in value:
        stamp = datetime.fromisoformat(value)
        if stamp.tzinfo is not None:
            from datetime import timezone

            return stamp.astimezone(timezone(timedelta(hours=hours))).isoformat()
    return value


@QUICK
@given(st.integers(-12, 14))
def test_the_notation_of_a_zone_never_matters(hours: int) -> None:
    moved = [{**in_another_zone(r, hours), "id": r["id"]} for r in FULL]
    assert snapshot(chart(*moved)) == EXPECTED


@pytest.mark.parametrize("unit", ["10*3/uL", "10*9/L", "x10^3/uL", "K/uL", "G/L", "thou/uL"])
def test_the_spelling_of_a_unit_never_matters(unit: str) -> None:
    def value(seen: Chart) -> Any:
        quantity = seen.series("platelets").items[0].value.quantity
        assert quantity is not None
        return quantity.value, quantity.unit

    assert value(chart(obs("platelets", {"valueQuantity": {"value": 40, "unit": unit}}))) == value(
        chart(obs("platelets", (40, "10*3/uL")))
    )


def test_another_patients_chart_beside_ours_changes_nothing() -> None:
    others = copy.deepcopy(FULL)
    for other in others:
        other["id"] = f"other-{other['id']}"
        for field in ("subject", "patient"):
            if field in other:
                other[field] = {"reference": "Patient/p2"}
        if "participant" in other:
            other["participant"] = [{"actor": {"reference": "Patient/p2"}}]
    seen = snapshot(chart(*FULL, *others))
    assert {key: value for key, value in seen.items() if key != "losses"} == {
        key: value for key, value in EXPECTED.items() if key != "losses"
    }
    assert all("other-" not in loss.resource for loss in seen["losses"])


# -- damage ------------------------------------------------------------------------------------------------

JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=True, allow_infinity=True)
    | st.text(max_size=8)
    | st.sampled_from(
        ["2025-04-01", "active", "final", "#x", "Patient/p1", "urn:tcell-cds:concept", "1e999999"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                (
                    "coding code system text reference display value unit start end status type resource "
                    "concept"
                ).split()
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
EVERY_RESOURCE = [resource for row in ROWS for resource in row.resources] + FULL
EVERY_DRAFT = [d for row in ROWS for d in (row.hook or {}).get("drafts", ())] + [
    r for r in FULL if r["resourceType"] in ("MedicationRequest", "ServiceRequest", "Immunization")
]


def paths(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [here] if here else []
    if isinstance(value, dict):
        for key, item in value.items():
            found += paths(item, (*here, key))
    elif isinstance(value, list):
        for at, item in enumerate(value):
            found += paths(item, (*here, at))
    return found


def damaged(resource: Resource, path: tuple[Any, ...], junk: Any) -> Resource:
    result = copy.deepcopy(resource)
    target: Any = result
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = junk
    return result


def everything(seen: Chart) -> None:
    snapshot(seen)
    for concept in (
        *CONCEPTS,
        "cd4_abs",
        "calcium_corrected",
        "hbsag",
        "blood_culture",
        "seizure_event",
        "tp53_mutation",
    ):
        seen.series(concept)
    for drafts in (seen.drafts.drugs, seen.drafts.services, seen.drafts.vaccines, seen.drafts.appointments):
        assert isinstance(drafts.all, tuple)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(EVERY_RESOURCE), st.data(), JUNK)
def test_any_json_in_any_field_costs_that_entry_only(
    resource: Resource, data: st.DataObject, junk: Any
) -> None:
    broken = damaged(resource, data.draw(st.sampled_from(paths(resource))), junk)
    broken["id"] = "broken"
    everything(
        chart(
            broken, drafts=[broken], appointments=[broken], encounter_id="broken", hook="encounter-discharge"
        )
    )


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(EVERY_DRAFT), st.data(), JUNK)
def test_any_json_in_a_draft(resource: Resource, data: st.DataObject, junk: Any) -> None:
    broken = damaged(resource, data.draw(st.sampled_from(paths(resource))), junk)
    everything(chart(*FULL, drafts=[broken], hook="order-sign"))


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(JUNK, max_size=5))
def test_arbitrary_entries(entries: list[Any]) -> None:
    seen = chart(*FULL, *entries, drafts=entries, appointments=entries)
    assert {**snapshot(seen), "losses": ()} == EXPECTED


TYPES = sorted({r["resourceType"] for r in EVERY_RESOURCE})


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(TYPES),
    st.dictionaries(
        st.sampled_from(sorted({key for r in EVERY_RESOURCE for key in r} - {"resourceType"})),
        JUNK,
        max_size=8,
    ),
)
def test_any_resource_of_a_known_type(kind: str, fields: dict[str, Any]) -> None:
    broken = {**fields, "resourceType": kind, "id": "broken"}
    everything(chart(broken, drafts=[broken], appointments=[broken]))


def test_a_damaged_neighbour_changes_nothing_else() -> None:
    broken = {
        "resourceType": "Observation",
        "id": "z",
        "status": "final",
        "subject": {"reference": "Patient/p1"},
        "code": {"coding": [{"system": 5, "code": []}]},
        "valueQuantity": "x",
        "component": "y",
    }
    seen = snapshot(chart(*FULL, broken))
    assert {**seen, "losses": ()} == EXPECTED


def test_deep_nesting_is_survived() -> None:
    deep: Any = {}
    for level in range(3000):
        deep = {("coding" if level % 2 else "extension"): [deep]}
    seen = chart(*FULL, {"resourceType": "Observation", "status": "final", "code": deep, "component": [deep]})
    assert {**snapshot(seen), "losses": ()} == EXPECTED


READERS: list[Callable[[Chart], Any]] = [lambda c: c.losses, lambda c: c.course, lambda c: c.exposures]


@pytest.mark.parametrize("read", READERS)
def test_an_empty_chart_answers(read: Callable[[Chart], Any]) -> None:
    seen = chart()
    read(seen)
    assert not seen.course.any_evidence
    assert seen.exposures == ()
    assert seen.now == NOW


def test_an_administration_whose_medication_cannot_be_resolved_is_a_loss() -> None:
    lost = {
        "resourceType": "MedicationAdministration",
        "id": "lost",
        "status": "completed",
        "subject": {"reference": "Patient/p1"},
        "medicationReference": {"reference": "Medication/gone"},
        "effectiveDateTime": "2025-04-14T09:00:00+08:00",
    }
    named = {
        **lost,
        "id": "named",
        "medicationReference": {"reference": "Medication/gone", "display": "tocilizumab"},
    }
    found = chart(make.patient(), lost, named)
    assert [d.reference for d in found.drugs.of("tocilizumab")] == ["MedicationAdministration/named"]
    assert [x.resource for x in found.losses] == ["MedicationAdministration/lost"]
