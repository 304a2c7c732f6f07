"""Withhold, resume, stop tarlatamab: the worst of stop > hold > review > go over all rows.

Stops are sticky: every result from the first dose on counts. Clocks start on the first failing result of an
episode (day 0); a limit is broken only by a still-failing result dated later than it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import IntEnum

from cards.finding import (
    Block,
    Bullet,
    Create,
    Days,
    Delete,
    Evidence,
    Finding,
    Heading,
    Indicator,
    Message,
    Missing,
    Name,
    Outcome,
    Override,
    Paragraph,
    Scalar,
    ServiceProposal,
    Shown,
    Suggestion,
    msg,
)
from cds.engine.case import Case, once_per_case
from cds.engine.rule import Hook, rule
from cds.rules.after_cart import INFECTIONS, confirmed_infections, current_encounters, in_icu
from cds.rules.bispecific import labs
from cds.rules.bispecific.neuro import neuro_state
from cds.rules.bispecific.orders import Judged
from cds.rules.bispecific.tarlatamab import (
    DRUG,
    Phase,
    dosed,
    exposures,
    first_exposure,
    last_exposure,
    live_orders,
    on_treatment,
    phase,
    recorded_hold,
    recorded_stop,
    start_of,
    under_judgement,
)
from cds.rules.bispecific.toxicity import crs_history
from cds.rules.grading.ctcae_labs import LabGrade, baseline_before, febrile, grade_lab, ratio_uln, times_uln
from fhir_mapping.chart import Amount, Condition, ConditionState, LossReason, Observation, Route

RULE = "dosing.tarlatamab-hold"
_CYTOPENIAS = ("neutropenia", "febrile_neutropenia", "thrombocytopenia", "anemia", "pancytopenia")
_HYPERSENSITIVITY = ("anaphylaxis", "hypersensitivity")
_DISEASE = ("sclc", "nsclc", "lung_cancer_any", "cns_metastasis", "liver_metastasis")
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
_ANTI_INFECTIVES = (
    "class_antibacterials",
    "class_antimycotics",
    "class_antivirals",
    "class_azole_antifungals",
)
_BLEEDING = ("bleeding", "epistaxis", "intracranial_hemorrhage")
_TRANSFUSIONS = ("transfusion_rbc", "transfusion_blood")
LIVER_TESTS = ("alt", "ast", "bilirubin_total")
_OTHER_LABS = ("creatinine", "ggt", "alp")


# the table's own order, for rows of equal weight
_ORDER = tuple("K11 N1 N2 A1 P1 Y1 I1 I2 I3 I4 H1 H2 H3 H3b O1 O2 O3 C1 Z1".split())


class Action(IntEnum):
    """What a row asks for, mildest first."""

    GO = 0
    NOTE = 1
    REVIEW = 2
    HOLD = 3
    STOP = 4


@dataclass(frozen=True, slots=True)
class HoldRow:
    """One row of the table that applies.

    `day0` starts its clock; `days_left` until the limit; `elsewhere`: another rule writes its card;
    `labs`: tests to repeat.
    """

    row: str
    action: Action
    text: Message
    day0: date | None = None
    days_left: int | None = None
    evidence: tuple[Evidence, ...] = ()
    missing: tuple[Missing, ...] = ()
    labs: tuple[str, ...] = ()
    elsewhere: bool = False
    alarming: bool = False  # critical also as a hold
    values: dict[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HoldState:
    """All rows that apply, worst first."""

    rows: tuple[HoldRow, ...]

    @property
    def action(self) -> Action:
        return max((row.action for row in self.rows), default=Action.GO)

    @property
    def own(self) -> tuple[HoldRow, ...]:
        """Rows whose card this rule writes."""
        return tuple(row for row in self.rows if not row.elsewhere)


@once_per_case
def hold_state(case: Case) -> HoldState:
    rows = [*_recorded(case), *_infections(case)]
    if exposures(case):
        rows += _neutropenia(case)
        rows += _anaemia(case)
        rows += _platelets(case)
        rows += _liver(case)
        rows += _hypersensitivity(case)
        rows += _other_events(case)
        rows += _other_labs(case)
        rows += _crs(case)
        rows += _neuro(case)
    rows = [row for row in rows if row.row != "C1" or not _explained(case, rows)]
    return HoldState(tuple(sorted(rows, key=lambda r: (-r.action, _ORDER.index(r.row)))))


def _recorded(case: Case) -> Iterator[HoldRow]:
    if stop := recorded_stop(case):
        yield HoldRow(
            "K11", Action.STOP, _dated("row.recorded-stop", stop.since), evidence=(_ref(stop.reference),)
        )
    if hold := recorded_hold(case):
        yield HoldRow(
            "K11", Action.HOLD, _dated("row.recorded-hold", hold.since), evidence=(_ref(hold.reference),)
        )


def _dated(key: str, day: date | None) -> Message:
    return msg(key + "-undated") if day is None else msg(key, day=day)


def _ref(reference: str) -> Evidence:
    return Evidence(reference, DRUG)


# --- results since the first dose


def _first_start(case: Case) -> datetime:
    first = first_exposure(case)
    assert first is not None
    return start_of(first, case.now)


def _results(case: Case, concept: str) -> tuple[Observation, ...]:
    start = _first_start(case)
    return tuple(
        o
        for o in case.chart.series(concept)
        if o.value.quantity is not None and start <= o.when.latest and o.when.earliest <= case.now
    )


def _baseline(case: Case, concept: str) -> Observation | None:
    return baseline_before(case.chart.series(concept), _first_start(case))


def _graded(case: Case, concept: str) -> tuple[LabGrade, ...]:
    base = _baseline(case, concept)
    return tuple(grade_lab(o, base) for o in _results(case, concept))


def _lab_evidence(obs: Observation) -> Evidence:
    quantity = obs.value.quantity
    assert quantity is not None
    return Evidence(obs.reference, obs.concept, quantity.value, quantity.unit, obs.when)


def _shown(obs: Observation) -> Amount:
    quantity = obs.value.quantity
    assert quantity is not None
    return Amount(quantity.value, quantity.unit)


@dataclass(frozen=True, slots=True)
class _Episode:
    """A run of failing results up to the first recovered one."""

    start: Observation
    last_failing: Observation
    recovered: Observation | None

    @property
    def day0(self) -> date:
        return self.start.when.date

    @property
    def longest(self) -> int:
        """Days from the first to the last failing result."""
        return (self.last_failing.when.date - self.day0).days


def _episodes(
    results: Sequence[LabGrade], failing: Callable[[LabGrade], bool], fine: Callable[[LabGrade], bool]
) -> list[_Episode]:
    found: list[_Episode] = []
    start: Observation | None = None
    last: Observation | None = None
    for graded in results:
        obs = graded.observation
        if failing(graded):
            start, last = start or obs, obs
        elif start is not None and last is not None and fine(graded):
            found.append(_Episode(start, last, obs))
            start = last = None
    if start is not None and last is not None:
        found.append(_Episode(start, last, None))
    return found


def _severe(graded: LabGrade) -> bool:
    return graded.grade is not None and graded.grade >= 3


def _mild(graded: LabGrade) -> bool:
    return graded.grade is not None and graded.grade <= 2


def _dose_after(case: Case, obs: Observation) -> bool:
    """A dose followed that result: whoever gave it had judged it."""
    last = last_exposure(case)
    return last is not None and last.day is not None and last.day > obs.when.date


def _counts(case: Case, row: str, concept: str, limit: int | None) -> Iterator[HoldRow]:
    """Rows of a cytopenia with a clock (N1, P1) or without (A1)."""
    for episode in _episodes(_graded(case, concept), _severe, _mild):
        newest = episode.recovered or episode.last_failing
        evidence = tuple(
            dict.fromkeys(_lab_evidence(o) for o in (episode.start, episode.last_failing, newest))
        )
        shown: dict[str, Shown] = {
            "value": _shown(episode.last_failing),
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
        if limit is not None and apart > limit and not _dose_after(case, episode.recovered):
            yield HoldRow(
                row,
                Action.REVIEW,
                msg(f"row.{row}-review", limit=Days(limit), recovered=episode.recovered.when.date, **shown),
                episode.day0,
                None,
                evidence,
                values={"days": apart},
            )


def _neutropenia(case: Case) -> Iterator[HoldRow]:
    p = case.p(RULE)
    yield from _counts(case, "N1", "anc", p.int("cytopenia_limit_days"))
    yield from _coded_cytopenia(case, "N1", "neutropenia", "anc")
    yield from _febrile_neutropenia(case)


def _coded_cytopenia(case: Case, row: str, concept: str, lab: str) -> Iterator[HoldRow]:
    """A diagnosis of grade 3-4 where no count was measured since its onset."""
    for condition in _active_since_first(case, concept):
        severe = condition.grade is not None and condition.grade.value >= 3
        onset = condition.onset
        if (
            severe
            and onset is not None
            and not any(o.when.latest >= onset.earliest for o in _results(case, lab))
        ):
            yield HoldRow(
                row,
                Action.HOLD,
                msg("row.coded", name=Name(concept), since=onset.date),
                onset.date,
                evidence=(Evidence(condition.reference, concept, effective=onset),),
                missing=(Missing(lab),),
                labs=(lab,),
            )


def _active_since_first(case: Case, *concepts: str) -> tuple[Condition, ...]:
    start = _first_start(case)
    return tuple(
        c
        for c in case.chart.conditions.of(*concepts)
        if c.state is ConditionState.ACTIVE and (c.onset is None or c.onset.latest >= start)
    )


def _temperatures(case: Case, start: datetime, end: datetime) -> list[Observation]:
    found = [
        o
        for concept in ("body_temperature", "body_surface_temperature")
        for o in case.chart.series(concept)
        if o.value.quantity is not None and start <= o.when.latest and o.when.earliest <= end
    ]
    return sorted(found, key=lambda o: (o.when.latest, o.reference))


def _febrile_neutropenia(case: Case) -> Iterator[HoldRow]:
    """N2: hold until the count and the fever-free time are both there."""
    p, helper = case.p(RULE), case.p("grading.ctcae-labs")
    window = timedelta(hours=float(helper["fn_window_hours"]))
    quiet = timedelta(hours=float(p["fever_free_hours"]))
    coded = _active_since_first(case, "febrile_neutropenia")
    for episode in _episodes(_graded(case, "anc"), _severe, _mild):
        begun = max(episode.start.when.earliest - window, _first_start(case))
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
        if episode.recovered is not None and (afebrile or _dose_after(case, episode.recovered)):
            continue
        yield HoldRow(
            "N2",
            Action.HOLD,
            msg(
                "row.N2-hold",
                hours=p.int("fever_free_hours"),
                value=_shown(episode.last_failing),
                temperature=_shown(last),
                day=last.when.date,
            ),
            episode.day0,
            evidence=(_lab_evidence(episode.last_failing), _lab_evidence(last)),
            labs=("anc",),
        )
        return
    newest = _results(case, "anc")
    for condition in coded:
        onset = condition.onset
        begun = _first_start(case) if onset is None else max(onset.earliest, _first_start(case))
        hot = [o for o in _temperatures(case, begun, case.now) if _at_least(o, p["afebrile_cel"])]
        cool = _temperatures(case, case.now - quiet, case.now)
        recovered = bool(newest) and newest[-1].when.latest >= begun and _mild(grade_lab(newest[-1]))
        afebrile = bool(cool) and not any(o.when.latest > case.now - quiet for o in hot)
        if not (recovered and afebrile):
            yield HoldRow(
                "N2",
                Action.HOLD,
                msg("row.coded", name=Name("febrile_neutropenia"), since=begun.date()),
                begun.date(),
                evidence=(Evidence(condition.reference, "febrile_neutropenia", effective=onset),),
                labs=("anc",),
            )


def _at_least(obs: Observation, limit: Decimal) -> bool:
    quantity = obs.value.quantity
    return quantity is not None and bool(quantity.at_least(limit))


def _anaemia(case: Case) -> Iterator[HoldRow]:
    yield from _counts(case, "A1", "hemoglobin", None)
    yield from _coded_cytopenia(case, "A1", "anemia", "hemoglobin")
    newest = _results(case, "hemoglobin")
    if not newest or not _mild(grade_lab(newest[-1])):
        return
    window = timedelta(hours=float(case.p(RULE)["transfusion_named_hours"]))
    closed = _episodes(_graded(case, "hemoglobin"), _severe, _mild)
    if not closed or closed[-1].recovered is None or _dose_after(case, closed[-1].recovered):
        return
    recovered = closed[-1].recovered.when
    for procedure in case.chart.procedures.of(*_TRANSFUSIONS):
        start = procedure.start
        if (
            start is not None
            and start.earliest <= recovered.latest
            and recovered.latest - start.latest <= window
        ):
            yield HoldRow(
                "A1",
                Action.NOTE,
                msg("row.A1-transfused", value=_shown(closed[-1].recovered), day=recovered.date),
                evidence=(Evidence(procedure.reference, "transfusion_rbc", effective=start),),
            )
            return


def _platelets(case: Case) -> Iterator[HoldRow]:
    yield from _counts(case, "P1", "platelets", case.p(RULE).int("cytopenia_limit_days"))
    yield from _coded_cytopenia(case, "P1", "thrombocytopenia", "platelets")
    closed = _episodes(_graded(case, "platelets"), _severe, _mild)
    if not closed or closed[-1].recovered is None or _dose_after(case, closed[-1].recovered):
        return
    recovered = closed[-1].recovered
    bleeding = [c for c in case.chart.conditions.of(*_BLEEDING) if c.state is ConditionState.ACTIVE]
    observed = case.chart.latest("bleeding")
    documented = observed is not None and observed.when.latest >= closed[-1].start.when.earliest
    bleeds_now = documented and observed is not None and bool(set(observed.value.codes) - {"none"})
    evidence = [
        _lab_evidence(recovered),
        *(Evidence(c.reference, "bleeding", effective=c.onset) for c in bleeding),
    ]
    if bleeding or bleeds_now:
        yield HoldRow(
            "P1",
            Action.HOLD,
            msg("row.P1-bleeding", value=_shown(recovered), day=recovered.when.date),
            closed[-1].day0,
            evidence=tuple(evidence),
            labs=("platelets",),
        )
    elif not documented:
        yield HoldRow(
            "P1",
            Action.NOTE,
            msg("row.P1-ask", value=_shown(recovered), day=recovered.when.date),
            closed[-1].day0,
            evidence=tuple(evidence),
            missing=(Missing("bleeding"),),
        )


# --- liver


def _liver(case: Case) -> Iterator[HoldRow]:
    graded = {concept: _graded(case, concept) for concept in LIVER_TESTS}
    stops = [g for results in graded.values() for g in results if g.grade == 4]
    if stops:
        worst = stops[0]
        yield HoldRow(
            "H2",
            Action.STOP,
            msg("row.H2-stop", name=Name(worst.observation.concept), **_liver_shown(worst)),
            worst.observation.when.date,
            evidence=(_lab_evidence(worst.observation),),
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
            labs=LIVER_TESTS,
        )


def _liver_shown(graded: LabGrade) -> dict[str, Shown]:
    shown: dict[str, Shown] = {
        "value": _shown(graded.observation),
        "day": graded.observation.when.date,
    }
    shown["ratio"] = Decimal(0) if graded.ratio is None else round(graded.ratio, 1)
    return shown


def _liver_hold(case: Case, graded: dict[str, tuple[LabGrade, ...]]) -> Iterator[HoldRow]:
    """H1: from the first grade 3-4 until every liver test measured is back to grade 1."""
    merged = sorted((g for r in graded.values() for g in r), key=lambda g: g.observation.when.latest)
    latest: dict[str, LabGrade] = {}
    opened: LabGrade | None = None
    for item in merged:
        if item.grade is None:
            continue
        latest[item.observation.concept] = item
        if item.grade >= 3:
            opened = opened or item
        elif opened is not None and all(g.grade is not None and g.grade <= 1 for g in latest.values()):
            opened = None
    if opened is None:
        return
    worst = max(latest.values(), key=lambda g: g.grade or 0)
    yield HoldRow(
        "H1",
        Action.HOLD,
        msg("row.H1-hold", name=Name(worst.observation.concept), **_liver_shown(worst)),
        opened.observation.when.date,
        evidence=tuple(_lab_evidence(g.observation) for g in latest.values()),
        labs=LIVER_TESTS,
        values={"reference": worst.reference},
    )


def _liver_pair(case: Case) -> Iterator[HoldRow]:
    """H3: transaminase and bilirubin above their limits close together (always upper limits, no baseline)."""
    p = case.p(RULE)
    window = timedelta(hours=float(p["hepatic_pair_hours"]))
    enzymes = [
        o
        for concept in ("alt", "ast")
        for o in _results(case, concept)
        if times_uln(o, p["pair_transaminase_uln"])
    ]
    yellow = [o for o in _results(case, "bilirubin_total") if times_uln(o, p["pair_bilirubin_uln"])]
    pairs = [(a, b) for a in enzymes for b in yellow if _apart(a, b) <= window]
    if pairs:
        enzyme, bilirubin = pairs[0]
        evidence = (_lab_evidence(enzyme), _lab_evidence(bilirubin))
        shown: dict[str, Shown] = {
            "name": Name(enzyme.concept),
            "ratio": round(ratio_uln(enzyme) or Decimal(0), 1),
            "bilirubin": round(ratio_uln(bilirubin) or Decimal(0), 1),
            "day": enzyme.when.date,
        }
        causes = [c for c in case.chart.conditions.of(*_OTHER_CAUSES) if _is_cause(c, enzyme)]
        if not causes:
            yield HoldRow("H3", Action.STOP, msg("row.H3-stop", **shown), enzyme.when.date, evidence=evidence)
        elif not _recovered_since(case, pairs[-1]):
            cause = next(name for name in _OTHER_CAUSES if name in causes[0].concepts)
            yield HoldRow(
                "H3b",
                Action.HOLD,
                msg("row.H3b-hold", cause=Name(cause), **shown),
                enzyme.when.date,
                evidence=(*evidence, Evidence(causes[0].reference, cause, effective=causes[0].onset)),
                labs=LIVER_TESTS,
                alarming=True,
            )
        return
    if enzymes and yellow and _both_still(case, enzymes[-1], yellow[-1]):
        yield HoldRow(
            "H3",
            Action.REVIEW,
            msg("row.H3-repeat", enzyme_day=enzymes[-1].when.date, bilirubin_day=yellow[-1].when.date),
            evidence=(_lab_evidence(enzymes[-1]), _lab_evidence(yellow[-1])),
            labs=LIVER_TESTS,
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


def _recovered_since(case: Case, pair: tuple[Observation, Observation]) -> bool:
    """Every liver test has a later result of grade 0-1."""
    after = max(pair[0].when.latest, pair[1].when.latest)
    later = {
        concept: [g for g in _graded(case, concept) if g.observation.when.latest > after]
        for concept in LIVER_TESTS
    }
    measured = [later[pair[0].concept], later["bilirubin_total"]]
    return all(r and r[-1].grade is not None and r[-1].grade <= 1 for r in measured)


def _both_still(case: Case, enzyme: Observation, yellow: Observation) -> bool:
    """Each half is the newest result of its test."""
    return (
        _results(case, enzyme.concept)[-1].reference == enzyme.reference
        and _results(case, "bilirubin_total")[-1].reference == yellow.reference
    )


def _other_labs(case: Case) -> Iterator[HoldRow]:
    for concept in _OTHER_LABS:
        results = _graded(case, concept)
        if results and _severe(results[-1]):
            newest = results[-1]
            yield HoldRow(
                "O3",
                Action.REVIEW,
                msg("row.O3", name=Name(concept), value=_shown(newest.observation), grade=newest.grade or 3),
                newest.observation.when.date,
                evidence=(_lab_evidence(newest.observation),),
                labs=(concept,),
            )


# --- events


def _hypersensitivity(case: Case) -> Iterator[HoldRow]:
    start = _first_start(case)
    for condition in case.chart.conditions.of(*_HYPERSENSITIVITY):
        if condition.state not in (ConditionState.ACTIVE, ConditionState.HISTORY):
            continue
        if condition.onset is None or condition.onset.latest < start or _other_culprit(condition):
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


def _other_culprit(condition: Condition) -> bool:
    """The chart names another cause."""
    return bool(condition.attributed_to) and DRUG not in condition.attributed_to


@dataclass(frozen=True, slots=True)
class _Event:
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


def adverse_events(case: Case) -> Iterator[_Event]:
    """Graded events since the first dose that no other row judges."""
    start = _first_start(case)
    named = {
        *INFECTIONS,
        *_CYTOPENIAS,
        *_HYPERSENSITIVITY,
        *_DISEASE,
        "crs",
        "icans",
        "iec_complication",
    }
    for condition in case.chart.conditions.all:
        if condition.grade is None or condition.onset is None or condition.onset.latest < start:
            continue
        if condition.state not in (ConditionState.ACTIVE, ConditionState.HISTORY) or _other_culprit(
            condition
        ):
            continue
        if not named.isdisjoint(condition.concepts) or "infection" in condition.categories:
            continue
        concept = min(condition.concepts, default="")
        name = Name(concept) if concept else msg("event.unnamed")
        current = (
            condition.grade.value if condition.state is ConditionState.ACTIVE and condition.end is None else 0
        )
        yield _Event(condition.reference, name, condition.grade.value, current, condition.onset.date)
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
        yield _Event(
            course[-1][0].reference,
            Name(codes[0]) if codes else msg("event.unnamed"),
            worst,
            course[-1][1] if begun is not None else min(course[-1][1], 1),
            begun or course[0][0].when.date,
        )


def _other_events(case: Case) -> Iterator[HoldRow]:
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


# --- infections


def _controlled(case: Case, condition: Condition) -> bool:
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
    treatment = [
        d for d in case.chart.active_drugs(*_ANTI_INFECTIVES) if "purpose_prophylaxis" not in d.purposes
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


def _infections(case: Case) -> Iterator[HoldRow]:
    stepping = phase(case) is Phase.STEP_UP
    if not exposures(case) and not case.ordering:
        return
    active = {e.reference: e for e in confirmed_infections(case)}
    for condition in case.chart.conditions.of(*INFECTIONS):
        evidence = active.pop(condition.reference, None)
        coded = None if condition.grade is None else condition.grade.value
        on_drug = (
            bool(exposures(case))
            and condition.onset is not None
            and (condition.onset.latest >= _first_start(case))
        )
        counts = condition.state in (ConditionState.ACTIVE, ConditionState.HISTORY)
        if counts and coded is not None and coded >= 4 and on_drug:
            yield _infection("I3", Action.STOP, "row.I3-stop", condition, coded)
            continue
        if evidence is None or _controlled(case, condition):
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
    for evidence in active.values():
        action = Action.HOLD if stepping else Action.REVIEW
        row = "I1" if stepping else "I2"
        key = "row.I1-culture" if stepping else "row.I2-culture"
        day = case.today if evidence.effective is None else evidence.effective.date
        yield HoldRow(row, action, msg(key, name=Name(evidence.concept), day=day), day, evidence=(evidence,))


def _infection(row: str, action: Action, key: str, condition: Condition, grade: int | None) -> HoldRow:
    concept = next(
        (c for c in (*INFECTIONS[4:], *INFECTIONS[:4]) if c in condition.concepts), "infection_any"
    )
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


# --- CRS, neurotoxicity


def _crs(case: Case) -> Iterator[HoldRow]:
    history = crs_history(case)
    if history is None:
        return
    onset = None if history.last_onset is None else history.last_onset.date
    reference = history.state.recorded.reference if history.state.recorded is not None else ""
    evidence = (Evidence(reference, "crs_grade", history.ever),) if reference else ()
    if history.ever >= 4:
        yield HoldRow(
            "C1",
            Action.STOP,
            msg("row.C1-stop"),
            onset,
            evidence=evidence,
            values={"crs_grade": history.ever},
        )
    elif history.unresolved:
        grade = history.state.grade or history.last_grade or 1
        yield HoldRow(
            "C1",
            Action.HOLD,
            msg("row.C1-hold", grade=grade),
            onset,
            evidence=evidence,
            values={"crs_grade": grade},
        )


def _explained(case: Case, rows: Iterable[HoldRow]) -> bool:
    """Fever alone, unnamed by a clinician and late after the dose, in a neutropenic patient: neutropenia
    explains it (the fever gate of the CRS table)."""
    history, last = crs_history(case), last_exposure(case)
    if history is None or last is None or history.state.signs or history.ever > 1:
        return False
    if history.state.recorded is not None or history.last_onset is None:
        return False
    late = timedelta(hours=float(case.p("grading.crs-tarlatamab")["strong_hours"]))
    neutropenic = any(row.row in ("N1", "N2") and row.action >= Action.HOLD for row in rows)
    return neutropenic and history.last_onset.earliest - start_of(last, case.now) > late


def _neuro(case: Case) -> Iterator[HoldRow]:
    """Z1: the verdict counts here, its card is written by dosing.icans-tarlatamab."""
    state = neuro_state(case)
    if state is None:
        return
    onset = None if state.onset is None else state.onset.date
    if state.ever >= 4:
        yield HoldRow("Z1", Action.STOP, msg("row.Z1-stop"), onset, evidence=state.evidence, elsewhere=True)
    elif state.unresolved:
        grade = state.grade or 1
        yield HoldRow(
            "Z1", Action.HOLD, msg("row.Z1-hold", grade=grade), onset, evidence=state.evidence, elsewhere=True
        )
    elif state.symptoms and state.grade is None:
        yield HoldRow("Z1", Action.REVIEW, msg("row.Z1-symptoms"), evidence=state.symptoms, elsewhere=True)


# --- the card


_OUTCOME = {
    Action.STOP: Outcome.STOP,
    Action.HOLD: Outcome.HOLD,
    Action.REVIEW: Outcome.REVIEW,
    Action.NOTE: Outcome.INFO,
}


@rule(RULE)
def tarlatamab_hold(case: Case) -> Iterator[Finding]:
    state = hold_state(case)
    if case.hook is Hook.PATIENT_VIEW:
        ordered_after_stop = recorded_stop(case) is not None and bool(live_orders(case))
        if state.own and (on_treatment(case) or ordered_after_stop):
            yield _finding(case, state.own, None)
        return
    judged = under_judgement(case)
    for one in judged:
        if state.own:
            yield _finding(case, state.own, one)
    if judged and state.action < Action.HOLD and dosed(case):
        yield from _uncleared(case, judged[0])


def _indicator(case: Case, worst: HoldRow) -> Indicator:
    ordering = case.hook is not Hook.PATIENT_VIEW
    match worst.action:
        case Action.STOP:
            return Indicator.CRITICAL
        case Action.HOLD:
            return Indicator.CRITICAL if ordering or worst.alarming else Indicator.WARNING
        case Action.REVIEW:
            return Indicator.WARNING
    return Indicator.INFO


def _finding(case: Case, rows: Sequence[HoldRow], judged: Judged | None) -> Finding:
    worst = rows[0]
    reference = "" if judged is None else judged.reference
    values: dict[str, Scalar | list[Scalar]] = {"row": worst.row, **worst.values}
    values["rows"] = list(dict.fromkeys(row.row for row in rows))
    if worst.day0 is not None:
        values["since"] = worst.day0
    if worst.days_left is not None:
        values["days_left"] = worst.days_left
    detail: list[Block] = [Bullet(row.text) for row in rows]
    for row in rows:
        if row.action is Action.HOLD and row.days_left is not None and row.days_left >= 0:
            detail.append(Bullet(msg("detail.days-left", row=row.row, left=Days(row.days_left))))
    if any(row.row in ("N1", "N2") for row in rows):
        detail.append(Bullet(msg("detail.gcsf")))
    if any(row.row in ("N1", "N2", "P1") for row in rows):
        detail.append(Paragraph(msg("detail.onset")))
    if worst.action in (Action.HOLD, Action.STOP):
        detail.append(Heading(msg("heading.what")))
        detail.append(Paragraph(msg(f"detail.{_OUTCOME[worst.action].value}")))
    return Finding(
        rule=RULE,
        outcome=_OUTCOME[worst.action],
        indicator=_indicator(case, worst),
        summary=msg(f"summary.{_OUTCOME[worst.action].value}", why=worst.text),
        subject=reference,
        detail=tuple(detail),
        values=values,
        evidence=tuple(dict.fromkeys(e for row in rows for e in row.evidence)),
        missing=tuple(m for row in rows for m in row.missing),
        resource=reference,
        suggestions=tuple(_suggestions(rows, worst, judged)),
        overrides=(
            Override.RISK_BENEFIT,
            Override.OTHER_CAUSE,
            Override.SPECIALIST_ADVICE,
            Override.DATA_OUTDATED,
            Override.OTHER,
        ),
    )


def _suggestions(rows: Iterable[HoldRow], worst: HoldRow, judged: Judged | None) -> Iterator[Suggestion]:
    if judged is not None and worst.action in (Action.STOP, Action.HOLD):
        yield Suggestion("delete", msg("suggest.delete"), (Delete(judged.reference),), recommended=True)
    tests = tuple(dict.fromkeys(test for row in rows for test in row.labs))
    if tests:
        yield lab_orders("repeat", msg("suggest.repeat"), tests)


def lab_orders(key: str, label: Message, tests: Iterable[str]) -> Suggestion:
    return Suggestion(key, label, tuple(Create(ServiceProposal(test)) for test in tests))


def _uncleared(case: Case, judged: Judged) -> Iterator[Finding]:
    """Results before the dose are missing or stale: the dose cannot be cleared (not a hold)."""
    days = case.p("readiness.tarlatamab").int("pre_dose_lab_max_age_days")
    start = labs.planned_start(case, judged.planned.record)
    found = labs.gaps(case, (*labs.CBC, *labs.LIVER), start, days)
    if not found:
        return
    yield Finding(
        rule=RULE,
        outcome=Outcome.CANNOT_CHECK,
        indicator=Indicator.WARNING,
        summary=msg("summary.uncleared", days=Days(days)),
        subject=f"{judged.reference}#labs",
        detail=(Paragraph(msg("detail.uncleared", days=Days(days))),),
        values={"row": "labs", "tests": [gap.concept for gap in found]},
        missing=tuple(gap.missing for gap in found),
        resource=judged.reference,
        suggestions=(lab_orders("labs", msg("suggest.labs"), [gap.concept for gap in found]),),
        unconcluded=True,
    )
