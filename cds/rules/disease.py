"""The disease that is treated (chart-facts D1), as the rules before and during CAR-T distinguish it."""

from __future__ import annotations

from enum import StrEnum

from cards.finding import Evidence
from cds.engine.case import Case, once_per_case
from fhir_mapping.chart import Condition, ConditionState


class Disease(StrEnum):
    B_ALL = "b-all"
    DLBCL = "dlbcl"
    FL = "fl"
    OTHER = "other"  # a disease of its own: no row of the handbook's three indications
    UNKNOWN = "unknown"

    @property
    def lymphoma(self) -> bool:
        """DLBCL or follicular lymphoma, the two lymphomas the handbook speaks of."""
        return self in (Disease.DLBCL, Disease.FL)


_CONCEPTS = {
    "b_all": Disease.B_ALL,
    "all_lineage_unspecified": Disease.B_ALL,  # CAR-T products for ALL are B-lineage; named on the card
    "dlbcl": Disease.DLBCL,
    "transformed_follicular_lymphoma": Disease.DLBCL,
    "high_grade_b_cell_lymphoma": Disease.DLBCL,
    "follicular_lymphoma": Disease.FL,
    "mantle_cell_lymphoma": Disease.OTHER,
    "multiple_myeloma": Disease.OTHER,
    "primary_cns_lymphoma": Disease.OTHER,
    "t_all": Disease.OTHER,
    "cll": Disease.OTHER,
    "pmbcl": Disease.OTHER,
    "burkitt_lymphoma": Disease.OTHER,
}
_STATES = (ConditionState.ACTIVE, ConditionState.HISTORY)


def _specific(condition: Condition) -> tuple[str, Disease] | None:
    """The concept that names the disease; a special type wins over the general one."""
    found = [(concept, _CONCEPTS[concept]) for concept in sorted(condition.concepts) if concept in _CONCEPTS]
    for concept, disease in found:
        if disease is Disease.OTHER:
            return concept, disease
    return found[0] if found else None


@once_per_case
def _treated(case: Case) -> tuple[Disease, str, str]:
    for state in _STATES:
        conditions = [c for c in case.chart.conditions.of(*_CONCEPTS) if c.state is state]
        named = [(c.reference, pair) for c in conditions if (pair := _specific(c)) is not None]
        # a disease of the three indications beside another one: the indication is what CAR-T treats
        named.sort(key=lambda item: (item[1][1] is Disease.OTHER, list(Disease).index(item[1][1]), item[0]))
        if named:
            reference, (concept, disease) = named[0]
            return disease, concept, reference
    return Disease.UNKNOWN, "", ""


def disease(case: Case) -> Disease:
    """Active disease first, else the one in remission; `UNKNOWN` where none is coded."""
    return _treated(case)[0]


def disease_concept(case: Case) -> str:
    """Concept of the disease; "" where unknown."""
    return _treated(case)[1]


def disease_evidence(case: Case) -> tuple[Evidence, ...]:
    _, concept, reference = _treated(case)
    return (Evidence(reference, concept),) if reference else ()
