"""Which cognitive instrument applies: ICE from 12 years without developmental delay, else CAPD."""

from __future__ import annotations

from enum import StrEnum

from cds.engine.case import Case, once_per_case
from fhir_mapping.chart import ConditionState


class Instrument(StrEnum):
    ICE = "ice"
    CAPD = "capd"
    UNKNOWN = "unknown"  # age not known, no delay coded


def developmental_delay(case: Case) -> bool:
    """Coded developmental delay, at any time (it does not go away)."""
    return any(
        c.state in (ConditionState.ACTIVE, ConditionState.HISTORY)
        for c in case.chart.conditions.of("developmental_delay")
    )


@once_per_case
def instrument(case: Case) -> Instrument:
    """The instrument for this patient today (Lee DW, BBMT 2019;25:625)."""
    if developmental_delay(case):
        return Instrument.CAPD
    age = case.chart.patient.age(case.today)
    limit = case.p("grading.ice").int("min_years")
    if age is None or age[0] < limit <= age[1]:
        return Instrument.UNKNOWN
    return Instrument.ICE if age[0] >= limit else Instrument.CAPD
