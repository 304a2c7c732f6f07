"""What the pictures share: colours, a time axis, marks, and how wide a text will be."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from cds.pictures.svg import Node, line, rect, text

INK, SOFT, RULE, GROUND = "#1b2530", "#50606e", "#c3ccd4", "#f3f5f7"
GOOD, CAUTION, BAD, NEUTRAL = "#0c6b34", "#8a5300", "#b3141c", "#0b5c8a"
GRADES = ("#e3e8ec", "#ffe39a", "#ffbd66", "#f0805a", "#c53232", "#3d1016")
"""Fill of a toxicity band by grade 0 to 5; the number is always written in it too."""
LIGHT_TEXT_FROM = 4
"""First grade whose fill needs white text."""

NARROWEST, WIDEST = 300, 1200
_MONTHS = (1, 2, 3, 6, 12, 24, 36, 60, 120, 240)  # steps of an axis longer than its weeks have room for
_FONT_SIZE = 12.0


def clamped(width: int) -> float:
    """A drawable width in CSS pixels."""
    return float(min(max(width, NARROWEST), WIDEST))


def text_width(words: str, size: float = _FONT_SIZE) -> float:
    """About how wide a text is; wide enough for the usual sans-serif fonts."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in words)
    return (wide * 1.02 + (len(words) - wide) * 0.56) * size


def fitted(words: str, room: float) -> str:
    """The text, cut with an ellipsis where it is wider than `room`."""
    if text_width(words) <= room:
        return words
    kept = words
    while kept and text_width(kept + "…") > room:
        kept = kept[:-1]
    return kept.rstrip() + "…"


def midnight(day: date, like: datetime) -> datetime:
    return datetime.combine(day, time.min, like.tzinfo)


@dataclass(frozen=True, slots=True)
class TimeAxis:
    """Time to x. `start` < `end`, both aware."""

    start: datetime
    end: datetime
    left: float
    right: float

    def x(self, at: datetime) -> float:
        """Position of an instant, never outside the axis."""
        share = (at - self.start) / (self.end - self.start)
        return self.left + min(max(share, 0.0), 1.0) * (self.right - self.left)

    def of_day(self, day: date) -> float:
        return self.x(midnight(day, self.start))

    def holds(self, at: datetime) -> bool:
        return self.start <= at <= self.end

    def label(self, day: date) -> str:
        """A date as short as the length of the axis allows."""
        return f"{day:%Y-%m}" if self.end - self.start > timedelta(days=300) else f"{day:%m-%d}"

    def days(self, room: float) -> Iterator[date]:
        """Days to label, at least `room` pixels apart: days, weeks, or firsts of months."""
        pixels = (self.right - self.left) / max((self.end - self.start) / timedelta(days=1), 0.01)
        step = next((n for n in (1, 2, 4, 7, 14) if n * pixels >= room), 0)
        day = self.start.date()
        if midnight(day, self.start) < self.start:
            day += timedelta(days=1)
        if step:
            while midnight(day, self.start) <= self.end:
                yield day
                day += timedelta(days=step)
            return
        months = next((n for n in _MONTHS if n * 30 * pixels >= room), _MONTHS[-1])
        month = day.replace(day=1)
        if month < day:
            month = _next_month(month, 1)
        while midnight(month, self.start) <= self.end:
            yield month
            month = _next_month(month, months)


def _next_month(first: date, months: int) -> date:
    years, month = divmod(first.month - 1 + months, 12)
    return date(first.year + years, month + 1, 1)


def axis(scale: TimeAxis, top: float, bottom: float, label: Callable[[date], str]) -> list[Node]:
    """Vertical grid lines with a label below each; labels that would leave the picture are moved in."""
    room = text_width(label(scale.start.date())) + 14
    drawn: list[Node] = [line(scale.left, bottom, scale.right, bottom, stroke=SOFT)]
    for day in scale.days(room):
        x, words = scale.of_day(day), label(day)
        half = text_width(words) / 2
        drawn.append(line(x, top, x, bottom, stroke=RULE, stroke_width=0.7))
        centre = min(max(x, scale.left + half - 4), scale.right - half + 4)
        drawn.append(text(centre, bottom + 15, words, text_anchor="middle", fill=SOFT, font_size=11))
    return drawn


def flag(
    x: float, top: float, bottom: float, words: str, room: tuple[float, float], colour: str, dashed: bool
) -> list[Node]:
    """A vertical line with its name above it, kept within `room` (left, right)."""
    half = text_width(words, 11.5) / 2
    centre = min(max(x, room[0] + half), room[1] - half)
    dash: dict[str, str] = {"stroke_dasharray": "4 3"} if dashed else {}
    return [
        line(x, top, x, bottom, stroke=colour, stroke_width=1.6, **dash),
        text(centre, top - 5, words, text_anchor="middle", fill=colour, font_size=11.5, font_weight=600),
    ]


def backed(x: float, y: float, words: str, colour: str = INK, *, ends: bool = False) -> list[Node]:
    """A heading that begins, or `ends`, at x and stays readable where lines run behind it."""
    width = text_width(words) * 1.08  # bold
    ground = rect(x - width if ends else x - 3, y - 12, width + 3, 16, fill="#fff", fill_opacity=0.9)
    anchor = "end" if ends else "start"
    return [ground, text(x, y, words, fill=colour, font_weight=600, text_anchor=anchor)]


def band(x1: float, x2: float, y: float, height: float, grade: int, words: str) -> list[Node]:
    """One stretch of a grade, its number written in it where there is room."""
    width = max(x2 - x1, 3.0)
    drawn = [rect(x1, y, width, height, fill=GRADES[min(max(grade, 0), 5)], stroke="#fff", stroke_width=0.8)]
    if width >= text_width(words) + 2:
        colour = "#fff" if grade >= LIGHT_TEXT_FROM else INK
        drawn.append(
            text(
                x1 + width / 2,
                y + height / 2 + 4,
                words,
                text_anchor="middle",
                fill=colour,
                font_weight=700,
            )
        )
    return drawn


def log_y(value: float, low: float, high: float, top: float, bottom: float) -> float:
    """Position on a logarithmic scale, clipped to its ends."""
    clipped = min(max(value, low), high)
    return bottom - (math.log10(clipped / low) / math.log10(high / low)) * (bottom - top)
