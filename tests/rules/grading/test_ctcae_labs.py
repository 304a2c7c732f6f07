"""CTCAE cut-offs at their boundaries, and what holds for every value."""

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cds.engine.tables import shared_table
from cds.rules.grading.ctcae_labs import (
    LabGrade,
    baseline_before,
    febrile,
    grade_lab,
    ratio_uln,
    times_uln,
)
from fhir_mapping.chart import Observation, Quantity, Result, Series, Value, instant, whole_day
from tests.casebook.case_file import rulebook

NOON = datetime(2025, 4, 1, 12, tzinfo=ZoneInfo("Asia/Taipei"))
UNITS = {
    "anc": "10*3/uL",
    "platelets": "10*3/uL",
    "alc": "10*3/uL",
    "hemoglobin": "g/dL",
    "bilirubin_total": "mg/dL",
    "creatinine": "mg/dL",
}


def observed(
    concept: str, value: str, uln: str | None = None, lln: str | None = None, comparator: str = ""
) -> Observation:
    unit = UNITS.get(concept, "U/L")

    def limit(text: str | None) -> Quantity | None:
        return None if text is None else Quantity(Decimal(text), unit)

    quantity = Quantity(Decimal(value), unit, comparator)
    return Observation(
        "Observation/o", concept, instant(NOON), Value(quantity), uln=limit(uln), lln=limit(lln)
    )


@pytest.mark.parametrize(
    ("concept", "value", "uln", "grade"),
    [
        ("anc", "1.0", None, 2),
        ("anc", "0.999", None, 3),
        ("anc", "0.5", None, 3),
        ("anc", "0.499", None, 4),
        ("platelets", "50", None, 2),
        ("platelets", "49.999", None, 3),
        ("platelets", "25", None, 3),
        ("platelets", "24.999", None, 4),
        ("hemoglobin", "8.0", None, 2),
        ("hemoglobin", "7.9", None, 3),
        ("alt", "120", "40", 1),
        ("alt", "200", "40", 2),
        ("alt", "800", "40", 3),
        ("alt", "804", "40", 4),
        ("bilirubin_total", "1.8", "1.2", 1),
        ("bilirubin_total", "3.6", "1.2", 2),
        ("bilirubin_total", "12.0", "1.2", 3),
        ("bilirubin_total", "12.1", "1.2", 4),
        ("ggt", "125", "50", 1),
        ("ggt", "251", "50", 3),
        ("alp", "301", "60", 3),
        ("creatinine", "1.8", "1.2", 1),
        ("creatinine", "3.6", "1.2", 2),
        ("creatinine", "7.21", "1.2", 4),
        ("alc", "0.199", None, 4),
    ],
)
def test_grade_at_the_boundary(concept: str, value: str, uln: str | None, grade: int) -> None:
    assert grade_lab(observed(concept, value, uln)).grade == grade


@pytest.mark.parametrize(("value", "grade"), [("3.0", 2), ("3.01", 3), ("1.5", 1), ("1.51", 2)])
def test_creatinine_uses_the_worse_of_limit_and_baseline(value: str, grade: int) -> None:
    baseline = observed("creatinine", "1.0", "1.2")
    assert grade_lab(observed("creatinine", value, "1.2"), baseline).grade == grade


def test_without_an_upper_limit_there_is_no_liver_grade() -> None:
    graded = grade_lab(observed("alt", "900"))
    assert graded.grade is None
    assert graded.no_limit


def test_without_a_lower_limit_only_grade_1_is_open() -> None:
    assert grade_lab(observed("anc", "1.6")).no_limit
    assert grade_lab(observed("anc", "1.4")).grade == 2
    assert grade_lab(observed("anc", "1.6", lln="1.8")).grade == 1


@pytest.mark.parametrize(
    ("value", "comparator", "grade", "open_above"),
    [("0.5", "<", 4, False), ("1.0", "<", 3, True), ("2.0", "<", None, False), ("2.0", ">", 0, False)],
)
def test_a_bound_grades_only_where_it_decides(
    value: str, comparator: str, grade: int | None, open_above: bool
) -> None:
    graded = grade_lab(observed("anc", value, comparator=comparator))
    assert (graded.grade, graded.at_least) == (grade, open_above)


@pytest.mark.parametrize("baseline", ["30", "60", "200"])
def test_an_abnormal_baseline_is_the_reference(baseline: str) -> None:
    graded = grade_lab(observed("alt", "240", "40"), observed("alt", baseline, "40"))
    assert graded.reference == ("uln" if baseline == "30" else "baseline")


def test_a_count_at_its_lower_limit_is_normal() -> None:
    graded = grade_lab(observed("anc", "1.8", lln="1.8"))
    assert (graded.grade, graded.reference, graded.no_limit) == (0, "absolute", False)


@pytest.mark.parametrize("baseline", [None, "30"])
def test_without_a_limit_the_grade_says_whether_a_baseline_is_known(baseline: str | None) -> None:
    graded = grade_lab(
        observed("alt", "900"), None if baseline is None else observed("alt", baseline, "1000")
    )
    assert (graded.grade, graded.no_limit) == (None, True)
    assert graded.baseline_unknown is (baseline is None)


@pytest.mark.parametrize("baseline", [None, "30"])
def test_a_bound_that_decides_no_grade_keeps_its_reference(baseline: str | None) -> None:
    before = None if baseline is None else observed("alt", baseline, "40")
    graded = grade_lab(observed("alt", "60", "40", comparator="<"), before)
    assert (graded.grade, graded.reference, graded.ratio) == (None, "uln", Decimal("1.5"))
    assert graded.baseline_unknown is (baseline is None)


def test_a_bound_above_a_grade_leaves_the_higher_ones_open() -> None:
    graded = grade_lab(observed("alt", "201", "40", comparator=">"))
    assert (graded.grade, graded.at_least) == (3, True)


def test_a_bound_above_every_limit_leaves_nothing_open() -> None:
    graded = grade_lab(observed("alt", "800", "40", comparator=">"))
    assert (graded.grade, graded.at_least) == (4, False)


@pytest.mark.parametrize(
    ("concept", "value", "baseline", "grade"),
    [
        ("alt", "89", "60", 0),
        ("alt", "90", "60", 1),
        ("alt", "180", "60", 1),
        ("alt", "181", "60", 2),
        ("alt", "80", "40", 1),
        ("ggt", "119", "60", 0),
        ("ggt", "120", "60", 1),
        ("bilirubin_total", "60", "60", 0),
        ("bilirubin_total", "61", "60", 1),
    ],
)
def test_multiples_of_an_abnormal_baseline(concept: str, value: str, baseline: str, grade: int) -> None:
    assert grade_lab(observed(concept, value, "40"), observed(concept, baseline, "40")).grade == grade


def test_the_limit_of_the_result_measures_a_baseline_that_has_none() -> None:
    assert grade_lab(observed("alt", "240", "40"), observed("alt", "60")).reference == "baseline"


@pytest.mark.parametrize(("value", "grade"), [("1.2", 0), ("1.21", 2), ("2.4", 2), ("2.41", 3)])
def test_creatinine_is_graded_by_any_baseline(value: str, grade: int) -> None:
    graded = grade_lab(observed("creatinine", value), observed("creatinine", "0.8"))
    assert (graded.grade, graded.no_limit, graded.baseline_unknown) == (grade, True, False)


@pytest.mark.parametrize(
    ("value", "comparator", "above"), [("200", "", False), ("201", "", True), ("150", ">", None)]
)
def test_multiple_of_the_upper_limit(value: str, comparator: str, above: bool | None) -> None:
    assert times_uln(observed("alt", value, "40", comparator=comparator), Decimal(5)) is above


def test_no_multiple_without_a_limit() -> None:
    assert times_uln(observed("alt", "200"), Decimal(5)) is None
    assert times_uln(observed("alt", "200", "0"), Decimal(5)) is None
    assert ratio_uln(observed("alt", "200")) is None
    assert ratio_uln(observed("alt", "200", "0")) is None
    assert ratio_uln(observed("bilirubin_total", "1.6", "0.8")) == 2
    assert ratio_uln(observed("alt", "200", "40")) == 5


def test_another_concept_is_refused() -> None:
    with pytest.raises(KeyError, match="sodium"):
        grade_lab(observed("sodium", "120"))


def test_a_result_without_a_number_has_no_grade() -> None:
    word = replace(observed("anc", "1.0"), value=Value(result=Result.NEGATIVE))
    assert grade_lab(word) == LabGrade(word, None)


@pytest.mark.parametrize(
    ("result", "told"),
    [
        (observed("anc", "0.9"), {"grade": 3, "reference": "absolute"}),
        (observed("anc", "1.0", comparator="<"), {"grade": 3, "at_least": True, "reference": "absolute"}),
        (observed("anc", "2.0", comparator="<"), {"grade": None, "reference": "absolute"}),
        (observed("anc", "1.9", lln="1.8"), {"grade": 0, "reference": "absolute"}),
        (observed("alt", "900"), {"grade": None, "no_limit": True, "baseline_unknown": True}),
        (
            observed("alt", "40", "40"),
            {"grade": 0, "reference": "uln", "ratio": Decimal(1), "baseline_unknown": True},
        ),
        (
            observed("alt", "240", "40"),
            {"grade": 3, "reference": "uln", "ratio": Decimal(6), "baseline_unknown": True},
        ),
        (
            observed("alt", "60", "40", comparator="<"),
            {"grade": None, "reference": "uln", "ratio": Decimal("1.5"), "baseline_unknown": True},
        ),
        (
            observed("bilirubin_total", "0.4", "0.8"),
            {"grade": 0, "reference": "uln", "ratio": Decimal("0.5"), "baseline_unknown": True},
        ),
        (observed("alt", "240", "0"), {"grade": None, "no_limit": True, "baseline_unknown": True}),
    ],
)
def test_what_a_grade_tells(result: Observation, told: dict[str, object]) -> None:
    assert grade_lab(result) == LabGrade(result, **told)  # type: ignore[arg-type]


def test_the_baseline_is_the_last_number_before_the_first_dose() -> None:
    early, word, at_dose = (
        replace(observed("alt", value), when=instant(NOON + timedelta(hours=hour)))
        for value, hour in (("30", -48), ("40", -24), ("50", 0))
    )
    word = replace(word, value=Value(result=Result.NEGATIVE))
    series = Series("alt", (early, word, at_dose))
    assert baseline_before(series, NOON) is early
    assert baseline_before(Series("alt", (at_dose,)), NOON) is None


VALUES = st.decimals(min_value="0.01", max_value="2000", places=2)


@given(concept=st.sampled_from(("anc", "platelets", "hemoglobin", "alc")), one=VALUES, other=VALUES)
def test_a_lower_count_never_has_a_lower_grade(concept: str, one: Decimal, other: Decimal) -> None:
    low, high = sorted((one, other))
    worse, better = grade_lab(observed(concept, str(low))), grade_lab(observed(concept, str(high)))
    assert worse.grade is not None
    assert better.grade is not None
    assert worse.grade >= better.grade


HIGH = sorted({str(r["concept"]) for r in shared_table("ctcae_labs").table("cutoffs") if "uln" in r})


@given(
    concept=st.sampled_from(HIGH),
    one=VALUES,
    other=VALUES,
    uln=st.decimals(min_value="0.5", max_value="200", places=1),
    base=st.none() | VALUES,
)
def test_a_higher_value_never_has_a_lower_grade(
    concept: str, one: Decimal, other: Decimal, uln: Decimal, base: Decimal | None
) -> None:
    low, high = sorted((one, other))
    baseline = None if base is None else observed(concept, str(base), str(uln))
    better = grade_lab(observed(concept, str(low), str(uln)), baseline)
    worse = grade_lab(observed(concept, str(high), str(uln)), baseline)
    assert better.grade is not None
    assert worse.grade is not None
    assert worse.grade >= better.grade


def _readings(*pairs: tuple[int, str]) -> list[Observation]:
    return [
        Observation(
            f"Observation/{minute}",
            "body_temperature",
            instant(NOON + timedelta(minutes=minute)),
            Value(Quantity(Decimal(value), "Cel")),
        )
        for minute, value in pairs
    ]


@pytest.mark.parametrize(
    ("pairs", "fever"),
    [
        (((0, "38.3"),), False),
        (((0, "38.4"),), True),
        (((0, "38.0"), (60, "38.1")), False),
        (((0, "38.0"), (61, "38.1")), True),
        (((0, "38.0"), (30, "37.9"), (61, "38.1")), False),
        (((0, "38.0"), (30, "37.9"), (61, "38.0"), (122, "38.0")), True),
    ],
)
def test_fever_of_febrile_neutropenia(pairs: tuple[tuple[int, str], ...], fever: bool) -> None:
    p = rulebook().parameters["grading.ctcae-labs"]
    assert febrile(_readings(*pairs), p) is fever


def test_fever_is_sought_past_readings_that_say_nothing() -> None:
    word, dated, first, last = _readings((0, "38.0"), (10, "38.0"), (20, "38.0"), (81, "38.0"))
    word = replace(word, value=Value(result=Result.NEGATIVE))
    dated = replace(dated, when=whole_day(NOON.date(), NOON))
    p = rulebook().parameters["grading.ctcae-labs"]
    assert febrile([word, dated, first, last], p)
    assert not febrile([word, dated, first], p)
