"""The index over all tables: coding -> concepts, name -> concepts, concept -> codes, classes and displays."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Iterable
from functools import cache, cached_property
from pathlib import Path

from fhir_mapping.terminology import systems as uri
from fhir_mapping.terminology.model import Code, Concept, Fact, Result, Severity, YesNo
from fhir_mapping.terminology.names import NameIndex
from fhir_mapping.terminology.site_map import SYSTEM_ALIAS, SiteMapError, read_site_map
from fhir_mapping.terminology.systems import Systems
from fhir_mapping.terminology.tables import DATA, TableError, mapping, rows
from fhir_mapping.terminology.vocabulary import Vocabularies

_LOG = logging.getLogger(__name__)
_CACHE_LIMIT = 50_000  # codings come from outside: the cache must not grow without bound
_PREFERENCE: dict[str, tuple[str, ...]] = {
    "drug": (uri.ATC, uri.RXNORM),
    "drug_class": (uri.ATC, uri.RXNORM),
    "vaccine": (uri.CVX, uri.ATC),
    "condition": (uri.ICD10CM, uri.SNOMED),
}
_OTHER_PREFERENCE = (uri.LOINC, uri.SNOMED)
_V3_INTERPRETATION = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"


def _icd(code: str) -> str:
    return code.upper().replace(".", "")


def _cvx(code: str) -> str:
    return str(int(code)) if code.isascii() and code.isdigit() else code


def _key(system: str, code: str) -> str:
    """Code as compared within its system."""
    if system == uri.ICD10CM or system == uri.ICD10PCS:
        return _icd(code)
    if system == uri.CVX:
        return _cvx(code)
    if system == uri.ATC or system == uri.LOINC or system == uri.NHI_DRUG or system == uri.NHI_ORDER:
        return code.upper()
    return code


class _Index:
    """Codes of one verification status."""

    def __init__(self) -> None:
        self.exact: dict[tuple[str, str], list[str]] = {}
        self.atc_classes: dict[str, str] = {}

    def add(self, concept: Concept, system: str, code: str) -> None:
        key = _key(system, code)
        if concept.kind == "drug_class" and system == uri.ATC:
            self.atc_classes[key] = concept.id
            return
        found = self.exact.setdefault((system, key), [])
        if concept.id not in found:
            found.append(concept.id)

    def add_combination(self, concept: str, system: str, code: str) -> None:
        """One ingredient of a combination: found by the code, which is not a code of the ingredient."""
        self.exact.setdefault((system, _key(system, code)), []).append(concept)

    def find(self, system: str, code: str) -> list[str]:
        key = _key(system, code)
        if system == uri.ICD10CM:  # the longest listed parent decides
            for length in range(len(key), 2, -1):
                if found := self.exact.get((system, key[:length])):
                    return found
            return []
        return self.exact.get((system, key), [])

    def classes_of_atc(self, code: str) -> list[str]:
        """Classes whose prefix covers the code, narrowest first."""
        key = code.upper()
        return [
            self.atc_classes[key[:length]]
            for length in range(len(key), 0, -1)
            if key[:length] in self.atc_classes
        ]


class Terminology:
    """See the package docstring. Immutable after construction; one instance serves all threads."""

    def __init__(self, site_map: Path | None = None) -> None:
        self._concepts = self._read_concepts()
        self._systems = Systems(mapping("systems.csv", ("alias", "system", "source")))
        self._verified, self._unverified = _Index(), _Index()
        self._codes: dict[str, list[Code]] = {}
        self._unverified_codes: dict[str, list[Code]] = {}
        self._broader, self._carried = self._read_broader()
        self._read_codes()
        self._site_names: list[tuple[str, str]] = []
        if site_map is not None:
            self._read_site_map(site_map)
        self._facts = self._read_facts()
        self._vocabularies = Vocabularies()
        self._found: dict[tuple[str, str], tuple[str, ...]] = {}
        self._found_unverified: dict[tuple[str, str], tuple[str, ...]] = {}
        self._classes: dict[str, frozenset[str]] = {}
        self.version: str = self._digest(site_map)

    # ---- reading

    @staticmethod
    def _read_concepts() -> dict[str, Concept]:
        columns = (
            "concept_id",
            "kind",
            "display_en",
            "display_zh_tw",
            "preferred_unit",
            "value_type",
            "allowed_values",
        )
        result: dict[str, Concept] = {}
        for line, (identifier, kind, en, zh, unit, value_type, allowed) in rows("concepts.csv", columns):
            if identifier in result:
                raise TableError(DATA / "concepts.csv", line, f"{identifier} twice")
            result[identifier] = Concept(identifier, kind, en, zh, unit, value_type, tuple(allowed.split()))
        return result

    def _read_broader(self) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        broader: dict[str, list[str]] = {}
        carried: dict[str, list[str]] = {}
        columns = ("concept_id", "broader", "carried", "note")
        for line, (identifier, parent, carries, _note) in rows("broader.csv", columns):
            for name in (identifier, parent):
                if name not in self._concepts:
                    raise TableError(DATA / "broader.csv", line, f"unknown concept {name}")
            broader.setdefault(identifier, []).append(parent)
            if carries == "yes":
                carried.setdefault(identifier, []).append(parent)
        return broader, carried

    def _read_codes(self) -> None:
        columns = ("concept_id", "system", "code", "display", "verified", "source")
        for line, (identifier, system, code, _display, verified, _source) in rows("codes.csv", columns):
            self._add("codes.csv", line, identifier, system, code, verified)
        for line, (system, code, concepts, _display, _source) in rows(
            "combinations.csv", ("system", "code", "concepts", "display", "source")
        ):
            for identifier in concepts.split():
                if identifier not in self._concepts:
                    raise TableError(DATA / "combinations.csv", line, f"unknown concept {identifier}")
                self._verified.add_combination(identifier, system, code)
        try:
            for line, (identifier, code, verified, _source) in rows(
                "codes-snomed.csv", ("concept_id", "code", "verified", "source")
            ):
                self._add("codes-snomed.csv", line, identifier, uri.SNOMED, code, verified)
        except FileNotFoundError:
            _LOG.warning("codes-snomed.csv is not installed: SNOMED CT codings will not be recognised")

    def _add(self, name: str, line: int, identifier: str, system: str, code: str, verified: str) -> None:
        concept = self._concepts.get(identifier)
        if concept is None:
            raise TableError(DATA / name, line, f"unknown concept {identifier}")
        self._systems.know(system)
        if verified == "yes":
            self._verified.add(concept, system, code)
            self._codes.setdefault(identifier, []).append(Code(system, code))
        else:
            self._unverified.add(concept, system, code)
            self._unverified_codes.setdefault(identifier, []).append(Code(system, code))

    def _read_site_map(self, path: Path) -> None:
        seen: dict[tuple[str, str], str] = {}
        for row in read_site_map(path):
            if row.concept == SYSTEM_ALIAS:
                current = self._systems.canonical(row.system)
                if current != self._systems.canonical(row.code) and self._systems.known(row.system):
                    raise SiteMapError(path, row.line, f"{row.system} already means {current}")
                self._systems.add(row.system, row.code)
                continue
            identifier = row.concept.replace("-", "_")
            concept = self._concepts.get(identifier)
            if concept is None:
                raise SiteMapError(path, row.line, f"unknown concept {row.concept}")
            system = self._systems.canonical(row.system)
            key = (system, _key(system, row.code))
            others = [*self._verified.exact.get(key, ())]
            if system == uri.LOCAL and row.code.replace("-", "_") in self._concepts:
                others.append(row.code.replace("-", "_"))
            if system == uri.ATC and key[1] in self._verified.atc_classes:
                others.append(self._verified.atc_classes[key[1]])
            others += [seen[key]] if key in seen else []
            if wrong := [other for other in others if other != identifier]:
                raise SiteMapError(path, row.line, f"code {row.code} already means {wrong[0]}")
            if identifier in others:
                continue
            seen[key] = identifier
            self._systems.know(system)
            self._verified.add(concept, system, row.code)
            self._codes.setdefault(identifier, []).append(Code(system, row.code))
            if row.display:
                self._site_names.append((row.display, identifier))

    @staticmethod
    def _read_facts() -> dict[str, Fact]:
        columns = ("fact_id", "title_en", "title_zh_tw", "concepts", "resource_types", "note")
        return {
            fact_id: Fact(fact_id, en, zh, tuple(concepts.split()), tuple(types.split()), note)
            for _line, (fact_id, en, zh, concepts, types, note) in rows("facts.csv", columns)
        }

    @staticmethod
    def _digest(site_map: Path | None) -> str:
        digest = hashlib.sha256()
        for path in sorted(DATA.glob("*.csv")):
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
        if site_map is not None:
            digest.update(site_map.read_bytes())
        return digest.hexdigest()

    # ---- codings

    def concepts_for(self, system: str, code: str) -> tuple[str, ...]:
        """Concepts that a coding means, narrowest first, then its drug classes; () for an unknown code.

        Verified codes only. `system` may be any accepted spelling of the URI.
        """
        found = self._found.get((system, code))
        if found is None:
            found = self._look_up(system, code, self._verified)
            if len(self._found) >= _CACHE_LIMIT:
                self._found.clear()
            self._found[system, code] = found
        return found

    def unverified_for(self, system: str, code: str) -> tuple[str, ...]:
        """Concepts of a code that nobody has checked yet: they count only with a second sign."""
        found = self._found_unverified.get((system, code))
        if found is None:
            sure = self.concepts_for(system, code)
            found = tuple(c for c in self._look_up(system, code, self._unverified) if c not in sure)
            if len(self._found_unverified) >= _CACHE_LIMIT:
                self._found_unverified.clear()
            self._found_unverified[system, code] = found
        return found

    def _look_up(self, system: str, code: str, index: _Index) -> tuple[str, ...]:
        canonical, code = self._systems.canonical(system), code.strip()
        if canonical == uri.LOCAL:
            identifier = code.lower().replace("-", "_")
            if index is self._unverified or identifier not in self._concepts:
                return tuple(index.find(canonical, code))
            return self._widened([identifier], ())
        classes = index.classes_of_atc(code) if canonical == uri.ATC else []
        return self._widened(index.find(canonical, code), classes)

    def _widened(self, concepts: Iterable[str], classes: Iterable[str]) -> tuple[str, ...]:
        """The concepts, what they carry along, and their classes, each once and in this order."""
        found: dict[str, None] = dict.fromkeys(concepts)
        queue = list(found)
        while queue:
            for parent in self._carried.get(queue.pop(0), ()):
                if parent not in found:
                    found[parent] = None
                    queue.append(parent)
        plain = [c for c in found if self._concepts[c].kind != "drug_class"]
        wide = dict.fromkeys([*(c for c in found if c not in plain), *classes])
        for concept in list(found):
            wide |= dict.fromkeys(sorted(self.classes(concept), key=self._width, reverse=True))
        return tuple(dict.fromkeys([*plain, *wide]))

    def _width(self, class_id: str) -> tuple[int, str]:
        return max((len(code.code) for code in self._codes.get(class_id, ())), default=0), class_id

    # ---- names

    @cached_property
    def _names(self) -> NameIndex:
        names: list[tuple[str, str]] = []
        for concept in self._concepts.values():
            if concept.kind in ("purpose", "route"):
                continue  # texts of these are vocabulary rows
            names.append((concept.display_en, concept.id))
            names.append((concept.display_zh_tw, concept.id))
            names.append((concept.id, concept.id))
        for line, (name, identifier, _language, _kind, _source) in rows(
            "aliases.csv", ("name", "concept_id", "language", "kind", "source")
        ):
            if identifier not in self._concepts:
                raise TableError(DATA / "aliases.csv", line, f"unknown concept {identifier}")
            names.append((name, identifier))
        return NameIndex(
            [*names, *self._site_names], {concept.id: concept.kind for concept in self._concepts.values()}
        )

    def by_name(self, text: str, kinds: Collection[str] | None = None) -> tuple[str, ...]:
        """Concepts whose exact name, alias or Chinese name is the whole text; `kinds` narrows the search.

        Concepts only: what they carry along and their classes are added as for a coding.
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
        """Name for a reader: `en`, or Traditional Chinese for any `zh` tag."""
        concept = self._concepts[id]
        return concept.display_zh_tw if language[:2].lower() == "zh" else concept.display_en

    def codes(self, id: str) -> tuple[Code, ...]:
        """Verified codes of a concept, the preferred one first, the site's own last."""
        order = _PREFERENCE.get(self._concepts[id].kind, _OTHER_PREFERENCE)
        rank = {system: n for n, system in enumerate(order)}
        return tuple(sorted(self._codes.get(id, ()), key=lambda code: rank.get(code.system, len(order))))

    def unverified_codes(self, id: str) -> tuple[Code, ...]:
        """Codes that count only with a second sign."""
        return tuple(self._unverified_codes.get(self._concepts[id].id, ()))

    def broader(self, id: str) -> frozenset[str]:
        """Concepts that a more exact one may stand beside without contradiction, transitively."""
        found: set[str] = set()
        queue = [self._concepts[id].id]
        while queue:
            for parent in self._broader.get(queue.pop(), ()):
                if parent not in found:
                    found.add(parent)
                    queue.append(parent)
        return frozenset(found)

    def classes(self, drug_id: str) -> frozenset[str]:
        """Drug classes of a drug, vaccine or narrower class."""
        found = self._classes.get(drug_id)
        if found is None:
            self._concepts[drug_id]
            direct: set[str] = set()
            for code in self._codes.get(drug_id, ()):
                if code.system == uri.ATC:
                    direct.update(self._verified.classes_of_atc(code.code))
            for parent in self._carried.get(drug_id, ()):
                if self._concepts[parent].kind == "drug_class":
                    direct.add(parent)
                    direct |= self.classes(parent)
            found = self._classes[drug_id] = frozenset(direct - {drug_id})
        return found

    def members(self, class_id: str) -> frozenset[str]:
        """Drugs and vaccines of a class. Raises KeyError for an unknown class."""
        return self._members[self._concepts[class_id].id]

    @cached_property
    def _members(self) -> dict[str, frozenset[str]]:
        found: dict[str, set[str]] = {identifier: set() for identifier in self._concepts}
        for concept in self._concepts.values():
            if concept.kind in ("drug", "vaccine"):
                for class_id in self.classes(concept.id):
                    found[class_id].add(concept.id)
        return {identifier: frozenset(members) for identifier, members in found.items()}

    def fact(self, fact_id: str) -> Fact:
        """Raises KeyError for an unknown row id."""
        return self._facts[fact_id]

    @property
    def facts(self) -> tuple[Fact, ...]:
        return tuple(self._facts.values())

    # ---- answers

    def _answer(self, domain: str, system: str | None, code: str | None, text: str | None) -> str | None:
        vocabularies = self._vocabularies
        if code:
            canonical = self._systems.canonical(system or "")
            if found := vocabularies.by_code(domain, canonical, code.strip(), text):
                return found
            for concept in self.concepts_for(canonical, code):
                if found := vocabularies.by_code(domain, uri.LOCAL, concept, text):
                    return found
        return vocabularies.by_text(domain, text)

    def result(self, system: str | None, code: str | None, text: str | None = None) -> Result | None:
        """Qualitative result of a coded value, else of its text; None when neither is in the vocabulary."""
        found = self._answer("result", system, code, text)
        return Result(found) if found else None

    def interpretation(self, system: str | None, code: str, concept: str) -> Result | None:
        """Qualitative result of an interpretation code; A and N count only where normal is negative."""
        canonical = self._systems.canonical(system or _V3_INTERPRETATION)
        domain = "interpretation-normal-is-negative" if self.normal_is_negative(concept) else "interpretation"
        found = self._vocabularies.by_code(domain, canonical, code.strip().upper(), None)
        found = found or self._vocabularies.by_code("interpretation", canonical, code.strip().upper(), None)
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

    def route(self, system: str | None, code: str | None, text: str | None = None) -> str | None:
        """Route concept id (`route_intravenous`) of a coding, else of its text."""
        return self._answer("route", system, code, text)

    def form_route(self, text: str | None) -> str | None:
        """Route that a dose form or product name states ("hydrocortisone cream"), else None."""
        if not text:
            return None
        if found := self._vocabularies.by_text("form", text):
            return found
        return self._vocabularies.last_words("form", text)


@cache
def _load(site_map: Path | None) -> Terminology:
    return Terminology(site_map)


def load(site_map: Path | None = None) -> Terminology:
    """The terminology, read once per site map. Raises SiteMapError or TableError."""
    return _load(site_map)
