"""IEC-HS after CAR-T cells: how well the chart fits (never a diagnosis), and the grade once it fits.

Hines MR, Transplant Cell Ther 2023;29:438, as the handbook's tables 9 and 10 print it.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

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
    Selection,
    Shown,
    Table,
    graded,
    msg,
)
from cds.engine.case import Case
from cds.engine.rule import rule
from cds.rules.after_cart import confirmed_infections, inpatient
from cds.rules.evidence import shown
from cds.rules.grading.crs_course import Course
from cds.rules.grading.hlh_signs import RULE, ferritin_evidence
from cds.rules.grading.iec_hs_episode import IecHsState, Status, iec_hs_now
from fhir_mapping.chart import Amount, LossReason

Value = str | int | bool | Decimal | list[str]
_INDICATORS = {
    Status.NOT_SUGGESTED: None,
    Status.ALERT: Indicator.INFO,
    Status.POSSIBLE: Indicator.WARNING,
    Status.PROBABLE: Indicator.WARNING,
    Status.CONSISTENT: Indicator.CRITICAL,
}


def evidence(case: Case, state: IecHsState) -> tuple[Evidence, ...]:
    """The facts behind status and grade."""
    found = [*ferritin_evidence(case), *(h.evidence for h in state.hits if h is not None)]
    found += [*state.course.evidence, *state.grade_evidence]
    if state.recorded is not None:
        found.append(
            Evidence(
                state.recorded.reference,
                "iec_hs_grade",
                state.recorded.grade,
                effective=state.recorded.when,
            )
        )
    if state.coded is not None:
        found.append(Evidence(state.coded.reference, "iec_hs", effective=state.coded.onset))
    return tuple(dict.fromkeys(found))


def _ferritin_line(state: IecHsState) -> Iterator[Block]:
    found = state.ferritin
    if found.current is not None and found.current.value.quantity is not None:
        values = {"value": shown(found.current.value.quantity), "when": found.current.when}
        yield Bullet(Message("ferritin", values))
        if found.ratio_uln is not None:
            yield Bullet(msg("ferritin.uln", ratio=found.ratio_uln))
        else:
            yield Bullet(msg("ferritin.no-uln"))
        if found.ratio_baseline is not None and found.baseline is not None:
            yield Bullet(msg("ferritin.baseline", ratio=found.ratio_baseline, when=found.baseline.when))
        else:
            yield Bullet(msg("ferritin.no-baseline"))
        if found.doubling_hours is not None:
            yield Bullet(msg("ferritin.doubling", hours=found.doubling_hours))
    if found.clinician is not None:
        key = "ferritin.clinician" if found.clinician.value.yes else "ferritin.clinician-no"
        yield Bullet(msg(key, when=found.clinician.when))


def _rows(case: Case, state: IecHsState) -> Iterator[tuple[Message | Name | Items, ...]]:
    p = case.p(RULE)
    figures: dict[str, Shown] = {
        "factor": p["transaminase_factor"],
        "fibrinogen": Amount(p["fibrinogen_mg_dl"], "mg/dL"),
    }
    timing = msg("met" if state.timing else "not-met")
    yield (msg("criterion.C1"), timing, msg(f"course.{state.course.course}"))
    for criterion, hit in state.judged:
        key = "met" if hit is not None else "not-met" if criterion.assessed else "not-assessed"
        fact: Message = msg("no-fact")
        if hit is not None:
            name = Name(hit.evidence.concept)
            if hit.value is not None and hit.when is not None:
                fact = msg("fact.value", name=name, value=hit.value, when=hit.when)
            elif hit.when is not None:
                fact = msg("fact", name=name, when=hit.when)
        yield (Message(f"criterion.{criterion.key}", figures), msg(key), fact)


def _detail(case: Case, state: IecHsState) -> Iterator[Block]:
    p = case.p(RULE)
    yield from _ferritin_line(state)
    yield Table((msg("head.criterion"), msg("head.met"), msg("head.fact")), tuple(_rows(case, state)))
    yield Bullet(msg("assessable", count=state.count, of=state.assessable, hours=p.int("span_hours")))
    if state.other:
        yield Bullet(msg("other", items=Items(tuple(Name(key) for key in state.other))))
    if state.grade is not None and state.why is not None:
        if state.by_clinician:
            yield Bullet(msg("grade.clinician", grade=state.grade))
        else:
            yield Bullet(msg("grade.computed", grade=state.grade, why=msg(f"why.{state.why}")))
    recorded = state.recorded
    if recorded is not None and recorded.grade is not None and not state.by_clinician:
        yield Bullet(msg("recorded", grade=recorded.grade, when=recorded.when))
    yield Paragraph(msg(f"do.{state.status}"))
    infections = confirmed_infections(case)
    if infections:
        names = tuple(dict.fromkeys(Name(e.concept) for e in infections))
        yield Bullet(msg("infections", items=Items(names)))
    yield Paragraph(msg("criterion", factor=p["ferritin_uln_factor"], span=p.int("span_hours")))
    yield Paragraph(msg("no-diagnosis"))


def _missing(state: IecHsState) -> tuple[Missing, ...]:
    found = [m for c in state.criteria for m in c.missing]
    current = state.ferritin.current
    if current is None:
        found.insert(0, Missing("ferritin"))
    elif current.uln is None:
        found.insert(0, Missing("ferritin", LossReason.NO_REFERENCE_RANGE, current.reference))
    if state.course.course is Course.UNDOCUMENTED:
        found.append(Missing("crs_grade"))
    return tuple(found)


def values(case: Case, state: IecHsState) -> dict[str, Value]:
    """Machine-readable status, criteria and ratios."""
    row = f"{state.status}-atypical" if state.atypical else state.status.value
    result: dict[str, Value] = {"row": row, "status": state.status.value, "criteria_met": state.count}
    result["criteria_assessable"] = state.assessable
    found = state.ferritin
    if found.required is not None:
        result["ferritin_criterion"] = found.required
    if found.by:
        result["ferritin_by"] = " ".join(found.by)
    if found.current is not None and found.current.value.quantity is not None:
        result["ferritin_ng_ml"] = found.current.value.quantity.value
    numbers = {
        "ferritin_ratio_uln": found.ratio_uln,
        "ferritin_ratio_baseline": found.ratio_baseline,
        "ferritin_doubling_hours": found.doubling_hours,
    }
    result |= {key: number for key, number in numbers.items() if number is not None}
    if found.doubling_hours is not None:
        result["ferritin_fast"] = found.doubling_hours <= case.p(RULE)["doubling_hours"]
    result["c1"] = state.timing
    result["crs_course"] = state.course.course.value
    for criterion, hit in state.judged:
        if hit is not None or criterion.assessed:
            result[criterion.key.lower()] = hit is not None
    if state.other:
        result["other"] = list(state.other)
    if state.atypical:
        result["atypical"] = True
    if state.why is not None and not state.by_clinician:
        result["decided_by"] = state.why.value
    if state.by_clinician:
        result["by_clinician"] = True
    if state.recorded is not None and state.recorded.grade is not None:
        result["clinician_grade"] = state.recorded.grade
    day = case.chart.course.last_day(case.today)
    if day is not None:
        result["day"] = day
    return result


def _summary(state: IecHsState) -> Message:
    if state.status is Status.CONSISTENT and state.grade is not None:
        key = "summary.consistent-atypical" if state.atypical else "summary.consistent"
        return msg(key, grade=state.grade, count=state.count)
    if state.grade is not None:
        return msg("summary.coded", grade=state.grade, count=state.count)
    if state.status in (Status.UNKNOWN, Status.NOT_SUGGESTED):
        return msg(f"summary.{state.status}")
    current = state.ferritin.current
    quantity = None if current is None else current.value.quantity
    value = msg("rising") if quantity is None else shown(quantity)
    return msg(f"summary.{state.status}", value=value, count=state.count)


@rule(RULE)
def identify_iec_hs(case: Case) -> Iterator[Finding]:
    """Status and grade from day 0 to day 90 where a ferritin, or a clinician's word, is on the chart."""
    state = iec_hs_now(case)
    if state is None:
        return
    unknown = state.status is Status.UNKNOWN
    outcome = Outcome(state.status.value)
    indicator = _INDICATORS.get(state.status)
    if state.open_episode and state.status is not Status.CONSISTENT and state.grade is not None:
        outcome = graded(state.grade)
        indicator = Indicator.CRITICAL if state.grade >= 3 else Indicator.WARNING
        unknown = False
    elif unknown and (inpatient(case) or state.count):
        indicator = Indicator.INFO
    yield Finding(
        rule=RULE,
        outcome=outcome,
        indicator=indicator,
        summary=_summary(state),
        detail=tuple(_detail(case, state)),
        grade=state.grade,
        values=values(case, state),
        evidence=evidence(case, state),
        missing=_missing(state),
        selection=Selection.ANY,
        unconcluded=unknown,
    )
