"""value[x], units, specimens, codes (chart-facts 1.1, 1.5; units-and-values section 1)."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from fhir_mapping.chart import Flag, Result
from tests.fhir_mapping.read.charts import (
    LOINC,
    RXNORM,
    cc,
    chart,
    given,
    local,
    obs,
    only,
    reasons,
    specimen,
)

PUBLISHED = "Hepatitis B virus surface Ag [Presence] in Serum by Neutralization test"
NHI_LAB = "https://twcore.mohw.gov.tw/ig/twcore/CodeSystem/medical-service-payment-tw"


@pytest.mark.parametrize(
    ("quantity", "expected"),
    [
        ({"value": 0.5, "unit": "x10E9/L"}, "0.5"),
        ({"value": 500, "unit": "/µL"}, "0.5"),
        ({"value": 500, "unit": "cells/mm3"}, "0.5"),
        ({"value": 0.5, "unit": "K/uL"}, "0.5"),
        ({"value": 0.5, "unit": "G/L"}, "0.5"),
        ({"value": 0.5, "code": "10*9/L", "system": "http://unitsofmeasure.org"}, "0.5"),
        ({"value": "0.5", "unit": "10*3/uL"}, "0.5"),
    ],
)
def test_one_count_in_many_units(quantity: dict[str, Any], expected: str) -> None:
    value = only(chart(obs("anc", {"valueQuantity": quantity})), "anc").quantity
    assert value is not None
    assert (value.value, value.unit) == (Decimal(expected), "10*3/uL")


@pytest.mark.parametrize(
    ("quantity", "reason"),
    [
        ({"value": 5.1, "unit": "mmol/l"}, "unit"),
        ({"value": 5.1}, "unit"),
        ({"value": 5.1, "unit": "bananas"}, "unit"),
        ({"value": 50000, "unit": "10*3/uL"}, "unit"),
        ({"value": -1, "unit": "10*3/uL"}, "unit"),
        ({"value": "many", "unit": "10*3/uL"}, "malformed"),
        ({"unit": "10*3/uL"}, "malformed"),
        ({"value": True, "unit": "10*3/uL"}, "malformed"),
        ({"value": 5, "unit": "10*3/uL", "comparator": "~"}, "malformed"),
        ([], "malformed"),
        ("5.1", "malformed"),
    ],
)
def test_an_unusable_number_is_named_never_used(quantity: Any, reason: str) -> None:
    seen = chart(obs("platelets", {"valueQuantity": quantity}, id="o"))
    assert not seen.series("platelets").items
    assert [loss.reason.value for loss in seen.series("platelets").losses] == [reason]
    assert reasons(seen) == {("Observation/o", "platelets", reason)}


@pytest.mark.parametrize(
    ("text", "comparator", "value"),
    [
        ("<0.5 mg/dL", "<", "0.5"),
        (">2000 ng/mL", ">", "2000"),
        ("12.3 mg/dL", "", "12.3"),
        ("≥ 3 mg/dL", ">=", "3"),
    ],
)
def test_a_number_as_text(text: str, comparator: str, value: str) -> None:
    concept = "ferritin" if "ng" in text else "crp"
    quantity = only(chart(obs(concept, text)), concept).quantity
    assert quantity is not None
    assert (quantity.comparator, quantity.value) == (comparator, Decimal(value))


@pytest.mark.parametrize("text", ["0.5", "3.0 mg/dL; 4.0 mg/dL", "see comment", "2-3 mg/dL"])
def test_a_text_that_is_no_single_number_with_unit(text: str) -> None:
    assert not chart(obs("crp", text)).series("crp").items


def test_a_comparator_stays_a_bound() -> None:
    quantity = only(chart(obs("ferritin", (1500, "ng/mL", ">"))), "ferritin").quantity
    assert quantity is not None
    assert quantity.at_least(500) is True
    assert quantity.below(2000) is None


def test_the_value_above_the_component_of_the_same_code() -> None:
    seen = chart(obs("spo2", (93, "%"), parts={"spo2": (88, "%")}))
    assert only(seen, "spo2").quantity.value == 93  # type: ignore[union-attr]


def test_the_component_of_the_same_code_when_there_is_no_value() -> None:
    seen = chart(obs("spo2", None, parts={"spo2": (88, "%")}))
    assert only(seen, "spo2").quantity.value == 88  # type: ignore[union-attr]


def test_asked_and_no_result_is_neither_zero_nor_negative() -> None:
    absent = {"dataAbsentReason": {"coding": [{"code": "not-performed"}]}}
    seen = chart(obs("hbsag", absent, id="o"), obs("anc", absent, id="a"))
    assert not seen.series("hbsag").items
    assert reasons_of(seen, "hbsag") == [("not-on-chart", "not-performed")]
    assert reasons_of(seen, "anc") == [("not-on-chart", "not-performed")]


def reasons_of(seen: Any, concept: str) -> list[tuple[str, str]]:
    return [(loss.reason.value, loss.text) for loss in seen.series(concept).losses]


def test_members_contained_in_a_report_are_read_once() -> None:
    inner = {
        "resourceType": "Observation",
        "id": "i",
        "status": "final",
        "code": cc("anc"),
        "valueQuantity": {"value": 1, "unit": "10*3/uL"},
    }
    report = {
        "resourceType": "DiagnosticReport",
        "id": "r",
        "status": "final",
        "code": local("cbc_panel"),
        "subject": {"reference": "Patient/p1"},
        "effectiveDateTime": "2025-04-16T08:00:00+08:00",
        "contained": [inner],
        "result": [{"reference": "#i"}],
    }
    seen = chart(report, obs("anc", (1, "10*3/uL")))
    assert len(seen.series("anc")) == 1


def test_a_contained_result_takes_subject_and_time_of_its_report() -> None:
    inner = {
        "resourceType": "Observation",
        "status": "final",
        "code": cc("anc"),
        "valueQuantity": {"value": 1, "unit": "10*3/uL"},
    }
    report = {
        "resourceType": "DiagnosticReport",
        "id": "r",
        "status": "final",
        "code": local("cbc_panel"),
        "subject": {"reference": "Patient/p1"},
        "effectiveDateTime": "2025-04-15",
        "contained": [inner],
    }
    (item,) = chart(report).series("anc").items
    assert (item.reference, item.when.date.isoformat(), item.flags) == (
        "DiagnosticReport/r",
        "2025-04-15",
        frozenset(),
    )


@pytest.mark.parametrize(
    ("kind", "counts"),
    [
        ({"text": "Serum"}, 1),
        ({"text": "EDTA blood"}, 1),
        ({"text": "CSF"}, 0),
        ({"text": "Urine"}, 0),
        (cc("http://snomed.info/sct|258450006"), 0),
        (cc("http://snomed.info/sct|122575003"), 0),
        (cc("http://snomed.info/sct|119297000"), 1),
        (local("apheresis_product"), 0),
        (local("car_t_product"), 0),
    ],
)
def test_a_blood_value_from_another_sample_is_another_fact(kind: dict[str, Any], counts: int) -> None:
    seen = chart(specimen(kind), obs("wbc", (1, "10*3/uL"), specimen={"reference": "Specimen/s1"}))
    assert len(seen.series("wbc")) == counts
    assert not seen.losses


def test_a_contained_specimen_is_read() -> None:
    inside = {"resourceType": "Specimen", "id": "s", "type": {"text": "cerebrospinal fluid"}}
    seen = chart(obs("glucose", (40, "mg/dL"), specimen={"reference": "#s"}, contained=[inside]))
    assert not seen.series("glucose").items


# -- codes -------------------------------------------------------------------------------------------------


def test_several_codings_are_synonyms() -> None:
    code = cc(f"{LOINC}|751-8", f"{LOINC}|26499-4", "http://hospital.example/lab|NEUT#")
    assert len(chart(obs(code, (1, "10*3/uL"))).series("anc")) == 1


def test_contradictory_codings_are_a_loss_and_text_does_not_decide() -> None:
    seen = chart(obs(cc("anc", "platelets", text="ANC"), (1, "10*3/uL"), id="o"))
    assert not seen.series("anc").items
    assert not seen.series("platelets").items
    assert reasons(seen) == {("Observation/o", "", "contradictory")}


def test_text_only_by_exact_name_is_said() -> None:
    (item,) = chart(obs({"text": "ANC"}, (1, "10*3/uL"))).series("anc").items
    assert Flag.BY_NAME in item.flags


def test_a_phrase_is_no_name() -> None:
    assert not chart(obs({"text": "ANC nadir since admission"}, (1, "10*3/uL"))).series("anc").items


def test_an_unknown_code_with_an_exact_name_is_matched_by_name() -> None:
    code = {"coding": [{"system": "http://hospital.example/lab", "code": "4711", "display": "Platelets"}]}
    (item,) = chart(obs(code, (40, "10*3/uL"))).series("platelets").items
    assert Flag.BY_NAME in item.flags


@pytest.mark.parametrize("notation", ["hbv-dna", "hbv_dna"])
def test_any_concept_by_its_own_code(notation: str) -> None:
    code = {"coding": [{"system": "urn:tcell-cds:concept", "code": notation}]}
    assert len(chart(obs(code, (20, "[IU]/mL"))).series("hbv_dna")) == 1


def test_an_unverified_code_needs_a_second_sign() -> None:
    code = f"{LOINC}|3140-1"  # body surface, component seen only
    assert not chart(obs(code, 2)).series("bsa").items
    assert len(chart(obs(code, (1.8, "m2"))).series("bsa")) == 1
    named = {"coding": [{"system": LOINC, "code": "3140-1", "display": "Body surface area"}]}
    assert len(chart(obs(named, (1.8, "m2"))).series("bsa")) == 1


def test_an_unverified_code_under_its_published_name_counts() -> None:
    code = {"coding": [{"system": LOINC, "code": "7905-3"}]}
    assert not chart(obs(code, "Negative")).series("hbsag").items
    named = {"coding": [{**code["coding"][0], "display": PUBLISHED}]}
    assert only(chart(obs(named, "Negative")), "hbsag").result is Result.NEGATIVE


def test_an_unverified_code_of_several_analytes_needs_its_name() -> None:
    code = {"coding": [{"system": NHI_LAB, "code": "12184C"}]}
    value = (500, "[IU]/mL")
    assert not chart(obs(code, value)).series("hbv_dna").items
    named = {**code, "text": "HBV DNA"}
    seen = chart(obs(named, value))
    assert len(seen.series("hbv_dna")) == 1
    assert not seen.series("cmv_pcr").items


@pytest.mark.parametrize(
    ("item", "beside", "value", "concept"),
    [
        ("08011C", {"text": "血小板"}, (45, "10*3/uL"), "platelets"),
        ("08011C", cc("wbc"), (3, "10*3/uL"), "wbc"),
        ("08026C", {"text": "INR"}, (1.2, "{INR}"), "inr"),
        ("08026C", {"text": "PT"}, (12, "s"), "pt"),
        ("08026C", {}, (12, "s"), "pt"),
        ("09015C", cc("egfr"), (60, "mL/min/{1.73_m2}"), "egfr"),
    ],
)
def test_a_billing_item_of_several_analytes_is_told_by_another_code_or_the_text(
    item: str, beside: dict[str, Any], value: tuple[float, str], concept: str
) -> None:
    code = {**beside, "coding": [{"system": NHI_LAB, "code": item}, *beside.get("coding", [])]}
    seen = chart(obs(code, value), obs(code, value, "2025-04-15T08:00:00+08:00", id="earlier"))
    assert len(seen.series(concept)) == 2
    assert not seen.losses


def test_a_billing_item_of_another_analyte_contradicts() -> None:
    code = {"coding": [{"system": NHI_LAB, "code": "09022C"}, *cc("sodium")["coding"]]}
    seen = chart(obs(code, (140, "mmol/L")))
    assert not seen.series("sodium").items
    assert [loss.reason.value for loss in seen.losses] == ["contradictory"]


def test_unit_and_property_of_the_code_disagree() -> None:
    code = {
        "coding": [
            {"system": LOINC, "code": "2160-0", "display": "Creatinine [Mass/volume] in Serum or Plasma"}
        ]
    }
    (item,) = chart(obs(code, (90, "umol/L"))).series("creatinine").items
    assert item.flags == {Flag.PROPERTY_MISMATCH}
    assert round(item.value.quantity.value, 2) == Decimal("1.02")  # type: ignore[union-attr]


def test_shared_rxnorm_code_of_two_globulins_gives_both() -> None:
    assert set(chart(given(f"{RXNORM}|1011")).drugs.all[0].ingredients) == {"atg_rabbit", "atg_equine"}


# -- answers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        ({"valueCodeableConcept": cc("http://snomed.info/sct|10828004")}, Result.POSITIVE),
        ({"valueCodeableConcept": cc("http://snomed.info/sct|260385009")}, Result.NEGATIVE),
        ({"valueCodeableConcept": cc("http://snomed.info/sct|82334004")}, Result.INDETERMINATE),
        ({"valueCodeableConcept": cc(f"{LOINC}|LA6576-8")}, Result.POSITIVE),
        ({"valueCodeableConcept": {"text": "弱陽性"}}, Result.INDETERMINATE),
        ({"valueBoolean": True}, Result.POSITIVE),
        ({"valueCodeableConcept": cc("http://snomed.info/sct|373067005")}, Result.NEGATIVE),
        ({"valueCodeableConcept": {"text": "Yes"}}, Result.POSITIVE),
        ({"valueCodeableConcept": local("unknown")}, None),
        ({"valueString": "否"}, Result.NEGATIVE),
        ({"valueString": "未檢出"}, Result.NEGATIVE),
        ({"valueString": "weakly reactive"}, Result.INDETERMINATE),
        ({"interpretation": [{"coding": [{"code": "RR"}]}]}, Result.POSITIVE),
        ({"interpretation": [{"coding": [{"code": "A"}]}]}, Result.POSITIVE),
        ({"interpretation": [{"coding": [{"code": "IND"}]}]}, Result.INDETERMINATE),
    ],
)
def test_qualitative_result(answer: dict[str, Any], result: Result | None) -> None:
    assert only(chart(obs("hbsag", answer)), "hbsag").result is result


def test_codes_of_one_answer_that_contradict_each_other() -> None:
    answer = {
        "valueCodeableConcept": cc("http://snomed.info/sct|10828004", "http://snomed.info/sct|260385009")
    }
    seen = chart(obs("hbsag", answer))
    assert not seen.series("hbsag").items
    assert reasons_of(seen, "hbsag") == [("contradictory", "contradictory result")]


@pytest.mark.parametrize(
    ("answer", "yes"),
    [
        ({"valueBoolean": False}, False),
        ({"valueCodeableConcept": cc("http://snomed.info/sct|373066001")}, True),
        ({"valueCodeableConcept": cc(f"{LOINC}|LA32-8")}, False),
        ({"valueCodeableConcept": local("yes")}, True),
        ({"valueString": "否"}, False),
        ({"valueCodeableConcept": cc(f"{LOINC}|LA4489-6")}, None),
        ({"valueCodeableConcept": local("unknown")}, None),
    ],
)
def test_yes_no(answer: dict[str, Any], yes: bool | None) -> None:
    assert only(chart(obs("sedated", answer)), "sedated").yes is yes


@pytest.mark.parametrize(
    ("concept", "written", "result", "below"),
    [
        ("hbsag", "Nonreactive (0.35)", Result.NEGATIVE, False),
        ("hbsag", "1234.5 S/CO Reactive", Result.POSITIVE, False),
        ("hbsag", "陽性(>250)", Result.POSITIVE, False),
        ("hbsag", "≧250 (+)", Result.POSITIVE, False),
        ("hbsag", "Positive 1:80", Result.POSITIVE, False),
        ("hbsag", "Equivocal 0.95", Result.INDETERMINATE, False),
        ("hbsag", "0.35", None, False),
        ("cmv_pcr", "< 34 IU/mL, not detected", Result.NEGATIVE, False),
        ("cmv_pcr", "Detected (<34 IU/mL)", Result.POSITIVE, True),
    ],
)
def test_a_word_beside_its_signal_is_the_result(
    concept: str, written: str, result: Result | None, below: bool
) -> None:
    read = chart(obs(concept, {"valueString": written})).series(concept)
    answers = [(o.value.result, o.value.detected_below_limit) for o in read]
    assert answers == [(result, below)]


def test_a_word_that_contradicts_its_number_is_a_loss() -> None:
    read = chart(obs("cmv_pcr", {"valueString": "1500 IU/mL not detected"}))
    assert [loss.reason.value for loss in read.series("cmv_pcr").losses] == ["contradictory"]


@pytest.mark.parametrize(
    ("unit", "number", "expected"),
    [
        ("10*6/kg", 3.5, ("3500000", "{cells}/kg")),
        ("x10^6 cells/kg", 3.5, ("3500000", "{cells}/kg")),
        ("10*6.{cells}/kg", 3.5, ("3500000", "{cells}/kg")),
        ("10*8", 2.1, ("210000000", "{cells}")),
        ("10*6.{cells}", 210, ("210000000", "{cells}")),
    ],
)
def test_a_cell_dose_in_millions(unit: str, number: float, expected: tuple[str, str]) -> None:
    read = only(
        chart(obs("car_t_cell_dose", {"valueQuantity": {"value": number, "unit": unit}})), "car_t_cell_dose"
    )
    assert read.quantity is not None
    assert (read.quantity.value, read.quantity.unit) == (Decimal(expected[0]), expected[1])
