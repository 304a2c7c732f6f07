"""IEC-HS now: is it suggested (Hines MR, TCT 2023;29:438; handbook table 9), and which grade (table 10).

    R   C1   C2-C5      status
    no  any  any        not suggested
    yes no   0          ferritin alert
    yes y/n  0/1        possible
    yes y/n  1/2        probable
    yes yes  >= 2       consistent
    yes no   >= 3       consistent, atypical timing

Fever, cytokines and any fixed ferritin figure are no criteria.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from cards.finding import Evidence
from cds.engine.case import Case, once_per_case
from cds.rules.after_cart import (
    Recorded,
    closings,
    coded_episodes,
    current_encounters,
    recorded_grades,
    therapy_start,
    without_death,
)
from cds.rules.evidence import of_drug_start, of_fact, of_observation
from cds.rules.grading.crs_course import IMPROVED, Course, CrsCourse, crs_course
from cds.rules.grading.crs_episode import crs_now
from cds.rules.grading.fever import fevers_between, hours
from cds.rules.grading.hemodynamics import blood_pressure_at
from cds.rules.grading.hlh_signs import (
    RULE,
    Criterion,
    Ferritin,
    Hit,
    best_span,
    criteria,
    ferritin,
    new_conditions,
    other_features,
)
from cds.rules.grading.icans_episode import icans_now
from cds.rules.grading.oxygen_support import oxygen_at
from cds.rules.steroids import GLUCOCORTICOIDS
from fhir_mapping.chart import Condition, ConditionState, DrugRecord, EventState

OWN_REASONS = frozenset({"iec_hs", "hlh"})
DRUGS = ("anakinra", "ruxolitinib", "emapalumab", "etoposide")
_BLEEDING = ("intracranial_hemorrhage", "epistaxis", "bleeding")  # the named ones first
_TRANSFUSIONS = (
    "transfusion_rbc",
    "transfusion_platelets",
    "transfusion_plasma",
    "transfusion_blood",
    "cryoprecipitate",
)
_FIBRINOGEN = ("cryoprecipitate", "fibrinogen_concentrate")
_DIALYSIS = ("dialysis", "hemodialysis", "peritoneal_dialysis")
_AIRWAY = ("intubation", "mechanical_ventilation", "ecmo")
_ADMITTED_FOR = frozenset({"aki", "hypotension", "hypoxemia", "iec_hs"})
_ORGANS = ("aki", "hypoxemia", "pulmonary_edema", "lung_infiltrate", "hypotension")
_VENTILATED = frozenset({"dev_ventilator", "dev_endotracheal_tube", *_AIRWAY})


class Status(StrEnum):
    """The values are outcome words."""

    NOT_SUGGESTED = "not-present"
    ALERT = "ferritin-alert"
    POSSIBLE = "possible"
    PROBABLE = "probable"
    CONSISTENT = "consistent"
    UNKNOWN = "cannot-grade"

    @property
    def rank(self) -> int:
        return ("cannot-grade", "not-present", "ferritin-alert", "possible", "probable", "consistent").index(
            self.value
        )


class Why(StrEnum):
    """What decided the grade; the values are catalogue keys `why.*`."""

    DEATH = "death"
    VASOPRESSOR = "vasopressor"
    VENTILATION = "ventilation"
    DIALYSIS = "dialysis"
    LIFE_THREATENING_BLEED = "life-threatening-bleed"
    BLEED_TRANSFUSED = "bleed-transfused"
    ADMISSION = "admission"
    TREATED = "treated"
    SYMPTOMS = "symptoms"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class IecHsState:
    """IEC-HS now. `hits`: the deciding fact of C2 to C5 (None: not met). `other`: concepts of
    the supporting features. `grade` only when consistent or
    coded; `by_clinician`: the grade is the recorded one because the criteria are not met and no proxy on the
    chart says more."""

    status: Status
    atypical: bool
    ferritin: Ferritin
    criteria: tuple[Criterion, ...]
    hits: tuple[Hit | None, ...]
    onset: datetime
    course: CrsCourse
    other: tuple[str, ...]
    coded: Condition | None
    recorded: Recorded | None
    stated: int | None  # the clinician's grade
    grade: int | None
    why: Why | None
    grade_evidence: tuple[Evidence, ...]
    by_clinician: bool

    @property
    def acting_grade(self) -> int | None:
        """The grade that treatment goes by: the chart shows a floor, a clinician may have seen more."""
        if self.grade is None or self.stated is None or self.grade >= 5:
            return self.grade
        return max(self.grade, self.stated)

    @property
    def judged(self) -> tuple[tuple[Criterion, Hit | None], ...]:
        """C2 to C5, each with its deciding fact."""
        return tuple(zip(self.criteria, self.hits, strict=True))

    @property
    def count(self) -> int:
        """Criteria C2 to C5 met within one 72 h span."""
        return sum(hit is not None for hit in self.hits)

    @property
    def assessable(self) -> int:
        return sum(c.assessed for c in self.criteria)

    @property
    def timing(self) -> bool:
        """C1: CRS was resolving or resolved, or worse after a first response. Undocumented counts as no."""
        return self.course.course in IMPROVED

    @property
    def open_episode(self) -> bool:
        """A clinician coded or graded IEC-HS and has not closed it."""
        return self.coded is not None or bool(self.recorded is not None and self.recorded.grade)

    @property
    def established(self) -> bool:
        """Consistent by criteria, or coded."""
        return self.status is Status.CONSISTENT or self.open_episode


# --- what a clinician said


@once_per_case
def coded_iec_hs(case: Case) -> Condition | None:
    """The newest open IEC-HS or HLH since the infusion; IEC-HS, which nothing else causes, also undated."""
    start = therapy_start(case)
    if start is None:
        return None
    found = [
        c
        for concept in ("hlh", "iec_hs")
        for c in coded_episodes(case, concept, start)
        if c.state is ConditionState.ACTIVE and (c.end is None or c.end.earliest > case.now)
    ]
    shut = closings(case, "iec_hs_grade", "iec_hs", start)
    found = [c for c in found if c.onset is not None and not any(s >= c.onset.earliest for s in shut)]
    if found or shut:
        return found[-1] if found else None
    undated = (c for c in case.chart.conditions.of("iec_hs") if c.onset is None)
    return next((c for c in undated if c.state is ConditionState.ACTIVE), None)


@once_per_case
def recorded_iec_hs(case: Case) -> Recorded | None:
    """The newest grade a clinician recorded, at most a few days old."""
    start = therapy_start(case)
    if start is None:
        return None
    since = case.now - timedelta(days=case.p(RULE).int("lookback_days"))
    found = [
        r
        for r in recorded_grades(case, "iec_hs_grade", start)
        if r.when.reaches(since) and r.when.earliest <= case.now
    ]
    return found[-1] if found else None


# --- treatment


def is_own(record: DrugRecord) -> bool:
    """Given for hyperinflammation, or for no stated reason."""
    return not record.reasons or not record.reasons.isdisjoint(OWN_REASONS)


def iec_hs_drugs(case: Case, onset: datetime) -> tuple[DrugRecord, ...]:
    """Drugs of IEC-HS since shortly before its onset, oldest first; steroids only for a stated reason."""
    start = therapy_start(case)
    assert start is not None
    since = max(start, onset - timedelta(days=case.p(RULE).int("drug_lookback_days")))
    # in CRS/MAS the drugs of the refractory CRS are the drugs of the hyperinflammation
    mas = crs_course(case, case.now).course is Course.REFRACTORY
    own = OWN_REASONS | {"crs"} if mas else OWN_REASONS
    found = []
    for record in case.chart.drugs.of(*DRUGS, *GLUCOCORTICOIDS):
        first = record.timing.first
        if first is None or first.latest < since or first.earliest > case.now:
            continue
        if not (record.given or record.in_force) or record.timing.as_needed:
            continue
        named = not record.reasons.isdisjoint(own)
        if named or (record.is_any(frozenset(DRUGS)) and is_own(record)):
            found.append(record)
    return tuple(found)


# --- grade


def _procedures(case: Case, since: datetime, *concepts: str) -> tuple[Evidence, ...]:
    return tuple(
        of_fact(p, next(c for c in concepts if c in p.concepts))
        for p in case.chart.procedures.of(*concepts)
        if p.state.begun
        and p.start is not None
        and p.start.earliest <= case.now
        and (p.state is EventState.RUNNING or (p.end or p.start).latest >= since)
    )


def dialysis_given(case: Case) -> tuple[Evidence, ...]:
    """Dialysis since the infusion that runs or was done in the last days."""
    start = therapy_start(case)
    if start is None:
        return ()
    since = case.now - timedelta(days=case.p(RULE).int("lookback_days"))
    return _procedures(case, max(start, since), *_DIALYSIS)


@dataclass(frozen=True, slots=True)
class Bleeding:
    """Bleeding now. `present` None: nothing on the chart says."""

    present: bool | None
    life_threatening: bool = False
    evidence: tuple[Evidence, ...] = ()


@once_per_case
def bleeding_now(case: Case) -> Bleeding:
    """Active bleeding: coded, or the newest bleeding assessment of the last days (T15)."""
    p = case.p(RULE)
    found, severe = [], False
    for condition in case.chart.conditions.of(*_BLEEDING):
        if condition.state is not ConditionState.ACTIVE:
            continue
        concept = next(c for c in _BLEEDING if c in condition.concepts)
        found.append(of_fact(condition, concept))
        grave = condition.grade is not None and condition.grade.value >= 4
        severe = severe or grave or concept == "intracranial_hemorrhage"
    stated = case.chart.series("bleeding").latest(
        case.now, hours(p["span_hours"]), lambda o: bool(o.value.codes) or o.value.yes is not None
    )
    if stated is not None:
        words = set(stated.value.codes)
        if words & {"minor", "major", "life_threatening"} or stated.value.yes:
            found.append(of_observation(stated))
            severe = severe or "life_threatening" in words
        elif not found:
            return Bleeding(False, evidence=(of_observation(stated),))
    return Bleeding(True if found else None, severe, tuple(found))


def _life_threatening(
    case: Case, start: datetime, since: datetime
) -> Iterator[tuple[Why, tuple[Evidence, ...]]]:
    pressure = blood_pressure_at(case, case.now, start)
    if pressure.pressors or pressure.vasopressin:
        drugs = (*pressure.pressors, *pressure.vasopressin)
        yield Why.VASOPRESSOR, tuple(of_drug_start(d) for d in drugs)
    oxygen = oxygen_at(case, case.now, start)
    if oxygen.device in _VENTILATED and oxygen.low:
        yield Why.VENTILATION, tuple(Evidence(r, oxygen.device) for r in oxygen.references)
    elif (airway := _procedures(case, since, *_AIRWAY)) and not oxygen.excluded:
        yield Why.VENTILATION, airway
    if dialysis := _procedures(case, since, *_DIALYSIS):
        yield Why.DIALYSIS, dialysis
    bleeding = bleeding_now(case)
    if bleeding.life_threatening:
        yield Why.LIFE_THREATENING_BLEED, bleeding.evidence


def _distress(case: Case, start: datetime) -> list[Evidence]:
    """Hypotension and hypoxia now."""
    pressure, oxygen = blood_pressure_at(case, case.now, start), oxygen_at(case, case.now, start)
    found: list[Evidence] = []
    if pressure.low and pressure.coded:
        found.append(Evidence(pressure.coded, "hypotension"))
    elif pressure.low and pressure.pressure is not None:
        found.extend(Evidence(r, "bp_systolic") for r in pressure.pressure.references)
    if oxygen.low:
        found.extend(Evidence(r, oxygen.device or "spo2") for r in oxygen.references)
    return found


def _admitted_for(case: Case, start: datetime) -> tuple[Evidence, ...]:
    """New kidney injury, hypotension or respiratory distress in an inpatient."""
    stays = [e for e in current_encounters(case) if e.inpatient]
    if not stays:
        return ()
    reasons = [
        Evidence(stay.reference, reason, effective=stay.start)
        for stay in stays
        for reason in sorted(stay.reasons & _ADMITTED_FOR)
    ]
    return (*new_conditions(case, "aki", "hypoxemia"), *_distress(case, start), *reasons)


def _symptoms(case: Case, start: datetime) -> tuple[Evidence, ...]:
    """Fever, bleeding, hypoxia, hypotension, failing organs, or a CRS that a clinician graded."""
    since = max(start, case.now - hours(case.p(RULE)["span_hours"]))
    found = [
        Evidence(f.reference, "body_temperature", effective=f.when)
        for f in fevers_between(case, since, case.now)[-1:]
    ]
    bleeding = bleeding_now(case)
    if bleeding.present:
        found += bleeding.evidence
    found += [*_distress(case, start), *new_conditions(case, *_ORGANS)]
    icans = icans_now(case)
    if icans is not None:
        found += [e for d in icans.domains if d.low for e in d.evidence]
    crs = crs_now(case)
    if crs.low and crs.recorded is not None:
        found.append(Evidence(crs.recorded.reference, "crs_grade", crs.low, effective=crs.recorded.when))
    return tuple(found)


def _grade(case: Case, onset: datetime, coded: bool) -> tuple[int, Why, tuple[Evidence, ...]]:
    start = therapy_start(case)
    assert start is not None
    p = case.p(RULE)
    since = max(start, case.now - hours(p["span_hours"]))
    if coded and case.chart.patient.deceased:
        return 5, Why.DEATH, ()
    for why, evidence in _life_threatening(case, start, since):
        return 4, why, evidence
    bleeding, transfused = bleeding_now(case), _procedures(case, since, *_TRANSFUSIONS)
    if bleeding.present and transfused:
        return 3, Why.BLEED_TRANSFUSED, (*bleeding.evidence, *transfused)
    if admitted := _admitted_for(case, start):
        return 3, Why.ADMISSION, admitted
    drugs = tuple(of_drug_start(d) for d in iec_hs_drugs(case, onset))
    products = _procedures(case, since, "cryoprecipitate")
    products += tuple(
        of_drug_start(d)
        for d in case.chart.drugs.of(*_FIBRINOGEN)
        if d.given and d.timing.first is not None and d.timing.first.latest >= since
    )
    if drugs or products:
        return 2, Why.TREATED, (*drugs, *products)
    if symptoms := _symptoms(case, start):
        return 2, Why.SYMPTOMS, symptoms
    return 1, Why.NONE, ()


# --- status


def _status(required: bool | None, timing: bool, count: int) -> tuple[Status, bool]:
    if required is None:
        return Status.UNKNOWN, False
    if not required:
        return Status.NOT_SUGGESTED, False
    if timing:
        return (Status.POSSIBLE, Status.PROBABLE, Status.CONSISTENT)[min(count, 2)], False
    word = (Status.ALERT, Status.POSSIBLE, Status.PROBABLE, Status.CONSISTENT)[min(count, 3)]
    return word, word is Status.CONSISTENT


def _other(case: Case, start: datetime) -> tuple[str, ...]:
    since = max(start, case.now - hours(case.p(RULE)["span_hours"]))
    found = [*other_features(case)]
    if fevers_between(case, since, case.now):
        found.append("fever")
    icans = icans_now(case)
    if icans is not None and icans.low:
        found.append("icans")
    if oxygen_at(case, case.now, start).low:
        found.append("hypoxemia")
    if "aki" not in found and _procedures(case, since, *_DIALYSIS):
        found.append("dialysis")
    return tuple(dict.fromkeys(found))


@once_per_case
def iec_hs_now(case: Case) -> IecHsState | None:
    """The state from day 0 to day 90; None outside, and where neither ferritin nor a clinician speaks."""
    start = therapy_start(case)
    day = case.chart.course.last_day(case.today)
    p = case.p(RULE)
    if start is None or day is None or not p.int("first_day") <= day <= p.int("last_day"):
        return None
    coded, recorded = coded_iec_hs(case), recorded_iec_hs(case)
    open_episode = coded is not None or bool(recorded is not None and recorded.grade)
    found = ferritin(case)
    known = found.current is not None or found.required is not None
    if not known and not open_episode:
        return None
    hits = best_span(case)
    onset = min((h.at for h in hits if h is not None), default=_ferritin_time(found, case))
    if coded is not None and coded.onset is not None:
        onset = min(coded.onset.latest, case.now)
    course = crs_course(case, onset)
    status, atypical = _status(
        found.required, course.course in IMPROVED, sum(hit is not None for hit in hits)
    )
    grade: int | None = None
    why: Why | None = None
    evidence: tuple[Evidence, ...] = ()
    by_clinician = False
    stated = _stated(case, recorded, coded)
    if status is Status.CONSISTENT or open_episode:
        grade, why, evidence = _grade(case, onset, open_episode)
        if stated and status is not Status.CONSISTENT and stated > grade:
            by_clinician = True
            grade = stated
    return IecHsState(
        status,
        atypical,
        found,
        criteria(case),
        hits,
        onset,
        course,
        _other(case, start),
        coded,
        recorded,
        stated,
        grade,
        why,
        evidence,
        by_clinician,
    )


def _stated(case: Case, recorded: Recorded | None, coded: Condition | None) -> int | None:
    if recorded is not None and recorded.grade is not None:
        return without_death(case, recorded.grade)
    return None if coded is None or coded.grade is None else without_death(case, coded.grade.value)


def _ferritin_time(found: Ferritin, case: Case) -> datetime:
    return case.now if found.current is None else min(found.current.when.latest, case.now)
