# ruff: noqa: E501 - one fact, one line
"""Vital signs, oxygen, scores, toxicities (chart-facts sections 6-8)."""

from __future__ import annotations

from datetime import date

from fhir_mapping.chart import ConditionState, EventState, Flag, Grade, Result
from tests.fhir_mapping.read.charts import (
    ICD,
    LOINC,
    SNOMED,
    SUBJECT,
    cc,
    condition,
    given,
    local,
    obs,
    only,
    procedure,
    report,
    service,
    stay,
)
from tests.fhir_mapping.read.row import row
from tests.fhir_mapping.read.rows_labs import D, number, numbers, result

AT = "2025-04-16T08:00:00+08:00"


def code(concept: str):  # type: ignore[no-untyped-def]
    return lambda chart: only(chart, concept).codes


def yes(concept: str):  # type: ignore[no-untyped-def]
    return lambda chart: only(chart, concept).yes


def count(concept: str):  # type: ignore[no-untyped-def]
    return lambda chart: only(chart, concept).number


def grade_of(concept: str):  # type: ignore[no-untyped-def]
    return lambda chart: chart.conditions.of(concept)[0].grade


def state_of(concept: str):  # type: ignore[no-untyped-def]
    return lambda chart: [c.state for c in chart.conditions.of(concept)]


ACTIVE = [ConditionState.ACTIVE]

ROWS = [
    row("O1", "Fahrenheit keeps the reported unit", obs("body_temperature", (100.4, "[degF]")), read=lambda c: (only(c, "body_temperature").quantity.value, only(c, "body_temperature").quantity.reported.value), expect=(D("38"), D("100.4"))),
    row("O1", "surface temperature is flagged", obs("body_surface_temperature", (38.2, "Cel")), read=lambda c: [(o.value.quantity.value, Flag.SURFACE_TEMPERATURE in o.flags) for o in c.series("body_temperature")], expect=[(D("38.2"), True)]),
    row("O1", "core temperature of the same time wins", obs("body_temperature", (38.6, "Cel")), obs("body_surface_temperature", (37.2, "Cel")), read=numbers("body_temperature"), expect=[D("38.6")]),
    row("O1", "a bare 101 is refused", obs("body_temperature", (101, "")), read=numbers("body_temperature"), expect=[]),
    row("O2", "pressure from a panel", obs("bp_panel", parts={"bp_systolic": (96, "mm[Hg]"), "bp_diastolic": (58, "mm[Hg]")}), read=lambda c: (number("bp_systolic")(c), number("bp_diastolic")(c), len(c.series("bp_mean"))), expect=((D("96"), "mm[Hg]"), (D("58"), "mm[Hg]"), 0)),
    row("O2", "a member that also comes alone counts once", obs("bp_panel", parts={"bp_systolic": (96, "mm[Hg]")}), obs("bp_systolic", (96, "mm[Hg]")), read=numbers("bp_systolic"), expect=[D("96")]),
    row("O3", "hypotension as stated", condition("hypotension", onsetDateTime=AT), read=state_of("hypotension"), expect=ACTIVE),
    row("O4", "heart rate", obs("heart_rate", (120, "{beats}/min")), read=number("heart_rate"), expect=(D("120"), "/min")),
    row("O4", "respiratory rate in 次/分", obs("respiratory_rate", {"valueQuantity": {"value": 24, "unit": "次/分"}}), read=number("respiratory_rate"), expect=(D("24"), "/min")),
    row("O5", "saturation by its own code", obs(f"{LOINC}|59408-5", (91, "%")), read=number("spo2"), expect=(D("91"), "%")),
    row("O5", "shared code at the bedside is the oximeter", obs(f"{LOINC}|2708-6", (91, "%")), read=lambda c: (len(c.series("spo2")), len(c.series("sao2"))), expect=(1, 0)),
    row("O5", "shared code from the laboratory is arterial", obs(f"{LOINC}|2708-6", (91, "%"), category=[{"coding": [{"code": "laboratory"}]}]), read=lambda c: (len(c.series("spo2")), len(c.series("sao2"))), expect=(0, 1)),
    row("O5", "both codes are one saturation", obs(cc(f"{LOINC}|59408-5", f"{LOINC}|2708-6"), (91, "%")), read=lambda c: (len(c.series("spo2")), len(c.series("sao2"))), expect=(1, 0)),
    row("O6", "device by its own Observation", obs("oxygen_device", "cc:dev_hfnc"), read=code("oxygen_device"), expect=("dev_hfnc",)),
    row("O6", "room air in words", obs("oxygen_device", "Room air"), read=code("oxygen_device"), expect=("room_air",)),
    row("O6", "two devices of one time both count", obs("oxygen_device", "cc:dev_nasal_cannula", id="a"), obs("oxygen_device", "cc:dev_simple_mask", id="b"), read=lambda c: sorted(o.value.codes[0] for o in c.series("oxygen_device")), expect=["dev_nasal_cannula", "dev_simple_mask"]),
    row("O6", "device as a component of the flow", obs("o2_flow_rate", (4, "L/min"), parts={"oxygen_device": "cc:dev_nasal_cannula"}), read=lambda c: (code("oxygen_device")(c), c.series("o2_flow_rate").items[0].component("oxygen_device").codes), expect=(("dev_nasal_cannula",), ("dev_nasal_cannula",))),
    row("O6", "device of the flow by reference", obs("o2_flow_rate", (4, "L/min"), device={"reference": "Device/d1"}), {"resourceType": "Device", "id": "d1", "status": "active", "type": cc(f"{SNOMED}|336623009")}, read=lambda c: c.series("o2_flow_rate").items[0].devices, expect=frozenset({"dev_nasal_cannula"})),
    row("O6", "running procedure", procedure("hfnc", status="in-progress"), read=lambda c: [p.state for p in c.procedures.of("hfnc")], expect=[EventState.RUNNING]),
    row("O6", "device used in a procedure", procedure("oxygen_therapy", usedCode=[cc(f"{SNOMED}|336623009")]), read=lambda c: c.procedures.of("oxygen_therapy")[0].used, expect=frozenset({"dev_nasal_cannula"})),
    row("O7", "flow in mL/min", obs("o2_flow_rate", (500, "mL/min")), read=number("o2_flow_rate"), expect=(D("0.5"), "L/min")),
    row("O7", "flow as a component of the saturation", obs("spo2", (93, "%"), parts={"o2_flow_rate": (2, "L/min")}), read=number("o2_flow_rate"), expect=(D("2"), "L/min")),
    row("O8", "FiO2 as a fraction", obs(local("fio2"), (0.4, "1")), read=number("fio2"), expect=(D("40"), "%")),
    row("O8", "PaO2 in kPa", obs("pao2", (10, "kPa")), read=lambda c: round(only(c, "pao2").quantity.value), expect=75),
    row("O9", "home device", condition("dep_cpap", onsetDateTime="2020-01-01"), read=lambda c: c.conditions.of("dep_cpap")[0].onset.date, expect=date(2020, 1, 1)),
    row("O9", "support increased", obs("support_increased", True), read=yes("support_increased"), expect=True),
    row("O10", "intubation for airway protection", procedure("intubation", reasonCode=[cc("purpose_airway_protection")]), read=lambda c: c.procedures.of("intubation")[0].purposes, expect=frozenset({"purpose_airway_protection"})),
    row("O11", "room air", obs("oxygen_device", "cc:room_air"), read=code("oxygen_device"), expect=("room_air",)),
    row("O12", "amount over a period", obs("urine_output", (300, "mL"), at=None, effectivePeriod={"start": "2025-04-16T02:00:00+08:00", "end": AT}), read=lambda c: (c.series("urine_output").items[0].started.earliest.hour, c.series("urine_output").items[0].when.latest.hour), expect=(2, 8)),
    row("O12", "rate per kg keeps its unit", obs("urine_output_rate", (0.4, "mL/kg/h")), read=number("urine_output_rate"), expect=(D("0.4"), "mL/kg/h")),
    row("O12", "a rate under the code of the volume", obs("urine_output", (40, "mL/h")), read=lambda c: (len(c.series("urine_output")), only(c, "urine_output_rate").quantity.value), expect=(0, D("40"))),
    row("O13", "fluid balance", obs("fluid_balance", (1200, "mL")), read=number("fluid_balance"), expect=(D("1200"), "mL")),
    row("O14", "monitoring ordered", service("continuous_monitoring"), read=lambda c: len(c.services.of("continuous_monitoring")), expect=1),
    row("O14", "monitor at the bedside", obs("monitor_ecg", True), read=yes("monitor_ecg"), expect=True),
    # section 7
    row("S1", "ICE total", obs("ice_score", 7), read=count("ice_score"), expect=7),
    row("S1", "ICE total as a quantity", obs("ice_score", (7, "{score}")), read=count("ice_score"), expect=7),
    row("S1", "ICE total with a word behind it", obs("ice_score", {"valueQuantity": {"value": 7, "unit": "points"}}), read=count("ice_score"), expect=7),
    row("S1", "ICE total in points", obs("ice_score", {"valueQuantity": {"value": 7, "unit": "分"}}), read=count("ice_score"), expect=7),
    row("S1", "ICE total in points as text", obs("ice_score", "7 分"), read=count("ice_score"), expect=7),
    row("S1", "not performed is not zero", obs("ice_score", None, dataAbsentReason={"coding": [{"code": "not-performed"}]}), read=lambda c: (only(c, "ice_score").number, only(c, "ice_score").absent_reason), expect=(None, "not-performed")),
    row("S2", "items as components", obs("ice_score", 8, parts={"ice_naming": 3, "ice_writing": True}), read=lambda c: (c.series("ice_score").items[0].component("ice_naming").number, c.series("ice_score").items[0].component("ice_writing").number), expect=(3, 1)),
    row("S2", "items as members", obs("ice_score", 8, hasMember=[{"reference": "Observation/n"}]), obs("ice_naming", 2, id="n"), read=lambda c: c.series("ice_score").items[0].component("ice_naming").number, expect=2),
    row("S2", "own Observation within 30 minutes", obs("ice_score", 8), obs("ice_naming", 2, "2025-04-16T08:29:00+08:00"), read=lambda c: c.series("ice_score").items[0].component("ice_naming").number, expect=2),
    row("S2", "own Observation after 31 minutes stands alone", obs("ice_score", 8), obs("ice_naming", 2, "2025-04-16T08:31:00+08:00"), read=lambda c: [sorted(o.components) for o in c.series("ice_score")], expect=[[], ["ice_naming"]]),
    row("S2", "items without a total are one assessment", obs("ice_naming", 2), obs("ice_command", 1, "2025-04-16T08:10:00+08:00"), read=lambda c: [sorted(o.components) for o in c.series("ice_score")], expect=[["ice_command", "ice_naming"]]),
    row("S3", "not testable", obs("ice_score", None, parts={"ice_not_testable": "cc:unarousable"}), read=lambda c: c.series("ice_score").items[0].component("ice_not_testable").codes, expect=("unarousable",)),
    row("S4", "CAPD total", obs("capd_score", 12), read=count("capd_score"), expect=12),
    row("S5", "CAPD items by word and by points", obs("capd_score", None, parts={"capd_restless": "cc:often", "capd_inconsolable": 3}), read=lambda c: (c.series("capd_score").items[0].component("capd_restless").codes, c.series("capd_score").items[0].component("capd_inconsolable").number), expect=(("often",), 3)),
    row("S6", "consciousness", obs("consciousness_level", "cc:to_voice"), read=code("consciousness_level"), expect=("to_voice",)),
    row("S7", "GCS with its parts", obs("gcs_total", 13, parts={"gcs_eye": 3}), read=lambda c: (count("gcs_total")(c), count("gcs_eye")(c)), expect=(13, 3)),
    row("S7", "RASS below zero", obs("rass", -4), read=count("rass"), expect=-4),
    row("S7", "RASS as the text of its code", obs("rass", {"valueCodeableConcept": {"text": "RASS -4"}}), read=count("rass"), expect=-4),
    row("S7", "RASS with a typesetter's minus", obs("rass", "\u22124"), read=count("rass"), expect=-4),
    row("S7", "an answer that nobody listed is a loss", obs("gcs_eye", {"valueCodeableConcept": {"text": "to pain"}}), read=lambda c: (len(c.series("gcs_eye")), [(x.concept, x.text) for x in c.losses]), expect=(0, [("gcs_eye", "to pain")])),
    row("S8", "sedation running", given("propofol", status="in-progress", effectiveDateTime=None, effectivePeriod={"start": AT}), read=lambda c: [d.in_force for d in c.administrations("propofol")], expect=[True]),
    row("S8", "sedated", obs("sedated", True), read=yes("sedated"), expect=True),
    row("S9", "seizure with duration", obs("seizure_event", "cc:clinical_generalized", parts={"seizure_duration": (90, "s"), "returned_to_baseline": False}), read=lambda c: (code("seizure_event")(c), c.series("seizure_event").items[0].component("seizure_duration").quantity.value, c.series("seizure_event").items[0].component("returned_to_baseline").yes), expect=(("clinical_generalized",), D("1.5"), False)),
    row("S9", "status epilepticus", condition("status_epilepticus"), read=state_of("status_epilepticus"), expect=ACTIVE),
    row("S10", "motor weakness", obs("motor_weakness", "cc:deep_focal"), read=code("motor_weakness"), expect=("deep_focal",)),
    row("S11", "one Observation per sign", obs("raised_icp_sign", "cc:papilledema", id="a"), obs("raised_icp_sign", "cc:cushing_triad", id="b"), read=lambda c: sorted(o.value.codes[0] for o in c.series("raised_icp_sign")), expect=["cushing_triad", "papilledema"]),
    row("S12", "imaging finding", obs("brain_imaging_finding", "cc:diffuse_edema"), read=code("brain_imaging_finding"), expect=("diffuse_edema",)),
    row("S12", "finding as the conclusion of a report", report("mri_brain", conclusionCode=[local("focal_edema")]), read=lambda c: c.documents.of("mri_brain")[0].conclusions, expect=frozenset({"focal_edema"})),
    row("S13", "symptoms", obs("neuro_symptom", "cc:tremor"), read=code("neuro_symptom"), expect=("tremor",)),
    row("S14", "ECOG as integer", obs("ecog", 1), read=count("ecog"), expect=1),
    row("S14", "ECOG as text", obs("ecog", {"valueCodeableConcept": {"text": "ECOG 1"}}), read=count("ecog"), expect=1),
    row("S14", "ECOG by its LOINC answer", obs("ecog", {"valueCodeableConcept": cc(f"{LOINC}|LA9624-3")}), read=count("ecog"), expect=2),
    row("S14", "Karnofsky as a bare number of UCUM", obs("karnofsky", (70, "1")), read=count("karnofsky"), expect=70),
    row("S14", "Karnofsky with a percent sign", obs("karnofsky", (70, "%")), read=count("karnofsky"), expect=70),
    row("S14", "Lansky by its local code", obs(local("lansky"), 60), read=count("lansky"), expect=60),
    row("S15", "life expectancy", obs("life_expectancy", (26, "wk")), read=lambda c: number("life_expectancy")(c), expect=(D("182"), "d")),
    row("S16", "fit, with who says so", obs("fit_for_lymphodepletion", True, performer=[{"reference": "Practitioner/d1"}]), read=lambda c: (yes("fit_for_lymphodepletion")(c), c.series("fit_for_lymphodepletion").items[0].performers), expect=(True, ("Practitioner/d1",))),
    row("S17", "CAR-HEMATOTOX", obs(local("car_hematotox"), 3), read=count("car_hematotox"), expect=3),
    # section 8
    row("T1", "grade by number", obs("crs_grade", 2), read=count("crs_grade"), expect=2),
    row("T1", "grade by code", obs("crs_grade", "cc:grade_3"), read=count("crs_grade"), expect=3),
    row("T1", "grade in words", obs("crs_grade", {"valueCodeableConcept": {"text": "CRS grade 2"}}), read=count("crs_grade"), expect=2),
    row("T1", "grade as text", obs("crs_grade", "第2級"), read=count("crs_grade"), expect=2),
    row("T1", "a grade that does not exist", obs("crs_grade", "Grade 7"), read=lambda c: len(c.series("crs_grade")), expect=0),
    row("T1", "severity in words", condition("crs", severity={"text": "Grade 3"}), read=grade_of("crs"), expect=Grade(3)),
    row("T1", "severity in plain words is derived", condition("crs", severity={"text": "Moderate"}), read=grade_of("crs"), expect=Grade(2, derived=True)),
    row("T1", "grade by the ICD-10 digit", condition(f"{ICD}|D89.833"), read=grade_of("crs"), expect=Grade(3)),
    row("T1", "ungraded code", condition(f"{ICD}|D89.839"), read=grade_of("crs"), expect=None),
    row("T1", "Taiwan's system of ICD-10-CM", condition("https://twcore.mohw.gov.tw/ig/twcore/CodeSystem/icd-10-cm-2023-tw|D89.832"), read=grade_of("crs"), expect=Grade(2)),
    row("T1", "complication code beside the syndrome", condition(cc(f"{ICD}|T80.82XA", f"{ICD}|D89.831")), read=lambda c: (grade_of("crs")(c), len(c.losses)), expect=(Grade(1), 0)),
    row("T1", "explicit grade beats the digit", condition(f"{ICD}|D89.831", severity=local("grade_2")), read=grade_of("crs"), expect=Grade(2)),
    row("T1", "the digit beats a severity", condition(f"{ICD}|D89.831", severity=cc(f"{SNOMED}|24484000")), read=grade_of("crs"), expect=Grade(1)),
    row("T2", "ICANS grade of the code", condition(f"{ICD}|G92.04"), read=grade_of("icans"), expect=Grade(4)),
    row("T2", "ICANS ungraded", condition(f"{ICD}|G92.00"), read=grade_of("icans"), expect=None),
    row("T3", "IEC-HS grade", obs(local("iec_hs_grade"), 2), read=count("iec_hs_grade"), expect=2),
    row("T3", "HLH", condition("hlh"), read=state_of("hlh"), expect=ACTIVE),
    row("T4", "ICAHT grade with phase", obs(local("icaht_grade"), 3, parts={"icaht_phase": "cc:late"}), read=lambda c: (count("icaht_grade")(c), c.series("icaht_grade").items[0].component("icaht_phase").codes), expect=(3, ("late",))),
    row("T5", "TLS and its tier", condition("tls"), obs("tls_risk_tier", "cc:high"), read=lambda c: (state_of("tls")(c), code("tls_risk_tier")(c)), expect=(ACTIVE, ("high",))),
    row("T6", "course of a toxicity", obs("toxicity_course", "cc:worse", parts={"toxicity": "cc:crs"}), read=lambda c: (code("toxicity_course")(c), c.series("toxicity_course").items[0].component("toxicity").codes), expect=(("worse",), ("crs",))),
    row("T6", "two toxicities of one time stay apart", obs("toxicity_course", "cc:worse", id="a", parts={"toxicity": "cc:crs"}), obs("toxicity_course", "cc:worse", id="b", parts={"toxicity": "cc:icans"}), read=lambda c: len(c.series("toxicity_course")), expect=2),
    row("T7", "haemophagocytosis in marrow", obs("hemophagocytosis", "cc:positive"), read=result("hemophagocytosis"), expect=Result.POSITIVE),
    row("T7", "haemophagocytosis as a conclusion", report("bone_marrow_aspiration", conclusionCode=[local("hemophagocytosis")]), read=lambda c: c.documents.all[0].conclusions, expect=frozenset({"hemophagocytosis"})),
    row("T8", "severity by SNOMED is derived", condition("pneumonia", severity=cc(f"{SNOMED}|24484000")), read=grade_of("pneumonia"), expect=Grade(3, derived=True)),
    row("T8", "adverse event Observation", obs("adverse_event", "cc:crs", parts={"ctcae_grade": 2}), read=lambda c: (code("adverse_event")(c), c.series("adverse_event").items[0].component("ctcae_grade").number), expect=(("crs",), 2)),
    row("T8", "AdverseEvent resource", {"resourceType": "AdverseEvent", "id": "ae", "actuality": "actual", "subject": SUBJECT, "event": cc("seizure"), "severity": {"coding": [{"code": "severe"}]}}, read=lambda c: [(x.reference, x.grade) for x in c.conditions.of("adverse_event")], expect=[("AdverseEvent/ae", Grade(3, derived=True))]),
    row("T8", "a potential event never counts", {"resourceType": "AdverseEvent", "id": "ae", "actuality": "potential", "subject": SUBJECT, "event": cc("seizure")}, read=lambda c: len(c.conditions), expect=0),
    row("T8", "an event that left sequelae is over", {"resourceType": "AdverseEvent", "id": "ae", "actuality": "actual", "subject": SUBJECT, "event": cc("seizure"), "outcome": {"coding": [{"code": "resolvedWithSequelae"}]}}, read=state_of("seizure"), expect=[ConditionState.HISTORY]),
    row("T9", "attributed to a drug", obs("attributed_to", "cc:ibrutinib"), read=lambda c: "ibrutinib" in code("attributed_to")(c), expect=True),
    row("T9", "the dose that the evidence points to", condition("thrombocytopenia", evidence=[{"detail": [{"reference": "MedicationAdministration/ma-ibrutinib"}]}]), given("ibrutinib"), read=lambda c: "ibrutinib" in c.conditions.of("thrombocytopenia")[0].attributed_to, expect=True),
    row("T9", "a finding is evidence and no cause", condition("thrombocytopenia", evidence=[{"detail": [{"reference": "Observation/p"}]}]), obs("platelets", (20, "10*3/uL"), id="p"), read=lambda c: c.conditions.of("thrombocytopenia")[0].attributed_to, expect=frozenset()),
    row("T9", "the suspect of an adverse event", {"resourceType": "AdverseEvent", "id": "ae", "actuality": "actual", "subject": SUBJECT, "event": cc("seizure"), "suspectEntity": [{"instance": {"reference": "MedicationAdministration/ma-ibrutinib"}}]}, given("ibrutinib"), read=lambda c: "ibrutinib" in c.conditions.of("seizure")[0].attributed_to, expect=True),
    row("T10", "pneumonia is an infection", condition("pneumonia"), read=state_of("infection_any"), expect=ACTIVE),
    row("T10", "a listed ICD-10 range is an infection", condition(f"{ICD}|N39.0"), read=state_of("infection_any"), expect=ACTIVE),
    row("T10", "kind by range", condition(f"{ICD}|B37.7"), read=lambda c: "infection_fungal" in c.conditions.all[0].concepts, expect=True),
    row("T10", "unlisted code is none", condition(f"{ICD}|I10"), read=state_of("infection_any"), expect=[]),
    row("T10", "latent hepatitis B is none", condition(f"{ICD}|B18.1"), read=lambda c: (state_of("infection_any")(c), state_of("hbv")(c)), expect=([], ACTIVE)),
    row("T10", "HIV is none", condition(f"{ICD}|B20"), read=state_of("infection_any"), expect=[]),
    row("T10", "category says so", condition({"text": "Wound problem"}, category=[local("infection")]), read=state_of("infection_any"), expect=ACTIVE),
    row("T11", "infection reviewed", obs("infection_status", "cc:controlled", focus=[{"reference": "Condition/c1"}]), read=lambda c: (code("infection_status")(c), c.series("infection_status").items[0].focus), expect=(("controlled",), ("Condition/c1",))),
    row("T12", "grade on the infection", condition("sepsis", severity=local("grade_4")), read=grade_of("sepsis"), expect=Grade(4)),
    row("T13", "prior mould disease", condition("aspergillosis", clinical="resolved", onsetDateTime="2024-01"), read=state_of("aspergillosis"), expect=[ConditionState.HISTORY]),
    row("T14", "MDR colonization", condition("mdr_colonization"), read=state_of("mdr_colonization"), expect=ACTIVE),
    row("T15", "bleeding", obs("bleeding", "cc:major"), read=code("bleeding"), expect=("major",)),
    row("T15", "documented absence", obs("bleeding", "cc:none"), read=code("bleeding"), expect=("none",)),
    row("T15", "gastrointestinal haemorrhage by its code", condition(f"{ICD}|K92.2"), read=state_of("bleeding"), expect=ACTIVE),
    row("T16", "febrile neutropenia with its partner code", condition(cc(f"{ICD}|D70.1", f"{ICD}|R50.81")), read=lambda c: (state_of("febrile_neutropenia")(c), state_of("neutropenia")(c)), expect=(ACTIVE, ACTIVE)),
    row("T17", "symptomatic hypocalcaemia", condition("symptomatic_hypocalcemia"), read=state_of("symptomatic_hypocalcemia"), expect=ACTIVE),
    row("T18", "shock", condition("shock"), read=state_of("shock"), expect=ACTIVE),
    row("T19", "reaction during the infusion", obs("infusion_reaction", "cc:chest_tightness"), read=code("infusion_reaction"), expect=("chest_tightness",)),
    row("T20", "hypersensitivity with severity", condition("hypersensitivity", severity=local("grade_2")), read=grade_of("hypersensitivity"), expect=Grade(2)),
    row("T21", "Gilbert", condition("gilbert"), read=state_of("gilbert"), expect=ACTIVE),
    row("T22", "haemorrhagic cystitis in the past", condition("hemorrhagic_cystitis", clinical="resolved"), read=state_of("hemorrhagic_cystitis"), expect=[ConditionState.HISTORY]),
    row("E2", "place: intensive care by location type", stay(contained=[{"resourceType": "Location", "id": "l", "type": [{"coding": [{"code": "ICU"}]}]}], location=[{"location": {"reference": "#l"}, "status": "active"}]), read=lambda c: c.encounters[0].icu, expect=True),
]  # fmt: skip
