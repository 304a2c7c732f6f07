"""CD19 on the disease as recorded (chart-facts D5): flow cytometry, histochemistry or a coded report."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cards.finding import Evidence
from cds.engine.case import Case, once_per_case
from cds.rules.evidence import of_fact, of_observation
from fhir_mapping.chart import Moment, Observation, Result


class Antigen(StrEnum):
    POSITIVE = "positive"
    DIM = "dim"  # present, reduced
    NEGATIVE = "negative"
    INDETERMINATE = "indeterminate"

    @property
    def present(self) -> bool:
        return self in (Antigen.POSITIVE, Antigen.DIM)


@dataclass(frozen=True, slots=True)
class AntigenResult:
    antigen: Antigen
    when: Moment
    evidence: Evidence


def _read(observation: Observation) -> Antigen | None:
    value = observation.value
    if "dim" in value.codes:
        return Antigen.DIM
    for antigen in (Antigen.NEGATIVE, Antigen.POSITIVE, Antigen.INDETERMINATE):
        if antigen.value in value.codes:
            return antigen
    if value.result is Result.POSITIVE:
        return Antigen.POSITIVE
    if value.result is Result.NEGATIVE:
        return Antigen.NEGATIVE
    return Antigen.INDETERMINATE if value.result is Result.INDETERMINATE else None


@once_per_case
def cd19_results(case: Case) -> tuple[AntigenResult, ...]:
    """Every CD19 result, oldest first."""
    found: list[AntigenResult] = []
    for observation in case.chart.series("cd19_expression"):
        antigen = _read(observation)
        if antigen is not None:
            found.append(AntigenResult(antigen, observation.when, of_observation(observation)))
    for document in case.chart.documents.of("cd19_expression"):
        named = [a for a in Antigen if a.value in document.conclusions]
        if named and document.when is not None and not document.pending:
            found.append(AntigenResult(named[-1], document.when, of_fact(document, "cd19_expression")))
    return tuple(sorted(found, key=lambda r: (r.when.latest, r.evidence.reference)))


def cd19_latest(case: Case) -> AntigenResult | None:
    """Newest result that says positive, dim or negative."""
    decided = [r for r in cd19_results(case) if r.antigen is not Antigen.INDETERMINATE]
    return decided[-1] if decided else None
