"""Exact names: what is folded, what may follow a drug name, and what never matches."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_mapping.terminology import load
from fhir_mapping.terminology.names import fold

DRUGS = {"drug", "drug_class", "vaccine"}


@pytest.mark.parametrize(
    ("text", "concept"),
    [
        ("tarlatamab", "tarlatamab"),
        ("Tarlatamab", "tarlatamab"),
        ("tarlatamab-dlle", "tarlatamab"),
        ("Imdelltra", "tarlatamab"),
        ("IMDYLLTRA", "tarlatamab"),
        ("tarlatamab-dlle (IMDELLTRA) 1 mg in NaCl 0.9% 250 mL", "tarlatamab"),
        ("tocilizumab (ACTEMRA) 576 mg in sodium chloride 0.9 % 100 mL IVPB", "tocilizumab"),
        ("fludarabine (FLUDARA) 46 mg in NS 100 mL chemo infusion", "fludarabine"),
        ("norepinephrine (LEVOPHED) 16 mg in D5W 250 mL", "norepinephrine"),
        ("potassium chloride 20 mEq in 0.45% NaCl 1000 mL", "potassium_chloride"),
        ("methylPREDNISolone sodium succinate (Solu-MEDROL) 1,000 mg in NS 100 mL", "methylprednisolone"),
        ("Dexamethasone sod. phosphate 5mg/mL inj", "dexamethasone"),
        ("tisagenlecleucel (KYMRIAH) 0.6-6 x 10exp8 cells IV suspension", "tisagenlecleucel"),
        ("AMG 757", "tarlatamab"),
        ("AMG-757", "tarlatamab"),
        ("AMG757", "tarlatamab"),
        ("Tartalamab", "tarlatamab"),
        ("塔拉妥單抗", "tarlatamab"),
        ("t\u0430rl\u0430tamab", "tarlatamab"),  # Cyrillic a
        ("\u03c4arlata\u043cab", "tarlatamab"),  # Greek tau, Cyrillic em
        ("ｔａｒｌａｔａｍａｂ", "tarlatamab"),
        ("Imdelltra 10 mg", "tarlatamab"),
        ("Imdelltra 1mg powder for injection", "tarlatamab"),
        ("Imdelltra (tarlatamab-dlle)", "tarlatamab"),
        ("1 ML tarlatamab-dlle 10 MG/ML Injection [Imdelltra]", "tarlatamab"),
        ('DEXAMETHASONE INJECTION 4MG/ML "MAKER"', "dexamethasone"),
        ("\u201c甲廠\u201d地塞米松注射液", "dexamethasone"),
        ('"Kymriah" injection', "tisagenlecleucel"),
        ("Actemra (Tocilizumab) 200mg/10mL/vial", "tocilizumab"),
        ("Tocilizumab [Actemra] 80 mg/4 mL inj", "tocilizumab"),
        ("Actemra 安挺樂 200mg", "tocilizumab"),
        ("*(自費)Actemra 200mg", "tocilizumab"),
        ("Inj. Dexamethasone 5mg", "dexamethasone"),
        ("Kymriah", "tisagenlecleucel"),
        ("祈萊亞", "tisagenlecleucel"),
        ("tisa-cel", "tisagenlecleucel"),
        ("tisagenlecleucel 600000000 CELLS Injection [Kymriah]", "tisagenlecleucel"),
        ("axi cel", "axicabtagene_ciloleucel"),
        ("Actemra 20 mg/mL", "tocilizumab"),
        ("Decadron", "dexamethasone"),
        ("Decadron 4毫克注射液", "dexamethasone"),
        ("dexamethasone sodium phosphate 5 mg/mL inj", "dexamethasone"),
        ("Solu-Medrol 500mg/vial", "methylprednisolone"),
        ("SOLU MEDROL", "methylprednisolone"),
        ("methylprednisolone sodium succinate", "methylprednisolone"),
        ("Levophed", "norepinephrine"),
        ("noradrenaline bitartrate", "norepinephrine"),
        ("acetaminophen tablet 500 mg", "paracetamol"),
        ("co-trimoxazole", "sulfamethoxazole_trimethoprim"),
        ("TMP/SMX", "sulfamethoxazole_trimethoprim"),
        ("Baktar tab", "sulfamethoxazole_trimethoprim"),
        ("mosunetuzumab-axgb", "mosunetuzumab"),
        ("tenofovir disoproxil fumarate 300 mg", "tenofovir_disoproxil"),
        ("potassium chloride", "potassium_chloride"),
        ("calcium gluconate 10 %", "calcium_gluconate"),
        ("normal saline 0.9% 500 mL", "sodium_chloride"),
        ("Shingrix", "vac_rzv"),
        ("Engerix-B", "vac_hepb"),
        ("Heplisav-B", "vac_hepb_cpg"),
        ("Nuvaxovid", "vac_covid19"),
        ("Arexvy", "vac_rsv_as01"),
        ("Zostavax", "vac_zoster_live"),
        ("FluMist", "vac_influenza_laiv"),
        ("流感疫苗", "vac_influenza_unspecified"),
        ("ondansetron 8 mg IV", "class_5ht3_antagonists"),
    ],
)
def test_drug_or_vaccine_name(text: str, concept: str) -> None:
    assert concept in load().by_name(text)
    assert load().by_name(text, DRUGS)[0] == concept


@pytest.mark.parametrize(
    ("text", "concept"),
    [
        ("ANC", "anc"),
        ("WBC", "wbc"),
        ("PLT", "platelets"),
        ("Hb", "hemoglobin"),
        ("Hgb", "hemoglobin"),
        ("CRP", "crp"),
        ("hs-CRP", "crp"),
        ("SpO2", "spo2"),
        ("SPO2", "spo2"),
        ("BT", "body_temperature"),
        ("體溫", "body_temperature"),
        ("白血球", "wbc"),
        ("GPT (ALT)", "alt"),
        ("S-GPT", "alt"),
        ("GOT", "ast"),
        ("T-Bil", "bilirubin_total"),
        ("Bilirubin, Total", "bilirubin_total"),
        ("γ-GT", "ggt"),
        ("Ｃ反應蛋白", "crp"),
        ("Ｃ反應性蛋白試驗－免疫比濁法", "crp"),
        ("IL-6", "il6"),
        ("il 6", "il6"),
        ("HBsAg", "hbsag"),
        ("Anti-HBc", "anti_hbc"),
        ("G6PD", "g6pd"),
        ("LVEF", "lvef"),
        ("ECOG", "ecog"),
        ("CD4 count", "cd4_abs"),
        ("D-dimer", "d_dimer_unspecified"),
        ("血小板計數", "platelets"),
        ("PT-INR", "inr"),
        ("aPTT", "aptt"),
    ],
)
def test_laboratory_and_vital_names(text: str, concept: str) -> None:
    assert load().by_name(text, {"lab", "vital", "score"}) == (concept,)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "no CRS",
        "r/o sepsis",
        "history of CRS",
        "not tarlatamab",
        "tarlatamab or placebo",
        "ondansetron 8 mg and dexamethasone 10 mg in NS 50 mL",
        "no dexamethasone in NS",
        "10 mg",
        "tablet",
        "Imdelltrax",
        "xImdelltra",
        "tarlatamab trial arm B",
        "injection",
        "mg",
        "注射液",
        "()",
        "allergy to dexamethasone",
        "allopurinol 300 MG Oral Tablet [Keppra]",
        "Decadron (prednisolone)",
        "sodium",
        "tarlatamab " * 20,
    ],
)
def test_never_a_substring(text: str) -> None:
    found = load().by_name(text, DRUGS | {"condition"})
    assert found == ()


def test_kinds_narrow_an_ambiguous_name() -> None:
    assert set(load().by_name("ICE")) == {"ice_score", "regimen_ice"}
    assert load().by_name("ICE", {"regimen"}) == ("regimen_ice",)
    assert load().by_name("ICE", {"score"}) == ("ice_score",)
    assert load().by_name("Platelets", {"lab"}) == ("platelets",)
    assert load().by_name("Platelets", set()) == ()


def test_name_brings_the_classes_of_the_drug() -> None:
    assert load().by_name("Prograf") == (
        "tacrolimus",
        "class_calcineurin_inhibitors",
        "class_immunosuppressants",
    )
    assert load().by_name("Truvada") == (
        "emtricitabine",
        "tenofovir_disoproxil",
        "class_hbv_antivirals",
        "class_hiv_antiretrovirals",
        "class_antivirals",
    )


def test_salt_is_dropped_for_drugs_only() -> None:
    assert load().by_name("potassium phosphate") == ()
    assert load().by_name("potassium", {"lab"}) == ("potassium",)


@pytest.mark.parametrize(
    "concept", [c for c in load().concepts() if c.kind not in ("purpose", "route")], ids=lambda c: c.id
)
def test_display_and_id_are_names(concept: object) -> None:
    terminology, known = load(), load().concept(concept.id)  # type: ignore[attr-defined]
    for name in (known.display_en, known.display_zh_tw, known.id, known.display_en.upper()):
        assert known.id in terminology.by_name(name), name


@given(st.text(max_size=150))
def test_any_text_answers(text: str) -> None:
    assert all(concept in load() for concept in load().by_name(text))


@given(st.text("aAbB\u0430\u03b1 -_\u2013\uff21\u4e2d1.", max_size=40))
def test_folding_twice_changes_nothing(text: str) -> None:
    assert fold(fold(text)) == fold(text)
