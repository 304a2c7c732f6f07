"""The fixed set of prefetch keys: one name and one text per key in all services.

Root context tokens and plain search parameters only, so that every CDS Hooks 2.0 client can fill them. Code
keys carry codes without system: FHIR matches them in any system, which keeps them short and finds codes under
a site's own spelling of a system. They add to the category keys and never replace them, because text-only and
local codes would vanish.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

PATIENT = "patient"
P = "patient={{context.patientId}}"


class Sort(NamedTuple):
    """A search's newest-first parameter and the elements that carry that date."""

    parameter: str
    elements: tuple[str, ...]


_EFFECTIVE = ("effectiveDateTime", "effectiveInstant", "effectivePeriod")
_BY_EFFECTIVE = Sort("-date", _EFFECTIVE)


@dataclass(frozen=True, slots=True)
class KeySpec:
    """One key. `{codes}` in the template is filled from `concepts`.

    `scope`: it tells whether the patient has CAR-T or bispecific therapy at all. `evidence`: weaker signs of
    that, asked before a patient is called out of scope. `look_back` days: how far back rules read; a paged
    answer that reaches so far needs no further page. None: the whole list is read.
    """

    name: str
    resource_type: str
    template: str
    note: str
    look_back: int | None = None
    sort: Sort | None = None
    scope: bool = False
    evidence: bool = False
    concepts: tuple[str, ...] = ()


# Drugs that make or colour a course, however long ago (chart-facts K5, K9, K12; M9, B4).
BISPECIFICS = (
    "tarlatamab",
    "blinatumomab",
    "teclistamab",
    "talquetamab",
    "elranatamab",
    "epcoritamab",
    "glofitamab",
    "mosunetuzumab",
    "odronextamab",
    "linvoseltamab",
)
CAR_T_PRODUCTS = (
    "tisagenlecleucel",
    "axicabtagene_ciloleucel",
    "brexucabtagene_autoleucel",
    "lisocabtagene_maraleucel",
    "idecabtagene_vicleucel",
    "ciltacabtagene_autoleucel",
    "obecabtagene_autoleucel",
    "relmacabtagene_autoleucel",
    "inaticabtagene_autoleucel",
    "varnimcabtagene_autoleucel",
)


def _observations(codes_or_category: str, count: int) -> str:
    return f"Observation?{P}&{codes_or_category}&_sort=-date&_count={count}"


KEYS: Mapping[str, KeySpec] = {
    spec.name: spec
    for spec in (
        KeySpec(PATIENT, "Patient", "Patient/{{context.patientId}}", "Birth date, sex, death."),
        KeySpec(
            "conditions",
            "Condition",
            f"Condition?{P}&_count=500",
            "Diseases, toxicities, infections, history. Whole list.",
            evidence=True,
        ),
        KeySpec(
            "procedures",
            "Procedure",
            f"Procedure?{P}&_sort=-date&_count=300",
            "Leukapheresis, infusion, transplants, imaging.",
            sort=Sort("-date", ("performedDateTime", "performedPeriod")),
            scope=True,
        ),
        KeySpec(
            "administrations",
            "MedicationAdministration",
            f"MedicationAdministration?{P}&_sort=-effective-time&_count=800",
            "What was given, when and how much.",
            look_back=400,
            sort=Sort("-effective-time", ("effectiveDateTime", "effectivePeriod")),
            scope=True,
        ),
        KeySpec(
            "course-drugs",
            "MedicationAdministration",
            f"MedicationAdministration?{P}&code={{codes}}&_count=100",
            "CAR-T products, bispecifics, tocilizumab, immunoglobulin, however long ago. Best effort.",
            scope=True,
            concepts=(*CAR_T_PRODUCTS, *BISPECIFICS, "tocilizumab", "ivig"),
        ),
        KeySpec(
            "orders-active",
            "MedicationRequest",
            f"MedicationRequest?{P}&status=active,draft,on-hold&_count=300",
            "Orders in force.",
            scope=True,
        ),
        KeySpec(
            "orders-past",
            "MedicationRequest",
            f"MedicationRequest?{P}&status=completed,stopped&_sort=-authoredon&_count=300",
            "Orders that ended: exposures where administrations are not recorded.",
            look_back=400,
            sort=Sort("-authoredon", ("authoredOn",)),
            evidence=True,
        ),
        KeySpec(
            "dispenses",
            "MedicationDispense",
            f"MedicationDispense?{P}&_sort=-whenhandedover&_count=200",
            "Outpatient drugs.",
            look_back=400,
            sort=Sort("-whenhandedover", ("whenHandedOver",)),
            evidence=True,
        ),
        KeySpec(
            "statements",
            "MedicationStatement",
            f"MedicationStatement?{P}&_sort=-effective&_count=200",
            "Drugs as reported.",
            look_back=400,
            sort=Sort("-effective", ("effectiveDateTime", "effectivePeriod")),
            evidence=True,
        ),
        KeySpec(
            "service-requests",
            "ServiceRequest",
            f"ServiceRequest?{P}&_sort=-authored&_count=200",
            "Ordered tests and procedures; CAR-T evaluation.",
            look_back=400,
            sort=Sort("-authored", ("authoredOn",)),
            scope=True,
        ),
        KeySpec(
            "appointments",
            "Appointment",
            f"Appointment?{P}&_sort=-date&_count=100",
            "Booked leukapheresis, infusion, visits.",
            look_back=120,
            sort=Sort("-date", ("start",)),
            evidence=True,
        ),
        KeySpec(
            "allergies", "AllergyIntolerance", f"AllergyIntolerance?{P}&_count=100", "Allergies. Whole list."
        ),
        KeySpec(
            "immunizations",
            "Immunization",
            f"Immunization?{P}&_sort=-date&_count=200",
            "Vaccines given.",
            sort=Sort("-date", ("occurrenceDateTime",)),
        ),
        KeySpec(
            "encounters",
            "Encounter",
            f"Encounter?{P}&_sort=-date&_count=50",
            "Stays and visits.",
            look_back=120,
            sort=Sort("-date", ("period",)),
        ),
        KeySpec(
            "encounter",
            "Encounter",
            "Encounter/{{context.encounterId}}",
            "The stay that the hook is about.",
        ),
        KeySpec(
            "labs",
            "Observation",
            _observations("category=laboratory", 800),
            "Laboratory results.",
            look_back=200,
            sort=_BY_EFFECTIVE,
        ),
        KeySpec(
            "vitals",
            "Observation",
            _observations("category=vital-signs", 400),
            "Vital signs.",
            look_back=14,
            sort=_BY_EFFECTIVE,
        ),
        KeySpec(
            "assessments",
            "Observation",
            _observations("category=survey,exam,procedure,imaging,therapy,activity,social-history", 300),
            "Scores, bedside findings, imaging and other assessments.",
            look_back=200,
            sort=_BY_EFFECTIVE,
        ),
        KeySpec(
            "own-codes",
            "Observation",
            _observations("code={codes}", 200),
            "Scores and facts of this service that carry no category.",
            look_back=400,
            sort=_BY_EFFECTIVE,
        ),
        KeySpec(
            "body-size",
            "Observation",
            _observations("code={codes}", 20),
            "Weight, height, body surface.",
            look_back=60,
            sort=_BY_EFFECTIVE,
            concepts=("body_weight", "body_height", "bsa"),
        ),
        KeySpec(
            "fever",
            "Observation",
            _observations("code={codes}", 200),
            "Temperatures, which drown among other vital signs.",
            look_back=45,
            sort=_BY_EFFECTIVE,
            concepts=("body_temperature", "body_surface_temperature"),
        ),
        KeySpec(
            "counts",
            "Observation",
            _observations("code={codes}", 400),
            "Blood counts, ferritin, CRP, far back.",
            look_back=200,
            sort=_BY_EFFECTIVE,
            concepts=("anc", "wbc", "neutrophil_pct", "platelets", "hemoglobin", "ferritin", "crp"),
        ),
        KeySpec(
            "once-labs",
            "Observation",
            _observations("code={codes}", 60),
            "Tests done once: G6PD, hepatitis, HIV, lymphocyte subsets, IgG, antigen expression.",
            look_back=400,
            sort=_BY_EFFECTIVE,
            concepts=(
                *("g6pd", "g6pd_qual", "hbsag", "anti_hbc", "anti_hbs", "hbv_dna", "hbv_dna_log"),
                *("hbv_dna_qual", "anti_hcv", "hcv_rna", "hcv_rna_qual", "hiv_ag_ab", "hiv_rna"),
                *("cd3_abs", "cd4_abs", "cd8_abs", "cd19_abs", "cd20_abs", "nk_abs", "cd19_pct", "igg"),
                *("cd19_expression", "bcma_expression", "dll3_expression"),
            ),
        ),
        KeySpec(
            "reports",
            "DiagnosticReport",
            f"DiagnosticReport?{P}&_sort=-date&_count=100",
            "Reports that rules read.",
            look_back=200,
            sort=Sort("-date", ("effectiveDateTime", "effectivePeriod")),
        ),
        KeySpec(
            "specimens",
            "Specimen",
            f"Specimen?{P}&_count=50",
            "Samples and collected products.",
            evidence=True,
        ),
    )
}

SCOPE = tuple(name for name, spec in KEYS.items() if spec.scope)


def scope_of(names: Collection[str]) -> tuple[str, ...]:
    return tuple(name for name in SCOPE if name in names)
