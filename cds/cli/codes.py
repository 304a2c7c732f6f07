"""`tcell-cds codes`: which codings of a chart are understood, and which need a row in the site map."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from cds.cli.console import out
from fhir_mapping.terminology import Terminology

# Elements whose codings say what a resource is about; status codes and the like are not of interest.
_ELEMENTS = frozenset(
    "code medicationCodeableConcept vaccineCode valueCodeableConcept serviceType itemCodeableConcept route "
    "bodySite reasonCode orderDetail type".split()
)
_TYPES_WITH_TYPE = frozenset({"Specimen", "Encounter"})


class Known(StrEnum):
    """How well a coding is understood."""

    NO = "unknown"
    BY_NAME = "by name only"
    UNVERIFIED = "needs a second sign"
    YES = "known"


@dataclass(frozen=True, slots=True)
class Coding:
    """One coding as sent; `text` is its display, or the text beside it."""

    resource_type: str
    system: str
    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Judged:
    coding: Coding
    count: int
    known: Known
    concepts: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        entry = {
            "resourceType": self.coding.resource_type,
            "system": self.coding.system,
            "code": self.coding.code,
            "text": self.coding.text,
            "count": self.count,
            "known": self.known.value,
            "concepts": list(self.concepts),
        }
        return {key: value for key, value in entry.items() if value}


def resources(data: object) -> Iterator[Mapping[str, Any]]:
    """Every resource of a Bundle, a list, a hook request with prefetch, or a single resource."""
    if isinstance(data, list):
        for item in data:
            yield from resources(item)
    elif isinstance(data, Mapping):
        if data.get("resourceType") == "Bundle":
            for entry in data.get("entry") or ():
                yield from resources(entry.get("resource") if isinstance(entry, Mapping) else None)
        elif isinstance(data.get("resourceType"), str):
            yield data
            yield from resources(data.get("contained"))
        else:
            for item in data.values():
                if isinstance(item, Mapping | list):
                    yield from resources(item)


def codings(resource: Mapping[str, Any]) -> Iterator[Coding]:
    """The codings of one resource, its components included; a text without a code is one too."""
    kind = str(resource["resourceType"])

    def walk(value: object, key: str) -> Iterator[Coding]:
        if isinstance(value, list):
            for item in value:
                yield from walk(item, key)
        elif isinstance(value, Mapping):
            concept = key in _ELEMENTS and (key != "type" or kind in _TYPES_WITH_TYPE)
            if concept and ("coding" in value or isinstance(value.get("text"), str)):
                yield from _of_concept(value, kind)
                return
            for name, item in value.items():
                if name not in ("contained", "meta", "extension", "text"):
                    yield from walk(item, name)

    yield from walk(resource, "")


def _of_concept(concept: Mapping[str, Any], kind: str) -> Iterator[Coding]:
    text = concept.get("text") if isinstance(concept.get("text"), str) else ""
    found = False
    for coding in concept.get("coding") or ():
        if isinstance(coding, Mapping) and isinstance(coding.get("code"), str):
            found = True
            yield Coding(
                kind, str(coding.get("system") or ""), coding["code"], str(coding.get("display") or text)
            )
    if not found and text:
        yield Coding(kind, "", "", text)


def judged(data: object, terminology: Terminology) -> list[Judged]:
    """Every different coding of the chart, the ones not understood first, then by how often they occur."""
    counts = Counter(coding for resource in resources(data) for coding in codings(resource))
    found = [_judged(coding, count, terminology) for coding, count in counts.items()]
    order = list(Known)
    return sorted(found, key=lambda item: (order.index(item.known), -item.count, item.coding.code))


def _judged(coding: Coding, count: int, terminology: Terminology) -> Judged:
    if coding.code:
        if concepts := terminology.concepts_for(coding.system, coding.code):
            return Judged(coding, count, Known.YES, concepts)
        if concepts := terminology.unverified_for(coding.system, coding.code):
            return Judged(coding, count, Known.UNVERIFIED, concepts)
    if coding.text and (concepts := terminology.by_name(coding.text)):
        return Judged(coding, count, Known.BY_NAME, concepts)
    return Judged(coding, count, Known.NO, ())


def print_codes(found: list[Judged]) -> None:
    table = Table(title=f"{len(found)} different codings", title_justify="left")
    for heading in ("", "resource", "system", "code", "text", "n", "concepts"):
        table.add_column(heading, overflow="fold")
    colours = {Known.NO: "red", Known.BY_NAME: "yellow", Known.UNVERIFIED: "yellow", Known.YES: "green"}
    for item in found:
        coding = item.coding
        cells = (coding.resource_type, coding.system, coding.code, coding.text, str(item.count))
        table.add_row(
            Text(item.known.value, style=colours[item.known]),
            *map(Text, cells),
            Text(", ".join(item.concepts)),
        )
    out.print(table)


def write_site_map(found: list[Judged], path: Path) -> int:
    """A site map to fill in: a row per coding that is not understood. Returns how many."""
    rows = [item.coding for item in found if item.known is not Known.YES and item.coding.code]
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("concept_id", "system", "code", "display"))
        writer.writerows(("", coding.system, coding.code, coding.text) for coding in rows)
    return len(rows)
