"""What must hold for every checklist, whatever the chart says."""

from datetime import date, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from cards.finding import Outcome
from cds.rules.readiness.bridging_course import cycles
from cds.rules.readiness.checklist import Line, Status, verdict, worst_first
from cds.rules.readiness.infusion import longest_gap

START = date(2024, 7, 1)
GOOD = [Outcome.NOT_READY, Outcome.INCOMPLETE, Outcome.READY_WITH_POINTS, Outcome.READY]
lines = st.lists(st.builds(Line, st.just("E2"), st.sampled_from(list(Status))), max_size=8)
doses = st.lists(
    st.tuples(
        st.integers(0, 60).map(lambda n: START + timedelta(days=n)),
        st.sampled_from([frozenset[str](), frozenset({"regimen_ice"}), frozenset({"regimen_gdp"})]),
    ),
    max_size=10,
)


@given(lines, st.sampled_from(list(Status)))
def test_one_more_line_never_makes_a_verdict_better(found: list[Line], status: Status) -> None:
    more = [*found, Line("E3", status)]
    assert GOOD.index(verdict(more)) <= GOOD.index(verdict(found))


@given(lines)
def test_sorting_keeps_every_line_and_puts_the_heaviest_first(found: list[Line]) -> None:
    ordered = worst_first(found)
    assert sorted(map(id, ordered)) == sorted(map(id, found))
    ranks = [line.indicator.rank for line in ordered]
    assert ranks == sorted(ranks, reverse=True)


@given(doses, st.randoms())
def test_order_of_records_never_changes_the_number_of_cycles(found: list, dice) -> None:  # type: ignore[no-untyped-def, type-arg]
    shuffled = list(found)
    dice.shuffle(shuffled)
    assert cycles(shuffled, 7) == cycles(found, 7)


@given(doses)
def test_a_dose_entered_twice_is_no_further_cycle(found: list) -> None:  # type: ignore[type-arg]
    assert cycles([*found, *found], 7) == cycles(found, 7)


@given(st.lists(st.integers(0, 300), min_size=2, max_size=10))
def test_one_more_measurement_never_lengthens_a_gap(minutes: list[int]) -> None:
    zero = datetime(2025, 4, 16, 10, tzinfo=timezone(timedelta(hours=8)))
    points = sorted(zero + timedelta(minutes=m) for m in minutes)
    middle = points[0] + (points[-1] - points[0]) / 2
    assert longest_gap(sorted([*points, middle])) <= longest_gap(points)
