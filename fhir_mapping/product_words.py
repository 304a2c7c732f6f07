"""Attributes of a blood product as people write them: "irradiated, leukoreduced", "請給照射血小板"."""

from __future__ import annotations

import re

_WORDS = {
    "irradiated": "irradiated",
    "irradiation": "irradiated",
    "照射": "irradiated",
    "照光": "irradiated",
    "leukoreduced": "leukoreduced",
    "leukocyte reduced": "leukoreduced",
    "leukocyte-reduced": "leukoreduced",
    "leucodepleted": "leukoreduced",
    "減白": "leukoreduced",
    "減除白血球": "leukoreduced",
}
_CLAUSE = re.compile(r"[,;.，、；。/()（）\n]+")
# a clause that denies, doubts or conditions states nothing: a missed attribute asks, an invented one harms
_OPEN = re.compile(
    r"\?|？|(?<![a-z])(?:no|not|non|none|never|without|unirradiated|unknown|unavailable|if|unless|when)(?![a-z])|[未非不無免勿否若如]"
)


def stated_attributes(text: str) -> frozenset[str]:
    """`irradiated` and `leukoreduced` where a clause of the text says so plainly; concept ids."""
    found: set[str] = set()
    for clause in _CLAUSE.split(text.casefold()):
        if _OPEN.search(clause) is None:
            found |= {concept for word, concept in _WORDS.items() if _holds(clause, word)}
    return frozenset(found)


def _holds(clause: str, word: str) -> bool:
    if word.isascii():
        return re.search(rf"(?<![a-z]){re.escape(word)}(?![a-z])", clause) is not None
    return word in clause
