"""MedicationRequest: orders of the chart and drafts of the hook (chart-facts M2, 2.6, section 18)."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from fhir_mapping.chart import (
    DrugRecord,
    DrugSource,
    DrugState,
    Flag,
    Instruction,
    LossReason,
    Timing,
    instant,
)
from fhir_mapping.read.context import Context
from fhir_mapping.read.dosage import (
    UNKNOWN_SIZE,
    BodySize,
    dose_entries,
    infusion_minutes,
    read_dose,
    read_rate,
)
from fhir_mapping.read.drug_record import NO_FLAGS, drug_record, state_of
from fhir_mapping.read.medication import Identity, identify, read_route, with_route
from fhir_mapping.read.pool import accepted, references
from fhir_mapping.read.purposes import read_purpose
from fhir_mapping.read.shape import Json, name_of, obj, objs, text
from fhir_mapping.read.timing import OrderDates, instructions, merged, read_timing, rhythm, supply_dates

_REQUEST = {
    "active": DrugState.ACTIVE,
    "completed": DrugState.COMPLETED,
    "draft": DrugState.DRAFT,
    "on-hold": DrugState.ON_HOLD,
    "stopped": DrugState.STOPPED,
}
_ORDER_INTENTS = frozenset({"order", "original-order", "reflex-order", "filler-order", "instance-order"})
_PLAN_INTENTS = frozenset({"plan", "proposal", "option"})


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
    state = state_of(resource, _REQUEST, context)
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
    if minutes != stated:
        timing = replace(timing, infusion_minutes=minutes)
    return Instruction(
        timing=timing,
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


def _over(timing: Timing, state: DrugState) -> Timing:
    """An order that ran to its end is not ongoing; of one that was stopped the last dose is unknown."""
    if state is DrugState.STOPPED:
        return replace(timing, ongoing=False, last=None, doses=())
    return replace(timing, ongoing=False) if state is DrugState.COMPLETED and timing.ongoing else timing


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
        said = obj(one.get("timing"))
        if "code" in said and "repeat" in said and rhythm(said).clash:
            context.losses.add(
                LossReason.CONTRADICTORY, name_of(resource), text="timing code and repeat differ"
            )
    timing = _over(merged(part.timing for part in parts), state)
    lead = _largest(parts)
    route = lead.route or next((p.route for p in parts if p.route is not None), None)
    identity = with_route(identity, route, context)
    purpose = read_purpose(resource, context)
    flags = timing.flags | (lead.dose.flags if lead.dose is not None else NO_FLAGS)
    if state is DrugState.ON_HOLD:
        flags |= {Flag.ON_HOLD}
    record = drug_record(
        resource,
        context,
        identity,
        purpose,
        flags,
        source=DrugSource.ORDER,
        state=state,
        timing=timing,
        dose=lead.dose,
        route=route,
        rate=lead.rate,
        group=text(obj(resource.get("groupIdentifier")).get("value")),
        authored=authored,
        replaces=(*references(resource.get("priorPrescription")), *references(resource.get("replaces"))),
        part_of=references(resource.get("basedOn")),
        instruction_count=len(objs(resource.get("dosageInstruction"))) or 1,
        instructions=tuple(parts) if len(parts) > 1 else (),
    )
    if in_hook and Flag.NO_SUBJECT in record.flags:  # the hook says whose draft it is
        return replace(record, flags=record.flags - {Flag.NO_SUBJECT})
    return record
