"""Infection work-up, monitoring and transfer when CRS is present or suspected, day 0 to 30."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from cards.finding import (
    Block,
    Bullet,
    Create,
    Finding,
    Indicator,
    Items,
    Name,
    Outcome,
    Paragraph,
    Selection,
    ServiceProposal,
    Suggestion,
    Table,
    msg,
)
from cds.engine.case import Case
from cds.engine.rule import rule
from cds.rules.after_cart import in_icu, therapy_start
from cds.rules.grading.crs import evidence as crs_evidence
from cds.rules.grading.crs_episode import CrsState, Gate, crs_applies, crs_at, crs_now
from cds.rules.grading.fever import hours
from cds.rules.work_up import Found, WorkUp, look_for
from fhir_mapping.chart import ConditionState, Moment

RULE = "follow-up.crs-workup"
_INJURIES = ("shock", "organ_failure", "aki", "vod", "heart_failure")
_SUPPORT = ("dialysis", "hemodialysis", "peritoneal_dialysis", "mechanical_ventilation", "ecmo")


def _organ_injury(case: Case) -> Moment | None:
    """Onset of a new organ injury since the infusion, or of the first support of an organ (T18)."""
    start = therapy_start(case)
    window = hours(case.p(RULE)["stale_sign_hours"])
    for condition in case.chart.conditions.of(*_INJURIES):
        onset = condition.onset
        if condition.state is not ConditionState.ACTIVE or onset is None or start is None:
            continue
        if onset.latest >= max(start, case.now - window):
            return onset
    if start is None:
        return None
    for support in _SUPPORT:
        begun = [p.start for p in case.chart.procedures.of(support) if p.state.begun and p.start is not None]
        first = min(begun, key=lambda moment: moment.latest, default=None)
        if first is not None and first.latest >= max(start, case.now - window):
            return first
    return None


def _began(case: Case, state: CrsState, injury: Moment | None) -> datetime | None:
    """Onset that the work-up is timed by: the episode's, else the first sign; None where nothing is wrong."""
    if state.gate is not Gate.RESOLVED and state.episode is not None and (state.present or state.signs):
        onset = state.episode.onset
        return onset.earliest if onset is not None else state.episode.begun
    if state.bp.low > 0 and state.bp.pressure is not None:
        return state.bp.pressure.when.earliest
    if state.signs:
        return case.now
    return None if injury is None else injury.earliest


def _grade(state: CrsState) -> int:
    """Grade the checklist goes by: a clinician's higher one where the chart only shows "at least"."""
    known = state.low or 0
    told = None if state.recorded is None else state.recorded.grade
    return max(known, told) if state.open_ended and told is not None else known


def unstable(case: Case, state: CrsState) -> bool:
    """Severe CRS, or a grade that certainly rose in the last hours."""
    p = case.p(RULE)
    if state.low is None:
        return False
    if _grade(state) >= p["severe_from_grade"]:
        return True
    before = crs_at(case, case.now - hours(p["unstable_within_hours"]))
    known = before.low is not None and before.high is not None and not before.open_ended
    return known and before.o2.recorded and state.low >= 2 and state.low > (before.high or 0) >= 1


def _items(case: Case, state: CrsState, since: datetime) -> Iterator[tuple[WorkUp, Indicator]]:
    p = case.p(RULE)
    grade = _grade(state)
    asked = {
        "any": True,
        "monitoring": grade >= p["monitoring_from_grade"],
        "severe": grade >= p["severe_from_grade"],
        "unstable": unstable(case, state),
    }
    for row in p.table("items"):
        if not asked[row["from"]]:
            continue
        concepts = (row["item"], row["also"]) if row["also"] else (row["item"],)
        found = look_for(case, since, *concepts)
        if row["item"] == "icu_transfer" and in_icu(case):
            found = WorkUp(Found.DONE, "icu_transfer")
        yield found, Indicator(row["level"])


@rule(RULE)
def work_up_crs(case: Case) -> Iterator[Finding]:
    """A checklist: what the chart does not show, in CRS or with a sign that should raise its suspicion."""
    if not crs_applies(case) or case.chart.patient.deceased:
        return
    state = crs_now(case)
    began = _began(case, state, _organ_injury(case))
    start = therapy_start(case)
    if began is None or start is None:
        return
    since = began - hours(case.p(RULE)["workup_window_hours"])
    items = tuple(_items(case, state, since))
    open_items = [(found, level) for found, level in items if not found.covered]
    serious = [found for found, level in open_items if level is Indicator.WARNING]
    if not open_items:
        outcome, indicator, summary = Outcome.READY, None, msg("summary.complete")
    elif serious:
        outcome, indicator = Outcome.INCOMPLETE, Indicator.WARNING
        named = Items(tuple(Name(f.concept) for f in serious[:3]))
        more = len(serious) - 3
        key = "summary.missing" if more <= 0 else "summary.missing-more"
        summary = msg(key, items=named) if more <= 0 else msg(key, items=named, more=more)
    else:
        outcome, indicator = Outcome.READY_WITH_POINTS, Indicator.INFO
        summary = msg("summary.consider", items=Items(tuple(Name(f.concept) for f, _ in open_items)))
    yield Finding(
        rule=RULE,
        outcome=outcome,
        indicator=indicator,
        summary=summary,
        detail=tuple(_detail(case, state, items)),
        grade=state.low,
        values={
            "row": serious[0].concept
            if serious
            else (open_items[0][0].concept if open_items else "complete"),
            "not_found": [f.concept for f in serious],
            "consider": [f.concept for f, level in open_items if level is Indicator.INFO],
            "hours_since_onset": int((case.now - began) / timedelta(hours=1)),
        },
        evidence=(*crs_evidence(state), *(e for found, _ in items for e in found.evidence)),
        suggestions=_suggestions(open_items),
        selection=Selection.ANY,
    )


def _detail(case: Case, state: CrsState, items: tuple[tuple[WorkUp, Indicator], ...]) -> Iterator[Block]:
    rows = []
    for found, level in sorted(items, key=lambda i: (i[0].covered, -i[1].rank)):
        status = msg(f"found.{found.found.value}")
        shown = msg("at", when=found.when) if found.when is not None else msg("no-date")
        rows.append((Name(found.concept), status, shown, msg(f"level.{level.value}")))
    yield Table((msg("head.item"), msg("head.status"), msg("head.when"), msg("head.level")), tuple(rows))
    if state.low == 0 and state.signs:
        yield Paragraph(msg("suspicion"))
    if case.chart.course.last_day(case.today) is not None:
        yield Bullet(msg("surveillance", day=case.p("grading.crs").int("last_day")))
    yield Paragraph(msg("not-found-means"))


def _suggestions(open_items: list[tuple[WorkUp, Indicator]]) -> tuple[Suggestion, ...]:
    """One order set for what is needed, one for what is to be considered."""
    found = []
    for level, key in ((Indicator.WARNING, "needed"), (Indicator.INFO, "consider")):
        concepts = [f.concept for f, of_level in open_items if of_level is level]
        if concepts:
            actions = tuple(Create(ServiceProposal(concept, reason="crs")) for concept in concepts)
            label = msg(f"suggest.{key}", items=Items(tuple(Name(c) for c in concepts)))
            found.append(Suggestion(key, label, actions, key == "needed"))
    return tuple(found)
