"""Steroids, BCR-ABL inhibitors and immunosuppressants between lymphodepletion and day 30 (handbook 2.2.3).

A systemic steroid before the cells on the day of infusion is the one critical finding. Steroids in the three
days before lymphodepletion belong to washout.lymphodepletion.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum

from cards.finding import (
    Block,
    Bullet,
    Days,
    Evidence,
    Finding,
    Indicator,
    Missing,
    Name,
    Outcome,
    Override,
    Paragraph,
    Selection,
    Shown,
    msg,
)
from cds.engine.case import Case, once_per_case
from cds.engine.parameters import Parameters
from cds.engine.rule import rule
from cds.rules.disease import Disease, disease
from cds.rules.dosing.premedication import infusion_start, suggestions
from cds.rules.dosing.steroid_course import in_crs_steroids
from cds.rules.drug_classes import Band, drug_classes
from cds.rules.grading.crs_episode import crs_applies, crs_now
from cds.rules.grading.icans_episode import icans_now
from cds.rules.grading.iec_hs_episode import iec_hs_now
from cds.rules.readiness.infusion import SEVERE_REACTIONS
from cds.rules.steroids import active_on, adrenal_insufficiency, replaces
from cds.rules.washout.concerns import drafts_hold
from fhir_mapping.chart import ConditionState, Drafts, DrugRecord, DrugSource, Moment, Result

RULE = "washout.infusion"
OVERRIDES = (Override.OTHER_CAUSE, Override.RISK_BENEFIT, Override.SPECIALIST_ADVICE, Override.OTHER)
PLANNED_USES = frozenset({"purpose_premedication", "purpose_antiemetic"})
TOXICITIES = ("crs", "icans", "iec_hs", "hlh", "anaphylaxis", "infusion_reaction")
CRS_STEROIDS = ("dexamethasone", "methylprednisolone")
STEROID_FROM_CRS = 2  # the grade from which the CRS algorithm may ask for a steroid
GRADES = ("crs_grade", "icans_grade", "iec_hs_grade")


class Group(StrEnum):
    STEROID = "steroid"
    TKI = "tki"
    IMMUNOSUPPRESSANT = "immunosuppressant"


class Row(StrEnum):
    """Rows of the handbook's table, top down."""

    STEROID_DAY0 = "steroid-day0"
    STEROID_BEFORE = "steroid-before"
    STEROID_AFTER = "steroid-after"
    REPLACEMENT = "replacement"
    TKI = "tki"
    TKI_LATE = "tki-late"
    IMMUNOSUPPRESSANT = "immunosuppressant"


@dataclass(frozen=True, slots=True)
class Hit:
    """One drug at fault. `day` is the dose that decides."""

    record: DrugRecord
    drug: str
    row: Row
    outcome: Outcome
    indicator: Indicator
    day: date | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """The days that matter. `start` None: lymphodepletion has no date."""

    start: date | None
    day0: date | None
    infusion: Moment | None
    infused: bool


@once_per_case
def window(case: Case) -> Window:
    course = case.chart.course
    first = course.ldc_first
    start = None if first is None else first.date
    day0 = course.day0_any
    infused = course.infused is not None
    if not infused and day0 is not None and day0 < case.today:
        day0 = None  # planned for a day that has passed: no day to count from
    return Window(start, day0, infusion_start(case), infused)


def group_of(record: DrugRecord) -> tuple[Group, str] | None:
    """The group of a record by its systemic ingredients; local and intrathecal routes belong to none."""
    classes = drug_classes()
    for drug in classes.drugs_of(record):
        found = classes.membership(record, drug, Band.STANDARD).classes
        for name, group in (("DC6", Group.STEROID), ("DC4", Group.TKI), ("DC11", Group.IMMUNOSUPPRESSANT)):
            if name in found:
                return group, drug
    return None


def _days(record: DrugRecord) -> tuple[Moment, ...]:
    timing = record.timing
    if timing.doses:
        return timing.doses
    return tuple(moment for moment in (timing.first, timing.last) if moment is not None)


def _overlaps(record: DrugRecord, start: date, end: date) -> date | None:
    """First day in [start, end] on which a dose falls or a course runs; None where none does."""
    timing = record.timing
    if timing.doses:
        return next((m.date for m in timing.doses if start <= m.date <= end), None)
    if timing.first is None:
        return None
    first = timing.first.first_date
    last = None if timing.ongoing else (timing.last or timing.first).date
    if first > end or (last is not None and last < start):
        return None
    return max(first, start)


@once_per_case
def toxicity_recorded(case: Case) -> tuple[Evidence, ...]:
    """CRS, ICANS, IEC-HS or a severe infusion reaction since day 0: then steroids have another rule."""
    day0 = case.chart.course.day0
    if day0 is None:
        return ()
    found: list[Evidence] = []
    for condition in case.chart.conditions.of(*TOXICITIES):
        known = condition.state in (ConditionState.ACTIVE, ConditionState.HISTORY, ConditionState.SUSPECTED)
        if known and (condition.onset is None or condition.onset.date >= day0):
            found.append(Evidence(condition.reference, "crs", effective=condition.onset))
    for concept in GRADES:
        for observation in case.chart.series(concept):
            value = observation.value
            graded = value.number or (value.quantity.value if value.quantity is not None else 0)
            if graded >= 1 and observation.when.date >= day0:
                found.append(Evidence(observation.reference, concept, graded, "", observation.when))
    for concept in ("infusion_reaction", "anaphylaxis"):
        for observation in case.chart.series(concept):
            codes = set(observation.value.codes)
            severe = bool(codes & SEVERE_REACTIONS) or observation.value.result is Result.POSITIVE
            if severe and observation.when.date >= day0:
                found.append(Evidence(observation.reference, concept, effective=observation.when))
    return tuple(found)


@once_per_case
def _toxicity_shown(case: Case) -> bool:
    """CRS of grade 2, ICANS or IEC-HS by the values of the chart, whoever has or has not recorded it."""
    if case.chart.course.day0 is None:
        return False
    crs = crs_now(case).grade if crs_applies(case) else None
    neuro, iec_hs = icans_now(case), iec_hs_now(case)
    return (
        (crs is not None and crs >= STEROID_FROM_CRS)
        or bool(neuro is not None and neuro.grade)
        or (iec_hs is not None and iec_hs.established)
    )


def _judged_as_crs_steroid(case: Case, record: DrugRecord, drug: str) -> bool:
    """dosing.crs-steroid has the word on this drug while there is CRS of any grade."""
    if drug not in CRS_STEROIDS or not in_crs_steroids(record):
        return False
    return crs_applies(case) and crs_now(case).present


def _treats_toxicity(record: DrugRecord) -> bool:
    return not record.reasons.isdisjoint(TOXICITIES)


# --- steroids


def _before_cells(record: DrugRecord, at: Window) -> bool:
    """Does a dose of the infusion day come before the cells? Without both hours: yes."""
    doses = [m for m in _days(record) if m.date == at.day0]
    planned = at.infusion
    if not doses or planned is None or not planned.exact:
        return not at.infused
    return any(not dose.exact or dose.earliest < planned.earliest for dose in doses)


def _rescue(record: DrugRecord) -> bool:
    """As needed and for no scheduled use: kept at hand for an emergency, not planned before the cells."""
    return record.timing.as_needed and record.purposes.isdisjoint(PLANNED_USES)


def _steroid(case: Case, record: DrugRecord, drug: str) -> Hit | None:
    at = window(case)
    if at.day0 is None:
        return _steroid_without_day0(case, record, drug)
    until = at.day0 + timedelta(days=case.p(RULE).int("steroid_until_day"))
    first = at.start if at.start is not None else at.day0
    inside = _overlaps(record, first, until)
    if inside is None:
        return None
    if replaces(record, drug, case):
        return Hit(record, drug, Row.REPLACEMENT, Outcome.INFO, Indicator.INFO, inside)
    if _treats_toxicity(record):
        return None
    if not at.infused:
        on_day = _overlaps(record, at.day0, at.day0)
        if on_day is not None and _before_cells(record, at):
            if _rescue(record):
                return Hit(record, drug, Row.STEROID_DAY0, Outcome.REVIEW, Indicator.WARNING, on_day)
            return Hit(record, drug, Row.STEROID_DAY0, Outcome.CONTRAINDICATED, Indicator.CRITICAL, on_day)
        if at.start is not None:
            # up to the first day of lymphodepletion washout.lymphodepletion judges (its row B8)
            between = _overlaps(record, at.start + timedelta(days=1), at.day0 - timedelta(days=1))
            if between is not None:
                return Hit(record, drug, Row.STEROID_BEFORE, Outcome.STOP, Indicator.WARNING, between)
    after = _overlaps(record, max(at.day0, case.today) if at.infused else at.day0, until)
    if after is None or toxicity_recorded(case) or (at.infused and adrenal_insufficiency(case)):
        return None
    if at.infused and (_toxicity_shown(case) or _judged_as_crs_steroid(case, record, drug)):
        return None
    return Hit(record, drug, Row.STEROID_AFTER, Outcome.REVIEW, Indicator.WARNING, after)


def _steroid_without_day0(case: Case, record: DrugRecord, drug: str) -> Hit | None:
    """Lymphodepletion has a date, the infusion has none: any later day comes before the cells."""
    at = window(case)
    if at.start is None or at.infused or _treats_toxicity(record):
        return None
    day = _overlaps(record, at.start + timedelta(days=1), date.max)
    if day is None:
        return None
    if replaces(record, drug, case):
        return Hit(record, drug, Row.REPLACEMENT, Outcome.INFO, Indicator.INFO, day)
    return Hit(record, drug, Row.STEROID_BEFORE, Outcome.STOP, Indicator.WARNING, day)


# --- TKI and immunosuppressants


def _ph(case: Case) -> dict[str, Result | None]:
    """Newest Ph and Ph-like result."""
    found: dict[str, Result | None] = {}
    for concept in ("ph_positive", "ph_like"):
        observation = case.chart.latest(concept)
        value = None if observation is None else observation.value
        if value is None:
            found[concept] = None
        elif "present" in value.codes or value.result is Result.POSITIVE:
            found[concept] = Result.POSITIVE
        elif "absent" in value.codes or value.result is Result.NEGATIVE:
            found[concept] = Result.NEGATIVE
        else:
            found[concept] = None
    return found


def _tki(case: Case, record: DrugRecord, drug: str) -> Hit | None:
    at = window(case)
    numbers = case.p(RULE)
    switch_off = "purpose_car_t_switch_off" in record.purposes or _treats_toxicity(record)
    if switch_off and at.infused and (toxicity_recorded(case) or _toxicity_shown(case)):
        return None
    anchor = at.start or at.day0
    if anchor is None:
        return None
    start = anchor - timedelta(days=numbers.int("before_lymphodepletion_days"))
    end = (at.day0 or anchor) + timedelta(days=numbers.int("tki_until_day"))
    inside = _overlaps(record, max(start, case.today), end)
    ph = _ph(case)
    leukaemia = disease(case) in (Disease.B_ALL, Disease.UNKNOWN) or Result.POSITIVE in ph.values()
    if inside is not None:
        indicator = Indicator.WARNING if leukaemia else Indicator.INFO
        return Hit(record, drug, Row.TKI, Outcome.HOLD, indicator, inside)
    later = _overlaps(record, end + timedelta(days=1), date.max)
    if later is not None and at.infused:
        return Hit(record, drug, Row.TKI_LATE, Outcome.INFO, Indicator.INFO, later)
    return None


def _immunosuppressant(case: Case, record: DrugRecord, drug: str) -> Hit | None:
    at = window(case)
    if at.day0 is None or at.day0 < case.today or _treats_toxicity(record):
        return None
    day = _overlaps(record, at.day0, at.day0)
    if day is None:
        return None
    return Hit(record, drug, Row.IMMUNOSUPPRESSANT, Outcome.STOP, Indicator.WARNING, day)


_JUDGES = {
    Group.STEROID: _steroid,
    Group.TKI: _tki,
    Group.IMMUNOSUPPRESSANT: _immunosuppressant,
}


def judge(case: Case, record: DrugRecord) -> Hit | None:
    """The row that a drug record breaks, None where it breaks none."""
    found = group_of(record)
    return None if found is None else _JUDGES[found[0]](case, record, found[1])


# --- findings


def _shown(case: Case, hit: Hit) -> dict[str, Shown]:
    numbers = case.p(RULE)
    return {
        "drug": Name(hit.drug),
        "day": hit.day if hit.day is not None else msg("cell.none"),
        "before": Days(numbers.int("before_lymphodepletion_days")),
        "until": numbers.int("tki_until_day"),
    }


def _detail(case: Case, hit: Hit) -> list[Block]:
    at = window(case)
    shown = _shown(case, hit)
    infusion = at.infusion if at.infusion is not None else msg("cell.none")
    blocks: list[Block] = [
        Paragraph(msg("detail.found", infusion=infusion, **shown)),
        Bullet(msg(f"detail.{hit.row.value}", **shown)),
    ]
    steroid = hit.row in (Row.STEROID_DAY0, Row.STEROID_BEFORE, Row.STEROID_AFTER)
    if steroid and not hit.record.purposes and not hit.record.reasons:
        blocks.append(Bullet(msg("note.indication-unknown")))
    if hit.row is Row.STEROID_DAY0 and _rescue(hit.record):
        blocks.append(Bullet(msg("note.rescue")))
    if steroid and hit.record.route is None:
        blocks.append(Bullet(msg("note.route-assumed")))
    if hit.row is Row.TKI:
        if hit.drug == "dasatinib":
            blocks.append(Bullet(msg("note.dasatinib")))
        ph = _ph(case)
        if all(result is None for result in ph.values()):
            blocks.append(Bullet(msg("note.ph-unknown")))
    return blocks


def _missing(hit: Hit) -> tuple[Missing, ...]:
    steroid = hit.row in (Row.STEROID_DAY0, Row.STEROID_BEFORE, Row.STEROID_AFTER)
    unknown = steroid and not hit.record.purposes and not hit.record.reasons
    return (Missing(hit.drug, resource=hit.record.reference),) if unknown else ()


def _finding(case: Case, hit: Hit) -> Finding:
    at = window(case)
    shown = _shown(case, hit)
    values: dict[str, str | int | date] = {"row": hit.row.value, "drug": hit.drug}
    if hit.day is not None:
        values["dose_day"] = hit.day
    if at.day0 is not None:
        values["day0"] = at.day0
        if hit.day is not None:
            values["course_day"] = (hit.day - at.day0).days
    offered = suggestions(case, hit.record) if hit.row is Row.STEROID_DAY0 else ()
    return Finding(
        rule=RULE,
        outcome=hit.outcome,
        indicator=hit.indicator,
        summary=msg(f"summary.{hit.row.value}", **shown),
        subject=hit.record.reference,
        detail=tuple(_detail(case, hit)),
        values=values,
        evidence=(Evidence(hit.record.reference, hit.drug, effective=hit.record.timing.first),),
        missing=_missing(hit),
        resource=hit.record.reference,
        suggestions=offered,
        selection=Selection.ANY,
        overrides=OVERRIDES,
    )


def _page_hits(case: Case) -> Iterator[Hit]:
    """Drugs active on the day of infusion."""
    records: Iterable[DrugRecord] = case.chart.drugs.all
    for record in records:
        if record.source is DrugSource.DISPENSE or not active_on(record, case.today):
            continue
        if record.source is DrugSource.ADMINISTRATION and not record.in_force:
            continue
        hit = judge(case, record)
        if hit is not None:
            yield hit


def _page(case: Case) -> Iterator[Finding]:
    if window(case).day0 != case.today:
        return
    hits = sorted(_page_hits(case), key=lambda h: (-h.indicator.rank, h.drug, h.record.reference))
    unique = list({hit.drug: hit for hit in reversed(hits)}.values())[::-1]
    if not unique:
        return
    worst = unique[0]
    finding = _finding(case, worst)
    blocks: list[Block] = []
    for hit in unique:
        blocks += _detail(case, hit)
    lines: list[dict[str, str | int | bool]] = [
        {"row": hit.row.value, "drug": hit.drug, "outcome": hit.outcome.value} for hit in unique
    ]
    yield Finding(
        rule=RULE,
        outcome=worst.outcome,
        indicator=worst.indicator,
        summary=finding.summary,
        detail=tuple(blocks),
        values={**finding.values, "lines": [dict(line) for line in lines]},
        evidence=tuple(Evidence(h.record.reference, h.drug, effective=h.record.timing.first) for h in unique),
        missing=tuple(m for hit in unique for m in _missing(hit)),
        overrides=OVERRIDES,
    )


def _near(case: Case, draft: DrugRecord) -> bool:
    """From three days before lymphodepletion on, today or by the first dose of the draft. What is begun
    earlier is bridging; whether it ends in time is for washout.lymphodepletion to say."""
    at = window(case)
    anchor = at.start or at.day0
    if anchor is None:
        return False
    opens = anchor - timedelta(days=case.p(RULE).int("before_lymphodepletion_days"))
    first = draft.timing.first
    return case.today >= opens or (first is not None and first.date >= opens)


def _concerns(drafts: Drafts, _: Parameters) -> bool:
    return drafts_hold(drafts, drug_classes().drugs("DC4", "DC6", "DC11"), frozenset())


@rule(RULE, concerns=_concerns)
def infusion(case: Case) -> Iterator[Finding]:
    """Drafted drugs that weaken the cells, and on day 0 what is still active."""
    at = window(case)
    if at.day0 is None and at.start is None:
        return
    if not case.ordering:
        yield from _page(case)
        return
    for draft in case.judged_drugs():
        hit = judge(case, draft) if _near(case, draft) else None
        if hit is not None:
            yield _finding(case, hit)
