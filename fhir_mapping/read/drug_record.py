"""What every drug resource has in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fhir_mapping.chart import DrugRecord, DrugState, Flag, LossReason, Moment
from fhir_mapping.read.coding import NO_CONCEPTS
from fhir_mapping.read.context import Context
from fhir_mapping.read.medication import Identity
from fhir_mapping.read.pool import Subject, plain_reference
from fhir_mapping.read.purposes import Purpose
from fhir_mapping.read.shape import Json, instruction_texts, name_of

NO_FLAGS: frozenset[Flag] = frozenset()
_PARTIAL_DATE = frozenset({Flag.PARTIAL_DATE})
_DERIVED = frozenset({Flag.DERIVED})
_NO_SUBJECT = frozenset({Flag.NO_SUBJECT})
_NEVER = frozenset(
    "entered-in-error cancelled unknown not-done declined not-taken nottaken preparation".split()
)
_TEXT_LIMIT = 500


def state_of(resource: Json, states: Mapping[str, DrugState], context: Context) -> DrugState | None:
    """What the status means; None where the resource never counts. An unreadable status is a loss."""
    status = resource.get("status")
    state = states.get(status) if isinstance(status, str) else None
    if state is None and not (isinstance(status, str) and status in _NEVER):
        context.losses.add(LossReason.MALFORMED, name_of(resource), text="status")
    return state


def date_flags(*moments: Moment | None) -> frozenset[Flag]:
    for moment in moments:
        if moment is not None and not moment.day_known:
            return _PARTIAL_DATE
    return NO_FLAGS


def drug_record(
    resource: Json,
    context: Context,
    identity: Identity,
    purpose: Purpose,
    flags: frozenset[Flag],
    **own: Any,
) -> DrugRecord:
    """The record of a drug resource; `own` are the fields of its kind."""
    if context.pool.subject_of(resource) is Subject.UNSTATED:
        flags |= _NO_SUBJECT
    encounter = resource.get("encounter") or resource.get("context")
    return DrugRecord(
        reference=name_of(resource),
        name=identity.name,
        concepts=identity.concepts,
        ingredients=identity.ingredients,
        identified=identity.identified,
        form=identity.form,
        purposes=purpose.purposes,
        reasons=purpose.reasons,
        other_reason=purpose.other,
        regimens=purpose.regimens,
        lot=identity.lot,
        encounter=plain_reference(encounter) if encounter is not None else "",
        status_reasons=context.codes.all_of(resource["statusReason"])
        if "statusReason" in resource
        else NO_CONCEPTS,
        flags=flags | identity.flags | (_DERIVED if purpose.by_text else NO_FLAGS),
        strengths=identity.strengths,
        text="; ".join(instruction_texts(resource))[:_TEXT_LIMIT],
        **own,
    )
