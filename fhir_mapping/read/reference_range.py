"""Limits of normal of one very result (chart-facts section 4)."""

from __future__ import annotations

import re
import unicodedata
from datetime import datetime
from functools import lru_cache

from fhir_mapping.chart import Patient, Quantity
from fhir_mapping.read.coding import codings, names_of
from fhir_mapping.read.shape import Json, number, obj, objs, text
from fhir_mapping.read.traits import Traits
from fhir_mapping.read.values import Values

_SEX_WORDS = {
    "male": frozenset({"male", "m", "men", "man", "男", "男性", "248153007"}),
    "female": frozenset({"female", "f", "women", "woman", "女", "女性", "248152002"}),
}
_ANYONE = frozenset({"adult", "adults", "all", "normal", "general", "成人"})
_NORMAL = frozenset({"normal", "normal range", "reference range", "正常", "正常值", "參考值"})
_DASHES = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-"))
_LIMIT = r"((?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?)"
_SPAN = re.compile(rf"{_LIMIT}\s*(?:-|~|to|至)\s*{_LIMIT}\s*(.*)", re.IGNORECASE)
_UPPER = re.compile(rf"(?:<=?|≤|≦|up to)\s*{_LIMIT}\s*(.*)", re.IGNORECASE)
_LOWER = re.compile(rf"(?:>=?|≥|≧)\s*{_LIMIT}\s*(.*)")
_PER_YEAR = {
    **dict.fromkeys(("mo", "month", "months", "月"), 12.0),
    **dict.fromkeys(("wk", "week", "weeks", "週"), 52.18),
    **dict.fromkeys(("d", "day", "days", "天"), 365.25),
}
_DAYS_PER_YEAR = 365.25
_PLAIN = frozenset({"low", "high", "text"})


class ReferenceRanges:
    """Chooses among the ranges of a result the one for this patient."""

    __slots__ = ("_patient", "_values", "_years")

    def __init__(self, values: Values, patient: Patient, now: datetime) -> None:
        self._values = values
        self._patient = patient
        birth = patient.birth
        self._years = None if birth is None else (now - birth.latest).days / _DAYS_PER_YEAR

    def limits(self, holder: Json, like: Quantity, traits: Traits) -> tuple[Quantity | None, Quantity | None]:
        """(upper, lower) limit of normal; None where the result has none, or several that cannot be told
        apart."""
        chosen = self._chosen(holder.get("referenceRange"))
        if chosen is None:
            return None, None
        low, high = _ends(chosen)
        return self._values.limits(high, low, like, traits)

    def _chosen(self, written: object) -> Json | None:
        if isinstance(written, list) and len(written) == 1:
            only = written[0]
            if isinstance(only, dict) and _PLAIN.issuperset(only):  # the common case: nothing to choose
                return only
        fitting = [r for r in objs(written) if _is_normal(r) and self._fits(r)]
        if len(fitting) > 1:
            told = [r for r in fitting if "appliesTo" in r or "age" in r]
            general = [r for r in fitting if r not in told]
            fitting = [r for r in told if not _of_some_group(r)] or general or fitting
        if not fitting or any(_ends(r) != _ends(fitting[0]) for r in fitting):
            return None
        return fitting[0]

    def _fits(self, reference_range: Json) -> bool:
        words = _population(reference_range)
        for sex, other in (("male", "female"), ("female", "male")):
            only_this_sex = words & _SEX_WORDS[sex] and not words & _SEX_WORDS[other]
            if only_this_sex and self._patient.sex != sex:
                return False
        return self._age_fits(obj(reference_range.get("age")))

    def _age_fits(self, age: Json) -> bool:
        low, high = _years(age.get("low")), _years(age.get("high"))
        if low is None and high is None:
            return True
        if self._years is None:
            return False
        return (low is None or self._years >= low) and (high is None or self._years <= high)


def _population(reference_range: Json) -> set[str]:
    """Whom a range applies to, in words and codes."""
    return {
        word.casefold()
        for item in objs(reference_range.get("appliesTo"))
        for word in (*names_of(item), *(code for _, code in codings(item)))
    }


def _of_some_group(reference_range: Json) -> bool:
    """For a group that this patient is not known to belong to: pregnancy, a phase of the cycle."""
    words = _population(reference_range)
    return bool(words) and words.isdisjoint(_ANYONE.union(*_SEX_WORDS.values()))


def _ends(reference_range: Json) -> tuple[object, object]:
    """(low, high) as written, from the text where neither is sent."""
    low, high = reference_range.get("low"), reference_range.get("high")
    if low is None and high is None and "text" in reference_range:
        return _in_words(text(reference_range["text"]))
    return low, high


@lru_cache(maxsize=1024)
def _in_words(written: str) -> tuple[Json | None, Json | None]:
    """(low, high) of a text that is exactly a range: "3.5 - 5.1 mmol/L", "<40", "150~400"."""
    words = unicodedata.normalize("NFKC", written).translate(_DASHES).strip()
    if words[:1] in ("(", "[") and words[-1:] in (")", "]"):
        words = words[1:-1].strip()
    if span := _SPAN.fullmatch(words):
        low, high, unit = span.groups()
        return _limit(low, unit), _limit(high, unit)
    if upper := _UPPER.fullmatch(words):
        return None, _limit(*upper.groups())
    if lower := _LOWER.fullmatch(words):
        return _limit(*lower.groups()), None
    return None, None


def _limit(value: str, unit: str) -> Json:
    return {"value": value.replace(",", ""), "unit": unit}


def _is_normal(reference_range: Json) -> bool:
    kind = reference_range.get("type")
    if kind is None or any(code == "normal" for _, code in codings(kind)):
        return True
    return any(name.casefold() in _NORMAL for name in names_of(kind)) and not codings(kind)


def _years(raw: object) -> float | None:
    quantity = obj(raw)
    value = number(quantity.get("value"))
    if value is None:
        return None
    unit = text(quantity.get("code")) or text(quantity.get("unit"))
    return float(value) / _PER_YEAR.get(unit.casefold(), 1.0)
