"""Pregnancy test, contraception and breastfeeding around tarlatamab (monograph: fetus, reminders 8 and 10).

Only the patient who can become pregnant is addressed; partners get no rule. Months are calendar months.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum

from cards.finding import (
    Block,
    Bullet,
    Create,
    Days,
    Evidence,
    Finding,
    Indicator,
    Message,
    Missing,
    Outcome,
    Paragraph,
    Scalar,
    ServiceProposal,
    Suggestion,
    msg,
)
from cds.engine.case import Case, once_per_case
from cds.engine.rule import rule
from cds.rules.bispecific.tarlatamab import (
    DRUG,
    before_first_dose,
    concerned,
    contraception_end,
    dosed,
    first_exposure,
    last_exposure,
    on_treatment,
    recorded_stop,
    under_judgement,
)
from fhir_mapping.chart import ConditionState, DrugState, Observation, Result

RULE = "readiness.tarlatamab-pregnancy"
_LASTING = ("intrauterine_device", "tubal_sterilization")  # a procedure, or the device itself
_TESTS = ("hcg_serum_qual", "hcg_serum_quant", "hcg_urine")


class Pregnancy(StrEnum):
    PREGNANT = "pregnant"
    NOT_PREGNANT = "not-pregnant"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class PregnancyState:
    """What the chart says, and the newest pregnancy test with a result, indeterminate ones included."""

    state: Pregnancy
    evidence: tuple[Evidence, ...] = ()
    test: Observation | None = None


class Potential(StrEnum):
    """Childbearing potential."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


class Contraception(StrEnum):
    EFFECTIVE = "effective"
    ENDING = "ending"  # being stopped, or pregnancy planned
    NOT_DOCUMENTED = "not-documented"


def _newest_test(case: Case) -> Observation | None:
    tests = [o for concept in _TESTS for o in case.chart.series(concept) if o.value.result is not None]
    return max(tests, key=lambda o: o.when.latest, default=None)


@once_per_case
def pregnancy(case: Case) -> PregnancyState:
    """Coded pregnancy beats the recorded status, which beats the newest test; nothing older than a term."""
    test = _newest_test(case)
    term = timedelta(days=case.p(RULE).int("pregnancy_longest_days"))
    for condition in case.chart.conditions.of("pregnancy"):
        onset = condition.onset
        recent = onset is None or onset.latest >= case.now - term
        if condition.state is ConditionState.ACTIVE and recent:
            evidence = (Evidence(condition.reference, "pregnancy", effective=condition.onset),)
            return PregnancyState(Pregnancy.PREGNANT, evidence, test)
    status = case.chart.latest("pregnancy_status")
    if status is not None and status.when.latest >= case.now - term:
        said = _said(status)
        if said is not Pregnancy.UNKNOWN and (test is None or test.when.latest <= status.when.latest):
            return PregnancyState(said, (_evidence(status),), test)
    if test is not None and test.when.latest >= case.now - term:
        if test.value.result is Result.POSITIVE:
            return PregnancyState(Pregnancy.PREGNANT, (_evidence(test),), test)
        if test.value.result is Result.NEGATIVE:
            return PregnancyState(Pregnancy.NOT_PREGNANT, (_evidence(test),), test)
    return PregnancyState(Pregnancy.UNKNOWN, (), test)


def declared_pregnant(case: Case) -> tuple[Evidence, ...]:
    """Evidence of a pregnancy that is coded or stated; () where none is, whatever a test says."""
    found = pregnancy(case)
    tested = found.test is not None and any(e.reference == found.test.reference for e in found.evidence)
    return found.evidence if found.state is Pregnancy.PREGNANT and not tested else ()


def _said(status: Observation) -> Pregnancy:
    codes, result = status.value.codes, status.value.result
    if "pregnancy" in codes or "pregnant" in codes or result is Result.POSITIVE:
        return Pregnancy.PREGNANT
    if "not_pregnant" in codes or result is Result.NEGATIVE:
        return Pregnancy.NOT_PREGNANT
    return Pregnancy.UNKNOWN


def _evidence(obs: Observation) -> Evidence:
    word = obs.value.result.value if obs.value.result is not None else (obs.value.codes or ("",))[0]
    return Evidence(obs.reference, obs.concept, word, effective=obs.when)


@once_per_case
def potential(case: Case) -> Potential:
    """A recorded answer, else sex, age 12 to 55 and none of the excluding facts."""
    recorded = case.chart.latest("childbearing_potential")
    if recorded is not None and recorded.value.yes is not None:
        return Potential.YES if recorded.value.yes else Potential.NO
    patient = case.chart.patient
    if patient.sex == "male":
        return Potential.NO
    for concept in ("hysterectomy", "bilateral_oophorectomy", "menopause"):
        done = any(p.state.begun for p in case.chart.procedures.of(concept))
        coded = any(
            c.state in (ConditionState.ACTIVE, ConditionState.HISTORY)
            for c in case.chart.conditions.of(concept)
        )
        observed = case.chart.latest(concept)
        if done or coded or (observed is not None and observed.value.yes):
            return Potential.NO
    age = patient.age(case.today)
    p = case.p(RULE)
    if age is not None and (age[0] > p.int("age_to_years") or age[1] < p.int("age_from_years")):
        return Potential.NO
    if age is None or patient.sex != "female":
        return Potential.UNKNOWN
    return Potential.YES


@once_per_case
def contraception(case: Case) -> Contraception:
    recorded = case.chart.latest("contraception")
    if recorded is not None:
        codes = set(recorded.value.codes)
        if codes & {"stopping", "planning_pregnancy"}:
            return Contraception.ENDING
        if "effective" in codes:
            return Contraception.EFFECTIVE
        if codes & {"none", "not_effective"}:
            return Contraception.NOT_DOCUMENTED
    if case.chart.active_drugs("hormonal_contraceptive"):
        return Contraception.EFFECTIVE
    placed = any(p.state.begun for p in case.chart.procedures.of(*_LASTING))
    if placed or case.chart.documents.of(*_LASTING):
        return Contraception.EFFECTIVE
    return Contraception.ENDING if _stopped_on_treatment(case) else Contraception.NOT_DOCUMENTED


def _stopped_on_treatment(case: Case) -> bool:
    """A contraceptive was stopped since the first dose."""
    first = first_exposure(case)
    if first is None or first.day is None:
        return False
    return any(
        record.state is DrugState.STOPPED
        and record.timing.last is not None
        and record.timing.last.date >= first.day
        for record in case.chart.drugs.of("hormonal_contraceptive")
    )


def protected_until(case: Case) -> date | None:
    """Last day, inclusive, of the contraception window; None before the first dose."""
    last = last_exposure(case)
    if last is None or last.day is None:
        return None
    return contraception_end(last.day, case.p(RULE).int("contraception_months"))


def within_window(case: Case) -> bool:
    end = protected_until(case)
    return end is not None and case.today <= end


def breastfeeding(case: Case) -> bool:
    observed = case.chart.latest("breastfeeding")
    if observed is not None and observed.value.yes is not None:
        return observed.value.yes
    return any(c.state is ConditionState.ACTIVE for c in case.chart.conditions.of("breastfeeding"))


@dataclass(frozen=True, slots=True)
class _Open:
    row: str
    indicator: Indicator
    outcome: Outcome
    text: Message


@rule(RULE)
def tarlatamab_pregnancy(case: Case) -> Iterator[Finding]:
    drafts = under_judgement(case)
    if case.ordering and not drafts:
        return
    treated = on_treatment(case) or bool(drafts)
    stopped = recorded_stop(case) is not None and not drafts
    if not (within_window(case) or (concerned(case) and treated and not stopped)):
        return
    can = potential(case)
    state = pregnancy(case)
    if can is Potential.NO and state.state is not Pregnancy.PREGNANT:
        return
    reference = drafts[0].reference if drafts else ""
    if can is Potential.UNKNOWN and state.state is not Pregnancy.PREGNANT:
        yield _unknown(case, reference)
        return
    planned = drafts[0].planned.day if drafts else case.today
    rows = list(_open_rows(case, state, planned, bool(drafts)))
    if not rows:
        return
    worst = max(rows, key=lambda r: r.indicator.rank)
    end = protected_until(case)
    values: dict[str, Scalar | list[Scalar]] = {"row": worst.row, "rows": [r.row for r in rows]}
    if end is not None:
        values["contraception_until"] = end
    if state.test is not None:
        values["test_age_days"] = (planned - state.test.when.first_date).days
    suggestions: tuple[Suggestion, ...] = ()
    missing: tuple[Missing, ...] = ()
    if any(r.row == "test" for r in rows):
        missing = (Missing("hcg_serum_qual"),)
        suggestions = (
            Suggestion(
                "hcg", msg("suggest.hcg"), (Create(ServiceProposal("hcg_serum_qual")),), recommended=True
            ),
        )
    detail: list[Block] = [Bullet(r.text) for r in sorted(rows, key=lambda r: -r.indicator.rank)]
    if end is not None:
        detail.append(
            Paragraph(msg("detail.window", end=end, months=case.p(RULE).int("contraception_months")))
        )
    yield Finding(
        rule=RULE,
        outcome=worst.outcome,
        indicator=worst.indicator,
        summary=Message(f"summary.{worst.row}", worst.text.values),
        subject=reference,
        detail=tuple(detail),
        values=values,
        evidence=state.evidence,
        missing=missing,
        resource=reference,
        suggestions=suggestions,
        until=end,
    )


def _unknown(case: Case, reference: str) -> Finding:
    lacking = []
    if case.chart.patient.sex not in ("female", "male"):
        lacking.append(Missing("sex"))
    if case.chart.patient.birth is None:
        lacking.append(Missing("birth_date"))
    return Finding(
        rule=RULE,
        outcome=Outcome.ASK,
        indicator=Indicator.INFO,
        summary=msg("summary.ask"),
        subject=reference,
        detail=(Paragraph(msg("detail.ask")),),
        values={"row": "ask"},
        missing=tuple(lacking),
        resource=reference,
        unconcluded=True,
    )


def _open_rows(case: Case, state: PregnancyState, planned: date, drafted: bool) -> Iterator[_Open]:
    p = case.p(RULE)
    if state.state is Pregnancy.PREGNANT:
        indicator = Indicator.CRITICAL if drafted else Indicator.WARNING
        yield _Open("pregnant", indicator, Outcome.CONTRAINDICATED, msg("row.pregnant"))
    elif before_first_dose(case):
        limit = p.int("pregnancy_test_max_age_days")
        test = state.test
        text: Message | None = None
        if test is None:
            text = msg("row.test", limit=Days(limit))
        elif test.value.result is Result.INDETERMINATE:
            text = msg("row.test-unclear", limit=Days(limit), day=test.when.date)
        elif (planned - test.when.first_date).days > limit:
            text = msg("row.test-old", limit=Days(limit), day=test.when.date)
        if text is not None:
            yield _Open("test", Indicator.WARNING, Outcome.INCOMPLETE, text)
    use = contraception(case)
    end = protected_until(case)
    if state.state is not Pregnancy.PREGNANT:
        if use is Contraception.ENDING:
            ending = msg("row.ending") if end is None else msg("row.ending-until", end=end)
            yield _Open("ending", Indicator.WARNING, Outcome.CAUTION, ending)
        elif use is Contraception.NOT_DOCUMENTED:
            indicator = Indicator.INFO if dosed(case) else Indicator.WARNING
            yield _Open("contraception", indicator, Outcome.ADVISE, msg("row.contraception"))
    if breastfeeding(case) and (on_treatment(case) or drafted):
        yield _Open("breastfeeding", Indicator.WARNING, Outcome.CAUTION, msg("row.breastfeeding"))


__all__ = [
    "DRUG",
    "Contraception",
    "Potential",
    "Pregnancy",
    "PregnancyState",
    "contraception",
    "potential",
    "pregnancy",
    "protected_until",
    "within_window",
]
