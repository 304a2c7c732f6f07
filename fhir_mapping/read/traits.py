"""What reading a value needs to know about its concept."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from fhir_mapping import units
from fhir_mapping.read.tables import rows
from fhir_mapping.terminology import Terminology


class ResultRule(StrEnum):
    """How a number becomes a qualitative result (chart-facts 2.1, V1, V8)."""

    NONE = ""  # never by its number alone
    VIRAL_LOAD = "viral-load"
    ANTI_HBS = "anti-hbs"
    HCG = "hcg"
    CULTURE = "culture"  # an organism as value is a positive result


class Worst(StrEnum):
    """Which of two results of one instant is worse for the patient."""

    LOW = "low"
    HIGH = "high"
    POSITIVE = "positive"
    LAST = "last"  # of the answers as listed, mildest first; one answer at a time
    UNDECIDED = ""


@dataclass(frozen=True, slots=True, eq=False)
class Traits:
    """One object per concept, compared by identity: readings are remembered by it.

    `preferred` is the unit that rules compare in ("" none); `bare` numbers need no unit (scores, INR);
    `exact_unit`: the concept has one dimension, anything else is a unit error."""

    concept: str
    preferred: str
    exact_unit: bool
    bare: bool
    integer: bool
    rule: ResultRule
    normal_is_negative: bool
    worst: Worst
    also: frozenset[str]  # other dimensions that are accepted, each in its unit
    any_specimen: bool
    lab: bool
    measured: bool  # a laboratory value or vital sign: without a value there is no fact
    single: bool  # one instant has one value; two different ones contradict each other
    collected_counts: bool  # dated by the collection of its specimen (cultures, V6)
    answers: tuple[str, ...]  # the closed list that a coded value comes from; they may be sent by name


_BARE_UNITS = ("{score}", "{INR}", "1")


class TraitsOf:
    """Traits per concept, each worked out once."""

    __slots__ = ("_rows", "_seen", "_terminology")

    def __init__(self, terminology: Terminology) -> None:
        self._terminology = terminology
        self._rows = {row["concept"]: row for row in rows("observation_traits")}
        self._seen: dict[str, Traits] = {}

    def __call__(self, concept: str) -> Traits:
        known = self._seen.get(concept)
        if known is None:
            known = self._seen[concept] = self._make(concept)
        return known

    def _make(self, concept: str) -> Traits:
        row = self._rows.get(concept, {})
        entry = self._terminology.concept(concept) if concept in self._terminology else None
        kind, value_type = (entry.kind, entry.value_type) if entry else ("", "")
        analyte = units.preferred(concept)
        listed = units.analyte(concept)
        preferred = analyte or (entry.preferred_unit if entry else "")
        rule = row.get("result_rule", "")
        return Traits(
            concept=concept,
            preferred=preferred,
            exact_unit=analyte is not None,
            bare=preferred in _BARE_UNITS
            or "integer" in value_type
            or (listed is not None and listed.may_lack_unit),
            integer="integer" in value_type or preferred == "{score}",
            rule=ResultRule(rule),
            normal_is_negative=self._terminology.normal_is_negative(concept),
            worst=Worst(row.get("worst", "")),
            also=frozenset(row.get("also", "").split()),
            any_specimen=row.get("specimens") == "any",
            lab=kind == "lab",
            measured=kind in ("lab", "vital") and "components" not in value_type,
            single=kind in ("lab", "vital", "score") or "boolean" in value_type,
            collected_counts=rule == ResultRule.CULTURE.value,
            answers=tuple(a for a in (entry.allowed if entry else ()) if a in self._terminology),
        )
