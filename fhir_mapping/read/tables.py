"""The reader's own small tables: reviewable CSV beside the code, loaded once."""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files


def rows(name: str) -> list[dict[str, str]]:
    """Rows of `data/<name>.csv`, cells trimmed."""
    written = (files(__package__) / "data" / f"{name}.csv").read_text(encoding="utf-8")
    return [
        {key: (cell or "").strip() for key, cell in row.items()}
        for row in csv.DictReader(written.splitlines())
    ]


@cache
def compatible() -> frozenset[tuple[str, str]]:
    """Pairs of concepts that one CodeableConcept may name together, in both directions."""
    pairs = {(row["broader"], row["narrower"]) for row in rows("compatible")}
    return frozenset(pairs | {(narrow, broad) for broad, narrow in pairs})


@cache
def billed_together() -> dict[str, frozenset[str]]:
    """Analytes that one billing item stands for besides its own concept."""
    found: dict[str, set[str]] = {}
    for row in rows("billed_together"):
        found.setdefault(row["billed"], set()).add(row["analyte"])
    return {billed: frozenset(analytes) for billed, analytes in found.items()}
