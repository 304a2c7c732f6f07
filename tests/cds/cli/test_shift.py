from datetime import date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cds.cli.shift import shifted

WEEK = timedelta(days=7)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"birthDate": "1968-02-11"}, {"birthDate": "1968-02-18"}),
        ({"onsetDateTime": "2026-03"}, {"onsetDateTime": "2026-03"}),
        ({"start": "2026-03-28T14:30:00+08:00"}, {"start": "2026-04-04T14:30:00+08:00"}),
        ({"issued": "2026-03-28T14:30:00Z"}, {"issued": "2026-04-04T14:30:00Z"}),
        ({"issued": "2026-03-28T14:30:00.250Z"}, {"issued": "2026-04-04T14:30:00.250000Z"}),
        ({"effectiveDateTime": "2026-03-28T14:30"}, {"effectiveDateTime": "2026-04-04T14:30:00"}),
        ({"event": ["2026-03-28", "2026-12-30"]}, {"event": ["2026-04-04", "2027-01-06"]}),
        ({"year": "2026"}, {"year": "2026"}),
        ({"code": "2026-03-28"}, {"code": "2026-03-28"}),
        ({"coding": [{"code": "8310-5"}]}, {"coding": [{"code": "8310-5"}]}),
        ({"text": "2026-03-28"}, {"text": "2026-03-28"}),
        ({"onsetDateTime": "2026-02-31"}, {"onsetDateTime": "2026-02-31"}),
        ({"value": 7, "flag": True, "none": None}, {"value": 7, "flag": True, "none": None}),
    ],
)
def test_dates_move_and_nothing_else_does(before: object, after: object) -> None:
    assert shifted(before, WEEK) == after


def test_a_year_and_month_moves_by_whole_months_only() -> None:
    assert shifted({"onsetDateTime": "2026-03"}, timedelta(days=31)) == {"onsetDateTime": "2026-04"}


def test_days_follow_a_span_with_hours_to_the_nearest_day() -> None:
    span = timedelta(days=2, hours=13)
    assert shifted(["2026-03-01", "2026-03-01T00:00:00+08:00"], span) == [
        "2026-03-04",
        "2026-03-03T13:00:00+08:00",
    ]


@given(st.dates(date(1900, 1, 1), date(2100, 1, 1)), st.integers(-20000, 20000))
def test_there_and_back_is_the_same_day(day: date, days: int) -> None:
    span = timedelta(days=days)
    assert shifted(shifted({"d": day.isoformat()}, span), -span) == {"d": day.isoformat()}


@given(
    st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)), st.timedeltas(timedelta(-9999), timedelta(9999))
)
def test_spans_between_events_stay(stamp: datetime, span: timedelta) -> None:
    later = stamp + timedelta(hours=5)
    one, other = (f"{s.isoformat(timespec='seconds')}+08:00" for s in (stamp, later))
    moved = shifted({"a": one, "b": other}, span)
    a, b = datetime.fromisoformat(moved["a"]), datetime.fromisoformat(moved["b"])
    assert b - a == datetime.fromisoformat(other) - datetime.fromisoformat(one)
