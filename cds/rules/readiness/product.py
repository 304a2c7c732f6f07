"""What the chart says of the collected cells and of the manufactured product, bag by bag (chart-facts 14).

A Specimen is a bag. A result without a Specimen belongs to the collection before it, and stands aside where
other results of its concept name their bag. Only the collections of the last order count: those within
`same_order_days` of the last one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from cards.finding import Evidence
from cds.engine.case import Case
from cds.rules.evidence import of_observation
from cds.rules.readiness.phase import collection_date
from fhir_mapping.chart import Anchor, Document, Observation, Procedure

COLLECTED = "apheresis_product"
MANUFACTURED = "car_t_product"
INFUSIONS = ("class_cell_gene_therapy", "car_t_infusion")
_RELEASE = ("contaminated", "out_of_specification", "not_released", "in_specification")  # worst first
_KINDS = frozenset({COLLECTED, MANUFACTURED})


def collections(case: Case, same_order_days: int) -> tuple[Anchor, ...]:
    """Collections of the last order, oldest first; undated ones only where nothing is dated."""
    done = case.chart.course.collections
    dated = [anchor for anchor in done if anchor.date is not None]
    last = dated[-1].date if dated else None
    if last is None:
        return done
    span = timedelta(days=same_order_days)
    return tuple(a for a in dated if a.date is not None and last - a.date <= span)


def results(case: Case, concept: str, kind: str, since: tuple[Anchor, ...] = ()) -> tuple[Observation, ...]:
    """Results of a concept on the product of this kind, not older than the first of the collections."""
    days = [anchor.when.first_date for anchor in since if anchor.when is not None]
    first = min(days) if days else None
    found = []
    for observation in case.chart.series(concept):
        specimen = observation.specimen
        if specimen is not None and specimen.concepts & (_KINDS - {kind}):
            continue
        if first is None or observation.when.date >= first:
            found.append(observation)
    return tuple(found)


def papers(case: Case, *concepts: str) -> tuple[Document, ...]:
    """Documents on the product of this course; one older than its collection is of an earlier product."""
    taken = case.chart.course.collections[-1:]
    first = taken[0].when.first_date if taken and taken[0].when is not None else None
    found = case.chart.documents.of(*concepts)
    return tuple(d for d in found if first is None or d.when is None or d.when.date >= first)


def freezings(case: Case) -> list[Procedure]:
    """Freezing procedures since the last collection; an earlier one froze something else."""
    day = collection_date(case)
    dated = ((p, p.start or p.end) for p in case.chart.procedures.of("cryopreservation"))
    return [p for p, when in dated if day is None or (when is not None and when.date >= day)]


@dataclass(frozen=True, slots=True)
class ProductStatus:
    """Where the product is; `words` empty: not on the chart."""

    words: frozenset[str] = frozenset()
    observation: Observation | None = None
    delivery: Document | None = None


def product_status(case: Case) -> ProductStatus:
    """Newest status of this course's product, else a delivery of it that was completed (Q11)."""
    found = [
        o
        for o in results(case, "product_status", MANUFACTURED, case.chart.course.collections[-1:])
        if o.value.codes
    ]
    if found:
        return ProductStatus(frozenset(found[-1].value.codes), found[-1])
    product = case.chart.course.product
    concepts = INFUSIONS if product is None or not product.concept else (*INFUSIONS, product.concept)
    delivered = [d for d in papers(case, *concepts) if d.resource_type == "SupplyDelivery"]
    return ProductStatus(frozenset({"received"}), delivery=delivered[-1]) if delivered else ProductStatus()


@dataclass(frozen=True, slots=True)
class Release:
    """Worst release status of any bag; `status` "": none is recorded."""

    status: str = ""
    observation: Observation | None = None
    evidence: tuple[Evidence, ...] = ()


def release_of(case: Case) -> Release:
    """Release of this course's product: the newest word on each bag, of them the worst (Q12)."""
    newest: dict[str, Observation] = {}
    for observation in results(case, "release_status", MANUFACTURED, case.chart.course.collections[-1:]):
        newest[bag_of(observation, ())] = observation
    answered = [(w, o) for o in newest.values() for w in _RELEASE if w in o.value.codes]
    if not answered:
        return Release()
    worst, observation = min(answered, key=lambda item: _RELEASE.index(item[0]))
    return Release(worst, observation, tuple(of_observation(o) for _, o in answered))


def bag_of(observation: Observation, taken: tuple[Anchor, ...]) -> str:
    """The bag a result speaks of: its Specimen, else the collection that came last before it."""
    if observation.specimen is not None and observation.specimen.reference:
        return observation.specimen.reference
    before = [a for a in taken if a.when is None or a.when.earliest <= observation.when.latest]
    return before[-1].reference if before else ""


def named_bag(observation: Observation) -> bool:
    return observation.specimen is not None and bool(observation.specimen.reference)


def newest_per_bag(
    observations: tuple[Observation, ...], taken: tuple[Anchor, ...]
) -> dict[str, Observation]:
    """Newest result of each bag, bags in the order of their results."""
    named = tuple(o for o in observations if named_bag(o))
    newest: dict[str, Observation] = {}
    for observation in named or observations:
        newest[bag_of(observation, taken)] = observation
    return newest
