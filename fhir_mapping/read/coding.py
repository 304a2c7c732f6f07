"""CodeableConcept -> concepts (chart-facts 1.1, 2.5, section 19)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fhir_mapping.read.remembered import LONGEST_TEXT, Remembered
from fhir_mapping.read.shape import Json, obj, objs, text
from fhir_mapping.read.tables import billed_together, compatible
from fhir_mapping.terminology import Terminology

NO_CONCEPTS: frozenset[str] = frozenset()
LOCAL = "urn:tcell-cds:concept"
# Kinds that say how or why, beside the thing itself: they never contradict it.
_ATTRIBUTE_KINDS = frozenset({"purpose", "regimen", "route", "answer", "drug_class", "specimen"})
NAMED_KINDS = frozenset({"drug", "drug_class", "vaccine", "device", "lab", "vital", "score", "blood_product"})


@dataclass(frozen=True, slots=True)
class Coded:
    """What a CodeableConcept means.

    `unsure` are concepts of unverified codes: they count only with a second sign (unit, category).
    `by_name`: no code was known, the exact name was. `coded`: some code was written, known or not.
    """

    concepts: frozenset[str] = NO_CONCEPTS
    unsure: frozenset[str] = NO_CONCEPTS
    text: str = ""
    contradictory: bool = False
    by_name: bool = False
    coded: bool = False


NOTHING = Coded()


class Codes:
    """Reads CodeableConcepts, each distinct one once; one instance serves every chart."""

    __slots__ = ("_plain", "_seen", "terminology")

    def __init__(self, terminology: Terminology) -> None:
        self.terminology = terminology
        self._seen: Remembered[object, Coded] = Remembered()
        self._plain: Remembered[tuple[str, str], Coded | None] = Remembered()

    def read(self, value: object, kinds: frozenset[str] = NAMED_KINDS) -> Coded:
        """Concepts of a CodeableConcept (or bare Coding). `kinds` are matched by exact name where no code
        is known; an empty set forbids names."""
        concept = obj(value)
        codings = objs(concept.get("coding"))
        if not codings and "code" in concept:
            codings = [concept]
        if len(codings) == 1:
            single = self.single(codings[0])
            if single is not None:
                return single
        parts, written = self.key(concept)
        key = (parts, written, kinds)
        known = self._seen.get(key)
        if known is None:
            known = self._combine(parts, written, kinds)
            if is_name(parts, written):
                self._seen[key] = known
        return known

    def key(self, concept: Json) -> tuple[tuple[tuple[str, str, str], ...], str]:
        """All that a CodeableConcept (or bare Coding) says: its codings and its text."""
        codings = objs(concept.get("coding"))
        if not codings and "code" in concept:
            codings = [concept]
        parts = tuple((text(c.get("system")), text(c.get("code")), text(c.get("display"))) for c in codings)
        return parts, text(concept.get("text"))

    def single(self, coding: Json) -> Coded | None:
        """The common case, one verified code: nothing else in the concept can change its meaning. None: the
        code is not verified, or bills several analytes."""
        system, code = coding.get("system"), coding.get("code")
        if not isinstance(system, str) or not isinstance(code, str):
            return None
        try:
            return self._plain[system, code]
        except KeyError:
            concepts = self.terminology.concepts_for(system, code)
            plain = bool(concepts) and not self.bills_several(system, concepts)
            known = Coded(frozenset(concepts), coded=True) if plain else None
            if len(system) + len(code) <= LONGEST_TEXT:
                self._plain[system, code] = known
            return known

    def _combine(self, parts: tuple[tuple[str, str, str], ...], written: str, kinds: frozenset[str]) -> Coded:
        names = [name for name in (written, *(display for _, _, display in parts)) if name]
        shown = names[0] if names else ""
        coded = any(code for _, code, _ in parts)
        sets: list[frozenset[str]] = []
        billed: list[frozenset[str]] = []
        unsure: set[str] = set()
        confirmed: set[str] = set()
        for system, code, _ in parts:
            known = self.terminology.concepts_for(system, code) if code else ()
            if known:
                (billed if self.bills_several(system, known) else sets).append(frozenset(known))
            elif code and (doubtful := self.terminology.unverified_for(system, code)):
                unsure.update(doubtful)
                alone = len(self._essence(frozenset(doubtful))) == 1
                if alone and any(self.terminology.is_published_name(system, code, name) for name in names):
                    confirmed.update(doubtful)
        sets += self._billed(billed, frozenset().union(*sets), names, kinds)
        if sets:
            merged = self.merge(sets)
            if merged is None:
                return Coded(text=shown, contradictory=True, coded=coded)
            return Coded(merged, text=shown, coded=coded)
        if unsure:
            signed = frozenset(c for c in unsure if self._named(c, names)) or frozenset(confirmed)
            if signed:
                return Coded(signed, text=shown, coded=coded)
        for name in names:
            if kinds and (found := self.terminology.by_name(name, kinds)):
                return Coded(frozenset(found), text=shown, by_name=True, coded=coded)
        return Coded(unsure=frozenset(unsure), text=shown, coded=coded)

    def bills_several(self, system: str, concepts: Iterable[str]) -> bool:
        """A billing item of several analytes: another code or the text says which one."""
        return self.terminology.is_billing_item(system) and any(c in billed_together() for c in concepts)

    def _billed(
        self, items: list[frozenset[str]], told: frozenset[str], names: list[str], kinds: frozenset[str]
    ) -> list[frozenset[str]]:
        """What billing items add to the concepts `told` by other codes: the analyte that the text names, else
        the item itself; nothing where an analyte of the item is told already."""
        found: list[frozenset[str]] = []
        for item in items:
            analytes = frozenset().union(*(billed_together().get(c, NO_CONCEPTS) for c in item))
            if told & analytes:
                continue
            named = (frozenset(self.terminology.by_name(name, kinds)) for name in names if kinds)
            found.append(next((analyte for analyte in named if analyte & analytes), item))
        return found

    def _named(self, concept: str, names: Iterable[str]) -> bool:
        """A text or display that says the same as an unverified code."""
        wanted = {self.terminology.display(concept, language).casefold() for language in ("en", "zh_TW")}
        wanted |= {concept.replace("_", " "), concept.replace("_", "-")}
        stem = max(concept.split("_"), key=len)
        for name in names:
            folded = name.casefold()
            if folded in wanted or (len(stem) > 3 and stem in folded):
                return True
            if concept in self.terminology.by_name(name):
                return True
        return False

    def _essence(self, concepts: frozenset[str]) -> frozenset[str]:
        terminology = self.terminology
        return frozenset(c for c in concepts if terminology.concept(c).kind not in _ATTRIBUTE_KINDS)

    def merge(self, sets: list[frozenset[str]]) -> frozenset[str] | None:
        """Synonyms of one thing: what all codings share, with the attributes that any of them adds.

        None where two codings mean different things.
        """
        if len(set(sets)) == 1:
            return sets[0]
        essences = [essence for one in sets if (essence := self._essence(one))]
        everything = frozenset().union(*sets)
        attributes = everything - self._essence(everything)
        if not essences:
            return everything
        shared = frozenset.intersection(*essences)
        if not shared:
            for at, one in enumerate(essences):
                for other in essences[at + 1 :]:
                    if one.isdisjoint(other) and not any(self._agree(a, b) for a in one for b in other):
                        return None
            shared = frozenset().union(*essences)
        else:
            shared |= {c for one in essences for c in one - shared if self._is_product_of(c, shared)}
        classes = {c for drug in shared for c in self.terminology.classes(drug)}
        drugs = self.of_kind(shared, "drug", "vaccine")  # they know their classes
        kept = {
            c
            for c in attributes
            if self.terminology.concept(c).kind != "drug_class" or not drugs or c in classes
        }
        return shared | kept

    def _is_product_of(self, concept: str, shared: frozenset[str]) -> bool:
        """A narrower product of what all codings share: it decides (adjuvanted hepatitis B vaccine)."""
        broader = self.terminology.broader
        return any(wide in broader(concept) and concept not in broader(wide) for wide in shared)

    def _agree(self, one: str, other: str) -> bool:
        """One is a broader word for the other, or both may be said of one thing."""
        broader = self.terminology.broader
        return (one, other) in compatible() or one in broader(other) or other in broader(one)

    def all_of(self, values: object, kinds: frozenset[str] = NO_CONCEPTS) -> frozenset[str]:
        """Union of the concepts of a list of CodeableConcepts (or of one)."""
        found: frozenset[str] = NO_CONCEPTS
        for item in objs(values):
            found |= self.read(item, kinds).concepts
        return found

    def of_kind(self, concepts: Iterable[str], *kinds: str) -> frozenset[str]:
        terminology = self.terminology
        return frozenset(c for c in concepts if terminology.concept(c).kind in kinds)


def is_name(parts: tuple[tuple[str, str, str], ...], written: str) -> bool:
    """Short enough for codes and names; a sentence may say something of the patient."""
    length = len(written) + sum(len(s) + len(c) + len(d) for s, c, d in parts)
    return length <= LONGEST_TEXT * max(len(parts), 1)


def codings(value: object) -> list[tuple[str, str]]:
    """(system, code) pairs of a CodeableConcept, a Coding, or a bare code of older FHIR versions."""
    if isinstance(value, str):
        return [("", value.strip())]
    concept = obj(value)
    found = objs(concept.get("coding")) or ([concept] if "code" in concept else [])
    return [(text(c.get("system")), text(c.get("code"))) for c in found if text(c.get("code"))]


def names_of(value: object) -> list[str]:
    """What a CodeableConcept says in words: its text, then its displays."""
    concept = obj(value)
    written = [text(concept.get("text")), *(text(c.get("display")) for c in objs(concept.get("coding")))]
    return [name for name in written if name]


def code_word(value: object) -> str:
    """First code of a status-like CodeableConcept (or a bare string): "active"."""
    for _, code in codings(value):
        return code.casefold()
    return ""
