"""CAPD: total of eight items, range where items are missing (Traube C, Crit Care Med 2014;42:656).

Below 12 years, or at any age with developmental delay (Lee DW, BBMT 2019;25:625).
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
from cds.rules.grading.instrument import Instrument, developmental_delay, instrument
from cds.rules.grading.sedation import sedation_at
from fhir_mapping.chart import Value

RULE = "grading.capd"


@once_per_case
def capd_scores(case: Case) -> list[Score]:
    """Every CAPD assessment on the chart, oldest first. Coded answers are scored (the first four items run
    the other way); numbers are points already scored."""
    p = case.p(RULE)
    most = p.int("item_maximum")
    reversed_items = {str(r["item"]): bool(r["reversed"]) for r in p.table("items")}
    answers = {str(r["answer"]): int(r["points"]) for r in p.table("answers")}

    def points(item: str, value: Value) -> int | None:
        for code in value.codes:
            if code in answers:
                return most - answers[code] if reversed_items[item] else answers[code]
        number = whole_number(value)
        return number if number is not None and 0 <= number <= most else None

    maxima = dict.fromkeys(reversed_items, most)
    within = timedelta(minutes=float(case.p("grading.ice")["items_within_minutes"]))
    found = sheets(case, "capd_score", tuple(maxima), "capd_not_testable", within)
    return [score_of(sheet, points, maxima) for sheet in found]


def capd_at(case: Case, at: datetime) -> Score | None:
    """The newest CAPD assessment that is current at `at`."""
    return newest(capd_scores(case), at, hours(case.p(RULE)["max_age_hours"]))


def capd_contribution(case: Case, total: int) -> int:
    """ICANS grade that a total contributes: 0 none, 1-8 one, 9 and more three."""
    p = case.p(RULE)
    if total >= p["grade_3_from"]:
        return 3
    return 1 if total >= p["grade_1_from"] else 0


@rule(RULE)
def tell_capd(case: Case) -> Iterator[Finding]:
    """The total, on the ICANS card."""
    if therapy_start(case) is None or instrument(case) is Instrument.ICE:
        return
    score = capd_at(case, case.now)
    if score is None:
        return
    values: dict[str, str | int | bool] = {}
    detail = []
    if score.low is not None and score.high is not None:
        if score.low == score.high:
            values["total"] = score.low
            values["contributes"] = capd_contribution(case, score.low)
            detail.append(Bullet(msg("total", total=score.low, when=score.when)))
        else:
            values |= {"total_min": score.low, "total_max": score.high}
            items = Items(tuple(Name(i) for i in score.missing_items))
            detail.append(Bullet(msg("range", low=score.low, high=score.high, when=score.when, items=items)))
    if score.contradicted is not None:
        values["recorded_total"] = score.contradicted
        detail.append(Bullet(msg("disagrees", recorded=score.contradicted)))
    if score.not_testable:
        values["not_testable"] = score.not_testable
        detail.append(Bullet(msg("not-testable", reason=Name(score.not_testable))))
    if sedation_at(case, score.when.latest):
        values["sedated"] = True
        detail.append(Bullet(msg("sedated")))
    age = case.chart.patient.age(case.today)
    if age is not None and age[0] < case.p(RULE)["anchors_below_years"]:
        detail.append(Bullet(msg("anchors")))
    if developmental_delay(case):
        detail.append(Bullet(msg("baseline")))
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
        evidence=tuple(Evidence(r, "capd_score", score.low, effective=score.when) for r in score.references),
        missing=tuple(Missing(i) for i in score.missing_items),
    )
