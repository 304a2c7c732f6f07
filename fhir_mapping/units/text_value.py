"""Numbers that laboratories send as text: `<0.5`, `>2000`, `1:80`, `3+`, `12.3 mg/dL`."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from fhir_mapping.units.aliases import canonical


class TextForm(StrEnum):
    NUMBER = "number"
    TITER = "titer"  # `1:80`: the value is the dilution, 80
    PLUS = "plus"  # `3+`: the value is the number of pluses


@dataclass(frozen=True, slots=True)
class ParsedValue:
    """`comparator` is "", "<", "<=", ">=" or ">". `unit` is canonical; None beside a `unit_text`: unknown."""

    comparator: str
    value: Decimal
    unit: str | None
    unit_text: str
    form: TextForm


_COMPARATOR = {
    "<": "<",
    ">": ">",
    "<=": "<=",
    ">=": ">=",
    "=<": "<=",
    "=>": ">=",
    "\u2264": "<=",
    "\u2265": ">=",
    "\u2266": "<=",  # the forms that East Asian keyboards write
    "\u2267": ">=",
}
_COMPARATORS = r"(<=|>=|=<|=>|<|>|[\u2264-\u2267])?\s*"
_DIGITS = r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|[+-]?\.\d+"
_NUMBER = re.compile(
    rf"^{_COMPARATORS}({_DIGITS})(?:[eE]([+-]?\d{{1,3}})|\s*[xX*\u00d7]\s*10\s*(?:\^|\*\*?|[eE])\s*([+-]?\d{{1,2}}))?"
    r"(?![\d.,:])\s*(.*)$"
)
_TITER = re.compile(rf"^{_COMPARATORS}1\s*:\s*(\d+)$")
_PLUS = re.compile(r"^(?:(\d)\s*\+|(\+{1,4}))$")
_LONGEST = 80
_MINUS = "\u2212"  # the sign that typesetters write


def parse_text_value(text: str) -> ParsedValue | None:
    """None when the text is not one number: words, ranges, several results (`;`), a decimal comma."""
    if len(text) > _LONGEST:
        return None
    words = re.sub("([\u2070\u00b9\u00b2\u00b3\u2074-\u2079])", r"^\1", text) if "10" in text else text
    words = unicodedata.normalize("NFKC", words).replace(_MINUS, "-").strip()
    if ";" in words or "\n" in words:
        return None
    if match := _TITER.match(words):
        comparator = _COMPARATOR.get(match[1] or "", "")
        return ParsedValue(comparator, Decimal(match[2]), None, "", TextForm.TITER)
    if match := _PLUS.match(words):
        count = match[1] or str(len(match[2]))
        return (
            ParsedValue("", Decimal(count), None, "", TextForm.PLUS)
            if match[1] or len(match[2]) > 1
            else None
        )
    match = _NUMBER.match(words)
    if match is None:
        return None
    comparator, digits, exponent, power, rest = match.groups()
    if rest[:1] in ("-", "~", "+", "(") and re.match(r"^[-~+(]\s*\d", rest):
        return None  # a range, not a value
    value = Decimal(digits.replace(",", "")).scaleb(int(exponent or power or 0))
    unit_text = rest.strip()
    return ParsedValue(
        _COMPARATOR.get(comparator or "", ""),
        value,
        canonical(unit_text) if unit_text else None,
        unit_text,
        TextForm.NUMBER,
    )
