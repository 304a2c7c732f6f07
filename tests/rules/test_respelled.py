"""Cases once more, their charts written as another hospital would: the answer is the same.

Every third case, each with a spelling of its own; a case that speaks of a spelling itself is left out.
"""

from __future__ import annotations

from zlib import crc32

import pytest

from cds.engine.run import complete
from tests.casebook.case_file import Written, bench_of, case_of, rulebook, written_cases
from tests.casebook.expectation import mismatch
from tests.casebook.respell import Speller


def _seed(written: Written) -> int:
    return crc32(written.id.encode())


def _free(written: Written) -> bool:
    return not any("coding" in entry for entry in written.raw["chart"])


@pytest.mark.parametrize(
    "written",
    [w for w in written_cases() if _seed(w) % 3 == 0 and _free(w)],
    ids=lambda written: written.id,
)
def test_another_spelling_gets_the_same_answer(written: Written) -> None:
    bench = bench_of(written)
    speller = Speller(_seed(written))
    speller.bench(bench)
    case, rule = case_of(written, bench), rulebook().rules[written.rule]
    findings = [complete(finding, rule, case, rulebook()) for finding in rule.evaluate(case)]
    wrong = mismatch(written.raw["expect"], findings)
    assert not wrong, f"{written.id}: {wrong} after {sorted(speller.changes)}"


def test_the_speller_changes_what_it_promises() -> None:
    """A test that changed nothing could not fail."""
    changes: set[str] = set()
    for written in list(written_cases("grading/*.yaml"))[:60] + list(written_cases("washout/*.yaml"))[:60]:
        speller = Speller(_seed(written))
        speller.bench(bench_of(written))
        changes |= speller.changes
    assert {"code", "unit", "unit as text", "degF", "zone", "string", "name", "Medication"} <= changes
