"""Cytopenias: rows N1, N2, A1, P1."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from decimal import Decimal

from cards.finding import Days, Evidence, Missing, Name, Shown, msg
from cds.engine.case import Case
from cds.rules.bispecific.holds.events import observed_events
from cds.rules.bispecific.holds.results import (
    active_since_first,
    dose_after,
    episodes,
    first_start,
    grades_of,
    is_mild,
    is_severe,
    results_of,
    shown_value,
)
from cds.rules.bispecific.holds.rows import RULE, Action, HoldRow
from cds.rules.evidence import of_observation
from cds.rules.grading.ctcae_labs import febrile, grade_lab
from fhir_mapping.chart import ConditionState, Moment, Observation

_BLEEDING = ("bleeding", "epistaxis", "intracranial_hemorrhage")
_TRANSFUSIONS = ("transfusion_rbc", "transfusion_blood")
_RED_CELLS = ("red_cells", "red_cells_irradiated")


def _counts(case: Case, row: str, concept: str, limit: int | None) -> Iterator[HoldRow]:
    """Rows of a cytopenia with a clock (N1, P1) or without (A1)."""
    for episode in episodes(grades_of(case, concept), is_severe, is_mild):
        newest = episode.recovered or episode.last_failing
        evidence = tuple(
            dict.fromkeys(of_observation(o) for o in (episode.start, episode.last_failing, newest))
        )
        shown: dict[str, Shown] = {
            "value": shown_value(episode.last_failing),
            "day": episode.last_failing.when.date,
            "since": episode.day0,
        }
        if limit is not None and episode.longest > limit:
            yield HoldRow(
                row,
                Action.STOP,
                msg(f"row.{row}-stop", limit=Days(limit), **shown),
                episode.day0,
                0,
                evidence,
                values={"days": episode.longest},
            )
            continue
        days = (case.today - episode.day0).days
        if episode.recovered is None:
            left = None if limit is None else limit - days
            overdue = left is not None and left < 0
            key = f"row.{row}-recheck" if overdue else f"row.{row}-hold"
            texts = dict(shown)
            if limit is not None:
                texts["limit"] = Days(limit)
            yield HoldRow(
                row,
                Action.HOLD,
                msg(key, **texts),
                episode.day0,
                left,
                evidence,
                labs=(concept,),
                values={"days": days, **({"recheck": True} if overdue else {})},
            )
            continue
        apart = (episode.recovered.when.date - episode.day0).days
        if limit is not None and apart > limit and not dose_after(case, episode.recovered):
            yield HoldRow(
                row,
                Action.REVIEW,
                msg(f"row.{row}-review", limit=Days(limit), recovered=episode.recovered.when.date, **shown),
                episode.day0,
                None,
                evidence,
                values={"days": apart},
            )


def _again(case: Case, row: str, concept: str) -> Iterator[HoldRow]:
    """A second episode of grade 4: no limit of the table, but one of a label that could not be read."""
    graded = grades_of(case, concept)
    deep = [
        episode
        for episode in episodes(graded, is_severe, is_mild)
        if any(
            g.grade == 4 and episode.start.when.latest <= g.observation.when.latest <= episode.until
            for g in graded
        )
    ]
    if len(deep) < 2:
        return
    newest = deep[-1]
    if newest.recovered is None or not dose_after(case, newest.recovered):
        yield HoldRow(
            row,
            Action.NOTE,
            msg("row.again", name=Name(concept), episodes=len(deep), day=newest.day0),
            newest.day0,
            evidence=(of_observation(newest.last_failing),),
            values={"grade_4_episodes": len(deep), "unverified": True},
        )


def neutropenia(case: Case) -> Iterator[HoldRow]:
    p = case.p(RULE)
    yield from _counts(case, "N1", "anc", p.int("cytopenia_limit_days"))
    yield from _again(case, "N1", "anc")
    yield from _coded_cytopenia(case, "N1", "neutropenia", "anc")
    yield from _febrile_neutropenia(case)


@dataclass(frozen=True, slots=True)
class _Diagnosis:
    """A cytopenia that a clinician recorded and nobody closed; `since` at the earliest."""

    reference: str
    since: datetime
    grade: int | None


def _diagnoses(case: Case, concept: str) -> Iterator[_Diagnosis]:
    start = first_start(case)
    for condition in active_since_first(case, concept):
        since = start if condition.onset is None else max(condition.onset.earliest, start)
        grade = None if condition.grade is None else condition.grade.value
        yield _Diagnosis(condition.reference, since, grade)
    for event in observed_events(case):
        if concept in event.codes and event.now:
            yield _Diagnosis(
                event.reference, datetime.combine(event.onset, time.min, start.tzinfo), event.now
            )


def _coded_cytopenia(case: Case, row: str, concept: str, lab: str) -> Iterator[HoldRow]:
    """A diagnosis of grade 3-4 where no count was measured since its onset."""
    for found in _diagnoses(case, concept):
        measured = any(o.when.latest >= found.since for o in results_of(case, lab))
        if found.grade is not None and found.grade >= 3 and not measured:
            yield HoldRow(
                row,
                Action.HOLD,
                msg("row.coded", name=Name(concept), since=found.since.date()),
                found.since.date(),
                evidence=(Evidence(found.reference, concept, found.grade),),
                missing=(Missing(lab),),
                labs=(lab,),
            )


def _temperatures(case: Case, start: datetime, end: datetime) -> list[Observation]:
    readings = case.chart.series("body_temperature").between(start, end)
    return [o for o in readings if o.value.quantity is not None]


def _febrile_neutropenia(case: Case) -> Iterator[HoldRow]:
    """N2: hold until the count and the fever-free time are both there."""
    p, helper = case.p(RULE), case.p("grading.ctcae-labs")
    window = timedelta(hours=float(helper["fn_window_hours"]))
    quiet = timedelta(hours=float(p["fever_free_hours"]))
    for episode in episodes(grades_of(case, "anc"), is_severe, is_mild):
        begun = max(episode.start.when.earliest - window, first_start(case))
        end = case.now if episode.recovered is None else episode.recovered.when.latest
        readings = _temperatures(case, begun, end)
        if not febrile(readings, helper):
            continue
        hot = [o for o in _temperatures(case, begun, case.now) if _at_least(o, p["afebrile_cel"])]
        last = hot[-1]
        cool = [
            o for o in _temperatures(case, last.when.latest, case.now) if not _at_least(o, p["afebrile_cel"])
        ]
        afebrile = case.now - last.when.latest >= quiet and bool(cool)
        if episode.recovered is not None and (afebrile or dose_after(case, episode.recovered)):
            continue
        yield HoldRow(
            "N2",
            Action.HOLD,
            msg(
                "row.N2-hold",
                hours=p.int("fever_free_hours"),
                value=shown_value(episode.last_failing),
                temperature=shown_value(last),
                day=last.when.date,
            ),
            episode.day0,
            evidence=(of_observation(episode.last_failing), of_observation(last)),
            labs=("anc",),
        )
        return
    newest = results_of(case, "anc")
    for found in _diagnoses(case, "febrile_neutropenia"):
        hot = [o for o in _temperatures(case, found.since, case.now) if _at_least(o, p["afebrile_cel"])]
        cool = _temperatures(case, case.now - quiet, case.now)
        recovered = bool(newest) and newest[-1].when.latest >= found.since and is_mild(grade_lab(newest[-1]))
        afebrile = bool(cool) and not any(o.when.latest > case.now - quiet for o in hot)
        if not (recovered and afebrile):
            yield HoldRow(
                "N2",
                Action.HOLD,
                msg("row.coded", name=Name("febrile_neutropenia"), since=found.since.date()),
                found.since.date(),
                evidence=(Evidence(found.reference, "febrile_neutropenia"),),
                labs=("anc",),
            )


def _at_least(obs: Observation, limit: Decimal) -> bool:
    quantity = obs.value.quantity
    return quantity is not None and bool(quantity.at_least(limit))


def anaemia(case: Case) -> Iterator[HoldRow]:
    yield from _counts(case, "A1", "hemoglobin", None)
    yield from _coded_cytopenia(case, "A1", "anemia", "hemoglobin")
    newest = results_of(case, "hemoglobin")
    if not newest or not is_mild(grade_lab(newest[-1])):
        return
    window = timedelta(hours=float(case.p(RULE)["transfusion_named_hours"]))
    closed = episodes(grades_of(case, "hemoglobin"), is_severe, is_mild)
    if not closed or closed[-1].recovered is None or dose_after(case, closed[-1].recovered):
        return
    recovered = closed[-1].recovered.when
    for reference, start in _transfusions(case):
        if start.earliest <= recovered.latest and recovered.latest - start.latest <= window:
            yield HoldRow(
                "A1",
                Action.NOTE,
                msg("row.A1-transfused", value=shown_value(closed[-1].recovered), day=recovered.date),
                evidence=(Evidence(reference, "transfusion_rbc", effective=start),),
            )
            return


def _transfusions(case: Case) -> Iterator[tuple[str, Moment]]:
    """Red cells that were given, with the start (B3)."""
    for procedure in case.chart.procedures.of(*_TRANSFUSIONS):
        if procedure.state.begun and procedure.start is not None:
            yield procedure.reference, procedure.start
    for record in case.chart.administrations(*_TRANSFUSIONS, *_RED_CELLS):
        if record.timing.first is not None:
            yield record.reference, record.timing.first


def thrombocytopenia(case: Case) -> Iterator[HoldRow]:
    yield from _counts(case, "P1", "platelets", case.p(RULE).int("cytopenia_limit_days"))
    yield from _again(case, "P1", "platelets")
    yield from _coded_cytopenia(case, "P1", "thrombocytopenia", "platelets")
    closed = episodes(grades_of(case, "platelets"), is_severe, is_mild)
    if not closed or closed[-1].recovered is None or dose_after(case, closed[-1].recovered):
        return
    recovered = closed[-1].recovered
    bleeding = [c for c in case.chart.conditions.of(*_BLEEDING) if c.state is ConditionState.ACTIVE]
    observed = case.chart.latest("bleeding")
    documented = observed is not None and observed.when.latest >= closed[-1].start.when.earliest
    bleeds_now = documented and observed is not None and bool(set(observed.value.codes) - {"none"})
    evidence = [
        of_observation(recovered),
        *(Evidence(c.reference, "bleeding", effective=c.onset) for c in bleeding),
    ]
    if bleeding or bleeds_now:
        yield HoldRow(
            "P1",
            Action.HOLD,
            msg("row.P1-bleeding", value=shown_value(recovered), day=recovered.when.date),
            closed[-1].day0,
            evidence=tuple(evidence),
            labs=("platelets",),
        )
    elif not documented:
        yield HoldRow(
            "P1",
            Action.NOTE,
            msg("row.P1-ask", value=shown_value(recovered), day=recovered.when.date),
            closed[-1].day0,
            evidence=tuple(evidence),
            missing=(Missing("bleeding"),),
        )
