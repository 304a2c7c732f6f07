"""Work-up before leukapheresis, rows L1 to L16: the newest value in its window before the collection."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal

from cards.finding import (
    Create,
    Evidence,
    Finding,
    Indicator,
    Items,
    Message,
    Missing,
    Name,
    ServiceProposal,
    Shown,
    Suggestion,
    msg,
)
from cds.engine.case import Case
from cds.engine.rule import Hook, rule
from cds.rules import evidence as facts
from cds.rules.readiness.checklist import (
    Line,
    Look,
    Status,
    checklist,
    dated,
    newest,
    shown,
    status_of,
    with_number,
)
from cds.rules.readiness.infection import viral_load
from cds.rules.readiness.measures import performance_line, saturation
from cds.rules.readiness.organs import (
    count_line,
    days,
    enzyme_line,
    kidney_line,
    limit_line,
    recorded,
)
from cds.rules.readiness.phase import candidate, collected, collection_booking, collection_order
from cds.rules.readiness.tarlatamab_pregnancy import Potential, declared_pregnant, potential
from cds.rules.work_up import Found, look_for
from fhir_mapping.chart import (
    Amount,
    ConditionState,
    LossReason,
    Moment,
    Observation,
    Quantity,
    Result,
)

RULE = "readiness.leukapheresis"
SEROLOGY = ("hbsag", "anti_hbc", "anti_hbs", "anti_hcv", "hiv_ag_ab")
_PREGNANCY = ("hcg_serum_qual", "hcg_serum_quant", "hcg_urine")
_LOADS = (  # serology, disease, loads that a positive one asks for
    ("hbsag", "hbv", ("hbv_dna", "hbv_dna_log", "hbv_dna_qual")),
    ("anti_hcv", "hcv", ("hcv_rna", "hcv_rna_qual")),
)
_CALCIUM = ("calcium_corrected", "calcium_total", "calcium_ionized")


def _day(case: Case) -> date:
    """D_aph; today where the day is not set or has passed."""
    anchor = case.chart.course.leukapheresis
    day = None if anchor is None else anchor.date
    return case.today if day is None else max(day, case.today)


def _far(case: Case) -> bool:
    """More than 24 hours ahead: bedside values are repeated on the day."""
    anchor = case.chart.course.leukapheresis
    if anchor is None or anchor.when is None:
        return False
    return anchor.when.earliest > case.now + timedelta(hours=24)


def _oxygen(case: Case) -> Line:
    p = case.p(RULE)
    limits = {"limit": Amount(p["spo2_above_percent"], "%")}
    found = saturation(case, timedelta(hours=p.int("spo2_max_age_h")))
    quantity = found.look.quantity
    again = (msg("note.repeat-on-day"),) if _far(case) else ()
    if quantity is None:
        if again:
            return Line("L2", Status.NOT_APPLICABLE, found.shown, limits, again)
        return Line("L2", Status.UNKNOWN, found.shown, limits, missing=found.look.missing)
    evidence = (*found.look.evidence, *found.evidence)
    above = quantity.above(p["spo2_above_percent"])
    values = {"spo2_percent": facts.figure(quantity)}
    if above is False or found.oxygen:
        notes = (msg("note.room-air"),) if found.oxygen else ()
        cell: Shown = found.shown
        if quantity.value == p["spo2_above_percent"] and not found.oxygen:
            cell = msg("common.checklist.at-limit", what=cell)
        return Line(
            "L2",
            Status.NOT_MET,
            cell,
            limits,
            (*notes, *again),
            values=values,
            evidence=evidence,
            brief=quantity,
        )
    if above is None or found.oxygen is None:
        missing = (Missing("oxygen_device" if above else "spo2"),)
        notes = (msg("note.room-air"), *again)
        return Line(
            "L2",
            Status.UNKNOWN,
            found.shown,
            limits,
            notes,
            values=values,
            evidence=evidence,
            missing=missing,
        )
    return Line("L2", Status.MET, found.shown, limits, again, values=values, evidence=evidence)


@dataclass(frozen=True, slots=True)
class _Test:
    """A pregnancy test: its result, its day and how the table shows it."""

    result: Result
    when: Moment
    shown: Shown
    evidence: Evidence


def _newest_test(case: Case) -> _Test | None:
    """Newest blood or urine test; an encounter coded for a negative result is the test of that day."""
    tests = [
        _Test(o.value.result, o.when, shown(o), facts.of_observation(o))
        for c in _PREGNANCY
        for o in case.chart.series(c)
        if o.value.result is not None and o.when.earliest <= case.now
    ]
    for condition in case.chart.conditions.of("not_pregnant"):
        day = condition.onset
        if condition.state in (ConditionState.ACTIVE, ConditionState.HISTORY) and day is not None:
            named = dated(Name("not_pregnant"), day)
            tests.append(_Test(Result.NEGATIVE, day, named, facts.of_fact(condition, "not_pregnant")))
    return max(tests, key=lambda t: t.when.latest, default=None)


def _pregnancy(case: Case, day: date) -> Line:
    window = case.p(RULE).int("pregnancy_test_days")
    limits = {"days": window}
    able = potential(case)
    if case.chart.patient.sex == "male":
        return Line("L3", Status.NOT_APPLICABLE, msg("found.not-applicable"), limits)
    last, stated = _newest_test(case), declared_pregnant(case)
    recent = last is not None and (day - last.when.first_date).days <= window
    positive = last is not None and recent and last.result is Result.POSITIVE
    if stated or positive:
        cell: Shown = last.shown if last is not None and positive else Name("pregnancy")
        evidence = (*stated, *((last.evidence,) if last is not None else ()))
        notes, weight = (msg("note.pregnant"),), Indicator.CRITICAL
        return Line("L3", Status.NOT_MET, cell, limits, notes, weight, evidence=evidence)
    if able is Potential.NO:
        return Line("L3", Status.NOT_APPLICABLE, msg("found.not-applicable"), limits)
    if last is not None and recent and last.result is Result.NEGATIVE:
        return Line("L3", Status.MET, last.shown, limits, evidence=(last.evidence,))
    if able is Potential.UNKNOWN:
        who = Missing("sex") if not case.chart.patient.sex else Missing("childbearing_potential")
        return Line("L3", Status.UNKNOWN, limits=limits, notes=(msg("note.ask-potential"),), missing=(who,))
    reason, found, reference = LossReason.NOT_ON_CHART, msg("common.checklist.none"), ""
    if last is not None:
        reference = last.evidence.reference
        if not recent:
            reason, found = LossReason.STALE, msg("common.checklist.stale", what=last.shown)
        else:
            found = msg("found.undecided", test=last.shown)
    missing = (Missing("hcg_serum_qual", reason, reference),)
    return Line("L3", Status.UNKNOWN, found, limits, missing=missing, tests=("hcg_serum_qual",))


def _serology(case: Case, day: date) -> Line:
    window = case.p(RULE).int("serology_days")
    missing: list[Missing] = []
    cells: list[Shown] = []
    evidence: list[Evidence] = []
    for concept in SEROLOGY:
        last = case.chart.series(concept).latest(case.now, usable=lambda o: o.value.result is not None)
        if last is None or last.value.result is None:
            missing.append(Missing(concept))
            continue
        if (day - last.when.first_date).days > window:
            missing.append(Missing(concept, LossReason.STALE, last.reference))
        elif last.value.result is Result.INDETERMINATE:
            missing.append(Missing(concept, LossReason.NOT_ON_CHART, last.reference))
        else:
            evidence.append(facts.of_observation(last))
        cells.append(msg("found.test", test=Name(concept), result=last.value.result, when=last.when))
    status = Status.UNKNOWN if missing else Status.MET
    return Line(
        "L4",
        status,
        Items(tuple(cells)) if cells else msg("common.checklist.none"),
        {"days": window},
        evidence=tuple(evidence),
        missing=tuple(missing),
        tests=tuple(m.concept for m in missing),
    )


def _infected(case: Case, serology: str, disease: str) -> bool | None:
    """By the newest result that says so, else by the coded disease; None where neither is on the chart."""
    test = case.chart.series(serology).latest(case.now, usable=lambda o: o.value.result is not None)
    positive = test is not None and test.value.result is Result.POSITIVE
    coded = any(
        c.state in (ConditionState.ACTIVE, ConditionState.HISTORY) for c in case.chart.conditions.of(disease)
    )
    if positive or coded:
        return True
    return None if test is None or test.value.result is Result.INDETERMINATE else False


def _viral_loads(case: Case) -> Line:
    within = days(case, case.p(RULE), "viral_load_max_age_days")
    asked = [(loads, _infected(case, serology, disease)) for serology, disease, loads in _LOADS]
    if not any(positive for _, positive in asked):
        open_question = any(positive is None for _, positive in asked)  # asked in its own row
        key = "found.serology-first" if open_question else "found.not-required"
        return Line("L5", Status.NOT_APPLICABLE, msg(key))
    cells: list[Shown] = []
    missing: list[Missing] = []
    evidence: list[Evidence] = []
    for loads in (loads for loads, positive in asked if positive):
        load = viral_load(case, loads, within)
        old = None if load is not None else viral_load(case, loads, None)
        look = Look(load, old)
        cells += look.named
        evidence += look.evidence
        if old is not None:
            missing.append(Missing(loads[0], LossReason.STALE, old.reference))
        elif load is None:
            missing.append(Missing(loads[0]))
    absent = any(m.reason is LossReason.NOT_ON_CHART for m in missing)
    return Line(
        "L5",
        Status.NOT_MET if absent else (Status.UNKNOWN if missing else Status.MET),
        Items(tuple(cells)) if cells else msg("common.checklist.none"),
        evidence=tuple(evidence),
        missing=tuple(missing),
        tests=tuple(m.concept for m in missing),
    )


def _kidney(case: Case) -> Line:
    p = case.p(RULE)
    limit = p["clearance_above_ml_min"]

    def judge(value: Quantity) -> Status | None:
        return status_of(value.above(limit))

    limits = {"limit": Amount(limit, "mL/min")}
    return kidney_line(case, "L12", p, judge, limits, limit, tests=("creatinine",))


def _ecg(case: Case) -> Line:
    since = case.now - days(case, case.p(RULE), "cardiac_max_age_days")
    found = look_for(case, since, "ecg")
    if found.found is Found.DONE and found.when is not None:
        return Line("L14", Status.MET, msg("found.done", when=found.when), evidence=found.evidence)
    if found.found is Found.ORDERED:
        return Line(
            "L14", Status.UNKNOWN, msg("found.ordered"), evidence=found.evidence, missing=(Missing("ecg"),)
        )
    return Line("L14", Status.UNKNOWN, missing=(Missing("ecg"),), tests=("ecg",))


def _markers(case: Case) -> Line:
    within = days(case, case.p(RULE), "cardiac_max_age_days")
    looks = {
        "troponin_i": newest(case, ("troponin_i", "troponin_t"), within, recorded),
        "nt_probnp": newest(case, "nt_probnp", within, recorded),
    }
    missing = tuple(m for look in looks.values() for m in look.missing)
    cells = tuple(cell for look in looks.values() for cell in look.named)
    return Line(
        "L15",
        Status.UNKNOWN if missing else Status.MET,
        Items(cells) if cells else msg("common.checklist.none"),
        evidence=tuple(e for look in looks.values() for e in look.evidence),
        missing=missing,
        tests=tuple(concept for concept, look in looks.items() if look.observation is None),
    )


def _inside(case: Case, observation: Observation) -> bool | None:
    """Within the reference range of that very result; a corrected calcium has the range of the total."""
    value, measured = observation.value.quantity, observation
    if observation.concept == "calcium_corrected" and observation.lln is None and observation.uln is None:
        totals = case.chart.series("calcium_total").on(observation.when.date)
        measured = totals[-1] if totals else observation
    if value is None or (measured.lln is None and measured.uln is None):
        return None
    low = None if measured.lln is None else value.at_least(measured.lln.value)
    high = None if measured.uln is None else value.at_most(measured.uln.value)
    if low is False or high is False:
        return False
    return True if low and high else None


def _minerals(case: Case) -> Line:
    within = days(case, case.p(RULE), "chemistry_max_age_days")
    cells: list[Shown] = []
    missing: list[Missing] = []
    evidence: list[Evidence] = []
    tests: list[str] = []
    outside = False
    for names in (_CALCIUM, ("magnesium",)):
        look = newest(case, names, within, with_number)
        if look.observation is None:
            concept = "calcium_total" if names is _CALCIUM else "magnesium"
            missing += [replace(m, concept=concept) for m in look.missing]
            tests.append(concept)
            cells += look.named
            continue
        evidence += look.evidence
        cells += look.named
        inside = _inside(case, look.observation)
        if inside is None:
            reason = LossReason.NO_REFERENCE_RANGE
            missing.append(Missing(look.observation.concept, reason, look.observation.reference))
        outside = outside or inside is False
    status = Status.NOT_MET if outside else (Status.UNKNOWN if missing else Status.MET)
    return Line(
        "L16",
        status,
        Items(tuple(cells)) if cells else msg("common.checklist.none"),
        notes=(msg("note.minerals"),) if outside else (),
        evidence=tuple(evidence),
        missing=tuple(missing),
        tests=tuple(tests),
    )


def _platelets(case: Case, look: Look) -> Line:
    p = case.p(RULE)
    line = count_line(
        "L8",
        look,
        p["platelets_above_per_ul"],
        "platelets_per_ul",
        notes=(msg("note.platelets"),),
        tests=("cbc_panel",),
    )
    count = line.values.get("platelets_per_ul")
    if not isinstance(count, Decimal):
        return line
    left = (count * (100 - p["platelet_loss_percent"]) / 100).quantize(Decimal(1))
    after = msg("note.platelets-after", count=Amount(left, "/uL"), percent=p["platelet_loss_percent"])
    return replace(line, notes=(*line.notes, after), values={**line.values, "platelets_after_per_ul": left})


def lines(case: Case) -> tuple[Line, ...]:
    """L1 to L16."""
    p, day = case.p(RULE), _day(case)
    blood, chemistry = days(case, p, "cbc_max_age_days"), days(case, p, "chemistry_max_age_days")
    cbc = ("cbc_panel",)
    hemoglobin, hematocrit = p["hemoglobin_above_g_dl"], p["hematocrit_above_percent"]
    bilirubin, lvef = p["bilirubin_below_mg_dl"], p["lvef_above_percent"]
    red = (msg("note.red-cells"),)
    return (
        performance_line(case, "L1", p),
        _oxygen(case),
        _pregnancy(case, day),
        _serology(case, day),
        _viral_loads(case),
        limit_line(
            "L6",
            newest(case, "hemoglobin", blood, with_number),
            lambda q: q.above(hemoglobin),
            Amount(hemoglobin, "g/dL"),
            "hemoglobin_g_dl",
            notes=red,
            tests=cbc,
        ),
        limit_line(
            "L7",
            newest(case, "hematocrit", blood, with_number),
            lambda q: q.above(hematocrit),
            Amount(hematocrit, "%"),
            "hematocrit_percent",
            notes=red,
            tests=cbc,
        ),
        _platelets(case, newest(case, "platelets", blood, with_number)),
        count_line(
            "L9",
            newest(case, "alc", blood, with_number),
            p["alc_above_per_ul"],
            "alc_per_ul",
            otherwise=Status.CAUTION,
            weight=Indicator.INFO,
            notes=(msg("note.alc"),),
            tests=cbc,
        ),
        limit_line(
            "L10",
            newest(case, "bilirubin_total", chemistry, with_number),
            lambda q: q.below(bilirubin),
            Amount(bilirubin, "mg/dL"),
            "bilirubin_mg_dl",
            tests=("bilirubin_total",),
        ),
        enzyme_line(case, "L11", chemistry, lambda q, limit: q.below(limit), p["transaminase_below_uln"]),
        _kidney(case),
        limit_line(
            "L13",
            newest(case, "lvef", days(case, p, "cardiac_max_age_days"), with_number),
            lambda q: q.above(lvef),
            Amount(lvef, "%"),
            "lvef_percent",
            tests=("echocardiography",),
        ),
        _ecg(case),
        _markers(case),
        _minerals(case),
    )


def _transfusions(case: Case, found: tuple[Line, ...], day: date) -> tuple[Suggestion, ...]:
    """Products to consider, irradiated from a week before the collection."""
    failed = {line.row for line in found if line.status is Status.NOT_MET}
    near = case.today >= day - timedelta(days=case.p(RULE).int("irradiation_days"))
    details = ("irradiated",) if near else ()
    offers = []
    if "L8" in failed:
        offers.append("platelet_product")
    if failed & {"L6", "L7"}:
        offers.append("red_cells")
    return tuple(
        Suggestion(
            product,
            msg("suggest.transfusion", product=Name(product)),
            (Create(ServiceProposal(product, details=details, note=msg("suggest.transfusion-note"))),),
        )
        for product in offers
    )


def _resource(case: Case) -> str | None:
    if case.ordering:
        order = collection_order(case)
        return None if order is None else order.reference
    if case.hook is Hook.APPOINTMENT_BOOK:
        booking = collection_booking(case)
        return None if booking is None else booking.reference
    anchor = case.chart.course.leukapheresis
    if anchor is None or anchor.date is None:
        return None
    ahead = (anchor.date - case.today).days
    return "" if 0 <= ahead <= case.p(RULE).int("ahead_days") else None


@rule(RULE)
def leukapheresis(case: Case) -> Iterator[Finding]:
    """One card for the collection that is ordered, booked or near."""
    resource = _resource(case)
    if resource is None or not candidate(case):
        return
    if collected(case) and case.chart.course.leukapheresis is None:
        return
    found, day = lines(case), _day(case)
    extra: list[Message] = [msg("note.manufacturer")]
    if any(line.row in _ADJUSTABLE and line.status is Status.NOT_MET for line in found):
        extra.append(msg("note.adjust"))
    yield checklist(
        case, RULE, found, resource=resource, extra=extra, suggestions=_transfusions(case, found, day)
    )


_ADJUSTABLE = frozenset({"L10", "L11", "L12", "L13", "L14", "L15", "L16"})
