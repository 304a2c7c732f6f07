"""G6PD status (chart-facts L21): what the chart says, strongest kind of evidence first."""

from __future__ import annotations

from enum import StrEnum

from cds.engine.case import Case, once_per_case
from fhir_mapping.chart import ConditionState, Observation, Result


class G6pd(StrEnum):
    DEFICIENT = "deficient"
    INTERMEDIATE = "intermediate"  # deficient until confirmed
    NORMAL = "normal"
    UNKNOWN = "unknown"


_WORDS = {
    "deficient": G6pd.DEFICIENT,
    "g6pd_deficient": G6pd.DEFICIENT,
    "intermediate": G6pd.INTERMEDIATE,
    "normal": G6pd.NORMAL,
}


def _of_text(text: str) -> G6pd | None:
    folded = text.strip().casefold()
    if folded in ("deficient", "low", "abnormal", "缺乏"):
        return G6pd.DEFICIENT
    return G6pd.NORMAL if folded in ("normal", "正常") else None


def _of_observation(observation: Observation) -> G6pd | None:
    for code in observation.value.codes:
        if code in _WORDS:
            return _WORDS[code]
    if answer := _of_text(observation.value.text):
        return answer
    if observation.value.result is Result.INDETERMINATE:
        return G6pd.INTERMEDIATE
    quantity = observation.value.quantity
    if quantity is not None and observation.lln is not None:
        low = quantity.below(observation.lln.value)
        if low is not None:
            return G6pd.DEFICIENT if low else G6pd.NORMAL
    return None


@once_per_case
def g6pd_state(case: Case) -> G6pd:
    """Coded condition > qualitative result > activity against its own lower limit > genotype.

    A newborn-screen result counts at any age; the newest result of a kind decides.
    """
    chart = case.chart
    conditions = chart.conditions.of("g6pd_deficiency")
    if any(c.state in (ConditionState.ACTIVE, ConditionState.HISTORY) for c in conditions):
        return G6pd.DEFICIENT
    if any(c.state is ConditionState.REFUTED for c in conditions):
        return G6pd.NORMAL
    for concept in ("g6pd_qual", "g6pd", "g6pd_genotype"):
        for observation in reversed(chart.series(concept)):
            if answer := _of_observation(observation):
                return answer
    return G6pd.UNKNOWN
