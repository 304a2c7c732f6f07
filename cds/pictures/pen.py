"""What a picture is drawn with: words in the card's language, the width, and now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cards.finding import Message, Shown
from cards.writer import Writer
from cds.pictures.picture import Picture, document
from cds.pictures.svg import Node

CATALOGUE = "pictures"
Table = tuple[tuple[str, ...], Sequence[tuple[str, ...]]]
"""Header and rows of what a picture shows."""


@dataclass(frozen=True, slots=True)
class Pen:
    """`width` in CSS pixels, already clamped; `now` is the clinical now, aware."""

    writer: Writer
    width: float
    now: datetime

    def say(self, key: str, /, **values: Shown) -> str:
        """A text of pictures.po."""
        return self.writer.message(Message(key, values), CATALOGUE)

    def show(self, value: Shown) -> str:
        """A value as cards write it; a message is one of pictures.po."""
        return self.writer.shown(value, CATALOGUE)

    def picture(
        self,
        kind: str,
        rules: tuple[str, ...],
        title: str,
        description: str,
        table: Table,
        height: float,
        drawn: Sequence[Node],
    ) -> Picture:
        """The finished picture."""
        header, rows = table
        svg = document(kind, title, description, self.width, height, drawn)
        return Picture(kind, rules, title, description, header, tuple(rows), svg)
