"""MedicationAdministration, -Dispense, -Statement and -Request (chart-facts section 11, 1.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from fhir_mapping.chart import (
    Dose,
    DrugRecord,
    DrugSource,
    DrugState,
    Flag,
    Instruction,
    LossReason,
    Moment,
    Route,
    Timing,
    instant,
)
from fhir_mapping.read.coding import NO_CONCEPTS
from fhir_mapping.read.context import Context
from fhir_mapping.read.dosage import (
    UNKNOWN_SIZE,
    BodySize,
    dose_entries,
    infusion_minutes,
    read_dose,
    read_rate,
)
from fhir_mapping.read.medication import Identity, identify, read_route, with_route
from fhir_mapping.read.pool import Subject, accepted, plain_reference, references
from fhir_mapping.read.purposes import Purpose, read_purpose
from fhir_mapping.read.shape import EMPTY, Json, name_of, notes, obj, objs, text
from fhir_mapping.read.times import shifted
from fhir_mapping.read.timing import (
    OrderDates,
    days_of,
    instructions,
    merged,
    read_timing,
    rhythm,
    supply_dates,
)

_NEVER = frozenset(
    {"entered-in-error", "cancelled", "unknown", "not-done", "declined", "not-taken", "nottaken"}
)
_ADMINISTRATION = {
    "completed": DrugState.GIVEN,
    "in-progress": DrugState.RUNNING,
    "stopped": DrugState.PARTIAL,
    "on-hold": DrugState.ON_HOLD,
}
_DISPENSE = {"completed": DrugState.GIVEN, "in-progress": DrugState.GIVEN, "stopped": DrugState.PARTIAL}
_STATEMENT = {
    "active": DrugState.ACTIVE,
    "completed": DrugState.GIVEN,
    "intended": DrugState.PLAN,
    "stopped": DrugState.STOPPED,
    "on-hold": DrugState.ON_HOLD,
    "recorded": DrugState.ACTIVE,  # R5
}
_REQUEST = {
    "active": DrugState.ACTIVE,
    "completed": DrugState.COMPLETED,
    "draft": DrugState.DRAFT,
    "on-hold": DrugState.ON_HOLD,
    "stopped": DrugState.STOPPED,
}
_ORDER_INTENTS = frozenset({"order", "original-order", "reflex-order", "filler-order", "instance-order"})
_PLAN_INTENTS = frozenset({"plan", "proposal", "option"})
_LONG_INFUSION = timedelta(hours=2)
_TEXT_LIMIT = 500


def _state(resource: Json, states: Mapping[str, DrugState], context: Context) -> DrugState | None:
    status = resource.get("status")
    state = states.get(status) if isinstance(status, str) else None
    if state is None and not (isinstance(status, str) and status in (*_NEVER, "preparation")):
        context.losses.add(LossReason.MALFORMED, name_of(resource), text="status")
    return state


def _flags(resource: Json, context: Context, *more: frozenset[Flag]) -> frozenset[Flag]:
    flags = set().union(*more)
    if context.pool.subject_of(resource) is Subject.UNSTATED:
        flags.add(Flag.NO_SUBJECT)
    return frozenset(flags)


def _texts(resource: Json) -> str:
    written = notes(resource)
    for field in ("dosageInstruction", "dosage"):
        written += [words for item in objs(resource.get(field)) if (words := text(item.get("text")))]
    return "; ".join(written)[:_TEXT_LIMIT]


def _identifier(resource: Json, concept: str, context: Context) -> str:
    for item in objs(resource.get("identifier")):
        if concept in context.codes.read(item.get("type"), NO_CONCEPTS).concepts:
            return text(item.get("value"))
    return ""


def _record(
    resource: Json,
    context: Context,
    identity: Identity,
    source: DrugSource,
    state: DrugState,
    timing: Timing,
    purpose: Purpose,
    *,
    dose: Dose | None,
    route: Route | None,
    flags: frozenset[Flag],
) -> DrugRecord:
    return DrugRecord(
        reference=name_of(resource),
        source=source,
        state=state,
        name=identity.name,
        concepts=identity.concepts,
        ingredients=identity.ingredients,
        timing=timing,
        identified=identity.identified,
        dose=dose,
        route=route,
        form=identity.form,
        purposes=purpose.purposes,
        reasons=purpose.reasons,
        regimens=purpose.regimens,
        lot=identity.lot,
        encounter=plain_reference(resource.get("encounter") or resource.get("context")),
        status_reasons=context.codes.all_of(resource.get("statusReason")),
        flags=flags | ({Flag.DERIVED} if purpose.by_text else frozenset()),
        strengths=identity.strengths,
        text=_texts(resource),
    )


def _minutes(start: Moment | None, end: Moment | None) -> Decimal | None:
    if start is None or end is None or not start.exact or not end.exact:
        return None
    hours = start.hours_to(end)
    return None if hours is None or hours <= 0 else Decimal(str(round(hours * 60, 3)))


def read_administration(resource: Json, context: Context) -> DrugRecord | None:
    """A dose given, running or begun."""
    state = _state(resource, _ADMINISTRATION, context)
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
    route = read_route(dosage.get("route"), identity, context)
    identity = with_route(identity, route, context)
    entries = [
        {**dosage, "doseQuantity": dosage.get("dose") or dosage.get("quantity") or dosage.get("doseQuantity")}
    ]
    minutes = _minutes(start, end)
    rate = read_rate(entries)
    dose = read_dose(entries, identity, rate_hours=None if minutes is None else minutes / 60)
    running = state is DrugState.RUNNING
    last = None if running and (end is None or end == start) else end or start
    if running and end is not None and end.latest <= context.now and end != start:
        last = end
    elif running:
        last = None
    if state is DrugState.ON_HOLD:
        last = end if resource.get("effectivePeriod") is not None else start
    timing = Timing(
        first=start,
        last=last,
        ongoing=running and last is None,
        doses=() if start is None else (start,),
        infusion_minutes=minutes if minutes is not None else infusion_minutes(dose, rate, entries),
        stated=start is not None,
        flags=frozenset({Flag.PARTIAL_DATE}) if start is not None and not start.day_known else frozenset(),
    )
    record = _record(
        resource,
        context,
        identity,
        DrugSource.ADMINISTRATION,
        state,
        timing,
        read_purpose(resource, context),
        dose=dose,
        route=route,
        flags=_flags(resource, context, identity.flags, timing.flags),
    )
    return replace(
        record,
        rate=rate,
        request=plain_reference(resource.get("request")),
        part_of=references(resource.get("partOf")),
        bag_number=_identifier(resource, "bag_number", context),
        authored=stamps.read(resource.get("recorded")),
    )


def read_dispense(resource: Json, context: Context) -> DrugRecord | None:
    """Drug handed over; its planned end is the day of hand-over plus the days supplied."""
    state = _state(resource, _DISPENSE, context)
    if state is None or accepted(context.pool, resource, context.losses) is None:
        return None
    stamps = context.stamps
    handed = stamps.read(resource.get("whenHandedOver"))
    if context.in_future(handed):
        context.losses.add(LossReason.MALFORMED, name_of(resource), text="in the future")
        return None
    days = days_of(resource.get("daysSupply"))
    last = handed
    if handed is not None and days is not None and 0 < days < 3660 and state is DrugState.GIVEN:
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
        flags=frozenset({Flag.PARTIAL_DATE}) if handed is not None and not handed.day_known else frozenset(),
    )
    record = _record(
        resource,
        context,
        identity,
        DrugSource.DISPENSE,
        state,
        timing,
        read_purpose(resource, context),
        dose=read_dose(entries, identity),
        route=route,
        flags=_flags(resource, context, identity.flags, timing.flags),
    )
    return replace(record, request=next(iter(references(resource.get("authorizingPrescription"))), ""))


def read_statement(resource: Json, context: Context) -> DrugRecord | None:
    """What the patient is reported to take or to have taken."""
    state = _state(resource, _STATEMENT, context)
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
        flags=frozenset({Flag.PARTIAL_DATE})
        if any(m is not None and not m.day_known for m in (start, end))
        else frozenset(),
    )
    return replace(
        _record(
            resource,
            context,
            identity,
            DrugSource.STATEMENT,
            state,
            timing,
            read_purpose(resource, context),
            dose=read_dose(dose_entries(dosages[0]), identity),
            route=route,
            flags=_flags(resource, context, identity.flags, timing.flags, frozenset({Flag.REPORTED})),
        ),
        authored=stamps.read(resource.get("dateAsserted")),
        request=next(iter(references(resource.get("basedOn"))), ""),
        instruction_count=len(dosages),
    )


# an order re-sent to end or interrupt it; whatever else the hook carries is an order to judge
_HOOK_ENDS = {"stopped": DrugState.STOPPED, "on-hold": DrugState.ON_HOLD}


def _request_state(resource: Json, context: Context, *, in_hook: bool) -> DrugState | None:
    if resource.get("doNotPerform") is True:
        return None
    if in_hook:
        status = resource.get("status", "draft")
        if isinstance(status, str) and status in ("entered-in-error", "cancelled"):
            return None
        return _HOOK_ENDS.get(status, DrugState.DRAFT) if isinstance(status, str) else DrugState.DRAFT
    state = _state(resource, _REQUEST, context)
    if state is None:
        return None
    intent = resource.get("intent")
    if intent in _PLAN_INTENTS:
        return DrugState.PLAN
    return state if intent in _ORDER_INTENTS or intent is None else None


def _instruction(
    raw: Json, identity: Identity, context: Context, dates: OrderDates, body: BodySize
) -> Instruction:
    timing = read_timing(raw, context.stamps, dates)
    entries = dose_entries(raw)
    rate = read_rate(entries)
    stated = timing.infusion_minutes
    dose = read_dose(entries, identity, body, None if stated is None else stated / 60)
    minutes = stated if stated is not None else infusion_minutes(dose, rate, entries)
    return Instruction(
        timing=replace(timing, infusion_minutes=minutes),
        dose=dose,
        rate=rate,
        route=read_route(raw.get("route"), identity, context),
        text=text(raw.get("text")),
    )


def _largest(parts: list[Instruction]) -> Instruction:
    """The instruction with the largest dose: what a maximum is judged by."""
    doses = [p for p in parts if p.dose is not None and p.dose.amount is not None]
    units = {p.dose.amount.unit for p in doses if p.dose is not None and p.dose.amount is not None}
    if not doses or len(units) != 1:
        return next((p for p in parts if p.dose is not None), parts[0])
    return max(doses, key=lambda p: p.dose.amount.value if p.dose and p.dose.amount else Decimal(0))


def read_request(
    resource: Json, context: Context, *, in_hook: bool = False, body: BodySize = UNKNOWN_SIZE
) -> DrugRecord | None:
    """An order; `in_hook`: a draft under judgement, whose missing parts have defaults (chart-facts 18)."""
    state = _request_state(resource, context, in_hook=in_hook)
    if state is None or accepted(context.pool, resource, context.losses) is None:
        return None
    stamps = context.stamps
    start, end, supply = supply_dates(resource, stamps)
    authored = stamps.read(resource.get("authoredOn"))
    if authored is None and in_hook:
        authored = instant(context.now)
    draft = state is DrugState.DRAFT
    dates = OrderDates(start, end, supply, authored, draft, context.now)
    identity = identify(resource, context)
    raw = instructions(resource)
    parts = [_instruction(one, identity, context, dates, body) for one in raw]
    for one in raw:
        if rhythm(obj(one.get("timing"))).clash:
            context.losses.add(
                LossReason.CONTRADICTORY, name_of(resource), text="timing code and repeat differ"
            )
    timing = merged(part.timing for part in parts)
    if state in (DrugState.COMPLETED, DrugState.STOPPED):
        timing = replace(timing, ongoing=False)
    if state is DrugState.STOPPED:
        timing = replace(timing, last=None, doses=())
    if timing.doses and timing.first is not None and timing.infusion_minutes is None:
        minutes = next(
            (p.timing.infusion_minutes for p in parts if p.timing.infusion_minutes is not None), None
        )
        timing = replace(timing, infusion_minutes=minutes)
    lead = _largest(parts)
    route = lead.route or next((p.route for p in parts if p.route is not None), None)
    identity = with_route(identity, route, context)
    purpose = read_purpose(resource, context)
    group = text(obj(resource.get("groupIdentifier")).get("value"))
    flags = _flags(
        resource, context, identity.flags, timing.flags, lead.dose.flags if lead.dose else frozenset()
    )
    if state is DrugState.ON_HOLD:
        flags |= {Flag.ON_HOLD}
    if in_hook:
        flags -= {Flag.NO_SUBJECT}
    record = _record(
        resource,
        context,
        identity,
        DrugSource.ORDER,
        state,
        timing,
        purpose,
        dose=lead.dose,
        route=route,
        flags=flags,
    )
    return replace(
        record,
        rate=lead.rate,
        group=group,
        authored=authored,
        replaces=(*references(resource.get("priorPrescription")), *references(resource.get("replaces"))),
        part_of=references(resource.get("basedOn")),
        instruction_count=len(objs(resource.get("dosageInstruction"))) or 1,
        instructions=tuple(parts) if len(parts) > 1 else (),
    )


def in_order(record: DrugRecord) -> tuple[object, ...]:
    """Drugs sort by first date; undated ones last."""
    first = record.timing.first
    return first is None, first.earliest if first else None, first.latest if first else None, record.reference


def _skipped(context: Context) -> list[tuple[frozenset[str], str, Moment]]:
    """Doses that were not given: (ingredients, order, when)."""
    found: list[tuple[frozenset[str], str, Moment]] = []
    for resource in context.pool.of("MedicationAdministration"):
        skipped = resource.get("status") == "not-done" or resource.get("notGiven") is True
        if not skipped or context.pool.subject_of(resource) not in (Subject.OURS, Subject.UNSTATED):
            continue
        when = next((m for m in context.stamps.point_or_period(resource, "effective") if m is not None), None)
        if when is not None:
            ingredients = frozenset(identify(resource, context).ingredients)
            found.append((ingredients, plain_reference(resource.get("request")), when))
    return found


def _without_skipped(record: DrugRecord, skipped: list[tuple[frozenset[str], str, Moment]]) -> DrugRecord:
    """The order without scheduled doses that were recorded as not given (section 19)."""
    doses = record.timing.doses
    if not doses or not skipped:
        return record
    for ingredients, order, when in skipped:
        same = order == record.reference or (not order and ingredients == frozenset(record.ingredients))
        of_day = [d for d in doses if d.date == when.date]
        if not same or not of_day:
            continue
        missed = min(of_day, key=lambda d: (abs((d.earliest - when.earliest).total_seconds()), d.earliest))
        doses = tuple(d for d in doses if d is not missed)
    if doses == record.timing.doses:
        return record
    timing = record.timing
    if timing.last is not None and timing.doses[-1].date == timing.last.date:
        timing = replace(timing, last=doses[-1] if doses else None)
    return replace(record, timing=replace(timing, doses=doses))


def _with_order_purpose(record: DrugRecord, orders: Mapping[str, DrugRecord]) -> DrugRecord:
    """A dose is given for what its order was written for."""
    order = orders.get(record.request)
    if order is None:
        return record
    return replace(
        record,
        purposes=record.purposes or order.purposes,
        reasons=record.reasons or order.reasons,
        regimens=record.regimens or order.regimens,
        group=record.group or order.group,
        dose=record.dose,
    )


def _not_taken(context: Context) -> list[tuple[frozenset[str], tuple[str, ...], Moment]]:
    """Statements that the patient does not take a drug: (ingredients, orders, date)."""
    found: list[tuple[frozenset[str], tuple[str, ...], Moment]] = []
    for resource in context.pool.of("MedicationStatement"):
        taken = resource.get("taken") == "n" or resource.get("status") in ("not-taken", "stopped")
        if not taken or context.pool.subject_of(resource) not in (Subject.OURS, Subject.UNSTATED):
            continue
        stamps = context.stamps
        said = stamps.read(resource.get("dateAsserted")) or stamps.read(resource.get("effectiveDateTime"))
        said = said or next((m for m in reversed(stamps.period(resource.get("effectivePeriod"))) if m), None)
        if said is not None:
            ingredients = frozenset(identify(resource, context).ingredients)
            found.append((ingredients, references(resource.get("basedOn")), said))
    return found


def _still_taken(
    record: DrugRecord, denials: list[tuple[frozenset[str], tuple[str, ...], Moment]]
) -> DrugRecord:
    """An active order that a newer statement denies is not active (section 19)."""
    if record.source is not DrugSource.ORDER or record.state is not DrugState.ACTIVE:
        return record
    for ingredients, orders, said in denials:
        same = record.reference in orders or bool(
            ingredients and ingredients == frozenset(record.ingredients)
        )
        if same and record.authored is not None and said.earliest > record.authored.latest:
            timing = replace(record.timing, last=None, ongoing=False, doses=())
            return replace(
                record, state=DrugState.STOPPED, timing=timing, flags=record.flags | {Flag.REPORTED}
            )
    return record


def read_drugs(context: Context, body: BodySize, replaced: frozenset[str]) -> list[DrugRecord]:
    """Every drug record of the chart in time order; `replaced` orders are left out."""
    pool = context.pool
    requests = [r for r in pool.of("MedicationRequest") if name_of(r) not in replaced]
    orders = context.each(requests, lambda r: read_request(r, context, body=body))
    denials = _not_taken(context)
    skipped = _skipped(context)
    orders = [_without_skipped(_still_taken(order, denials), skipped) for order in orders]
    by_reference = {order.reference: order for order in orders}
    others = [
        *context.each(pool.of("MedicationAdministration"), lambda r: read_administration(r, context)),
        *context.each(pool.of("MedicationDispense"), lambda r: read_dispense(r, context)),
        *context.each(pool.of("MedicationStatement"), lambda r: read_statement(r, context)),
    ]
    records = [*orders, *(_with_order_purpose(record, by_reference) for record in others)]
    return sorted(records, key=in_order)
