"""Limits of normal of one very result (chart-facts section 4)."""

from __future__ import annotations

from datetime import datetime

from fhir_mapping.chart import Patient, Quantity
from fhir_mapping.read.coding import codings
from fhir_mapping.read.shape import Json, number, obj, objs, text
from fhir_mapping.read.traits import Traits
from fhir_mapping.read.values import Values

_SEX_WORDS = {
    "male": frozenset({"male", "m", "men", "man", "男", "男性"}),
    "female": frozenset({"female", "f", "women", "woman", "女", "女性"}),
}
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
        written = holder.get("referenceRange")
        if isinstance(written, list) and len(written) == 1:
            only = written[0]
            if isinstance(only, dict) and only.keys() <= _PLAIN:  # the common case: nothing to choose
                return self._values.limits(only.get("high"), only.get("low"), like, traits)
        fitting = [r for r in objs(written) if _is_normal(r) and self._fits(r)]
        if len(fitting) > 1:
            fitting = [r for r in fitting if "appliesTo" in r or "age" in r] or fitting
        if not fitting or any(_ends(r) != _ends(fitting[0]) for r in fitting):
            return None, None
        low, high = _ends(fitting[0])
        return self._values.limits(high, low, like, traits)

    def _fits(self, reference_range: Json) -> bool:
        words = {
            word.casefold()
            for item in objs(reference_range.get("appliesTo"))
            for word in (
                text(item.get("text")),
                *(code for _, code in codings(item)),
                *(text(c.get("display")) for c in objs(item.get("coding"))),
            )
        }
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


def _ends(reference_range: Json) -> tuple[object, object]:
    return reference_range.get("low"), reference_range.get("high")


def _is_normal(reference_range: Json) -> bool:
    kind = reference_range.get("type")
    return kind is None or any(code == "normal" for _, code in codings(kind))


def _years(raw: object) -> float | None:
    quantity = obj(raw)
    value = number(quantity.get("value"))
    if value is None:
        return None
    unit = text(quantity.get("code")) or text(quantity.get("unit"))
    return float(value) / _PER_YEAR.get(unit.casefold(), 1.0)
