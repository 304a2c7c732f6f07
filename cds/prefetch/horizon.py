"""How far back a paged answer is complete: to its oldest entry, if it really is newest first."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, tzinfo
from typing import Any

from cds.prefetch.keys import Sort

_STAMP = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d)(T.*)?)?)?")
_MOMENT = timedelta(microseconds=1)


def horizon(resources: Iterable[Mapping[str, Any]], sort: Sort | None, zone: tzinfo) -> datetime | None:
    """The instant since which nothing is missing; None where the order does not tell.

    Entries without a date say nothing. Where a stamp is a day, a month or a period, the answer is the latest
    instant that it could mean: rather too short than too long.
    """
    if sort is None:
        return None
    oldest: tuple[datetime, datetime] | None = None
    for resource in resources:
        span = _span(resource, sort, zone) if isinstance(resource, dict) else None
        if span is None:
            continue
        if oldest is not None and span[0] > oldest[1]:
            return None
        oldest = span
    return None if oldest is None else oldest[1]


def _span(resource: Mapping[str, Any], sort: Sort, zone: tzinfo) -> tuple[datetime, datetime] | None:
    for element in sort.elements:
        value = resource.get(element)
        if isinstance(value, dict):
            start, end = _stamp(value.get("start"), zone), _stamp(value.get("end"), zone)
            first, last = start or end, end or start
            if first is not None and last is not None:
                return first[0], max(first[1], last[1])
        elif (found := _stamp(value, zone)) is not None:
            return found
    return None


def _stamp(value: object, zone: tzinfo) -> tuple[datetime, datetime] | None:
    """First and last instant that a FHIR date of any precision could mean."""
    match = _STAMP.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        return None
    year, month, day, time = match.groups()
    try:
        if time is not None:
            parsed = datetime.fromisoformat(match[0])
            parsed = parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=zone)
            return parsed, parsed
        start = datetime(int(year), int(month or 1), int(day or 1), tzinfo=zone)
        if day is not None:
            end = start + timedelta(days=1)
        elif month is not None:
            end = (start.replace(day=28) + timedelta(days=4)).replace(day=1)
        else:
            end = start.replace(year=start.year + 1)
        return start, end - _MOMENT
    except (ValueError, OverflowError):
        return None
