"""What people see: the page's main path in both languages, at a desk's and a phone's width."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.browser

ARTIFACTS = Path(__file__).parents[2] / "artifacts"
AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
WIDTHS = (1280, 390)
LANGUAGES = {"en": ("Critical", "Cards: "), "zh-TW": ("危急", "張卡片")}


@pytest.fixture
def page(browser: Any, base: str) -> Iterator[Any]:
    """A page that fails the test on a script error, a refused policy or a request to another host."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened, wrong = context.new_page(), []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("console", lambda message: message.type == "error" and wrong.append(message.text))
    opened.on("request", lambda request: request.url.startswith(base) or wrong.append(request.url))
    yield opened
    context.close()
    assert wrong == []


def _open(page: Any, base: str, language: str, story: str) -> None:
    page.goto(f"{base}/?lang={language}")
    page.wait_for_selector(f"#story option[value='{story}']", state="attached")  # the policy forbids eval
    page.select_option("#story", story)


def _fire(page: Any) -> None:
    page.click("button.primary")
    page.wait_for_selector("#timing:not(:empty)")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_demo_patient_shows_cards_as_an_ehr_would(page: Any, base: str, language: str, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    _open(page, base, language, "demo-crs-grade-3")
    _fire(page)
    word, answered = LANGUAGES[language]
    card = page.locator("article.critical").first
    assert card.locator(".word").inner_text() == word
    assert answered in page.locator("#status").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page scrolls sideways"
    ARTIFACTS.mkdir(exist_ok=True)
    page.screenshot(path=str(ARTIFACTS / f"page-{language}-{width}.png"), full_page=True)


def test_a_suggestion_becomes_a_draft_and_the_feedback_is_taken(page: Any, base: str) -> None:
    _open(page, base, "en", "demo-crs-grade-3")
    _fire(page)
    page.get_by_role("button", name="Apply: Tocilizumab").click()
    page.get_by_text("Applied to the draft orders").wait_for()
    assert "tocilizumab" in page.locator("#drafts").inner_text()


def test_a_card_is_overridden_with_a_reason(page: Any, base: str) -> None:
    _open(page, base, "en", "demo-washout-bendamustine")
    _fire(page)
    card = page.locator("article.warning").first
    card.locator("select").select_option(index=1)
    card.get_by_role("button", name="Override").click()
    card.get_by_text("Overridden").wait_for()


def test_a_drug_is_found_added_and_checked(page: Any, base: str) -> None:
    _open(page, base, "en", "demo-washout-bendamustine")
    page.get_by_role("button", name="Remove Bendamustine").click()
    page.fill("#drug", "fludarab")
    page.locator("#drugs button").first.click()
    assert "ludarabine" in page.locator("#drafts").inner_text()
    _fire(page)
    assert "ludarabine" in page.locator("#request").text_content()


def test_the_keyboard_alone_fires_a_hook(page: Any, base: str) -> None:
    _open(page, base, "en", "demo-crs-grade-3")
    page.focus("#patient")
    page.keyboard.press("Enter")
    page.locator("article").first.wait_for()


def test_a_missing_encounter_is_named(page: Any, base: str) -> None:
    _open(page, base, "en", "demo-crs-grade-3")
    page.select_option("#service", "all-encounter-discharge")
    page.fill("#encounter", "")
    page.click("button.primary")
    assert "encounter id" in page.locator("#status").inner_text()


def test_text_of_a_chart_never_becomes_markup(page: Any, base: str) -> None:
    page.goto(base)
    shown = page.evaluate(
        """async () => { const { markdown } = await import('/ui/static/markdown.js');
        const box = document.createElement('div');
        box.append(markdown('<img src=x onerror=alert(1)> [a](javascript:alert(1)) [b](https://example.org)'
          + '\\n\\n- one\\n  - **two**\\n\\n| a | b |\\n| --- | --- |\\n| 1 \\\\| 2 | 3 |'));
        return { images: box.querySelectorAll('img').length, text: box.textContent,
          links: [...box.querySelectorAll('a')].map((a) => a.href),
          nested: box.querySelectorAll('ul ul strong').length,
          cells: [...box.querySelectorAll('td')].map((c) => c.textContent) }; }"""
    )
    assert shown["images"] == 0
    assert "<img src=x" in shown["text"]
    assert shown["links"] == ["https://example.org/"]
    assert shown["nested"] == 1
    assert shown["cells"] == ["1 | 2", "3"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_axe_finds_no_barrier(page: Any, base: str, language: str) -> None:
    if not AXE.exists():
        pytest.skip("axe-core is not installed: npm install --prefix tests/browser --no-save axe-core")
    _open(page, base, language, "demo-crs-grade-3")
    _fire(page)
    page.evaluate(AXE.read_text(encoding="utf-8"))  # not a script element: the page's policy stays as it is
    found = page.evaluate("axe.run()")["violations"]
    assert [(v["id"], [n["html"][:120] for n in v["nodes"]]) for v in found] == []
