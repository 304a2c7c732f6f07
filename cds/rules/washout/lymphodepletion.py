"""Interval from bridging therapy to the first dose of lymphodepletion (handbook Table 4 and 1.5.2).

Speaks after the collection: on a bridging drug that is signed while lymphodepletion is planned, on
lymphodepletion that is signed or booked, and as a table on the patient's page.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date, timedelta

from cards.finding import (
    Block,
    Bullet,
    Days,
    Evidence,
    Finding,
    Indicator,
    Items,
    Missing,
    Name,
    Outcome,
    Override,
    Paragraph,
    msg,
)
from cds.engine.case import Case, once_per_case
from cds.engine.parameters import Parameters
from cds.engine.rule import Hook, rule
from cds.rules.disease import Disease, disease, disease_evidence
from cds.rules.evidence import of_observation
from cds.rules.readiness.checklist import newest, with_number
from cds.rules.readiness.phase import collected, collection_date, infused, infusing
from cds.rules.steroids import replaces
from cds.rules.washout.concerns import drafts_hold, drugs_of_rows
from cds.rules.washout.intervals import (
    Interval,
    Line,
    badness,
    order_indicator,
    plan_day,
    read_intervals,
    worst_line,
)
from cds.rules.washout.uses import End, Kind, Use, draft_uses, procedure_end, uses
from cds.rules.washout.wording import (
    Values,
    first_day,
    last_dose,
    latest_day,
    line_values,
    notes,
    open_ended,
    shown_gap,
    shown_name,
    table,
    unique,
)
from fhir_mapping.chart import (
    ConditionState,
    Drafts,
    DrugRecord,
    Flag,
    Procedure,
    reaches_the_body,
)

RULE = "washout.lymphodepletion"
OVERRIDES = (Override.DISEASE_PROGRESSION, Override.RISK_BENEFIT, Override.DATA_OUTDATED, Override.OTHER)


def applies(case: Case) -> bool:
    """Collected, not infused, and lymphodepletion not yet begun."""
    first = case.chart.course.ldc_first
    begun = first is not None and first.done and (first.date is None or first.date < case.today)
    return collected(case) and not infused(case) and not begun


@once_per_case
def planned_start(case: Case) -> date | None:
    """D_ldc0 as planned or begun today; None where no day lies ahead."""
    first = case.chart.course.ldc_first
    if first is None or first.when is None or first.when.date < case.today:
        return None
    return plan_day(first.when, case.today)


@once_per_case
def _own_records(case: Case) -> frozenset[str]:
    """The lymphodepletion itself is no bridging."""
    return frozenset(record.reference for record in case.chart.course.ldc_records)


@once_per_case
def intervals(case: Case) -> tuple[Interval, ...]:
    """The rows for the patient's disease. A disease that is not DLBCL or FL takes Table 4 as printed."""
    numbers = case.p(RULE)
    wanted = "lymphoma" if disease(case).lymphoma else "other"
    rows = numbers.table("intervals")
    chosen = replace(numbers, tables={"intervals": tuple(r for r in rows if r["disease"] in ("any", wanted))})
    return read_intervals(chosen)


# --- radiotherapy


def _radiotherapy(case: Case, day: date | None) -> Iterator[Use]:
    since = collection_date(case)
    for procedure in case.chart.procedures.of("radiotherapy", "radiotherapy_lung"):
        end = procedure_end(procedure)
        if not procedure.state.begun:
            continue
        if day is not None and procedure.start is not None and procedure.start.first_date > day:
            continue
        if since is not None and end.last is not None and end.last.date < since:
            continue
        yield _radiation_use(procedure, end, _lung_sites(case))


def _lung_sites(case: Case) -> frozenset[str]:
    return frozenset(str(row["site"]) for row in case.p(RULE).table("lung_sites"))


def _radiation_use(procedure: Procedure, end: End, lung_sites: frozenset[str]) -> Use:
    lung = "radiotherapy_lung" in procedure.concepts or not procedure.body_sites.isdisjoint(lung_sites)
    site_known = lung or bool(procedure.body_sites)
    concept = "radiotherapy_lung" if lung else "radiotherapy"
    return Use(
        subject=procedure.reference,
        concept=concept,
        name=procedure.text,
        drug="",
        route=None,
        ends={concept: end},
        possible={} if site_known else {"radiotherapy_lung": end},
        kind=Kind.PROCEDURE,
        reference=procedure.reference,
        first=procedure.start,
        flags=procedure.flags,
    )


# --- lines


def lines_before(case: Case, day: date | None) -> tuple[Line, ...]:
    """Bridging since the collection, judged against the first day of lymphodepletion, worst first."""
    found = [
        worst_line(use, intervals(case), day)
        for use in (
            *uses(case, day, since=collection_date(case), without=_own_records(case)),
            *_radiotherapy(case, day),
        )
    ]
    return tuple(sorted((_reviewed(case, line) for line in found if line is not None), key=badness))


def _drug_cytopenia(case: Case, drug: str) -> tuple[Evidence, ...]:
    """Evidence of a cytopenia under the drug: attributed to it, or neutrophils below the limit."""
    found: list[Evidence] = []
    for condition in case.chart.conditions.of("neutropenia", "thrombocytopenia", "anemia", "pancytopenia"):
        if condition.state is ConditionState.ACTIVE and drug in condition.attributed_to:
            found.append(Evidence(condition.reference, "adverse_event", effective=condition.onset))
    numbers = case.p(RULE)
    anc = case.chart.series("anc").latest(case.now, timedelta(days=numbers.int("counts_max_age_days")))
    quantity = None if anc is None else anc.value.quantity
    if anc is not None and quantity is not None:
        scale = 1000 if quantity.unit == "10*3/uL" else 1
        per_ul = replace(quantity, value=quantity.value * scale)
        if per_ul.below(numbers["ibrutinib_anc_below_per_ul"]):
            found.append(of_observation(anc))
    return tuple(found)


def _reviewed(case: Case, line: Line) -> Line:
    """The short interval of ibrutinib holds only without a drug-related cytopenia."""
    if line.interval.row != "B7" or line.outcome not in (Outcome.MET, Outcome.MET_MINIMUM):
        return line
    table_days = case.p(RULE).int("B6_days")
    if (line.gap or 0) >= table_days or not _drug_cytopenia(case, "ibrutinib"):
        return line
    return replace(line, outcome=Outcome.REVIEW)


def _sequential(case: Case, line: Line) -> bool:
    """High-dose cytarabine that leads straight into lymphodepletion in rapidly progressing ALL."""
    if line.interval.row != "B1" or disease(case) is not Disease.B_ALL:
        return False
    return any("purpose_sequential_bridging" in record.purposes for record in line.use.records)


def _replacement(case: Case, line: Line) -> bool:
    """A steroid that the body needs: it is shown, and nobody is told to stop it."""
    use = line.use
    return line.interval.row == "B8" and any(replaces(r, use.drug, case) for r in use.records)


def _suppressing(case: Case) -> int | None:
    """Days of marrow suppression expected of bridging, where they make it of high intensity (K13)."""
    look = newest(case, "expected_marrow_suppression_days", None, with_number)
    limit = case.p("readiness.bridging")["high_intensity_above_days"]
    if look.quantity is None or not look.quantity.above(limit):
        return None
    return int(look.quantity.value)


def _indicator(case: Case, line: Line) -> Indicator | None:
    if line.outcome is Outcome.REVIEW:
        return Indicator.WARNING
    if line.outcome is Outcome.NOT_MET and (_sequential(case, line) or _replacement(case, line)):
        return Indicator.INFO
    if line.outcome is Outcome.MET_MINIMUM and line.interval.row in ("B4", "B5"):
        return Indicator.INFO
    return order_indicator(line)


def _row_notes(case: Case, lines: Sequence[Line]) -> tuple[Block, ...]:
    numbers = case.p(RULE)
    found: list[Block] = list(notes(x for x in lines if not x.interval.row.startswith(("B4", "B5"))))
    for line in lines:
        row = line.interval.row
        if line.use.concept == "radiotherapy" and line.use.possible:
            found.append(Bullet(msg("note.if-lung", needed=Days(numbers.int("B5_days")))))
        if row in ("B4", "B5") and line.interval.ranged and line.outcome is not Outcome.MET:
            found.append(Bullet(msg("note.radiotherapy-lymphoma", full=Days(line.interval.full))))
        if row == "B3":
            found.append(Bullet(msg("note.counts-recover")))
            days = _suppressing(case)
            if days is not None:
                low, high = numbers.int("B1_low_days"), numbers.int("B1_full_days")
                needed = msg("interval.range", low=low, high=high)
                found.append(Bullet(msg("note.suppressing", days=Days(days), needed=needed)))
        if line.outcome is Outcome.REVIEW:
            found.append(Bullet(msg("note.ibrutinib-cytopenia")))
        if _sequential(case, line):
            found.append(Bullet(msg("note.sequential")))
        if row == "B8" and line.outcome is Outcome.NOT_MET:
            key = "note.replacement" if _replacement(case, line) else "note.steroid"
            found.append(Bullet(msg(key)))
    return unique(found)


def _key(case: Case, line: Line) -> str:
    if line.outcome is Outcome.NOT_MET and _replacement(case, line):
        return "replacement"
    if line.end.ongoing:
        return "ongoing"
    if line.end.last is None:
        return "last-unknown"
    if line.outcome is Outcome.REVIEW:
        return "review"
    if line.outcome is Outcome.MET_MINIMUM:
        return "met-minimum"
    if line.outcome is Outcome.NOT_MET:
        return "not-met"
    return "possible" if line.possible is not None else "met"


def _finding(case: Case, line: Line, subject: str, resource: str, day: date) -> Finding:
    key = _key(case, line)
    shown = {
        "drug": shown_name(line.use),
        "gap": shown_gap(line),
        "needed": line.interval.needed(),
        "day": day,
        "earliest": first_day(line),
    }
    values: Values = {**line_values(line), "lymphodepletion": day}
    detail: list[Block] = [
        Paragraph(msg("detail.found", last=last_dose(line), **shown)),
        Bullet(msg("detail.criterion", row=line.interval.row, **shown)),
    ]
    if line.end.ongoing and line.needed is not None and key != "replacement":
        stop_by = day - timedelta(days=line.needed)
        values["stop_by"] = stop_by
        detail.append(Bullet(msg("detail.stop-by", stop_by=stop_by, **shown)))
    if line.interval.ranged and line.outcome is Outcome.NOT_MET and line.full is not None:
        detail.append(Bullet(msg("detail.range", full=line.full, **shown)))
    detail += _row_notes(case, (line,))
    cytopenia = _drug_cytopenia(case, "ibrutinib") if line.outcome is Outcome.REVIEW else ()
    missing = () if line.end.known else (Missing(line.use.concept),)
    if line.possible is not None:
        missing = (*missing, Missing(line.use.concept, resource=line.use.reference))
    return Finding(
        rule=RULE,
        outcome=line.outcome,
        indicator=_indicator(case, line),
        summary=msg(f"summary.{key}", **shown),
        subject=subject,
        detail=tuple(detail),
        values=values,
        evidence=(*line.use.evidence(), *cytopenia, *disease_evidence(case)),
        missing=missing,
        resource=resource,
        overrides=OVERRIDES,
        until=line.earliest if line.outcome is Outcome.NOT_MET else None,
        unconcluded=line.outcome is Outcome.UNKNOWN,
    )


# --- drugs without a stated interval (B10)


def _without_interval(case: Case) -> frozenset[str]:
    return frozenset(row["drug"] for row in case.p(RULE).table("no_interval"))


def _listed_finding(case: Case, use: Use, subject: str, resource: str) -> Finding:
    return Finding(
        rule=RULE,
        outcome=Outcome.INFO,
        indicator=Indicator.INFO,
        summary=msg("summary.no-interval", drug=shown_name(use)),
        subject=subject,
        detail=(Paragraph(msg("detail.no-interval", drug=shown_name(use))),),
        values={"row": "B10", "drug": use.concept},
        evidence=use.evidence(),
        resource=resource,
    )


# --- hooks


def _draft_findings(case: Case, draft: DrugRecord, day: date) -> Iterator[Finding]:
    if draft.timing.first is not None and draft.timing.first.first_date > day:
        return
    found = [worst_line(use, intervals(case), day) for use in draft_uses(case, draft)]
    lines = sorted((_reviewed(case, line) for line in found if line is not None), key=badness)
    if lines:
        yield _finding(case, lines[0], draft.reference, draft.reference, day)
        return
    for use in draft_uses(case, draft):
        if use.drug in _without_interval(case) and reaches_the_body(use.route):
            yield _listed_finding(case, use, draft.reference, draft.reference)


def _start_findings(case: Case, reference: str, day: date) -> Iterator[Finding]:
    """Lymphodepletion under question: one card per bridging therapy that lies too close."""
    for line in lines_before(case, day):
        yield _finding(case, line, f"{reference}|{line.use.subject}", reference, day)


def _signed_start(case: Case) -> tuple[str, date | None] | None:
    """The lymphodepletion order of this hook that begins first, with its day; of an order for the whole that
    names none the planned one (the day it was written is no day of treatment)."""
    own = _own_records(case)
    drafts = [d for d in case.judged_drugs() if d.reference in own]
    dated = [(d.timing.first, d.reference) for d in drafts if d.timing.first is not None]
    if dated:
        first, reference = min(dated, key=lambda item: (item[0].earliest, item[1]))
        return reference, plan_day(first, case.today)
    for service in case.judged_services("lymphodepletion"):
        when = None if Flag.AUTHORED_DATE in service.flags else service.when
        return service.reference, planned_start(case) if when is None else plan_day(when, case.today)
    return (drafts[0].reference, planned_start(case)) if drafts else None


def _weightiest_first(case: Case, lines: Sequence[Line]) -> list[Line]:
    """What warns comes before a use that is only worth knowing (replacement, sequential therapy)."""
    return sorted(lines, key=lambda line: -(_indicator(case, line) or Indicator.INFO).rank)


def _listed(case: Case, day: date | None) -> list[Use]:
    """Uses of drugs for which no interval is stated."""
    found = uses(case, day, since=collection_date(case), without=_own_records(case))
    drugs = _without_interval(case)
    return [use for use in found if use.drug in drugs and reaches_the_body(use.route)]


def _earliest(case: Case, binding: Sequence[Line], day: date | None) -> date | None:
    """The first day that all lines allow; None where what has no end yet decides."""
    earliest = latest_day(binding)
    if earliest is None or (open_ended(binding) and earliest <= (day or case.today)):
        return None
    return earliest


def _page_key(case: Case, worst: Line, day: date | None) -> str:
    if worst.outcome is Outcome.NOT_MET:
        if _replacement(case, worst):
            return "replacement"
        if worst.end.ongoing:
            return "ongoing"
        if day is not None:
            return "not-met"
    named = {Outcome.REVIEW: "review", Outcome.UNKNOWN: "unknown", Outcome.MET_MINIMUM: "met-minimum"}
    return named.get(worst.outcome, "date" if day is None else "met")


def _page(case: Case) -> Iterator[Finding]:
    if infusing(case):
        return  # lymphodepletion lies behind, recorded or not
    day = planned_start(case)
    lines = _weightiest_first(case, lines_before(case, day))
    listed = _listed(case, day)
    names = tuple(Name(drug) for drug in dict.fromkeys(use.drug for use in listed))
    listing = (Bullet(msg("detail.listed", drugs=Items(names))),) if names else ()
    if not lines:
        if listed:
            yield replace(_listed_finding(case, listed[0], "", ""), detail=listing)
        return
    worst = lines[0]
    binding = [line for line in lines if not _replacement(case, line)]
    earliest = _earliest(case, binding, day)
    failing = [line for line in binding if line.outcome in (Outcome.NOT_MET, Outcome.REVIEW)]
    values: Values = {**line_values(worst), "lines": [line_values(line) for line in lines]}
    if day is not None:
        values["lymphodepletion"] = day
    if earliest is not None:
        values["earliest"] = earliest
    none = msg("cell.none")
    shown = {
        "count": len(failing),
        "drug": shown_name(worst.use),
        "gap": shown_gap(worst),
        "needed": worst.interval.needed(),
        "day": day or none,
        "earliest": earliest or none,
        "full": worst.full or none,
    }
    bound = "detail.earliest-open" if open_ended(binding) else "detail.earliest"
    dated = (Bullet(msg(bound, **shown)),) if earliest is not None else ()
    indicators = [_indicator(case, line) or Indicator.INFO for line in lines]
    yield Finding(
        rule=RULE,
        outcome=worst.outcome,
        indicator=max(indicators, key=lambda indicator: indicator.rank),
        summary=msg(f"summary.page.{_page_key(case, worst, day)}", **shown),
        detail=(*table(lines), *dated, *listing, *_row_notes(case, lines)),
        values=values,
        evidence=(*(e for line in lines for e in line.use.evidence()), *disease_evidence(case)),
        missing=tuple(Missing(line.use.concept) for line in lines if not line.end.known),
        overrides=OVERRIDES,
        until=earliest if failing else None,
    )


def _undated(case: Case, reference: str) -> Iterator[Finding]:
    """Lymphodepletion ordered without a day: the table with the earliest one, where it is still to come."""
    lines = [line for line in lines_before(case, None) if not _replacement(case, line)]
    if any(x.outcome is not Outcome.INFO or (x.earliest or date.min) > case.today for x in lines):
        for finding in _page(case):
            yield replace(finding, subject=reference, resource=reference)


def _concerns(drafts: Drafts, numbers: Parameters) -> bool:
    drugs = drugs_of_rows((*numbers.table("intervals"), *numbers.table("no_interval")))
    return drafts_hold(drafts, drugs, frozenset({"lymphodepletion"}))


@rule(RULE, concerns=_concerns)
def lymphodepletion(case: Case) -> Iterator[Finding]:
    """Bridging too close to lymphodepletion, asked from either side."""
    if not applies(case):
        return
    if case.ordering:
        start = _signed_start(case)
        day = planned_start(case) if start is None else start[1] or planned_start(case)
        if start is not None:
            yield from _start_findings(case, start[0], day) if day is not None else _undated(case, start[0])
        if day is not None:
            for draft in case.judged_drugs():
                if draft.reference not in _own_records(case) and draft.identified:
                    yield from _draft_findings(case, draft, day)
    elif case.hook is Hook.APPOINTMENT_BOOK:
        for booking in case.judged_appointments("lymphodepletion"):
            if booking.start is not None:
                yield from _start_findings(case, booking.reference, booking.start.date)
    else:
        yield from _page(case)
