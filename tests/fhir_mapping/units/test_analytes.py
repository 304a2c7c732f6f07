"""Plausible limits, preferred units and usual ranges."""

from __future__ import annotations

from decimal import Decimal

import pytest

from fhir_mapping.terminology import load
from fhir_mapping.units import analyte, canonical, default_unit, plausible, preferred
from fhir_mapping.units.tables import rows

ANALYTES = list(rows("analytes.csv"))

# concept, unit, lowest and highest value that is no entry error
LIMITS = [
    (concept, unit, low, high)
    for concept, unit, low, high in (
        line.split()
        for line in """
wbc 10*3/uL 0 1000
anc 10*3/uL 0 500
alc 10*3/uL 0 800
platelets 10*3/uL 0 3000
hemoglobin g/dL 1 25
hematocrit % 3 75
crp mg/dL 0 100
ferritin ng/mL 0 500000
alt U/L 0 30000
ast U/L 0 30000
bilirubin_total mg/dL 0 80
bilirubin_direct mg/dL 0 60
ggt U/L 0 10000
alp U/L 0 10000
creatinine mg/dL 0.05 40
creatinine_clearance mL/min 0 400
egfr mL/min/{1.73_m2} 0 250
ldh U/L 0 50000
fibrinogen mg/dL 0 2000
triglycerides mg/dL 5 12000
triglycerides_fasting mg/dL 5 12000
pt s 5 300
inr {INR} 0.5 30
aptt s 10 400
d_dimer_feu ng/mL{FEU} 0 1000000
igg mg/dL 0 15000
cd3_abs /uL 0 100000
cd4_abs /uL 0 100000
nk_abs /uL 0 100000
cd19_pct % 0 100
potassium mmol/L 1 12
sodium mmol/L 90 200
phosphate mg/dL 0.1 40
uric_acid mg/dL 0 60
calcium_total mg/dL 2 25
calcium_corrected mg/dL 2 25
calcium_ionized mmol/L 0.2 5
magnesium mg/dL 0.2 15
albumin g/dL 0.3 9
glucose mg/dL 5 2000
bun mg/dL 1 300
troponin_i ng/mL 0 500
nt_probnp pg/mL 0 200000
procalcitonin ng/mL 0 1000
il6 pg/mL 0 1000000
soluble_cd25 U/mL 0 1000000
hbv_dna [IU]/mL 0 1000000000000
hiv_rna {copies}/mL 0 1000000000000
anti_hbs m[IU]/mL 0 1000000
hcg_serum_quant m[IU]/mL 0 1000000
g6pd U/g{Hb} 0 40
vitamin_b12 pg/mL 0 20000
folate ng/mL 0 200
lvef % 5 90
body_temperature Cel 25 45
spo2 % 30 100
sao2 % 30 100
pao2 mm[Hg] 10 700
pao2_fio2 mm[Hg] 20 700
o2_flow_rate L/min 0 80
fio2 % 21 100
bp_systolic mm[Hg] 30 300
bp_diastolic mm[Hg] 10 200
bp_mean mm[Hg] 15 250
heart_rate /min 10 350
respiratory_rate /min 2 120
body_weight kg 0.5 400
body_height cm 20 250
bsa m2 0.1 3.5
urine_output mL 0 20000
ecog {score} 0 5
karnofsky {score} 0 100
lansky {score} 0 100
gcs_total {score} 3 15
gcs_eye {score} 1 4
gcs_motor {score} 1 6
gcs_verbal {score} 1 5
rass {score} -5 4
ice_score {score} 0 10
capd_score {score} 0 32
crs_grade {score} 0 5
icans_grade {score} 0 5
iec_hs_grade {score} 0 5
icaht_grade {score} 0 4
car_hematotox {score} 0 7
""".strip().splitlines()
    )
]


@pytest.mark.parametrize(("concept", "unit", "low", "high"), LIMITS, ids=[row[0] for row in LIMITS])
def test_limits_are_inclusive(concept: str, unit: str, low: str, high: str) -> None:
    assert preferred(concept) == unit
    assert plausible(concept, Decimal(low))
    assert plausible(concept, Decimal(high))
    whole = analyte(concept)
    assert whole is not None
    step = whole.step or Decimal("0.001")
    assert not plausible(concept, Decimal(low) - step)
    assert not plausible(concept, Decimal(high) + step)


@pytest.mark.parametrize(("concept", "value"), [("ecog", "1.5"), ("karnofsky", "75"), ("ice_score", "7.2")])
def test_scores_are_whole_steps(concept: str, value: str) -> None:
    assert not plausible(concept, Decimal(value))


def test_value_that_is_no_number_is_never_plausible() -> None:
    assert not plausible("wbc", Decimal("NaN"))
    assert not plausible("no_limits_listed", Decimal("Infinity"))


def test_concept_without_limits_is_not_judged() -> None:
    assert plausible("product_volume", Decimal(1000000))
    assert plausible("no_such_concept", Decimal(-1))


@pytest.mark.parametrize("value", ["90", "98.6", "101", "110"])
def test_bare_fahrenheit_number_is_refused_not_converted(value: str) -> None:
    assert default_unit("body_temperature") is None
    assert not plausible("body_temperature", Decimal(value))


def test_only_scores_and_inr_may_lack_a_unit() -> None:
    unitless = {row["concept"] for row in ANALYTES if default_unit(row["concept"])}
    assert {analyte(c).unit for c in unitless} == {"{score}", "{INR}"}  # type: ignore[union-attr]
    assert {"inr", "ecog", "crs_grade"} <= unitless
    assert default_unit("crp") is None
    assert default_unit("no_such_concept") is None


@pytest.mark.parametrize("row", ANALYTES, ids=[row["concept"] for row in ANALYTES])
def test_row_agrees_with_the_concept(row: dict[str, str]) -> None:
    concept = load().concept(row["concept"])
    assert concept.preferred_unit == row["unit"]
    assert canonical(row["unit"]) == row["unit"]
    if row["reject_below"] and row["reject_above"]:
        assert Decimal(row["reject_below"]) < Decimal(row["reject_above"])
        assert row["limits_source"]
    assert bool(row["usual_range"]) == bool(row["range_source"])
    found = analyte(row["concept"])
    assert found is not None
    for usual in found.usual:
        for limit in (usual.low, usual.high):
            assert limit is None or plausible(row["concept"], limit)


def test_every_concept_with_a_unit_has_a_row() -> None:
    listed = {row["concept"] for row in ANALYTES}
    assert {c.id for c in load().concepts() if c.preferred_unit} == listed


def test_usual_range_by_sex() -> None:
    found = analyte("hemoglobin")
    assert found is not None
    assert [(r.sex, r.low, r.high) for r in found.usual] == [
        ("male", Decimal("13.5"), Decimal("17.5")),
        ("female", Decimal("12.0"), Decimal("16.0")),
    ]
