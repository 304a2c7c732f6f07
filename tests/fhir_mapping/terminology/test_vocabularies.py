"""Closed answers: results, yes and no, severity, routes, forms."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_mapping.chart.facts import Route
from fhir_mapping.terminology import Result, Severity, YesNo, load

SCT, LN, OWN = "http://snomed.info/sct", "http://loinc.org", "urn:tcell-cds:concept"
V3 = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"
V2 = "http://terminology.hl7.org/CodeSystem/v2-0078"
ROUTE_V2 = "http://terminology.hl7.org/CodeSystem/v2-0162"
ROUTE_TW = "https://twcore.mohw.gov.tw/ig/twcore/CodeSystem/medication-path-tw"

RESULT_CODES = {
    Result.POSITIVE: (
        "10828004 260373001 11214006 52101004",
        "LA6576-8 LA11882-0",
        "positive present detected-below-limit",
    ),
    Result.NEGATIVE: (
        "260385009 260415000 131194007 2667000",
        "LA6577-6 LA11883-8 LA15256-3",
        "negative absent",
    ),
    Result.INDETERMINATE: ("82334004 419984006 42425007", "LA11884-6 LA9663-1", "indeterminate"),
}
RESULT_TEXTS = {
    Result.POSITIVE: "positive|Positive|POS|+|Reactive|detected|present|growth|陽性|有反應|檢出|(+)"
    "|Positive (+)",
    Result.NEGATIVE: "negative|neg|-|－|Non-reactive|Not detected|target not detected|absent|no growth"
    "|陰性|無反應|未檢出|(-)",
    Result.INDETERMINATE: "indeterminate|equivocal|borderline|gray zone|weakly positive|weakly reactive"
    "|弱陽性|未確定",
}


@pytest.mark.parametrize("result", list(Result))
def test_result_codes(result: Result) -> None:
    snomed, loinc, own = RESULT_CODES[result]
    for system, codes in ((SCT, snomed), (LN, loinc), (OWN, own)):
        for code in codes.split():
            assert load().result(system, code) is result, code


@pytest.mark.parametrize(
    ("text", "result"),
    [(text, result) for result, texts in RESULT_TEXTS.items() for text in texts.split("|")],
)
def test_result_texts(text: str, result: Result) -> None:
    assert load().result(None, None, text) is result
    assert load().result(None, None, f" {text.upper()} ") is result


@pytest.mark.parametrize(
    "text", ["", None, "1.2", "pending", "not positive", "see comment", "陽性?", "positive for something"]
)
def test_other_texts_are_no_result(text: str | None) -> None:
    assert load().result(None, None, text) is None


def test_code_wins_over_text() -> None:
    assert load().result(SCT, "260385009", "positive") is Result.NEGATIVE
    assert load().result("http://example.org", "x", "positive") is Result.POSITIVE


@pytest.mark.parametrize("system", [V3, V2, None, "http://hl7.org/fhir/v2/0078"])
@pytest.mark.parametrize(
    ("code", "virology", "chemistry"),
    [
        ("POS", Result.POSITIVE, Result.POSITIVE),
        ("DET", Result.POSITIVE, Result.POSITIVE),
        ("RR", Result.POSITIVE, Result.POSITIVE),
        ("NEG", Result.NEGATIVE, Result.NEGATIVE),
        ("ND", Result.NEGATIVE, Result.NEGATIVE),
        ("NR", Result.NEGATIVE, Result.NEGATIVE),
        ("IND", Result.INDETERMINATE, Result.INDETERMINATE),
        ("E", Result.INDETERMINATE, Result.INDETERMINATE),
        ("WR", Result.INDETERMINATE, Result.INDETERMINATE),
        ("A", Result.POSITIVE, None),
        ("AA", Result.POSITIVE, None),
        ("N", Result.NEGATIVE, None),
        ("H", None, None),
    ],
)
def test_interpretation(
    system: str | None, code: str, virology: Result | None, chemistry: Result | None
) -> None:
    for concept in ("hbsag", "blood_culture", "hcg_urine"):
        assert load().interpretation(system, code, concept) is virology
    for concept in ("g6pd_qual", "cd19_expression", "ferritin"):
        assert load().interpretation(system, code, concept) is chemistry


@pytest.mark.parametrize(
    ("system", "code", "text", "answer"),
    [
        (SCT, "373066001", None, YesNo.YES),
        (SCT, "373067005", None, YesNo.NO),
        (LN, "LA33-6", None, YesNo.YES),
        (LN, "LA32-8", None, YesNo.NO),
        (OWN, "yes", None, YesNo.YES),
        (OWN, "no", None, YesNo.NO),
        (None, None, "Yes", YesNo.YES),
        (None, None, "no", YesNo.NO),
        (None, None, "是", YesNo.YES),
        (None, None, "否", YesNo.NO),
        (LN, "LA4489-6", None, YesNo.UNKNOWN),
        (SCT, "261665006", None, YesNo.UNKNOWN),
        (OWN, "unknown", None, YesNo.UNKNOWN),
        (None, None, "maybe", None),
        (None, None, None, None),
    ],
)
def test_yes_no(system: str | None, code: str | None, text: str | None, answer: YesNo | None) -> None:
    assert load().yes_no(system, code, text) is answer


@pytest.mark.parametrize(
    ("system", "code", "text", "severity"),
    [
        (OWN, "grade-0", None, Severity(0, derived=False)),
        (OWN, "grade-3", None, Severity(3, derived=False)),
        (OWN, "grade_5", None, Severity(5, derived=False)),
        (SCT, "255604002", None, Severity(1, derived=True)),
        (SCT, "6736007", None, Severity(2, derived=True)),
        (SCT, "24484000", None, Severity(3, derived=True)),
        (SCT, "442452003", None, Severity(4, derived=True)),
        (SCT, "399166001", None, Severity(5, derived=True)),
        (
            "http://terminology.hl7.org/CodeSystem/adverse-event-severity",
            "moderate",
            None,
            Severity(2, derived=True),
        ),
        (None, None, "Grade 3", Severity(3, derived=False)),
        (None, None, "severe", Severity(3, derived=True)),
        (None, None, "awful", None),
        (SCT, "1", None, None),
    ],
)
def test_severity(system: str | None, code: str | None, text: str | None, severity: Severity | None) -> None:
    assert load().severity(system, code, text) == severity


# route concept: SNOMED CT, v2-0162, NHI path codes
ROUTES = {
    "route_intravenous": ("47625008", "IV", "IV IVA IVD IVP"),
    "route_oral": ("26643006", "PO", "PO"),
    "route_subcutaneous": ("34206005", "SC", "SC HD"),
    "route_intramuscular": ("78421000", "IM", "IM"),
    "route_intrathecal": ("72607000", "IT", "IT SPI ICV"),
    "route_topical": ("6064005", "TP", "TOPI SKIN EXT"),
    "route_inhaled": ("447694001", "IH", "INHL"),
    "route_nasal": ("46713006", "NS", "NA"),
    "route_ophthalmic": ("54485002", "OP", "OD OS OU"),
    "route_otic": ("10547007", "OT", "AD AS AU"),
    "route_rectal": ("37161004", "PR", "RECT"),
    "route_intra_articular": ("12130007", "", "IS"),
    "route_intravesical": ("372471009", "", ""),
    "route_intralesional": ("372466002", "IL", "LI"),
}


@pytest.mark.parametrize("route", ROUTES)
def test_route_codes(route: str) -> None:
    snomed, v2, taiwan = ROUTES[route]
    for system, codes in ((SCT, snomed), (ROUTE_V2, v2), (ROUTE_TW, taiwan), (OWN, route.replace("_", "-"))):
        for code in codes.split():
            assert load().route(system, code) == route, (system, code)


def test_routes_are_those_of_the_chart() -> None:
    assert {c.id for c in load().concepts("route")} == {route.value for route in Route}
    assert set(ROUTES) == {route.value for route in Route} - {"route_other"}


def test_intravitreal_is_not_an_infusion() -> None:
    assert load().route(ROUTE_TW, "IVI") == "route_ophthalmic"


def test_irrigation_is_intravesical_only_beside_a_bladder() -> None:
    assert load().route(ROUTE_TW, "IRRIG") is None
    assert load().route(ROUTE_TW, "IRRIG", "膀胱灌注") == "route_intravesical"
    assert load().route(ROUTE_TW, "IRRIG", "bladder irrigation") == "route_intravesical"
    assert load().route(ROUTE_TW, "IRRIG", "wound irrigation") is None


@pytest.mark.parametrize(
    ("text", "route"),
    [
        ("IV", "route_intravenous"),
        ("i.v.", "route_intravenous"),
        ("靜脈注射", "route_intravenous"),
        ("by mouth", "route_oral"),
        ("口服", "route_oral"),
        ("鞘內", "route_intrathecal"),
        ("Ommaya", "route_intrathecal"),
        ("外用", "route_topical"),
        ("intranasal", "route_nasal"),
        ("unknown", None),
        ("", None),
        (None, None),
    ],
)
def test_route_texts(text: str | None, route: str | None) -> None:
    assert load().route(None, None, text) == route


@pytest.mark.parametrize(
    ("text", "route"),
    [
        ("Hydrocortisone cream", "route_topical"),
        ("hydrocortisone cream 1%", "route_topical"),
        ("Decadron eye drops 0.1% 5 mL", "route_ophthalmic"),
        ("Pulmicort Turbuhaler", "route_inhaled"),
        ("budesonide nasal spray", "route_nasal"),
        ("prednisolone 5 mg tablet", "route_oral"),
        ("類固醇軟膏", "route_topical"),
        ("dexamethasone", None),
        ("Solu-Medrol 500 mg inj", None),
        ("icecream", None),
        (None, None),
        ("x" * 1000, None),
    ],
)
def test_form_states_a_route(text: str | None, route: str | None) -> None:
    assert load().form_route(text) == route


@pytest.mark.parametrize(
    ("system", "code", "text", "answer"),
    [
        (LN, "LA15173-0", None, "pregnancy"),
        (SCT, "77386006", None, "pregnancy"),
        (LN, "LA26683-5", None, "not_pregnant"),
        (SCT, "60001007", None, "not_pregnant"),
        (None, None, "懷孕", "pregnancy"),
        (None, None, "unsure", None),
    ],
)
def test_pregnancy_answer(system: str | None, code: str | None, text: str | None, answer: str | None) -> None:
    assert load().pregnancy(system, code, text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Deficient", "deficient"),
        ("low", "deficient"),
        ("abnormal", "deficient"),
        ("缺乏", "deficient"),
        ("Normal", "normal"),
        ("intermediate", "intermediate"),
        ("?", None),
    ],
)
def test_g6pd_answer(text: str, answer: str | None) -> None:
    assert load().g6pd(None, None, text) == answer
    if answer:
        assert load().g6pd(OWN, answer) == answer


@given(st.none() | st.text(max_size=30), st.none() | st.text(max_size=30), st.none() | st.text(max_size=60))
def test_any_answer_is_read(system: str | None, code: str | None, text: str | None) -> None:
    terminology = load()
    assert terminology.result(system, code, text) in (None, *Result)
    assert terminology.route(system, code, text) in (None, *ROUTES)
    severity = terminology.severity(system, code, text)
    assert severity is None or 0 <= severity.grade <= 5
