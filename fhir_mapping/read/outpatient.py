"""MedicationDispense and MedicationStatement: what was handed over and what is taken (chart-facts M1)."""

from __future__ import annotations

from datetime import timedelta

from fhir_mapping.chart import DrugRecord, DrugSource, DrugState, Flag, LossReason, Timing
from fhir_mapping.read.context import Context
from fhir_mapping.read.dosage import dose_entries, read_dose
from fhir_mapping.read.drug_record import date_flags, drug_record, state_of
from fhir_mapping.read.medication import identify, read_route, with_route
from fhir_mapping.read.pool import accepted, references
from fhir_mapping.read.purposes import read_purpose
from fhir_mapping.read.shape import Json, name_of
from fhir_mapping.read.times import shifted
from fhir_mapping.read.timing import OrderDates, days_of, instructions, read_timing

_DISPENSE = {"completed": DrugState.GIVEN, "in-progress": DrugState.GIVEN, "stopped": DrugState.PARTIAL}
_STATEMENT = {
    "active": DrugState.ACTIVE,
    "completed": DrugState.GIVEN,
    "intended": DrugState.PLAN,
    "stopped": DrugState.STOPPED,
    "on-hold": DrugState.ON_HOLD,
    "recorded": DrugState.ACTIVE,  # R5
}
_LONGEST_SUPPLY = 3660  # days; longer is an entry error


def read_dispense(resource: Json, context: Context) -> DrugRecord | None:
    """Drug handed over; its planned end is the day of hand-over plus the days supplied."""
    state = state_of(resource, _DISPENSE, context)
    if state is None or accepted(context.pool, resource, context.losses) is None:
        return None
    stamps = context.stamps
    handed = stamps.read(resource.get("whenHandedOver"))
    if context.in_future(handed):
        context.losses.add(LossReason.MALFORMED, name_of(resource), text="in the future")
        return None
    days = days_of(resource.get("daysSupply"))
    last = handed
    if handed is not None and days is not None and 0 < days < _LONGEST_SUPPLY and state is DrugState.GIVEN:
        last = shifted(handed, timedelta(days=float(days)))
    identity = identify(resource, context)
    first = instructions(resource)[0]
    route = read_route(first.get("route"), identity, context)
    identity = with_route(identity, route, context)
    entries = dose_entries(first)
    dosed = read_timing(first, stamps, OrderDates())
    timing = Timing(
        first=handed,
        last=last,
        interval_hours=dosed.interval_hours,
        per_day=dosed.per_day,
        as_needed=dosed.as_needed,
        stated=handed is not None,
        flags=date_flags(handed),
    )
    return drug_record(
        resource,
        context,
        identity,
        read_purpose(resource, context),
        timing.flags,
        source=DrugSource.DISPENSE,
        state=state,
        timing=timing,
        dose=read_dose(entries, identity),
        route=route,
        request=next(iter(references(resource.get("authorizingPrescription"))), ""),
    )


def read_statement(resource: Json, context: Context) -> DrugRecord | None:
    """What the patient is reported to take or to have taken."""
    if resource.get("taken") == "n":  # STU3
        return None
    state = state_of(resource, _STATEMENT, context)
    if state is None or accepted(context.pool, resource, context.losses) is None:
        return None
    stamps = context.stamps
    point = stamps.read(resource.get("effectiveDateTime"))
    start, end = stamps.period(resource.get("effectivePeriod"))
    if point is None and start is None and end is None:  # R5 and STU3 shapes
        newer = resource.get("effective")
        point = stamps.read(newer)
        start, end = stamps.period(newer)
    start = point or start
    if context.in_future(start):
        if state is not DrugState.ACTIVE:
            context.losses.add(LossReason.MALFORMED, name_of(resource), text="in the future")
            return None
        state = DrugState.PLAN  # what begins later is not taken yet
    ongoing = False
    last = end
    if state is DrugState.ACTIVE:
        ongoing = end is None
    elif state is DrugState.GIVEN:
        last = end or point
    identity = identify(resource, context)
    dosages = instructions(resource, "dosage")
    route = read_route(dosages[0].get("route"), identity, context)
    identity = with_route(identity, route, context)
    dosed = read_timing(dosages[0], stamps, OrderDates())
    timing = Timing(
        first=start or end,
        last=last,
        ongoing=ongoing,
        doses=(point,) if point is not None and state is DrugState.GIVEN else (),
        interval_hours=dosed.interval_hours,
        per_day=dosed.per_day,
        as_needed=dosed.as_needed,
        stated=start is not None or end is not None,
        flags=date_flags(start, end),
    )
    return drug_record(
        resource,
        context,
        identity,
        read_purpose(resource, context),
        timing.flags | {Flag.REPORTED},
        source=DrugSource.STATEMENT,
        state=state,
        timing=timing,
        dose=read_dose(dose_entries(dosages[0]), identity),
        route=route,
        authored=stamps.read(resource.get("dateAsserted")),
        request=next(iter(references(resource.get("basedOn"))), ""),
        instruction_count=len(dosages),
    )
