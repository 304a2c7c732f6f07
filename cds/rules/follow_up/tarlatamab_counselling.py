"""Advice for the patient on tarlatamab: one merged card, printable; a warning only for severe events."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from cards.finding import (
    Bullet,
    Evidence,
    Finding,
    Indicator,
    Message,
    Outcome,
    Scalar,
    msg,
)
from cds.engine.case import Case
from cds.engine.rule import Hook, rule
from cds.rules.after_cart import INFECTIONS
from cds.rules.bispecific.history import Kind
from cds.rules.bispecific.holds.events import observed_events, recorded_events
from cds.rules.bispecific.holds.infections import controlled
from cds.rules.bispecific.holds.rows import Action
from cds.rules.bispecific.holds.state import hold_state
from cds.rules.bispecific.neuro import neuro_state
from cds.rules.bispecific.tarlatamab import (
    DRUG,
    exposures,
    label_of_last,
    last_exposure,
    next_due,
    on_treatment,
    start_of,
)
from cds.rules.readiness.tarlatamab_pregnancy import RULE as PREGNANCY
from cds.rules.readiness.tarlatamab_pregnancy import Potential, potential, protected_until
from fhir_mapping.chart import ConditionState, EventState

RULE = "follow-up.tarlatamab-counselling"
_NEURO_CONDITIONS = (
    "aphasia",
    "coma",
    "confusion",
    "delirium",
    "disorientation",
    "dizziness",
    "encephalopathy",
    "headache",
    "lethargy",
    "myoclonus",
    "seizure",
    "slowed_thinking",
    "somnolence",
    "syncope",
    "tremor",
)


@dataclass(frozen=True, slots=True)
class _Advice:
    row: str
    text: Message
    evidence: tuple[Evidence, ...] = ()


@rule(RULE)
def counselling(case: Case) -> Iterator[Finding]:
    if not on_treatment(case) or not exposures(case):
        return
    severe = list(_severe(case))
    advice = [*severe, *_driving(case), *_discharge(case), *_always(case), *_contraception(case)]
    if not advice:
        return
    values: dict[str, Scalar | list[Scalar]] = {"row": advice[0].row, "rows": [a.row for a in advice]}
    due = _next_visit(case)
    if due is not None:
        values["next_dose"] = due
    end = protected_until(case)
    if end is not None and any(a.row == "contraception" for a in advice):
        values["contraception_until"] = end
    yield Finding(
        rule=RULE,
        outcome=Outcome.ADVISE,
        indicator=Indicator.WARNING if severe else Indicator.INFO,
        summary=severe[0].text if severe else msg("summary"),
        detail=tuple(Bullet(a.text) for a in advice),
        values=values,
        evidence=tuple(dict.fromkeys(e for a in advice for e in a.evidence)),
    )


def _severe(case: Case) -> Iterator[_Advice]:
    """A grade 3-4 event needs a visit or admission."""
    over = {c.reference for c in case.chart.conditions.of(*INFECTIONS) if controlled(case, c)}
    for event in recorded_events(case):
        if event.now >= 3 and event.reference not in over:
            key = "row.grade-4" if event.now >= 4 else "row.grade-3"
            evidence = (Evidence(event.reference, "adverse_event", event.now),)
            yield _Advice("severe-event", msg(key, name=event.name, grade=event.now), evidence)


def _driving(case: Case) -> Iterator[_Advice]:
    state = neuro_state(case)
    if state is not None and state.unresolved:
        yield _Advice("driving", msg("row.driving"), state.evidence)
        return
    symptom = _symptom(case)
    if symptom is not None:
        yield _Advice("driving", msg("row.driving"), (symptom,))


def _symptom(case: Case) -> Evidence | None:
    """A neurological symptom not known to have ended."""
    since = case.now - timedelta(days=case.p(RULE).int("symptom_days"))
    begun = start_of(exposures(case)[0], case.now)
    state = neuro_state(case)
    over = None if state is None else state.resolved
    for condition in case.chart.conditions.of(*_NEURO_CONDITIONS, "neuro_symptom"):
        onset = condition.onset
        if condition.state is not ConditionState.ACTIVE or onset is None or onset.latest < max(begun, since):
            continue
        if over is None or onset.latest > over:
            concept = next((c for c in _NEURO_CONDITIONS if c in condition.concepts), "neuro_symptom")
            return Evidence(condition.reference, concept, effective=onset)
    newest = case.chart.latest("neuro_symptom")
    if newest is None or newest.when.latest < max(begun, since) or not set(newest.value.codes) - {"none"}:
        return _neuro_event(case, max(begun, since), over)
    if over is not None and newest.when.latest <= over:
        return _neuro_event(case, max(begun, since), over)
    return Evidence(newest.reference, newest.value.codes[0], effective=newest.when)


def _neuro_event(case: Case, since: datetime, over: datetime | None) -> Evidence | None:
    """A neurological symptom recorded as a graded adverse event whose newest grade, since `since` and after
    `over`, is not 0."""
    taken = {o.reference: o.when for o in case.chart.series("adverse_event")}
    for event in observed_events(case):
        terms = [c for c in (*_NEURO_CONDITIONS, "neuro_symptom") if c in event.codes]
        when = taken[event.reference]
        if not terms or event.now < 1 or when.latest < since or (over is not None and when.latest <= over):
            continue
        return Evidence(event.reference, terms[0], event.now, effective=when)
    return None


def _discharge(case: Case) -> Iterator[_Advice]:
    if case.hook is not Hook.ENCOUNTER_DISCHARGE:
        return
    p = case.p(RULE)
    last = last_exposure(case)
    # of an infusion that was broken off, or a history without a step, the longest watch is assumed
    label = "" if last is None or last.kind is Kind.INCOMPLETE else label_of_last(case)
    if last is None or (label and label not in p.words("discharge_steps")):
        return
    yield _Advice("discharge", msg("row.discharge", hours=p.int("near_care_hours")))


def _next_visit(case: Case) -> date | None:
    """A booked visit, else the day of the next dose; None while a hold, a stop or a delay leaves it open."""
    booked = [
        a.start.date
        for a in case.chart.appointments.of(DRUG)
        if a.state is EventState.BOOKED and a.start is not None and a.start.date >= case.today
    ]
    if booked:
        return min(booked)
    due = next_due(case)
    if due is None or due.on_schedule is None or due.on_schedule < case.today:
        return None  # late, or to be begun again: the ladder rules say what is due
    return None if hold_state(case).action >= Action.HOLD else due.on_schedule


def _always(case: Case) -> Iterator[_Advice]:
    due = _next_visit(case)
    if due is not None:
        yield _Advice("next-dose", msg("row.next-dose", day=due))
    yield _Advice("vaccines", msg("row.vaccines"))
    yield _Advice("medicines", msg("row.medicines"))


def _contraception(case: Case) -> Iterator[_Advice]:
    end = protected_until(case)
    if end is not None and case.today <= end and potential(case) is Potential.YES:
        yield _Advice(
            "contraception",
            msg("row.contraception", end=end, months=case.p(PREGNANCY).int("contraception_months")),
        )
