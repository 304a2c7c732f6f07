"""A rule is declared once: its YAML says what it is and reads, its function answers.

`@rule("grading.crs")` binds the function to `crs.yaml` beside it. Everything else - services, discovery,
prefetch, catalogue - is derived from the declarations.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from cards.finding import Finding
from cds.engine.parameters import DataError, LinedDict, Parameters, load_yaml, parameters_from

if TYPE_CHECKING:
    from cds.engine.case import Case
    from fhir_mapping.chart import Drafts


class Hook(StrEnum):
    PATIENT_VIEW = "patient-view"
    ORDER_SELECT = "order-select"
    ORDER_SIGN = "order-sign"
    ENCOUNTER_START = "encounter-start"
    ENCOUNTER_DISCHARGE = "encounter-discharge"
    APPOINTMENT_BOOK = "appointment-book"


ORDER_HOOKS = frozenset({Hook.ORDER_SELECT, Hook.ORDER_SIGN})
DOMAINS = ("grading", "washout", "dosing", "readiness", "vaccination", "follow-up")


@dataclass(frozen=True, slots=True)
class Source:
    """Where a rule comes from. `url` only if public."""

    label: str
    citation: str
    url: str = ""


RuleFunction = Callable[["Case"], Iterable[Finding]]
Concerns = Callable[["Drafts", Parameters], bool]


@dataclass(frozen=True)
class Rule:
    """One declared rule. `facts` are rows of fhir_mapping's facts table."""

    id: str
    title: Mapping[str, str]
    version: int
    hooks: frozenset[Hook]
    facts: tuple[str, ...]
    source: Source
    parameters: Parameters
    evaluate: RuleFunction
    concerns: Concerns | None
    triggers: frozenset[str]
    rides_on: str
    borrows: tuple[str, ...]
    helper: bool
    enabled: bool
    notes: tuple[Mapping[str, str], ...]
    path: Path

    @property
    def domain(self) -> str:
        return self.id.partition(".")[0]

    @property
    def topic(self) -> str:
        return self.id.partition(".")[2]


_KEYS = frozenset(
    [
        "id",
        "title",
        "version",
        "hooks",
        "facts",
        "source",
        "parameters",
        "tables",
        "triggers",
        "rides_on",
        "borrows",
        "helper",
        "enabled",
        "notes",
    ]
)
_registered: dict[str, Rule] = {}


def _declaration(
    path: Path, data: LinedDict, expected_id: str, function: RuleFunction, concerns: Concerns | None
) -> Rule:
    def fail(key: str, reason: str) -> DataError:
        return DataError(path, data.lines.get(key, 1), reason)

    unknown = set(data) - _KEYS
    if unknown:
        raise fail(min(unknown), f"unknown key {min(unknown)}")
    for key in ("id", "title", "version", "hooks", "facts", "source"):
        if key not in data:
            raise fail("id", f"{key} is missing")
    if data["id"] != expected_id:
        raise fail("id", f"id is {data['id']!r}, the function declares {expected_id!r}")
    if expected_id.partition(".")[0] not in DOMAINS:
        raise fail("id", f"unknown domain of {expected_id}")
    for language in ("en", "zh_TW"):
        if not data["title"].get(language):
            raise fail("title", f"title has no {language}")
    try:
        hooks = frozenset(Hook(hook) for hook in data["hooks"])
    except ValueError as error:
        raise fail("hooks", str(error)) from None
    source = data["source"]
    if not source.get("label") or not source.get("citation"):
        raise fail("source", "source needs label and citation")
    return Rule(
        id=expected_id,
        title=dict(data["title"]),
        version=int(data["version"]),
        hooks=hooks,
        facts=tuple(data["facts"]),
        source=Source(source["label"], source["citation"], source.get("url", "")),
        parameters=parameters_from(path, expected_id, data),
        evaluate=function,
        concerns=concerns,
        triggers=frozenset(data.get("triggers") or ()),
        rides_on=data.get("rides_on") or "",
        borrows=tuple(data.get("borrows") or ()),
        helper=bool(data.get("helper", False)),
        enabled=bool(data.get("enabled", True)),
        notes=tuple(data.get("notes") or ()),
        path=path,
    )


def rule(rule_id: str, *, concerns: Concerns | None = None) -> Callable[[RuleFunction], RuleFunction]:
    """Declare the decorated function as the rule `rule_id`.

    `concerns(drafts, parameters)` tells before any FHIR call whether a draft could concern the rule; without
    it the YAML's `triggers` are matched. Raises DataError on a broken YAML, ValueError on a second
    declaration of the id.
    """

    def declare(function: RuleFunction) -> RuleFunction:
        if rule_id in _registered:
            raise ValueError(f"rule {rule_id} is declared twice")
        module = sys.modules[function.__module__]
        path = Path(str(module.__file__)).with_name(rule_id.partition(".")[2].replace("-", "_") + ".yaml")
        _registered[rule_id] = _declaration(path, load_yaml(path), rule_id, function, concerns)
        return function

    return declare


@cache
def all_rules() -> Mapping[str, Rule]:
    """Every declared rule by id, sorted. Imports all modules below cds.rules."""
    import cds.rules

    for module in pkgutil.walk_packages(cds.rules.__path__, "cds.rules."):
        importlib.import_module(module.name)
    return dict(sorted(_registered.items()))
