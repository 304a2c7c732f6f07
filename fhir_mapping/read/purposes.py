"""Why something is given, ordered or booked (chart-facts 2.5)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fhir_mapping.read.coding import LOCAL, NO_CONCEPTS, Coded, codings
from fhir_mapping.read.condition import infection_concepts
from fhir_mapping.read.context import Context
from fhir_mapping.read.shape import EMPTY, Json, instruction_texts, obj, objs, text

_SNOMED = "snomed.info"
_REASON_KINDS = ("condition", "observation", "answer", "lab", "score", "vital", "drug", "procedure")
# Whole texts that state a purpose; anything longer is prose and never read.
_EXACT_WORDS = {
    "lymphodepletion": "purpose_lymphodepletion",
    "lymphodepleting chemotherapy": "purpose_lymphodepletion",
    "淋巴清除": "purpose_lymphodepletion",
    "淋巴清除化療": "purpose_lymphodepletion",
    "bridging": "purpose_bridging",
    "bridging therapy": "purpose_bridging",
    "橋接治療": "purpose_bridging",
    "conditioning": "purpose_conditioning",
    "premedication": "purpose_premedication",
    "premed": "purpose_premedication",
    "前置用藥": "purpose_premedication",
    "antiemetic": "purpose_antiemetic",
    "止吐": "purpose_antiemetic",
    "prophylaxis": "purpose_prophylaxis",
    "預防": "purpose_prophylaxis",
    "預防性用藥": "purpose_prophylaxis",
    "car-t collection": "purpose_car_t_collection",
    "stem cell collection": "purpose_stem_cell_collection",
    "replacement": "purpose_replacement",
    "physiological replacement": "purpose_replacement",
    "post-exposure": "purpose_post_exposure",
}


@dataclass(frozen=True, slots=True)
class Purpose:
    """Purposes, the diseases named as reasons, and regimens. `by_text`: only a note says so. `other`: a
    reason is written, and it is none that is known here."""

    purposes: frozenset[str] = NO_CONCEPTS
    reasons: frozenset[str] = NO_CONCEPTS
    regimens: frozenset[str] = NO_CONCEPTS
    by_text: bool = False
    other: bool = False


NOT_SAID = Purpose()
_FIELDS = frozenset(
    "reasonCode reasonReference reason indication category groupIdentifier requisition basedOn".split()
)


def collection_purpose(value: object, coded: Coded, context: Context) -> frozenset[str]:
    """A code of CAR-T leukapheresis says what it is for; the SNOMED code of apheresis does not (K2)."""
    if "leukapheresis" not in coded.concepts:
        return NO_CONCEPTS
    if coded.by_name:
        said = "leuk" in coded.text.casefold() or "白血球" in coded.text
    else:
        known = context.codes.terminology.concepts_for
        said = any(_SNOMED not in s and "leukapheresis" in known(s, c) for s, c in codings(value))
    return frozenset({"purpose_car_t_collection"}) if said else NO_CONCEPTS


def _group_concept(resource: Json, context: Context) -> frozenset[str]:
    group = obj(resource.get("groupIdentifier")) or obj(resource.get("requisition"))
    if text(group.get("system")) != LOCAL:
        return NO_CONCEPTS
    word = text(group.get("value")).casefold()
    concepts = context.codes.read({"coding": [{"system": LOCAL, "code": word}]}, NO_CONCEPTS).concepts
    as_purpose = context.codes.read({"coding": [{"system": LOCAL, "code": f"purpose-{word}"}]}, NO_CONCEPTS)
    return concepts | as_purpose.concepts


def _reasons(resource: Json, context: Context) -> tuple[frozenset[str], bool]:
    """The concepts of the reasons, and whether any reason is written."""
    codes = context.codes
    found = codes.all_of(resource.get("reasonCode")) | codes.all_of(resource.get("reason"))
    stated = [*objs(resource.get("reasonCode"))]
    links = [*objs(resource.get("reasonReference")), *objs(resource.get("indication"))]
    for newer in objs(resource.get("reason")):  # R5 CodeableReference
        found |= codes.all_of(newer.get("concept"))
        stated += objs(newer.get("concept"))
        links += objs(newer.get("reference"))
    for link in links:
        target = context.pool.resolve(link, resource)
        if target is not None and target.get("resourceType") in ("Condition", "Observation"):
            found |= codes.read(target.get("code"), NO_CONCEPTS).concepts
            stated += objs(target.get("code"))
    return found.union(*(infection_concepts(value) for value in stated)), bool(stated)


def _based_on(resource: Json, context: Context) -> frozenset[str]:
    found = NO_CONCEPTS
    for link in objs(resource.get("basedOn")):
        target = context.pool.resolve(link, resource) or EMPTY
        found |= context.codes.all_of(target.get("code")) | context.codes.all_of(target.get("category"))
        found |= context.codes.all_of(target.get("reasonCode"))
    return found | _as_purposes(found, context)


def _as_purposes(concepts: frozenset[str], context: Context) -> frozenset[str]:
    """What an order under a treatment is for: under lymphodepletion, for lymphodepletion."""
    named = (f"purpose_{concept}" for concept in concepts)
    return frozenset(purpose for purpose in named if purpose in context.codes.terminology)


def _by_words(resource: Json) -> Purpose:
    """Purposes that a note or dosage text is exactly the word for."""
    written = instruction_texts(resource)
    if not written:
        return NOT_SAID
    folded = (words.casefold().rstrip(" .。") for words in written)
    found = frozenset(_EXACT_WORDS[words] for words in folded if words in _EXACT_WORDS)
    return Purpose(found, by_text=True) if found else NOT_SAID


def read_purpose(resource: Json, context: Context) -> Purpose:
    """Reason > category > group > order behind it > a note that is exactly a purpose; the first that names a
    purpose decides. Diseases named as reason are always kept."""
    codes = context.codes
    if _FIELDS.isdisjoint(resource):
        return _by_words(resource)
    reason, written = _reasons(resource, context)
    category = codes.all_of(resource.get("category"))
    group = _group_concept(resource, context)
    based = _based_on(resource, context)
    everything = reason | category | group | based
    if not everything:
        return replace(_by_words(resource), other=written)
    stated = (codes.of_kind(source, "purpose") for source in (reason, category, group, based))
    purposes = next((found for found in stated if found), NO_CONCEPTS)
    worded = NOT_SAID if purposes else _by_words(resource)
    regimens = codes.of_kind(everything, "regimen")
    reasons = codes.of_kind(reason, *_REASON_KINDS)
    other = written and not reason
    return Purpose(purposes or worded.purposes, reasons, regimens, worded.by_text, other)
