"""What a reader should know of the facts that decided: preliminary, matched by name, date assumed ...

Rules name the facts; how each was obtained stands on the chart. Looking it up here keeps every rule's
evidence honest without every rule thinking of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Protocol

from cards.finding import Evidence, Finding
from fhir_mapping.chart import Chart, DrugRecord, Flag

_NONE: frozenset[Flag] = frozenset()


class _Fact(Protocol):
    @property
    def reference(self) -> str: ...
    @property
    def flags(self) -> frozenset[Flag]: ...


def flagged(finding: Finding, chart: Chart) -> Finding:
    """The finding with the flags of its facts; evidence that has flags already keeps them."""
    evidence = tuple(item if item.flags else _with_flags(item, chart) for item in finding.evidence)
    return finding if evidence == finding.evidence else replace(finding, evidence=evidence)


def _with_flags(evidence: Evidence, chart: Chart) -> Evidence:
    if not evidence.concept:
        return evidence
    for fact in _facts(evidence.reference.partition("/")[0], evidence.concept, chart):
        if fact.reference == evidence.reference:
            flags = fact.flags | (fact.timing.flags if isinstance(fact, DrugRecord) else _NONE)
            return replace(evidence, flags=flags) if flags else evidence
    return evidence


def _facts(resource_type: str, concept: str, chart: Chart) -> Iterable[_Fact]:
    """Facts of one concept among which a resource of the type would be."""
    drafts = chart.drafts
    match resource_type:
        case "Observation":
            return reversed(chart.series(concept))  # the newest decide most often
        case "Condition":
            return chart.conditions.of(concept)
        case "Procedure":
            return chart.procedures.of(concept)
        case "ServiceRequest" | "DeviceRequest":
            return (*chart.services.of(concept), *drafts.services.of(concept))
        case "Appointment":
            return (*chart.appointments.of(concept), *drafts.appointments.of(concept))
        case "Immunization":
            return (*chart.vaccines.of(concept), *drafts.vaccines.of(concept))
        case "DiagnosticReport":
            return chart.documents.of(concept)
        case name if name.startswith("Medication"):
            return (*chart.drugs.of(concept), *drafts.drugs.of(concept))
    return ()
