"""From the keys that a service needs to the templates it publishes and the queries it would ask."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import quote

from cds.prefetch.keys import KEYS, PATIENT, SCOPE, KeySpec
from cds.protocol.hooks import HOOKS, USER_TOKENS
from cds.protocol.request import HookRequest
from fhir_mapping.terminology import Terminology

LONGEST = 2000  # characters of a query after substitution
_ID_LENGTH = 64
_OWN_KINDS = frozenset({"observation", "score", "test"})
_TOKEN = re.compile(r"\{\{(.*?)\}\}")
_SAFE_CODE = re.compile(r"[A-Za-z0-9._-]+")


class TemplateError(Exception):
    """A site's own template that no client could fill. `key` is the prefetch key that it is for."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"prefetch: {reason}")
        self.key = key


@dataclass(frozen=True, slots=True)
class Template:
    """One published template. `name` differs from the key's only where a key was split (`own-codes-2`)."""

    name: str
    text: str
    spec: KeySpec

    @property
    def tokens(self) -> tuple[str, ...]:
        return tuple(_TOKEN.findall(self.text))


@dataclass(frozen=True)
class Plan:
    """The templates of one service, in the order in which they are published."""

    templates: tuple[Template, ...]

    @cached_property
    def published(self) -> Mapping[str, str]:
        return {template.name: template.text for template in self.templates}

    @cached_property
    def scope(self) -> tuple[str, ...]:
        """Keys of which at least one must be had."""
        return tuple(name for name in SCOPE if any(t.spec.name == name for t in self.templates))

    @property
    def usage_requirements(self) -> str:
        required = f"Required: {PATIENT}"
        if self.scope:
            required += f", and at least one of {', '.join(self.scope)}"
        return (
            f"{required}; in prefetch or readable at fhirServer, else 412. "
            "Every other key is optional: cards name what was not read."
        )


def make_plan(
    keys: Collection[str],
    concepts: Iterable[str],
    hook: str,
    terminology: Terminology,
    overrides: Mapping[str, str] | None = None,
) -> Plan:
    """Templates for the named keys. `concepts` fill `own-codes`; `overrides` are the site's own templates.

    Raises KeyError on an unknown key, TemplateError on an override that clients could not fill.
    """
    overrides = overrides or {}
    for name in overrides:
        if name not in KEYS:
            raise TemplateError(name, f"unknown key {name}")
    wanted = set(keys)
    if unknown := wanted - set(KEYS):
        raise KeyError(min(unknown))
    if "encounters" in wanted and hook.startswith("encounter-"):
        wanted.add("encounter")
    own = tuple(sorted(concepts))
    templates: list[Template] = []
    for spec in KEYS.values():
        if spec.name not in wanted:
            continue
        if spec.name in overrides:
            templates.append(Template(spec.name, _checked(spec, overrides[spec.name], hook), spec))
        elif "{codes}" not in spec.template:
            templates.append(Template(spec.name, spec.template, spec))
        else:
            texts = _filled(spec, _codes(spec, own, terminology))
            templates += (
                Template(spec.name if number == 1 else f"{spec.name}-{number}", text, spec)
                for number, text in enumerate(texts, 1)
            )
    return Plan(tuple(templates))


def _codes(spec: KeySpec, own: Iterable[str], terminology: Terminology) -> list[str]:
    """Standard, site and own codes of the key's concepts, each once, ready for a URL."""
    named = spec.concepts or tuple(c for c in own if c in terminology and _is_own(c, terminology))
    codes: dict[str, None] = {}
    for concept in named:
        if concept not in terminology:
            continue
        for code in terminology.codes(concept):
            codes[_escaped(code.code)] = None
        codes[concept.replace("_", "-")] = None
    return list(codes)


def _is_own(concept: str, terminology: Terminology) -> bool:
    return terminology.concept(concept).kind in _OWN_KINDS


def _escaped(code: str) -> str:
    """Commas, pipes and dollars are FHIR search syntax; the rest is URL syntax."""
    if _SAFE_CODE.fullmatch(code):
        return code
    return quote(re.sub(r"([\\,|$])", r"\\\1", code), safe="")


def _filled(spec: KeySpec, codes: Iterable[str]) -> list[str]:
    """As many texts as it takes to keep each within the limit; none without codes."""
    room = LONGEST - len(_TOKEN.sub("x" * _ID_LENGTH, spec.template).replace("{codes}", ""))
    parts: list[list[str]] = []
    size = room + 1
    for code in codes:
        if size + len(code) + 1 > room:
            parts.append([])
            size = 0
        parts[-1].append(code)
        size += len(code) + 1
    return [spec.template.replace("{codes}", ",".join(part)) for part in parts]


def _checked(spec: KeySpec, text: str, hook: str) -> str:
    tokens = _TOKEN.findall(text)
    allowed = {f"context.{name}" for name in HOOKS[hook].tokens} | USER_TOKENS
    if not re.match(rf"{spec.resource_type}[/?]", text):
        raise TemplateError(spec.name, f"{spec.name} must read {spec.resource_type}")
    if bad := [token for token in tokens if token not in allowed]:
        raise TemplateError(spec.name, f"{spec.name} has the unknown token {bad[0]}")
    if "{" in _TOKEN.sub("", text) or "}" in _TOKEN.sub("", text):
        raise TemplateError(spec.name, f"{spec.name} has a broken token")
    if len(_TOKEN.sub("x" * _ID_LENGTH, text)) > LONGEST:
        raise TemplateError(spec.name, f"{spec.name} is longer than {LONGEST} characters")
    if re.search(r"[\s#]|:/", text):
        raise TemplateError(spec.name, f"{spec.name} is no relative query")
    return text


def substituted(text: str, request: HookRequest) -> str | None:
    """The query for this call, context values percent-encoded; None where the hook did not send a value."""
    missing = False

    def value(match: re.Match[str]) -> str:
        nonlocal missing
        found = _context_value(match[1], request)
        missing = missing or not found
        return quote(found, safe="")

    query = _TOKEN.sub(value, text)
    return None if missing else query


def _context_value(token: str, request: HookRequest) -> str:
    if token == "context.patientId":
        return request.patient_id
    if token == "context.encounterId":
        return request.encounter_id
    if token == "context.userId":
        return request.user_id
    if token in USER_TOKENS:
        kind, _, user = request.user_id.partition("/")
        return user if token == f"user{kind}Id" else ""
    return ""
