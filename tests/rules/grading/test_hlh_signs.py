"""Ferritin between two values: what the lines of treatment ask."""

from __future__ import annotations

from pathlib import Path

import pytest

from cds.rules.grading.hlh_signs import ferritin_rising
from tests.casebook.case_file import Written, bench_of, case_of


@pytest.mark.parametrize(
    ("series", "rising"),
    [
        ([], None),
        ([("900 ng/mL", "-2h")], None),
        ([("800 ng/mL", "-13h"), ("900 ng/mL", "-2h")], None),  # less than 12 h apart: no trend
        ([("800 ng/mL", "-14h"), ("900 ng/mL", "-2h")], True),
        ([("900 ng/mL", "-14h"), ("900 ng/mL", "-2h")], False),
        ([("900 ng/mL", "-14h"), ("800 ng/mL", "-2h")], False),
        ([(">800 ng/mL", "-14h"), ("900 ng/mL", "-2h")], None),  # may have been more
        ([("800 ng/mL", "-14h"), (">900 ng/mL", "-2h")], True),
        ([("900 ng/mL", "-14h"), (">800 ng/mL", "-2h")], None),
    ],
)
def test_ferritin_rises_against_the_value_twelve_hours_before(
    series: list[tuple[str, str]], rising: bool | None
) -> None:
    chart = [
        {"given": "axicabtagene_ciloleucel", "at": "d+0T14:00", "bag": "B1"},
        *({"obs": "ferritin", "value": value, "at": at} for value, at in series),
    ]
    raw = {"now": "2026-01-13T10:00+08:00", "d0": "2026-01-01T14:00+08:00", "chart": chart}
    written = Written("grading.iec-hs", "ferritin", raw, Path("ferritin.yaml"))
    assert ferritin_rising(case_of(written, bench_of(written))) is rising
