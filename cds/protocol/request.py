"""Hook requests as EHRs really send them: strict where the answer depends on it, tolerant elsewhere.

Refused (400, the field named): no hook, hookInstance or patient; a hook that the service does not serve; a
required context field that is missing; `fhirAuthorization` without `fhirServer` or without a token. Read all
the same, with a note: unknown fields, `Patient/123` as an id, a Bundle without `type`, `expires_in` as text.
Nothing here validates resources; the mapper reads them field by field.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from cds.protocol.addresses import readdressed
from cds.protocol.errors import IssueCode, ProtocolError, invalid, required
from cds.protocol.hooks import HOOKS, FieldKind, HookSpec, Presence

Json = Mapping[str, Any]

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_REFERENCE = re.compile(r"([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})(?:/_history/[^/]*)?$")
_LONGEST = 255  # characters of an id or hookInstance
# Nothing that a rule reads hangs on them, and EHRs leave them out (chart-facts section 18).
_LENIENT = frozenset({"userId", "selections"})


class Note(StrEnum):
    """Oddities that were tolerated; logged and counted, never with a value."""

    INSTANCE_NOT_UUID = "hook-instance-not-uuid"
    USER_MISSING = "user-missing"
    USER_FORMAT = "user-format"
    PATIENT_REFERENCE = "patient-id-as-reference"
    SELECTION_UNREADABLE = "selection-unreadable"
    ENTRY_UNREADABLE = "draft-entry-unreadable"
    EXPIRY_UNREADABLE = "expires-in-unreadable"
    EXPIRY_AS_TEXT = "expires-in-as-text"
    SCOPE_MISSING = "scope-missing"
    SUBJECT_MISSING = "subject-missing"
    TOKEN_OF_OTHER_PATIENT = "token-of-other-patient"


@dataclass(frozen=True, slots=True)
class Authorization:
    """The client's access token for its FHIR server, kept only for the request. `expires_in` in seconds."""

    token: str = field(repr=False)
    expires_in: float | None = None
    scope: str = ""
    subject: str = ""
    patient: str = ""


@dataclass(frozen=True, slots=True)
class HookRequest:
    """One hook call. `selections` None: every draft is meant. Ids are bare (`123`, not `Patient/123`)."""

    hook: str
    hook_instance: str
    context: Json
    prefetch: Json
    patient_id: str
    user_id: str = ""
    encounter_id: str = ""
    fhir_server: str = ""
    authorization: Authorization | None = None
    draft_orders: tuple[Json, ...] = ()
    selections: frozenset[str] | None = None
    appointments: tuple[Json, ...] = ()
    unreadable_entries: int = 0
    notes: frozenset[Note] = frozenset()


def parse_request(body: object, hook: str) -> HookRequest:
    """The request to a service of `hook`. Raises ProtocolError(400) naming the field."""
    if not isinstance(body, dict):
        raise invalid("a JSON object is expected", "request")
    notes: set[Note] = set()
    name = _text(body, "hook")
    instance = _text(body, "hookInstance")
    if len(instance) > _LONGEST:
        raise invalid(f"is longer than {_LONGEST} characters", "hookInstance")
    if not _UUID.fullmatch(instance):
        notes.add(Note.INSTANCE_NOT_UUID)
    if name != hook:
        raise invalid(f"this service answers {hook} only", "hook")
    context = body.get("context")
    if context is None:
        raise required("context")
    if not isinstance(context, dict):
        raise invalid("a JSON object is expected", "context")
    context = readdressed(context)
    spec = HOOKS[hook]
    _check_required(context, spec)
    patient_id = _bare_id(context, "patientId", "Patient", notes)
    drafts, lost_drafts = _resources(context, "draftOrders", spec)
    appointments, lost_appointments = _resources(context, "appointments", spec)
    if lost_drafts or lost_appointments:
        notes.add(Note.ENTRY_UNREADABLE)
    prefetch = body.get("prefetch")
    if prefetch is not None and not isinstance(prefetch, dict):
        raise invalid("a JSON object is expected", "prefetch")
    server, authorization = _fhir_access(body, patient_id, notes)
    return HookRequest(
        hook=hook,
        hook_instance=instance,
        context=context,
        prefetch=prefetch or {},
        patient_id=patient_id,
        user_id=_user(context, spec, notes),
        encounter_id=_bare_id(context, "encounterId", "Encounter", notes) if "encounterId" in context else "",
        fhir_server=server,
        authorization=authorization,
        draft_orders=drafts,
        selections=_selections(context, drafts, notes) if spec.name == "order-select" else None,
        appointments=appointments,
        unreadable_entries=lost_drafts + lost_appointments,
        notes=frozenset(notes),
    )


def _text(body: Json, name: str) -> str:
    value = body.get(name)
    if value is None or value == "":
        raise required(name)
    if not isinstance(value, str):
        raise invalid("a string is expected", name)
    return value


def _check_required(context: Json, spec: HookSpec) -> None:
    for item in spec.fields:
        if (
            item.presence is Presence.REQUIRED
            and item.name not in _LENIENT
            and context.get(item.name) in (None, "")
        ):
            raise required(f"context.{item.name}")


def _bare_id(context: Json, name: str, resource_type: str, notes: set[Note]) -> str:
    value = context.get(name)
    path = f"context.{name}"
    if name == "encounterId" and value in (None, ""):
        return ""
    if not isinstance(value, str):
        raise invalid("a string is expected", path)
    bare = value.strip()
    marker = f"{resource_type}/"
    if marker in bare:
        bare = bare.rpartition(marker)[2].partition("/")[0]
        if resource_type == "Patient":
            notes.add(Note.PATIENT_REFERENCE)
    if not bare:
        raise required(path)
    if len(bare) > _LONGEST:
        raise invalid(f"is longer than {_LONGEST} characters", path)
    return bare


def _user(context: Json, spec: HookSpec, notes: set[Note]) -> str:
    value = context.get("userId")
    if value is None or value == "":
        notes.add(Note.USER_MISSING)
        return ""
    types = next((item.types for item in spec.fields if item.name == "userId"), ())
    match = _REFERENCE.search(value) if isinstance(value, str) else None
    if match is None or match[1] not in types:
        notes.add(Note.USER_FORMAT)
    return value if isinstance(value, str) else ""


def _holds_resources(spec: HookSpec, name: str) -> bool:
    return any(item.name == name and item.kind is FieldKind.RESOURCES for item in spec.fields)


def _resources(context: Json, name: str, spec: HookSpec) -> tuple[tuple[Json, ...], int]:
    """The resources of a Bundle, a bare list or a single resource, and how many entries were none."""
    if not _holds_resources(spec, name):
        return (), 0
    entries = _entries(context[name], f"context.{name}")
    found: list[Json] = []
    for entry in entries:
        resource = entry.get("resource", entry) if isinstance(entry, dict) else None
        if isinstance(resource, dict) and isinstance(resource.get("resourceType"), str):
            found.append(resource)
    return tuple(found), len(entries) - len(found)


def _entries(value: object, path: str) -> list[Any]:
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        if value.get("resourceType") == "Bundle" or "entry" in value:
            entries = value.get("entry")
            if entries is None:
                return []
            if isinstance(entries, list | dict):
                return entries if isinstance(entries, list) else [entries]
        elif isinstance(value.get("resourceType"), str):
            return [value]
    raise invalid("a Bundle is expected", path)


def _selections(context: Json, drafts: Iterable[Json], notes: set[Note]) -> frozenset[str] | None:
    raw = context.get("selections")
    if raw is None or raw == []:
        return None
    if isinstance(raw, str):
        raw = [raw]
    if not isinstance(raw, list):
        raise invalid("an array of Type/id is expected", "context.selections")
    chosen: set[str] = set()
    for item in raw:
        text = item.get("reference") if isinstance(item, dict) else item
        match = _REFERENCE.search(text) if isinstance(text, str) else None
        if match is not None:
            chosen.add(f"{match[1]}/{match[2]}")
            continue
        bare = [f"{d['resourceType']}/{text}" for d in drafts if text is not None and d.get("id") == text]
        chosen.update(bare)
        if not bare:
            notes.add(Note.SELECTION_UNREADABLE)
    return frozenset(chosen) or None


def _fhir_access(body: Json, patient_id: str, notes: set[Note]) -> tuple[str, Authorization | None]:
    server = body.get("fhirServer")
    if server is not None and not isinstance(server, str):
        raise invalid("a string is expected", "fhirServer")
    server = (server or "").strip()
    raw = body.get("fhirAuthorization")
    if raw is None:
        return server, None
    if not isinstance(raw, dict):
        raise invalid("a JSON object is expected", "fhirAuthorization")
    if not server:
        raise ProtocolError(
            400, IssueCode.REQUIRED, "is required where fhirAuthorization is sent", "fhirServer"
        )
    token = raw.get("access_token")
    if token is None or token == "":
        raise required("fhirAuthorization.access_token")
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise invalid("a printable ASCII string is expected", "fhirAuthorization.access_token")
    kind = raw.get("token_type")
    if kind is not None and (not isinstance(kind, str) or kind.lower() != "bearer"):
        raise invalid("only Bearer is supported", "fhirAuthorization.token_type")
    patient = _optional_text(raw, "patient").rpartition("Patient/")[2]
    if patient and patient != patient_id:
        notes.add(Note.TOKEN_OF_OTHER_PATIENT)
    for name, note in (("scope", Note.SCOPE_MISSING), ("subject", Note.SUBJECT_MISSING)):
        if not _optional_text(raw, name):
            notes.add(note)
    return server, Authorization(
        token=token,
        expires_in=_expiry(raw.get("expires_in"), notes),
        scope=_optional_text(raw, "scope"),
        subject=_optional_text(raw, "subject"),
        patient=patient,
    )


def _optional_text(raw: Json, name: str) -> str:
    value = raw.get(name)
    return value if isinstance(value, str) else ""


def _expiry(value: object, notes: set[Note]) -> float | None:
    """Seconds. An unreadable lifetime is unknown, not expired: the FHIR server decides."""
    if isinstance(value, str):
        notes.add(Note.EXPIRY_AS_TEXT)
        try:
            value = float(value)
        except ValueError:
            value = None
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        notes.add(Note.EXPIRY_UNREADABLE)
        return None
    return float(value)
