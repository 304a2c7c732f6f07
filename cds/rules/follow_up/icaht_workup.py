"""First and second tier of tests in haematotoxicity after CAR-T cells (handbook table 13)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
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
from cds.rules.after_cart import culture_is_positive, next_course_begun
from cds.rules.dosing.gcsf import refractory
from cds.rules.dosing.icaht import hyperinflammation
from cds.rules.grading.icaht_episode import icaht_now
from cds.rules.grading.icans_episode import icans_now
from cds.rules.work_up import Found, WorkUp, look_for
from fhir_mapping.chart import ConditionState, DrugRecord, Quantity, Result, reaches_the_body

RULE = "follow-up.icaht-workup"
RED_CELLS = ("transfusion_rbc", "red_cells", "red_cells_irradiated", "transfusion_blood")
PLATELETS = ("transfusion_platelets", "platelet_product", "platelets_irradiated")
_NO_SIGNS = frozenset({"none", "headache", "dizziness"})
_NEUROLOGICAL = ("delirium", "encephalopathy", "aphasia", "coma")


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


def _current(case: Case, concept: str) -> Quantity | None:
    within = timedelta(days=case.p(RULE).int("counts_max_age_days"))
    found = case.chart.series(concept).latest(case.now, within, lambda o: o.value.quantity is not None)
    return None if found is None else found.value.quantity


@once_per_case
def _not_recovered(case: Case) -> bool:
    """Counts not recovered at day 14 or later: low ANC or platelets, or a transfusion."""
    day = case.chart.course.last_day(case.today)
    return day is not None and day >= case.p(RULE).int("not_recovered_from_day") and _low_counts(case)


def _recovered(case: Case) -> bool:
    """The current ANC is above the limit and nothing else is low."""
    anc = _current(case, "anc")
    above = anc is not None and anc.above(case.p(RULE)["anc_not_recovered"] / 1000)
    return above is True and not _low_counts(case)


def _low_counts(case: Case) -> bool:
    p = case.p(RULE)
    anc, platelets = _current(case, "anc"), _current(case, "platelets")
    if anc is not None and anc.at_most(p["anc_not_recovered"] / 1000):
        return True
    if platelets is not None and platelets.below(p["platelets_not_recovered"]):
        return True
    since = case.now - timedelta(days=p.int("transfused_within_days"))
    return _transfusions(case, since, *RED_CELLS, *PLATELETS)


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
    since = case.now - timedelta(days=case.p(RULE).int("found_within_days"))
    if any(culture_is_positive(o) for o in case.chart.series("blood_culture").since(since)):
        return False
    load = case.chart.series("cmv_pcr").latest(case.now, None, lambda o: not o.value.empty)
    if load is not None and load.value.result is Result.POSITIVE:
        return False
    return not _toxic_drugs(case)


@once_per_case
def _toxic_drugs(case: Case) -> tuple[DrugRecord, ...]:
    drugs = [str(row["drug"]) for row in case.p(RULE).table("marrow_toxic")]
    return tuple(d for d in case.chart.active_drugs(*drugs) if reaches_the_body(d.route))


@once_per_case
def neurological_signs(case: Case) -> bool:
    """ICANS now, or a neurological diagnosis that is active, or a symptom of the last days (S13)."""
    state = icans_now(case)
    if state is not None and state.low:
        return True
    if any(c.state is ConditionState.ACTIVE for c in case.chart.conditions.of(*_NEUROLOGICAL)):
        return True
    since = case.now - timedelta(days=case.p(RULE).int("found_within_days"))
    return any(set(o.value.codes) - _NO_SIGNS for o in case.chart.series("neuro_symptom").since(since))


def _transfusions(case: Case, since: datetime, *concepts: str) -> bool:
    """One of these was given since then: a procedure, or the product as a medication (B3)."""
    days = [t.start for t in case.chart.procedures.of(*concepts) if t.state.begun]
    days += [d.timing.first for d in case.chart.drugs.of(*concepts) if d.given]
    return any(day is not None and day.latest >= since for day in days)


def _asked(case: Case, when: str) -> bool:
    if when == "neurological":
        return neurological_signs(case)
    if when == "hlh":
        return hyperinflammation(case)
    if when == "anaemia":
        since = case.now - timedelta(days=case.p(RULE).int("anaemia_days"))
        coded = any(c.state is ConditionState.ACTIVE for c in case.chart.conditions.of("anemia"))
        return coded or _transfusions(case, since, *RED_CELLS)
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


@once_per_case
def wanted(case: Case) -> bool:
    """ICAHT of grade 1 or more, or counts that have not recovered, of a course that has not ended."""
    state = icaht_now(case)
    if state is None or state.ended == "next-therapy" or next_course_begun(case):
        return False
    if case.chart.patient.deceased:
        return False
    return bool(_grade(case)) or _not_recovered(case)


@rule(RULE)
def work_up_icaht(case: Case) -> Iterator[Finding]:
    """One checklist card while counts are low."""
    day = case.chart.course.last_day(case.today)
    if day is None or not wanted(case):
        return
    grade = _grade(case)
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
    urgent = bool(missing) and (late or not opened) and not _recovered(case)
    shown = Items(tuple(Name(line.item) for line in missing[:4])) if missing else msg("all-found")
    yield Finding(
        rule=RULE,
        outcome=Outcome.INCOMPLETE if missing else Outcome.READY_WITH_POINTS,
        indicator=Indicator.WARNING if urgent else Indicator.INFO,
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
