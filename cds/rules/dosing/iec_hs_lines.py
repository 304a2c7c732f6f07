"""The line of therapy that IEC-HS or CRS/MAS is on, and the one that is due (handbook figure 8).

line 1  anakinra (CRS/MAS: with dexamethasone)
line 2  no clinical improvement and ferritin rising after about 48 h
line 3  worse and ferritin rising
life-threatening disease escalates at once
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from cds.engine.case import Case, once_per_case
from cds.rules.after_cart import clinical_course, recorded_grades, therapy_start
from cds.rules.dosing.iec_hs_doses import RULE
from cds.rules.dosing.steroid_course import Tier, dose_mg, in_crs_steroids, steroid_in_force, tier_of
from cds.rules.grading.crs_course import Course
from cds.rules.grading.hlh_compare import Pathway, comparison
from cds.rules.grading.hlh_signs import ferritin_rising
from cds.rules.grading.iec_hs_episode import IecHsState, iec_hs_drugs, iec_hs_now, is_own
from fhir_mapping.chart import DrugRecord, DrugSource


class Row(StrEnum):
    """What the figure asks for; the values are catalogue keys `step.*`."""

    OBSERVE = "observe"
    LINE_1 = "line-1"
    LINE_2 = "line-2"
    LINE_3 = "line-3"
    WAIT = "wait"
    CONTINUE = "continue"
    IMPROVED = "improved"
    FERRITIN_MISSING = "ferritin-missing"
    BEYOND = "beyond"


@dataclass(frozen=True, slots=True)
class Plan:
    """The step of today. `line`: the line that runs (0: none); `since` its start."""

    row: Row
    state: IecHsState
    pathway: Pathway
    line: int
    since: datetime | None
    rising: bool | None
    response: str
    escalated_early: bool
    drugs: tuple[DrugRecord, ...]

    @property
    def grade(self) -> int:
        return self.state.acting_grade or 0

    def hours_at(self, at: datetime) -> Decimal | None:
        """Whole minutes since the line began, in hours."""
        if self.since is None:
            return None
        return Decimal(int((at - self.since) / timedelta(minutes=1))) / 60


def _at(record: DrugRecord) -> datetime:
    assert record.timing.first is not None
    return record.timing.first.latest


def started(records: tuple[DrugRecord, ...]) -> tuple[DrugRecord, ...]:
    """Doses given; where none is charted, orders and statements in force stand in. By start."""
    given = tuple(r for r in records if r.source is DrugSource.ADMINISTRATION and r.given)
    return tuple(sorted(given or records, key=_at))


def own_drugs(case: Case, state: IecHsState, *concepts: str) -> tuple[DrugRecord, ...]:
    wanted = frozenset(concepts)
    return started(tuple(d for d in iec_hs_drugs(case, state.onset) if d.is_any(wanted)))


def _second_line(case: Case, state: IecHsState, begun: datetime, pathway: Pathway) -> datetime | None:
    """Start of line 2: the methylprednisolone course, ruxolitinib, or a raised anakinra dose."""
    times = [_at(d) for d in own_drugs(case, state, "ruxolitinib") if _at(d) >= begun]
    if pathway is not Pathway.IEC_HS:
        times += [
            _at(d)
            for d in case.chart.administrations("methylprednisolone")
            if d.timing.first is not None
            and _at(d) >= begun
            and in_crs_steroids(d)
            and tier_of(case, d) is Tier.MP
        ]
    doses = [(_at(d), dose_mg(case, d)) for d in own_drugs(case, state, "anakinra")]
    known = [(at, mg) for at, mg in doses if mg is not None]
    if known:
        lowest = known[0][1]
        share = 1 + case.p(RULE)["tolerance_pct"] / 100
        times += [at for at, mg in known if mg > lowest * share]
    return min(times, default=None)


def _response(case: Case, since: datetime) -> str:
    """improved, worse or unchanged since the line began."""
    word, _ = clinical_course(case, "iec_hs", since, case.now)
    if word in ("improving", "resolved"):
        return "improved"
    if word in ("worse", "refractory"):
        return "worse"
    start = therapy_start(case)
    assert start is not None
    grades = [r for r in recorded_grades(case, "iec_hs_grade", start) if r.grade is not None]
    before = [r for r in grades if r.when.latest <= since]
    after = [r for r in grades if r.when.earliest > since]
    if before and after and before[-1].grade is not None and after[-1].grade is not None:
        if after[-1].grade < before[-1].grade:
            return "improved"
        if after[-1].grade > before[-1].grade:
            return "worse"
    return "unchanged"


@once_per_case
def iec_hs_plan(case: Case) -> Plan | None:
    """The step of an IEC-HS that is consistent or coded; None otherwise."""
    state = iec_hs_now(case)
    grade = None if state is None else state.acting_grade
    if state is None or not state.established or grade is None or grade > 4:
        return None
    found = comparison(case)
    pathway = Pathway.UNDETERMINED if found is None else found.pathway
    if state.open_episode and state.course.course is Course.UNDOCUMENTED and not _called_hlh(state):
        pathway = Pathway.IEC_HS  # the clinician named it; no CRS course on the chart speaks against it
    rising = ferritin_rising(case)
    drugs = iec_hs_drugs(case, state.onset)
    anakinra = own_drugs(case, state, "anakinra")
    if grade == 1:
        return Plan(Row.OBSERVE, state, pathway, 0, None, rising, "", False, drugs)
    steroid = bool(steroid_in_force(case)) or any(not d.is_any(_NOT_STEROID) for d in drugs)
    if not anakinra or (pathway is Pathway.CRS_MAS and not steroid):
        return Plan(Row.LINE_1, state, pathway, 0, None, rising, "", False, drugs)
    line, since = 1, _at(anakinra[0])
    second = _second_line(case, state, since, pathway)
    if second is not None:
        line, since = 2, second
    third = [_at(d) for d in own_drugs(case, state, "etoposide", "emapalumab")]
    if third:
        line, since = 3, min(third)
    return _next(case, state, pathway, line, since, rising, drugs)


def _called_hlh(state: IecHsState) -> bool:
    return state.coded is not None and "iec_hs" not in state.coded.concepts


_NOT_STEROID = frozenset({"anakinra", "ruxolitinib", "emapalumab", "etoposide"})


def _next(
    case: Case,
    state: IecHsState,
    pathway: Pathway,
    line: int,
    since: datetime,
    rising: bool | None,
    drugs: tuple[DrugRecord, ...],
) -> Plan:
    p = case.p(RULE)
    response = _response(case, since)
    hours = (case.now - since) / timedelta(hours=1)
    grave = (state.acting_grade or 0) >= 4
    following = (Row.LINE_2, Row.LINE_3, Row.BEYOND)[line - 1]
    early = False
    if response == "improved":
        row = Row.IMPROVED
    elif grave and hours >= p["early_escalation_hours"]:
        row, early = following, hours < p["assessment_hours"]
    elif hours < p["assessment_hours"]:
        row = Row.WAIT
    elif rising is None:
        row = Row.FERRITIN_MISSING
    elif not rising or (line >= 2 and response != "worse"):
        row = Row.CONTINUE
    else:
        row = following
    return Plan(row, state, pathway, line, since, rising, response, early, drugs)


def first_emapalumab(case: Case, state: IecHsState) -> DrugRecord | None:
    found = [d for d in own_drugs(case, state, "emapalumab") if is_own(d)]
    return found[0] if found else None
