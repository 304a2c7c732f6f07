"""What the CAR-T course is read from, and which plan of several counts (chart-facts section 12)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache

from fhir_mapping.chart import (
    Anchor,
    Appointment,
    Condition,
    Document,
    DrugRecord,
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
OPEN_ORDER = (EventState.ACTIVE, EventState.DRAFT, EventState.PLANNED)  # planned: on hold (1.2)
STRENGTH = [Evidence.DONE, Evidence.PROPOSED, Evidence.BOOKED, Evidence.ORDERED, Evidence.DRAFT]
_CELL_CLASS = "class_cell_gene_therapy"


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
class CourseFacts:
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


def by_start(anchor: Anchor) -> tuple[bool, float, str]:
    return anchor.when is None, anchor.when.latest.timestamp() if anchor.when else 0.0, anchor.reference


def may_be_after(day: date | None, moment: Moment | None) -> bool:
    """True when the moment lies after the day, or either is unknown."""
    return day is None or moment is None or moment.date > day


def is_after(moment: Moment | None, day: date) -> bool:
    return moment is not None and moment.first_date > day


def dates_of(moments: Iterable[Moment | None]) -> list[date]:
    return [m.date for m in moments if m is not None]


def next_planned(candidates: list[Anchor], after: date | None, now: datetime) -> Anchor | None:
    """The plan that counts: strongest evidence, then the nearest day to come, else the last one missed."""
    open_plans = [a for a in candidates if may_be_after(after, a.when)]
    for evidence in STRENGTH:
        of_kind = [a for a in open_plans if a.evidence is evidence and a.when is not None]
        ahead = sorted((a for a in of_kind if a.date is not None and a.date >= now.date()), key=by_start)
        if ahead:
            return ahead[0]
    for evidence in STRENGTH:
        of_kind = sorted(
            (a for a in open_plans if a.evidence is evidence and a.when is not None), key=by_start
        )
        if of_kind:
            missed = of_kind[-1]
            return Anchor(
                missed.evidence, missed.reference, missed.when, missed.end, missed.flags | {Flag.BOOKING_ONLY}
            )
    undated = sorted(
        (a for a in open_plans if a.when is None), key=lambda a: (STRENGTH.index(a.evidence), a.reference)
    )
    return undated[0] if undated else None
