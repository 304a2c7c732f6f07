"""ASTCT grade of cytokine release syndrome after CAR-T cells (Lee DW, BBMT 2019;25:625)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal

from cards.finding import (
    Block,
    Bullet,
    Evidence,
    Finding,
    Hours,
    Indicator,
    Items,
    Message,
    Missing,
    Name,
    Outcome,
    Paragraph,
    Selection,
    Shown,
    graded,
    msg,
)
from cds.engine.case import Case
from cds.engine.rule import rule
from cds.rules.after_cart import current_encounters
from cds.rules.evidence import as_reported, of_drug_start, of_observation
from cds.rules.grading.crs_episode import (
    PROVISIONAL,
    CrsState,
    Gate,
    crs_applies,
    crs_now,
    day_of,
    worst_grade,
)
from cds.rules.grading.fever import STEROIDS, given_between, hours
from cds.rules.grading.hemodynamics import BloodPressureState
from cds.rules.grading.oxygen_support import OxygenState
from fhir_mapping.chart import Amount, DrugRecord, LossReason, Observation

RULE = "grading.crs"


def _measured(observation: Observation) -> Shown:
    assert observation.value.quantity is not None
    return as_reported(observation.value.quantity)


# --- texts


def _pressures(bp: BloodPressureState) -> Items:
    shown: list[Shown] = []
    if bp.pressure is not None:
        if bp.pressure.systolic is not None:
            shown.append(msg("pressure.systolic", value=as_reported(bp.pressure.systolic)))
        if bp.pressure.mean is not None:
            shown.append(msg("pressure.mean", value=as_reported(bp.pressure.mean)))
    return Items(tuple(shown))


def _pressors(bp: BloodPressureState) -> Items:
    return Items(tuple(Name(d.ingredients[0]) for d in (*bp.pressors, *bp.vasopressin)))


def _with_rate(infusion: DrugRecord) -> Shown:
    drug = Name(infusion.ingredients[0])
    return drug if infusion.rate is None else msg("pressor.rate", drug=drug, rate=infusion.rate)


def _pressure_text(state: CrsState, limit: Decimal) -> Message:
    bp = state.bp
    if bp.pressors or bp.vasopressin:
        drugs = Items(tuple(_with_rate(d) for d in (*bp.pressors, *bp.vasopressin)))
        key = "found.bp.pressors-ordered" if bp.ordered_only else "found.bp.pressors"
        return msg(key, drugs=drugs, component=bp.low)
    if bp.coded:
        return msg("found.bp.coded", component=bp.low)
    if bp.pressure is None:
        return msg("found.bp.unknown", hours=Hours(limit))
    values = _pressures(bp)
    if bp.low == bp.high == 0:
        return msg("found.bp.normal", pressure=values, when=bp.pressure.when)
    if bp.bolus:
        return msg("found.bp.fluid", pressure=values, when=bp.pressure.when, component=bp.low)
    key = "found.bp.low" if bp.low else "found.bp.undecided"
    return msg(key, pressure=values, when=bp.pressure.when, component=bp.high)


def _oxygen_text(state: CrsState) -> Message:
    o2 = state.o2
    if o2.saturation is not None:
        return msg("found.o2.saturation", value=_measured(o2.saturation), component=o2.low)
    if o2.unread:
        return msg("found.o2.unread", component=o2.low)
    if o2.low == 0:
        if o2.excluded:
            return msg("found.o2.excluded", devices=Items(tuple(Name(c) for c in o2.excluded)))
        return msg("found.o2.none" if o2.recorded else "found.o2.not-recorded")
    if o2.device_missing:
        return msg("found.o2.device-missing", component=o2.low)
    device = Name(o2.device)
    if o2.flow_missing and o2.low < o2.high:
        return msg("found.o2.flow-missing", device=device, low=o2.low, high=o2.high)
    if o2.flow_missing:
        return msg("found.o2.high-flow", device=device, component=o2.low)
    if o2.flow is not None:
        key = "found.o2.mask-low-flow" if o2.mask_low_flow else "found.o2.flow"
        return msg(key, device=device, flow=as_reported(o2.flow), component=o2.low)
    return msg("found.o2.device", device=device, component=o2.low)


def _fever_text(case: Case, state: CrsState) -> Message:
    if state.fever is not None and state.fever.temperature is not None:
        return msg("found.fever", temperature=_measured(state.fever.temperature), when=state.fever.when)
    if state.fever is not None:
        return msg("found.fever-coded", when=state.fever.when)
    if state.temperature is not None:
        return msg("found.no-fever", temperature=_measured(state.temperature), when=state.temperature.when)
    return msg("found.no-temperature", hours=_fever_hours(case))


def _fever_hours(case: Case) -> Hours:
    return Hours(case.p(RULE)["fever_window_hours"])


def _gate_text(case: Case, gate: Gate) -> Message:
    p = case.p(RULE)
    key = f"gate.{gate.value}"
    if gate in (Gate.FEVER, Gate.MASKED, Gate.FEVER_GONE):
        return msg(key, hours=_fever_hours(case))
    if gate is Gate.NO_FEVER:
        return msg(key, cel=Amount(p["fever_cel"], "Cel"), degf=Amount(p["fever_degf"], "[degF]"))
    if gate is Gate.RESOLVED:
        return msg(key, hours=Hours(p["resolved_after_hours"]))
    return msg(key)


def _conflicts(case: Case, state: CrsState) -> Iterator[Block]:
    """Where the sources leave room and the reading taken here decides the component."""
    if state.o2.mask_low_flow:
        limit = Amount(case.p(RULE)["cannula_flow_l_min"], "L/min")
        yield Bullet(msg("conflict.mask", limit=limit, component=state.o2.low))
    if state.bp.vasopressin and not state.bp.pressors:
        yield Bullet(msg("conflict.vasopressin", component=state.bp.low))


def _detail(case: Case, state: CrsState) -> Iterator[Block]:
    yield Bullet(_fever_text(case, state))
    yield Bullet(_pressure_text(state, case.p(RULE)["vitals_max_age_hours"]))
    yield Bullet(_oxygen_text(state))
    if state.o2.ordered_only:
        yield Bullet(msg("found.o2.ordered"))
    yield from _conflicts(case, state)
    yield Paragraph(_gate_text(case, state.gate))
    if state.onset is not None:
        day = day_of(case, state.onset)
        late = day is not None and day > case.p(RULE).int("delayed_after_day")
        yield Bullet(msg("onset.delayed" if late else "onset", when=state.onset))
    if state.present:
        yield Bullet(msg("worst", grade=worst_grade(case, state)))
    if state.masking and state.gate in (Gate.FEVER_EARLIER, Gate.MASKED, Gate.INFECTION):
        drugs = tuple(dict.fromkeys(i for d in state.masking for i in d.ingredients))
        yield Bullet(msg("masking", drugs=Items(tuple(Name(i) for i in drugs))))
    if state.infections:
        causes = tuple(dict.fromkeys(e.concept for e in state.infections))
        yield Bullet(msg("infection", causes=Items(tuple(Name(c) for c in causes))))
    yield from _clinician(state)
    yield Paragraph(msg("criterion", limit=Amount(case.p(RULE)["cannula_flow_l_min"], "L/min")))
    if state.present:
        yield Paragraph(msg("attribution"))


def _clinician(state: CrsState) -> Iterator[Block]:
    if state.recorded is None or state.recorded.grade is None or state.gate is Gate.CLINICIAN:
        return
    higher = state.low is None or state.recorded.grade > state.low
    key = "clinician.higher" if higher else "clinician"
    yield Bullet(msg(key, grade=state.recorded.grade, when=state.recorded.when))


# --- evidence


def evidence(state: CrsState) -> tuple[Evidence, ...]:
    """The facts behind a CRS grade."""
    found: list[Evidence] = []
    if state.fever is not None and state.fever.temperature is not None:
        found.append(of_observation(state.fever.temperature))
    elif state.fever is not None:
        found.append(Evidence(state.fever.reference, "fever", effective=state.fever.when))
    elif state.temperature is not None:
        found.append(of_observation(state.temperature))
    bp = state.bp
    found += [of_drug_start(d) for d in (*bp.pressors, *bp.vasopressin)]
    if bp.pressure is not None:
        quantity = bp.pressure.systolic or bp.pressure.mean
        concept = "bp_systolic" if bp.pressure.systolic is not None else "bp_mean"
        assert quantity is not None
        for reference in bp.pressure.references:
            found.append(Evidence(reference, concept, quantity.value, quantity.unit, bp.pressure.when))
    for reference, concept in ((bp.bolus, "fluid_bolus"), (bp.coded, "hypotension")):
        if reference:
            found.append(Evidence(reference, concept))
    for reference in state.o2.references:
        if state.o2.flow is not None:
            flow = state.o2.flow
            found.append(Evidence(reference, "o2_flow_rate", flow.value, flow.unit))
        elif state.o2.saturation is not None:
            found.append(of_observation(state.o2.saturation))
        else:
            found.append(Evidence(reference, "oxygen_device", state.o2.device or None))
    found += [of_drug_start(d) for d in state.masking[-1:]]
    found += state.infections
    if state.recorded is not None:
        found.append(
            Evidence(state.recorded.reference, "crs_grade", state.recorded.grade, "", state.recorded.when)
        )
    return tuple(dict.fromkeys(found))


def missing_of(case: Case, concepts: tuple[str, ...]) -> tuple[Missing, ...]:
    """Missing facts; what is there but too old is named stale."""
    found = []
    for concept in concepts:
        latest = case.chart.latest(concept)
        if latest is None:
            found.append(Missing(concept))
        else:
            found.append(Missing(concept, LossReason.STALE, latest.reference))
    return tuple(found)


def _missing(case: Case, state: CrsState) -> tuple[Missing, ...]:
    """What a narrower grade needs; an oxygen device under an unknown name is unreadable, not old."""
    found = missing_of(case, state.missing)
    if not state.o2.unread:
        return found
    unread = Missing("oxygen_device", LossReason.MALFORMED, state.o2.references[0])
    return tuple(unread if m.concept == "oxygen_device" else m for m in found)


def _values(case: Case, state: CrsState) -> dict[str, str | int | bool]:
    values: dict[str, str | int | bool] = {"row": state.gate.value}
    day = case.chart.course.last_day(case.today)
    if day is not None:
        values["day"] = day
    if state.bp.low == state.bp.high:
        values["bp_component"] = state.bp.low
    if state.o2.low == state.o2.high:
        values["o2_component"] = state.o2.low
    if state.low is not None and state.high is not None and state.low != state.high:
        values["grade_min"], values["grade_max"] = state.low, state.high
    if state.present:
        values["worst_grade"] = worst_grade(case, state)
        values["decided_by"] = _decided_by(state)
    if state.gate in PROVISIONAL or (state.o2.provisional and state.o2.low >= (state.low or 0)):
        values["provisional"] = True
    if state.onset is not None:
        onset = day_of(case, state.onset)
        if onset is not None:
            values["onset_day"] = onset
            if onset > case.p(RULE).int("delayed_after_day"):
                values["delayed"] = True
    if state.recorded is not None and state.recorded.grade is not None:
        values["clinician_grade"] = state.recorded.grade
    return values


def _decided_by(state: CrsState) -> str:
    if state.gate is Gate.CLINICIAN:
        return "clinician"
    if state.bp.low == state.o2.low == 0:
        return "fever"
    if state.bp.low == state.o2.low:
        return "blood-pressure-and-oxygen"
    return "blood-pressure" if state.bp.low > state.o2.low else "oxygen"


def _reason(state: CrsState) -> Shown:
    """What decided, with its figures."""
    decided = _decided_by(state)
    if decided == "fever" and state.fever is not None and state.fever.temperature is not None:
        return msg("reason.fever-at", value=_measured(state.fever.temperature))
    if decided == "blood-pressure-and-oxygen":
        return Items((_pressure_reason(state.bp), _oxygen_reason(state.o2)))
    if decided == "blood-pressure":
        return _pressure_reason(state.bp)
    return _oxygen_reason(state.o2) if decided == "oxygen" else msg(f"reason.{decided}")


def _pressure_reason(bp: BloodPressureState) -> Message:
    if bp.pressors or bp.vasopressin:
        return msg("reason.pressors", drugs=_pressors(bp))
    if bp.coded or bp.pressure is None:
        return msg("reason.blood-pressure")
    return msg("reason.pressure", pressure=_pressures(bp))


def _oxygen_reason(o2: OxygenState) -> Message:
    if o2.saturation is not None:
        return msg("reason.saturation", value=_measured(o2.saturation))
    if not o2.device:
        return msg("reason.oxygen")
    if o2.flow is not None:
        return msg("reason.device-flow", device=Name(o2.device), flow=as_reported(o2.flow))
    return msg("reason.device", device=Name(o2.device))


# --- the rule


def outcome_of(state: CrsState) -> Outcome:
    """The outcome word of a CRS state."""
    if state.low is None:
        return Outcome.CANNOT_GRADE
    if state.open_ended:
        return Outcome.AT_LEAST_GRADE_N
    return graded(state.low) if state.low == state.high else Outcome.RANGE


def _indicator(grade: int) -> Indicator:
    return Indicator.CRITICAL if grade >= 3 else Indicator.WARNING


def _summary(case: Case, state: CrsState) -> Message:
    day = case.chart.course.last_day(case.today)
    assert day is not None
    assert state.low is not None
    reason = _reason(state)
    if state.gate is Gate.MASKED:
        return msg("summary.masked", grade=state.low, day=day)
    if state.gate is Gate.INFECTION:
        return msg("summary.infection", grade=state.low, day=day)
    if state.open_ended:
        return msg("summary.at-least", grade=state.low, day=day, reason=reason)
    if state.low != state.high:
        assert state.high is not None
        return msg("summary.range", low=state.low, high=state.high, day=day)
    key = "summary.provisional" if state.gate is Gate.FEVER_GONE else "summary.grade"
    return msg(key, grade=state.low, day=day, reason=reason)


def _unknown(state: CrsState) -> Message:
    if state.long_coded and state.recorded is not None:
        return msg("summary.still-coded", when=state.recorded.when)
    return msg("summary.cannot-grade")


@rule(RULE)
def grade_crs(case: Case) -> Iterator[Finding]:
    """The grade now, day 0 to 30 and later while an episode is open."""
    if not crs_applies(case):
        return
    state = crs_now(case)
    missing = _missing(case, state)
    if state.low is None:
        open_episode = state.episode is not None and state.episode.onset is not None
        own_card = state.signs or open_episode or any(e.inpatient for e in current_encounters(case))
        yield Finding(
            rule=RULE,
            outcome=Outcome.CANNOT_GRADE,
            indicator=(Indicator.WARNING if state.signs else Indicator.INFO) if own_card else None,
            summary=_unknown(state),
            detail=tuple(_detail(case, state)),
            values=_values(case, state),
            evidence=evidence(state),
            missing=missing,
            unconcluded=True,
        )
    elif state.present:
        yield Finding(
            rule=RULE,
            outcome=outcome_of(state),
            indicator=_indicator(state.low),
            summary=_summary(case, state),
            detail=tuple(_detail(case, state)),
            grade=state.low,
            values=_values(case, state),
            evidence=evidence(state),
            missing=missing,
            selection=Selection.ANY,
        )
    else:
        yield _not_present(case, state, missing)


def _not_present(case: Case, state: CrsState, missing: tuple[Missing, ...]) -> Finding:
    """Grade 0: a card only where another cause must be sought, or CRS has just resolved."""
    indicator: Indicator | None = None
    summary = msg("summary.none")
    if state.gate is Gate.NO_FEVER and state.signs:
        indicator, summary = Indicator.INFO, msg("summary.no-fever")
    elif state.gate is Gate.RESOLVED and state.episode is not None:
        ended = state.episode.closed or state.episode.last
        recent = case.now - ended <= hours(case.p(RULE)["resolved_card_hours"])
        steroid = given_between(case, case.now - timedelta(days=1), case.now, *STEROIDS)
        summary = msg("summary.resolved")
        indicator = Indicator.INFO if recent or steroid else None
    return Finding(
        rule=RULE,
        outcome=Outcome.NOT_PRESENT,
        indicator=indicator,
        summary=summary,
        detail=tuple(_detail(case, state)),
        grade=0,
        values=_values(case, state),
        evidence=evidence(state),
        missing=missing,
    )
