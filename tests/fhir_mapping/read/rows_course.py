# ruff: noqa: E501 - one fact, one line
"""Course anchors, procedures, products, visits (chart-facts sections 12-14, 17)."""

from __future__ import annotations

from datetime import date

from fhir_mapping.chart import EventState, Evidence, Flag
from tests.fhir_mapping.read.charts import (
    ICD,
    SNOMED,
    SUBJECT,
    cc,
    condition,
    given,
    local,
    obs,
    only,
    order,
    procedure,
    q,
    report,
    service,
    specimen,
    statement,
    stay,
    visit,
)
from tests.fhir_mapping.read.row import row
from tests.fhir_mapping.read.rows_labs import D, number

APHERESIS = f"{SNOMED}|127788007"
CART = "tisagenlecleucel"
FOR_CART = {"reasonCode": [local("purpose_car_t_collection")]}
COLLECTED = procedure(APHERESIS, "2025-03-01T08:00:00+08:00", **FOR_CART)
D0 = given(CART, "2025-04-12T14:00:00+08:00")
BOOKED_D0 = visit("car_t_infusion", "2025-04-25T10:00:00+08:00")


def freezing(chart):  # type: ignore[no-untyped-def]
    return [
        (p.reference, p.start.earliest.hour, p.end.latest.hour)
        for p in chart.procedures.of("cryopreservation")
    ]


def documented(chart):  # type: ignore[no-untyped-def]
    return [document.concepts for document in chart.documents]


def plan(activity, **more):  # type: ignore[no-untyped-def]
    plain = {"resourceType": "CarePlan", "id": "cp", "status": "active", "intent": "plan", "subject": SUBJECT}
    return {**plain, "activity": [activity], **more}


FREEZING = {
    "procedure": cc("cryopreservation"),
    "timePeriod": {"start": "2025-03-01T15:00:00+08:00", "end": "2025-03-01T17:00:00+08:00"},
}
STORED = {
    "resourceType": "BiologicallyDerivedProduct",
    "id": "bdp",
    "productCode": cc("apheresis_product"),
    "storage": [
        {
            "temperature": 5,
            "scale": "celsius",
            "period": {"start": "2025-03-01T12:00:00+08:00", "end": "2025-03-01T15:00:00+08:00"},
        }
    ],
}


def planned(chart):  # type: ignore[no-untyped-def]
    anchor = chart.course.leukapheresis
    return None if anchor is None else (anchor.evidence, anchor.date)


def ldc(chart):  # type: ignore[no-untyped-def]
    course = chart.course
    return (
        [d.name for d in course.ldc_records],
        course.ldc_first and course.ldc_first.date,
        course.ldc_last and course.ldc_last.date,
    )


def doses(*days: str) -> dict:  # type: ignore[type-arg]
    return {"event": [f"{day}T09:00:00+08:00" for day in days]}


ROWS = [
    row("K1", "evaluation ordered", service("car_t_evaluation"), read=lambda c: (c.course.evaluation, c.course.candidate), expect=("ServiceRequest/sr-car_t_evaluation", True)),
    row("K1", "episode of care", {"resourceType": "EpisodeOfCare", "id": "e", "status": "active", "patient": SUBJECT, "type": [local("car_t_evaluation")]}, read=lambda c: c.course.candidate, expect=True),
    row("K1", "an episode of care that is only planned", {"resourceType": "EpisodeOfCare", "id": "e", "status": "planned", "patient": SUBJECT, "type": [local("car_t_evaluation")]}, read=lambda c: (c.course.candidate, len(c.losses)), expect=(False, 0)),
    row("K1", "care plan", {"resourceType": "CarePlan", "id": "e", "status": "active", "intent": "plan", "subject": SUBJECT, "category": [local("car_t_evaluation")]}, read=lambda c: c.course.candidate, expect=True),
    row("K1", "a revoked evaluation ends it", service("car_t_evaluation", status="revoked"), read=lambda c: c.course.candidate, expect=False),
    row("K2", "booked for CAR-T", visit(APHERESIS, reasonCode=[local("purpose_car_t_collection")]), read=planned, expect=(Evidence.BOOKED, date(2025, 4, 20))),
    row("K2", "own code says it", visit(local("leukapheresis")), read=planned, expect=(Evidence.BOOKED, date(2025, 4, 20))),
    row("K2", "own code as the reason", visit({"text": "Day unit"}, reasonCode=[local("leukapheresis")]), read=planned, expect=(Evidence.BOOKED, date(2025, 4, 20))),
    row("K2", "own code of the order behind it", service(local("leukapheresis"), id="s", status="completed"), visit({"text": "Day unit"}, basedOn=[{"reference": "ServiceRequest/s"}]), read=planned, expect=(Evidence.BOOKED, date(2025, 4, 20))),
    row("K2", "apheresis beside an evaluation", visit(APHERESIS), service("car_t_evaluation"), read=planned, expect=(Evidence.BOOKED, date(2025, 4, 20))),
    row("K2", "apheresis beside a product order", visit(APHERESIS), order(CART), read=planned, expect=(Evidence.BOOKED, date(2025, 4, 20))),
    row("K2", "bare apheresis beside a CAR-T disease only asks", visit(APHERESIS), condition("dlbcl"), read=lambda c: (planned(c), c.course.possible_collection.reference, c.course.candidate), expect=(None, f"Appointment/ap-{APHERESIS}", False)),
    row("K2", "bare apheresis without a disease is nothing", visit(APHERESIS), read=lambda c: (planned(c), c.course.possible_collection), expect=(None, None)),
    row("K2", "plasma exchange is none", visit(cc(APHERESIS, "plasmapheresis"), reasonCode=[local("purpose_car_t_collection")]), read=planned, expect=None),
    row("K2", "stem cell collection is none", visit(APHERESIS, reasonCode=[local("purpose_stem_cell_collection")]), service("car_t_evaluation"), read=planned, expect=None),
    row("K2", "ordered with an occurrence", service(APHERESIS, occurrenceDateTime="2025-05-02", **FOR_CART), read=planned, expect=(Evidence.ORDERED, date(2025, 5, 2))),
    row("K2", "the date of an order is no date of collection", service(APHERESIS, **FOR_CART), read=planned, expect=(Evidence.ORDERED, None)),
    row("K2", "booking beats order", visit(APHERESIS, "2025-04-28T08:00:00+08:00", **FOR_CART), service(APHERESIS, occurrenceDateTime="2025-05-02", **FOR_CART), read=planned, expect=(Evidence.BOOKED, date(2025, 4, 28))),
    row("K2", "procedure in preparation", procedure(APHERESIS, "2025-05-01", status="preparation", **FOR_CART), read=planned, expect=(Evidence.ORDERED, date(2025, 5, 1))),
    row("K2", "a past booking is not confirmed", visit(APHERESIS, "2025-04-01T08:00:00+08:00", **FOR_CART), read=lambda c: (planned(c), Flag.BOOKING_ONLY in c.course.leukapheresis.flags), expect=((Evidence.BOOKED, date(2025, 4, 1)), True)),
    row("K2", "the appointment under test beats a booking", visit(APHERESIS, "2025-04-28T08:00:00+08:00", **FOR_CART), read=planned, expect=(Evidence.PROPOSED, date(2025, 5, 5)), appointments=[visit(APHERESIS, "2025-05-05T08:00:00+08:00", id="new", status="proposed", **FOR_CART)]),
    row("K3", "collected", COLLECTED, read=lambda c: (c.course.collected.date, c.course.candidate), expect=(date(2025, 3, 1), True)),
    row("K3", "by specimen", specimen("apheresis_product", collection={"collectedPeriod": {"start": "2025-03-02T08:00:00+08:00", "end": "2025-03-02T12:00:00+08:00"}}), read=lambda c: c.course.collected.date, expect=date(2025, 3, 2)),
    row("K3", "fulfilled appointment is flagged", visit(APHERESIS, "2025-03-03T08:00:00+08:00", status="fulfilled", **FOR_CART), read=lambda c: (c.course.collected.date, Flag.BOOKING_ONLY in c.course.collected.flags), expect=(date(2025, 3, 3), True)),
    row("K3", "apheresis before an autologous transplant is not CAR-T", procedure(APHERESIS, "2024-01-10"), procedure("auto_hct", "2024-02-10"), service("car_t_evaluation"), read=lambda c: c.course.collections, expect=()),
    row("K3", "several collections in order", COLLECTED, procedure(APHERESIS, "2025-03-05T08:00:00+08:00", id="b", **FOR_CART), read=lambda c: [a.date for a in c.course.collections], expect=[date(2025, 3, 1), date(2025, 3, 5)]),
    row("K3", "collected: the plan behind it is gone", COLLECTED, visit(APHERESIS, "2025-03-01T08:00:00+08:00", **FOR_CART), read=planned, expect=None),
    row("K3", "collected: a second booking stays", COLLECTED, visit(APHERESIS, "2025-04-28T08:00:00+08:00", **FOR_CART), read=planned, expect=(Evidence.BOOKED, date(2025, 4, 28))),
    row("K3", "a collection of which only the bag tells, over midnight", specimen("apheresis_product", id="a", status="available", collection={"collectedPeriod": {"start": "2025-03-01T22:00:00+08:00", "end": "2025-03-02T01:00:00+08:00"}}), read=lambda c: [(a.when.earliest.isoformat()[8:13], a.end.latest.isoformat()[8:13]) for a in c.course.collections], expect=[("01T22", "02T01")]),
    row("K3", "a bag sent to the manufacturer was collected", specimen("apheresis_product", id="a", status="unavailable", collection={"collectedPeriod": {"start": "2025-03-01T08:00:00+08:00", "end": "2025-03-01T11:00:00+08:00"}}), read=lambda c: [(a.when.earliest.isoformat()[8:13], a.end.latest.isoformat()[8:13]) for a in c.course.collections], expect=[("01T08", "01T11")]),
    row("K3", "two bags of one day are one collection", specimen("apheresis_product", id="a", status="available", collection={"collectedPeriod": {"start": "2025-03-01T08:00:00+08:00", "end": "2025-03-01T10:00:00+08:00"}}), specimen("apheresis_product", id="b", status="available", collection={"collectedPeriod": {"start": "2025-03-01T09:00:00+08:00", "end": "2025-03-01T12:00:00+08:00"}}), read=lambda c: [(a.when.earliest.isoformat()[8:13], a.end.latest.isoformat()[8:13]) for a in c.course.collections], expect=[("01T08", "01T12")]),
    row("K4", "stated purpose", order("cyclophosphamide", timing=doses("2025-04-20", "2025-04-21"), reasonCode=[local("purpose_lymphodepletion")]), read=ldc, expect=(["cyclophosphamide"], date(2025, 4, 20), date(2025, 4, 21))),
    row("K4", "stated by group", order("cyclophosphamide", timing=doses("2025-04-20"), groupIdentifier={"system": "urn:tcell-cds:concept", "value": "lymphodepletion"}), read=lambda c: ldc(c)[0], expect=["cyclophosphamide"]),
    row("K4", "fludarabine after the collection is inferred", COLLECTED, order("fludarabine", timing=doses("2025-04-20")), read=lambda c: ldc(c)[0], expect=["fludarabine"]),
    row("K4", "fludarabine before the collection is not", order("fludarabine", timing=doses("2025-02-20")), COLLECTED, read=lambda c: ldc(c)[0], expect=[]),
    row("K4", "cyclophosphamide beside fludarabine", COLLECTED, order("fludarabine", timing=doses("2025-04-20")), order("cyclophosphamide", timing=doses("2025-04-21")), read=lambda c: sorted(ldc(c)[0]), expect=["cyclophosphamide", "fludarabine"]),
    row("K4", "cyclophosphamide 4 days before the booked infusion", COLLECTED, BOOKED_D0, order("cyclophosphamide", timing=doses("2025-04-20", "2025-04-21")), read=lambda c: ldc(c)[0], expect=["cyclophosphamide"]),
    row("K4", "cyclophosphamide 15 days before is not", COLLECTED, BOOKED_D0, order("cyclophosphamide", timing=doses("2025-04-10")), read=lambda c: ldc(c)[0], expect=[]),
    row("K4", "bridging is never lymphodepletion", COLLECTED, BOOKED_D0, order("bendamustine", timing=doses("2025-04-20"), reasonCode=[local("purpose_bridging")]), read=lambda c: ldc(c)[0], expect=[]),
    row("K4", "another regimen is never lymphodepletion", COLLECTED, BOOKED_D0, order("cyclophosphamide", timing=doses("2025-04-20"), category=[local("regimen_chop")]), read=lambda c: ldc(c)[0], expect=[]),
    row("K4", "cytarabine needs etoposide", COLLECTED, BOOKED_D0, order("cytarabine", timing=doses("2025-04-20")), read=lambda c: ldc(c)[0], expect=[]),
    row("K4", "cytarabine with etoposide", COLLECTED, BOOKED_D0, order("cytarabine", timing=doses("2025-04-20")), order("etoposide", timing=doses("2025-04-20")), read=lambda c: sorted(ldc(c)[0]), expect=["cytarabine", "etoposide"]),
    row("K4", "given doses are the anchors", COLLECTED, given("fludarabine", "2025-04-07T09:00:00+08:00"), given("fludarabine", "2025-04-09T09:00:00+08:00", id="b"), D0, read=lambda c: (c.course.ldc_first.evidence, ldc(c)[1], ldc(c)[2]), expect=(Evidence.DONE, date(2025, 4, 7), date(2025, 4, 9))),
    row("K4", "procedure", COLLECTED, procedure("lymphodepletion", at=None, performedPeriod={"start": "2025-04-07", "end": "2025-04-09"}, performedDateTime=None), read=lambda c: (ldc(c)[1], ldc(c)[2]), expect=(date(2025, 4, 7), date(2025, 4, 9))),
    row("K4", "an order under the order of the lymphodepletion", COLLECTED, service("lymphodepletion", id="ldc"), order("cyclophosphamide", basedOn=[{"reference": "ServiceRequest/ldc"}], timing={"event": ["2025-04-20", "2025-04-21"]}), read=lambda c: (c.course.ldc_first.date, c.course.ldc_last.date), expect=(date(2025, 4, 20), date(2025, 4, 21))),
    row("K4", "what else the order set holds depletes nothing", COLLECTED, *(order(drug, groupIdentifier={"system": "urn:tcell-cds:concept", "value": "lymphodepletion"}, timing={"event": days}) for drug, days in (("fludarabine", ["2025-04-20", "2025-04-22"]), ("dexamethasone", ["2025-04-20", "2025-04-27"]), ("mesna", ["2025-04-19", "2025-04-28"]))), read=lambda c: (c.course.ldc_first.date, c.course.ldc_last.date, len(c.course.ldc_records)), expect=(date(2025, 4, 20), date(2025, 4, 22), 1)),
    row("K5", "product ordered", order("axicabtagene_ciloleucel"), read=lambda c: (c.course.product.concept, c.course.product.target, c.course.product.costimulation), expect=("axicabtagene_ciloleucel", "CD19", "CD28")),
    row("K5", "myeloma product", order("idecabtagene_vicleucel"), read=lambda c: c.course.product.target, expect="BCMA"),
    row("K5", "infusion ordered as a service", service("car_t_infusion", occurrenceDateTime="2025-05-01"), read=lambda c: (c.course.infusion_planned.date, c.course.product_orders), expect=(date(2025, 5, 1), ("ServiceRequest/sr-car_t_infusion",))),
    row("K5", "another gene therapy is no CAR-T product", order("talimogene_laherparepvec"), read=lambda c: c.course.candidate, expect=False),
    row("K6", "day 0 is a local date", given(CART, "2025-04-12T17:00:00Z"), read=lambda c: c.course.day0, expect=date(2025, 4, 13)),
    row("K6", "bags of one week are one course", given(CART, "2025-04-08T14:00:00+08:00"), given(CART, "2025-04-12T14:00:00+08:00", id="b"), read=lambda c: (c.course.day0, len(c.course.bags), c.course.earlier), expect=(date(2025, 4, 8), 2, ())),
    row("K6", "an earlier course stays apart", given(CART, "2023-04-08T14:00:00+08:00"), given(CART, "2025-04-12T14:00:00+08:00", id="b"), read=lambda c: (c.course.day0, [a.date for a in c.course.earlier]), expect=(date(2025, 4, 12), [date(2023, 4, 8)])),
    row("K6", "a stopped bag was infused", given(CART, status="stopped"), read=lambda c: c.course.day0, expect=date(2025, 4, 15)),
    row("K6", "procedure", procedure("car_t_infusion"), read=lambda c: c.course.day0, expect=date(2025, 4, 10)),
    row("K6", "same infusion as procedure and dose: time of the dose", procedure("car_t_infusion", "2025-04-12"), D0, read=lambda c: c.course.infused.when.earliest.hour, expect=14),
    row("K6", "reported elsewhere", statement(CART, status="completed", effectiveDateTime="2024-06-01"), read=lambda c: c.course.day0, expect=date(2024, 6, 1)),
    row("K6", "history without a day", condition("hx_car_t"), read=lambda c: (c.course.infused, c.course.infused_date_unknown), expect=(None, True)),
    row("K6", "an order is no infusion", order(CART, timing=doses("2025-04-10")), read=lambda c: c.course.infused, expect=None),
    row("K6", "a dose in the future is a loss", given(CART, "2025-04-20T10:00:00+08:00"), read=lambda c: (c.course.infused, [x.text for x in c.losses]), expect=(None, ["in the future"])),
    row("K6", "a second course is under way", given(CART, "2023-04-08T14:00:00+08:00"), service("car_t_evaluation"), read=lambda c: (c.course.infused, c.course.candidate, [a.date for a in c.course.earlier]), expect=(None, True, [date(2023, 4, 8)])),
    row("K6", "the evaluation before the infusion opens no new course", service("car_t_evaluation", authoredOn="2025-01-01"), D0, read=lambda c: (c.course.day0, c.course.candidate), expect=(date(2025, 4, 12), False)),
    row("K6", "an apheresis in general after the infusion opens no new course", D0, visit(APHERESIS, "2025-06-01T08:00:00+08:00"), read=lambda c: c.course.day0, expect=date(2025, 4, 12)),
    row("K6", "a second bag ordered within the week opens no new course", D0, order(CART, authoredOn="2025-04-13T08:00:00+08:00", timing=doses("2025-04-17")), read=lambda c: c.course.day0, expect=date(2025, 4, 12)),
    row("K6", "a product ordered later opens a new course", given(CART, "2024-04-12T14:00:00+08:00"), order("axicabtagene_ciloleucel"), read=lambda c: (c.course.day0, c.course.product.concept, len(c.course.earlier)), expect=(None, "axicabtagene_ciloleucel", 1)),
    row("K5", "product in a care plan", {"resourceType": "CarePlan", "id": "e", "status": "active", "intent": "plan", "subject": SUBJECT, "activity": [{"detail": {"code": cc(CART)}}]}, read=lambda c: (c.course.candidate, c.course.product.concept), expect=(True, CART)),
    row("K5", "order inside a care plan", plan({"reference": {"reference": "#s"}}, contained=[{"resourceType": "ServiceRequest", "id": "s", "status": "active", "code": local("car_t_infusion")}]), read=documented, expect=[{"car_t_infusion"}]),
    row("K5", "given up in a care plan", plan({"detail": {"status": "cancelled", "code": local("car_t_infusion")}}), read=documented, expect=[set()]),
    row("K5", "product in an appointment", visit(CART, "2025-05-01T08:00:00+08:00"), read=lambda c: (c.course.infusion_planned.date, c.course.product.concept), expect=(date(2025, 5, 1), CART)),
    row("K7", "bag number", given(CART, identifier=[{"type": local("bag_number"), "value": "B2"}]), read=lambda c: c.course.bags[0].bag_number, expect="B2"),
    row("K7", "bags by start", given(CART, "2025-04-12T15:00:00+08:00", id="late", identifier=[{"type": local("bag_number"), "value": "B2"}]), given(CART, "2025-04-12T14:00:00+08:00", id="early", identifier=[{"type": local("bag_number"), "value": "B1"}]), read=lambda c: [b.bag_number for b in c.course.bags], expect=["B1", "B2"]),
    row("K8", "cells infused", given(CART, dose={"value": 2.5, "unit": "10*8{cells}", "system": "http://unitsofmeasure.org", "code": "10*8{cells}"}), read=lambda c: (c.course.bags[0].dose.amount.value, c.course.bags[0].dose.amount.unit), expect=(D("250000000"), "{cells}")),
    row("K9", "tarlatamab doses", given("tarlatamab", "2025-03-03T09:00:00+08:00", dose=q(1, "mg")), given("tarlatamab", "2025-03-10T09:00:00+08:00", id="b", dose=q(10, "mg")), read=lambda c: [(d.timing.first.date, d.dose.mg) for d in c.administrations("tarlatamab")], expect=[(date(2025, 3, 3), D("1")), (date(2025, 3, 10), D("10"))]),
    row("K10", "tarlatamab planned", read=lambda c: [d.timing.first.date for d in c.drafts.drugs.of("tarlatamab")], expect=[date(2025, 4, 20)], drafts=[order("tarlatamab", status="draft", timing=doses("2025-04-20"))]),
    row("K11", "permanently discontinued", obs("permanently_discontinued", True, parts={"agent": "cc:tarlatamab"}), read=lambda c: "tarlatamab" in c.series("permanently_discontinued").items[0].component("agent").codes, expect=True),
    row("K11", "as the reason of a stop", order("tarlatamab", status="stopped", statusReason=local("permanently_discontinued")), read=lambda c: c.drugs.all[0].status_reasons, expect=frozenset({"permanently_discontinued"})),
    row("K12", "bispecific", given("blinatumomab"), read=lambda c: len(c.administrations("blinatumomab")), expect=1),
    row("K13", "vein to vein", obs("expected_vein_to_vein_days", (28, "d")), read=lambda c: only(c, "expected_vein_to_vein_days").quantity.value, expect=D("28")),
    row("K14", "discharge", stay(status="finished", period={"start": "2025-04-01", "end": "2025-04-14T11:00:00+08:00"}), read=lambda c: (c.encounters[0].finished, c.encounters[0].end.date, c.encounters[0].inpatient), expect=(True, date(2025, 4, 14), True)),
    row("K14", "discharge under way ends now", stay(), read=lambda c: (c.encounters[0].finished, c.encounters[0].end.date), expect=(True, date(2025, 4, 16)), hook="encounter-discharge", encounter_id="e1"),
    # section 13
    row("X1", "day of graft", procedure("allo_hct", "2024-02-01"), read=lambda c: c.procedures.of("allo_hct")[0].start.date, expect=date(2024, 2, 1)),
    row("X1", "donor lymphocytes", procedure("donor_lymphocyte_infusion"), read=lambda c: len(c.procedures.of("donor_lymphocyte_infusion")), expect=1),
    row("X2", "last fraction and site", procedure("radiotherapy", at=None, performedDateTime=None, performedPeriod={"start": "2025-03-01", "end": "2025-03-14"}, bodySite=[cc(f"{SNOMED}|39607008")]), read=lambda c: (c.procedures.all[0].end.date, c.procedures.all[0].body_sites), expect=(date(2025, 3, 14), frozenset({"lung"}))),
    row("X3", "dialysis ordered", service("hemodialysis"), read=lambda c: [s.state for s in c.services.of("hemodialysis")], expect=[EventState.ACTIVE]),
    row("X4", "line", obs("iv_line_patent", True), obs("venous_access", "cc:central_venous_catheter"), read=lambda c: only(c, "venous_access").codes, expect=("central_venous_catheter",)),
    row("X5", "circuit", obs("circuit_fill_volume", (200, "mL")), read=number("circuit_fill_volume"), expect=(D("200"), "mL")),
    row("X6", "EEG report", report("eeg"), read=lambda c: len(c.documents.of("eeg")), expect=1),
    row("X7", "ECG ordered", service("ecg"), read=lambda c: len(c.services.of("ecg")), expect=1),
    row("X8", "imaging study", {"resourceType": "ImagingStudy", "id": "i", "status": "available", "subject": SUBJECT, "started": "2025-04-01", "procedureCode": [local("ct")]}, read=lambda c: c.documents.of("ct")[0].when.date, expect=date(2025, 4, 1)),
    row("X8", "image by its description", {"resourceType": "ImagingStudy", "id": "i", "status": "available", "subject": SUBJECT, "description": "Chest X-ray"}, read=documented, expect=[{"chest_xray"}]),
    row("X8", "image by its modality", {"resourceType": "ImagingStudy", "id": "i", "status": "available", "subject": SUBJECT, "modality": [{"code": "MR"}]}, read=documented, expect=[{"mri"}]),
    row("X9", "marrow examination by its specimen", specimen(local("marrow")), obs("marrow_blasts", (5, "%"), specimen={"reference": "Specimen/s1"}), read=lambda c: [d.when.date for d in c.documents.of("bone_marrow_aspiration")], expect=[date(2025, 4, 16)]),
    row("X9", "marrow by the name of its specimen", obs("mrd", "cc:negative", specimen={"display": "Bone marrow"}), read=lambda c: len(c.documents.of("bone_marrow_aspiration")), expect=1),
    row("X9", "marrow by a specimen inside the result", obs("mrd", "cc:negative", contained=[{"resourceType": "Specimen", "id": "s", "type": local("marrow")}], specimen={"reference": "#s"}), read=lambda c: len(c.documents.of("bone_marrow_aspiration")), expect=1),
    row("X9", "a report on marrow", specimen(local("marrow")), report("marrow_flow_cytometry", specimen=[{"reference": "Specimen/s1"}]), read=lambda c: len(c.documents.of("bone_marrow_aspiration")), expect=1),
    row("X9", "another sample inside the result", obs("mrd", "cc:negative", contained=[{"resourceType": "Specimen", "id": "s", "type": {"text": "Blood"}}], specimen={"reference": "#s"}), obs("mrd", "cc:negative", "2025-04-15T08:00:00+08:00", contained=[{"resourceType": "Specimen", "id": "s", "type": local("marrow")}], specimen={"reference": "#s"}), read=lambda c: [d.when.date.day for d in c.documents.of("bone_marrow_aspiration")], expect=[15]),
    row("X10", "transfer ordered", service("icu_transfer"), read=lambda c: len(c.services.of("icu_transfer")), expect=1),
    row("X11", "stored stem cells", obs("cd34_product_stored", True), read=lambda c: only(c, "cd34_product_stored").yes, expect=True),
    row("X12", "photopheresis", procedure("extracorporeal_photopheresis"), read=lambda c: len(c.procedures.of("extracorporeal_photopheresis")), expect=1),
    row("X13", "panel as an Observation", obs(local("cbc_panel"), parts={"wbc": (3, "10*3/uL")}), read=lambda c: len(c.series("cbc_panel")), expect=1),
    # section 14
    row("Q1", "collected cells by bag", specimen("apheresis_product", identifier=[{"value": "B1"}]), obs("product_viable_cd3", (2, "10*9{cells}"), specimen={"reference": "Specimen/s1"}), read=lambda c: (c.series("product_viable_cd3").items[0].specimen.identifier, number("product_viable_cd3")(c)), expect=("B1", (D("2000000000"), "{cells}"))),
    row("Q2", "naive T cells", obs("product_naive_t_percent", (20, "%")), read=number("product_naive_t_percent"), expect=(D("20"), "%")),
    row("Q3", "reagent lot with expiry", obs("reagent_lot", "LOT1", parts={"expiry_date": {"valueDateTime": "2025-12-31"}}), read=lambda c: (only(c, "reagent_lot").text, c.series("reagent_lot").items[0].component("expiry_date").time.date), expect=("LOT1", date(2025, 12, 31))),
    row("Q4", "freezing times", obs("freezing_start", {"valueDateTime": "2025-03-01T15:00:00+08:00"}), read=lambda c: only(c, "freezing_start").time.earliest.hour, expect=15),
    row("Q4", "processing of the specimen", specimen("apheresis_product", processing=[FREEZING]), read=freezing, expect=[("Specimen/s1", 15, 17)]),
    row("Q4", "the procedure of that day before its processing", specimen("apheresis_product", processing=[FREEZING]), procedure("cryopreservation", None, id="f", performedPeriod={"start": "2025-03-01T14:00:00+08:00", "end": "2025-03-01T16:00:00+08:00"}), read=freezing, expect=[("Procedure/f", 14, 16)]),
    row("Q5", "storage temperature may be far below zero", obs("storage_temperature", (-180, "Cel")), read=number("storage_temperature"), expect=(D("-180"), "Cel")),
    row("Q5", "storage as the product record says", STORED, read=lambda c: [(o.when.latest.hour, o.value.quantity.value) for o in c.series("storage_temperature")], expect=[(12, D("5")), (15, D("5"))]),
    row("Q5", "a product record inside the procedure", procedure("leukapheresis", contained=[STORED]), read=lambda c: len(c.series("storage_temperature")), expect=2),
    row("Q5", "a measurement before the product record", STORED, obs("storage_temperature", (6, "Cel")), read=number("storage_temperature"), expect=(D("6"), "Cel")),
    row("Q5", "a temperature without a scale is unusable", {**STORED, "storage": [{**STORED["storage"][0], "scale": None}]}, read=lambda c: (len(c.series("storage_temperature")), [x.reason.value for x in c.losses]), expect=(0, ["unit"])),
    row("Q6", "cryomedium", obs("dmso_percent", (10, "%")), read=number("dmso_percent"), expect=(D("10"), "%")),
    row("Q7", "product culture", obs("product_culture", "cc:negative"), read=lambda c: only(c, "product_culture").result.value, expect="negative"),
    row("Q8", "freezing step", obs("freezing_step", None, parts={"freezing_step_number": 2, "freezing_rate": (-1, "Cel/min")}), read=lambda c: (c.series("freezing_step").items[0].component("freezing_step_number").number, c.series("freezing_step").items[0].component("freezing_rate").quantity.value), expect=(2, D("-1"))),
    row("Q9", "identity check by two", obs("identity_check", "cc:match", performer=[{"reference": "Practitioner/a"}, {"reference": "Practitioner/b"}], parts={"identity_check_stage": "cc:bedside"}), read=lambda c: (c.series("identity_check").items[0].performers, c.series("identity_check").items[0].component("identity_check_stage").codes), expect=(("Practitioner/a", "Practitioner/b"), ("bedside",))),
    row("Q10", "consent", {"resourceType": "Consent", "id": "k", "status": "active", "patient": SUBJECT, "dateTime": "2025-01-01", "category": [local("consent_data_use")]}, read=lambda c: len(c.documents.of("consent_data_use")), expect=1),
    row("Q10", "a consent that refuses is none", {"resourceType": "Consent", "id": "c", "status": "active", "patient": SUBJECT, "category": [local("consent_data_use")], "provision": {"type": "deny"}}, read=lambda c: len(c.documents), expect=0),
    row("Q11", "product status", obs("product_status", "cc:received"), read=lambda c: only(c, "product_status").codes, expect=("received",)),
    row("Q11", "delivery of a referenced product", {"resourceType": "SupplyDelivery", "id": "d", "status": "completed", "patient": SUBJECT, "suppliedItem": {"itemReference": {"reference": "#m"}}, "contained": [{"resourceType": "Medication", "id": "m", "code": cc(CART)}]}, read=lambda c: CART in c.documents.all[0].concepts, expect=True),
    row("Q12", "several documents of one time", obs("release_document", "cc:sterility", id="a"), obs("release_document", "cc:qc_report", id="b"), read=lambda c: len(c.series("release_document")), expect=2),
    row("Q13", "papers", obs("oos_document", "cc:patient_consent"), read=lambda c: only(c, "oos_document").codes, expect=("patient_consent",)),
    row("Q14", "package", obs("package_integrity", True), obs("package_count", 2), read=lambda c: (only(c, "package_integrity").yes, only(c, "package_count").number), expect=(True, 2)),
    row("Q15", "thaw per bag", obs("thaw_start", {"valueDateTime": "2025-04-12T13:50:00+08:00"}, parts={"bag_number": "B1"}), read=lambda c: c.series("thaw_start").items[0].component("bag_number").text, expect="B1"),
    row("Q16", "a device order that refers to its device", {"resourceType": "DeviceRequest", "id": "f", "status": "active", "intent": "order", "subject": SUBJECT, "codeReference": {"reference": "#d"}, "contained": [{"resourceType": "Device", "id": "d", "type": local("leukocyte_filter")}]}, read=lambda c: len(c.services.of("leukocyte_filter")), expect=1),
    row("Q16", "staff and filter", obs("staff_present", True), {"resourceType": "DeviceRequest", "id": "f", "status": "active", "intent": "order", "subject": SUBJECT, "codeCodeableConcept": local("leukocyte_filter")}, read=lambda c: (only(c, "staff_present").yes, len(c.services.of("leukocyte_filter"))), expect=(True, 1)),
    # section 17
    row("E1", "visit took place", stay("AMB", status="finished", type=[local("car_t_follow_up")]), read=lambda c: (c.encounters[0].finished, c.encounters[0].concepts), expect=(True, frozenset({"car_t_follow_up"}))),
    row("E2", "intensive care by name", stay(location=[{"location": {"display": "MICU"}, "status": "active"}]), read=lambda c: c.encounters[0].icu, expect=True),
    row("E2", "a place left is no place", stay(location=[{"location": {"display": "MICU"}, "status": "completed"}]), read=lambda c: c.encounters[0].icu, expect=False),
    row("E3", "ambulatory", stay("AMB"), read=lambda c: (c.encounters[0].ambulatory, c.encounters[0].monitored), expect=(True, False)),
    row("E3", "emergency is monitored", stay("EMER"), read=lambda c: c.encounters[0].monitored, expect=True),
    row("E4", "admitted for an event", condition("pneumonia", id="i"), stay(reasonReference=[{"reference": "Condition/i"}]), read=lambda c: "pneumonia" in c.encounters[0].reasons, expect=True),
    row("E4", "admitted for an infection by its chapter", stay(reasonCode=[cc(f"{ICD}|L03.90")]), read=lambda c: c.encounters[0].reasons, expect=frozenset({"infection_any"})),
    row("E5", "appointment by its order", service("car_t_infusion", id="s"), visit({"text": "Day unit"}, basedOn=[{"reference": "ServiceRequest/s"}]), read=lambda c: len(c.appointments.of("car_t_infusion")), expect=1),
    row("E5", "requested period when no start", visit("car_t_infusion", None, requestedPeriod=[{"start": "2025-05-09"}, {"start": "2025-05-02"}]), read=lambda c: (c.appointments.all[0].start.date, Flag.DERIVED in c.appointments.all[0].flags), expect=(date(2025, 5, 2), True)),
    row("E5", "waiting list has no date", visit("car_t_infusion", status="waitlist"), read=lambda c: (c.appointments.all[0].state, c.appointments.all[0].start), expect=(EventState.WAITLIST, None)),
    row("E5", "cancelled never counts", visit("car_t_infusion", status="cancelled"), read=lambda c: len(c.appointments), expect=0),
]  # fmt: skip
