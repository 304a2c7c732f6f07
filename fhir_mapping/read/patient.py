"""Patient (chart-facts section 3)."""

from __future__ import annotations

from fhir_mapping.chart import Patient
from fhir_mapping.read.context import Context
from fhir_mapping.read.shape import text

_SEXES = ("male", "female")


def read_patient(context: Context) -> Patient:
    """The hook's patient; unknown parts stay unknown."""
    reference = f"Patient/{context.pool.patient_id}"
    resource = context.pool.get(reference)
    if resource is None:
        return Patient(reference)
    birth = context.stamps.read(resource.get("birthDate"))
    if context.in_future(birth):
        birth = None
    sex = text(resource.get("gender")).casefold()
    died = context.stamps.read(resource.get("deceasedDateTime"))
    return Patient(
        reference=reference,
        birth=birth,
        sex=sex if sex in _SEXES else "",
        died=died,
        deceased=died is not None or resource.get("deceasedBoolean") is True,
    )
