"""Resources in, Chart out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, tzinfo
from decimal import Decimal
from functools import cache
from types import MappingProxyType
from typing import Generic, TypeVar

from fhir_mapping.chart import (
    Chart,
    Coverage,
    Drafts,
    DrugRecord,
    DrugSource,
    DrugState,
    EventState,
    Facts,
    Result,
    ServiceOrder,
    Vaccine,
)
from fhir_mapping.read.allergy import read_allergies
from fhir_mapping.read.appointment import read_appointment, sorted_appointments, subject_of_visit
from fhir_mapping.read.coding import Codes
from fhir_mapping.read.condition import read_conditions
from fhir_mapping.read.context import Context, Memory
from fhir_mapping.read.course import read_course
from fhir_mapping.read.course_facts import CourseFacts
from fhir_mapping.read.derived import DerivedSeries
from fhir_mapping.read.document import read_documents
from fhir_mapping.read.dosage import UNKNOWN_SIZE, BodySize
from fhir_mapping.read.drugs import in_order as drugs_in_order
from fhir_mapping.read.drugs import read_drugs
from fhir_mapping.read.encounter import read_encounters
from fhir_mapping.read.exposure import read_exposures
from fhir_mapping.read.immunization import (
    in_order,
    is_vaccine,
    of_drug,
    of_service,
    read_immunization,
    read_recommendations,
)
from fhir_mapping.read.losses import Losses
from fhir_mapping.read.observation import Observations
from fhir_mapping.read.patient import read_patient
from fhir_mapping.read.pool import Pool, Resources, Subject, parse_reference, references
from fhir_mapping.read.procedure import read_procedures
from fhir_mapping.read.request import read_request
from fhir_mapping.read.service import read_service, read_services
from fhir_mapping.read.shape import Json, name_of, objs, text
from fhir_mapping.read.times import Stamps
from fhir_mapping.read.traits import TraitsOf
from fhir_mapping.read.values import Values
from fhir_mapping.terminology import Terminology

_BSA_DIVISOR = Decimal(3600)  # Mosteller: square root of cm * kg / 3600
_ORDER_TYPES = ("MedicationRequest", "ServiceRequest", "DeviceRequest")
T = TypeVar("T")


@cache
def _traits(terminology: Terminology) -> TraitsOf:
    return TraitsOf(terminology)


@cache
def _codes(terminology: Terminology) -> Codes:
    return Codes(terminology)


@cache
def _memory(terminology: Terminology) -> Memory:
    return Memory()


@cache
def _drug_concepts(terminology: Terminology) -> frozenset[str]:
    return frozenset(concept.id for concept in terminology.concepts("drug"))


def _context(
    resources: Resources, patient_id: str, now: datetime, zone: tzinfo, terminology: Terminology
) -> Context:
    losses = Losses()
    parsed = parse_reference(patient_id)
    codes, stamps = _codes(terminology), Stamps(zone)
    return Context(
        pool=Pool(resources, parsed[1] if parsed else patient_id, losses),
        now=now.astimezone(zone) if now.tzinfo is not None else now.replace(tzinfo=zone),
        codes=codes,
        stamps=stamps,
        traits=_traits(terminology),
        values=Values(codes, stamps),
        losses=losses,
        memory=_memory(terminology),
    )


def _hook_context(chart: Context, resources: Resources) -> Context:
    """Drafts are a pool of their own: one of them may have the id of an order on the chart."""
    pool = Pool(resources, chart.pool.patient_id, chart.losses, behind=chart.pool)
    return replace(chart, pool=pool)


class _Once(Generic[T]):
    """A value worked out on first use."""

    __slots__ = ("_make", "_value")

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._value: list[T] = []

    def __call__(self) -> T:
        if not self._value:
            self._value.append(self._make())
        return self._value[0]


# -- drafts ------------------------------------------------------------------------------------------------


def _identifiers(resource: Json) -> set[str]:
    return {
        f"{text(item.get('system'))}|{value}"
        for item in objs(resource.get("identifier"))
        if (value := text(item.get("value")))
    }


def _replaced(chart: Pool, drafts: Pool) -> frozenset[str]:
    """Orders on the chart that a draft re-signs or replaces: same id, same identifier, or named by it."""
    found: set[str] = set()
    for kind in _ORDER_TYPES:
        identifiers: set[str] = set()
        for draft in drafts.of(kind):
            if text(draft.get("id")):
                found.add(name_of(draft))
            identifiers |= _identifiers(draft)
            for field in ("priorPrescription", "replaces", "priorRequest"):
                found.update(references(draft.get(field)))
        if identifiers:
            found |= {name_of(order) for order in chart.of(kind) if _identifiers(order) & identifiers}
    return frozenset(found)


def _draft_vaccines(context: Context, drugs: list[DrugRecord], services: list[ServiceOrder]) -> list[Vaccine]:
    pool = context.pool
    found = [of_drug(d) for d in drugs if is_vaccine(d.concepts)]
    found += [of_service(s) for s in services if is_vaccine(s.concepts | s.details)]
    found += context.each(pool.of("Immunization"), lambda r: read_immunization(r, context, in_hook=True))
    for several in context.each(
        pool.of("ImmunizationRecommendation"), lambda r: read_recommendations(r, context)
    ):
        found += several
    return sorted(found, key=in_order)


def _drafts(context: Context, appointments: Context, body: BodySize) -> Drafts:
    pool = context.pool
    drugs = context.each(
        pool.of("MedicationRequest"), lambda r: read_request(r, context, in_hook=True, body=body)
    )
    services = context.each(
        [*pool.of("ServiceRequest"), *pool.of("DeviceRequest")],
        lambda r: read_service(r, context, in_hook=True),
    )
    booked = appointments.each(
        appointments.pool.of("Appointment"), lambda r: read_appointment(r, appointments, proposed=True)
    )
    drugs.sort(key=drugs_in_order)
    services.sort(key=lambda s: (s.when is None, s.when.earliest if s.when else None, s.reference))
    return Drafts(
        drugs=Facts(tuple(drugs)),
        services=Facts(tuple(services)),
        vaccines=Facts(tuple(_draft_vaccines(context, drugs, services))),
        appointments=Facts(tuple(sorted_appointments(booked))),
        of_others=_of_others(context, appointments),
    )


def _of_others(orders: Context, appointments: Context) -> int:
    """Orders and visits of the hook that name another patient."""
    subjects = [orders.pool.subject_of(order) for kind in _ORDER_TYPES for order in orders.pool.of(kind)]
    subjects += [subject_of_visit(visit, appointments) for visit in appointments.pool.of("Appointment")]
    return subjects.count(Subject.OTHER_PATIENT)


def read_drafts(
    drafts: Resources,
    *,
    patient_id: str,
    now: datetime,
    zone: tzinfo,
    terminology: Terminology,
    appointments: Resources = (),
) -> Drafts:
    """What the hook brings, without any chart: enough to see whether a rule is concerned."""
    context = _context((), patient_id, now, zone, terminology)
    return _drafts(_hook_context(context, drafts), _hook_context(context, appointments), UNKNOWN_SIZE)


# -- chart -------------------------------------------------------------------------------------------------


def _body_size(series: DerivedSeries, now: datetime) -> BodySize:
    def newest(concept: str) -> Decimal | None:
        found = series(concept).latest(now, usable=lambda o: o.value.quantity is not None)
        return found.value.quantity.value if found is not None and found.value.quantity is not None else None

    weight, height = newest("body_weight"), newest("body_height")
    if weight is not None and height is not None:
        return BodySize(weight, (weight * height / _BSA_DIVISOR).sqrt())
    return BodySize(weight, newest("bsa"))


def _vaccines_given(context: Context, drugs: Facts[DrugRecord]) -> list[Vaccine]:
    """Immunizations, and administrations of vaccines that no Immunization of that day reports."""
    pool = context.pool
    found = context.each(pool.of("Immunization"), lambda r: read_immunization(r, context))
    known = [(v.when.date, v.concepts) for v in found if v.when is not None]
    for drug in drugs:
        if drug.source is DrugSource.ADMINISTRATION and drug.given and is_vaccine(drug.concepts):
            vaccine = of_drug(drug)
            day = vaccine.when.date if vaccine.when is not None else None
            if not any(day == other and concepts & vaccine.concepts for other, concepts in known):
                found.append(vaccine)
    return sorted(found, key=in_order)


def _vaccines_ordered(
    context: Context, drugs: Facts[DrugRecord], services: Facts[ServiceOrder]
) -> list[Vaccine]:
    open_orders = (DrugState.ACTIVE, DrugState.DRAFT)
    found = [
        of_drug(d)
        for d in drugs
        if d.source is DrugSource.ORDER and d.state in open_orders and is_vaccine(d.concepts)
    ]
    found += [
        of_service(s)
        for s in services
        if s.state in (EventState.ACTIVE, EventState.DRAFT) and is_vaccine(s.concepts | s.details)
    ]
    recommendations = context.pool.of("ImmunizationRecommendation")
    for several in context.each(recommendations, lambda r: read_recommendations(r, context)):
        found += several
    return sorted(found, key=in_order)


def read_chart(
    resources: Resources,
    *,
    patient_id: str,
    now: datetime,
    zone: tzinfo,
    terminology: Terminology,
    drafts: Resources = (),
    appointments: Resources = (),
    encounter_id: str = "",
    hook: str = "",
    coverage: Mapping[str, Coverage] = MappingProxyType({}),
) -> Chart:
    """The chart of one patient.

    `resources`: everything that arrived, in any order; duplicates, damaged entries and entries of other
    patients cost nothing but themselves and are named in `Chart.losses`. `drafts` and `appointments` are what
    the hook brings. Never raises on the content of a resource.
    """
    context = _context(resources, patient_id, now, zone, terminology)
    hooked, booked = _hook_context(context, drafts), _hook_context(context, appointments)
    patient = read_patient(context)
    observations = Observations(context, patient)
    series = DerivedSeries(context, observations)
    replaced = _replaced(context.pool, hooked.pool)

    def b_cell_seen() -> bool:
        return any(
            item.value.result is Result.POSITIVE or "dim" in item.value.codes
            for item in series("cd19_expression").items
        )

    body = _Once(lambda: _body_size(series, context.now))
    has_orders = any(context.pool.of(kind) for kind in ("MedicationRequest",))
    drugs: Facts[DrugRecord] = Facts(
        lambda: read_drugs(context, body() if has_orders else UNKNOWN_SIZE, replaced)
    )
    services: Facts[ServiceOrder] = Facts(lambda: read_services(context, replaced))

    def causes(reference: str) -> frozenset[str]:
        stated = (item for item in series("attributed_to").items if reference in item.focus)
        return frozenset(code for item in stated for code in item.value.codes)

    conditions = Facts(lambda: read_conditions(context, b_cell_seen, causes))
    procedures = Facts(lambda: read_procedures(context))
    documents = Facts(lambda: read_documents(context))
    visits = Facts(
        lambda: sorted_appointments(
            context.each(context.pool.of("Appointment"), lambda r: read_appointment(r, context))
        )
    )
    brought = _drafts(hooked, booked, body() if hooked.pool.of("MedicationRequest") else UNKNOWN_SIZE)
    exposures = _Once(lambda: read_exposures(drugs.all, _drug_concepts(terminology)))
    return Chart(
        patient=patient,
        now=context.now,
        series_of=series,
        conditions=conditions,
        procedures=procedures,
        services=services,
        appointments=visits,
        encounters=read_encounters(context, encounter_id, hook),
        drugs=drugs,
        vaccines=Facts(lambda: _vaccines_given(context, drugs)),
        vaccine_orders=Facts(lambda: _vaccines_ordered(context, drugs, services)),
        allergies=Facts(lambda: read_allergies(context)),
        documents=documents,
        drafts=brought,
        course=read_course(
            CourseFacts(
                now=context.now,
                conditions=conditions.all,
                procedures=procedures.all,
                services=services.all,
                appointments=visits.all,
                drugs=drugs.all,
                documents=documents.all,
                draft_drugs=brought.drugs.all,
                draft_services=brought.services.all,
                draft_appointments=brought.appointments.all,
            )
        ),
        exposures_of=exposures,
        coverage=dict(coverage),
        read_losses=context.losses.all,
    )
