"""Premedication orders before the CAR-T infusion, shared by the rules that offer them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from cards.finding import Basis, Create, Delete, DrugProposal, Suggestion, msg
from cds.engine.case import Case
from cds.rules.body_size import is_adult, weight
from fhir_mapping.chart import Amount, ConditionState, DrugRecord, Moment, Route

RULE = "dosing.infusion-premedication"
ACETAMINOPHEN = "paracetamol"
ANTIHISTAMINE = "diphenhydramine"
DRUGS = (ACETAMINOPHEN, ANTIHISTAMINE)
OFFERS = {"acetaminophen": ACETAMINOPHEN, "diphenhydramine": ANTIHISTAMINE}  # suggestion key -> drug


@dataclass(frozen=True, slots=True)
class Withheld:
    """A drug that is not offered, and why (message key)."""

    drug: str
    why: str


def infusion_start(case: Case) -> Moment | None:
    """Start of the first bag, else the planned start; None where no infusion is in sight."""
    course = case.chart.course
    anchor = course.infused or course.infusion_planned
    return None if anchor is None else anchor.when


def withheld(case: Case) -> tuple[Withheld, ...]:
    """Allergy, acetaminophen given a short while before, severe hepatic impairment."""
    found = [Withheld(drug, "allergy") for drug in DRUGS if case.chart.allergy_to(drug)]
    spacing = timedelta(hours=float(case.p(RULE)["acetaminophen_spacing_h"]))
    start = infusion_start(case)
    moment = start.earliest if start is not None and start.exact else case.now
    for record in case.chart.administrations(ACETAMINOPHEN):
        first = record.timing.first
        if first is not None and first.exact and moment - spacing < first.earliest <= moment:
            found.append(Withheld(ACETAMINOPHEN, "spacing"))
    impaired = case.chart.conditions.of("severe_hepatic_impairment")
    if any(condition.state is ConditionState.ACTIVE for condition in impaired):
        found.append(Withheld(ACETAMINOPHEN, "liver"))
    return tuple(dict.fromkeys(found))


def _dose(case: Case, name: str) -> tuple[Amount | None, Basis | None]:
    """The site's dose; nothing where the site has not taken over the figures, or the child's weight lacks."""
    numbers = case.p(RULE)
    adult = is_adult(case)
    if not numbers.flag("propose_doses") or adult is None:
        return None, None
    maximum = Amount(numbers[f"{name}_max_mg"], "mg")
    if adult:
        return Amount(numbers[f"{name}_adult_mg"], "mg"), None
    kg = weight(case, numbers.int("weight_max_age_days")).value
    if kg is None:
        return None, None
    per = numbers[f"{name}_child_mg_kg"]
    mg = min(per * kg, maximum.value).quantize(Decimal("0.1"))
    return Amount(mg, "mg"), Basis(Amount(per, "mg/kg"), Amount(kg, "kg"), maximum)


def _start(case: Case) -> datetime | None:
    planned = infusion_start(case)
    if planned is None or not planned.exact:
        return None
    begin = planned.earliest - timedelta(minutes=case.p(RULE).int("earliest_min"))
    return begin if begin >= case.now else None


def suggestions(case: Case, instead_of: DrugRecord | None = None) -> tuple[Suggestion, ...]:
    """A button that removes a drafted steroid, and one per drug that nothing speaks against."""
    barred = {entry.drug for entry in withheld(case)}
    result: list[Suggestion] = []
    if instead_of is not None:
        remove = (Delete(instead_of.reference),)
        result.append(Suggestion("remove", msg("suggest.remove"), remove, recommended=True))
    for name, drug in OFFERS.items():
        if drug in barred:
            continue
        dose, basis = _dose(case, name)
        proposal = DrugProposal(
            drug=drug,
            route=Route.ORAL if drug == ACETAMINOPHEN else None,
            dose=dose,
            basis=basis,
            start=_start(case),
            purpose="purpose_premedication",
            note=None if dose is not None else msg("note.dose-by-site"),
        )
        result.append(Suggestion(name, msg(f"suggest.{name}"), (Create(proposal),)))
    return tuple(result)
