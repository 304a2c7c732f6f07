"""What is wrong with a catalogue? Asked by tests and by whoever writes texts."""

from __future__ import annotations

import re
from collections.abc import Iterator

from cards.texts import LOCALE, Catalogue, Language, Template, TextError, catalogue

# Four English words in a row; names of products, tests and guidelines are shorter than that.
_ENGLISH = re.compile(r"(?:(?<![A-Za-z])[a-z]{2,}[ ,;]+){3,}[a-z]{2,}")
_CHINESE = re.compile(r"[\u4e00-\u9fff]")
# Characters of simplified Chinese that a text for Taiwan never has.
_SIMPLIFIED = re.compile(
    "[药剂给与后发对应过没还从时间检测体热压气监护观级较标议请见据数项则输转归这个为无验证处疗细肿诊断紧红组织脏肾脑"
    "经统类单双头长开关门问题医师术务动静环强评结续临团终样记录认识设计许调查询绝离温]"
)
_SAME_IN_BOTH = frozenset("查")
_HTML = re.compile(r"<[A-Za-z/!?]")
_MARKDOWN = re.compile(r"\*\*|`|^#|\]\(")
_NOTATION = {"(s)": "a plural entry", " %": "%", "m2": "m²", "10^": "10⁶", " x ": "×"}
# Half-width brackets, as the concepts' names have them; one word for one thing.
_PREFERRED = {
    "（": "(",
    "）": ")",
    "收集": "採集",
    "清除率": "廓清率",
    "淋巴球清除": "淋巴清除",
    "靜注": "IV",
    "高發炎": "過度發炎",
    "醫令": "醫囑",
    "製造商": "廠商",
}
_HALF_WIDTH = re.compile(r"[\u4e00-\u9fff][,;:!?]")
_PLAIN_KEYS = ("summary", "suggest", "label", "link", "note")  # texts that are not Markdown


def catalogue_names() -> list[str]:
    """Every catalogue that exists in any language."""
    return sorted({path.stem for language in Language for path in (LOCALE / language.value).glob("*.po")})


def check_catalogue(name: str) -> list[str]:
    """Problems of one catalogue in both languages; [] when it is good.

    Both languages have the same keys and the same placeholders, no text is empty or holds HTML, plain texts
    hold no Markdown, one notation is kept, and the Chinese texts are Chinese as written in Taiwan.
    """
    books: dict[Language, Catalogue] = {}
    for language in Language:
        try:
            books[language] = catalogue(name, language)
        except TextError as error:
            return [str(error)]
    english, chinese = books[Language.EN], books[Language.ZH_TW]
    found = [f"{name}: only English has {key}" for key in sorted(english.keys() - chinese.keys())]
    found += [f"{name}: only Chinese has {key}" for key in sorted(chinese.keys() - english.keys())]
    for key in sorted(english.keys() & chinese.keys()):
        if english[key].placeholders != chinese[key].placeholders:
            found.append(
                f"{name}: {key} has placeholders {sorted(english[key].placeholders)} in English, "
                f"{sorted(chinese[key].placeholders)} in Chinese"
            )
    for language, book in books.items():
        for key, entry in book.items():
            for template in filter(None, (entry.text, entry.many)):
                where = f"{language.value}/{name}.po {key}"
                found += [f"{where}: {problem}" for problem in _problems(key, template)]
    for key, entry in chinese.items():
        found += [f"zh_TW/{name}.po {key}: {problem}" for problem in _foreign(entry.text)]
    return found


def _literal(template: Template) -> str:
    return " ".join(literal for literal, _ in template.pieces)


def _problems(key: str, template: Template) -> Iterator[str]:
    text = _literal(template)
    if not template.pieces or not (text.strip() or template.placeholders):
        yield "is empty"
    if _HTML.search(text):
        yield "holds HTML"
    if key.rpartition("common.")[2].startswith(_PLAIN_KEYS) and _MARKDOWN.search(text):
        yield "holds Markdown in a plain text"
    filled = "".join(literal + ("1" if name else "") for literal, name in template.pieces)
    yield from (f"has {old!r} in place of {new}" for old, new in _NOTATION.items() if old in filled)


def _foreign(template: Template) -> Iterator[str]:
    text = _literal(template)
    if match := _ENGLISH.search(text):
        yield f"is English: {match[0]}"
    simplified = set(_SIMPLIFIED.findall(text)) - _SAME_IN_BOTH
    if simplified:
        yield f"has simplified characters {''.join(sorted(simplified))}"
    yield from (f"has {old} in place of {new}" for old, new in _PREFERRED.items() if old in text)
    if match := _HALF_WIDTH.search(text):
        yield f"has half-width punctuation: {match[0]}"
    words = re.findall(r"[a-z]{3,}", text)
    if len(words) > 2 and not _CHINESE.search(text):
        yield "has no Chinese"
