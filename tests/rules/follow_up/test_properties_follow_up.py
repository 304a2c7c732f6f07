"""What must hold in the follow-up tables, whatever the numbers."""

from datetime import date, timedelta
from decimal import Decimal
from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cards.finding import Indicator, Outcome
from cds.rules.follow_up.b_cell_recovery import Share, _judged
from cds.rules.follow_up.due_dates import Point, halfway, point, served, served_by
from cds.rules.follow_up.ivig import State, table_row
from cds.rules.follow_up.prophylaxis import Row, Stop, Use, row_of
from cds.rules.steroids import from_prednisone, prednisone_equivalent
from fhir_mapping.chart import Quantity

DATES = st.dates(min_value=date(2020, 1, 1), max_value=date(2035, 12, 31))
SHARES = st.none() | st.decimals(min_value=0, max_value=100, places=2)
STATES = (State.NEVER, State.REPLACED, State.HELD)
BITS = (True, False)


def _points(start: date) -> tuple[Point, ...]:
    months = [*range(4, 13), 18, 24, *range(36, 181, 12)]
    gaps = [b - a for a, b in pairwise(months)] + [12]
    return tuple(point(start, month, 14, gap) for month, gap in zip(months, gaps, strict=True))


@given(DATES, st.integers(0, 6000))
def test_a_day_serves_the_nearest_point_or_none(start: date, days: int) -> None:
    points = _points(start)
    day = start + timedelta(days=days)
    found = served_by(points, day)
    if found is not None:
        assert all(abs((found.day - day).days) <= abs((p.day - day).days) for p in points)


@given(DATES)
def test_every_point_is_served_on_its_own_day(start: date) -> None:
    points = _points(start)
    assert set(served(points, (p.day for p in points))) == {p.month for p in points}
    for this in points:
        assert this.opens < this.day < this.closes <= halfway(this)


@given(SHARES, SHARES, SHARES, st.decimals(min_value=0, max_value=10, places=2))
def test_more_b_cells_never_undo_a_recovery(
    leukocytes: Decimal | None, lymphocytes: Decimal | None, bare: Decimal | None, more: Decimal
) -> None:
    def share(value: Decimal | None, plus: Decimal = Decimal(0)) -> Quantity | None:
        return None if value is None else Quantity(value + plus, "%")

    one, three = Decimal(1), Decimal(3)
    before = _judged(share(leukocytes), share(lymphocytes), share(bare), one, three)
    after = _judged(share(leukocytes, more), share(lymphocytes, more), share(bare, more), one, three)
    if before is Share.RECOVERED:
        assert after is Share.RECOVERED
    assert (before is None) is (leukocytes is None and lymphocytes is None and bare is None)


@pytest.mark.parametrize(("state", "early", "infection", "child"), list(product(STATES, BITS, BITS, BITS)))
def test_immunoglobulin_is_never_started_above_the_limit(
    state: State, early: bool, infection: bool, child: bool
) -> None:
    answer = table_row(state, False, early, infection, child)
    assert not answer.start
    assert answer.outcome not in (Outcome.START, Outcome.CONTINUE)


@pytest.mark.parametrize(("state", "early", "child"), list(product(STATES, BITS, BITS)))
def test_infection_never_makes_the_advice_weaker(state: State, early: bool, child: bool) -> None:
    strength = {
        Outcome.MAY_STOP: 0,
        Outcome.WAIT: 0,
        Outcome.CONSIDER: 1,
        Outcome.CONTINUE: 2,
        Outcome.START: 2,
    }
    without = table_row(state, True, early, False, child)
    within = table_row(state, True, early, True, child)
    assert strength[within.outcome] >= strength[without.outcome]
    assert within.indicator.rank >= Indicator.INFO.rank


@pytest.mark.parametrize(("use", "months", "cd4"), list(product(Use, *[(True, False, None)] * 2)))
def test_a_prophylaxis_may_stop_only_when_both_conditions_hold(
    use: Use, months: bool | None, cd4: bool | None
) -> None:
    row = row_of(use, Stop(12, months, cd4, None))
    assert (row in (Row.MAY_STOP, Row.OVER)) is (months is True and cd4 is True)
    if use is Use.ACTIVE:
        assert row in (Row.ACTIVE, Row.CD4_MISSING, Row.MAY_STOP)


@given(
    st.sampled_from(["dexamethasone", "methylprednisolone", "prednisolone", "prednisone", "hydrocortisone"]),
    st.decimals(min_value=Decimal("0.5"), max_value=1000, places=1),
)
def test_steroid_equivalents_convert_both_ways(drug: str, mg: Decimal) -> None:
    prednisone = prednisone_equivalent(drug, mg)
    assert prednisone is not None
    back = from_prednisone(drug, prednisone)
    assert back is not None
    assert abs(back - mg) < Decimal("1e-9")
