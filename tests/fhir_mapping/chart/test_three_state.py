"""Answers that may be unknown."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from itertools import product

import pytest

from fhir_mapping.chart import Quantity, all_of, any_of

STATES = (True, False, None)
MANY = [answers for length in range(4) for answers in product(STATES, repeat=length)]


def _filled(answers: tuple[bool | None, ...]) -> Iterable[tuple[bool, ...]]:
    """Every way in which what is unknown may turn out."""
    return product(*((True, False) if a is None else (a,) for a in answers))


@pytest.mark.parametrize("answers", MANY)
def test_an_answer_is_what_it_is_however_the_unknown_turns_out(answers: tuple[bool | None, ...]) -> None:
    some = {any(filled) for filled in _filled(answers)}
    every = {all(filled) for filled in _filled(answers)}
    assert any_of(answers) == (some.pop() if len(some) == 1 else None)
    assert all_of(iter(answers)) == (every.pop() if len(every) == 1 else None)


@pytest.mark.parametrize(
    ("comparator", "value", "inside"),
    [
        ("", "2", True),
        ("", "8", True),
        ("", "1.9", False),
        ("", "8.1", False),
        ("<", "2", False),
        ("<=", "2", None),
        ("<", "9", None),
        (">", "8", False),
        (">=", "8", None),
        (">", "1", None),
    ],
)
def test_a_value_is_within_its_limits_or_a_bound_leaves_it_open(
    comparator: str, value: str, inside: bool | None
) -> None:
    assert Quantity(Decimal(value), "Cel", comparator).within(2, 8) is inside
