"""Severe and recurrent infection, as the immunoglobulin rule asks for it (chart-facts T10, T12, E4)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

from cards.finding import Evidence
from cds.engine.case import Case
from cds.rules import evidence
from cds.rules.after_cart import INFECTIONS
from fhir_mapping.chart import Condition, ConditionState, DrugState, Route, add_months

ANTI_INFECTIVES = ("class_antibacterials", "class_antimycotics", "class_antivirals")


@dataclass(frozen=True, slots=True)
class Burden:
    """Infections of the look-back. `severe` and `recurrent` are what the rules ask for; `newest` is the last
    onset, today for an active one without a day."""

    severe: bool
    recurrent: bool
    episodes: int
    evidence: tuple[Evidence, ...]
    newest: date | None

    @property
    def relevant(self) -> bool:
        return self.severe or self.recurrent


def _onset(condition: Condition) -> date | None:
    moment = condition.onset or condition.recorded
    return None if moment is None else moment.date


def _admitted(case: Case, condition: Condition, onset: date | None) -> bool:
    """Admitted for it, or it began during a stay."""
    for encounter in case.chart.encounters:
        if encounter.planned or not encounter.inpatient:
            continue
        begins = None if encounter.start is None else encounter.start.date
        if onset is not None and begins is not None:
            end = case.today if encounter.end is None else encounter.end.date
            if begins - timedelta(days=1) <= onset <= end:
                return True
        about_it = not encounter.reasons.isdisjoint(condition.concepts & frozenset(INFECTIONS))
        if about_it and (onset is None or begins is None or begins >= onset):
            return True
    return False


def _intravenous(case: Case, condition: Condition, onset: date | None) -> bool:
    """An intravenous anti-infective that names this infection, or names none and began after it."""
    for record in case.chart.drugs.of(*ANTI_INFECTIVES):
        used = record.given or record.in_force or record.state is DrugState.COMPLETED
        if record.route is not Route.INTRAVENOUS or not used:
            continue
        if "purpose_prophylaxis" in record.purposes:
            continue
        named = not record.reasons.isdisjoint(condition.concepts)
        if record.reasons and not named:
            continue
        first = record.timing.first
        if named or (
            onset is not None
            and first is not None
            and timedelta(0) <= first.date - onset <= timedelta(days=14)
        ):
            return True
    return False


def burden(case: Case, months: int, apart_days: int) -> Burden:
    """Confirmed infections since the infusion with onset in the last `months`, or active without a day.

    Severe: graded 3 or more, admitted, or treated intravenously. Recurrent: two onsets at least `apart_days`
    apart.
    """
    start = case.chart.course.last_day0
    floor = add_months(case.today, -months)
    severe = False
    onsets: list[date] = []
    newest: date | None = None
    shown: list[Evidence] = []
    for condition in case.chart.conditions.of(*INFECTIONS):
        if condition.state not in (ConditionState.ACTIVE, ConditionState.HISTORY):
            continue
        onset = _onset(condition)
        if onset is None:
            if condition.state is not ConditionState.ACTIVE:
                continue
        elif onset < floor or onset > case.today or (start is not None and onset < start):
            continue
        else:
            onsets.append(onset)
        newest = max(newest or floor, onset or case.today)
        concept = next(c for c in INFECTIONS if c in condition.concepts)
        shown.append(evidence.of_fact(condition, concept))
        graded = condition.grade is not None and condition.grade.value >= 3
        if graded or _admitted(case, condition, onset) or _intravenous(case, condition, onset):
            severe = True
    episodes: list[date] = []
    for onset in sorted(onsets):
        if not episodes or (onset - episodes[-1]).days >= apart_days:
            episodes.append(onset)
    return Burden(severe, len(episodes) >= 2, len(episodes), tuple(shown), newest)
