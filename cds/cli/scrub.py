"""`tcell-cds evaluate --scrub`: a copy of a request that says nothing about who the patient is.

Kept: codes, numbers, units, statuses, the order of events. Changed: ids (renamed alike everywhere), dates
(all moved by one span), free text (kept only where it is a term of the terminology or a plain result).
Dropped: names, addresses, narrative, extensions, tokens, server addresses. A person still reads it before
it is sent to anyone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol

from cds.cli.shift import shifted
from fhir_mapping.units import canonical

SCRUBBED = "scrubbed"
HOOK_INSTANCE = "00000000-0000-4000-8000-000000000000"

_DROPPED = frozenset(
    "name telecom address photo contact communication generalPractitioner managingOrganization maritalStatus "
    "extension modifierExtension meta implicitRules language fhirServer fhirAuthorization link fullUrl url "
    "search request response data".split()
)
_KEPT = frozenset(
    "code system unit comparator periodUnit durationUnit mode relation hook clinicalStatus "
    "verificationStatus criticality severity priority category class dayOfWeek when".split()
)
_WORDS = frozenset("resourceType status intent gender type".split())  # kept where they hold one word
_FREE_TEXT = frozenset({"text", "display", "valueString", "conclusion", "note", "comment", "lotNumber"})
_WORD = re.compile(r"[A-Za-z][A-Za-z-]*")
_YEAR = re.compile(r"(19|20)\d\d")
# longer numbers are telephone and chart numbers
_RESULT = re.compile(r"\s*[<>=≤≥]{0,2}\s*\d{1,6}([.,:]\d{1,6})?\s*(?P<unit>\S{0,20})\s*")


class Names(Protocol):
    """What the scrubber asks of the terminology."""

    def by_name(self, text: str) -> tuple[str, ...]: ...
    def result(self, system: str | None, code: str | None, text: str | None) -> object: ...


@dataclass
class Scrubber:
    """Renames alike within one request. `span` moves every date."""

    terminology: Names
    span: timedelta
    _ids: dict[str, str] = field(default_factory=dict)

    def request(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The de-identified hook request. Prefetch bundles keep their `next` link, without its address."""
        scrubbed: dict[str, Any] = self._value(body, "")
        scrubbed["hookInstance"] = HOOK_INSTANCE
        return scrubbed

    def _renamed(self, name: str, prefix: str) -> str:
        if name not in self._ids:
            self._ids[name] = f"{prefix}-{len(self._ids) + 1}"
        return self._ids[name]

    def _reference(self, text: str) -> str:
        kind, slash, identity = text.partition("/_history/")[0].rpartition("/")
        kind = kind.rpartition("/")[2]
        kind = kind if _WORD.fullmatch(kind) else SCRUBBED
        if not slash:
            return f"#{self._renamed(text[1:], 'x')}" if text.startswith("#") else self._renamed(text, "x")
        return f"{kind}/{self._renamed(identity, 'x')}"

    def _text(self, text: str) -> str:
        result = _RESULT.fullmatch(text)
        if result is not None and (not result["unit"] or canonical(result["unit"]) is not None):
            return text
        if self.terminology.by_name(text):
            return text
        return text if self.terminology.result(None, None, text) is not None else SCRUBBED

    def _string(self, text: str, key: str) -> str:
        if key == "reference" or key == "userId" or key == "selections":
            return self._reference(text)
        if key in ("id", "patientId", "encounterId", "value"):
            return self._renamed(text.rpartition("/")[2], "x")
        moved = str(shifted(text, self.span))
        if moved != text or _YEAR.fullmatch(text):
            return moved
        if key in _KEPT or (key in _WORDS and _WORD.fullmatch(text)):
            return text
        return self._text(text) if key in _FREE_TEXT else SCRUBBED

    def _value(self, value: Any, key: str) -> Any:
        if isinstance(value, Mapping):
            if key in ("identifier", "groupIdentifier"):
                return self._identifier(value)
            kept = {n: item for n, item in value.items() if n not in _DROPPED and not _narrative(item)}
            if value.get("resourceType") == "Patient":
                kept.pop("identifier", None)
            copy = {name: self._value(item, name) for name, item in kept.items()}
            return copy | ({"link": [_NEXT]} if _has_next(value.get("link")) else {})
        if isinstance(value, list):
            return [self._value(item, key) for item in value]
        return self._string(value, key) if isinstance(value, str) else value

    def _identifier(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """Bag numbers and the like stay comparable; identifiers that are our own codes stay as they are."""
        system, text = value.get("system"), value.get("value")
        if isinstance(system, str) and system.startswith("urn:tcell-cds:"):
            return {"system": system, "value": text}
        return {"value": self._renamed(text, "x")} if isinstance(text, str) else {}


_NEXT = {"relation": "next", "url": "https://scrubbed.example/next"}


def _has_next(links: object) -> bool:
    return isinstance(links, list) and any(
        isinstance(link, Mapping) and link.get("relation") == "next" for link in links
    )


def _narrative(value: object) -> bool:
    return isinstance(value, Mapping) and "div" in value
