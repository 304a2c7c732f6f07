"""White cells in the week before the infusion, as the rules on lymphodepletion ask for them."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

from cards.finding import Missing
from cds.engine.case import Case
from fhir_mapping.chart import LossReason, Observation, Quantity


def per_ul(observation: Observation) -> Quantity | None:
    """A cell count per microlitre; None where it has no number."""
    quantity = observation.value.quantity
    if quantity is None:
        return None
    scale = Decimal(1000) if quantity.unit == "10*3/uL" else Decimal(1)
    value = quantity.value * scale
    whole = value.to_integral_value()
    return replace(quantity, value=whole if value == whole else value, unit="/uL", reported=None)


def week_before(case: Case, concept: str, day0: date | None, days: int) -> Observation | None:
    """Newest result of the calendar days day0 - `days` to day0; None without a planned day 0."""
    if day0 is None:
        return None
    for observation in reversed(case.chart.series(concept)):
        if observation.when.earliest > case.now or observation.value.quantity is None:
            continue
        if observation.when.date <= day0:
            fits = observation.when.date >= day0 - timedelta(days=days)
            return observation if fits else None
    return None


def missing_count(case: Case, concept: str) -> Missing:
    """A count that the week before the infusion lacks: stale where another one is on the chart."""
    other = case.chart.latest(concept)
    return Missing(concept) if other is None else Missing(concept, LossReason.STALE, other.reference)
