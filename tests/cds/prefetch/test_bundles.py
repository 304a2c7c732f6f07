"""Checklist 38-42: how one answer is read before anything in it is believed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from cds.prefetch import KEYS
from cds.prefetch.bundles import Shape, read_page
from cds.prefetch.horizon import horizon

LAB = {"resourceType": "Observation", "id": "o1"}
OUTCOME = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "processing"}]}
TAIPEI = ZoneInfo("Asia/Taipei")


def bundle(*entries: Any, **more: Any) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": "searchset", "entry": list(entries), **more}


@pytest.mark.parametrize(
    "value",
    [
        bundle({"resource": LAB}),
        bundle({"resource": LAB}, type="collection"),
        {"resourceType": "Bundle", "entry": [{"resource": LAB}]},
        {"entry": [{"resource": LAB}]},
        {"resourceType": "Bundle", "entry": {"resource": LAB}},
        bundle({"resource": bundle({"resource": LAB})}),
        bundle(LAB),
        [LAB],
        [{"resource": LAB}],
        LAB,
    ],
)
def test_resources_are_found_in_every_shape(value: Any) -> None:
    page = read_page(value)
    assert (page.shape, page.matches, page.others, page.next) == (Shape.PAGE, [LAB], [], "")


@pytest.mark.parametrize(
    "value", [bundle(), {"resourceType": "Bundle"}, {"resourceType": "Bundle", "total": 0}, []]
)
def test_39_an_empty_searchset_is_no_data(value: Any) -> None:
    page = read_page(value)
    assert (page.shape, page.matches) == (Shape.PAGE, [])


@pytest.mark.parametrize(
    "value", ["x", 5, True, {}, {"resourceType": 5}, {"resourceType": "Bundle", "entry": 3}]
)
def test_what_is_no_fhir_is_unreadable(value: Any) -> None:
    assert read_page(value).shape is Shape.UNREADABLE


@pytest.mark.parametrize(
    ("code", "shape"),
    [
        ("transient", Shape.TRANSIENT_OUTCOME),
        ("timeout", Shape.TRANSIENT_OUTCOME),
        ("throttled", Shape.TRANSIENT_OUTCOME),
        ("forbidden", Shape.OUTCOME),
        ("exception", Shape.OUTCOME),
        (None, Shape.OUTCOME),
        (["timeout"], Shape.OUTCOME),
    ],
)
def test_40_an_operation_outcome_is_noticed(code: Any, shape: Shape) -> None:
    outcome = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": code}]}
    assert read_page(outcome).shape is shape
    assert read_page(bundle({"resource": outcome})).shape is shape


@pytest.mark.parametrize("issue", [None, "x", [None], {}])
def test_40_a_broken_outcome_is_an_outcome(issue: Any) -> None:
    assert read_page({"resourceType": "OperationOutcome", "issue": issue}).shape is Shape.OUTCOME


def test_42_outcome_and_include_entries_are_no_matches() -> None:
    medication = {"resourceType": "Medication", "id": "m"}
    page = read_page(
        bundle(
            {"resource": OUTCOME, "search": {"mode": "outcome"}},
            {"resource": medication, "search": {"mode": "include"}},
            {"resource": LAB, "search": {"mode": "match"}},
            {"resource": OUTCOME},
        )
    )
    assert (page.shape, page.matches, page.others) == (Shape.PAGE, [LAB], [medication])


def test_entries_that_are_no_resource_stay_visible_for_the_mapper() -> None:
    page = read_page(bundle(None, {"fullUrl": "urn:x"}, {"resource": 5}, {"resource": LAB}))
    assert page.matches == [None, {}, 5, LAB]


@pytest.mark.parametrize(
    ("links", "found", "partial"),
    [
        ([{"relation": "self", "url": "a"}, {"relation": "next", "url": "b"}], "b", True),
        ([{"relation": "next"}], "", True),
        ([{"relation": "next", "url": ""}], "", True),
        ([None, "x"], "", False),
        ("next", "", False),
        (None, "", False),
    ],
)
def test_41_next_link(links: Any, found: str, partial: bool) -> None:
    page = read_page(bundle(link=links))
    assert (page.next, page.partial) == (found, partial)


@pytest.mark.parametrize(
    ("total", "partial"), [(1, False), (2, True), (0, False), ("9", False), (None, False)]
)
def test_41_a_total_above_what_is_there_tells_of_dropped_links(total: Any, partial: bool) -> None:
    assert read_page(bundle({"resource": LAB}, total=total)).partial is partial


def dated(*stamps: Any) -> list[dict[str, Any]]:
    return [{"effectiveDateTime": stamp} if stamp is not None else {} for stamp in stamps]


SORT = KEYS["labs"].sort


@pytest.mark.parametrize(
    ("stamps", "expected"),
    [
        (("2025-04-16T08:00:00+08:00", "2025-04-15T08:00:00Z"), "2025-04-15T08:00:00+00:00"),
        (("2025-04-16T08:00:00+08:00", "2025-04-16T00:00:00Z"), "2025-04-16T00:00:00+00:00"),
        (("2025-04-16", "2025-04-16T10:00:00+08:00"), "2025-04-16T10:00:00+08:00"),
        (("2025-04-16T10:00:00", "2025-04-15"), "2025-04-15T23:59:59.999999+08:00"),
        (("2025-04", "2025-03"), "2025-03-31T23:59:59.999999+08:00"),
        (("2025", "2024-12"), "2024-12-31T23:59:59.999999+08:00"),
        (("2025-04-16", None, "2025-04-01T00:00:00Z", None), "2025-04-01T00:00:00+00:00"),
        (("2025-04-16", "yesterday", 5), "2025-04-16T23:59:59.999999+08:00"),
    ],
)
def test_horizon_is_the_oldest_entry(stamps: tuple[Any, ...], expected: str) -> None:
    assert horizon(dated(*stamps), SORT, TAIPEI) == datetime.fromisoformat(expected)


@pytest.mark.parametrize(
    "stamps",
    [
        ("2025-04-15T08:00:00Z", "2025-04-16T08:00:00Z"),
        ("2025-04-15", "2025-04-16"),
        (),
        (None,),
        ("2025-13-01",),
    ],
)
def test_no_horizon_where_the_order_does_not_tell(stamps: tuple[Any, ...]) -> None:
    assert horizon(dated(*stamps), SORT, TAIPEI) is None


def test_no_horizon_without_a_sort() -> None:
    assert horizon(dated("2025-04-15"), None, TAIPEI) is None


def test_a_period_counts_from_its_end() -> None:
    first = {"effectivePeriod": {"start": "2025-04-16T08:00:00Z"}}
    last = {"effectivePeriod": {"start": "2025-04-01T08:00:00Z", "end": "2025-04-10T08:00:00Z"}}
    found = horizon([first, last], KEYS["administrations"].sort, TAIPEI)
    assert found == datetime(2025, 4, 10, 8, tzinfo=UTC)
