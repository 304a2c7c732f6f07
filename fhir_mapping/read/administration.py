"""MedicationAdministration: doses given, running or begun (chart-facts 1.2, M1, M4, M5, K7)."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from hashlib import blake2b

from fhir_mapping.chart import (
    Amount,
    Dose,
    DrugRecord,
    DrugSource,
    DrugState,
    LossReason,
    Moment,
    Route,
    Timing,
)
from fhir_mapping.read.coding import NO_CONCEPTS
from fhir_mapping.read.context import Context
from fhir_mapping.read.dosage import infusion_minutes, read_dose, read_rate
from fhir_mapping.read.drug_record import date_flags, drug_record, state_of
from fhir_mapping.read.medication import Identity, identify, read_route, with_route
from fhir_mapping.read.pool import accepted, plain_reference, references
from fhir_mapping.read.purposes import read_purpose
from fhir_mapping.read.remembered import LONGEST_TEXT
from fhir_mapping.read.shape import EMPTY, Json, name_of, obj, objs, text

_STATES = {
    "completed": DrugState.GIVEN,
    "in-progress": DrugState.RUNNING,
    "stopped": DrugState.PARTIAL,
    "on-hold": DrugState.ON_HOLD,
}


def _minutes(start: Moment | None, end: Moment | None) -> Decimal | None:
    if start is None or end is None or start is end or not start.exact or not end.exact:
        return None
    hours = start.hours_to(end)
    return None if hours is None or hours <= 0 else Decimal(str(round(hours * 60, 3)))


def _end(state: DrugState, start: Moment | None, end: Moment | None, context: Context) -> Moment | None:
    """End of the administration; the start where no end is written, None while it runs or was interrupted."""
    if state is DrugState.RUNNING:
        over = end is not None and end != start and end.latest <= context.now
        return end if over else None
    if state is DrugState.ON_HOLD:
        return end
    return end or start


def _bag_number(resource: Json, context: Context) -> str:
    for item in objs(resource.get("identifier")):
        if "bag_number" in context.codes.read(item.get("type"), NO_CONCEPTS).concepts:
            return text(item.get("value"))
    return ""


@dataclass(frozen=True, slots=True)
class _Given:
    """What was given, how much and how fast."""

    identity: Identity
    route: Route | None
    rate: Amount | None
    dose: Dose | None
    minutes: Decimal | None


def _given(dosage: Json, identity: Identity, minutes: Decimal | None, context: Context) -> _Given:
    """A drug is given the same way again and again: each way of writing a dosage is read once."""
    ways = context.memory.given
    key = (identity, minutes, blake2b(repr(dosage).encode(errors="replace"), digest_size=16).digest())
    known = ways.get(key)
    if known is None:
        route = read_route(dosage.get("route"), identity, context)
        drug = with_route(identity, route, context)
        entries = [{**dosage, "doseQuantity": dosage.get("dose") or dosage.get("quantity")}] if dosage else []
        rate = read_rate(entries)
        dose = read_dose(entries, drug, rate_hours=None if minutes is None else minutes / 60)
        length = minutes if minutes is not None else infusion_minutes(dose, rate, entries)
        known = _Given(drug, route, rate, dose, length)
        prose = len(identity.name) > LONGEST_TEXT or (dose is not None and dose.unreadable)
        if not prose and not identity.lot:  # the lot of a CAR-T product is one patient's
            ways[key] = known
    return known


def read_administration(resource: Json, context: Context) -> DrugRecord | None:
    """A dose given, running or begun."""
    if resource.get("notGiven") is True:  # STU3
        return None
    state = state_of(resource, _STATES, context)
    if state is None or accepted(context.pool, resource, context.losses) is None:
        return None
    stamps = context.stamps
    start, end = stamps.point_or_period(resource, "effective")
    if start is None and end is None:
        start, end = stamps.point_or_period(resource, "occurence")  # R5 spells it so
    if resource.get("effectiveDateTime") is not None and start is not None:
        end = start
    if start is None:
        start = end
    if context.in_future(start):
        context.losses.add(LossReason.MALFORMED, name_of(resource), text="in the future")
        return None
    identity = identify(resource, context)
    dosage = obj(resource.get("dosage")) or next(iter(objs(resource.get("dosage"))), EMPTY)
    given = _given(dosage, identity, _minutes(start, end), context)
    last = _end(state, start, end, context)
    timing = Timing(
        first=start,
        last=last,
        ongoing=state is DrugState.RUNNING and last is None,
        doses=() if start is None else (start,),
        infusion_minutes=given.minutes,
        stated=start is not None,
        flags=date_flags(start),
    )
    return drug_record(
        resource,
        context,
        given.identity,
        read_purpose(resource, context),
        timing.flags,
        source=DrugSource.ADMINISTRATION,
        state=state,
        timing=timing,
        dose=given.dose,
        route=given.route,
        rate=given.rate,
        request=plain_reference(resource.get("request")),
        part_of=references(resource.get("partOf")),
        bag_number=_bag_number(resource, context) if "identifier" in resource else "",
        authored=stamps.read(resource.get("recorded")),
    )
