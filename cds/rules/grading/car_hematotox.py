"""CAR-HEMATOTOX: five values before lymphodepletion, 0 to 7 points (Rejeski K, Blood 2021;138:2499)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

from cards.finding import (
    Block,
    Bullet,
    Evidence,
    Finding,
    Indicator,
    Message,
    Missing,
    Name,
    Outcome,
    Paragraph,
    Table,
    msg,
)
from cds.engine.case import Case, once_per_case
from cds.engine.rule import rule
from cds.rules.evidence import of_observation, shown
from fhir_mapping.chart import Observation, Quantity

RULE = "grading.car-hematotox"
ITEMS = ("platelets", "anc", "hemoglobin", "crp", "ferritin")
VALIDATED = ("dlbcl", "mantle_cell_lymphoma", "multiple_myeloma")


class Group(StrEnum):
    LOW = "low"
    HIGH = "high"
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class Item:
    """One of the five values; points from `low` to `high` (equal when the value decides)."""

    concept: str
    observation: Observation | None
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Score:
    """0 to 7 points. `group` is decided as soon as what is known suffices."""

    items: tuple[Item, ...]
    group: Group

    @property
    def low(self) -> int:
        return sum(item.low for item in self.items)

    @property
    def high(self) -> int:
        return sum(item.high for item in self.items)

    @property
    def known(self) -> bool:
        return any(item.observation is not None for item in self.items)

    @property
    def missing(self) -> tuple[str, ...]:
        return tuple(item.concept for item in self.items if item.low != item.high)

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        return tuple(of_observation(i.observation) for i in self.items if i.observation is not None)


def _meets(quantity: Quantity, row: Mapping[str, Any]) -> bool | None:
    if "at_most" in row:
        return quantity.at_most(Decimal(str(row["at_most"])))
    if "below" in row:
        return quantity.below(Decimal(str(row["below"])))
    if "at_least" in row:
        return quantity.at_least(Decimal(str(row["at_least"])))
    return quantity.above(Decimal(str(row["above"])))


def _item(case: Case, concept: str, start: datetime, end: datetime) -> Item:
    """Points of one value: the last one in the window wins."""
    rows = [row for row in case.p(RULE).table("points") if row["item"] == concept]
    most = max(int(row["points"]) for row in rows)
    found = [o for o in case.chart.series(concept).between(start, end) if o.value.quantity is not None]
    if not found:
        return Item(concept, None, 0, most)
    quantity = found[-1].value.quantity
    assert quantity is not None
    answers = [(int(row["points"]), _meets(quantity, row)) for row in rows]
    low = max((points for points, meets in answers if meets), default=0)
    high = max((points for points, meets in answers if meets is not False), default=0)
    return Item(concept, found[-1], low, high)


@once_per_case
def window(case: Case) -> tuple[datetime, datetime] | None:
    """From when to when the five values count; None without a lymphodepletion day and without D0."""
    p = case.p(RULE)
    course = case.chart.course
    first = course.ldc_first
    if first is not None and first.when is not None:
        start = first.when.earliest - timedelta(days=p.int("window_days_before_ldc"))
        start = start.replace(hour=0, minute=0, second=0, microsecond=0)
        end = first.when.latest if first.when.exact else first.when.earliest + timedelta(hours=23, minutes=59)
        return start, min(end, case.now)
    day0 = course.day0_any
    if day0 is None:
        return None
    midnight = case.now.replace(hour=0, minute=0, second=0, microsecond=0)
    begin = midnight + timedelta(days=(day0 - case.today).days)
    start = begin + timedelta(days=p.int("window_from_day"))
    end = begin + timedelta(days=p.int("window_to_day") + 1) - timedelta(minutes=1)
    return start, min(end, case.now)


@once_per_case
def hematotox(case: Case) -> Score | None:
    """The computed score; None without a window."""
    span = window(case)
    if span is None or span[0] > case.now:
        return None
    items = tuple(_item(case, concept, *span) for concept in ITEMS)
    limit = case.p(RULE).int("high_from")
    low, high = sum(i.low for i in items), sum(i.high for i in items)
    group = Group.HIGH if low >= limit else Group.LOW if high < limit else Group.UNCLEAR
    return Score(items, group)


@once_per_case
def recorded_score(case: Case) -> tuple[int, Observation] | None:
    """The score as a clinician recorded it (S17), newest first."""
    for observation in reversed(case.chart.series("car_hematotox")):
        number = observation.value.number
        if number is not None and 0 <= number <= 7:
            return number, observation
    return None


def risk_group(case: Case) -> Group:
    """High or low by the computed score, else by the recorded one, else unclear."""
    score = hematotox(case)
    if score is not None and score.group is not Group.UNCLEAR:
        return score.group
    recorded = recorded_score(case)
    if recorded is None:
        return Group.UNCLEAR
    return Group.HIGH if recorded[0] >= case.p(RULE).int("high_from") else Group.LOW


def _disease(case: Case) -> str:
    return next((d for d in VALIDATED if case.chart.conditions.of(d)), "")


def _table(score: Score) -> Table:
    header = (msg("head.item"), msg("head.value"), msg("head.points"))
    rows = []
    for item in score.items:
        quantity = item.observation.value.quantity if item.observation is not None else None
        points = (
            msg("points", points=item.low) if item.low == item.high else msg("points.range", high=item.high)
        )
        rows.append((Name(item.concept), msg("not-found") if quantity is None else shown(quantity), points))
    return Table(header, tuple(rows))


def _outlook(case: Case, group: Group) -> Iterator[Block]:
    disease = _disease(case)
    if not disease:
        yield Bullet(msg("outlook.reference"))
        return
    row = case.p(RULE).row("outcomes", disease=disease, group=group.value)
    yield Bullet(
        msg(
            "outlook",
            disease=Name(disease),
            days=str(row["anc_days"]),
            aplastic=Decimal(str(row["aplastic"])),
            infection=Decimal(str(row["severe_infection"])),
            bacterial=Decimal(str(row["bacterial"])),
        )
    )


def _drafted(case: Case) -> str:
    """The lymphodepletion order under judgement, "" where none is."""
    judged = {draft.reference for draft in case.judged_drugs()}
    return next((r.reference for r in case.chart.course.ldc_records if r.reference in judged), "")


def _applies(case: Case) -> bool:
    """From shortly before lymphodepletion to the day of the infusion; on order hooks, its own orders."""
    course = case.chart.course
    if case.ordering:
        return course.infused is None and bool(_drafted(case))
    if course.infused is not None and course.day(case.today) != 0:
        return False
    first = course.ldc_first
    if first is not None and first.date is not None:
        return case.today >= first.date - timedelta(days=case.p(RULE).int("shown_before_ldc_days"))
    day0 = course.day0_any
    return day0 is not None and case.p(RULE).int("window_from_day") <= (case.today - day0).days <= 0


def _summary(score: Score) -> Message:
    if score.group is Group.UNCLEAR:
        return msg("summary.unclear", low=score.low, high=score.high)
    if score.low != score.high:
        return msg(f"summary.{score.group.value}-range", low=score.low, high=score.high)
    return msg(f"summary.{score.group.value}", score=score.low)


@rule(RULE)
def grade_car_hematotox(case: Case) -> Iterator[Finding]:
    """The score between lymphodepletion and infusion."""
    if not _applies(case):
        return
    score = hematotox(case)
    if score is None:
        return
    values: dict[str, str | int] = {"row": score.group.value}
    values |= {f"{item.concept}_points": item.low for item in score.items if item.low == item.high}
    if score.low == score.high:
        values["score"] = score.low
    else:
        values |= {"score_min": score.low, "score_max": score.high}
    recorded = recorded_score(case)
    detail: list[Block] = [_table(score)]
    if recorded is not None:
        values["recorded_score"] = recorded[0]
        detail.append(Bullet(msg("recorded", score=recorded[0], when=recorded[1].when)))
    group, summary = risk_group(case), _summary(score)
    if group is not score.group and recorded is not None:
        summary = msg(f"summary.recorded-{group.value}", score=recorded[0])
        values["row"] = f"recorded-{group.value}"
    if group is not Group.UNCLEAR:
        detail += _outlook(case, group)
    if group is Group.HIGH:
        detail.append(Bullet(msg("high.do")))
    detail.append(Paragraph(msg("criterion", days=case.p(RULE).int("window_days_before_ldc"))))
    missing = tuple(Missing(concept) for concept in score.missing)
    resource = _drafted(case) if case.ordering else ""
    if group is Group.UNCLEAR:
        yield Finding(
            rule=RULE,
            outcome=Outcome.RANGE,
            indicator=Indicator.INFO if case.ordering else None,
            summary=summary,
            detail=tuple(detail),
            values=values,
            evidence=score.evidence,
            missing=missing,
            resource=resource,
            unconcluded=True,
        )
        return
    high = group is Group.HIGH
    yield Finding(
        rule=RULE,
        outcome=Outcome.HIGH if high else Outcome.LOW,
        indicator=Indicator.WARNING if high else Indicator.INFO,
        summary=summary,
        detail=tuple(detail),
        values=values,
        evidence=score.evidence,
        missing=missing,
        resource=resource,
    )
