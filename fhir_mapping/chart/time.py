"""When something happened: an instant, or an interval where the chart knows no better."""

from __future__ import annotations

from calendar import isleap, monthrange
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum

from dateutil.relativedelta import relativedelta

from fhir_mapping.chart.frozen import frozen

Day = date  # the property `date` below would hide the type


class Precision(StrEnum):
    """How much of a time stamp was written."""

    INSTANT = "instant"
    DAY = "day"
    MONTH = "month"
    YEAR = "year"


@frozen
class Moment:
    """A stamp of the chart in the site's zone: `earliest` <= truth <= `latest` (aware datetimes).

    An instant has `earliest == latest`; a date spans its local day, "2026-03" its month.
    """

    earliest: datetime
    latest: datetime
    precision: Precision = Precision.INSTANT

    @property
    def exact(self) -> bool:
        """True when hours may be counted from it."""
        return self.precision is Precision.INSTANT

    @property
    def day_known(self) -> bool:
        return self.precision in (Precision.INSTANT, Precision.DAY)

    @property
    def date(self) -> Day:
        """Local calendar date; of a month or year, its last day (washouts count from the latest day)."""
        return self.latest.date()

    @property
    def first_date(self) -> Day:
        return self.earliest.date()

    def reaches(self, start: datetime) -> bool:
        """May lie at or after `start`; a month or a year, its day unknown, has to lie there as a whole."""
        return self.earliest >= start or (self.latest >= start and self.day_known)

    def hours_to(self, later: Moment | datetime) -> float | None:
        """Elapsed hours, or None where either end knows no hour."""
        if not self.exact:
            return None
        if isinstance(later, Moment):
            if not later.exact:
                return None
            later = later.latest
        return (later.astimezone(UTC) - self.earliest.astimezone(UTC)) / timedelta(hours=1)


def instant(stamp: datetime) -> Moment:
    return Moment(stamp, stamp)


def whole_day(day: date, like: datetime) -> Moment:
    """The local day `day` in the zone of `like`."""
    start = datetime(day.year, day.month, day.day, tzinfo=like.tzinfo)
    return Moment(start, start + timedelta(days=1) - timedelta(microseconds=1), Precision.DAY)


def add_months(day: date, months: int) -> date:
    """Calendar months, clipped to the month's end (30 Nov + 3 = 28 or 29 Feb)."""
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return day.replace(year, month + 1, min(day.day, monthrange(year, month + 1)[1]))


def completed_years(birth: date, today: date) -> int:
    """Full years of life; who was born on 29 February turns a year older on the 28th of other years."""
    if today < birth:
        return relativedelta(today, birth).years
    leap_day = birth.month == 2 and birth.day == 29 and not isleap(today.year)
    birthday = (2, 28) if leap_day else (birth.month, birth.day)
    return today.year - birth.year - ((today.month, today.day) < birthday)
