# ruff: noqa: E501 - one fact, one line
"""Patient, laboratory, virology (chart-facts sections 3-5)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any

from fhir_mapping.chart import Chart, ConditionState, Flag, Result
from tests.fhir_mapping.read.charts import (
    LOINC,
    allergy,
    cc,
    condition,
    local,
    obs,
    only,
    patient,
    q,
    report,
    service,
    specimen,
)
from tests.fhir_mapping.read.row import row


def number(concept: str) -> Callable[[Chart], Any]:
    def read(chart: Chart) -> Any:
        quantity = only(chart, concept).quantity
        return None if quantity is None else (quantity.value, quantity.unit)

    return read


def limits(concept: str) -> Callable[[Chart], Any]:
    def read(chart: Chart) -> Any:
        item = chart.series(concept).items[0]
        return tuple(None if limit is None else limit.value for limit in (item.lln, item.uln))

    return read


def numbers(concept: str) -> Callable[[Chart], Any]:
    return lambda chart: [
        o.value.quantity.value for o in chart.series(concept) if o.value.quantity is not None
    ]


def result(concept: str) -> Callable[[Chart], Any]:
    return lambda chart: only(chart, concept).result


def flags(concept: str) -> Callable[[Chart], Any]:
    return lambda chart: chart.series(concept).items[0].flags


def D(text: str) -> Decimal:  # noqa: N802 - short on purpose in tables
    return Decimal(text)


SAMPLE = "2025-04-15T06:00:00+08:00"

ROWS = [
    # section 3
    row("P1", "birth date gives completed years", patient(), read=lambda c: c.patient.age(date(2025, 2, 10)), expect=(56, 56)),
    row("P1", "birthday today counts", patient(), read=lambda c: c.patient.age(date(2025, 2, 11)), expect=(57, 57)),
    row("P1", "a birth month is an interval", patient(birthDate="1968-02"), read=lambda c: c.patient.age(date(2025, 2, 15)), expect=(56, 57)),
    row("P1", "a birth year is an interval", patient(birthDate="2007"), read=lambda c: c.patient.age(date(2025, 4, 16)), expect=(17, 18)),
    row("P1", "no birth date is unknown", patient(birthDate=None), read=lambda c: c.patient.age(date(2025, 4, 16)), expect=None),
    row("P2", "sex male", patient(), read=lambda c: c.patient.sex, expect="male"),
    row("P2", "sex other is no sex", patient(gender="other"), read=lambda c: c.patient.sex, expect=""),
    row("P3", "death with a date", patient(deceasedDateTime="2025-04-10"), read=lambda c: (c.patient.deceased, c.patient.died.date), expect=(True, date(2025, 4, 10))),
    row("P3", "death without a date", patient(deceasedBoolean=True), read=lambda c: (c.patient.deceased, c.patient.died), expect=(True, None)),
    row("P4", "weight in kg", obs("body_weight", (70, "kg")), read=number("body_weight"), expect=(D("70"), "kg")),
    row("P4", "weight in pounds", obs("body_weight", (154.3, "[lb_av]")), read=number("body_weight"), expect=(D("154.3") * D("0.45359237"), "kg")),
    row("P4", "weight in Chinese units", obs("body_weight", {"valueQuantity": {"value": 70, "unit": "公斤"}}), read=number("body_weight"), expect=(D("70"), "kg")),
    row("P5", "height in m", obs("body_height", (1.72, "m")), read=number("body_height"), expect=(D("172"), "cm")),
    row("P5", "recorded body surface by local code", obs(local("bsa"), (1.81, "m2")), read=number("bsa"), expect=(D("1.81"), "m2")),
    # section 4
    row("L1", "white cells", obs("wbc", (0.5, "10*9/L")), read=number("wbc"), expect=(D("0.5"), "10*3/uL")),
    row("L1", "white cells per uL", obs("wbc", (500, "/uL")), read=number("wbc"), expect=(D("0.5"), "10*3/uL")),
    row("L2", "absolute count", obs("anc", (499, "/uL")), read=number("anc"), expect=(D("0.499"), "10*3/uL")),
    row("L2", "from white cells and percent of one sample", obs("wbc", (2.0, "10*3/uL"), SAMPLE), obs("neutrophil_pct", (25, "%"), SAMPLE), read=number("anc"), expect=(D("0.5"), "10*3/uL")),
    row("L2", "derived is flagged", obs("wbc", (2.0, "10*3/uL"), SAMPLE), obs("neutrophil_pct", (25, "%"), SAMPLE), read=lambda c: Flag.DERIVED in flags("anc")(c), expect=True),
    row("L2", "not from another sample", obs("wbc", (2.0, "10*3/uL")), obs("neutrophil_pct", (25, "%"), SAMPLE), read=numbers("anc"), expect=[]),
    row("L2", "the absolute count wins over the percentage", obs("anc", (0.4, "10*3/uL"), SAMPLE), obs("wbc", (2.0, "10*3/uL"), SAMPLE), obs("neutrophil_pct", (25, "%"), SAMPLE), read=numbers("anc"), expect=[D("0.4")]),
    row("L2", "white cells alone give none", obs("wbc", (2.0, "10*3/uL")), read=numbers("anc"), expect=[]),
    row("L3", "from white cells and percent", obs("wbc", (1.5, "10*3/uL"), SAMPLE), obs("lymphocyte_pct", (20, "%"), SAMPLE), read=number("alc"), expect=(D("0.3"), "10*3/uL")),
    row("L4", "haemoglobin in g/L", obs("hemoglobin", (85, "g/L")), read=number("hemoglobin"), expect=(D("8.5"), "g/dL")),
    row("L4", "haematocrit as a fraction", obs("hematocrit", (0.25, "L/L")), read=number("hematocrit"), expect=(D("25"), "%")),
    row("L5", "platelets in a panel", obs(local("cbc_panel"), parts={"platelets": (49, "10*3/uL")}), read=number("platelets"), expect=(D("49"), "10*3/uL")),
    row("L6", "absolute subset per L", obs("cd4_abs", (0.2, "10*9/L")), read=number("cd4_abs"), expect=(D("200"), "/uL")),
    row("L6", "from percent of lymphocytes", obs("alc", (1.0, "10*3/uL"), SAMPLE), obs("cd4_pct", (20, "%"), SAMPLE, method={"text": "flow cytometry, % of lymphocytes"}), read=number("cd4_abs"), expect=(D("200"), "/uL")),
    row("L6", "not from a percentage of unknown denominator", obs("alc", (1.0, "10*3/uL"), SAMPLE), obs("cd4_pct", (20, "%"), SAMPLE), read=numbers("cd4_abs"), expect=[]),
    row("L7", "denominator by component", obs("cd19_pct", (2, "%"), parts={"cd19_denominator": "cc:leukocytes"}), read=number("cd19_of_leukocytes"), expect=(D("2"), "%")),
    row("L7", "denominator by method", obs("cd19_pct", (2, "%"), method={"text": "% of lymphocytes"}), read=number("cd19_of_lymphocytes"), expect=(D("2"), "%")),
    row("L7", "denominator unknown", obs("cd19_pct", (2, "%")), read=lambda c: (len(c.series("cd19_pct")), numbers("cd19_of_leukocytes")(c), numbers("cd19_of_lymphocytes")(c)), expect=(1, [], [])),
    row("L7", "own code of the denominator", obs("cd19_of_leukocytes", (2, "%")), read=number("cd19_of_leukocytes"), expect=(D("2"), "%")),
    row("L8", "CRP mg/L", obs("crp", (30, "mg/L")), read=number("crp"), expect=(D("3"), "mg/dL")),
    row("L8", "ferritin ug/L is ng/mL", obs("ferritin", (2000, "ug/L")), read=number("ferritin"), expect=(D("2000"), "ng/mL")),
    row("L8", "CRP without a unit is refused", obs("crp", (30, "")), read=lambda c: (numbers("crp")(c), [x.reason.value for x in c.series("crp").losses]), expect=([], ["unit"])),
    row("L9", "clinician's word on ferritin", obs("ferritin_rapid_rise", True), read=lambda c: only(c, "ferritin_rapid_rise").yes, expect=True),
    row("L10", "ULN of this very result", obs("alt", (120, "U/L"), referenceRange=[{"low": q(0, "U/L"), "high": q(40, "U/L")}]), read=lambda c: (c.series("alt").items[0].uln.value, c.series("alt").items[0].lln.value), expect=(D("40"), D("0"))),
    row("L10", "ULN without a unit has the unit of its result", obs("bilirubin_total", (34.2, "umol/L"), referenceRange=[{"high": {"value": 17.1}}]), read=lambda c: c.series("bilirubin_total").items[0].uln.unit, expect="mg/dL"),
    row("L10", "ULN of the patient's sex", patient(), obs("alt", (50, "U/L"), referenceRange=[{"high": q(35, "U/L"), "appliesTo": [{"text": "female"}]}, {"high": q(40, "U/L"), "appliesTo": [{"text": "male"}]}]), read=lambda c: c.series("alt").items[0].uln.value, expect=D("40")),
    row("L10", "ULN by age", patient(), obs("alt", (50, "U/L"), referenceRange=[{"high": q(30, "U/L"), "age": {"high": q(18, "a")}}, {"high": q(45, "U/L"), "age": {"low": q(18, "a")}}]), read=lambda c: c.series("alt").items[0].uln.value, expect=D("45")),
    row("L10", "several ranges that cannot be told apart give none", obs("alt", (50, "U/L"), referenceRange=[{"high": q(30, "U/L")}, {"high": q(45, "U/L")}]), read=lambda c: c.series("alt").items[0].uln, expect=None),
    row("L10", "a critical range is no normal range", obs("alt", (50, "U/L"), referenceRange=[{"high": q(500, "U/L"), "type": {"coding": [{"code": "treatment"}]}}]), read=lambda c: c.series("alt").items[0].uln, expect=None),
    row("L10", "a range in words", obs("alt", (50, "U/L"), referenceRange=[{"text": "5 ~ 40 U/L"}]), read=limits("alt"), expect=(D("5"), D("40"))),
    row("L10", "an upper limit in words", obs("alt", (50, "U/L"), referenceRange=[{"text": "≦40"}]), read=limits("alt"), expect=(None, D("40"))),
    row("L10", "limits in words have their own unit", obs("platelets", (50, "10*3/uL"), referenceRange=[{"text": "(150,000–400,000 /uL)"}]), read=limits("platelets"), expect=(D("150"), D("400"))),
    row("L10", "words that are no single range give none", obs("alt", (50, "U/L"), referenceRange=[{"text": "M: 0-40, F: 0-35"}]), read=limits("alt"), expect=(None, None)),
    row("L10", "ULN of the patient's sex by SNOMED", patient(), obs("alt", (50, "U/L"), referenceRange=[{"high": q(35, "U/L"), "appliesTo": [{"coding": [{"code": "248152002"}]}]}, {"high": q(40, "U/L"), "appliesTo": [{"coding": [{"code": "248153007"}]}]}]), read=limits("alt"), expect=(None, D("40"))),
    row("L10", "a range of a group that nobody is known to belong to", obs("alt", (50, "U/L"), referenceRange=[{"high": q(30, "U/L"), "appliesTo": [{"text": "Pregnant"}]}, {"high": q(40, "U/L")}]), read=limits("alt"), expect=(None, D("40"))),
    row("L20", "international units of a marker of presence", obs("soluble_cd25", (3000, "[IU]/mL")), read=number("soluble_cd25"), expect=(D("3000"), "[IU]/mL")),
    row("L11", "creatinine umol/L", obs("creatinine", (88.42, "umol/L")), read=lambda c: round(only(c, "creatinine").quantity.value, 3), expect=D("1.000")),
    row("L11", "clearance per surface stays another fact", obs(local("creatinine_clearance_bsa"), (80, "mL/min/{1.73_m2}")), read=lambda c: (len(c.series("creatinine_clearance_bsa")), len(c.series("creatinine_clearance"))), expect=(1, 0)),
    row("L12", "LDH IU/L equals U/L", obs("ldh", (300, "IU/L")), read=number("ldh"), expect=(D("300"), "U/L")),
    row("L13", "haemolysed sample is flagged", obs("potassium", (6.1, "mmol/L"), note=[{"text": "Sample hemolyzed"}]), read=lambda c: Flag.HAEMOLYSED in flags("potassium")(c), expect=True),
    row("L13", "溶血 is flagged", obs("potassium", (6.1, "mmol/L"), note=[{"text": "檢體溶血"}]), read=lambda c: Flag.HAEMOLYSED in flags("potassium")(c), expect=True),
    row("L13", "no hemolysis is not", obs("potassium", (6.1, "mmol/L"), note=[{"text": "No visible hemolysis"}]), read=lambda c: Flag.HAEMOLYSED in flags("potassium")(c), expect=False),
    row("L14", "corrected calcium of the day", obs("calcium_total", (8.0, "mg/dL")), obs("albumin", (3.0, "g/dL"), "2025-04-16T06:00:00+08:00"), read=number("calcium_corrected"), expect=(D("8.80"), "mg/dL")),
    row("L14", "reported corrected calcium wins", obs("calcium_corrected", (9.1, "mg/dL")), obs("calcium_total", (8.0, "mg/dL")), obs("albumin", (3.0, "g/dL")), read=numbers("calcium_corrected"), expect=[D("9.1")]),
    row("L14", "albumin of another day gives none", obs("calcium_total", (8.0, "mg/dL")), obs("albumin", (3.0, "g/dL"), SAMPLE), read=numbers("calcium_corrected"), expect=[]),
    row("L15", "D-dimer unit kinds stay apart", obs("d_dimer_feu", (0.5, "mg/L{FEU}")), read=number("d_dimer_feu"), expect=(D("500"), "ng/mL{FEU}")),
    row("L15", "INR without unit", obs("inr", {"valueQuantity": {"value": 1.3}}), read=number("inr"), expect=(D("1.3"), "{INR}")),
    row("L15", "fibrinogen g/L", obs("fibrinogen", (1.2, "g/L")), read=number("fibrinogen"), expect=(D("120"), "mg/dL")),
    row("L16", "fasting code", obs("triglycerides_fasting", (265, "mg/dL")), read=number("triglycerides_fasting"), expect=(D("265"), "mg/dL")),
    row("L16", "fasting component", obs("triglycerides", (265, "mg/dL"), parts={"fasting": True}), read=lambda c: (numbers("triglycerides_fasting")(c), Flag.FASTING_UNKNOWN in flags("triglycerides")(c)), expect=([D("265")], False)),
    row("L16", "plain code: fasting unknown", obs("triglycerides", (265, "mg/dL")), read=lambda c: (numbers("triglycerides_fasting")(c), Flag.FASTING_UNKNOWN in flags("triglycerides")(c)), expect=([], True)),
    row("L17", "IgG g/L", obs("igg", (3.5, "g/L")), read=number("igg"), expect=(D("350"), "mg/dL")),
    row("L17", "electrophoresis as text", obs("serum_electrophoresis", "no monoclonal band"), read=lambda c: only(c, "serum_electrophoresis").text, expect="no monoclonal band"),
    row("L18", "troponin ng/L", obs("troponin_t", (14, "ng/L")), read=number("troponin_t"), expect=(D("0.014"), "ng/mL")),
    row("L19", "vitamin B12 pmol/L", obs("vitamin_b12", (200, "pmol/L")), read=number("vitamin_b12"), expect=(D("271.000"), "pg/mL")),
    row("L19", "smear report", report("blood_smear"), read=lambda c: len(c.documents.of("blood_smear")), expect=1),
    row("L20", "presence counts in the laboratory's own unit", obs("cxcl9", {"valueQuantity": {"value": 12, "unit": "arb. units"}}), read=lambda c: len(c.series("cxcl9")), expect=1),
    row("L21", "G6PD deficiency as a problem", condition("g6pd_deficiency", clinical="inactive"), read=lambda c: c.conditions.of("g6pd_deficiency")[0].state, expect=ConditionState.HISTORY),
    row("L21", "refuted is stated", condition("g6pd_deficiency", verification="refuted"), read=lambda c: c.conditions.of("g6pd_deficiency")[0].state, expect=ConditionState.REFUTED),
    row("L21", "activity with its own lower limit", obs("g6pd", (5, "U/g{Hb}"), referenceRange=[{"low": q(7, "U/g{Hb}")}]), read=lambda c: c.series("g6pd").items[0].lln.value, expect=D("7")),
    row("L21", "缺乏 as text is kept", obs("g6pd_qual", "缺乏"), read=lambda c: only(c, "g6pd_qual").text, expect="缺乏"),
    row("L21", "genotype", obs("g6pd_genotype", "cc:intermediate"), read=lambda c: only(c, "g6pd_genotype").codes, expect=("intermediate",)),
    row("L22", "undetectable CAR-T cells", obs("cart_persistence", "undetectable"), read=result("cart_persistence"), expect=Result.NEGATIVE),
    row("L22", "not detected by the laboratory's own word", obs("cart_persistence", {"valueCodeableConcept": {"text": "ND"}}), read=result("cart_persistence"), expect=Result.NEGATIVE),
    row("L22", "not detected in Chinese", obs("cart_persistence", {"valueCodeableConcept": {"text": "檢不出"}}), read=result("cart_persistence"), expect=Result.NEGATIVE),
    row("L23", "direct antiglobulin test", obs("direct_antiglobulin_test", "cc:positive"), read=result("direct_antiglobulin_test"), expect=Result.POSITIVE),
    # section 5
    row("V1", "HBsAg reactive", obs("hbsag", "Reactive"), read=result("hbsag"), expect=Result.POSITIVE),
    row("V1", "anti-HBs 10 is positive", obs("anti_hbs", (10, "m[IU]/mL")), read=result("anti_hbs"), expect=Result.POSITIVE),
    row("V1", "anti-HBs 9.9 is negative", obs("anti_hbs", (9.9, "m[IU]/mL")), read=result("anti_hbs"), expect=Result.NEGATIVE),
    row("V1", "a ratio is never judged by its number", obs("anti_hbc", (0.1, "{S/CO}")), read=result("anti_hbc"), expect=None),
    row("V1", "a ratio with interpretation", obs("anti_hbc", (0.1, "{S/CO}"), interpretation=[{"coding": [{"code": "POS"}]}]), read=result("anti_hbc"), expect=Result.POSITIVE),
    row("V1", "a ratio with an interpretation in words", obs("anti_hbc", (0.1, "{S/CO}"), interpretation=[{"text": "Reactive"}]), read=result("anti_hbc"), expect=Result.POSITIVE),
    row("V1", "result and index in one text", obs("hbsag", "Nonreactive (0.43)"), read=result("hbsag"), expect=Result.NEGATIVE),
    row("V1", "several results in one text", obs("hbsag", "陽性;1250 COI"), read=result("hbsag"), expect=Result.POSITIVE),
    row("V1", "results of one text that contradict are none", obs("hbsag", "Reactive; Negative; 0.9"), read=result("hbsag"), expect=None),
    row("V1", "a text with one part not understood", obs("hbsag", "Reactive (repeat)"), read=result("hbsag"), expect=None),
    row("V1", "IgM alone never answers the total", obs("anti_hbc_igm", "cc:negative"), read=lambda c: len(c.series("anti_hbc")), expect=0),
    row("V1", "N means negative in serology", obs("hbsag", None, interpretation=[{"coding": [{"code": "N"}]}]), read=result("hbsag"), expect=Result.NEGATIVE),
    row("V1", "contradictory value and interpretation are unusable", obs("hbsag", "cc:positive", interpretation=[{"coding": [{"code": "NEG"}]}]), read=lambda c: (len(c.series("hbsag")), [x.reason.value for x in c.series("hbsag").losses]), expect=(0, ["contradictory"])),
    row("V2", "viral load above zero", obs("hbv_dna", (20, "[IU]/mL")), read=result("hbv_dna"), expect=Result.POSITIVE),
    row("V2", "zero is not detected", obs("hbv_dna", (0, "[IU]/mL")), read=result("hbv_dna"), expect=Result.NEGATIVE),
    row("V2", "below the limit is detected", obs("hbv_dna", (20, "[IU]/mL", "<")), read=lambda c: (only(c, "hbv_dna").result, only(c, "hbv_dna").detected_below_limit), expect=(Result.POSITIVE, True)),
    row("V2", "below the limit with ND is negative", obs("hbv_dna", (20, "[IU]/mL", "<"), interpretation=[{"coding": [{"code": "ND"}]}]), read=lambda c: (only(c, "hbv_dna").result, only(c, "hbv_dna").detected_below_limit), expect=(Result.NEGATIVE, False)),
    row("V2", "below the limit and not detected in one text", obs("hbv_dna", "<20 IU/mL, not detected"), read=lambda c: (only(c, "hbv_dna").result, only(c, "hbv_dna").quantity.comparator), expect=(Result.NEGATIVE, "<")),
    row("V2", "logarithm under the load's code", obs("hbv_dna", {"valueQuantity": {"value": 3, "unit": "log IU/mL"}}), read=number("hbv_dna"), expect=(D("1000"), "[IU]/mL")),
    row("V2", "target not detected", obs("hiv_rna", "Target Not Detected"), read=result("hiv_rna"), expect=Result.NEGATIVE),
    row("V3", "anti-HCV non-reactive", obs("anti_hcv", "Non-reactive"), read=result("anti_hcv"), expect=Result.NEGATIVE),
    row("V3", "hepatitis C as a problem", condition("hcv"), read=lambda c: len(c.conditions.of("hcv")), expect=1),
    row("V4", "CMV in blood", obs("cmv_pcr", (500, "[IU]/mL")), read=result("cmv_pcr"), expect=Result.POSITIVE),
    row("V4", "virus in CSF knows its specimen", specimen(local("csf")), obs("hhv6_pcr", "cc:positive", specimen={"reference": "Specimen/s1"}), read=lambda c: c.series("hhv6_pcr").items[0].specimen.concepts, expect=frozenset({"csf"})),
    row("V4", "respiratory panel: one component per virus", obs(local("viral_pcr_other"), parts={"adenovirus_pcr": "cc:negative", "enterovirus_pcr": "cc:positive"}), read=lambda c: (result("adenovirus_pcr")(c), result("enterovirus_pcr")(c)), expect=(Result.NEGATIVE, Result.POSITIVE)),
    row("V5", "SARS-CoV-2 陰性", obs("sars_cov2_pcr", "陰性"), read=result("sars_cov2_pcr"), expect=Result.NEGATIVE),
    row("V5", "asymptomatic", obs("asymptomatic", True), read=lambda c: only(c, "asymptomatic").yes, expect=True),
    row("V6", "an organism is a positive culture", obs("blood_culture", {"valueCodeableConcept": {"coding": [{"system": "http://x", "code": "1"}], "text": "Escherichia coli"}}), read=result("blood_culture"), expect=Result.POSITIVE),
    row("V6", "no growth so far in a coded value", obs("blood_culture", {"valueCodeableConcept": {"coding": [{"system": "http://x", "code": "9", "display": "No growth after 5 days"}]}}), read=result("blood_culture"), expect=Result.NEGATIVE),
    row("V6", "an organism whose name begins with no", obs("blood_culture", {"valueCodeableConcept": {"text": "Nocardia farcinica"}}), read=result("blood_culture"), expect=Result.POSITIVE),
    row("V6", "normal flora is no organism", obs("sputum_culture", {"valueCodeableConcept": {"text": "Normal throat flora"}}), read=result("sputum_culture"), expect=None),
    row("V6", "organism as a member", obs("blood_culture", None, hasMember=[{"reference": "Observation/m"}]), obs({"coding": [{"system": "http://x", "code": "org"}]}, {"valueCodeableConcept": {"coding": [{"system": "http://x", "code": "1"}], "text": "Candida albicans"}}, id="m"), read=result("blood_culture"), expect=Result.POSITIVE),
    row("V6", "free text about a culture is never parsed", obs("blood_culture", "Escherichia coli in one bottle"), read=result("blood_culture"), expect=None),
    row("V6", "no growth", obs("blood_culture", "No growth"), read=result("blood_culture"), expect=Result.NEGATIVE),
    row("V6", "no growth after some days", obs("blood_culture", "No growth after 5 days"), read=result("blood_culture"), expect=Result.NEGATIVE),
    row("V6", "no growth of one thing is not none", obs("blood_culture", "No growth of MRSA, E. coli isolated"), read=result("blood_culture"), expect=None),
    row("V6", "a culture is dated by its collection", specimen("http://x|blood", collection={"collectedDateTime": "2025-04-12T22:00:00+08:00"}), obs("blood_culture", "no growth", specimen={"reference": "Specimen/s1"}), read=lambda c: c.series("blood_culture").items[0].when.date, expect=date(2025, 4, 12)),
    row("V6", "contaminant", obs("blood_culture", "cc:positive", parts={"contaminant": True}), read=lambda c: c.series("blood_culture").items[0].component("contaminant").yes, expect=True),
    row("V6", "ordered", service("blood_culture"), read=lambda c: len(c.services.of("blood_culture")), expect=1),
    row("V6", "nothing detected is no organism", obs("blood_culture", {"valueCodeableConcept": {"text": "None detected"}}), read=result("blood_culture"), expect=Result.NEGATIVE),
    row("V6", "an organism that only the report concludes", report("blood_culture", conclusionCode=[{"coding": [{"system": "http://x", "code": "1", "display": "Escherichia coli"}]}]), read=lambda c: [(o.reference, o.value.result) for o in c.series("blood_culture")], expect=[("DiagnosticReport/dr-blood_culture", Result.POSITIVE)]),
    row("V6", "a report that concludes no growth", report("blood_culture", conclusionCode=[{"text": "No growth after 5 days"}]), read=result("blood_culture"), expect=Result.NEGATIVE),
    row("V6", "a report withdrawn with its conclusion", report("blood_culture", status="cancelled", conclusionCode=[cc("positive")]), read=lambda c: len(c.series("blood_culture")), expect=0),
    row("V6", "the result of a report before its conclusion", report("blood_culture", conclusionCode=[cc("positive")], result=[{"reference": "Observation/b"}]), obs("blood_culture", "no growth", id="b"), read=result("blood_culture"), expect=Result.NEGATIVE),
    row("V6", "the report of a sample is dated by its collection", specimen("http://x|blood", collection={"collectedDateTime": "2025-04-12T22:00:00+08:00"}), report("blood_culture", specimen=[{"reference": "Specimen/s1"}], conclusionCode=[cc("positive")]), read=lambda c: [o.when.date.day for o in c.series("blood_culture")], expect=[12]),
    row("V6", "an image concludes no culture", report("mri_brain", conclusionCode=[local("focal_edema")]), read=lambda c: len(c.series("mri_brain")), expect=0),
    row("V7", "galactomannan negative", obs("fungal_marker", "negative"), read=result("fungal_marker"), expect=Result.NEGATIVE),
    row("V8", "a pregnancy test by its NHI code and name", obs({"coding": [{"system": "https://twcore.mohw.gov.tw/ig/twcore/CodeSystem/medical-service-payment-tw", "code": "06505C", "display": "懷孕試驗－酵素免疫法"}]}, "陰性"), read=result("hcg_urine"), expect=Result.NEGATIVE),
    row("V8", "hCG below 5", obs("hcg_serum_quant", (4.9, "m[IU]/mL")), read=result("hcg_serum_quant"), expect=Result.NEGATIVE),
    row("V8", "hCG 5 is indeterminate", obs("hcg_serum_quant", (5, "m[IU]/mL")), read=result("hcg_serum_quant"), expect=Result.INDETERMINATE),
    row("V8", "hCG 25 is indeterminate", obs("hcg_serum_quant", (25, "m[IU]/mL")), read=result("hcg_serum_quant"), expect=Result.INDETERMINATE),
    row("V8", "hCG above 25", obs("hcg_serum_quant", (25.1, "m[IU]/mL")), read=result("hcg_serum_quant"), expect=Result.POSITIVE),
    row("V8", "hCG bound below 5", obs("hcg_serum_quant", (2, "m[IU]/mL", "<")), read=result("hcg_serum_quant"), expect=Result.NEGATIVE),
    row("V8", "a number under the code of the qualitative test", obs("hcg_serum_qual", (3, "m[IU]/mL")), read=result("hcg_serum_qual"), expect=Result.NEGATIVE),
    row("V8", "a positive number under the code of the qualitative test", obs("hcg_serum_qual", (400, "m[IU]/mL")), read=result("hcg_serum_qual"), expect=Result.POSITIVE),
    row("V9", "pregnancy status by LOINC answer", obs("pregnancy_status", {"valueCodeableConcept": {"coding": [{"system": LOINC, "code": "LA15173-0"}]}}), read=lambda c: "pregnancy" in only(c, "pregnancy_status").codes, expect=True),
    row("V9", "not pregnant by SNOMED", obs("pregnancy_status", {"valueCodeableConcept": cc("http://snomed.info/sct|60001007")}), read=lambda c: "not_pregnant" in only(c, "pregnancy_status").codes, expect=True),
    row("V9", "any obstetric code is a pregnancy", condition("http://hl7.org/fhir/sid/icd-10-cm|O80"), read=lambda c: len(c.conditions.of("pregnancy")), expect=1),
    row("V10", "HLA-B*58:01", obs("hla_b5801", "cc:positive"), read=result("hla_b5801"), expect=Result.POSITIVE),
    row("V10", "allopurinol allergy", allergy("allopurinol"), read=lambda c: len(c.allergy_to("allopurinol")), expect=1),
]  # fmt: skip
