"""Things that only need to be there, dated and coded: reports, documents, images, consents, devices ..."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fhir_mapping.chart import Document, Flag, LossReason, Moment
from fhir_mapping.read.coding import NO_CONCEPTS, codings
from fhir_mapping.read.context import Context
from fhir_mapping.read.pool import Subject, accepted, plain_reference
from fhir_mapping.read.procedure import NAMES
from fhir_mapping.read.shape import EMPTY, Json, name_of, obj, objs, text
from fhir_mapping.read.specimen import specimen_concepts

_REPORT = frozenset({"final", "amended", "corrected", "appended", "preliminary", "partial"})


def _point(*fields: str) -> Callable[[Json, Context], Moment | None]:
    def read(resource: Json, context: Context) -> Moment | None:
        for field in fields:
            value: object = resource
            for part in field.split("."):
                value = obj(value).get(part)
            found = context.stamps.read(value)
            if found is None and isinstance(value, dict):
                start, end = context.stamps.period(value)
                found = end or start
            if found is not None:
                return found
        return None

    return read


@dataclass(frozen=True, slots=True)
class _Kind:
    """How one resource type is read."""

    codes: tuple[str, ...]
    counts: frozenset[str]
    when: Callable[[Json, Context], Moment | None]
    subject: str = "subject"
    status: str = "status"
    status_required: bool = True


_KINDS: dict[str, _Kind] = {
    "DiagnosticReport": _Kind(
        ("code",), _REPORT | {"registered"}, _point("effectiveDateTime", "effectivePeriod", "issued")
    ),
    "DocumentReference": _Kind(
        ("type", "category"), frozenset({"current"}), _point("date", "context.period")
    ),
    "ImagingStudy": _Kind(
        ("procedureCode", "procedureReference", "description"),
        frozenset({"available", "registered"}),
        _point("started"),
    ),
    "Consent": _Kind(("category",), frozenset({"active"}), _point("dateTime", "date"), subject="patient"),
    "Device": _Kind(
        ("type",), frozenset({"active"}), _point("manufactureDate"), subject="patient", status_required=False
    ),
    "DeviceUseStatement": _Kind(
        ("device",),
        frozenset({"active", "completed"}),
        _point("timingDateTime", "timingPeriod", "recordedOn"),
    ),
    "Specimen": _Kind(
        ("type",),
        frozenset({"available", "unavailable"}),  # sent on or used up: it was collected all the same
        _point("collection.collectedDateTime", "collection.collectedPeriod", "receivedTime"),
        status_required=False,
    ),
    "CarePlan": _Kind(("category", "title"), frozenset({"active"}), _point("period.start", "created")),
    "EpisodeOfCare": _Kind(("type",), frozenset({"active"}), _point("period.start"), "patient"),
    "SupplyDelivery": _Kind(
        ("type", "suppliedItem.itemCodeableConcept", "suppliedItem.itemReference"),
        frozenset({"completed"}),
        _point("occurrenceDateTime", "occurrencePeriod"),
        subject="patient",
    ),
    "Task": _Kind(
        ("code", "businessStatus"),
        frozenset({"requested", "accepted", "in-progress", "completed"}),
        _point("lastModified", "authoredOn"),
        subject="for",
    ),
    "BiologicallyDerivedProduct": _Kind(
        ("productCode",),
        frozenset({"available"}),
        _point("collection.collectedDateTime"),
        status_required=False,
    ),
}
_MODALITIES = {"CT": "ct", "MR": "mri"}
_DROPPED = frozenset(
    {"cancelled", "stopped", "revoked", "entered-in-error", "unknown"}
)  # planned and given up
_SILENT = frozenset(
    {
        "entered-in-error",
        "cancelled",
        "unknown",
        "superseded",
        "inactive",
        "rejected",
        "draft",
        "proposed",
        "unavailable",
        "unsatisfactory",
        "revoked",
        "on-hold",
        "completed",
        "finished",
        "waitlist",
        "planned",
        "onhold",
        "unstable",
        "abandoned",
        "failed",
        "ready",
        "received",
        "not-done",
        "intended",
        "stopped",
        "available",
        "in-progress",
    }
)


def _concepts(resource: Json, kind: _Kind, context: Context) -> tuple[frozenset[str], bool]:
    found: frozenset[str] = NO_CONCEPTS
    by_name = False
    for field in kind.codes:
        value: object = resource
        for part in field.split("."):
            value = obj(value).get(part)
        for item in [{"text": value}] if isinstance(value, str) else objs(value):
            coded = context.codes.read(item, NAMES)
            if coded.contradictory:
                context.losses.add(LossReason.CONTRADICTORY, name_of(resource), text="contradictory codes")
                continue
            found |= coded.concepts
            by_name = by_name or coded.by_name
            if "reference" in item and (target := context.pool.resolve(item, resource)) is not None:
                found |= context.codes.all_of([target.get("type"), target.get("code")], NAMES)
    found |= _planned(resource, context)
    if not found and resource["resourceType"] == "ImagingStudy":
        found = _by_modality(resource)
    return found, by_name


def _planned(plan: Json, context: Context) -> frozenset[str]:
    """What the activities of a CarePlan are about, written in it or in the orders it points to."""
    found = NO_CONCEPTS
    for activity in objs(plan.get("activity")):
        detail = obj(activity.get("detail"))
        if detail.get("status") in _DROPPED or detail.get("doNotPerform") is True:
            continue
        order = context.pool.resolve(activity.get("reference"), plan) or EMPTY
        if order.get("status") in _DROPPED:
            continue
        codes = [detail.get("code"), detail.get("productCodeableConcept"), order.get("code")]
        found |= context.codes.all_of([*codes, order.get("medicationCodeableConcept")], NAMES)
    return found


def _by_modality(study: Json) -> frozenset[str]:
    """Kind of an image that no code names: the DICOM modalities of the study."""
    stated = {code for item in objs(study.get("modality")) for _, code in codings(item)}
    if {"CT", "PT"} <= stated:
        return frozenset({"pet_ct"})
    return frozenset(concept for code, concept in _MODALITIES.items() if code in stated)


def read_document(resource: Json, context: Context) -> Document | None:
    name = resource["resourceType"]
    kind = _KINDS[name]
    status = resource.get(kind.status)
    if not isinstance(status, str) or status not in kind.counts:
        if isinstance(status, str) and status in _SILENT:
            return None
        if status is not None or kind.status_required:
            context.losses.add(LossReason.MALFORMED, name_of(resource), text="status")
            return None
    if accepted(context.pool, resource, context.losses, kind.subject) is None:
        return None
    if obj(resource.get("provision")).get("type") == "deny":  # a Consent that refuses
        return None
    concepts, by_name = _concepts(resource, kind, context)
    when = kind.when(resource, context)
    flags: set[Flag] = set()
    if name == "DiagnosticReport":
        if context.in_future(when):
            context.losses.add(LossReason.MALFORMED, name_of(resource), text="in the future")
            return None
        if status in ("preliminary", "partial"):
            flags.add(Flag.PRELIMINARY)
    if by_name:
        flags.add(Flag.BY_NAME)
    if when is not None and not when.day_known:
        flags.add(Flag.PARTIAL_DATE)
    if context.pool.subject_of(resource, kind.subject) is Subject.UNSTATED:
        flags.add(Flag.NO_SUBJECT)
    return Document(
        reference=name_of(resource),
        resource_type=name,
        concepts=concepts,
        when=when,
        conclusions=context.codes.all_of(resource.get("conclusionCode")),
        pending=status == "registered" and name == "DiagnosticReport",
        flags=frozenset(flags),
        started=context.stamps.period(obj(resource.get("collection")).get("collectedPeriod"))[0],
    )


def _of_marrow(resource: Json, context: Context, known: dict[str, bool]) -> bool:
    """Whether a result is one of marrow. `known`: samples already looked at, by reference."""
    for link in objs(resource["specimen"]):
        sample = plain_reference(link)
        found = known.get(sample)
        if found is None:
            of_sample = context.pool.resolve(link, resource) or EMPTY
            kinds = specimen_concepts(of_sample.get("type"), context, text(link.get("display")))
            found = "marrow" in kinds
            if sample and not sample.startswith("#"):  # a contained sample is its own resource's
                known[sample] = found
        if found:
            return True
    return False


def _marrow_examinations(context: Context) -> list[Document]:
    """Any counting result or report on marrow shows that the marrow was examined (X9)."""
    known: dict[str, bool] = {}
    found: list[Document] = []
    for resource in (*context.pool.of("Observation"), *context.pool.of("DiagnosticReport")):
        if "specimen" not in resource:
            continue
        status = resource.get("status")
        if not isinstance(status, str) or status not in _REPORT:
            continue
        if not _of_marrow(resource, context, known):
            continue
        when = _KINDS["DiagnosticReport"].when(resource, context)
        if accepted(context.pool, resource, context.losses) is None or context.in_future(when):
            continue
        kind = resource["resourceType"]
        found.append(Document(name_of(resource), kind, frozenset({"bone_marrow_aspiration"}), when))
    return found


def read_documents(context: Context) -> list[Document]:
    """Everything of these kinds, oldest first; undated ones last."""
    found = _marrow_examinations(context)
    for name in _KINDS:
        found += context.each(context.pool.of(name), lambda r: read_document(r, context))
    return sorted(found, key=lambda d: (d.when is None, d.when.earliest if d.when else None, d.reference))
