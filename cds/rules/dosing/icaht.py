"""Treatment steps of haematotoxicity after CAR-T cells (handbook figure 9) and checks of their orders."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal

from cards.finding import (
    Basis,
    Block,
    Bullet,
    Create,
    Days,
    DrugProposal,
    Evidence,
    Finding,
    Indicator,
    Message,
    Missing,
    Outcome,
    Repeat,
    ServiceProposal,
    Shown,
    Suggestion,
    msg,
)
from cds.engine.case import Case, once_per_case
from cds.engine.rule import rule
from cds.rules.after_cart import (
    dosing_weight,
    next_course_begun,
    recorded_grades,
    therapy_start,
    unread_dose,
)
from cds.rules.dosing.gcsf import (
    DAILY,
    RULE,
    course_evidence,
    gcsf_course,
    neutrophils,
    prophylaxis_due,
    refractory,
    ug_per_kg,
)
from cds.rules.dosing.steroid_course import doses_per_day
from cds.rules.evidence import of_observation
from cds.rules.grading.cart_hlh_2018 import cart_hlh
from cds.rules.grading.crs_episode import crs_now
from cds.rules.grading.fever import fevers_between
from cds.rules.grading.hlh_compare import Pathway, comparison
from cds.rules.grading.icaht_episode import icaht_now
from cds.rules.grading.icaht_risk import Risk, icaht_risk
from cds.rules.grading.iec_hs_episode import Status, iec_hs_now
from fhir_mapping.chart import Amount, ConditionState, DrugRecord, EventState, Route, ServiceOrder

Value = str | int | bool | Decimal
TPO = ("class_thrombopoietic", "romiplostim", "eltrombopag", "avatrombopag")


@once_per_case
def hyperinflammation(case: Case) -> bool:
    """IEC-HS consistent by its criteria, IEC-HS or HLH coded or graded since the infusion, or CRS/MAS."""
    start = therapy_start(case)
    if start is None:
        return False
    state = iec_hs_now(case)
    if state is not None and state.established:
        return True
    if _crs_mas(case):
        return True
    if recorded_grades(case, "iec_hs_grade", start):
        return False
    return any(
        c.state is ConditionState.ACTIVE and (c.onset is None or c.onset.latest >= start)
        for c in case.chart.conditions.of("iec_hs", "hlh")
    )


def _crs_mas(case: Case) -> bool:
    """Hyperinflammation of a CRS that treatment does not hold."""
    found, state, hlh = comparison(case), iec_hs_now(case), cart_hlh(case)
    probable = state is not None and state.status.rank >= Status.PROBABLE.rank
    needed = case.p("grading.cart-hlh-2018").int("needed")
    met = hlh is not None and bool(hlh.ferritin_met) and hlh.count >= needed
    return found is not None and found.pathway is Pathway.CRS_MAS and (probable or met)


@once_per_case
def _severe_crs(case: Case) -> bool:
    return (crs_now(case).low or 0) >= case.p(RULE).int("severe_crs_grade")


@once_per_case
def _grade(case: Case) -> int:
    """ICAHT grade of the current phase, 0 where none can be told."""
    state = icaht_now(case)
    if state is None:
        return 0
    if state.late is not None:
        return state.late.grade if state.late.grade is not None else 0
    return state.early.low if state.early is not None else 0


@once_per_case
def _worst_grade(case: Case) -> int:
    """Worst of the early and the late grade: both phases qualify for stem-cell support."""
    state = icaht_now(case)
    if state is None:
        return 0
    early = state.early.low if state.early is not None else 0
    late = state.late.grade if state.late is not None and state.late.grade is not None else 0
    return max(early, late)


@once_per_case
def _stored_cells(case: Case) -> bool | None:
    """Cryopreserved CD34+ cells available; None where the chart does not say."""
    found = case.chart.latest("cd34_product_stored")
    return None if found is None else found.value.yes


def _low(case: Case) -> bool | None:
    """ANC below the limit of treatment; None where no count, or only a bound, says."""
    count = neutrophils(case)
    return None if count is None else count.below(case.p(RULE)["therapeutic_below"])


def _boost_fits(case: Case, day: int) -> bool:
    """Grade, day and stored cells (or storage unknown) allow a stem-cell boost where G-CSF failed."""
    p = case.p(RULE)
    severe = _worst_grade(case) >= p.int("boost_from_grade")
    return severe and day > p.int("boost_after_day") and _stored_cells(case) is not False


def _done(case: Case, since: date, concept: str) -> bool:
    """A procedure of this course."""
    found = case.chart.procedures.of(concept)
    return any(p.state.begun and p.start is not None and p.start.date >= since for p in found)


def _searching(case: Case) -> bool:
    """A donor search is on the chart: ordered or done (X11)."""
    orders = case.chart.services.of("donor_search")
    ordered = any(order.state in (EventState.ACTIVE, EventState.DONE) for order in orders)
    return ordered or any(p.state.begun for p in case.chart.procedures.of("donor_search"))


@dataclass(frozen=True, slots=True)
class Step:
    """One applicable row of the table."""

    row: str
    indicator: Indicator


@once_per_case
def steps(case: Case) -> tuple[Step, ...]:
    """Applicable rows, the one that leads first."""
    day0 = case.chart.course.last_day0
    if day0 is None or case.today < day0:
        return ()
    p = case.p(RULE)
    day = (case.today - day0).days
    low = _low(case) is True
    unresponsive = low and refractory(case) is True
    found: list[Step] = []
    if (
        unresponsive
        and day > p.int("transplant_after_day")
        and _worst_grade(case) >= p.int("transplant_grade")
    ):
        found.append(Step("9", Indicator.CRITICAL))
    if unresponsive and _boost_fits(case, day) and not _done(case, day0, "stem_cell_boost"):
        found.append(Step("8", Indicator.CRITICAL))
    if unresponsive and day >= p.int("tpo_from_day"):
        found.append(Step("7", Indicator.WARNING))
    if unresponsive:
        found.append(Step("6", Indicator.WARNING))
    if low and _severe_crs(case):
        found.append(Step("5", Indicator.WARNING))
    if low and hyperinflammation(case):
        found.append(Step("4", Indicator.WARNING))
    elif low:
        febrile = bool(fevers_between(case, case.now - timedelta(hours=24), case.now))
        found.append(Step("3", Indicator.CRITICAL if febrile else Indicator.WARNING))
    elif prophylaxis_due(case):
        found.append(Step("4" if hyperinflammation(case) else "1", Indicator.INFO))
    elif _low(case) is False and icaht_risk(case) is Risk.LOW_BY_SCORE and day <= p.int("prophylaxis_to_day"):
        found.append(Step("2", Indicator.INFO))
    return tuple(found)


def _figures(case: Case) -> dict[str, Shown]:
    """The figures in force, as the texts name them."""
    p = case.p(RULE)
    return {
        "per": Amount(p["gcsf_ug_per_kg"], "ug/kg"),
        "limit": p.int("therapeutic_below"),
        "from_day": p.int("prophylaxis_from_day"),
        "days": p.int("refractory_days"),
        "tpo": p.int("tpo_from_day"),
        "boost": p.int("boost_after_day"),
        "transplant": p.int("transplant_after_day"),
    }


def _gcsf_order(case: Case, recommended: bool) -> tuple[tuple[Suggestion, ...], tuple[Missing, ...]]:
    """Filgrastim 5 ug/kg once daily SC; without a weight only the rule's text is given."""
    if gcsf_course(case).current:
        return (), ()
    weight = dosing_weight(case)
    per = case.p(RULE)["gcsf_ug_per_kg"]
    if weight.value is None:
        return (), weight.missing
    dose = (per * weight.value).quantize(Decimal("0.1"))
    order = DrugProposal(
        "filgrastim",
        Route.SUBCUTANEOUS,
        Amount(dose, "ug"),
        Basis(Amount(per, "ug/kg"), Amount(weight.value, "kg")),
        Repeat(every_hours=24),
        case.now,
        note=msg("order.until"),
    )
    label = msg("suggest.gcsf", dose=Amount(dose, "ug"))
    return (Suggestion("gcsf", label, (Create(order),), recommended),), ()


def _suggestions(case: Case, found: tuple[Step, ...]) -> tuple[tuple[Suggestion, ...], tuple[Missing, ...]]:
    rows = {step.row for step in found}
    suggestions: list[Suggestion] = []
    missing: list[Missing] = []
    if rows & {"1", "3", "4"}:
        orders, lacking = _gcsf_order(case, recommended="3" in rows and "5" not in rows)
        suggestions += orders
        missing += lacking
    if "9" in rows and not _searching(case):
        search = Create(ServiceProposal("donor_search", case.today))
        suggestions.append(Suggestion("donor-search", msg("suggest.donor-search"), (search,)))
    if "8" in rows and _stored_cells(case):
        boost = Create(ServiceProposal("stem_cell_boost", case.today))
        suggestions.append(Suggestion("boost", msg("suggest.boost"), (boost,)))
    if "8" in rows and _stored_cells(case) is None:
        missing.append(Missing("cd34_product_stored"))
    return tuple(suggestions), tuple(missing)


def _untold(case: Case) -> tuple[Missing, ...]:
    """What keeps open whether G-CSF has failed: a dose that cannot be read, a weight, or a count since it
    began."""
    if _low(case) is not True or refractory(case) is not None:
        return ()
    course = gcsf_course(case)
    if course.days_at_dose is not None:
        return (Missing("anc"),)
    unread = [r for r in course.given if r.dose is None or r.dose.amount is None]
    return (unread_dose(unread[-1], unread[-1].ingredients[0]),) if unread else dosing_weight(case).missing


def _facts(case: Case) -> tuple[dict[str, Value], tuple[Evidence, ...]]:
    course = gcsf_course(case)
    values: dict[str, Value] = {"icaht_grade": _grade(case), "gcsf_days": course.days}
    if course.days_at_dose is not None:
        values["gcsf_days_at_dose"] = course.days_at_dose
    evidence: tuple[Evidence, ...] = course_evidence(case)
    count = neutrophils(case)
    if count is not None:
        values["anc_per_ul"] = count.cells
        evidence = (of_observation(count.observation), *evidence)
    day = case.chart.course.last_day(case.today)
    if day is not None:
        values["day"] = day
    unresponsive = refractory(case)
    if unresponsive is not None:
        values["refractory"] = unresponsive
    return values, evidence


def _advice(case: Case) -> Iterator[Finding]:
    found = steps(case)
    if not found:
        return
    suggestions, missing = _suggestions(case, found)
    values, evidence = _facts(case)
    values["row"] = found[0].row
    values["rows"] = " ".join(step.row for step in found)
    weight = dosing_weight(case).value
    if weight is not None and suggestions and suggestions[0].key == "gcsf":
        values["dose_ug"] = (case.p(RULE)["gcsf_ug_per_kg"] * weight).quantize(Decimal("0.1"))
    worst = max(found, key=lambda step: step.indicator.rank)
    figures = _figures(case)
    lines: list[Block] = [Bullet(Message(f"step.{step.row}", figures)) for step in found]
    course = gcsf_course(case)
    if course.days_at_dose is not None and course.days_at_dose < course.days:
        figures_of_course = {**figures, "given": Days(course.days), "full": course.days_at_dose}
        lines.append(Bullet(Message("gcsf-below", figures_of_course)))
    yield Finding(
        rule=RULE,
        outcome=Outcome.ADVISE,
        indicator=worst.indicator,
        summary=Message(f"step.{found[0].row}", figures),
        detail=tuple(lines),
        values=values,
        evidence=evidence,
        missing=tuple(dict.fromkeys((*missing, *_untold(case)))),
        suggestions=suggestions,
    )


# --- orders


def _checked(
    draft: DrugRecord | ServiceOrder,
    outcome: Outcome,
    indicator: Indicator | None,
    summary: Message,
    case: Case,
    row: str,
) -> Finding:
    values, evidence = _facts(case)
    values["row"] = row
    return Finding(
        rule=RULE,
        outcome=outcome,
        indicator=indicator,
        summary=summary,
        detail=(Bullet(Message(f"check.{row}", _figures(case))),) if indicator is not None else (),
        values=values,
        evidence=evidence,
        subject=draft.reference,
        resource=draft.reference,
    )


def _planned_day(case: Case, draft: DrugRecord) -> int:
    """Day after the infusion on which the draft begins."""
    day0 = case.chart.course.last_day0
    begins = case.today if draft.timing.first is None else draft.timing.first.date
    return 0 if day0 is None else (begins - day0).days


def _check_gcsf(case: Case, draft: DrugRecord) -> Finding:
    p = case.p(RULE)
    day = _planned_day(case, draft)
    low = _low(case)
    if hyperinflammation(case):
        return _checked(draft, Outcome.REVIEW, Indicator.WARNING, msg("order.hyperinflammation"), case, "4")
    if not low and day < p.int("prophylaxis_from_day"):
        text = Message("order.too-early", {**_figures(case), "day": day})
        early = _checked(draft, Outcome.TOO_EARLY, Indicator.WARNING, text, case, "early")
        return replace(early, missing=(Missing("anc"),)) if low is None else early
    if DAILY & set(draft.ingredients):
        dose = ug_per_kg(case, draft)
        if dose is None:
            return _unchecked(case, draft)
        daily = dose * (doses_per_day(draft.timing) or 1)
        full = p["gcsf_ug_per_kg"]
        if daily < full * (1 - p["dose_tolerance"]):
            shown = Amount(daily.quantize(Decimal("0.1")), "ug/kg")
            text = msg("order.low-dose", dose=shown, per=Amount(full, "ug/kg"))
            return _checked(draft, Outcome.WRONG_DOSE, Indicator.WARNING, text, case, "low-dose")
    if low is False and icaht_risk(case) is Risk.LOW_BY_SCORE:
        return _checked(
            draft, Outcome.REVIEW, Indicator.INFO, Message("order.not-needed", _figures(case)), case, "2"
        )
    return _checked(draft, Outcome.PASS, None, msg("order.pass"), case, "3" if low else "1")


def _unchecked(case: Case, draft: DrugRecord) -> Finding:
    """A dose that is not written, is no mass (MU, mL, syringes), or cannot be set against a weight."""
    readable = draft.dose is not None and draft.dose.amount is not None
    missing = dosing_weight(case).missing if readable else (unread_dose(draft, draft.ingredients[0]),)
    checked = _checked(
        draft, Outcome.CANNOT_CHECK, Indicator.WARNING, msg("order.cannot-check"), case, "cannot-check"
    )
    return replace(checked, missing=missing, unconcluded=True)


def _check_tpo(case: Case, draft: DrugRecord) -> Finding:
    day = _planned_day(case, draft)
    if refractory(case) is True and day >= case.p(RULE).int("tpo_from_day"):
        return _checked(draft, Outcome.PASS, None, msg("order.pass"), case, "7")
    return _checked(
        draft, Outcome.REVIEW, Indicator.INFO, Message("order.tpo", _figures(case)), case, "7-not-met"
    )


def _check_boost(case: Case, draft: ServiceOrder) -> Finding:
    day = case.chart.course.last_day(case.today) or 0
    failed = _low(case) is True and refractory(case) is True
    if failed and _boost_fits(case, day) and _stored_cells(case):
        return _checked(draft, Outcome.PASS, None, msg("order.pass"), case, "8")
    return _checked(draft, Outcome.REVIEW, Indicator.WARNING, msg("order.boost"), case, "8-not-met")


@rule(RULE)
def treat_icaht(case: Case) -> Iterator[Finding]:
    """Advice beside the ICAHT grade; on order hooks, the order itself."""
    if case.chart.course.last_infused is None or case.chart.patient.deceased or next_course_begun(case):
        return
    if not case.ordering:
        yield from _advice(case)
        return
    for draft in case.judged_drugs("class_csf"):
        yield _check_gcsf(case, draft)
    for draft in case.judged_drugs(*TPO):
        yield _check_tpo(case, draft)
    for order in case.judged_services("stem_cell_boost"):
        yield _check_boost(case, order)
