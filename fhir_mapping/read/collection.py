"""Leukapheresis for CAR-T cells, planned and done (chart-facts K2, K3)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date

from fhir_mapping.chart import Anchor, EventState, Evidence, Flag
from fhir_mapping.read.course_facts import OPEN_ORDER, CourseFacts, by_start, products

_COLLECTION = "leukapheresis"
_OTHER_APHERESIS = frozenset({"plasmapheresis", "extracorporeal_photopheresis"})


def _is_apheresis(concepts: frozenset[str], purposes: frozenset[str]) -> bool:
    if _COLLECTION not in concepts or concepts & _OTHER_APHERESIS:
        return False
    return "purpose_stem_cell_collection" not in purposes


def _says_car_t(concepts: frozenset[str], purposes: frozenset[str], *more: frozenset[str]) -> bool:
    named = concepts.union(*more)
    return "purpose_car_t_collection" in purposes or not named.isdisjoint(products())


@dataclass(frozen=True, slots=True)
class Apheresis:
    anchor: Anchor
    said: bool  # the entry itself says that it is for CAR-T cells


def planned_apheresis(facts: CourseFacts) -> list[Apheresis]:
    found: list[Apheresis] = []
    for visit in facts.all_appointments:
        if visit.state is EventState.BOOKED and _is_apheresis(visit.concepts, visit.purposes):
            evidence = Evidence.PROPOSED if visit.proposed else Evidence.BOOKED
            anchor = Anchor(evidence, visit.reference, visit.start, flags=visit.flags)
            found.append(Apheresis(anchor, _says_car_t(visit.concepts, visit.purposes, visit.reasons)))
    for order in facts.all_services:
        open_order = order.state in OPEN_ORDER
        if open_order and _is_apheresis(order.concepts, order.purposes):
            evidence = Evidence.DRAFT if order.state is EventState.DRAFT else Evidence.ORDERED
            when = None if Flag.AUTHORED_DATE in order.flags else order.when
            anchor = Anchor(evidence, order.reference, when, order.until, order.flags)
            found.append(
                Apheresis(anchor, _says_car_t(order.concepts, order.purposes, order.details, order.reasons))
            )
    for procedure in facts.procedures:
        if procedure.state is EventState.PLANNED and _is_apheresis(procedure.concepts, procedure.purposes):
            anchor = Anchor(
                Evidence.ORDERED, procedure.reference, procedure.start, procedure.end, procedure.flags
            )
            found.append(
                Apheresis(anchor, _says_car_t(procedure.concepts, procedure.purposes, procedure.used))
            )
    return found


def _collected_bags(facts: CourseFacts) -> list[Anchor]:
    """One collection a day, from the first start to the last end of its bags."""
    by_day: dict[date | None, Anchor] = {}
    for bag in facts.documents:
        if bag.resource_type != "Specimen" or "apheresis_product" not in bag.concepts:
            continue
        if bag.when is None or bag.when.earliest > facts.now:
            continue
        start = bag.started or bag.when
        one = Anchor(Evidence.DONE, bag.reference, start, bag.when, bag.flags)
        other = by_day.setdefault(start.date, one)
        if other is not one:
            first = min(one, other, key=by_start)
            last = max((a.end for a in (one, other) if a.end is not None), key=lambda m: m.latest)
            by_day[start.date] = replace(first, end=last)
    return list(by_day.values())


def _done_apheresis(facts: CourseFacts) -> list[Apheresis]:
    """Collections that took place: procedures, else specimens and fulfilled appointments of other days."""
    found: list[Apheresis] = []
    for procedure in facts.procedures:
        done = procedure.state in (EventState.DONE, EventState.RUNNING)
        if done and procedure.start is not None and _is_apheresis(procedure.concepts, procedure.purposes):
            anchor = Anchor(
                Evidence.DONE, procedure.reference, procedure.start, procedure.end, procedure.flags
            )
            said = _says_car_t(procedure.concepts, procedure.purposes, procedure.used, procedure.reasons)
            found.append(Apheresis(anchor, said))
    days = {a.anchor.date for a in found}
    found += [Apheresis(a, said=True) for a in _collected_bags(facts) if a.date not in days]
    days |= {a.anchor.date for a in found}
    for visit in facts.appointments:
        took_place = visit.state is EventState.TOOK_PLACE and _is_apheresis(visit.concepts, visit.purposes)
        if visit.start is None or visit.start.earliest > facts.now:  # fulfilled before its time
            continue
        if took_place and visit.start.date not in days:
            flags = visit.flags | {Flag.BOOKING_ONLY}
            anchor = Anchor(Evidence.DONE, visit.reference, visit.start, flags=flags)
            found.append(Apheresis(anchor, _says_car_t(visit.concepts, visit.purposes, visit.reasons)))
    return sorted(found, key=lambda a: by_start(a.anchor))


def _for_stem_cells(apheresis: Apheresis, facts: CourseFacts, car_t_days: Iterable[date]) -> bool:
    """Followed by an autologous transplant with nothing of CAR-T between."""
    day = apheresis.anchor.date
    grafts = [
        p.start.date
        for p in facts.procedures
        if "auto_hct" in p.concepts
        and p.state in (EventState.DONE, EventState.RUNNING)
        and p.start is not None
    ]
    if day is None or apheresis.said:
        return False
    following = sorted(g for g in grafts if g > day)
    return bool(following) and not any(day < other <= following[0] for other in car_t_days)


def collections_done(facts: CourseFacts, evidence: bool, car_t_days: list[date]) -> list[Apheresis]:
    """Collections that took place, oldest first. `evidence`: the chart speaks of CAR-T cells elsewhere."""
    return [
        apheresis
        for apheresis in _done_apheresis(facts)
        if (apheresis.said or evidence) and not _for_stem_cells(apheresis, facts, car_t_days)
    ]
