"""The CAR-T course of a chart: candidate, collected, lymphodepleted, infused (chart-facts section 12)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from fhir_mapping.chart import (
    Anchor,
    CarTCourse,
    ConditionState,
    DrugState,
    EventState,
    Evidence,
    Flag,
    Moment,
    Product,
)
from fhir_mapping.read.collection import Apheresis, collections_done, planned_apheresis
from fhir_mapping.read.course_facts import (
    SAME_COURSE,
    CourseFacts,
    dates_of,
    is_after,
    may_be_after,
    next_planned,
)
from fhir_mapping.read.infusion import (
    Infusion,
    ProductOrder,
    booked_product,
    courses,
    infused_at,
    infusion_bookings,
    infusions,
    product_orders,
)
from fhir_mapping.read.lymphodepletion import (
    ldc_anchors,
    ldc_bookings,
    ldc_doses,
    ldc_parts,
)

_CAR_T_DISEASES = frozenset(
    {"b_all", "dlbcl", "follicular_lymphoma", "mantle_cell_lymphoma", "multiple_myeloma"}
)


def _evaluations(facts: CourseFacts) -> list[tuple[str, Moment | None]]:
    """References that say "being evaluated for CAR-T cells", strongest kind first (K1)."""
    found = [
        (s.reference, s.requested_at or s.when)
        for s in facts.services
        if "car_t_evaluation" in s.concepts and s.state is EventState.ACTIVE
    ]
    for kind in ("EpisodeOfCare", "CarePlan"):
        found += [
            (d.reference, d.when)
            for d in facts.documents
            if d.resource_type == kind and "car_t_evaluation" in d.concepts
        ]
    return found


@dataclass(frozen=True, slots=True)
class _Found:
    """Evidence of every kind, before it is told to which course it belongs."""

    groups: list[list[Infusion]]  # infusions by course, oldest first
    undated: bool
    orders: list[ProductOrder]
    evaluations: list[tuple[str, Moment | None]]
    bookings: list[Anchor]
    collected: list[Apheresis]
    planned: list[Apheresis]
    plans: list[Anchor]  # of `planned`, those that are for CAR-T cells


def _find(facts: CourseFacts) -> _Found:
    given, undated = infusions(facts)
    orders, evaluations, bookings = product_orders(facts), _evaluations(facts), infusion_bookings(facts)
    evidence = bool(orders or evaluations or given or bookings or undated)
    car_t_days = [
        *dates_of(when for _, when in evaluations),
        *dates_of(o.made or o.when for o in orders),
        *dates_of(i.when for i in given),
    ]
    collected, planned = collections_done(facts, evidence, car_t_days), planned_apheresis(facts)
    plans = [p.anchor for p in planned if p.said or evidence or collected]
    return _Found(courses(given), undated, orders, evaluations, bookings, collected, planned, plans)


def _begun_again(found: _Found, day0: date, today: date) -> bool:
    """A new course after an infusion: what says so must itself speak of CAR-T cells and lie more than the
    days of one course after it."""
    horizon = day0 + SAME_COURSE
    return (
        any(c.said and c.anchor.date is not None and c.anchor.date > horizon for c in found.collected)
        or any(
            p.said and p.anchor.date is not None and p.anchor.date > max(horizon, today)
            for p in found.planned
        )
        or any(is_after(when, horizon) for _, when in found.evaluations)
        or any(is_after(o.when or o.made, horizon) and is_after(o.made, day0) for o in found.orders)
        or any(b.date is not None and b.date > horizon for b in found.bookings)
    )


def read_course(facts: CourseFacts) -> CarTCourse:
    """The course under way: not yet infused, or the latest one infused (K1-K7)."""
    found = _find(facts)
    if found.groups:
        day0 = infused_at(found.groups[-1]).date
        if day0 is None or not _begun_again(found, day0, facts.now.date()):
            return _after_infusion(facts, found)
    return _before_infusion(facts, found)


def _planned_infusion(
    facts: CourseFacts, found: _Found, orders: list[ProductOrder], since: date | None
) -> Anchor | None:
    plans = [
        *found.bookings,
        *(Anchor(o.evidence, o.reference, o.when) for o in orders),
        *(
            Anchor(Evidence.ORDERED, p.reference, p.start, p.end, p.flags)
            for p in facts.procedures
            if "car_t_infusion" in p.concepts and p.state is EventState.PLANNED
        ),
    ]
    return next_planned(plans, since, facts.now)


def _planned_collection(
    found: _Found, own: tuple[Anchor, ...], since: date | None, now: datetime
) -> Anchor | None:
    """What is still to come: once collected, only a dated plan of a later day."""
    plan = next_planned(found.plans, own[-1].date if own else since, now)
    if own and plan is not None and (plan.when is None or Flag.BOOKING_ONLY in plan.flags):
        return None
    return plan


def _before_infusion(facts: CourseFacts, found: _Found) -> CarTCourse:
    earlier = tuple(infused_at(group) for group in found.groups)
    since = earlier[-1].date if earlier else None
    own = tuple(c.anchor for c in found.collected if may_be_after(since, c.anchor.when))
    orders = [o for o in found.orders if since is None or o.made is None or is_after(o.made, since)]
    infusion = _planned_infusion(facts, found, orders, since)
    records, events = ldc_parts(
        facts,
        since=since,
        until=None,
        collected=own[-1].date if own else None,
        infusion=infusion.date if infusion is not None else None,
    )
    first, last = ldc_anchors(ldc_doses(records, events, ldc_bookings(facts, since), facts.now.date()))
    diseased = any(
        c.state is ConditionState.ACTIVE and not c.concepts.isdisjoint(_CAR_T_DISEASES)
        for c in facts.conditions
    )
    possible = None
    if not found.plans and not own and diseased:
        possible = next_planned([p.anchor for p in found.planned], since, facts.now)
    ordered = next((o.product for o in orders if o.product is not None and o.product.concept), None)
    return CarTCourse(
        evaluation=next(
            (ref for ref, when in found.evaluations if since is None or is_after(when, since)), ""
        ),
        product=ordered or booked_product(facts),
        product_orders=tuple(dict.fromkeys(o.reference for o in orders)),
        leukapheresis=_planned_collection(found, own, since, facts.now),
        possible_collection=possible,
        collections=own,
        ldc_records=tuple(records),
        ldc_events=tuple(events),
        ldc_first=first,
        ldc_last=last,
        infusion_planned=infusion,
        earlier=earlier,
        infused_product=_product_of(found.groups[-1]) if found.groups else None,
        infused_date_unknown=found.undated and not found.groups,
    )


def _product_of(group: list[Infusion]) -> Product | None:
    return next((i.product for i in group if i.product is not None and i.product.concept), None)


def _after_infusion(facts: CourseFacts, found: _Found) -> CarTCourse:
    group = found.groups[-1]
    infused = infused_at(group)
    earlier = tuple(infused_at(other) for other in found.groups[:-1])
    since = earlier[-1].date if earlier else None
    own = tuple(
        c.anchor
        for c in found.collected
        if c.anchor.date is not None
        and infused.date is not None
        and may_be_after(since, c.anchor.when)
        and c.anchor.date <= infused.date
    )
    records, events = ldc_parts(
        facts,
        since=since,
        until=infused.date,
        collected=own[-1].date if own else None,
        infusion=infused.date,
    )
    records = [d for d in records if d.state is not DrugState.DRAFT]
    first, last = ldc_anchors(ldc_doses(records, events, [], facts.now.date()))
    bags = tuple(
        sorted(
            (i.bag for i in group if i.bag is not None),
            key=lambda b: (b.timing.first.latest.timestamp() if b.timing.first else 0.0, b.reference),
        )
    )
    product = _product_of(group)
    return CarTCourse(
        product=product,
        collections=own,
        ldc_records=tuple(records),
        ldc_events=tuple(events),
        ldc_first=first,
        ldc_last=last,
        bags=bags,
        infused=infused,
        earlier=earlier,
        infused_product=product,
    )
