"""All usable Observations of one concept, oldest first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, datetime, timedelta
from typing import overload

from fhir_mapping.chart.facts import Loss, Observation


class Series(Sequence[Observation]):
    """Immutable; `items` oldest first by `when.latest`, already freed of duplicates and contradictions
    (chart-facts section 19). `losses` are the entries of this concept that could not be used. Pending
    results (`registered`) stand apart in `pending`."""

    __slots__ = ("concept", "items", "losses", "pending")

    def __init__(
        self,
        concept: str,
        items: tuple[Observation, ...] = (),
        losses: tuple[Loss, ...] = (),
        pending: tuple[Observation, ...] = (),
    ) -> None:
        self.concept = concept
        self.items = items
        self.losses = losses
        self.pending = pending

    @overload
    def __getitem__(self, index: int) -> Observation: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Observation, ...]: ...
    def __getitem__(self, index: int | slice) -> Observation | tuple[Observation, ...]:
        return self.items[index]

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Observation]:
        return iter(self.items)

    def __reversed__(self) -> Iterator[Observation]:
        return reversed(self.items)

    def latest(
        self,
        at: datetime,
        within: timedelta | None = None,
        usable: Callable[[Observation], bool] = lambda _: True,
    ) -> Observation | None:
        """Newest observation not after `at`, not older than `within`, that satisfies `usable`."""
        oldest = None if within is None else at - within
        for item in self.until(at):
            if oldest is not None and item.when.latest < oldest:
                return None
            if (oldest is None or item.when.reaches(oldest)) and usable(item):
                return item
        return None

    def between(self, start: datetime, end: datetime) -> tuple[Observation, ...]:
        """Observations whose time may lie in [start, end]."""
        return tuple(o for o in self.since(start) if o.when.earliest <= end)

    def until(self, at: datetime) -> Iterator[Observation]:
        """Observations that may lie at or before `at`, newest first."""
        return (o for o in reversed(self) if o.when.earliest <= at)

    def since(self, start: datetime) -> tuple[Observation, ...]:
        """Observations that may lie at or after `start`, oldest first."""
        return tuple(o for o in self.items if o.when.reaches(start))

    def on(self, day: date) -> tuple[Observation, ...]:
        """Observations of one local calendar day."""
        return tuple(o for o in self.items if o.when.day_known and o.when.date == day)

    def by_day(self) -> dict[date, list[Observation]]:
        """Local calendar day -> its observations, days in order; partial dates left out."""
        return by_day(self.items)


def by_day(items: Iterable[Observation]) -> dict[date, list[Observation]]:
    """Local calendar day -> its observations, in their order; partial dates left out."""
    days: dict[date, list[Observation]] = {}
    for item in items:
        if item.when.day_known:
            days.setdefault(item.when.date, []).append(item)
    return days
