"""Is everything in place before the first tarlatamab dose; rows marked * again before every dose.

The absence of a result never counts as normal: each missing item is named.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import ROUND_DOWN, Decimal

from cards.finding import (
    Block,
    Bullet,
    Create,
    Days,
    Evidence,
    Finding,
    Indicator,
    Items,
    Message,
    Missing,
    Name,
    Outcome,
    Scalar,
    ServiceProposal,
    Suggestion,
    msg,
)
from cds.engine.case import Case
from cds.engine.rule import rule
from cds.rules import evidence as facts
from cds.rules.bispecific import labs
from cds.rules.bispecific.holds.rows import Action
from cds.rules.bispecific.holds.state import hold_state
from cds.rules.bispecific.setting import unmonitored
from cds.rules.bispecific.tarlatamab import (
    DRUG,
    before_first_dose,
    dosed,
    live_orders,
    tarlatamab_ladder,
    under_judgement,
)
from cds.rules.body_size import weight
from cds.rules.grading.ctcae_labs import grade_lab, times_uln
from cds.rules.readiness.tarlatamab_pregnancy import Pregnancy, pregnancy
from cds.rules.renal import measured_bound
from cds.rules.unread import ALLERGIES, unread
from cds.rules.vaccination.classes import VaccineClass, classify
from fhir_mapping.chart import (
    Amount,
    ConditionState,
    DrugRecord,
    DrugSource,
    DrugState,
    EventState,
    LossReason,
    Moment,
    Observation,
    Result,
)

RULE = "readiness.tarlatamab"
EXCIPIENTS = ("polysorbate_80", "sucrose", "glutamic_acid", "citric_acid", "lysine")
_PLATINUM = ("cisplatin", "carboplatin", "class_platinum")
_RELAPSE = ("progressive_disease", "relapse")
_DIALYSIS = ("dialysis", "hemodialysis", "peritoneal_dialysis")
_FLUIDS = ("sodium_chloride", "crystalloid", "iv_fluids")
_SUMMARY_ROWS = 4  # as many as fit the summary; the detail has all
_BASELINE = ("anc", "platelets", "hemoglobin", "alt", "ast", "bilirubin_total")


@dataclass(frozen=True, slots=True)
class Point:
    """One open row of the checklist. `tests` may be ordered to close it."""

    row: str
    indicator: Indicator
    text: Message
    evidence: tuple[Evidence, ...] = ()
    missing: tuple[Missing, ...] = ()
    tests: tuple[str, ...] = ()
    values: Mapping[str, Scalar] = field(default_factory=dict)


@rule(RULE)
def tarlatamab_readiness(case: Case) -> Iterator[Finding]:
    drafts = under_judgement(case)
    if case.ordering and not drafts:
        return
    record = drafts[0].planned.record if drafts else _next_order(case)
    first = before_first_dose(case)
    if not case.ordering and (record is None or not first):
        return
    start = labs.planned_start(case, record)
    points = list(_points(case, start, record, first))
    for judged in drafts:
        points += _setting(case, judged.planned.record, judged.label)
    reference = drafts[0].reference if drafts else ""
    points.sort(key=lambda p: -p.indicator.rank)
    if points:
        yield _finding(case, points, reference, first)


def _next_order(case: Case) -> DrugRecord | None:
    """The active order that plans the first dose."""
    orders = [o for o in live_orders(case) if o.timing.first is not None]
    ahead = [o for o in orders if o.timing.first is not None and o.timing.first.date >= case.today]
    if ahead:
        return min(ahead, key=lambda o: o.timing.first.earliest if o.timing.first else case.now)
    live = live_orders(case)
    return live[0] if live else None


def _finding(case: Case, points: list[Point], reference: str, first: bool) -> Finding:
    worst = points[0]
    ready = worst.indicator is Indicator.INFO
    values: dict[str, Scalar | list[Scalar]] = {
        "row": worst.row,
        "rows": list(dict.fromkeys(p.row for p in points)),
        "open_points": sum(1 for p in points if p.indicator is not Indicator.INFO),
    }
    for point in points:
        values |= point.values
    tests = tuple(dict.fromkeys(test for point in points for test in point.tests))
    suggestions: tuple[Suggestion, ...] = ()
    if tests:
        creates = tuple(Create(ServiceProposal(test)) for test in tests)
        suggestions = (Suggestion("tests", msg("suggest.tests"), creates, recommended=True),)
    shown = list(dict.fromkeys(p.row for p in points if p.indicator is worst.indicator))
    key = "summary.ready" if ready else "summary.not-ready"
    if not first:
        key += "-next"
    if ready and _spoken_against(case):
        key = "summary.held"
    detail: list[Block] = [Bullet(point.text) for point in points]
    return Finding(
        rule=RULE,
        outcome=Outcome.READY if ready else Outcome.NOT_READY,
        indicator=worst.indicator,
        summary=msg(key, open=Items(tuple(msg(f"label.{row}") for row in shown[:_SUMMARY_ROWS]))),
        subject=reference,
        detail=tuple(detail),
        values=values,
        evidence=tuple(dict.fromkeys(e for p in points for e in p.evidence)),
        missing=tuple(dict.fromkeys(m for p in points for m in p.missing)),
        resource=reference,
        suggestions=suggestions,
    )


def _spoken_against(case: Case) -> bool:
    """Another card holds or stops the dose: the checklist must not call it ready."""
    return hold_state(case).action >= Action.HOLD or pregnancy(case).state is Pregnancy.PREGNANT


def _points(case: Case, start: Moment, record: DrugRecord | None, first: bool) -> Iterator[Point]:
    if not first and not dosed(case):
        missing = (Missing(DRUG, LossReason.NOT_FETCHED),)
        yield Point("history", Indicator.WARNING, msg("row.history"), missing=missing)
    if first:
        yield from _age(case)
        yield from _disease(case)
        yield from _line(case)
        yield from _target(case)
        yield from _hepatitis(case)
    yield from _fresh_labs(case, start, first)
    if first:
        yield from _kidney(case)
        yield from _liver_note(case, start)
    yield from _hydration(case, start)
    yield from _allergy(case)
    if first:
        yield from _baseline_toxicity(case, start)
        yield from _live_vaccine(case, start)


def _age(case: Case) -> Iterator[Point]:
    age = case.chart.patient.age(case.today)
    limit = case.p(RULE).int("adult_from_years")
    if age is None or age[0] < limit <= age[1]:
        yield Point("R1", Indicator.WARNING, msg("row.age-unknown"), missing=(Missing("birth_date"),))
    elif age[1] < limit:
        yield Point(
            "R1", Indicator.WARNING, msg("row.age", age=age[1], limit=limit), values={"age_years": age[1]}
        )


def _disease(case: Case) -> Iterator[Point]:
    if not any(c.state is ConditionState.ACTIVE for c in case.chart.conditions.of("sclc")):
        yield Point("R2", Indicator.WARNING, msg("row.disease"))


def _line(case: Case) -> Iterator[Point]:
    """Relapsed or refractory, or any platinum before: either satisfies the indication."""
    lung = case.chart.conditions.of("sclc")
    relapsed = any(c.clinical_status in ("relapse", "recurrence") for c in lung)
    responses = case.chart.series("disease_response")
    relapsed = relapsed or any(not set(_RELAPSE).isdisjoint(o.value.codes) for o in responses)
    number = case.chart.latest("relapse_number")
    relapsed = relapsed or (number is not None and bool(number.value.number))
    refractory = case.chart.latest("refractory_disease")
    relapsed = relapsed or (refractory is not None and bool(refractory.value.yes))
    if not relapsed and not any(_had(case, record) for record in case.chart.drugs.of(*_PLATINUM)):
        yield Point("R3", Indicator.WARNING, msg("row.line"))


def _had(case: Case, record: DrugRecord) -> bool:
    """Given, or ordered for a time that has come."""
    first = record.timing.first
    if record.source is DrugSource.ORDER:
        begun = first is None or first.first_date <= case.today
        return begun and record.state in (DrugState.ACTIVE, DrugState.COMPLETED, DrugState.STOPPED)
    return record.given


def _target(case: Case) -> Iterator[Point]:
    newest = case.chart.latest("dll3_expression")
    if newest is None or (newest.value.result is None and not newest.value.codes):
        yield Point("R4", Indicator.INFO, msg("row.dll3-absent"))
    elif newest.value.result is Result.NEGATIVE or "negative" in newest.value.codes:
        yield Point("R4", Indicator.WARNING, msg("row.dll3-negative"), (facts.of_observation(newest),))


def _hepatitis(case: Case) -> Iterator[Point]:
    lacking = labs.hepatitis_gaps(case, case.p(RULE).int("hbv_max_age_days"))
    if lacking:
        open_tests = [gap.concept for gap in lacking]
        names = msg("row.hbv-missing", tests=_names(open_tests))
        yield Point("R5", Indicator.WARNING, names, missing=lacking, tests=tuple(open_tests))
    positive = [
        facts.of_observation(o)
        for concept in ("hbsag", "anti_hbc")
        for o in case.chart.series(concept)
        if o.value.result is Result.POSITIVE
    ]
    coded = [
        facts.of_fact(c, "hbv")
        for c in case.chart.conditions.of("hbv")
        if c.state in (ConditionState.ACTIVE, ConditionState.HISTORY)
    ]
    if positive or coded:
        yield Point("R6", Indicator.WARNING, msg("row.hbv-positive"), (*positive, *coded))


def _names(concepts: list[str]) -> Items:
    return Items(tuple(Name(concept) for concept in concepts))


def _fresh_labs(case: Case, start: Moment, first: bool) -> Iterator[Point]:
    days = case.p(RULE).int("pre_dose_lab_max_age_days")
    liver = (*labs.LIVER, "ggt") if first else labs.LIVER
    for row, concepts in (("R7", labs.CBC), ("R8", liver)):
        found = labs.gaps(case, concepts, start, days)
        if found:
            yield Point(
                row,
                Indicator.WARNING,
                msg("row.labs", tests=_names([g.concept for g in found]), days=Days(days)),
                missing=tuple(g.missing for g in found),
                tests=tuple(g.concept for g in found),
            )


# --- organs


@dataclass(frozen=True, slots=True)
class Clearance:
    """Creatinine clearance in mL/min. `value` None: `missing` says what lacks."""

    value: Decimal | None
    measured: bool = False
    evidence: tuple[Evidence, ...] = ()
    missing: tuple[Missing, ...] = ()


def clearance(case: Case) -> Clearance:
    """Measured clearance, else Cockcroft-Gault from age, sex, actual weight and creatinine."""
    p = case.p(RULE)
    window = timedelta(days=p.int("baseline_lab_max_age_days"))

    def newest(concept: str) -> Observation | None:
        return case.chart.series(concept).latest(
            case.now, window, lambda o: o.value.quantity is not None and not o.value.quantity.comparator
        )

    measured = newest("creatinine_clearance")
    if measured is not None and measured.value.quantity is not None:
        return Clearance(measured.value.quantity.value, True, (facts.of_observation(measured),))
    creatinine = newest("creatinine")
    kg = weight(case, p.int("weight_max_age_days"))
    age = case.chart.patient.age(case.today)
    lacking = list(kg.missing)
    if creatinine is None:
        lacking.append(Missing("creatinine"))
    if age is None or age[0] != age[1]:
        lacking.append(Missing("birth_date"))
    if case.chart.patient.sex not in ("male", "female"):
        lacking.append(Missing("sex"))
    quantity = None if creatinine is None else creatinine.value.quantity
    if (
        lacking
        or creatinine is None
        or quantity is None
        or quantity.value <= 0
        or kg.value is None
        or age is None
    ):
        return Clearance(None, missing=tuple(lacking))
    value = (140 - age[0]) * kg.value / (72 * quantity.value)
    if case.chart.patient.sex == "female":
        value *= Decimal("0.85")
    assert creatinine is not None
    return Clearance(value, False, (facts.of_observation(creatinine), *kg.evidence))


def _kidney(case: Case) -> Iterator[Point]:
    p = case.p(RULE)
    renal = clearance(case)
    limit = p["crcl_moderate_ml_min"]
    bound = measured_bound(case, p.int("baseline_lab_max_age_days"))
    told = None if bound is None else bound.value.quantity
    low = None if told is None else told.below(limit)
    if bound is not None and told is not None and low:
        yield Point(
            "R10",
            Indicator.WARNING,
            msg("row.crcl", value=told, limit=limit),
            (facts.of_observation(bound),),
            values={"crcl_ml_min": facts.figure(told)},
        )
    elif low is None and renal.value is None:
        yield Point("R10", Indicator.INFO, msg("row.crcl-unknown"), missing=renal.missing)
    elif low is None and renal.value is not None and renal.value < limit:
        shown = Amount(renal.value.quantize(Decimal("0.1"), ROUND_DOWN), "mL/min")  # 29.96 is not 30
        yield Point(
            "R10",
            Indicator.WARNING,
            msg("row.crcl", value=shown, limit=limit),
            renal.evidence,
            values={"crcl_ml_min": shown.value},
        )
    window = timedelta(days=p.int("baseline_lab_max_age_days"))
    egfr = case.chart.series("egfr").latest(case.now, window, lambda o: o.value.quantity is not None)
    quantity = None if egfr is None else egfr.value.quantity
    evidence: tuple[Evidence, ...] = ()
    if egfr is not None and quantity is not None and quantity.below(p["esrd_egfr"]):
        evidence = (facts.of_observation(egfr),)
    evidence += tuple(
        facts.of_fact(c, "esrd") for c in case.chart.conditions.of("esrd") if c.state is ConditionState.ACTIVE
    )
    since = case.now - timedelta(days=p.int("dialysis_days"))
    for procedure in case.chart.procedures.of(*_DIALYSIS):
        running = procedure.state is EventState.RUNNING
        recent = procedure.start is not None and procedure.start.latest >= since
        if running or (recent and procedure.state in (EventState.DONE, EventState.STOPPED)):
            evidence += (facts.of_fact(procedure, "dialysis"),)
    if evidence:
        values = {"egfr": quantity.value} if quantity is not None else {}
        yield Point("R11", Indicator.WARNING, msg("row.esrd", limit=p["esrd_egfr"]), evidence, values=values)


def _baseline(case: Case, concept: str, start: Moment) -> Observation | None:
    """Newest result that still tells of the state before the first dose."""
    newest = labs.newest(case, concept)
    days = case.p(RULE).int("baseline_lab_max_age_days")
    return newest if newest is not None and labs.is_fresh(newest.when, start, days) else None


def _liver_note(case: Case, start: Moment) -> Iterator[Point]:
    p = case.p(RULE)
    for concept in labs.LIVER:
        newest = _baseline(case, concept, start)
        factor = p["bilirubin_note_uln" if concept == "bilirubin_total" else "transaminase_note_uln"]
        if newest is not None and times_uln(newest, factor):
            yield Point(
                "R12",
                Indicator.INFO,
                msg("row.liver", name=Name(concept), factor=factor),
                (facts.of_observation(newest),),
            )


def _baseline_toxicity(case: Case, start: Moment) -> Iterator[Point]:
    for concept in _BASELINE:
        newest = _baseline(case, concept, start)
        if newest is None:
            continue
        grade = grade_lab(newest).grade
        if grade is not None and grade >= 3:
            quantity = newest.value.quantity
            assert quantity is not None
            yield Point(
                "R16",
                Indicator.WARNING,
                msg(
                    "row.baseline",
                    name=Name(concept),
                    value=Amount(quantity.value, quantity.unit),
                    grade=grade,
                ),
                (facts.of_observation(newest),),
            )


# --- the day itself


def _hydration(case: Case, start: Moment) -> Iterator[Point]:
    window = timedelta(hours=float(case.p(RULE)["hydration_hours"]))
    begin, end = start.earliest - window, start.latest
    said = [
        o.value.yes
        for o in case.chart.series("hydration_adequate").between(begin, end)
        if o.value.yes is not None
    ]
    boluses = [p for p in case.chart.procedures.of("fluid_bolus") if p.state.begun]
    spans = [
        (d.timing.first, d.timing.last, d.state is DrugState.RUNNING)
        for d in case.chart.administrations(*_FLUIDS)
    ]
    spans += [(p.start, p.end, p.state is EventState.RUNNING) for p in boluses]
    given = any(
        first is not None and first.earliest <= end and (running or (last or first).latest >= begin)
        for first, last, running in spans
    )
    dry = [c for c in case.chart.conditions.of("dehydration", "aki") if c.state is ConditionState.ACTIVE]
    if dry:
        concept = "dehydration" if "dehydration" in dry[0].concepts else "aki"
        yield Point(
            "R13",
            Indicator.WARNING,
            msg("row.dehydrated", name=Name(concept)),
            (facts.of_fact(dry[0], concept),),
        )
    elif not (said[-1] if said else given):
        yield Point("R13", Indicator.INFO, msg("row.hydration"))


def _allergy(case: Case) -> Iterator[Point]:
    if unread(case, ALLERGIES):
        yield Point("R15", Indicator.INFO, msg("row.allergies-unread"))
    for allergy in case.chart.allergy_to(DRUG):
        yield Point("R15", Indicator.CRITICAL, msg("row.allergy"), (facts.of_fact(allergy, DRUG),))
    for excipient in EXCIPIENTS:
        for allergy in case.chart.allergy_to(excipient):
            yield Point(
                "R15",
                Indicator.WARNING,
                msg("row.excipient", name=Name(excipient)),
                (facts.of_fact(allergy, excipient),),
            )


def _live_vaccine(case: Case, start: Moment) -> Iterator[Point]:
    days = case.p(RULE).int("live_vaccine_days")
    for vaccine in case.chart.vaccines.all:
        told = classify(vaccine)
        if told.vaccine_class is not VaccineClass.LIVE or vaccine.when is None:
            continue
        gap = (start.date - vaccine.when.date).days
        if 0 <= gap <= days:
            yield Point(
                "V",
                Indicator.WARNING,
                msg("row.live-vaccine", name=Name(told.concept), gap=Days(gap), day=vaccine.when.date),
                (facts.of_fact(vaccine, told.concept),),
            )


def _setting(case: Case, record: DrugRecord, label: str) -> Iterator[Point]:
    """R17: the first two doses of a climb need a place that can treat CRS."""
    encounter = unmonitored(case, tarlatamab_ladder(), record, label)
    if encounter is not None:
        yield Point(
            "R17",
            Indicator.WARNING,
            msg("row.setting", label=label),
            (Evidence(encounter.reference, value=encounter.class_code),),
        )
