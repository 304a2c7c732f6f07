"""Hypersensitivity and other adverse events: rows Y1, O1, O2."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from cards.finding import Days, Evidence, Message, Name, msg
from cds.engine.case import Case
from cds.rules.after_cart import INFECTIONS
from cds.rules.bispecific.holds.results import first_start
from cds.rules.bispecific.holds.rows import RULE, Action, HoldRow
from cds.rules.bispecific.tarlatamab import DRUG, last_exposure
from fhir_mapping.chart import Condition, ConditionState, Observation

CYTOPENIAS = ("neutropenia", "febrile_neutropenia", "thrombocytopenia", "anemia", "pancytopenia")
HYPERSENSITIVITY = ("anaphylaxis", "hypersensitivity")
_DISEASE = ("sclc", "nsclc", "lung_cancer_any", "cns_metastasis", "liver_metastasis")


def hypersensitivity(case: Case) -> Iterator[HoldRow]:
    start = first_start(case)
    for condition in case.chart.conditions.of(*HYPERSENSITIVITY):
        if condition.state not in (ConditionState.ACTIVE, ConditionState.HISTORY):
            continue
        if condition.onset is None or condition.onset.latest < start or other_culprit(condition):
            continue
        grade = None if condition.grade is None else condition.grade.value
        evidence = (Evidence(condition.reference, "hypersensitivity", grade, effective=condition.onset),)
        since = condition.onset.date
        if "anaphylaxis" in condition.concepts or (grade is not None and grade >= 4):
            yield HoldRow("Y1", Action.STOP, msg("row.Y1-stop", day=since), since, evidence=evidence)
        elif condition.state is ConditionState.ACTIVE:
            key = "row.Y1-consider" if grade == 3 else "row.Y1-hold"
            yield HoldRow("Y1", Action.HOLD, msg(key, day=since), since, evidence=evidence)
        else:
            last = last_exposure(case)
            if last is not None and last.day is not None and last.day <= since:
                yield HoldRow("Y1", Action.REVIEW, msg("row.Y1-review", day=since), since, evidence=evidence)
    for allergy in case.chart.allergy_to(DRUG):
        if allergy.recorded is not None and allergy.recorded.latest >= start:
            yield HoldRow(
                "Y1",
                Action.HOLD,
                msg("row.Y1-hold", day=allergy.recorded.date),
                allergy.recorded.date,
                evidence=(Evidence(allergy.reference, DRUG, effective=allergy.recorded),),
            )


def other_culprit(condition: Condition) -> bool:
    """The chart names another cause."""
    return bool(condition.attributed_to) and DRUG not in condition.attributed_to


@dataclass(frozen=True, slots=True)
class Event:
    """One adverse event: worst grade, current grade (None: resolved), onset."""

    reference: str
    name: Name | Message
    worst: int
    now: int
    onset: date


def _grade_of(obs: Observation) -> int | None:
    value = obs.component("ctcae_grade")
    if value is None:
        return None
    if value.number is not None:
        return value.number
    quantity = value.quantity
    if quantity is not None and quantity.value == quantity.value.to_integral_value():
        return int(quantity.value)
    return next((int(c[-1]) for c in value.codes if c.startswith("grade_")), None)


def adverse_events(case: Case) -> Iterator[Event]:
    """Graded events since the first dose that no other row judges."""
    start = first_start(case)
    named = {
        *INFECTIONS,
        *CYTOPENIAS,
        *HYPERSENSITIVITY,
        *_DISEASE,
        "crs",
        "icans",
        "iec_complication",
    }
    for condition in case.chart.conditions.all:
        if condition.grade is None or condition.onset is None or condition.onset.latest < start:
            continue
        if condition.state not in (ConditionState.ACTIVE, ConditionState.HISTORY) or other_culprit(condition):
            continue
        if not named.isdisjoint(condition.concepts) or "infection" in condition.categories:
            continue
        concept = min(condition.concepts, default="")
        name = Name(concept) if concept else msg("event.unnamed")
        current = (
            condition.grade.value if condition.state is ConditionState.ACTIVE and condition.end is None else 0
        )
        yield Event(condition.reference, name, condition.grade.value, current, condition.onset.date)
    courses: dict[str, list[tuple[Observation, int]]] = {}
    for obs in case.chart.series("adverse_event"):
        grade = _grade_of(obs)
        if grade is None or obs.when.latest < start or named & set(obs.value.codes):
            continue
        courses.setdefault("|".join(sorted(obs.value.codes)) or obs.value.text, []).append((obs, grade))
    for course in courses.values():
        worst = max(grade for _, grade in course)
        begun: date | None = None
        for obs, grade in course:
            begun = (begun or obs.when.date) if grade >= 3 else (begun if grade > 1 else None)
        codes = course[-1][0].value.codes
        yield Event(
            course[-1][0].reference,
            Name(codes[0]) if codes else msg("event.unnamed"),
            worst,
            course[-1][1] if begun is not None else min(course[-1][1], 1),
            begun or course[0][0].when.date,
        )


def other_events(case: Case) -> Iterator[HoldRow]:
    limit = case.p(RULE).int("other_ae_limit_days")
    for event in adverse_events(case):
        evidence = (Evidence(event.reference, "adverse_event", event.worst),)
        if event.worst >= 4:
            yield HoldRow(
                "O2",
                Action.STOP,
                msg("row.O2-stop", name=event.name, day=event.onset),
                event.onset,
                evidence=evidence,
            )
        elif event.worst == 3 and event.now >= 2:
            days = (case.today - event.onset).days
            late = days > limit
            yield HoldRow(
                "O1",
                Action.HOLD,
                msg(
                    "row.O1-consider" if late else "row.O1-hold",
                    name=event.name,
                    day=event.onset,
                    limit=Days(limit),
                ),
                event.onset,
                max(0, limit - days),
                evidence,
                values={"days": days, **({"consider_stop": True} if late else {})},
            )
