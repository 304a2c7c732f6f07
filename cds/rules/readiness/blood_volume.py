"""Total blood volume by age and weight; defaults of the product, the handbook gives no formula."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from cards.finding import Evidence, Missing
from cds.engine.case import Case
from cds.rules.body_size import is_adult, weight

RULE = "readiness.apheresis-conduct"


@dataclass(frozen=True, slots=True)
class BloodVolume:
    """`ml` None: `missing` says what lacks."""

    ml: Decimal | None
    per_kg: Decimal | None = None
    evidence: tuple[Evidence, ...] = ()
    missing: tuple[Missing, ...] = ()


def blood_volume(case: Case, weight_days: int) -> BloodVolume:
    """mL: adult 70, child 75, infant below 1 year 80, neonate 85 mL/kg; an uncertain age the lower figure."""
    p, kg = case.p(RULE), weight(case, weight_days)
    birth, adult = case.chart.patient.birth, is_adult(case)
    if birth is None or adult is None:
        return BloodVolume(None, None, kg.evidence, (*kg.missing, Missing("birth_date")))
    if kg.value is None:
        return BloodVolume(None, None, kg.evidence, kg.missing)
    oldest = case.today - birth.first_date
    if adult:
        per_kg = p["adult_ml_kg"]
    elif oldest < timedelta(days=p.int("neonate_days")):
        per_kg = p["neonate_ml_kg"]
    elif (case.chart.patient.age(case.today) or (1, 1))[1] < 1:
        per_kg = p["infant_ml_kg"]
    else:
        per_kg = p["child_ml_kg"]
    return BloodVolume(kg.value * per_kg, per_kg, kg.evidence)
