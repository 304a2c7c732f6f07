"""Vaccines given and ordered (chart-facts section 15)."""

from __future__ import annotations

from fhir_mapping.chart import DrugRecord, Flag, LossReason, Route, ServiceOrder, Vaccine
from fhir_mapping.read.coding import NO_CONCEPTS
from fhir_mapping.read.context import Context
from fhir_mapping.read.medication import Identity, read_route
from fhir_mapping.read.pool import Subject, accepted
from fhir_mapping.read.purposes import read_purpose
from fhir_mapping.read.shape import Json, name_of, number, objs, text, whole

_NAMES = frozenset({"vaccine", "drug", "drug_class"})
_VACCINE_CLASS = "class_vaccines"
_OPEN_FORECAST = frozenset({"due", "overdue"})
_NEVER = frozenset({"entered-in-error", "not-done"})


def is_vaccine(concepts: frozenset[str]) -> bool:
    return _VACCINE_CLASS in concepts or any(c.startswith("vac_") for c in concepts)


def _dose_number(resource: Json) -> int | None:
    for item in objs(resource.get("protocolApplied")):
        for key in ("doseNumberPositiveInt", "doseNumberString", "doseNumber"):
            found = whole(number(item.get(key)))
            if found is not None:
                return found
    return None


def read_immunization(resource: Json, context: Context, *, in_hook: bool = False) -> Vaccine | None:
    """A vaccine given; in the hook's draft bundle, one that is ordered."""
    status = resource.get("status")
    if in_hook:
        if status in ("entered-in-error", "not-done"):
            return None
    elif status != "completed":
        if not (isinstance(status, str) and status in _NEVER):
            context.losses.add(LossReason.MALFORMED, name_of(resource), text="status")
        return None
    if accepted(context.pool, resource, context.losses, "patient") is None:
        return None
    coded = context.codes.read(resource.get("vaccineCode"), _NAMES)
    if coded.contradictory:
        context.losses.add(LossReason.CONTRADICTORY, name_of(resource), text="contradictory codes")
        if not in_hook:
            return None
    when = context.stamps.read(resource.get("occurrenceDateTime") or resource.get("date"))  # STU3: date
    if not in_hook and context.in_future(when):
        context.losses.add(LossReason.MALFORMED, name_of(resource), text="in the future")
        return None
    flags: set[Flag] = set()
    if coded.by_name:
        flags.add(Flag.BY_NAME)
    if when is not None and not when.day_known:
        flags.add(Flag.PARTIAL_DATE)
    if not in_hook and context.pool.subject_of(resource, "patient") is Subject.UNSTATED:
        flags.add(Flag.NO_SUBJECT)
    route = read_route(resource.get("route"), Identity(coded.text), context)
    return Vaccine(
        reference=name_of(resource),
        concepts=by_route(coded.concepts, route),
        when=when,
        text=coded.text,
        route=route,
        purposes=read_purpose(resource, context).purposes,
        subpotent=resource.get("isSubpotent") is True,
        dose_number=_dose_number(resource),
        flags=frozenset(flags),
    )


def by_route(concepts: frozenset[str], route: Route | None) -> frozenset[str]:
    """Generic influenza vaccine by injection is the inactivated one, by nose the live one (I3)."""
    if "vac_influenza_unspecified" not in concepts:
        return concepts
    if route in (Route.INTRAMUSCULAR, Route.SUBCUTANEOUS):
        return (concepts - {"vac_influenza_laiv"}) | {"vac_influenza_inactivated"}
    if route is Route.NASAL:
        return (concepts - {"vac_influenza_inactivated"}) | {"vac_influenza_laiv"}
    return concepts


def read_recommendations(resource: Json, context: Context) -> list[Vaccine]:
    """Due vaccines of an ImmunizationRecommendation: never an order, information only."""
    if accepted(context.pool, resource, context.losses, "patient") is None:
        return []
    found: list[Vaccine] = []
    for item in objs(resource.get("recommendation")):
        forecast = context.codes.read(item.get("forecastStatus"), NO_CONCEPTS)
        words = {text(c.get("code")) for c in objs((item.get("forecastStatus") or {}).get("coding"))}
        if not words & _OPEN_FORECAST and forecast.text.casefold() not in _OPEN_FORECAST:
            continue
        concepts = context.codes.all_of(item.get("vaccineCode"), _NAMES)
        dates = [context.stamps.read(d.get("value")) for d in objs(item.get("dateCriterion"))]
        dated = sorted((d for d in dates if d is not None), key=lambda m: (m.earliest, m.latest))
        shown = next((t for v in objs(item.get("vaccineCode")) if (t := text(v.get("text")))), "")
        found.append(
            Vaccine(
                reference=name_of(resource),
                concepts=concepts,
                when=dated[0] if dated else None,
                text=shown,
                recommendation=True,
            )
        )
    return found


def of_drug(record: DrugRecord) -> Vaccine:
    """The vaccine that a drug record gives or orders."""
    return Vaccine(
        reference=record.reference,
        concepts=by_route(record.concepts, record.route),
        when=record.timing.first,
        text=record.name,
        route=record.route,
        purposes=record.purposes,
        flags=record.flags,
    )


def of_service(order: ServiceOrder) -> Vaccine:
    """The vaccine that a service order asks for, by its code or its detail."""
    return Vaccine(
        reference=order.reference,
        concepts=frozenset(
            c for c in order.concepts | order.details if c.startswith("vac_") or c == _VACCINE_CLASS
        ),
        when=order.when,
        text=order.text,
        purposes=order.purposes,
        flags=order.flags,
    )


def in_order(vaccine: Vaccine) -> tuple[object, ...]:
    return (
        vaccine.when is None,
        vaccine.when.earliest if vaccine.when else None,
        vaccine.reference,
        sorted(vaccine.concepts),
    )
