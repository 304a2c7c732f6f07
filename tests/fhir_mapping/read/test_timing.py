# ruff: noqa: E501 - one case, one line
"""When a dose is due (chart-facts 2.6)."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest

from fhir_mapping.chart import Flag, Timing
from tests.fhir_mapping.read.charts import chart, order, q


def timing_of(timing: dict[str, Any] | None = None, *, draft: bool = False, **more: Any) -> Timing:
    resource = order("dexamethasone", **({"timing": timing} if timing is not None else {}), **more)
    if draft:
        return chart(drafts=[{**resource, "status": "draft"}]).drafts.drugs.all[0].timing
    return chart(resource).drugs.all[0].timing


def days(found: Timing) -> tuple[str | None, str | None]:
    return (
        found.first.date.isoformat() if found.first else None,
        found.last.date.isoformat() if found.last else None,
    )


def period(start: str | None, end: str | None) -> dict[str, Any]:
    return {"boundsPeriod": {key: value for key, value in (("start", start), ("end", end)) if value}}


EVERY_DAY = {"frequency": 1, "period": 1, "periodUnit": "d"}


@dataclass(frozen=True)
class Case:
    what: str
    timing: dict[str, Any] | None
    first: str | None
    last: str | None
    ongoing: bool = False
    doses: int = 0
    more: dict[str, Any] | None = None
    draft: bool = False


CASES = [
    Case("events", {"event": ["2025-04-20T09:00:00+08:00", "2025-04-18T09:00:00+08:00"]}, "2025-04-18", "2025-04-20", doses=2),
    Case("one event", {"event": ["2025-04-20"]}, "2025-04-20", "2025-04-20", doses=1),
    Case("bounds", {"repeat": {**period("2025-04-18", "2025-04-22"), **EVERY_DAY}}, "2025-04-18", "2025-04-22", doses=5),
    Case("bounds without a start", {"repeat": {**period(None, "2025-04-22"), **EVERY_DAY}}, "2025-04-01", "2025-04-22", doses=22),
    Case("bounds without an end", {"repeat": {**period("2025-04-18", None), **EVERY_DAY}}, "2025-04-18", None, ongoing=True),
    Case("duration", {"repeat": {"boundsDuration": q(5, "d"), **EVERY_DAY}, "event": []}, "2025-04-01", "2025-04-05", doses=5),
    Case("duration in weeks", {"repeat": {"boundsDuration": q(1, "wk"), "frequency": 2, "period": 1, "periodUnit": "d"}}, "2025-04-01", "2025-04-07", doses=14),
    Case("count", {"repeat": {"count": 3, "frequency": 1, "period": 1, "periodUnit": "wk"}}, "2025-04-01", "2025-04-15", doses=3),
    Case("count of one", {"repeat": {"count": 1, **EVERY_DAY}}, "2025-04-01", "2025-04-01", doses=1),
    Case("supply", {"repeat": EVERY_DAY}, "2025-04-01", "2025-04-28", doses=28, more={"dispenseRequest": {"expectedSupplyDuration": q(28, "d")}}),
    Case("validity", {"repeat": EVERY_DAY}, "2025-04-03", "2025-04-06", doses=4, more={"dispenseRequest": {"validityPeriod": {"start": "2025-04-03", "end": "2025-04-06"}}}),
    Case("event before bounds", {"event": ["2025-04-20"], "repeat": period("2025-04-18", "2025-04-22")}, "2025-04-20", "2025-04-20", doses=1),
    Case("bounds before validity", {"repeat": {**period("2025-04-18", "2025-04-19"), **EVERY_DAY}}, "2025-04-18", "2025-04-19", doses=2, more={"dispenseRequest": {"validityPeriod": {"start": "2025-04-03", "end": "2025-04-06"}}}),
    Case("count before supply", {"repeat": {"count": 2, **EVERY_DAY}}, "2025-04-01", "2025-04-02", doses=2, more={"dispenseRequest": {"expectedSupplyDuration": q(28, "d")}}),
    Case("repeat without a bound", {"repeat": EVERY_DAY}, "2025-04-01", None, ongoing=True),
    Case("code without a bound", {"code": {"coding": [{"code": "BID"}]}}, "2025-04-01", None, ongoing=True),
    Case("no timing on an active order", None, "2025-04-01", None, ongoing=True),
    Case("no timing on a draft", None, "2025-04-01", "2025-04-01", doses=1, draft=True),
    Case("draft without a date is now", None, "2025-04-16", "2025-04-16", doses=1, draft=True, more={"authoredOn": None}),
    Case("only a length on a draft", {"repeat": {"duration": 1, "durationUnit": "h"}}, "2025-04-01", "2025-04-01", doses=1, draft=True),
    Case("repeat without a bound on a draft", {"repeat": EVERY_DAY}, "2025-04-01", None, ongoing=True, draft=True),
    Case("once", {"code": {"text": "STAT"}}, "2025-04-01", "2025-04-01", doses=1),
    Case("weekdays", {"repeat": {**period("2025-04-14", "2025-04-27"), "dayOfWeek": ["mon", "wed", "fri"]}}, "2025-04-14", "2025-04-27", doses=6),
    Case("every month", {"repeat": {"count": 3, "frequency": 1, "period": 1, "periodUnit": "mo"}}, "2025-04-01", "2025-06-01", doses=3),
    Case("every 8 hours by the clock", {"repeat": {**period("2025-04-18T06:00:00+08:00", "2025-04-18T22:00:00+08:00"), "frequency": 3, "period": 1, "periodUnit": "d"}}, "2025-04-18", "2025-04-18", doses=3),
    Case("at most 200 doses", {"repeat": {**period("2024-01-01", "2025-04-01"), **EVERY_DAY}}, "2024-01-01", "2025-04-01", doses=200),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[case.what for case in CASES])
def test_first_and_last(case: Case) -> None:
    found = timing_of(case.timing, draft=case.draft, **(case.more or {}))
    assert (*days(found), found.ongoing, len(found.doses)) == (
        case.first,
        case.last,
        case.ongoing,
        case.doses,
    )


def test_the_date_of_an_order_is_flagged() -> None:
    assert Flag.AUTHORED_DATE in timing_of(None).flags
    assert Flag.AUTHORED_DATE not in timing_of({"event": ["2025-04-20"]}).flags


@pytest.mark.parametrize(
    ("code", "hours"),
    [("QD", 24), ("BID", 12), ("TID", 8), ("QID", 6), ("Q4H", 4), ("Q6H", 6), ("Q8H", 8), ("Q12H", 12), ("QOD", 48), ("WK", 168),
     ("QDHS", 24), ("QAM&HS", 12), ("BID&HS", 8), ("TID&HS", 6), ("BIW", 84), ("TIW", 56), ("Q2W", 336)],
)  # fmt: skip
def test_codes_of_timing(code: str, hours: int) -> None:
    assert timing_of({"code": {"coding": [{"code": code}]}}).interval_hours == hours


@pytest.mark.parametrize(
    ("repeat", "hours"),
    [
        ({"frequency": 1, "period": 1, "periodUnit": "d"}, 24),
        ({"frequency": 2, "period": 1, "periodUnit": "d"}, 12),
        ({"period": 6, "periodUnit": "h"}, 6),
        ({"frequency": 1, "period": 3, "periodUnit": "wk"}, 504),
        ({"timeOfDay": ["08:00:00", "20:00:00"]}, 12),
        ({"when": ["MORN", "NOON", "EVE"]}, 8),
    ],
)
def test_frequency_and_period(repeat: dict[str, Any], hours: int) -> None:
    assert timing_of({"repeat": repeat}).interval_hours == hours


def test_a_draft_with_a_rhythm_that_is_not_read_is_no_single_dose() -> None:
    timing = timing_of({"code": {"coding": [{"code": "ASORDER"}]}}, draft=True)
    assert (timing.ongoing, timing.last, timing.doses) == (True, None, ())


@pytest.mark.parametrize(
    ("timing", "hours"),
    [
        ({"code": {"coding": [{"code": "PRN"}]}}, None),
        ({"code": {"coding": [{"code": "Q6HPRN"}]}}, 6),
        ({"code": {"text": "q8h prn"}}, 8),
        ({"code": {"coding": [{"code": "PRN"}]}, "repeat": {"period": 4, "periodUnit": "h"}}, 4),
        ({"code": {"coding": [{"code": "Q6HPRN"}]}, "repeat": {"period": 6, "periodUnit": "h"}}, 6),
    ],
)
def test_a_code_that_says_as_needed(timing: dict[str, Any], hours: int | None) -> None:
    found = timing_of(timing)
    assert (found.as_needed, found.interval_hours, Flag.PRN in found.flags) == (True, hours, True)


@pytest.mark.parametrize(
    ("code", "repeat"),
    [
        ("QW(1,3,5)", {}),
        ("QW(1,3,5)", {"dayOfWeek": ["mon", "wed", "fri"]}),
        ("TIW", {"dayOfWeek": ["mon", "wed", "fri"]}),
        ("QW(5,3,1)", {"frequency": 3, "period": 1, "periodUnit": "wk"}),
    ],
)
def test_weekdays_by_code(code: str, repeat: dict[str, Any]) -> None:
    bounded = {**period("2025-04-14", "2025-04-20"), **repeat}
    found = timing_of({"code": {"coding": [{"code": code}]}, "repeat": bounded})
    assert [dose.date.isoweekday() for dose in found.doses] == [1, 3, 5]


def test_weekdays_that_differ_are_a_loss() -> None:
    both = {"code": {"coding": [{"code": "QW(1,3)"}]}, "repeat": {"dayOfWeek": ["mon", "fri"]}}
    assert [x.reason.value for x in chart(order("dexamethasone", timing=both)).losses] == ["contradictory"]


def test_code_and_repeat_that_agree() -> None:
    both = {"code": {"coding": [{"code": "BID"}]}, "repeat": {"frequency": 2, "period": 1, "periodUnit": "d"}}
    assert timing_of(both).interval_hours == 12


def test_code_and_repeat_that_differ_are_a_loss() -> None:
    both = {"code": {"coding": [{"code": "BID"}]}, "repeat": {"frequency": 3, "period": 1, "periodUnit": "d"}}
    seen = chart(order("dexamethasone", timing=both))
    assert seen.drugs.all[0].timing.interval_hours is None
    assert [(x.reason.value, x.text) for x in seen.losses] == [
        ("contradictory", "timing code and repeat differ")
    ]


@pytest.mark.parametrize(
    ("fields", "minutes"),
    [
        ({"timing": {"repeat": {"duration": 30, "durationUnit": "min"}}}, 30),
        ({"timing": {"repeat": {"duration": 1, "durationUnit": "h"}}}, 60),
        ({"timing": {"repeat": {"duration": 20, "durationUnit": "min"}}}, 20),
        ({"doses": [{"doseQuantity": q(250, "mL"), "rateQuantity": q(500, "mL/h")}]}, 30),
        ({"doses": [{"doseQuantity": q(250, "mL"), "rateRatio": {"numerator": q(500, "mL"), "denominator": q(1, "h")}}]}, 30),
        ({"doses": [{"doseQuantity": q(100, "mg"), "rateRatio": {"numerator": q(500, "mL"), "denominator": q(2, "h")}}]}, 120),
        ({"timing": {"repeat": {"duration": 1, "durationUnit": "h"}}, "doses": [{"doseQuantity": q(250, "mL"), "rateQuantity": q(500, "mL/h")}]}, 60),
        ({}, None),
    ],
)  # fmt: skip
def test_length_of_one_administration(fields: dict[str, Any], minutes: int | None) -> None:
    found = chart(order("sodium_chloride", **fields)).drugs.all[0].timing.infusion_minutes
    assert found == (None if minutes is None else Decimal(minutes))


@pytest.mark.parametrize(
    "fields", [{"asNeededBoolean": True}, {"asNeededCodeableConcept": {"text": "nausea"}}]
)
def test_as_needed_is_not_scheduled(fields: dict[str, Any]) -> None:
    instruction = {"timing": {"repeat": {**EVERY_DAY, **period("2025-04-18", "2025-04-22")}}, **fields}
    seen = chart(order("dexamethasone", dosageInstruction=[instruction]))
    found = seen.drugs.all[0].timing
    assert found.as_needed
    assert not found.doses
    assert not seen.exposures


def test_several_instructions_are_one_order() -> None:
    steps = [
        {"sequence": 2, "timing": {"event": ["2025-04-20"]}},
        {"sequence": 1, "timing": {"event": ["2025-04-18", "2025-04-19"]}},
    ]
    record = chart(order("dexamethasone", dosageInstruction=steps)).drugs.all[0]
    assert days(record.timing) == ("2025-04-18", "2025-04-20")
    assert len(record.timing.doses) == 3
    assert [days(part.timing) for part in record.instructions] == [
        ("2025-04-18", "2025-04-19"),
        ("2025-04-20", "2025-04-20"),
    ]


@pytest.mark.parametrize("status", ["completed", "stopped"])
def test_an_order_that_is_over_is_not_ongoing(status: str) -> None:
    found = timing_of({"repeat": EVERY_DAY}, status=status)
    assert (found.ongoing, found.last) == (False, None)
