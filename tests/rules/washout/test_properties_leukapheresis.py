"""What must always hold for washout intervals, whatever the drug, the day or the order of the chart."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cards.finding import Outcome
from cds.rules.washout.intervals import Interval, judge, read_intervals, worst_line
from cds.rules.washout.uses import End, Kind, Use
from fhir_mapping.chart import whole_day
from tests.casebook.case_file import Written, findings_of, rulebook

ZONE = timezone(timedelta(hours=8))
LIKE = datetime(2024, 1, 1, tzinfo=ZONE)
ROWS = read_intervals(rulebook().parameters["washout.leukapheresis"])
RANK = [Outcome.NOT_MET, Outcome.UNKNOWN, Outcome.WAIVED, Outcome.MET_MINIMUM, Outcome.MET]

days = st.dates(min_value=date(2023, 1, 1), max_value=date(2026, 12, 31))
gaps = st.integers(min_value=-30, max_value=400)
rows = st.sampled_from(ROWS)


def use_of(row: Interval, last: date) -> Use:
    moment = whole_day(last, LIKE)
    drug = min(row.drugs) if row.drugs else "x"
    ends = {min(row.classes) if row.classes else "DC9": End(moment)}
    return Use("s", drug, drug, drug, None, ends, {}, Kind.ADMINISTRATION, "MedicationAdministration/x")


@given(rows, days, gaps, st.integers(min_value=0, max_value=60))
def test_a_later_last_dose_never_helps(row: Interval, anchor: date, gap: int, later: int) -> None:
    early, late = anchor - timedelta(days=gap), anchor - timedelta(days=gap) + timedelta(days=later)
    first = judge(use_of(row, early), row, End(whole_day(early, LIKE)), anchor)
    second = judge(use_of(row, late), row, End(whole_day(late, LIKE)), anchor)
    assert RANK.index(second.outcome) <= RANK.index(first.outcome)
    assert second.earliest is not None
    assert first.earliest is not None
    assert second.earliest >= first.earliest


@given(rows, days, gaps)
def test_the_earliest_day_is_the_first_day_that_is_not_refused(row: Interval, anchor: date, gap: int) -> None:
    last = End(whole_day(anchor - timedelta(days=gap), LIKE))
    use = use_of(row, anchor - timedelta(days=gap))
    earliest = judge(use, row, last, anchor).earliest
    assert earliest is not None
    good = (Outcome.MET, Outcome.MET_MINIMUM)
    assert judge(use, row, last, earliest).outcome in good
    assert judge(use, row, last, earliest - timedelta(days=1)).outcome not in good


@given(st.lists(rows, min_size=1, max_size=4), days, days)
def test_the_longest_row_binds(chosen: list[Interval], last: date, anchor: date) -> None:
    ends = {name: End(whole_day(last, LIKE)) for row in chosen for name in row.classes}
    if not ends:
        return
    use = Use("s", "x", "x", "x", None, ends, {}, Kind.ORDER, "MedicationRequest/x")
    line = worst_line(use, ROWS, anchor)
    assert line is not None
    lines = [judge(use, row, End(whole_day(last, LIKE)), anchor) for row in ROWS if row.classes & set(ends)]
    refused = [one.earliest for one in lines if one.outcome is Outcome.NOT_MET and one.earliest is not None]
    if refused:
        assert line.earliest == max(refused)


@given(st.integers(min_value=0, max_value=5000))
@settings(max_examples=25, deadline=None)
def test_the_unit_of_a_cytarabine_dose_never_matters(mg: int) -> None:
    answers = {
        (finding.outcome, finding.values["row"])
        for dose in (f"{mg} mg/m2", f"{mg / 1000} g/m2")
        for finding in findings_of(_case([{"given": "cytarabine", "at": "2024-06-15", "dose": dose}]))
    }
    assert len(answers) == 1


ENTRIES: list[dict[str, object]] = [
    {"given": "bendamustine", "at": "2024-05-01", "route": "route_intravenous", "id": "a"},
    {"given": "dexamethasone", "at": "2024-06-28", "route": "route_oral", "id": "b"},
    {"order": "tacrolimus", "at": "2024-05-01", "every": "12h", "route": "route_oral", "id": "c"},
    {"procedure": "allo_hct", "at": "2024-05-20", "id": "d"},
]


@pytest.mark.parametrize("order", list(permutations(range(4)))[::5])
def test_the_order_of_the_chart_never_matters(order: tuple[int, ...]) -> None:
    expected = findings_of(_case(ENTRIES))
    found = findings_of(_case([ENTRIES[i] for i in order]))
    assert [f.values for f in found] == [f.values for f in expected]


def _case(entries: list[dict[str, object]]) -> Written:
    given_: list[dict[str, object]] = [
        {"patient": "p1", "birth": "1968-02-11", "sex": "male"},
        {"service": "car_t_evaluation", "authored": "2024-06-01", "id": "ev"},
        {
            "appointment": "leukapheresis",
            "at": "2024-07-01",
            "purpose": "purpose_car_t_collection",
            "id": "ap",
        },
    ]
    raw = {"now": "2024-06-30T09:00+08:00", "chart": [*given_, *entries], "expect": "none"}
    return Written("washout.leukapheresis", "property", raw, Path())
