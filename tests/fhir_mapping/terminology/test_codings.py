"""Coding -> concepts: one line per rule of reading, and the traps that were found in real lists."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_mapping.terminology import Code, TableError, Terminology, load
from fhir_mapping.terminology.tables import DATA

LN, SCT, RX = "http://loinc.org", "http://snomed.info/sct", "http://www.nlm.nih.gov/research/umls/rxnorm"
ATC, CVX, ICD = "http://www.whocc.no/atc", "http://hl7.org/fhir/sid/cvx", "http://hl7.org/fhir/sid/icd-10-cm"
OWN = "urn:tcell-cds:concept"
TW = "https://twcore.mohw.gov.tw/ig/twcore/CodeSystem/"


@pytest.mark.parametrize(
    ("system", "code", "expected"),
    [
        # one code, one concept
        (LN, "6690-2", "wbc"),
        (LN, " 6690-2 ", "wbc"),
        (SCT, "127788007", "leukapheresis"),
        (ATC, "C01CA03", "norepinephrine class_adrenergic_vasopressors"),
        (ATC, "c01ca03", "norepinephrine class_adrenergic_vasopressors"),
        # classes: ATC prefixes, narrowest first
        (ATC, "L04AD02", "tacrolimus class_calcineurin_inhibitors class_immunosuppressants"),
        (ATC, "L04AD03", "class_calcineurin_inhibitors class_immunosuppressants"),
        (ATC, "L04AD", "class_calcineurin_inhibitors class_immunosuppressants"),
        (ATC, "L01XA01", "cisplatin class_platinum class_antineoplastics"),
        (ATC, "L01FX33", "tarlatamab class_other_mab class_antineoplastics"),
        (ATC, "H02AB02", "dexamethasone class_glucocorticoids class_glucocorticoids_plain"),
        (ATC, "A04AA01", "class_5ht3_antagonists"),
        (ATC, "B02BX04", "romiplostim class_thrombopoietic"),
        (
            ATC,
            "J05AR03",
            "tenofovir_disoproxil emtricitabine class_hbv_antivirals class_hiv_antiretrovirals "
            "class_antivirals",
        ),
        # a drug belongs to its classes whatever system names it
        (RX, "3264", "dexamethasone class_glucocorticoids class_glucocorticoids_plain"),
        (OWN, "dexamethasone", "dexamethasone class_glucocorticoids class_glucocorticoids_plain"),
        # local steroids are no systemic steroid class
        (ATC, "D07AA02", ""),
        (ATC, "R03BA02", "budesonide"),
        (ATC, "S01BA01", ""),
        # vasopressin and angiotensin II are not C01CA; dobutamine is
        (ATC, "H01BA01", "vasopressin"),
        (ATC, "C01CX09", "angiotensin_ii"),
        # old and new ATC places
        (ATC, "L01XX71", "tisagenlecleucel class_cell_gene_therapy class_antineoplastics"),
        (ATC, "L01XL04", "tisagenlecleucel class_cell_gene_therapy class_antineoplastics"),
        (ATC, "D11AH01", "tacrolimus_topical"),
        # combinations: every ingredient counts
        (ATC, "J01EE01", "sulfamethoxazole_trimethoprim sulfamethoxazole trimethoprim class_antibacterials"),
        # ICD-10-CM: listed code and longer children, with and without dot
        (ICD, "C83.3", "dlbcl"),
        (ICD, "C83.39", "dlbcl"),
        (ICD, "C8339", "dlbcl"),
        (ICD, "c83.39", "dlbcl"),
        (ICD, "C83.390", "primary_cns_lymphoma"),
        (ICD, "C83.398", "dlbcl"),
        (ICD, "D89.833", "crs"),
        (ICD, "G92.04", "icans"),
        (ICD, "I48.91", "arrhythmia"),
        (ICD, "O80", "pregnancy"),
        (ICD, "O26.891", "pregnancy"),
        (ICD, "Z92.850", "hx_car_t"),
        (ICD, "C83", ""),
        (ICD, "C8", ""),
        (ICD, "", ""),
        # C91.0x states no lineage
        (ICD, "C91.0", "all_lineage_unspecified"),
        (ICD, "C91.00", "all_lineage_unspecified"),
        (ICD, "C91.02", "all_lineage_unspecified"),
        (SCT, "277571004", "b_all"),
        # C34 states no histology
        (ICD, "C34.90", "lung_cancer_any"),
        (SCT, "254632001", "sclc"),
        # CVX with and without leading zero
        (CVX, "03", "vac_mmr class_vaccines"),
        (CVX, "3", "vac_mmr class_vaccines"),
        (CVX, "8", "vac_hepb class_vaccines"),
        (CVX, "515", "vac_covid19 class_vaccines"),
        (CVX, "503", "vac_covid19_live class_vaccines"),
        (CVX, "169", "vac_hepa_live class_vaccines"),
        # Japanese encephalitis: 129 may be the live vaccine
        (CVX, "129", "vac_je_unspecified class_vaccines"),
        (CVX, "134", "vac_je_inactivated class_vaccines"),
        (ATC, "J07BA03", "vac_je_live class_vaccines"),
        (ATC, "J07AN01", "vac_bcg class_vaccines"),
        (ATC, "L03AX03", "bcg_intravesical"),
        (ATC, "J07ZZ99", "class_vaccines"),
        # products of another vaccine class than their general concept
        (CVX, "303", "vac_rsv_adjuvanted vac_rsv_as01 vac_rsv class_vaccines"),
        (CVX, "305", "vac_rsv class_vaccines"),
        (CVX, "189", "vac_hepb_adjuvanted vac_hepb_cpg vac_hepb class_vaccines"),
        (CVX, "118", "vac_hpv_as04 vac_hpv class_vaccines"),
        (CVX, "168", "vac_influenza_adjuvanted vac_influenza_inactivated class_vaccines"),
        (CVX, "206", "vac_mpox_mva vac_mpox_nonreplicating class_vaccines"),
        (CVX, "93", "vac_rsv_mab"),
        # immunoglobulins are no vaccines
        (CVX, "87", "ivig class_immunoglobulins"),
        (CVX, "30", "hyperimmune_globulin class_immunoglobulins"),
        (CVX, "86", "class_immunoglobulins"),
        # Fraction of inspired oxygen: the code of real charts, not its misprint
        (LN, "3150-0", "fio2"),
        # shared on purpose
        (LN, "2708-6", "sao2 spo2"),
        (LN, "59408-5", "spo2"),
        (RX, "42316", "tacrolimus tacrolimus_topical class_calcineurin_inhibitors class_immunosuppressants"),
        (RX, "1011", "atg_equine atg_rabbit class_immunosuppressants"),
        (SCT, "77386006", "pregnancy pregnancy_status"),
        # denominator not stated
        (LN, "8117-4", "cd19_pct"),
        # positive pressure in a nasal cannula's clothing
        (SCT, "425826004", "dev_bipap"),
        (SCT, "467645007", "dev_cpap"),
        (SCT, "336623009", "dev_nasal_cannula"),
        (SCT, "426854004", "dev_hfnc"),
        # autologous, though a public list says allogeneic
        (SCT, "58776007", "auto_hct"),
        (SCT, "20720000", "plasmapheresis"),
        # own codes: kebab or snake of any concept id
        (OWN, "ice-score", "ice_score"),
        (OWN, "ice_score", "ice_score"),
        (OWN, "hbv-dna", "hbv_dna"),
        (OWN, "hbv_dna", "hbv_dna"),
        (OWN, "dev-nasal-cannula", "dev_nasal_cannula"),
        (OWN, "class-hcv-antivirals", "class_hcv_antivirals class_antivirals"),
        (OWN, "vac-hepb-as04", "vac_hepb_as04 vac_hepb class_vaccines"),
        (OWN, "purpose-lymphodepletion", "purpose_lymphodepletion"),
        (OWN, "no-such-concept", ""),
        # Taiwan
        (TW + "icd-10-cm-2023-tw", "C83.39", "dlbcl"),
        (TW + "icd-10-cm-2014-tw", "C83.39", "dlbcl"),
        (TW + "loinc-tw", "6690-2", "wbc"),
        (TW + "medcation-atc-tw", "L01AA09", "bendamustine class_antineoplastics"),
        (TW + "medical-service-payment-tw", "09002C", "bun"),
        (TW + "medical-service-payment-tw", "09002c", "bun"),
        (
            TW + "medication-nhi-tw",
            "KC01176297",
            "tisagenlecleucel class_cell_gene_therapy class_antineoplastics",
        ),
        (
            "https://nhicore.nhi.gov.tw/pas/CodeSystem/nhi-medication",
            "K000907219",
            "tocilizumab class_interleukin_inhibitors class_immunosuppressants",
        ),
        (TW + "icd-10-pcs-2023-tw", "DB020ZZ", "radiotherapy_lung"),
        ("http://www.cms.gov/Medicare/Coding/ICD10", "009U3ZX", "lumbar_puncture"),
        # spellings of a system
        ("urn:oid:2.16.840.1.113883.6.1", "6690-2", "wbc"),
        ("urn:oid:2.16.840.1.113883.6.96", "127788007", "leukapheresis"),
        (
            "urn:oid:2.16.840.1.113883.6.88",
            "3264",
            "dexamethasone class_glucocorticoids class_glucocorticoids_plain",
        ),
        ("URN:OID:2.16.840.1.113883.6.90", "C83.39", "dlbcl"),
        (" http://loinc.org/ ", "6690-2", "wbc"),
        ("https://loinc.org", "6690-2", "wbc"),
        ("http://loinc.org|2.77", "6690-2", "wbc"),
        # headings, as older editions and short lists write them
        ("http://hl7.org/fhir/sid/icd-10-cm", "A04.7", "c_difficile"),
        ("http://hl7.org/fhir/sid/icd-10-cm", "T78.2", "anaphylaxis"),
        ("http://hl7.org/fhir/sid/icd-10-cm", "C79.3", "cns_metastasis"),
        ("http://hl7.org/fhir/sid/icd-10-cm", "R57", "shock"),
        # unknown
        ("", "6690-2", ""),
        ("http://example.org", "6690-2", ""),
        (SCT, "6690-2", ""),
        (LN, "99999-9", ""),
    ],
)
def test_coding(system: str, code: str, expected: str) -> None:
    assert load().concepts_for(system, code) == tuple(expected.split())
    assert load().concepts_for(system, code) == tuple(expected.split())  # and from the cache


@pytest.mark.parametrize(
    ("system", "code", "expected"),
    [
        (LN, "89245-5", "lansky"),
        (LN, "3150-6", "fio2"),
        (TW + "medical-service-payment-tw", "12184C", "cmv_pcr ebv_pcr hbv_dna"),
        (TW + "medical-service-payment-tw", "12193C", "nt_probnp"),
        (TW + "medical-service-payment-tw", "06505C", "hcg_urine"),
        (SCT, "277575008", "t_all"),
        (LN, "6690-2", ""),
        (OWN, "ice-score", ""),
        ("http://example.org", "x", ""),
    ],
)
def test_unverified_code_is_kept_apart(system: str, code: str, expected: str) -> None:
    assert set(load().unverified_for(system, code)) == set(expected.split())
    if expected:
        assert load().concepts_for(system, code) == ()
    assert load().unverified_for(system, code) == load().unverified_for(system, code)


@pytest.mark.parametrize(
    ("concept", "first"),
    [
        ("dexamethasone", Code(ATC, "H02AB02")),
        ("tarlatamab", Code(ATC, "L01FX33")),
        ("vac_mmr", Code(CVX, "03")),
        ("vac_rzv", Code(CVX, "187")),
        ("wbc", Code(LN, "6690-2")),
        ("dlbcl", Code(ICD, "C83.3")),
        ("leukapheresis", Code(SCT, "127788007")),
        ("route_intravenous", Code(SCT, "47625008")),
        ("class_glucocorticoids", Code(ATC, "H02AB")),
    ],
)
def test_preferred_code_comes_first(concept: str, first: Code) -> None:
    assert load().codes(concept)[0] == first


def test_codes_hold_verified_rows_only() -> None:
    assert load().codes("lansky") == (Code("http://ncicb.nci.nih.gov/xml/owl/EVS/Thesaurus.owl", "C38144"),)
    assert load().unverified_codes("lansky") == (Code(LN, "89245-5"),)
    assert load().codes("ice_score") == ()


def test_every_verified_code_finds_its_concept() -> None:
    terminology = load()
    for concept in terminology.concepts():
        for system, code in terminology.codes(concept.id):
            assert concept.id in terminology.concepts_for(system, code), (concept.id, system, code)


def test_every_concept_is_found_by_its_own_code() -> None:
    terminology = load()
    for concept in terminology.concepts():
        assert terminology.concepts_for(OWN, concept.id.replace("_", "-"))[:1] == (concept.id,) or (
            concept.id in terminology.concepts_for(OWN, concept.id)
        )


@pytest.mark.parametrize("of", ["concept", "codes", "unverified_codes", "broader", "classes", "members"])
def test_unknown_concept_is_a_key_error(of: str) -> None:
    with pytest.raises(KeyError):
        getattr(load(), of)("no_such_concept")
    with pytest.raises(KeyError):
        load().display("no_such_concept", "en")


def test_classes_and_members_are_two_views_of_one_thing() -> None:
    terminology = load()
    assert terminology.classes("methotrexate") == {"class_antineoplastics", "class_immunosuppressants"}
    assert terminology.classes("tacrolimus_topical") == frozenset()
    assert terminology.classes("tenofovir_disoproxil") == {"class_hbv_antivirals", "class_antivirals"}
    assert terminology.classes("tbo_filgrastim") == {"class_csf"}
    assert "class_vaccines" not in terminology.classes("vac_rsv_mab")
    assert {"norepinephrine", "dobutamine"} <= terminology.members("class_adrenergic_vasopressors")
    assert "vasopressin" not in terminology.members("class_adrenergic_vasopressors")
    assert "relmacabtagene_autoleucel" in terminology.members("class_cell_gene_therapy")
    assert terminology.members("dexamethasone") == frozenset()
    for drug_class in terminology.concepts("drug_class"):
        for drug in terminology.members(drug_class.id):
            assert drug_class.id in terminology.classes(drug)


def test_broader_words_are_no_contradiction() -> None:
    terminology = load()
    assert terminology.broader("b_all") == {"all_lineage_unspecified"}
    assert "leukapheresis" in terminology.broader("plasmapheresis")
    assert "leukapheresis" not in terminology.broader("auto_hct")
    assert {"vac_rsv", "class_vaccines"} <= terminology.broader("vac_rsv_as01")
    assert terminology.broader("wbc") == frozenset()


def test_display_in_both_languages() -> None:
    terminology = load()
    assert terminology.display("platelets", "en") == "Platelet count"
    for tag in ("zh_TW", "zh-TW", "zh-Hant", "zh"):
        assert terminology.display("platelets", tag) == "血小板計數"


def test_concepts_of_a_kind() -> None:
    assert {c.kind for c in load().concepts("vaccine")} == {"vaccine"}
    assert "vac_mmr" in load()
    assert "no_such_concept" not in load()


def test_without_snomed_the_rest_still_loads(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "data"
    shutil.copytree(DATA, folder)
    (folder / "codes-snomed.csv").unlink()
    with caplog.at_level(logging.WARNING):
        terminology = Terminology(folder=folder)
    assert "codes-snomed.csv" in caplog.text
    assert terminology.concepts_for(SCT, "127788007") == ()
    assert terminology.concepts_for(LN, "6690-2") == ("wbc",)
    assert terminology.concepts_for(OWN, "leukapheresis") == ("leukapheresis",)
    assert terminology.version != load().version


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("codes.csv", "no_such,http://loinc.org,1-8,x,yes,y\n", "unknown concept no_such"),
        ("codes.csv", "wbc,http://loinc.org\n", "2 cells"),
        ("concepts.csv", "wbc,lab,x,x,,,\n", "wbc twice"),
        ("broader.csv", "wbc,no_such,no,\n", "unknown concept no_such"),
        ("combinations.csv", "http://www.whocc.no/atc,X01,no_such,x,y\n", "unknown concept no_such"),
    ],
)
def test_broken_table_is_refused_with_its_line(tmp_path: Path, name: str, line: str, message: str) -> None:
    folder = tmp_path / "data"
    shutil.copytree(DATA, folder)
    count = len((folder / name).read_text(encoding="utf-8").splitlines())
    with (folder / name).open("a", encoding="utf-8") as stream:
        stream.write(line)
    with pytest.raises(TableError, match=message) as error:
        Terminology(folder=folder)
    assert error.value.line == count + 1


def test_version_is_stable() -> None:
    assert len(load().version) == 64
    assert Terminology().version == load().version


def test_loading_happens_once() -> None:
    assert load() is load()


@given(
    st.sampled_from([LN, SCT, RX, ATC, CVX, ICD, OWN, "", "x"]) | st.text(max_size=30), st.text(max_size=30)
)
def test_any_coding_answers(system: str, code: str) -> None:
    for found in (load().concepts_for(system, code), load().unverified_for(system, code)):
        assert all(concept in load() for concept in found)
