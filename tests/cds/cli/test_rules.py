from collections.abc import Callable
from typing import Any

from cds.engine.rule import all_rules


def test_the_catalogue_lists_every_rule(run: Callable[..., Any]) -> None:
    ended = run("rules", "--json")
    assert ended.code == 0
    assert [entry["id"] for entry in ended.json] == list(all_rules())
    for entry in ended.json:
        assert entry["title"]["en"]
        assert entry["title"]["zh-TW"]
        assert entry["hooks"] or entry["helper"]
        assert entry["version"] >= 1
        assert entry["source"]["citation"]
        assert all(parameter["source"] for parameter in entry["parameters"])


def test_needed_concepts_are_named(run: Callable[..., Any]) -> None:
    (entry,) = run("rules", "grading.crs", "--json").json
    assert {"body_temperature", "bp_systolic", "spo2"} <= set(entry["concepts"])


def test_the_table_names_id_title_hooks_source(run: Callable[..., Any]) -> None:
    out = run("rules", "washout").out
    assert "washout.leukapheresis" in out
    assert "appointment-book" in out
    assert "grading.crs" not in out


def test_one_rule_shows_its_numbers_in_the_language_asked_for(run: Callable[..., Any]) -> None:
    out = run("rules", "washout.leukapheresis", "--language", "zh-TW").out
    assert "W17_days" in out
    assert all_rules()["washout.leukapheresis"].title["zh_TW"] in out


def test_an_unknown_rule_or_language_is_a_wrong_question(run: Callable[..., Any]) -> None:
    ended = run("rules", "washout.nothing")
    assert (ended.code, ended.out) == (2, "")
    assert "no rule or domain washout.nothing" in ended.err
    assert run("rules", "--language", "fr").code == 2


def test_a_broken_site_file_is_one_line(run: Callable[..., Any], monkeypatch: Any, tmp_path: Any) -> None:
    site = tmp_path / "site.toml"
    site.write_text("[nonsense]\n", encoding="utf-8")
    monkeypatch.setenv("TCELL_CDS_SITE_FILE", str(site))
    ended = run("rules")
    assert ended.code == 2
    assert "site.toml:1: unknown section nonsense" in ended.err
