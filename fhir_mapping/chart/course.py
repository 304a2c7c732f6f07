"""The therapy course: the few dates on which every rule hangs (chart-facts section 12)."""

from __future__ import annotations

from datetime import date, datetime
from enum import StrEnum

from fhir_mapping.chart.facts import DrugRecord, Flag, Procedure, ServiceOrder
from fhir_mapping.chart.frozen import frozen
from fhir_mapping.chart.time import Moment


class Evidence(StrEnum):
    """What an anchor rests on, strongest first."""

    DONE = "done"
    PROPOSED = "proposed"  # appointment under test in the hook: beats a booking of the same kind
    BOOKED = "booked"
    ORDERED = "ordered"
    DRAFT = "draft"


@frozen
class Anchor:
    """A planned or actual event. `when` None: ordered or recorded without a date."""

    evidence: Evidence
    reference: str
    when: Moment | None = None
    end: Moment | None = None
    flags: frozenset[Flag] = frozenset()

    @property
    def date(self) -> date | None:
        return None if self.when is None else self.when.date

    @property
    def done(self) -> bool:
        return self.evidence is Evidence.DONE


@frozen
class Product:
    """A CAR-T product: its concept, target antigen (CD19, BCMA) and costimulatory domain ("" unknown)."""

    concept: str
    target: str = ""
    costimulation: str = ""


@frozen
class CarTCourse:
    """One patient's CAR-T way. All dates are local calendar dates of the site's zone."""

    evaluation: str = ""  # reference that opened the evaluation (K1), "" none
    product: Product | None = None  # ordered or infused product of this course
    product_orders: tuple[str, ...] = ()  # references (K5)
    leukapheresis: Anchor | None = None  # planned (K2); None once collected unless a second is booked
    possible_collection: Anchor | None = None  # bare apheresis beside a CAR-T disease: ask, no verdict
    collections: tuple[Anchor, ...] = ()  # done, oldest first (K3)
    ldc_records: tuple[DrugRecord, ...] = ()  # lymphodepletion drugs, given, ordered and drafted (K4)
    ldc_events: tuple[Procedure | ServiceOrder, ...] = ()
    ldc_first: Anchor | None = None  # D_ldc0, planned or given
    ldc_last: Anchor | None = None  # D_ldcN
    infusion_planned: Anchor | None = None  # booked or ordered D0
    bags: tuple[DrugRecord, ...] = ()  # administrations of the latest course, by start (K6, K7)
    infused: Anchor | None = None  # D0 done
    earlier: tuple[Anchor, ...] = ()  # infusions of earlier courses, oldest first
    infused_product: Product | None = None  # of the latest infusion
    infused_date_unknown: bool = False  # history of CAR-T without a day

    @property
    def candidate(self) -> bool:
        """A course that is under way and has not been infused (chart-facts K1)."""
        return self.infused is None and (
            bool(self.evaluation)
            or bool(self.product_orders)
            or self.leukapheresis is not None
            or bool(self.collections)
            or self.infusion_planned is not None
        )

    @property
    def collected(self) -> Anchor | None:
        """Last collection of this course."""
        return self.collections[-1] if self.collections else None

    @property
    def day0(self) -> date | None:
        """D0, only when infused."""
        return None if self.infused is None else self.infused.date

    @property
    def day0_any(self) -> date | None:
        """D0 infused, else planned."""
        if self.infused is not None:
            return self.infused.date
        return None if self.infusion_planned is None else self.infusion_planned.date

    @property
    def last_infused(self) -> Anchor | None:
        """The infusion that follow-up counts from: a new course that is only planned does not end it."""
        return self.infused or (self.earlier[-1] if self.earlier else None)

    @property
    def last_day0(self) -> date | None:
        """D0 of the latest infusion, of this course or the one before it."""
        return None if self.last_infused is None else self.last_infused.date

    def last_day(self, on: date) -> int | None:
        """Days since the latest infusion; None where there was none."""
        return None if self.last_day0 is None else (on - self.last_day0).days

    def day(self, on: date) -> int | None:
        """Day of the course: D0 is day 0; None when not infused."""
        return None if self.day0 is None else (on - self.day0).days

    def hours_since(self, at: datetime) -> float | None:
        """H+n from the start of the first bag; None without an exact time."""
        if self.infused is None or self.infused.when is None:
            return None
        return self.infused.when.hours_to(at)

    @property
    def any_evidence(self) -> bool:
        return (
            self.candidate
            or self.infused is not None
            or self.infused_date_unknown
            or bool(self.earlier)
            or bool(self.ldc_events)
        )
