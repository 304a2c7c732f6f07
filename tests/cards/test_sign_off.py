from datetime import date
from pathlib import Path

import pytest

from cards.sign_off import SignOff, SignOffError, load_sign_offs

GOOD = '[rules."grading.crs"]\nversion = 1\nreviewed_by = " Dr. A "\nreviewed_on = 2026-03-01\n'


def _load(tmp_path: Path, text: str) -> object:
    path = tmp_path / "sign-off.toml"
    path.write_text(text, encoding="utf-8")
    return load_sign_offs(path, {"grading.crs"})


def test_a_sign_off_is_read(tmp_path: Path) -> None:
    assert _load(tmp_path, GOOD) == {"grading.crs": SignOff(1, "Dr. A", date(2026, 3, 1))}
    assert _load(tmp_path, "") == {}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("rules = [", "sign-off.toml"),
        ("[other]\nx = 1", "only tables"),
        ("rules = 1", "only tables"),
        (GOOD.replace("grading.crs", "grading.xyz"), "unknown rule grading.xyz"),
        (GOOD + "by = 1", "version, reviewed_by and reviewed_on"),
        (GOOD.replace("version = 1\n", ""), "version, reviewed_by and reviewed_on"),
        (GOOD.replace("version = 1", "version = true"), "version is a whole number"),
        (GOOD.replace(" Dr. A ", " "), "reviewed_by names a person"),
        (GOOD.replace("2026-03-01", '"2026"'), "reviewed_on is a date"),
        (GOOD.replace("2026-03-01", "2026-03-01T00:00:00"), "reviewed_on is a date"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(SignOffError, match=reason):
        _load(tmp_path, text)


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SignOffError, match=r"absent\.toml"):
        load_sign_offs(tmp_path / "absent.toml", ())
