"""Risk tier of tumour lysis syndrome (BCSH 2015; high-tier criteria Cairo MS, Br J Haematol 2010;149:578)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from enum import StrEnum

from cards.finding import (
    Block,
    Bullet,
    Evidence,
    Finding,
    Indicator,
    Items,
    Message,
    Missing,
    Name,
    Outcome,
    Paragraph,
    msg,
)
from cds.engine.case import Case, once_per_case
from cds.engine.rule import rule
from cds.rules.evidence import of_fact, of_observation
from cds.rules.renal import clearance
from fhir_mapping.chart import (
    Amount,
    Condition,
    ConditionState,
    DrugRecord,
    LossReason,
    Observation,
    any_of,
    whole_day,
)

RULE = "grading.tls-risk"
_ALL = ("b_all", "all_lineage_unspecified", "t_all")
_AGGRESSIVE = ("dlbcl", "transformed_follicular_lymphoma", "high_grade_b_cell_lymphoma", "pmbcl")
_ANALYTES = ("uric_acid", "potassium", "phosphate")


class Tier(StrEnum):
    HIGH = "high"
    INTERMEDIATE = "intermediate"
    AT_LEAST_INTERMEDIATE = "at-least-intermediate"  # high not excluded: something is missing


@dataclass(frozen=True, slots=True)
class Risk:
    """The tier, the row that decided, and what is missing to exclude the high tier."""

    tier: Tier
    row: str
    reasons: tuple[Message, ...]
    evidence: tuple[Evidence, ...]
    missing: tuple[Missing, ...] = ()


# --- window


def ldc_start(case: Case) -> datetime | None:
    """Start of the day of the first lymphodepletion dose, planned or given."""
    first = case.chart.course.ldc_first
    if first is None or first.date is None:
        return None
    return datetime.combine(first.date, time(), case.now.tzinfo)


def _week(case: Case) -> tuple[datetime, datetime]:
    """The values that count: of the week before lymphodepletion (the infusion where there is none) and of its
    first day; of the last week while that lies ahead."""
    week = timedelta(days=case.p(RULE).int("lookback_days"))
    begun, infused = ldc_start(case), case.chart.course.day0
    if begun is None and infused is not None:
        begun = datetime.combine(infused, time(), case.now.tzinfo)
    if begun is None or begun > case.now:
        return case.now - week, case.now
    # the day of the first dose still counts: morning blood before it
    first_day = whole_day(begun.date(), case.now)
    return begun - week, min(case.now, first_day.latest)


def in_risk_window(case: Case) -> bool:
    """CAR-T planned, or day 0 to day 7 after the infusion."""
    course = case.chart.course
    day = course.day(case.today)
    if day is not None:
        return 0 <= day <= case.p(RULE).int("last_day")
    return course.candidate


def newest(case: Case, concept: str) -> Observation | None:
    """Last value in the week before lymphodepletion."""
    first, last = _week(case)

    def measured(observation: Observation) -> bool:
        return observation.value.quantity is not None

    return case.chart.series(concept).latest(last, last - first, measured)


# --- facts, each True, False or None (cannot be told)


def above_uln(observation: Observation | None) -> bool | None:
    """Is a value above the upper limit of its own laboratory?"""
    if observation is None or observation.value.quantity is None or observation.uln is None:
        return None
    return observation.value.quantity.above(observation.uln.value)


def _lacking(case: Case, concept: str, observation: Observation | None) -> Missing:
    if observation is None:
        old = case.chart.latest(concept)
        return Missing(concept) if old is None else Missing(concept, LossReason.STALE, old.reference)
    quantity = observation.value.quantity
    bound = quantity is not None and bool(quantity.comparator)  # "< 150" leaves the question open
    reason = LossReason.NOT_ON_CHART if bound else LossReason.NO_REFERENCE_RANGE
    return Missing(concept, reason, observation.reference)


def _white(case: Case) -> Amount:
    return Amount(case.p(RULE)["wbc_high"], "10*9/L")


def _bulk_limit(case: Case) -> Amount:
    return Amount(case.p(RULE)["bulk_cm"], "cm")


@dataclass(frozen=True, slots=True)
class _Fact:
    """What speaks for the high tier. Without a reason it does not, or cannot be told for what is missing."""

    reasons: tuple[Message, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    missing: tuple[Missing, ...] = ()

    @property
    def present(self) -> bool:
        return bool(self.reasons)


def bulk(case: Case) -> _Fact:
    """Bulky disease: coded, or a diameter of at least 10 cm."""
    coded = case.chart.latest("bulky_disease")
    size = case.chart.latest("largest_tumor_diameter")
    answers: list[bool | None] = []
    evidence: list[Evidence] = []
    if coded is not None and coded.value.yes is not None:
        answers.append(coded.value.yes)
        evidence.append(of_observation(coded))
    if size is not None and size.value.quantity is not None:
        answers.append(size.value.quantity.at_least(case.p(RULE)["bulk_cm"]))
        evidence.append(of_observation(size))
    present = any_of(answers)
    if present:
        return _Fact((msg("reason.bulk", limit=_bulk_limit(case)),), tuple(evidence))
    told = bool(answers) and present is not None
    return _Fact(evidence=tuple(evidence), missing=() if told else (Missing("bulky_disease"),))


def _renal_or_electrolytes(case: Case) -> _Fact:
    """Creatinine above normal, clearance below 60 mL/min, renal involvement, or uric acid, potassium or
    phosphate above normal."""
    p = case.p(RULE)
    evidence: list[Evidence] = []
    reasons: list[Message] = []
    missing: list[Missing] = []
    involved = case.chart.latest("renal_involvement")
    if involved is not None and involved.value.yes:
        evidence.append(of_observation(involved))
        reasons.append(msg("reason.renal-involvement"))
    for concept in ("creatinine", *_ANALYTES):
        found = newest(case, concept)
        answer = above_uln(found)
        if concept == "creatinine" and answer is not True:
            cleared = clearance(case, p.int("lookback_days"), case.p("grading.crs").int("weight_age_days"))
            if cleared.value is not None and cleared.value < p["clearance_ml_min"]:
                evidence += cleared.evidence
                reasons.append(msg("reason.clearance", limit=Amount(p["clearance_ml_min"], "mL/min")))
            elif answer is None and cleared.value is not None:
                answer = False
        if answer is None:
            missing.append(_lacking(case, concept, found))
        elif found is not None:
            evidence.append(of_observation(found))
            if answer:
                reasons.append(msg("reason.above-normal", analyte=Name(concept)))
    return _Fact(tuple(reasons), tuple(evidence), tuple(missing))


def _disease(case: Case, *concepts: str) -> Condition | None:
    """An active disease of these, else one in remission."""
    found = case.chart.conditions.of(*concepts)
    for state in (ConditionState.ACTIVE, ConditionState.HISTORY):
        for condition in found:
            if condition.state is state:
                return condition
    return None


# --- tier


@once_per_case
def tls_risk(case: Case) -> Risk:
    """The tier of a CAR-T candidate, first matching row. There is no low tier."""
    p = case.p(RULE)
    burkitt = _disease(case, "burkitt_lymphoma")
    if burkitt is not None:
        return Risk(Tier.HIGH, "1", (msg("reason.burkitt"),), (of_fact(burkitt, "burkitt_lymphoma"),))
    leukaemia, lymphoma = _disease(case, *_ALL), _disease(case, *_AGGRESSIVE)
    disease = leukaemia or lymphoma
    if disease is None:
        return Risk(Tier.INTERMEDIATE, "5", (msg("reason.floor"),), ())
    concept = next(c for c in (*_ALL, *_AGGRESSIVE) if c in disease.concepts)
    evidence = [of_fact(disease, concept)]
    ldh = newest(case, "ldh")
    if ldh is not None:
        evidence.append(of_observation(ldh))
    missing: list[Missing] = []
    quantity = None if ldh is None else ldh.value.quantity
    if leukaemia is not None:
        wbc = newest(case, "wbc")
        white = (
            None if wbc is None or wbc.value.quantity is None else wbc.value.quantity.at_least(p["wbc_high"])
        )
        twice = (
            None
            if ldh is None or quantity is None or ldh.uln is None
            else quantity.at_least(p["ldh_high_x_uln"] * ldh.uln.value)
        )
        if wbc is not None:
            evidence.append(of_observation(wbc))
        if white or twice:
            by_ldh = msg("reason.ldh-high", times=p["ldh_high_x_uln"])
            reason = msg("reason.wbc", limit=_white(case)) if white else by_ldh
            return Risk(Tier.HIGH, "2", (reason,), tuple(evidence))
        if white is None:
            missing.append(_lacking(case, "wbc", wbc))
        if twice is None:
            missing.append(_lacking(case, "ldh", ldh))
    else:
        raised = above_uln(ldh)
        if raised is None:
            return Risk(Tier.AT_LEAST_INTERMEDIATE, "5", (), tuple(evidence), (_lacking(case, "ldh", ldh),))
        if not raised:
            return Risk(Tier.INTERMEDIATE, "5", (msg("reason.ldh-normal"),), tuple(evidence))
        mass = bulk(case)
        evidence += mass.evidence
        if mass.present:
            return Risk(Tier.HIGH, "3", (msg("reason.ldh"), *mass.reasons), tuple(evidence))
        missing += mass.missing
    kidneys = _renal_or_electrolytes(case)
    evidence += kidneys.evidence
    if kidneys.present:
        return Risk(Tier.HIGH, "4", kidneys.reasons, tuple(evidence))
    missing += kidneys.missing
    if missing:
        return Risk(Tier.AT_LEAST_INTERMEDIATE, "5", (), tuple(evidence), tuple(missing))
    return Risk(Tier.INTERMEDIATE, "5", (msg("reason.floor"),), tuple(evidence))


# --- the rule


def ldc_drafts(case: Case) -> tuple[DrugRecord, ...]:
    """Drafts under judgement that belong to the lymphodepletion of a CAR-T plan."""
    ours = {record.reference for record in case.chart.course.ldc_records}
    return tuple(d for d in case.judged_drugs() if d.reference in ours)


def _flags(case: Case) -> Iterator[tuple[str, Block, tuple[Evidence, ...]]]:
    p = case.p(RULE)
    age = case.chart.patient.age(case.today)
    if age is not None and age[0] >= p["age_flag_years"]:
        yield "age", Bullet(msg("flag.age", years=age[0])), ()
    blasts = case.chart.latest("marrow_blasts")
    quantity = None if blasts is None else blasts.value.quantity
    if blasts is not None and quantity is not None and quantity.at_least(p["marrow_blasts_pct"]):
        yield "blasts", Bullet(msg("flag.blasts", percent=quantity.value)), (of_observation(blasts),)


def _summary(risk: Risk) -> Message:
    if risk.tier is Tier.HIGH:
        return msg("summary.high", reasons=Items(risk.reasons))
    return msg(f"summary.{risk.tier.value}")


@rule(RULE)
def grade_risk(case: Case) -> Iterator[Finding]:
    """Information: the tier and the facts that decided."""
    if not in_risk_window(case):
        return
    drafts = ldc_drafts(case) if case.ordering else ()
    if case.ordering and not drafts:
        return
    risk = tls_risk(case)
    extra = tuple(_flags(case))
    detail: list[Block] = [Bullet(reason) for reason in risk.reasons]
    detail += [block for _, block, _ in extra]
    recorded = case.chart.latest("tls_risk_tier")
    if recorded is not None and recorded.value.codes:
        detail.append(Bullet(msg("recorded", tier=Name(recorded.value.codes[0]))))
    detail.append(
        Paragraph(
            msg("criterion", wbc=_white(case), times=case.p(RULE)["ldh_high_x_uln"], bulk=_bulk_limit(case))
        )
    )
    values: dict[str, str | bool] = {"row": risk.row, "tier": risk.tier.value}
    values |= {f"flag_{key}": True for key, _, _ in extra}
    reference = drafts[0].reference if drafts else ""
    yield Finding(
        rule=RULE,
        outcome=Outcome(risk.tier.value),
        indicator=Indicator.INFO,
        summary=_summary(risk),
        subject=reference,
        detail=tuple(detail),
        values=dict(values.items()),
        evidence=(*risk.evidence, *(e for _, _, facts in extra for e in facts)),
        missing=risk.missing,
        resource=reference,
    )
