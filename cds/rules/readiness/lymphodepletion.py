"""Work-up before lymphodepletion, rows P1 to P11: values from after the collection, inside their windows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from cards.finding import (
    Evidence,
    Finding,
    Indicator,
    Items,
    Message,
    Missing,
    Name,
    Scalar,
    Shown,
    msg,
)
from cds.engine.case import Case, once_per_case
from cds.engine.rule import rule
from cds.rules import evidence as facts
from cds.rules.dosing.ldc import orders
from cds.rules.readiness.bridging_course import bridging_drugs
from cds.rules.readiness.checklist import (
    NOTHING,
    Line,
    Look,
    Status,
    checklist,
    dated,
    listed,
    newest,
    shown,
    status_of,
    with_number,
)
from cds.rules.readiness.infection import detected_loads, infections
from cds.rules.readiness.measures import saturation
from cds.rules.readiness.organs import (
    days,
    enzyme_line,
    kidney_line,
    recorded,
)
from cds.rules.readiness.phase import collected, infused
from cds.rules.readiness.product import product_status
from cds.rules.readiness.suspected import is_suspected
from cds.rules.unread import CONDITIONS, DOSES, unread
from cds.rules.work_up import Found, look_for
from fhir_mapping.chart import (
    Amount,
    ConditionState,
    LossReason,
    Moment,
    Observation,
    Quantity,
)

RULE = "readiness.lymphodepletion"
_BASELINE = ("crp", "ferritin", "ldh", "fibrinogen")
_PANEL = ("sodium", "potassium", "creatinine")
_IMAGING = ("pet_ct", "ct", "mri", "imaging_other")
_MARROW = ("bone_marrow_aspiration", "marrow_biopsy", "marrow_blasts")
_HEART_LISTS = (("heart_failure", CONDITIONS), ("doxorubicin", DOSES))
_HUNDREDTH = Decimal("0.01")


@once_per_case
def since_collection(case: Case) -> datetime | None:
    """Start of the last collection; values from before it do not count."""
    anchor = case.chart.course.collected
    return None if anchor is None or anchor.when is None else anchor.when.earliest


def _look(case: Case, concepts: str | tuple[str, ...], window: str) -> Look:
    return newest(case, concepts, days(case, case.p(RULE), window), recorded, since_collection(case))


def _far(case: Case) -> bool:
    first = case.chart.course.ldc_first
    return (
        first is not None and first.when is not None and first.when.earliest > case.now + timedelta(hours=24)
    )


def _product(case: Case) -> Line:
    """P1: received on site; manufactured but not received is exceptional."""
    status = product_status(case)
    cell: Shown = NOTHING
    evidence: tuple[Evidence, ...] = ()
    if status.observation is not None:
        cell, evidence = shown(status.observation), (facts.of_observation(status.observation),)
    elif status.delivery is not None:
        cell = dated(Name("received"), status.delivery.when)
        evidence = (facts.of_fact(status.delivery, "product_status"),)
    if status.words & {"received", "stored"}:
        return Line("P1", Status.MET, cell, evidence=evidence)
    if status.words & {"manufactured", "in_transit"}:
        return Line("P1", Status.CAUTION, cell, notes=(msg("note.not-received"),), evidence=evidence)
    missing = () if status.words else (Missing("product_status"),)
    return Line(
        "P1", Status.NOT_MET, cell, notes=(msg("note.no-product"),), evidence=evidence, missing=missing
    )


def _fever(case: Case) -> Observation | None:
    p = case.p(RULE)
    start = case.now - timedelta(hours=p.int("vitals_max_age_h"))
    for observation in case.chart.series("body_temperature").between(start, case.now):
        quantity = observation.value.quantity
        if quantity is not None and quantity.at_least(p["fever_cel"]):
            return observation
    return None


def _infection(case: Case) -> Line:
    state = infections(case)
    found = (*state.active, *state.viral)
    if found:
        cell = listed(found)
        return Line(
            "P2",
            Status.NOT_MET,
            cell,
            notes=(msg("note.infection"),),
            weight=Indicator.CRITICAL,
            evidence=found,
        )
    window = days(case, case.p(RULE), "review_max_age_days")
    fever = _fever(case)
    measured = [*detected_loads(case, window), *((fever,) if fever is not None else ())]
    signs = (*state.suspected, *state.treatment, *(facts.of_observation(o) for o in measured))
    if state.cleared(case, window, measured) and state.review is not None:
        return Line("P2", Status.MET, shown(state.review), evidence=(facts.of_observation(state.review),))
    cell_open: Shown = NOTHING
    if signs:
        cell_open = listed(signs)
    note = msg("note.infection-signs" if signs else "note.infection-review")
    missing = (Missing("infection_status"),)
    return Line("P2", Status.UNKNOWN, cell_open, notes=(note,), evidence=signs, missing=missing)


def _fitness(case: Case) -> Line:
    look = _look(case, "fit_for_lymphodepletion", "review_max_age_days")
    fit = None if look.observation is None else look.observation.value.yes
    if fit is None:
        missing = look.missing or (Missing("fit_for_lymphodepletion"),)
        return Line("P3", Status.UNKNOWN, look.shown, notes=(msg("note.attest"),), missing=missing)
    return Line("P3", Status.MET if fit else Status.NOT_MET, look.shown, evidence=look.evidence)


def _oxygen(case: Case) -> Line:
    p = case.p(RULE)
    limit = p["spo2_min_percent"]
    limits = {"limit": Amount(limit, "%")}
    found = saturation(case, timedelta(hours=p.int("vitals_max_age_h")))
    again = (msg("note.repeat-on-day"),) if _far(case) else ()
    quantity = found.look.quantity
    good = None if quantity is None else quantity.at_least(limit)
    if quantity is None or good is None:
        if again:
            return Line("P4", Status.NOT_APPLICABLE, found.shown, limits, again)
        missing = found.look.missing or (Missing("spo2"),)
        return Line("P4", Status.UNKNOWN, found.shown, limits, missing=missing)
    evidence = (*found.look.evidence, *found.evidence)
    status = Status.NOT_MET if not good else (Status.CLINICIAN if found.oxygen else Status.MET)
    notes = (msg("note.on-oxygen"),) if status is Status.CLINICIAN else ()
    values: dict[str, Scalar] = {"spo2_percent": facts.figure(quantity)}
    return Line(
        "P4", status, found.shown, limits, (*notes, *again), values=values, evidence=evidence, brief=quantity
    )


def _counts(case: Case) -> Line:
    looks = [
        newest(case, c, days(case, case.p(RULE), "cbc_max_age_days"), with_number, since_collection(case))
        for c in ("wbc", "alc")
    ]
    found = [look for look in looks if look.observation is not None]
    if not found:
        return Line("P5", Status.UNKNOWN, looks[0].shown, missing=looks[0].missing, tests=("cbc_panel",))
    cells = tuple(cell for look in found for cell in look.named)
    return Line("P5", Status.MET, Items(cells), evidence=tuple(e for look in found for e in look.evidence))


def _baseline(case: Case) -> Line:
    looks = {c: _look(case, c, "chemistry_max_age_days") for c in _BASELINE}
    missing = [m for look in looks.values() for m in look.missing]
    evidence = [e for look in looks.values() for e in look.evidence]
    window = days(case, case.p(RULE), "chemistry_max_age_days")
    start = max(filter(None, (since_collection(case), case.now - window)))
    panel = look_for(case, start, "metabolic_panel")
    members = [_look(case, c, "chemistry_max_age_days") for c in _PANEL]
    if panel.found is Found.DONE:
        evidence += panel.evidence
    elif all(look.observation is not None for look in members):
        evidence += [e for look in members for e in look.evidence]
    else:
        missing.append(Missing("metabolic_panel"))
    cells = tuple(cell for look in looks.values() for cell in look.named)
    return Line(
        "P6",
        Status.UNKNOWN if missing else Status.MET,
        Items(cells) if cells else NOTHING,
        evidence=tuple(evidence),
        missing=tuple(missing),
        tests=tuple(m.concept for m in missing),
    )


def _bilirubin(case: Case) -> Line:
    p = case.p(RULE)
    gilbert = any(
        c.state in (ConditionState.ACTIVE, ConditionState.HISTORY)
        for c in case.chart.conditions.of("gilbert")
    )
    window = days(case, p, "chemistry_max_age_days")
    look = newest(case, "bilirubin_total", window, with_number, since_collection(case))
    limit, ceiling = p["bilirubin_below_mg_dl"], p["bilirubin_gilbert_mg_dl"]
    limits: dict[str, Shown] = {"limit": Amount(limit, "mg/dL"), "gilbert": Amount(ceiling, "mg/dL")}
    quantity = look.quantity
    good = None if quantity is None else quantity.below(limit)
    within = None if quantity is None else quantity.at_most(ceiling)
    told = good is not None and (within is not None or not gilbert)
    if quantity is None or not told or look.observation is None:
        missing = look.missing or (Missing("bilirubin_total"),)
        return Line("P7", Status.UNKNOWN, look.shown, limits, missing=missing, tests=("bilirubin_total",))
    rounded = Quantity(quantity.value.quantize(_HUNDREDTH), quantity.unit, quantity.comparator)
    cell: Shown = msg("common.checklist.value", value=rounded, when=look.observation.when)
    notes: tuple[Message, ...] = ()
    if good:
        status = Status.MET
    elif gilbert:
        status = Status.MET if within else Status.CLINICIAN
        notes = (msg("note.gilbert"),)
    else:
        status, notes = Status.NOT_MET, (msg("note.no-trial-support"),)
        if quantity.value == limit:
            cell = msg("common.checklist.at-limit", what=cell)
    return Line(
        "P7",
        status,
        cell,
        limits,
        notes,
        values={"bilirubin_mg_dl": facts.figure(quantity)},
        evidence=look.evidence,
        brief=rounded,
    )


def _kidney(case: Case) -> Line:
    p = case.p(RULE)
    block, adjust = p["clearance_above_ml_min"], p["clearance_adjust_ml_min"]

    def judge(value: Quantity) -> Status | None:
        if value.above(block) is not True:
            return status_of(value.above(block))
        low = value.below(adjust)
        return None if low is None else Status.CAUTION if low else Status.MET

    return kidney_line(
        case,
        "P9",
        p,
        judge,
        {"limit": Amount(block, "mL/min"), "adjust": Amount(adjust, "mL/min")},
        block,
        notes={
            Status.NOT_MET: msg("note.clearance-block"),
            Status.CAUTION: msg("note.clearance-adjust"),
        },
        weight=Indicator.CRITICAL,
        tests=("creatinine",),
        after=since_collection(case),
    )


@dataclass(frozen=True, slots=True)
class Heart:
    """Why the heart must be examined again and since when; no reason: no repeat needed."""

    reasons: tuple[Evidence, ...]
    since: datetime | None


def heart(case: Case) -> Heart:
    """Heart failure now, any of the three conditions since the collection, also one that has passed or is
    suspected, cardiotoxic bridging. Tests count from the last of them on."""
    start = since_collection(case)
    reasons: list[Evidence] = []
    since = start
    for concept in ("heart_failure", "cardiotoxicity", "arrhythmia"):
        for condition in case.chart.conditions.of(concept):
            onset = condition.onset
            new = onset is not None and (start is None or onset.latest >= start)
            undated = onset is None and concept == "cardiotoxicity"
            now = condition.state is ConditionState.ACTIVE or is_suspected(case, condition)
            passed = condition.state is ConditionState.HISTORY
            if not ((now and (new or undated or concept == "heart_failure")) or (passed and new)):
                continue
            reasons.append(facts.of_fact(condition, concept))
            if onset is not None and new:
                since = onset.earliest if since is None else max(since, onset.earliest)
    own = {record.reference for record in case.chart.course.ldc_records}
    for record in case.chart.drugs.of(*case.p(RULE).words("cardiotoxic_drugs")):
        moment = record.timing.last or record.timing.first
        if not record.given or record.reference in own or moment is None:
            continue
        if start is None or moment.latest >= start:
            reasons.append(facts.of_drug(record))
            since = moment.earliest if since is None else max(since, moment.earliest)
    return Heart(tuple(reasons), since)


def _cardiac(case: Case) -> Line:
    found = heart(case)
    if not found.reasons:
        lost = [Missing(c, LossReason.NOT_FETCHED) for c, keys in _HEART_LISTS if unread(case, keys)]
        if lost:
            return Line("P10", Status.UNKNOWN, missing=tuple(lost))
        return Line("P10", Status.MET, msg("found.no-repeat"))
    cell = listed(found.reasons)
    since = found.since or case.now - days(case, case.p(RULE), "tumour_max_age_days")
    wanted = {
        "echocardiography": ("echocardiography", "lvef"),
        "ecg": ("ecg",),
        "troponin_i": ("troponin_i", "troponin_t"),
        "nt_probnp": ("nt_probnp",),
    }
    looks = {concept: look_for(case, since, *names) for concept, names in wanted.items()}
    lacking = tuple(c for c, look in looks.items() if look.found is not Found.DONE)
    evidence = (*found.reasons, *(e for look in looks.values() for e in look.evidence))
    notes = (msg("note.cardiac"),)
    if not lacking:
        return Line("P10", Status.CAUTION, cell, notes=notes, weight=Indicator.INFO, evidence=evidence)
    missing = tuple(Missing(c) for c in lacking)
    tests = (*(c for c in lacking if looks[c].found is Found.NOT_FOUND), "cardiology_consult")
    return Line("P10", Status.UNKNOWN, cell, notes=notes, evidence=evidence, missing=missing, tests=tests)


def _after_bridging(case: Case) -> datetime:
    """Tumour baseline counts after the last bridging dose, else after the collection."""
    moments = [case.now - days(case, case.p(RULE), "tumour_max_age_days")]
    start = since_collection(case)
    if start is not None:
        moments.append(start)
        for procedure in case.chart.procedures.of("chemotherapy", "radiotherapy"):
            end: Moment | None = procedure.end or procedure.start
            if procedure.state.begun and end is not None and end.latest >= start:
                moments.append(end.earliest)
        for record in bridging_drugs(case):
            last = record.timing.last or record.timing.first
            if last is not None and last.latest >= start:
                moments.append(last.earliest)
    return max(moments)


def _tumour(case: Case) -> Line:
    since = _after_bridging(case)
    imaging, marrow = look_for(case, since, *_IMAGING), look_for(case, since, *_MARROW)
    cells: list[Shown] = []
    missing: list[Missing] = []
    tests: list[str] = []
    for work, concept in ((imaging, "pet_ct"), (marrow, "bone_marrow_aspiration")):
        if work.found is Found.DONE:
            cells.append(dated(Name(work.concept), work.when))
            continue
        missing.append(Missing(concept))
        if work.found is Found.NOT_FOUND:
            tests.append(concept)
    return Line(
        "P11",
        Status.UNKNOWN if missing else Status.MET,
        Items(tuple(cells)) if cells else NOTHING,
        notes=(msg("note.tumour"),) if missing else (),
        evidence=(*imaging.evidence, *marrow.evidence),
        missing=tuple(missing),
        tests=tuple(tests),
    )


def lines(case: Case) -> tuple[Line, ...]:
    """P1 to P11."""
    p = case.p(RULE)
    return (
        _product(case),
        _infection(case),
        _fitness(case),
        _oxygen(case),
        _counts(case),
        _baseline(case),
        _bilirubin(case),
        enzyme_line(
            case,
            "P8",
            days(case, p, "chemistry_max_age_days"),
            lambda q, limit: q.at_most(limit),
            p["transaminase_uln"],
            after=since_collection(case),
            notes=(msg("note.transaminases"), msg("note.no-trial-support")),
        ),
        _kidney(case),
        _cardiac(case),
        _tumour(case),
    )


def _resource(case: Case) -> str | None:
    if case.ordering:
        found = orders(case)
        return found.reference if found else None
    first = case.chart.course.ldc_first
    if first is None or first.date is None or first.done:
        return None
    ahead = (first.date - case.today).days
    return "" if 0 <= ahead <= case.p(RULE).int("ahead_days") else None


@rule(RULE)
def before_lymphodepletion(case: Case) -> Iterator[Finding]:
    """One card for the lymphodepletion that is signed or near."""
    resource = _resource(case)
    if resource is None or not collected(case) or infused(case):
        return
    yield checklist(case, RULE, lines(case), resource=resource)
