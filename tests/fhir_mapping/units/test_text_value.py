"""Numbers sent as text."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_mapping.units import ParsedValue, TextForm, parse_text_value


@pytest.mark.parametrize(
    ("text", "comparator", "value", "unit"),
    [
        ("<0.5", "<", "0.5", None),
        (">2000", ">", "2000", None),
        ("> 2000 ng/mL", ">", "2000", "ng/mL"),
        ("＞2000", ">", "2000", None),
        ("<=5", "<=", "5", None),
        ("=<5", "<=", "5", None),
        ("≤5", "<=", "5", None),
        ("≥500 /uL", ">=", "500", "/uL"),
        ("12.3 mg/dL", "", "12.3", "mg/dL"),
        ("12.3mg/dL", "", "12.3", "mg/dL"),
        ("  38.5 °C ", "", "38.5", "Cel"),
        ("-3", "", "-3", None),
        ("1,234.5", "", "1234.5", None),
        ("1,234,567 copies/mL", "", "1234567", "{copies}/mL"),
        ("1.2e5", "", "120000", None),
        ("1.2 x 10^5 copies/mL", "", "120000", "{copies}/mL"),
        ("1.2x10⁵ copies/mL", "", "120000", "{copies}/mL"),
        ("85 %", "", "85", "%"),
        ("４５", "", "45", None),
        ("0.3 K/uL", "", "0.3", "10*3/uL"),
    ],
)
def test_number(text: str, comparator: str, value: str, unit: str | None) -> None:
    parsed = parse_text_value(text)
    assert parsed is not None
    assert (parsed.comparator, parsed.value, parsed.unit) == (comparator, Decimal(value), unit)
    assert parsed.form is TextForm.NUMBER


@pytest.mark.parametrize(
    ("text", "form", "value"),
    [
        ("1:80", TextForm.TITER, 80),
        ("1 : 640", TextForm.TITER, 640),
        ("3+", TextForm.PLUS, 3),
        ("++", TextForm.PLUS, 2),
    ],
)
def test_titer_and_pluses(text: str, form: TextForm, value: int) -> None:
    assert parse_text_value(text) == ParsedValue("", Decimal(value), None, "", form)


def test_titer_keeps_its_comparator() -> None:
    parsed = parse_text_value("<1:20")
    assert parsed is not None
    assert (parsed.comparator, parsed.value) == ("<", 20)


def test_unknown_unit_is_told_from_no_unit() -> None:
    unknown, none = parse_text_value("5 blobs"), parse_text_value("5")
    assert unknown is not None
    assert none is not None
    assert (unknown.unit, unknown.unit_text) == (None, "blobs")
    assert (none.unit, none.unit_text) == (None, "")


@pytest.mark.parametrize(
    "text",
    ["", " ", "Negative", "陰性", "1.2; 3.4", "WBC 3.2; PLT 20", "5-10", "5 - 10", "5~10", "0,5", "1,23",
     "1.2.3", "2025-03-04", "12:30", "+", "-", "<", "abc 5", "x" * 500, "1:80:2", "--5", "5 (3-7)"],
)  # fmt: skip
def test_not_one_number(text: str) -> None:
    assert parse_text_value(text) is None


@given(st.text(max_size=100))
def test_any_text_answers(text: str) -> None:
    parsed = parse_text_value(text)
    assert parsed is None or parsed.value.is_finite()


@given(st.decimals("-99999", "99999", places=3), st.sampled_from(["", "<", "<=", ">=", ">"]))
def test_written_number_is_read_back(value: Decimal, comparator: str) -> None:
    parsed = parse_text_value(f"{comparator}{value} mg/dL")
    assert parsed is not None
    assert (parsed.comparator, parsed.value, parsed.unit) == (comparator, value, "mg/dL")
