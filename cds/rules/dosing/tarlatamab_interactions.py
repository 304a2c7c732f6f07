"""Combinations with tarlatamab to avoid: the named list only, matched by ingredient and route."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from cards.finding import (
    Bullet,
    Days,
    Delete,
    Evidence,
    Finding,
    Indicator,
    Items,
    Message,
    Missing,
    Name,
    Outcome,
    Paragraph,
    Scalar,
    Shown,
    Suggestion,
    msg,
)
from cds.engine.case import Case
from cds.engine.rule import rule
from cds.rules.bispecific.tarlatamab import DRUG, last_exposure, on_treatment
from cds.rules.evidence import of_drug
from fhir_mapping.chart import DrugRecord, DrugSource, DrugState, Route

RULE = "dosing.tarlatamab-interactions"


class Match(StrEnum):
    """Does a record fall under the list's scope?"""

    YES = "yes"
    NO = "no"
    ROUTE_OPEN = "route-open"


@dataclass(frozen=True, slots=True)
class Hit:
    """One partner met. `row` says why, `gap` days where a time decides."""

    partner: str
    row: str
    indicator: Indicator
    record: DrugRecord
    gap: int | None = None


def _scope(record: DrugRecord, row: Mapping[str, Any]) -> Match:
    route, scope = record.route, row["scope"]
    if scope == "any":
        return Match.YES
    if scope == "topical":
        if row["partner"] in record.concepts or route is Route.TOPICAL:
            return Match.YES
        return Match.ROUTE_OPEN if route is None and row.get("ask") else Match.NO
    if route is None:
        return Match.ROUTE_OPEN if row.get("ask") else Match.YES
    return Match.YES if route.systemic else Match.NO


def _partners(case: Case) -> Iterator[tuple[str, Mapping[str, Any], frozenset[str]]]:
    for row in case.p(RULE).table("partners"):
        if not row.get("elsewhere"):
            yield str(row["partner"]), row, frozenset(str(c) for c in row["concepts"])


@rule(RULE)
def interactions(case: Case) -> Iterator[Finding]:
    drafts = case.judged_drugs(DRUG)
    if drafts:
        hits = list(_with_tarlatamab(case))
        if hits:
            yield _finding(case, hits, drafts[0].reference, tuple(d.reference for d in drafts))
    for record in case.judged_drugs():
        if hit := _drafted_partner(case, record):
            yield _finding(case, [hit], record.reference, (record.reference,))


def _with_tarlatamab(case: Case) -> Iterator[Hit]:
    """Partners in force, lately given, or drafted beside it but not judged now."""
    judged = {record.reference for record in case.judged_drugs()}
    for partner, row, concepts in _partners(case):
        found: dict[str, Hit] = {}
        beside = [d for d in case.chart.drafts.drugs.of(*concepts) if d.reference not in judged]
        for record in (*case.chart.drugs.of(*concepts), *beside):
            match = _scope(record, row)
            if match is Match.NO:
                continue
            hit = _standing(case, partner, row, record, match)
            if hit is not None:
                known = found.get(partner)
                if known is None or hit.indicator.rank > known.indicator.rank:
                    found[partner] = hit
        yield from found.values()


def _standing(
    case: Case, partner: str, row: Mapping[str, Any], record: DrugRecord, match: Match
) -> Hit | None:
    p = case.p(RULE)
    recent, long = p.int("partner_days"), p.int("long_acting_days")
    worst = Indicator.CRITICAL if match is Match.YES else Indicator.WARNING
    if record.in_force or record.state is DrugState.DRAFT:
        planned_end = record.timing.last
        over = record.source is DrugSource.ORDER and not record.timing.ongoing and planned_end is not None
        if not (over and planned_end is not None and (case.today - planned_end.date).days > recent):
            return Hit(partner, "active" if match is Match.YES else "route", worst, record)
    ended = record.timing.last or record.timing.first
    if not record.given and record.state not in (DrugState.COMPLETED, DrugState.ACTIVE, DrugState.STOPPED):
        return None
    if ended is None:
        return None
    gap = (case.today - ended.date).days
    if gap <= recent:
        return Hit(partner, "recent" if match is Match.YES else "route", worst, record, max(gap, 0))
    if row.get("long") and gap <= long and match is Match.YES:
        return Hit(partner, "long-acting", Indicator.INFO, record, gap)
    return None


def _drafted_partner(case: Case, record: DrugRecord) -> Hit | None:
    """A partner drafted on treatment, beside a tarlatamab draft, or lately after the last dose."""
    for partner, row, concepts in _partners(case):
        if not record.is_any(concepts):
            continue
        match = _scope(record, row)
        if match is Match.NO:
            continue
        if on_treatment(case) or case.chart.drafts.drugs.of(DRUG):
            indicator = Indicator.CRITICAL if match is Match.YES else Indicator.WARNING
            return Hit(partner, "drafted" if match is Match.YES else "route", indicator, record)
        last = last_exposure(case)
        if last is None or last.day is None:
            continue
        gap = (case.today - last.day).days
        if gap <= case.p(RULE).int("late_partner_days"):
            return Hit(partner, "late", Indicator.INFO, record, gap)
    return None


def _outcome(indicator: Indicator) -> Outcome:
    if indicator is Indicator.CRITICAL:
        return Outcome.CONTRAINDICATED
    return Outcome.REVIEW if indicator is Indicator.WARNING else Outcome.INFO


def _line(hit: Hit) -> Message:
    values: dict[str, Shown] = {"partner": Name(hit.partner), "drug": Name(DRUG)}
    if hit.gap is not None and hit.row in ("recent", "long-acting", "late"):
        values["gap"] = Days(hit.gap)
    return msg(f"row.{hit.row}", **values)


def _finding(case: Case, hits: list[Hit], reference: str, deletes: tuple[str, ...]) -> Finding:
    hits.sort(key=lambda h: (-h.indicator.rank, h.partner))
    worst = hits[0]
    same = [h for h in hits if h.indicator is worst.indicator]
    key = {Indicator.CRITICAL: "avoid", Indicator.WARNING: "route", Indicator.INFO: "note"}[worst.indicator]
    values: dict[str, Scalar | list[Scalar]] = {
        "row": worst.row,
        "partner": worst.partner,
        "partners": [h.partner for h in hits],
    }
    if worst.gap is not None:
        values["gap_days"] = worst.gap
    suggestions: tuple[Suggestion, ...] = ()
    if worst.indicator is Indicator.CRITICAL:
        actions = tuple(Delete(each) for each in deletes)
        suggestions = (Suggestion("delete", msg("suggest.delete"), actions, recommended=True),)
    missing: tuple[Missing, ...] = ()
    if worst.row == "route":
        missing = (Missing("route", resource=worst.record.reference),)
    evidence: list[Evidence] = [of_drug(h.record) for h in hits]
    last = last_exposure(case)
    if last is not None:
        evidence += [of_drug(record) for record in last.records]
    return Finding(
        rule=RULE,
        outcome=_outcome(worst.indicator),
        indicator=worst.indicator,
        summary=msg(
            f"summary.{key}", drug=Name(DRUG), partners=Items(tuple(Name(h.partner) for h in same[:3]))
        ),
        subject=reference,
        detail=(*(Bullet(_line(h)) for h in hits), Paragraph(msg("criterion"))),
        values=values,
        evidence=tuple(evidence),
        missing=missing,
        resource=reference,
        suggestions=suggestions,
    )
