"""Reading the package's CSV files."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

DATA = Path(__file__).parent / "data"


def rows(name: str) -> Iterator[dict[str, str]]:
    with (DATA / name).open(encoding="utf-8", newline="") as stream:
        yield from csv.DictReader(stream)


def exact(text: str) -> Fraction:
    """`0.0105`, `1/88.42` or `-160/9` as an exact number."""
    over, _, under = text.partition("/")
    return Fraction(over) / Fraction(under) if under else Fraction(over)
