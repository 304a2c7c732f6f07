"""Which statuses count, and as what (chart-facts 1.2)."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_mapping.chart import ConditionState, DrugState, EventState, Flag
from tests.fhir_mapping.read.charts import (
    SUBJECT,
    allergy,
    chart,
    condition,
    dispense,
    given,
    obs,
    order,
    procedure,
    report,
    service,
    shot,
    statement,
    stay,
    visit,
)


def loss_texts(chart_: Any) -> list[str]:
    return [loss.text for loss in chart_.losses]


@pytest.mark.parametrize("status", ["final", "amended", "corrected"])
def test_a_settled_observation_counts(status: str) -> None:
    assert not chart(obs("anc", (1, "10*3/uL"), status=status)).series("anc").items[0].flags


@pytest.mark.parametrize("status", ["preliminary", "partial"])
def test_a_preliminary_observation_is_named(status: str) -> None:
    item = chart(obs("anc", (1, "10*3/uL"), status=status)).series("anc").items[0]
    assert Flag.PRELIMINARY in item.flags


def test_a_registered_observation_is_pending() -> None:
    series = chart(obs("anc", None, status="registered")).series("anc")
    assert not series.items
    assert [item.pending for item in series.pending] == [True]


@pytest.mark.parametrize("status", ["entered-in-error", "cancelled", "unknown"])
def test_an_observation_that_never_counts_is_no_loss(status: str) -> None:
    seen = chart(obs("anc", (1, "10*3/uL"), status=status))
    assert not seen.series("anc").items
    assert not seen.losses


@pytest.mark.parametrize("status", [None, "", 7, ["final"], "finished"])
def test_an_observation_without_a_readable_status_is_a_loss(status: Any) -> None:
    resource = obs("anc", (1, "10*3/uL"))
    resource["status"] = status
    seen = chart(resource)
    assert not seen.series("anc").items
    assert loss_texts(seen) == ["status"]


@pytest.mark.parametrize(
    ("verification", "clinical", "state"),
    [
        ("confirmed", "active", ConditionState.ACTIVE),
        ("confirmed", "recurrence", ConditionState.ACTIVE),
        ("confirmed", "relapse", ConditionState.ACTIVE),
        ("confirmed", "inactive", ConditionState.HISTORY),
        ("confirmed", "remission", ConditionState.HISTORY),
        ("confirmed", "resolved", ConditionState.HISTORY),
        ("provisional", "active", ConditionState.SUSPECTED),
        ("differential", "active", ConditionState.SUSPECTED),
        ("unconfirmed", "active", ConditionState.SUSPECTED),
        ("refuted", "active", ConditionState.REFUTED),
        ("entered-in-error", "active", None),
        ("unknown", "active", None),
    ],
)
def test_condition(verification: str, clinical: str, state: ConditionState | None) -> None:
    found = chart(condition("dlbcl", verification=verification, clinical=clinical)).conditions.all
    assert [c.state for c in found] == ([] if state is None else [state])


def test_condition_without_statuses_is_active() -> None:
    bare = condition("dlbcl", clinicalStatus=None, verificationStatus=None)
    assert [c.state for c in chart(bare).conditions] == [ConditionState.ACTIVE]


def test_condition_without_clinical_status_and_abated_is_history() -> None:
    abated = condition("dlbcl", clinicalStatus=None, abatementDateTime="2024-01-01")
    assert [c.state for c in chart(abated).conditions] == [ConditionState.HISTORY]


def test_older_fhir_writes_the_clinical_status_as_a_code() -> None:
    assert [c.state for c in chart(condition("dlbcl", clinicalStatus="remission")).conditions] == [
        ConditionState.HISTORY
    ]


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("completed", DrugState.GIVEN),
        ("in-progress", DrugState.RUNNING),
        ("stopped", DrugState.PARTIAL),
        ("on-hold", DrugState.ON_HOLD),
        ("not-done", None),
        ("entered-in-error", None),
        ("unknown", None),
    ],
)
def test_administration(status: str, state: DrugState | None) -> None:
    found = chart(given("fludarabine", status=status)).drugs.all
    assert [d.state for d in found] == ([] if state is None else [state])


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("completed", DrugState.GIVEN),
        ("in-progress", DrugState.GIVEN),
        ("stopped", DrugState.PARTIAL),
        ("cancelled", None),
        ("declined", None),
        ("preparation", None),
    ],
)
def test_dispense(status: str, state: DrugState | None) -> None:
    found = chart(dispense("imatinib", status=status)).drugs.all
    assert [d.state for d in found] == ([] if state is None else [state])


def test_a_stopped_dispense_ends_at_the_hand_over() -> None:
    record = chart(dispense("imatinib", "2025-03-01", 30, status="stopped")).drugs.all[0]
    assert record.timing.last is not None
    assert record.timing.last.date.isoformat() == "2025-03-01"


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("active", DrugState.ACTIVE),
        ("completed", DrugState.GIVEN),
        ("intended", DrugState.PLAN),
        ("stopped", DrugState.STOPPED),
        ("on-hold", DrugState.ON_HOLD),
        ("not-taken", None),
        ("entered-in-error", None),
    ],
)
def test_statement(status: str, state: DrugState | None) -> None:
    found = chart(statement("prednisone", status=status)).drugs.all
    assert [d.state for d in found] == ([] if state is None else [state])


@pytest.mark.parametrize(
    ("status", "intent", "state"),
    [
        ("active", "order", DrugState.ACTIVE),
        ("active", "original-order", DrugState.ACTIVE),
        ("active", "reflex-order", DrugState.ACTIVE),
        ("active", "filler-order", DrugState.ACTIVE),
        ("active", "instance-order", DrugState.ACTIVE),
        ("completed", "order", DrugState.COMPLETED),
        ("draft", "order", DrugState.DRAFT),
        ("on-hold", "order", DrugState.ON_HOLD),
        ("stopped", "order", DrugState.STOPPED),
        ("active", "plan", DrugState.PLAN),
        ("active", "proposal", DrugState.PLAN),
        ("active", "option", DrugState.PLAN),
        ("cancelled", "order", None),
        ("entered-in-error", "order", None),
        ("unknown", "order", None),
    ],
)
def test_request(status: str, intent: str, state: DrugState | None) -> None:
    found = chart(order("imatinib", status=status, intent=intent)).drugs.all
    assert [d.state for d in found] == ([] if state is None else [state])


def test_a_prohibition_is_no_order() -> None:
    assert not chart(order("imatinib", doNotPerform=True)).drugs.all
    assert not chart(service("leukapheresis", doNotPerform=True)).services.all


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("completed", EventState.DONE),
        ("in-progress", EventState.RUNNING),
        ("preparation", EventState.PLANNED),
        ("on-hold", EventState.PLANNED),
        ("stopped", EventState.STOPPED),
        ("not-done", None),
        ("unknown", None),
    ],
)
def test_procedure(status: str, state: EventState | None) -> None:
    found = chart(procedure("hemodialysis", status=status)).procedures.all
    assert [p.state for p in found] == ([] if state is None else [state])


@pytest.mark.parametrize("status", ["completed", "stopped", "in-progress"])
def test_a_procedure_that_has_begun_in_the_future_is_a_loss(status: str) -> None:
    seen = chart(procedure("hemodialysis", "2025-05-01", status=status))
    assert not seen.procedures.all
    assert loss_texts(seen) == ["in the future"]


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("active", EventState.ACTIVE),
        ("draft", EventState.DRAFT),
        ("completed", EventState.DONE),
        ("on-hold", EventState.PLANNED),
        ("revoked", None),
    ],
)
def test_service(status: str, state: EventState | None) -> None:
    found = chart(service("eeg", status=status)).services.all
    assert [s.state for s in found] == ([] if state is None else [state])


@pytest.mark.parametrize(
    ("status", "state"),
    [
        *((word, EventState.BOOKED) for word in ("booked", "pending", "proposed", "arrived", "checked-in")),
        ("fulfilled", EventState.TOOK_PLACE),
        ("waitlist", EventState.WAITLIST),
        ("cancelled", None),
        ("noshow", None),
    ],
)
def test_appointment(status: str, state: EventState | None) -> None:
    found = chart(visit("car_t_infusion", status=status)).appointments.all
    assert [a.state for a in found] == ([] if state is None else [state])


@pytest.mark.parametrize(("status", "count"), [("completed", 1), ("not-done", 0), ("entered-in-error", 0)])
def test_immunization(status: str, count: int) -> None:
    assert len(chart(shot("vac_rzv", status=status)).vaccines) == count


@pytest.mark.parametrize(
    ("verification", "clinical", "counts", "active"),
    [
        ("confirmed", "active", 1, True),
        ("unconfirmed", "active", 1, True),
        ("confirmed", "inactive", 1, False),
        ("confirmed", "resolved", 1, False),
        ("refuted", "active", 0, False),
        ("entered-in-error", "active", 0, False),
    ],
)
def test_allergy(verification: str, clinical: str, counts: int, active: bool) -> None:
    seen = chart(allergy("rasburicase", verification=verification, clinical=clinical))
    assert len(seen.allergies) == counts
    assert bool(seen.allergy_to("rasburicase")) is active


def test_allergy_without_statuses_is_active() -> None:
    bare = allergy("rasburicase", clinicalStatus=None, verificationStatus=None)
    assert chart(bare).allergy_to("rasburicase")


@pytest.mark.parametrize(
    ("status", "planned", "finished"),
    [
        ("in-progress", False, False),
        ("arrived", False, False),
        ("triaged", False, False),
        ("onleave", False, False),
        ("finished", False, True),
        ("planned", True, False),
    ],
)
def test_encounter(status: str, planned: bool, finished: bool) -> None:
    (found,) = chart(stay(status=status)).encounters
    assert (found.planned, found.finished) == (planned, finished)


@pytest.mark.parametrize("status", ["cancelled", "entered-in-error", "unknown"])
def test_an_encounter_that_never_counts(status: str) -> None:
    assert not chart(stay(status=status)).encounters


def test_a_resource_without_a_type_is_named() -> None:
    assert loss_texts(chart({"id": "x", "subject": SUBJECT})) == ["no resourceType"]


@pytest.mark.parametrize("status", ["entered-in-error", "cancelled"])
def test_what_a_withdrawn_report_holds_is_withdrawn(status: str) -> None:
    inner = obs("anc", (1, "10*3/uL"), id="i")
    held = report("cbc_panel", status=status, contained=[inner], result=[{"reference": "#i"}])
    assert not chart(held).series("anc").items
