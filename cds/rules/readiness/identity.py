"""Identity checks of the cells, stage by stage and bag by bag (chart-facts Q9)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cards.finding import Evidence
from cds.engine.case import Case
from cds.rules.evidence import of_fact, of_observation
from cds.rules.readiness.phase import collection_date
from fhir_mapping.chart import EventState, Moment, Observation


class Stage(StrEnum):
    """Where the identity is checked; values are answer concepts."""

    COLLECTION = "collection"
    RECEIPT = "product_receipt"
    BEDSIDE = "bedside"


class Identity(StrEnum):
    MATCH = "match"
    MISMATCH = "mismatch"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Check:
    """What stands for one stage: the worst newest answer of any bag. `answer` None: no answer recorded.

    `persons` is the lowest number of any bag: different performers, else the number recorded.
    `identifiers` is the lowest of any bag too; None where one bag has none recorded.
    """

    answer: Identity | None
    persons: int = 0
    identifiers: int | None = None
    when: Moment | None = None
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class _Entry:
    bag: str
    answer: Identity | None
    when: Moment
    performers: frozenset[str]
    counted: int
    identifiers: int | None
    evidence: Evidence


def _stage(case: Case, stated: tuple[str, ...], when: Moment) -> Stage:
    """As stated; else by the day: that of the collection, that of the infusion, or between them."""
    for stage in Stage:
        if stage.value in stated:
            return stage
    if when.date == collection_date(case):
        return Stage.COLLECTION
    return Stage.BEDSIDE if when.date == case.chart.course.day0_any else Stage.RECEIPT


def _of_observation(observation: Observation) -> _Entry:
    answer = next((a for a in Identity if a.value in observation.value.codes), None)
    checkers = observation.component("checker_count")
    identifiers = observation.component("identifier_count")
    specimen = observation.specimen
    return _Entry(
        specimen.reference if specimen is not None else "",
        answer,
        observation.when,
        frozenset(observation.performers),
        (checkers.number or 0) if checkers is not None else 0,
        identifiers.number if identifiers is not None else None,
        of_observation(observation),
    )


def _entries(case: Case, stage: Stage) -> list[_Entry]:
    found = []
    for observation in case.chart.series("identity_check"):
        component = observation.component("identity_check_stage")
        if _stage(case, component.codes if component is not None else (), observation.when) is stage:
            found.append(_of_observation(observation))
    for procedure in case.chart.procedures.of("identity_check"):
        if procedure.state is not EventState.DONE or procedure.start is None:
            continue
        if _stage(case, (), procedure.start) is stage:
            evidence = of_fact(procedure, "identity_check")
            performers = frozenset(procedure.performers)
            found.append(_Entry("", Identity.MATCH, procedure.start, performers, 0, None, evidence))
    first = collection_date(case)
    if stage is Stage.BEDSIDE:  # one of another day was for an infusion that did not take place
        first = case.chart.course.day0_any or first
    return [entry for entry in found if first is None or entry.when.date >= first]


def identity(case: Case, stage: Stage) -> Check | None:
    """The identity check of one stage of this course; None where none is recorded."""
    entries = sorted(_entries(case, stage), key=lambda e: (e.when.latest, e.evidence.reference))
    if not entries:
        return None
    bags: dict[str, list[_Entry]] = {}
    for entry in entries:
        bags.setdefault(entry.bag, []).append(entry)
    newest = [group[-1] for group in bags.values()]
    order = [Identity.MISMATCH, Identity.EXPIRED, None, Identity.MATCH]
    worst = min(newest, key=lambda e: order.index(e.answer))
    persons = []
    identifiers = []
    for group in bags.values():
        same = [e for e in group if e.answer is group[-1].answer]
        performers = frozenset[str]().union(*(e.performers for e in same))
        persons.append(max(len(performers), *(e.counted for e in same)))
        identifiers.append(max((e.identifiers for e in same if e.identifiers is not None), default=None))
    return Check(
        worst.answer,
        min(persons),
        None if None in identifiers else min(i for i in identifiers if i is not None),
        worst.when,
        tuple(e.evidence for e in entries),
    )
