"""What each service reads: resources, keys, facts, codes and units; from the declarations."""

from __future__ import annotations

from collections import defaultdict

from cds.docs.markdown import NOTICE, table
from cds.engine.rulebook import Rulebook
from cds.prefetch import KEYS, PATIENT, KeySpec
from fhir_mapping.terminology import Terminology

_SYSTEMS = {
    "http://loinc.org": "LOINC",
    "http://snomed.info/sct": "SNOMED CT",
    "http://www.whocc.no/atc": "ATC",
    "http://www.nlm.nih.gov/research/umls/rxnorm": "RxNorm",
    "http://hl7.org/fhir/sid/cvx": "CVX",
    "http://hl7.org/fhir/sid/icd-10-cm": "ICD-10-CM",
}


def _key(key: KeySpec) -> tuple[str, ...]:
    back = "" if key.look_back is None else f"{key.look_back} d"
    required = " Required." if key.name == PATIENT else ""
    scope = " Scope: at least one of these keys is required." if key.scope else ""
    return f"`{key.name}`", f"`{key.template}`", f"{key.note}{required}{scope}", back


def _codes(terminology: Terminology, concept: str) -> str:
    by_system: dict[str, list[str]] = defaultdict(list)
    for code in terminology.codes(concept):
        by_system[_SYSTEMS.get(code.system, code.system)].append(code.code)
    shown = "; ".join(f"{system} {', '.join(codes)}" for system, codes in by_system.items())
    return shown or f"urn:tcell-cds:concept {concept}"


def integrators(book: Rulebook) -> str:
    """Services with resources and prefetch keys, facts with concepts, concepts with codes and units."""
    terminology = book.terminology
    services = [
        (
            f"`{s.id}`",
            ", ".join(sorted(s.needs.resource_types)),
            ", ".join(f"`{key}`" for key in s.needs.keys),
        )
        for s in book.services.values()
    ]
    used = sorted({fact for rule in book.rules.values() for fact in rule.facts})
    order = {fact.id: place for place, fact in enumerate(terminology.facts)}
    facts = [terminology.fact(fact) for fact in sorted(used, key=order.__getitem__)]
    read_by: dict[str, set[str]] = defaultdict(set)
    for rule in book.rules.values():
        for fact_id in rule.facts:
            read_by[fact_id].add(rule.domain)
    concepts = sorted({concept for fact in facts for concept in fact.concepts})
    types = sorted({kind for service in book.services.values() for kind in service.needs.resource_types})
    scopes = ", ".join(f"`patient/{kind}.rs`" for kind in types)
    parts = [
        "# What the services read",
        NOTICE,
        "Any code listed here is understood; `urn:tcell-cds:concept` codes (the concept ids) always are, and "
        "a site map adds the hospital's own. Values in other UCUM units are converted to the unit shown. How "
        "keys and failures are answered: [integration.md](integration.md).",
        "## Access",
        f"SMART scopes that suffice: {scopes} (version 1: `.read`). "
        "Searches use `patient`, `code`, `category`, `status`, `_sort` and `_count`.",
        "## Prefetch keys",
        "Each key has one text in all services; the codes of `{codes}` are in discovery. A site replaces a "
        "template by its key name in the site file (`[prefetch]`).",
        "\n".join(
            table(("key", "template", "what", "rules look back"), [_key(key) for key in KEYS.values()])
        ),
        "## Services",
        "\n".join(table(("service", "resource types", "prefetch keys"), services)),
        "## Facts",
        "\n".join(
            table(
                ("fact", "what", "read by", "resource types", "concepts"),
                [
                    (
                        f.id,
                        f.title_en,
                        ", ".join(sorted(read_by[f.id])),
                        ", ".join(f.resource_types),
                        ", ".join(f.concepts),
                    )
                    for f in facts
                ],
            )
        ),
        "## Concepts",
        "\n".join(
            table(
                ("concept", "name", "unit", "codes"),
                [
                    (
                        f"`{c}`",
                        terminology.display(c, "en"),
                        terminology.concept(c).preferred_unit,
                        _codes(terminology, c),
                    )
                    for c in concepts
                ],
            )
        ),
    ]
    return "\n\n".join(parts) + "\n"
