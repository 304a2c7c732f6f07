"""Daily tests and other causes in IEC-HS: what the chart does not show.

Hines MR, TCT 2023;29:438; handbook section 3.1.4. "Not found" is never "not done".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from cards.finding import (
    Block,
    Bullet,
    Create,
    Days,
    Evidence,
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
from cds.engine.case import Case
from cds.engine.rule import rule
from cds.rules.after_cart import therapy_start
from cds.rules.evidence import of_fact, of_observation
from cds.rules.follow_up.response import last_relapse, relapse_is_over
from cds.rules.grading.hlh_signs import criteria, ferritin_evidence
from cds.rules.grading.iec_hs_episode import IecHsState, Status, iec_hs_now
from cds.rules.work_up import Found, WorkUp, look_for
from fhir_mapping.chart import ConditionState, Observation, Result

RULE = "follow-up.iec-hs-workup"
# shown as; every group must be there, any of the names of a group will do; or the panel as a whole
DAILY: tuple[tuple[str, tuple[tuple[str, ...], ...], str], ...] = (
    ("cbc_panel", (("wbc",), ("hemoglobin",), ("platelets",)), "cbc_panel"),
    ("anc", (("anc", "alc"),), ""),
    ("pt", (("pt", "inr"),), ""),
    ("aptt", (("aptt",),), ""),
    ("fibrinogen", (("fibrinogen",),), ""),
    ("alt", (("alt", "ast"),), "metabolic_panel"),
    ("bilirubin_total", (("bilirubin_total",),), "metabolic_panel"),
    ("creatinine", (("creatinine",),), "metabolic_panel"),
    ("ferritin", (("ferritin",),), ""),
)
VIRUSES = (
    "hsv_pcr",
    "vzv_pcr",
    "cmv_pcr",
    "ebv_pcr",
    "hhv6_pcr",
    "adenovirus_pcr",
    "enterovirus_pcr",
    "parvovirus_b19_pcr",
)
OPTIONAL = (
    "soluble_cd25",
    "nk_function",
    "triglycerides",
    "ifn_gamma",
    "cxcl9",
    "cxcl10",
    "il10",
    "il18",
)


@dataclass(frozen=True, slots=True)
class Cause:
    """Another cause of hyperinflammation that the chart shows."""

    concept: str
    evidence: Evidence


def _daily(case: Case) -> tuple[WorkUp, ...]:
    """Each daily test: done within the day, ordered within it, or overdue."""
    since = case.now - timedelta(hours=case.p(RULE).int("daily_hours"))
    found = []
    for shown_as, groups, panel_name in DAILY:
        panel = look_for(case, since, panel_name) if panel_name else None
        parts = [look_for(case, since, *names) for names in groups]
        oldest = min(
            (p for p in parts if p.found is Found.DONE and p.when is not None),
            key=lambda p: p.when.latest if p.when is not None else since,
            default=None,
        )
        if all(p.found is Found.DONE for p in parts) and oldest is not None:
            found.append(WorkUp(Found.DONE, shown_as, oldest.when, oldest.reference))
            continue
        if panel is not None and panel.found is Found.DONE:
            found.append(WorkUp(Found.DONE, shown_as, panel.when, panel.reference))
            continue
        ordered = [p for p in (*parts, *((panel,) if panel is not None else ())) if _fresh_order(p, since)]
        whole = panel is not None and panel in ordered
        if whole or (ordered and all(p in ordered or p.found is Found.DONE for p in parts)):
            found.append(WorkUp(Found.ORDERED, shown_as, ordered[-1].when, ordered[-1].reference))
        else:
            found.append(WorkUp(Found.NOT_FOUND, shown_as))
    return tuple(found)


def _fresh_order(item: WorkUp, since: datetime) -> bool:
    return item.found is Found.ORDERED and item.when is not None and item.when.latest >= since


def _positive(observation: Observation) -> bool:
    quantity = observation.value.quantity
    if observation.value.result is not None:
        return observation.value.result is Result.POSITIVE
    return quantity is not None and quantity.above(0) is True


def _causes(case: Case, since: datetime) -> Iterator[Cause]:
    for concept in VIRUSES:
        newest = case.chart.series(concept).latest(case.now, case.now - since, lambda o: not o.value.empty)
        if newest is not None and _positive(newest):
            yield Cause(concept, of_observation(newest))
    progression = last_relapse(case)
    if progression is not None and not relapse_is_over(case):
        yield Cause("disease_response", progression.evidence)
    for condition in case.chart.conditions.of("ptld", "second_malignancy"):
        if condition.state is ConditionState.ACTIVE:
            concept = "ptld" if "ptld" in condition.concepts else "second_malignancy"
            yield Cause(concept, of_fact(condition, concept))


def _ferritin_gap_days(case: Case) -> int:
    """Calendar days without a ferritin since the first of the last week; today does not count yet."""
    week = case.today - timedelta(days=case.p(RULE).int("trend_days"))
    days = {o.when.date for o in case.chart.series("ferritin") if o.when.day_known and o.when.date >= week}
    if not days:
        return 0
    first = min(days)
    return sum(first + timedelta(days=n) not in days for n in range((case.today - first).days))


@rule(RULE)
def work_up_iec_hs(case: Case) -> Iterator[Finding]:
    """A checklist while IEC-HS is at least possible."""
    state = iec_hs_now(case)
    if (
        state is None
        or case.chart.patient.deceased
        or not (state.open_episode or state.status.rank >= Status.POSSIBLE.rank)
    ):
        return
    p = case.p(RULE)
    since = state.onset - timedelta(days=p.int("virus_days"))
    daily = _daily(case)
    viruses = tuple(look_for(case, since, concept) for concept in VIRUSES)
    start = therapy_start(case)
    assert start is not None
    status = look_for(case, start, "disease_response", "mrd", "pet_ct")
    causes = tuple(_causes(case, since))
    gap = _ferritin_gap_days(case)
    items = (*daily, *viruses, WorkUp(status.found, "disease_response", status.when, status.reference))
    open_items = tuple(i for i in items if not i.covered)
    names = Items(tuple(Name(i.concept) for i in open_items[:3]))
    outcome, indicator = Outcome.READY, None
    summary = msg("summary.complete")
    if open_items:
        outcome, indicator = Outcome.INCOMPLETE, Indicator.WARNING
        summary = msg("summary.missing", count=len(open_items), items=names)
    elif causes or gap:
        outcome, indicator = Outcome.READY_WITH_POINTS, Indicator.WARNING if causes else Indicator.INFO
        summary = msg("summary.points")
    overdue = [i.concept for i in daily if not i.covered]
    yield Finding(
        rule=RULE,
        outcome=outcome,
        indicator=indicator,
        summary=summary,
        detail=tuple(_detail(case, state, items, causes, gap)),
        values={
            "row": open_items[0].concept if open_items else "complete",
            "not_found": [i.concept for i in open_items],
            "overdue": overdue,
            "competing_causes": [c.concept for c in causes],
            "ferritin_missing_days": gap,
        },
        evidence=tuple(
            dict.fromkeys(
                (
                    *ferritin_evidence(case),
                    *(c.evidence for c in causes),
                    *(e for i in items for e in i.evidence),
                )
            )
        ),
        suggestions=_suggestions(open_items),
        selection=Selection.ANY,
    )


def _detail(
    case: Case, state: IecHsState, items: tuple[WorkUp, ...], causes: tuple[Cause, ...], gap: int
) -> Iterator[Block]:
    rows = []
    for item in sorted(items, key=lambda i: i.covered):
        when = msg("at", when=item.when) if item.when is not None else msg("no-date")
        rows.append((Name(item.concept), msg(f"found.{item.found}"), when))
    yield Table((msg("head.item"), msg("head.status"), msg("head.when")), tuple(rows))
    for cause in causes:
        yield Bullet(msg("cause", name=Name(cause.concept)))
    if gap:
        yield Bullet(msg("ferritin-gap", days=Days(gap)))
    marrow = next(c for c in criteria(case) if c.key == "C4")
    if marrow.assessed:
        yield Bullet(msg("marrow.present" if marrow.hits else "marrow.absent"))
    else:
        yield Bullet(msg("marrow.open"))
    yield Bullet(msg("optional", items=Items(tuple(Name(c) for c in OPTIONAL))))
    yield Bullet(msg("exclude"))
    yield Paragraph(msg("not-found-means"))


def _suggestions(open_items: tuple[WorkUp, ...]) -> tuple[Suggestion, ...]:
    orderable = tuple(i.concept for i in open_items if i.concept != "disease_response")
    if not orderable:
        return ()
    actions = tuple(Create(ServiceProposal(concept, reason="iec_hs")) for concept in orderable)
    return (Suggestion("needed", msg("suggest.needed", count=len(orderable)), actions, True),)
