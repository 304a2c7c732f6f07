"""First and second tier of tests in haematotoxicity after CAR-T cells (handbook table 13)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from cards.finding import (
    Block,
    Bullet,
    Create,
    Finding,
    Indicator,
    Items,
    Name,
    Outcome,
    Paragraph,
    Selection,
    ServiceProposal,
    Suggestion,
    Table,
    msg,
)
from cds.engine.case import Case, once_per_case
from cds.engine.rule import rule
from cds.rules.dosing.gcsf import refractory
from cds.rules.dosing.icaht import hyperinflammation
from cds.rules.grading.icaht_episode import icaht_now
from cds.rules.grading.icans_episode import icans_now
from cds.rules.work_up import Found, WorkUp, look_for
from fhir_mapping.chart import ConditionState, DrugRecord, Result

RULE = "follow-up.icaht-workup"
TRANSFUSIONS = ("transfusion_rbc", "transfusion_platelets", "transfusion_blood")


@dataclass(frozen=True, slots=True)
class Line:
    """One test of a tier and what the chart shows of it."""

    item: str
    order: str
    found: WorkUp


def _lines(case: Case, rows: Sequence[Mapping[str, Any]]) -> tuple[Line, ...]:
    since = case.now - timedelta(days=case.p(RULE).int("found_within_days"))
    lines = []
    for row in rows:
        found = look_for(case, since, *row["any"])
        members = [look_for(case, since, concept) for concept in row.get("members", ())]
        if not found.covered and members and all(member.covered for member in members):
            found = members[0]
        lines.append(Line(str(row["item"]), str(row.get("order", row["any"][0])), found))
    return tuple(lines)


@once_per_case
def _not_recovered(case: Case) -> bool:
    """Counts not recovered at day 14 or later: low ANC or platelets, or a transfusion."""
    p = case.p(RULE)
    day = case.chart.course.last_day(case.today)
    if day is None or day < p.int("not_recovered_from_day"):
        return False
    within = timedelta(days=p.int("counts_max_age_days"))
    anc = case.chart.series("anc").latest(case.now, within)
    if anc is not None and anc.value.quantity and anc.value.quantity.at_most(p["anc_not_recovered"] / 1000):
        return True
    platelets = case.chart.series("platelets").latest(case.now, within)
    count = None if platelets is None else platelets.value.quantity
    if count is not None and count.below(p["platelets_not_recovered"]):
        return True
    since = case.now - timedelta(days=p.int("transfused_within_days"))
    return any(
        t.state.begun and t.start is not None and t.start.latest >= since
        for t in case.chart.procedures.of(*TRANSFUSIONS)
    )


def _grade(case: Case) -> int:
    state = icaht_now(case)
    if state is None:
        return 0
    if state.late is not None:
        return state.late.grade if state.late.grade is not None else state.late.would_be
    return state.early.low if state.early is not None else 0


def _tier1_negative(case: Case, lines: tuple[Line, ...]) -> bool:
    """Everything of the first tier resulted and nothing in it names a cause."""
    if not all(line.found.found is Found.DONE for line in lines):
        return False
    for concept in ("blood_culture", "cmv_pcr"):
        latest = case.chart.latest(concept)
        if latest is not None and latest.value.result is Result.POSITIVE:
            return False
    return not _toxic_drugs(case)


@once_per_case
def _toxic_drugs(case: Case) -> tuple[DrugRecord, ...]:
    drugs = [str(row["drug"]) for row in case.p(RULE).table("marrow_toxic")]
    return case.chart.active_drugs(*drugs)


def _asked(case: Case, when: str) -> bool:
    if when == "neurological":
        state = icans_now(case)
        return bool(state is not None and state.low)
    if when == "hlh":
        return hyperinflammation(case)
    if when == "anaemia":
        return any(c.state is ConditionState.ACTIVE for c in case.chart.conditions.of("anemia")) or any(
            t.state.begun for t in case.chart.procedures.of("transfusion_rbc")
        )
    return True


def _table(lines: tuple[Line, ...]) -> Table:
    rows = tuple(
        (
            Name(line.item),
            msg(f"found.{line.found.found.value}"),
            line.found.when if line.found.when is not None else msg("no-date"),
        )
        for line in lines
    )
    return Table((msg("head.test"), msg("head.found"), msg("head.when")), rows)


def _orders(lines: tuple[Line, ...]) -> tuple[Suggestion, ...]:
    missing = [line for line in lines if not line.found.covered]
    if not missing:
        return ()
    actions = tuple(Create(ServiceProposal(line.order)) for line in missing)
    return (Suggestion("tests", msg("suggest.tests", count=len(missing)), actions, True),)


@rule(RULE)
def work_up_icaht(case: Case) -> Iterator[Finding]:
    """One checklist card while counts are low."""
    day = case.chart.course.last_day(case.today)
    if day is None or day < 1:
        return
    grade = _grade(case)
    if not grade and not _not_recovered(case):
        return
    p = case.p(RULE)
    first = _lines(case, p.table("tier1"))
    unresponsive, negative = refractory(case) is True, _tier1_negative(case, first)
    opened = unresponsive or negative
    second: tuple[Line, ...] = ()
    if opened:
        second = _lines(case, [row for row in p.table("tier2") if _asked(case, str(row["when"]))])
    lines = (*first, *second)
    missing = [line for line in lines if not line.found.covered]
    toxic = _toxic_drugs(case)
    if not missing and not toxic:
        return
    late = day > p.int("upgraded_after_day")
    detail: list[Block] = [_table(lines)]
    if toxic:
        names = tuple(Name(d.ingredients[0]) for d in toxic if d.ingredients)
        detail.append(Bullet(msg("toxic", drugs=Items(names))))
    if opened:
        detail.append(Bullet(msg("opened.refractory" if unresponsive else "opened.negative")))
        if not late:
            detail.append(Bullet(msg("opened.early", day=p.int("upgraded_after_day"))))
    detail.append(Paragraph(msg("criterion", day=p.int("not_recovered_from_day"))))
    tier = 2 if opened else 1
    shown = Items(tuple(Name(line.item) for line in missing[:4])) if missing else msg("all-found")
    yield Finding(
        rule=RULE,
        outcome=Outcome.INCOMPLETE if missing else Outcome.READY_WITH_POINTS,
        indicator=Indicator.WARNING if missing and (late or not opened) else Indicator.INFO,
        summary=msg("summary", tier=tier, count=len(missing), tests=shown),
        detail=tuple(detail),
        values={
            "row": f"tier-{tier}",
            "tier": tier,
            "icaht_grade": grade,
            "day": day,
            "not_found": [line.item for line in missing],
            "marrow_toxic": [d.ingredients[0] for d in toxic if d.ingredients],
        },
        evidence=tuple(e for line in lines for e in line.found.evidence),
        suggestions=_orders(lines),
        selection=Selection.ANY,
    )
