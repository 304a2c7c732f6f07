"""The chart: what the resources of one patient say, indexed by concept, read on demand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

from fhir_mapping.chart.course import CarTCourse
from fhir_mapping.chart.facts import (
    Allergy,
    Appointment,
    Condition,
    Document,
    DrugRecord,
    DrugSource,
    Encounter,
    Exposure,
    Loss,
    Observation,
    Patient,
    Procedure,
    ServiceOrder,
    Vaccine,
)
from fhir_mapping.chart.series import Series


class HasConcepts(Protocol):
    @property
    def concepts(self) -> frozenset[str]: ...


F = TypeVar("F", bound=HasConcepts)


class Facts(Generic[F]):
    """Facts of one kind in time order; decoded on first use, then found by concept in constant time."""

    __slots__ = ("_all", "_index", "_load")

    def __init__(self, load: Callable[[], Iterable[F]] | Iterable[F] = ()) -> None:
        self._load = load
        self._all: tuple[F, ...] | None = None
        self._index: dict[str, list[F]] | None = None

    @property
    def all(self) -> tuple[F, ...]:
        if self._all is None:
            loaded = self._load() if callable(self._load) else self._load
            self._all = tuple(loaded)
        return self._all

    def of(self, *concepts: str) -> tuple[F, ...]:
        """Facts that carry any of the concepts, in time order, each once."""
        index = self._index
        if index is None:
            index = self._index = {}
            for fact in self.all:
                for concept in fact.concepts:
                    index.setdefault(concept, []).append(fact)
        if len(concepts) == 1:
            return tuple(index.get(concepts[0], ()))
        if index.keys().isdisjoint(concepts):
            return ()
        wanted = set(concepts)
        return tuple([fact for fact in self.all if not wanted.isdisjoint(fact.concepts)])

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(self.all)

    def __len__(self) -> int:
        return len(self.all)

    def __bool__(self) -> bool:
        return bool(self.all)


class KeyState(StrEnum):
    """What became of one prefetch key (prefetch.md)."""

    COMPLETE = "complete"
    HORIZON = "horizon"  # complete back to `horizon`
    EMPTY = "empty"  # asked, nothing there
    FAILED = "failed"
    NOT_ASKED = "not-asked"


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of one prefetch key was read. `enough`: no rule looks further back than the horizon."""

    state: KeyState
    horizon: datetime | None = None
    reason: str = ""  # closed list of the resolver, e.g. timeout, forbidden, not-offered
    enough: bool = False


@dataclass(frozen=True, slots=True)
class Drafts:
    """What the hook brought for judgement; the chart's own orders do not contain them.

    `of_others` counts what is written for another patient than the hook's; nothing of it is read.
    """

    drugs: Facts[DrugRecord] = field(default_factory=Facts)
    services: Facts[ServiceOrder] = field(default_factory=Facts)
    vaccines: Facts[Vaccine] = field(default_factory=Facts)
    appointments: Facts[Appointment] = field(default_factory=Facts)
    of_others: int = 0


@dataclass(frozen=True)
class Chart:
    """Everything read about one patient. Immutable for rules; order of resources never matters.

    `drugs` holds administrations, dispenses, statements and orders together, sorted by first date;
    orders that a draft of the hook replaces are left out. `now` bounds it: later results are losses.
    """

    patient: Patient
    now: datetime
    series_of: Callable[[str], Series]
    conditions: Facts[Condition] = field(default_factory=Facts)
    procedures: Facts[Procedure] = field(default_factory=Facts)
    services: Facts[ServiceOrder] = field(default_factory=Facts)
    appointments: Facts[Appointment] = field(default_factory=Facts)
    encounters: tuple[Encounter, ...] = ()
    drugs: Facts[DrugRecord] = field(default_factory=Facts)
    vaccines: Facts[Vaccine] = field(default_factory=Facts)  # given
    vaccine_orders: Facts[Vaccine] = field(default_factory=Facts)  # active orders, recommendations
    allergies: Facts[Allergy] = field(default_factory=Facts)
    documents: Facts[Document] = field(default_factory=Facts)
    drafts: Drafts = field(default_factory=Drafts)
    course: CarTCourse = field(default_factory=CarTCourse)
    exposures_of: Callable[[], tuple[Exposure, ...]] = tuple
    coverage: Mapping[str, Coverage] = field(default_factory=dict)
    read_losses: Callable[[], tuple[Loss, ...]] = tuple

    def series(self, concept: str) -> Series:
        return self.series_of(concept)

    def latest(self, concept: str) -> Observation | None:
        return self.series_of(concept).latest(self.now)

    @property
    def exposures(self) -> tuple[Exposure, ...]:
        """Every drug exposure, one per ingredient and route (M1)."""
        return self.exposures_of()

    @property
    def losses(self) -> tuple[Loss, ...]:
        """What could not be read so far; entries are decoded on demand, so ask after the rules ran."""
        return self.read_losses()

    def administrations(self, *concepts: str) -> tuple[DrugRecord, ...]:
        """Given administrations (completed, running or stopped) of the drugs or classes."""
        return tuple(d for d in self.drugs.of(*concepts) if d.source is DrugSource.ADMINISTRATION and d.given)

    def orders(self, *concepts: str) -> tuple[DrugRecord, ...]:
        """Orders on the chart of the drugs or classes, whatever their state."""
        return tuple(d for d in self.drugs.of(*concepts) if d.source is DrugSource.ORDER)

    def active_drugs(self, *concepts: str) -> tuple[DrugRecord, ...]:
        """Orders in force, running administrations and current statements (M2)."""
        return tuple(d for d in self.drugs.of(*concepts) if d.in_force)

    def allergy_to(self, *concepts: str) -> tuple[Allergy, ...]:
        """Allergies that block these drugs or classes: active, confirmed or not."""
        return tuple(a for a in self.allergies.of(*concepts) if a.active)
