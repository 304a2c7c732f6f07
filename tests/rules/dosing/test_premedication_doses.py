"""Premedication doses are offered only where the site took the figures over, and never above the maximum."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from cards.finding import Create, DrugProposal
from cds.rules.dosing.premedication import RULE, suggestions
from tests.casebook.case_file import Written, bench_of, case_of, rulebook


def _proposals(birth: str, kg: Decimal) -> list[DrugProposal]:
    chart = [
        {"patient": "p1", "birth": birth, "sex": "female"},
        {"obs": "body_weight", "value": f"{kg} kg", "at": "-1d"},
        {"appointment": "car_t_infusion", "at": "2024-09-10T10:00"},
    ]
    written = Written(RULE, "dose", {"now": "2024-09-10T07:00+08:00", "chart": chart}, Path())
    case = case_of(written, bench_of(written))
    own = rulebook().parameters[RULE]
    taken_over = replace(own.items["propose_doses"], value=True)
    parameters = {**case.parameters, RULE: replace(own, items={**own.items, "propose_doses": taken_over})}
    actions = [a for s in suggestions(replace(case, parameters=parameters, _memo={})) for a in s.actions]
    return [a.proposal for a in actions if isinstance(a, Create) and isinstance(a.proposal, DrugProposal)]


@given(st.decimals(min_value=3, max_value=120, places=1))
@settings(max_examples=30, deadline=None)
def test_a_child_gets_the_dose_per_kilogram_up_to_the_maximum(kg: Decimal) -> None:
    acetaminophen, antihistamine = _proposals("2014-02-11", kg)
    for proposal, per, maximum in ((acetaminophen, 15, 1000), (antihistamine, Decimal("0.5"), 50)):
        assert proposal.dose is not None
        assert proposal.basis is not None
        assert proposal.dose.value <= maximum
        assert abs(proposal.dose.value - min(per * kg, Decimal(maximum))) <= Decimal("0.05")


def test_an_adult_gets_the_flat_dose_an_hour_before_the_start() -> None:
    acetaminophen, antihistamine = _proposals("1968-02-11", Decimal(70))
    assert acetaminophen.dose is not None
    assert acetaminophen.dose.value == 650
    assert antihistamine.dose is not None
    assert antihistamine.dose.value == 25
    assert str(acetaminophen.start) == "2024-09-10 09:00:00+08:00"
