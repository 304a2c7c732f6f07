"""Tumour lysis: worse values never lower the level, and doses follow the weight."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from cards.finding import Create, DrugProposal, Finding
from tests.casebook.case_file import Written, findings_of

BASE: list[dict[str, Any]] = [
    {"patient": "p1", "birth": "1978-02-11", "sex": "male"},
    {"given": "tisagenlecleucel", "at": "d+0T14:00", "bag": "B1"},
    {"obs": "g6pd_qual", "value": "normal", "at": "-100d"},
]
LEVELS = ["not-present", "single-abnormality", "laboratory", "clinical"]
quick = settings(max_examples=20, deadline=None, derandomize=True)
uric = st.integers(30, 150).map(lambda x: x / 10)
potassium = st.integers(30, 80).map(lambda x: x / 10)


def findings(rule: str, *entries: dict[str, Any]) -> list[Finding]:
    """Findings of one rule two days after an infusion."""
    raw = {
        "now": "2025-04-18T10:00+08:00",
        "d0": "2025-04-16T14:00+08:00",
        "chart": [*BASE, *entries],
    }
    return findings_of(Written(rule, "generated", raw, Path("generated.yaml")))


def labs(uric_acid: float, k: float) -> list[dict[str, Any]]:
    return [
        {"obs": "uric_acid", "value": f"{uric_acid} mg/dL", "at": "-3h"},
        {"obs": "potassium", "value": f"{k} mmol/L", "at": "-3h"},
    ]


def level(*entries: dict[str, Any]) -> int:
    [finding] = findings("grading.tls", *entries)
    return LEVELS.index(finding.outcome.value)


@quick
@given(uric, potassium, st.integers(1, 30))
def test_a_higher_potassium_never_lowers_the_level(uric_acid: float, k: float, more: int) -> None:
    assert level(*labs(uric_acid, round(k + more / 10, 1))) >= level(*labs(uric_acid, k))


@quick
@given(uric, potassium, st.integers(0, 60).map(lambda x: x / 10))
def test_a_creatinine_never_lowers_the_level(uric_acid: float, k: float, creatinine: float) -> None:
    renal = {"obs": "creatinine", "value": f"{creatinine + 0.3} mg/dL", "uln": "1.2 mg/dL", "at": "-3h"}
    assert level(*labs(uric_acid, k), renal) >= level(*labs(uric_acid, k))


@quick
@given(st.integers(30, 2000).map(lambda x: x / 10))
def test_the_treatment_dose_is_a_fifth_of_a_milligram_per_kilogram(weight: float) -> None:
    body = {"obs": "body_weight", "value": f"{weight} kg", "at": "-1h"}
    [finding] = findings("dosing.tls-treatment", *labs(9.0, 6.5), body)
    doses = [
        action.proposal.dose
        for suggestion in finding.suggestions
        for action in suggestion.actions
        if isinstance(action, Create)
        and isinstance(action.proposal, DrugProposal)
        and action.proposal.drug == "rasburicase"
    ]
    assert len(doses) == 1
    assert doses[0] is not None
    assert abs(float(doses[0].value) - 0.2 * weight) <= 0.051
