"""B-ALL: which of seven factors that lower the effect of CAR-T cells are on the chart; never a barrier.

What was not tested is listed, never taken as absent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import StrEnum

from cards.finding import (
    Bullet,
    Evidence,
    Finding,
    Indicator,
    Items,
    Message,
    Missing,
    Name,
    Outcome,
    Scalar,
    Shown,
    Table,
    Text,
    msg,
)
from cds.engine.case import Case
from cds.engine.rule import rule
from cds.rules.disease import Disease, disease, disease_evidence
from cds.rules.evidence import of_drug, of_observation
from cds.rules.readiness.biology import Mark, Spread, central_disease, extramedullary, marker
from cds.rules.readiness.checklist import NOTHING, dated, newest, shown, with_number
from cds.rules.readiness.history import history
from cds.rules.readiness.phase import candidate, infused
from cds.rules.unread import DOSES, unread
from fhir_mapping.chart import LossReason, Observation, Quantity

RULE = "readiness.outcome-risk-all"
_BLINATUMOMAB = "blinatumomab"
_RESPONDED = frozenset({"complete_response", "partial_response"})
_FAILED = frozenset({"stable_disease", "progressive_disease"})


class State(StrEnum):
    """What the chart says of one factor."""

    FLAG = "flag"
    CLEAR = "clear"
    UNTESTED = "untested"
    NOTE = "note"  # worth a word, no flag


@dataclass(frozen=True, slots=True)
class Factor:
    """One factor. Texts `factor.<row>`, and `about.<row>` where it is flagged."""

    row: str
    state: State
    found: Shown = NOTHING
    evidence: tuple[Evidence, ...] = ()
    missing: tuple[Missing, ...] = ()
    notes: tuple[Message, ...] = ()
    values: dict[str, Scalar] = field(default_factory=dict)
    limit: Shown = ""  # shown in `about.<row>`


def genetic(case: Case, row: str, concept: str) -> Factor:
    """A genetic finding: present flags, a variant of unknown significance is only mentioned."""
    seen = marker(case, concept)
    if seen is None:
        return Factor(row, State.UNTESTED, missing=(Missing(concept),))
    state = State.FLAG if seen.mark is Mark.PRESENT else State.CLEAR
    notes = (msg("note.variant", gene=Name(concept)),) if seen.mark is Mark.UNCERTAIN else ()
    found = dated(msg(f"mark.{seen.mark.value}"), seen.when)
    return Factor(row, state, found, seen.evidence, notes=notes)


def _highest_of_day(case: Case, concept: str, observation: Observation) -> Observation:
    """Aspirate and biopsy of one day: the higher one."""
    day = [o for o in case.chart.series(concept).on(observation.when.date) if o.value.quantity is not None]
    return max(day, key=lambda o: o.value.quantity.value if o.value.quantity else 0, default=observation)


def _blasts(case: Case) -> Factor:
    p = case.p(RULE)
    within = case.days_back(p.int("marrow_max_age_days"))
    look = newest(case, "marrow_blasts", within, with_number)
    if look.observation is None:
        return Factor("marrow", State.UNTESTED, look.shown, missing=look.missing)
    limit = p["blasts_percent"]
    seen = _highest_of_day(case, "marrow_blasts", look.observation)
    return _limit("marrow", seen, _quantity(seen).at_least(limit), "blasts_percent", limit)


def _quantity(observation: Observation) -> Quantity:
    quantity = observation.value.quantity
    assert quantity is not None
    return quantity


def _limit(row: str, seen: Observation, flagged: bool | None, key: str, limit: Decimal) -> Factor:
    quantity = _quantity(seen)
    evidence = (of_observation(seen),)
    if flagged is None:
        return Factor(row, State.UNTESTED, shown(seen), evidence, (Missing(seen.concept),))
    values: dict[str, Scalar] = {} if quantity.comparator else {key: quantity.value}
    return Factor(
        row, State.FLAG if flagged else State.CLEAR, shown(seen), evidence, values=values, limit=limit
    )


def _cd19_load(case: Case) -> Factor:
    p = case.p(RULE)
    within = case.days_back(p.int("marrow_max_age_days"))
    look = newest(case, "cd19_marrow_fraction", within, with_number)
    if look.observation is None:
        return Factor("cd19-load", State.UNTESTED, look.shown, missing=look.missing)
    limit = p["cd19_load_percent"]
    below = _quantity(look.observation).below(limit)
    return _limit("cd19-load", look.observation, below, "cd19_load_percent", limit)


def _blinatumomab(case: Case) -> Factor:
    """Non-response flags; given without a recorded response, the evidence conflicts."""
    given = [d for d in case.chart.drugs.of(_BLINATUMOMAB) if d.given]
    answers: list[tuple[bool | None, Observation]] = []
    for observation in case.chart.series("disease_response"):
        agents = {code for value in observation.components.get("agent", ()) for code in value.codes}
        codes = set(observation.value.codes)
        if _BLINATUMOMAB in agents and codes & (_RESPONDED | _FAILED):
            answers.append((bool(codes & _RESPONDED), observation))
    for observation in case.chart.series("refractory_to_agent"):
        if _BLINATUMOMAB in observation.value.codes:
            answers.append((False, observation))
    if answers:
        responded, seen = max(answers, key=lambda item: (item[1].when.latest, not item[0]))
        found = dated(msg("blinatumomab.responded" if responded else "blinatumomab.failed"), seen.when)
        state = State.CLEAR if responded else State.FLAG
        return Factor("blinatumomab", state, found, (of_observation(seen), *map(of_drug, given)))
    if not given and unread(case, DOSES):
        lost = (Missing(_BLINATUMOMAB, LossReason.NOT_FETCHED),)
        return Factor("blinatumomab", State.UNTESTED, missing=lost)
    if not given:
        return Factor("blinatumomab", State.CLEAR, msg("blinatumomab.never"))
    notes = (msg("note.blinatumomab"),)
    last = given[-1].timing.last or given[-1].timing.first
    found = dated(msg("blinatumomab.given"), last)
    missing = (Missing("disease_response"),)
    return Factor("blinatumomab", State.NOTE, found, tuple(map(of_drug, given)), missing, notes)


def _outside(case: Case) -> Factor:
    seen = extramedullary(case, ("b_all", "all_lineage_unspecified"))
    if seen is None:
        return Factor("extramedullary", State.UNTESTED, missing=(Missing("extramedullary_disease"),))
    found: Shown = dated(msg(f"outside.{seen.spread.value}"), seen.when)
    if seen.sites:
        found = Items((found, *(Text(site) for site in seen.sites)))
    state = State.FLAG if seen.spread is Spread.ACTIVE else State.CLEAR
    return Factor("extramedullary", state, found, seen.evidence)


def _further(case: Case) -> tuple[list[Message], list[Evidence], dict[str, Scalar]]:
    """What is worth a word without being one of the seven: Ph, lines, CNS."""
    notes: list[Message] = []
    evidence: list[Evidence] = []
    values: dict[str, Scalar] = {}
    for concept in ("ph_positive", "ph_like"):
        seen = marker(case, concept)
        if seen is not None and seen.mark is Mark.PRESENT:
            notes.append(msg("note.ph", gene=Name(concept)))
            evidence += seen.evidence
    past = history(case)
    if past.lines is not None:
        notes.append(msg("note.lines", lines=past.lines))
        values["lines"] = past.lines
    central = central_disease(case)
    if central.active:
        notes.append(msg("note.cns"))
        evidence += central.evidence
    return notes, evidence, values


def card(
    rule_id: str,
    factors: Sequence[Factor],
    notes: Sequence[Message],
    evidence: Sequence[Evidence],
    values: dict[str, Scalar],
) -> Finding:
    """Table of the factors, flagged ones first; unconcluded where nothing at all is known."""
    order = list(State)
    ordered = sorted(factors, key=lambda f: (f.state is not State.FLAG, order.index(f.state)))
    flagged = [f for f in ordered if f.state is State.FLAG]
    untested = [f for f in ordered if f.state is State.UNTESTED]
    header = tuple(msg(f"head.{name}") for name in ("factor", "found", "state"))
    rows = tuple((msg(f"factor.{f.row}"), f.found, msg(f"state.{f.state.value}")) for f in ordered)
    about = [Bullet(msg(f"about.{f.row}", **({"limit": f.limit} if f.limit != "" else {}))) for f in flagged]
    said = [Bullet(note) for note in (*(n for f in ordered for n in f.notes), *notes)]
    numbers: dict[str, Scalar | Sequence[Scalar]] = {
        "row": flagged[0].row if flagged else "",
        "factors": len(flagged),
        "of_factors": len(factors),
        "untested": [f.row for f in untested],
        "flags": [f.row for f in flagged],
        **values,
    }
    for factor in ordered:
        numbers.update(factor.values)
    key = "summary.flags" if flagged else "summary.none"
    labels = Items(tuple(msg(f"factor.{f.row}") for f in flagged))
    count: dict[str, Shown] = {
        "count": len(flagged),
        "all": len(factors),
        "untested": len(untested),
        "factors": labels,
    }
    finding = Finding(
        rule=rule_id,
        outcome=Outcome.INFO,
        indicator=Indicator.INFO,
        summary=msg(key, **count),
        detail=(Table(header, rows), *about, *said),
        values={k: v for k, v in numbers.items() if v != ""},
        evidence=tuple(dict.fromkeys((*(e for f in ordered for e in f.evidence), *evidence))),
        missing=tuple(dict.fromkeys(m for f in ordered for m in f.missing)),
    )
    known = [f for f in ordered if f.state is not State.UNTESTED and f.evidence]
    if known or notes:
        return finding
    return replace(finding, indicator=None, unconcluded=True, outcome=Outcome.UNKNOWN)


@rule(RULE)
def outcome_risk_all(case: Case) -> Iterator[Finding]:
    """One card for a candidate with B-ALL, from the evaluation to the infusion."""
    if not candidate(case) or infused(case) or disease(case) is not Disease.B_ALL:
        return
    factors = [
        genetic(case, "kmt2a", "kmt2a_rearrangement"),
        genetic(case, "tp53", "tp53_mutation"),
        genetic(case, "hypodiploidy", "hypodiploidy"),
        _blinatumomab(case),
        _blasts(case),
        _outside(case),
        _cd19_load(case),
    ]
    notes, evidence, values = _further(case)
    yield card(RULE, factors, notes, (*disease_evidence(case), *evidence), values)
