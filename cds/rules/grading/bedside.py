"""Scores built from items: totals as ranges, the recorded total beside them (ICE, CAPD)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from cds.engine.case import Case
from fhir_mapping.chart import Moment, Observation, Value

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Score:
    """One assessment. `low` <= total <= `high`; equal where the total is known. `not_testable` is the coded
    reason why it could not be taken. `recorded` is the total as written."""

    when: Moment
    references: tuple[str, ...]
    low: int | None
    high: int | None
    recorded: int | None = None
    not_testable: str = ""
    missing_items: tuple[str, ...] = ()
    disagrees: bool = False


def whole_number(value: Value | None) -> int | None:
    """An integral score, yes/no as 1/0; None where none is written."""
    if value is None:
        return None
    if value.number is not None:
        return value.number
    if value.yes is not None:
        return int(value.yes)
    if value.quantity is not None and not value.quantity.comparator:
        number = value.quantity.value
        return int(number) if number == number.to_integral_value() else None
    return None


@dataclass(frozen=True, slots=True)
class Sheet:
    """One assessment as charted: the total, its items and the reason for none."""

    when: Moment
    total: Observation | None
    items: Mapping[str, Value]
    references: tuple[str, ...]
    not_testable: str


def sheets(
    case: Case, total: str, items: tuple[str, ...], not_testable: str, within: timedelta
) -> list[Sheet]:
    """Assessments of one instrument, oldest first: each total with its items (components, or own
    Observations recorded close to it), and items without a total."""
    chart = case.chart
    totals = list(chart.series(total))
    single = sorted(
        (o for concept in (*items, not_testable) for o in chart.series(concept)),
        key=lambda o: (o.when.latest, o.concept, o.reference),
    )
    anchors: list[tuple[Moment, Observation | None]] = [(o.when, o) for o in totals]
    for item in single:
        near = any(abs(item.when.latest - when.latest) <= within for when, _ in anchors)
        if not near:
            anchors.append((item.when, None))
    found = []
    for when, observation in sorted(anchors, key=lambda a: a[0].latest):
        values: dict[str, Value] = {}
        references: list[str] = []
        reason = ""
        if observation is not None:
            references.append(observation.reference)
            for concept in items:
                value = observation.component(concept)
                if value is not None:
                    values[concept] = value
            stated = observation.component(not_testable)
            reason = stated.codes[0] if stated is not None and stated.codes else ""
        for own in single:
            if abs(own.when.latest - when.latest) > within:
                continue
            if own.concept == not_testable:
                reason = reason or (own.value.codes[0] if own.value.codes else "")
            elif own.concept not in values:
                values[own.concept] = own.value
            else:
                continue
            references.append(own.reference)
        found.append(Sheet(when, observation, values, tuple(dict.fromkeys(references)), reason))
    return found


def score_of(
    sheet: Sheet, points: Callable[[str, Value], int | None], maxima: Mapping[str, int], full: int
) -> Score:
    """The sheet's total: the sum of its items where there are any, else the recorded one. Items that are
    absent span the range; a recorded total that the items allow closes it."""
    recorded = whole_number(sheet.total.value) if sheet.total is not None else None
    if recorded is not None and not 0 <= recorded <= full:
        recorded = None
    known = {
        item: p for item, v in sheet.items.items() if item in maxima and (p := points(item, v)) is not None
    }
    missing = tuple(item for item in maxima if item not in known)
    if not known:
        return Score(sheet.when, sheet.references, recorded, recorded, recorded, sheet.not_testable)
    low = sum(known.values())
    high = low + sum(maxima[item] for item in missing)
    disagrees = recorded is not None and not low <= recorded <= high
    if recorded is not None and not disagrees and missing:
        return Score(sheet.when, sheet.references, recorded, recorded, recorded, sheet.not_testable)
    return Score(sheet.when, sheet.references, low, high, recorded, sheet.not_testable, missing, disagrees)


def newest(scores: list[Score], at: datetime, within: timedelta) -> Score | None:
    """Newest assessment not after `at` and not older than `within`."""
    for score in reversed(scores):
        if score.when.earliest <= at and score.when.latest >= at - within:
            return score
    return None
