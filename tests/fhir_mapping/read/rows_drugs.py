# ruff: noqa: E501 - one fact, one line
"""Drugs, vaccines, blood, fluids (chart-facts sections 11, 15, 16)."""

from __future__ import annotations

from datetime import date

from fhir_mapping.chart import Amount, DrugSource, DrugState, EventState, Flag, Route
from tests.fhir_mapping.read.charts import (
    ATC,
    CVX,
    RXNORM,
    SUBJECT,
    UCUM,
    cc,
    dispense,
    given,
    local,
    obs,
    order,
    procedure,
    q,
    service,
    shot,
    statement,
)
from tests.fhir_mapping.read.row import row
from tests.fhir_mapping.read.rows_labs import D

NHI = "https://twcore.mohw.gov.tw/ig/twcore/CodeSystem/medication-path-tw"


def exposure(ingredient: str):  # type: ignore[no-untyped-def]
    def read(chart):  # type: ignore[no-untyped-def]
        (found,) = [e for e in chart.exposures if e.ingredient == ingredient]
        return found.last.date if found.last else None, found.evidence, found.ongoing

    return read


def exposed(chart):  # type: ignore[no-untyped-def]
    return [e.ingredient for e in chart.exposures]


def first(chart):  # type: ignore[no-untyped-def]
    return chart.drugs.all[0]


def daily(start: str, end: str | None = None) -> dict:  # type: ignore[type-arg]
    bounds = {"start": start, **({"end": end} if end else {})}
    return {"repeat": {"boundsPeriod": bounds, "frequency": 1, "period": 1, "periodUnit": "d"}}


CALCULATED = {"coding": [{"code": "calculated"}]}
ORDERED = {"coding": [{"code": "ordered"}]}
MEDICATION = {
    "resourceType": "Medication",
    "id": "m",
    "code": cc(f"{ATC}|L04AC07"),
    "batch": {"lotNumber": "LOT7"},
    "ingredient": [
        {
            "itemCodeableConcept": cc("tocilizumab"),
            "strength": {"numerator": q(20, "mg"), "denominator": q(1, "mL")},
        }
    ],
}
BY_REFERENCE = {"medicationCodeableConcept": None, "medicationReference": {"reference": "Medication/m"}}
PREMIX = {
    "resourceType": "Medication",
    "id": "m",
    "code": cc("sodium_chloride"),
    "ingredient": [
        {
            "itemCodeableConcept": cc("sodium_chloride"),
            "strength": {"numerator": q(9, "g"), "denominator": q(1, "L")},
        },
        {
            "itemCodeableConcept": cc("potassium_chloride"),
            "strength": {"numerator": q(20, "mmol"), "denominator": q(1, "L")},
        },
    ],
}

ROWS = [
    row("M1", "a dose given", given("fludarabine", "2025-04-10T09:00:00+08:00"), read=exposure("fludarabine"), expect=(date(2025, 4, 10), DrugSource.ADMINISTRATION, False)),
    row("M1", "the latest end of all kinds", given("imatinib", "2025-03-01T09:00:00+08:00", route="route_oral"), dispense("imatinib", "2025-03-02", 30, dosageInstruction=[{"route": cc("route_oral")}]), read=exposure("imatinib"), expect=(date(2025, 4, 1), DrugSource.DISPENSE, False)),
    row("M1", "planned end of an order", order("imatinib", timing=daily("2025-04-01", "2025-05-01")), read=exposure("imatinib"), expect=(date(2025, 5, 1), DrugSource.ORDER, False)),
    row("M1", "active order without an end", order("imatinib", timing=daily("2025-04-01")), given("imatinib", "2025-04-02T09:00:00+08:00"), read=exposure("imatinib"), expect=(None, DrugSource.ORDER, True)),
    row("M1", "running infusion", given("cytarabine", status="in-progress", effectiveDateTime=None, effectivePeriod={"start": "2025-04-16T08:00:00+08:00"}), read=exposure("cytarabine"), expect=(None, DrugSource.ADMINISTRATION, True)),
    row("M1", "statement with a period", statement("prednisone", status="completed", effectivePeriod={"start": "2025-01-01", "end": "2025-02"}), read=exposure("prednisone"), expect=(date(2025, 2, 28), DrugSource.STATEMENT, False)),
    row("M1", "a stopped order has an unknown last dose", order("lenalidomide", status="stopped", timing=daily("2025-03-01")), read=exposure("lenalidomide"), expect=(None, DrugSource.ORDER, False)),
    row("M1", "what begins later is not taken yet", statement("imatinib", effectivePeriod={"start": "2025-06-01"}), read=lambda c: (exposed(c), first(c).state), expect=([], DrugState.PLAN)),
    row("M1", "nothing is completed in the future", statement("imatinib", status="completed", effectiveDateTime="2025-06-01"), read=lambda c: (exposed(c), [x.text for x in c.losses]), expect=([], ["in the future"])),
    row("M1", "never: not done, not taken, plans, entered in error", given("fludarabine", status="not-done"), statement("imatinib", status="not-taken"), order("dasatinib", intent="plan"), given("cytarabine", status="entered-in-error"), read=exposed, expect=[]),
    row("M1", "an as-needed order alone is none", order("dexamethasone", prn=True), read=exposed, expect=[]),
    row("M1", "a partly given dose is an exposure", given("fludarabine", status="stopped"), read=lambda c: (exposed(c), first(c).state), expect=(["fludarabine"], DrugState.PARTIAL)),
    row("M1", "an interrupted infusion has an unknown end", given("cytarabine", status="on-hold", effectiveDateTime=None, effectivePeriod={"start": "2025-04-15T08:00:00+08:00"}), read=exposure("cytarabine"), expect=(None, DrugSource.ADMINISTRATION, False)),
    row("M1", "drug known by its local code", given(local("besifovir")), read=exposed, expect=["besifovir"]),
    row("M2", "order in force", order("tacrolimus", timing=daily("2025-04-01")), read=lambda c: [d.state for d in c.active_drugs("class_calcineurin_inhibitors")], expect=[DrugState.ACTIVE]),
    row("M2", "on hold is not in force", order("tacrolimus", status="on-hold"), read=lambda c: c.active_drugs("tacrolimus"), expect=()),
    row("M2", "newer statement says not taken", order("tacrolimus", timing=daily("2025-04-01")), statement("tacrolimus", status="not-taken", dateAsserted="2025-04-10"), read=lambda c: [(d.state, Flag.REPORTED in d.flags) for d in c.orders("tacrolimus")], expect=[(DrugState.STOPPED, True)]),
    row("M2", "older statement says not taken", order("tacrolimus", timing=daily("2025-04-01")), statement("tacrolimus", status="not-taken", dateAsserted="2025-03-10"), read=lambda c: len(c.active_drugs("tacrolimus")), expect=1),
    row("M3", "contained medication", order({}, id="r", medicationCodeableConcept=None, medicationReference={"reference": "#m"}, contained=[MEDICATION]), read=lambda c: first(c).ingredients, expect=("tocilizumab",)),
    row("M3", "bundled medication", MEDICATION, order({}, id="r", **BY_REFERENCE), read=lambda c: first(c).ingredients, expect=("tocilizumab",)),
    row("M3", "absolute reference", MEDICATION, order({}, id="r", medicationCodeableConcept=None, medicationReference={"reference": "https://ehr.example/fhir/Medication/m/_history/3"}), read=lambda c: first(c).ingredients, expect=("tocilizumab",)),
    row("M3", "unresolved reference with a name", order({}, id="r", medicationCodeableConcept=None, medicationReference={"reference": "Medication/z", "display": "Actemra"}), read=lambda c: (first(c).ingredients, Flag.BY_NAME in first(c).flags), expect=(("tocilizumab",), True)),
    row("M3", "unresolved reference without a name", order({}, id="r", medicationCodeableConcept=None, medicationReference={"reference": "Medication/z"}), read=lambda c: (first(c).identified, first(c).concepts), expect=(False, frozenset())),
    row("M3", "another drug is identified by its name", order({"text": "Metformin 500 mg"}), read=lambda c: (first(c).identified, first(c).concepts, first(c).name), expect=(True, frozenset(), "Metformin 500 mg")),
    row("M3", "every ingredient of a combination", order("sulfamethoxazole_trimethoprim"), read=lambda c: {"sulfamethoxazole", "trimethoprim"} <= set(first(c).ingredients), expect=True),
    row("M3", "exact name with strength and form", order({"text": "Imdelltra 10 mg vial"}), read=lambda c: (first(c).ingredients, Flag.BY_NAME in first(c).flags), expect=(("tarlatamab",), True)),
    row("M3", "a phrase is no name", order({"text": "avoid tocilizumab please"}), read=lambda c: first(c).ingredients, expect=()),
    row("M3", "contradictory codes leave it unidentified", order(cc("tocilizumab", "siltuximab")), read=lambda c: (first(c).identified, first(c).ingredients, [x.reason.value for x in c.losses]), expect=(False, (), ["contradictory"])),
    row("M3", "ATC and RxNorm of one drug are synonyms", order(cc(f"{ATC}|L04AC07", f"{RXNORM}|612865")), read=lambda c: (first(c).ingredients, len(c.losses)), expect=(("tocilizumab",), 0)),
    row("M3", "newer FHIR shape", {**order({}, id="r", medicationCodeableConcept=None), "medication": {"concept": cc("tocilizumab")}}, read=lambda c: first(c).ingredients, expect=("tocilizumab",)),
    row("M4", "mass in grams", order("methotrexate", dose=q(1.5, "g")), read=lambda c: first(c).dose.mg, expect=D("1500.0")),
    row("M4", "micrograms", order("filgrastim", dose=q(300, "ug")), read=lambda c: first(c).dose.mg, expect=D("0.3")),
    row("M4", "ordered and calculated", order("fludarabine", doses=[{"type": CALCULATED, "doseQuantity": q(30, "mg/m2")}, {"type": ORDERED, "doseQuantity": q(54, "mg")}]), read=lambda c: (first(c).dose.mg, first(c).dose.per), expect=(D("54"), Amount(D("30"), "mg/m2"))),
    row("M4", "clash of ordered and calculated", obs("body_weight", (70, "kg")), order("tocilizumab", doses=[{"type": CALCULATED, "doseQuantity": q(8, "mg/kg")}, {"type": ORDERED, "doseQuantity": q(800, "mg")}]), read=lambda c: Flag.DOSE_CLASH in first(c).dose.flags, expect=True),
    row("M4", "no clash within 10 %", obs("body_weight", (70, "kg")), order("tocilizumab", doses=[{"type": CALCULATED, "doseQuantity": q(8, "mg/kg")}, {"type": ORDERED, "doseQuantity": q(600, "mg")}]), read=lambda c: Flag.DOSE_CLASH in first(c).dose.flags, expect=False),
    row("M4", "high end of a range", order("dexamethasone", doses=[{"doseRange": {"low": q(4, "mg"), "high": q(8, "mg")}}]), read=lambda c: (first(c).dose.mg, Flag.RANGE_HIGH_END in first(c).dose.flags), expect=(D("8"), True)),
    row("M4", "a range of one figure", order("dexamethasone", doses=[{"doseRange": {"low": q(8, "mg"), "high": q(8, "mg")}}]), read=lambda c: (first(c).dose.mg, Flag.RANGE_HIGH_END in first(c).dose.flags), expect=(D("8"), False)),
    row("M4", "mL with the product's strength", MEDICATION, order({}, id="r", dose=q(28, "mL"), **BY_REFERENCE), read=lambda c: (first(c).dose.mg, first(c).dose.volume), expect=(D("560"), Amount(D("28"), "mL"))),
    row("M4", "tablets are unreadable and shown", order("dexamethasone", dose={"value": 2, "unit": "tablet"}), read=lambda c: (first(c).dose.mg, first(c).dose.unreadable), expect=(None, "2 tablet")),
    row("M4", "no dose", order("dexamethasone"), read=lambda c: first(c).dose, expect=None),
    row("M4", "rate times length", given("cytarabine", effectiveDateTime=None, effectivePeriod={"start": "2025-04-15T08:00:00+08:00", "end": "2025-04-15T10:00:00+08:00"}, rate=q(50, "mg/h")), read=lambda c: first(c).dose.mg, expect=D("100")),
    row("M4", "larger of two instructions", order("dexamethasone", dosageInstruction=[{"sequence": 1, "doseAndRate": [{"doseQuantity": q(4, "mg")}]}, {"sequence": 2, "doseAndRate": [{"doseQuantity": q(10, "mg")}]}]), read=lambda c: (first(c).dose.mg, first(c).instruction_count, [i.dose.mg for i in first(c).instructions]), expect=(D("10"), 2, [D("4"), D("10")])),
    row("M5", "rate", given("norepinephrine", rate=q(0.12, "ug/kg/min")), read=lambda c: first(c).rate, expect=Amount(D("0.12"), "ug/kg/min")),
    row("M5", "length by volume and rate", order("sodium_chloride", doses=[{"doseQuantity": q(1000, "mL"), "rateQuantity": q(500, "mL/h")}]), read=lambda c: first(c).timing.infusion_minutes, expect=D("120")),
    row("M5", "length by the denominator of the rate", order("tarlatamab", doses=[{"doseQuantity": q(1, "mg"), "rateRatio": {"numerator": q(250, "mL"), "denominator": q(60, "min")}}]), read=lambda c: first(c).timing.infusion_minutes, expect=D("60")),
    row("M5", "length of an administration", given("tisagenlecleucel", effectiveDateTime=None, effectivePeriod={"start": "2025-04-12T14:00:00+08:00", "end": "2025-04-12T14:25:00+08:00"}), read=lambda c: first(c).timing.infusion_minutes, expect=D("25.0")),
    row("M6", "route by NHI code", order("bendamustine", dosageInstruction=[{"route": {"coding": [{"system": NHI, "code": "IVD"}]}}]), read=lambda c: first(c).route, expect=Route.INTRAVENOUS),
    row("M6", "NHI IVI is intravitreal", order("methotrexate", dosageInstruction=[{"route": {"coding": [{"system": NHI, "code": "IVI"}]}}]), read=lambda c: first(c).route, expect=Route.OPHTHALMIC),
    row("M6", "route as text", order("methotrexate", dosageInstruction=[{"route": {"text": "intrathecal"}}]), read=lambda c: first(c).route, expect=Route.INTRATHECAL),
    row("M6", "route by the form of the product", order({"text": "Hydrocortisone cream"}), read=lambda c: (first(c).route, "hydrocortisone" in first(c).ingredients), expect=(Route.TOPICAL, True)),
    row("M6", "route by ATC group", order(f"{ATC}|D07AA02"), read=lambda c: first(c).route, expect=Route.TOPICAL),
    row("M6", "a stated route beats the ATC group", order(f"{ATC}|D11AH01", route="route_topical"), read=lambda c: first(c).route, expect=Route.TOPICAL),
    row("M6", "no route", order("dexamethasone"), read=lambda c: first(c).route, expect=None),
    row("M6", "a route that is none of ours", order("dexamethasone", dosageInstruction=[{"route": {"text": "dental"}}]), read=lambda c: first(c).route, expect=Route.OTHER),
    row("M7", "dose per area", order("cytarabine", dose=q(2, "g/m2")), read=lambda c: first(c).dose.amount, expect=Amount(D("2000"), "mg/m2")),
    row("M8", "regimen by group", order("etoposide", groupIdentifier={"system": "urn:tcell-cds:concept", "value": "regimen-r-eshap"}), read=lambda c: first(c).regimens, expect=frozenset({"regimen_r_eshap"})),
    row("M8", "regimen by category", order("etoposide", category=[local("regimen_ice")]), read=lambda c: first(c).regimens, expect=frozenset({"regimen_ice"})),
    row("M8", "category as an object", order("etoposide", category=local("regimen_ice")), read=lambda c: first(c).regimens, expect=frozenset({"regimen_ice"})),
    row("M8", "procedure with a regimen", procedure(cc("chemotherapy", "regimen_gdp")), read=lambda c: (c.procedures.of("chemotherapy")[0].regimens), expect=frozenset({"regimen_gdp"})),
    row("M9", "vasopressor running", given("norepinephrine", status="in-progress", effectiveDateTime=None, effectivePeriod={"start": "2025-04-16T07:30:00+08:00"}), read=lambda c: [d.timing.ongoing for d in c.administrations("norepinephrine")], expect=[True]),
    row("M10", "anticytokine dose", given("tocilizumab", dose=q(560, "mg")), read=lambda c: c.administrations("tocilizumab")[0].dose.mg, expect=D("560")),
    row("M10", "date-only dose has no hour", given("tocilizumab", "2025-04-15"), read=lambda c: c.administrations("tocilizumab")[0].timing.first.exact, expect=False),
    row("M11", "antipyretic class", given("paracetamol"), read=lambda c: len(c.administrations("class_antipyretics")), expect=1),
    row("M12", "steroid class and purpose", order("hydrocortisone", reasonCode=[local("purpose_replacement")]), read=lambda c: (first(c).is_any({"class_glucocorticoids"}), first(c).purposes), expect=(True, frozenset({"purpose_replacement"}))),
    row("M13", "immunosuppressant class", order("ciclosporin"), read=lambda c: len(c.active_drugs("class_immunosuppressants")), expect=1),
    row("M14", "intrathecal apart from systemic", given("methotrexate", route="route_intrathecal"), given("methotrexate", "2025-04-02T08:00:00+08:00", id="b", route="route_oral"), read=lambda c: [(e.route, e.last.date) for e in c.exposures], expect=[(Route.INTRATHECAL, date(2025, 4, 15)), (Route.ORAL, date(2025, 4, 2))]),
    row("M15", "premedication purpose", given("diphenhydramine", reasonCode=[local("purpose_premedication")]), read=lambda c: first(c).purposes, expect=frozenset({"purpose_premedication"})),
    row("M16", "prophylaxis by category", order("acyclovir", category=[local("purpose_prophylaxis")]), read=lambda c: first(c).purposes, expect=frozenset({"purpose_prophylaxis"})),
    row("M16", "purpose of the order behind a dose", order("acyclovir", id="r", category=[local("purpose_prophylaxis")]), given("acyclovir", request={"reference": "MedicationRequest/r"}), read=lambda c: c.administrations("acyclovir")[0].purposes, expect=frozenset({"purpose_prophylaxis"})),
    row("M16", "reason beats category", order("acyclovir", reasonCode=[local("purpose_treatment")], category=[local("purpose_prophylaxis")]), read=lambda c: first(c).purposes, expect=frozenset({"purpose_treatment"})),
    row("M16", "a note that is exactly a purpose", order("acyclovir", note=[{"text": "Prophylaxis"}]), read=lambda c: (first(c).purposes, Flag.DERIVED in first(c).flags), expect=(frozenset({"purpose_prophylaxis"}), True)),
    row("M16", "a note that only mentions it is prose", order("acyclovir", note=[{"text": "no prophylaxis needed"}]), read=lambda c: first(c).purposes, expect=frozenset()),
    row("M17", "growth factor class", given("lenograstim"), read=lambda c: len(c.administrations("class_csf")), expect=1),
    row("M18", "TLS drug", given("rasburicase", dose=q(0.2, "mg/kg")), read=lambda c: first(c).dose.amount, expect=Amount(D("0.2"), "mg/kg")),
    row("M19", "anticonvulsant", order("levetiracetam"), read=lambda c: len(c.active_drugs("class_antiepileptics")), expect=1),
    row("M20", "immunoglobulin per kg", given("ivig", dose=q(0.4, "g/kg")), read=lambda c: first(c).dose.amount, expect=Amount(D("400"), "mg/kg")),
    row("M20", "held immunoglobulin", order("ivig", status="on-hold"), read=lambda c: (first(c).state, Flag.ON_HOLD in first(c).flags), expect=(DrugState.ON_HOLD, True)),
    row("M21", "bicarbonate", order(local("sodium_bicarbonate")), read=lambda c: first(c).ingredients, expect=("sodium_bicarbonate",)),
    row("M22", "scheduled antiemetic", order(local("olanzapine"), prn=True), read=lambda c: first(c).timing.as_needed, expect=True),
    row("M23", "topical ruxolitinib by route", order(f"{RXNORM}|1193326", route="route_topical"), read=lambda c: first(c).ingredients, expect=("ruxolitinib_topical",)),
    row("M23", "oral ruxolitinib by route", order(f"{RXNORM}|1193326", route="route_oral"), read=lambda c: first(c).ingredients, expect=("ruxolitinib",)),
    row("M23", "without a route it is systemic", order(f"{RXNORM}|42316"), read=lambda c: first(c).ingredients, expect=("tacrolimus",)),
    row("M23", "ointment by name", order({"text": "tacrolimus ointment"}), read=lambda c: first(c).ingredients, expect=("tacrolimus_topical",)),
    row("M23", "topical is no calcineurin class", order({"text": "tacrolimus ointment"}), read=lambda c: first(c).is_any({"class_calcineurin_inhibitors"}), expect=False),
    row("M23", "topical by ATC", order(f"{ATC}|D11AH01"), read=lambda c: first(c).ingredients, expect=("tacrolimus_topical",)),
    row("M24", "waiver points at the exposure", obs("purpose_five_half_lives_waived", True, focus=[{"reference": "MedicationAdministration/ma-rituximab"}]), read=lambda c: c.series("purpose_five_half_lives_waived").items[0].focus, expect=("MedicationAdministration/ma-rituximab",)),
    row("M25", "platinum ever", order("cisplatin", status="completed", timing=daily("2023-01-01", "2023-03-01")), read=lambda c: [e.last.date for e in c.exposures if "class_platinum" in e.concepts], expect=[date(2023, 3, 1)]),
    row("M26", "azole", order("voriconazole"), read=lambda c: len(c.active_drugs("class_azole_antifungals")), expect=1),
    # vaccines
    row("I1", "vaccine given", shot(f"{CVX}|140", protocolApplied=[{"doseNumberPositiveInt": 2}]), read=lambda c: [(v.when.date, v.dose_number) for v in c.vaccines.of("class_vaccines")], expect=[(date(2025, 4, 1), 2)]),
    row("I1", "CVX 3 is 03", shot(f"{CVX}|3"), read=lambda c: len(c.vaccines.of("vac_mmr")), expect=1),
    row("I1", "date unknown", shot("vac_rzv", None, occurrenceString="last year"), read=lambda c: [v.when for v in c.vaccines.all], expect=[None]),
    row("I1", "subpotent is marked", shot("vac_rzv", isSubpotent=True), read=lambda c: c.vaccines.all[0].subpotent, expect=True),
    row("I1", "administration of a vaccine", given("vac_rzv", "2025-04-02"), read=lambda c: [v.reference for v in c.vaccines.of("vac_rzv")], expect=["MedicationAdministration/ma-vac_rzv"]),
    row("I1", "one shot reported twice is one", given("vac_rzv", "2025-04-01"), shot("vac_rzv"), read=lambda c: [v.reference for v in c.vaccines.of("vac_rzv")], expect=["Immunization/im-vac_rzv"]),
    row("I2", "vaccine ordered as a drug", order("vac_rzv"), read=lambda c: len(c.vaccine_orders.of("vac_rzv")), expect=1),
    row("I2", "vaccine ordered by a service", service({"text": "Vaccination"}, orderDetail=[cc("vac_rzv")]), read=lambda c: len(c.vaccine_orders.of("vac_rzv")), expect=1),
    row("I2", "a recommendation is no order", {"resourceType": "ImmunizationRecommendation", "id": "i", "patient": SUBJECT, "recommendation": [{"vaccineCode": [cc("vac_rzv")], "forecastStatus": {"coding": [{"code": "due"}]}, "dateCriterion": [{"value": "2025-05-01"}]}, {"vaccineCode": [cc("vac_mmr")], "forecastStatus": {"coding": [{"code": "complete"}]}}]}, read=lambda c: [(v.recommendation, v.when.date) for v in c.vaccine_orders], expect=[(True, date(2025, 5, 1))]),
    row("I2", "vaccine in the draft bundle", read=lambda c: [v.when for v in c.drafts.vaccines.of("vac_rzv")], expect=[None], drafts=[{"resourceType": "Immunization", "id": "i", "vaccineCode": cc("vac_rzv")}]),
    row("I3", "generic influenza by injection", shot(f"{CVX}|88", route=cc("route_intramuscular")), read=lambda c: "vac_influenza_inactivated" in c.vaccines.all[0].concepts, expect=True),
    row("I3", "by product name", shot({"text": "Shingrix"}), read=lambda c: len(c.vaccines.of("vac_rzv")), expect=1),
    row("I3", "unknown type has no concept", shot({"text": "some vaccine"}), read=lambda c: (c.vaccines.all[0].concepts, c.vaccines.all[0].text), expect=(frozenset(), "some vaccine")),
    row("I4", "post-exposure", order("vac_rabies", reasonCode=[local("purpose_post_exposure")]), read=lambda c: c.vaccine_orders.all[0].purposes, expect=frozenset({"purpose_post_exposure"})),
    row("I5", "serology", obs("vaccine_serology", "cc:positive"), read=lambda c: len(c.series("vaccine_serology")), expect=1),
    # blood and fluids
    row("B1", "red cells ordered with units", service("red_cells", quantityQuantity={"value": 2, "unit": "{unit}", "system": UCUM, "code": "{unit}"}), read=lambda c: c.services.of("red_cells")[0].quantity, expect=Amount(D("2"), "{unit}")),
    row("B2", "irradiated by detail", service("red_cells", orderDetail=[local("irradiated")]), read=lambda c: c.services.all[0].details, expect=frozenset({"irradiated"})),
    row("B2", "irradiated by code", service("platelets_irradiated"), read=lambda c: (len(c.services.of("platelet_product")), "irradiated" in c.services.all[0].details), expect=(1, True)),
    row("B2", "照射 as text", service("red_cells", orderDetail=[{"text": "照射"}]), read=lambda c: "irradiated" in c.services.all[0].details, expect=True),
    row("B2", "not irradiated as prose", service("red_cells", note=[{"text": "not irradiated"}]), read=lambda c: c.services.all[0].details, expect=frozenset()),
    row("B3", "transfusion given", procedure("transfusion_rbc"), read=lambda c: [p.state for p in c.procedures.of("transfusion_rbc")], expect=[EventState.DONE]),
    row("B4", "vitamin K", given("phytonadione"), read=exposed, expect=["phytonadione"]),
    row("B5", "fluid volume in litres", order("sodium_chloride", dose=q(1, "L"), route="route_intravenous"), read=lambda c: first(c).dose.volume, expect=Amount(D("1000"), "mL")),
    row("B5", "fluid as a service", service("iv_fluids", quantityQuantity=q(2, "L")), read=lambda c: c.services.all[0].quantity, expect=Amount(D("2000"), "mL")),
    row("B6", "potassium in the bag", PREMIX, order({}, id="r", dose=q(500, "mL"), **BY_REFERENCE), read=lambda c: ("potassium_chloride" in first(c).ingredients, dict(first(c).strengths)["potassium_chloride"], first(c).dose.volume), expect=(True, Amount(D("0.02"), "mmol/mL"), Amount(D("500"), "mL"))),
    row("B7", "bolus", given("sodium_chloride", effectiveDateTime=None, effectivePeriod={"start": "2025-04-16T08:00:00+08:00", "end": "2025-04-16T08:30:00+08:00"}, dose=q(500, "mL")), read=lambda c: (first(c).dose.volume, first(c).timing.infusion_minutes), expect=(Amount(D("500"), "mL"), D("30.0"))),
    row("B7", "hydration documented", obs("hydration_adequate", True), read=lambda c: len(c.series("hydration_adequate")), expect=1),
]  # fmt: skip
