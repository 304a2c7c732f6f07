"""Every grading case answers what was recorded of it, to the last piece of evidence."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.casebook.answers import RECORDED, answer_of, path_of, recorded
from tests.casebook.case_file import Written, written_cases

CASES = list(written_cases(RECORDED))


@cache
def _recorded() -> dict[Path, dict[str, list[Any]]]:
    return recorded()


@pytest.mark.parametrize("written", CASES, ids=lambda written: written.id)
def test_the_answer_is_the_recorded_one(written: Written) -> None:
    known = _recorded().get(path_of(written), {})
    assert written.name in known, "a new case: record it with python -m tests.casebook.answers"
    assert answer_of(written) == known[written.name], (
        "the answer has changed; where that is meant, record it with python -m tests.casebook.answers"
    )


def test_nothing_is_recorded_of_cases_that_are_gone() -> None:
    names = {(path_of(written), written.name) for written in CASES}
    kept = {(path, name) for path, answers in _recorded().items() for name in answers}
    assert kept <= names
