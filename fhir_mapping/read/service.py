"""ServiceRequest and DeviceRequest (chart-facts 1.2, sections 13 and 16)."""

from __future__ import annotations

from dataclasses import dataclass

from fhir_mapping import units
from fhir_mapping.chart import Amount, EventState, Flag, LossReason, Moment, ServiceOrder, instant
from fhir_mapping.product_words import stated_attributes
from fhir_mapping.read.context import Context
from fhir_mapping.read.pool import Subject, accepted, references
from fhir_mapping.read.procedure import NAMES
from fhir_mapping.read.purposes import collection_purpose, read_purpose
from fhir_mapping.read.shape import EMPTY, Json, name_of, notes, number, obj, objs, text
from fhir_mapping.read.timing import OrderDates, read_timing

_STATES = {
    "active": EventState.ACTIVE,
    "draft": EventState.DRAFT,
    "completed": EventState.DONE,
    "on-hold": EventState.PLANNED,
}
_NEVER = frozenset({"entered-in-error", "revoked", "unknown", "cancelled", "ended"})
_PLANS = frozenset({"proposal", "plan", "option", "directive"})
_ATTRIBUTES = {
    "red_cells_irradiated": ("red_cells", "irradiated"),
    "platelets_irradiated": ("platelet_product", "irradiated"),
    "granulocytes_irradiated": ("granulocytes", "irradiated"),
}


@dataclass(frozen=True, slots=True)
class _Occurrence:
    """Start and end of what is ordered; `ongoing`: repeated without an end; `authored`: the order's own date
    stands in for the start."""

    start: Moment | None
    end: Moment | None = None
    ongoing: bool = False
    authored: bool = False


def _occurrence(resource: Json, context: Context, now_if_none: bool) -> _Occurrence:
    stamps = context.stamps
    start, end = stamps.point_or_period(resource, "occurrence")
    ongoing = False
    if start is None and isinstance(resource.get("occurrenceTiming"), dict):
        timing = read_timing({"timing": resource["occurrenceTiming"]}, stamps, OrderDates())
        start, end = timing.first, timing.last
        ongoing = timing.last is None and (timing.ongoing or timing.interval_hours is not None)
    if start is not None or end is not None:
        return _Occurrence(start or end, end, ongoing)
    authored = stamps.read(resource.get("authoredOn"))
    if authored is None and now_if_none:
        authored = instant(context.now)
    return _Occurrence(authored, None, ongoing, authored is not None)


def _details(resource: Json, context: Context) -> frozenset[str]:
    """Attributes by code, else by a plain word in the detail or a note."""
    found = context.codes.all_of(resource.get("orderDetail"))
    words = [text(item.get("text")) for item in objs(resource.get("orderDetail"))] + notes(resource)
    for item in objs(resource.get("orderDetail")):  # R5
        for parameter in objs(item.get("parameter")):
            found |= context.codes.all_of(parameter.get("valueCodeableConcept"))
    for word in words:
        found |= stated_attributes(word)
    return found


def _quantity(resource: Json) -> Amount | None:
    raw = obj(resource.get("quantityQuantity"))
    value = number(raw.get("value"))
    if value is None or value < 0:
        return None
    unit, code, system = (text(raw.get(key)) or None for key in ("unit", "code", "system"))
    if unit is None and code is None:
        return Amount(value, "1")
    known = units.canonical(unit, code, system)
    if known is None:
        return None
    if known == "U":  # "2 units" of a blood product
        known = "{unit}"
    volume = units.convert(None, value, known, "mL")
    return Amount(value, known) if volume is None else Amount(volume, "mL")


def _state(resource: Json, context: Context, in_hook: bool) -> EventState | None:
    if resource.get("doNotPerform") is True:
        return None
    status = resource.get("status")
    if in_hook:
        dropped = status in ("entered-in-error", "revoked", "cancelled") if isinstance(status, str) else False
        return None if dropped else EventState.DRAFT
    state = _STATES.get(status) if isinstance(status, str) else None
    if state is None:
        if not (isinstance(status, str) and status in _NEVER):
            context.losses.add(LossReason.MALFORMED, name_of(resource), text="status")
        return None
    if state is EventState.ACTIVE and resource.get("intent") in _PLANS:
        return EventState.PLANNED
    return state


def read_service(resource: Json, context: Context, *, in_hook: bool = False) -> ServiceOrder | None:
    """An order of a test, procedure, blood product, consult or device; `in_hook`: a draft under judgement."""
    state = _state(resource, context, in_hook)
    if state is None or accepted(context.pool, resource, context.losses) is None:
        return None
    raw = resource.get("code")
    if resource.get("resourceType") == "DeviceRequest":
        device = context.pool.resolve(resource.get("codeReference"), resource) or EMPTY
        raw = resource.get("codeCodeableConcept") or raw or device.get("type")
    newer = obj(raw)
    if "concept" in newer:  # R5 CodeableReference
        raw = newer["concept"]
    coded = context.codes.read(raw, NAMES)
    if coded.contradictory:
        context.losses.add(LossReason.CONTRADICTORY, name_of(resource), text="contradictory codes")
        return None
    details = _details(resource, context)
    concepts = coded.concepts
    for concept, (product, attribute) in _ATTRIBUTES.items():
        if concept in concepts:
            concepts |= {product}
            details |= {attribute}
    details |= concepts & {"irradiated", "leukoreduced"}
    if "blood_irradiation" in concepts:
        details |= {"irradiated"}
    occurrence = _occurrence(resource, context, in_hook)
    when = occurrence.start
    purpose = read_purpose(resource, context)
    own = context.codes.of_kind(coded.concepts, "purpose") | collection_purpose(raw, coded, context)
    flags: set[Flag] = set()
    if occurrence.authored:
        flags.add(Flag.AUTHORED_DATE)
    if coded.by_name:
        flags.add(Flag.BY_NAME)
    if not in_hook and resource.get("status") == "on-hold":
        flags.add(Flag.ON_HOLD)
    if when is not None and not when.day_known:
        flags.add(Flag.PARTIAL_DATE)
    if not in_hook and context.pool.subject_of(resource) is Subject.UNSTATED:
        flags.add(Flag.NO_SUBJECT)
    return ServiceOrder(
        reference=name_of(resource),
        concepts=concepts - own,
        state=state,
        when=when,
        details=details,
        quantity=_quantity(resource),
        purposes=purpose.purposes | own,
        reasons=purpose.reasons,
        requested_at=context.stamps.read(resource.get("authoredOn")),
        replaces=(*references(resource.get("replaces")), *references(resource.get("priorRequest"))),
        text=coded.text,
        flags=frozenset(flags),
        until=occurrence.end,
        ongoing=occurrence.ongoing,
        regimens=purpose.regimens | context.codes.of_kind(coded.concepts, "regimen"),
        notes="; ".join(notes(resource))[:500],
    )


def read_services(context: Context, replaced: frozenset[str]) -> list[ServiceOrder]:
    """Every order of this kind on the chart by date; `replaced` ones are left out."""
    pool = context.pool
    resources = [
        r for r in (*pool.of("ServiceRequest"), *pool.of("DeviceRequest")) if name_of(r) not in replaced
    ]
    found = context.each(resources, lambda r: read_service(r, context))
    return sorted(found, key=lambda s: (s.when is None, s.when.earliest if s.when else None, s.reference))
