"""Creatinine clearance as the rules use it (chart-facts L11): measured, else estimated, with its method.

A clearance measured per 1.73 m2 counts once the patient's own body surface is known.

Estimates: Cockcroft-Gault from 18 years (Cockcroft DW, Nephron 1976;16:31-41), bedside Schwartz below
(Schwartz GJ, J Am Soc Nephrol 2009;20:629-637), whose result is per 1.73 m2. `egfr` of the laboratory never
stands in for a clearance.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from cards.finding import Evidence, Missing
from cds.engine.case import Case
from cds.rules.body_size import height, is_adult, surface, weight
from cds.rules.evidence import of_observation
from fhir_mapping.chart import LossReason, Observation


class Method(StrEnum):
    MEASURED = "measured"
    COCKCROFT_GAULT = "cockcroft-gault"
    SCHWARTZ = "schwartz"


@dataclass(frozen=True, slots=True)
class Clearance:
    """Clearance in mL/min (Schwartz: mL/min/1.73 m2). `value` None: `missing` says what lacks."""

    value: Decimal | None
    method: Method | None = None
    evidence: tuple[Evidence, ...] = ()
    missing: tuple[Missing, ...] = ()

    @property
    def unit(self) -> str:
        return "mL/min/{1.73_m2}" if self.method is Method.SCHWARTZ else "mL/min"


_STANDARD_M2 = Decimal("1.73")
_SEX_FACTOR = {"male": Decimal(1), "female": Decimal("0.85")}


def cockcroft_gault(age: int, kg: Decimal, mg_dl: Decimal, sex: str) -> Decimal:
    """mL/min from completed years, actual weight, creatinine in mg/dL, sex "male" or "female"."""
    return (140 - age) * kg / (72 * mg_dl) * _SEX_FACTOR[sex]


def bedside_schwartz(cm: Decimal, mg_dl: Decimal) -> Decimal:
    """mL/min/1.73 m2 from height and creatinine in mg/dL."""
    return Decimal("0.413") * cm / mg_dl


def _recent(case: Case, concept: str, days: int) -> Observation | None:
    def exact(observation: Observation) -> bool:
        quantity = observation.value.quantity
        return quantity is not None and not quantity.comparator and quantity.value > 0

    return case.chart.series(concept).latest(case.now, case.days_back(days), exact)


def lacking(case: Case, concept: str, days: int) -> Missing:
    """The concept as missing: stale where an older result than `days` is on the chart."""
    old = case.chart.latest(concept)
    if old is None:
        return Missing(concept)
    recent = old.when.latest >= case.now - case.days_back(days)  # there, but a bound such as "< 0.3"
    return Missing(concept, LossReason.NOT_ON_CHART if recent else LossReason.STALE, old.reference)


def measured_bound(case: Case, days: int) -> Observation | None:
    """The newest measured clearance at most `days` old where it is a bound ("< 30 mL/min"), else None."""
    newest = case.chart.series("creatinine_clearance").latest(
        case.now, case.days_back(days), lambda o: o.value.quantity is not None
    )
    quantity = None if newest is None else newest.value.quantity
    return newest if quantity is not None and quantity.comparator else None


def clearance(case: Case, days: int, body_days: int) -> Clearance:
    """Newest clearance at most `days` old; weight and height for an estimate at most `body_days` old."""
    measured = _recent(case, "creatinine_clearance", days)
    if measured is not None and measured.value.quantity is not None:
        return Clearance(measured.value.quantity.value, Method.MEASURED, (of_observation(measured),))
    of_area = _recent(case, "creatinine_clearance_bsa", days)
    m2 = None if of_area is None else surface(case, body_days)
    if of_area is not None and of_area.value.quantity is not None and m2 is not None and m2.value is not None:
        value = of_area.value.quantity.value * m2.value / _STANDARD_M2
        return Clearance(value, Method.MEASURED, (of_observation(of_area), *m2.evidence))
    creatinine = _recent(case, "creatinine", days)
    if creatinine is None or creatinine.value.quantity is None:
        return Clearance(None, missing=(lacking(case, "creatinine", days),))
    mg_dl, evidence = creatinine.value.quantity.value, (of_observation(creatinine),)
    adult = is_adult(case)
    if adult is None:
        return Clearance(None, evidence=evidence, missing=(Missing("birth_date"),))
    if not adult:
        cm = height(case, body_days)
        if cm.value is None:
            return Clearance(None, Method.SCHWARTZ, evidence, cm.missing)
        value = bedside_schwartz(cm.value, mg_dl)
        return Clearance(value, Method.SCHWARTZ, (*evidence, *cm.evidence))
    kg, sex, age = weight(case, body_days), case.chart.patient.sex, case.chart.patient.age(case.today)
    missing = kg.missing if sex in _SEX_FACTOR else (*kg.missing, Missing("sex"))
    if kg.value is None or age is None or missing:
        return Clearance(None, Method.COCKCROFT_GAULT, evidence, missing)
    # of an uncertain birth date the older age, which gives the lower clearance
    value = cockcroft_gault(age[1], kg.value, mg_dl, sex)
    return Clearance(value, Method.COCKCROFT_GAULT, (*evidence, *kg.evidence))
