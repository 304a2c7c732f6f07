"""Conditions coded as suspected: they open a question, they are never a met or a stop (chart-facts 1.2)."""

from __future__ import annotations

from collections.abc import Mapping

from cards.finding import Evidence, Missing, Shown, msg
from cds.engine.case import Case
from cds.rules.evidence import of_fact
from cds.rules.readiness.checklist import Line, Status, listed
from fhir_mapping.chart import Condition, ConditionState

_OVER = frozenset({"inactive", "remission", "resolved"})


def is_suspected(case: Case, condition: Condition) -> bool:
    """Suspected today: neither confirmed nor over."""
    if condition.state is not ConditionState.SUSPECTED or condition.clinical_status in _OVER:
        return False
    return condition.end is None or condition.end.latest > case.now


def suspected(case: Case, *concepts: str) -> tuple[Evidence, ...]:
    """The suspected Conditions of these concepts, each as the first concept that it carries."""
    return tuple(
        of_fact(c, next(n for n in concepts if n in c.concepts))
        for c in case.chart.conditions.of(*concepts)
        if is_suspected(case, c)
    )


def suspicion(row: str, found: tuple[Evidence, ...], limits: Mapping[str, Shown] | None = None) -> Line:
    """The row of what is suspected: unknown until it is confirmed or excluded."""
    return Line(
        row,
        Status.UNKNOWN,
        listed(found),
        limits or {},
        (msg("common.checklist.suspected"),),
        evidence=found,
        missing=tuple(Missing(e.concept, resource=e.reference) for e in found),
    )
