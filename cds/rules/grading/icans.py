"""ASTCT grade of neurotoxicity (ICANS) after CAR-T cells (Lee DW, BBMT 2019;25:625)."""

from __future__ import annotations

from collections.abc import Iterator

from cards.finding import (
    Block,
    Bullet,
    Evidence,
    Finding,
    Indicator,
    Items,
    Message,
    Missing,
    Name,
    Outcome,
    Paragraph,
    Selection,
    graded,
    msg,
)
from cds.engine.case import Case
from cds.engine.rule import rule
from cds.rules.after_cart import inpatient
from cds.rules.grading.bedside import whole_number
from cds.rules.grading.icans_episode import SYMPTOMS, Domain, IcansState, icans_now
from fhir_mapping.chart import LossReason, Moment

RULE = "grading.icans"


def outcome_of(state: IcansState) -> Outcome:
    """The outcome word of an ICANS state."""
    if state.low is None:
        return Outcome.CANNOT_GRADE
    if state.open_ended:
        return Outcome.AT_LEAST_GRADE_N
    return graded(state.low) if state.low == state.high else Outcome.RANGE


def onset_day(case: Case, onset: Moment | None) -> int | None:
    """Day of the course on which ICANS began; None where the day is not known."""
    if onset is None or not onset.day_known:
        return None
    return case.chart.course.last_day(onset.first_date)


def _delayed(case: Case, state: IcansState) -> bool:
    day = onset_day(case, state.onset)
    return day is not None and day > case.p(RULE).int("delayed_after_day")


def _symptoms(state: IcansState) -> Items:
    return Items(tuple(Name(c) for c in dict.fromkeys(e.concept for e in state.symptoms)))


def _detail(case: Case, state: IcansState) -> Iterator[Block]:
    for domain in state.domains:
        key = "domain" if domain.low == domain.high else "domain.range"
        name = msg(f"domain.{domain.domain.value}")
        why = msg(f"why.{domain.why}")
        if domain.low == domain.high:
            yield Bullet(msg(key, domain=name, why=why, grade=domain.low))
        else:
            yield Bullet(msg(key, domain=name, why=why, low=domain.low, high=domain.high))
    if state.sedation:
        earlier = {d.domain for d in state.domains} & {Domain.COGNITION, Domain.CONSCIOUSNESS}
        yield Bullet(msg("sedated.before" if earlier else "sedated"))
    for lacking in state.not_assessed:
        yield Bullet(msg("not-assessed", domain=msg(f"domain.{lacking.value}")))
    if state.bleeding:
        yield Bullet(msg("bleeding"))
    if state.symptoms:
        yield Bullet(msg("symptoms", symptoms=_symptoms(state)))
    today = case.chart.series("neuro_symptom").between(state.at.replace(hour=0, minute=0), state.at)
    if any(set(o.value.codes) - SYMPTOMS for o in today):
        yield Bullet(msg("not-counted"))
    if state.onset is not None and (state.low or state.low is None):
        yield Bullet(msg("onset.delayed" if _delayed(case, state) else "onset", when=state.onset))
    recorded = state.recorded
    stated = None if recorded is None or state.by_clinician else recorded.grade
    if recorded is not None and stated is not None and state.low is not None:
        key = "clinician.higher" if stated > state.low else "clinician"
        yield Bullet(msg(key, grade=stated, when=recorded.when))
    if state.by_clinician:
        yield Paragraph(msg("by-clinician"))
    yield Paragraph(msg("criterion"))
    if state.low:
        yield Paragraph(msg("attribution"))


def evidence(state: IcansState) -> tuple[Evidence, ...]:
    """The facts behind an ICANS grade."""
    found = [e for domain in state.domains for e in domain.evidence]
    found += state.sedation
    found += state.symptoms
    if state.recorded is not None:
        recorded = state.recorded
        found.append(Evidence(recorded.reference, "icans_grade", recorded.grade, effective=recorded.when))
    return tuple(dict.fromkeys(found))


def _values(case: Case, state: IcansState) -> dict[str, str | int | bool]:
    values: dict[str, str | int | bool] = {}
    deciding = [d.domain.value for d in state.domains if state.low and d.low == state.low]
    if deciding:
        values["row"] = deciding[0]
        values["decided_by"] = " ".join(deciding)
    elif state.by_clinician:
        values["row"] = "clinician"
    for domain in state.domains:
        if domain.low == domain.high:
            values[f"{domain.domain.value}_grade"] = domain.low
    day = case.chart.course.last_day(case.today)
    if day is not None:
        values["day"] = day
    if state.low is not None and state.high is not None and state.low != state.high:
        values["grade_min"], values["grade_max"] = state.low, state.high
    onset = onset_day(case, state.onset)
    if onset is not None and state.low != 0:
        values["onset_day"] = onset
        if _delayed(case, state):
            values["delayed"] = True
    if state.recorded is not None and state.recorded.grade is not None:
        values["clinician_grade"] = state.recorded.grade
    if state.sedation:
        values["sedated"] = True
    return values


def _summary(case: Case, state: IcansState) -> Message:
    assert state.low is not None
    day = case.chart.course.last_day(case.today) or 0
    if state.by_clinician:
        return msg("summary.clinician", grade=state.low, day=day)
    deciding = tuple(msg(f"domain.{d.domain.value}") for d in state.domains if d.low == state.low)
    if state.open_ended:
        return msg("summary.at-least", grade=state.low, day=day, domains=Items(deciding))
    if state.low != state.high:
        return msg("summary.range", low=state.low, high=state.high or state.low, day=day)
    return msg("summary.grade", grade=state.low, day=day, domains=Items(deciding))


def _missing(case: Case, state: IcansState) -> tuple[Missing, ...]:
    found = []
    for concept in state.missing:
        latest = case.chart.latest(concept)
        if latest is None or latest.value.empty or state.sedation:
            found.append(Missing(concept))
        elif not latest.value.codes and whole_number(latest.value) is None:  # words that nobody listed
            found.append(Missing(concept, LossReason.MALFORMED, latest.reference))
        else:
            found.append(Missing(concept, LossReason.STALE, latest.reference))
    return tuple(found)


@rule(RULE)
def grade_icans(case: Case) -> Iterator[Finding]:
    """The grade now, from day 0 on while neurological data are current."""
    state = icans_now(case)
    day = case.chart.course.last_day(case.today)
    if state is None or day is None or day < 0:
        return
    if not state.has_data and not state.open_episode:
        return
    outcome = outcome_of(state)
    indicator: Indicator | None = None
    summary = msg("summary.cannot-grade")
    if state.low is None:
        if state.open_episode or state.long_coded or inpatient(case):
            indicator = Indicator.INFO
        if state.long_coded and state.recorded is not None:
            summary = msg("summary.still-coded", when=state.recorded.when)
        elif state.symptoms and not state.sedation:
            indicator, summary = Indicator.WARNING, msg("summary.assess", symptoms=_symptoms(state))
    elif state.low >= 1:
        indicator = Indicator.CRITICAL if state.low >= 3 else Indicator.WARNING
        summary = _summary(case, state)
    else:
        summary = msg("summary.none")
        higher = state.recorded is not None and bool(state.recorded.grade)
        if higher and state.recorded is not None and state.recorded.grade is not None:
            indicator = Indicator.CRITICAL if state.recorded.grade >= 3 else Indicator.WARNING
            summary = msg("summary.clinician-only", grade=state.recorded.grade)
        elif state.open_ended:
            shown = state.open_episode or bool(state.symptoms) or inpatient(case)
            indicator = Indicator.INFO if shown else None
            summary = _summary(case, state)
        elif state.high:
            indicator = Indicator.INFO
            summary = _summary(case, state)
    yield Finding(
        rule=RULE,
        outcome=outcome,
        indicator=indicator,
        summary=summary,
        detail=tuple(_detail(case, state)),
        grade=state.low,
        values=_values(case, state),
        evidence=evidence(state),
        missing=_missing(case, state),
        selection=Selection.ANY,
        unconcluded=state.low is None or (state.low == 0 and state.open_ended),
    )
