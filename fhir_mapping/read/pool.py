"""Everything that arrived: one version per resource, found by type and by reference."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC
from enum import Enum
from typing import Any, TypeAlias

from fhir_mapping.chart import LossReason
from fhir_mapping.read.losses import Losses
from fhir_mapping.read.shape import Json, obj, objs, text
from fhir_mapping.read.times import Stamps

Resources: TypeAlias = Iterable[Mapping[str, Any]]

_REFERENCE = re.compile(r"(?:^|/)([A-Z][A-Za-z]+)/([^/#?|]+)(?:/_history/[^/]*)?/?$")
_VERSION_RANK = {  # among copies of one id that carry no version stamp, the later stage of a resource's life
    "preliminary": 1,
    "draft": 1,
    "registered": 0,
    "amended": 3,
    "corrected": 4,
    "entered-in-error": 9,
}


_LONGEST_VERSION = 19


def parse_reference(written: str) -> tuple[str, str] | None:
    """("Patient", "p1") of a relative, absolute or versioned reference; None for anything else."""
    match = _REFERENCE.search(written)
    return (match[1], match[2]) if match else None


def plain_reference(value: object) -> str:
    """A Reference (or its text) as `Type/id` without server and version; "" where there is none."""
    if value is None:
        return ""
    written = text(value) or text(obj(value).get("reference"))
    parsed = parse_reference(written)
    return f"{parsed[0]}/{parsed[1]}" if parsed else written


def references(value: object) -> tuple[str, ...]:
    """Plain references of a list of References, empty ones left out."""
    if value is None:
        return ()
    return tuple(ref for item in objs(value) if (ref := plain_reference(item)))


def _canonical(resource: Json) -> str:
    try:
        return json.dumps(resource, sort_keys=True, default=str)
    except (RecursionError, TypeError, ValueError):  # absurd nesting or keys: no two are taken for one
        return str(id(resource))


def _age_rank(resource: Json) -> tuple[float, int, int, int, str]:
    meta = obj(resource.get("meta"))
    updated = Stamps(UTC).read(meta.get("lastUpdated"))
    version = text(meta.get("versionId"))
    verification = objs(obj(resource.get("verificationStatus")).get("coding"))
    words = [resource.get("status"), *(item.get("code") for item in verification)]
    life = max((_VERSION_RANK.get(word, 2) for word in words if isinstance(word, str)), default=2)
    written = _canonical(resource)
    return (
        updated.latest.timestamp() if updated is not None else 0.0,
        int(version) if version.isascii() and version.isdigit() and len(version) < _LONGEST_VERSION else 0,
        life,
        len(written),  # of two that cannot be told apart, the fuller one
        written,
    )


class Subject(Enum):
    """Whose fact it is."""

    OURS = "ours"
    UNSTATED = "unstated"  # accepted and flagged
    OTHER_PATIENT = "other-patient"
    NOT_A_PATIENT = "not-a-patient"  # donor, fetus, group, device: never the patient's value


class Pool:
    """Resources by type, one per `Type/id`.

    Of two versions of one id the later `meta.lastUpdated` stays, then the higher `versionId`, then the later
    stage of life (entered in error > corrected > amended > final > preliminary).
    """

    __slots__ = ("_behind", "_by_type", "_ids", "_subjects", "patient_id")

    def __init__(
        self, resources: Resources, patient_id: str, losses: Losses, behind: Pool | None = None
    ) -> None:
        """`behind`: the chart, where a draft's references are looked up after the drafts themselves."""
        self.patient_id = patient_id
        self._behind = behind
        self._by_type: dict[str, dict[object, Json]] = {}
        self._ids: dict[str, Json] | None = None
        self._subjects: dict[object, Subject] = {}
        self._take(resources, losses)

    def _take(self, resources: Resources, losses: Losses, *, of_bundle: bool = False) -> None:
        by_type = self._by_type
        for resource in resources:
            if not isinstance(resource, dict):
                losses.add(LossReason.MALFORMED, text="not an object")
                continue
            kind = resource.get("resourceType")
            if not isinstance(kind, str) or not kind:
                losses.add(LossReason.MALFORMED, text="no resourceType")
                continue
            if kind == "Bundle" and not of_bundle:
                entries = (entry.get("resource") for entry in objs(resource.get("entry")))
                self._take([inner for inner in entries if isinstance(inner, dict)], losses, of_bundle=True)
                continue
            known = by_type.get(kind)
            if known is None:
                known = by_type[kind] = {}
            identity = resource.get("id")
            if not isinstance(identity, str) or not identity:
                identity = ("without id", _canonical(resource))
            other = known.get(identity)
            if other is None or (other is not resource and _age_rank(resource) > _age_rank(other)):
                known[identity] = resource

    def of(self, kind: str) -> list[Json]:
        return list(self._by_type.get(kind, {}).values())

    def get(self, reference: str) -> Json | None:
        """The resource of a plain reference or `urn:uuid:` text, if it arrived."""
        found = self._own(reference)
        return self._behind.get(reference) if found is None and self._behind is not None else found

    def _own(self, reference: str) -> Json | None:
        parsed = parse_reference(reference)
        if parsed is not None:
            return self._by_type.get(parsed[0], {}).get(parsed[1])
        if reference.startswith("urn:uuid:"):
            if self._ids is None:
                self._ids = {
                    identity: resource
                    for known in self._by_type.values()
                    for identity, resource in known.items()
                    if isinstance(identity, str)
                }
            return self._ids.get(reference.removeprefix("urn:uuid:"))
        return None

    def resolve(self, value: object, owner: Json) -> Json | None:
        """The resource that a Reference of `owner` points to: contained first, else arrived."""
        written = text(obj(value).get("reference"))
        if not written:
            return None
        if written.startswith("#"):
            wanted = written[1:]
            return next((c for c in objs(owner.get("contained")) if c.get("id") in (wanted, written)), None)
        return self.get(written)

    def _is_ours(self, parsed: tuple[str, str]) -> Subject:
        if parsed[0] != "Patient":
            return Subject.NOT_A_PATIENT
        return Subject.OURS if parsed[1] == self.patient_id else Subject.OTHER_PATIENT

    def _by_identifier(self, reference: Json) -> Subject:
        wanted = obj(reference.get("identifier"))
        value = text(wanted.get("value"))
        ours = obj(self.get(f"Patient/{self.patient_id}"))
        mine = {text(item.get("value")): text(item.get("system")) for item in objs(ours.get("identifier"))}
        if not value or not mine:
            return Subject.UNSTATED
        system = text(wanted.get("system"))
        known = value in mine and (not system or not mine[value] or system == mine[value])
        return Subject.OURS if known else Subject.OTHER_PATIENT

    def _whose(self, value: object, owner: Json) -> Subject:
        reference = obj(value)
        written = text(reference.get("reference"))
        if not written:
            kind = text(reference.get("type"))
            return Subject.NOT_A_PATIENT if kind not in ("", "Patient") else self._by_identifier(reference)
        if written.startswith("#"):
            contained = self.resolve(value, owner)
            if contained is None or contained.get("resourceType") == "Patient":
                return Subject.UNSTATED
            return Subject.NOT_A_PATIENT
        parsed = parse_reference(written)
        if parsed is not None:
            return self._is_ours(parsed)
        if written.removeprefix("urn:uuid:") == self.patient_id:
            return Subject.OURS
        target = self.get(written)
        if target is not None and target.get("resourceType") != "Patient":
            return Subject.NOT_A_PATIENT
        return Subject.OTHER_PATIENT

    def subject_of(self, resource: Json, field: str = "subject") -> Subject:
        """Whose fact a resource is, by its `subject` (or `patient`)."""
        value = resource.get(field)
        if value is None:
            return Subject.UNSTATED
        written = value.get("reference") if isinstance(value, dict) else None
        if not isinstance(written, str) or written.startswith("#"):
            return self._whose(value, resource)
        whose = self._subjects.get(written)
        if whose is None:
            whose = self._subjects[written] = self._whose(value, resource)
        return whose

    def about_another(self, resource: Json) -> bool:
        """`focus` names a donor, a relative or a group: the value is not the patient's."""
        for item in objs(resource.get("focus")):
            parsed = parse_reference(text(item.get("reference")))
            kind = parsed[0] if parsed else text(item.get("type"))
            if kind in ("RelatedPerson", "Group") or (
                parsed and self._is_ours(parsed) is Subject.OTHER_PATIENT
            ):
                return True
        return False


def accepted(pool: Pool, resource: Json, losses: Losses, field: str = "subject") -> Subject | None:
    """Whose fact it is if it may be used, else None; another patient's data is named as a loss."""
    whose = pool.subject_of(resource, field)
    if whose is Subject.OTHER_PATIENT:
        losses.add(LossReason.MALFORMED, text(resource.get("resourceType")), text="another patient's data")
        return None
    return None if whose is Subject.NOT_A_PATIENT else whose
