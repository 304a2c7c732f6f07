"""What every reader of one chart shares."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from fhir_mapping.chart import LossReason, Moment
from fhir_mapping.read.coding import NO_CONCEPTS, Codes
from fhir_mapping.read.losses import Losses
from fhir_mapping.read.pool import Pool
from fhir_mapping.read.remembered import Remembered
from fhir_mapping.read.shape import Json, name_of, objs, text
from fhir_mapping.read.times import TOLERATED_CLOCK_SKEW, Stamps
from fhir_mapping.read.traits import TraitsOf
from fhir_mapping.read.values import Values

F = TypeVar("F")
DAMAGE = (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RecursionError)


@dataclass(frozen=True, slots=True)
class Memory:
    """Drugs by what was written (see `medication`), and ways of giving one (see `administration`)."""

    identities: Remembered[object, Any] = field(default_factory=Remembered)
    given: Remembered[object, Any] = field(default_factory=Remembered)


@dataclass(frozen=True, slots=True)
class Context:
    """The patient's data, the clock and the decoders; one per chart."""

    pool: Pool
    now: datetime
    codes: Codes
    stamps: Stamps
    traits: TraitsOf
    values: Values
    losses: Losses
    memory: Memory = field(default_factory=Memory)

    @property
    def latest_allowed(self) -> datetime:
        """Facts later than this are in the future."""
        return self.now + TOLERATED_CLOCK_SKEW

    def in_future(self, moment: Moment | None) -> bool:
        return moment is not None and moment.earliest > self.latest_allowed

    def damaged(self, resource: Json, concept: str = "") -> None:
        """A damaged entry costs that entry only; it is named."""
        self.losses.add(LossReason.MALFORMED, name_of(resource), concept, "damaged")

    def each(self, resources: Iterable[Json], read: Callable[[Json], F | None]) -> list[F]:
        """What `read` makes of every resource; one that breaks it is lost and named."""
        found: list[F] = []
        for resource in resources:
            try:
                fact = read(resource)
            except DAMAGE:
                self.damaged(resource)
                continue
            if fact is not None:
                found.append(fact)
        return found

    def sites(self, value: object) -> frozenset[str]:
        """Body sites: concepts where known, else the text as written, case-folded."""
        found: set[str] = set()
        for item in objs(value):
            concepts = self.codes.read(item, NO_CONCEPTS).concepts
            if concepts:
                found |= concepts
                continue
            shown = text(item.get("text")) or next(
                (d for c in objs(item.get("coding")) if (d := text(c.get("display")) or text(c.get("code")))),
                "",
            )
            if shown:
                found.add(shown.casefold())
        return frozenset(found)
