"""Chart text made harmless before it stands on a card.

A drug name or an unreadable unit is whatever someone typed. In Markdown it is escaped so that it shows as
typed and never becomes a link, HTML or a heading; in plain strings (summary, labels, order texts) only what
could open an HTML tag or a link is replaced. Control and bidirectional characters are dropped in both.
"""

from __future__ import annotations

import re
import unicodedata

CHART_TEXT_LIMIT = 120
"""Longest piece of chart text shown on a card, in characters."""

SUMMARY_LIMIT = 139
"""Longest `card.summary` in UTF-16 code units (CDS Hooks: fewer than 140 characters)."""

_ELLIPSIS = "…"
_JOINER = "\u2060"  # invisible, no break: keeps "https://" from becoming a link in every Markdown dialect
_MARKDOWN = re.compile(r"[\\`*\[\]|~]|(?<![^\W_])_|_(?![^\W_])")  # an underscore within a word is a letter
_LINE_START = re.compile(r"^(?:[#=:]|\+(?=\s|$)|-(?=[\s-]|$)|\d+(?=[.)](?:\s|$)))")
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_BACKTICKS = str.maketrans({"`": "'"})
_DROPPED = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))


def readable(text: str) -> str:
    """One line without control, format, surrogate and bidirectional characters."""
    if text.isascii() and text.isprintable():
        return " ".join(text.split())
    kept = (" " if c.isspace() else c for c in text if c.isspace() or unicodedata.category(c) not in _DROPPED)
    return " ".join("".join(kept).split())


def _harmless(text: str) -> bool:
    """Letters, digits and single spaces: most names, and nothing to do for them."""
    return text.replace(" ", "").isalnum() and "  " not in text and text == text.strip()


def _unlinked(text: str) -> str:
    """Text in which no Markdown dialect finds a bare URL or mail address."""
    if ":" not in text and "@" not in text and "." not in text:
        return text
    text = text.replace("://", f":{_JOINER}//").replace("@", f"{_JOINER}@")
    return re.sub(r"(?i)\b(www|mailto|xmpp|javascript|vbscript|data)([.:])", rf"\1{_JOINER}\2", text)


def plain(text: str) -> str:
    """Chart text for a string that is not Markdown."""
    if _harmless(text):
        return text
    return (
        _unlinked(_TAG.sub("‹", readable(text)))
        .translate(_BACKTICKS)
        .replace("](", "] (")
        .replace("![", "! [")
    )


def markdown(text: str) -> str:
    """Chart text for GitHub-flavoured Markdown: shows as typed, in a paragraph, a list or a table cell."""
    if _harmless(text):
        return text
    shown = readable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    shown = _MARKDOWN.sub(r"\\\g<0>", _unlinked(shown))
    start = _LINE_START.match(shown)
    if start is None:
        return shown
    if start[0].isdigit():
        return f"{start[0]}\\{shown[start.end() :]}"
    return f"\\{shown}"


def utf16_units(text: str) -> int:
    """Length as JavaScript and the CDS Hooks limit count it."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def shortened(text: str, limit: int = SUMMARY_LIMIT) -> str:
    """The text within `limit` UTF-16 units; cut at a word (Latin) or a character (Chinese), with "…"."""
    if len(text) <= limit // 2 or utf16_units(text) <= limit:
        return text
    room, cut = limit - 1, 0
    for cut, character in enumerate(text):  # noqa: B007  (the index of the first character without room)
        room -= 2 if ord(character) > 0xFFFF else 1
        if room < 0:
            break
    while cut > 0 and (unicodedata.combining(text[cut]) or text[cut] in "\u200d\ufe0f"):
        cut -= 1
    head = text[:cut]
    if text[cut].isascii() and not text[cut].isspace():
        word = head.rfind(" ")
        if cut - word <= 24 and word > limit // 2:
            head = head[:word]
    return head.rstrip(" ,;:、，；：(（") + _ELLIPSIS


def limited(text: str) -> str:
    """Chart text of bearable length."""
    return text if len(text) <= CHART_TEXT_LIMIT else text[: CHART_TEXT_LIMIT - 1].rstrip() + _ELLIPSIS
