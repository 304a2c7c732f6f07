"""Body weight, height and surface area as the rules use them (chart-facts P4, P5).

Adult height counts at any age of the record; weight and a child's height have a maximum age set by the
caller. Surface area is Mosteller's, from weight and height; a recorded surface area is used only where no
height is on the chart. No ideal or adjusted weight is ever used.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, localcontext

from cards.finding import Evidence, Missing
from cds.engine.case import Case
from cds.rules.evidence import of_observation
from fhir_mapping.chart import LossReason, Observation

ADULT_YEARS = 18


@dataclass(frozen=True, slots=True)
class Measure:
    """One body measure. `value` None: `missing` says what lacks or is too old."""

    value: Decimal | None
    unit: str
    formula: str = ""
    evidence: tuple[Evidence, ...] = ()
    missing: tuple[Missing, ...] = ()


def mosteller(cm: Decimal, kg: Decimal) -> Decimal:
    """Body surface area in m2 (Mosteller RD, N Engl J Med 1987;317:1098): sqrt(cm x kg / 3600)."""
    with localcontext() as context:
        context.prec = 12
        return (cm * kg / 3600).sqrt()


def is_adult(case: Case) -> bool | None:
    """18 completed years or more; None where the birth date is absent or leaves it open."""
    age = case.chart.patient.age(case.today)
    if age is None:
        return None
    low, high = age
    if low >= ADULT_YEARS:
        return True
    return False if high < ADULT_YEARS else None


def _measured(case: Case, concept: str, unit: str, days: int | None) -> Measure:
    """Newest exact value at most `days` old (None: any age)."""
    series = case.chart.series(concept)
    within = None if days is None else case.days_back(days)

    def exact(observation: Observation) -> bool:
        quantity = observation.value.quantity
        return quantity is not None and not quantity.comparator

    found = series.latest(case.now, within, exact)
    if found is not None and found.value.quantity is not None:
        return Measure(found.value.quantity.value, unit, evidence=(of_observation(found),))
    old = series.latest(case.now, None, exact)
    if old is None:
        return Measure(None, unit, missing=(Missing(concept),))
    return Measure(None, unit, missing=(Missing(concept, LossReason.STALE, old.reference),))


def weight(case: Case, days: int | None) -> Measure:
    """Actual body weight in kg, at most `days` old."""
    return _measured(case, "body_weight", "kg", days)


def height(case: Case, days: int | None) -> Measure:
    """Height in cm; of an adult at any age, else at most `days` old."""
    return _measured(case, "body_height", "cm", None if is_adult(case) else days)


def surface(case: Case, days: int | None) -> Measure:
    """Body surface area in m2: Mosteller, else the recorded value where there is no height at all."""
    kg, cm = weight(case, days), height(case, days)
    evidence, missing = (*kg.evidence, *cm.evidence), (*kg.missing, *cm.missing)
    if kg.value is not None and cm.value is not None:
        return Measure(mosteller(cm.value, kg.value), "m2", "Mosteller", evidence)
    if cm.value is None:
        recorded = _measured(case, "bsa", "m2", days)
        if recorded.value is not None:
            return Measure(recorded.value, "m2", "recorded", recorded.evidence)
    return Measure(None, "m2", evidence=evidence, missing=missing)


def recorded_apart(case: Case, days: int | None, apart: Decimal) -> Measure | None:
    """A recorded surface area that differs from the calculated one by more than the share `apart` (P5)."""
    used, recorded = surface(case, days), _measured(case, "bsa", "m2", days)
    if used.value is None or recorded.value is None or used.formula == "recorded":
        return None
    return recorded if abs(recorded.value - used.value) > apart * used.value else None
