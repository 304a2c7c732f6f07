"""Procedure (chart-facts 1.2, section 13)."""

from __future__ import annotations

from fhir_mapping.chart import EventState, Flag, LossReason, Procedure
from fhir_mapping.read.coding import NAMED_KINDS
from fhir_mapping.read.context import Context
from fhir_mapping.read.pool import Subject, accepted, plain_reference
from fhir_mapping.read.purposes import collection_purpose, read_purpose
from fhir_mapping.read.shape import Json, name_of, notes, obj, objs, text

_STATES = {
    "completed": EventState.DONE,
    "in-progress": EventState.RUNNING,
    "preparation": EventState.PLANNED,
    "on-hold": EventState.PLANNED,
    "stopped": EventState.STOPPED,
    "suspended": EventState.PLANNED,  # STU3
    "aborted": EventState.STOPPED,  # STU3
}
_NEVER = frozenset({"entered-in-error", "not-done", "unknown"})
NAMES = NAMED_KINDS | {"procedure", "test"}
_KINDS = ("procedure", "test", "blood_product", "device", "order")


def read_procedure(resource: Json, context: Context) -> Procedure | None:
    """Something done, running, begun or planned. One that has begun in the future is a loss."""
    status = resource.get("status")
    state = _STATES.get(status) if isinstance(status, str) else None
    if state is None:
        if not (isinstance(status, str) and status in _NEVER):
            context.losses.add(LossReason.MALFORMED, name_of(resource), text="status")
        return None
    if resource.get("notDone") is True or accepted(context.pool, resource, context.losses) is None:
        return None
    coded = context.codes.read(resource.get("code"), NAMES)
    if coded.contradictory:
        context.losses.add(LossReason.CONTRADICTORY, name_of(resource), text="contradictory codes")
        return None
    stamps = context.stamps
    start, end = stamps.point_or_period(resource, "performed")
    if start is None and end is None:
        start, end = stamps.point_or_period(resource, "occurrence")  # R5
    if start is None:
        start = end
    if state is not EventState.PLANNED and context.in_future(start):
        context.losses.add(LossReason.MALFORMED, name_of(resource), text="in the future")
        return None
    purpose = read_purpose(resource, context)
    own = context.codes.of_kind(coded.concepts, "purpose") | collection_purpose(
        resource.get("code"), coded, context
    )
    flags: set[Flag] = set()
    if coded.by_name:
        flags.add(Flag.BY_NAME)
    if status in ("on-hold", "suspended"):
        flags.add(Flag.ON_HOLD)
    if start is not None and not start.day_known:
        flags.add(Flag.PARTIAL_DATE)
    if context.pool.subject_of(resource) is Subject.UNSTATED:
        flags.add(Flag.NO_SUBJECT)
    concepts = coded.concepts | context.codes.of_kind(context.codes.all_of(resource.get("category")), *_KINDS)
    written = obj(resource.get("code"))
    return Procedure(
        reference=name_of(resource),
        concepts=concepts - own,
        state=state,
        start=start,
        end=end,
        body_sites=context.sites(resource.get("bodySite")),
        used=_used(resource, context),
        purposes=purpose.purposes | own,
        regimens=purpose.regimens | context.codes.of_kind(coded.concepts, "regimen"),
        performers=tuple(
            sorted({ref for p in objs(resource.get("performer")) if (ref := plain_reference(p.get("actor")))})
        ),
        text=coded.text or text(written.get("text")),
        flags=frozenset(flags),
        reasons=purpose.reasons,
        notes="; ".join(notes(resource))[:500],
    )


def _used(resource: Json, context: Context) -> frozenset[str]:
    found = context.codes.all_of(resource.get("usedCode"), NAMED_KINDS)
    for newer in objs(resource.get("used")):  # R5 CodeableReference
        found |= context.codes.all_of(newer.get("concept"), NAMED_KINDS)
    for link in objs(resource.get("usedReference")):
        target = context.pool.resolve(link, resource)
        if target is not None:
            found |= context.codes.all_of(target.get("type") or target.get("code"), NAMED_KINDS)
    return found


def _processing(specimen: Json, context: Context) -> tuple[Procedure, ...]:
    """What a laboratory did with a sample, freezing above all (Q4)."""
    if specimen.get("status") not in (None, "available", "unavailable"):
        return ()
    if accepted(context.pool, specimen, context.losses) is None:
        return ()
    found: list[Procedure] = []
    for step in objs(specimen.get("processing")):
        concepts = context.codes.read(step.get("procedure"), NAMES).concepts
        start, end = context.stamps.point_or_period(step, "time")
        if concepts and start is not None and not context.in_future(start):
            ended = end is not None and not context.in_future(end)
            state = EventState.DONE if ended else EventState.RUNNING
            found.append(Procedure(name_of(specimen), concepts, state, start, end if ended else None))
    return tuple(found)


def _from_specimens(context: Context, known: list[Procedure]) -> list[Procedure]:
    """Processing steps that no Procedure of their kind and day reports."""
    told = {(c, p.start.date) for p in known if p.start is not None for c in p.concepts}
    specimens = [s for s in context.pool.of("Specimen") if "processing" in s]
    steps = context.each(specimens, lambda s: _processing(s, context))
    return [
        step
        for several in steps
        for step in several
        if step.start is not None and not any((c, step.start.date) in told for c in step.concepts)
    ]


def read_procedures(context: Context) -> list[Procedure]:
    """Every procedure, oldest first; undated ones last."""
    found = context.each(context.pool.of("Procedure"), lambda r: read_procedure(r, context))
    found += _from_specimens(context, found)
    return sorted(found, key=lambda p: (p.start is None, p.start.earliest if p.start else None, p.reference))
