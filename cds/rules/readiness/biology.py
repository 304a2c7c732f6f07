"""Genetic findings and sites of disease outside marrow and nodes, as recorded (chart-facts D9, D12)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from cards.finding import Evidence
from cds.engine.case import Case, once_per_case
from cds.rules.evidence import of_fact, of_observation
from fhir_mapping.chart import ConditionState, Moment, Observation, Result

_COUNTED = (ConditionState.ACTIVE, ConditionState.HISTORY)
# words of a body site, as sent: these are the disease's own home and no site outside it
_HOME = ("marrow", "骨髓", "blood", "血", "lymph node", "lymph-node", "lymphatic node", "淋巴結")
CENTRAL_CONDITIONS = ("cns_metastasis", "primary_cns_lymphoma", "cns_involvement")
_CENTRAL_PAST = frozenset({"past_controlled", "cleared"})
_CENTRAL = ("central nervous", "cns", "brain", "mening", "cerebrospinal", "csf", "腦", "中樞", "脊髓")


class Mark(StrEnum):
    PRESENT = "present"
    UNCERTAIN = "variant-of-unknown-significance"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Marker:
    """What is on record of one genetic finding: any report of presence stands, of whatever sample."""

    mark: Mark
    when: Moment | None
    evidence: tuple[Evidence, ...]


def _read(observation: Observation) -> Mark | None:
    codes, result = observation.value.codes, observation.value.result
    if "variant_of_unknown_significance" in codes:
        return Mark.UNCERTAIN
    if "present" in codes or "positive" in codes or result is Result.POSITIVE:
        return Mark.PRESENT
    if "absent" in codes or "negative" in codes or result is Result.NEGATIVE:
        return Mark.ABSENT
    return None


def marker(case: Case, concept: str) -> Marker | None:
    """None: never tested, or no result that says yes or no."""
    read = [(m, o) for o in case.chart.series(concept) if (m := _read(o)) is not None]
    coded = [c for c in case.chart.conditions.of(concept) if c.state in _COUNTED]
    if coded:
        return Marker(Mark.PRESENT, coded[-1].onset, tuple(of_fact(c, concept) for c in coded))
    for mark in Mark:
        same = [o for m, o in read if m is mark]
        if same:
            return Marker(mark, same[-1].when, (of_observation(same[-1]),))
    return None


def _named(site: str, words: tuple[str, ...]) -> bool:
    return any(word in site.casefold() for word in words)


def outside(sites: frozenset[str]) -> frozenset[str]:
    """Sites that are neither marrow, blood, node nor central nervous system."""
    return frozenset(s for s in sites if not _named(s, _HOME) and not _named(s, _CENTRAL))


class Spread(StrEnum):
    """Disease outside marrow, blood, nodes and CNS."""

    ACTIVE = "active"
    CLEARED = "cleared"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Outside:
    spread: Spread
    when: Moment | None
    sites: tuple[str, ...]
    evidence: tuple[Evidence, ...]


def _central_only(observation: Observation) -> bool:
    """Every site it names lies in the central nervous system."""
    return bool(observation.body_sites) and all(_named(s, _CENTRAL) for s in observation.body_sites)


@dataclass(frozen=True, slots=True)
class Central:
    """Disease of the central nervous system (D11): now, at any time; no evidence: nothing is recorded."""

    active: bool
    ever: bool
    evidence: tuple[Evidence, ...]


def _central_statements(case: Case) -> list[tuple[Observation, bool]]:
    """What was stated, oldest first, and whether it says active."""
    sites = [o for o in case.chart.series("extramedullary_disease") if _central_only(o)]
    stated = [
        (o, "active" in o.value.codes)
        for o in (*case.chart.series("cns_involvement"), *sites)
        if {"active", "none", *_CENTRAL_PAST} & set(o.value.codes)
    ]
    stated += [
        (o, o.value.result is Result.POSITIVE)
        for o in case.chart.series("csf_blasts")
        if o.value.result in (Result.POSITIVE, Result.NEGATIVE)
    ]
    return sorted(stated, key=lambda item: (item[0].when.latest, item[1]))


@once_per_case
def central_disease(case: Case) -> Central:
    """The newest statement decides what is active, a Condition of later onset beside it."""
    stated = _central_statements(case)
    newest = stated[-1][0] if stated else None
    coded = [c for c in case.chart.conditions.of(*CENTRAL_CONDITIONS) if c.state in _COUNTED]
    active = bool(stated) and stated[-1][1]
    for condition in coded:
        onset = condition.onset
        later = newest is None or (onset is not None and onset.earliest > newest.when.latest)
        active = active or (condition.state is ConditionState.ACTIVE and later)
    past = any(said or not _CENTRAL_PAST.isdisjoint(o.value.codes) for o, said in stated)
    evidence = (
        *((of_observation(newest),) if newest is not None else ()),
        *(of_fact(c, next(n for n in CENTRAL_CONDITIONS if n in c.concepts)) for c in coded),
    )
    return Central(active, bool(coded) or past, evidence)


def extramedullary(case: Case, diseases: tuple[str, ...]) -> Outside | None:
    """Newest statement of each site, the worst of them; else the disease coded at such a site."""
    newest: dict[frozenset[str], Observation] = {}
    for observation in case.chart.series("extramedullary_disease"):
        if not _central_only(observation) and any(s.value in observation.value.codes for s in Spread):
            newest[observation.body_sites] = observation
    overall = newest.get(frozenset())
    if overall is not None:  # a later word on the whole stands for the sites named before it
        newest = {k: o for k, o in newest.items() if o.when.latest >= overall.when.latest}
    for spread in Spread:
        same = [o for o in newest.values() if spread.value in o.value.codes]
        if same:
            sites = tuple(sorted(s for o in same for s in o.body_sites))
            return Outside(spread, same[-1].when, sites, tuple(of_observation(o) for o in same))
    coded = [
        c
        for c in case.chart.conditions.of(*diseases)
        if c.state is ConditionState.ACTIVE and outside(c.body_sites)
    ]
    if coded:
        sites = tuple(sorted(s for c in coded for s in outside(c.body_sites)))
        evidence = tuple(of_fact(c, next(d for d in diseases if d in c.concepts)) for c in coded)
        return Outside(Spread.ACTIVE, coded[-1].onset, sites, evidence)
    return None


@dataclass(frozen=True, slots=True)
class Bulk:
    """Bulky disease as stated, else by the largest diameter (D8)."""

    bulky: bool
    source: Observation


def bulk(case: Case, within: timedelta | None = None) -> Bulk | None:
    """Newest statement or measurement at most `within` old; None where neither is recorded or it says
    nothing."""

    def stated(observation: Observation) -> bool:
        return observation.value.yes is not None

    limit = case.p("grading.tls-risk")["bulk_cm"]
    found: list[Bulk] = []
    said = case.chart.series("bulky_disease").latest(case.now, within, stated)
    if said is not None:
        found.append(Bulk(bool(said.value.yes), said))
    size = case.chart.series("largest_tumor_diameter").latest(case.now, within)
    large = None if size is None or size.value.quantity is None else size.value.quantity.at_least(limit)
    if size is not None and large is not None:
        found.append(Bulk(large, size))
    return max(found, key=lambda b: (b.source.when.latest, b.bulky), default=None)
