"""Treatment of ICANS by grade and response, and checks of the orders it concerns.

Hayden PJ, Ann Oncol 2022;33:259, figure 3, as the handbook prints it. No dose is computed that the sources do
not give: anticonvulsants, hyperosmolar therapy and later lines are named without one.
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
from cds.rules.dosing.crs_ladder import Node, crs_step
from cds.rules.dosing.icans_plan import (
    RULE,
    Plan,
    Row,
    child_pulse_mg,
    dexamethasone_mg,
    icans_plan,
    low_dose_mg,
    onset_hours,
    suggestions,
)
from cds.rules.dosing.steroid_course import (
    Tier,
    dose_mg,
    doses_per_day,
    in_crs_steroids,
    off_pulse_step,
    planned_days,
    pulse_begin,
    pulse_end,
    pulse_step,
    steroid_in_force,
    tier_day,
    tier_name,
)
from cds.rules.evidence import of_drug_start
from cds.rules.grading.crs_episode import crs_applies, crs_now
from cds.rules.grading.icans_episode import Domain
from fhir_mapping.chart import Amount, DrugRecord, DrugState, Route

Value = str | int | bool | Decimal | date | datetime
_ANTICONVULSANTS = (
    "class_antiepileptics",
    "levetiracetam",
    "lorazepam",
    "diazepam",
    "midazolam",
    "clonazepam",
    "valproate",
    "phenytoin",
)


# --- texts


def _step_text(case: Case, row: str) -> Message:
    """The row as the sources print it, with the figures in force here."""
    p = case.p(RULE)
    figures: dict[str, Shown] = {
        "dose": Amount(p["dexamethasone_mg"], "mg"),
        "child": Amount(p["dexamethasone_child_mg_per_kg"], "mg/kg"),
        "early": p["early_interval_hours"],
        "early_max": p["early_interval_max_hours"],
        "early_doses": p.int("early_doses"),
        "every": p["repeat_interval_hours"],
        "every_max": p["repeat_interval_max_hours"],
        "days": p.int("tier_max_days"),
        "low": Amount(p["methylprednisolone_mg_per_kg"], "mg/kg"),
        "low_every": p["methylprednisolone_interval_hours"],
        "pulse_child": Amount(p["pulse_child_mg_per_kg"], "mg/kg"),
        "pulse_days": p.int("pulse_days"),
    }
    return Message(f"step.{row}", figures)


def _detail(case: Case, plan: Plan) -> Iterator[Block]:
    p = case.p(RULE)
    yield Paragraph(_step_text(case, plan.row.value))
    if plan.state.high is not None and plan.state.high > plan.grade and not plan.state.open_ended:
        higher = _step_text(case, str(min(plan.state.high, 4)))
        yield Paragraph(msg("range", high=plan.state.high, plan=higher))
    if plan.grade == 1 and plan.row is not Row.IMPROVED:
        key = "early.unknown" if plan.early is None else "early.yes" if plan.early else "early.no"
        yield Bullet(msg(key, hours=p.int("early_onset_hours")))
    if plan.run is not None and plan.run.tier >= Tier.D10:
        name = tier_name(case, plan.run.tier)
        yield Bullet(msg("running", tier=name, since=plan.run.start, day=plan.run.day_at(case.today)))
        over = plan.run.tier is not Tier.MP and plan.run.day_at(case.today) > p["tier_max_days"]
        if over:
            yield Bullet(msg("decide-anew", days=p.int("tier_max_days")))
    if plan.crs_tier > plan.tier:
        yield Bullet(msg("crs-tier", tier=tier_name(case, plan.crs_tier)))
    if plan.tier is Tier.MP and is_adult(case) is False:
        yield Bullet(msg("child-taper"))
    yield from _special(plan)
    yield Bullet(msg("tocilizumab"))
    yield Bullet(msg("icu.transfer" if plan.grade >= 3 else "icu.notify"))
    if plan.tier is not Tier.NONE or plan.run is not None:
        yield Bullet(msg("antifungal"))


def _special(plan: Plan) -> Iterator[Block]:
    pressure = plan.state.domain(Domain.PRESSURE)
    if pressure is not None and pressure.low >= 3:
        yield Bullet(msg("oedema"))
    seizure = plan.state.domain(Domain.SEIZURE)
    if seizure is not None and seizure.low >= 3:
        yield Bullet(msg("seizure"))
    if plan.grade >= 2:
        yield Bullet(msg("oral" if plan.grade > 2 else "oral.grade-2"))


def _missing(case: Case, plan: Plan) -> tuple[Missing, ...]:
    found: list[Missing] = []
    if is_adult(case) is None:
        found.append(Missing("birth_date"))
    by_weight = is_adult(case) is not True and (plan.tier is not Tier.NONE or plan.row is Row.G1_EARLY)
    if by_weight or plan.row is Row.G3:
        found += dosing_weight(case).missing
    if plan.row is Row.G1 and plan.early is None:
        infused = case.chart.course.last_infused
        exact = infused is not None and infused.when is not None and infused.when.exact
        found.append(Missing("icans" if exact else "car_t_infusion"))
    return tuple(found)


def _values(case: Case, plan: Plan) -> dict[str, Value]:
    values: dict[str, Value] = {
        "row": plan.row.value,
        "icans_grade": plan.grade,
        "steroid_tier": max(plan.tier, plan.crs_tier).name,
    }
    span = onset_hours(case, plan.state)
    if span is not None and span[0] == span[1]:
        values["onset_hours"] = Decimal(str(round(span[0], 2)))
    if plan.early is not None:
        values["early_onset"] = plan.early
    dexamethasone_dose = dexamethasone_mg(case)
    if plan.tier is Tier.D10 or plan.row is Row.G1_EARLY:
        if dexamethasone_dose is not None:
            values["dose_mg"] = dexamethasone_dose
        low = low_dose_mg(case)
        if plan.row is Row.G3 and low is not None:
            values["methylprednisolone_mg"] = low
    elif plan.tier is Tier.MP:
        first = pulse_step(case, 1)
        mg = first[0] if is_adult(case) and first is not None else child_pulse_mg(case)
        if mg is not None and is_adult(case) is not None:
            values["dose_mg"] = mg
    if plan.run is not None:
        values["steroid_running"] = plan.run.tier.name
    return values


def _outcome(plan: Plan) -> Outcome:
    if plan.row is Row.IMPROVED:
        return Outcome.CONTINUE
    return Outcome.CONSIDER if plan.row is Row.G1_EARLY else Outcome.ADVISE


# --- the rule


@rule(RULE)
def advise_icans(case: Case) -> Iterator[Finding]:
    """On patient-view the step (it rides on the grading card); on order hooks the drafts it concerns."""
    plan = icans_plan(case)
    if plan is None:
        return
    if case.ordering:
        yield from _on_orders(case, plan)
        return
    indicator = Indicator.CRITICAL if plan.grade >= 3 else Indicator.WARNING
    yield Finding(
        rule=RULE,
        outcome=_outcome(plan),
        indicator=indicator,
        summary=msg("summary.step", grade=plan.grade),
        detail=tuple(_detail(case, plan)),
        grade=plan.grade,
        values=_values(case, plan),
        evidence=_evidence(case, plan),
        missing=_missing(case, plan),
        suggestions=suggestions(case, plan),
        selection=Selection.ANY,
    )


def _evidence(case: Case, plan: Plan) -> tuple[Evidence, ...]:
    found = [e for d in plan.state.domains if d.low for e in d.evidence]
    if plan.run is not None:
        found += [of_drug_start(plan.run.records[0])]
    return tuple(dict.fromkeys((*found, *dosing_weight(case).evidence)))


# --- order checks


def _on_orders(case: Case, plan: Plan) -> Iterator[Finding]:
    for draft in case.judged_drugs("tocilizumab"):
        yield from _tocilizumab(case, plan, draft)
    for draft in case.judged_drugs("dexamethasone", "methylprednisolone"):
        if _for_icans(case, draft):
            yield from _steroid(case, plan, draft)
    if plan.grade >= 2:
        for draft in case.judged_drugs(*_ANTICONVULSANTS):
            if draft.route is Route.ORAL:
                yield _oral(case, plan, draft)


def _oral(case: Case, plan: Plan, draft: DrugRecord) -> Finding:
    indicator = Indicator.WARNING if plan.grade >= 3 else Indicator.INFO
    text = msg("summary.oral", grade=plan.grade)
    return _finding(case, plan, draft, Outcome.WRONG_ROUTE, indicator, text, row="oral")


def _for_icans(case: Case, draft: DrugRecord) -> bool:
    """The CRS rule judges a steroid while CRS is present, unless ICANS is its reason."""
    if not in_crs_steroids(draft):
        return False
    if "icans" in draft.reasons:
        return True
    if draft.reasons & {"crs", "iec_hs", "hlh", "gvhd", "anaphylaxis", "adrenal_insufficiency"}:
        return False
    return not (crs_applies(case) and crs_now(case).present)


def _steroid_on_its_way(case: Case) -> bool:
    drafted = any(
        in_crs_steroids(d) for d in case.chart.drafts.drugs.of("dexamethasone", "methylprednisolone")
    )
    return drafted or bool(steroid_in_force(case))


def _tocilizumab(case: Case, plan: Plan, draft: DrugRecord) -> Iterator[Finding]:
    if plan.grade < 2:
        return
    crs = crs_now(case)
    crs_grade = crs.low if crs_applies(case) else 0
    if crs_grade is None:
        yield _finding(
            case,
            plan,
            draft,
            Outcome.ASK,
            Indicator.WARNING,
            msg("summary.tocilizumab-crs-unknown", grade=plan.grade),
            row="tocilizumab",
        )
    elif crs_grade <= 1:
        yield _finding(
            case,
            plan,
            draft,
            Outcome.REVIEW,
            Indicator.WARNING,
            msg("summary.tocilizumab", grade=plan.grade, crs=crs_grade),
            row="tocilizumab",
            suggestions=_instead(case, plan, draft),
        )
    elif not _steroid_on_its_way(case):
        yield _finding(
            case,
            plan,
            draft,
            Outcome.REVIEW,
            Indicator.WARNING,
            msg("summary.steroid-missing", grade=plan.grade, crs=crs_grade),
            row="steroid-missing",
            suggestions=suggestions(case, plan),
        )


def _instead(case: Case, plan: Plan, draft: DrugRecord) -> tuple[Suggestion, ...]:
    """The step's steroid in place of the draft."""
    if draft.state is not DrugState.DRAFT:
        return suggestions(case, plan)
    found = []
    for suggestion in suggestions(case, plan):
        if suggestion.key == "icu-transfer":
            found.append(suggestion)
            continue
        actions = (Delete(draft.reference), *suggestion.actions)
        found.append(
            Suggestion(f"instead-{suggestion.key}", suggestion.label, actions, suggestion.recommended)
        )
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Right:
    """What the row lets one dose be. `mg` None: not computable; `most`: a child's maximum, where one is
    stated; `every`: shortest and longest interval in hours; `days`: longest run before a new decision."""

    mg: Decimal | None
    most: Decimal | None
    every: tuple[Decimal, Decimal]
    days: int | None = None


def _steroid(case: Case, plan: Plan, draft: DrugRecord) -> Iterator[Finding]:
    """A steroid drafted for ICANS against the grade's row."""
    if plan.row is Row.IMPROVED:
        return
    if draft.route is Route.ORAL and plan.grade >= 2:
        yield _oral(case, plan, draft)
        return
    adult, mg = is_adult(case), dose_mg(case, draft)
    if adult is None or mg is None:
        yield _unchecked(case, plan, draft, adult)
        return
    fault = _wrong_drug(case, plan, draft, mg)
    on_pulse = plan.tier is Tier.MP or (plan.run is not None and plan.run.tier is Tier.MP)
    if fault is None and on_pulse and adult:
        fault = _pulse_fault(case, draft)
    if fault is not None:
        yield _wrong(case, plan, draft, fault)
        return
    right = _pulse_right(case, draft) if on_pulse else _right(case, plan, draft)
    if right is not None:
        yield from _against(case, plan, draft, mg, right)


def _unchecked(case: Case, plan: Plan, draft: DrugRecord, adult: bool | None) -> Finding:
    readable = draft.dose is not None and draft.dose.amount is not None
    lacking: tuple[Missing, ...] = dosing_weight(case).missing
    if not readable:
        lacking = (unread_dose(draft, draft.ingredients[0]),)
    if adult is None:
        lacking = (Missing("birth_date"),)
    return _finding(
        case,
        plan,
        draft,
        Outcome.CANNOT_CHECK,
        Indicator.WARNING,
        msg("summary.cannot-check"),
        row="steroid",
        missing=lacking,
    )


def _wrong_drug(case: Case, plan: Plan, draft: DrugRecord, mg: Decimal) -> Message | None:
    """The row asks for another steroid, or for none."""
    run = plan.run
    if plan.tier is Tier.MP or (run is not None and run.tier is Tier.MP):
        if "methylprednisolone" in draft.concepts:
            return None
        return msg("summary.pulse-due", grade=plan.grade, dose=Amount(mg, "mg"))
    if "methylprednisolone" in draft.concepts:
        return None if plan.row is Row.G3 else msg("summary.not-yet-pulse", grade=plan.grade)
    if plan.row is Row.G1:
        key = "summary.grade-1-unknown" if plan.early is None else "summary.grade-1"
        return msg(key, hours=case.p(RULE).int("early_onset_hours"))
    return None


def _pulse_fault(case: Case, draft: DrugRecord) -> Message | None:
    """An adult's methylprednisolone against the course: the dose and number of doses of each planned day."""
    off = off_pulse_step(case, draft)
    if off is None:
        return None
    if off.right is None:
        return msg("summary.pulse-over", day=off.day)
    right, per_day = off.right
    return msg(
        "summary.pulse-step",
        day=off.day,
        dose=Amount(off.mg, "mg"),
        right=Amount(right, "mg"),
        times=per_day,
    )


def _pulse_right(case: Case, draft: DrugRecord) -> Right | None:
    """A child's high dose; the adult's course is judged day by day, a child's taper not at all."""
    if is_adult(case):
        return None
    p = case.p(RULE)
    first = planned_days(case, draft.timing)[0]
    day = (first - (pulse_begin(case) or first)).days + 1
    daily = (Decimal(24), Decimal(24)) if day <= p["pulse_days"] else (Decimal(0), Decimal(24))
    mg = child_pulse_mg(case) if day <= p["pulse_days"] else None
    return Right(mg, p["pulse_child_max_mg"], daily)


def _right(case: Case, plan: Plan, draft: DrugRecord) -> Right | None:
    """Dose, interval and length of the row for grades 1 to 3; None where the dose cannot be computed."""
    p = case.p(RULE)
    days = p.int("tier_max_days")
    if "methylprednisolone" in draft.concepts:
        low = low_dose_mg(case)
        twice = p["methylprednisolone_interval_hours"]
        return None if low is None else Right(low, None, (twice, twice), days)
    most = p["dexamethasone_mg"] if is_adult(case) else p["dexamethasone_child_max_mg"]
    shortest = p["repeat_interval_hours"]
    every = {
        Row.G1_EARLY: (p["early_interval_hours"], p["early_interval_max_hours"]),
        Row.G2: (shortest, p["repeat_interval_max_hours"]),
    }.get(plan.row, (shortest, shortest))
    return Right(dexamethasone_mg(case), most, every, days)


def _against(case: Case, plan: Plan, draft: DrugRecord, mg: Decimal, right: Right) -> Iterator[Finding]:
    if is_adult(case) is False and right.most is not None and mg > right.most:
        indicator = Indicator.CRITICAL if mg > 2 * right.most else Indicator.WARNING
        text = msg("summary.child-maximum", dose=Amount(mg, "mg"), maximum=Amount(right.most, "mg"))
        yield _finding(case, plan, draft, Outcome.OVER_MAXIMUM, indicator, text, row="child-maximum")
        return
    tolerance = case.p(RULE)["tolerance_pct"] / 100
    for_crs = plan.crs_tier > plan.tier  # the higher tier of the two rules is the CRS rule's to judge
    if right.mg is not None and not for_crs and abs(mg - right.mg) > right.mg * tolerance:
        text = msg("summary.dose", grade=plan.grade, dose=Amount(mg, "mg"), right=Amount(right.mg, "mg"))
        yield _wrong(case, plan, draft, text)
        return
    per_day = doses_per_day(draft.timing)
    shortest, longest = right.every
    if per_day and not for_crs and not shortest <= 24 / per_day <= longest:
        key = "summary.interval" if shortest == longest else "summary.interval-range"
        text = msg(key, grade=plan.grade, every=24 / per_day, shortest=shortest, longest=longest)
        yield _wrong(case, plan, draft, text)
        return
    last = tier_day(case, draft)
    if right.days is not None and last > right.days:
        text = msg("summary.duration", day=last, most=right.days)
        yield _finding(case, plan, draft, Outcome.REVIEW, Indicator.WARNING, text, row="duration")
        return
    yield _finding(
        case, plan, draft, Outcome.PASS, None, msg("summary.pass", grade=plan.grade), row=plan.row.value
    )


def _wrong(case: Case, plan: Plan, draft: DrugRecord, summary: Message) -> Finding:
    return _finding(
        case,
        plan,
        draft,
        Outcome.WRONG_DOSE,
        Indicator.WARNING,
        summary,
        row=plan.row.value,
        suggestions=_instead(case, plan, draft),
    )


def _finding(
    case: Case,
    plan: Plan,
    draft: DrugRecord,
    outcome: Outcome,
    indicator: Indicator | None,
    summary: Message,
    *,
    row: str,
    suggestions: tuple[Suggestion, ...] = (),
    missing: tuple[Missing, ...] = (),
) -> Finding:
    values = _values(case, plan)
    values["row"] = row
    if plan.run is not None and plan.run.tier is Tier.MP:
        values["course_end"] = pulse_end(case, plan.run.start.first_date)
    drafted = dose_mg(case, draft)
    if drafted is not None:
        values["drafted_mg"] = drafted
    step = crs_step(case)
    if step is not None and step.node is not Node.NEUROTOXICITY:
        values["crs_node"] = step.node.value
    return Finding(
        rule=RULE,
        outcome=outcome,
        indicator=indicator,
        summary=summary,
        subject=draft.reference,
        detail=tuple(_detail(case, plan)),
        grade=plan.grade,
        values=values,
        evidence=_evidence(case, plan),
        missing=missing,
        resource=draft.reference,
        suggestions=suggestions,
        unconcluded=outcome is Outcome.CANNOT_CHECK,
    )
