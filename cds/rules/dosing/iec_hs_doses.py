"""Doses of IEC-HS and CRS/MAS drugs for one patient, and the orders that propose them.

Figures: dosing/iec_hs.yaml (handbook section 3.1.4 and figure 8). Adults follow the figure, children the
text; where a child's dose would pass the adult's, the adult's is the limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from cards.finding import (
    ONCE,
    Basis,
    Create,
    DrugProposal,
    Evidence,
    Message,
    Missing,
    Repeat,
    Shown,
    Suggestion,
)
from cds.engine.case import Case, once_per_case
from cds.rules.after_cart import dosing_weight, inpatient
from cds.rules.body_size import Measure, is_adult, surface
from cds.rules.dosing.steroid_course import methylprednisolone_course
from fhir_mapping.chart import Amount, Route

RULE = "dosing.iec-hs"
_TENTH = Decimal("0.1")


@dataclass(frozen=True, slots=True)
class Dose:
    """One dose in mg (None: something lacks), how it came about, and its rhythm."""

    drug: str
    mg: Decimal | None
    basis: Basis | None = None
    every_hours: Decimal | None = None
    evidence: tuple[Evidence, ...] = ()
    missing: tuple[Missing, ...] = ()


def _per_kg(
    case: Case, drug: str, per_kg: Decimal, every: Decimal | None, most: Decimal | None = None
) -> Dose:
    weight = dosing_weight(case)
    if weight.value is None:
        return Dose(drug, None, None, every, weight.evidence, weight.missing)
    mg = per_kg * weight.value
    if most is not None:
        mg = min(mg, most)
    basis = Basis(
        Amount(per_kg, "mg/kg"), Amount(weight.value, "kg"), None if most is None else Amount(most, "mg")
    )
    return Dose(drug, mg.quantize(_TENTH), basis, every, weight.evidence)


def body_surface(case: Case) -> Measure:
    p = case.p("grading.crs")
    return surface(case, p.int("weight_age_inpatient_days" if inpatient(case) else "weight_age_days"))


def _per_m2(case: Case, drug: str, per_m2: Decimal, every: Decimal | None) -> Dose:
    area = body_surface(case)
    if area.value is None:
        return Dose(drug, None, None, every, area.evidence, area.missing)
    basis = Basis(
        Amount(per_m2, "mg/m2"),
        Amount(area.value.quantize(Decimal("0.01")), "m2"),
        formula="Mosteller" if area.formula == "Mosteller" else "",
    )
    return Dose(drug, (per_m2 * area.value).quantize(_TENTH), basis, every, area.evidence)


@once_per_case
def anakinra_first(case: Case) -> Dose:
    """Line 1: 1 mg/kg four times a day; a child by the text's daily dose."""
    p = case.p(RULE)
    adult = is_adult(case)
    if adult is None:
        return Dose("anakinra", None, missing=(Missing("birth_date"),))
    if adult:
        return _per_kg(case, "anakinra", p["anakinra_mg_per_kg"], p["anakinra_interval_hours"])
    every = p["anakinra_child_interval_hours"]
    per_dose = p["anakinra_child_mg_per_kg_day"] * every / 24
    return _per_kg(case, "anakinra", per_dose, every, p["anakinra_second_mg"])


@once_per_case
def anakinra_second(case: Case) -> Dose:
    """Line 2: 100 mg four times a day; a child by the higher daily dose of the text."""
    p = case.p(RULE)
    adult = is_adult(case)
    if adult is None:
        return Dose("anakinra", None, missing=(Missing("birth_date"),))
    if adult:
        return Dose("anakinra", p["anakinra_second_mg"], None, p["anakinra_interval_hours"])
    every = p["anakinra_child_interval_hours"]
    per_dose = p["anakinra_child_high_mg_per_kg_day"] * every / 24
    return _per_kg(case, "anakinra", per_dose, every, p["anakinra_second_mg"])


@once_per_case
def dexamethasone_dose(case: Case) -> Dose:
    p = case.p(RULE)
    adult = is_adult(case)
    if adult is None:
        return Dose("dexamethasone", None, missing=(Missing("birth_date"),))
    if adult:
        return Dose("dexamethasone", p["dexamethasone_mg"], None, p["dexamethasone_interval_hours"])
    return _per_m2(case, "dexamethasone", p["dexamethasone_child_mg_per_m2"], Decimal(24))


@once_per_case
def methylprednisolone_child(case: Case) -> Dose:
    p = case.p(RULE)
    return _per_kg(
        case,
        "methylprednisolone",
        p["methylprednisolone_child_mg_per_kg"],
        p["methylprednisolone_child_interval_hours"],
    )


@once_per_case
def ruxolitinib_dose(case: Case) -> Dose:
    """Start dose by age, below 14 years by weight; at the limit of weight the lower one."""
    p = case.p(RULE)
    age = case.chart.patient.age(case.today)
    every = p["ruxolitinib_interval_hours"]
    if age is None or (age[0] < p["ruxolitinib_age_years"] <= age[1]):
        return Dose("ruxolitinib", None, None, every, missing=(Missing("birth_date"),))
    if age[0] >= p["ruxolitinib_age_years"]:
        return Dose("ruxolitinib", p["ruxolitinib_mg"], None, every)
    weight = dosing_weight(case)
    if weight.value is None:
        return Dose("ruxolitinib", None, None, every, weight.evidence, weight.missing)
    heavy = weight.value > p["ruxolitinib_weight_kg"]
    mg = p["ruxolitinib_child_mg"] if heavy else p["ruxolitinib_light_mg"]
    return Dose("ruxolitinib", mg, None, every, weight.evidence)


@once_per_case
def etoposide_dose(case: Case) -> Dose:
    return _per_m2(case, "etoposide", case.p(RULE)["etoposide_mg_per_m2"], None)


def emapalumab_step(case: Case, first: date | None, on: date) -> Decimal:
    """mg/kg of the course's day; its first dose is on day 0."""
    day = 0 if first is None else (on - first).days
    steps = case.p(RULE).table("emapalumab")
    return max(Decimal(row["mg_per_kg"]) for row in steps if int(row["from_day"]) <= max(day, 0))


def emapalumab_dose(case: Case, first: date | None, on: date) -> Dose:
    return _per_kg(case, "emapalumab", emapalumab_step(case, first, on), None)


# --- proposals


def proposal(
    case: Case, dose: Dose, *, days: int | None = None, recommended: bool = False, key: str = ""
) -> Suggestion | None:
    """The dose as an order to sign; None where it could not be computed."""
    if dose.mg is None:
        return None
    route = Route.ORAL if dose.drug == "ruxolitinib" else Route.INTRAVENOUS
    repeat = ONCE if dose.every_hours is None else Repeat(every_hours=dose.every_hours, days=days)
    order = DrugProposal(
        dose.drug, route, Amount(dose.mg, "mg"), dose.basis, repeat, case.now, reason="iec_hs"
    )
    shown: dict[str, Shown] = {"dose": Amount(dose.mg, "mg")}
    if dose.every_hours is not None:
        shown["every"] = dose.every_hours
    label = Message(f"suggest.{dose.drug}", shown, RULE)
    return Suggestion(key or dose.drug, label, (Create(order),), recommended)


def methylprednisolone(case: Case) -> Suggestion | None:
    """The falling course of an adult; a child's dose by weight."""
    if is_adult(case):
        return methylprednisolone_course(case, reason="iec_hs")
    if is_adult(case) is None:
        return None
    return proposal(case, methylprednisolone_child(case), days=case.p(RULE).int("steroid_days"))
