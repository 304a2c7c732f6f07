"""ICANS and neurological symptoms after tarlatamab: assess, hold, stop.

The monograph gives no action per grade beyond its "other adverse event" rows and no steroid dose for this
drug; CAR-T practice is in dosing.icans.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from cards.finding import (
    Block,
    Bullet,
    Days,
    Delete,
    Evidence,
    Finding,
    Indicator,
    Message,
    Missing,
    Name,
    Outcome,
    Paragraph,
    Scalar,
    Suggestion,
    graded,
    msg,
)
from cds.engine.case import Case
from cds.engine.rule import rule
from cds.rules.bispecific.neuro import NeuroState, ice_total, neuro_state
from cds.rules.bispecific.tarlatamab import (
    STEP_UP,
    engager,
    engager_exposures,
    exposures,
    first_exposure,
    on_treatment,
    start_of,
    under_judgement,
)

RULE = "dosing.icans-tarlatamab"


def _in_reach(case: Case, state: NeuroState) -> bool:
    """On treatment, soon enough after the first dose, or an episode coded by a clinician."""
    first = first_exposure(case)
    if first is None or first.day is None:
        return False
    coded = state.clinician or any(e.concept in ("icans", "icans_grade") for e in state.evidence)
    days = (case.today - first.day).days
    return coded or on_treatment(case) or days <= case.p(RULE).int("after_first_dose_days")


@rule(RULE)
def icans_tarlatamab(case: Case) -> Iterator[Finding]:
    state = neuro_state(case)
    judged = under_judgement(case)
    if state is None or (case.ordering and not judged):
        return
    if not exposures(case):
        if not judged:
            yield from _other_engager(case, state)
        return
    if not judged and not _in_reach(case, state):
        return
    references = [j.reference for j in judged] or [""]
    for reference in references:
        yield from _answer(case, state, reference)


def _other_engager(case: Case, state: NeuroState) -> Iterator[Finding]:
    """An engager without a verified table: the grade, and no word on its doses. After CAR-T cells
    grading.icans speaks."""
    last = engager_exposures(case)[-1]
    days = case.p(STEP_UP).int("on_treatment_days")
    late = case.now - start_of(last, case.now) > timedelta(days=days)
    if case.chart.course.infused is not None or late:
        return
    drug = Name(engager(case))
    if state.unresolved and state.grade:
        indicator = Indicator.CRITICAL if state.grade >= 3 else Indicator.WARNING
        summary = msg("summary.engager", grade=state.grade, drug=drug)
        yield _finding(
            case, state, "", str(state.grade), graded(state.grade), indicator, summary, [], other=drug
        )
    elif state.symptoms and state.grade is None:
        symptom = Name(state.symptoms[0].concept)
        yield _finding(
            case,
            state,
            "",
            "symptoms",
            Outcome.REVIEW,
            Indicator.WARNING,
            msg("summary.engager-assess", symptom=symptom, drug=drug),
            [],
            missing=(Missing("ice_score"),),
            other=drug,
        )


def _answer(case: Case, state: NeuroState, reference: str) -> Iterator[Finding]:
    ordering = bool(reference)
    onset = None if state.onset is None else state.onset.date
    if state.ever >= 4:
        yield _finding(case, state, reference, "4", Outcome.STOP, Indicator.CRITICAL, msg("summary.stop"), [])
        return
    if state.unresolved and state.grade:
        grade = state.grade
        severe = grade >= 3
        indicator = Indicator.CRITICAL if severe or ordering else Indicator.WARNING
        blocks: list[Block] = [Bullet(msg(f"action.{grade}"))]
        summary = msg("summary.hold-severe") if severe else msg("summary.hold", grade=grade)
        limit = case.p(RULE).int("unresolved_days")
        if severe and onset is not None and (case.today - onset).days > limit:
            summary = msg("summary.consider", since=onset, limit=Days(limit))
            blocks.append(Bullet(msg("detail.consider", limit=Days(limit))))
        yield _finding(case, state, reference, str(grade), Outcome.HOLD, indicator, summary, blocks)
        return
    if (state.symptoms and state.grade is None) or (state.unresolved and not state.grade):
        named = tuple(dict.fromkeys(e.concept for e in state.symptoms)) or ("icans",)
        yield _finding(
            case,
            state,
            reference,
            "symptoms",
            Outcome.HOLD,
            Indicator.WARNING,
            msg("summary.assess", symptom=Name(named[0])),
            [Bullet(msg("detail.assess"))],
            missing=(Missing("ice_score"),),
        )
        return
    if not ordering and state.ice is not None and state.grade == 0:
        noted = _minor_symptom(case)
        if noted is not None:
            yield _finding(
                case,
                state,
                reference,
                "none",
                Outcome.NOT_PRESENT,
                Indicator.INFO,
                msg("summary.none", symptom=Name(noted.concept), ice=ice_total(state.ice) or 0),
                [],
                extra=(noted,),
            )


def _minor_symptom(case: Case) -> Evidence | None:
    """A neurological symptom of today that does not make ICANS."""
    latest = case.chart.latest("neuro_symptom")
    if latest is not None and (case.today - latest.when.date).days <= 1:
        for code in latest.value.codes:
            return Evidence(latest.reference, code, effective=latest.when)
    return None


def _finding(
    case: Case,
    state: NeuroState,
    reference: str,
    row: str,
    outcome: Outcome,
    indicator: Indicator,
    summary: Message,
    blocks: list[Block],
    *,
    missing: tuple[Missing, ...] = (),
    extra: tuple[Evidence, ...] = (),
    other: Name | None = None,
) -> Finding:
    values: dict[str, Scalar] = {"row": row}
    if state.grade is not None:
        values["icans_grade"] = state.grade
    detail: list[Block] = []
    if state.ice is not None:
        total = ice_total(state.ice)
        if total is not None:
            values["ice"] = total
            detail.append(Bullet(msg("detail.ice", total=total, when=state.ice.when)))
    if state.onset is not None:
        detail.append(Bullet(msg("detail.onset-day", day=state.onset.date)))
        values["days"] = (case.today - state.onset.date).days
    if state.clinician:
        detail.append(Bullet(msg("detail.clinician")))
    detail += blocks
    if outcome in (Outcome.HOLD, Outcome.STOP):
        detail.append(Paragraph(msg(f"detail.{outcome.value}")))
    detail.append(Paragraph(msg("detail.engager", drug=other) if other else msg("detail.course")))
    suggestions: tuple[Suggestion, ...] = ()
    if reference and outcome in (Outcome.HOLD, Outcome.STOP):
        suggestions = (Suggestion("delete", msg("suggest.delete"), (Delete(reference),), recommended=True),)
    return Finding(
        rule=RULE,
        outcome=outcome,
        indicator=indicator,
        summary=summary,
        subject=reference,
        detail=tuple(detail),
        grade=state.ever if row == "4" else state.grade,
        values=values,
        evidence=(*state.evidence, *state.symptoms, *extra),
        missing=missing,
        resource=reference,
        suggestions=suggestions,
    )
