"""Hypersensitivity and other adverse events: rows Y1, O1, O2."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import date

from cards.finding import Days, Evidence, Message, Name, Text, msg
from cds.engine.case import Case
from cds.rules.after_cart import INFECTIONS
from cds.rules.bispecific.holds.results import first_start
from cds.rules.bispecific.holds.rows import RULE, Action, HoldRow
from cds.rules.bispecific.tarlatamab import DRUG, last_exposure
from fhir_mapping.chart import Condition, ConditionState, Observation

CYTOPENIAS = ("neutropenia", "febrile_neutropenia", "thrombocytopenia", "anemia", "pancytopenia")
_HYPERSENSITIVITY = ("anaphylaxis", "hypersensitivity")
_DISEASE = ("sclc", "nsclc", "lung_cancer_any", "cns_metastasis", "liver_metastasis")
_T_CELL_TOXICITY = frozenset({"crs", "icans", "iec_complication"})
# rows of their own, or (lymphopenia: expected) none at all
_OTHER_ROWS = frozenset({*INFECTIONS, *CYTOPENIAS, *_HYPERSENSITIVITY, "lymphopenia"})
_VAGUE = frozenset({"adverse_event", "infection", "infection_any"})


def _another_cause(causes: Collection[str]) -> bool:
    """The chart names a cause, and it is not tarlatamab."""
    return bool(causes) and DRUG not in causes


def other_culprit(condition: Condition) -> bool:
    """The chart names another cause."""
    return _another_cause(condition.attributed_to)


@dataclass(frozen=True, slots=True)
class Event:
    """One graded event since the first dose: worst grade, current grade (0: resolved), onset.

    `severe`: grade 3 or more was reached and grade 1 not again since.
    """

    reference: str
    codes: frozenset[str]
    text: str
    worst: int
    now: int
    onset: date
    severe: bool

    @property
    def name(self) -> Name | Text | Message:
        """What to call it; readable from every rule."""
        if known := min(self.codes - _VAGUE, default=""):
            return Name(known)
        return Text(self.text) if self.text else Message("event.unnamed", {}, RULE)


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


def _charted(case: Case) -> Iterator[Event]:
    """Graded conditions and adverse-event resources."""
    start = first_start(case)
    for condition in case.chart.conditions.all:
        if condition.grade is None or condition.onset is None or condition.onset.latest < start:
            continue
        if condition.state not in (ConditionState.ACTIVE, ConditionState.HISTORY) or other_culprit(condition):
            continue
        grade = condition.grade.value
        ongoing = condition.state is ConditionState.ACTIVE and condition.end is None
        codes = condition.concepts | (condition.categories & {"infection"})
        yield Event(
            condition.reference,
            codes,
            condition.text,
            grade,
            grade if ongoing else 0,
            condition.onset.date,
            ongoing and grade >= 3,
        )


def _causes(case: Case, course: Sequence[Observation]) -> frozenset[str]:
    """Causes that the observations of an event name, or that a statement about them does (T9)."""
    named = {
        code for obs in course for value in obs.components.get("attributed_to", ()) for code in value.codes
    }
    references = {obs.reference for obs in course}
    stated = (o for o in case.chart.series("attributed_to") if not references.isdisjoint(o.focus))
    return frozenset(named.union(*(o.value.codes for o in stated)))


def observed_events(case: Case) -> Iterator[Event]:
    """Graded adverse-event observations, one event per term: its course is all of them in time order."""
    start = first_start(case)
    courses: dict[str, list[tuple[Observation, int]]] = {}
    for obs in case.chart.series("adverse_event"):
        grade = _grade_of(obs)
        if grade is not None and obs.when.latest >= start:
            courses.setdefault("|".join(sorted(obs.value.codes)) or obs.value.text, []).append((obs, grade))
    for course in courses.values():
        if _another_cause(_causes(case, [obs for obs, _ in course])):
            continue
        newest, grade = course[-1]
        begun: date | None = None
        for obs, each in course:
            begun = (begun or obs.when.date) if each >= 3 else (begun if each > 1 else None)
        yield Event(
            newest.reference,
            frozenset(newest.value.codes),
            newest.value.text,
            max(each for _, each in course),
            grade,
            begun or course[0][0].when.date,
            begun is not None,
        )


def adverse_events(case: Case) -> Iterator[Event]:
    """Events that the rows for "other" adverse events judge. CRS and ICANS as conditions have rules of their
    own; as graded terms they are events like any other."""
    apart = _OTHER_ROWS | _T_CELL_TOXICITY | set(_DISEASE)
    yield from (event for event in _charted(case) if apart.isdisjoint(event.codes))
    yield from (event for event in observed_events(case) if _OTHER_ROWS.isdisjoint(event.codes))


def recorded_events(case: Case) -> Iterator[Event]:
    """Every recorded event with a grade, whatever row judges it; not CRS, ICANS, the disease, lymphopenia."""
    apart = _T_CELL_TOXICITY | {*_DISEASE, "lymphopenia"}
    yield from (e for e in (*_charted(case), *observed_events(case)) if apart.isdisjoint(e.codes))


def hypersensitivity(case: Case) -> Iterator[HoldRow]:
    """Row Y1. An anaphylaxis stops whatever its grade."""
    start = first_start(case)
    for condition in case.chart.conditions.of(*_HYPERSENSITIVITY):
        if condition.state not in (ConditionState.ACTIVE, ConditionState.HISTORY):
            continue
        if condition.onset is None or condition.onset.latest < start or other_culprit(condition):
            continue
        grade = None if condition.grade is None else condition.grade.value
        evidence = Evidence(condition.reference, "hypersensitivity", grade, effective=condition.onset)
        severe = "anaphylaxis" in condition.concepts
        active = condition.state is ConditionState.ACTIVE
        yield from _reaction(case, condition.onset.date, evidence, grade, severe=severe, active=active)
    for event in observed_events(case):
        if not event.codes.isdisjoint(_HYPERSENSITIVITY):
            evidence = Evidence(event.reference, "hypersensitivity", event.worst)
            severe = "anaphylaxis" in event.codes
            yield from _reaction(
                case, event.onset, evidence, event.worst, severe=severe, active=event.now > 0
            )
    for obs in case.chart.series("infusion_reaction"):
        if "anaphylaxis" in obs.value.codes and obs.when.latest >= start:
            evidence = Evidence(obs.reference, "anaphylaxis", effective=obs.when)
            yield from _reaction(case, obs.when.date, evidence, None, severe=True, active=True)
    for allergy in case.chart.allergy_to(DRUG):
        if allergy.recorded is not None and allergy.recorded.latest >= start:
            evidence = Evidence(allergy.reference, DRUG, effective=allergy.recorded)
            severe = "anaphylaxis" in allergy.manifestations
            yield from _reaction(case, allergy.recorded.date, evidence, None, severe=severe, active=True)


def _reaction(
    case: Case, since: date, evidence: Evidence, grade: int | None, *, severe: bool, active: bool
) -> Iterator[HoldRow]:
    """The row of one reaction; a resolved one asks until a later dose shows that somebody judged it."""
    if severe or (grade is not None and grade >= 4):
        yield HoldRow("Y1", Action.STOP, msg("row.Y1-stop", day=since), since, evidence=(evidence,))
    elif active:
        key = "row.Y1-consider" if grade == 3 else "row.Y1-hold"
        yield HoldRow("Y1", Action.HOLD, msg(key, day=since), since, evidence=(evidence,))
    else:
        last = last_exposure(case)
        if last is not None and last.day is not None and last.day <= since:
            yield HoldRow("Y1", Action.REVIEW, msg("row.Y1-review", day=since), since, evidence=(evidence,))


def other_events(case: Case) -> Iterator[HoldRow]:
    limit = case.p(RULE).int("other_ae_limit_days")
    for event in adverse_events(case):
        evidence = (Evidence(event.reference, "adverse_event", event.worst),)
        if event.worst >= 4:
            yield HoldRow(
                "O2",
                Action.STOP,
                msg("row.O2-stop", name=event.name, grade=event.worst, day=event.onset),
                event.onset,
                evidence=evidence,
            )
        elif event.severe:
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
