"""What the tests of the cards share: a catalogue of their own and a request to answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from cards import texts
from cards.context import RenderContext
from cards.texts import Language
from cds.protocol.walker import fhir_fault, house_problems, problems
from fhir_mapping.terminology import load

ZONE = ZoneInfo("Asia/Taipei")
NOW = datetime(2026, 3, 28, 14, 30, tzinfo=ZONE)
RULE = "washout.example"

TEXTS: Mapping[str, tuple[str, str]] = {
    "summary.not-met": (
        "{drug} {gap} before leukapheresis; {needed} needed",
        "{drug} 距白血球分離術 {gap}，需 {needed}",
    ),
    "summary.plain": ("{value}", "{value}"),
    "detail.found": ("Last dose **{when}**: {dose}.", "最後一次給藥 **{when}**：{dose}。"),
    "detail.value": ("Found: {value}", "結果：{value}"),
    "table.drug": ("Drug", "藥品"),
    "table.gap": ("Gap", "間隔"),
    "suggest.move": ("Move {drug}", "改期 {drug}"),
    "link.guideline": ("Guideline", "指引"),
    "word.own": ("own word", "自訂詞"),
}


@dataclass(frozen=True)
class Source:
    label: str = "Handbook"
    citation: str = "Handbook, chapter 1"
    url: str = "https://example.org/handbook"


@dataclass(frozen=True)
class Parameter:
    name: str
    value: object
    unit: str
    site_value: bool


@dataclass(frozen=True)
class Info:
    title: Mapping[str, str] = field(
        default_factory=lambda: {"en": "Drug-free interval", "zh_TW": "停藥間隔"}
    )
    version: int = 2
    source: Source = Source()
    parameters: tuple[Parameter, ...] = (
        Parameter("W5_days", Decimal("9"), "d", site_value=True),
        Parameter("W6_days", Decimal("7"), "d", site_value=False),
    )
    borrows: tuple[str, ...] = ()


def write_catalogue(locale: Path, name: str, entries: Mapping[str, tuple[str, str]]) -> None:
    for index, language in enumerate(Language):
        lines = ['msgid ""', 'msgstr "Content-Type: text/plain; charset=UTF-8\\n"', ""]
        for key, both in entries.items():
            escaped = both[index].replace("\\", "\\\\").replace('"', '\\"')
            lines += [f'msgid "{key}"', f'msgstr "{escaped}"', ""]
        (locale / language.value / f"{name}.po").write_text("\n".join(lines), encoding="utf-8")


def locale_with(folder: Path) -> Path:
    """A copy of the shared texts beside the catalogue of the test rule."""
    for language in Language:
        (folder / language.value).mkdir(parents=True, exist_ok=True)
        common = texts.LOCALE / language.value / "common.po"
        (folder / language.value / "common.po").write_bytes(common.read_bytes())
    write_catalogue(folder, RULE, TEXTS)
    return folder


def using(folder: Path) -> Iterator[None]:
    """Catalogues are read from `folder` until the generator is closed."""
    kept = texts.LOCALE
    texts.LOCALE = folder
    texts.catalogue.cache_clear()
    yield
    texts.LOCALE = kept
    texts.catalogue.cache_clear()


def context(language: Language = Language.EN, **changes: Any) -> RenderContext:
    given: dict[str, Any] = {
        "language": language,
        "zone": ZONE,
        "hook_instance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea",
        "rules": {RULE: Info(), "dosing.example": Info({"en": "Dose", "zh_TW": "劑量"})},
        "ruleset_version": "0.1.0+0a1b2c3d",
        "terminology": load(),
        "now": NOW,
        "patient": "Patient/p1",
    }
    return RenderContext(**{**given, **changes})


def faults(cards: list[dict[str, Any]], drafts: Mapping[str, Mapping[str, Any]] | None = None) -> list[str]:
    """Everything that the response walker and the contract find wrong."""
    answer = {"cards": cards}
    return problems(answer, drafts=drafts or {}, validate_fhir=fhir_fault) + house_problems(answer)
