"""Several entries about one thing: which one stands (chart-facts section 19)."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest

from fhir_mapping.chart import DrugSource, DrugState, Flag
from tests.fhir_mapping.read.charts import (
    NOW,
    Resource,
    cc,
    chart,
    dispense,
    given,
    local,
    obs,
    order,
    procedure,
    specimen,
    visit,
)


def anc(value: float, unit: str = "10*3/uL", **more: Any) -> Resource:
    return obs("anc", (value, unit), **more)


def values(*resources: Resource, concept: str = "anc") -> list[Decimal]:
    return [o.value.quantity.value for o in chart(*resources).series(concept) if o.value.quantity is not None]


def D(text: str) -> Decimal:  # noqa: N802 - short on purpose
    return Decimal(text)


def test_newest_comes_last() -> None:
    assert values(anc(2, at="2025-04-15"), anc(1, at="2025-04-14")) == [D("1"), D("2")]


def test_final_replaces_the_preliminary_of_its_time() -> None:
    assert values(anc(2, id="a", status="preliminary"), anc(1, id="b")) == [D("1")]


def test_final_replaces_the_preliminary_of_its_specimen() -> None:
    early = anc(
        2, id="a", status="preliminary", at="2025-04-16T07:00:00+08:00", specimen={"reference": "Specimen/s"}
    )
    late = anc(1, id="b", specimen={"reference": "Specimen/s"})
    assert values(early, late) == [D("1")]


def test_a_newer_preliminary_beats_an_older_final() -> None:
    old, new = anc(2, id="a", at="2025-04-15T08:00:00+08:00"), anc(1, id="b", status="preliminary")
    item = chart(old, new).series("anc").items[-1]
    assert item.value.quantity is not None
    assert item.value.quantity.value == 1
    assert Flag.PRELIMINARY in item.flags


def test_a_corrected_report_stands_for_the_original() -> None:
    assert values(anc(2, id="a"), anc(1, id="b", status="corrected")) == [D("1")]


def test_a_corrected_report_stands_over_contradicting_units() -> None:
    first, second = anc(2, id="a"), anc(300, "/uL", id="b")
    assert values(first, second, anc(1.5, id="c", status="corrected")) == [D("1.5")]


def test_the_later_issue_stands() -> None:
    first = anc(2, id="a", issued="2025-04-16T09:00:00+08:00")
    second = anc(1, id="b", issued="2025-04-16T01:30:00Z")
    assert values(first, second) == [D("1")]


def test_the_later_update_stands() -> None:
    first = anc(2, id="a", meta={"lastUpdated": "2025-04-16T09:00:00+08:00"})
    second = anc(1, id="b", meta={"lastUpdated": "2025-04-16T01:30:00Z"})
    assert values(first, second) == [D("1")]


@pytest.mark.parametrize(
    ("concept", "unit", "pair", "worst"),
    [
        ("anc", "10*3/uL", (0.4, 0.6), "0.4"),
        ("creatinine", "mg/dL", (1.1, 2.2), "2.2"),
        ("body_temperature", "Cel", (38.9, 37.1), "38.9"),
        ("bp_systolic", "mm[Hg]", (80, 120), "80"),
    ],
)
def test_the_worst_of_one_instant(concept: str, unit: str, pair: tuple[float, float], worst: str) -> None:
    first, second = (obs(concept, (value, unit), id=f"o{n}") for n, value in enumerate(pair))
    assert values(first, second, concept=concept) == [D(worst)]


def test_two_values_of_one_instant_where_neither_is_worse_contradict() -> None:
    seen = chart(obs("body_weight", (70, "kg"), id="a"), obs("body_weight", (80, "kg"), id="b"))
    assert not seen.series("body_weight").items
    assert [x.reason.value for x in seen.series("body_weight").losses] == ["contradictory"] * 2


def test_two_samples_of_one_day_without_hours_both_stay() -> None:
    assert values(anc(1, id="a", at="2025-04-15"), anc(2, id="b", at="2025-04-15")) == [D("1"), D("2")]


def test_one_result_in_two_units_is_one_value() -> None:
    assert values(anc(0.5, id="a"), anc(500, "/uL", id="b")) == [D("0.5")]


def test_two_units_within_one_percent_are_one_value() -> None:
    pair = (obs("creatinine", (1.02, "mg/dL"), id="a"), obs("creatinine", (90, "umol/L"), id="b"))
    assert values(*pair, concept="creatinine") == [D("1.02")]


def test_two_units_that_differ_are_both_unusable() -> None:
    seen = chart(anc(0.5, id="a"), anc(900, "/uL", id="b"))
    assert not seen.series("anc").items
    assert {(x.resource, x.reason.value) for x in seen.losses} == {
        ("Observation/a", "contradictory"),
        ("Observation/b", "contradictory"),
    }


def test_one_result_under_two_codes_is_one_series() -> None:
    one = obs("http://loinc.org|751-8", (1, "10*3/uL"), id="a")
    two = obs("http://loinc.org|753-4", (2, "10*3/uL"), id="b", at="2025-04-15")
    assert values(one, two) == [D("2"), D("1")]


def test_two_cultures_of_one_time_are_two() -> None:
    pair = [
        obs("blood_culture", "no growth", id=x, specimen={"reference": f"Specimen/{x}"})
        for x in ("left", "right")
    ]
    assert len(chart(*pair).series("blood_culture")) == 2


def test_two_bags_of_one_time_are_two() -> None:
    bags = [specimen("apheresis_product", x, identifier=[{"value": x}]) for x in ("b1", "b2")]
    counts = [
        obs("product_viability", (90 + n, "%"), id=f"v{n}", specimen={"reference": f"Specimen/{x}"})
        for n, x in enumerate(("b1", "b2"))
    ]
    assert len(chart(*bags, *counts).series("product_viability")) == 2


def test_statements_about_two_drugs_of_one_time_are_two() -> None:
    pair = [
        obs("treatment_hold", flag, id=drug, parts={"agent": f"cc:{drug}"})
        for drug, flag in (("tarlatamab", True), ("tocilizumab", False))
    ]
    assert len(chart(*pair).series("treatment_hold")) == 2


def test_versions_with_one_identifier() -> None:
    number = {"identifier": [{"system": "urn:lab", "value": "4711"}]}
    early = anc(2, id="a", at="2025-04-16T07:00:00+08:00", status="preliminary", **number)
    assert values(early, anc(1, id="b", **number)) == [D("1")]


# -- copies of one resource ---------------------------------------------------------------------------------


def test_a_copy_counts_once() -> None:
    assert values(anc(1, id="a"), anc(1, id="a")) == [D("1")]


@pytest.mark.parametrize("turn", [1, -1])
def test_the_later_version_of_one_id_stands(turn: int) -> None:
    old = anc(2, id="a", meta={"lastUpdated": "2025-04-16T01:00:00Z"})
    new = anc(1, id="a", meta={"lastUpdated": "2025-04-16T02:00:00Z"})
    assert values(*[old, new][::turn]) == [D("1")]


@pytest.mark.parametrize("turn", [1, -1])
def test_versions_are_compared_in_time_not_in_text(turn: int) -> None:
    old = anc(2, id="a", meta={"lastUpdated": "2025-04-16T09:00:00+08:00"})
    new = anc(1, id="a", meta={"lastUpdated": "2025-04-16T01:30:00Z"})
    assert values(*[old, new][::turn]) == [D("1")]


@pytest.mark.parametrize("turn", [1, -1])
@pytest.mark.parametrize("version", ["3", "12", "123456789x", "²", "", 7, None])
def test_any_version_id_is_survived(version: Any, turn: int) -> None:
    copies = [anc(1, id="a", meta={"versionId": version}), anc(1, id="a", meta={"versionId": "2"}, note=[])]
    assert values(*copies[::turn]) == [D("1")]


@pytest.mark.parametrize("turn", [1, -1])
def test_a_copy_entered_in_error_takes_the_resource_with_it(turn: int) -> None:
    assert values(*[anc(2, id="a"), anc(2, id="a", status="entered-in-error")][::turn]) == []


def test_the_same_without_an_id() -> None:
    bare = {key: value for key, value in anc(1).items() if key != "id"}
    assert values(bare, dict(bare)) == [D("1")]


# -- drugs --------------------------------------------------------------------------------------------------


def daily(start: str, end: str) -> Resource:
    return {
        "repeat": {
            "boundsPeriod": {"start": start, "end": end},
            "frequency": 1,
            "period": 1,
            "periodUnit": "d",
        }
    }


def test_order_and_last_dose_of_one_drug() -> None:
    """Ordered without an end, last given 40 days ago: the order continues."""
    seen = chart(order("tacrolimus"), given("tacrolimus", "2025-03-07T08:00:00+08:00"))
    (exposure,) = seen.exposures
    assert exposure.ongoing
    assert exposure.evidence is DrugSource.ORDER
    assert [
        r.timing.last.date
        for r in exposure.records
        if r.source is DrugSource.ADMINISTRATION and r.timing.last
    ] == [date(2025, 3, 7)]


def test_a_dose_not_given_never_counts() -> None:
    events = ["2025-04-10T09:00:00+08:00", "2025-04-11T09:00:00+08:00"]
    ordered = order("fludarabine", id="r", timing={"event": events})
    missed = given(
        "fludarabine",
        "2025-04-11T09:00:00+08:00",
        status="not-done",
        request={"reference": "MedicationRequest/r"},
    )
    seen = chart(ordered, missed)
    (record,) = seen.orders("fludarabine")
    assert [d.date for d in record.timing.doses] == [date(2025, 4, 10)]
    assert record.state is DrugState.ACTIVE
    assert seen.exposures[0].last is not None
    assert seen.exposures[0].last.date == date(2025, 4, 10)


def test_later_doses_of_that_order_still_count() -> None:
    events = ["2025-04-10T09:00:00+08:00", "2025-04-11T09:00:00+08:00"]
    ordered = order("fludarabine", id="r", timing={"event": events})
    missed = given(
        "fludarabine",
        "2025-04-10T09:00:00+08:00",
        status="not-done",
        request={"reference": "MedicationRequest/r"},
    )
    (record,) = chart(ordered, missed).orders("fludarabine")
    assert [d.date for d in record.timing.doses] == [date(2025, 4, 11)]


def test_dispenses_give_the_exposure_of_outpatient_drugs() -> None:
    (exposure,) = chart(dispense("imatinib", "2025-04-01", 28)).exposures
    assert exposure.last is not None
    assert (exposure.last.date, exposure.evidence) == (date(2025, 4, 29), DrugSource.DISPENSE)


def test_an_exposure_keeps_everything_it_was_read_from() -> None:
    seen = chart(
        order("imatinib", timing=daily("2025-03-01", "2025-03-31")),
        given("imatinib", "2025-03-02T08:00:00+08:00"),
    )
    (exposure,) = seen.exposures
    assert len(exposure.records) == 2
    assert exposure.first is not None
    assert exposure.first.date == date(2025, 3, 1)


# -- procedures and bookings -------------------------------------------------------------------------------


def test_a_completed_procedure_beats_the_booking() -> None:
    purpose = {"reasonCode": [local("purpose_car_t_collection")]}
    seen = chart(
        procedure("leukapheresis", "2025-04-10T08:00:00+08:00", **purpose),
        visit("leukapheresis", "2025-04-10T08:00:00+08:00", **purpose),
    )
    assert seen.course.leukapheresis is None
    assert [a.reference for a in seen.course.collections] == ["Procedure/pr-leukapheresis"]


def test_contained_medication_beats_the_one_of_the_same_id_elsewhere() -> None:
    inside = {"resourceType": "Medication", "id": "m", "code": cc("tocilizumab")}
    outside = {"resourceType": "Medication", "id": "m", "code": cc("siltuximab")}
    drug = order(
        {}, medicationCodeableConcept=None, medicationReference={"reference": "#m"}, contained=[inside]
    )
    assert chart(outside, drug).drugs.all[0].ingredients == ("tocilizumab",)


def level(answer: str, **more: Any) -> Resource:
    return obs("consciousness_level", f"cc:{answer}", **more)


def levels(*resources: Resource) -> list[tuple[str, ...]]:
    return [o.value.codes for o in chart(*resources).series("consciousness_level")]


def test_of_two_answers_of_one_instant_the_one_issued_last_stands() -> None:
    late = level("awake", id="a", issued="2025-04-16T08:30:00+08:00")
    assert levels(level("unarousable", id="b", issued="2025-04-16T08:01:00+08:00"), late) == [("awake",)]


def test_of_two_answers_that_cannot_be_told_apart_the_worse_stands() -> None:
    assert levels(level("to_touch", id="a"), level("awake", id="b")) == [("to_touch",)]


def test_answers_without_an_order_stand_together() -> None:
    both = (
        obs("oxygen_device", "cc:dev_hfnc", id="a"),
        obs("oxygen_device", "cc:room_air", id="b", status="amended"),
    )
    assert len(chart(*both).series("oxygen_device")) == 2


def test_a_month_is_young_enough_only_as_a_whole() -> None:
    series = chart(anc(1, at="2025-03"), anc(2, at="2025-04", id="b")).series("anc")
    assert series.latest(NOW, timedelta(days=10)) is None
    assert len(series.since(NOW - timedelta(days=20))) == 1
    newest = series.latest(NOW, timedelta(days=60))
    assert newest is not None
    assert newest.reference == "Observation/b"
