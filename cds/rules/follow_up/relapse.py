"""Relapse after CAR-T cells: test the target antigen before another therapy against it (section 3.3)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta

from cards.finding import (
    Bullet,
    Create,
    Delete,
    Evidence,
    Finding,
    Indicator,
    Items,
    Missing,
    Name,
    Outcome,
    Paragraph,
    Scalar,
    ServiceProposal,
    Suggestion,
    msg,
)
from cds.engine.case import Case
from cds.engine.parameters import Parameters
from cds.engine.rule import rule
from cds.rules import evidence
from cds.rules.drug_classes import drug_classes
from cds.rules.follow_up.response import B_ALL, LYMPHOMA, has_disease, last_relapse, relapse_is_over
from cds.rules.work_up import Found, look_for
from fhir_mapping.chart import Drafts, Observation, Result

RULE = "follow-up.relapse"
ANTIGENS = {"CD19": "cd19_expression", "BCMA": "bcma_expression"}


def _directed(target: str, p: Parameters) -> frozenset[str]:
    """Drugs against the antigen."""
    if target == "CD19":
        return drug_classes().drugs("DC22")
    return frozenset(str(row["drug"]) for row in p.table("directed_drugs") if row["target"] == target)


def _concerns(drafts: Drafts, p: Parameters) -> bool:
    drugs = set().union(*(_directed(target, p) for target in ANTIGENS))
    return any(d.is_any(drugs) for d in drafts.drugs.all)


def _negative(observation: Observation) -> bool:
    """Lost antigen. Dim counts as positive, reduced."""
    return observation.value.result is Result.NEGATIVE or "negative" in observation.value.codes


def _reduced(observation: Observation) -> bool:
    return "dim" in observation.value.codes


def _told(observation: Observation) -> bool:
    """The result says positive, dim or negative; an indeterminate or unreadable one is neither."""
    if observation.value.result is Result.INDETERMINATE:
        return False
    positive = observation.value.result is Result.POSITIVE or "positive" in observation.value.codes
    return positive or _negative(observation) or _reduced(observation)


def _first_day(case: Case, day: date) -> date:
    return day - timedelta(days=case.p(RULE).int("test_days_before"))


def _ordered(case: Case, concept: str, day: date) -> bool:
    """The test is ordered, or its result pending, since the relapse."""
    since = datetime.combine(_first_day(case, day), time(), case.now.tzinfo)
    return look_for(case, since, concept).found is Found.ORDERED


def antigen_test(case: Case, concept: str, day: date) -> Observation | None:
    """Newest result on disease of the relapse: not older than the given days before it was coded."""
    first = _first_day(case, day)
    newest = case.chart.series(concept).latest(case.now, None, lambda o: not o.value.empty)
    return newest if newest is not None and newest.when.date >= first else None


@rule(RULE, concerns=_concerns)
def relapse_information(case: Case) -> Iterator[Finding]:
    """After a relapse: antigen test and what is known; on order-sign drugs against a lost antigen."""
    event = last_relapse(case)
    product = case.chart.course.infused_product
    if event is None or event.day is None or case.chart.patient.deceased:
        return
    target = "" if product is None else product.target
    concept = ANTIGENS.get(target, "")
    test = antigen_test(case, concept, event.day) if concept else None
    if case.ordering:
        yield from _orders(case, target, concept, test, event.evidence)
        return
    if test is None and relapse_is_over(case):
        return  # no disease left to test
    yield _card(case, target, concept, test, event.day, event.evidence)


def _card(
    case: Case, target: str, concept: str, test: Observation | None, day: date, event: Evidence
) -> Finding:
    values: dict[str, Scalar] = {"relapse_on": day}
    if target:
        values["target"] = target
    shown = [event]
    missing: tuple[Missing, ...] = ()
    buttons: tuple[Suggestion, ...] = ()
    if not concept:
        outcome, indicator, row = Outcome.INFO, Indicator.INFO, "no-target"
        summary = msg("summary.no-target", day=day)
        missing = (Missing("car_t_infusion"),)
    elif test is None and _ordered(case, concept, day):
        outcome, indicator, row = Outcome.WAIT, Indicator.INFO, "ordered"
        summary = msg("summary.ordered", day=day, target=target)
        missing = (Missing(concept),)
    elif test is None:
        outcome, indicator, row = Outcome.DUE, Indicator.WARNING, "not-tested"
        summary = msg("summary.not-tested", day=day, target=target)
        missing = (Missing(concept),)
        label = msg("suggest.test", target=target)
        buttons = (Suggestion("test", label, (Create(ServiceProposal(concept)),), recommended=True),)
    else:
        outcome, indicator = Outcome.INFO, Indicator.INFO
        shown.append(evidence.of_observation(test))
        values["antigen_test_on"] = test.when.date
        row = "negative" if _negative(test) else "reduced" if _reduced(test) else "tested"
        values["antigen"] = "negative" if row == "negative" else "dim" if row == "reduced" else "positive"
        if not _told(test):
            row, values["antigen"] = "indeterminate", "indeterminate"
        summary = msg(f"summary.{row}", day=test.when.date, target=target)
    return Finding(
        rule=RULE,
        outcome=outcome,
        indicator=indicator,
        summary=summary,
        detail=(Paragraph(msg("detail.rule")), *_background(case, target)),
        values={"row": row, **values},
        evidence=tuple(shown),
        missing=missing,
        suggestions=buttons,
    )


def _background(case: Case, target: str) -> tuple[Bullet, ...]:
    """Population figures; the antigen-escape ranges belong to CD19 and are not quoted for other targets."""
    notes = [Bullet(msg("detail.durability"))]
    if target == "CD19":
        if has_disease(case, *B_ALL):
            notes.insert(0, Bullet(msg("detail.escape-all")))
        elif has_disease(case, *LYMPHOMA):
            notes.insert(0, Bullet(msg("detail.escape-lymphoma")))
        notes.insert(0, Bullet(msg("detail.relapse-share")))
    return tuple(notes)


def _orders(
    case: Case, target: str, concept: str, test: Observation | None, event: Evidence
) -> Iterator[Finding]:
    if not concept:
        return
    for draft in case.judged_drugs(*sorted(_directed(target, case.p(RULE)))):
        drugs = Items(tuple(Name(d) for d in draft.ingredients))
        shown: tuple[Evidence, ...] = (event, evidence.of_drug(draft))
        buttons: tuple[Suggestion, ...] = ()
        missing: tuple[Missing, ...] = ()
        outcome: Outcome = Outcome.PASS
        indicator: Indicator | None = None
        row, summary = "pass", msg("summary.order-pass")
        if test is None or not _told(test):
            outcome, indicator, row = Outcome.CANNOT_CHECK, Indicator.WARNING, "order-not-tested"
            summary = msg("summary.order-not-tested", drugs=drugs, target=target)
            missing = (Missing(concept),)
            label = msg("suggest.test", target=target)
            buttons = (Suggestion("test", label, (Create(ServiceProposal(concept)),), recommended=True),)
        else:
            shown += (evidence.of_observation(test),)
            if _negative(test):
                outcome, indicator, row = Outcome.CONTRAINDICATED, Indicator.CRITICAL, "order-negative"
                summary = msg("summary.order-negative", drugs=drugs, target=target, day=test.when.date)
                buttons = (Suggestion("remove", msg("suggest.remove"), (Delete(draft.reference),)),)
        yield Finding(
            rule=RULE,
            outcome=outcome,
            indicator=indicator,
            summary=summary,
            subject=draft.reference,
            resource=draft.reference,
            detail=(Paragraph(msg("detail.rule")),),
            values={"row": row, "target": target},
            evidence=shown,
            missing=missing,
            suggestions=buttons,
            unconcluded=outcome is Outcome.CANNOT_CHECK,
        )
