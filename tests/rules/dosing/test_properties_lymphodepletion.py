"""What must always hold for lymphodepletion: windows, doses, clearance, premedication times."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from cards.finding import Outcome
from cds.rules.body_size import mosteller
from cds.rules.dosing.infusion_premedication import timing_outcome
from cds.rules.dosing.ldc import PlannedDrug, rounded
from cds.rules.dosing.ldc_dose import check_dose
from cds.rules.dosing.lymphodepletion_timing import Row, classify
from cds.rules.renal import bedside_schwartz, cockcroft_gault
from fhir_mapping.chart import Amount, Dose, DrugRecord, DrugSource, DrugState, Timing

LIMITS = (2, 6, 14, 28)
ORDER = list(Row)
positive = st.decimals(min_value=Decimal("0.1"), max_value=Decimal(300), places=1)


@given(st.integers(min_value=-5, max_value=60), st.integers(min_value=0, max_value=30))
def test_waiting_longer_never_moves_back_in_the_table(days: int, more: int) -> None:
    assert ORDER.index(classify(days + more, None, 48, LIMITS)) >= ORDER.index(
        classify(days, None, 48, LIMITS)
    )


@given(st.floats(min_value=0, max_value=2000))
def test_hours_decide_the_48_hour_test(hours: float) -> None:
    row = classify(int(hours // 24), hours, 48, LIMITS)
    assert (row is Row.TOO_EARLY) == (hours < 48 and hours // 24 <= LIMITS[3])


@given(st.decimals(min_value=30, max_value=220, places=1), st.decimals(min_value=2, max_value=250, places=1))
def test_the_calculated_dose_is_within_half_a_tenth_of_the_exact_one(cm: Decimal, kg: Decimal) -> None:
    exact = Decimal(25) * mosteller(cm, kg)
    assert abs(rounded(exact) - exact) <= Decimal("0.05")


@given(st.decimals(min_value=Decimal("0.3"), max_value=3, places=2), st.integers(min_value=1, max_value=400))
def test_the_unit_of_the_order_never_changes_the_verdict_by_more_than_rounding(m2: Decimal, mg: int) -> None:
    plan = PlannedDrug("fludarabine", Decimal(25), 3, 30, rounded(Decimal(25) * m2))
    flat = check_dose(_order(Amount(Decimal(mg), "mg")), plan).percent
    per = check_dose(_order(Amount(mg / m2, "mg/m2")), plan).percent
    assert flat is not None
    assert per is not None
    assert abs(flat - per) <= (flat + 100) * Decimal("0.01") + Decimal("0.01")


@given(
    st.integers(min_value=18, max_value=90),
    positive,
    st.decimals(min_value=Decimal("0.2"), max_value=10, places=2),
)
def test_worse_creatinine_never_raises_the_clearance(age: int, kg: Decimal, creatinine: Decimal) -> None:
    more = creatinine + Decimal("0.1")
    for sex in ("male", "female"):
        assert cockcroft_gault(age, kg, more, sex) <= cockcroft_gault(age, kg, creatinine, sex)
    assert bedside_schwartz(kg, more) <= bedside_schwartz(kg, creatinine)


@given(st.integers(min_value=0, max_value=300))
def test_premedication_is_met_between_30_and_60_minutes_only(minutes: int) -> None:
    assert (timing_outcome(minutes, 60, 30) is Outcome.MET) == (30 <= minutes <= 60)


def _order(amount: Amount) -> DrugRecord:
    return DrugRecord(
        reference="MedicationRequest/x",
        source=DrugSource.ORDER,
        state=DrugState.DRAFT,
        name="fludarabine",
        concepts=frozenset({"fludarabine"}),
        ingredients=("fludarabine",),
        timing=Timing(),
        dose=Dose(amount),
    )
