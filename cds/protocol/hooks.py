"""The hook library: which context fields a hook has, and which of them a prefetch template may name.

Source: cds-hooks.hl7.org hook definitions (patient-view 1.0, order-select 1.0, order-sign 1.0,
encounter-start 1.0, encounter-discharge 1.0, appointment-book 1.0, order-dispatch 1.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class FieldKind(StrEnum):
    """What a context field holds."""

    ID = "id"  # bare FHIR id
    REFERENCE = "reference"  # Type/id
    REFERENCES = "references"  # array of Type/id
    RESOURCE = "resource"
    RESOURCES = "resources"  # Bundle of proposed resources


class Presence(StrEnum):
    REQUIRED = "required"
    OPTIONAL = "optional"


class Token(StrEnum):
    """May a prefetch template name the field?"""

    YES = "yes"
    NO = "no"


@dataclass(frozen=True, slots=True)
class ContextField:
    """One field; `types` are the resource types that a reference may point at."""

    name: str
    kind: FieldKind
    presence: Presence
    token: Token
    types: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HookSpec:
    """One hook of the library, in the version and maturity that its page states."""

    name: str
    version: str
    maturity: int
    fields: tuple[ContextField, ...]

    @property
    def tokens(self) -> frozenset[str]:
        """Context fields that a prefetch template may name."""
        return frozenset(item.name for item in self.fields if item.token is Token.YES)


# Derived from userId by the client (CDS Hooks 2.0, prefetch tokens identifying the user).
USER_TOKENS = frozenset(
    {"userPractitionerId", "userPractitionerRoleId", "userPatientId", "userRelatedPersonId"}
)

_PROFESSIONALS = ("Practitioner", "PractitionerRole")
_ANY_USER = (*_PROFESSIONALS, "Patient", "RelatedPerson")


def _user(types: tuple[str, ...], presence: Presence = Presence.REQUIRED) -> ContextField:
    return ContextField("userId", FieldKind.REFERENCE, presence, Token.YES, types)


def _id(name: str, presence: Presence) -> ContextField:
    return ContextField(name, FieldKind.ID, presence, Token.YES)


def _content(name: str, kind: FieldKind, presence: Presence = Presence.REQUIRED) -> ContextField:
    return ContextField(name, kind, presence, Token.NO)


_PATIENT = _id("patientId", Presence.REQUIRED)
_ENCOUNTER = _id("encounterId", Presence.OPTIONAL)
_THIS_ENCOUNTER = _id("encounterId", Presence.REQUIRED)
_DRAFT_ORDERS = _content("draftOrders", FieldKind.RESOURCES)

HOOKS: Mapping[str, HookSpec] = {
    spec.name: spec
    for spec in (
        HookSpec("patient-view", "1.0", 5, (_user(_ANY_USER), _PATIENT, _ENCOUNTER)),
        HookSpec(
            "order-select",
            "1.0",
            4,
            (
                _user(_PROFESSIONALS),
                _PATIENT,
                _ENCOUNTER,
                _content("selections", FieldKind.REFERENCES),
                _DRAFT_ORDERS,
            ),
        ),
        HookSpec("order-sign", "1.0", 5, (_user(_PROFESSIONALS), _PATIENT, _ENCOUNTER, _DRAFT_ORDERS)),
        HookSpec("encounter-start", "1.0", 1, (_user(_ANY_USER), _PATIENT, _THIS_ENCOUNTER)),
        HookSpec("encounter-discharge", "1.0", 1, (_user(_ANY_USER), _PATIENT, _THIS_ENCOUNTER)),
        HookSpec(
            "appointment-book",
            "1.0",
            1,
            (_user(_ANY_USER), _PATIENT, _ENCOUNTER, _content("appointments", FieldKind.RESOURCES)),
        ),
        HookSpec(
            "order-dispatch",
            "1.1",
            0,
            (
                _PATIENT,
                ContextField("dispatchedOrders", FieldKind.REFERENCES, Presence.REQUIRED, Token.YES),
                ContextField("performer", FieldKind.REFERENCE, Presence.REQUIRED, Token.YES),
                _content("fulfillmentTasks", FieldKind.RESOURCES, Presence.OPTIONAL),
            ),
        ),
        HookSpec(
            "allergyintolerance-create",
            "0.1.0",
            1,
            (_user(_PROFESSIONALS), _PATIENT, _ENCOUNTER, _content("allergyIntolerance", FieldKind.RESOURCE)),
        ),
        HookSpec(
            "problem-list-item-create",
            "0.1.0",
            1,
            (_user(_PROFESSIONALS), _PATIENT, _ENCOUNTER, _content("conditions", FieldKind.RESOURCES)),
        ),
        HookSpec(
            "medication-refill",
            "0.1.0",
            1,
            (
                _user(_PROFESSIONALS, Presence.OPTIONAL),
                _PATIENT,
                _ENCOUNTER,
                _content("medications", FieldKind.RESOURCES),
            ),
        ),
        HookSpec(
            "medication-verify",
            "0.1.0",
            1,
            (_user(_PROFESSIONALS), _PATIENT, _ENCOUNTER, _content("medications", FieldKind.RESOURCES)),
        ),
    )
}
