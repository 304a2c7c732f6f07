"""Draft orders are complete, valid FHIR R4, and say what the proposal says."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cards.finding import (
    ONCE,
    AppointmentMove,
    Basis,
    DrugProposal,
    Proposal,
    Repeat,
    ServiceProposal,
    VaccineProposal,
    msg,
)
from cards.orders import CannotMoveError, codeable, dose_text, draft_order, json_number, moved, pruned
from cards.texts import Language
from cds.protocol.walker import fhir_fault
from fhir_mapping.chart import Amount, Drafts, Route
from fhir_mapping.read import read_drafts
from tests.cards.desk import NOW, RULE, ZONE, context

ATC = "http://www.whocc.no/atc"
SNOMED = "http://snomed.info/sct"
OWN = "urn:tcell-cds:concept"


def _amount(value: str, unit: str) -> Amount:
    return Amount(Decimal(value), unit)


TOCILIZUMAB = DrugProposal(
    "tocilizumab",
    Route.INTRAVENOUS,
    _amount("560", "mg"),
    Basis(_amount("8", "mg/kg"), _amount("70", "kg"), _amount("800", "mg")),
    start=NOW,
    infusion_minutes=60,
    purpose="purpose_treatment",
    reason="crs",
    note=msg("common.days", count=2),
)


def _order(proposal: Proposal, language: Language = Language.EN) -> dict[str, Any]:
    order = draft_order(
        proposal, RULE, context(language, encounter="Encounter/e1", requester="Practitioner/d1").desk
    )
    assert fhir_fault(order) == ""
    assert pruned(order) == order, "an order has no empty field"
    assert "id" not in order
    return order


def _codes(concept: dict[str, Any]) -> dict[str, str]:
    return {coding["system"]: coding["code"] for coding in concept["coding"]}


def test_a_drug_order_is_complete() -> None:
    order = _order(TOCILIZUMAB)
    assert (order["resourceType"], order["status"], order["intent"]) == (
        "MedicationRequest",
        "draft",
        "order",
    )
    assert order["subject"] == {"reference": "Patient/p1"}
    assert order["encounter"] == {"reference": "Encounter/e1"}
    assert order["requester"] == {"reference": "Practitioner/d1"}
    assert order["authoredOn"] == "2026-03-28T14:30:00+08:00"
    drug = order["medicationCodeableConcept"]
    assert drug["text"] == "tocilizumab"
    assert _codes(drug)[ATC] == "L04AC07"
    assert _codes(drug)[OWN] == "tocilizumab"
    assert [_codes(reason)[OWN] for reason in order["reasonCode"]] == ["crs", "purpose-treatment"]
    assert order["note"] == [{"text": "2 days"}]
    (dosage,) = order["dosageInstruction"]
    assert dosage["timing"] == {
        "event": ["2026-03-28T14:30:00+08:00"],
        "repeat": {"count": 1, "duration": 60, "durationUnit": "min"},
    }
    assert _codes(dosage["route"]) == {SNOMED: "47625008", OWN: "route-intravenous"}
    ordered, calculated = dosage["doseAndRate"]
    assert ordered["type"]["coding"][0]["code"] == "ordered"
    assert ordered["doseQuantity"] == {
        "value": 560,
        "unit": "mg",
        "system": "http://unitsofmeasure.org",
        "code": "mg",
    }
    assert calculated["type"]["coding"][0]["code"] == "calculated"
    assert (calculated["doseQuantity"]["value"], calculated["doseQuantity"]["code"]) == (8, "mg/kg")
    assert dosage["maxDosePerAdministration"]["value"] == 800


def test_an_order_without_a_dose_keeps_the_rule_for_it() -> None:
    order = _order(
        DrugProposal(
            "tocilizumab", Route.INTRAVENOUS, None, Basis(_amount("8", "mg/kg"), _amount("70", "kg"))
        )
    )
    (only,) = order["dosageInstruction"][0]["doseAndRate"]
    assert only["type"]["coding"][0]["code"] == "calculated"
    bare = _order(DrugProposal("tocilizumab", None))
    assert "doseAndRate" not in bare["dosageInstruction"][0]
    assert bare["dosageInstruction"][0]["text"] == "dose to be set by the prescriber, once"


@pytest.mark.parametrize(
    ("repeat", "start", "timing"),
    [
        (ONCE, None, {"repeat": {"count": 1}}),
        (ONCE, date(2026, 3, 29), {"event": ["2026-03-29"], "repeat": {"count": 1}}),
        (
            Repeat(every_hours=6, days=3),
            date(2026, 3, 29),
            {
                "repeat": {
                    "boundsPeriod": {"start": "2026-03-29", "end": "2026-03-31"},
                    "frequency": 1,
                    "period": 6,
                    "periodUnit": "h",
                }
            },
        ),
        (
            Repeat(every_hours=6, days=1),
            NOW,
            {
                "repeat": {
                    "boundsPeriod": {
                        "start": "2026-03-28T14:30:00+08:00",
                        "end": "2026-03-29T08:30:00+08:00",
                    },
                    "frequency": 1,
                    "period": 6,
                    "periodUnit": "h",
                }
            },
        ),
        (
            Repeat(every_hours=24, days=5),
            None,
            {
                "repeat": {
                    "boundsDuration": {
                        "value": 5,
                        "unit": "d",
                        "system": "http://unitsofmeasure.org",
                        "code": "d",
                    },
                    "frequency": 1,
                    "period": 1,
                    "periodUnit": "d",
                }
            },
        ),
        (
            Repeat(every_hours=336, count=2),
            date(2026, 3, 29),
            {
                "repeat": {
                    "boundsPeriod": {"start": "2026-03-29"},
                    "count": 2,
                    "frequency": 1,
                    "period": 2,
                    "periodUnit": "wk",
                }
            },
        ),
        (Repeat(), None, None),
    ],
)
def test_timing_says_when_and_how_often(
    repeat: Repeat, start: date | None, timing: dict[str, Any] | None
) -> None:
    order = _order(DrugProposal("dexamethasone", Route.ORAL, _amount("10", "mg"), repeat=repeat, start=start))
    assert order["dosageInstruction"][0].get("timing") == timing


@pytest.mark.parametrize(
    ("language", "text"),
    [
        (
            Language.EN,
            "560 mg, intravenous, over 60 min, once, on 2026-03-28 14:30, "
            "calculated 8 mg/kg × 70 kg, maximum 800 mg",
        ),
        (
            Language.ZH_TW,
            "560 mg，靜脈注射，輸注 60 分鐘，單次，於 2026-03-28 14:30，依 8 mg/kg × 70 kg 計算，上限 800 mg",
        ),
    ],
)
def test_the_dosage_is_readable(language: Language, text: str) -> None:
    assert dose_text(TOCILIZUMAB, context(language).plain) == text


def test_a_repeated_dose_is_readable() -> None:
    proposal = DrugProposal(
        "dexamethasone",
        Route.ORAL,
        _amount("10", "mg"),
        repeat=Repeat(every_hours=6, days=3),
        start=date(2026, 3, 29),
        as_needed=True,
    )
    english = "10 mg, oral, every 6 hours, for 3 days, as needed, from 2026-03-29"
    assert dose_text(proposal, context().plain) == english
    order = _order(proposal)
    assert order["dosageInstruction"][0]["asNeededBoolean"] is True
    daily = DrugProposal("dexamethasone", None, _amount("10", "mg"), repeat=Repeat(every_hours=24, count=4))
    assert dose_text(daily, context().plain) == "10 mg, once daily, 4 doses"


def test_a_service_order_is_complete() -> None:
    order = _order(
        ServiceProposal(
            "ferritin", NOW, _amount("2", "1"), ("blood_irradiated",), "crs", msg("common.days", count=1)
        )
    )
    assert order["resourceType"] == "ServiceRequest"
    assert _codes(order["code"])["http://loinc.org"] == "2276-4"
    assert order["occurrenceDateTime"] == "2026-03-28T14:30:00+08:00"
    assert order["quantityQuantity"]["value"] == 2
    assert _codes(order["orderDetail"][0])[OWN] == "blood-irradiated"
    assert _codes(order["reasonCode"][0])[OWN] == "crs"
    assert "occurrenceDateTime" not in _order(ServiceProposal("ferritin"))


def test_a_vaccine_order_has_its_earliest_date() -> None:
    order = _order(VaccineProposal("vac_adenovirus_live", date(2026, 10, 1)))
    assert _codes(order["medicationCodeableConcept"])["http://hl7.org/fhir/sid/cvx"] == "143"
    assert order["dosageInstruction"][0]["timing"]["event"] == ["2026-10-01"]


def test_a_concept_without_a_standard_code_has_our_own() -> None:
    order = _order(ServiceProposal("purpose_bridging"))
    assert _codes(order["code"]) == {OWN: "purpose-bridging"}


def test_texts_are_in_the_language_of_the_card() -> None:
    order = _order(TOCILIZUMAB, Language.ZH_TW)
    assert order["dosageInstruction"][0]["route"]["text"] == "靜脈"
    assert order["medicationCodeableConcept"]["coding"][-1]["display"] == "tocilizumab"


@pytest.mark.parametrize(
    ("value", "expected"),
    [("560.0", 560), ("0.5", 0.5), ("1E+3", 1000), ("-3", -3), ("1E+30", 1e30)],
)
def test_numbers_in_json(value: str, expected: int | float) -> None:
    shown = json_number(Decimal(value))
    assert shown == expected
    assert type(shown) is type(expected)


# --- read back by our own mapper


def _read_back(proposal: Proposal) -> Drafts:
    order = _order(proposal) | {"id": "d1"}
    return read_drafts([order], patient_id="p1", now=NOW, zone=ZONE, terminology=context().terminology)


def test_a_drafted_dose_is_read_as_it_was_meant() -> None:
    (record,) = _read_back(TOCILIZUMAB).drugs.all
    assert record.ingredients == ("tocilizumab",)
    assert record.route is Route.INTRAVENOUS
    assert record.dose is not None
    assert (record.dose.amount, record.dose.per) == (_amount("560", "mg"), _amount("8", "mg/kg"))
    assert "purpose_treatment" in record.purposes
    assert "crs" in record.reasons
    assert [moment.earliest for moment in record.timing.doses] == [NOW]
    assert record.timing.infusion_minutes == 60


@pytest.mark.parametrize(
    ("repeat", "start", "starts"),
    [
        (Repeat(every_hours=6, days=1), NOW, [0, 6, 12, 18]),
        (Repeat(every_hours=12, count=3), NOW, [0, 12, 24]),
        (Repeat(every_hours=24, days=3), NOW, [0, 24, 48]),
        (Repeat(every_hours=168, count=2), NOW, [0, 168]),
        (Repeat(every_hours=8, days=2), None, [0, 8, 16, 24, 32, 40]),
    ],
)
def test_a_drafted_schedule_is_read_as_it_was_meant(
    repeat: Repeat, start: datetime | None, starts: list[int]
) -> None:
    proposal = DrugProposal("dexamethasone", Route.ORAL, _amount("10", "mg"), repeat=repeat, start=start)
    (record,) = _read_back(proposal).drugs.all
    assert [m.earliest for m in record.timing.doses] == [NOW + timedelta(hours=hours) for hours in starts]


def test_a_drafted_daily_course_by_dates_is_read_day_by_day() -> None:
    proposal = DrugProposal(
        "dexamethasone",
        Route.ORAL,
        _amount("10", "mg"),
        repeat=Repeat(every_hours=24, days=3),
        start=NOW.date(),
    )
    (record,) = _read_back(proposal).drugs.all
    assert [m.date for m in record.timing.doses] == [NOW.date() + timedelta(days=day) for day in range(3)]


def test_a_drafted_vaccine_and_service_are_read() -> None:
    (vaccine,) = _read_back(VaccineProposal("vac_adenovirus_live", date(2026, 10, 1))).vaccines.all
    assert "vac_adenovirus_live" in vaccine.concepts
    assert vaccine.when is not None
    assert vaccine.when.date == date(2026, 10, 1)
    (service,) = _read_back(ServiceProposal("ferritin", NOW)).services.all
    assert "ferritin" in service.concepts


@pytest.mark.parametrize("kind", ["drug", "vaccine"])
def test_every_drug_and_vaccine_can_be_ordered_and_recognised(kind: str) -> None:
    lost = []
    for concept in context().terminology.concepts(kind):  # type: ignore[attr-defined]
        order = {"resourceType": "MedicationRequest", "id": "d1", "status": "draft", "intent": "order"}
        order["medicationCodeableConcept"] = codeable(concept.id, context().desk)  # type: ignore[assignment]
        read = read_drafts([order], patient_id="p1", now=NOW, zone=ZONE, terminology=context().terminology)
        found = {c for fact in (*read.drugs.all, *read.vaccines.all) for c in fact.concepts}
        lost += [] if concept.id in found else [concept.id]
    assert lost == []


# --- moves

MOVE_DAY = AppointmentMove("X/x", date(2026, 4, 10))
MOVE_TIME = AppointmentMove("X/x", datetime(2026, 4, 10, 10, 0, tzinfo=NOW.tzinfo))


def _moved(resource: dict[str, Any], move: AppointmentMove = MOVE_DAY) -> dict[str, Any]:
    return moved(resource, move, context().desk)


def test_an_appointment_keeps_its_hour_and_length() -> None:
    appointment = {
        "resourceType": "Appointment",
        "id": "a1",
        "status": "proposed",
        "start": "2026-03-30T09:00:00+08:00",
        "end": "2026-03-30T11:30:00+08:00",
        "participant": [{"actor": {"reference": "Patient/p1"}, "status": "accepted"}],
    }
    copy = _moved(appointment)
    assert (copy["start"], copy["end"]) == ("2026-04-10T09:00:00+08:00", "2026-04-10T11:30:00+08:00")
    assert copy["id"] == "a1"
    assert appointment["start"] == "2026-03-30T09:00:00+08:00", "the hook's own resource is not touched"
    assert fhir_fault(copy) == ""
    at = _moved(appointment, MOVE_TIME)
    assert (at["start"], at["end"]) == ("2026-04-10T10:00:00+08:00", "2026-04-10T12:30:00+08:00")


def test_an_order_moves_with_all_its_dates() -> None:
    order = {
        "resourceType": "MedicationRequest",
        "id": "m1",
        "status": "draft",
        "intent": "order",
        "subject": {"reference": "Patient/p1"},
        "medicationCodeableConcept": {"text": "tarlatamab"},
        "dosageInstruction": [
            {"timing": {"event": ["2026-03-30", "2026-04-06T08:00:00+08:00"]}},
            {"timing": {"repeat": {"boundsPeriod": {"start": "2026-03-31", "end": "2026-04-02"}}}},
        ],
        "dispenseRequest": {"validityPeriod": {"start": "2026-03-30"}},
    }
    copy = _moved(order)
    first, second = copy["dosageInstruction"]
    assert first["timing"]["event"] == ["2026-04-10", "2026-04-17T08:00:00+08:00"]
    assert second["timing"]["repeat"]["boundsPeriod"] == {"start": "2026-04-11", "end": "2026-04-13"}
    assert copy["dispenseRequest"]["validityPeriod"] == {"start": "2026-04-10"}
    assert fhir_fault(copy) == ""


@pytest.mark.parametrize(
    ("resource", "key", "expected"),
    [
        ({"occurrenceDateTime": "2026-03-30"}, "occurrenceDateTime", "2026-04-10"),
        ({"occurrenceDateTime": "2026-03-30T01:00:00Z"}, "occurrenceDateTime", "2026-04-10T01:00:00+00:00"),
        ({"occurrencePeriod": {"start": "2026-03-30"}}, "occurrencePeriod", {"start": "2026-04-10"}),
        ({}, "occurrenceDateTime", "2026-04-10"),
        ({"occurrenceDateTime": "soon"}, "occurrenceDateTime", "2026-04-10"),
    ],
)
def test_a_service_order_moves(resource: dict[str, Any], key: str, expected: object) -> None:
    assert _moved({"resourceType": "ServiceRequest", "id": "s1", **resource})[key] == expected


@pytest.mark.parametrize(
    "dosage", [{}, {"dosageInstruction": [{"text": "once"}]}, {"dosageInstruction": "x"}]
)
def test_an_order_without_a_date_gets_one(dosage: dict[str, Any]) -> None:
    copy = _moved({"resourceType": "MedicationRequest", "id": "m1", **dosage})
    assert copy["dosageInstruction"][0]["timing"] == {"event": ["2026-04-10"]}


def test_what_cannot_be_moved_is_refused() -> None:
    with pytest.raises(CannotMoveError, match="Appointment"):
        _moved({"resourceType": "Appointment", "id": "a1", "status": "proposed"})


def test_a_moved_order_has_no_empty_field_and_a_list_of_categories() -> None:
    copy = _moved(
        {
            "resourceType": "MedicationRequest",
            "id": "m1",
            "category": {"text": "inpatient"},
            "note": [],
            "priority": None,
            "reasonCode": [{}, {"text": ""}],
        }
    )
    assert copy["category"] == [{"text": "inpatient"}]
    assert not {"note", "priority", "reasonCode"} & set(copy)


# --- properties

_AMOUNTS = st.builds(
    Amount,
    st.decimals("0.001", "100000", places=3),
    st.sampled_from(["mg", "mg/kg", "mg/m2", "ug/kg/min", "[IU]", "{cells}", "mL"]),
)
_CONCEPTS = st.sampled_from(
    ["tocilizumab", "crs", "ferritin", "vac_adenovirus_live", "unheard_of", "platelets"]
)
_STARTS = (
    st.none()
    | st.dates(date(2000, 1, 1), date(2100, 1, 1))
    | st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 31))
)
_DRUGS = st.builds(
    DrugProposal,
    _CONCEPTS,
    st.none() | st.sampled_from(Route),
    st.none() | _AMOUNTS,
    st.none()
    | st.builds(Basis, _AMOUNTS, _AMOUNTS, st.none() | _AMOUNTS, st.sampled_from(["", "Mosteller"])),
    st.builds(
        Repeat,
        st.none() | st.integers(1, 50),
        st.none() | st.sampled_from([1, 6, Decimal("8"), 12, 24, 48, 168, 336]),
        st.none() | st.integers(1, 400),
    ),
    _STARTS,
    st.none() | st.integers(1, 600),
    st.sampled_from(["", "purpose_treatment"]),
    st.sampled_from(["", "crs"]),
    st.none(),
    st.booleans(),
)


@settings(max_examples=60, deadline=None)
@given(
    _DRUGS
    | st.builds(ServiceProposal, _CONCEPTS, _STARTS, st.none() | _AMOUNTS)
    | st.builds(VaccineProposal, _CONCEPTS)
)
def test_every_proposal_is_a_valid_order(proposal: Proposal) -> None:
    _order(proposal)


@given(st.dates(date(2020, 1, 1), date(2030, 1, 1)), st.integers(0, 400))
def test_a_move_changes_nothing_but_the_day(start: date, days: int) -> None:
    order = {"resourceType": "ServiceRequest", "id": "s1", "occurrencePeriod": {"start": start.isoformat()}}
    target = start + timedelta(days=days)
    copy = moved(order, AppointmentMove("ServiceRequest/s1", target), context().desk)
    assert copy == order | {"occurrencePeriod": {"start": target.isoformat()}}
