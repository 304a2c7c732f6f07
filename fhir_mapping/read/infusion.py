"""CAR-T cells ordered, booked and infused (chart-facts K5-K7)."""

from __future__ import annotations

from dataclasses import dataclass

from fhir_mapping.chart import (
    Anchor,
    ConditionState,
    DrugRecord,
    DrugSource,
    DrugState,
    EventState,
    Evidence,
    Flag,
    Moment,
    Product,
)
from fhir_mapping.read.course_facts import OPEN_ORDER, SAME_COURSE, CourseFacts, car_t_product


@dataclass(frozen=True, slots=True)
class Infusion:
    when: Moment
    reference: str
    end: Moment | None
    product: Product | None
    bag: DrugRecord | None
    rank: int  # administration before procedure before statement
    flags: frozenset[Flag]


def infusions(facts: CourseFacts) -> tuple[list[Infusion], bool]:
    """Dated infusions, and whether one is on record without a date."""
    found: list[Infusion] = []
    undated = False
    for drug in facts.drugs:
        product = car_t_product(drug.concepts, drug.ingredients)
        if product is None or not drug.given:
            continue
        if drug.source not in (DrugSource.ADMINISTRATION, DrugSource.STATEMENT):
            continue
        if drug.source is DrugSource.STATEMENT and drug.state is not DrugState.GIVEN:
            continue
        administered = drug.source is DrugSource.ADMINISTRATION
        if administered and drug.state is DrugState.ON_HOLD:
            continue
        when = drug.timing.first
        if when is None or when.earliest > facts.now:
            undated = undated or when is None
            continue
        bag = drug if administered else None
        found.append(
            Infusion(
                when, drug.reference, drug.timing.last, product, bag, 0 if administered else 2, drug.flags
            )
        )
    for procedure in facts.procedures:
        if "car_t_infusion" not in procedure.concepts:
            continue
        if not procedure.state.begun:
            continue
        if procedure.start is None:
            undated = True
            continue
        product = car_t_product(procedure.concepts | procedure.used)
        found.append(
            Infusion(procedure.start, procedure.reference, procedure.end, product, None, 1, procedure.flags)
        )
    undated = undated or any(
        "hx_car_t" in c.concepts and c.state in (ConditionState.ACTIVE, ConditionState.HISTORY)
        for c in facts.conditions
    )
    found.sort(key=lambda i: (i.when.latest, i.rank, i.reference))
    return found, undated


def courses(infusions: list[Infusion]) -> list[list[Infusion]]:
    """Infusions grouped into courses, oldest first."""
    groups: list[list[Infusion]] = []
    for infusion in infusions:
        if groups and infusion.when.date - groups[-1][-1].when.date <= SAME_COURSE:
            groups[-1].append(infusion)
        else:
            groups.append([infusion])
    return groups


def infused_at(group: list[Infusion]) -> Anchor:
    """D0 of one course: its first bag; a procedure or a report only where no bag was recorded."""
    best = min(infusion.rank for infusion in group)
    first = next(infusion for infusion in group if infusion.rank == best)
    return Anchor(Evidence.DONE, first.reference, first.when, first.end, first.flags)


@dataclass(frozen=True, slots=True)
class ProductOrder:
    reference: str
    evidence: Evidence
    product: Product | None
    when: Moment | None
    made: Moment | None


def product_orders(facts: CourseFacts) -> list[ProductOrder]:
    found: list[ProductOrder] = []
    for drug in [*facts.drugs, *facts.draft_drugs]:
        product = car_t_product(drug.concepts, drug.ingredients)
        if product is None or drug.source is not DrugSource.ORDER:
            continue
        if drug.state not in (DrugState.ACTIVE, DrugState.DRAFT):
            continue
        dated = drug.timing.first if Flag.AUTHORED_DATE not in drug.timing.flags else None
        evidence = Evidence.DRAFT if drug.state is DrugState.DRAFT else Evidence.ORDERED
        found.append(ProductOrder(drug.reference, evidence, product, dated, drug.authored))
    for service in facts.all_services:
        product = car_t_product(service.concepts | service.details)
        if "car_t_infusion" not in service.concepts and product is None:
            continue
        if service.state not in OPEN_ORDER:
            continue
        dated = service.when if Flag.AUTHORED_DATE not in service.flags else None
        evidence = Evidence.DRAFT if service.state is EventState.DRAFT else Evidence.ORDERED
        found.append(ProductOrder(service.reference, evidence, product, dated, service.requested_at))
    for plan in facts.documents:
        product = car_t_product(plan.concepts)
        if plan.resource_type == "CarePlan" and ("car_t_infusion" in plan.concepts or product is not None):
            found.append(ProductOrder(plan.reference, Evidence.ORDERED, product, None, plan.when))
    return found


def infusion_bookings(facts: CourseFacts) -> list[Anchor]:
    found: list[Anchor] = []
    for visit in facts.all_appointments:
        named = "car_t_infusion" in visit.concepts or car_t_product(visit.concepts) is not None
        if named and visit.state is EventState.BOOKED and visit.start is not None:
            evidence = Evidence.PROPOSED if visit.proposed else Evidence.BOOKED
            found.append(Anchor(evidence, visit.reference, visit.start, flags=visit.flags))
    return found


def booked_product(facts: CourseFacts) -> Product | None:
    """The product that an appointment names."""
    named = (car_t_product(visit.concepts) for visit in facts.all_appointments)
    return next((product for product in named if product is not None and product.concept), None)
