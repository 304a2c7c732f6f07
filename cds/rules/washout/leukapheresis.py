"""Drug-free interval before leukapheresis: 24 rows of the handbook's Figure 3 (after Qayed 2022).

Three questions: does a drafted drug push a planned collection away, is a drafted or booked collection too
early after what was used, and (on the patient's page) when is the earliest day for a collection.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from enum import StrEnum

from cards.finding import (
    AppointmentMove,
    Block,
    Bullet,
    Create,
    Days,
    Evidence,
    Finding,
    Indicator,
    Message,
    Missing,
    Name,
    Outcome,
    Override,
    Paragraph,
    ServiceProposal,
    Suggestion,
    Text,
    Update,
    msg,
)
from cds.engine.case import Case, once_per_case
from cds.engine.parameters import Parameters
from cds.engine.rule import Hook, rule
from cds.rules.drug_classes import drug_classes
from cds.rules.evidence import of_observation
from cds.rules.readiness.phase import candidate, collected
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
from cds.rules.washout.uses import Use, draft_uses, exposures, uses
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
    Anchor,
    Appointment,
    Drafts,
    DrugRecord,
    Flag,
    LossReason,
    Observation,
    Route,
    ServiceOrder,
    add_months,
)

RULE = "washout.leukapheresis"
OVERRIDES = (
    Override.DISEASE_PROGRESSION,
    Override.RISK_BENEFIT,
    Override.MANUFACTURER_AGREED,
    Override.DATA_OUTDATED,
    Override.OTHER,
)


class Counts(StrEnum):
    """Enough T cells in the blood for a collection after a bispecific antibody (row W23)."""

    ENOUGH = "enough"
    TOO_FEW = "too-few"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Target:
    """The collection under question. `day` None: planned without a date."""

    reference: str
    day: date | None


def applies(case: Case) -> bool:
    """A collection lies ahead: candidate and not collected, or a second collection is planned."""
    if not candidate(case):
        return False
    return not collected(case) or case.chart.course.leukapheresis is not None


def _dated(anchor: Anchor | None, today: date) -> date | None:
    """Day of an anchor; the day an undated order was written is no date for the procedure."""
    if anchor is None or anchor.when is None or anchor.flags & {Flag.AUTHORED_DATE, Flag.RECORDED_DATE}:
        return None
    return plan_day(anchor.when, today)


@once_per_case
def planned_collection(case: Case) -> date | None:
    """D_aph as planned; None where no collection with a date lies ahead.

    A booking whose day has passed without a collection is no date to count to.
    """
    day = _dated(case.chart.course.leukapheresis, case.today)
    return None if day is None or day < case.today else day


def _missed(case: Case) -> date | None:
    """The day of a planned collection that passed without one."""
    day = _dated(case.chart.course.leukapheresis, case.today)
    return day if day is not None and day < case.today else None


def ordered_day(case: Case, service: ServiceOrder) -> date | None:
    """The day a collection is ordered for; of an order without a day that of the collection planned."""
    when = None if Flag.AUTHORED_DATE in service.flags else service.when
    return planned_collection(case) if when is None else plan_day(when, case.today)


def for_stem_cells(plan: ServiceOrder | Appointment) -> bool:
    """A collection of stem cells: no collection for CAR-T cells."""
    return "purpose_stem_cell_collection" in plan.purposes


@once_per_case
def has_history(case: Case) -> bool:
    """Any drug use but the CAR-T product itself is on the chart."""
    return any("class_cell_gene_therapy" not in exposure.concepts for exposure in exposures(case))


@once_per_case
def intervals(case: Case) -> tuple[Interval, ...]:
    return read_intervals(case.p(RULE))


def lines_before(case: Case, day: date | None) -> tuple[Line, ...]:
    """Every use with a row, judged against the day, worst first."""
    found = [worst_line(use, intervals(case), day) for use in uses(case, day)]
    lines = [_with_counts(case, line) for line in found if line is not None]
    return tuple(sorted(lines, key=badness))


# --- T cells in the blood (W23)


def _count(case: Case, concept: str, per_ul: int) -> tuple[Observation | None, bool | None]:
    """Newest count within its window and whether it lies above the limit (given per uL)."""
    days = case.p(RULE).int("counts_max_age_days")
    found = case.chart.series(concept).latest(case.now, timedelta(days=days))
    if found is None or found.value.quantity is None:
        return found, None
    quantity = found.value.quantity
    scale = 1000 if quantity.unit == "10*3/uL" else 1
    return found, replace(quantity, value=quantity.value * scale).above(per_ul)


@once_per_case
def peripheral_counts(case: Case) -> tuple[Counts, tuple[Evidence, ...], tuple[Missing, ...]]:
    """Lymphocytes or CD3+ cells above their limit are enough; both at or below it are too few."""
    numbers = case.p(RULE)
    answers: list[bool | None] = []
    evidence: list[Evidence] = []
    missing: list[Missing] = []
    for concept, limit in (("alc", "W23_alc_above_per_ul"), ("cd3_abs", "W23_cd3_above_per_ul")):
        observation, above = _count(case, concept, numbers.int(limit))
        answers.append(above)
        if observation is not None:
            evidence.append(of_observation(observation))
        if above is None:
            old = case.chart.latest(concept)
            stale = observation is None and old is not None
            missing.append(Missing(concept, LossReason.STALE if stale else LossReason.NOT_ON_CHART))
    if any(answers):
        return Counts.ENOUGH, tuple(evidence), ()
    if None in answers:
        return Counts.UNKNOWN, tuple(evidence), tuple(missing)
    return Counts.TOO_FEW, tuple(evidence), ()


def _with_counts(case: Case, line: Line) -> Line:
    if not line.interval.needs_counts or line.outcome not in (Outcome.MET, Outcome.MET_MINIMUM):
        return line
    state = peripheral_counts(case)[0]
    if state is Counts.ENOUGH:
        return line
    return replace(line, outcome=Outcome.NOT_MET if state is Counts.TOO_FEW else Outcome.UNKNOWN)


def _interval_met(line: Line) -> bool:
    """The days are long enough; what is open or failing is the count of cells."""
    return line.interval.needs_counts and line.gap is not None and line.gap >= (line.needed or 0)


def _counts_missing(case: Case, lines: Iterable[Line]) -> tuple[Missing, ...]:
    asked = any(line.interval.needs_counts and line.outcome is Outcome.UNKNOWN for line in lines)
    return peripheral_counts(case)[2] if asked else ()


def _counts_evidence(case: Case, lines: Iterable[Line]) -> tuple[Evidence, ...]:
    return peripheral_counts(case)[1] if any(line.interval.needs_counts for line in lines) else ()


def _counts_orders(case: Case, lines: Iterable[Line]) -> tuple[Suggestion, ...]:
    """Order the counts that a bispecific antibody makes necessary."""
    missing = _counts_missing(case, lines)
    concepts = {"alc": "cbc_panel", "cd3_abs": "cd3_abs"}
    actions = tuple(Create(ServiceProposal(concepts[m.concept])) for m in missing)
    return (Suggestion("counts", msg("suggest.counts"), actions),) if actions else ()


# --- notes of single rows


def _row_notes(case: Case, lines: Sequence[Line]) -> tuple[Block, ...]:
    numbers = case.p(RULE)
    found: list[Block] = list(notes(lines))
    for line in lines:
        row, last = line.interval.row, line.end.last
        if row == "W17" and last is not None and line.gap is not None:
            months = numbers.int("bendamustine_flag_months")
            if add_months(last.date, months) > last.date + timedelta(days=line.gap):
                found.append(Bullet(msg("note.bendamustine", months=months)))
        if row == "W19" and last is not None:
            infusion = last.date + timedelta(days=numbers.int("allo_to_infusion_days"))
            days = numbers.int("allo_to_infusion_days")
            found.append(Bullet(msg("note.allo-infusion", days=days, earliest=infusion)))
        if (row == "W21" and line.outcome is Outcome.WAIVED) or (
            row == "W22" and line.outcome is Outcome.MET_MINIMUM
        ):
            recorded = _waiver_recorded(case, line.use)
            key = "note.waiver-recorded" if recorded else "note.waiver-ask"
            found.append(Bullet(msg(key, drug=Name(line.use.concept))))
        if _replacement(case, line):
            found.append(Bullet(msg("note.replacement")))
        if line.interval.needs_counts:
            found.append(Bullet(_counts_message(case)))
    return unique(found)


def _short_cut(line: Line) -> bool:
    """Accepted only because five half-lives cannot be awaited (rituximab, inotuzumab)."""
    if line.interval.waivable:
        return line.outcome is Outcome.WAIVED
    return line.interval.row == "W22" and line.outcome is Outcome.MET_MINIMUM


def _counts_message(case: Case) -> Message:
    numbers = case.p(RULE)
    return msg(
        f"note.counts-{peripheral_counts(case)[0].value}",
        alc=numbers.int("W23_alc_above_per_ul"),
        cd3=numbers.int("W23_cd3_above_per_ul"),
    )


def _waiver_recorded(case: Case, use: Use) -> bool:
    """Somebody stated that five half-lives of this drug cannot be awaited (M24)."""
    concept = "purpose_five_half_lives_waived"
    if any(concept in record.purposes for record in use.records):
        return True
    references = {record.reference for record in use.records}
    observations = case.chart.series(concept)
    if any(o.value.yes and (not o.focus or not references.isdisjoint(o.focus)) for o in observations):
        return True
    return any(concept in s.purposes for s in case.chart.services.of("leukapheresis"))


def _replacement(case: Case, line: Line) -> bool:
    """A steroid that the body needs: it is judged, and nobody is told to stop it."""
    use = line.use
    return line.interval.row == "W5" and any(replaces(r, use.drug, case) for r in use.records)


# --- findings


def _summary_key(line: Line) -> str:
    if line.end.ongoing:
        return "ongoing"
    if line.end.last is None:
        return "last-unknown"
    if line.outcome is Outcome.UNKNOWN:
        return "counts-unknown"
    if line.outcome is Outcome.NOT_MET:
        return "counts-too-few" if _interval_met(line) else "not-met"
    if line.outcome is Outcome.WAIVED:
        return "waived"
    return "dose-unknown" if line.possible is not None else "met"


def _line_finding(
    case: Case, line: Line, subject: str, target: Target, suggestions: tuple[Suggestion, ...] = ()
) -> Finding:
    """The card of one line on an order or booking."""
    gap = shown_gap(line)
    shown = {
        "drug": shown_name(line.use),
        "gap": gap,
        "needed": line.interval.needed(),
        "day": target.day if target.day is not None else msg("cell.none"),
        "earliest": first_day(line),
    }
    key = _summary_key(line)
    criterion = "detail.criterion" if line.earliest is not None else "detail.criterion-open"
    detail: list[Block] = [
        Paragraph(msg("detail.found", last=last_dose(line), **shown)),
        Bullet(msg(criterion, row=line.interval.row, **shown)),
    ]
    values: Values = dict(line_values(line))
    if target.day is not None:
        values["leukapheresis"] = target.day
        if line.needed is not None and line.end.ongoing:
            stop_by = target.day - timedelta(days=line.needed)
            values["stop_by"] = stop_by
            if stop_by >= case.today and not _replacement(case, line):
                detail.append(Bullet(msg("detail.stop-by", stop_by=stop_by, **shown)))
    if line.end.ongoing and not _replacement(case, line):
        detail.append(Bullet(msg("detail.still-active", **shown)))
    elif line.outcome is Outcome.NOT_MET and line.interval.ranged:
        full = line.full if line.full is not None else msg("cell.none")
        detail.append(Bullet(msg("detail.range", full=full, **shown)))
    if line.outcome is Outcome.NOT_MET:
        detail.append(Bullet(msg("detail.adapt")))
    detail += _row_notes(case, (line,))
    unconcluded = line.outcome is Outcome.UNKNOWN
    missing = _counts_missing(case, (line,))
    if not line.end.known:
        missing = (*missing, Missing(line.use.concept))
    if line.possible is not None:
        missing = (*missing, Missing(line.use.concept, resource=line.use.reference))
    return Finding(
        rule=RULE,
        outcome=line.outcome,
        indicator=None if _short_cut(line) and _waiver_recorded(case, line.use) else order_indicator(line),
        summary=msg(f"summary.{key}", **shown),
        subject=subject,
        detail=tuple(detail),
        values=values,
        evidence=(*line.use.evidence(), *_counts_evidence(case, (line,))),
        missing=missing,
        resource=target.reference,
        suggestions=suggestions,
        overrides=OVERRIDES,
        until=line.earliest if line.outcome is Outcome.NOT_MET else None,
        unconcluded=unconcluded,
    )


def _draft_findings(case: Case, draft: DrugRecord) -> Iterator[Finding]:
    """Would signing this drug push the collection away?"""
    if not draft.identified:
        yield _unidentified(case, draft)
        return
    day = planned_collection(case)
    if day is not None and draft.timing.first is not None and draft.timing.first.first_date > day:
        return
    found = [worst_line(use, intervals(case), day) for use in draft_uses(case, draft)]
    lines = sorted((line for line in found if line is not None), key=badness)
    if not lines:
        yield from _local_steroid(case, draft)
        return
    line = lines[0]
    if day is not None:
        finding = _line_finding(case, line, draft.reference, Target(draft.reference, day))
        if line.outcome is Outcome.NOT_MET:
            finding = replace(finding, summary=_delay_summary(line, day))
        yield finding
        return
    yield _without_date(case, line, draft)


def _delay_summary(line: Line, day: date) -> Message:
    """What signing the draft would do to the planned collection."""
    drug, needed = shown_name(line.use), line.interval.needed()
    if line.earliest is None:
        stop_by = day - timedelta(days=line.needed or 0)
        return msg("summary.draft-without-end", drug=drug, needed=needed, day=day, stop_by=stop_by)
    return msg("summary.delays", drug=drug, needed=needed, gap=Days(line.gap or 0), earliest=line.earliest)


def _without_date(case: Case, line: Line, draft: DrugRecord) -> Finding:
    """No collection is booked: lasting harm to T cells is a question, else only a date."""
    lasting = {row["row"] for row in case.p(RULE).table("long_lasting")}
    shown = {
        "drug": shown_name(line.use),
        "needed": line.interval.needed(),
        "earliest": first_day(line),
    }
    question = line.interval.row in lasting
    return Finding(
        rule=RULE,
        outcome=Outcome.CAUTION if question else Outcome.INFO,
        indicator=Indicator.WARNING if question else None,
        summary=msg("summary.long-lasting", **shown),
        subject=draft.reference,
        detail=(
            Paragraph(msg("detail.long-lasting", last=last_dose(line), row=line.interval.row, **shown)),
            Bullet(msg("detail.collect-first")),
            *_row_notes(case, (line,)),
        ),
        values=dict(line_values(line)),
        evidence=line.use.evidence(),
        resource=draft.reference,
        overrides=OVERRIDES,
        until=line.earliest,
    )


_LOCAL = (Route.OPHTHALMIC, Route.OTIC, Route.RECTAL, Route.INTRA_ARTICULAR)


def _local_steroid(case: Case, draft: DrugRecord) -> Iterator[Finding]:
    """A steroid by a local route that the handbook does not exempt by name: worth knowing, no interval."""
    steroids = drug_classes().drugs("DC6") | {"budesonide"}
    if draft.route not in _LOCAL and not (draft.route is Route.ORAL and "budesonide" in draft.ingredients):
        return
    drug = next((d for d in draft.ingredients if d in steroids), "")
    if not drug or draft.route is None:
        return
    route = Name(draft.route.value)
    yield Finding(
        rule=RULE,
        outcome=Outcome.INFO,
        indicator=Indicator.INFO,
        summary=msg("summary.local-steroid", drug=Name(drug), route=route),
        subject=draft.reference,
        detail=(Paragraph(msg("detail.local-steroid", drug=Name(drug), route=route)),),
        values={"row": "W5", "drug": drug, "route": draft.route.value},
        evidence=(Evidence(draft.reference, drug),),
        resource=draft.reference,
    )


def _unidentified(case: Case, draft: DrugRecord) -> Finding:
    return Finding(
        rule=RULE,
        outcome=Outcome.CANNOT_CHECK,
        indicator=Indicator.INFO,
        summary=msg("summary.unidentified", name=Text(draft.name or draft.reference)),
        subject=draft.reference,
        detail=(Paragraph(msg("detail.unidentified")),),
        evidence=(Evidence(draft.reference),),
        resource=draft.reference,
        unconcluded=True,
    )


def _collection_findings(case: Case, target: Target) -> Iterator[Finding]:
    """One card per use that forbids, or may forbid, a collection on the target's day."""
    lines = lines_before(case, target.day)
    if not lines and not has_history(case):
        yield _no_history(case, target.reference, Indicator.WARNING)
        return
    if target.day is None:
        yield from _undated(case, lines, target)
        return
    binding = latest_day(line for line in lines if line.outcome is Outcome.NOT_MET)
    for line in lines:
        suggestions = _counts_orders(case, (line,))
        if binding is not None and line.earliest == binding and binding > target.day:
            move = Update(AppointmentMove(target.reference, binding))
            label = msg("suggest.move", day=binding)
            suggestions = (*suggestions, Suggestion("move", label, (move,), recommended=True))
            binding = None
        yield _line_finding(case, line, f"{target.reference}|{line.use.subject}", target, suggestions)


def _still_to_come(case: Case, lines: Iterable[Line]) -> list[Line]:
    """Lines with a verdict, and those whose first free day lies ahead."""
    return [x for x in lines if x.outcome is not Outcome.INFO or (x.earliest or date.min) > case.today]


def _undated(case: Case, lines: Sequence[Line], target: Target) -> Iterator[Finding]:
    """A collection ordered without a day: the table with the earliest one, where it is still to come."""
    if any(not x.interval.waivable for x in _still_to_come(case, lines)):
        for finding in _page(case):
            yield replace(finding, subject=target.reference, resource=target.reference)


def _no_history(case: Case, resource: str, indicator: Indicator | None) -> Finding:
    return Finding(
        rule=RULE,
        outcome=Outcome.UNKNOWN,
        indicator=indicator,
        summary=msg("summary.no-history"),
        subject=resource,
        detail=(Paragraph(msg("detail.no-history")),),
        resource=resource,
        overrides=OVERRIDES,
        unconcluded=True,
    )


def _possible_collection(case: Case, resource: str) -> Iterator[Finding]:
    """A bare apheresis beside a CAR-T disease: ask, judge nothing (K2)."""
    course = case.chart.course
    anchor = course.possible_collection
    if anchor is None or course.leukapheresis is not None or applies(case):
        return
    yield Finding(
        rule=RULE,
        outcome=Outcome.ASK,
        indicator=Indicator.INFO,
        summary=msg("summary.possible-collection"),
        subject=resource or anchor.reference,
        detail=(Paragraph(msg("detail.possible-collection")),),
        evidence=(Evidence(anchor.reference, "leukapheresis", effective=anchor.when),),
        resource=resource,
    )


def _page_key(worst: Line, day: date | None, relevant: bool) -> str:
    """Which sentence sums up the page: what its worst line is."""
    if worst.outcome is Outcome.NOT_MET and worst.end.ongoing:
        return "ongoing"
    if worst.outcome in (Outcome.NOT_MET, Outcome.UNKNOWN) and _interval_met(worst):
        return "counts-too-few" if worst.outcome is Outcome.NOT_MET else "counts-unknown"
    if worst.outcome is Outcome.NOT_MET:
        return "not-met" if day is not None else "date"
    if worst.outcome is Outcome.UNKNOWN:
        return "unknown"
    if day is None:
        return "date" if relevant else "free"
    short = {Outcome.WAIVED: "waived", Outcome.MET_MINIMUM: "met-minimum"}
    return short.get(worst.outcome, "met")


def _page(case: Case) -> Iterator[Finding]:
    """The patient's page: every use in one table, worst first."""
    day = planned_collection(case)
    lines = lines_before(case, day)
    if not lines:
        if not has_history(case):
            yield _no_history(case, "", None)
        return
    worst = lines[0]
    open_lines = open_ended(lines)
    earliest = latest_day(lines)
    if open_lines and earliest is not None and earliest <= (day or case.today):
        earliest = None  # what has no end yet decides
    failing = [line for line in lines if line.outcome is Outcome.NOT_MET]
    unknown = [line for line in lines if line.outcome is Outcome.UNKNOWN]
    relevant = _still_to_come(case, lines)
    values: Values = dict(line_values(worst))
    values["lines"] = [line_values(line) for line in lines]
    if day is not None:
        values["leukapheresis"] = day
    if earliest is not None:
        values["earliest"] = earliest
    shown = {
        "count": len(failing),
        "drug": shown_name(worst.use),
        "day": day if day is not None else msg("cell.none"),
        "gap": shown_gap(worst),
        "needed": worst.interval.needed(),
        "earliest": earliest if earliest is not None else msg("cell.none"),
        "full": worst.full if worst.full is not None else msg("cell.none"),
    }
    detail: list[Block] = list(table(lines))
    if earliest is not None:
        detail.append(Bullet(msg("detail.earliest-open" if open_lines else "detail.earliest", **shown)))
    if failing:
        detail.append(Bullet(msg("detail.adapt")))
    missed = _missed(case)
    if missed is not None:
        detail.append(Bullet(msg("detail.missed", day=missed)))
    plan = case.chart.course.leukapheresis
    if day is not None and plan is not None and plan.when is not None and not plan.when.day_known:
        detail.append(Bullet(msg("note.partial-plan", plan=plan.when, day=day)))
    detail += _row_notes(case, lines)
    missing = list(_counts_missing(case, lines))
    missing += [Missing(line.use.concept) for line in lines if not line.end.known]
    yield Finding(
        rule=RULE,
        outcome=worst.outcome,
        indicator=Indicator.WARNING if failing or unknown else Indicator.INFO,
        summary=msg(f"summary.page.{_page_key(worst, day, bool(relevant))}", **shown),
        detail=tuple(detail),
        values=values,
        evidence=(*(e for x in lines for e in x.use.evidence()), *_counts_evidence(case, lines)),
        missing=tuple(missing),
        suggestions=_counts_orders(case, lines),
        overrides=OVERRIDES,
        until=earliest if failing else None,
    )


def _concerns(drafts: Drafts, numbers: Parameters) -> bool:
    steroids = frozenset({"budesonide"})
    drugs = drugs_of_rows(numbers.table("intervals")) | steroids
    return drafts_hold(drafts, drugs, frozenset({"leukapheresis"}))


@rule(RULE, concerns=_concerns)
def leukapheresis(case: Case) -> Iterator[Finding]:
    """Drafts that delay a collection, collections that come too early, the table of the patient's page."""
    course = case.chart.course
    if case.ordering:
        services = case.judged_services("leukapheresis")
        if not applies(case):
            for service in services:
                yield from _possible_collection(case, service.reference)
            return
        for draft in case.judged_drugs():
            yield from _draft_findings(case, draft)
        for service in services:
            if not for_stem_cells(service):
                target = Target(service.reference, ordered_day(case, service))
                yield from _collection_findings(case, target)
    elif case.hook is Hook.APPOINTMENT_BOOK:
        for booking in case.judged_appointments("leukapheresis"):
            if not applies(case):
                yield from _possible_collection(case, booking.reference)
                continue
            if for_stem_cells(booking):
                continue
            if course.leukapheresis is not None and booking.start is not None:
                yield from _collection_findings(case, Target(booking.reference, booking.start.date))
    elif applies(case):
        yield from _page(case)
    else:
        yield from _possible_collection(case, "")
