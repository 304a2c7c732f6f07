"""What a card depends on besides its finding: request, language, rules in force, terminology."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, tzinfo
from functools import cached_property
from typing import Any, Protocol

from cards import escape
from cards.orders import Codes, Desk
from cards.sign_off import SignOff
from cards.texts import Language
from cards.writer import Writer
from fhir_mapping.chart import Drafts


class SourceInfo(Protocol):
    @property
    def label(self) -> str: ...
    @property
    def citation(self) -> str: ...
    @property
    def url(self) -> str: ...


class ParameterInfo(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def value(self) -> object: ...
    @property
    def unit(self) -> str: ...
    @property
    def site_value(self) -> bool: ...


class RuleInfo(Protocol):
    """What a card tells of its rule (`cds.engine.rule.Rule` is one)."""

    @property
    def title(self) -> Mapping[str, str]: ...
    @property
    def version(self) -> int: ...
    @property
    def source(self) -> SourceInfo: ...
    @property
    def parameters(self) -> Iterable[ParameterInfo]: ...
    @property
    def borrows(self) -> Iterable[str]: ...


@dataclass(frozen=True)
class RenderContext:
    """Everything about the request that a card depends on.

    `drafts` are the hook's draft orders and appointments by `Type/id`, raw, for updates; `read` is what they
    mean. `patient`, `encounter` and `requester` are relative references. `now` is aware.
    """

    language: Language
    zone: tzinfo
    hook_instance: str
    rules: Mapping[str, RuleInfo]
    ruleset_version: str
    terminology: Codes
    now: datetime
    patient: str
    sign_offs: Mapping[str, SignOff] = field(default_factory=dict)
    drafts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    read: Drafts = field(default_factory=Drafts)
    encounter: str = ""
    requester: str = ""
    max_cards: int = 10

    @cached_property
    def plain(self) -> Writer:
        """For strings that are not Markdown."""
        titles = _Titles(self.rules)
        return Writer(self.language, self.zone, self.terminology, titles, escape.plain)

    @cached_property
    def markdown(self) -> Writer:
        return replace(self.plain, escape=escape.markdown)

    @cached_property
    def desk(self) -> Desk:
        return Desk(self.patient, self.now, self.terminology, self.plain, self.encounter, self.requester)


class _Titles(Mapping[str, Mapping[str, str]]):
    """Rule id -> titles, seen through the rules' metadata."""

    def __init__(self, rules: Mapping[str, RuleInfo]) -> None:
        self._rules = rules

    def __getitem__(self, rule: str) -> Mapping[str, str]:
        return self._rules[rule].title

    def __iter__(self) -> Iterator[str]:
        return iter(self._rules)

    def __len__(self) -> int:
        return len(self._rules)
