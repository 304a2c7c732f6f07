"""Order check of dexamethasone and methylprednisolone in CRS: tier, step of the taper, length."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from cards.finding import (
    Block,
    Bullet,
    Create,
    Delete,
    Finding,
    Indicator,
    Message,
    Missing,
    Outcome,
    Paragraph,
    Suggestion,
    msg,
)
from cds.engine.case import Case
from cds.engine.rule import rule
from cds.rules.after_cart import dosing_weight, therapy_start, unread_dose
from cds.rules.body_size import is_adult
from cds.rules.dosing.crs_ladder import Node, Step, crs_step
from cds.rules.dosing.steroid_course import (
    SteroidRun,
    Tier,
    child_d10,
    child_d10_mg,
    dexamethasone,
    dose_mg,
    doses_per_day,
    in_crs_steroids,
    off_pulse_step,
    planned_days,
    pulse_begin,
    pulse_end,
    pulse_step,
    steroid_run,
    tier_day,
    tier_name,
)
from cds.rules.evidence import of_drug_start
from cds.rules.grading.crs_episode import Gate, crs_applies, crs_now
from cds.rules.grading.icans_episode import icans_now
from cds.rules.grading.iec_hs_episode import iec_hs_now
from fhir_mapping.chart import Amount, DrugRecord, DrugState, Route

RULE = "dosing.crs-steroid"
OTHER_REASONS = frozenset(
    {"icans", "iec_hs", "hlh", "gvhd", "anaphylaxis", "adrenal_insufficiency", "infusion_reaction"}
)
Value = str | int | bool | Decimal | date | datetime


@dataclass(frozen=True, slots=True)
class Needed:
    """What the two algorithms ask for: the higher steroid tier of CRS and ICANS."""

    tier: Tier
    optional: Tier  # a tier that may be given although none is asked for
    from_icans: bool = False


@dataclass(frozen=True, slots=True)
class Fault:
    row: str
    outcome: Outcome
    indicator: Indicator
    summary: Message


def icans_tier(case: Case) -> Tier:
    """Steroid tier of the ICANS algorithm: grades 2 and 3 as the first tier, grade 4 the high-dose course."""
    state = icans_now(case)
    grade = None if state is None else state.grade
    if grade is None or grade < 2:
        return Tier.NONE
    return Tier.MP if grade >= 4 else Tier.D10


def treats_another(case: Case) -> bool:
    """A steroid without CRS treats ICANS of grade 2 and more, or IEC-HS."""
    iec_hs = iec_hs_now(case)
    return icans_tier(case) is not Tier.NONE or (iec_hs is not None and iec_hs.established)


def needed_tier(case: Case, step: Step | None) -> Needed:
    """The tier to measure a draft by."""
    neuro = icans_tier(case)
    if step is None:
        return Needed(neuro, neuro, True)
    tier = Tier.NONE if step.tier_optional else step.tier
    optional = step.tier if step.tier_optional else Tier.NONE
    if step.waiting and step.node in (Node.N2A, Node.N2B):
        optional = Tier.D10
    state = icans_now(case)
    if state is not None and state.grade == 1:
        optional = max(optional, Tier.D10)
    return Needed(max(tier, neuro), max(optional, tier, neuro), neuro > tier)


# --- judging a draft


def _adult_tier_mg(case: Case, tier: Tier) -> Decimal:
    p = case.p(RULE)
    return p["d20_mg"] if tier is Tier.D20 else p["d10_mg"]


def _pulse_fault(case: Case, draft: DrugRecord) -> Fault | None:
    """Methylprednisolone against the course: the dose of each planned day."""
    off = off_pulse_step(case, draft)
    if off is None:
        return None
    shown = Amount(off.mg, "mg")
    if off.right is None:
        text = msg("summary.pulse-over", day=off.day, dose=shown)
        return Fault("MP", Outcome.REVIEW, Indicator.WARNING, text)
    right, per_day = off.right
    text = msg("summary.pulse-step", day=off.day, right=Amount(right, "mg"), times=per_day, dose=shown)
    return Fault("MP", Outcome.WRONG_DOSE, Indicator.WARNING, text)


def _dose_faults(case: Case, draft: DrugRecord, mg: Decimal, needed: Needed) -> Iterator[Fault]:
    """Dexamethasone of an adult against the tier."""
    p = case.p(RULE)
    shown = Amount(mg, "mg")
    tolerance = p["tolerance_pct"] / 100
    if needed.tier in (Tier.D10, Tier.D20):
        right = _adult_tier_mg(case, needed.tier)
        if abs(mg - right) > right * tolerance:
            key = "summary.tier-low" if mg < right else "summary.tier-high"
            yield Fault(
                "dose", Outcome.WRONG_DOSE, Indicator.WARNING, msg(key, dose=shown, right=Amount(right, "mg"))
            )
    elif needed.tier is Tier.MP:
        yield Fault("tier", Outcome.REVIEW, Indicator.WARNING, msg("summary.pulse-due", dose=shown))
    elif needed.optional >= Tier.D10:
        right = _adult_tier_mg(case, Tier.D10)
        if mg > right * (1 + tolerance):
            yield Fault(
                "dose",
                Outcome.WRONG_DOSE,
                Indicator.WARNING,
                msg("summary.tier-high", dose=shown, right=Amount(right, "mg")),
            )


def _child_faults(case: Case, draft: DrugRecord, mg: Decimal, needed: Needed) -> Iterator[Fault]:
    """A child's dexamethasone: 0.5 mg/kg, at most the adult dose of the first tier."""
    p = case.p(RULE)
    shown, most = Amount(mg, "mg"), p["d10_child_max_mg"]
    if mg > most:
        indicator = Indicator.CRITICAL if mg > 2 * most else Indicator.WARNING
        yield Fault(
            "child-maximum",
            Outcome.OVER_MAXIMUM,
            indicator,
            msg("summary.child-maximum", dose=shown, maximum=Amount(most, "mg")),
        )
        return
    right = child_d10_mg(case)
    if right is None:
        return
    if needed.tier is Tier.D10 and abs(mg - right) * 100 > right * p["tolerance_pct"]:
        key = "summary.tier-low" if mg < right else "summary.tier-high"
        yield Fault(
            "dose", Outcome.WRONG_DOSE, Indicator.WARNING, msg(key, dose=shown, right=Amount(right, "mg"))
        )


def _interval_fault(case: Case, draft: DrugRecord, needed: Needed) -> Fault | None:
    """Every 6 h: no tier is given more often, and none that CRS asks for more seldom."""
    per_day = doses_per_day(draft.timing)
    right = case.p(RULE)["interval_hours"]
    asked = needed.tier is Tier.D10 or (needed.tier is Tier.D20 and is_adult(case) is True)
    if per_day is None or needed.tier is Tier.MP or (is_adult(case) is False and needed.tier is Tier.D20):
        return None
    every = 24 / per_day
    if every >= right and (every == right or not asked or needed.from_icans):
        return None
    text = msg("summary.interval", every=every, right=int(right))
    return Fault("interval", Outcome.WRONG_DOSE, Indicator.WARNING, text)


def _length_fault(case: Case, draft: DrugRecord) -> Fault | None:
    """More than three days on one dexamethasone tier without a new decision."""
    most = case.p(RULE).int("tier_max_days")
    last = tier_day(case, draft)
    if last <= most:
        return None
    text = msg("summary.duration", day=last, most=most)
    return Fault("duration", Outcome.REVIEW, Indicator.WARNING, text)


def _off_ladder(
    case: Case, draft: DrugRecord, mg: Decimal, step: Step | None, run: SteroidRun | None
) -> Fault | None:
    """A steroid where CRS has resolved or improved, or where the algorithm has none."""
    if crs_now(case).gate is Gate.RESOLVED or (step is not None and step.node is Node.IMPROVED):
        running = None if run is None else dose_mg(case, run.records[-1])
        if running is not None and mg < running:
            return None  # a step of the taper
        return Fault("taper", Outcome.STOP, Indicator.WARNING, msg("summary.taper"))
    if step is not None and step.node in (Node.N1A, Node.N1B):
        return Fault("indication", Outcome.REVIEW, Indicator.WARNING, msg("summary.grade-1"))
    return None


def _faults(case: Case, draft: DrugRecord, mg: Decimal, step: Step | None) -> list[Fault]:
    needed, run = needed_tier(case, step), steroid_run(case)
    if needed.tier is Tier.NONE and needed.optional is Tier.NONE:
        fault = _off_ladder(case, draft, mg, step, run)
        return [] if fault is None else [fault]
    found: list[Fault] = []
    on_pulse = run is not None and run.tier is Tier.MP
    if "methylprednisolone" in draft.concepts:
        neuro = icans_now(case)
        low_dose_option = (
            neuro is not None and neuro.grade == 3 and mg < case.p(RULE)["pulse_from_mg"] and not on_pulse
        )
        if low_dose_option:
            return []
        if needed.tier is not Tier.MP and not on_pulse:
            return [Fault("tier", Outcome.REVIEW, Indicator.WARNING, msg("summary.not-yet-pulse"))]
        fault = _pulse_fault(case, draft) if is_adult(case) else None
        return [] if fault is None else [fault]
    if (length := _length_fault(case, draft)) is not None:
        found.append(length)
    found += (
        _dose_faults(case, draft, mg, needed) if is_adult(case) else _child_faults(case, draft, mg, needed)
    )
    if (interval := _interval_fault(case, draft, needed)) is not None:
        found.append(interval)
    return found


def _route_fault(draft: DrugRecord, needed: Needed) -> Fault | None:
    """Every tier that is asked for is given by vein."""
    if needed.tier is Tier.NONE or draft.route in (None, Route.INTRAVENOUS):
        return None
    return Fault("route", Outcome.WRONG_ROUTE, Indicator.WARNING, msg("summary.route"))


# --- the rule


def _concerns(case: Case, draft: DrugRecord) -> bool:
    if not in_crs_steroids(draft):
        return False
    return "crs" in draft.reasons or draft.reasons.isdisjoint(OTHER_REASONS)


@rule(RULE)
def check_steroid(case: Case) -> Iterator[Finding]:
    """Each drafted dexamethasone or methylprednisolone while CRS is open, or just resolved."""
    drafts = [d for d in case.judged_drugs("dexamethasone", "methylprednisolone") if _concerns(case, d)]
    if not drafts or therapy_start(case) is None or not (crs_applies(case) or crs_now(case).present):
        return
    state = crs_now(case)
    resolved = state.gate is Gate.RESOLVED and state.episode is not None
    if not state.present and not resolved:
        return
    step = crs_step(case)
    if step is not None and step.node is Node.IEC_HS:
        return  # the steroid treats IEC-HS
    if resolved and treats_another(case):
        return
    for draft in drafts:
        yield _judge(case, draft, step)


def _judge(case: Case, draft: DrugRecord, step: Step | None) -> Finding:
    mg = dose_mg(case, draft)
    needed = needed_tier(case, step)
    run = steroid_run(case)
    missing = _missing(case, draft, mg, needed)
    faults = _faults(case, draft, mg, step) if mg is not None and is_adult(case) is not None else []
    if mg is not None and (route := _route_fault(draft, needed)) is not None:
        faults.append(route)
    faults.sort(key=lambda f: -f.indicator.rank)
    values = _values(case, draft, step, needed, run, mg)
    no_child_dose = is_adult(case) is False and needed.tier in (Tier.D20, Tier.MP)
    if faults:
        outcome, indicator, summary = faults[0].outcome, faults[0].indicator, faults[0].summary
        values["row"] = faults[0].row
    elif missing:
        outcome, indicator, summary = Outcome.CANNOT_CHECK, Indicator.WARNING, msg("summary.cannot-check")
    elif no_child_dose:
        outcome, indicator, summary = Outcome.ASK, Indicator.INFO, msg("summary.no-child-dose")
        values["row"] = "child"
    else:
        outcome, indicator, summary = Outcome.PASS, None, msg("summary.pass")
    return Finding(
        rule=RULE,
        outcome=outcome,
        indicator=indicator,
        summary=summary,
        subject=draft.reference,
        detail=tuple(_detail(case, faults, needed, run, no_child_dose)),
        grade=None if step is None else step.state.low,
        values=values,
        evidence=(
            *dosing_weight(case).evidence,
            *(of_drug_start(d) for d in (() if run is None else run.records)),
        ),
        missing=missing,
        resource=draft.reference,
        suggestions=_suggestions(case, draft, faults, needed),
        unconcluded=outcome is Outcome.CANNOT_CHECK,
    )


def _missing(case: Case, draft: DrugRecord, mg: Decimal | None, needed: Needed) -> tuple[Missing, ...]:
    found: list[Missing] = []
    if is_adult(case) is None:
        found.append(Missing("birth_date"))
    amount = None if draft.dose is None else draft.dose.amount
    per_kg = amount is not None and amount.unit == "mg/kg"
    if mg is None and not per_kg:
        found.append(unread_dose(draft, next(iter(draft.ingredients), "")))
    child_tier = is_adult(case) is False and needed.tier is Tier.D10
    if child_tier or (mg is None and per_kg):
        found += dosing_weight(case).missing
    return tuple(found)


def _tier_text(case: Case, tier: Tier) -> Message:
    key = f"tier.{tier.name.lower()}"
    if tier not in (Tier.D10, Tier.D20):
        return msg(key)
    p = case.p(RULE)
    dose = p["d10_mg" if tier is Tier.D10 else "d20_mg"]
    return msg(key, dose=dose, every=p.int("interval_hours"), days=p.int("tier_max_days"))


def _detail(
    case: Case, faults: list[Fault], needed: Needed, run: SteroidRun | None, no_child_dose: bool
) -> Iterator[Block]:
    p = case.p(RULE)
    for fault in faults[1:]:
        yield Paragraph(fault.summary)
    yield Paragraph(_tier_text(case, needed.tier))
    if needed.from_icans:
        yield Bullet(msg("from-icans"))
    if run is not None and run.tier >= Tier.D10:
        yield Bullet(
            msg("running", tier=tier_name(case, run.tier), since=run.start, day=run.day_at(case.today))
        )
        if run.tier is Tier.MP:
            yield Bullet(msg("pulse-end", last=pulse_end(case, run.start.first_date)))
    if is_adult(case) is False:
        yield Bullet(child_d10(case))
        if no_child_dose:
            yield Bullet(msg("no-child-dose", dose=p["d20_mg"]))
    yield Paragraph(msg("watch"))


def _values(
    case: Case,
    draft: DrugRecord,
    step: Step | None,
    needed: Needed,
    run: SteroidRun | None,
    mg: Decimal | None,
) -> dict[str, Value]:
    values: dict[str, Value] = {"needed_tier": needed.tier.name}
    if step is not None:
        values["node"] = step.node.value
        if step.state.low is not None:
            values["crs_grade"] = step.state.low
    if mg is not None:
        values["dose_mg"] = mg
    if needed.tier in (Tier.D10, Tier.D20) and is_adult(case):
        values["needed_mg"] = _adult_tier_mg(case, needed.tier)
    elif needed.tier is Tier.D10 and is_adult(case) is False and (right := child_d10_mg(case)) is not None:
        values["needed_mg"] = right
    if run is not None:
        values["running_tier"] = run.tier.name
        day = run.day_at(planned_days(case, draft.timing)[0])
        values["course_day"] = day
        if run.tier is Tier.MP:
            values["course_end"] = pulse_end(case, run.start.first_date)
            if (expected := pulse_step(case, day)) is not None:
                values["needed_mg"], values["needed_per_day"] = expected
    elif needed.tier is Tier.MP and is_adult(case):
        first = planned_days(case, draft.timing)[0]
        begin = pulse_begin(case) or first
        values["course_end"] = pulse_end(case, begin)
        if (expected := pulse_step(case, (first - begin).days + 1)) is not None:
            values["needed_mg"], values["needed_per_day"] = expected
    return values


def _suggestions(
    case: Case, draft: DrugRecord, faults: list[Fault], needed: Needed
) -> tuple[Suggestion, ...]:
    """The tier's order in place of a draft with another dose."""
    rows = {f.row for f in faults}
    if not rows or draft.state is not DrugState.DRAFT or needed.tier not in (Tier.D10, Tier.D20):
        return ()
    if not rows <= {"dose", "interval", "child-maximum", "duration", "route"}:
        return ()
    right = dexamethasone(case, needed.tier, "replace")
    if right is None or not all(isinstance(a, Create) for a in right.actions):
        return ()
    return (Suggestion("replace", right.label, (Delete(draft.reference), *right.actions), True),)
