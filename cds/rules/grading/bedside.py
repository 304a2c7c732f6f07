"""Scores built from items: totals as ranges, the recorded total beside them (ICE, CAPD)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from cds.engine.case import Case
from fhir_mapping.chart import Moment, Value

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Score:
    """One assessment. `low` <= total <= `high`; equal where the total is known. `not_testable` is the coded
    reason why it could not be taken. `contradicted` is a recorded total that the items exclude."""

    when: Moment
    references: tuple[str, ...]
    low: int | None
    high: int | None
    not_testable: str
    missing_items: tuple[str, ...] = ()
    contradicted: int | None = None


def whole_number(value: Value) -> int | None:
    """An integral score, yes/no as 1/0; None where none is written."""
    if value.number is not None:
        return value.number
    return None if value.yes is None else int(value.yes)


@dataclass(frozen=True, slots=True)
class Sheet:
    """One assessment as charted: the total, its items and the reason for none."""

    when: Moment
    total: Value
    items: Mapping[str, Value]
    references: tuple[str, ...]
    not_testable: str


def sheets(
    case: Case, total: str, items: tuple[str, ...], not_testable: str, within: timedelta
) -> list[Sheet]:
    """Assessments of one instrument, oldest first. The chart joins items recorded on their own, and the
    reason for no score, to the total beside them; that reason is cited too."""
    found = []
    for observation in case.chart.series(total):
        values = {
            concept: value for concept in items if (value := observation.component(concept)) is not None
        }
        stated = observation.component(not_testable)
        reason = stated.codes[0] if stated is not None and stated.codes else ""
        own = (
            o.reference
            for o in case.chart.series(not_testable)
            if abs(o.when.latest - observation.when.latest) <= within
        )
        references = tuple(dict.fromkeys((observation.reference, *own)))
        found.append(Sheet(observation.when, observation.value, values, references, reason))
    return found


def score_of(sheet: Sheet, points: Callable[[str, Value], int | None], maxima: Mapping[str, int]) -> Score:
    """The sheet's total: the sum of its items where there are any, else the recorded one. Items that are
    absent span the range; a recorded total that the items allow closes it."""
    recorded = whole_number(sheet.total)
    known = {
        item: p for item, v in sheet.items.items() if item in maxima and (p := points(item, v)) is not None
    }
    missing = tuple(item for item in maxima if item not in known)
    low = sum(known.values())
    high = low + sum(maxima[item] for item in missing)
    allowed = recorded is not None and low <= recorded <= high
    if not known or (allowed and missing):
        return Score(sheet.when, sheet.references, recorded, recorded, sheet.not_testable)
    contradicted = None if allowed else recorded
    return Score(sheet.when, sheet.references, low, high, sheet.not_testable, missing, contradicted)


def newest(
    scores: list[Score],
    at: datetime,
    within: timedelta,
    usable: Callable[[Score], bool] = lambda _: True,
) -> Score | None:
    """Newest assessment not after `at`, not older than `within`, that satisfies `usable`."""
    for score in reversed(scores):
        if score.when.earliest <= at and score.when.reaches(at - within) and usable(score):
            return score
    return None
