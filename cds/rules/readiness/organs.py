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
from cds.rules.readiness.checklist import NOTHING, Line, Look, Status, newest, with_number
from cds.rules.renal import Clearance, Method
from fhir_mapping.chart import Amount, LossReason, Observation, Quantity

_TENTH = Decimal("0.1")
_HUNDREDTH = Decimal("0.01")


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
    rounded = Quantity(quantity.value.quantize(_HUNDREDTH), quantity.unit, quantity.comparator)
    cell: Shown = msg("common.checklist.value", value=rounded, when=look.observation.when)
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
        brief=rounded,
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
        ratio = (quantity.value / found.uln.value).quantize(_TENTH)
        if quantity.comparator:
            cells += look.named
        else:
            values[f"{concept}_uln_multiple"] = ratio
            cells.append(msg("common.checklist.multiple", test=Name(concept), ratio=ratio, when=found.when))
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


def clearance_brief(renal: Clearance) -> Shown:
    assert renal.value is not None
    return Amount(renal.value.quantize(_TENTH).normalize(), renal.unit)


def clearance_cell(renal: Clearance, at_limit: bool) -> Shown:
    assert renal.value is not None
    method = renal.method or Method.MEASURED
    cell = msg(
        "common.checklist.clearance",
        value=Amount(renal.value.quantize(_TENTH), renal.unit),
        method=msg(f"common.checklist.method.{method.value}"),
    )
    return msg("common.checklist.at-limit", what=cell) if at_limit else cell


def renal_values(renal: Clearance) -> dict[str, Scalar]:
    assert renal.value is not None
    method = renal.method or Method.MEASURED
    return {"clearance_ml_min": renal.value, "clearance_method": method.value}


def recorded(observation: Observation) -> bool:
    return not observation.value.empty


def days(p: Parameters, name: str) -> timedelta:
    return timedelta(days=p.int(name))
