"""The CAR-T course of a chart: candidate, collection, lymphodepletion, infusion (chart-facts section 12)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache

from fhir_mapping.chart import (
    Anchor,
    Appointment,
    CarTCourse,
    Condition,
    ConditionState,
    Document,
    DrugRecord,
    DrugSource,
    DrugState,
    EventState,
    Evidence,
    Flag,
    Moment,
    Procedure,
    Product,
    ServiceOrder,
)
from fhir_mapping.read.tables import rows

SAME_COURSE = timedelta(days=7)  # K6: bags so far apart are one course
_SAME_LDC = timedelta(days=14)  # doses further apart belong to another lymphodepletion
_LDC_GAP = (2, 14)  # K4: days from the last inferred dose to the infusion
_CELL_CLASS = "class_cell_gene_therapy"
_COLLECTION = "leukapheresis"
_OTHER_APHERESIS = frozenset({"plasmapheresis", "extracorporeal_photopheresis"})
_CAR_T_DISEASES = frozenset(
    {"b_all", "dlbcl", "follicular_lymphoma", "mantle_cell_lymphoma", "multiple_myeloma"}
)
_LDC = "purpose_lymphodepletion"
_LDC_REGIMEN = "regimen_flu_cy"
_STRENGTH = [Evidence.DONE, Evidence.PROPOSED, Evidence.BOOKED, Evidence.ORDERED, Evidence.DRAFT]


@cache
def products() -> dict[str, Product]:
    """CAR-T products by concept."""
    return {
        r["concept"]: Product(r["concept"], r["target"], r["costimulation"]) for r in rows("car_t_products")
    }


def car_t_product(concepts: frozenset[str], ingredients: Sequence[str] = ()) -> Product | None:
    """The product that a drug record or order names; a code of the cell therapy class alone names none."""
    named = sorted(concepts & products().keys())
    if named:
        return products()[named[0]]
    if _CELL_CLASS in concepts and not ingredients:
        return Product("")
    return None


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that the course is read from."""

    now: datetime
    conditions: Sequence[Condition]
    procedures: Sequence[Procedure]
    services: Sequence[ServiceOrder]
    appointments: Sequence[Appointment]
    drugs: Sequence[DrugRecord]
    documents: Sequence[Document]
    draft_drugs: Sequence[DrugRecord] = ()
    draft_services: Sequence[ServiceOrder] = ()
    draft_appointments: Sequence[Appointment] = ()

    @property
    def all_services(self) -> list[ServiceOrder]:
        return [*self.services, *self.draft_services]

    @property
    def all_appointments(self) -> list[Appointment]:
        """Those of the chart, with the ones under test in place of their stored versions."""
        proposed = {a.reference for a in self.draft_appointments}
        return [*(a for a in self.appointments if a.reference not in proposed), *self.draft_appointments]


def _start(anchor: Anchor) -> tuple[bool, float, str]:
    return anchor.when is None, anchor.when.latest.timestamp() if anchor.when else 0.0, anchor.reference


def _span_after(day: date | None, moment: Moment | None) -> bool:
    """True when the moment lies after the day, or either is unknown."""
    return day is None or moment is None or moment.date > day


# -- infusions (K6, K7) ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Infusion:
    when: Moment
    reference: str
    end: Moment | None
    product: Product | None
    bag: DrugRecord | None
    rank: int  # administration before procedure before statement
    flags: frozenset[Flag]


def _infusions(facts: Facts) -> tuple[list[_Infusion], bool]:
    """Dated infusions, and whether one is on record without a date."""
    found: list[_Infusion] = []
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
            _Infusion(
                when, drug.reference, drug.timing.last, product, bag, 0 if administered else 2, drug.flags
            )
        )
    for procedure in facts.procedures:
        if "car_t_infusion" not in procedure.concepts:
            continue
        if procedure.state not in (EventState.DONE, EventState.RUNNING, EventState.STOPPED):
            continue
        if procedure.start is None:
            undated = True
            continue
        product = car_t_product(procedure.concepts | procedure.used)
        found.append(
            _Infusion(procedure.start, procedure.reference, procedure.end, product, None, 1, procedure.flags)
        )
    undated = undated or any(
        "hx_car_t" in c.concepts and c.state in (ConditionState.ACTIVE, ConditionState.HISTORY)
        for c in facts.conditions
    )
    found.sort(key=lambda i: (i.when.latest, i.rank, i.reference))
    return found, undated


def _courses(infusions: list[_Infusion]) -> list[list[_Infusion]]:
    """Infusions grouped into courses, oldest first."""
    groups: list[list[_Infusion]] = []
    for infusion in infusions:
        if groups and infusion.when.date - groups[-1][-1].when.date <= SAME_COURSE:
            groups[-1].append(infusion)
        else:
            groups.append([infusion])
    return groups


def _infused(group: list[_Infusion]) -> Anchor:
    """D0 of one course: its first bag; a procedure or a report only where no bag was recorded."""
    best = min(infusion.rank for infusion in group)
    first = next(infusion for infusion in group if infusion.rank == best)
    return Anchor(Evidence.DONE, first.reference, first.when, first.end, first.flags)


# -- product orders (K5) -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Order:
    reference: str
    evidence: Evidence
    product: Product | None
    when: Moment | None
    made: Moment | None


def _product_orders(facts: Facts) -> list[_Order]:
    found: list[_Order] = []
    for drug in [*facts.drugs, *facts.draft_drugs]:
        product = car_t_product(drug.concepts, drug.ingredients)
        if product is None or drug.source is not DrugSource.ORDER:
            continue
        if drug.state not in (DrugState.ACTIVE, DrugState.DRAFT):
            continue
        dated = drug.timing.first if Flag.AUTHORED_DATE not in drug.timing.flags else None
        evidence = Evidence.DRAFT if drug.state is DrugState.DRAFT else Evidence.ORDERED
        found.append(_Order(drug.reference, evidence, product, dated, drug.authored))
    for service in facts.all_services:
        product = car_t_product(service.concepts | service.details)
        if "car_t_infusion" not in service.concepts and product is None:
            continue
        if service.state not in (EventState.ACTIVE, EventState.DRAFT):
            continue
        dated = service.when if Flag.AUTHORED_DATE not in service.flags else None
        evidence = Evidence.DRAFT if service.state is EventState.DRAFT else Evidence.ORDERED
        found.append(_Order(service.reference, evidence, product, dated, service.requested_at))
    return found


def _infusion_bookings(facts: Facts) -> list[Anchor]:
    found: list[Anchor] = []
    for visit in facts.all_appointments:
        named = "car_t_infusion" in visit.concepts or car_t_product(visit.concepts) is not None
        if named and visit.state is EventState.BOOKED and visit.start is not None:
            evidence = Evidence.PROPOSED if visit.proposed else Evidence.BOOKED
            found.append(Anchor(evidence, visit.reference, visit.start, flags=visit.flags))
    return found


# -- collection (K2, K3) -----------------------------------------------------------------------------------


def _is_apheresis(concepts: frozenset[str], purposes: frozenset[str]) -> bool:
    if _COLLECTION not in concepts or concepts & _OTHER_APHERESIS:
        return False
    return "purpose_stem_cell_collection" not in purposes


def _says_car_t(concepts: frozenset[str], purposes: frozenset[str], *more: frozenset[str]) -> bool:
    named = concepts.union(*more)
    return "purpose_car_t_collection" in purposes or not named.isdisjoint(products())


@dataclass(frozen=True, slots=True)
class _Apheresis:
    anchor: Anchor
    said: bool  # the entry itself says that it is for CAR-T cells


def _planned_apheresis(facts: Facts) -> list[_Apheresis]:
    found: list[_Apheresis] = []
    for visit in facts.all_appointments:
        if visit.state is EventState.BOOKED and _is_apheresis(visit.concepts, visit.purposes):
            evidence = Evidence.PROPOSED if visit.proposed else Evidence.BOOKED
            anchor = Anchor(evidence, visit.reference, visit.start, flags=visit.flags)
            found.append(_Apheresis(anchor, _says_car_t(visit.concepts, visit.purposes, visit.reasons)))
    for order in facts.all_services:
        open_order = order.state in (EventState.ACTIVE, EventState.DRAFT)
        if open_order and _is_apheresis(order.concepts, order.purposes):
            evidence = Evidence.DRAFT if order.state is EventState.DRAFT else Evidence.ORDERED
            when = None if Flag.AUTHORED_DATE in order.flags else order.when
            anchor = Anchor(evidence, order.reference, when, order.until, order.flags)
            found.append(
                _Apheresis(anchor, _says_car_t(order.concepts, order.purposes, order.details, order.reasons))
            )
    for procedure in facts.procedures:
        if procedure.state is EventState.PLANNED and _is_apheresis(procedure.concepts, procedure.purposes):
            anchor = Anchor(
                Evidence.ORDERED, procedure.reference, procedure.start, procedure.end, procedure.flags
            )
            found.append(
                _Apheresis(anchor, _says_car_t(procedure.concepts, procedure.purposes, procedure.used))
            )
    return found


def _done_apheresis(facts: Facts) -> list[_Apheresis]:
    """Collections that took place: procedures, else specimens and fulfilled appointments of other days."""
    found: list[_Apheresis] = []
    for procedure in facts.procedures:
        done = procedure.state in (EventState.DONE, EventState.RUNNING)
        if done and procedure.start is not None and _is_apheresis(procedure.concepts, procedure.purposes):
            anchor = Anchor(
                Evidence.DONE, procedure.reference, procedure.start, procedure.end, procedure.flags
            )
            said = _says_car_t(procedure.concepts, procedure.purposes, procedure.used, procedure.reasons)
            found.append(_Apheresis(anchor, said))
    days = {a.anchor.date for a in found}
    for specimen in facts.documents:
        if specimen.resource_type != "Specimen" or "apheresis_product" not in specimen.concepts:
            continue
        if specimen.when is None or specimen.when.earliest > facts.now or specimen.when.date in days:
            continue
        anchor = Anchor(Evidence.DONE, specimen.reference, specimen.when, flags=specimen.flags)
        found.append(_Apheresis(anchor, said=True))
    days |= {a.anchor.date for a in found}
    for visit in facts.appointments:
        took_place = visit.state is EventState.TOOK_PLACE and _is_apheresis(visit.concepts, visit.purposes)
        if took_place and visit.start is not None and visit.start.date not in days:
            flags = visit.flags | {Flag.BOOKING_ONLY}
            anchor = Anchor(Evidence.DONE, visit.reference, visit.start, flags=flags)
            found.append(_Apheresis(anchor, _says_car_t(visit.concepts, visit.purposes, visit.reasons)))
    return sorted(found, key=lambda a: _start(a.anchor))


def _for_stem_cells(apheresis: _Apheresis, facts: Facts, car_t_days: Iterable[date]) -> bool:
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


def _collections(facts: Facts, evidence: bool, car_t_days: list[date]) -> list[Anchor]:
    return [
        a.anchor
        for a in _done_apheresis(facts)
        if (a.said or evidence) and not _for_stem_cells(a, facts, car_t_days)
    ]


def _next_planned(candidates: list[Anchor], after: date | None, now: datetime) -> Anchor | None:
    """The plan that counts: strongest evidence, then the nearest day to come, else the last one missed."""
    open_plans = [a for a in candidates if _span_after(after, a.when)]
    for evidence in _STRENGTH:
        of_kind = [a for a in open_plans if a.evidence is evidence and a.when is not None]
        ahead = sorted((a for a in of_kind if a.date is not None and a.date >= now.date()), key=_start)
        if ahead:
            return ahead[0]
    for evidence in _STRENGTH:
        of_kind = sorted((a for a in open_plans if a.evidence is evidence and a.when is not None), key=_start)
        if of_kind:
            missed = of_kind[-1]
            return Anchor(
                missed.evidence, missed.reference, missed.when, missed.end, missed.flags | {Flag.BOOKING_ONLY}
            )
    undated = sorted(
        (a for a in open_plans if a.when is None), key=lambda a: (_STRENGTH.index(a.evidence), a.reference)
    )
    return undated[0] if undated else None


# -- lymphodepletion (K4) ----------------------------------------------------------------------------------


def _ldc_state(drug: DrugRecord) -> bool:
    if drug.source is DrugSource.ORDER:
        return drug.state in (DrugState.ACTIVE, DrugState.COMPLETED, DrugState.DRAFT)
    return drug.source is DrugSource.ADMINISTRATION and drug.state in (
        DrugState.GIVEN,
        DrugState.RUNNING,
        DrugState.PARTIAL,
    )


def _other_purpose(drug: DrugRecord) -> bool:
    return bool(drug.purposes - {_LDC}) or bool(drug.regimens - {_LDC_REGIMEN})


def _last_day(drug: DrugRecord) -> date | None:
    moment = drug.timing.last or drug.timing.first
    return None if moment is None else moment.date


def _inferred(drugs: list[DrugRecord], collected: date | None, infusion: date | None) -> list[DrugRecord]:
    """Drugs that can only be lymphodepletion: after the collection, before the infusion, no other purpose."""
    if collected is None:
        return []
    window = [
        d
        for d in drugs
        if not _other_purpose(d)
        and d.timing.first is not None
        and d.timing.first.date > collected
        and (infusion is None or d.timing.first.date < infusion)
    ]
    fludarabine = [d for d in window if "fludarabine" in d.concepts]
    chosen = list(fludarabine)
    starts = [d.timing.first.date for d in fludarabine if d.timing.first is not None]
    etoposide = any("etoposide" in d.concepts for d in window)
    for drug in window:
        first, last = drug.timing.first, _last_day(drug)
        if first is None or drug in chosen:
            continue
        beside = "cyclophosphamide" in drug.concepts and any(
            abs((first.date - day).days) <= 1 for day in starts
        )
        gap = None if infusion is None or last is None else (infusion - last).days
        in_time = gap is not None and _LDC_GAP[0] <= gap <= _LDC_GAP[1]
        fits = drug.is_any({"cyclophosphamide", "bendamustine"}) or (
            etoposide and drug.is_any({"cytarabine", "etoposide"})
        )
        if "etoposide" in drug.concepts and not any("cytarabine" in d.concepts for d in window):
            fits = False
        if beside or (in_time and fits):
            chosen.append(drug)
    return chosen


@dataclass(frozen=True, slots=True)
class _Dose:
    start: Moment
    end: Moment | None
    evidence: Evidence
    reference: str
    flags: frozenset[Flag]


def _doses(
    records: list[DrugRecord], events: Sequence[Procedure | ServiceOrder], bookings: list[Anchor]
) -> list[_Dose]:
    found: list[_Dose] = []
    for record in records:
        if record.timing.first is None:
            continue
        if record.source is DrugSource.ADMINISTRATION:
            last = record.timing.last or record.timing.first
            found.append(_Dose(record.timing.first, last, Evidence.DONE, record.reference, record.flags))
            continue
        if Flag.AUTHORED_DATE in record.timing.flags and not record.timing.doses:
            continue
        evidence = Evidence.DRAFT if record.state is DrugState.DRAFT else Evidence.ORDERED
        points = record.timing.doses or tuple(
            m for m in (record.timing.first, record.timing.last) if m is not None
        )
        found += [_Dose(point, None, evidence, record.reference, record.flags) for point in points]
    for event in events:
        if isinstance(event, Procedure):
            if event.start is not None:
                done = event.state in (EventState.DONE, EventState.RUNNING, EventState.STOPPED)
                evidence = Evidence.DONE if done else Evidence.ORDERED
                found.append(_Dose(event.start, event.end, evidence, event.reference, event.flags))
                if event.end is not None and event.end.date != event.start.date:
                    found.append(_Dose(event.end, event.end, evidence, event.reference, event.flags))
        elif event.when is not None and Flag.AUTHORED_DATE not in event.flags:
            evidence = Evidence.DRAFT if event.state is EventState.DRAFT else Evidence.ORDERED
            found.append(_Dose(event.when, event.until, evidence, event.reference, event.flags))
            if event.until is not None and event.until.date != event.when.date:
                found.append(_Dose(event.until, event.until, evidence, event.reference, event.flags))
    if not found:
        found = [
            _Dose(a.when, None, a.evidence, a.reference, a.flags) for a in bookings if a.when is not None
        ]
    return sorted(
        found, key=lambda d: (d.start.latest, d.start.earliest, _STRENGTH.index(d.evidence), d.reference)
    )


def _latest_set(doses: list[_Dose]) -> list[_Dose]:
    """The doses of one lymphodepletion: the latest ones without a long gap."""
    chosen: list[_Dose] = []
    for dose in reversed(doses):
        if chosen and chosen[-1].start.date - dose.start.date > _SAME_LDC:
            break
        chosen.append(dose)
    return chosen[::-1]


def _given_as_planned(doses: list[_Dose]) -> list[_Dose]:
    """A dose that was given stands for the planned one of its day."""
    given = {d.start.date for d in doses if d.evidence is Evidence.DONE}
    return [d for d in doses if d.evidence is Evidence.DONE or d.start.date not in given]


def _ldc_anchors(doses: list[_Dose]) -> tuple[Anchor | None, Anchor | None]:
    chosen = _given_as_planned(_latest_set(doses))
    if not chosen:
        return None, None
    first = chosen[0]
    last = max(chosen, key=lambda d: ((d.end or d.start).latest, d.start.latest, d.reference))
    return (
        Anchor(first.evidence, first.reference, first.start, first.end, first.flags),
        Anchor(last.evidence, last.reference, last.start, last.end, last.flags),
    )


# -- the course --------------------------------------------------------------------------------------------


def _evaluations(facts: Facts) -> list[tuple[str, Moment | None]]:
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


def _dates(moments: Iterable[Moment | None]) -> list[date]:
    return [m.date for m in moments if m is not None]


def read_course(facts: Facts) -> CarTCourse:
    """The course under way: not yet infused, or the latest one infused.

    After an infusion a new course begins with a collection, an evaluation or a product order made later than
    the infusion and planned more than seven days after it.
    """
    infusions, undated = _infusions(facts)
    groups = _courses(infusions)
    orders = _product_orders(facts)
    evaluations = _evaluations(facts)
    last_day0 = _infused(groups[-1]).date if groups else None
    bookings = _infusion_bookings(facts)
    evidence = bool(orders or evaluations or groups or bookings or undated)
    car_t_days = [
        *_dates(when for _, when in evaluations),
        *_dates(o.made or o.when for o in orders),
        *_dates(i.when for i in infusions),
    ]
    collections = _collections(facts, evidence, car_t_days)
    planned = _planned_apheresis(facts)
    plans = [p.anchor for p in planned if p.said or evidence or collections]
    if last_day0 is not None:
        horizon = last_day0 + SAME_COURSE
        new_orders = [
            o for o in orders if _after(o.made, last_day0) and (o.when is None or o.when.date > horizon)
        ]
        started_again = (
            any(c.date is not None and c.date > last_day0 for c in collections)
            or any(p.date is not None and p.date > horizon and p.date >= facts.now.date() for p in plans)
            or any(_after(when, last_day0) for _, when in evaluations)
            or bool(new_orders)
            or any(b.date is not None and b.date > horizon for b in bookings)
        )
        if started_again:
            return _before_infusion(
                facts, groups, undated, orders, evaluations, collections, plans, planned, bookings
            )
        return _after_infusion(facts, groups, undated, collections)
    return _before_infusion(
        facts, groups, undated, orders, evaluations, collections, plans, planned, bookings
    )


def _after(moment: Moment | None, day: date) -> bool:
    return moment is not None and moment.first_date > day


def _ldc_parts(
    facts: Facts, since: date | None, until: date | None, collected: date | None, infusion: date | None
) -> tuple[list[DrugRecord], list[Procedure | ServiceOrder]]:
    """Lymphodepletion records of a course that lies after `since` and not after `until`."""

    def inside(moment: Moment | None) -> bool:
        if moment is None:
            return until is None
        return (since is None or moment.date > since) and (until is None or moment.first_date <= until)

    drugs = [d for d in [*facts.drugs, *facts.draft_drugs] if _ldc_state(d) and inside(d.timing.first)]
    stated = [d for d in drugs if _LDC in d.purposes and not d.regimens - {_LDC_REGIMEN}]
    inferred = _inferred(drugs, collected, infusion)
    records = [d for d in drugs if d in stated or d in inferred]
    events: list[Procedure | ServiceOrder] = [
        p for p in facts.procedures if "lymphodepletion" in p.concepts and inside(p.start)
    ]
    events += [
        s
        for s in facts.all_services
        if "lymphodepletion" in s.concepts
        and s.state in (EventState.ACTIVE, EventState.DRAFT)
        and inside(s.when)
    ]
    return records, events


def _ldc_bookings(facts: Facts, since: date | None) -> list[Anchor]:
    return [
        Anchor(Evidence.PROPOSED if a.proposed else Evidence.BOOKED, a.reference, a.start, flags=a.flags)
        for a in facts.all_appointments
        if "lymphodepletion" in a.concepts
        and a.state is EventState.BOOKED
        and a.start is not None
        and _span_after(since, a.start)
    ]


def _before_infusion(
    facts: Facts,
    groups: list[list[_Infusion]],
    undated: bool,
    orders: list[_Order],
    evaluations: list[tuple[str, Moment | None]],
    collections: list[Anchor],
    plans: list[Anchor],
    planned: list[_Apheresis],
    bookings: list[Anchor],
) -> CarTCourse:
    earlier = tuple(_infused(group) for group in groups)
    since = earlier[-1].date if earlier else None
    own = tuple(c for c in collections if _span_after(since, c.when))
    last_collected = own[-1].date if own else None
    leukapheresis = _next_planned(plans, last_collected or since, facts.now)
    if own and leukapheresis is not None and (leukapheresis.when is None or leukapheresis.date is None):
        leukapheresis = None
    if own and leukapheresis is not None and Flag.BOOKING_ONLY in leukapheresis.flags:
        leukapheresis = None
    orders = [o for o in orders if since is None or o.made is None or not o.made.date <= since]
    planned_infusions = [
        *bookings,
        *(Anchor(o.evidence, o.reference, o.when) for o in orders),
        *(
            Anchor(Evidence.ORDERED, p.reference, p.start, p.end, p.flags)
            for p in facts.procedures
            if "car_t_infusion" in p.concepts and p.state is EventState.PLANNED
        ),
    ]
    infusion = _next_planned(planned_infusions, since, facts.now)
    day0 = infusion.date if infusion is not None else None
    records, events = _ldc_parts(facts, since, None, last_collected, day0)
    first, last = _ldc_anchors(_doses(records, events, _ldc_bookings(facts, since)))
    product = next((o.product for o in orders if o.product is not None and o.product.concept), None)
    possible = None
    diseased = any(
        c.state is ConditionState.ACTIVE and not c.concepts.isdisjoint(_CAR_T_DISEASES)
        for c in facts.conditions
    )
    if not plans and not own and diseased:
        possible = _next_planned([p.anchor for p in planned], since, facts.now)
    return CarTCourse(
        evaluation=next((ref for ref, when in evaluations if since is None or _after(when, since)), ""),
        product=product,
        product_orders=tuple(dict.fromkeys(o.reference for o in orders)),
        leukapheresis=leukapheresis,
        possible_collection=possible,
        collections=own,
        ldc_records=tuple(records),
        ldc_events=tuple(events),
        ldc_first=first,
        ldc_last=last,
        infusion_planned=infusion,
        earlier=earlier,
        infused_date_unknown=undated and not groups,
    )


def _after_infusion(
    facts: Facts, groups: list[list[_Infusion]], undated: bool, collections: list[Anchor]
) -> CarTCourse:
    group = groups[-1]
    infused = _infused(group)
    earlier = tuple(_infused(other) for other in groups[:-1])
    since = earlier[-1].date if earlier else None
    own = tuple(
        c
        for c in collections
        if c.date is not None
        and infused.date is not None
        and _span_after(since, c.when)
        and c.date <= infused.date
    )
    collected = own[-1].date if own else None
    records, events = _ldc_parts(facts, since, infused.date, collected, infused.date)
    records = [d for d in records if d.state is not DrugState.DRAFT]
    first, last = _ldc_anchors(_doses(records, events, []))
    bags = tuple(
        sorted(
            (i.bag for i in group if i.bag is not None),
            key=lambda b: (b.timing.first.latest.timestamp() if b.timing.first else 0.0, b.reference),
        )
    )
    product = next((i.product for i in group if i.product is not None and i.product.concept), None)
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
        infused_date_unknown=undated and not groups,
    )
