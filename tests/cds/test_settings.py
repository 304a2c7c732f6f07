"""Settings: read from three places, checked together, refused where they are not safe."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from cds.settings import AuthMode, Language, Settings, SettingsError, check_startup, is_loopback, load


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import os

    for name in os.environ:
        if name.startswith("TCELL_CDS_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_defaults_are_those_of_the_contract() -> None:
    settings = load()
    assert settings.timezone == "Asia/Taipei"
    assert settings.max_cards == 10
    assert settings.auth_mode is AuthMode.OFF
    assert settings.fhir_allowed_hosts is None
    assert settings.budget_seconds == 1.2


def test_environment_beats_env_file_beats_toml(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text(
        'max_cards = 3\nlanguage = "zh-TW"\ncors_origins = ["https://a.tw"]\n'
    )
    (tmp_path / ".env").write_text("TCELL_CDS_MAX_CARDS=4\nTCELL_CDS_BODY_BYTES=5000\nOTHER=1\n")
    monkeypatch.setenv("TCELL_CDS_CONFIG", str(tmp_path / "site.toml"))
    monkeypatch.setenv("TCELL_CDS_BODY_BYTES", "6000")
    settings = load()
    assert (settings.max_cards, settings.body_bytes) == (4, 6000)
    assert settings.language is Language.ZH_TW
    assert settings.cors_origins == ("https://a.tw",)
    assert load(max_cards=7).max_cards == 7


def test_lists_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TCELL_CDS_FHIR_ALLOWED_HOSTS", "fhir.example.org, ehr.example.org:8443,")
    assert load().fhir_allowed_hosts == ("fhir.example.org", "ehr.example.org:8443")


@pytest.mark.parametrize("blank", ["", "  "])
def test_blank_variable_is_unset(monkeypatch: pytest.MonkeyPatch, blank: str) -> None:
    for name in ("CLOCK", "FHIR_ALLOWED_HOSTS", "SITE_MAP", "SITE_FILE"):
        monkeypatch.setenv(f"TCELL_CDS_{name}", blank)
    settings = load()
    assert (settings.clock, settings.fhir_allowed_hosts, settings.site_map) == (None, None, None)


@pytest.mark.parametrize("spelling", ["zh", "zh-Hant", "zh-TW", "zh_TW", "ZH-tw"])
def test_chinese_is_one_language(spelling: str) -> None:
    assert load(language=spelling).language is Language.ZH_TW


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CLOCK", "2025-04-16T10:00"),
        ("CLOCK", "tomorrow"),
        ("TIMEZONE", "Asia/Nowhere"),
        ("TIMEZONE", "../etc"),
        ("LANGUAGE", "fr"),
        ("LANGUAGE", "zh-CN"),
        ("MODE", "loud"),
        ("MAX_CARDS", "0"),
        ("AUTH_MODE", "maybe"),
        ("BASE_URL", "cds.example.org"),
        ("BUDGET_SECONDS", "-1"),
        ("CLIENT_BUDGETS", '{"a": 0}'),
    ],
)
def test_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"TCELL_CDS_{name}", value)
    with pytest.raises(SettingsError, match=f"TCELL_CDS_{name}: "):
        load()


def test_unknown_key_in_the_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("max_card = 3\n")
    monkeypatch.setenv("TCELL_CDS_CONFIG", str(tmp_path / "x.toml"))
    with pytest.raises(SettingsError, match=r"x\.toml: unknown setting max_card"):
        load()


def test_file_that_is_missing_or_broken_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TCELL_CDS_CONFIG", str(tmp_path / "none.toml"))
    with pytest.raises(SettingsError, match=r"none\.toml"):
        load()
    (tmp_path / "none.toml").write_text("max_cards = ")
    with pytest.raises(SettingsError, match=r"none\.toml"):
        load()


def test_clock_freezes_now_in_the_sites_zone() -> None:
    settings = load(clock=datetime(2025, 4, 16, 2, tzinfo=UTC))
    assert settings.now().isoformat() == "2025-04-16T10:00:00+08:00"
    assert load().now().utcoffset() is not None


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "[::1]", "localhost", "LOCALHOST.", "127.9.9.9"])
def test_loopback_starts_without_authentication(host: str) -> None:
    assert is_loopback(host)
    check_startup(load(clock="2025-04-16T10:00+08:00"), host)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "10.0.0.5", "cds.example.org", "", "127.0.0.1.example.org"]
)
def test_other_hosts_need_authentication_and_a_running_clock(host: str) -> None:
    with pytest.raises(SettingsError, match="AUTH_MODE"):
        check_startup(load(), host)
    with pytest.raises(SettingsError, match="BASE_URL"):
        check_startup(load(auth_mode="jwt"), host)
    with pytest.raises(SettingsError, match="CLOCK"):
        check_startup(load(auth_mode="proxy", clock="2025-04-16T10:00+08:00"), host)
    check_startup(load(auth_mode="proxy"), host)
    check_startup(load(auth_mode="jwt", base_url="https://cds.example.org/"), host)


def test_every_setting_is_described() -> None:
    assert all(
        (field.description or "").strip().endswith((".", "}.")) for field in Settings.model_fields.values()
    )
