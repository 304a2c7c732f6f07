"""A list that could not be read is never "none recorded": no vaccine is cleared, no drug called missing."""

from dataclasses import replace
from typing import Any

import pytest

from cards.finding import Finding, Indicator, Outcome
from fhir_mapping.chart import Coverage, KeyState
from tests.casebook.case_file import Written, bench_of, case_of, rulebook

ELIGIBLE: list[dict[str, Any]] = [
    {"given": "tisagenlecleucel", "at": "2025-01-15"},
    {"obs": "cd4_abs", "value": "450 /uL", "at": "-5d"},
    {"obs": "cd19_abs", "value": "300 /uL", "at": "-5d"},
]


def answers(rule: str, hook: str, chart: list[dict[str, Any]], **states: KeyState) -> list[Finding]:
    raw = {"now": "2026-02-10T10:00+08:00", "hook": hook, "chart": chart}
    written = Written(rule, "unread", raw, __file__)  # type: ignore[arg-type]
    case = case_of(written, bench_of(written))
    coverage = {key.replace("_", "-"): Coverage(state) for key, state in states.items()}
    case = replace(case, chart=replace(case.chart, coverage=coverage))
    return list(rulebook().rules[rule].evaluate(case))


@pytest.mark.parametrize(
    ("lost", "gate"),
    [
        ({"orders_active": KeyState.FAILED}, "ISFREE"),
        ({"procedures": KeyState.NOT_ASKED}, "ALLO24"),
        ({"administrations": KeyState.FAILED, "course_drugs": KeyState.FAILED}, "IG8"),
    ],
)
def test_a_live_vaccine_is_not_cleared_over_an_unread_list(lost: dict[str, KeyState], gate: str) -> None:
    draft = {"draft_vaccine": "vac_mmr", "id": "v1"}
    (whole,) = answers("vaccination.live", "order-sign", [*ELIGIBLE, draft])
    assert whole.outcome is Outcome.ELIGIBLE
    (finding,) = answers("vaccination.live", "order-sign", [*ELIGIBLE, draft], **lost)
    assert finding.outcome is Outcome.CANNOT_CHECK
    assert finding.indicator is Indicator.CRITICAL
    assert finding.values["not_known"] == [gate]


PLANNED: list[dict[str, Any]] = [
    {"condition": "dlbcl"},
    {"procedure": "leukapheresis", "at": "-30d", "purpose": "purpose_car_t_collection"},
    {"order": "fludarabine", "at": "2026-03-20", "count": 1, "purpose": "purpose_lymphodepletion"},
]


def test_a_live_vaccine_before_therapy_is_not_allowed_over_unread_orders() -> None:
    draft = {"draft_vaccine": "vac_mmr", "id": "v1"}
    (whole,) = answers("vaccination.pre-cart", "order-sign", [*PLANNED, draft])
    assert whole.outcome is Outcome.PASS
    lost = {"orders_active": KeyState.FAILED}
    (finding,) = answers("vaccination.pre-cart", "order-sign", [*PLANNED, draft], **lost)
    assert finding.outcome is Outcome.CANNOT_CHECK
    assert finding.indicator is Indicator.WARNING


def test_vaccines_before_therapy_are_not_due_over_an_unread_list() -> None:
    (finding,) = answers("vaccination.pre-cart", "patient-view", PLANNED, immunizations=KeyState.FAILED)
    assert finding.outcome is Outcome.CANNOT_CHECK
    assert finding.unconcluded


def test_an_empty_list_that_was_read_clears() -> None:
    draft = {"draft_vaccine": "vac_mmr", "id": "v1"}
    states = dict.fromkeys(("orders_active", "procedures", "administrations"), KeyState.EMPTY)
    (finding,) = answers("vaccination.live", "order-sign", [*ELIGIBLE, draft], **states)
    assert finding.outcome is Outcome.ELIGIBLE


@pytest.mark.parametrize(
    ("rule", "lost"),
    [
        ("follow-up.prophylaxis-antiviral", {"orders_active": KeyState.FAILED}),
        ("follow-up.prophylaxis-pjp", {"orders_active": KeyState.FAILED}),
        ("vaccination.influenza", {"immunizations": KeyState.FAILED}),
        ("vaccination.covid19", {"immunizations": KeyState.NOT_ASKED}),
        ("follow-up.ivig", {"administrations": KeyState.FAILED, "course_drugs": KeyState.FAILED}),
    ],
)
def test_the_view_does_not_conclude_from_an_unread_list(rule: str, lost: dict[str, KeyState]) -> None:
    (whole,) = answers(
        rule, "patient-view", [*ELIGIBLE[:1], {"obs": "igg", "value": "300 mg/dL", "at": "-5d"}]
    )
    assert whole.indicator is not None
    (finding,) = answers(rule, "patient-view", ELIGIBLE[:1], **lost)
    assert finding.indicator is None
    assert finding.unconcluded
    assert finding.missing


@pytest.mark.parametrize(
    ("rule", "rows"), [("readiness.eligibility", {"E5", "E15"}), ("readiness.thaw", {"X2", "X3", "X5"})]
)
def test_conditions_that_were_not_read_are_not_an_absence_of_disease(rule: str, rows: set[str]) -> None:
    chart = [{"service": "car_t_evaluation"}, {"order": "tisagenlecleucel", "at": "+3h"}]
    (finding,) = answers(rule, "patient-view", chart, conditions=KeyState.FAILED)
    unknown = finding.values["unknown"]
    assert isinstance(unknown, list)
    assert rows <= set(unknown)


COLLECTED: list[dict[str, Any]] = [
    {"procedure": "leukapheresis", "at": "2026-01-20", "purpose": "purpose_car_t_collection"},
    {"service": "lymphodepletion", "at": "2026-02-12"},
]


@pytest.mark.parametrize(
    "lost",
    [
        {"conditions": KeyState.FAILED},
        {"administrations": KeyState.FAILED, "course_drugs": KeyState.NOT_ASKED},
    ],
)
def test_a_heart_nobody_could_read_of_is_not_one_that_needs_no_tests(lost: dict[str, KeyState]) -> None:
    (whole,) = answers("readiness.lymphodepletion", "patient-view", COLLECTED)
    assert {"row": "P10", "status": "met"} in whole.values["lines"]  # type: ignore[operator]
    (finding,) = answers("readiness.lymphodepletion", "patient-view", COLLECTED, **lost)
    assert {"row": "P10", "status": "unknown"} in finding.values["lines"]  # type: ignore[operator]


def test_conditions_that_were_not_read_are_not_an_infusion_without_a_reaction() -> None:
    chart = [{"given": "tisagenlecleucel", "from": "2026-02-10T09:00", "to": "2026-02-10T09:20", "bag": "B1"}]
    (finding,) = answers("readiness.infusion", "patient-view", chart, conditions=KeyState.FAILED)
    assert {"row": "reaction", "status": "unknown"} in finding.values["lines"]  # type: ignore[operator]


@pytest.mark.parametrize(
    ("rule", "disease", "row"),
    [
        ("readiness.outcome-risk-all", "b_all", "blinatumomab"),
        ("readiness.outcome-risk-dlbcl", "dlbcl", "bendamustine"),
    ],
)
def test_doses_that_were_not_read_are_not_a_drug_never_given(rule: str, disease: str, row: str) -> None:
    chart = [
        {"service": "car_t_evaluation"},
        {"condition": disease},
        {"obs": "tp53_mutation", "value": "absent", "at": "-5d"},
    ]
    (whole,) = answers(rule, "patient-view", chart)
    assert row not in whole.values["untested"]  # type: ignore[operator]
    lost = {"administrations": KeyState.FAILED, "course_drugs": KeyState.FAILED}
    (finding,) = answers(rule, "patient-view", chart, **lost)
    assert row in finding.values["untested"]  # type: ignore[operator]


def test_an_unread_allergy_list_is_named_before_tarlatamab() -> None:
    draft = {"draft": "tarlatamab", "id": "t", "dose": "1 mg", "route": "route_intravenous", "at": "+2h"}
    (whole,) = answers("readiness.tarlatamab", "order-sign", [draft])
    assert "R15" not in whole.values["rows"]
    (finding,) = answers("readiness.tarlatamab", "order-sign", [draft], allergies=KeyState.FAILED)
    assert "R15" in finding.values["rows"]
