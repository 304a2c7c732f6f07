"""Drugs against tumour lysis: what is given or ordered, and the proposals (BCSH 2015)."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import Decimal

from cards.finding import (
    ONCE,
    Basis,
    Create,
    Days,
    DrugProposal,
    Evidence,
    Message,
    Repeat,
    ServiceProposal,
    Suggestion,
)
from cds.engine.case import Case
from cds.rules.after_cart import dosing_weight
from cds.rules.body_size import is_adult
from cds.rules.evidence import of_fact
from fhir_mapping.chart import Amount, ConditionState, DrugRecord, DrugState, Result, Route

PROPHYLAXIS = "dosing.tls-prophylaxis"
TREATMENT = "dosing.tls-treatment"
INHIBITORS = ("allopurinol", "febuxostat")
PURINES = ("azathioprine", "mercaptopurine")


def in_force(case: Case, *drugs: str) -> tuple[DrugRecord, ...]:
    """Orders, statements and infusions of these drugs that are active and not over."""
    return tuple(
        d
        for d in case.chart.active_drugs(*drugs)
        if d.timing.last is None or d.timing.ongoing or d.timing.last.latest >= case.now
    )


def given_since(case: Case, start: datetime, *drugs: str) -> tuple[DrugRecord, ...]:
    """Administrations whose end may lie after `start`."""
    found = []
    for record in case.chart.administrations(*drugs):
        last = record.timing.last or record.timing.first
        if record.state is DrugState.RUNNING or (last is not None and last.latest > start):
            found.append(record)
    return tuple(found)


def rasburicase_days(case: Case, since: datetime) -> tuple[date, ...]:
    """Calendar days with a dose of rasburicase."""
    return tuple(
        sorted(
            {
                d.timing.first.first_date
                for d in case.chart.administrations("rasburicase")
                if d.timing.first is not None and d.timing.first.latest >= since
            }
        )
    )


def methaemoglobinaemia(case: Case) -> tuple[Evidence, ...]:
    """Methaemoglobinaemia on the chart, past ones included."""
    found = case.chart.conditions.of("methemoglobinemia")
    return tuple(of_fact(c, "methemoglobinemia") for c in found if c.state is not ConditionState.REFUTED)


def rasburicase_excluded(case: Case) -> tuple[Evidence, ...]:
    """What besides G6PD deficiency excludes rasburicase: methaemoglobinaemia, a reaction to it before."""
    reactions = tuple(of_fact(a, "rasburicase") for a in case.chart.allergy_to("rasburicase"))
    return (*methaemoglobinaemia(case), *reactions)


def hla_b5801(case: Case) -> bool:
    found = case.chart.latest("hla_b5801")
    return found is not None and found.value.result is Result.POSITIVE


def _note(key: str, rule: str, /, **values: Amount | int) -> Message:
    return Message(key, dict(values.items()), rule)


def allopurinol(case: Case, *, recommended: bool) -> Suggestion | None:
    """Allopurinol by mouth for 7 days, dose by local protocol; None where the chart speaks against it."""
    if hla_b5801(case) or in_force(case, *PURINES):
        return None
    p = case.p(PROPHYLAXIS)
    proposal = DrugProposal(
        "allopurinol",
        Route.ORAL,
        repeat=Repeat(every_hours=24, days=p.int("allopurinol_days")),
        purpose="purpose_prophylaxis",
        note=_note("note.allopurinol", PROPHYLAXIS, maximum=Amount(p["allopurinol_max_mg_day"], "mg")),
    )
    label = Message("suggest.allopurinol", {"days": p.int("allopurinol_days")}, PROPHYLAXIS)
    return Suggestion("allopurinol", label, (Create(proposal),), recommended)


def febuxostat(case: Case) -> Suggestion | None:
    """Febuxostat, the named alternative; None beside azathioprine or mercaptopurine."""
    if in_force(case, *PURINES):
        return None
    p = case.p(PROPHYLAXIS)
    proposal = DrugProposal(
        "febuxostat",
        Route.ORAL,
        repeat=Repeat(every_hours=24, days=p.int("allopurinol_days")),
        purpose="purpose_prophylaxis",
        note=_note("note.febuxostat", PROPHYLAXIS),
    )
    label = Message("suggest.febuxostat", {"days": p.int("allopurinol_days")}, PROPHYLAXIS)
    return Suggestion("febuxostat", label, (Create(proposal),))


def rasburicase_once_mg(case: Case) -> Decimal | None:
    """The single prophylactic dose: adult 3 mg, child 0.2 mg/kg; None without age or a child's weight."""
    p = case.p(PROPHYLAXIS)
    adult = is_adult(case)
    if adult is None:
        return None
    if adult:
        return p["rasburicase_adult_mg"]
    weight = dosing_weight(case).value
    return None if weight is None else (p["rasburicase_child_mg_per_kg"] * weight).quantize(Decimal("0.1"))


def rasburicase_once(case: Case, *, recommended: bool) -> Suggestion | None:
    """One fixed dose IV; without a child's weight the rule is given in place of a dose."""
    adult = is_adult(case)
    if adult is None:
        return None
    p = case.p(PROPHYLAXIS)
    per = Amount(p["rasburicase_child_mg_per_kg"], "mg/kg")
    mg, weight = rasburicase_once_mg(case), dosing_weight(case).value
    basis = None if adult or weight is None else Basis(per, Amount(weight, "kg"))
    dose = None if mg is None else Amount(mg, "mg")
    note = None if mg is not None else _note("note.rasburicase-per-kg", PROPHYLAXIS, per_kg=per)
    proposal = DrugProposal(
        "rasburicase", Route.INTRAVENOUS, dose, basis, ONCE, purpose="purpose_prophylaxis", note=note
    )
    label = (
        Message("suggest.rasburicase-no-weight", {}, PROPHYLAXIS)
        if dose is None
        else Message("suggest.rasburicase", {"dose": dose}, PROPHYLAXIS)
    )
    return Suggestion("rasburicase", label, (Create(proposal),), recommended)


def rasburicase_daily_mg(case: Case) -> Decimal | None:
    """The treatment dose of one day, 0.2 mg/kg; None without a current weight."""
    weight = dosing_weight(case).value
    per = case.p(TREATMENT)["rasburicase_mg_per_kg"]
    return None if weight is None else (per * weight).quantize(Decimal("0.1"))


def rasburicase_daily(case: Case, days: int, *, recommended: bool) -> Suggestion:
    """Daily rasburicase for the days that the course still has."""
    p = case.p(TREATMENT)
    per = Amount(p["rasburicase_mg_per_kg"], "mg/kg")
    mg, weight = rasburicase_daily_mg(case), dosing_weight(case).value
    repeat = Repeat(every_hours=24, days=max(1, days))
    if mg is None or weight is None:
        note = _note("note.rasburicase-per-kg", TREATMENT, per_kg=per)
        proposal = DrugProposal("rasburicase", Route.INTRAVENOUS, repeat=repeat, reason="tls", note=note)
        label = Message("suggest.rasburicase-no-weight", {}, TREATMENT)
        return Suggestion("rasburicase", label, (Create(proposal),), recommended)
    dose = Amount(mg, "mg")
    basis = Basis(per, Amount(weight, "kg"))
    proposal = DrugProposal("rasburicase", Route.INTRAVENOUS, dose, basis, repeat, case.now, reason="tls")
    label = Message("suggest.rasburicase", {"dose": dose, "days": Days(max(1, days))}, TREATMENT)
    return Suggestion("rasburicase", label, (Create(proposal),), recommended)


def order_g6pd(rule: str, *, recommended: bool) -> Suggestion:
    label = Message("suggest.g6pd", {}, rule)
    return Suggestion("g6pd", label, (Create(ServiceProposal("g6pd")),), recommended)


def days_ago(case: Case, hours: Decimal) -> datetime:
    return case.now - timedelta(hours=float(hours))
