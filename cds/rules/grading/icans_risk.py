"""Early predictor and risk factors of severe ICANS, from lymphodepletion to day 10."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from cards.finding import (
    Block,
    Bullet,
    Evidence,
    Finding,
    Indicator,
    Items,
    Message,
    Outcome,
    Paragraph,
    msg,
)
from cds.engine.case import Case
from cds.engine.rule import rule
from cds.rules.after_cart import coded_episodes, recorded_grades, therapy_start
from cds.rules.evidence import of_drug_start, of_fact, of_observation
from cds.rules.grading.crs_episode import crs_applies, crs_now, worst_grade
from cds.rules.grading.fever import hours
from cds.rules.grading.hemodynamics import hypotensive, infusions, pressures
from fhir_mapping.chart import ConditionState, Observation

RULE = "grading.icans-risk"
_NAMED = 3  # factors that a summary has room for


def _window(case: Case) -> tuple[datetime, datetime] | None:
    """H0 to H36; D0 and day 1 where the hour of the infusion is not known."""
    infused = case.chart.course.last_infused
    if infused is None or infused.when is None:
        return None
    if infused.when.exact:
        begun = infused.when.earliest
        return begun, begun + hours(case.p(RULE)["window_hours"])
    return infused.when.earliest, infused.when.earliest + timedelta(days=2) - timedelta(microseconds=1)


def _hot(case: Case, start: datetime, end: datetime) -> Observation | None:
    p = case.p(RULE)
    limits = {"Cel": p["temperature_cel"], "[degF]": p["temperature_degf"]}
    for observation in case.chart.series("body_temperature").between(start, end):
        quantity = observation.value.quantity
        if quantity is None:
            continue
        shown, limit = quantity.in_reported_unit(limits)
        if shown.at_least(limit):
            return observation
    return None


def _unstable(case: Case, start: datetime, end: datetime) -> Evidence | None:
    for record in infusions(case):
        first, last = record.timing.first, record.timing.last
        if first is not None and first.earliest <= end and (last is None or last.latest >= start):
            return of_drug_start(record)
    for pressure in pressures(case):
        if pressure.when.latest >= start and pressure.when.earliest <= end and hypotensive(case, pressure):
            quantity = pressure.systolic or pressure.mean
            assert quantity is not None
            concept = "bp_systolic" if pressure.systolic is not None else "bp_mean"
            return Evidence(pressure.references[0], concept, quantity.value, quantity.unit, pressure.when)
    for condition in case.chart.conditions.of("hypotension"):
        onset = condition.onset
        if (
            condition.state in (ConditionState.ACTIVE, ConditionState.HISTORY)
            and onset is not None
            and onset.latest >= start
            and onset.earliest <= end
        ):
            return of_fact(condition, "hypotension")
    return None


def _factors(case: Case) -> Iterator[tuple[str, Evidence]]:
    """Risk factors of grade 3 and more that the chart shows, as (catalogue key, fact)."""
    p = case.p(RULE)
    chart = case.chart
    course = chart.course
    if course.product is not None and course.product.costimulation == "CD28":
        reference = course.infused.reference if course.infused is not None else ""
        reference = reference or (course.product_orders[0] if course.product_orders else "")
        yield "cd28", Evidence(reference, course.product.concept)
    burden = chart.latest("tumor_burden")
    if burden is not None and "high" in burden.value.codes:
        yield "burden", of_observation(burden)
    else:
        bulk = chart.latest("bulky_disease")
        if bulk is not None and bulk.value.yes:
            yield "burden", of_observation(bulk)
    begun = therapy_start(case) or case.now
    for condition in chart.conditions.of("preexisting_neurologic_disease", "seizure"):
        known = condition.state in (ConditionState.ACTIVE, ConditionState.HISTORY)
        before = condition.onset is None or condition.onset.latest < begun
        if known and before:
            prior = "preexisting_neurologic_disease" not in condition.concepts
            yield (
                ("seizure" if prior else "neurologic"),
                of_fact(condition, "seizure" if prior else "preexisting_neurologic_disease"),
            )
    within = timedelta(days=p.int("platelets_max_age_days"))
    platelets = chart.series("platelets").latest(case.now, within)
    count = None if platelets is None else platelets.value.quantity
    if platelets is not None and count is not None and count.below(p["low_platelets"]):
        yield "platelets", of_observation(platelets)
    if crs_applies(case):
        state = crs_now(case)
        onset = state.onset
        if onset is not None and state.episode is not None:
            fact = Evidence(state.episode.onset_reference, "crs", effective=onset)
            recorded = _recorded_severe(case, state.episode.begun)
            if worst_grade(case, state) >= p["severe_crs_grade"]:
                yield "severe-crs", fact
            elif recorded is not None:
                yield "severe-crs", recorded
            if onset.exact and onset.earliest - begun <= hours(p["early_crs_hours"]):
                yield "early-crs", fact


def _recorded_severe(case: Case, begun: datetime) -> Evidence | None:
    """A clinician's grade of this episode that is severe: what was seen then may not be on the chart."""
    limit = case.p(RULE)["severe_crs_grade"]
    graded = recorded_grades(case, "crs_grade", begun)
    coded = coded_episodes(case, "crs", begun)
    found = [
        Evidence(r.reference, "crs_grade", r.grade, effective=r.when)
        for r in graded
        if (r.grade or 0) >= limit
    ]
    found += [of_fact(c, "crs") for c in coded if c.grade is not None and c.grade.value >= limit]
    return found[-1] if found else None


def _named(factors: tuple[str, ...]) -> Message:
    shown = Items(tuple(msg(f"factor.{key}") for key in factors[:_NAMED]))
    more = len(factors) - _NAMED
    if more > 0:
        return msg("summary.factors-more", factors=shown, more=more)
    return msg("summary.factors", factors=shown)


@rule(RULE)
def predict_icans(case: Case) -> Iterator[Finding]:
    """Predictor (after the infusion) and risk factors, from lymphodepletion to day 10."""
    course = case.chart.course
    day = course.day(case.today)
    if day is None:
        first = course.ldc_first
        if course.infused_date_unknown or first is None or first.date is None or first.date > case.today:
            return
    elif not 0 <= day <= case.p(RULE).int("last_day"):
        return
    window = _window(case)
    hot = unstable = None
    if window is not None:
        hot, unstable = _hot(case, *window), _unstable(case, *window)
    factors = tuple(_factors(case))
    names = tuple(dict.fromkeys(key for key, _ in factors))
    positive = hot is not None and unstable is not None
    detail: list[Block] = []
    evidence: list[Evidence] = []
    summary: Message = msg("summary.none")
    if hot is not None and unstable is not None:
        assert hot.value.quantity is not None
        shown = hot.value.quantity.reported or hot.value.quantity.value
        within = case.p(RULE).int("window_hours")
        detail.append(Paragraph(msg("predictor", temperature=shown, when=hot.when, hours=within)))
        summary = msg("summary.positive", temperature=shown, hours=within)
        evidence += [of_observation(hot), unstable]
    detail += [Bullet(msg(f"factor.{key}")) for key in names]
    evidence += [fact for _, fact in factors]
    infused = course.last_infused
    hour_unknown = infused is not None and infused.when is not None and not infused.when.exact
    if hour_unknown:
        detail.append(Bullet(msg("hour-unknown")))
    detail.append(Paragraph(msg("prophylaxis")))
    outcome, indicator = Outcome.NOT_PRESENT, None
    if positive:
        outcome, indicator = Outcome.PREDICTOR_POSITIVE, Indicator.WARNING
    elif factors:
        outcome, indicator = Outcome.INFO, Indicator.INFO
        summary = _named(names)
    values: dict[str, str | int | bool | list[str]] = {
        "row": "predictor" if positive else "factors" if factors else "none",
        "predictor_positive": positive,
        "factors": sorted(names),
    }
    if day is not None:
        values["day"] = day
    if hour_unknown:
        values["infusion_hour_unknown"] = True
    yield Finding(
        rule=RULE,
        outcome=outcome,
        indicator=indicator,
        summary=summary,
        detail=tuple(detail),
        values=dict(values.items()),
        evidence=tuple(dict.fromkeys(e for e in evidence if e.reference)),
    )
