# ruff: noqa: E501 - one fact, one line
"""Disease, other conditions, allergy, reproduction (chart-facts sections 9-10)."""

from __future__ import annotations

from datetime import date

from fhir_mapping.chart import ConditionState, Flag, Result
from tests.fhir_mapping.read.charts import (
    ICD,
    LOINC,
    SNOMED,
    SUBJECT,
    allergy,
    cc,
    condition,
    local,
    obs,
    only,
    order,
    procedure,
    report,
    specimen,
    statement,
)
from tests.fhir_mapping.read.row import row
from tests.fhir_mapping.read.rows_bedside import ACTIVE, code, count, state_of, yes
from tests.fhir_mapping.read.rows_labs import D, number, result


def concepts(chart):  # type: ignore[no-untyped-def]
    return chart.conditions.all[0].concepts


def histology(coding: str) -> dict[str, object]:
    url = "http://hl7.org/fhir/us/mcode/StructureDefinition/mcode-histology-morphology-behavior"
    return {"url": url, "valueCodeableConcept": cc(coding)}


PLAIN = [
    "heart_failure", "gvhd", "esrd", "aki", "adrenal_insufficiency", "developmental_delay",
    "severe_hepatic_impairment", "asthma", "methemoglobinemia", "hypogammaglobulinemia", "dehydration",
    "metabolic_acidosis", "hyperkalemia", "oxygen_dependence", "severe_lung_disease", "mri_contraindicated",
    "preexisting_neurologic_disease",
]  # fmt: skip
ROW_OF = {
    "heart_failure": "C1", "gvhd": "C5", "esrd": "C6", "aki": "C6", "adrenal_insufficiency": "C8",
    "developmental_delay": "C9", "severe_hepatic_impairment": "C7", "asthma": "C11", "methemoglobinemia": "C12",
    "hypogammaglobulinemia": "C13", "dehydration": "C14", "metabolic_acidosis": "C14", "hyperkalemia": "C14",
    "oxygen_dependence": "C4", "severe_lung_disease": "C4", "mri_contraindicated": "C15",
    "preexisting_neurologic_disease": "C10",
}  # fmt: skip

ROWS = [
    *(row(ROW_OF[c], f"{c} active", condition(c), read=state_of(c), expect=ACTIVE) for c in PLAIN),
    row("D1", "lymphoma by ICD-10 with a longer code", condition(f"{ICD}|C83.398"), read=state_of("dlbcl"), expect=ACTIVE),
    row("D1", "C91.0x alone has no lineage", condition(f"{ICD}|C91.00"), read=lambda c: (state_of("b_all")(c), state_of("all_lineage_unspecified")(c)), expect=([], ACTIVE)),
    row("D1", "C91.0x with SNOMED B-ALL", condition(cc(f"{ICD}|C91.00", f"{SNOMED}|277571004")), read=lambda c: (state_of("b_all")(c), state_of("all_lineage_unspecified")(c)), expect=(ACTIVE, [])),
    row("D1", "C91.0x with a text that says B", condition(cc(f"{ICD}|C91.00", text="Precursor B-cell ALL")), read=state_of("b_all"), expect=ACTIVE),
    row("D1", "C91.0x with a text that says T", condition(cc(f"{ICD}|C91.00", text="T-ALL")), read=state_of("t_all"), expect=ACTIVE),
    row("D1", "C91.0x with a B-cell antigen on the disease", condition(f"{ICD}|C91.00"), obs("cd19_expression", "cc:positive"), read=state_of("b_all"), expect=ACTIVE),
    row("D1", "C34 with the histology", condition(cc(f"{ICD}|C34.11", f"{SNOMED}|254632001")), read=lambda c: (state_of("sclc")(c), state_of("lung_cancer_any")(c)), expect=(ACTIVE, ACTIVE)),
    row("D1", "C34 alone is no small cell cancer", condition(f"{ICD}|C34.11"), read=lambda c: (state_of("sclc")(c), state_of("lung_cancer_any")(c)), expect=([], ACTIVE)),
    row("D1", "C34 with the histology extension", condition(f"{ICD}|C34.11", extension=[histology("http://terminology.hl7.org/CodeSystem/icd-o-3|8041/3")]), read=state_of("sclc"), expect=ACTIVE),
    row("D1", "histology extension of the code", condition({**cc(f"{ICD}|C34.11"), "extension": [histology(f"{SNOMED}|74364000")]}), read=state_of("sclc"), expect=ACTIVE),
    row("D1", "histology of another tumour", condition(f"{ICD}|C34.11", extension=[histology("http://terminology.hl7.org/CodeSystem/icd-o-3|8140/3")]), read=state_of("sclc"), expect=[]),
    row("D1", "remission is history", condition("dlbcl", clinical="remission"), read=state_of("dlbcl"), expect=[ConditionState.HISTORY]),
    row("D1", "two diseases in one code are contradictory", condition(cc("dlbcl", "multiple_myeloma")), read=lambda c: (len(c.conditions), [x.reason.value for x in c.losses]), expect=(0, ["contradictory"])),
    row("D2", "relapse keeps its clinical status", condition("dlbcl", clinical="relapse"), read=lambda c: (c.conditions.all[0].state, c.conditions.all[0].clinical_status), expect=(ConditionState.ACTIVE, "relapse")),
    row("D2", "number of relapses", obs("relapse_number", 2), read=count("relapse_number"), expect=2),
    row("D3", "prior lines", obs("prior_lines_of_therapy", 3), read=count("prior_lines_of_therapy"), expect=3),
    row("D4", "refractory to a regimen", obs("refractory_to_agent", "cc:regimen_r_eshap"), read=code("refractory_to_agent"), expect=("regimen_r_eshap",)),
    row("D5", "dim antigen with its share", obs("cd19_expression", "cc:dim", parts={"percent_positive": (30, "%")}), read=lambda c: (code("cd19_expression")(c), c.series("cd19_expression").items[0].component("percent_positive").quantity.value), expect=(("dim",), D("30"))),
    row("D6", "CD19+ share of marrow", obs("cd19_marrow_fraction", (60, "%")), read=number("cd19_marrow_fraction"), expect=(D("60"), "%")),
    row("D7", "marrow blasts know their specimen", specimen(local("marrow")), obs("marrow_blasts", (40, "%"), specimen={"reference": "Specimen/s1"}), read=lambda c: (number("marrow_blasts")(c), c.series("marrow_blasts").items[0].specimen.concepts), expect=((D("40"), "%"), frozenset({"marrow"}))),
    row("D8", "burden, bulk, diameter", obs("tumor_burden", "cc:high"), obs("bulky_disease", True), obs("largest_tumor_diameter", (105, "mm")), read=lambda c: (code("tumor_burden")(c), yes("bulky_disease")(c), number("largest_tumor_diameter")(c)), expect=(("high",), True, (D("10.5"), "cm"))),
    row("D9", "own genomic fact", obs("kmt2a_rearrangement", "cc:present"), read=code("kmt2a_rearrangement"), expect=("present",)),
    row("D9", "mCODE variant", obs(f"{LOINC}|69548-6", {"valueCodeableConcept": cc(f"{LOINC}|LA9633-4")}, component=[{"code": cc(f"{LOINC}|48018-6"), "valueCodeableConcept": {"text": "TP53"}}]), read=lambda c: result("tp53_mutation")(c), expect=Result.POSITIVE),
    row("D9", "Philadelphia chromosome in the disease code", condition(f"{SNOMED}|425688002"), read=lambda c: {"b_all", "ph_positive"} <= concepts(c), expect=True),
    row("D10", "response with agent", obs("disease_response", {"valueCodeableConcept": local("complete_response")}, parts={"agent": "cc:blinatumomab"}), read=lambda c: (code("disease_response")(c), "blinatumomab" in c.series("disease_response").items[0].component("agent").codes), expect=(("complete_response",), True)),
    row("D10", "response by the name of the answer", obs("disease_response", {"valueCodeableConcept": {"text": "完全緩解"}}), read=code("disease_response"), expect=("complete_response",)),
    row("D10", "an answer of another question is none", obs("disease_response", "Room air"), read=code("disease_response"), expect=()),
    row("D10", "mCODE status", obs(f"{LOINC}|97509-4", {"valueCodeableConcept": cc(f"{SNOMED}|271299001")}), read=code("disease_response"), expect=("progressive_disease",)),
    row("D10", "MRD as a percentage", obs(local("mrd"), (0.01, "%")), read=number("mrd"), expect=(D("0.01"), "%")),
    row("D11", "CNS involvement", obs("cns_involvement", "cc:past_controlled"), read=code("cns_involvement"), expect=("past_controlled",)),
    row("D11", "lymphoma in the brain", condition("dlbcl", bodySite=[{"text": "Brain"}]), read=state_of("cns_involvement"), expect=ACTIVE),
    row("D12", "extramedullary site", condition(f"{SNOMED}|277571004", bodySite=[{"text": "Testis"}]), read=lambda c: c.conditions.all[0].body_sites, expect=frozenset({"testis"})),
    row("D12", "extranodal site as answer", obs("extranodal_site", {"valueCodeableConcept": cc(f"{SNOMED}|39607008")}), read=code("extranodal_site"), expect=("lung",)),
    row("D13", "renal involvement", obs("renal_involvement", False), read=yes("renal_involvement"), expect=False),
    row("D14", "another cancer", condition(f"{ICD}|C50.911"), read=state_of("second_malignancy"), expect=ACTIVE),
    row("D14", "the treated disease is no second one", condition(f"{ICD}|C83.31"), read=state_of("second_malignancy"), expect=[]),
    row("D14", "the treated disease in another edition of ICD-10", condition("http://hl7.org/fhir/sid/icd-10|C83.3"), read=lambda c: (state_of("dlbcl")(c), state_of("second_malignancy")(c)), expect=(ACTIVE, [])),
    row("D14", "another cancer in another edition of ICD-10", condition("http://fhir.de/CodeSystem/bfarm/icd-10-gm|C50.9"), read=state_of("second_malignancy"), expect=ACTIVE),
    row("D1", "lineage by text in another edition of ICD-10", condition({"coding": [{"system": "http://hl7.org/fhir/sid/icd-10", "code": "C91.0"}], "text": "B-ALL"}), read=state_of("b_all"), expect=ACTIVE),
    row("D14", "skin cancer", condition(f"{ICD}|C44.311"), read=lambda c: (state_of("second_malignancy")(c), state_of("nonmelanoma_skin_cancer")(c)), expect=([], ACTIVE)),
    row("D14", "in situ", condition(f"{ICD}|D05.1"), read=state_of("carcinoma_in_situ"), expect=ACTIVE),
    row("D14", "a metastasis is no second cancer", condition(f"{ICD}|C79.51"), read=state_of("second_malignancy"), expect=[]),
    row("D15", "PET-CT report", report("pet_ct"), read=lambda c: c.documents.of("pet_ct")[0].when.date, expect=date(2025, 4, 15)),
    row("D16", "clinician's factors", obs("baseline_cytopenia", True), read=yes("baseline_cytopenia"), expect=True),
    row("C1", "cardiotoxicity", condition("cardiotoxicity", onsetDateTime="2025-03-01"), read=lambda c: c.conditions.of("cardiotoxicity")[0].onset.date, expect=date(2025, 3, 1)),
    row("C2", "arrhythmia control", condition("arrhythmia"), obs("arrhythmia_control", "cc:controlled", parts={"intervention": "cc:none"}), read=lambda c: (state_of("arrhythmia")(c), code("arrhythmia_control")(c)), expect=(ACTIVE, ("controlled",))),
    row("C3", "LVEF as a fraction", obs("lvef", (0.55, "1")), read=number("lvef"), expect=(D("55.00"), "%")),
    row("C6", "dialysis", procedure("hemodialysis"), read=lambda c: len(c.procedures.of("hemodialysis")), expect=1),
    row("C7", "Gilbert", condition("gilbert"), read=state_of("gilbert"), expect=ACTIVE),
    row("C15", "pacemaker as a device", {"resourceType": "Device", "id": "d", "status": "active", "patient": SUBJECT, "type": local("mri_contraindicated")}, read=lambda c: len(c.documents.of("mri_contraindicated")), expect=1),
    row("C16", "late effect by category", condition({"text": "Depression"}, category=[local("late_effect")]), read=state_of("late_effect"), expect=ACTIVE),
    row("A1", "drug allergy", allergy("rasburicase"), read=lambda c: [(a.active, a.confirmed) for a in c.allergies.of("rasburicase")], expect=[(True, True)]),
    row("A1", "unconfirmed blocks too", allergy("rasburicase", verification="unconfirmed"), read=lambda c: [(a.active, a.confirmed) for a in c.allergies.of("rasburicase")], expect=[(True, False)]),
    row("A1", "resolved blocks nothing", allergy("rasburicase", clinical="resolved"), read=lambda c: (len(c.allergies), c.allergy_to("rasburicase")), expect=(1, ())),
    row("A1", "refuted never counts", allergy("rasburicase", verification="refuted"), read=lambda c: len(c.allergies), expect=0),
    row("A1", "substance of the reaction", allergy({"text": "drug reaction"}, reaction=[{"substance": cc("sulfamethoxazole_trimethoprim"), "manifestation": [{"text": "rash"}]}]), read=lambda c: len(c.allergy_to("sulfamethoxazole_trimethoprim")), expect=1),
    row("A1", "by exact name", allergy({"text": "Tocilizumab"}), read=lambda c: len(c.allergy_to("tocilizumab")), expect=1),
    row("A1", "class", allergy("sulfonamide"), read=lambda c: c.allergies.all[0].concepts, expect=frozenset({"sulfonamide"})),
    row("A1", "no known allergy", allergy(f"{SNOMED}|716186003"), read=lambda c: c.allergies.all[0].concepts, expect=frozenset({"no_known_allergy"})),
    row("A1", "food is ignored", allergy("tocilizumab", category=["food"]), read=lambda c: c.allergy_to("tocilizumab"), expect=()),
    row("A1", "excipient under food", allergy("polysorbate_80", category=["food"]), read=lambda c: len(c.allergy_to("polysorbate_80")), expect=1),
    row("A2", "severe skin reaction", allergy("allopurinol", reaction=[{"manifestation": [local("severe_cutaneous_reaction")]}]), read=lambda c: c.allergies.all[0].severe_skin_reaction, expect=True),
    row("A2", "severe skin reaction by its name", allergy("allopurinol", reaction=[{"manifestation": [{"text": "Stevens-Johnson syndrome"}]}]), read=lambda c: c.allergies.all[0].severe_skin_reaction, expect=True),
    row("A2", "high criticality alone is none", allergy("allopurinol", criticality="high"), read=lambda c: c.allergies.all[0].severe_skin_reaction, expect=False),
    row("R1", "childbearing potential", obs("childbearing_potential", False), read=yes("childbearing_potential"), expect=False),
    row("R2", "hysterectomy", procedure("hysterectomy", at="2010"), read=lambda c: len(c.procedures.of("hysterectomy")), expect=1),
    row("R3", "contraception", obs("contraception", "cc:effective"), read=code("contraception"), expect=("effective",)),
    row("R3", "contraceptive taken", statement("hormonal_contraceptive"), read=lambda c: len(c.active_drugs("hormonal_contraceptive")), expect=1),
    row("R4", "breastfeeding", obs("breastfeeding", True), read=yes("breastfeeding"), expect=True),
    row("T20", "text alone never decides on a condition", condition({"text": "Cytokine release syndrome"}), read=lambda c: [(x.state, Flag.BY_NAME in x.flags) for x in c.conditions.of("crs")], expect=[(ConditionState.SUSPECTED, True)]),
    row("T10", "a phrase is no name", condition({"text": "r/o sepsis"}), read=state_of("sepsis"), expect=[]),
    row("D1", "refuted later", condition("dlbcl", id="a", recordedDate="2025-01-01"), condition("dlbcl", id="b", verification="refuted", recordedDate="2025-02-01"), read=lambda c: [x.state for x in c.conditions.of("dlbcl")], expect=[ConditionState.REFUTED]),
    row("D1", "confirmed later", condition("dlbcl", id="a", recordedDate="2025-03-01"), condition("dlbcl", id="b", verification="refuted", recordedDate="2025-02-01"), read=lambda c: [x.state for x in c.conditions.of("dlbcl")], expect=ACTIVE),
    row("M2", "an order's reason", order("dexamethasone", reasonCode=[cc("crs")]), read=lambda c: c.drugs.all[0].reasons, expect=frozenset({"crs"})),
    row("L22", "persistence by number", obs(local("cart_persistence"), (12, "/uL")), read=lambda c: (only(c, "cart_persistence").result, number("cart_persistence")(c)), expect=(Result.POSITIVE, (D("12"), "/uL"))),
]  # fmt: skip
