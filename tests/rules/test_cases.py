"""Every case of every case file, through mapper and rule."""

import pytest

from tests.casebook.case_file import Written, findings_of, written_cases
from tests.casebook.expectation import mismatch


@pytest.mark.parametrize("written", list(written_cases()), ids=lambda written: written.id)
def test_case(written: Written) -> None:
    wrong = mismatch(written.raw["expect"], findings_of(written))
    assert not wrong, f"{written.path.name}: {written.name}: {wrong}"
