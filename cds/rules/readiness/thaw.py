"""Go or no-go before thawing (X1 to X5), then the conduct of the thaw (X6 to X12)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise

from cards.finding import Evidence, Finding, Indicator, Message, Missing, Outcome, Scalar, Shown, msg
from cds.engine.case import Case
from cds.engine.rule import Hook, rule
from cds.rules.dosing.lymphodepletion_omit import infusion_order
from cds.rules.evidence import of_drug, of_fact, of_observation
from cds.rules.readiness.bags import bags, thaws
from cds.rules.readiness.checklist import NOTHING, Line, Status, checklist, listed, shown
from cds.rules.readiness.identity import Identity, Stage, identity
from cds.rules.readiness.infection import infections
from cds.rules.readiness.infusion import monitoring
from cds.rules.readiness.phase import infused, infusing
from cds.rules.readiness.product import release_of
from cds.rules.readiness.suspected import suspected, suspicion
from cds.rules.unread import CONDITIONS, unread
from fhir_mapping.chart import (
    Condition,
    ConditionState,
    DrugState,
    EventState,
    LossReason,
    Observation,
    Quantity,
    Route,
    reaches_the_body,
)

RULE = "readiness.thaw"
_FAILURES = ("organ_failure", "aki", "vod")
_DIALYSIS = ("dialysis", "hemodialysis", "peritoneal_dialysis")
_SUPPORT = ("mechanical_ventilation", "ecmo", *_DIALYSIS)
_CHRONIC = ("esrd",)


def _today(case: Case) -> bool:
    """The infusion is today: bedside rows are due."""
    return case.chart.course.day0_any == case.today


def _stop(row: str, evidence: tuple[Evidence, ...]) -> Line:
    return Line(
        row,
        Status.NOT_MET,
        listed(evidence),
        notes=(msg(f"note.{row}"),),
        weight=Indicator.CRITICAL,
        evidence=evidence,
    )


def _fever(case: Case) -> Observation | None:
    for observation in case.chart.series("body_temperature").on(case.today):
        quantity = observation.value.quantity
        if quantity is not None and quantity.at_least(case.p(RULE)["fever_cel"]):
            return observation
    return None


def _infection(case: Case) -> Line:
    state = infections(case)
    found = (*state.active, *state.viral)
    if found:
        return _stop("X1", found)
    fever, review = _fever(case), state.review
    measured = () if fever is None else (fever,)
    cleared = state.cleared(case, timedelta(days=1), measured)
    signs = (*state.suspected, *state.treatment, *(of_observation(o) for o in measured))
    if cleared and review is not None and review.when.date == case.today:
        return Line("X1", Status.MET, shown(review), evidence=(of_observation(review),))
    weight = None if _today(case) or signs else Indicator.INFO
    return Line(
        "X1",
        Status.UNKNOWN,
        listed(signs) if signs else NOTHING,
        notes=(msg("note.confirm"),),
        weight=weight,
        evidence=signs,
        missing=(Missing("infection_status"),),
    )


def _active(case: Case, *concepts: str) -> list[tuple[Condition, str]]:
    return [
        (c, next(n for n in concepts if n in c.concepts))
        for c in case.chart.conditions.of(*concepts)
        if c.state is ConditionState.ACTIVE
    ]


def _none(case: Case, row: str, *concepts: str, limits: dict[str, Shown] | None = None) -> Line:
    """Nothing confirmed: passed, unless something is suspected or the conditions could not be read."""
    concept, open_facts = concepts[0], suspected(case, *concepts)
    if open_facts:
        return suspicion(row, open_facts, limits)
    if unread(case, CONDITIONS):
        missing = (Missing(concept, LossReason.NOT_FETCHED),)
        return Line(
            row, Status.UNKNOWN, limits=limits or {}, notes=(msg("note.conditions-unread"),), missing=missing
        )
    return Line(row, Status.MET, msg("found.none"), limits or {})


def _heart(case: Case) -> Line:
    found = tuple(of_fact(c, name) for c, name in _active(case, "heart_failure"))
    return _stop("X2", found) if found else _none(case, "X2", "heart_failure")


def _rhythm(case: Case) -> Line:
    worst, evidence = Status.MET, []
    for condition, name in _active(case, "arrhythmia"):
        control = ""
        for observation in reversed(case.chart.series("arrhythmia_control")):
            if observation.focus and condition.reference not in observation.focus:
                continue
            control = next((w for w in ("uncontrolled", "controlled") if w in observation.value.codes), "")
            if control:
                evidence.append(of_observation(observation))
                break
        evidence.append(of_fact(condition, name))
        if control == "uncontrolled":
            return _stop("X3", tuple(evidence))
        if not control:
            worst = Status.UNKNOWN
    if worst is Status.UNKNOWN:
        return Line(
            "X3",
            worst,
            listed(tuple(evidence)),
            notes=(msg("note.arrhythmia-ask"),),
            evidence=tuple(evidence),
            missing=(Missing("arrhythmia_control"),),
        )
    if not evidence or suspected(case, "arrhythmia"):
        return _none(case, "X3", "arrhythmia")
    return Line("X3", Status.MET, listed(tuple(evidence)), evidence=tuple(evidence))


def _shock(case: Case) -> Line:
    p = case.p(RULE)
    since = case.now - timedelta(hours=p.int("vasopressor_h"))
    found: list[Evidence] = [of_fact(c, name) for c, name in _active(case, "shock")]
    for record in case.chart.administrations(*p.words("vasopressors")):
        end = record.timing.last or record.timing.first
        running = record.state is DrugState.RUNNING
        recent = running or (end is not None and end.latest >= since)
        if recent and reaches_the_body(record.route):
            found.append(of_drug(record))
    limits: dict[str, Shown] = {"hours": p.int("vasopressor_h")}
    if found:
        line = _stop("X4", tuple(found))
        return Line("X4", line.status, line.found, limits, line.notes, line.weight, evidence=line.evidence)
    ordered = tuple(
        of_drug(d)
        for d in case.chart.active_drugs(*p.words("vasopressors"))
        if d.timing.ongoing and not d.timing.as_needed and d.route in (None, Route.INTRAVENOUS)
    )
    if ordered:
        notes, missing = (msg("note.vasopressor-ordered"),), (Missing(ordered[0].concept),)
        return Line("X4", Status.UNKNOWN, listed(ordered), limits, notes, evidence=ordered, missing=missing)
    if suspected(case, "shock"):
        return _none(case, "X4", "shock", limits=limits)
    if unread(case, ("administrations",)):
        lost = (Missing("norepinephrine", LossReason.NOT_FETCHED),)
        return Line("X4", Status.UNKNOWN, NOTHING, limits, (msg("note.vasopressor-ask"),), missing=lost)
    return Line("X4", Status.MET, msg("found.none"), limits)


def _organ_failure(case: Case) -> Line:
    p = case.p(RULE)
    since = case.now - case.days_back(p.int("organ_failure_days"))
    limits: dict[str, Shown] = {"days": p.int("organ_failure_days")}
    found: list[Evidence] = []
    failures = (*_FAILURES, "shock")
    for condition in case.chart.conditions.of(*failures):
        moments = [m.latest for m in (condition.onset, condition.end) if m is not None]
        recent = condition.state is ConditionState.ACTIVE or (bool(moments) and max(moments) >= since)
        if recent and condition.state in (ConditionState.ACTIVE, ConditionState.HISTORY):
            found.append(of_fact(condition, next(n for n in failures if n in condition.concepts)))
    for condition in case.chart.conditions.of("heart_failure"):  # acute and over; one that lasts is X2
        acute = condition.onset is not None and condition.onset.latest >= since
        if acute and condition.state is ConditionState.HISTORY:
            found.append(of_fact(condition, "heart_failure"))
    chronic = bool(_active(case, *_CHRONIC))
    for name in _SUPPORT:
        if chronic and name in _DIALYSIS:
            continue
        for procedure in case.chart.procedures.of(name):
            end = procedure.end or procedure.start
            running = procedure.state is EventState.RUNNING
            done = procedure.state in (EventState.DONE, EventState.STOPPED)
            if running or (done and end is not None and end.latest >= since):
                found.append(of_fact(procedure, name))
    if found:
        line = _stop("X5", tuple(dict.fromkeys(found)))
        return Line("X5", line.status, line.found, limits, line.notes, line.weight, evidence=line.evidence)
    return _none(case, "X5", *_FAILURES, limits=limits)


# --- conduct


def _later(row: str, limits: dict[str, Shown] | None = None) -> Line:
    return Line(row, Status.NOT_APPLICABLE, msg("found.on-the-day"), limits or {})


def _yes_line(case: Case, row: str, concept: str, weight: Indicator | None = None) -> Line:
    """Recorded as yes today; no and nothing are different answers."""
    found = [o for o in case.chart.series(concept).on(case.today) if o.value.yes is not None]
    if not found:
        return Line(row, Status.UNKNOWN, weight=weight, missing=(Missing(concept),))
    newest = found[-1]
    status = Status.MET if newest.value.yes else Status.NOT_MET
    return Line(row, status, shown(newest), evidence=(of_observation(newest),))


def _monitors(case: Case) -> Line:
    found, lacking = monitoring(case)
    evidence = tuple(of_observation(o) for o in found)
    if lacking:
        missing = tuple(Missing(c) for c in lacking)
        return Line("X7", Status.UNKNOWN, weight=Indicator.INFO, evidence=evidence, missing=missing)
    return Line("X7", Status.MET, msg("found.connected"), evidence=evidence)


def _range_line(
    case: Case, row: str, concept: str, low_name: str, high_name: str, since: datetime | None
) -> Line:
    p = case.p(RULE)
    low, high = p[low_name], p[high_name]
    limits: dict[str, Shown] = {"low": low, "high": high}
    found = [
        o
        for o in case.chart.series(concept).on(case.today)
        if o.value.quantity is not None and (since is None or o.when.latest >= since)
    ]
    if not found:
        return Line(row, Status.UNKNOWN, limits=limits, weight=Indicator.INFO, missing=(Missing(concept),))

    def inside(quantity: Quantity | None) -> bool | None:
        return None if quantity is None else quantity.within(low, high)

    outside = [o for o in found if inside(o.value.quantity) is False]
    chosen = (outside or found)[-1]
    quantity = chosen.value.quantity
    if not outside and inside(quantity) is None:  # a bound that leaves both open
        evidence = (of_observation(chosen),)
        return Line(
            row, Status.UNKNOWN, shown(chosen), limits, (), Indicator.INFO, {}, evidence, (Missing(concept),)
        )
    bare = quantity is None or bool(quantity.comparator)
    values: dict[str, Scalar] = {} if bare or quantity is None else {f"{row.lower()}_cel": quantity.value}
    return Line(
        row,
        Status.NOT_MET if outside else Status.MET,
        shown(chosen),
        limits,
        (msg(f"note.{row}"),) if outside else (),
        values=values,
        evidence=(of_observation(chosen),),
        brief=quantity,
    )


def _release(case: Case) -> Line:
    p = case.p(RULE)
    course = case.chart.course
    notes: list[Message] = []
    missing: list[Missing] = []
    evidence: list[Evidence] = []
    worst, weight = Status.MET, None
    ordered = bool(course.product_orders) or infusion_order(case) is not None or infused(case)
    if not ordered:
        missing.append(Missing("car_t_infusion"))
    check = identity(case, Stage.BEDSIDE) or identity(case, Stage.RECEIPT)
    if check is None or check.answer is None:
        missing.append(Missing("identity_check"))
    else:
        evidence += check.evidence
        if check.answer is not Identity.MATCH:
            worst, weight = Status.NOT_MET, Indicator.CRITICAL
            notes.append(msg("note.identity"))
        elif check.persons < p.int("persons"):
            worst = Status.NOT_MET
            notes.append(msg("note.one-person", persons=p.int("persons")))
    release = release_of(case)
    evidence += release.evidence
    if not release.status:
        missing.append(Missing("release_status"))
    elif release.status in ("not_released", "contaminated"):
        worst, weight = Status.NOT_MET, Indicator.CRITICAL
        notes.append(msg("note.not-released"))
    elif release.status == "out_of_specification":
        worst = Status.CAUTION if worst is Status.MET else worst
        notes.append(msg("note.out-of-specification"))
    if missing and worst in (Status.MET, Status.CAUTION):
        worst = Status.UNKNOWN
    cell = NOTHING if release.observation is None else shown(release.observation)
    return Line(
        "X9",
        worst,
        cell,
        {"persons": p.int("persons")},
        tuple(notes),
        weight,
        evidence=tuple(evidence),
        missing=tuple(missing),
    )


def _overlap(case: Case) -> Line:
    """The next bag is thawed only after the previous one is in."""
    found = bags(case)
    evidence = tuple(e for bag in found for e in bag.evidence)
    open_end = False
    for before, after in pairwise(found):
        if after.thaw is None or before.start is None:
            continue
        end = before.end or (None if before.running else before.start)
        if end is None or after.thaw.start.earliest <= end.latest:
            cell = msg("found.overlap", bag=after.label, thaw=after.thaw.start)
            return Line("X12", Status.NOT_MET, cell, notes=(msg("note.X12"),), evidence=evidence)
        open_end = open_end or before.end is None
    if open_end:  # thawed after the previous bag was begun; when that one was in is not recorded
        return Line("X12", Status.UNKNOWN, evidence=evidence, missing=(Missing("car_t_infusion"),))
    return Line("X12", Status.MET, msg("found.bags", bags=len(found)), evidence=evidence)


def lines(case: Case) -> tuple[Line, ...]:
    """X1 to X12; bedside rows on the day only."""
    p = case.p(RULE)
    first = (_infection(case), _heart(case), _rhythm(case), _shock(case), _organ_failure(case))
    release = _release(case)
    if not _today(case):
        warmer: dict[str, Shown] = {"low": p["warmer_low_cel"], "high": p["warmer_high_cel"]}
        product: dict[str, Shown] = {"low": p["product_low_cel"], "high": p["product_high_cel"]}
        return (
            *first,
            _later("X6"),
            _later("X7"),
            _later("X8", warmer),
            release,
            _later("X10"),
            _later("X11", product),
            _later("X12"),
        )
    begun = thaws(case)
    product_limits: dict[str, Shown] = {"low": p["product_low_cel"], "high": p["product_high_cel"]}
    after = (
        _range_line(
            case, "X11", "product_temperature", "product_low_cel", "product_high_cel", begun[0].start.earliest
        )
        if begun
        else Line("X11", Status.NOT_APPLICABLE, msg("found.not-thawed"), product_limits)
    )
    return (
        *first,
        _yes_line(case, "X6", "iv_line_patent"),
        _monitors(case),
        _range_line(case, "X8", "thaw_warmer_temperature", "warmer_low_cel", "warmer_high_cel", None),
        release,
        _yes_line(case, "X10", "transport_temperature_log", Indicator.INFO),
        after,
        _overlap(case),
    )


@rule(RULE)
def thaw(case: Case) -> Iterator[Finding]:
    """One go or no-go card."""
    resource = ""
    if case.hook is Hook.ORDER_SIGN:
        order = infusion_order(case)
        if order is None:
            return
        resource = order[0]
    elif not infusing(case):
        return
    found = checklist(case, RULE, lines(case), resource=resource)
    if found.outcome is Outcome.NOT_READY and found.indicator is not Indicator.CRITICAL:
        found = replace(found, summary=replace(found.summary, key="summary.conduct"))  # no exclusion
    yield found
