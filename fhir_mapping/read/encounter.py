"""Encounter (chart-facts section 17, K14, section 18)."""

from __future__ import annotations

from dataclasses import replace

from fhir_mapping.chart import Encounter, LossReason, Moment, instant
from fhir_mapping.read.coding import codings
from fhir_mapping.read.condition import infection_concepts
from fhir_mapping.read.context import Context
from fhir_mapping.read.pool import accepted, parse_reference
from fhir_mapping.read.shape import EMPTY, Json, name_of, obj, objs, text

_OPEN = frozenset({"arrived", "in-progress", "triaged", "onleave", "on-hold"})
_ENDED = frozenset({"finished", "completed", "discharged"})
_NEVER = frozenset({"cancelled", "entered-in-error", "unknown", "discontinued"})
_ICU_CODES = frozenset({"ICU", "PEDICU", "CCU"})
_ICU_NAMES = frozenset(
    (
        "icu|micu|sicu|ccu|picu|nicu|rcu|bicu|cvicu|intensive care unit|medical intensive care unit|"
        "surgical intensive care unit|pediatric intensive care unit|加護病房|內科加護病房|外科加護病房|"
        "兒科加護病房|重症加護病房"
    ).split("|")
)


def _class(resource: Json) -> str:
    raw = resource.get("class")
    candidates = raw if isinstance(raw, list) else [raw]
    for item in candidates:
        for _, code in codings(item):
            return code.upper()
    return ""


def _in_icu(resource: Json, concepts: frozenset[str], finished: bool, context: Context) -> bool:
    """An active location (of a finished stay: any) that is an intensive care unit."""
    if "icu" in concepts:
        return True
    for stay in objs(resource.get("location")):
        status = stay.get("status")
        if status not in (None, "active") and not (finished and status == "completed"):
            continue
        if status is None and obj(stay.get("period")).get("end") is not None and not finished:
            continue
        link = obj(stay.get("location"))
        place = context.pool.resolve(link, resource) or EMPTY
        if any(code.upper() in _ICU_CODES for kind in objs(place.get("type")) for _, code in codings(kind)):
            return True
        names = (text(place.get("name")), text(link.get("display")))
        if any(name.casefold() in _ICU_NAMES for name in names if name):
            return True
    return False


def _reasons(resource: Json, context: Context) -> frozenset[str]:
    stated = [*objs(resource.get("reasonCode")), *objs(resource.get("reason"))]
    links = objs(resource.get("reasonReference"))
    links += [obj(item.get("condition")) for item in objs(resource.get("diagnosis"))]
    for link in links:
        target = context.pool.resolve(link, resource)
        if target is not None and target.get("resourceType") == "Condition":
            stated += objs(target.get("code"))
    return context.codes.all_of(stated).union(*(infection_concepts(value) for value in stated))


def read_encounter(resource: Json, context: Context) -> Encounter | None:
    status = resource.get("status")
    if not isinstance(status, str) or status not in _OPEN | _ENDED | {"planned"}:
        if status not in _NEVER:
            context.losses.add(LossReason.MALFORMED, name_of(resource), text="status")
        return None
    if accepted(context.pool, resource, context.losses) is None:
        return None
    start, end = context.stamps.period(resource.get("period") or resource.get("actualPeriod"))
    kinds = context.codes.all_of(resource.get("type")) | context.codes.all_of(resource.get("serviceType"))
    finished = status in _ENDED
    return Encounter(
        reference=name_of(resource),
        planned=status == "planned",
        finished=finished,
        class_code=_class(resource),
        start=start,
        end=end,
        concepts=kinds,
        reasons=_reasons(resource, context),
        icu=_in_icu(resource, kinds, finished, context),
    )


def _discharged(encounter: Encounter, now: Moment) -> Encounter:
    """The discharge under way ends the stay now, whatever the chart still says (section 18)."""
    return replace(encounter, finished=True, planned=False, end=now)


def read_encounters(context: Context, encounter_id: str, hook: str) -> tuple[Encounter, ...]:
    """Every visit, oldest first."""
    found = context.each(context.pool.of("Encounter"), lambda r: read_encounter(r, context))
    parsed = parse_reference(encounter_id)
    wanted = f"Encounter/{parsed[1] if parsed else encounter_id}"
    if hook == "encounter-discharge" and encounter_id:
        now = instant(context.now)
        found = [_discharged(e, now) if e.reference == wanted else e for e in found]
    found.sort(key=lambda e: (e.start is None, e.start.earliest if e.start else None, e.reference))
    return tuple(found)
