"""A draft that names no drug at all is still told apart on its card."""

from __future__ import annotations

from cards.finding import Text
from tests.casebook.case_file import findings_of, written_cases


def test_an_unnamed_draft_is_called_by_its_reference() -> None:
    name = "a draft whose medication cannot be resolved says that it was not checked"
    (written,) = [w for w in written_cases("washout/leukapheresis.yaml") if w.name == name]
    (finding,) = findings_of(written)
    assert finding.summary.values["name"] == Text("MedicationRequest/x")
