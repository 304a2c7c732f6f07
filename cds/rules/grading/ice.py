"""ICE score: total, range where items are missing, and what it contributes to the ICANS grade.

Orientation 0-4, naming 0-3, one command, one sentence, counting backwards 0-1 each (Lee DW, BBMT
2019;25:625). Age 12 and over without developmental delay.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from cards.finding import Bullet, Evidence, Finding, Items, Missing, Name, Outcome, msg
from cds.engine.case import Case, once_per_case
from cds.engine.rule import rule
from cds.rules.after_cart import therapy_start
from cds.rules.grading.bedside import Score, newest, score_of, sheets, whole_number
from cds.rules.grading.fever import hours
from cds.rules.grading.instrument import Instrument, instrument
from cds.rules.grading.sedation import sedation_at
from fhir_mapping.chart import Value

RULE = "grading.ice"


def _items(case: Case) -> dict[str, int]:
    return {str(r["item"]): int(r["maximum"]) for r in case.p(RULE).table("items")}


@once_per_case
def ice_scores(case: Case) -> list[Score]:
    """Every ICE assessment on the chart, oldest first."""
    p = case.p(RULE)
    maxima = _items(case)
    grouped = {str(r["item"]) for r in p.table("items") if r["group"] == "ice_orientation"}
    within = timedelta(minutes=float(p["items_within_minutes"]))
    found = []
    for sheet in sheets(case, "ice_score", ("ice_orientation", *maxima), "ice_not_testable", within):
        limits = dict(maxima)
        if "ice_orientation" in sheet.items and grouped.isdisjoint(sheet.items):
            limits = {"ice_orientation": len(grouped)} | {k: v for k, v in maxima.items() if k not in grouped}

        def points(item: str, value: Value, limits: dict[str, int] = limits) -> int | None:
            number = whole_number(value)
            return number if number is not None and 0 <= number <= limits[item] else None

        found.append(score_of(sheet, points, limits))
    return found


def ice_at(case: Case, at: datetime) -> Score | None:
    """The newest ICE assessment that is current at `at`."""
    return newest(ice_scores(case), at, hours(case.p(RULE)["max_age_hours"]))


def ice_contribution(case: Case, total: int) -> int:
    """ICANS grade that a total contributes in an arousable patient: 10 none, 7-9 one, 3-6 two, 0-2 three."""
    p = case.p(RULE)
    if total >= p["full_score"]:
        return 0
    if total >= p["grade_1_from"]:
        return 1
    return 2 if total >= p["grade_2_from"] else 3


def previous_total(case: Case, score: Score) -> int | None:
    """The total before this assessment."""
    for earlier in reversed(ice_scores(case)):
        if (
            earlier.when.latest < score.when.earliest
            and earlier.low is not None
            and earlier.low == earlier.high
        ):
            return earlier.low
    return None


@rule(RULE)
def tell_ice(case: Case) -> Iterator[Finding]:
    """The total and its fall, on the ICANS card."""
    if therapy_start(case) is None or instrument(case) is Instrument.CAPD:
        return
    score = ice_at(case, case.now)
    if score is None:
        return
    values: dict[str, str | int | bool] = {}
    detail = []
    if score.low is not None and score.high is not None:
        if score.low == score.high:
            values["total"] = score.low
            values["contributes"] = ice_contribution(case, score.low)
            detail.append(Bullet(msg("total", total=score.low, when=score.when)))
            before = previous_total(case, score)
            if before is not None:
                values["change"] = score.low - before
                if score.low < before:
                    detail.append(Bullet(msg("fall", before=before, total=score.low)))
        else:
            values |= {"total_min": score.low, "total_max": score.high}
            missing_items = Items(tuple(Name(i) for i in score.missing_items))
            detail.append(
                Bullet(msg("range", low=score.low, high=score.high, when=score.when, items=missing_items))
            )
    if score.contradicted is not None:
        values["recorded_total"] = score.contradicted
        detail.append(Bullet(msg("disagrees", recorded=score.contradicted)))
    if score.not_testable:
        values["not_testable"] = score.not_testable
        key = "not-testable.unarousable" if score.not_testable == "unarousable" else "not-testable"
        detail.append(Bullet(msg(key, reason=Name(score.not_testable))))
    if sedation_at(case, score.when.latest):
        values["sedated"] = True
        detail.append(Bullet(msg("sedated")))
    if score.low is None and score.not_testable != "unarousable":
        outcome = Outcome.CANNOT_GRADE
    else:
        outcome = Outcome.INFO if score.low == score.high else Outcome.RANGE
    yield Finding(
        rule=RULE,
        outcome=outcome,
        indicator=None,
        summary=msg("summary"),
        detail=tuple(detail),
        values=values,
        evidence=tuple(Evidence(r, "ice_score", score.low, effective=score.when) for r in score.references),
        missing=tuple(Missing(i) for i in score.missing_items),
    )
