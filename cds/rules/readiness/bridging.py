"""Bridging between collection and lymphodepletion: need, intensity, number of cycles, target antigen."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from cards.finding import (
    Block,
    Bullet,
    Create,
    Days,
    Evidence,
    Finding,
    Indicator,
    Name,
    Outcome,
    Paragraph,
    Scalar,
    ServiceProposal,
    Shown,
    Suggestion,
    msg,
)
from cds.engine.case import Case
from cds.engine.rule import rule
from cds.rules.disease import disease, disease_evidence
from cds.rules.evidence import of_observation
from cds.rules.readiness.bridging_course import bridging_time, cycles, drafts, given
from cds.rules.readiness.checklist import OVERRIDES, newest, with_number
from cds.rules.readiness.phase import collection_date
from fhir_mapping.chart import DrugRecord

RULE = "readiness.bridging"


def _intensity(case: Case) -> tuple[str, int | None, tuple[Evidence, ...]]:
    look = newest(case, "expected_marrow_suppression_days", None, with_number)
    if look.observation is None or look.quantity is None:
        return "", None, ()
    high = look.quantity.above(case.p(RULE)["high_intensity_above_days"])
    word = {True: "high", False: "low", None: ""}[high]
    return word, int(look.quantity.value), (of_observation(look.observation),)


def _planned(draft: DrugRecord, case: Case) -> list[tuple[date, frozenset[str]]]:
    days = {m.date for m in draft.timing.doses} or {
        draft.timing.first.date if draft.timing.first is not None else case.today
    }
    return [(day, draft.regimens) for day in sorted(days)]


def _page(case: Case) -> Finding:
    done = given(case)
    p = case.p(RULE)
    number = cycles(((d.day, d.regimens) for d in done), p.int("cycle_days"))
    start = collection_date(case)
    word, days, evidence = _intensity(case)
    values: dict[str, Scalar] = {"row": "waiting", "cycles": number}
    detail: list[Block] = [Paragraph(msg("detail.aim"))]
    waited = None if start is None else (case.today - start).days
    if waited is not None:
        values["days_since_collection"] = waited
    burden = newest(case, "tumor_burden", case.days_back(p.int("tumour_max_age_days")))
    wait = newest(case, "expected_vein_to_vein_days", None, with_number)
    low = burden.observation is not None and "low" in burden.observation.value.codes
    if low:
        values["row"] = "omit"
        shown: Shown = wait.quantity if wait.quantity is not None else msg("none")
        detail.append(Bullet(msg("note.omit", days=shown)))
    if word and days is not None:
        values |= {"intensity": word, "suppression_days": days}
        detail.append(
            Bullet(msg(f"note.intensity-{word}", days=Days(days), limit=p.int("high_intensity_above_days")))
        )
    if number >= p["many_cycles"]:
        detail.append(Bullet(msg("note.cycles", cycles=number, limit=p.int("many_cycles"))))
    detail += [Bullet(msg("note.cohort")), Bullet(msg("note.referring"))]
    return Finding(
        rule=RULE,
        outcome=Outcome.INFO,
        indicator=Indicator.INFO,
        summary=msg("summary.page", days=Days(waited), cycles=number)
        if waited is not None
        else msg("summary.page-undated", cycles=number),
        detail=tuple(detail),
        values=dict(values),
        evidence=(*burden.evidence, *wait.evidence, *evidence, *(d.evidence for d in done)),
    )


def _order(case: Case, draft: DrugRecord, first: bool) -> Finding:
    p, done = case.p(RULE), given(case)
    planned = [(day, names) for d in drafts(case) for day, names in _planned(d, case)]
    number = cycles([*((d.day, d.regimens) for d in done), *planned], p.int("cycle_days"))
    word, days, evidence = _intensity(case)
    values: dict[str, Scalar] = {"row": "first", "cycles": number}
    detail: list[Block] = []
    outcome, indicator, key = Outcome.PASS, None, "summary.first"
    suggestions: tuple[Suggestion, ...] = ()
    if word and days is not None:
        values |= {"intensity": word, "suppression_days": days}
        detail.append(
            Bullet(msg(f"note.intensity-{word}", days=Days(days), limit=p.int("high_intensity_above_days")))
        )
        if word == "high" and first:
            outcome, indicator, key, values["row"] = (
                Outcome.INFO,
                Indicator.INFO,
                "summary.intensity",
                "intensity",
            )
            if disease(case).lymphoma:
                detail.append(Bullet(msg("note.toxic")))
    if "inotuzumab_ozogamicin" in draft.ingredients:
        outcome, indicator, key, values["row"] = (
            Outcome.INFO,
            Indicator.INFO,
            "summary.inotuzumab",
            "inotuzumab",
        )
        detail.append(Bullet(msg("note.inotuzumab")))
    if number >= p["many_cycles"] and first:
        detail.insert(0, Bullet(msg("note.cycles", cycles=number, limit=p.int("many_cycles"))))
        indicator = Indicator.INFO if disease(case).lymphoma else Indicator.WARNING
        outcome, key, values["row"] = Outcome.CAUTION, "summary.cycles", "cycles"
    if "blinatumomab" in draft.ingredients:
        detail.insert(0, Bullet(msg("note.blinatumomab")))
        if indicator is not Indicator.WARNING:
            outcome, indicator, key = Outcome.CAUTION, Indicator.WARNING, "summary.blinatumomab"
            values["row"] = "blinatumomab"
        create = Create(ServiceProposal("cd19_expression"))
        suggestions = (Suggestion("cd19", msg("suggest.cd19"), (create,), recommended=True),)
    detail.append(Bullet(msg("note.interval")))
    drug = Name(draft.ingredients[0])
    return Finding(
        rule=RULE,
        outcome=outcome,
        indicator=indicator,
        summary=msg(key, drug=drug, cycles=number, days=Days(days or 0), limit=p.int("many_cycles")),
        subject=draft.reference,
        detail=tuple(detail),
        values=dict(values),
        evidence=(*disease_evidence(case), *evidence, *(d.evidence for d in done)),
        resource=draft.reference,
        suggestions=suggestions,
        overrides=OVERRIDES,
    )


@rule(RULE)
def bridging(case: Case) -> Iterator[Finding]:
    """Information on the page; on orders the cycle, its intensity and the target antigen."""
    if not bridging_time(case):
        return
    if not case.ordering:
        yield _page(case)
        return
    for index, draft in enumerate(drafts(case)):
        yield _order(case, draft, index == 0)
