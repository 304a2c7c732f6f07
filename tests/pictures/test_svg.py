"""Nodes escape what they are given; the time axis labels what fits."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cds.pictures import plot
from cds.pictures.svg import Node, text


@given(st.text())
def test_any_text_stays_text(words: str) -> None:
    root = ElementTree.fromstring(Node("g", {"aria_label": words}, (text(1, 2.0, words),)).markup())
    assert len(list(root.iter())) == 2
    assert "<" not in words or "<" in (root[0].text or "")


def test_numbers_are_short() -> None:
    assert text(1.0, 2.26, "a").markup() == '<text x="1" y="2.3">a</text>'


@given(st.integers(1, 5000), st.integers(200, 1200))
def test_labels_of_an_axis_never_crowd(days: int, width: int) -> None:
    start = datetime(2026, 1, 17, 9, tzinfo=UTC)
    axis = plot.TimeAxis(start, start + timedelta(days=days), 0, width)
    places = [axis.of_day(day) for day in axis.days(50)]
    assert places == sorted(places)
    assert all(b - a >= 45 for a, b in pairwise(places))


def test_an_instant_outside_lies_at_the_edge() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    axis = plot.TimeAxis(start, start + timedelta(days=2), 10, 110)
    assert axis.of_day(date(2025, 1, 1)) == 10
    assert axis.of_day(date(2026, 1, 2)) == 60
    assert axis.of_day(date(2027, 1, 1)) == 110


@pytest.mark.parametrize(("words", "room"), [("tocilizumab", 30), ("正腎上腺素", 40), ("", 10), ("a", 0)])
def test_a_text_is_cut_to_its_room(words: str, room: float) -> None:
    cut = plot.fitted(words, room)
    assert cut == words or cut.endswith("…")
    assert plot.text_width(cut) <= max(room, plot.text_width("…"))
