"""Spelling of a unit -> canonical UCUM."""

from __future__ import annotations

import re
import unicodedata
from functools import cache

from fhir_mapping.units.tables import rows

_UCUM = {"http://unitsofmeasure.org", "https://unitsofmeasure.org", "urn:oid:2.16.840.1.113883.6.8"}
_SUPERSCRIPT = str.maketrans(
    "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079\u207b", "0123456789-"
)
_SUPERSCRIPTS = re.compile("[\u2070\u00b9\u00b2\u00b3\u2074-\u2079\u207b]+")
_SPACES = re.compile(r"\s+")
_TIMES = re.compile(r"^X(?=10)")
_LONGEST = 60
_CACHE_LIMIT = 5_000
_LONGEST_REMEMBERED = 200  # characters; what comes from outside must not fill the memory
_found: dict[tuple[str | None, str | None, str | None], str | None] = {}


def normalised(text: str) -> str:
    """The form in which spellings are listed: NFKC, one micro sign, `*` for powers, no spaces."""
    text = _SUPERSCRIPTS.sub(lambda run: "*" + run[0].translate(_SUPERSCRIPT), text)
    text = unicodedata.normalize("NFKC", text).replace("\u03bc", "u").replace("\u00d7", "x")
    return _TIMES.sub("x", _SPACES.sub("", text.replace("**", "*").replace("^", "*")))


@cache
def table() -> dict[str, str]:
    return {row["spelling"]: row["unit"] for row in rows("units.csv")}


def _look_up(unit: str | None, code: str | None, system: str | None) -> str | None:
    stated = (system or "").strip().rstrip("/")
    text = code if code and stated in _UCUM else unit or code
    if not text or len(text) > _LONGEST:
        return None
    return table().get(normalised(text))


def canonical(unit: str | None, code: str | None = None, system: str | None = None) -> str | None:
    """Canonical UCUM unit of a Quantity, None when unknown or not stated.

    `code` decides where `system` is UCUM; otherwise the `unit` text, else the code read as text.
    """
    key = (unit, code, system)
    try:
        return _found[key]
    except KeyError:
        pass
    result = _look_up(unit, code, system)
    if sum(len(part) for part in key if part) > _LONGEST_REMEMBERED:
        return result
    if len(_found) >= _CACHE_LIMIT:
        _found.clear()
    _found[key] = result
    return result
