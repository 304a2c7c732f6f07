"""Appointment (chart-facts E5, 1.2, section 18)."""

from __future__ import annotations

from fhir_mapping.chart import Appointment, EventState, Flag, LossReason, Moment
from fhir_mapping.read.coding import NO_CONCEPTS
from fhir_mapping.read.context import Context
from fhir_mapping.read.pool import Subject, parse_reference
from fhir_mapping.read.procedure import NAMES
from fhir_mapping.read.purposes import collection_purpose, read_purpose
from fhir_mapping.read.shape import EMPTY, Json, name_of, objs, text

_STATES = {
    **dict.fromkeys(("booked", "pending", "proposed", "arrived", "checked-in"), EventState.BOOKED),
    "fulfilled": EventState.TOOK_PLACE,
    "waitlist": EventState.WAITLIST,
}
_NEVER = frozenset({"cancelled", "noshow", "entered-in-error"})
_APPOINTMENT_NAMES = NAMES | {"order"}


def subject_of_visit(resource: Json, context: Context) -> Subject:
    """Whose visit it is, by its participants; newer versions also have a `subject`."""
    found = Subject.UNSTATED
    for participant in objs(resource.get("participant")):
        actor = participant.get("actor")
        reference = parse_reference(text(actor.get("reference"))) if isinstance(actor, dict) else None
        if reference is None or reference[0] != "Patient":
            continue
        if reference[1] == context.pool.patient_id:
            return Subject.OURS
        found = Subject.OTHER_PATIENT
    if "subject" in resource:
        whose = context.pool.subject_of(resource)
        return whose if found is Subject.UNSTATED else found
    return found


def _orders(resource: Json, context: Context) -> list[Json]:
    """Codes of the orders that the visit carries out."""
    targets = [context.pool.resolve(link, resource) or EMPTY for link in objs(resource.get("basedOn"))]
    return objs([target.get("code") for target in targets])


def _start(resource: Json, state: EventState, context: Context) -> tuple[Moment | None, bool]:
    """Start, and whether only a requested period names it."""
    if state is EventState.WAITLIST:
        return None, False
    start = context.stamps.read(resource.get("start"))
    if start is not None:
        return start, False
    wanted = [context.stamps.period(p)[0] for p in objs(resource.get("requestedPeriod"))]
    dated = [moment for moment in wanted if moment is not None]
    return (min(dated, key=lambda m: (m.earliest, m.latest)), True) if dated else (None, False)


def read_appointment(resource: Json, context: Context, *, proposed: bool = False) -> Appointment | None:
    """A booking, a visit that took place, or a place on a waiting list. `proposed`: the one under test."""
    status = resource.get("status", "proposed" if proposed else None)
    state = _STATES.get(status) if isinstance(status, str) else None
    if state is None:
        if not (isinstance(status, str) and status in _NEVER):
            context.losses.add(LossReason.MALFORMED, name_of(resource), text="status")
        return None
    whose = subject_of_visit(resource, context)
    if whose is Subject.OTHER_PATIENT:
        context.losses.add(LossReason.MALFORMED, "Appointment", text="another patient's data")
        return None
    codes = context.codes
    kinds = [codes.read(item, _APPOINTMENT_NAMES) for item in objs(resource.get("serviceType"))]
    newer = [
        codes.read(item.get("concept"), _APPOINTMENT_NAMES) for item in objs(resource.get("serviceType"))
    ]
    if any(coded.contradictory for coded in kinds):
        context.losses.add(LossReason.CONTRADICTORY, name_of(resource), text="contradictory codes")
        return None
    by_service: frozenset[str] = NO_CONCEPTS.union(*(coded.concepts for coded in (*kinds, *newer)))
    reasons = codes.all_of(resource.get("reasonCode")) | codes.all_of(resource.get("reason"))
    attributes = codes.of_kind(by_service | reasons, "purpose", "regimen")
    ordered = _orders(resource, context)
    concepts = NO_CONCEPTS
    for source in (
        by_service,
        codes.of_kind(reasons, "procedure", "order", "test", "drug"),
        codes.all_of(ordered, NAMES),
        codes.all_of(resource.get("appointmentType"), _APPOINTMENT_NAMES),
    ):
        concepts = source - attributes
        if concepts:
            break
    for item in (
        *objs(resource.get("serviceType")),
        *objs(resource.get("reasonCode")),
        *ordered,
        *objs(resource.get("appointmentType")),
    ):
        attributes |= collection_purpose(item, codes.read(item, _APPOINTMENT_NAMES), context)
    start, requested = _start(resource, state, context)
    purpose = read_purpose(resource, context)
    flags: set[Flag] = set()
    if requested:
        flags.add(Flag.DERIVED)
    if any(coded.by_name for coded in kinds):
        flags.add(Flag.BY_NAME)
    if whose is Subject.UNSTATED and not proposed:
        flags.add(Flag.NO_SUBJECT)
    return Appointment(
        reference=name_of(resource),
        concepts=concepts,
        state=state,
        start=start,
        purposes=purpose.purposes | codes.of_kind(attributes, "purpose"),
        proposed=proposed,
        reasons=purpose.reasons,
        flags=frozenset(flags),
    )


def sorted_appointments(found: list[Appointment]) -> list[Appointment]:
    return sorted(found, key=lambda a: (a.start is None, a.start.earliest if a.start else None, a.reference))
