"""Conversions: one case per analyte row, the exactness promised, and what is refused."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_mapping.units import canonical, convert, mass_mg, preferred, same_dimension
from fhir_mapping.units.tables import rows

FACTORS = list(rows("factors.csv"))
ANALYTE_FACTORS = list(rows("analyte-factors.csv"))
UNITS_BY_BASE: dict[str, list[str]] = {}
for _row in FACTORS:
    UNITS_BY_BASE.setdefault(_row["base"], []).append(_row["unit"])
PAIRS = [(a, b) for units in UNITS_BY_BASE.values() for a in units for b in units]


# concept, reported value and unit, value in the preferred unit (figures of the laboratory conversion table)
CASES = [
    ("wbc", "500 /uL", "0.5"),
    ("wbc", "0.5 10*9/L", "0.5"),
    ("anc", "499 /mm3", "0.499"),
    ("anc", "500 10*6/L", "0.5"),
    ("alc", "0.2 K/uL", "0.2"),
    ("platelets", "75000 /uL", "75"),
    ("hemoglobin", "85 g/L", "8.5"),
    ("hemoglobin", "5 mmol/L", "8.057"),
    ("hematocrit", "0.41 L/L", "41"),
    ("crp", "30 mg/L", "3.0"),
    ("crp", "30 ug/mL", "3.0"),
    ("crp", "100 nmol/L", "1.05"),
    ("ferritin", "2000 ug/L", "2000"),
    ("ferritin", "2247 pmol/L", "1000"),
    ("alt", "40 [IU]/L", "40"),
    ("alt", "2 ukat/L", "120"),
    ("ast", "1000 nkat/L", "60"),
    ("bilirubin_total", "34.2 umol/L", "2"),
    ("bilirubin_direct", "17.1 umol/L", "1"),
    ("ggt", "1 ukat/L", "60"),
    ("alp", "1 ukat/L", "60"),
    ("creatinine", "88.42 umol/L", "1"),
    ("creatinine_clearance", "1 mL/s", "60"),
    ("egfr", "1 mL/s/1.73m2", "60"),
    ("ldh", "5 ukat/L", "300"),
    ("fibrinogen", "1.5 g/L", "150"),
    ("fibrinogen", "10 umol/L", "340"),
    ("triglycerides", "3 mmol/L", "265.71"),
    ("triglycerides_fasting", "3 mmol/L", "265.71"),
    ("inr", "1.2 ratio", "1.2"),
    ("d_dimer_feu", "0.5 mg/L{FEU}", "500"),
    ("d_dimer_feu", "0.5 ug/mL", "500"),
    ("d_dimer_feu", "500 ug/L", "500"),
    ("igg", "4 g/L", "400"),
    ("igg", "4000 mg/L", "400"),
    ("cd19_abs", "0.2 10*9/L", "200"),
    ("cd4_abs", "0.2 10*3/uL", "200"),
    ("cd19_pct", "0.03 1", "3"),
    ("potassium", "5 mEq/L", "5"),
    ("potassium", "10 mg/dL", "2.558"),
    ("sodium", "140 meq/L", "140"),
    ("phosphate", "2 mmol/L", "6.194"),
    ("uric_acid", "594.8 umol/L", "10"),
    ("calcium_total", "2 mmol/L", "8.016"),
    ("calcium_total", "4 meq/L", "8.016"),
    ("calcium_corrected", "2 mmol/L", "8.016"),
    ("calcium_corrected", "4 meq/L", "8.016"),
    ("calcium_ionized", "4.008 mg/dL", "1"),
    ("calcium_ionized", "2 meq/L", "1"),
    ("magnesium", "1 mmol/L", "2.4305"),
    ("magnesium", "2 meq/L", "2.4306"),
    ("albumin", "35 g/L", "3.5"),
    ("albumin", "600 umol/L", "3.99"),
    ("glucose", "10 mmol/L", "180.16"),
    ("bun", "10 mmol/L", "28.01"),
    ("troponin_i", "40 ng/L", "0.04"),
    ("troponin_t", "14 pg/mL", "0.014"),
    ("nt_probnp", "100 pmol/L", "845.7"),
    ("nt_probnp", "125 ng/L", "125"),
    ("procalcitonin", "0.5 ug/L", "0.5"),
    ("il6", "7 ng/L", "7"),
    ("hbv_dna", "2000 IU/L", "2"),
    ("hbv_dna", "2 k[IU]/mL", "2000"),
    ("hbv_dna", "3 log IU/mL", "1000"),
    ("hiv_rna", "2 log10 copies/mL", "100"),
    ("anti_hbs", "10 IU/L", "10"),
    ("hcg_serum_quant", "5 [IU]/L", "5"),
    ("vitamin_b12", "200 pmol/L", "271"),
    ("folate", "10 nmol/L", "4.414"),
    ("lvef", "0.55 {ratio}", "55"),
    ("body_temperature", "100.4 [degF]", "38.0"),
    ("body_temperature", "98.6 degF", "37.0"),
    ("spo2", "0.93 1", "93"),
    ("pao2", "8 kPa", "60.00496"),
    ("pao2_fio2", "40 kPa", "300.0248"),
    ("o2_flow_rate", "4000 mL/min", "4"),
    ("fio2", "0.4 1", "40"),
    ("bp_systolic", "12 kPa", "90.00744"),
    ("body_weight", "70000 g", "70"),
    ("body_weight", "100 lb", "45.359237"),
    ("body_height", "1.7 m", "170"),
    ("body_height", "10 in", "25.4"),
    ("urine_output_24h", "1.5 L/(24.h)", "1500"),
    ("urine_output", "1.5 L", "1500"),
    ("karnofsky", "70 %", "70"),
    ("lansky", "70 %", "70"),
    ("ecog", "1 1", "1"),
    ("car_t_cell_dose", "2 10*8", "200000000"),
    ("product_viable_cd3", "2 10*9", "2000000000"),
    ("product_wbc_per_ml", "5 10*6/mL", "5000000"),
    ("life_expectancy", "2 wk", "14"),
    ("seizure_duration", "300 s", "5"),
]


@pytest.mark.parametrize(("concept", "reported", "expected"), CASES, ids=lambda value: str(value))
def test_reported_value_in_the_preferred_unit(concept: str, reported: str, expected: str) -> None:
    number, _, spelling = reported.partition(" ")
    unit, home = canonical(spelling), preferred(concept)
    assert unit is not None
    assert home is not None
    assert convert(concept, Decimal(number), unit, home) == Decimal(expected)


def test_every_analyte_factor_has_a_case() -> None:
    tested = {(concept, canonical(reported.partition(" ")[2])) for concept, reported, _ in CASES}
    scores = {row["concept"] for row in ANALYTE_FACTORS if row["source"] == "dimensionless score"}
    wanted = {(row["concept"], row["from_unit"]) for row in ANALYTE_FACTORS if row["concept"] not in scores}
    reached = {(concept, base) for concept, unit in tested for base in _equivalent(unit)}
    enzymes = {(c, "[IU]/L") for c in ("ast", "ggt", "alp", "ldh")}
    assert wanted - reached - enzymes - {("d_dimer_ddu", "ng/mL")} == set()


def _equivalent(unit: str | None) -> list[str]:
    return [row["unit"] for row in FACTORS if unit and same_dimension(unit, row["unit"])]


def test_enzymes_read_international_units_as_units() -> None:
    for concept in ("alt", "ast", "alp", "ggt", "ldh"):
        assert convert(concept, Decimal(40), "[IU]/L", "U/L") == 40
    assert convert("soluble_cd25", Decimal(40), "[IU]/L", "U/L") is None
    assert convert(None, Decimal(40), "[IU]/L", "U/L") is None


@pytest.mark.parametrize(
    "reported", ["0.5 10*9/L", "0.5 10*3/uL", "500 /uL", "500 /mm3", "500 10*6/L", "0.5 G/L", "0.5 K/uL"]
)
def test_cell_count_identity(reported: str) -> None:
    number, _, spelling = reported.partition(" ")
    unit = canonical(spelling)
    assert unit is not None
    assert convert("anc", Decimal(number), unit, "/uL") == 500
    assert convert("anc", Decimal(number), unit, "10*3/uL") == Decimal("0.5")


@pytest.mark.parametrize(
    ("concept", "value", "unit", "to"),
    [
        ("platelets", "5.1", "mmol/L", "10*3/uL"),  # a real sample codes platelets so
        ("creatinine_clearance", "60", "mL/min/{1.73_m2}", "mL/min"),
        ("egfr", "60", "mL/min", "mL/min/{1.73_m2}"),
        ("d_dimer_feu", "500", "ng/mL{DDU}", "ng/mL{FEU}"),
        ("d_dimer_unspecified", "500", "ng/mL{DDU}", "ng/mL{FEU}"),
        ("soluble_cd25", "2400", "pg/mL", "U/mL"),
        ("hbv_dna", "2000", "{copies}/mL", "[IU]/mL"),
        ("hiv_rna", "2000", "[IU]/mL", "{copies}/mL"),
        ("hbv_dna", "2", "{Log_copies}/mL", "[IU]/mL"),
        ("g6pd", "200", "U/10*12{RBCs}", "U/g{Hb}"),
        ("calcium_total", "2", "U/L", "mg/dL"),
        ("chloride_not_a_concept", "100", "meq/L", "mmol/L"),
        ("glucose", "5", "meq/L", "mg/dL"),  # no charge
        (None, "1", "mmol/L", "mg/dL"),
        (None, "1", "mg", "mL"),
        ("spo2", "93", "1", "%"),  # a fraction above 1
        ("spo2", "-0.1", "1", "%"),
        ("fio2", "40", "1", "%"),
        ("pao2_fio2", "250", "1", "mm[Hg]"),
        ("wbc", "1", "no-such-unit", "10*3/uL"),
        ("wbc", "1", "10*3/uL", "no-such-unit"),
        ("wbc", "NaN", "10*3/uL", "10*3/uL"),
        ("wbc", "Infinity", "/uL", "10*3/uL"),
        ("hbv_dna", "9999", "{Log_IU}/mL", "[IU]/mL"),
    ],
)
def test_refused(concept: str | None, value: str, unit: str, to: str) -> None:
    assert convert(concept, Decimal(value), unit, to) is None


def test_absurd_magnitude_neither_raises_nor_turns_infinite() -> None:
    converted = convert("wbc", Decimal("1e400"), "10*3/uL", "/uL")
    assert converted == Decimal("1e403")
    assert convert("wbc", Decimal("9e999999"), "10*3/uL", "/uL") is None


def test_fever_limit_is_exact_in_fahrenheit() -> None:
    assert convert("body_temperature", Decimal("100.4"), "[degF]", "Cel") == 38
    below = convert("body_temperature", Decimal("100.3"), "[degF]", "Cel")
    assert below is not None
    assert below < 38


@pytest.mark.parametrize(
    ("value", "unit", "mg"),
    [("1", "g", "1000"), ("1", "mg", "1"), ("500", "mcg", "0.5"), ("500", "µg", "0.5"), ("500", "μg", "0.5"),
     ("1000", "ng", "0.001"), ("0.5", "公克", "500"), ("2", "kg", "2000000"), ("250", "ug", "0.25")],
)  # fmt: skip
def test_mass_of_a_dose(value: str, unit: str, mg: str) -> None:
    assert mass_mg(Decimal(value), unit) == Decimal(mg)


@pytest.mark.parametrize("unit", ["mL", "mg/kg", "tablet", "", "IU", "mg/m2", "amp"])
def test_not_a_mass(unit: str) -> None:
    assert mass_mg(Decimal(1), unit) is None


@pytest.mark.parametrize(
    ("value", "unit", "to", "expected"),
    [
        ("0.12", "ug/kg/min", "mg/kg/h", "0.0072"),
        ("2", "mg/kg/d", "mg/kg/h", str(Decimal(1) / Decimal(12))),
        ("1", "g/m2", "mg/m2", "1000"),
        ("5", "ug/kg", "mg/kg", "0.005"),
        ("60", "ug/min", "mg/h", "3.6"),
        ("0.03", "U/min", "U/h", "1.8"),
        ("250", "mL/h", "L/min", str(Decimal(250) / Decimal(60000))),
        ("6", "mo", "d", "182.625"),
        ("2", "10*6{cells}/kg", "{cells}/kg", "2000000"),
    ],
)
def test_dose_and_rate_units(value: str, unit: str, to: str, expected: str) -> None:
    converted = convert(None, Decimal(value), unit, to)
    assert converted is not None
    assert abs(converted - Decimal(expected)) < Decimal("1e-25")


NUMBERS = st.decimals(min_value="0.001", max_value="999999", allow_nan=False, allow_infinity=False, places=3)


@given(st.sampled_from(PAIRS), NUMBERS)
def test_there_and_back_is_identity(pair: tuple[str, str], value: Decimal) -> None:
    unit, to = pair
    value = value if {unit, to} != {"1", "%"} else value / 10**6
    there = convert(None, value, unit, to)
    assert there is not None
    back = convert(None, there, to, unit)
    assert back is not None
    assert abs(back - value) <= abs(value) * Decimal("1e-12")


@given(st.sampled_from(PAIRS), NUMBERS, NUMBERS)
def test_order_is_kept(pair: tuple[str, str], one: Decimal, other: Decimal) -> None:
    unit, to = pair
    scale = 10**6 if {unit, to} == {"1", "%"} else 1
    low, high = sorted((one / scale, other / scale))
    first, second = convert(None, low, unit, to), convert(None, high, unit, to)
    assert first is not None
    assert second is not None
    assert first < second if low < high else first == second


@given(st.sampled_from(ANALYTE_FACTORS), NUMBERS)
def test_analyte_there_and_back(row: dict[str, str], value: Decimal) -> None:
    home = preferred(row["concept"])
    assert home is not None
    value = min(value, Decimal(1)) if row["from_unit"] == "1" else value
    there = convert(row["concept"], value, row["from_unit"], home)
    assert there is not None
    back = convert(row["concept"], there, home, row["from_unit"])
    assert back is not None
    assert abs(back - value) <= abs(value) * Decimal("1e-12")


@given(st.sampled_from(["{Log_IU}/mL", "{Log_copies}/mL"]), st.decimals("0", "12", places=2))
def test_logarithm_there_and_back(unit: str, value: Decimal) -> None:
    plain = {"{Log_IU}/mL": "[IU]/mL", "{Log_copies}/mL": "{copies}/mL"}[unit]
    there = convert(None, value, unit, plain)
    assert there is not None
    back = convert(None, there, plain, unit)
    assert back is not None
    assert abs(back - value) < Decimal("1e-12")


@given(st.text(max_size=12), st.text(max_size=12), st.decimals())
def test_any_input_answers(unit: str, to: str, value: Decimal) -> None:
    assert convert("creatinine", value, unit, to) in (None, value)


def test_factor_rows_are_exact_and_every_base_is_its_own() -> None:
    for row in FACTORS:
        base = next(other for other in FACTORS if other["unit"] == row["base"])
        assert (Fraction(base["factor"]), base["offset"]) == (1, "0")
        assert row["source"]
