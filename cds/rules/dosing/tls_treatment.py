"""Treatment of tumour lysis: rasburicase course, urine target, dialysis (BCSH 2015)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from cards.finding import (
    Block,
    Bullet,
    Create,
    Delete,
    DrugProposal,
    Evidence,
    Finding,
    Heading,
    Indicator,
    Items,
    Message,
    Missing,
    Outcome,
    Paragraph,
    Repeat,
    Selection,
    ServiceProposal,
    Suggestion,
    msg,
)
from cds.engine.case import Case
from cds.engine.rule import rule
from cds.rules.after_cart import dosing_weight, in_icu, inpatient, unread_dose
from cds.rules.body_size import surface
from cds.rules.dosing.steroid_course import doses_per_day
from cds.rules.dosing.tls_drugs import (
    order_g6pd,
    rasburicase_daily,
    rasburicase_daily_mg,
    rasburicase_days,
    rasburicase_excluded,
)
from cds.rules.evidence import of_drug_start, of_fact, of_observation
from cds.rules.g6pd import G6pd, g6pd_state
from cds.rules.grading.fever import hours
from cds.rules.grading.tls_state import TlsState, beyond_limit, series_of, tls_state
from cds.rules.urine import UrineOutput, urine_output
from fhir_mapping.chart import Amount, ConditionState, DrugRecord, DrugState, Flag, Route, ServiceOrder

RULE = "dosing.tls-treatment"
Value = str | int | bool | Decimal | date | datetime


class UrineStatus(StrEnum):
    """Against the handbook's target and the published one."""

    MET = "met"
    BETWEEN = "between"  # the published target, not the handbook's
    NOT_MET = "not-met"
    BELOW_HANDBOOK = "below-handbook"  # not the handbook's; the other cannot be computed
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Urine:
    status: UrineStatus
    per_kg: Decimal | None
    per_m2: Decimal | None
    output: UrineOutput | None


def urine_status(case: Case) -> Urine:
    """Mean of the last 6 h against both targets; which one is the handbook's depends on the age."""
    p = case.p(RULE)
    output = urine_output(case, p["urine_window_hours"])
    if output is None:
        return Urine(UrineStatus.UNKNOWN, None, None, None)
    days = case.p("grading.crs").int("weight_age_inpatient_days" if inpatient(case) else "weight_age_days")
    weight, area = dosing_weight(case).value, surface(case, days).value
    per_hour = output.ml_h
    if per_hour is None and output.ml_kg_h is not None and weight is not None:
        per_hour = output.ml_kg_h * weight
    per_kg = output.ml_kg_h
    if per_kg is None and per_hour is not None and weight is not None:
        per_kg = per_hour / weight
    per_m2 = per_hour / area if per_hour is not None and area is not None else None
    age = case.chart.patient.age(case.today)
    if age is None or (age[0] < p["infant_below_years"] <= age[1]):
        return Urine(UrineStatus.UNKNOWN, per_kg, per_m2, output)
    infant = age[1] < p["infant_below_years"]
    own, other = (per_m2, per_kg) if infant else (per_kg, per_m2)
    own_limit, other_limit = p["urine_ml_kg_h"], p["urine_ml_m2_h"]
    if infant:
        own_limit, other_limit = other_limit, own_limit
    if own is not None and own > own_limit:
        return Urine(UrineStatus.MET, per_kg, per_m2, output)
    if other is None:
        status = UrineStatus.UNKNOWN if own is None else UrineStatus.BELOW_HANDBOOK
    elif other > other_limit or (not infant and other == other_limit):
        status = UrineStatus.UNKNOWN if own is None else UrineStatus.BETWEEN
    else:
        status = UrineStatus.UNKNOWN if own is None else UrineStatus.NOT_MET
    return Urine(status, per_kg, per_m2, output)


# --- dialysis


def dialysis_indications(case: Case, state: TlsState) -> tuple[tuple[str, tuple[Evidence, ...]], ...]:
    """Indications on the chart, as (catalogue key, facts)."""
    p = case.p(RULE)
    found: list[tuple[str, tuple[Evidence, ...]]] = []
    for condition in case.chart.conditions.of("fluid_overload"):
        if condition.state is not ConditionState.ACTIVE:
            continue
        stated = case.chart.latest("fluid_overload")
        answer = stated.component("intractable") if stated is not None else None
        if answer is not None and answer.yes:
            found.append(("dialysis.fluid", (of_fact(condition, "fluid_overload"),)))
    overload = case.chart.latest("fluid_overload")
    if overload is not None and not found:
        answer = overload.component("intractable")
        if answer is not None and answer.yes:
            found.append(("dialysis.fluid", (of_observation(overload),)))
    potassium = case.chart.series("potassium").latest(case.now, timedelta(days=1))
    quantity = None if potassium is None else potassium.value.quantity
    if potassium is not None and quantity is not None and quantity.at_least(p["dialysis_potassium_mmol_l"]):
        found.append(("dialysis.potassium", (of_observation(potassium),)))
    begun = _first_rasburicase(case, state)
    if begun is not None and case.now - begun >= hours(p["refractory_hours"]):
        for analyte in ("uric_acid", "phosphate", "calcium"):
            newest = series_of(case, analyte, case.now - timedelta(days=1))
            if newest and beyond_limit(case, analyte, newest[-1]):
                found.append((f"dialysis.{analyte}", (of_observation(newest[-1]),)))
        creatinine = [
            o
            for o in case.chart.series("creatinine").between(begun - timedelta(days=1), case.now)
            if o.value.quantity is not None and not o.value.quantity.comparator
        ]
        if len(creatinine) > 1:
            first, last = creatinine[0].value.quantity, creatinine[-1].value.quantity
            if first is not None and last is not None and last.value > first.value:
                found.append(("dialysis.renal", (of_observation(creatinine[-1]),)))
    return tuple(found)


def _first_rasburicase(case: Case, state: TlsState) -> datetime | None:
    firsts = [
        d.timing.first.earliest
        for d in case.chart.administrations("rasburicase")
        if d.timing.first is not None and d.timing.first.latest >= state.begun
    ]
    return min(firsts, default=None)


# --- rasburicase


def course_days(case: Case) -> tuple[date, ...]:
    """Days of the rasburicase course: calendar days with a dose in the last fortnight."""
    return rasburicase_days(case, case.now - timedelta(days=14))


def _rasburicase(case: Case) -> tuple[str, Suggestion | None]:
    """Catalogue key of the rasburicase line, and its order."""
    p = case.p(RULE)
    g6pd = g6pd_state(case)
    if g6pd in (G6pd.DEFICIENT, G6pd.INTERMEDIATE):
        return "rasburicase.blocked", None
    if rasburicase_excluded(case):
        return "rasburicase.excluded", None
    days = course_days(case)
    number = len(days)
    if number >= p["rasburicase_max_days"]:
        return "rasburicase.ended", None
    today_given = bool(days) and days[-1] == case.today
    key = "rasburicase.continue" if number < p["rasburicase_min_days"] else "rasburicase.response"
    if g6pd is G6pd.UNKNOWN:
        key = "rasburicase.unknown"
    if today_given:
        return key, None
    left = p.int("rasburicase_min_days") - number
    recommended = g6pd is G6pd.NORMAL
    return key, rasburicase_daily(case, left, recommended=recommended)


# --- the rule


@rule(RULE)
def treat_tls(case: Case) -> Iterator[Finding]:
    """On patient-view while TLS is present (rides on its card); on order-sign rasburicase and dialysis."""
    state = tls_state(case)
    if case.ordering:
        yield from _on_orders(case, state)
        return
    if state is None or not state.syndrome:
        return
    urine = urine_status(case)
    indications = dialysis_indications(case, state)
    key, order = _rasburicase(case)
    missing = list(dosing_weight(case).missing)
    if g6pd_state(case) is G6pd.UNKNOWN:
        missing.append(Missing("g6pd"))
    if urine.output is None:
        missing.append(Missing("urine_output"))
    elif case.chart.patient.age(case.today) is None:
        missing.append(Missing("birth_date"))
    mg = rasburicase_daily_mg(case)
    values: dict[str, Value] = {
        "row": state.level.value,
        "rasburicase_days_given": len(course_days(case)),
        "g6pd": g6pd_state(case).value,
        "urine_status": urine.status.value,
        "dialysis_indicated": bool(indications),
    }
    if mg is not None and order is not None:
        values["dose_mg"] = mg
    if urine.per_kg is not None:
        values["urine_ml_kg_h"] = round(urine.per_kg, 2)
    if urine.per_m2 is not None:
        values["urine_ml_m2_h"] = round(urine.per_m2, 1)
    if indications:
        values["dialysis_indications"] = " ".join(k.removeprefix("dialysis.") for k, _ in indications)
    yield Finding(
        rule=RULE,
        outcome=Outcome.ADVISE,
        indicator=Indicator.CRITICAL,
        summary=msg("summary.treat"),
        detail=tuple(_detail(case, urine, indications, key)),
        values=values,
        evidence=(
            *(of_drug_start(d) for d in case.chart.administrations("rasburicase")),
            *(urine.output.evidence if urine.output is not None else ()),
            *(e for _, facts in indications for e in facts),
            *dosing_weight(case).evidence,
        ),
        missing=tuple(dict.fromkeys(missing)),
        suggestions=_suggestions(case, order),
        selection=Selection.ANY,
    )


def _detail(
    case: Case, urine: Urine, indications: tuple[tuple[str, tuple[Evidence, ...]], ...], key: str
) -> Iterator[Block]:
    p = case.p(RULE)
    yield Bullet(msg("place"))
    yield Bullet(msg("fluids"))
    mg = rasburicase_daily_mg(case)
    least = {"least": p.int("rasburicase_min_days")} if key == "rasburicase.continue" else {}
    yield Bullet(msg(key, days=len(course_days(case)), most=p.int("rasburicase_max_days"), **least))
    if mg is not None and key not in ("rasburicase.blocked", "rasburicase.excluded"):
        per, weight = Amount(p["rasburicase_mg_per_kg"], "mg/kg"), dosing_weight(case).value
        if weight is not None:
            yield Bullet(msg("rasburicase.dose", dose=Amount(mg, "mg"), per=per, weight=Amount(weight, "kg")))
    yield Bullet(_urine_text(case, urine))
    yield Bullet(
        msg(
            "urine.targets",
            per_kg=Amount(p["urine_ml_kg_h"], "mL/kg/h"),
            per_m2=Amount(p["urine_ml_m2_h"], "mL/m2/h"),
        )
    )
    yield Bullet(msg("calcium"))
    if indications:
        yield Heading(msg("dialysis.heading"))
        for indication, _ in indications:
            yield Bullet(_indication(case, indication))
        potassium = case.chart.series("potassium").latest(case.now, timedelta(days=1))
        if potassium is not None and Flag.HAEMOLYSED in potassium.flags:
            yield Bullet(msg("dialysis.haemolysed"))
    else:
        yield Bullet(_no_indication(case))
    yield Bullet(msg("dialysis.peritoneal"))


def _indication(case: Case, key: str) -> Message:
    p = case.p(RULE)
    if key == "dialysis.potassium":
        return msg(key, limit=Amount(p["dialysis_potassium_mmol_l"], "mmol/L"))
    return msg(key) if key == "dialysis.fluid" else msg(key, hours=p.int("refractory_hours"))


def _no_indication(case: Case) -> Message:
    p = case.p(RULE)
    return msg(
        "dialysis.none",
        limit=Amount(p["dialysis_potassium_mmol_l"], "mmol/L"),
        hours=p.int("refractory_hours"),
    )


def _urine_text(case: Case, urine: Urine) -> Message:
    key = f"urine.{urine.status.value}"
    if urine.status is UrineStatus.UNKNOWN:
        return msg(key, hours=case.p(RULE).int("urine_window_hours"))
    shown = [
        Amount(round(value, places), unit)
        for value, places, unit in ((urine.per_kg, 2, "mL/kg/h"), (urine.per_m2, 1, "mL/m2/h"))
        if value is not None
    ]
    if len(shown) == 2:
        return msg(f"{key}.both", per_kg=shown[0], per_m2=shown[1])
    return msg(key, rate=shown[0])


def _suggestions(case: Case, rasburicase: Suggestion | None) -> tuple[Suggestion, ...]:
    found: list[Suggestion] = []
    if rasburicase is not None:
        if g6pd_state(case) is G6pd.UNKNOWN:
            found.append(order_g6pd(RULE, recommended=True))
        found.append(rasburicase)
    if in_icu(case) is not True:
        transfer = ServiceProposal("icu_transfer", reason="tls")
        found.append(Suggestion("icu-transfer", msg("suggest.icu"), (Create(transfer),)))
    fluid = DrugProposal(
        "crystalloid",
        Route.INTRAVENOUS,
        repeat=Repeat(),
        reason="tls",
        note=Message("note.fluid", {}, RULE),
    )
    found.append(Suggestion("fluid", msg("suggest.fluid"), (Create(fluid),)))
    consult = ServiceProposal("nephrology_consult", reason="tls")
    found.append(Suggestion("nephrology", msg("suggest.nephrology"), (Create(consult),)))
    return tuple(found)


# --- orders


def _course(case: Case) -> Message:
    p = case.p(RULE)
    return msg(
        "course",
        per=Amount(p["rasburicase_mg_per_kg"], "mg/kg"),
        least=p.int("rasburicase_min_days"),
        most=p.int("rasburicase_max_days"),
    )


def _on_orders(case: Case, state: TlsState | None) -> Iterator[Finding]:
    """Rasburicase beyond its course, or not at the treatment dose while TLS is present; dialysis with its
    indications."""
    p = case.p(RULE)
    if state is not None and state.syndrome:
        for order in case.judged_services("dialysis", "hemodialysis"):
            if "peritoneal_dialysis" not in order.concepts:
                yield _dialysis_order(case, order, state)
    for draft in case.judged_drugs("rasburicase"):
        day = _course_day(case, draft)
        if day is not None and day > p["rasburicase_max_days"]:
            yield _order(
                case,
                draft,
                Outcome.REVIEW,
                msg("summary.beyond", day=day, most=p.int("rasburicase_max_days")),
                {"row": "days", "course_day": day},
            )
        elif state is not None and state.syndrome:
            yield from _dose(case, draft)


def _dialysis_order(case: Case, order: ServiceOrder, state: TlsState) -> Finding:
    """The indications that the chart shows for a drafted dialysis; none is information, not a fault: there
    are other reasons for dialysis."""
    indications = dialysis_indications(case, state)
    named = Items(tuple(_indication(case, key) for key, _ in indications))
    return Finding(
        rule=RULE,
        outcome=Outcome.PASS if indications else Outcome.REVIEW,
        indicator=Indicator.INFO,
        summary=(msg("summary.dialysis", indications=named) if indications else msg("summary.dialysis-none")),
        subject=order.reference,
        detail=(Paragraph(_no_indication(case)),) if not indications else (),
        values={
            "row": "dialysis",
            "dialysis_indicated": bool(indications),
            "dialysis_indications": " ".join(k.removeprefix("dialysis.") for k, _ in indications) or "none",
        },
        evidence=tuple(e for _, facts in indications for e in facts),
        resource=order.reference,
    )


def _course_day(case: Case, draft: DrugRecord) -> int | None:
    """Day number of the last planned dose, counting calendar days with a dose."""
    given = set(course_days(case))
    planned = {m.first_date for m in draft.timing.doses}
    first = draft.timing.first
    planned |= {case.today if first is None else max(first.first_date, case.today)} if not planned else set()
    return len(given | planned)


def _dose(case: Case, draft: DrugRecord) -> Iterator[Finding]:
    """The dose of a day against 0.2 mg/kg."""
    p = case.p(RULE)
    amount = draft.dose.amount if draft.dose is not None else None
    right = rasburicase_daily_mg(case)
    if amount is None or amount.unit not in ("mg", "mg/kg"):
        yield _unchecked(case, draft, (unread_dose(draft, "rasburicase"),))
        return
    needed = p["rasburicase_mg_per_kg"] if amount.unit == "mg/kg" else right
    if needed is None:
        yield _unchecked(case, draft, dosing_weight(case).missing)
        return
    daily = amount.value * (doses_per_day(draft.timing) or 1)
    if abs(daily - needed) * 100 > needed * p["tolerance_pct"]:
        yield _order(
            case,
            draft,
            Outcome.WRONG_DOSE,
            msg("summary.dose", dose=Amount(daily, amount.unit), right=Amount(needed, amount.unit)),
            {"row": "dose", "dose_mg": daily, "needed_mg": needed},
        )


def _unchecked(case: Case, draft: DrugRecord, missing: tuple[Missing, ...]) -> Finding:
    return _order(case, draft, Outcome.CANNOT_CHECK, msg("summary.cannot-check"), {"row": "dose"}, missing)


def _order(
    case: Case,
    draft: DrugRecord,
    outcome: Outcome,
    summary: Message,
    values: dict[str, Value],
    missing: tuple[Missing, ...] = (),
) -> Finding:
    suggestions: tuple[Suggestion, ...] = ()
    if outcome is Outcome.WRONG_DOSE and draft.state is DrugState.DRAFT:
        right = rasburicase_daily(case, 1, recommended=True)
        suggestions = (Suggestion("replace", right.label, (Delete(draft.reference), *right.actions), True),)
    return Finding(
        rule=RULE,
        outcome=outcome,
        indicator=Indicator.WARNING,
        summary=summary,
        subject=draft.reference,
        detail=(Paragraph(_course(case)),),
        values=values,
        evidence=(
            *(of_drug_start(d) for d in case.chart.administrations("rasburicase")),
            *dosing_weight(case).evidence,
        ),
        missing=missing,
        resource=draft.reference,
        suggestions=suggestions,
        unconcluded=outcome is Outcome.CANNOT_CHECK,
    )
