"""The drug class tables are complete, cited, free of contradictions, and refuse a broken row by line."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from cds.engine.parameters import DataError
from cds.rules.drug_classes import PATH, Band, DoseLimit, dose_band, drug_classes, read_drug_classes
from fhir_mapping.chart import DrugRecord, DrugSource, DrugState, Route, Timing
from fhir_mapping.terminology import load

TABLES = drug_classes()


def record(drug: str, **changes: object) -> DrugRecord:
    values: dict[str, object] = {
        "reference": "MedicationAdministration/x",
        "source": DrugSource.ADMINISTRATION,
        "state": DrugState.GIVEN,
        "name": drug,
        "concepts": frozenset({drug}),
        "ingredients": (drug,),
        "timing": Timing(),
    }
    return DrugRecord(**(values | changes))  # type: ignore[arg-type]


def classes(drug: str, band: Band = Band.STANDARD, **changes: object) -> frozenset[str]:
    return TABLES.membership(record(drug, **changes), drug, band).classes


def test_every_row_is_cited() -> None:
    assert all(member.source for member in TABLES.members)
    assert all(regimen.source for regimen in TABLES.regimens)


def test_all_25_classes_have_members() -> None:
    assert {f"DC{n}" for n in range(1, 26)} <= set(TABLES.classes)
    assert all(TABLES.drugs(name) for name in TABLES.classes)


@pytest.mark.parametrize("drug", sorted({member.drug for member in TABLES.members}))
def test_every_drug_can_be_recognised_on_a_chart(drug: str) -> None:
    terminology = load()
    assert drug in terminology
    assert terminology.codes(drug) or terminology.display(drug, "en")


@pytest.mark.parametrize("regimen", sorted({regimen.regimen for regimen in TABLES.regimens}))
def test_every_regimen_and_its_members_are_concepts(regimen: str) -> None:
    terminology = load()
    assert regimen in terminology
    for row in TABLES.regimens:
        for group in row.inferred_from:
            assert all(drug in terminology for drug in group)


def test_route_splits_methotrexate() -> None:
    assert classes("methotrexate", route=Route.INTRATHECAL) == {"DC7"}
    assert "DC9" in classes("methotrexate", route=Route.ORAL)
    assert classes("methotrexate", Band.HIGH, route=Route.INTRAVENOUS) == {"DC10"}
    assert classes("methotrexate", route=Route.TOPICAL) == frozenset()


def test_an_unknown_cytarabine_dose_leaves_high_dose_open() -> None:
    membership = TABLES.membership(record("cytarabine"), "cytarabine", Band.UNKNOWN)
    assert "DC9" in membership.classes
    assert membership.possible == {"DC10"}


def test_a_steroid_for_gvhd_is_gvhd_therapy_too() -> None:
    assert classes("prednisolone") == {"DC6"}
    assert classes("prednisolone", reasons=frozenset({"gvhd"})) == {"DC6", "DC11"}


def test_only_cytotoxic_drugs_of_a_regimen_count_as_the_regimen() -> None:
    tagged = frozenset({"regimen_chop"})
    assert TABLES.membership(record("doxorubicin", regimens=tagged), "doxorubicin", Band.STANDARD).regimens
    assert not TABLES.membership(record("prednisone", regimens=tagged), "prednisone", Band.STANDARD).regimens
    assert not TABLES.membership(record("rituximab", regimens=tagged), "rituximab", Band.STANDARD).regimens


def test_conditioning_makes_a_cytotoxic_drug_high_dose() -> None:
    purposes = frozenset({"purpose_conditioning"})
    assert "DC10" in classes("busulfan", purposes=purposes)
    assert "DC10" not in classes("rituximab", purposes=purposes)


def test_dose_bands_decide_at_the_limit() -> None:
    limit = DoseLimit(high=Decimal(1000), low=Decimal(100))
    assert dose_band(limit, Decimal(1000), None) is Band.HIGH
    assert dose_band(limit, Decimal("999.9"), None) is Band.STANDARD
    assert dose_band(limit, Decimal(100), None) is Band.STANDARD
    assert dose_band(limit, Decimal("99.9"), None) is Band.LOW
    assert dose_band(limit, None, None) is Band.UNKNOWN
    assert dose_band(None, None, None) is Band.STANDARD


def test_ice_is_recognised_by_its_members_within_one_cycle() -> None:
    given = [("ifosfamide", date(2024, 6, 8), "a"), ("carboplatin", date(2024, 6, 9), "b")]
    etoposide = ("etoposide", date(2024, 6, 10), "c")
    assert TABLES.inferred_regimens([*given, etoposide], 7)["a"] == {"regimen_ice"}
    assert TABLES.inferred_regimens(given, 7) == {}
    assert TABLES.inferred_regimens([*given, ("etoposide", date(2024, 6, 16), "c")], 7) == {}


BROKEN = {
    "a row without a source": ('source: "', 'origin: "', "unknown key origin|without a source"),
    "an unknown class": (
        "{class: DC13, drug: alemtuzumab",
        "{class: DC99, drug: alemtuzumab",
        "unknown class",
    ),
    "a route that is no route": ("route: intrathecal", "route: spinal", "spinal"),
    "a drug in two exclusive classes": ("drug: clofarabine", "drug: fludarabine", "already belongs to"),
    "a row without a drug": ("drug: pentostatin,", "", "either drug or members_of"),
    "a word for named": (
        "drug: clofarabine, named: true",
        "drug: clofarabine, named: maybe",
        "true or false",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_row_is_refused_with_file_line_and_reason(name: str, tmp_path: Path) -> None:
    old, new, reason = BROKEN[name]
    text = PATH.read_text(encoding="utf-8")
    assert old in text
    at = text.index(old, text.index("  members:"))
    broken = tmp_path / "drug_classes.yaml"
    broken.write_text(text[:at] + new + text[at + len(old) :], encoding="utf-8")
    line = text[:at].count("\n") + 1
    with pytest.raises(DataError, match=reason) as caught:
        read_drug_classes(broken)
    assert caught.value.line == line or "already belongs" in caught.value.reason
    assert str(caught.value).startswith("drug_classes.yaml:")


def test_a_new_drug_is_a_row_and_nothing_else(tmp_path: Path) -> None:
    text = PATH.read_text(encoding="utf-8")
    row = '      - {class: DC12, drug: newlymab, named: false, source: "a trial, 2031"}\n  # A regimen'
    extended = tmp_path / "drug_classes.yaml"
    extended.write_text(text.replace("  # A regimen", row, 1), encoding="utf-8")
    tables = read_drug_classes(extended)
    assert tables.membership(record("newlymab"), "newlymab", Band.STANDARD).classes == {"DC12"}
    assert tables.source("newlymab", "DC12") == "a trial, 2031"
    assert not tables.named("newlymab", "DC12")
