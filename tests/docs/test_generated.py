"""The generated pages are those that the declarations give, and hold every rule and setting."""

from __future__ import annotations

from pathlib import Path

import pytest

from cds.docs import pages
from cds.engine.rulebook import load_rulebook
from cds.settings import PREFIX, Settings
from fhir_mapping.terminology import load

DOCS = Path(__file__).parents[2] / "docs"
PAGES = pages(DOCS / "sign-off.toml")


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_up_to_date(name: str) -> None:
    current = (DOCS / name).read_text(encoding="utf-8") if (DOCS / name).exists() else ""
    assert current == PAGES[name], f"docs/{name} is old: run python -m cds.docs"


@pytest.mark.parametrize("folder", ["en", "zh-TW"])
def test_every_rule_and_every_number_with_its_source_is_in_the_catalogue(folder: str) -> None:
    for rule in load_rulebook(load(), None).rules.values():
        page = PAGES[f"rules/{folder}/{rule.domain}.md"]
        section = page.partition(f"\n## {rule.id}\n")[2].partition("\n## ")[0]
        assert section, f"{rule.id} is missing"
        for name in rule.parameters.items:
            assert f"`{name}`" in section
        assert f"({rule.domain}.md#{rule.id.replace('.', '')})" in PAGES[f"rules/{folder}/index.md"]


def test_every_setting_is_described() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description
        assert f"`{PREFIX}{name.upper()}`" in PAGES["settings.md"]


def test_the_catalogue_tells_who_reviewed_what(tmp_path: Path) -> None:
    book = load_rulebook(load(), None)
    rule = book.rules["washout.leukapheresis"]
    signed = tmp_path / "sign-off.toml"
    signed.write_text(
        f'[rules."{rule.id}"]\nversion = {rule.version}\nreviewed_by = "A | B"\nreviewed_on = 2026-03-01\n'
        f'[rules."grading.crs"]\nversion = 0\nreviewed_by = "C"\nreviewed_on = 2026-03-02\n',
        encoding="utf-8",
    )
    found = pages(signed)
    assert "Clinical status: reviewed by A \\| B on 2026-03-01" in found["rules/en/washout.md"]
    assert "臨床狀態: 草案；第 0 版曾由 C 於 2026-03-02 審閱" in found["rules/zh-TW/grading.md"]
    assert "Reviewed: 1." in found["rules/en/index.md"]
