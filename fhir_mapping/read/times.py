"""Time stamps of a chart in the site's zone (chart-facts 1.3)."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, tzinfo

from fhir_mapping.chart import Moment, Precision
from fhir_mapping.read.shape import Json, obj

TOLERATED_CLOCK_SKEW = timedelta(minutes=5)  # chart-facts 1.3: later than this is a future result

_STAMP = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?\s?(Z|z|[+-]\d\d:?\d\d)?$")
_USUAL_STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:[0-5]\d(?:Z|[+-]\d\d:\d\d)$")
_NEVER = 2900  # hospital systems write "no end" as 2999-12-31 or 9999-12-31
_TICK = timedelta(microseconds=1)


def _day(year: int, month: int, day: int, zone: tzinfo) -> datetime:
    return datetime(year, month, day, tzinfo=zone)


class Stamps:
    """Reads FHIR date and dateTime texts, each text once."""

    __slots__ = ("_seen", "zone")

    def __init__(self, zone: tzinfo) -> None:
        self.zone = zone
        self._seen: dict[str, Moment | None] = {}

    def read(self, value: object) -> Moment | None:
        """The moment that a stamp names; None where there is none or it cannot be read.

        A stamp without zone is local time of the site. Dates, months and years are intervals. A day that
        never comes is no day: a period that ends with it is open.
        """
        if not isinstance(value, str):
            return None
        try:
            return self._seen[value]
        except KeyError:
            moment = self._parse(value.strip())
            if moment is not None and moment.latest.year >= _NEVER:
                moment = None
            self._seen[value] = moment
            return moment

    def _parse(self, written: str) -> Moment | None:
        try:
            if _USUAL_STAMP.match(written):
                stamp = datetime.fromisoformat(written).astimezone(self.zone)
                return Moment(stamp, stamp)
            if len(written) > 10:
                return self._instant(written)
            parts = written.split("-")
            if not all(part.isascii() and part.isdigit() for part in parts):
                return None
            if [len(part) for part in parts] not in ([4], [4, 2], [4, 2, 2]):
                return None
            return self._interval([int(part) for part in parts])
        except (ValueError, OverflowError):
            return None

    def _instant(self, written: str) -> Moment | None:
        if not _STAMP.match(written):
            return None
        if written[17:19] == "60":  # a leap second; the second before it is near enough
            written = f"{written[:17]}59{written[19:]}"
        if " " in written or "z" in written:
            written = written.replace("z", "Z").replace(" ", "T", 1).replace(" ", "")
        stamp = datetime.fromisoformat(written)
        stamp = stamp.replace(tzinfo=self.zone) if stamp.tzinfo is None else stamp.astimezone(self.zone)
        return Moment(stamp, stamp)

    def _interval(self, parts: list[int]) -> Moment:
        if len(parts) == 3:
            start = _day(parts[0], parts[1], parts[2], self.zone)
            return Moment(
                start, start.replace(hour=23, minute=59, second=59, microsecond=999999), Precision.DAY
            )
        if len(parts) == 2:
            year, month = parts
            following = date(year + month // 12, month % 12 + 1, 1)
            precision = Precision.MONTH
        else:
            year, month = parts[0], 1
            following = date(year + 1, 1, 1)
            precision = Precision.YEAR
        start = _day(year, month, 1, self.zone)
        end = _day(following.year, following.month, following.day, self.zone) - _TICK
        return Moment(start, end, precision)

    def period(self, value: object) -> tuple[Moment | None, Moment | None]:
        """Start and end of a Period."""
        period = obj(value)
        return self.read(period.get("start")), self.read(period.get("end"))

    def point_or_period(self, resource: Json, stem: str) -> tuple[Moment | None, Moment | None]:
        """`<stem>DateTime` as (start, start), else `<stem>Period`."""
        point = self.read(resource.get(f"{stem}DateTime"))
        if point is not None:
            return point, point
        return self.period(resource.get(f"{stem}Period"))


def shifted(moment: Moment, by: timedelta) -> Moment:
    """The moment moved by a length of time: whole days keep the wall clock, hours are elapsed hours."""
    if not moment.exact:
        by = timedelta(days=by // timedelta(days=1))
    if not by % timedelta(days=1):
        return Moment(moment.earliest + by, moment.latest + by, moment.precision)
    zone = moment.latest.tzinfo
    stamp = (moment.latest.astimezone(UTC) + by).astimezone(zone)
    return Moment(stamp, stamp)
