"""Lists that could not be read. What was not read is never "none recorded" (chart-facts 1.6)."""

from __future__ import annotations

from cds.engine.case import Case
from fhir_mapping.chart import KeyState

ORDERS = ("orders-active",)
DOSES = ("administrations", "course-drugs")
PROCEDURES = ("procedures",)
CONDITIONS = ("conditions",)
ALLERGIES = ("allergies",)
VACCINES = ("immunizations",)
_NOT_READ = (KeyState.FAILED, KeyState.NOT_ASKED)


def unread(case: Case, keys: tuple[str, ...]) -> bool:
    """None of these prefetch keys could be read. A chart that says nothing of them was given whole."""
    states = [case.chart.coverage[key].state for key in keys if key in case.chart.coverage]
    return bool(states) and all(state in _NOT_READ for state in states)
