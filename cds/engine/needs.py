"""From the facts a rule declares to the concepts it reads and the prefetch keys that carry them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from fhir_mapping.terminology import Terminology

_KEYS_OF_TYPE: dict[str, tuple[str, ...]] = {
    "Condition": ("conditions",),
    "Procedure": ("procedures",),
    "MedicationAdministration": ("administrations", "course-drugs"),
    "MedicationRequest": ("orders-active", "orders-past"),
    "MedicationDispense": ("dispenses",),
    "MedicationStatement": ("statements",),
    "ServiceRequest": ("service-requests",),
    "Appointment": ("appointments",),
    "AllergyIntolerance": ("allergies",),
    "Immunization": ("immunizations",),
    "Encounter": ("encounters",),
    "DiagnosticReport": ("reports",),
    "Specimen": ("specimens",),
}
_CODE_KEYS: dict[str, frozenset[str]] = {
    "body-size": frozenset({"body_weight", "body_height", "bsa"}),
    "fever": frozenset({"body_temperature", "body_surface_temperature"}),
    "counts": frozenset({"anc", "wbc", "neutrophil_pct", "platelets", "hemoglobin", "ferritin", "crp"}),
    "once-labs": frozenset(
        "g6pd g6pd_qual hbsag anti_hbc anti_hbs hbv_dna hbv_dna_log hbv_dna_qual anti_hcv hcv_rna "
        "hcv_rna_qual hiv_ag_ab hiv_rna cd3_abs cd4_abs cd8_abs cd19_abs cd20_abs nk_abs "
        "cd19_pct igg cd19_expression bcma_expression dll3_expression".split()
    ),
}
SCOPE_KEYS = ("procedures", "administrations", "course-drugs", "orders-active", "service-requests")
ORDER = (
    "patient conditions procedures administrations course-drugs orders-active orders-past dispenses "
    "statements service-requests appointments allergies immunizations encounters "
    "labs vitals assessments own-codes body-size fever counts once-labs reports specimens"
).split()


@dataclass(frozen=True, slots=True)
class Needs:
    """What a set of facts reads: concepts, FHIR resource types, prefetch keys in the order of prefetch.md."""

    concepts: frozenset[str]
    resource_types: frozenset[str]
    keys: tuple[str, ...]


def keys_of_concept(concept: str, terminology: Terminology) -> frozenset[str]:
    """Keys that could carry an Observation of this concept."""
    kind = terminology.concept(concept).kind
    keys = {name for name, concepts in _CODE_KEYS.items() if concept in concepts}
    if kind == "lab":
        keys.add("labs")
    elif kind == "vital":
        keys |= {"vitals", "assessments"}
    else:
        keys |= {"assessments", "own-codes", "labs"}
    return frozenset(keys)


@cache
def _needs(facts: frozenset[str], terminology: Terminology) -> Needs:
    concepts: set[str] = set()
    types: set[str] = {"Patient"}
    keys: set[str] = {"patient", *SCOPE_KEYS}
    for fact_id in facts:
        fact = terminology.fact(fact_id)
        concepts.update(fact.concepts)
        types.update(fact.resource_types)
        for resource_type in fact.resource_types:
            keys.update(_KEYS_OF_TYPE.get(resource_type, ()))
        if "Observation" in fact.resource_types:
            for concept in fact.concepts:
                if concept in terminology:
                    keys |= keys_of_concept(concept, terminology)
    return Needs(frozenset(concepts), frozenset(types), tuple(key for key in ORDER if key in keys))


def needs(facts: Iterable[str], terminology: Terminology) -> Needs:
    """Raises KeyError on a fact id that the facts table does not have."""
    return _needs(frozenset(facts), terminology)
