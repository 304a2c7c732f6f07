"""The tables as read: concepts, codes by status, relations, facts, names."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path

from fhir_mapping.terminology import systems as uri
from fhir_mapping.terminology.index import CodeIndex, comparable
from fhir_mapping.terminology.model import Code, Concept, Fact
from fhir_mapping.terminology.names import fold
from fhir_mapping.terminology.site_map import SYSTEM_ALIAS, SiteMapError, SiteRow, read_site_map
from fhir_mapping.terminology.systems import Systems
from fhir_mapping.terminology.tables import TableError, mapping, rows

_LOG = logging.getLogger(__name__)

CONCEPTS = (
    "concept_id",
    "kind",
    "display_en",
    "display_zh_tw",
    "preferred_unit",
    "value_type",
    "allowed_values",
)
CODES = ("concept_id", "system", "code", "display", "verified", "source")
SNOMED_CODES = ("concept_id", "code", "verified", "source")
COMBINATIONS = ("system", "code", "concepts", "display", "source")
BROADER = ("concept_id", "broader", "carried", "note")
SYSTEMS = ("alias", "system", "source")
FACTS = ("fact_id", "title_en", "title_zh_tw", "concepts", "resource_types", "note")
ALIASES = ("name", "concept_id", "language", "kind", "source")
_NOTE = " (component seen only)"  # of the table, behind a published name
_NAMELESS_KINDS = frozenset({"purpose", "route"})  # their texts are vocabulary rows


class Content:
    """Everything that the tables of `folder` and the site map say. Raises TableError, SiteMapError."""

    def __init__(self, folder: Path, site_map: Path | None) -> None:
        self.folder = folder
        self.concepts = self._read_concepts()
        self.systems = Systems(mapping("systems.csv", SYSTEMS, folder))
        self.verified, self.unverified = CodeIndex(), CodeIndex()
        self.codes: dict[str, list[Code]] = {}
        self.unverified_codes: dict[str, list[Code]] = {}
        self.unverified_names: dict[tuple[str, str], str] = {}  # their published names
        self.broader: dict[str, list[str]] = {}
        self.carried: dict[str, list[str]] = {}
        self._site_names: list[tuple[str, str]] = []
        self._read_relations()
        self._read_codes()
        if site_map is not None:
            self._add_site_map(site_map)
        self.facts = self._read_facts()
        self.version = self._digest(site_map)

    def _read_concepts(self) -> dict[str, Concept]:
        result: dict[str, Concept] = {}
        for line, (concept, kind, en, zh, unit, value_type, allowed) in rows(
            "concepts.csv", CONCEPTS, self.folder
        ):
            if concept in result:
                raise TableError(self.folder / "concepts.csv", line, f"{concept} twice")
            result[concept] = Concept(concept, kind, en, zh, unit, value_type, tuple(allowed.split()))
        return result

    def _known(self, name: str, line: int, concept: str) -> Concept:
        found = self.concepts.get(concept)
        if found is None:
            raise TableError(self.folder / name, line, f"unknown concept {concept}")
        return found

    def _read_relations(self) -> None:
        for line, (concept, broader, carried, _note) in rows("broader.csv", BROADER, self.folder):
            self._known("broader.csv", line, concept)
            self._known("broader.csv", line, broader)
            self.broader.setdefault(concept, []).append(broader)
            if carried == "yes":
                self.carried.setdefault(concept, []).append(broader)

    def _read_codes(self) -> None:
        for line, (concept, system, code, display, verified, _source) in rows(
            "codes.csv", CODES, self.folder
        ):
            self._add(self._known("codes.csv", line, concept), system, code, verified)
            if verified != "yes":
                self.unverified_names[system, comparable(system, code)] = fold(display.removesuffix(_NOTE))
        for line, (system, code, ingredients, _display, _source) in rows(
            "combinations.csv", COMBINATIONS, self.folder
        ):
            for ingredient in ingredients.split():
                self._known("combinations.csv", line, ingredient)
                self.verified.add_ingredient(ingredient, system, code)
        try:
            for line, (concept, code, verified, _source) in rows(
                "codes-snomed.csv", SNOMED_CODES, self.folder
            ):
                self._add(self._known("codes-snomed.csv", line, concept), uri.SNOMED, code, verified)
        except FileNotFoundError:
            _LOG.warning("codes-snomed.csv is not installed: SNOMED CT codings will not be recognised")

    def _add(self, concept: Concept, system: str, code: str, verified: str) -> None:
        self.systems.know(system)
        index, codes = (
            (self.verified, self.codes) if verified == "yes" else (self.unverified, self.unverified_codes)
        )
        index.add(concept, system, code)
        codes.setdefault(concept.id, []).append(Code(system, code))

    def _add_site_map(self, path: Path) -> None:
        for row in read_site_map(path):
            if row.concept == SYSTEM_ALIAS:
                self._add_alias(path, row)
            else:
                self._add_site_code(path, row)

    def _add_alias(self, path: Path, row: SiteRow) -> None:
        current = self.systems.canonical(row.system)
        if self.systems.known(row.system) and current != self.systems.canonical(row.code):
            raise SiteMapError(path, row.line, f"{row.system} already means {current}")
        self.systems.add(row.system, row.code)

    def _add_site_code(self, path: Path, row: SiteRow) -> None:
        concept = self.concepts.get(row.concept.replace("-", "_"))
        if concept is None:
            raise SiteMapError(path, row.line, f"unknown concept {row.concept}")
        system = self.systems.canonical(row.system)
        owners = self.verified.owners(system, row.code)
        own = row.code.lower().replace("-", "_")
        if system == uri.LOCAL and own in self.concepts:
            owners.append(own)
        if wrong := [owner for owner in owners if owner != concept.id]:
            raise SiteMapError(path, row.line, f"code {row.code} already means {wrong[0]}")
        if not owners:
            self._add(concept, system, row.code, "yes")
        if row.display:
            self._site_names.append((row.display, concept.id))

    def _read_facts(self) -> dict[str, Fact]:
        return {
            fact_id: Fact(fact_id, en, zh, tuple(concepts.split()), tuple(types.split()), note)
            for _line, (fact_id, en, zh, concepts, types, note) in rows("facts.csv", FACTS, self.folder)
        }

    def names(self) -> Iterator[tuple[str, str]]:
        """(name, concept id): ids, displays, aliases, names of the site map."""
        for concept in self.concepts.values():
            if concept.kind not in _NAMELESS_KINDS:
                for name in (concept.display_en, concept.display_zh_tw, concept.id):
                    yield name, concept.id
        for line, (name, identifier, _language, _kind, _source) in rows("aliases.csv", ALIASES, self.folder):
            yield name, self._known("aliases.csv", line, identifier).id
        yield from self._site_names

    def _digest(self, site_map: Path | None) -> str:
        digest = hashlib.sha256()
        for path in sorted(self.folder.glob("*.csv")):
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
        if site_map is not None:
            digest.update(site_map.read_bytes())
        return digest.hexdigest()
