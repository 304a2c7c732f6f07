"""When, and whose (chart-facts 1.3, 1.4)."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from fhir_mapping import read_chart
from fhir_mapping.chart import Flag, Precision
from fhir_mapping.read.times import Stamps, shifted
from fhir_mapping.terminology import load
from tests.fhir_mapping.read.charts import (
    SUBJECT,
    TAIPEI,
    chart,
    condition,
    given,
    obs,
    patient,
    reasons,
    visit,
)

STAMPS = Stamps(TAIPEI)
ANC = ("anc", (1, "10*3/uL"))


@pytest.mark.parametrize(
    ("written", "utc"),
    [
        ("2025-04-16T10:00:00+08:00", (2, 0)),
        ("2025-04-16T02:00:00Z", (2, 0)),
        ("2025-04-16T02:00:00.123456Z", (2, 0)),
        ("2025-04-15T21:00:00-05:00", (2, 0)),
        ("2025-04-16T10:00:00", (2, 0)),
        ("2025-04-16T10:00", (2, 0)),
        ("2025-04-16T10:00+08:00", (2, 0)),
        ("  2025-04-16T10:00:00+08:00 ", (2, 0)),
    ],
)
def test_an_instant_in_any_notation(written: str, utc: tuple[int, int]) -> None:
    moment = STAMPS.read(written)
    assert moment is not None
    assert moment.exact
    stamp = moment.earliest.astimezone(UTC)
    assert (stamp.hour, stamp.minute) == utc
    assert moment.date == date(2025, 4, 16)


@pytest.mark.parametrize(
    ("written", "first", "last", "precision"),
    [
        ("2025-04-16", date(2025, 4, 16), date(2025, 4, 16), Precision.DAY),
        ("2025-02", date(2025, 2, 1), date(2025, 2, 28), Precision.MONTH),
        ("2024-02", date(2024, 2, 1), date(2024, 2, 29), Precision.MONTH),
        ("2024-12", date(2024, 12, 1), date(2024, 12, 31), Precision.MONTH),
        ("2024", date(2024, 1, 1), date(2024, 12, 31), Precision.YEAR),
    ],
)
def test_a_partial_date_is_an_interval(written: str, first: date, last: date, precision: Precision) -> None:
    moment = STAMPS.read(written)
    assert moment is not None
    assert (moment.first_date, moment.date, moment.precision) == (first, last, precision)


@pytest.mark.parametrize(
    "written",
    [
        "",
        "yesterday",
        "2025-13",
        "2025-02-30",
        "20250416",
        "2025-W16-3",
        "0000",
        "2025-04-16T25:00:00Z",
        "9999-12-31T23:59:59-12:00",
        "16/04/2025",
        "2025-4-1",
        None,
        20250416,
        ["2025-04-16"],
        {"start": "2025"},
    ],
)
def test_what_is_no_date(written: Any) -> None:
    assert STAMPS.read(written) is None


def test_hours_are_elapsed_hours_over_a_clock_change() -> None:
    berlin = Stamps(ZoneInfo("Europe/Berlin"))
    before, after = berlin.read("2025-03-30T00:00:00+01:00"), berlin.read("2025-03-30T06:00:00+02:00")
    assert before is not None
    assert after is not None
    assert before.hours_to(after) == 5
    from datetime import timedelta

    assert shifted(before, timedelta(hours=5)).earliest == after.earliest
    assert shifted(before, timedelta(days=1)).earliest.hour == 0


@pytest.mark.parametrize(
    ("fields", "when", "flag"),
    [
        ({"effectiveDateTime": "2025-04-15"}, date(2025, 4, 15), None),
        ({"effectiveInstant": "2025-04-15T08:00:00+08:00"}, date(2025, 4, 15), None),
        ({"effectivePeriod": {"start": "2025-04-13", "end": "2025-04-14"}}, date(2025, 4, 14), None),
        ({"effectivePeriod": {"start": "2025-04-13"}}, date(2025, 4, 13), None),
        ({"issued": "2025-04-12T08:00:00+08:00"}, date(2025, 4, 12), Flag.ISSUED_TIME),
        (
            {"effectiveDateTime": "2025-03", "issued": "2025-04-12T08:00:00Z"},
            date(2025, 3, 31),
            Flag.PARTIAL_DATE,
        ),
    ],
)
def test_time_of_an_observation(fields: dict[str, Any], when: date, flag: Flag | None) -> None:
    resource = {**obs(*ANC, at=None), **fields}  # type: ignore[arg-type]
    (item,) = chart(resource).series("anc").items
    assert item.when.date == when
    assert item.flags == (frozenset() if flag is None else {flag})


def test_a_result_without_a_time_is_named() -> None:
    seen = chart(obs(*ANC, at=None, id="o"))  # type: ignore[arg-type]
    assert not seen.series("anc").items
    assert reasons(seen) == {("Observation/o", "anc", "malformed")}


@pytest.mark.parametrize(("at", "counts"), [("10:05:00", 1), ("10:05:01", 0)])
def test_a_result_later_than_five_minutes_from_now_is_a_loss(at: str, counts: int) -> None:
    seen = chart(obs(*ANC, at=f"2025-04-16T{at}+08:00"))
    assert len(seen.series("anc")) == counts
    assert len(seen.losses) == 1 - counts


def test_a_result_of_today_without_an_hour_is_not_in_the_future() -> None:
    assert len(chart(obs(*ANC, at="2025-04-16")).series("anc")) == 1


@pytest.mark.parametrize(
    ("fields", "onset", "flags"),
    [
        ({"onsetDateTime": "2025-01-02"}, date(2025, 1, 2), set()),
        ({"onsetPeriod": {"start": "2025-01-03"}}, date(2025, 1, 3), set()),
        ({"recordedDate": "2025-01-04"}, date(2025, 1, 4), {Flag.RECORDED_DATE}),
        ({"onsetAge": {"value": 50}, "recordedDate": "2025-01-04"}, None, set()),
        ({"onsetString": "childhood", "recordedDate": "2025-01-04"}, None, set()),
        ({}, None, set()),
    ],
)
def test_onset_of_a_condition(fields: dict[str, Any], onset: date | None, flags: set[Flag]) -> None:
    (found,) = chart(condition("dlbcl", **fields)).conditions.all
    assert (found.onset and found.onset.date, found.flags) == (onset, flags)


@pytest.mark.parametrize(
    "reference",
    ["Patient/p1", "https://ehr.example/fhir/Patient/p1", "Patient/p1/_history/4", "urn:uuid:p1"],
)
def test_the_patient_in_any_reference(reference: str) -> None:
    (item,) = chart(obs(*ANC, subject={"reference": reference})).series("anc").items
    assert not item.flags


@pytest.mark.parametrize(
    "subject",
    [
        {"reference": "Patient/p2"},
        {"reference": "https://ehr.example/fhir/Patient/p11"},
        {"reference": "urn:uuid:p2"},
        {"reference": "p2"},
    ],
)
def test_another_patients_data_is_never_used(subject: dict[str, str]) -> None:
    seen = chart(
        obs(*ANC, subject=subject), given("fludarabine", subject=subject), condition("crs", subject=subject)
    )
    assert not seen.series("anc").items
    assert not seen.drugs.all
    assert not seen.conditions.all
    assert {(loss.concept, loss.text) for loss in seen.losses} == {("", "another patient's data")}
    assert all("p2" not in loss.resource for loss in seen.losses)


def test_another_patients_appointment_is_never_used() -> None:
    other = visit("car_t_infusion", participant=[{"actor": {"reference": "Patient/p2"}}])
    assert not chart(other).appointments.all


def test_a_missing_subject_is_accepted_and_flagged() -> None:
    (item,) = chart(obs(*ANC, subject=None)).series("anc").items
    assert item.flags == {Flag.NO_SUBJECT}


@pytest.mark.parametrize(
    "fields",
    [
        {"subject": {"reference": "Group/g"}},
        {"subject": {"reference": "Device/d"}},
        {"subject": {"type": "Group", "display": "ward 7"}},
        {"focus": [{"reference": "RelatedPerson/donor"}]},
        {"focus": [{"reference": "Patient/p2"}]},
    ],
)
def test_a_donors_value_is_not_the_patients(fields: dict[str, Any]) -> None:
    seen = chart(obs(*ANC, **fields))
    assert not seen.series("anc").items
    assert not seen.losses


def test_a_subject_by_identifier_is_compared_with_the_patients_own() -> None:
    known = patient(identifier=[{"system": "urn:mrn", "value": "123"}])
    ours = obs(*ANC, id="a", subject={"identifier": {"system": "urn:mrn", "value": "123"}})
    other = obs("wbc", (1, "10*3/uL"), subject={"identifier": {"system": "urn:mrn", "value": "999"}})
    seen = chart(known, ours, other)
    assert len(seen.series("anc")) == 1
    assert not seen.series("wbc").items


def test_the_patient_may_be_named_with_its_type() -> None:
    seen = read_chart(
        [obs(*ANC)],
        patient_id="Patient/p1",
        now=datetime(2025, 4, 16, 2, 0, tzinfo=UTC),
        zone=TAIPEI,
        terminology=load(),
    )
    assert len(seen.series("anc")) == 1
    assert seen.now.hour == 10
    assert {"reference": seen.patient.reference} == SUBJECT
