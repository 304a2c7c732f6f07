"""What must hold of every dose history: order of records and splitting of a dose never matter."""

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from cds.rules.bispecific.agents import ladder_of
from cds.rules.bispecific.history import dose_events
from cds.rules.bispecific.ladder import Place, broken, due_after, place_of
from fhir_mapping.chart import (
    Amount,
    Chart,
    Dose,
    DrugRecord,
    DrugSource,
    DrugState,
    Facts,
    Patient,
    Series,
    Timing,
    instant,
)

ZONE = ZoneInfo("Asia/Taipei")
BEGIN = date(2025, 3, 3)
LADDER = ladder_of("tarlatamab")
TENTH = Decimal("0.1")


def _administration(number: int, day: date, mg: Decimal) -> DrugRecord:
    moment = instant(datetime.combine(day, time(9), ZONE) + timedelta(minutes=number))
    return DrugRecord(
        reference=f"MedicationAdministration/{number}",
        source=DrugSource.ADMINISTRATION,
        state=DrugState.GIVEN,
        name="tarlatamab",
        concepts=frozenset({"tarlatamab"}),
        ingredients=("tarlatamab",),
        timing=Timing(first=moment, last=moment),
        dose=Dose(Amount(mg, "mg")),
    )


def _placed(records: list[DrugRecord]) -> object:
    now = datetime.combine(BEGIN + timedelta(days=400), time(9), ZONE)
    chart = Chart(Patient("Patient/p"), now, Series, drugs=Facts(tuple(records)))
    return place_of(LADDER, dose_events(chart, "tarlatamab"), TENTH)


HISTORIES = st.lists(
    st.tuples(st.integers(0, 200), st.sampled_from([1, 10, 10, 10, 5])),
    max_size=8,
    unique_by=lambda dose: dose[0],
).map(sorted)


@given(history=HISTORIES, data=st.data())
def test_the_order_of_records_never_matters(history: list[tuple[int, int]], data: st.DataObject) -> None:
    records = [
        _administration(n, BEGIN + timedelta(days=day), Decimal(mg)) for n, (day, mg) in enumerate(history)
    ]
    shuffled = data.draw(st.permutations(records))
    one, other = _placed(records), _placed(list(shuffled))
    assert one == other


@given(history=HISTORIES)
def test_a_dose_in_two_parts_of_one_day_is_one_dose(history: list[tuple[int, int]]) -> None:
    whole, halves = [], []
    for n, (day, mg) in enumerate(history):
        on = BEGIN + timedelta(days=day)
        whole.append(_administration(n, on, Decimal(mg)))
        halves += [_administration(n + 100 * part, on, Decimal(mg) / 2) for part in (1, 2)]
    one, other = _placed(whole), _placed(halves)
    if isinstance(one, Place):
        assert one == other
    else:
        assert type(one) is type(other)


@given(history=HISTORIES, wait=st.integers(0, 60))
def test_a_longer_wait_never_shortens_the_way_back(history: list[tuple[int, int]], wait: int) -> None:
    place = _placed(
        [_administration(n, BEGIN + timedelta(days=day), Decimal(mg)) for n, (day, mg) in enumerate(history)]
    )
    if not isinstance(place, Place) or place.last is None:
        return
    due = due_after(LADDER, place)
    assert due.earliest is not None
    assert due.on_schedule is not None
    assert due.last_day is not None
    assert place.last < due.earliest <= due.on_schedule <= due.last_day
    day = place.last + timedelta(days=wait)
    if broken(LADDER, place, day):
        assert day > due.last_day
        assert broken(LADDER, place, day + timedelta(days=1))
    else:
        assert day <= due.last_day
