from __future__ import annotations

import stat
from pathlib import Path

import pytest

from cds.settings import SettingsError
from cds.store import Identity, site_key
from cds.store.identity import Kind

KEY = "0123456789abcdef"


def test_the_same_thing_under_the_same_key_is_the_same_hash() -> None:
    identity = Identity(KEY)
    hashed = identity.of(Kind.PATIENT, "https://ehr", "p1")
    assert hashed == Identity(KEY).of(Kind.PATIENT, "https://ehr", "p1")
    assert len(hashed) == 32
    others = {
        Identity(KEY + "x").of(Kind.PATIENT, "https://ehr", "p1"),
        identity.of(Kind.USER, "https://ehr", "p1"),
        identity.of(Kind.PATIENT, "https://ehr2", "p1"),
        identity.of(Kind.PATIENT, "https://ehr", "p2"),
        identity.of(Kind.PATIENT, "https://ehrp1", ""),
    }
    assert hashed not in others
    assert len(others) == 5


def test_nothing_has_no_hash_and_odd_text_has_one() -> None:
    assert Identity(KEY).of(Kind.USER, "", "") == ""
    assert Identity(KEY).of(Kind.USER, "\ud800")


def test_a_short_key_is_refused() -> None:
    with pytest.raises(SettingsError, match="SITE_KEY"):
        Identity("short")


def test_the_key_file_is_made_once_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "site.key"
    made = site_key("", path)
    assert len(made) >= 32
    assert site_key("", path) == made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert site_key("given", path) == "given"


def test_an_unreadable_key_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="SITE_KEY_FILE"):
        site_key("", tmp_path / "no" / "such.key")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="SITE_KEY_FILE"):
        site_key("", tmp_path / "binary")
