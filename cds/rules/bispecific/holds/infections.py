"""Infections: rows I1 to I4."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from cards.finding import Evidence, Missing, Name, Scalar, msg
from cds.engine.case import Case
from cds.rules.after_cart import INFECTIONS, confirmed_infections, current_encounters, in_icu
from cds.rules.bispecific.holds.events import observed_events
from cds.rules.bispecific.holds.results import first_start
from cds.rules.bispecific.holds.rows import RULE, Action, HoldRow
from cds.rules.bispecific.tarlatamab import Phase, exposures, live_orders, phase
from cds.rules.readiness.suspected import is_suspected
from fhir_mapping.chart import Condition, ConditionState, Route

_ANTI_INFECTIVES = (
    "class_antibacterials",
    "class_antimycotics",
    "class_antivirals",
    "class_azole_antifungals",
)
_VAGUE = ("infection", "infection_any")


def controlled(case: Case, condition: Condition) -> bool:
    """A newer review says that no active infection is left (T11)."""
    status = case.chart.latest("infection_status")
    if status is None or (status.focus and condition.reference not in status.focus):
        return False
    newer = condition.onset is None or status.when.latest >= condition.onset.earliest
    return newer and bool({"none", "resolved"} & set(status.value.codes))


def _derived_grade(case: Case, condition: Condition) -> int | None:
    """Grade by care where none is coded (T12): shock or ICU 4, IV treatment or admission 3, oral 2."""
    shock = any(c.state is ConditionState.ACTIVE for c in case.chart.conditions.of("shock"))
    if shock or in_icu(case):
        return 4
    lately = case.now - timedelta(hours=float(case.p(RULE)["treated_hours"]))
    given = [
        d
        for d in case.chart.administrations(*_ANTI_INFECTIVES)
        if d.timing.first is not None and d.timing.first.latest >= lately
    ]
    treatment = [
        d
        for d in (*case.chart.active_drugs(*_ANTI_INFECTIVES), *given)
        if "purpose_prophylaxis" not in d.purposes
    ]
    admitted = any(
        e.inpatient
        and (
            not e.reasons.isdisjoint(condition.concepts)
            or (
                condition.onset is not None
                and e.start is not None
                and condition.onset.latest >= e.start.earliest
            )
        )
        for e in current_encounters(case)
    )
    if admitted or any(d.route is Route.INTRAVENOUS for d in treatment):
        return 3
    return 2 if any(d.route is Route.ORAL for d in treatment) else None


def _recent(case: Case, condition: Condition) -> bool:
    """A suspicion of these days; an old one that nobody followed is none."""
    days = case.p(RULE).int("suspected_days")
    return condition.onset is not None and condition.onset.latest >= case.now - timedelta(days=days)


def infections(case: Case) -> Iterator[HoldRow]:
    stepping = phase(case) is Phase.STEP_UP
    if not exposures(case) and not case.ordering and not live_orders(case):
        return
    active = {e.reference: e for e in confirmed_infections(case)}
    for condition in case.chart.conditions.of(*INFECTIONS):
        evidence = active.pop(condition.reference, None)
        coded = None if condition.grade is None else condition.grade.value
        on_drug = (
            bool(exposures(case))
            and condition.onset is not None
            and (condition.onset.latest >= first_start(case))
        )
        counts = condition.state in (ConditionState.ACTIVE, ConditionState.HISTORY)
        if counts and coded is not None and coded >= 4 and on_drug:
            yield _infection("I3", Action.STOP, "row.I3-stop", condition, coded)
            continue
        if controlled(case, condition):
            continue
        if is_suspected(case, condition) and _recent(case, condition):
            row = "I1" if stepping else "I2"
            yield _infection(row, Action.REVIEW, "row.I-suspected", condition, None)
        if evidence is None:
            continue
        grade = coded if coded is not None else _derived_grade(case, condition)
        if stepping and coded is None:
            # in the step-up phase any active infection holds; a grade inferred from care decides nothing more
            yield _infection("I1", Action.HOLD, "row.I1-hold", condition, grade)
        elif grade is not None and grade >= 4 and exposures(case):
            yield _infection("I3", Action.STOP, "row.I3-stop", condition, grade)
        elif stepping:
            yield _infection("I1", Action.HOLD, "row.I1-hold", condition, grade)
        elif grade is None:
            yield _infection("I2", Action.REVIEW, "row.I2-ungraded", condition, grade)
        elif grade >= 3:
            yield _infection("I2", Action.HOLD, "row.I2-hold", condition, grade)
        else:
            yield _infection("I4", Action.NOTE, "row.I4-note", condition, grade)
    yield from _observed(case, stepping)
    for evidence in active.values():
        action = Action.HOLD if stepping else Action.REVIEW
        row = "I1" if stepping else "I2"
        key = "row.I1-culture" if stepping else "row.I2-culture"
        day = case.today if evidence.effective is None else evidence.effective.date
        yield HoldRow(row, action, msg(key, name=Name(evidence.concept), day=day), day, evidence=(evidence,))


def _observed(case: Case, stepping: bool) -> Iterator[HoldRow]:
    """Infections recorded as graded adverse events: the newest grade is the one now."""
    for event in observed_events(case) if exposures(case) else ():
        if event.codes.isdisjoint(INFECTIONS):
            continue
        concept = _named(event.codes)
        evidence = Evidence(event.reference, concept, event.now)
        if event.worst >= 4:
            row, action, key, grade = "I3", Action.STOP, "row.I3-stop", event.worst
        elif not event.now:
            continue
        elif stepping:
            row, action, key, grade = "I1", Action.HOLD, "row.I1-hold", event.now
        elif event.severe:
            row, action, key, grade = "I2", Action.HOLD, "row.I2-hold", event.worst
        else:
            row, action, key, grade = "I4", Action.NOTE, "row.I4-note", event.now
        text = msg(key, name=Name(concept)) if row == "I1" else msg(key, name=Name(concept), grade=grade)
        yield HoldRow(row, action, text, event.onset, evidence=(evidence,), values={"infection_grade": grade})


def _named(concepts: frozenset[str]) -> str:
    """The most telling of the concepts that one infection carries."""
    return min(
        (c for c in INFECTIONS if c in concepts),
        key=lambda c: (c in _VAGUE, c.startswith("infection"), INFECTIONS.index(c)),
        default="infection_any",
    )


def _infection(row: str, action: Action, key: str, condition: Condition, grade: int | None) -> HoldRow:
    concept = _named(condition.concepts)
    onset = condition.onset
    shown: dict[str, Name | int] = {"name": Name(concept)}
    if grade is not None and row != "I1":
        shown["grade"] = grade
    missing = (Missing("ctcae_grade", resource=condition.reference),) if key == "row.I2-ungraded" else ()
    values: dict[str, Scalar] = {} if grade is None else {"infection_grade": grade}
    return HoldRow(
        row,
        action,
        msg(key, **shown),
        None if onset is None else onset.date,
        evidence=(Evidence(condition.reference, concept, grade, effective=onset),),
        missing=missing,
        values=values,
    )
