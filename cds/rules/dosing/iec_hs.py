"""Treatment of IEC-HS and CRS/MAS by line, and checks of the orders it concerns (handbook figure 8).

On patient-view the step rides on the grading card from grade 2 on; grade 1 is observed. No dose is proposed
that the sources do not give: intrathecal chemotherapy and cytokine adsorption are named without one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from cards.finding import (
    Block,
    Bullet,
    Delete,
    Evidence,
    Finding,
    Indicator,
    Message,
    Missing,
    Name,
    Outcome,
    Paragraph,
    Selection,
    Shown,
    Suggestion,
    msg,
)
from cds.engine.case import Case
from cds.engine.rule import rule
from cds.rules.after_cart import dosing_weight, unread_dose
from cds.rules.body_size import is_adult
from cds.rules.dosing.crs_ladder import iec_hs_leads
from cds.rules.dosing.iec_hs_doses import (
    RULE,
    Dose,
    anakinra_first,
    anakinra_second,
    body_surface,
    dexamethasone_dose,
    emapalumab_dose,
    etoposide_dose,
    methylprednisolone,
    proposal,
    ruxolitinib_dose,
)
from cds.rules.dosing.iec_hs_lines import Plan, Row, first_emapalumab, iec_hs_plan, own_drugs
from cds.rules.dosing.steroid_course import (
    Tier,
    doses_per_day,
    in_crs_steroids,
    steroid_in_force,
    tier_of,
)
from cds.rules.evidence import of_drug_start
from cds.rules.grading.crs_course import Course, crs_course
from cds.rules.grading.crs_episode import crs_now
from cds.rules.grading.hlh_compare import Pathway
from cds.rules.grading.hlh_signs import ferritin_evidence
from cds.rules.grading.icans_episode import icans_now
from cds.rules.grading.iec_hs_episode import OWN_REASONS, Status, iec_hs_now
from fhir_mapping.chart import Amount, DrugRecord, DrugState, Route

Value = str | int | bool | Decimal | date | datetime
_ANTI_IL6 = ("tocilizumab", "siltuximab")
_LATER_LINES = ("ruxolitinib", "etoposide", "emapalumab", "methylprednisolone")
_JUDGED = ("anakinra", *_LATER_LINES, "dexamethasone")
_LIMITED_A_DAY = ("anakinra", "ruxolitinib")
_OUTCOMES = {
    Row.OBSERVE: Outcome.CONTINUE,
    Row.LINE_1: Outcome.START,
    Row.WAIT: Outcome.WAIT,
    Row.CONTINUE: Outcome.CONTINUE,
    Row.IMPROVED: Outcome.CONTINUE,
    Row.FERRITIN_MISSING: Outcome.ASK,
}


def _doses(case: Case, plan: Plan) -> tuple[Dose, ...]:
    """Every dose that the step names, computed or with what lacks."""
    mas = plan.pathway is Pathway.CRS_MAS
    if plan.row is Row.LINE_1:
        return (anakinra_first(case), dexamethasone_dose(case)) if mas else (anakinra_first(case),)
    if plan.row is Row.LINE_2:
        return (anakinra_second(case),) if mas else (anakinra_second(case), ruxolitinib_dose(case))
    if plan.row is Row.LINE_3:
        if mas:
            return (etoposide_dose(case),)
        used = own_drugs(case, plan.state, "ruxolitinib")
        first = () if used else (ruxolitinib_dose(case),)
        return (etoposide_dose(case), *first, _next_emapalumab(case, plan))
    return ()


def _next_emapalumab(case: Case, plan: Plan) -> Dose:
    first = first_emapalumab(case, plan.state)
    begun = first.timing.first.first_date if first is not None and first.timing.first is not None else None
    return emapalumab_dose(case, begun, case.today)


def _suggestions(case: Case, plan: Plan) -> tuple[Suggestion, ...]:
    p = case.p(RULE)
    days, steroid_days = p.int("anakinra_days"), p.int("steroid_days")
    mas = plan.pathway is Pathway.CRS_MAS
    known = plan.pathway is not Pathway.UNDETERMINED
    found: list[Suggestion | None] = []
    if plan.row is Row.LINE_1:
        if not own_drugs(case, plan.state, "anakinra"):
            found.append(proposal(case, anakinra_first(case), days=days, recommended=known))
        if not steroid_in_force(case):
            found.append(proposal(case, dexamethasone_dose(case), days=steroid_days))
    elif plan.row is Row.LINE_2:
        found.append(proposal(case, anakinra_second(case), days=days, recommended=known))
        if mas:
            found.append(methylprednisolone(case))
        else:
            if not steroid_in_force(case):
                found.append(proposal(case, dexamethasone_dose(case), days=steroid_days))
            found += _start_ruxolitinib(case, plan)
    elif plan.row is Row.LINE_3:
        if not mas:
            found += _start_ruxolitinib(case, plan)
            found.append(proposal(case, _next_emapalumab(case, plan)))
        found.append(proposal(case, etoposide_dose(case), recommended=mas))
    if plan.row is not Row.IMPROVED and plan.line == 3 and _emapalumab_rises(case, plan):
        found.append(proposal(case, _next_emapalumab(case, plan)))
    return tuple(s for s in found if s is not None)


def _start_ruxolitinib(case: Case, plan: Plan) -> list[Suggestion | None]:
    """Its usual dose; none where it runs, or beside a strong inhibitor, for which its label gives another."""
    if own_drugs(case, plan.state, "ruxolitinib") or _inhibitors(case):
        return []
    return [proposal(case, ruxolitinib_dose(case))]


def _inhibitors(case: Case) -> tuple[DrugRecord, ...]:
    words = case.p(RULE).words("strong_cyp3a4")
    return (*case.chart.active_drugs(*words), *case.chart.drafts.drugs.of(*words))


def _emapalumab_rises(case: Case, plan: Plan) -> bool:
    """Emapalumab was begun and the response is poor: the next step of its dose."""
    return first_emapalumab(case, plan.state) is not None and (plan.response == "worse" or bool(plan.rising))


def _detail(case: Case, plan: Plan) -> Iterator[Block]:
    p = case.p(RULE)
    yield Paragraph(msg(f"pathway.{plan.pathway}"))
    key = f"step.{plan.row}"
    if plan.row in (Row.LINE_1, Row.LINE_2, Row.LINE_3):
        key = f"{key}.{'crs-mas' if plan.pathway is Pathway.CRS_MAS else 'iec-hs'}"
    yield Paragraph(
        msg(
            key,
            hours=p.int("assessment_hours"),
            dexamethasone=Amount(p["dexamethasone_mg"], "mg"),
            anakinra=Amount(p["anakinra_mg_per_kg"], "mg/kg"),
            second=Amount(p["anakinra_second_mg"], "mg"),
            etoposide=Amount(p["etoposide_mg_per_m2"], "mg/m2"),
            apart=case.p("grading.iec-hs").int("trend_min_hours"),
        )
    )
    computed = plan.state.grade
    if computed is not None and computed < plan.grade:
        yield Bullet(msg("by-clinician", grade=plan.grade, computed=computed))
    hours = plan.hours_at(case.now)
    if hours is not None and plan.since is not None:
        yield Bullet(msg("running", line=plan.line, hours=int(hours), since=plan.since))
    if plan.escalated_early:
        yield Bullet(msg("early"))
    if plan.rising is not None:
        yield Bullet(msg("rising" if plan.rising else "not-rising"))
    for dose in _doses(case, plan):
        name = Name(dose.drug)
        if dose.mg is not None:
            yield Bullet(msg("dose", drug=name, dose=Amount(dose.mg, "mg")))
        else:
            yield Bullet(msg("dose.unknown", drug=name))
        if dose.drug == "anakinra":
            yield from _anakinra_note(case)
        if dose.drug == "ruxolitinib":
            for inhibitor in _inhibitors(case)[:1]:
                yield Bullet(_interaction_fault(inhibitor, case).summary)
        if dose.drug == "emapalumab":
            yield Bullet(msg("emapalumab-label"))
    if plan.row is Row.LINE_3:
        yield Bullet(msg("etoposide"))
    icans = icans_now(case)
    if icans is not None and icans.low and plan.row is not Row.OBSERVE:
        yield Bullet(msg("intrathecal"))
    if plan.row in (Row.LINE_3, Row.BEYOND):
        yield Bullet(msg("adsorption"))


def _anakinra_note(case: Case) -> Iterator[Block]:
    p = case.p(RULE)
    if is_adult(case):
        low, high = p["anakinra_text_low_mg_day"], p["anakinra_text_high_mg_day"]
        figures: dict[str, Shown] = {
            "low": Amount(low, "mg"),
            "high": Amount(high, "mg"),
            "first": Amount(p["anakinra_mg_per_kg"], "mg/kg"),
            "second": Amount(p["anakinra_second_mg"], "mg"),
        }
        yield Bullet(Message("anakinra-conflict", figures))
    elif is_adult(case) is False:
        yield Bullet(msg("anakinra-child"))


def _values(case: Case, plan: Plan) -> dict[str, Value]:
    values: dict[str, Value] = {
        "row": plan.row.value,
        "pathway": plan.pathway.value,
        "line": plan.line,
        "iec_hs_grade": plan.grade,
    }
    hours = plan.hours_at(case.now)
    if hours is not None:
        values["hours_on_line"] = hours.quantize(Decimal("0.1"))
    if plan.rising is not None:
        values["ferritin_rising"] = plan.rising
    if plan.response:
        values["response"] = plan.response
    for dose in _doses(case, plan):
        if dose.mg is not None:
            values[f"{dose.drug}_mg"] = dose.mg
    if plan.escalated_early:
        values["escalated_early"] = True
    return values


def _evidence(case: Case, plan: Plan) -> tuple[Evidence, ...]:
    facts = [*ferritin_evidence(case), *(of_drug_start(d) for d in plan.drugs)]
    facts += [e for dose in _doses(case, plan) for e in dose.evidence]
    return tuple(dict.fromkeys(facts))


@rule(RULE)
def advise_iec_hs(case: Case) -> Iterator[Finding]:
    """On patient-view the line of therapy; on order hooks the drafts it concerns."""
    if case.ordering:
        yield from _on_orders(case)
        return
    plan = iec_hs_plan(case)
    if plan is None:
        return
    indicator = Indicator.CRITICAL if plan.grade >= 3 else Indicator.WARNING
    if plan.row in (Row.OBSERVE, Row.WAIT):
        indicator = Indicator.INFO
    missing = [m for dose in _doses(case, plan) for m in dose.missing]
    if plan.row is Row.FERRITIN_MISSING:
        missing.append(Missing("ferritin"))
    outcome = _OUTCOMES.get(plan.row, Outcome.ADVISE)
    if plan.row is Row.LINE_1 and plan.pathway is Pathway.UNDETERMINED:
        outcome = Outcome.ASK
    yield Finding(
        rule=RULE,
        outcome=outcome,
        indicator=indicator,
        summary=msg("summary.step", grade=plan.grade),
        detail=tuple(_detail(case, plan)),
        grade=plan.grade,
        values=_values(case, plan),
        evidence=_evidence(case, plan),
        missing=tuple(dict.fromkeys(missing)),
        suggestions=_suggestions(case, plan),
        selection=Selection.ANY,
    )


# --- order checks


@dataclass(frozen=True, slots=True)
class Fault:
    row: str
    outcome: Outcome
    indicator: Indicator
    summary: Message


def _concerned(case: Case, draft: DrugRecord) -> bool:
    """The draft is for hyperinflammation, or for no stated reason while IEC-HS is at least possible."""
    if not draft.reasons.isdisjoint(OWN_REASONS):
        return True
    if draft.reasons:
        return False
    state = iec_hs_now(case)
    return state is not None and (state.established or state.status.rank >= Status.POSSIBLE.rank)


def _on_orders(case: Case) -> Iterator[Finding]:
    if case.chart.course.last_infused is None:
        return
    plan = iec_hs_plan(case)
    for draft in case.judged_drugs(*_ANTI_IL6):
        if plan is not None and plan.pathway is Pathway.IEC_HS and _crs_over(case):
            name = Name(next(d for d in _ANTI_IL6 if d in draft.concepts))
            fault = Fault("anti-il6", Outcome.REVIEW, Indicator.WARNING, msg("summary.anti-il6", drug=name))
            yield _finding(case, plan, draft, [fault])
    for draft in case.judged_drugs("anakinra", *_LATER_LINES):
        if not _concerned(case, draft):
            continue
        faults = [
            *_dose_faults(case, plan, draft),
            *_interaction(case, draft),
            *_line_faults(case, plan, draft),
        ]
        if "etoposide" in draft.concepts:
            faults.append(Fault("etoposide", Outcome.INFO, Indicator.INFO, msg("summary.etoposide")))
        unreadable = _unreadable(case, draft)
        if unreadable is not None and "methylprednisolone" not in draft.concepts:
            fault = Fault("dose", Outcome.CANNOT_CHECK, Indicator.WARNING, msg("summary.cannot-check"))
            yield _finding(case, plan, draft, [fault, *faults], unreadable)
        elif faults or "methylprednisolone" not in draft.concepts:
            yield _finding(case, plan, draft, faults)
    for draft in case.judged_drugs("dexamethasone"):
        if _treats_iec_hs(case, draft):
            yield _check_dexamethasone(case, plan, draft)
    for draft in case.judged_drugs(*case.p(RULE).words("strong_cyp3a4")):
        taking = [d for d in _ruxolitinib(case) if d.reference != draft.reference]
        if any(_concerned(case, d) or not d.reasons for d in taking):
            yield _finding(case, plan, draft, [_interaction_fault(draft, case)])


def _treats_iec_hs(case: Case, draft: DrugRecord) -> bool:
    """A systemic dexamethasone for IEC-HS: named so, or without a reason where neither CRS nor ICANS asks
    for one (their rules judge it then)."""
    if not in_crs_steroids(draft):
        return False
    if not draft.reasons.isdisjoint(OWN_REASONS):
        return True
    state, icans = iec_hs_now(case), icans_now(case)
    if draft.reasons or state is None or not state.established:
        return False
    return _crs_over(case) and not (icans is not None and icans.low)


def _check_dexamethasone(case: Case, plan: Plan | None, draft: DrugRecord) -> Finding:
    """The daily dose: an adult's by text and figure, a child's by body surface."""
    p = case.p(RULE)
    right, mg = dexamethasone_dose(case), _drafted_mg(case, draft)
    if mg is None or right.mg is None:
        fault = Fault("dose", Outcome.CANNOT_CHECK, Indicator.WARNING, msg("summary.cannot-check"))
        return _finding(case, plan, draft, [fault], _unread(case, draft) if mg is None else right.missing)
    low, high = right.mg, right.mg
    if is_adult(case):
        mas = plan is not None and plan.pathway is not Pathway.IEC_HS
        low = p["dexamethasone_low_mg_day"]
        high = p["dexamethasone_crs_mas_high_mg_day" if mas else "dexamethasone_high_mg_day"]
    rhythm = doses_per_day(draft.timing)
    daily = mg * (rhythm or 1)
    share = p["tolerance_pct"] / 100
    shown: dict[str, Shown] = {
        "drug": Name("dexamethasone"),
        "dose": Amount(mg.quantize(Decimal("0.1")), "mg"),
    }
    faults = []
    if daily > high * (1 + share):
        indicator = Indicator.CRITICAL if daily > 2 * high else Indicator.WARNING
        text = Message("summary.daily", {**shown, "limit": Amount(high, "mg")})
        faults.append(Fault("steroid", Outcome.OVER_MAXIMUM, indicator, text))
    elif rhythm is not None and daily < low * (1 - share):
        text = Message("summary.daily-low", {**shown, "limit": Amount(low, "mg")})
        faults.append(Fault("steroid", Outcome.WRONG_DOSE, Indicator.WARNING, text))
    return _finding(case, plan, draft, faults)


def _crs_over(case: Case) -> bool:
    """CRS is graded 0 now, has given way to IEC-HS, or had resolved when last documented."""
    state = crs_now(case)
    if state.low is not None:
        return state.low == 0 or iec_hs_leads(case, state)
    return crs_course(case, case.now).course in (Course.RESOLVED, Course.NEVER, Course.UNDOCUMENTED)


def _ruxolitinib(case: Case) -> tuple[DrugRecord, ...]:
    records = (*case.chart.active_drugs("ruxolitinib"), *case.chart.drafts.drugs.of("ruxolitinib"))
    return tuple(d for d in records if d.route is not Route.TOPICAL)


def _interaction_fault(inhibitor: DrugRecord, case: Case) -> Fault:
    word = next(w for w in case.p(RULE).words("strong_cyp3a4") if w in inhibitor.concepts)
    return Fault("cyp3a4", Outcome.REVIEW, Indicator.WARNING, msg("summary.cyp3a4", inhibitor=Name(word)))


def _interaction(case: Case, draft: DrugRecord) -> Iterator[Fault]:
    if "ruxolitinib" not in draft.concepts or draft.route is Route.TOPICAL:
        return
    for inhibitor in _inhibitors(case)[:1]:
        yield _interaction_fault(inhibitor, case)


def _line_faults(case: Case, plan: Plan | None, draft: DrugRecord) -> Iterator[Fault]:
    """A later line drafted while the first is still being assessed."""
    if plan is None or plan.line != 1 or plan.grade > 3 or "anakinra" in draft.concepts:
        return
    if "methylprednisolone" in draft.concepts and tier_of(case, draft) is not Tier.MP:
        return
    hours = plan.hours_at(case.now)
    limit = case.p(RULE)["assessment_hours"]
    if hours is not None and hours < limit:
        yield Fault(
            "window",
            Outcome.TOO_EARLY,
            Indicator.INFO,
            msg("summary.window", drug=Name(_drug(draft)), hours=int(hours), limit=int(limit)),
        )


def _drug(draft: DrugRecord) -> str:
    return next(d for d in _JUDGED if d in draft.concepts)


def _drafted_mg(case: Case, draft: DrugRecord) -> Decimal | None:
    """Dose of one administration in mg, doses per kg or m2 by the current measures."""
    amount = draft.dose.amount if draft.dose is not None else None
    if amount is None:
        return None
    if amount.unit == "mg":
        return amount.value
    if amount.unit == "mg/kg":
        weight = dosing_weight(case).value
        return None if weight is None else amount.value * weight
    if amount.unit == "mg/m2":
        area = body_surface(case).value
        return None if area is None else amount.value * area
    return None


def _unread(case: Case, draft: DrugRecord) -> tuple[Missing, ...]:
    """What a draft without a dose in mg lacks: a readable dose, or the measure that it is written by."""
    amount = draft.dose.amount if draft.dose is not None else None
    if amount is not None and amount.unit == "mg/kg":
        return dosing_weight(case).missing
    if amount is not None and amount.unit == "mg/m2":
        return body_surface(case).missing
    return (unread_dose(draft, _drug(draft)),)


def _unreadable(case: Case, draft: DrugRecord) -> tuple[Missing, ...] | None:
    """What keeps the dose from being read or compared; None where it was judged."""
    if _drafted_mg(case, draft) is None:
        return _unread(case, draft)
    right = _right(case, iec_hs_plan(case), draft)
    return right.missing or None if right.mg is None else None


def _right(case: Case, plan: Plan | None, draft: DrugRecord) -> Dose:
    """The dose of the sources that the draft is held against."""
    drug = _drug(draft)
    if drug == "anakinra":
        return anakinra_second(case) if plan is not None and plan.line >= 1 else anakinra_first(case)
    if drug == "dexamethasone":
        return dexamethasone_dose(case)
    if drug == "ruxolitinib":
        return ruxolitinib_dose(case)
    if drug == "etoposide":
        return etoposide_dose(case)
    if drug == "emapalumab":
        first = first_emapalumab(case, plan.state) if plan is not None else None
        begun = first.timing.first.first_date if first is not None and first.timing.first else None
        starts = draft.timing.first
        return emapalumab_dose(case, begun, case.today if starts is None else starts.first_date)
    return Dose(drug, None)


def _bounds(case: Case, plan: Plan | None, draft: DrugRecord, right: Decimal) -> tuple[Decimal, Decimal]:
    """Least and most that the sources let one dose be."""
    p = case.p(RULE)
    drug = _drug(draft)
    if drug == "anakinra":
        first = anakinra_first(case).mg or right
        low = min(first, p["anakinra_text_low_mg_day"] / 4 if is_adult(case) else first)
        if is_adult(case):
            return low, max(first, p["anakinra_second_mg"], p["anakinra_text_high_mg_day"] / 2)
        weight = dosing_weight(case).value
        most = p["anakinra_second_mg"]
        if weight is not None:
            most = min(most, p["anakinra_child_max_mg_per_kg_dose"] * weight)
        return low / 2, max(most, right)
    if drug == "etoposide":
        per = p["etoposide_mg_per_m2"]
        return right * p["etoposide_low_mg_per_m2"] / per, right * p["etoposide_high_mg_per_m2"] / per
    if drug == "ruxolitinib":
        if plan is None or not own_drugs(case, plan.state, "ruxolitinib"):
            return right, right
        # what runs may rise; a child's, for which no end is given, to the dose from 14 years on
        return right, p["ruxolitinib_max_mg"] if right >= p["ruxolitinib_mg"] else p["ruxolitinib_mg"]
    first_step = emapalumab_dose(case, None, case.today).mg or right
    return min(first_step, right), right


def _dose_faults(case: Case, plan: Plan | None, draft: DrugRecord) -> Iterator[Fault]:
    if "methylprednisolone" in draft.concepts:
        return
    mg, right = _drafted_mg(case, draft), _right(case, plan, draft).mg
    if mg is None or right is None:
        return
    p = case.p(RULE)
    low, high = _bounds(case, plan, draft, right)
    share = p["tolerance_pct"] / 100
    shown: dict[str, Shown] = {"drug": Name(_drug(draft)), "dose": Amount(mg.quantize(Decimal("0.1")), "mg")}
    per_day = doses_per_day(draft.timing)
    most_day = high * p[f"{_drug(draft)}_doses_day"] if _drug(draft) in _LIMITED_A_DAY else None
    if mg > high * (1 + share):
        indicator = Indicator.CRITICAL if mg > 2 * high else Indicator.WARNING
        limit = Amount(high.quantize(Decimal("0.1")), "mg")
        yield Fault(
            "maximum", Outcome.OVER_MAXIMUM, indicator, Message("summary.maximum", {**shown, "limit": limit})
        )
    elif most_day is not None and per_day is not None and mg * per_day > most_day * (1 + share):
        limit = Amount(most_day.quantize(Decimal("0.1")), "mg")
        yield Fault(
            "maximum",
            Outcome.OVER_MAXIMUM,
            Indicator.WARNING,
            Message("summary.daily", {**shown, "limit": limit}),
        )
    elif mg < low * (1 - share):
        amount = Amount(right, "mg")
        yield Fault(
            "low", Outcome.WRONG_DOSE, Indicator.WARNING, Message("summary.low", {**shown, "right": amount})
        )


def _finding(
    case: Case,
    plan: Plan | None,
    draft: DrugRecord,
    faults: list[Fault],
    missing: tuple[Missing, ...] = (),
) -> Finding:
    faults = sorted(faults, key=lambda f: -f.indicator.rank)
    values: dict[str, Value] = {"row": faults[0].row if faults else "pass"}
    if plan is not None:
        values |= {"pathway": plan.pathway.value, "line": plan.line, "iec_hs_grade": plan.grade}
        hours = plan.hours_at(case.now)
        if hours is not None:
            values["hours_on_line"] = hours.quantize(Decimal("0.1"))
    if draft.is_any(frozenset(_JUDGED)):
        mg, right = _drafted_mg(case, draft), _right(case, plan, draft).mg
        if mg is not None:
            values["drafted_mg"] = mg
        if right is not None:
            values["dose_mg"] = right
    detail: list[Block] = [Paragraph(f.summary) for f in faults[1:]]
    hours_on = case.p(RULE).int("assessment_hours")
    detail += [Bullet(msg(f"check.{f.row}", hours=hours_on)) for f in faults]
    if "anakinra" in draft.concepts:
        detail += _anakinra_note(case)
    cannot = bool(faults) and faults[0].outcome is Outcome.CANNOT_CHECK
    return Finding(
        rule=RULE,
        outcome=faults[0].outcome if faults else Outcome.PASS,
        indicator=faults[0].indicator if faults else None,
        summary=faults[0].summary if faults else msg("summary.pass"),
        subject=draft.reference,
        detail=tuple(detail),
        grade=None if plan is None else plan.grade,
        values=values,
        evidence=() if plan is None else _evidence(case, plan),
        missing=missing,
        resource=draft.reference,
        suggestions=_replacement(case, plan, draft, faults),
        unconcluded=cannot,
    )


def _replacement(
    case: Case, plan: Plan | None, draft: DrugRecord, faults: list[Fault]
) -> tuple[Suggestion, ...]:
    """The dose of the sources in place of a draft with another one."""
    wrong = {f.row for f in faults} & {"maximum", "low", "steroid"}
    if not wrong or draft.state is not DrugState.DRAFT or not draft.is_any(frozenset(_JUDGED)):
        return ()
    p = case.p(RULE)
    days = {"anakinra": p.int("anakinra_days"), "dexamethasone": p.int("steroid_days")}
    right = proposal(case, _right(case, plan, draft), days=days.get(_drug(draft)), recommended=True)
    if right is None:
        return ()
    return (Suggestion("replace", right.label, (Delete(draft.reference), *right.actions), True),)
