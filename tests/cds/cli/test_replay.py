from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


@pytest.fixture
def saved(tmp_path: Path, fixtures: Path) -> Path:
    folder = tmp_path / "saved"
    folder.mkdir()
    for name in ("demo-washout-bendamustine-1", "demo-nothing-to-say-1"):
        shutil.copy(fixtures / "requests" / f"{name}.json", folder)
    return folder


@pytest.fixture
def site(tmp_path: Path) -> Path:
    path = tmp_path / "site.toml"
    path.write_text('[parameters."washout.leukapheresis"]\nW17_days = 200\n', encoding="utf-8")
    return path


def test_a_site_file_changes_the_cards_that_it_concerns(run: Run, saved: Path, site: Path) -> None:
    ended = run("replay", saved, "--against", site, "--json")
    assert ended.code == 0
    assert {change["request"] for change in ended.json} == {"demo-washout-bendamustine-1"}
    (change,) = [c for c in ended.json if c["card"].startswith("washout.leukapheresis")]
    assert change["before"]["values"]["needed_days"] == 84
    assert change["after"]["values"]["needed_days"] == 200
    assert "200 days" in run("replay", saved, "--against", site).out


def test_a_later_version_is_compared_with_the_recorded_one(
    run: Run, saved: Path, site: Path, monkeypatch: Any
) -> None:
    assert run("replay", saved, "--json").json == []
    (record,) = (saved / ".replay").glob("*.json")
    assert run("replay", saved, "--against", record.stem[:10]).code == 0
    monkeypatch.setenv("TCELL_CDS_SITE_FILE", str(site))
    changed = run("replay", saved, "--against", record.stem, "--json").json
    assert [c["after"]["values"]["needed_days"] for c in changed if "washout.leukapheresis" in c["card"]] == [
        200
    ]
    assert len(list((saved / ".replay").glob("*.json"))) == 2


def test_an_unknown_version_or_an_empty_folder_is_a_wrong_question(
    run: Run, saved: Path, tmp_path: Path
) -> None:
    ended = run("replay", saved, "--against", "9.9.9")
    assert ended.code == 2
    assert "no recorded version 9.9.9" in " ".join(ended.err.split()) or "recorded version 9.9.9" in ended.err
    empty = tmp_path / "empty"
    empty.mkdir()
    assert run("replay", empty).code == 2
