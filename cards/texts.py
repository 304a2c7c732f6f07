"""Message catalogues: one PO file per rule and language, read on first use, kept compiled.

`locale/<language>/<rule id>.po` holds the rule's texts, `common.po` what every card shares. A msgid is a key
(`summary.not-met`), a msgstr its text with `{name}` placeholders. A text that depends on a number has
`msgid_plural` and a value named `count`.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, lru_cache
from pathlib import Path

from babel.messages.pofile import PoFileError, read_po

LOCALE = Path(__file__).parent / "locale"
COMMON = "common"


class Language(StrEnum):
    EN = "en"
    ZH_TW = "zh_TW"

    @property
    def tag(self) -> str:
        """As HTTP and HTML write it."""
        return self.value.replace("_", "-")


class TextError(Exception):
    """A text that cannot be built: no such catalogue, key or placeholder. Tells no chart values."""


def _language(tag: str) -> Language | None:
    """`zh`, `zh-Hant`, `zh-TW` (also HK, MO) are one language; simplified Chinese is another one."""
    parts = tag.strip().replace("_", "-").lower().split("-")
    if parts[0] == "en":
        return Language.EN
    if parts[0] == "zh" and ("hant" in parts or not {"hans", "cn", "sg", "my"} & set(parts)):
        return Language.ZH_TW
    return None


def language_of(tag: str) -> Language:
    """The language of a setting (`en`, `zh-TW`). Raises ValueError on any other."""
    if (found := _language(tag)) is None:
        raise ValueError(f"{tag!r} is neither en nor zh-TW")
    return found


@lru_cache(maxsize=256)
def _preferred(accept_language: str) -> Language | None:
    choices: list[tuple[float, int, Language]] = []
    for place, part in enumerate(accept_language[:1000].split(",")):
        tag, _, parameter = part.partition(";")
        name, _, number = parameter.partition("=")
        try:
            weight = float(number) if name.strip().lower() == "q" else 1.0
        except ValueError:
            weight = 0.0
        found = _language(tag)
        if found is not None and weight > 0:
            choices.append((-weight, place, found))
    return min(choices)[2] if choices else None


def negotiate(accept_language: str | None, default: Language) -> Language:
    """The language that `Accept-Language` prefers among ours, else the default."""
    if not accept_language or len(accept_language) > 1000:
        return default
    return _preferred(accept_language) or default


@dataclass(frozen=True, slots=True)
class Template:
    """A compiled text: literal pieces and placeholder names in turn."""

    pieces: tuple[tuple[str, str], ...]  # (literal, placeholder or "")

    @property
    def placeholders(self) -> frozenset[str]:
        return frozenset(name for _, name in self.pieces if name)


@dataclass(frozen=True, slots=True)
class Entry:
    """One key. `many` is the text for a `count` other than 1, where the language has two forms."""

    text: Template
    many: Template | None = None

    @property
    def placeholders(self) -> frozenset[str]:
        return self.text.placeholders | (self.many.placeholders if self.many else frozenset())


def _compiled(text: str, where: str) -> Template:
    pieces: list[tuple[str, str]] = []
    try:
        for literal, name, spec, conversion in string.Formatter().parse(text):
            if name is not None and (spec or conversion or not re.fullmatch(r"[a-z][a-z0-9_]*", name)):
                raise TextError(f"{where}: placeholder {{{name}}} must be a plain name")
            pieces.append((literal, name or ""))
    except ValueError as error:
        raise TextError(f"{where}: {error}") from None
    return Template(tuple(pieces))


Catalogue = Mapping[str, Entry]


@cache
def catalogue(name: str, language: Language) -> Catalogue:
    """The compiled texts of a rule (or of `common`). Raises TextError where there is no readable file."""
    path = LOCALE / language.value / f"{name}.po"
    try:
        with path.open("rb") as stream:
            messages = read_po(stream, locale=language.value, abort_invalid=True)
    except (OSError, PoFileError, ValueError) as error:
        raise TextError(f"{language.value}/{name}.po: {type(error).__name__}") from error
    entries: dict[str, Entry] = {}
    for message in messages:
        if not message.id:
            continue
        key = message.id if isinstance(message.id, str) else message.id[0]
        strings = message.string or ""
        texts = (strings,) if isinstance(strings, str) else tuple(strings)
        forms = [_compiled(text, f"{name}.po {key}") for text in texts]
        entries[key] = Entry(forms[0], forms[1] if len(forms) > 1 else None)
    return entries


def is_common(key: str) -> bool:
    return key.startswith("common.")


def entry(key: str, owner: str, language: Language) -> Entry:
    """The text of a key: common.po for `common.` keys, else the owner's. Raises TextError."""
    name = COMMON if is_common(key) else owner
    found = catalogue(name, language).get(key)
    if found is None:
        raise TextError(f"{language.value}/{name}.po has no {key}")
    return found


def word(value: str, owner: str, language: Language) -> Entry:
    """The word for a member of an enumeration: `word.<value>` of the owner, else of common.po."""
    key = f"word.{value}"
    for name in (owner, COMMON):
        try:
            found = catalogue(name, language).get(key)
        except TextError:
            continue
        if found is not None:
            return found
    raise TextError(f"{language.value}: neither {owner}.po nor common.po has {key}")


def warm(names: Iterable[str]) -> None:
    """Read catalogues ahead of the first request; rules without texts (helpers) are passed over."""
    for name in (COMMON, *names):
        for language in Language:
            if (LOCALE / language.value / f"{name}.po").exists():
                catalogue(name, language)
