"""The questions asked of the tables: codings, names, concepts, classes, facts and answers."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import cache, cached_property
from pathlib import Path

from fhir_mapping.terminology import systems as uri
from fhir_mapping.terminology.content import Content
from fhir_mapping.terminology.index import CodeIndex, comparable
from fhir_mapping.terminology.model import Code, Concept, Fact, Result, Severity, YesNo
from fhir_mapping.terminology.names import NameIndex, fold
from fhir_mapping.terminology.tables import DATA
from fhir_mapping.terminology.vocabulary import Vocabularies

# codings come from outside: what is remembered of them must not grow without bound
_CACHE_LIMIT = 8_192
_LONGEST_REMEMBERED = 200  # characters of system and code
_PREFERENCE: dict[str, tuple[str, ...]] = {
    "drug": (uri.ATC, uri.RXNORM),
    "drug_class": (uri.ATC, uri.RXNORM),
    "vaccine": (uri.CVX, uri.ATC),
    "condition": (uri.ICD10CM, uri.SNOMED),
}
_OTHER_PREFERENCE = (uri.LOINC, uri.SNOMED)
_V3_INTERPRETATION = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"


def _remember(
    table: dict[tuple[str, str], tuple[str, ...]], system: str, code: str, found: tuple[str, ...]
) -> None:
    if len(system) + len(code) > _LONGEST_REMEMBERED:
        return
    if len(table) >= _CACHE_LIMIT:
        table.clear()
    table[system, code] = found


class Terminology:
    """All tables and the site map behind one set of questions.

    Immutable after construction but for its caches; one instance serves all threads.
    `version` is a SHA-256 over every data file and the site map.
    """

    def __init__(self, site_map: Path | None = None, folder: Path = DATA) -> None:
        """Raises SiteMapError for a site map that cannot be used, TableError for a broken data file."""
        self._content = Content(folder, site_map)
        self._concepts = self._content.concepts
        self._vocabularies = Vocabularies(folder)
        self._found: dict[tuple[str, str], tuple[str, ...]] = {}
        self._unsure: dict[tuple[str, str], tuple[str, ...]] = {}
        self._classes: dict[str, frozenset[str]] = {}
        self.version: str = self._content.version

    # ---- codings

    def concepts_for(self, system: str, code: str) -> tuple[str, ...]:
        """Concepts that a coding means, narrowest first, then its drug classes; () for an unknown code.

        Verified codes only. `system` may be any accepted spelling of the URI.
        """
        found = self._found.get((system, code))
        if found is None:
            found = self._look_up(system, code, self._content.verified)
            _remember(self._found, system, code, found)
        return found

    def unverified_for(self, system: str, code: str) -> tuple[str, ...]:
        """Concepts of a code that nobody has checked yet: they count only with a second sign."""
        found = self._unsure.get((system, code))
        if found is None:
            sure = self.concepts_for(system, code)
            found = tuple(c for c in self._look_up(system, code, self._content.unverified) if c not in sure)
            _remember(self._unsure, system, code, found)
        return found

    def is_billing_item(self, system: str) -> bool:
        """Whether a code of this system names what is billed: often several analytes under one code."""
        return self._content.systems.canonical(system) == uri.NHI_ORDER

    def is_published_name(self, system: str, code: str, name: str) -> bool:
        """Whether `name` is what an unverified code is called where it is published."""
        canonical = self._content.systems.canonical(system)
        published = self._content.unverified_names.get((canonical, comparable(canonical, code.strip())))
        return bool(published) and fold(name) == published

    def _look_up(self, system: str, code: str, index: CodeIndex) -> tuple[str, ...]:
        canonical, code = self._content.systems.canonical(system), code.strip()
        if canonical == uri.LOCAL and index is self._content.verified:
            own = code.lower().replace("-", "_")
            return self._widened([own] if own in self._concepts else index.find(canonical, code), ())
        classes = index.classes_of_atc(code) if canonical == uri.ATC else []
        return self._widened(index.find(canonical, code), classes)

    def _widened(self, concepts: Iterable[str], classes: Iterable[str]) -> tuple[str, ...]:
        """The concepts, what they carry along, and their classes, each once and in this order."""
        found: dict[str, None] = dict.fromkeys(concepts)
        queue = list(found)
        while queue:
            for parent in self._content.carried.get(queue.pop(0), ()):
                if parent not in found:
                    found[parent] = None
                    queue.append(parent)
        plain = [c for c in found if self._concepts[c].kind != "drug_class"]
        wide = {c for c in found if c not in plain}.union(classes, *(self.classes(c) for c in found))
        return (*plain, *sorted(wide, key=self._width))

    def _width(self, class_id: str) -> tuple[int, str]:
        """Sorts the narrowest class (longest ATC prefix) first."""
        codes = self._content.codes.get(class_id, ())
        return -max((len(code.code) for code in codes), default=0), class_id

    # ---- names

    @cached_property
    def _names(self) -> NameIndex:
        kinds = {concept.id: concept.kind for concept in self._concepts.values()}
        return NameIndex(self._content.names(), kinds)

    def by_name(self, text: str, kinds: Collection[str] | None = None) -> tuple[str, ...]:
        """Concepts whose name, alias or Chinese name is the whole text; `kinds` narrows the search.

        As for a coding, what they carry along and their classes follow. () when there is none.
        """
        found = self._names.find(text, kinds)
        return self._widened(found, ()) if found else ()

    # ---- concepts

    def concept(self, id: str) -> Concept:
        """Raises KeyError for an unknown id."""
        return self._concepts[id]

    def __contains__(self, id: object) -> bool:
        return id in self._concepts

    def concepts(self, kind: str | None = None) -> tuple[Concept, ...]:
        """All concepts, or those of one kind, by id."""
        return tuple(c for c in self._concepts.values() if kind is None or c.kind == kind)

    def display(self, id: str, language: str) -> str:
        """Name for a reader: Traditional Chinese for any `zh` tag, else English. KeyError if unknown."""
        concept = self._concepts[id]
        return concept.display_zh_tw if language[:2].lower() == "zh" else concept.display_en

    def codes(self, id: str) -> tuple[Code, ...]:
        """Verified codes of a concept, the preferred one first, the site's own last. KeyError if unknown."""
        order = _PREFERENCE.get(self._concepts[id].kind, _OTHER_PREFERENCE)
        rank = {system: n for n, system in enumerate(order)}
        codes = self._content.codes.get(id, ())
        return tuple(sorted(codes, key=lambda code: rank.get(code.system, len(order))))

    def unverified_codes(self, id: str) -> tuple[Code, ...]:
        """Codes that count only with a second sign. KeyError if unknown."""
        return tuple(self._content.unverified_codes.get(self._concepts[id].id, ()))

    def broader(self, id: str) -> frozenset[str]:
        """Wider words for the same thing, transitively: beside them the concept is no contradiction."""
        found: set[str] = set()
        queue = [self._concepts[id].id]
        while queue:
            for parent in self._content.broader.get(queue.pop(), ()):
                if parent not in found:
                    found.add(parent)
                    queue.append(parent)
        return frozenset(found)

    def classes(self, drug_id: str) -> frozenset[str]:
        """Drug classes of a drug, vaccine or narrower class. KeyError if unknown."""
        found = self._classes.get(drug_id)
        if found is None:
            direct: set[str] = set()
            for code in self._content.codes.get(self._concepts[drug_id].id, ()):
                if code.system == uri.ATC:
                    direct.update(self._content.verified.classes_of_atc(code.code))
            for parent in self._content.carried.get(drug_id, ()):
                if self._concepts[parent].kind == "drug_class":
                    direct |= {parent, *self.classes(parent)}
            found = self._classes[drug_id] = frozenset(direct - {drug_id})
        return found

    def members(self, class_id: str) -> frozenset[str]:
        """Drugs and vaccines of a class. KeyError if unknown."""
        return self._members[self._concepts[class_id].id]

    @cached_property
    def _members(self) -> dict[str, frozenset[str]]:
        found: dict[str, set[str]] = {concept: set() for concept in self._concepts}
        for concept in self._concepts.values():
            if concept.kind in ("drug", "vaccine"):
                for class_id in self.classes(concept.id):
                    found[class_id].add(concept.id)
        return {concept: frozenset(members) for concept, members in found.items()}

    # ---- facts

    def fact(self, fact_id: str) -> Fact:
        """A row of the chart-facts table. Raises KeyError for an unknown row id."""
        return self._content.facts[fact_id]

    @property
    def facts(self) -> tuple[Fact, ...]:
        return tuple(self._content.facts.values())

    # ---- answers

    def _answer(self, domain: str, system: str | None, code: str | None, text: str | None) -> str | None:
        if code:
            canonical, code = self._content.systems.canonical(system or ""), code.strip()
            if found := self._vocabularies.by_code(domain, canonical, code, text):
                return found
            for concept in self.concepts_for(canonical, code):
                if found := self._vocabularies.by_code(domain, uri.LOCAL, concept, text):
                    return found
        return self._vocabularies.by_text(domain, text)

    def result(self, system: str | None, code: str | None, text: str | None = None) -> Result | None:
        """Qualitative result of a coded value, else of its text; None when neither is in the vocabulary."""
        found = self._answer("result", system, code, text)
        return Result(found) if found else None

    def interpretation(self, system: str | None, code: str, concept: str) -> Result | None:
        """Qualitative result of an interpretation code; A and N count only where normal is negative."""
        canonical, key = self._content.systems.canonical(system or _V3_INTERPRETATION), code.strip().upper()
        found = self._vocabularies.by_code("interpretation", canonical, key, None)
        if found is None and self.normal_is_negative(concept):
            found = self._vocabularies.by_code("interpretation-normal-is-negative", canonical, key, None)
        return Result(found) if found else None

    def normal_is_negative(self, concept: str) -> bool:
        """Virology, serology, cultures and pregnancy tests."""
        return concept in self._vocabularies.values("normal-is-negative")

    def yes_no(self, system: str | None, code: str | None, text: str | None = None) -> YesNo | None:
        """Yes, no or a stated unknown; None when the answer is not in the vocabulary."""
        found = self._answer("yes-no", system, code, text)
        return YesNo(found) if found else None

    def severity(self, system: str | None, code: str | None, text: str | None = None) -> Severity | None:
        """CTCAE grade of a severity or grade coding; `mild`, `moderate`, `severe` give a derived grade."""
        if found := self._answer("grade", system, code, text):
            return Severity(int(found[-1]), derived=False)
        if found := self._answer("severity", system, code, text):
            return Severity(int(found[-1]), derived=True)
        return None

    def score(self, concept: str, system: str, code: str) -> int | None:
        """The points that a coded answer of this scale stands for (S14), else None."""
        found = self._vocabularies.by_code(
            concept, self._content.systems.canonical(system), code.strip(), None
        )
        return int(found) if found else None

    def route(self, system: str | None, code: str | None, text: str | None = None) -> str | None:
        """Route concept id (`route_intravenous`) of a coding, else of its text."""
        return self._answer("route", system, code, text)

    def form_route(self, text: str | None) -> str | None:
        """Route that a dose form or product name states ("hydrocortisone cream"), else None."""
        return self._vocabularies.by_last_words("form", text)

    def pregnancy(self, system: str | None, code: str | None, text: str | None = None) -> str | None:
        """`pregnancy` or `not_pregnant` of a pregnancy-status answer, else None."""
        for concept in self.concepts_for(system or "", code) if code else ():
            if concept in ("pregnancy", "not_pregnant"):
                return concept
        return self._vocabularies.by_text("pregnancy", text)

    def g6pd(self, system: str | None, code: str | None, text: str | None = None) -> str | None:
        """`deficient`, `intermediate` or `normal` of a G6PD answer (L21), else None."""
        return self._answer("g6pd", system, code, text)


@cache
def load(site_map: Path | None = None) -> Terminology:
    """The terminology, read once per site map. Raises SiteMapError or TableError."""
    return Terminology(site_map)
