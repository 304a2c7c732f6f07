"""Every row of the chart-facts table is read as the table says."""

from __future__ import annotations

import pytest

from fhir_mapping.terminology import load
from tests.fhir_mapping.read import rows_bedside, rows_course, rows_disease, rows_drugs, rows_labs
from tests.fhir_mapping.read.row import Row

ROWS = [*rows_labs.ROWS, *rows_bedside.ROWS, *rows_disease.ROWS, *rows_drugs.ROWS, *rows_course.ROWS]
NOT_IN_FHIR = {"E6", "E7"}  # settings of the service


@pytest.mark.parametrize("row", ROWS, ids=[row.id for row in ROWS])
def test_fact(row: Row) -> None:
    assert row.answer() == row.expected


def test_every_fact_has_a_row() -> None:
    assert {fact.id for fact in load().facts} - {row.fact for row in ROWS} == NOT_IN_FHIR


def test_no_two_rows_have_one_name() -> None:
    assert len({row.id for row in ROWS}) == len(ROWS)
