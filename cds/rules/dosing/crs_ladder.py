"""Where a patient stands on the CRS treatment ladder (Hayden PJ, Ann Oncol 2022;33:259, figure 1).

    1a grade 1                supportive
    1b grade 1 for 72 h       consider tocilizumab
    2a grade 2                tocilizumab
    2b not improved at H+12   repeat tocilizumab
    2c still not, or worse    dexamethasone 10 mg q6h
    3a grade 3                tocilizumab + dexamethasone 10 mg q6h
    3b worse                  dexamethasone 20 mg q6h, then taper
    4a grade 4                tocilizumab + dexamethasone 20 mg q6h
    4b worse                  methylprednisolone course
    5  no response to all of it

"Worse" is a higher grade, or the same grade with more vasopressor, oxygen flow or FiO2, or a clinician's
word. Where the chart leaves the earlier grade open, the course counts as unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from cds.engine.case import Case, once_per_case
from cds.rules.after_cart import (
    clinical_course,
    coded_episodes,
    dosing_weight,
    recorded_grades,
    therapy_start,
)
from cds.rules.dosing.steroid_course import SteroidRun, Tier, steroid_run
from cds.rules.dosing.tocilizumab import may_give_now, tocilizumab_doses
from cds.rules.grading.crs_course import Course
from cds.rules.grading.crs_episode import CrsState, Gate, crs_applies, crs_at, crs_now
from cds.rules.grading.fever import hours
from cds.rules.grading.hemodynamics import running_at
from cds.rules.grading.icans_episode import icans_now
from cds.rules.grading.iec_hs_episode import Status, iec_hs_now
from fhir_mapping.chart import Amount, ConditionState, DrugRecord, Moment
from fhir_mapping.units import convert

RULE = "dosing.crs"


class Node(StrEnum):
    """Node of the algorithm; the values are the inventory's ids."""

    N1A = "1a"
    N1B = "1b"
    N2A = "2a"
    N2B = "2b"
    N2C = "2c"
    N3A = "3a"
    N3B = "3b"
    N4A = "4a"
    N4B = "4b"
    N5 = "5"
    IMPROVED = "improved"  # better than at the index dose: no further step, taper
    NEUROTOXICITY = "icans"  # CRS 1 with ICANS >= 2: the ICANS rule leads
    IEC_HS = "iec-hs"  # IEC-HS after CRS has resolved: no further IL-6 blockade


class Response(StrEnum):
    IMPROVED = "improved"
    UNCHANGED = "unchanged"
    WORSE = "worse"


@dataclass(frozen=True, slots=True)
class Step:
    """The step for today.

    `waiting`: the step was taken, its check is at `next_check`. `tocilizumab`: advised now and allowed by the
    limits. `tier`: steroid tier of the step (NONE: none); `tier_optional`: may be given. `time_unknown`: the
    index dose has no clock time.
    """

    node: Node
    state: CrsState
    waiting: bool = False
    next_check: datetime | None = None
    tocilizumab: bool = False
    tocilizumab_wanted: bool = False
    tier: Tier = Tier.NONE
    tier_optional: bool = False
    run: SteroidRun | None = None
    index: DrugRecord | None = None
    response: Response | None = None
    since: datetime | None = None  # what the response is measured from
    time_unknown: bool = False
    icans: int | None = None

    @property
    def critical(self) -> bool:
        return self.node.value[0] in "345" and self.node is not Node.IMPROVED


# --- response


def _bounds(state: CrsState) -> tuple[int, int]:
    """Lowest and highest grade that the facts of that time allow."""
    if state.low is None or state.high is None:
        return 0, 4
    high = state.high
    if state.gate is not Gate.CLINICIAN:
        if state.gate is Gate.NO_FEVER:
            return 0, 4
        if not state.o2.recorded:
            high = 4
    return state.low, 4 if state.open_ended else high


def _rates(case: Case, at: datetime) -> dict[str, Amount | None]:
    """Vasopressor rates at one time by drug, the newest record of each; None where no rate is written."""
    found: dict[str, Amount | None] = {}
    for record in sorted(running_at(case, at), key=lambda r: _begun(r).latest):
        for drug in record.ingredients:
            found[drug] = None if record.rate is None else _comparable(case, record.rate)
    return found


def _comparable(case: Case, rate: Amount) -> Amount:
    """A rate per kg and minute where unit and weight allow it, so that 7 ug/min and 0.1 ug/kg/min compare."""
    per_kg = convert(None, rate.value, rate.unit, "ug/kg/min")
    weight = dosing_weight(case).value
    per_hour = convert(None, rate.value, rate.unit, "mg/h")
    if per_kg is None and per_hour is not None and weight is not None:
        per_kg = per_hour * 1000 / 60 / weight
    return rate if per_kg is None else Amount(per_kg, "ug/kg/min")


def more_support(case: Case, index: datetime) -> str:
    """What there is more of now than at `index`: "vasopressors", "rate", "flow" or "fio2"; "" where nothing.
    One vasopressor in place of another is no more than before."""
    start = therapy_start(case)
    assert start is not None
    before, now = _rates(case, index), _rates(case, case.now)
    if len(now) > len(before):
        return "vasopressors"
    for drug, rate in now.items():
        old = before.get(drug)
        if rate is not None and old is not None and rate.unit == old.unit and rate.value > old.value:
            return "rate"
    then, today = crs_at(case, index).o2, crs_now(case).o2
    if (
        then.flow is not None
        and today.flow is not None
        and then.device == today.device
        and today.flow.value > then.flow.value
    ):
        return "flow"
    window = hours(case.p("grading.crs")["vitals_max_age_hours"])
    series = case.chart.series("fio2")
    old_fio2, new_fio2 = series.latest(index, window), series.latest(case.now, window)
    higher = (
        old_fio2 is not None
        and new_fio2 is not None
        and old_fio2.value.quantity is not None
        and new_fio2.value.quantity is not None
        and new_fio2.value.quantity.value > old_fio2.value.quantity.value
    )
    return "fio2" if higher else ""


def worse_by(case: Case, index: datetime) -> str:
    """What makes CRS worse since `index`: "grade", "clinician" or more support; "" where nothing does."""
    low, old_high = crs_now(case).low or 0, _bounds(crs_at(case, index))[1]
    if low > old_high:
        return "grade"
    if clinical_course(case, "crs", index, case.now)[0] in ("worse", "refractory"):
        return "clinician"
    return more_support(case, index)


def response_since(case: Case, index: datetime) -> Response:
    """How CRS changed between `index` and now."""
    state = crs_now(case)
    if state.gate is Gate.RESOLVED:
        return Response.IMPROVED
    word, _ = clinical_course(case, "crs", index, case.now)
    high = state.high if state.high is not None else 4
    if high < _bounds(crs_at(case, index))[0]:
        return Response.IMPROVED
    if worse_by(case, index):
        return Response.WORSE
    return Response.IMPROVED if word in ("improving", "resolved") else Response.UNCHANGED


# --- the ladder


def iec_hs_leads(case: Case, state: CrsState) -> bool:
    """IEC-HS is present and CRS has given way to it: signs without present fever, or signs after a clinician
    closed CRS, are then no reason for another IL-6 blocker."""
    start = therapy_start(case)
    assert start is not None
    graded = recorded_grades(case, "iec_hs_grade", start)
    coded = [c for c in coded_episodes(case, "iec_hs", start) if c.state is ConditionState.ACTIVE]
    stated = bool(graded[-1].grade) if graded else bool(coded)
    if not stated and not _consistent_after_crs(case):
        return False
    if state.gate not in (Gate.FEVER, Gate.INFECTION):
        return state.gate is not Gate.CLINICIAN
    crs = recorded_grades(case, "crs_grade", start)
    return bool(crs) and crs[-1].grade == 0


def _consistent_after_crs(case: Case) -> bool:
    """IEC-HS by its criteria, begun when CRS had resolved."""
    state = iec_hs_now(case)
    return state is not None and state.status is Status.CONSISTENT and state.course.course is Course.RESOLVED


def _episode_doses(case: Case, state: CrsState) -> tuple[DrugRecord, ...]:
    """Tocilizumab doses of this episode (a dose shortly before its first charted sign belongs to it)."""
    if state.episode is None:
        return tocilizumab_doses(case)
    lead = state.episode.begun - hours(case.p("grading.crs")["fever_window_hours"])
    return tuple(
        d for d in tocilizumab_doses(case) if d.timing.first is not None and d.timing.first.latest >= lead
    )


def _begun(record: DrugRecord) -> Moment:
    assert record.timing.first is not None
    return record.timing.first


def fever_hours(case: Case, state: CrsState) -> tuple[float, float] | None:
    """Hours since fever onset, as (shortest, longest); None without an onset."""
    onset = state.onset
    if onset is None:
        return None
    hour = timedelta(hours=1)
    return (case.now - min(onset.latest, case.now)) / hour, (case.now - onset.earliest) / hour


@once_per_case
def crs_step(case: Case) -> Step | None:
    """The step of an open CRS; None when there is none, or its grade cannot be told."""
    if not crs_applies(case):
        return None
    state = crs_now(case)
    if not state.present or state.low is None:
        return None
    neuro = icans_now(case)
    icans = None if neuro is None else neuro.grade
    base = Step(Node.N1A, state, run=steroid_run(case), icans=icans)
    if iec_hs_leads(case, state):
        return replace(base, node=Node.IEC_HS)
    step = (_grade_1, _grade_2, _grade_3, _grade_4)[state.low - 1](case, base) if state.low <= 4 else None
    if step is None or not step.tocilizumab_wanted:
        return step
    return replace(step, tocilizumab=may_give_now(case))


def _after_dose(case: Case, base: Step, doses: tuple[DrugRecord, ...]) -> Step:
    """Step with the newest tocilizumab dose as index: its check time and the response since."""
    index = doses[-1]
    when = _begun(index)
    if not when.exact:
        return replace(base, index=index, time_unknown=True)
    check = when.earliest + hours(case.p(RULE)["response_check_hours"])
    return replace(
        base, index=index, next_check=check, response=response_since(case, when.earliest), since=when.earliest
    )


def _grade_1(case: Case, base: Step) -> Step:
    if base.icans is not None and base.icans >= 2:
        return replace(base, node=Node.NEUROTOXICITY)
    doses = _episode_doses(case, base.state)
    if doses:
        step = _after_dose(case, base, doses)
        if step.time_unknown:
            return replace(step, node=Node.N1B, waiting=True)
        if step.response is Response.IMPROVED or _given_for_more(case, step):
            return replace(step, node=Node.IMPROVED, response=Response.IMPROVED)
        return _not_better(case, step, len(doses), Node.N1B)
    run = base.run
    on_tier = run is not None and run.tier >= Tier.D10
    if run is not None and on_tier and response_since(case, run.start.earliest) is Response.IMPROVED:
        return replace(base, node=Node.IMPROVED, response=Response.IMPROVED)
    limit = float(case.p(RULE)["grade_1_persistent_hours"])
    since = fever_hours(case, base.state)
    if since is not None and since[0] >= limit and not base.state.infections:
        return replace(base, node=Node.N1B, tocilizumab_wanted=True)
    open_question = since is None or since[1] >= limit
    check = None
    if base.state.onset is not None and base.state.onset.exact:
        check = base.state.onset.earliest + timedelta(hours=limit)
    unknown = open_question and not base.state.infections
    return replace(base, node=Node.N1A, next_check=check if not open_question else None, time_unknown=unknown)


def _given_for_more(case: Case, step: Step) -> bool:
    """Tocilizumab was given before grade 1 had lasted long enough for it, and the grade of that time is open:
    then it was given for a higher grade."""
    assert step.index is not None
    given, onset = _begun(step.index).earliest, step.state.onset
    if onset is None or _bounds(crs_at(case, given))[1] <= 1:
        return False
    return given - onset.earliest < hours(case.p(RULE)["grade_1_persistent_hours"])


def _grade_2(case: Case, base: Step) -> Step:
    doses = _episode_doses(case, base.state)
    if not doses:
        return replace(base, node=Node.N2A, tocilizumab_wanted=True, tier=Tier.D10, tier_optional=True)
    step = _after_dose(case, base, doses)
    enough = len(doses) >= case.p(RULE).int("tocilizumab_doses_before_steroid")
    if step.time_unknown:
        return replace(step, node=Node.N2B if enough else Node.N2A, waiting=True)
    if step.response is Response.IMPROVED:
        return replace(step, node=Node.IMPROVED)
    return _not_better(case, step, len(doses), Node.N2A)


def _not_better(case: Case, step: Step, doses: int, first: Node) -> Step:
    """After `doses` of tocilizumab without improvement: wait (`first`: node of the first dose), repeat, or
    go on to the steroid."""
    enough = doses >= case.p(RULE).int("tocilizumab_doses_before_steroid")
    escalated = replace(step, node=Node.N2C, tocilizumab_wanted=True, tier=Tier.D10)
    if step.response is Response.WORSE:
        return escalated
    assert step.next_check is not None
    if case.now < step.next_check:
        return replace(step, node=Node.N2B if enough else first, waiting=True)
    if enough:
        return escalated
    return replace(step, node=Node.N2B, tocilizumab_wanted=True, tier=Tier.D10, tier_optional=True)


def _steroid_check(case: Case, base: Step) -> tuple[Response, bool, datetime]:
    """Response since the running tier began, whether its check time has come, and that time."""
    assert base.run is not None
    span = hours(case.p(RULE)["steroid_check_hours"])
    begun = base.run.start.earliest
    return response_since(case, begun), case.now - begun >= span, begun + span


def _grade_3(case: Case, base: Step) -> Step:
    run = base.run
    fresh = replace(base, node=Node.N3A, tocilizumab_wanted=True, tier=Tier.D10)
    if run is None or run.tier < Tier.D10:
        return fresh
    response, due, check = _steroid_check(case, base)
    base = replace(base, response=response, next_check=check, since=run.start.earliest)
    if response is Response.IMPROVED:
        return replace(base, node=Node.IMPROVED)
    if run.tier is Tier.MP:
        return _on_pulse(case, base)
    base = replace(base, tocilizumab_wanted=not _episode_doses(case, base.state))  # steroid begun without it
    if run.tier is Tier.D20:
        check_time = None if due else check
        return replace(base, node=Node.N3B, tier=Tier.D20, waiting=True, next_check=check_time)
    if response is Response.WORSE or due:
        return replace(base, node=Node.N3B, tier=Tier.D20, next_check=None)
    return replace(base, node=Node.N3A, tier=Tier.D10, waiting=True)


def _grade_4(case: Case, base: Step) -> Step:
    run = base.run
    fresh = replace(base, node=Node.N4A, tocilizumab_wanted=True, tier=Tier.D20)
    if run is None or run.tier < Tier.D20:
        return fresh
    response, due, check = _steroid_check(case, base)
    base = replace(base, response=response, next_check=check, since=run.start.earliest)
    if response is Response.IMPROVED:
        return replace(base, node=Node.IMPROVED)
    if run.tier is Tier.MP:
        return _on_pulse(case, base)
    flagged = clinical_course(case, "crs", run.start.earliest, case.now)[0] in ("worse", "refractory")
    was_lower = _bounds(crs_at(case, run.start.earliest))[1] < 4
    if due or flagged or (response is Response.WORSE and not was_lower):
        return replace(
            base, node=Node.N4B, tier=Tier.MP, tocilizumab_wanted=_one_more(case, base), next_check=None
        )
    wanted = was_lower or not _episode_doses(case, base.state)
    return replace(base, node=Node.N4A, tier=Tier.D20, waiting=not was_lower, tocilizumab_wanted=wanted)


def _one_more(case: Case, base: Step) -> bool:
    """One further tocilizumab beside the methylprednisolone course, and only without ICANS."""
    if base.icans:
        return False
    if base.run is None or base.run.tier is not Tier.MP:
        return True
    begun = base.run.start.earliest
    since = [d for d in tocilizumab_doses(case) if _begun(d).latest >= begun]
    return len(since) < case.p(RULE).int("further_after_pulse")


def _on_pulse(case: Case, base: Step) -> Step:
    assert base.run is not None
    begun = base.run.start.earliest
    span = hours(case.p(RULE)["refractory_after_hours"])
    refractory = clinical_course(case, "crs", begun, case.now)[0] == "refractory"
    if refractory or case.now - begun >= span:
        return replace(base, node=Node.N5, tier=Tier.MP, next_check=None)
    return replace(
        base,
        node=Node.N4B,
        tier=Tier.MP,
        waiting=True,
        next_check=begun + span,
        tocilizumab_wanted=_one_more(case, base),
    )
