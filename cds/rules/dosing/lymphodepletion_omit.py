"""Low white cells before lymphodepletion: give or omit, and infusion without lymphodepletion.

Sources disagree; the default of every row is to give, omission is never offered as an order.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from cards.finding import (
    Block,
    Bullet,
    Create,
    Evidence,
    Finding,
    Indicator,
    Outcome,
    Paragraph,
    Scalar,
    ServiceProposal,
    Shown,
    Suggestion,
    msg,
)
from cds.engine.case import Case
from cds.engine.rule import rule
from cds.rules.disease import disease_evidence
from cds.rules.dosing.ldc import orders
from cds.rules.dosing.white_cells import missing_count, per_ul, week_before
from cds.rules.evidence import figure, of_observation
from cds.rules.readiness.phase import collected
from fhir_mapping.chart import ConditionState, Flag, Moment, Observation

RULE = "dosing.lymphodepletion-omit"


def infusion_order(case: Case) -> tuple[str, Moment | None] | None:
    """The infusion order of this hook with its time; None where none is judged."""
    for draft in case.judged_drugs("class_cell_gene_therapy", "car_t_infusion"):
        return draft.reference, _dated(draft.timing.first, draft.timing.flags)
    for service in case.judged_services("car_t_infusion"):
        return service.reference, _dated(service.when, service.flags)
    return None


def _dated(when: Moment | None, flags: frozenset[Flag]) -> Moment | None:
    """The day an order was written is no day of infusion."""
    return None if Flag.AUTHORED_DATE in flags else when


def recent_lymphodepletion(case: Case, day0: date) -> bool:
    """Lymphodepletion, given or planned, ends within the weeks before the day."""
    last = case.chart.course.ldc_last
    if last is None:
        return bool(case.chart.course.ldc_events) and case.chart.course.ldc_first is None
    moment = last.end or last.when
    if moment is None:
        return True
    return 0 <= (day0 - moment.date).days <= case.p(RULE).int("without_ldc_days")


def _white_cells(case: Case, day0: date | None) -> Observation | None:
    return week_before(case, "wbc", day0, case.p(RULE).int("window_days"))


def _order_counts() -> Suggestion:
    return Suggestion("counts", msg("suggest.counts"), (Create(ServiceProposal("cbc_panel")),))


def _neutropenia(case: Case, resource: str) -> Iterator[Finding]:
    """O4: a neutropenia recorded before the infusion for which nobody named a cause."""
    for condition in case.chart.conditions.of("neutropenia", "febrile_neutropenia"):
        if condition.state is not ConditionState.ACTIVE or condition.attributed_to:
            continue
        yield Finding(
            rule=RULE,
            outcome=Outcome.CAUTION,
            indicator=Indicator.WARNING,
            summary=msg("summary.O4"),
            subject="neutropenia",
            detail=(Paragraph(msg("detail.O4")),),
            values={"row": "O4"},
            evidence=(Evidence(condition.reference, "neutropenia", effective=condition.onset),),
            resource=resource,
        )
        return


def _unknown(case: Case, resource: str) -> Finding:
    return Finding(
        rule=RULE,
        outcome=Outcome.UNKNOWN,
        indicator=Indicator.INFO,
        summary=msg("summary.O5"),
        subject="counts",
        detail=(Paragraph(msg("detail.O5", days=case.p(RULE).int("window_days"))),),
        values={"row": "O5"},
        missing=(missing_count(case, "wbc"),),
        resource=resource,
        suggestions=(_order_counts(),),
        unconcluded=True,
    )


def _lymphodepletion(case: Case, resource: str) -> Iterator[Finding]:
    """O1 to O5 on a lymphodepletion order."""
    numbers = case.p(RULE)
    day0 = case.chart.course.day0_any
    test = _white_cells(case, day0)
    count = None if test is None else per_ul(test)
    few = None if count is None else count.at_most(numbers["wbc_per_ul"])
    if test is None or count is None or few is None:
        yield _unknown(case, resource)
        return
    lymphocytes = week_before(case, "alc", day0, numbers.int("window_days"))
    alc = None if lymphocytes is None else per_ul(lymphocytes)
    values: dict[str, Scalar] = {"wbc_per_ul": figure(count)}
    evidence = [of_observation(test), *disease_evidence(case)]
    shown: dict[str, Shown] = {"wbc": figure(count), "limit": numbers["wbc_per_ul"]}
    if few:
        values["row"] = "O1"
        at_limit = count.value == numbers["wbc_per_ul"] and not count.comparator
        detail: list[Block] = [Paragraph(msg("detail.O1", **shown))]
        if at_limit:
            values["at_limit"] = True
            detail.append(Bullet(msg("detail.at-limit", **shown)))
        yield _consider(case, "O1", shown, detail, values, evidence, resource)
        return
    below = None if alc is None else alc.below(numbers["alc_per_ul"])
    if alc is not None and lymphocytes is not None and below:
        values |= {"row": "O2", "alc_per_ul": figure(alc)}
        shown = {"alc": figure(alc), "limit": numbers["alc_per_ul"], "wbc": figure(count)}
        evidence.append(of_observation(lymphocytes))
        yield _consider(case, "O2", shown, [Paragraph(msg("detail.O2", **shown))], values, evidence, resource)
        return
    open_ = below is None  # O2 cannot be told from O3
    yield Finding(
        rule=RULE,
        outcome=Outcome.UNKNOWN if open_ else Outcome.PASS,
        indicator=Indicator.INFO if open_ else None,
        summary=msg("summary.O2-unknown" if open_ else "summary.O3", **shown),
        subject="counts",
        detail=(Paragraph(msg("detail.O2-unknown", alc=numbers["alc_per_ul"], **shown)),) if open_ else (),
        values={**values, "row": "O2" if open_ else "O3"},
        evidence=tuple(evidence),
        missing=(missing_count(case, "alc"),) if open_ else (),
        resource=resource,
        suggestions=(_order_counts(),) if open_ else (),
        unconcluded=open_,
    )


def _consider(
    case: Case,
    row: str,
    shown: dict[str, Shown],
    detail: list[Block],
    values: dict[str, Scalar],
    evidence: list[Evidence],
    resource: str,
) -> Finding:
    return Finding(
        rule=RULE,
        outcome=Outcome.CONSIDER,
        indicator=Indicator.INFO,
        summary=msg(f"summary.{row}", **shown),
        subject="counts",
        detail=tuple(detail),
        values=dict(values),
        evidence=tuple(evidence),
        resource=resource,
    )


def _infusion(case: Case, resource: str, day: date | None) -> Iterator[Finding]:
    """O6 and O7 on an infusion order without lymphodepletion.

    More than a week ahead lymphodepletion may still be ordered, so nothing is said.
    """
    numbers = case.p(RULE)
    day0 = day or case.chart.course.day0_any or case.today
    if (day0 - case.today).days > numbers.int("window_days") or recent_lymphodepletion(case, day0):
        return
    test = _white_cells(case, day0)
    count = None if test is None else per_ul(test)
    few = None if count is None else count.at_most(numbers["wbc_per_ul"])
    row = "O7" if few else "O6"
    values: dict[str, Scalar] = {"row": row}
    shown: dict[str, Shown] = {"days": numbers.int("without_ldc_days"), "limit": numbers["wbc_per_ul"]}
    if count is not None:
        values["wbc_per_ul"] = figure(count)
    detail: list[Block] = [Paragraph(msg(f"detail.{row}", **shown))]
    if count is not None:
        detail.append(Bullet(msg("detail.count", wbc=figure(count))))
    yield Finding(
        rule=RULE,
        outcome=Outcome.REVIEW,
        indicator=Indicator.INFO if few else Indicator.WARNING,
        summary=msg(f"summary.{row}", **shown),
        subject="infusion",
        detail=tuple(detail),
        values=dict(values),
        evidence=(of_observation(test),) if test is not None else (),
        missing=() if count is not None else (missing_count(case, "wbc"),),
        resource=resource,
        suggestions=() if count is not None else (_order_counts(),),
    )


@rule(RULE)
def omit(case: Case) -> Iterator[Finding]:
    """Counts when lymphodepletion is ordered, lymphodepletion when the infusion is ordered."""
    found = orders(case)
    if found:
        yield from _lymphodepletion(case, found.reference)
        yield from _neutropenia(case, found.reference)
        return
    signed = infusion_order(case)
    # before the collection the order is one for manufacturing, not for the infusion
    if signed is not None and collected(case) and case.chart.course.infused is None:
        reference, when = signed
        yield from _infusion(case, reference, None if when is None else when.date)
        yield from _neutropenia(case, signed[0])
