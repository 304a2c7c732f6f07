"""All dates of a chart moved by one span, so that its story happens at another time."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from typing import Any

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_MONTH = re.compile(r"\d{4}-(0[1-9]|1[0-2])")
_STAMP = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:\d{2})?")
# Elements that may look like a date and are none.
_NEVER = frozenset(
    {"id", "code", "system", "version", "display", "reference", "text", "value", "unit", "url", "div"}
)


def shifted(value: Any, span: timedelta, key: str = "") -> Any:
    """A copy in which every date, date-time and year-month has moved by `span`.

    Days move by whole days (the span rounded), a year-month by the span from its first day; a year alone,
    narrative text and codes stay.
    """
    if isinstance(value, dict):
        return {name: shifted(item, span, name) for name, item in value.items()}
    if isinstance(value, list):
        return [shifted(item, span, key) for item in value]
    if not isinstance(value, str) or key in _NEVER or not value[:4].isdigit():
        return value
    try:
        if _DAY.fullmatch(value):
            return (date.fromisoformat(value) + _days(span)).isoformat()
        if _STAMP.fullmatch(value):
            return _stamp(value, span)
        if _MONTH.fullmatch(value):
            return (date.fromisoformat(f"{value}-01") + _days(span)).isoformat()[:7]
    except (ValueError, OverflowError):
        pass  # 2026-02-31 and the like stay as wrong as they were
    return value


def _days(span: timedelta) -> timedelta:
    return timedelta(days=round(span / timedelta(days=1)))


def _stamp(value: str, span: timedelta) -> str:
    moved = (datetime.fromisoformat(value) + span).isoformat()
    return moved.replace("+00:00", "Z") if value.endswith("Z") else moved
