"""Where a sample came from, and whether it is blood (chart-facts 1.5)."""

from __future__ import annotations

from fhir_mapping.chart import Specimen
from fhir_mapping.read.coding import NO_CONCEPTS, codings
from fhir_mapping.read.context import Context
from fhir_mapping.read.pool import plain_reference
from fhir_mapping.read.shape import EMPTY, Json, obj, objs, text

# Names, v2-0487 and SNOMED CT codes: a code may come without its display.
_CSF = frozenset({"csf", "cerebrospinal fluid", "腦脊髓液", "脊髓液", "258450006"})
_MARROW = frozenset(
    {"marrow", "bone marrow", "bone marrow aspirate", "骨髓", "bma", "119359002", "396997002"}
)
_OTHER = frozenset(
    (
        "urine|ur|random urine|24h urine|24 h urine|尿液|尿|stool|糞便|sputum|痰|pleural fluid|胸水|ascites|"
        "peritoneal fluid|腹水|bal|bronchoalveolar lavage|swab|nasopharyngeal swab|saliva|唾液|body fluid|"
        "體液|synovial fluid|tissue|pfl|122575003|309051001|418564007|168139001|119376003|119339001|119334006"
    ).split("|")
)
_NOT_BLOOD = frozenset({"csf", "marrow", "apheresis_product", "car_t_product", "other_specimen"})


def specimen_concepts(kind: object, context: Context, shown: str = "") -> frozenset[str]:
    """What kind of sample: its concept, else by the exact words for CSF, marrow and other fluids."""
    concepts = context.codes.read(kind).concepts
    if concepts:
        return concepts
    words = {word.casefold() for word in (*_words(kind), shown)}
    for names, concept in ((_CSF, "csf"), (_MARROW, "marrow"), (_OTHER, "other_specimen")):
        if words & names:
            return frozenset({concept})
    return NO_CONCEPTS


def read_specimen(resource: Json, context: Context) -> Specimen:
    """The specimen of an Observation; one that cannot be resolved keeps its reference only."""
    link = resource.get("specimen")
    specimen = context.pool.resolve(link, resource) or EMPTY
    start, end = context.stamps.point_or_period(obj(specimen.get("collection")), "collected")
    identifiers = [value for item in objs(specimen.get("identifier")) if (value := text(item.get("value")))]
    return Specimen(
        reference=plain_reference(link),
        concepts=specimen_concepts(specimen.get("type"), context, text(obj(link).get("display"))),
        identifier=identifiers[0] if identifiers else "",
        collected=start or end,
    )


def _words(kind: object) -> list[str]:
    concept = obj(kind)
    displays = [text(c.get("display")) for c in objs(concept.get("coding"))]
    return [text(concept.get("text")), *displays, *(code for _, code in codings(kind))]


def is_blood(specimen: Specimen | None) -> bool:
    """True where the sample is blood or nothing says otherwise."""
    return specimen is None or specimen.concepts.isdisjoint(_NOT_BLOOD)
