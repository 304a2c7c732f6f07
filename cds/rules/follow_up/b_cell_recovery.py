"""End of B-cell aplasia after CD19-directed CAR-T cells."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum

from cards.finding import (
    Bullet,
    Evidence,
    Finding,
    Indicator,
    Message,
    Missing,
    Outcome,
    Paragraph,
    Table,
    msg,
)
from cds.engine.case import Case, once_per_case
from cds.engine.rule import rule
from cds.rules import evidence
from cds.rules.follow_up.response import B_ALL, has_disease, remission
from fhir_mapping.chart import Amount, Observation, Quantity, Result, add_months

RULE = "follow-up.b-cell-recovery"
TARGETS = frozenset({"CD19", "CD20"})
DENOMINATORS = {"leukocytes": "leukocytes", "lymphocytes": "lymphocytes"}


class Share(StrEnum):
    """What one sample shows."""

    RECOVERED = "recovered"
    NOT_SHOWN = "not-shown"
    UNDETERMINED = "undetermined"


@dataclass(frozen=True, slots=True)
class Sample:
    """One day's B cells. Shares in percent, bounds included; None: not on the chart for that day."""

    day: date
    share: Share
    of_leukocytes: Quantity | None = None
    of_lymphocytes: Quantity | None = None
    unknown_denominator: Quantity | None = None
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class BCells:
    """`state` of the newest evidence: recovered since `recovered_on`, or what the newest sample shows.
    `since`: day from which samples count; `from_remission` False: the infusion day, no remission known."""

    state: Share | None
    since: date | None
    from_remission: bool
    recovered_on: date | None = None
    samples: tuple[Sample, ...] = ()
    unjudged: date | None = None  # newest day of a result that gives no share

    @property
    def aplasia(self) -> bool:
        return self.state is Share.NOT_SHOWN


def _same_day(case: Case, concept: str, day: date) -> Observation | None:
    """The day's newest result with a number."""
    results = case.chart.series(concept).on(day)
    return next((o for o in reversed(results) if o.value.quantity is not None), None)


def _number(observation: Observation | None) -> Quantity | None:
    return None if observation is None else observation.value.quantity


def _share_of(cells: Quantity, total: Quantity) -> Quantity | None:
    """Percent of a total count (/uL over 10*3/uL), a bound where the cells are one; None where the total is
    no number to divide by."""
    if total.comparator or not total.value:
        return None
    return Quantity(cells.value / (total.value * 1000) * 100, "%", cells.comparator)


def _sample(case: Case, day: date) -> Sample | None:
    p = case.p(RULE)
    shown: list[Evidence] = []
    leukocytes: Quantity | None = None
    lymphocytes: Quantity | None = None
    bare: Quantity | None = None
    for concept in ("cd19_of_leukocytes", "cd19_of_lymphocytes", "cd19_pct"):
        found = _same_day(case, concept, day)
        value = _number(found)
        if found is None or value is None or found.reference in {item.reference for item in shown}:
            continue  # a percentage whose method names the denominator is read as both
        shown.append(evidence.of_observation(found))
        told = found.component("cd19_denominator")
        codes = () if told is None else told.codes
        if concept == "cd19_of_leukocytes" or "leukocytes" in codes:
            leukocytes = value
        elif concept == "cd19_of_lymphocytes" or "lymphocytes" in codes:
            lymphocytes = value
        else:
            bare = value
    count = _same_day(case, "cd19_abs", day)
    cells = _number(count)
    if count is not None and cells is not None:
        for concept in ("wbc", "alc"):
            other = _same_day(case, concept, day)
            total = _number(other)
            share = None if total is None else _share_of(cells, total)
            if other is None or share is None:
                continue
            shown += [evidence.of_observation(count), evidence.of_observation(other)]
            if concept == "wbc" and leukocytes is None:
                leukocytes = share
            elif concept == "alc" and lymphocytes is None:
                lymphocytes = share
        if cells.at_most(0) and leukocytes is None:
            leukocytes = Quantity(Decimal(0), "%")
            shown.append(evidence.of_observation(count))
    answer = _judged(leukocytes, lymphocytes, bare, p["leukocytes_percent"], p["lymphocytes_percent"])
    if answer is None:
        return None
    return Sample(day, answer, leukocytes, lymphocytes, bare, tuple(dict.fromkeys(shown)))


def _judged(
    leukocytes: Quantity | None,
    lymphocytes: Quantity | None,
    bare: Quantity | None,
    of_leukocytes: Decimal,
    of_lymphocytes: Decimal,
) -> Share | None:
    """>= 1 % of leukocytes or >= 3 % of lymphocytes; a percentage without denominator decides only where
    both readings agree, a bound only where it lies beyond its limit."""
    known = [
        value.at_least(limit)
        for value, limit in ((leukocytes, of_leukocytes), (lymphocytes, of_lymphocytes))
        if value is not None
    ]
    if True in known or (bare is not None and bare.at_least(of_lymphocytes)):
        return Share.RECOVERED
    if bare is not None and bare.at_least(of_leukocytes) and len(known) < 2:
        return Share.UNDETERMINED
    if False in known or (bare is not None and bare.at_least(of_leukocytes) is False):
        return Share.NOT_SHOWN
    return None


@once_per_case
def b_cells(case: Case) -> BCells:
    """B cells since remission (else since infusion)."""
    start = case.chart.course.last_day0
    first = remission(case)
    since = start if first is None or first.day is None else first.day
    days: set[date] = set()
    for concept in ("cd19_of_leukocytes", "cd19_of_lymphocytes", "cd19_pct", "cd19_abs"):
        days |= set(case.chart.series(concept).by_day())
    samples, unjudged = [], None
    for day in sorted(days):
        if since is not None and day >= since and (start is None or day > start):
            sample = _sample(case, day)
            if sample is not None:
                samples.append(sample)
            else:
                unjudged = day
    recovered = next((s for s in samples if s.share is Share.RECOVERED), None)
    if recovered is not None:
        return BCells(Share.RECOVERED, since, first is not None, recovered.day, tuple(samples))
    newest = samples[-1] if samples else None
    state = None if newest is None else newest.share
    return BCells(state, since, first is not None, None, tuple(samples), unjudged)


def targets_b_cells(case: Case) -> bool | None:
    """The product acts on CD19 or CD20; None where the product is not told."""
    product = case.chart.course.infused_product
    if product is None or not product.target:
        return None
    return product.target in TARGETS


@rule(RULE)
def b_cell_recovery(case: Case) -> Iterator[Finding]:
    """Recovered since when, still aplastic, or undetermined."""
    p = case.p(RULE)
    start = case.chart.course.last_day0
    if start is None or case.chart.patient.deceased or targets_b_cells(case) is False:
        return
    if (case.today - start).days < p.int("first_day"):
        return
    if targets_b_cells(case) is None:
        missing = (Missing("car_t_infusion"),)
        yield Finding(
            RULE,
            Outcome.UNKNOWN,
            None,
            msg("summary.no-target"),
            values={"row": "target"},
            missing=missing,
            unconcluded=True,
        )
        return
    found = b_cells(case)
    yield _not_judged(case, found) if found.state is None else _card(case, found, start)


def _not_judged(case: Case, found: BCells) -> Finding:
    day = found.unjudged
    count = None if day is None else _same_day(case, "cd19_abs", day)
    row, needed = "no-count", ["cd19_abs"]
    totals = ["wbc", "alc"]
    if day is None:
        summary = msg("summary.no-count")
    elif count is None or any(_same_day(case, total, day) is not None for total in totals):
        summary = msg("summary.bound", day=day)
    else:
        row, summary, needed = "no-total", msg("summary.no-total", day=day), totals
    return Finding(
        RULE,
        Outcome.UNKNOWN,
        None,
        summary,
        values={"row": row},
        evidence=() if count is None else (evidence.of_observation(count),),
        missing=tuple(Missing(concept) for concept in needed),
        unconcluded=True,
    )


def _card(case: Case, found: BCells, start: date) -> Finding:
    p = case.p(RULE)
    months = p.int("early_loss_months")
    decisive = next((s for s in found.samples if s.day == found.recovered_on), found.samples[-1])
    values: dict[str, str | int | bool | Decimal | date] = {"from_remission": found.from_remission}
    notes: list[Bullet] = []
    indicator = Indicator.INFO
    if found.state is Share.RECOVERED and found.recovered_on is not None:
        early = has_disease(case, *B_ALL) and found.recovered_on <= add_months(start, months)
        outcome = Outcome.RECOVERED
        values |= {"recovered_on": found.recovered_on, "recovered_days": (found.recovered_on - start).days}
        if early:
            if case.today <= add_months(start, p.int("early_loss_warning_months")):
                indicator = Indicator.WARNING
            summary = msg("summary.early", day=found.recovered_on, months=months)
            notes.append(Bullet(msg("detail.early")))
        else:
            summary = msg("summary.recovered", day=found.recovered_on)
        row = "early" if early else "recovered"
    elif found.state is Share.UNDETERMINED:
        outcome, row = Outcome.UNKNOWN, "undetermined"
        summary = msg("summary.undetermined", day=decisive.day)
        notes.append(Bullet(msg("detail.denominator")))
    else:
        outcome, row = Outcome.NOT_RECOVERED, "aplasia"
        summary = msg("summary.aplasia", day=decisive.day)
        notes.append(Bullet(msg("detail.functional")))
    if not found.from_remission:
        notes.append(Bullet(msg("detail.from-infusion")))
    persistence = case.chart.latest("cart_persistence")
    shown = list(decisive.evidence)
    if persistence is not None and not persistence.value.empty:
        undetectable = persistence.value.result is Result.NEGATIVE
        key = "detail.persistence-negative" if undetectable else "detail.persistence"
        notes.append(Bullet(msg(key, day=persistence.when.date)))
        shown.append(evidence.of_observation(persistence))
    for key, value in (
        ("cd19_of_leukocytes_percent", decisive.of_leukocytes),
        ("cd19_of_lymphocytes_percent", decisive.of_lymphocytes),
        ("cd19_percent", decisive.unknown_denominator),
    ):
        if value is not None:
            values[key] = evidence.figure(_percent(value))
    return Finding(
        rule=RULE,
        outcome=outcome,
        indicator=indicator,
        summary=summary,
        detail=(_table(case, decisive), Paragraph(msg("detail.criterion", **_limits(case))), *notes),
        values={"row": row, "sample_day": decisive.day, **values},
        evidence=tuple(shown),
    )


def _limits(case: Case) -> dict[str, Amount | int]:
    p = case.p(RULE)
    return {
        "leukocytes": Amount(p["leukocytes_percent"], "%"),
        "lymphocytes": Amount(p["lymphocytes_percent"], "%"),
    }


def _percent(share: Quantity) -> Quantity:
    return Quantity(share.value.quantize(Decimal("0.01")).normalize() + 0, "%", share.comparator)


def _table(case: Case, sample: Sample) -> Table:
    rows: list[tuple[Message, date, Quantity]] = []
    for key, value in (
        ("row.leukocytes", sample.of_leukocytes),
        ("row.lymphocytes", sample.of_lymphocytes),
        ("row.unknown", sample.unknown_denominator),
    ):
        if value is not None:
            rows.append((msg(key), sample.day, _percent(value)))
    return Table((msg("header.share"), msg("header.day"), msg("header.value")), tuple(rows))
