"""The tables themselves: complete, consistent, and without what we may not ship."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from fhir_mapping.terminology import content, load
from fhir_mapping.terminology.tables import DATA
from fhir_mapping.terminology.vocabulary import COLUMNS as VOCABULARY_COLUMNS
from fhir_mapping.units import canonical

FILES = {
    "concepts.csv": content.CONCEPTS,
    "codes.csv": content.CODES,
    "codes-snomed.csv": content.SNOMED_CODES,
    "combinations.csv": content.COMBINATIONS,
    "broader.csv": content.BROADER,
    "systems.csv": content.SYSTEMS,
    "facts.csv": content.FACTS,
    "aliases.csv": content.ALIASES,
    "vocabularies.csv": VOCABULARY_COLUMNS,
}
KINDS = set(
    "allergen answer blood_product component condition device drug drug_class lab observation order "
    "procedure purpose regimen route score specimen test vaccine vital".split()
)
SNOMED = "http://snomed.info/sct"


def table(name: str) -> list[dict[str, str]]:
    with (DATA / name).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_folder_holds_exactly_the_known_tables() -> None:
    assert {path.name for path in DATA.glob("*.csv")} == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_rows_are_whole_unique_and_tidy(name: str) -> None:
    found = table(name)
    assert tuple(found[0]) == FILES[name]
    assert len({tuple(row.values()) for row in found}) == len(found)
    for row in found:
        for cell in row.values():
            assert cell == cell.strip()
            assert "\n" not in cell
    if "source" in FILES[name]:
        assert all(row["source"] for row in found)


@pytest.mark.parametrize(
    "name", ["concepts.csv", "codes.csv", "codes-snomed.csv", "aliases.csv", "broader.csv"]
)
def test_rows_are_sorted_for_review(name: str) -> None:
    ids = [row["concept_id"] for row in table(name)]
    assert ids == sorted(ids)


def test_concepts_are_complete() -> None:
    concepts = load().concepts()
    assert len(concepts) > 1000
    for concept in concepts:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", concept.id)
        assert concept.kind in KINDS
        assert concept.display_en
        assert concept.display_zh_tw
        assert not concept.preferred_unit or canonical(concept.preferred_unit) == concept.preferred_unit


def test_allowed_answers_exist() -> None:
    terminology = load()
    for concept in terminology.concepts():
        for word in concept.allowed:
            if word.startswith("kind:"):
                assert word[5:] in KINDS
            elif not re.fullmatch(r"-?\d+(-|\.\.)(\d+|n)|any|crs|icans|iec_hs", word):
                assert word in terminology, (concept.id, word)


def test_displays_carry_no_notes_for_programmers() -> None:
    for concept in load().concepts():
        assert not re.search(r"ICD|LOINC|SNOMED|do not use|exclusion", concept.display_en), concept.id


def test_clinical_terms_are_spelled_one_way() -> None:
    for concept in load().concepts():
        assert not re.search(r"aemi|oedema|tumour|leukaem|Haem", concept.display_en), concept.id


def test_no_snomed_content_beside_the_removable_file() -> None:
    for name in set(FILES) - {"codes-snomed.csv", "systems.csv"}:
        assert SNOMED not in (DATA / name).read_text(encoding="utf-8"), name
    assert "display" not in FILES["codes-snomed.csv"]
    for row in table("codes-snomed.csv"):
        assert re.fullmatch(r"\d{6,18}", row["code"])
        assert _verhoeff(row["code"]), row["code"]


def _verhoeff(number: str) -> bool:
    """Check digit of a SNOMED CT identifier."""
    d = [[(i + j) % 5 if i < 5 and j < 5 else 0 for j in range(10)] for i in range(10)]
    for i in range(10):
        for j in range(10):
            a, b = i % 5, j % 5
            if i < 5 <= j:
                d[i][j] = (a + b) % 5 + 5
            elif j < 5 <= i:
                d[i][j] = (a - b) % 5 + 5
            elif i >= 5 and j >= 5:
                d[i][j] = (a - b) % 5
    p = [list(range(10)), [1, 5, 7, 6, 2, 8, 3, 0, 9, 4]]
    for _ in range(6):
        p.append([p[-1][digit] for digit in p[1]])
    check = 0
    for place, digit in enumerate(reversed(number)):
        check = d[check][p[place % 8][int(digit)]]
    return check == 0


def test_loinc_check_digits() -> None:
    for row in table("codes.csv"):
        if (
            row["system"] == "http://loinc.org"
            and row["verified"] == "yes"
            and not row["code"].startswith("LA")
        ):
            body, check = row["code"].split("-")
            total = sum(
                sum(map(int, str(int(digit) * 2))) if place % 2 == 0 else int(digit)
                for place, digit in enumerate(reversed(body))
            )
            assert (10 - total % 10) % 10 == int(check), row["code"]


@pytest.mark.parametrize(
    ("system", "shape"),
    [
        ("http://www.whocc.no/atc", r"[A-Z]\d\d([A-Z]([A-Z](\d\d)?)?)?"),
        ("http://hl7.org/fhir/sid/icd-10-cm", r"[A-Z]\d[0-9A-Z](\.[0-9A-Z]{1,4})?"),
        ("http://hl7.org/fhir/sid/cvx", r"\d{2,3}"),
        ("http://www.nlm.nih.gov/research/umls/rxnorm", r"\d+"),
    ],
)
def test_shape_of_codes(system: str, shape: str) -> None:
    codes = [row["code"] for row in table("codes.csv") if row["system"] == system]
    assert len(codes) > 100
    assert [code for code in codes if not re.fullmatch(shape, code)] == []


def test_verified_is_yes_or_no() -> None:
    for name in ("codes.csv", "codes-snomed.csv"):
        assert {row["verified"] for row in table(name)} == {"yes", "no"}


def test_sources_name_no_machine_and_no_host_of_packages() -> None:
    for path in DATA.glob("*.csv"):
        assert not re.search(
            r"/work/|/tmp/|pypi\.org|files\.pythonhosted", path.read_text(encoding="utf-8")
        ), path.name


def test_codes_shared_on_purpose_only() -> None:
    owners: dict[tuple[str, str], set[str]] = {}
    for row in table("codes.csv"):
        if row["verified"] == "yes":
            owners.setdefault((row["system"], row["code"]), set()).add(row["concept_id"])
    for row in table("codes-snomed.csv"):
        if row["verified"] == "yes":
            owners.setdefault((SNOMED, row["code"]), set()).add(row["concept_id"])
    shared = {frozenset(found) for found in owners.values() if len(found) > 1}
    assert shared == {
        frozenset(pair)
        for pair in (
            ("spo2", "sao2"),
            ("ruxolitinib", "ruxolitinib_topical"),
            ("tacrolimus", "tacrolimus_topical"),
            ("atg_rabbit", "atg_equine"),
            ("pregnancy", "pregnancy_status"),
            ("not_pregnant", "pregnancy_status"),
            ("ivig", "subcutaneous_immunoglobulin"),
            ("vac_rsv_as01", "vac_rsv_adjuvanted"),
            ("vac_hepb_cpg", "vac_hepb_adjuvanted"),
            ("vac_mpox_mva", "vac_mpox_nonreplicating"),
            ("vac_influenza_adjuvanted", "vac_influenza_inactivated"),
            ("vac_influenza_unspecified", "vac_influenza_inactivated"),
            ("vac_covid19", "vac_influenza_inactivated"),  # J07BB55, the combined vaccine
        )
    }


def test_facts_are_all_there() -> None:
    counts: dict[str, int] = {}
    for fact in load().facts:
        counts[fact.id[0]] = counts.get(fact.id[0], 0) + 1
        assert fact.title_en
        assert fact.title_zh_tw
        for concept in fact.concepts:
            assert concept in load(), (fact.id, concept)
        assert fact.resource_types or "Service setting" in fact.note, fact.id
    assert counts == {
        "P": 5,
        "L": 23,
        "V": 10,
        "O": 14,
        "S": 17,
        "T": 22,
        "D": 16,
        "C": 16,
        "A": 2,
        "R": 4,
        "M": 26,
        "K": 14,
        "X": 13,
        "Q": 16,
        "I": 5,
        "B": 7,
        "E": 7,
    }


def test_fact_of_a_row() -> None:
    fact = load().fact("L2")
    assert (fact.concepts, fact.resource_types) == (
        ("anc", "neutrophil_pct", "wbc"),
        ("Observation", "ServiceRequest"),
    )
    with pytest.raises(KeyError):
        load().fact("Z9")


def test_data_folder_is_inside_the_package() -> None:
    assert Path(content.__file__).parent / "data" == DATA
