"""Chart text shows as typed and does nothing else, judged by a Markdown parser."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from cards import escape
from cards.escape import SUMMARY_LIMIT, markdown, plain, shortened, utf16_units

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</td></table><b>x",
    "<!-- x -->",
    "[click](http://evil.example)",
    "[click](javascript:alert(1))",
    "![x](https://evil.example/p.png)",
    "https://evil.example/a?b=c",
    "www.evil.example",
    "mail me@evil.example",
    "`code` **bold** _it_ ~~gone~~",
    "# heading",
    "- item",
    "+ item",
    "1. item",
    "1) item",
    "> quote",
    "=====",
    "---",
    "a | b",
    "a\n\n# b",
    "\\<script>",
    "&lt;script&gt;",
    "[ref]: http://evil.example",
    "\u202egnp.exe",
]

_PARSER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
_AUTOLINK = re.compile(r"(?i)https?://|\bwww\.|[-.\w+]@[-\w]|mailto:|xmpp:")  # what GitHub would make a link
_ACTIVE = {"html_inline", "html_block", "link_open", "image", "autolink"}
_INERT = {"paragraph_open", "paragraph_close", "inline", "text", "text_special"}


def _kinds(source: str) -> set[str]:
    found: set[str] = set()
    for token in _PARSER.parse(source):
        found.add(token.type)
        found |= {child.type for child in token.children or ()}
    return found | ({"autolink"} if _AUTOLINK.search(source) else set())


def _read(source: str) -> str:
    """What a reader sees of a paragraph."""
    inline = next((token for token in _PARSER.parse(source) if token.type == "inline"), None)
    children = inline.children if inline is not None else None
    return "".join(child.content for child in children or ()).replace("\u2060", "")


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_inert_in_markdown(text: str) -> None:
    assert _kinds(markdown(text)) <= _INERT
    assert _read(markdown(text)) == escape.readable(text)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_opens_no_tag_or_link_in_a_list_or_table(text: str) -> None:
    kinds = _kinds(f"- {markdown(text)}\n\n| a | b |\n| --- | --- |\n| {markdown(text)} | 1 |")
    assert not kinds & {*_ACTIVE, "heading_open", "code_inline", "em_open"}
    assert len([t for t in _PARSER.parse(f"| a |\n| - |\n| {markdown(text)} |") if t.type == "td_open"]) == 1


@given(st.text(max_size=60))
def test_any_text_is_inert_in_markdown(text: str) -> None:
    assert _kinds(markdown(text)) <= _INERT


@given(st.text(alphabet=st.sampled_from("<>[]()!`*_~|#-+=.:/@\\&;w1a \n"), max_size=30))
def test_any_mix_of_markup_is_inert_and_readable(text: str) -> None:
    assert _kinds(markdown(text)) <= _INERT
    assert _read(markdown(text)) == escape.readable(text)


@given(st.text(max_size=60))
def test_plain_text_holds_no_tag_or_link(text: str) -> None:
    shown = plain(text)
    assert not _kinds(shown) & _ACTIVE
    assert shown.isprintable() or "\u2060" in shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ANC < 500 /uL", "ANC < 500 /uL"),
        ("<script>x", "‹script>x"),
        ("two\nlines\tand\x00more", "two lines andmore"),
        ("癌症 A|B", "癌症 A|B"),
        ("a\u202eb\ud800", "ab"),
    ],
)
def test_plain_text_stays_readable(text: str, expected: str) -> None:
    assert plain(text) == expected


def test_a_short_summary_is_left_alone() -> None:
    assert shortened("ANC 499") == "ANC 499"
    assert shortened("a" * SUMMARY_LIMIT) == "a" * SUMMARY_LIMIT
    assert shortened("𠮷" * 69) == "𠮷" * 69


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("a" * 140, 139),
        ("藥" * 140, 139),
        ("𠮷" * 70, 139),  # 69 astral characters of two units each and the ellipsis
        ("x" + "𠮷" * 70, 138),  # an astral character is never halved
        ("x" + "e\u0301" * 100, 138),  # nor is a letter parted from its accent
        ("word " * 40, 135),
        ("long " * 20 + "w" * 100, 139),
    ],
)
def test_a_long_summary_is_cut_with_an_ellipsis(text: str, units: int) -> None:
    cut = shortened(text)
    assert cut.endswith("…")
    assert utf16_units(cut) == units
    assert text.startswith(cut[:-1])


@given(st.text(max_size=400), st.integers(2, 160))
def test_a_cut_never_exceeds_the_limit_nor_breaks_a_character(text: str, limit: int) -> None:
    cut = shortened(text, limit)
    assert utf16_units(cut) <= limit
    assert cut == text or cut.endswith("…")


def test_long_chart_text_is_limited() -> None:
    assert len(escape.limited("x" * 500)) == escape.CHART_TEXT_LIMIT
