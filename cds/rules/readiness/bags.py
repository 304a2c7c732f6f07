"""Bags of the infusion with their thaw, start and end (chart-facts K7, Q15)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cards.finding import Evidence, Name, Shown
from cds.engine.case import Case, once_per_case
from cds.rules.evidence import of_drug, of_fact, of_observation
from cds.rules.readiness.phase import collection_date
from fhir_mapping.chart import DrugState, EventState, Moment


@dataclass(frozen=True, slots=True)
class Thaw:
    """Start of one thaw. `bag` is "" where the bag is not named."""

    bag: str
    start: Moment
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Bag:
    """One bag. `start` None: thawed, not begun; `end` None: running or not recorded."""

    name: str
    start: Moment | None
    end: Moment | None
    running: bool
    thaw: Thaw | None
    product_number: bool
    evidence: tuple[Evidence, ...]

    @property
    def label(self) -> Shown:
        """As the reader knows it: its number, never the address of a resource."""
        return self.name if self.product_number else Name("car_t_product")


@once_per_case
def thaws(case: Case) -> tuple[Thaw, ...]:
    """Recorded starts of thawing of this course, oldest first."""
    found: list[Thaw] = []
    for observation in case.chart.series("thaw_start"):
        named = observation.component("bag_number")
        bag = named.text if named is not None and named.text else ""
        if not bag and observation.specimen is not None:
            bag = observation.specimen.identifier
        start = observation.value.time or observation.when
        found.append(Thaw(bag, start, of_observation(observation)))
    for procedure in case.chart.procedures.of("product_thaw"):
        if procedure.state.begun and procedure.start is not None:
            found.append(Thaw("", procedure.start, of_fact(procedure, "product_thaw")))
    first = collection_date(case)
    own = [t for t in found if first is None or t.start.date >= first]
    return tuple(sorted(own, key=lambda t: (t.start.latest, t.evidence.reference)))


def _whole_infusion(case: Case) -> list[Bag]:
    """The infusion as a procedure, where no bag is recorded: one stretch without a product number."""
    first = collection_date(case)
    return [
        Bag(
            p.reference,
            p.start,
            None if p.state is EventState.RUNNING or p.end == p.start else p.end,
            p.state is EventState.RUNNING,
            None,
            False,
            (of_fact(p, "car_t_infusion"),),
        )
        for p in case.chart.procedures.of("car_t_infusion")
        if p.state.begun and p.start is not None and (first is None or p.start.date >= first)
    ]


@once_per_case
def bags(case: Case) -> tuple[Bag, ...]:
    """Bags of this course in order of their start, then thawed bags that have not been begun."""
    free = list(thaws(case))
    found: list[Bag] = []
    for record in case.chart.course.bags:
        running = record.state is DrugState.RUNNING
        start, end = record.timing.first, record.timing.last
        instant_only = start is not None and end is not None and start == end
        found.append(
            Bag(
                record.bag_number or record.lot or record.reference,
                start,
                None if running or instant_only else end,
                running,
                None,
                bool(record.bag_number or record.lot),
                (of_drug(record),),
            )
        )
    if not found:
        found = _whole_infusion(case)
    for index, bag in enumerate(found):
        own = next((t for t in free if t.bag and t.bag == bag.name), None)
        if own is not None:
            free.remove(own)
            found[index] = replace(bag, thaw=own, evidence=(*bag.evidence, own.evidence))
    for index, bag in enumerate(found):
        if bag.thaw is not None or bag.start is None:
            continue
        before = [t for t in free if not t.bag and t.start.earliest <= bag.start.latest]
        if before:
            own = before[-1]
            free.remove(own)
            found[index] = replace(bag, thaw=own, evidence=(*bag.evidence, own.evidence))
    today = [t for t in free if t.start.date == case.today]
    found += [Bag(t.bag, None, None, False, t, bool(t.bag), (t.evidence,)) for t in today]
    return tuple(found)
