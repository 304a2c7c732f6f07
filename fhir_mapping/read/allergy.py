"""AllergyIntolerance (chart-facts A1, A2)."""

from __future__ import annotations

from fhir_mapping.chart import Allergy, LossReason
from fhir_mapping.read.coding import NO_CONCEPTS, code_word, codings
from fhir_mapping.read.context import Context
from fhir_mapping.read.pool import accepted
from fhir_mapping.read.shape import Json, name_of, obj, objs, text, texts

_NAMES = frozenset({"drug", "drug_class", "vaccine", "allergen", "answer", "blood_product"})
_SKIN = "severe_cutaneous_reaction"
_DRUG_CATEGORIES = frozenset({"medication", "biologic"})
_NONE = "no_known_allergy"


def _substances(value: object, context: Context) -> tuple[frozenset[str], bool, str]:
    """Concepts of an allergen, whether its codes contradict each other, and its text.

    A class counts only where the entry names the class itself: the ATC code of amoxicillin lies below that of
    all antibacterials, and an allergy to azoles is none to every antimycotic.
    """
    coded = context.codes.read(value, _NAMES)
    terminology = context.codes.terminology
    classes = context.codes.of_kind(coded.concepts, "drug_class")
    implied = NO_CONCEPTS.union(*(terminology.classes(c) for c in coded.concepts))
    named = classes - implied
    if not coded.by_name:
        written = {code.upper().replace("-", "_") for _, code in codings(value)}
        own = {c: {code.code.upper() for code in terminology.codes(c)} | {c.upper()} for c in named}
        named = frozenset(c for c in named if not written.isdisjoint(own[c]))
    return coded.concepts - classes | named, coded.contradictory, coded.text


def _manifestations(resource: Json, context: Context) -> frozenset[str]:
    found = NO_CONCEPTS
    for reaction in objs(resource.get("reaction")):
        for item in objs(reaction.get("manifestation")):
            found |= context.codes.read(item.get("concept") or item, frozenset({"condition"})).concepts
    return found


def read_allergy(resource: Json, context: Context) -> Allergy | None:
    """An allergy or intolerance; refuted and mistaken entries never count."""
    verification = code_word(resource.get("verificationStatus"))
    clinical = code_word(resource.get("clinicalStatus"))
    if verification in ("refuted", "entered-in-error"):
        return None
    if verification not in ("", "confirmed", "unconfirmed", "presumed") or clinical not in (
        "",
        "active",
        "inactive",
        "resolved",
    ):
        context.losses.add(LossReason.MALFORMED, name_of(resource), text="status")
        return None
    if accepted(context.pool, resource, context.losses, "patient") is None:
        return None
    concepts, contradictory, shown = _substances(resource.get("code"), context)
    if contradictory:
        context.losses.add(LossReason.CONTRADICTORY, name_of(resource), text="contradictory codes")
        return None
    if not concepts:
        substances = (reaction.get("substance") for reaction in objs(resource.get("reaction")))
        concepts = NO_CONCEPTS.union(*(_substances(s, context)[0] for s in substances))
    categories = set(texts(resource.get("category")))
    if categories and not categories & _DRUG_CATEGORIES:  # food, environment: excipients only
        concepts = context.codes.of_kind(concepts, "allergen") | (concepts & {_NONE})
    manifestations = _manifestations(resource, context)
    return Allergy(
        reference=name_of(resource),
        concepts=concepts,
        active=clinical in ("", "active"),
        confirmed=verification in ("", "confirmed"),
        severe_skin_reaction=_SKIN in manifestations or _SKIN in concepts,
        manifestations=manifestations,
        recorded=context.stamps.read(resource.get("recordedDate") or resource.get("assertedDate")),
        text=shown or text(obj(resource.get("code")).get("text")),
    )


def read_allergies(context: Context) -> list[Allergy]:
    found = context.each(context.pool.of("AllergyIntolerance"), lambda r: read_allergy(r, context))
    return sorted(
        found, key=lambda a: (a.recorded is None, a.recorded.earliest if a.recorded else None, a.reference)
    )
