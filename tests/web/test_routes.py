"""The page's routes: safe headers, nothing from other hosts, a drug search over the project's own names."""

from __future__ import annotations

import re

import httpx
import pytest
from starlette.applications import Starlette

from cds.web import Demo, DemoPatient, DemoRequest, page_routes
from fhir_mapping.terminology import load

DEMO = Demo(
    "http://127.0.0.1:1",
    "2026-03-16T10:00:00+08:00",
    (
        DemoPatient(
            "p", {"en": "One", "zh_TW": "一"}, (DemoRequest("p-1", {"en": "Asks"}, ("s",), {"hook": "h"}),)
        ),
    ),
)


def _client(demo: Demo | None = None) -> httpx.AsyncClient:
    app = Starlette(routes=page_routes(load, demo))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://page")


async def test_the_page_names_no_other_host_and_runs_no_inline_script() -> None:
    async with _client() as client:
        page = await client.get("/")
        policy = page.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "http" not in policy
        assert not re.search(r'(src|href)="(https?:)?//', page.text)
        assert not re.search(r"<script(?![^>]*src=)|\son\w+=|<style|\sstyle=", page.text)
        for file in re.findall(r'"(/ui/static/[^"]+)"', page.text):
            assert (await client.get(file)).status_code == 200


@pytest.mark.parametrize("name", ["..%2froutes.py", "routes.py", "none.js"])
async def test_no_other_file_is_served(name: str) -> None:
    async with _client() as client:
        assert (await client.get(f"/ui/static/{name}")).status_code == 404


async def test_without_a_demo_there_are_no_patients() -> None:
    async with _client() as client:
        assert (await client.get("/ui/demo")).json() == {"patients": []}


async def test_demo_texts_fall_back_to_english() -> None:
    async with _client(DEMO) as client:
        patient = (await client.get("/ui/demo")).json()["patients"][0]
    assert patient["title"] == {"en": "One", "zh-TW": "一"}
    assert patient["requests"][0]["asks"]["zh-TW"] == "Asks"


async def test_a_drug_is_found_by_part_of_its_name_and_by_a_code() -> None:
    code = load().codes("tocilizumab")[0].code
    async with _client() as client:
        for text in ("tociliz", "TOCILIZUMAB", code):
            found = (await client.get("/ui/drugs", params={"q": text})).json()
            assert "tocilizumab" in [drug["concept"] for drug in found]
            assert all(drug["coding"] for drug in found)
        assert (await client.get("/ui/drugs", params={"q": " "})).json() == []
        assert len((await client.get("/ui/drugs", params={"q": "a"})).json()) <= 20


def test_both_languages_have_the_same_words() -> None:
    from cds.web.routes import _STATIC

    english, chinese = (_STATIC / "texts.js").read_text("utf-8").split('"zh-TW": {')
    keys = [sorted(set(re.findall(r"[{,\s](\w+): (?:\"|\()", part))) for part in (english, chinese)]
    assert keys[0] == keys[1]
    used = set(re.findall(r'data-t="(\w+)"', (_STATIC / "index.html").read_text("utf-8")))
    assert used <= set(keys[0])
