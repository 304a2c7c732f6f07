"""Spellings met in practice, typed here independently of the alias table."""

from __future__ import annotations

import re

import pytest

from fhir_mapping.units import canonical
from fhir_mapping.units.aliases import normalised, table
from fhir_mapping.units.tables import rows

UCUM = "http://unitsofmeasure.org"

MET_IN_PRACTICE = {
    "10*3/uL": "10*3/uL|10*9/L|10^3/uL|10^9/L|x10^3/uL|x10(3)/uL|×10³/µL|10e3/uL|10E3/uL|x10E9/L"
    "|K/uL|K/µL|k/ul|K/mm3|10*3/mm3|thou/uL|Thousands/uL|1000/uL|G/L|G/l|GPt/L|Gpt/l|Tsd/ul|/nL|/nl"
    "|× 10⁹/L|10^3/µl|X10^3/uL",
    "/uL": "/uL|/µL|/ul|/mm3|/cumm|cells/uL|cells/µL|cells/mm3|{cells}/uL|{#}/uL|10*6/L|#/uL|/mm³|cells/μL",
    "10*6/uL": "M/uL|10^6/uL|10*12/L|T/L|TPt/L|Mio/ul|million/uL|x10^12/L|10⁶/µL",
    "g/dL": "g/dL|g/dl|gm/dL|G/DL|g%|gm%",
    "g/L": "g/L|g/l",
    "mg/dL": "mg/dL|mg/dl|MG/DL|mg%",
    "mg/L": "mg/L|mg/l|ug/mL|µg/mL|mcg/mL|μg/mL",
    "ng/mL": "ng/mL|ng/ml|NG/ML|ug/L|µg/L|mcg/L",
    "pg/mL": "pg/mL|ng/L",
    "umol/L": "umol/L|µmol/L|μmol/L|umol/l|micromol/L|mcmol/L",
    "mmol/L": "mmol/L|mmol/l|mM",
    "meq/L": "meq/L|mEq/L|MEQ/L",
    "U/L": "U/L|u/L|U/l|E/L",
    "[IU]/L": "IU/L|[IU]/L|IU/l",
    "[IU]/mL": "[IU]/mL|IU/mL|IU/ml|[iU]/mL",
    "m[IU]/mL": "m[IU]/mL|mIU/mL|mIU/ml",
    "Cel": "Cel|°C|℃|degC|C",
    "[degF]": "[degF]|°F|℉|degF|F",
    "mm[Hg]": "mm[Hg]|mmHg|mm Hg|mmhg|Torr",
    "/min": "/min|{beats}/min|{breaths}/min|bpm|beats/min|breaths/min|次/分",
    "L/min": "L/min|l/min|LPM|lpm|L/minute",
    "mL/min": "mL/min|ml/min|cc/min",
    "mL/min/{1.73_m2}": "mL/min/{1.73_m2}|mL/min/1.73m2|mL/min/1.73_m2|ml/min/1.73m²|mL/min/1.73 m^2",
    "s": "s|sec|secs|seconds|秒",
    "%": "%|％",
    "1": "1|{ratio}|L/L|ratio",
    "{INR}": "{INR}|INR",
    "kg": "kg|公斤",
    "g": "g",
    "[lb_av]": "[lb_av]|lb|lbs",
    "cm": "cm|公分",
    "m": "m",
    "[in_i]": "[in_i]|in|inch",
    "{copies}/mL": "{copies}/mL|copies/mL|cp/mL|Copies/ml",
    "{Log_copies}/mL": "{Log_copies}/mL|log10 copies/mL|log copies/mL",
    "{Log_IU}/mL": "{Log_IU}/mL|log IU/mL|log10 IU/mL",
    "ng/mL{FEU}": "ng/mL{FEU}|ng/mL FEU|ug/L FEU|µg/L{FEU}|ng{FEU}/mL",
    "mg/L{FEU}": "mg/L{FEU}|ug/mL{FEU}|mg/L FEU|µg/mL FEU",
    "ng/mL{DDU}": "ng/mL{DDU}|ng/mL DDU",
    "U/g{Hb}": "U/g{Hb}|U/g Hb|U/gHb",
    "mg": "mg|MG|毫克",
    "ug": "ug|mcg|µg|μg|微克",
    "mg/kg": "mg/kg|MG/KG",
    "mg/m2": "mg/m2|mg/m^2|mg/m²|mg/sqm",
    "ug/kg": "ug/kg|mcg/kg|µg/kg",
    "ug/kg/min": "ug/kg/min|mcg/kg/min|µg/kg/min|ug/min/kg",
    "mg/h": "mg/h|mg/hr",
    "mL/h": "mL/h|ml/hr|cc/hr",
    "mL/kg/h": "mL/kg/h|ml/kg/hr",
    "[IU]": "[IU]|IU|[iU]",
    "[IU]/kg": "[IU]/kg|IU/kg",
    "{cells}": "{cells}|cells",
    "10*6{cells}": "10*6{cells}|10^6 cells|x10^6 cells|10*6",
    "10*9{cells}": "10*9|10^9|x10^9",
    "10*6{cells}/kg": "10*6/kg|x10^6/kg|10^6 cells/kg",
    "mL/d": "mL/(24.h)|mL/24h|mL/d|mL/day",
    "m2": "m2|m²|m^2",
    "{score}": "{score}|score|points",
    "wk": "wk|weeks|週",
    "mo": "mo|months|月",
}


@pytest.mark.parametrize(
    ("spelling", "unit"),
    [(spelling, unit) for unit, spellings in MET_IN_PRACTICE.items() for spelling in spellings.split("|")],
)
def test_spelling_met_in_practice(spelling: str, unit: str) -> None:
    assert canonical(spelling) == unit
    assert canonical(None, spelling, UCUM) == unit


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        None,
        "foo",
        "mg/dl/kg",
        "10*3",
        "U/ul/x",
        "mmHg2",
        "mol",
        "L/m",
        "mg//L",
        "x" * 500,
        "10*4/uL",
        "\x00",
        "MIU/ML",
    ],
)
def test_unknown_spelling_is_none(text: str | None) -> None:
    expected = "10*3{cells}" if text == "10*3" else None
    assert canonical(text) == expected


@pytest.mark.parametrize(
    ("unit", "code", "system", "expected"),
    [
        ("mg/dL", "mg/L", UCUM, "mg/L"),  # the UCUM code decides
        ("mg/dL", "mg/L", None, "mg/dL"),  # no system: the text decides
        ("mg/dL", "mg/L", "urn:x", "mg/dL"),
        ("mg/dL", None, UCUM, "mg/dL"),  # no code: the text decides
        ("mg/dL", "", UCUM, "mg/dL"),
        ("mg/dL", "no-such-unit", UCUM, None),  # an unreadable code is not replaced by the text
        (None, "mg/dL", None, "mg/dL"),
        (None, "mg/dL", "http://unitsofmeasure.org/", "mg/dL"),
        (None, "ug/mL", "https://unitsofmeasure.org", "mg/L"),
        (None, None, UCUM, None),
        ("K/uL", "K/uL", UCUM, "10*3/uL"),  # legal UCUM for kelvin per microlitre; no laboratory means that
    ],
)
def test_code_before_text(
    unit: str | None, code: str | None, system: str | None, expected: str | None
) -> None:
    assert canonical(unit, code, system) == expected


def test_giga_and_gram_differ_by_case_only() -> None:
    assert canonical("G/L") == canonical("G/l") == "10*3/uL"
    assert canonical("g/L") == canonical("g/l") == "g/L"


def test_milli_and_mega_are_never_folded() -> None:
    assert canonical("mU/L") is None
    assert canonical("MU/L") is None
    assert canonical("mIU/mL") != canonical("MIU/mL")


def test_every_row_is_reachable_and_its_unit_has_a_factor() -> None:
    factors = {factor["unit"] for factor in rows("factors.csv")}
    for row in rows("units.csv"):
        assert normalised(row["spelling"]) == row["spelling"]
        assert canonical(row["spelling"]) == row["unit"]
        assert canonical(row["unit"]) == row["unit"]
        assert row["unit"] in factors


def test_no_spelling_twice() -> None:
    spellings = [row["spelling"] for row in rows("units.csv")]
    assert len(spellings) == len(set(spellings)) == len(table())


def test_table_is_sorted_by_unit() -> None:
    units = [row["unit"] for row in rows("units.csv")]
    assert units == sorted(units)


def test_normalised_keeps_powers_apart_from_digits() -> None:
    assert normalised("×10³/µL") == "x10*3/uL"
    assert not re.search(r"\s", normalised(" mm Hg "))
