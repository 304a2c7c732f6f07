"""What people see: the page's main paths in both languages, at a desk's and a phone's width."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.browser

ARTIFACTS = Path(__file__).parents[2] / "artifacts"
AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
WIDTHS = (1280, 390)
LANGUAGES = {"en": ("Critical", "Cards: "), "zh-TW": ("危急", "張卡片")}
PICTURES = {
    "demo-crs-grade-3": "toxicity",
    "demo-icaht-day-16": "neutrophils",
    "demo-washout-many-drugs": "washout-leukapheresis",
    "demo-tarlatamab-late-dose": "ladder",
    "demo-follow-up-13": "follow-up",
}


@pytest.fixture
def page(browser: Any, base: str) -> Iterator[Any]:
    """A page that fails the test on a script error, a refused policy or a request to another host."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened, wrong = context.new_page(), []
    opened.expected = []  # texts of console errors that a test provokes on purpose
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("console", lambda message: message.type == "error" and wrong.append(message.text))
    opened.on("request", lambda request: request.url.startswith(base) or wrong.append(request.url))
    yield opened
    context.close()
    assert [text for text in wrong if not any(known in text for known in opened.expected)] == []


def _open(page: Any, base: str, language: str, story: str) -> None:
    page.goto(f"{base}/?lang={language}")
    page.wait_for_selector(f"#story option[value='{story}']", state="attached")  # the policy forbids eval
    page.select_option("#story", story)


def _fire(page: Any) -> None:
    page.click("button.primary")
    page.wait_for_selector("#timing:not(:empty)")
    page.wait_for_selector("#answer:not([aria-busy])")


def _shot(page: Any, name: str) -> None:
    ARTIFACTS.mkdir(exist_ok=True)
    page.screenshot(path=str(ARTIFACTS / f"{name}.png"), full_page=True)


def test_the_interface_is_described_without_the_internet(page: Any, base: str) -> None:
    page.goto(f"{base}/docs")
    page.get_by_text("grading-patient-view", exact=False).first.wait_for()
    _shot(page, "interface")


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
    assert "2026-03-16" in page.locator("#clock").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page scrolls sideways"
    _shot(page, f"page-{language}-{width}")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("story", PICTURES)
def test_a_picture_stands_beside_the_cards(
    page: Any, base: str, story: str, language: str, width: int
) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    _open(page, base, language, story)
    page.select_option("#service", "all-patient-view")
    _fire(page)
    figure = page.locator(f"#figure-{PICTURES[story]}")
    svg = figure.locator("svg[role=img]")
    box = svg.bounding_box()
    assert box is not None
    assert 250 < box["width"] <= width
    assert abs(box["width"] - float(svg.get_attribute("width") or 0)) < 2, "drawn for another width"
    assert svg.locator("desc").text_content() == figure.locator("figcaption p").inner_text()
    figure.locator("summary").click()
    assert figure.locator("tbody tr").count() > 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page scrolls sideways"
    _shot(page, f"{story}-{language}-{width}")


def test_a_suggestion_becomes_a_draft_and_the_feedback_is_taken(page: Any, base: str) -> None:
    _open(page, base, "en", "demo-crs-grade-3")
    _fire(page)
    page.get_by_role("button", name="Apply: Tocilizumab").click()
    page.get_by_text("Applied to the draft orders").wait_for()
    assert "tocilizumab" in page.locator("#drafts").inner_text()
    sent = page.locator("#feedback").text_content()
    assert sent.startswith("200")
    assert '"outcome": "accepted"' in sent
    assert page.locator("#feedback-count").inner_text() == "1"


def test_a_suggestion_that_deletes_and_creates_does_both(page: Any, base: str) -> None:
    _open(page, base, "en", "demo-tarlatamab-late-dose")
    _fire(page)
    before = page.locator("#drafts li").all_inner_texts()
    both = page.locator(".suggestion", has=page.locator("pre", has_text='"type": "delete"')).first
    button = both.locator("button.suggest")
    button.click()
    page.get_by_text("Applied to the draft orders").wait_for()
    assert button.is_disabled()
    drafts = page.locator("#drafts li").all_inner_texts()
    assert drafts != before
    assert len(drafts) == len(before), "the order at fault gives way to the corrected one"


def test_a_draft_with_a_code_alone_gets_the_name_of_the_drug_tables(page: Any, base: str) -> None:
    _open(page, base, "en", "demo-tarlatamab-late-dose")
    page.get_by_role("button", name="Remove tarlatamab").wait_for()


def test_a_card_is_overridden_with_a_reason_and_a_comment(page: Any, base: str) -> None:
    _open(page, base, "en", "demo-washout-bendamustine")
    _fire(page)
    card = page.locator("article.warning").first
    card.locator("select").select_option(index=1)
    card.get_by_label("Comment").fill("discussed at the board")
    card.get_by_role("button", name="Override").click()
    card.get_by_text("Overridden: ").wait_for()
    item = json.loads(page.locator("#feedback").text_content().partition("\n")[2])["feedback"][0]
    assert item["outcome"] == "overridden"
    assert item["overrideReason"]["userComment"] == "discussed at the board"
    assert item["overrideReason"]["reason"]["system"] == "urn:tcell-cds:override-reason"


def test_an_info_card_is_dismissed_without_a_reason(page: Any, base: str) -> None:
    _open(page, base, "en", "demo-follow-up-13")
    _fire(page)
    card = page.locator("article.info").first
    card.get_by_role("button", name="Dismiss").click()
    card.get_by_text("Dismissed", exact=True).wait_for()


def test_a_drug_is_found_added_given_a_dose_and_checked(page: Any, base: str) -> None:
    _open(page, base, "en", "demo-washout-bendamustine")
    page.get_by_role("button", name="Remove Bendamustine").click()
    page.fill("#drug", "fludarab")
    page.locator("#drugs button").first.click()
    assert "ludarabine" in page.locator("#drafts").inner_text()
    page.get_by_label("Dose fludarabine").fill("50")
    page.get_by_label("Start fludarabine").fill("2026-03-20T08:30")
    page.get_by_label("Start fludarabine").press("Tab")
    _fire(page)
    request = json.loads(page.locator("#request").text_content())
    order = request["context"]["draftOrders"]["entry"][-1]["resource"]["dosageInstruction"][0]
    assert order["doseAndRate"][0]["doseQuantity"]["value"] == 50
    assert order["timing"]["event"][0].startswith("2026-03-20T08:30")


def test_the_keyboard_alone_fires_a_hook_and_picks_a_drug(page: Any, base: str) -> None:
    _open(page, base, "en", "demo-crs-grade-3")
    page.focus("#patient")
    page.keyboard.press("Enter")
    page.locator("article").first.wait_for()
    page.focus("#drug")
    page.keyboard.type("tociliz")
    page.locator("#drugs button").first.wait_for()
    for key in ("ArrowDown", "ArrowUp", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    page.locator("#drafts li").first.wait_for()
    assert "tocilizumab" in page.locator("#drafts").inner_text()


def test_a_missing_encounter_is_named(page: Any, base: str) -> None:
    _open(page, base, "en", "demo-crs-grade-3")
    page.select_option("#service", "all-encounter-discharge")
    page.fill("#encounter", "")
    page.click("button.primary")
    assert "encounter id" in page.locator("#status").inner_text()


def test_any_allowed_server_and_patient_can_be_named(page: Any, base: str) -> None:
    """Typed by hand, with a token: it is sent, and shown nowhere."""
    _open(page, base, "en", "demo-crs-grade-3")
    server = page.input_value("#fhir")
    page.select_option("#story", "")
    page.fill("#fhir", f"{server}/")
    page.fill("#patient", "demo-icaht-day-16")
    page.locator("#ask details").first.locator("summary").click()
    page.fill("#token", "s3cret")
    with page.expect_request("**/cds-services/*") as sent:
        _fire(page)
    assert json.loads(sent.value.post_data)["fhirAuthorization"]["access_token"] == "s3cret"
    assert "ICAHT" in page.locator("article.critical").first.inner_text()
    assert "s3cret" not in page.locator("main").inner_html()
    page.locator("#trace-box > summary").click()
    assert "grading.icaht" in page.locator("#trace").inner_text()
    assert "Observation/" in page.locator("#trace").inner_text()


def test_a_server_that_is_not_allowed_is_refused_with_its_reason(page: Any, base: str) -> None:
    page.expected = ["412"]
    _open(page, base, "en", "demo-crs-grade-3")
    page.fill("#fhir", "https://fhir.example.org/r4")
    _fire(page)
    assert "412" in page.locator("#status").inner_text()
    assert len(page.locator("#cards").inner_text()) > 20


def test_what_is_copied_as_curl_gives_the_same_cards(page: Any, base: str) -> None:
    _open(page, base, "zh-TW", "demo-washout-bendamustine")
    _fire(page)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.click("#curl")
    page.get_by_text("已複製").wait_for()
    command = shlex.split(page.evaluate("navigator.clipboard.readText()"))
    done = subprocess.run(command, capture_output=True, check=True, timeout=30)
    assert json.loads(done.stdout) == json.loads(page.locator("#response").text_content())


def test_the_language_is_changed_on_the_page(page: Any, base: str) -> None:
    _open(page, base, "en", "demo-washout-bendamustine")
    _fire(page)
    page.select_option("#language", "zh-TW")
    page.locator(".word", has_text="警告").first.wait_for()
    assert page.evaluate("document.documentElement.lang") == "zh-Hant-TW"
    assert "天" in page.locator("article h3").first.inner_text()


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


@pytest.mark.parametrize("story", ["demo-crs-grade-3", "demo-tarlatamab-late-dose", "demo-follow-up-13"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_axe_finds_no_barrier(page: Any, base: str, language: str, story: str) -> None:
    if not AXE.exists():
        pytest.skip("axe-core is not installed: npm install --prefix tests/browser --no-save axe-core")
    _open(page, base, language, story)
    _fire(page)
    for box in page.locator("details:not([open]) > summary").all():
        if box.is_visible():
            box.click()
    page.evaluate(AXE.read_text(encoding="utf-8"))  # not a script element: the page's policy stays as it is
    found = page.evaluate("axe.run()")["violations"]
    assert [(v["id"], [n["html"][:120] for n in v["nodes"]]) for v in found] == []
