"""Pneumocystis prophylaxis from lymphodepletion on (Table 15): drug, alternatives under allergy, stop."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal

from cards.finding import (
    Block,
    Bullet,
    Create,
    DrugProposal,
    Evidence,
    Finding,
    Indicator,
    Items,
    Message,
    Missing,
    Name,
    Outcome,
    Paragraph,
    Repeat,
    Scalar,
    ServiceProposal,
    Suggestion,
    msg,
)
from cds.engine.case import Case
from cds.engine.rule import rule
from cds.rules import evidence
from cds.rules.follow_up.prophylaxis import (
    DrugUse,
    Row,
    Use,
    adult,
    begun,
    course_floor,
    drug_use,
    for_treatment,
    orders_unread,
    replaced,
    row_of,
    start_evidence,
    stop_notes,
    stop_predicate,
)
from cds.rules.g6pd import G6pd, g6pd_state
from fhir_mapping.chart import Allergy, Amount, ConditionState, DrugRecord, Quantity, Route

RULE = "follow-up.prophylaxis-pjp"
COTRIMOXAZOLE = "sulfamethoxazole_trimethoprim"
_COTRIMOXAZOLE_ALLERGENS = ("sulfonamide", "sulfamethoxazole", "trimethoprim", "class_antibacterials")
OTHERS = ("dapsone", "atovaquone")
PENTAMIDINE = "pentamidine"
_OUTCOMES = {
    Row.NO_DRUG: (Outcome.START, Indicator.WARNING),
    Row.ACTIVE: (Outcome.CONTINUE, Indicator.INFO),
    Row.STOPPED: (Outcome.START, Indicator.WARNING),
    Row.CD4_MISSING: (Outcome.DUE, Indicator.WARNING),
    Row.MAY_STOP: (Outcome.MAY_STOP, Indicator.INFO),
}


@dataclass(frozen=True, slots=True)
class Choice:
    """Drugs that the chart leaves, first choice first, and why others are out."""

    drugs: tuple[str, ...]
    test_g6pd: bool
    notes: tuple[Bullet, ...] = ()
    evidence: tuple[Evidence, ...] = ()


def _against_cotrimoxazole(case: Case) -> tuple[Allergy, ...]:
    """Allergies to co-trimoxazole, to one of its halves, to sulfonamides or to all antibacterials."""
    return case.chart.allergy_to(COTRIMOXAZOLE, *_COTRIMOXAZOLE_ALLERGENS)


def _allergen(allergy: Allergy) -> str:
    named = (COTRIMOXAZOLE, *_COTRIMOXAZOLE_ALLERGENS)
    return next((concept for concept in named if concept in allergy.concepts), "sulfonamide")


def choice(case: Case) -> Choice:
    """Co-trimoxazole, else pentamidine, dapsone, atovaquone as allergy, G6PD and asthma allow."""
    allergies = _against_cotrimoxazole(case)
    g6pd = g6pd_state(case)
    deficient = g6pd in (G6pd.DEFICIENT, G6pd.INTERMEDIATE)
    notes: list[Bullet] = []
    shown = tuple(evidence.of_fact(a, _allergen(a)) for a in allergies)
    if not allergies:
        if deficient:
            notes.append(Bullet(msg("detail.g6pd-cotrimoxazole")))
        return Choice((COTRIMOXAZOLE,), False, tuple(notes))
    drugs = [PENTAMIDINE, "dapsone", "atovaquone"]
    notes.append(Bullet(msg("detail.sulfa")))
    if any(a.severe_skin_reaction for a in allergies):
        drugs.remove("dapsone")
        notes.append(Bullet(msg("detail.severe-reaction")))
    if deficient:
        if "dapsone" in drugs:
            drugs.remove("dapsone")
        notes.append(Bullet(msg("detail.g6pd-deficient")))
    asthma = [c for c in case.chart.conditions.of("asthma") if c.state is ConditionState.ACTIVE]
    if asthma:
        drugs.remove(PENTAMIDINE)
        drugs.append(PENTAMIDINE)
        notes.append(Bullet(msg("detail.asthma")))
        shown += tuple(evidence.of_fact(c, "asthma") for c in asthma)
    drugs = [drug for drug in drugs if not case.chart.allergy_to(drug)]
    test = "dapsone" in drugs and g6pd is G6pd.UNKNOWN
    if test:
        notes.append(Bullet(msg("detail.g6pd-unknown")))
    return Choice(tuple(drugs), test, tuple(notes), shown)


def _pentamidine(case: Case, *, intravenous: bool = False) -> tuple[date | None, tuple[DrugRecord, ...]]:
    """Last day of a pentamidine dose given in this course: the listed inhaled one, or by vein."""
    since = course_floor(case) or date.min
    found = [
        (moment.date, record)
        for record in case.chart.drugs.of(PENTAMIDINE)
        if record.given
        and (record.route is Route.INTRAVENOUS) is intravenous
        and (moment := record.timing.last or record.timing.first) is not None
        and since <= moment.date <= case.today
    ]
    return max((day for day, _ in found), default=None), tuple(record for _, record in found)


def _use(case: Case) -> DrugUse:
    daily = drug_use(case, COTRIMOXAZOLE, *OTHERS, recent_days=case.p(RULE).int("recent_days"))
    if daily.use is Use.ACTIVE:
        return daily
    last, given = _pentamidine(case)
    if last is not None and (case.today - last).days <= case.p(RULE).int("pentamidine_days"):
        return DrugUse(Use.ACTIVE, given[-1:], daily.past, last)
    ordered = drug_use(case, PENTAMIDINE)
    if last is None and ordered.use is Use.ACTIVE:
        return ordered
    if last is not None:
        return DrugUse(Use.STOPPED, (), (*daily.past, *given), max(filter(None, (last, daily.last))))
    return daily


def _overdue(case: Case) -> date | None:
    """Last inhaled pentamidine where it is the current drug and its month is over."""
    daily = drug_use(case, COTRIMOXAZOLE, *OTHERS, recent_days=case.p(RULE).int("recent_days"))
    last, _ = _pentamidine(case)
    if last is None or daily.use is Use.ACTIVE or (daily.last is not None and daily.last > last):
        return None
    return last if (case.today - last).days > case.p(RULE).int("pentamidine_days") else None


def _anc(case: Case) -> tuple[Quantity | None, tuple[Evidence, ...]]:
    found = case.chart.series("anc").latest(
        case.now, timedelta(days=case.p(RULE).int("anc_age_days")), lambda o: o.value.quantity is not None
    )
    if found is None:
        return None, ()
    return found.value.quantity, (evidence.of_observation(found),)


def _suppressed(case: Case) -> tuple[bool, tuple[Evidence, ...]]:
    """The marrow is still suppressed: ANC below the limit."""
    quantity, shown = _anc(case)
    low = None if quantity is None else quantity.below(case.p(RULE)["delay_anc_per_ul"] / 1000)
    return low is True, shown


@rule(RULE)
def pjp_prophylaxis(case: Case) -> Iterator[Finding]:
    """State of the prophylaxis; on order-sign the drafts of its drugs."""
    if not begun(case):
        return
    if case.ordering:
        yield from _orders(case)
        return
    finding = orders_unread(case, RULE, COTRIMOXAZOLE, _use(case).use) or _state(case)
    if finding is not None:
        yield finding


def _state(case: Case) -> Finding | None:
    use = _use(case)
    stop = stop_predicate(case, RULE)
    row = row_of(use.use, stop)
    if row is Row.OVER:
        return None
    outcome, indicator = _OUTCOMES[row]
    wanted = row in (Row.NO_DRUG, Row.STOPPED)
    name = row.value
    values: dict[str, Scalar | list[Scalar]] = dict(stop.values)
    shown = (*start_evidence(case), *use.evidence, *stop.evidence)
    overdue = _overdue(case)
    summary = msg(f"summary.{name}", months=stop.months)
    if wanted and overdue is not None and stop.holds is not True:
        outcome, name = Outcome.OVERDUE, "overdue"
        values |= {"last_day": overdue, "days_since": (case.today - overdue).days}
        summary = msg("summary.overdue", last=overdue, days=(case.today - overdue).days)
    elif row is Row.STOPPED and use.last is not None:
        values["last_day"] = use.last
        summary = msg("summary.stopped-on", last=use.last)
    low, counts = _suppressed(case)
    if row is Row.NO_DRUG and low:
        outcome, indicator, name = Outcome.WAIT, Indicator.INFO, "delayed"
        quantity, _ = _anc(case)
        if quantity is not None:
            values["anc_per_ul"] = quantity.value * 1000
            summary = msg("summary.delayed", anc=evidence.shown(quantity))
        shown += counts
    picked = choice(case)
    if name == "overdue" and not case.chart.allergy_to(PENTAMIDINE):
        others = tuple(drug for drug in picked.drugs if drug != PENTAMIDINE)
        picked = replace(picked, drugs=(PENTAMIDINE, *others))  # the drug in use goes on first
    if wanted:
        shown += picked.evidence
        values["alternatives"] = list(picked.drugs)
    if stop.from_day is not None:
        values["stop_from"] = stop.from_day
    notes: tuple[Block, ...] = (Paragraph(msg("detail.regimen", **_listed(case))),)
    running = (_above(case, record) for record in use.active if not for_treatment(record))
    notes += tuple(Bullet(_too_much(*above)) for above in running if above is not None)
    if wanted:
        by_vein, doses = _pentamidine(case, intravenous=True)
        if by_vein is not None and (case.today - by_vein).days <= case.p(RULE).int("pentamidine_days"):
            notes += (Bullet(msg("detail.intravenous", day=by_vein)),)
            shown += (evidence.of_drug(doses[-1]),)
        notes += picked.notes
        if not picked.drugs:
            notes += (Bullet(msg("detail.no-drug-left")),)
        elif COTRIMOXAZOLE not in picked.drugs:
            notes += (Bullet(msg("detail.alternatives", drugs=Items(tuple(map(Name, picked.drugs))))),)
        if not adult(case):
            notes += (Bullet(msg("detail.child")),)
    buttons: tuple[Suggestion, ...] = ()
    if wanted:
        buttons = _drugs(case, picked, recommended=name != "delayed")
    elif row is Row.CD4_MISSING:
        buttons = (Suggestion("cd4", msg("suggest.cd4"), (Create(ServiceProposal("cd4_abs")),), True),)
    missing = stop.missing if row is Row.CD4_MISSING else ()
    if wanted and picked.test_g6pd:
        missing += (Missing("g6pd"),)
    return Finding(
        rule=RULE,
        outcome=outcome,
        indicator=indicator,
        summary=summary,
        detail=(*notes, *stop_notes(stop)),
        values={"row": name, **values},
        evidence=shown,
        missing=missing,
        suggestions=buttons,
    )


def _listed(case: Case) -> dict[str, Amount]:
    p = case.p(RULE)
    names = ("cotrimoxazole_daily", "cotrimoxazole_thrice", "pentamidine", "dapsone", "atovaquone")
    return {name: Amount(p[f"{name}_mg"], "mg") for name in names}


def _drugs(case: Case, picked: Choice, recommended: bool) -> tuple[Suggestion, ...]:
    p = case.p(RULE)
    doses = {
        COTRIMOXAZOLE: ("cotrimoxazole_daily_mg", Route.ORAL, Repeat(every_hours=24), None),
        PENTAMIDINE: ("pentamidine_mg", Route.INHALED, Repeat(count=1), msg("suggest.monthly")),
        "dapsone": ("dapsone_mg", Route.ORAL, Repeat(every_hours=24), None),
        "atovaquone": ("atovaquone_mg", Route.ORAL, Repeat(every_hours=24), None),
    }
    result = []
    for place, drug in enumerate(picked.drugs):
        if drug == "dapsone" and picked.test_g6pd:
            test = (Create(ServiceProposal("g6pd", note=msg("detail.g6pd-unknown"))),)
            result.append(Suggestion("g6pd", msg("suggest.g6pd"), test))
            continue
        name, route, repeat, note = doses[drug]
        grown = adult(case)
        proposal = DrugProposal(
            drug,
            route,
            Amount(p[name], "mg") if grown else None,
            repeat=repeat,
            start=case.today,
            purpose="purpose_prophylaxis",
            note=note if grown else msg("suggest.label-dose"),
        )
        label = msg("suggest.drug", drug=Name(drug))
        result.append(Suggestion(drug, label, (Create(proposal),), recommended=recommended and place == 0))
    return tuple(result)


def _weekly_mg(record: DrugRecord) -> Decimal | None:
    mg = None if record.dose is None else record.dose.mg
    if mg is None or record.timing.as_needed:
        return None
    if record.timing.per_day is not None:
        return mg * record.timing.per_day * 7
    if record.timing.interval_hours:
        return mg * 168 / record.timing.interval_hours
    return None


def _above(case: Case, record: DrugRecord) -> tuple[Decimal, Decimal] | None:
    """mg a week of co-trimoxazole and of its listed regimen, where an adult's order exceeds that."""
    weekly = _weekly_mg(record) if COTRIMOXAZOLE in record.concepts and adult(case) else None
    listed = case.p(RULE)["cotrimoxazole_daily_mg"] * 7
    return (weekly, listed) if weekly is not None and weekly > listed else None


def _too_much(weekly: Decimal, listed: Decimal) -> Message:
    return msg("summary.order-above", dose=Amount(weekly, "mg"), listed=Amount(listed, "mg"))


def _orders(case: Case) -> Iterator[Finding]:
    stop = stop_predicate(case, RULE)
    ending = case.ending_drugs(COTRIMOXAZOLE, PENTAMIDINE, *OTHERS)
    for draft in (*case.judged_drugs(COTRIMOXAZOLE, PENTAMIDINE, *OTHERS), *ending):
        if for_treatment(draft):
            continue
        outcome: Outcome = Outcome.PASS
        indicator: Indicator | None = None
        row, summary = "pass", msg("summary.order-pass")
        values: dict[str, Scalar] = {}
        notes: tuple[Bullet, ...] = ()
        missing: tuple[Missing, ...] = ()
        buttons: tuple[Suggestion, ...] = ()
        drug = next((d for d in (COTRIMOXAZOLE, PENTAMIDINE, *OTHERS) if d in draft.concepts), "")
        above = _above(case, draft)
        if draft in ending:
            row = "stop-order"
            if stop.holds is True:
                outcome, summary = Outcome.MAY_STOP, msg("summary.may-stop", months=stop.months)
            elif not replaced(case, COTRIMOXAZOLE, PENTAMIDINE, *OTHERS):
                outcome, indicator = Outcome.REVIEW, Indicator.WARNING
                summary = msg("summary.order-stop")
                missing = stop.missing if stop.holds is None else ()
        elif drug == COTRIMOXAZOLE and _against_cotrimoxazole(case):
            picked = choice(case)
            outcome, indicator, row = Outcome.CONTRAINDICATED, Indicator.CRITICAL, "sulfa-allergy"
            summary = msg("summary.order-allergy", drugs=Items(tuple(map(Name, picked.drugs))))
            notes, buttons = picked.notes, _drugs(case, picked, recommended=True)
        elif drug != COTRIMOXAZOLE and case.chart.allergy_to(drug):
            outcome, indicator, row = Outcome.CONTRAINDICATED, Indicator.CRITICAL, "allergy"
            others = Items(tuple(map(Name, choice(case).drugs)))
            summary = msg("summary.order-own-allergy", drug=Name(drug), drugs=others)
        elif drug == "dapsone" and g6pd_state(case) in (G6pd.DEFICIENT, G6pd.INTERMEDIATE):
            outcome, indicator, row = Outcome.CONTRAINDICATED, Indicator.CRITICAL, "g6pd"
            summary = msg("summary.order-g6pd")
        elif drug == "dapsone" and any(a.severe_skin_reaction for a in _against_cotrimoxazole(case)):
            outcome, indicator, row = Outcome.CONTRAINDICATED, Indicator.CRITICAL, "severe-reaction"
            summary = msg("summary.order-severe")
        elif drug == "dapsone" and g6pd_state(case) is G6pd.UNKNOWN:
            outcome, indicator, row = Outcome.CANNOT_CHECK, Indicator.WARNING, "g6pd-unknown"
            summary = msg("summary.order-g6pd-unknown")
            missing = (Missing("g6pd"),)
            test = (Create(ServiceProposal("g6pd")),)
            buttons = (Suggestion("g6pd", msg("suggest.g6pd"), test, recommended=True),)
        elif drug == COTRIMOXAZOLE and g6pd_state(case) in (G6pd.DEFICIENT, G6pd.INTERMEDIATE):
            outcome, indicator, row = Outcome.CAUTION, Indicator.INFO, "g6pd-caution"
            summary = msg("summary.order-g6pd-caution")
            notes = (Bullet(msg("detail.g6pd-cotrimoxazole")),)
        elif above is not None:
            outcome, indicator, row = Outcome.WRONG_DOSE, Indicator.INFO, "above"
            values = {"dose_mg_per_week": above[0], "listed_mg_per_week": above[1]}
            summary = _too_much(*above)
        yield Finding(
            rule=RULE,
            outcome=outcome,
            indicator=indicator,
            summary=summary,
            subject=draft.reference,
            resource=draft.reference,
            detail=(Paragraph(msg("detail.regimen", **_listed(case))), *notes),
            values={"row": row, **values},
            evidence=(
                *start_evidence(case),
                evidence.of_drug(draft),
                *(evidence.of_fact(a, _allergen(a)) for a in _against_cotrimoxazole(case)),
            ),
            missing=missing,
            suggestions=buttons,
            unconcluded=outcome is Outcome.CANNOT_CHECK,
        )
