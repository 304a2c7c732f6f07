"""Every shipped catalogue is complete in both languages, and the check finds what it should find."""

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

import pytest

from cards import catalogue_check
from cards.catalogue_check import catalogue_names, check_catalogue
from cards.finding import Indicator, Outcome, Override
from cards.texts import COMMON, Language, word
from fhir_mapping.chart import (
    ConditionState,
    DrugSource,
    DrugState,
    EventState,
    Evidence,
    Flag,
    LossReason,
    Result,
    Route,
)
from tests.cards.desk import RULE, using, write_catalogue

SHOWN_ENUMERATIONS: tuple[type[StrEnum], ...] = (
    Outcome,
    Indicator,
    Override,
    Flag,
    LossReason,
    Result,
    Route,
    ConditionState,
    EventState,
    DrugSource,
    DrugState,
    Evidence,
)


@pytest.mark.parametrize("name", catalogue_names())
def test_catalogue_is_complete_in_both_languages(name: str) -> None:
    assert check_catalogue(name) == []


@pytest.mark.parametrize("language", Language)
@pytest.mark.parametrize("enumeration", SHOWN_ENUMERATIONS, ids=lambda e: e.__name__)
def test_every_member_of_an_enumeration_has_a_word(enumeration: type[StrEnum], language: Language) -> None:
    for member in enumeration:
        assert word(member.value, COMMON, language).text.pieces


@pytest.fixture
def locale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for language in Language:
        (tmp_path / language.value).mkdir()
    monkeypatch.setattr(catalogue_check, "LOCALE", tmp_path)
    generator = using(tmp_path)
    next(generator)
    yield tmp_path
    next(generator, None)


BROKEN = {
    "other placeholders": ({"a": ("{x} met", "符合 {y}")}, "has placeholders"),
    "empty text": ({"a": ("met", "")}, "is empty"),
    "English left": ({"a": ("stop now", "stop the drug and wait for the count")}, "is English"),
    "no Chinese": ({"a": ("stop now please", "Bitte jetzt absetzen")}, "has no Chinese"),
    "simplified": ({"a": ("drug", "药物")}, "simplified characters 药"),
    "full-width brackets": ({"a": ("met (5)", "符合（5）")}, "has （ in place of ("),
    "another word for one thing": ({"a": ("clearance", "肌酸酐清除率")}, "in place of 廓清率"),
    "half-width punctuation": ({"a": ("met: 5", "符合: 5")}, "half-width punctuation: 合:"),
    "a plural in brackets": ({"a": ("{x} day(s)", "{x} 天")}, "'(s)' in place of a plural entry"),
    "a blank before the per cent sign": ({"a": ("{x} %", "{x}%")}, "' %' in place of %"),
    "HTML": ({"a": ("<b>met</b>", "<b>符合</b>")}, "holds HTML"),
    "Markdown in a summary": ({"summary.a": ("**met**", "**符合**")}, "holds Markdown"),
}


@pytest.mark.parametrize(("entries", "problem"), BROKEN.values(), ids=BROKEN)
def test_check_finds(locale: Path, entries: dict[str, tuple[str, str]], problem: str) -> None:
    write_catalogue(locale, RULE, entries)
    assert any(problem in found for found in check_catalogue(RULE)), check_catalogue(RULE)


def test_check_finds_keys_of_one_language_only(locale: Path) -> None:
    write_catalogue(locale, RULE, {"a": ("met", "符合"), "b": ("not met", "未達")})
    chinese = locale / "zh_TW" / f"{RULE}.po"
    chinese.write_text(chinese.read_text(encoding="utf-8").replace('"b"', '"c"'), encoding="utf-8")
    assert check_catalogue(RULE) == [f"{RULE}: only English has b", f"{RULE}: only Chinese has c"]


def test_check_finds_a_missing_language(locale: Path) -> None:
    write_catalogue(locale, RULE, {"a": ("met", "符合")})
    (locale / "zh_TW" / f"{RULE}.po").unlink()
    assert check_catalogue(RULE) == [f"zh_TW/{RULE}.po: FileNotFoundError"]
    assert catalogue_names() == [RULE]


def test_check_accepts_a_good_catalogue(locale: Path) -> None:
    write_catalogue(locale, RULE, {"summary.a": ("ANC {anc} < 500", "ANC {anc} < 500"), "b": ("met", "符合")})
    assert check_catalogue(RULE) == []
