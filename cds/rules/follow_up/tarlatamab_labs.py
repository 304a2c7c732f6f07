"""Which laboratory tests are missing before a tarlatamab dose, in CRS and between doses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from cards.finding import (
    Bullet,
    Create,
    Days,
    Finding,
    Indicator,
    Items,
    Message,
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
from cds.engine.rule import rule
from cds.rules.bispecific import labs
from cds.rules.bispecific.holds.state import hold_state
from cds.rules.bispecific.tarlatamab import (
    before_first_dose,
    dosed,
    live_orders,
    next_due,
    on_treatment,
    under_judgement,
)
from cds.rules.bispecific.toxicity import crs_history
from cds.rules.grading.crs_tarlatamab import tarlatamab_crs
from cds.rules.readiness.tarlatamab_pregnancy import Potential, potential
from fhir_mapping.chart import Moment, Result, whole_day

RULE = "follow-up.tarlatamab-labs"
CRS_TESTS = (
    "pt",
    "aptt",
    "fibrinogen",
    "d_dimer_unspecified",
    "anc",
    "platelets",
    "hemoglobin",
    "creatinine",
    "alt",
    "ast",
    "bilirubin_total",
    "ecg",
    "chest_xray",
)
_D_DIMERS = ("d_dimer_feu", "d_dimer_ddu", "d_dimer_unspecified")


@rule(RULE)
def tarlatamab_labs(case: Case) -> Iterator[Finding]:
    judged = under_judgement(case)
    if case.ordering:
        if judged:
            planned = labs.planned_start(case, judged[0].planned.record)
            yield from _before_dose(case, planned, judged[0].reference)
        return
    if not on_treatment(case):
        return
    start = _next_start(case)
    if start is not None:
        yield from _before_dose(case, start, "")
    yield from _in_crs(case)
    yield from _between(case)


def _next_start(case: Case) -> Moment | None:
    """The next planned or due dose, when its results may be drawn already; None while it lies further off."""
    planned = sorted(
        (
            o.timing.first
            for o in live_orders(case)
            if o.timing.first is not None and o.timing.first.date >= case.today
        ),
        key=lambda m: m.earliest,
    )
    if planned:
        start = planned[0]
    else:
        due = next_due(case)
        if due is None or not dosed(case) or due.earliest is None:
            return None
        start = whole_day(max(due.earliest, case.today), case.now)
    window = timedelta(days=case.p("readiness.tarlatamab").int("pre_dose_lab_max_age_days"))
    return start if start.earliest - case.now <= window else None


def _names(concepts: Iterable[str]) -> Items:
    return Items(tuple(Name(concept) for concept in concepts))


def _orders(key: str, label: Message, tests: Iterable[str], *, recommended: bool) -> Suggestion:
    creates = tuple(Create(ServiceProposal(test)) for test in tests)
    return Suggestion(key, label, creates, recommended=recommended)


def _before_dose(case: Case, start: Moment, reference: str) -> Iterator[Finding]:
    first = before_first_dose(case)
    p = case.p("readiness.tarlatamab")
    wanted = (*labs.CBC, *labs.LIVER, "ggt") if first else (*labs.CBC, *labs.LIVER)
    days = p.int("pre_dose_lab_max_age_days")
    missing = [gap.missing for gap in labs.gaps(case, wanted, start, days)]
    if first:
        missing += labs.hepatitis_gaps(case, p.int("hbv_max_age_days"))
        missing += _pregnancy(case, start)
    if not missing:
        return
    tests = tuple(dict.fromkeys(m.concept for m in missing))
    values: dict[str, Scalar | list[Scalar]] = {
        "row": "before-first-dose" if first else "before-dose",
        "tests": list(tests),
        "planned_date": start.date,
    }
    key = "summary.first" if first else "summary.every"
    yield Finding(
        rule=RULE,
        outcome=Outcome.DUE,
        indicator=Indicator.WARNING,
        summary=msg(key, count=len(tests), day=start.date),
        subject=reference,
        detail=(
            Bullet(msg("detail.missing", tests=_names(tests))),
            Paragraph(msg("detail.first" if first else "detail.every", days=Days(days))),
        ),
        values=values,
        missing=tuple(missing),
        resource=reference,
        suggestions=(_orders("labs", msg("suggest.labs"), tests, recommended=True),),
    )


def _pregnancy(case: Case, start: Moment) -> list[Missing]:
    if potential(case) is not Potential.YES:
        return []
    limit = case.p("readiness.tarlatamab-pregnancy").int("pregnancy_test_max_age_days")
    for concept in ("hcg_serum_qual", "hcg_serum_quant", "hcg_urine"):
        newest = case.chart.latest(concept)
        told = newest is not None and newest.value.result in (Result.POSITIVE, Result.NEGATIVE)
        if told and newest is not None and (start.date - newest.when.first_date).days <= limit:
            return []
    return [Missing("hcg_serum_qual")]


def _in_crs(case: Case) -> Iterator[Finding]:
    """CRS of any grade: tests to consider, none preselected."""
    found, history = tarlatamab_crs(case), crs_history(case)
    unresolved = history is not None and history.unresolved
    if not unresolved and (found is None or found.outside or found.grade is None):
        return
    since = case.now - timedelta(hours=float(case.p(RULE)["crs_fresh_hours"]))
    open_tests = [test for test in CRS_TESTS if not _done(case, test, since)]
    if not open_tests:
        return
    yield Finding(
        rule=RULE,
        outcome=Outcome.CONSIDER,
        indicator=Indicator.INFO,
        summary=msg("summary.crs"),
        subject="crs",
        detail=(Bullet(msg("detail.consider", tests=_names(open_tests))), Paragraph(msg("detail.crs"))),
        values={"row": "crs", "tests": list(open_tests)},
        suggestions=(_orders("crs", msg("suggest.crs"), open_tests, recommended=False),),
    )


def _done(case: Case, test: str, since: datetime) -> bool:
    concepts = _D_DIMERS if test == "d_dimer_unspecified" else (test,)
    for concept in concepts:
        newest = case.chart.latest(concept)
        if newest is not None and newest.when.latest >= since:
            return True
    return False


def _between(case: Case) -> Iterator[Finding]:
    """A grade 3-4 episode is open: its failing test again within the week."""
    limit = case.p(RULE).int("repeat_days")
    due = []
    for row in hold_state(case).rows:
        for test in row.labs:
            newest = labs.newest(case, test)
            if newest is None or (case.today - newest.when.first_date).days >= limit:
                due.append(test)
    tests = tuple(dict.fromkeys(due))
    if tests:
        yield Finding(
            rule=RULE,
            outcome=Outcome.DUE,
            indicator=Indicator.INFO,
            summary=msg("summary.repeat", tests=_names(tests[:3])),
            subject="repeat",
            detail=(Bullet(msg("detail.repeat", tests=_names(tests), days=Days(limit))),),
            values={"row": "repeat", "tests": list(tests)},
            suggestions=(_orders("repeat", msg("suggest.repeat"), tests, recommended=False),),
        )
