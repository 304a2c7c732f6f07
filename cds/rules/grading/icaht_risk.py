"""Who is at high risk of long haematotoxicity: by CAR-HEMATOTOX, else by profile (handbook figure 9)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from cards.finding import (
    Bullet,
    Evidence,
    Finding,
    Indicator,
    Items,
    Message,
    Missing,
    Outcome,
    Paragraph,
    msg,
)
from cds.engine.case import Case, once_per_case
from cds.engine.rule import rule
from cds.rules.evidence import of_fact, of_observation
from cds.rules.grading.car_hematotox import Group, hematotox, recorded_score, risk_group
from fhir_mapping.chart import ConditionState, Observation, Result

RULE = "grading.icaht-risk"


class Risk(StrEnum):
    HIGH_BY_SCORE = "high-by-score"
    HIGH_BY_PROFILE = "high-by-profile"
    LOW_BY_SCORE = "low-by-score"
    UNKNOWN = "unknown"

    @property
    def high(self) -> bool:
        return self in (Risk.HIGH_BY_SCORE, Risk.HIGH_BY_PROFILE)


@dataclass(frozen=True, slots=True)
class Factor:
    """A factor present on the chart."""

    name: str
    evidence: Evidence


def _latest(case: Case, concept: str) -> Observation | None:
    return case.chart.latest(concept)


def _observed(case: Case, row: Mapping[str, Any]) -> Observation | None:
    """The observation that makes the factor present, if one does."""
    for concept in row.get("stated", ()):
        found = _latest(case, concept)
        if found is not None and (found.value.yes is True or found.value.result is Result.POSITIVE):
            return found
    for concept, answer in (row.get("coded") or {}).items():
        found = _latest(case, concept)
        if found is not None and answer in found.value.codes:
            return found
    for concept in row.get("positive", ()):
        found = _latest(case, concept)
        if found is not None and (found.value.result is Result.POSITIVE or "present" in found.value.codes):
            return found
    for concept in row.get("above_zero", ()):
        found = _latest(case, concept)
        if found is not None and found.value.quantity is not None and found.value.quantity.above(0):
            return found
    return _out_of_range(case, row)


def _out_of_range(case: Case, row: Mapping[str, Any]) -> Observation | None:
    for concept in row.get("above_uln", ()):
        found = _latest(case, concept)
        if found is not None and found.uln is not None:
            quantity = found.value.quantity
            if quantity is not None and quantity.above(found.uln.value):
                return found
    for concept in row.get("below_lln", ()):
        found = _latest(case, concept)
        if found is not None and found.lln is not None:
            quantity = found.value.quantity
            if quantity is not None and quantity.below(found.lln.value):
                return found
    return None


def _present(case: Case, row: Mapping[str, Any]) -> Evidence | None:
    for procedure in case.chart.procedures.of(*row.get("procedures", ("",))):
        if procedure.state.begun:
            return of_fact(procedure, str(row["procedures"][0]))
    wanted = tuple(row.get("conditions", ("",)))
    for condition in case.chart.conditions.of(*wanted):
        past = row["factor"] == "prior-hct" and condition.state is ConditionState.HISTORY
        if condition.state is ConditionState.ACTIVE or past:
            return of_fact(condition, next(c for c in wanted if c in condition.concepts))
    observation = _observed(case, row)
    return None if observation is None else of_observation(observation)


def factors(case: Case, table: str) -> tuple[Factor, ...]:
    """The factors of one table that the chart shows."""
    rows = case.p(RULE).table(table)
    found = [(str(row["factor"]), _present(case, row)) for row in rows]
    return tuple(Factor(name, evidence) for name, evidence in found if evidence is not None)


@once_per_case
def icaht_risk(case: Case) -> Risk:
    """A decided score rules alone; without one, any accepted profile factor makes high risk."""
    group = risk_group(case)
    if group is not Group.UNCLEAR:
        return Risk.HIGH_BY_SCORE if group is Group.HIGH else Risk.LOW_BY_SCORE
    return Risk.HIGH_BY_PROFILE if factors(case, "profile") else Risk.UNKNOWN


def _applies(case: Case) -> bool:
    day0 = case.chart.course.day0_any
    if day0 is None:
        return False
    p = case.p(RULE)
    return p.int("from_day") <= (case.today - day0).days <= p.int("to_day")


def _names(found: tuple[Factor, ...]) -> Items:
    return Items(tuple(msg(f"factor.{factor.name}") for factor in found))


def _score_line(case: Case) -> Message:
    score = hematotox(case)
    recorded = recorded_score(case)
    if score is not None and score.group is not Group.UNCLEAR:
        return (
            msg("score", low=score.low)
            if score.low == score.high
            else msg("score.range", low=score.low, high=score.high)
        )
    if recorded is not None:
        return msg("score.recorded", score=recorded[0], when=recorded[1].when)
    return msg("score.unknown")


def _score_values(case: Case) -> dict[str, int]:
    score, recorded = hematotox(case), recorded_score(case)
    if score is not None and score.low == score.high:
        return {"score": score.low}
    if score is not None and score.group is not Group.UNCLEAR:
        return {"score_min": score.low, "score_max": score.high}
    return {} if recorded is None else {"recorded_score": recorded[0]}


@rule(RULE)
def grade_icaht_risk(case: Case) -> Iterator[Finding]:
    """The profile around the infusion."""
    if not _applies(case):
        return
    risk = icaht_risk(case)
    profile, other = factors(case, "profile"), factors(case, "other")
    detail = [Bullet(_score_line(case))]
    if profile:
        detail.append(Bullet(msg("profile", factors=_names(profile))))
    if other:
        detail.append(Bullet(msg("other", factors=_names(other))))
    score = hematotox(case)
    values: dict[str, str | int | list[str]] = {"row": risk.value, **_score_values(case)}
    if profile:
        values["profile_factors"] = [f.name for f in profile]
    if other:
        values["other_factors"] = [f.name for f in other]
    missing = () if score is None or risk is not Risk.UNKNOWN else tuple(Missing(c) for c in score.missing)
    if risk is Risk.UNKNOWN and not missing:
        missing = (Missing("car_hematotox"),)
    evidence = (*(score.evidence if score is not None else ()), *(f.evidence for f in (*profile, *other)))
    outcome = {Risk.UNKNOWN: Outcome.UNKNOWN, Risk.LOW_BY_SCORE: Outcome.LOW}.get(risk, Outcome.HIGH)
    yield Finding(
        rule=RULE,
        outcome=outcome,
        indicator=None if risk is Risk.UNKNOWN else Indicator.INFO,
        summary=msg(f"summary.{risk.value}", factors=_names(profile) if profile else msg("none")),
        detail=(*detail, Paragraph(msg("criterion"))),
        values=values,
        evidence=evidence,
        missing=missing,
        unconcluded=risk is Risk.UNKNOWN,
    )
