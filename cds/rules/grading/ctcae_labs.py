"""CTCAE v5.0 grades of laboratory values (shared helper; gives no card).

"<a - b" in CTCAE means below a and at or above b. Ratios are not rounded before comparison. An upper limit
is the one of that very result; there is no default. Baseline = last value before the first dose.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any

from cards.finding import Finding
from cds.engine.case import Case
from cds.engine.parameters import Parameters
from cds.engine.rule import rule
from cds.engine.tables import shared_table
from fhir_mapping.chart import Observation, Quantity, Series

RULE = "grading.ctcae-labs"


@rule(RULE)
def ctcae_labs(case: Case) -> Iterator[Finding]:
    """Called by other rules; has nothing to say by itself."""
    yield from ()


@dataclass(frozen=True, slots=True)
class LabGrade:
    """Grade of one result.

    `grade` None: not computable (no value, no reference limit, or a bound that decides nothing).
    `at_least`: a bound (`<1.0`) that leaves a higher grade open. `reference`: absolute, uln or baseline.
    `ratio`: multiple of that reference. `no_limit`: the result carries no reference limit, so grade 1 (low
    terms) or any grade (high terms) is open. `baseline_unknown`: no earlier value, upper limit used.
    """

    observation: Observation
    grade: int | None
    at_least: bool = False
    reference: str = ""
    ratio: Decimal | None = None
    no_limit: bool = False
    baseline_unknown: bool = False


@cache
def _rows(concept: str) -> tuple[Mapping[str, Any], ...]:
    rows = [r for r in shared_table("ctcae_labs").table("cutoffs") if r["concept"] == concept]
    return tuple(sorted(rows, key=lambda r: -int(r["grade"])))


def baseline_before(series: Series, first_dose: datetime) -> Observation | None:
    """Last usable value before the first dose."""
    earlier = series.until(first_dose)
    return next((o for o in earlier if o.when.latest < first_dose and o.value.quantity is not None), None)


def _upper_limit(observation: Observation) -> Quantity | None:
    """The result's own upper limit; a limit of 0 or less limits nothing."""
    uln = observation.uln
    return uln if uln is not None and uln.value > 0 else None


def _multiple(of: Quantity, factor: object) -> Decimal:
    return of.value * Decimal(str(factor))


def grade_lab(observation: Observation, baseline: Observation | None = None) -> LabGrade:
    """Grade of a result of one of the table's concepts. Raises KeyError for another concept."""
    rows = _rows(observation.concept)
    if not rows:
        raise KeyError(observation.concept)
    quantity = observation.value.quantity
    if quantity is None:
        return LabGrade(observation, None)
    if any("below" in row for row in rows):
        return _low(observation, quantity, rows)
    return _high(observation, quantity, rows, baseline)


def _low(observation: Observation, quantity: Quantity, rows: Sequence[Mapping[str, Any]]) -> LabGrade:
    lln = observation.lln
    open_above = False
    for row in rows:
        if "below" in row:
            answer = quantity.below(Decimal(str(row["below"])))
        elif lln is None:
            continue
        else:
            answer = quantity.below(lln.value)
        if answer:
            return LabGrade(observation, int(row["grade"]), open_above, "absolute")
        open_above = open_above or answer is None
    if open_above:
        return LabGrade(observation, None, reference="absolute")
    return LabGrade(observation, 0, reference="absolute", no_limit=lln is None)


def _high(
    observation: Observation,
    quantity: Quantity,
    rows: Sequence[Mapping[str, Any]],
    baseline: Observation | None,
) -> LabGrade:
    uln = _upper_limit(observation)
    base = None if baseline is None else baseline.value.quantity
    base_uln = None if baseline is None else _upper_limit(baseline) or uln
    relative = any("baseline" in row for row in rows)
    abnormal = bool(relative and base is not None and base_uln is not None and base.above(base_uln.value))
    if not abnormal and uln is None and not any("normal_baseline" in r and base is not None for r in rows):
        return LabGrade(observation, None, no_limit=True, baseline_unknown=base is None)
    reference = "baseline" if abnormal else "uln"
    measure = base if abnormal else uln
    ratio = None if measure is None else quantity.value / measure.value
    open_above = False
    for row in rows:
        answers = []
        if abnormal and base is not None:
            if "baseline_from" in row:
                answers.append(quantity.at_least(_multiple(base, row["baseline_from"])))
            elif "baseline" in row:
                answers.append(quantity.above(_multiple(base, row["baseline"])))
        else:
            if uln is not None and "uln" in row:
                answers.append(quantity.above(_multiple(uln, row["uln"])))
            if base is not None and "normal_baseline" in row:
                answers.append(quantity.above(_multiple(base, row["normal_baseline"])))
        if True in answers:
            return LabGrade(
                observation, int(row["grade"]), open_above, reference, ratio, uln is None, base is None
            )
        open_above = open_above or None in answers
    if open_above:
        return LabGrade(observation, None, reference=reference, ratio=ratio, baseline_unknown=base is None)
    return LabGrade(observation, 0, False, reference, ratio, uln is None, base is None)


def times_uln(observation: Observation, factor: Decimal) -> bool | None:
    """Is the result above `factor` x its own upper limit? None: no limit, or a bound that decides nothing."""
    quantity, uln = observation.value.quantity, _upper_limit(observation)
    if quantity is None or uln is None:
        return None
    return quantity.above(uln.value * factor)


def ratio_uln(observation: Observation) -> Decimal | None:
    quantity, uln = observation.value.quantity, _upper_limit(observation)
    if quantity is None or uln is None:
        return None
    return quantity.value / uln.value


def febrile(temperatures: Sequence[Observation], p: Parameters) -> bool:
    """Fever as CTCAE asks of febrile neutropenia: one reading above the single limit, or readings at or above
    the sustained limit for longer than the set time."""
    run_start: datetime | None = None
    span = timedelta(minutes=float(p["fn_sustained_minutes"]))
    for reading in temperatures:
        quantity = reading.value.quantity
        if quantity is None:
            continue
        if quantity.above(p["fn_single_cel"]):
            return True
        if quantity.at_least(p["fn_sustained_cel"]):
            if not reading.when.exact:
                continue
            run_start = run_start or reading.when.earliest
            if reading.when.latest - run_start > span:
                return True
        else:
            run_start = None
    return False
