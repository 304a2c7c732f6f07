"""Fallback before leukapheresis: five half-lives for drugs that harm T cells and have no row of their own.

The handbook states the principle without a list; the list, its half-lives and how a short interval is shown
are the product's, unverified, and say so on the card.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

from cards.finding import (
    Block,
    Bullet,
    Days,
    Finding,
    Indicator,
    Items,
    Missing,
    Name,
    Outcome,
    Paragraph,
    Scalar,
    msg,
)
from cds.engine.case import Case, once_per_case
from cds.engine.parameters import Parameters
from cds.engine.rule import Hook, rule
from cds.rules.drug_classes import drug_classes
from cds.rules.washout.concerns import drafts_hold, drugs_of_rows
from cds.rules.washout.intervals import Interval, Line, badness, judge, worst_line
from cds.rules.washout.leukapheresis import (
    OVERRIDES,
    applies,
    for_stem_cells,
    intervals,
    ordered_day,
    planned_collection,
)
from cds.rules.washout.uses import Use, draft_uses, uses
from cds.rules.washout.wording import (
    Values,
    first_day,
    last_dose,
    latest_day,
    line_values,
    notes,
    open_ended,
    shown_gap,
    shown_name,
    table,
)
from fhir_mapping.chart import Drafts, reaches_the_body

RULE = "washout.five-half-lives"


@dataclass(frozen=True, slots=True)
class HalfLife:
    """A drug's half-life as configured and the days that five of them take, rounded up."""

    drug: str
    value: Decimal
    unit: str  # d or h
    days: int
    severity: Indicator


def read_half_lives(numbers: Parameters) -> Mapping[str, HalfLife]:
    """The list of drugs. Half-lives in hours become days; five of them are rounded up to whole days."""
    result: dict[str, HalfLife] = {}
    for row in numbers.table("drugs"):
        item = numbers.items[row["half_life"]]
        value = numbers[row["half_life"]]
        days = value * numbers["half_lives"] / (24 if item.unit == "h" else 1)
        drug = row["drug"]
        result[drug] = HalfLife(drug, value, item.unit, math.ceil(days), Indicator(row["severity"]))
    return result


@once_per_case
def half_lives(case: Case) -> Mapping[str, HalfLife]:
    return read_half_lives(case.p(RULE))


def _line(case: Case, use: Use, day: date | None) -> Line | None:
    """The verdict on a use, None where it has a handbook row or is not on the list."""
    entry = half_lives(case).get(use.drug)
    if entry is None or not reaches_the_body(use.route) or worst_line(use, intervals(case), day) is not None:
        return None
    row = Interval("W24", entry.days, entry.days, frozenset(), frozenset({use.drug}))
    return judge(use, row, use.end, day)


def _indicator(case: Case, line: Line) -> Indicator | None:
    if line.outcome is Outcome.NOT_MET:
        return half_lives(case)[line.use.drug].severity
    return Indicator.INFO if line.outcome is Outcome.UNKNOWN else None


def _detail(case: Case, line: Line) -> tuple[Block, ...]:
    entry = half_lives(case)[line.use.drug]
    shown = {"drug": shown_name(line.use), "needed": Days(entry.days)}
    return (
        Paragraph(msg("detail.found", last=last_dose(line), gap=shown_gap(line), **shown)),
        Bullet(
            msg(f"detail.half-life-{entry.unit}", half_life=entry.value, earliest=first_day(line), **shown)
        ),
        Bullet(msg("detail.unverified")),
        *notes((line,)),
    )


def _order_finding(case: Case, line: Line, subject: str, resource: str, day: date) -> Finding:
    entry = half_lives(case)[line.use.drug]
    key = "ongoing" if line.end.ongoing else "last-unknown" if line.end.last is None else "not-met"
    shown = {
        "drug": shown_name(line.use),
        "gap": shown_gap(line),
        "needed": Days(entry.days),
        "day": day,
        "earliest": first_day(line),
    }
    values: Values = {**line_values(line), "leukapheresis": day}
    if line.end.ongoing:
        values["stop_by"] = day - timedelta(days=entry.days)
    return Finding(
        rule=RULE,
        outcome=line.outcome,
        indicator=_indicator(case, line),
        summary=msg(f"summary.{key}", **shown),
        subject=subject,
        detail=_detail(case, line),
        values=values,
        evidence=line.use.evidence(),
        missing=() if line.end.known else (Missing(line.use.concept),),
        resource=resource,
        overrides=OVERRIDES,
        until=line.earliest if line.outcome is Outcome.NOT_MET else None,
        unconcluded=line.outcome is Outcome.UNKNOWN,
    )


def _lines(case: Case, day: date | None) -> tuple[Line, ...]:
    found = (_line(case, use, day) for use in uses(case, day))
    return tuple(sorted((line for line in found if line is not None), key=badness))


@once_per_case
def _with_interval(case: Case) -> frozenset[str]:
    """Drugs that the handbook's rows cover, whatever the route or dose."""
    rows = intervals(case)
    classes = frozenset[str]().union(*(row.classes for row in rows))
    return drug_classes().drugs(*classes).union(*(row.drugs for row in rows))


def not_assessed(case: Case, day: date | None) -> tuple[str, ...]:
    """Cytotoxic and immunosuppressive drugs on the chart that neither list knows, by concept."""
    groups = {row["class"] for row in case.p(RULE).table("not_assessed")}
    result: list[str] = []
    for use in uses(case, day):
        if not use.drug or not reaches_the_body(use.route) or use.drug in half_lives(case):
            continue
        # a member of a regimen is judged as the regimen
        if use.drug in _with_interval(case):
            continue
        if any(not record.concepts.isdisjoint(groups) for record in use.records):
            result.append(use.drug)
    return tuple(dict.fromkeys(result))


def _page(case: Case) -> Iterator[Finding]:
    day = planned_collection(case)
    lines, unknown = _lines(case, day), not_assessed(case, day)
    detail: list[Block] = [*table(lines), Bullet(msg("detail.unverified")), *notes(lines)] if lines else []
    if unknown:
        detail.append(Bullet(msg("detail.not-assessed", drugs=Items(tuple(Name(d) for d in unknown)))))
    if not lines:
        if unknown:
            yield Finding(
                rule=RULE,
                outcome=Outcome.UNKNOWN,
                indicator=Indicator.INFO,
                summary=msg("summary.not-assessed", count=len(unknown)),
                detail=tuple(detail),
                values={"not_assessed": list(unknown)},
            )
        return
    worst = lines[0]
    failing = [line for line in lines if line.outcome is Outcome.NOT_MET]
    earliest = None if open_ended(lines) else latest_day(lines)
    severity = [_indicator(case, line) or Indicator.INFO for line in lines]
    values: Values = dict(line_values(worst))
    values["lines"] = [line_values(line) for line in lines]
    if day is not None:
        values["leukapheresis"] = day
    if earliest is not None:
        values["earliest"] = earliest
    if unknown:
        values["not_assessed"] = list[Scalar](unknown)
    shown = {
        "drug": shown_name(worst.use),
        "needed": Days(worst.interval.low),
        "earliest": earliest if earliest is not None else msg("cell.none"),
    }
    if failing:
        key = "page.ongoing" if worst.end.ongoing else "page.not-met"
    else:
        key = "page.unknown" if worst.outcome is Outcome.UNKNOWN else "page.date"
    yield Finding(
        rule=RULE,
        outcome=worst.outcome,
        indicator=max(severity, key=lambda indicator: indicator.rank),
        summary=msg(f"summary.{key}", **shown),
        detail=tuple(detail),
        values=values,
        evidence=tuple(e for line in lines for e in line.use.evidence()),
        missing=tuple(Missing(line.use.concept) for line in lines if not line.end.known),
        overrides=OVERRIDES,
        until=earliest if failing else None,
    )


def _concerns(drafts: Drafts, numbers: Parameters) -> bool:
    return drafts_hold(drafts, drugs_of_rows(numbers.table("drugs")), frozenset({"leukapheresis"}))


@rule(RULE, concerns=_concerns)
def five_half_lives(case: Case) -> Iterator[Finding]:
    """The same three questions as the 24 rows, for listed drugs without a row."""
    if not applies(case):
        return
    if case.ordering:
        day = planned_collection(case)
        for draft in case.judged_drugs() if day is not None else ():
            first = draft.timing.first
            if day is None or (first is not None and first.first_date > day):
                continue
            for use in draft_uses(case, draft):
                line = _line(case, use, day)
                if line is not None:
                    yield _order_finding(case, line, draft.reference, draft.reference, day)
        for service in case.judged_services("leukapheresis"):
            target = ordered_day(case, service)
            if target is not None and not for_stem_cells(service):
                yield from _collection(case, service.reference, target)
    elif case.hook is Hook.APPOINTMENT_BOOK:
        for booking in case.judged_appointments("leukapheresis"):
            if booking.start is not None and not for_stem_cells(booking):
                yield from _collection(case, booking.reference, booking.start.date)
    else:
        yield from _page(case)


def _collection(case: Case, reference: str, day: date) -> Iterator[Finding]:
    for line in _lines(case, day):
        yield _order_finding(case, line, f"{reference}|{line.use.subject}", reference, day)
