"""Rows on blood counts, liver and kidney that the work-ups before collection and lymphodepletion share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal

from cards.finding import Evidence, Indicator, Items, Message, Missing, Name, Scalar, Shown, msg
from cds.engine.case import Case
from cds.engine.parameters import Parameters
from cds.rules import evidence as facts
from cds.rules.dosing.white_cells import per_ul
from cds.rules.readiness.checklist import NOTHING, Line, Look, Status, newest, rounded, with_number
from cds.rules.renal import Method, clearance, measured_bound
from fhir_mapping.chart import Amount, LossReason, Moment, Observation, Quantity

_TENTH = Decimal("0.1")
_HUNDREDTH = Decimal("0.01")
_KIDNEY_TESTS = ("creatinine", "creatinine_clearance", "creatinine_clearance_bsa")


def count_line(
    row: str,
    look: Look,
    limit: Decimal,
    key: str,
    *,
    otherwise: Status = Status.NOT_MET,
    weight: Indicator | None = None,
    notes: tuple[Message, ...] = (),
    tests: tuple[str, ...] = (),
) -> Line:
    """A cell count per microlitre that must lie above its limit; `key` names it in the values."""
    cells = None if look.observation is None else per_ul(look.observation)
    good = None if cells is None else cells.above(limit)
    limits: Mapping[str, Shown] = {"limit": Amount(limit, "/uL")}
    if cells is None or good is None:
        return _open(row, look, limits, tests, weight)
    cell = _counted(look, cells)
    if cells.value == limit and not cells.comparator:
        cell = msg("common.checklist.at-limit", what=cell)
    status = Status.MET if good else otherwise
    shown_weight = None if good else weight
    return Line(
        row,
        status,
        cell,
        limits,
        () if good else notes,
        shown_weight,
        {key: facts.figure(cells)},
        look.evidence,
        brief=cells,
    )


def _counted(look: Look, cells: Quantity) -> Shown:
    assert look.observation is not None
    return msg("common.checklist.value", value=cells, when=look.observation.when)


def _open(
    row: str,
    look: Look,
    limits: Mapping[str, Shown],
    tests: tuple[str, ...],
    weight: Indicator | None = None,
) -> Line:
    missing = look.missing
    if not missing and look.observation is not None:
        bound = look.quantity is not None and bool(look.quantity.comparator)
        reason = LossReason.NOT_ON_CHART if bound else LossReason.UNIT
        missing = (Missing(look.observation.concept, reason, look.observation.reference),)
    return Line(
        row,
        Status.UNKNOWN,
        look.shown,
        limits,
        weight=weight,
        missing=missing,
        evidence=look.evidence,
        tests=tests,
    )


def limit_line(
    row: str,
    look: Look,
    judge: Callable[[Quantity], bool | None],
    limit: Amount,
    key: str,
    *,
    notes: tuple[Message, ...] = (),
    tests: tuple[str, ...] = (),
) -> Line:
    """A number judged by `judge`, shown beside its limit."""
    quantity = look.quantity
    good = None if quantity is None else judge(quantity)
    limits: Mapping[str, Shown] = {"limit": limit}
    if quantity is None or good is None or look.observation is None:
        return _open(row, look, limits, tests)
    number = rounded(quantity.value, limit.value, _HUNDREDTH)
    brief = Quantity(number, quantity.unit, quantity.comparator)
    cell: Shown = msg("common.checklist.value", value=brief, when=look.observation.when)
    if not good and quantity.value == limit.value:
        cell = msg("common.checklist.at-limit", what=cell)
    status = Status.MET if good else Status.NOT_MET
    return Line(
        row,
        status,
        cell,
        limits,
        () if good else notes,
        None,
        {key: facts.figure(quantity)},
        look.evidence,
        brief=brief,
    )


def enzyme_line(
    case: Case,
    row: str,
    within: timedelta,
    judge: Callable[[Quantity, Decimal], bool | None],
    multiple: Decimal,
    *,
    after: datetime | None = None,
    notes: tuple[Message, ...] = (),
) -> Line:
    """ALT and AST as multiples of their own upper limit; both must pass, either fails."""
    cells: list[Shown] = []
    missing: list[Missing] = []
    evidence: list[Evidence] = []
    values: dict[str, Scalar] = {}
    tests: list[str] = []
    failed: list[Shown] = []
    for concept in ("alt", "ast"):
        look = newest(case, concept, within, with_number, after)
        found, quantity = look.observation, look.quantity
        if found is None or quantity is None:
            missing += look.missing
            tests.append(concept)
            cells += look.named
            continue
        evidence += look.evidence
        if found.uln is None or found.uln.value <= 0:
            missing.append(Missing(concept, LossReason.NO_REFERENCE_RANGE, found.reference))
            cells += look.named
            continue
        good = judge(quantity, found.uln.value * multiple)
        ratio = rounded(quantity.value / found.uln.value, multiple, _TENTH)
        if quantity.comparator:
            cells += look.named
        else:
            values[f"{concept}_uln_multiple"] = ratio
            cell = msg("common.checklist.multiple", test=Name(concept), ratio=ratio, when=found.when)
            at_limit = good is False and ratio == multiple
            cells.append(msg("common.checklist.at-limit", what=cell) if at_limit else cell)
        if good is None:  # a bound that leaves both open
            missing.append(Missing(concept, resource=found.reference))
        if good is False:
            failed.append(msg(f"common.checklist.brief.{concept}", ratio=ratio))
    status = Status.NOT_MET if failed else (Status.UNKNOWN if missing else Status.MET)
    return Line(
        row,
        status,
        Items(tuple(cells)) if cells else NOTHING,
        {"limit": multiple},
        notes if failed else (),
        values=values,
        evidence=tuple(evidence),
        missing=tuple(missing),
        tests=tuple(tests),
        brief=Items(tuple(failed)) if failed else None,
    )


def kidney_line(
    case: Case,
    row: str,
    p: Parameters,
    judge: Callable[[Quantity], Status | None],
    limits: Mapping[str, Shown],
    limit: Decimal,
    *,
    notes: Mapping[Status, Message] | None = None,
    weight: Indicator | None = None,
    tests: tuple[str, ...] = (),
    after: datetime | None = None,
) -> Line:
    """Creatinine clearance, measured or estimated, from `after` on.

    A measured bound ("< 30 mL/min") counts where `judge` places it. `weight` is that of a row not met;
    `tests` are ordered where creatinine lacks.
    """

    def judged(
        status: Status,
        cell: Shown,
        brief: Shown,
        number: Scalar,
        method: Method,
        evidence: tuple[Evidence, ...],
    ) -> Line:
        said = (notes or {}).get(status)
        own = weight if status is Status.NOT_MET else None
        values: dict[str, Scalar] = {"clearance_ml_min": number, "clearance_method": method.value}
        why = () if said is None else (said,)
        return Line(row, status, cell, limits, why, own, values, evidence, brief=brief)

    chemistry = p.int("chemistry_max_age_days")
    bound = measured_bound(case, chemistry)
    told = None if bound is None else bound.value.quantity
    status = None if told is None else judge(told)
    if bound is not None and told is not None and status is not None and _from(bound.when, after):
        shown, fact = facts.shown(told), facts.of_observation(bound)
        return judged(status, shown, shown, facts.figure(told), Method.MEASURED, (fact,))
    renal = clearance(case, chemistry, p.int("body_max_age_days"))
    tested = (e for e in renal.evidence if e.concept in _KIDNEY_TESTS and e.effective is not None)
    old = [e for e in tested if not _from(e.effective, after)]
    status = None if renal.value is None else judge(Quantity(renal.value, renal.unit))
    if renal.value is None or status is None or old:
        missing = renal.missing or tuple(Missing("creatinine", LossReason.STALE, e.reference) for e in old)
        lacks = any(m.concept == "creatinine" for m in missing)
        return Line(
            row,
            Status.UNKNOWN,
            limits=limits,
            missing=missing,
            evidence=() if old else renal.evidence,
            tests=tests if lacks else (),
        )
    method = renal.method or Method.MEASURED
    amount = Amount(rounded(renal.value, limit, _TENTH), renal.unit)
    cell: Shown = msg(
        "common.checklist.clearance", value=amount, method=msg(f"common.checklist.method.{method.value}")
    )
    if status is Status.NOT_MET and renal.value == limit:
        cell = msg("common.checklist.at-limit", what=cell)
    return judged(status, cell, amount, renal.value, method, renal.evidence)


def _from(when: Moment | None, after: datetime | None) -> bool:
    return after is None or when is None or when.latest >= after


def recorded(observation: Observation) -> bool:
    return not observation.value.empty


def days(case: Case, p: Parameters, name: str) -> timedelta:
    return case.days_back(p.int(name))
