"""Closed answer vocabularies (chart-facts 2.1-2.5): codes and texts that mean one of a few words."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from fhir_mapping.terminology.tables import rows

COLUMNS = ("domain", "value", "system", "code", "text", "needs_text", "source")
_DASHES = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-"))
_AMOUNTS = re.compile(r"(?:[\s(]+[\d.,/]+\s*(?:%|mg|mcg|g|ml|u)?(?:/(?:\d*\s*)?(?:ml|g|dose))?\)?)+$")
_LONGEST = 200


def tidy(text: str) -> str:
    """Case, width and spaces folded; a minus sign stays, it is an answer."""
    if len(text) > _LONGEST:
        return ""
    words = unicodedata.normalize("NFKC", text).casefold().translate(_DASHES)
    return re.sub(r"\s+", " ", words).strip(" .,;:")


class Vocabularies:
    """domain -> (system, code) or text -> value. A row with `needs_text` counts only beside such a text."""

    def __init__(self, folder: Path) -> None:
        self._codes: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
        self._texts: dict[tuple[str, str], str] = {}
        self._values: dict[str, set[str]] = {}
        for _line, (domain, value, system, code, text, needs_text, _source) in rows(
            "vocabularies.csv", COLUMNS, folder
        ):
            self._values.setdefault(domain, set()).add(value)
            if code:
                self._codes.setdefault((domain, system, code), []).append((value, needs_text))
            if text:
                self._texts[domain, tidy(text)] = value

    def values(self, domain: str) -> frozenset[str]:
        return frozenset(self._values.get(domain, ()))

    def by_code(self, domain: str, system: str, code: str, text: str | None) -> str | None:
        for value, needs in self._codes.get((domain, system, code), ()):
            if not needs or re.search(needs, tidy(text or "")):
                return value
        return None

    def by_text(self, domain: str, text: str | None) -> str | None:
        return self._texts.get((domain, tidy(text))) if text else None

    def by_last_words(self, domain: str, text: str | None) -> str | None:
        """Value of the longest vocabulary text that ends the given one at a word boundary.

        Strengths and pack sizes may follow ("cream 1 %", "eye drops 0.1% 5 mL").
        """
        if not text:
            return None
        words = _AMOUNTS.sub("", tidy(text))
        found = [
            (len(entry), value)
            for (of, entry), value in self._texts.items()
            if of == domain and words.endswith(entry) and _at_boundary(words, entry)
        ]
        return max(found)[1] if found else None


def _at_boundary(words: str, entry: str) -> bool:
    before = words[: len(words) - len(entry)]
    return not (entry[0].isascii() and entry[0].isalnum() and before[-1:].isalnum() and before[-1:].isascii())
