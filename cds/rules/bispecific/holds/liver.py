"""Liver tests and the other laboratory values: rows H1, H2, H3, H3b, O3."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from decimal import Decimal
from itertools import groupby

from cards.finding import Evidence, Missing, Name, Shown, msg
from cds.engine.case import Case
from cds.rules.bispecific import labs
from cds.rules.bispecific.holds.results import grades_of, is_severe, results_of, shown_value
from cds.rules.bispecific.holds.rows import RULE, Action, HoldRow
from cds.rules.evidence import of_observation
from cds.rules.grading.ctcae_labs import LabGrade, ratio_uln, times_uln
from fhir_mapping.chart import Condition, ConditionState, LossReason, Observation

_OTHER_CAUSES = (
    "biliary_obstruction",
    "hbv",
    "hcv",
    "liver_metastasis",
    "hemolysis",
    "gilbert",
    "gvhd",
    "vod",
)
_OTHER_LABS = ("creatinine", "ggt", "alp")


def liver(case: Case) -> Iterator[HoldRow]:
    graded = {concept: grades_of(case, concept) for concept in labs.LIVER}
    stops = [g for results in graded.values() for g in results if g.grade == 4]
    if stops:
        worst = stops[0]
        yield HoldRow(
            "H2",
            Action.STOP,
            msg("row.H2-stop", name=Name(worst.observation.concept), **_liver_shown(worst)),
            worst.observation.when.date,
            evidence=(of_observation(worst.observation),),
        )
    yield from _liver_hold(case, graded)
    yield from _liver_pair(case)
    newest = [results[-1] for results in graded.values() if results]
    lacking = [g for g in newest if g.no_limit and g.grade is None]
    if lacking:
        yield HoldRow(
            "H1",
            Action.NOTE,
            msg("row.no-uln"),
            missing=tuple(
                Missing(g.observation.concept, LossReason.NO_REFERENCE_RANGE, g.observation.reference)
                for g in lacking
            ),
        )


def _liver_shown(graded: LabGrade) -> dict[str, Shown]:
    shown: dict[str, Shown] = {
        "value": shown_value(graded.observation),
        "day": graded.observation.when.date,
    }
    shown["ratio"] = Decimal(0) if graded.ratio is None else round(graded.ratio, 1)
    return shown


def _liver_hold(case: Case, graded: dict[str, tuple[LabGrade, ...]]) -> Iterator[HoldRow]:
    """H1: from the first grade 3-4 until every liver test measured is back to grade 1."""
    merged = sorted(
        (g for r in graded.values() for g in r if g.grade is not None),
        key=lambda g: g.observation.when.latest,
    )
    latest: dict[str, LabGrade] = {}
    opened: LabGrade | None = None
    # day by day: the tests of one day are one sample, whatever their order
    for _, day in groupby(merged, key=lambda g: g.observation.when.date):
        for item in day:
            latest[item.observation.concept] = item
            if is_severe(item):
                opened = opened or item
        if all(_is_low(g) for g in latest.values()):
            opened = None
    if opened is None:
        return
    worst = max(latest.values(), key=lambda g: g.grade or 0)
    yield HoldRow(
        "H1",
        Action.HOLD,
        msg("row.H1-hold", name=Name(worst.observation.concept), **_liver_shown(worst)),
        opened.observation.when.date,
        evidence=tuple(of_observation(g.observation) for g in latest.values()),
        labs=labs.LIVER,
        values={"reference": worst.reference},
    )


def _is_low(graded: LabGrade) -> bool:
    return graded.grade is not None and graded.grade <= 1


def _liver_pair(case: Case) -> Iterator[HoldRow]:
    """H3: transaminase and bilirubin above their limits close together (always upper limits, no baseline)."""
    p = case.p(RULE)
    window = timedelta(hours=float(p["hepatic_pair_hours"]))
    enzymes = [
        o
        for concept in ("alt", "ast")
        for o in results_of(case, concept)
        if times_uln(o, p["pair_transaminase_uln"])
    ]
    yellow = [o for o in results_of(case, "bilirubin_total") if times_uln(o, p["pair_bilirubin_uln"])]
    pairs = [(a, b) for a in enzymes for b in yellow if _apart(a, b) <= window]
    if pairs:
        enzyme, bilirubin = pairs[0]
        evidence = (of_observation(enzyme), of_observation(bilirubin))
        shown: dict[str, Shown] = {
            "name": Name(enzyme.concept),
            "ratio": round(ratio_uln(enzyme) or Decimal(0), 1),
            "bilirubin": round(ratio_uln(bilirubin) or Decimal(0), 1),
            "day": enzyme.when.date,
        }
        causes = [c for c in case.chart.conditions.of(*_OTHER_CAUSES) if _is_cause(c, enzyme)]
        if not causes:
            yield HoldRow("H3", Action.STOP, msg("row.H3-stop", **shown), enzyme.when.date, evidence=evidence)
        elif not _recovered_since(case, pairs):
            cause = next(name for name in _OTHER_CAUSES if name in causes[0].concepts)
            yield HoldRow(
                "H3b",
                Action.HOLD,
                msg("row.H3b-hold", cause=Name(cause), **shown),
                enzyme.when.date,
                evidence=(*evidence, Evidence(causes[0].reference, cause, effective=causes[0].onset)),
                labs=labs.LIVER,
                alarming=True,
            )
        return
    high = next((o for o in enzymes if _is_newest(case, o)), None)
    if high is not None and yellow and _is_newest(case, yellow[-1]):
        yield HoldRow(
            "H3",
            Action.REVIEW,
            msg("row.H3-repeat", enzyme_day=high.when.date, bilirubin_day=yellow[-1].when.date),
            evidence=(of_observation(high), of_observation(yellow[-1])),
            labs=labs.LIVER,
        )


def _apart(a: Observation, b: Observation) -> timedelta:
    """Shortest time between two results."""
    gap = max(a.when.earliest, b.when.earliest) - min(a.when.latest, b.when.latest)
    return max(gap, timedelta(0))


def _is_cause(condition: Condition, at: Observation) -> bool:
    if condition.state is ConditionState.ACTIVE:
        return True
    return (
        condition.state is ConditionState.HISTORY
        and condition.end is not None
        and condition.end.latest >= at.when.earliest
    )


def _recovered_since(case: Case, pairs: Sequence[tuple[Observation, Observation]]) -> bool:
    """Every test of the pairs has a later result, and no liver test is above grade 1 any more."""
    after = max(half.when.latest for pair in pairs for half in pair)
    newest = {
        concept: results[-1]
        for concept in labs.LIVER
        if (results := [g for g in grades_of(case, concept) if g.grade is not None])
    }
    pending = {half.concept for pair in pairs for half in pair}
    pending -= {concept for concept, graded in newest.items() if graded.observation.when.latest > after}
    return not pending and all(_is_low(graded) for graded in newest.values())


def _is_newest(case: Case, result: Observation) -> bool:
    return results_of(case, result.concept)[-1].reference == result.reference


def other_labs(case: Case) -> Iterator[HoldRow]:
    for concept in _OTHER_LABS:
        results = grades_of(case, concept)
        if results and is_severe(results[-1]):
            newest = results[-1]
            yield HoldRow(
                "O3",
                Action.REVIEW,
                msg(
                    "row.O3",
                    name=Name(concept),
                    value=shown_value(newest.observation),
                    grade=newest.grade or 3,
                ),
                newest.observation.when.date,
                evidence=(of_observation(newest.observation),),
                labs=(concept,),
            )
