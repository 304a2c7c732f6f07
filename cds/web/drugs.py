"""Drug search for draft orders, over the names and codes of the project's own terminology."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

from fhir_mapping.terminology import Terminology

LIMIT = 20
_LONGEST_QUERY = 60
_KINDS = ("drug", "vaccine")


class Drugs:
    """All drugs and vaccines that a draft order can name; built on the first search."""

    def __init__(self, terminology: Callable[[], Terminology]) -> None:
        self._load = terminology

    @cached_property
    def _rows(self) -> list[tuple[str, dict[str, Any]]]:
        terminology = self._load()
        rows = []
        for kind in _KINDS:
            for concept in terminology.concepts(kind):
                codes = terminology.codes(concept.id)
                first = {code.system: code.code for code in reversed(codes)}  # one of each system identifies
                codings = [{"system": c.system, "code": c.code} for c in codes if first[c.system] == c.code]
                shown = {
                    "concept": concept.id,
                    "kind": kind,
                    "en": concept.display_en,
                    "zh-TW": concept.display_zh_tw,
                    "coding": codings or [{"system": "urn:tcell-cds:concept", "code": concept.id}],
                }
                words = [concept.id, concept.display_en, concept.display_zh_tw]
                words += [code.code for code in codes]
                rows.append((" ".join(words).casefold(), shown))
        return rows

    def search(self, text: str) -> list[dict[str, Any]]:
        """At most LIMIT drugs whose name, id or code has every word of `text`, names that start with it
        first; [] for an empty text."""
        words = text[:_LONGEST_QUERY].casefold().split()
        if not words:
            return []
        found = [(hay, row) for hay, row in self._rows if all(word in hay for word in words)]
        found.sort(key=lambda item: (not item[1]["en"].casefold().startswith(words[0]), item[1]["en"]))
        return [row for _, row in found[:LIMIT]]
