"""Messages with typed values become text in one language: the only place that formats a value."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, tzinfo
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from typing import Protocol

from cards import escape
from cards.finding import Days, Hours, Items, Message, Name, Shown, Text
from cards.texts import COMMON, Entry, Language, TextError, catalogue, entry, word
from fhir_mapping.chart import Amount, Moment, Precision, Quantity

RULE_TITLE = "common.rule-title"
"""Key of the message that stands for a rule's own title; its `catalogue` names the rule."""


class Written(str):
    """Text that a writer has already made safe; it is not escaped a second time."""

    __slots__ = ()


class Displays(Protocol):
    """What the writer asks of the terminology."""

    def __contains__(self, concept: str, /) -> bool: ...
    def display(self, id: str, language: str, /) -> str: ...


def number(value: Decimal | int | float) -> str:
    """Plain digits without trailing zeros; beyond four decimals rounded to four, or to three digits."""
    exact = value if isinstance(value, Decimal) else Decimal(str(value))
    if not exact.is_finite():
        return str(exact)
    exponent = exact.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -4:
        places = min(max(4, 2 - exact.adjusted()), -exponent) if exact else 0
        exact = round(exact, places)
    shown = f"{exact:f}"
    if "." in shown:
        shown = shown.rstrip("0").rstrip(".")
    return "0" if shown == "-0" else shown


def iso_moment(moment: Moment) -> str:
    """As written on the card: what is known of the time, in its own zone."""
    if moment.precision is Precision.INSTANT:
        return f"{moment.earliest:%Y-%m-%d %H:%M}"
    if moment.precision is Precision.DAY:
        return moment.earliest.date().isoformat()
    return f"{moment.earliest:%Y-%m}" if moment.precision is Precision.MONTH else f"{moment.earliest:%Y}"


_SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_SYMBOLS = {"Cel": "°C", "[degF]": "°F", "mm[Hg]": "mmHg", "1": "", "{score}": "", "{INR}": ""}
_WORDS = {
    "d": "common.unit.d",
    "h": "common.unit.h",
    "min": "common.unit.min",
    "wk": "common.unit.wk",
    "mo": "common.unit.mo",
    "a": "common.unit.a",
    "{cells}": "common.unit.cells",
    "[IU]": "common.unit.iu",
    "[iU]": "common.unit.iu",
}


@lru_cache(maxsize=512)
def unit_symbol(unit: str) -> str:
    """A UCUM unit as clinicians write it: `10*3/uL` -> 10³/µL, doses in ug as mcg, annotations dropped."""
    if unit in _SYMBOLS:
        return _SYMBOLS[unit]
    shown = unit.replace("[IU]", "IU").replace("[iU]", "IU").replace("{1.73_m2}", "1.73 m²")
    shown = re.sub(r"10\*(\d+)", lambda match: "10" + match[1].translate(_SUPERSCRIPT), shown)
    shown = re.sub(r"\bm2\b", "m²", shown)
    shown = re.sub(r"\bug(?=/|$)", "µg" if shown.endswith("L") else "mcg", shown)
    shown = re.sub(r"\bu(?=L|mol)", "µ", shown)
    return re.sub(r"\{([^}]*)\}", lambda match: " " + match[1].replace("_", " "), shown).strip()


def _wide(character: str) -> bool:
    """An ideograph or a full-width sign; "" is none."""
    return character > "\u2e7f"


_IDEOGRAPH = re.compile(r"[\u4e00-\u9fff]")
_LATIN_END = re.compile(r"[A-Za-z0-9)%]")
_LATIN_START = re.compile(r"[A-Za-z0-9(]")


def _apart(before: str, after: str) -> bool:
    """An ideograph meets a Latin letter, a digit or the outside of a bracket."""
    if _wide(after):
        return bool(_IDEOGRAPH.match(after) and _LATIN_END.match(before))
    return bool(_wide(before) and _IDEOGRAPH.match(before) and _LATIN_START.match(after))


@dataclass(frozen=True)
class Writer:
    """Writes in one language. `escape` makes untrusted text safe for where the result will stand."""

    language: Language
    zone: tzinfo
    terminology: Displays
    titles: Mapping[str, Mapping[str, str]]
    escape: Callable[[str], str] = escape.plain

    def message(self, message: Message, owner: str) -> str:
        """The text of a message of the rule `owner`. Raises TextError where key or placeholder is missing."""
        own = message.catalogue or owner
        if message.key == RULE_TITLE:
            return self.title(own)
        return self._filled(entry(message.key, own, self.language), message.values, message.key, own)

    def common(self, key: str, /, **values: Shown) -> str:
        """A text of common.po (`key` without the prefix)."""
        return self.message(Message(f"common.{key}", values), COMMON)

    def _filled(self, text: Entry, values: Mapping[str, Shown], key: str, owner: str) -> str:
        template = text.text
        if text.many is not None and values.get("count") != 1:
            template = text.many
        parts: list[str] = []
        for literal, name in template.pieces:
            parts.append(literal)
            if name:
                if name not in values:
                    raise TextError(f"{owner}: {key} needs a value {name}")
                parts.append(self.shown(values[name], owner))
        return self._set(parts)

    def sentence(self, message: Message, owner: str) -> str:
        """The message on one line, beginning with a capital where it begins with a drug name; the title of
        the rule where nothing readable is left of it."""
        text = " ".join(self.message(message, owner).split()) or self.title(owner)
        return text[0].upper() + text[1:] if text[:2].isascii() and text[:2].islower() else text

    def title(self, rule: str) -> str:
        titles = self.titles.get(rule)
        if titles:
            return self.escape(titles.get(self.language.value) or titles.get(Language.EN.value) or rule)
        own = catalogue(COMMON, self.language).get(f"{rule}.title")
        return own.text.pieces[0][0] if own else self.escape(rule)

    def concept(self, concept: str) -> str:
        """Display name of a concept, or of a plain field (birth date); any other id is shown readable."""
        if concept in self.terminology:
            return self.escape(self.terminology.display(concept, self.language.value))
        if (field := catalogue(COMMON, self.language).get(f"common.field.{concept}")) is not None:
            return field.text.pieces[0][0]
        return self.escape(concept.replace("_", " "))

    def word(self, value: str, owner: str = COMMON) -> str:
        return word(value, owner, self.language).text.pieces[0][0]

    def amount(self, amount: Amount) -> str:
        digits = number(amount.value)
        if (key := _WORDS.get(amount.unit)) is not None:
            text = entry(key, COMMON, self.language)
            chosen = text.many if text.many is not None and amount.value != 1 else text.text
            return f"{digits} {chosen.pieces[0][0]}"
        if amount.unit == "%":
            return f"{digits}%"
        symbol = unit_symbol(amount.unit)
        if symbol.startswith("10"):
            return f"{digits} × {self.escape(symbol)}"
        blank = "" if symbol.startswith("/") or not symbol else " "
        return f"{digits}{blank}{self.escape(symbol)}"

    def joined(self, texts: Sequence[str]) -> str:
        if len(texts) < 2:
            return "".join(texts)
        return self._set(
            [self.common("list.separator").join(texts[:-1]), self.common("list.last"), texts[-1]]
        )

    def _set(self, parts: Sequence[str]) -> str:
        """The parts in a row. Chinese sets a blank beside Latin letters and digits, none between its own."""
        if self.language is not Language.ZH_TW:
            return "".join(parts)
        text = ""
        for part in parts:
            if text[-1:] == " " and _wide(text[-2:-1]) and _wide(part[:1]):
                text = text[:-1]
            elif part[:1] == " " and _wide(text[-1:]) and _wide(part[1:2]):
                part = part[1:]
            elif _apart(text[-1:], part[:1]):
                text += " "
            text += part
        return text

    def shown(self, value: Shown, owner: str = COMMON) -> str:
        """Any value of a message, in this language, made safe."""
        match value:
            case StrEnum():
                return self.word(value.value, owner)
            case bool():
                return self.word("yes" if value else "no")
            case Written():
                return value
            case str():
                return self.escape(value)
            case int() | Decimal() | float():
                return number(value)
            case datetime():
                local = value.astimezone(self.zone) if value.tzinfo else value
                return f"{local:%Y-%m-%d %H:%M}"
            case date():
                return value.isoformat()
            case Message():
                return self.message(value, owner)
            case Name():
                return self.concept(value.concept)
            case Amount():
                return self.amount(value)
            case Days():
                return self.common("days", count=value.count)
            case Hours():
                hours = value.count if isinstance(value.count, Decimal) else Decimal(str(value.count))
                return self.common("hours", count=round(hours, 1))
            case Moment():
                return iso_moment(value)
            case Quantity():
                return self.escape(value.comparator) + self.amount(Amount(value.value, value.unit))
            case Text():
                return self.escape(escape.limited(value.text))
            case Items():
                return self.joined([self.shown(item, owner) for item in value.items])
        raise TextError(f"a {type(value).__name__} cannot be shown")
