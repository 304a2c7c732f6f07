"""Antiemetics around tarlatamab: minimal emetogenic risk, information only, no suggestion."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from cards.finding import Bullet, Finding, Indicator, Name, Outcome, Paragraph, Text, msg
from cds.engine.case import Case
from cds.engine.rule import rule
from cds.rules.bispecific.tarlatamab import (
    DRUG,
    exposures,
    judged_drafts,
    live_orders,
    next_due,
)
from cds.rules.bispecific.toxicity import crs_since_previous_dose
from cds.rules.evidence import of_drug
from fhir_mapping.chart import ConditionState, DrugRecord, DrugState, Moment

RULE = "dosing.tarlatamab-antiemetic"
_CLASSES = ("class_5ht3_antagonists", "class_nk1_antagonists", "olanzapine", "metoclopramide")
_ALWAYS = frozenset({"class_5ht3_antagonists", "class_nk1_antagonists", "olanzapine"})
_NAUSEA = ("nausea", "vomiting")


@rule(RULE)
def antiemetic(case: Case) -> Iterator[Finding]:
    doses = list(_doses(case))
    if not doses or _nauseated(case):
        return
    standing = [d for d in case.judged_drugs(*_CLASSES) if _prophylaxis(d)]
    near = [(d, dose) for d in standing if (dose := _near(case, d, doses)) is not None]
    near = [(d, dose) for d, dose in near if not _chemotherapy(case, dose)]
    classes = {name for d, _ in near for name in _CLASSES if name in d.concepts}
    for record, dose in near:
        own = {name for name in _CLASSES if name in record.concepts}
        if own & _ALWAYS or len(classes) > 1:
            yield _finding(record, dose, "several" if len(classes) > 1 else "single")
    yield from _steroids(case, doses)


def _doses(case: Case) -> Iterator[Moment]:
    """Starts of doses given, ordered and drafted."""
    for event in exposures(case):
        if event.start is not None:
            yield event.start
    for record in (*live_orders(case), *case.chart.drafts.drugs.of(DRUG)):
        yield from record.timing.doses or ((record.timing.first,) if record.timing.first is not None else ())


def _near(case: Case, record: DrugRecord, doses: list[Moment]) -> Moment | None:
    """The dose that the record is given around: one of its own lies near, or it runs on over it."""
    timing = record.timing
    first = timing.first
    if first is None:
        return None
    span = timedelta(hours=float(case.p(RULE)["around_dose_hours"]))
    for dose in doses:
        if timing.ongoing and first.earliest <= dose.latest:
            return dose
        for own in timing.doses or (first,):
            if max(own.earliest - dose.latest, dose.earliest - own.latest, timedelta(0)) <= span:
                return dose
    return None


def _prophylaxis(record: DrugRecord) -> bool:
    """Scheduled, and neither for treatment nor for another illness."""
    if record.timing.as_needed or record.other_reason:
        return False
    return "purpose_treatment" not in record.purposes and record.reasons.isdisjoint(_NAUSEA)


def _nauseated(case: Case) -> bool:
    since = case.now - timedelta(days=case.p(RULE).int("nausea_days"))
    if any(c.state is ConditionState.ACTIVE for c in case.chart.conditions.of(*_NAUSEA)):
        return True
    return any(
        o.when.latest >= since and not set(_NAUSEA).isdisjoint(o.value.codes)
        for concept in ("adverse_event", "infusion_reaction")
        for o in case.chart.series(concept)
    )


def _chemotherapy(case: Case, dose: Moment) -> bool:
    """Another antineoplastic drug on the day of the dose."""
    records = (
        *case.chart.drugs.of("class_antineoplastics"),
        *case.chart.drafts.drugs.of("class_antineoplastics"),
    )
    for record in records:
        if DRUG in record.ingredients or not (
            record.given or record.state in (DrugState.ACTIVE, DrugState.DRAFT, DrugState.COMPLETED)
        ):
            continue
        days = {m.date for m in record.timing.doses} or (
            {record.timing.first.date} if record.timing.first is not None else set()
        )
        if dose.date in days:
            return True
    return False


def _steroids(case: Case, doses: list[Moment]) -> Iterator[Finding]:
    """Dexamethasone labelled antiemetic where the step has no steroid."""
    steps = case.p("dosing.tarlatamab-concomitant").words("steroid_steps")
    if crs_since_previous_dose(case) > 0:
        return
    for record in case.judged_drugs("dexamethasone"):
        dose = _near(case, record, doses)
        if "purpose_antiemetic" not in record.purposes or not _prophylaxis(record) or dose is None:
            continue
        label = _label_of(case, dose)
        if label and label not in steps and not _chemotherapy(case, dose):
            yield _finding(record, dose, "steroid")


def _label_of(case: Case, dose: Moment) -> str:
    """The step that a dose is: of a draft its own, else the next one due."""
    for judged in judged_drafts(case):
        if judged.planned.day == dose.date:
            return judged.label
    due = next_due(case)
    return "" if due is None else due.label


def _finding(record: DrugRecord, dose: Moment, row: str) -> Finding:
    named = next((name for name in (*record.ingredients, *_CLASSES) if name in record.concepts), "")
    drug = Name(named) if named else Text(record.name)
    return Finding(
        rule=RULE,
        outcome=Outcome.INFO,
        indicator=Indicator.INFO,
        summary=msg(f"summary.{row}", drug=drug),
        subject=record.reference,
        detail=(Paragraph(msg(f"detail.{row}")), Bullet(msg("criterion", dose=dose))),
        values={"row": row},
        evidence=(of_drug(record),),
        resource=record.reference,
    )
