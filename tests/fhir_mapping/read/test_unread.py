"""A series decoded backwards on demand says what the series decoded at once says."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given as hypothesis_given
from hypothesis import settings
from hypothesis import strategies as st

from fhir_mapping.chart import Observation, Series
from fhir_mapping.read import unread
from tests.fhir_mapping.read.charts import NOW, Resource, chart, obs

_UNITS = ("10*3/uL", "10*9/L", "/uL", "furlong")
_ZONES = ("+08:00", "+00:00", "Z")

entries = st.lists(
    st.tuples(
        st.integers(-60 * 24 * 40, 30),  # minutes from now: some results lie in the future
        st.integers(0, 90),
        st.sampled_from(_UNITS),
        st.booleans(),  # with a limit of normal
    ),
    min_size=14,
    max_size=40,
)


def _resources(drawn: list[tuple[int, int, str, bool]], zone: str) -> list[Resource]:
    found = []
    for number, (minutes, value, unit, limited) in enumerate(drawn):
        offset = timedelta(hours=8) if zone == "+08:00" else timedelta()
        local = NOW.replace(tzinfo=None) - timedelta(hours=8) + offset + timedelta(minutes=minutes)
        extra = {"referenceRange": [{"high": {"value": 8}}]} if limited else {}
        stamp = f"{local.isoformat()}{zone}"
        found.append(obs("anc", (value, unit), at=stamp, id=f"o{number}", **extra))
    return found


def _series(resources: list[Resource], worth_it: int) -> Series:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unread, "_WORTH_IT", worth_it)
        return chart(*resources).series("anc")


def _names(found: list[Observation] | tuple[Observation, ...]) -> list[str]:
    return [o.reference for o in found]


@settings(deadline=None, max_examples=60)
@hypothesis_given(
    entries, st.sampled_from(_ZONES), st.integers(-60 * 24 * 45, 0), st.integers(0, 60 * 24 * 20)
)
def test_windows_of_an_unread_series(
    drawn: list[tuple[int, int, str, bool]], zone: str, begin: int, length: int
) -> None:
    resources = _resources(drawn, zone)
    whole, lazy = _series(resources, 1000), _series(resources, 2)
    assert not isinstance(whole, unread.UnreadSeries)
    assert isinstance(lazy, unread.UnreadSeries)
    start = NOW + timedelta(minutes=begin)
    end = start + timedelta(minutes=length)
    assert lazy.latest(end) == whole.latest(end)
    assert lazy.latest(end, timedelta(days=1)) == whole.latest(end, timedelta(days=1))
    assert lazy.between(start, end) == whole.between(start, end)
    assert lazy.since(start) == whole.since(start)
    assert list(lazy.until(start)) == list(whole.until(start))
    assert _names(list(reversed(lazy))) == _names(list(reversed(whole)))
    assert (lazy.items, lazy.losses, len(lazy)) == (whole.items, whole.losses, len(whole))


def _every_hour(count: int, last: datetime = NOW) -> list[Resource]:
    return [
        obs("anc", (1 + n, "10*3/uL"), at=(last - timedelta(hours=n)).isoformat(), id=f"o{n}")
        for n in range(count)
    ]


def test_only_the_window_is_decoded() -> None:
    resources = [*_every_hour(48), obs("anc", (3, "furlong"), at="2025-04-01T08:00:00+08:00", id="odd")]
    seen = chart(*resources)
    assert len(seen.series("anc").since(NOW - timedelta(hours=3))) == 4
    assert not seen.losses  # the unreadable entry lies before the window
    assert seen.series("anc").losses
    assert seen.losses


def test_a_window_without_entries_decodes_nothing() -> None:
    seen = chart(*_every_hour(48), obs("anc", (3, "furlong"), at=NOW.isoformat(), id="odd"))
    begin = NOW - timedelta(minutes=50)
    assert seen.series("anc").between(begin, NOW - timedelta(minutes=10)) == ()
    assert not seen.losses  # nor the unreadable entry after it


@pytest.mark.parametrize(
    "changed",
    [
        {"at": "2025-04-16T08:00:00Z"},
        {"at": "2025-04-16T08:00:60+08:00"},
        {"at": "2025-04-16"},
        {"status": "preliminary"},
    ],
)
def test_entries_that_must_be_seen_together_are_read_at_once(changed: Resource) -> None:
    resources = [*_every_hour(20), obs("anc", (5, "10*3/uL"), id="other", **changed)]
    assert not isinstance(chart(*resources).series("anc"), unread.UnreadSeries)


def test_a_stamp_that_is_no_date_costs_its_own_entry_only() -> None:
    broken = obs("anc", (5, "10*3/uL"), id="broken", at="0000-00-00T00:00:00+08:00")
    series = chart(*_every_hour(20), broken).series("anc")
    assert isinstance(series, unread.UnreadSeries)
    assert len(series.since(NOW - timedelta(hours=3))) == 4
    assert (len(series), [loss.resource for loss in series.losses]) == (20, ["Observation/broken"])
