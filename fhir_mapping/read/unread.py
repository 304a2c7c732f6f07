"""A long series of usual Observations, decoded from the newest backwards, only as far as a rule looks.

Most rules ask for the last days of a chart that goes back for months. Where all entries of a concept are
final results of our patient, stamped in one and the same way, the text of the stamps sorts them; nothing of
one moment competes with anything of another (chart-facts section 19), so that a later part can be read
without the earlier.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, tzinfo
from operator import itemgetter
from typing import Protocol, TypeAlias

from fhir_mapping.chart import Loss, Observation, Series
from fhir_mapping.read.losses import in_order
from fhir_mapping.read.shape import Json
from fhir_mapping.read.traits import Traits

# the Observation, the component that carries the concept, by name, a usual one (see `Observations.index`)
Entry: TypeAlias = tuple[Json, Json | None, bool, bool]
_WORTH_IT = 12  # entries; a shorter series is decoded at once
_STEP = 4  # entries that a search for the newest usable one decodes first; doubled as it goes on
_STAMP_LENGTHS = {20, 25}  # 2026-03-16T10:00:00Z, 2026-03-16T10:00:00+08:00
_ZONE_AT, _SECONDS_AT = 19, 17
_SECOND = timedelta(seconds=1)  # stamps are written to the second


class _Decoder(Protocol):
    def series(self, entries: Sequence[Entry], traits: Traits) -> Series: ...


class UnreadSeries(Series):
    """Says the same as the whole series; `items` and `losses` decode what is left."""

    __slots__ = ("_decoder", "_entries", "_found", "_lost", "_rest", "_stamps", "_traits", "_zone")

    def __init__(
        self, stamped: list[tuple[str, Entry]], zone: tzinfo | None, traits: Traits, decoder: _Decoder
    ) -> None:
        """`zone`: in which all stamps are written; a stamp that is no date is a loss once it is decoded."""
        self.concept = traits.concept
        self.pending = ()
        self._stamps = [stamp for stamp, _ in stamped]
        self._entries = [entry for _, entry in stamped]
        self._zone = zone
        self._traits = traits
        self._decoder = decoder
        self._rest = len(stamped)  # entries before this place are still to be decoded
        self._found: tuple[Observation, ...] = ()
        self._lost: tuple[Loss, ...] = ()

    def _read_back_to(self, place: int) -> None:
        """Decode entries from `place` on, and all others of that very moment."""
        while 0 < place < self._rest and self._stamps[place - 1] == self._stamps[place]:
            place -= 1
        if place < self._rest:
            part = self._decoder.series(self._entries[place : self._rest], self._traits)
            self._rest = place
            self._found = (*part.items, *self._found)
            self._lost = tuple(sorted((*part.losses, *self._lost), key=in_order))

    @property
    def items(self) -> tuple[Observation, ...]:  # type: ignore[override]
        self._read_back_to(0)
        return self._found

    @property
    def losses(self) -> tuple[Loss, ...]:  # type: ignore[override]
        self._read_back_to(0)
        return self._lost

    def __reversed__(self) -> Iterator[Observation]:
        step, seen = _STEP, 0
        while True:
            found = self._found
            for at in range(len(found) - seen - 1, -1, -1):
                yield found[at]
            seen = len(found)
            if not self._rest:
                return
            self._read_back_to(max(self._rest - step, 0))
            step *= 2

    def until(self, at: datetime) -> Iterator[Observation]:
        """Decodes what is newer and a few more in one go."""
        if not self._found or self._found[0].when.latest > at:
            self._read_back_to(max(self._place_of(at) - _STEP, 0))
        return super().until(at)

    def between(self, start: datetime, end: datetime) -> tuple[Observation, ...]:
        place = self._place_of(start)
        if place < self._rest and place == self._place_of(end + _SECOND):
            return ()  # nothing was stamped then: what is newer need not be decoded
        self._read_back_to(place)
        return tuple([o for o in self._found if o.when.latest >= start and o.when.earliest <= end])

    def since(self, start: datetime) -> tuple[Observation, ...]:
        self._read_back_to(self._place_of(start))
        return tuple([o for o in self._found if o.when.latest >= start])

    def _place_of(self, moment: datetime) -> int:
        """The first entry stamped in the second of the moment, or later."""
        written = moment.astimezone(self._zone).replace(microsecond=0, tzinfo=None)
        return bisect_left(self._stamps, written.isoformat())


def unread_series(entries: list[Entry], traits: Traits, decoder: _Decoder) -> Series | None:
    """The series, still to be decoded; None where the entries need to be looked at together."""
    if len(entries) < _WORTH_IT or traits.collected_counts:  # a culture is dated by its specimen
        return None
    stamped: list[tuple[str, Entry]] = []
    first = entries[0][0].get("effectiveDateTime")
    if not isinstance(first, str) or len(first) not in _STAMP_LENGTHS:
        return None
    zone, length = first[_ZONE_AT:], len(first)
    for entry in entries:
        stamp = entry[0].get("effectiveDateTime")
        if (
            not entry[3]
            or type(stamp) is not str
            or len(stamp) != length
            or stamp[_ZONE_AT:] != zone
            or stamp[10] != "T"
            or stamp[_SECONDS_AT] == "6"  # a leap second is read as the second before it
        ):
            return None
        stamped.append((stamp, entry))
    try:
        written_in = datetime.fromisoformat(first).tzinfo
    except ValueError:
        return None
    stamped.sort(key=itemgetter(0))
    return UnreadSeries(stamped, written_in, traits, decoder)
