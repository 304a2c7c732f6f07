"""Laboratory and clinical tumour lysis syndrome (Cairo MS 2004, Howard SC 2011)."""

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
    msg,
)
from cds.engine.case import Case
from cds.engine.rule import rule
from cds.rules.after_cart import inpatient
from cds.rules.body_size import is_adult
from cds.rules.evidence import as_reported, of_fact, of_observation
from cds.rules.grading.icans_episode import icans_now
from cds.rules.grading.tls_state import ANALYTES, Abnormal, Level, TlsState, series_of, tls_state
from fhir_mapping.chart import Amount, ConditionState, Flag, LossReason

RULE = "grading.tls"
_OUTCOME = {
    Level.NONE: Outcome.NOT_PRESENT,
    Level.SINGLE: Outcome.SINGLE_ABNORMALITY,
    Level.LABORATORY_2004: Outcome.LABORATORY_2004,
    Level.LABORATORY: Outcome.LABORATORY,
    Level.CLINICAL: Outcome.CLINICAL,
}
_INDICATOR = {
    Level.NONE: None,
    Level.SINGLE: Indicator.WARNING,
    Level.LABORATORY_2004: Indicator.WARNING,
    Level.LABORATORY: Indicator.CRITICAL,
    Level.CLINICAL: Indicator.CRITICAL,
}
_CONCEPT = {"calcium": "calcium_total"}


def _newest(state: TlsState) -> tuple[Abnormal, ...]:
    """The newest abnormal value of each analyte, absolute ones first."""
    found: dict[str, Abnormal] = {}
    for abnormal in state.abnormal:
        known = found.get(abnormal.analyte)
        if known is None or abnormal.absolute >= known.absolute:
            found[abnormal.analyte] = abnormal
    return tuple(found.values())


def _shown(abnormal: Abnormal) -> Shown:
    quantity = abnormal.observation.value.quantity
    assert quantity is not None
    return as_reported(quantity)


def _corrected_calcium(case: Case) -> Decimal | None:
    """The newest corrected calcium of the last day."""
    fresh = timedelta(hours=float(case.p(RULE)["fresh_hours"]))
    for newest in series_of(case, "calcium", case.now - fresh)[-1:]:
        quantity = newest.value.quantity
        if newest.concept == "calcium_corrected" and quantity is not None:
            return round(quantity.value, 2)
    return None


def _after_rasburicase(case: Case) -> bool:
    day = case.now - timedelta(days=1)
    return any(
        d.timing.first is not None and d.timing.first.latest >= day
        for d in case.chart.administrations("rasburicase")
    )


def _sign(case: Case, key: str) -> Message:
    p = case.p(RULE)
    if key == "creatinine":
        return msg(
            "sign.creatinine",
            times=p["creatinine_x_uln"],
            mg=Amount(p["creatinine_rise_mg_dl"], "mg/dL"),
            umol=Amount(p["creatinine_rise_umol_l"], "umol/L"),
        )
    if key == "urine":
        return msg("sign.urine", limit=Amount(p["urine_ml_kg_h"], "mL/kg/h"), hours=Hours(p["urine_hours"]))
    return msg(f"sign.{key}")


def _level(case: Case, level: Level) -> Message:
    key = f"level.{level.value}"
    if level in (Level.LABORATORY, Level.LABORATORY_2004):
        return msg(key, hours=Hours(case.p(RULE)["span_hours"]))
    return msg(key)


def _detail(case: Case, state: TlsState) -> Iterator[Block]:
    p = case.p(RULE)
    for abnormal in _newest(state):
        name = Name(abnormal.observation.concept)
        shown: dict[str, Shown] = {
            "analyte": name,
            "value": _shown(abnormal),
            "when": abnormal.observation.when,
        }
        if not abnormal.absolute:
            shown["percent"] = p["change_pct"]
        yield Bullet(Message("value.absolute" if abnormal.absolute else "value.change", shown))
        if abnormal.analyte == "potassium" and Flag.HAEMOLYSED in abnormal.observation.flags:
            yield Bullet(msg("haemolysed"))
    if state.uncorrected_calcium:
        yield Bullet(msg("calcium.uncorrected"))
    for sign in state.signs:
        if state.level in (Level.CLINICAL, Level.LABORATORY_2004):
            yield Bullet(_sign(case, sign.key))
    seized = any(s.key == "seizure" for s in state.signs)
    neuro = icans_now(case)
    if seized and neuro is not None and neuro.grade:
        yield Bullet(msg("sign.seizure-icans", grade=neuro.grade))
    hours = Hours(p["fresh_hours"])
    yield Bullet(msg("available", count=len(state.available), all=len(ANALYTES), hours=hours))
    if is_adult(case) is None:
        yield Bullet(msg("age-unknown"))
    if state.late and state.level is not Level.NONE:
        yield Bullet(msg("late", day=p.int("classical_days")))
    if _after_rasburicase(case):
        yield Bullet(msg("on-ice"))
    for condition in case.chart.conditions.of("tls"):
        if condition.state is ConditionState.ACTIVE:
            yield Bullet(msg("recorded"))
            break
    yield Paragraph(_level(case, state.level))
    yield Paragraph(msg("attribution"))


def _evidence(case: Case, state: TlsState) -> tuple[Evidence, ...]:
    found = [of_observation(a.observation) for a in state.abnormal]
    found += [e for sign in state.signs for e in sign.evidence]
    found += [of_fact(c, "tls") for c in case.chart.conditions.of("tls") if c.state is ConditionState.ACTIVE]
    return tuple(dict.fromkeys(found))


def _missing(case: Case, state: TlsState) -> tuple[Missing, ...]:
    found = []
    for analyte in ANALYTES:
        if analyte in state.available:
            continue
        concept = _CONCEPT.get(analyte, analyte)
        latest = case.chart.latest(concept)
        if latest is None:
            found.append(Missing(concept))
        else:
            found.append(Missing(concept, LossReason.STALE, latest.reference))
    if state.uncorrected_calcium:
        found.append(Missing("albumin"))
    return tuple(found)


def _summary(case: Case, state: TlsState) -> Message:
    names = Items(
        tuple(
            msg("summary.analyte", analyte=Name(a.observation.concept), value=_shown(a))
            for a in _newest(state)
        )
    )
    if state.level is Level.SINGLE:
        single = next(a for a in _newest(state) if a.absolute)
        return msg("summary.single", analyte=Name(single.observation.concept), value=_shown(single))
    if state.grade is not None:
        conditional = {s.key for s in state.signs} == {"seizure"}
        key = "summary.ctls-seizure" if conditional else "summary.ctls"
        return msg(key, grade=state.grade, analytes=names)
    if state.level is Level.NONE:
        return msg("summary.none")
    key = f"summary.{state.level.value}" + ("-late" if state.late else "")
    if state.level is Level.LABORATORY:
        return msg(key, analytes=names, hours=Hours(case.p(RULE)["span_hours"]))
    return msg(key, analytes=names)


@rule(RULE)
def grade_tls(case: Case) -> Iterator[Finding]:
    """TLS now, from 3 days before lymphodepletion to day 100."""
    state = tls_state(case)
    if state is None:
        return
    open_question = state.level is Level.NONE and not state.available and not state.late
    if open_question:
        begun = case.chart.course.ldc_first
        started = begun is not None and begun.date is not None and begun.date <= case.today
        if not started and not inpatient(case):
            return
    values: dict[str, str | int | bool | Decimal | list[str]] = {
        "row": state.level.value,
        "met": [a.analyte for a in _newest(state)],
        "met_absolute": len({a.analyte for a in state.abnormal if a.absolute}),
        "available": len(state.available),
    }
    if state.signs:
        values["signs"] = [s.key for s in state.signs]
    if state.late:
        values["late"] = True
    if state.uncorrected_calcium:
        values["calcium_uncorrected"] = True
    if (calcium := _corrected_calcium(case)) is not None:
        values["calcium_corrected_mg_dl"] = calcium
    day = case.chart.course.day(case.today)
    if day is not None:
        values["day"] = day
    yield Finding(
        rule=RULE,
        outcome=Outcome.CANNOT_GRADE if open_question else _OUTCOME[state.level],
        indicator=_INDICATOR[state.level],
        summary=(
            msg("summary.cannot-grade", hours=Hours(case.p(RULE)["fresh_hours"]))
            if open_question
            else _summary(case, state)
        ),
        detail=tuple(_detail(case, state)),
        grade=state.grade,
        values=dict(values.items()),
        evidence=_evidence(case, state),
        missing=_missing(case, state),
        selection=Selection.ANY,
        unconcluded=open_question,
    )
