"""ICAHT grade: early by neutropenic days to day 30, late by two counts from day 31 (Rejeski, Blood 2023)."""

from __future__ import annotations

from collections.abc import Iterator

from cards.finding import (
    Block,
    Bullet,
    Days,
    Finding,
    Indicator,
    Message,
    Missing,
    Outcome,
    Paragraph,
    graded,
    msg,
)
from cds.engine.case import Case
from cds.engine.rule import rule
from cds.rules.after_cart import recorded_grade
from cds.rules.dosing.gcsf import prophylaxis_due
from cds.rules.evidence import of_observation
from cds.rules.grading.icaht_episode import LAST_EARLY_DAY, Early, IcahtState, Late, icaht_now
from fhir_mapping.chart import Observation

RULE = "grading.icaht"
Value = str | int | bool


def _indicator(case: Case, grade: int) -> Indicator | None:
    """No card without a grade, unless there is a treatment step to show."""
    if grade == 0:
        return Indicator.INFO if prophylaxis_due(case) else None
    return Indicator.CRITICAL if grade >= 3 else Indicator.WARNING


def _clinician(case: Case) -> tuple[int, Observation] | None:
    """The newest grade that a clinician recorded since the infusion."""
    day0 = case.chart.course.last_day0
    newest = case.chart.latest("icaht_grade")
    grade = None if newest is None else recorded_grade(newest)
    if newest is None or grade is None or day0 is None or newest.when.first_date < day0:
        return None
    return grade, newest


def _late_word(case: Case, state: IcahtState) -> bool:
    """The clinician graded the late phase, lately and before anything ended the counting."""
    found = _clinician(case)
    day0 = case.chart.course.last_day0
    if found is None or day0 is None or state.ended:
        return False
    recorded = (found[1].when.first_date - day0).days
    oldest = state.day - case.p(RULE).int("late_current_days")
    return recorded > LAST_EARLY_DAY and recorded >= oldest


def _recorded(case: Case) -> tuple[Block, ...]:
    found = _clinician(case)
    return () if found is None else (Bullet(msg("clinician", grade=found[0], when=found[1].when)),)


def _clinician_value(case: Case) -> dict[str, Value]:
    found = _clinician(case)
    return {} if found is None else {"clinician_grade": found[0]}


def _ended(state: IcahtState) -> tuple[Block, ...]:
    if state.ended_on is None:
        return ()
    return (Bullet(msg(f"ended.{state.ended}", when=state.ended_on)),)


def _early_values(early: Early) -> dict[str, Value]:
    values: dict[str, Value] = {}
    if early.run is not None:
        values["run_days"] = early.run.days
        values["interpolated_days"] = early.run.interpolated
        values["run_from_day"], values["run_to_day"] = early.run.first, early.run.last
    if early.deep is not None:
        values["deep_run_days"] = early.deep.days
    if early.measured_only < early.low:
        values["measured_only_grade"] = early.measured_only
    if early.never_above:
        values["never_above_500"] = True
    return values


def _early_detail(case: Case, early: Early) -> Iterator[Block]:
    p = case.p(RULE)
    for key, run in (("run", early.run), ("run.deep", early.deep)):
        if run is not None:
            key = key if run.interpolated else f"{key}.measured"
            yield Bullet(
                msg(key, days=Days(run.days), first=run.first, last=run.last, interpolated=run.interpolated)
            )
    if early.never_above:
        yield Bullet(msg("never-above"))
    if early.high > early.low:
        yield Bullet(msg("gap", high=early.high, longest=p.int("interpolated_days")))
    if early.measured_only < early.low:
        yield Bullet(msg("measured-only", grade=early.measured_only))
    if early.provisional:
        yield Bullet(msg("provisional"))


def _early_card(case: Case, state: IcahtState, early: Early) -> Finding:
    values: dict[str, Value] = {"row": "early", "phase": "early", "day": state.day, **_early_values(early)}
    values["provisional"] = early.provisional
    values |= _clinician_value(case)
    if early.high > early.low:
        values |= {"grade_min": early.low, "grade_max": early.high}
        outcome = Outcome.RANGE
        summary = msg("summary.early-range", low=early.low, high=early.high, day=state.day)
    else:
        outcome = graded(early.low)
        run = early.deep if early.by_deep else early.run
        limit = case.p(RULE).int("early_deep_limit" if early.by_deep else "early_limit")
        values["limit_per_ul"] = limit
        key = "summary.early"
        if early.provisional:
            key = "summary.early-provisional" if early.low else "summary.early-none"
        summary = msg(key, grade=early.low, days=Days(run.days if run else 0), limit=limit, day=state.day)
    return Finding(
        rule=RULE,
        outcome=outcome,
        grade=early.low if outcome is not Outcome.RANGE else None,
        indicator=_indicator(case, early.low),
        summary=summary,
        detail=(
            *_early_detail(case, early),
            *_ended(state),
            *_recorded(case),
            Paragraph(msg("criterion.early", bridged=case.p(RULE).int("bridged_days"))),
        ),
        values=values,
        evidence=state.evidence(early.counts),
    )


def _late_card(case: Case, state: IcahtState, late: Late) -> Finding:
    values: dict[str, Value] = {"row": "late", "phase": "late", "day": state.day, **_clinician_value(case)}
    detail: list[Block] = []
    if state.early is not None:
        values["early_grade"] = state.early.low
        if state.early.low:
            detail.append(Bullet(msg("early-grade", grade=state.early.low)))
    for count in late.counts:
        detail.append(Bullet(msg("count", day=count.day, cells=count.cells)))
    tail: tuple[Block, ...] = (*_ended(state), *_recorded(case), Paragraph(msg("criterion.late")))
    evidence = state.evidence(late.counts)
    if late.grade is None:
        values["would_be_grade"] = late.would_be
        return Finding(
            rule=RULE,
            outcome=Outcome.CANNOT_GRADE,
            indicator=Indicator.WARNING,
            summary=msg("summary.one-time-point", grade=late.would_be, day=late.counts[0].day),
            detail=(*detail, Bullet(msg("repeat", apart=case.p(RULE).int("late_apart_days"))), *tail),
            values=values,
            evidence=evidence,
            missing=(Missing("anc"),),
            unconcluded=True,
        )
    second = max(late.counts, key=lambda count: count.cells)
    values["deciding_anc_per_ul"] = int(second.cells)
    return Finding(
        rule=RULE,
        outcome=graded(late.grade),
        grade=late.grade,
        indicator=_indicator(case, late.grade),
        summary=msg("summary.late", grade=late.grade, cells=second.cells, day=state.day),
        detail=(*detail, *tail),
        values=values,
        evidence=evidence,
    )


def _by_clinician(state: IcahtState, grade: int, recorded: Observation) -> Finding:
    """Nothing can be counted: the grade is the clinician's."""
    stated = recorded.component("icaht_phase")
    phase = next((w for w in ("early", "late") if stated is not None and w in stated.codes), "")
    values: dict[str, Value] = {"row": "clinician", "day": state.day, "clinician_grade": grade}
    if phase:
        values["phase"] = phase
    return Finding(
        rule=RULE,
        outcome=graded(grade),
        grade=grade,
        indicator=Indicator.CRITICAL if grade >= 3 else Indicator.WARNING,
        summary=msg("summary.clinician", grade=grade, day=state.day),
        detail=(Bullet(msg("clinician", grade=grade, when=recorded.when)),),
        values=values,
        evidence=(of_observation(recorded),),
        missing=(Missing("anc"),),
    )


def _nothing_to_count(case: Case, state: IcahtState) -> Finding:
    summary: Message = msg("summary.no-counts", day=state.day)
    return Finding(
        rule=RULE,
        outcome=Outcome.CANNOT_GRADE,
        indicator=_indicator(case, 0),
        summary=summary,
        values={"row": "no-counts", "day": state.day},
        missing=(Missing("anc"),),
        unconcluded=True,
    )


@rule(RULE)
def grade_icaht(case: Case) -> Iterator[Finding]:
    """One card: the grade of the current phase, the other phase's grade beside it."""
    state = icaht_now(case)
    if state is None:
        return
    p = case.p(RULE)
    clinician = _clinician(case)
    uncounted = state.late is None and (state.early is None or _late_word(case, state))
    if uncounted and clinician is not None and clinician[0]:
        yield _by_clinician(state, *clinician)
    elif state.late is not None:
        yield _late_card(case, state, state.late)
    elif state.early is not None and state.day <= p.int("early_shown_to_day"):
        yield _early_card(case, state, state.early)
    elif state.early is None and state.day <= p.int("asked_to_day") and not state.ended:
        yield _nothing_to_count(case, state)
