"""How long to observe after a tarlatamab dose, and whether a discharge comes too early."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cards.finding import (
    Block,
    Bullet,
    Create,
    Finding,
    Indicator,
    Message,
    Missing,
    Outcome,
    Paragraph,
    Scalar,
    ServiceProposal,
    Suggestion,
    msg,
)
from cds.engine.case import Case
from cds.engine.rule import Hook, rule
from cds.rules.after_cart import coded_episodes, recorded_grades
from cds.rules.bispecific.history import DoseEvent, Kind
from cds.rules.bispecific.ladder import OffLadder
from cds.rules.bispecific.neuro import neuro_state
from cds.rules.bispecific.tarlatamab import exposures, last_exposure, place, start_of
from cds.rules.bispecific.toxicity import crs_history, tarlatamab_view
from cds.rules.evidence import of_drug
from cds.rules.grading.crs_episode import episode_at

RULE = "follow-up.tarlatamab-monitoring"


@dataclass(frozen=True, slots=True)
class Window:
    """The observation of one dose. `minimum`, `full` None: the end of the infusion is not on the chart;
    then `estimate` is the full end if the infusion took its usual time."""

    row: str
    label: str
    start: datetime
    minimum: datetime | None
    full: datetime | None
    estimate: datetime | None = None
    assumed: bool = False  # label unknown: the longest window
    after_crs: bool = False
    start_exact: bool = True


@dataclass(frozen=True, slots=True)
class Extended:
    """CRS or ICANS of grade 2 or more: observation until resolved and a day from onset."""

    toxicity: str
    grade: int
    active: bool
    onset: datetime | None
    until: datetime | None


def _row_of(case: Case, label: str) -> Mapping[str, Any]:
    rows = case.p(RULE).table("windows")
    cycle = int(label[1 : label.index("D")]) if label.startswith("C") and "D" in label else 0
    for row in rows:
        if label in (row.get("labels") or ()):
            return row
    for row in rows:
        if int(row.get("from_cycle") or 0) <= cycle <= int(row.get("to_cycle") or -1) and cycle > 1:
            return row
    return rows[0]


def _crs_before(case: Case, event: DoseEvent) -> bool:
    """CRS of grade 1-3 between the dose before this one and this one."""
    view = tarlatamab_view(case)
    begun = start_of(event, case.now)
    earlier = [start_of(e, case.now) for e in exposures(case) if start_of(e, case.now) < begun]
    if view is None or not earlier:
        return False
    previous = max(earlier)
    if any(r.grade and r.when.earliest < begun for r in recorded_grades(view, "crs_grade", previous)):
        return True
    if any(c.onset is not None and c.onset.earliest < begun for c in coded_episodes(view, "crs", previous)):
        return True
    episode = episode_at(view, begun)
    onset = None if episode is None else episode.onset
    return onset is not None and onset.latest >= previous and onset.earliest < begun


def window(case: Case) -> Window | None:
    """Observation window of the latest dose; None before any."""
    event = last_exposure(case)
    if event is None:
        return None
    where = place(case)
    assumed = isinstance(where, OffLadder) or event.kind is Kind.INCOMPLETE
    label = "" if isinstance(where, OffLadder) else where.last_label
    row = _row_of(case, "C1D1" if assumed or not label else label)
    started = event.start
    start = start_of(event, case.now)
    exact = started is not None and started.exact
    anchor = start if exact else (started.latest if started is not None else start + timedelta(days=1))
    after_crs = _crs_before(case, event)
    late = start + timedelta(hours=float(case.p(RULE)["after_crs_hours"])) if after_crs else None
    shortest, whole = (timedelta(hours=int(row[key])) for key in ("minimum_hours", "full_hours"))
    minimum: datetime | None
    full: datetime | None
    estimate = None
    if row["anchor"] == "start":
        minimum, full = anchor + shortest, anchor + whole
    else:
        end = event.end
        if end is None:
            minimum = full = None
            guess = anchor + timedelta(minutes=float(case.p(RULE)["estimate_minutes"])) + whole
            estimate = guess if late is None else max(guess, late)
        else:
            minimum, full = end.latest + shortest, end.latest + whole
    if late is not None and minimum is not None and full is not None:
        minimum, full = max(minimum, late), max(full, late)
    return Window(
        "after-crs" if after_crs and late == full else str(row["row"]),
        label,
        start,
        minimum,
        full,
        estimate,
        assumed or not label,
        after_crs,
        exact,
    )


def extended(case: Case) -> Extended | None:
    """Toxicity that keeps the patient: still active, or less than a day from its onset."""
    p = case.p(RULE)
    least = p.int("extended_from_grade")
    span = timedelta(hours=float(p["extended_hours"]))
    history, neuro = crs_history(case), neuro_state(case)
    found = []
    if history is not None and history.last_grade >= least:
        onset = None if history.last_onset is None else history.last_onset.latest
        found.append(_extended("crs", history.last_grade, history.unresolved, onset, span))
    if neuro is not None and (neuro.grade or 0) >= least and neuro.unresolved:
        onset = None if neuro.onset is None else neuro.onset.latest
        found.append(_extended("icans", neuro.grade or least, True, onset, span))
    elif neuro is not None and neuro.newest is not None and neuro.newest.worst >= least:
        newest = neuro.newest
        found.append(_extended("icans", newest.worst, neuro.unresolved, newest.onset.latest, span))
    open_ones = [e for e in found if e.active or (e.until is not None and case.now < e.until)]
    return max(open_ones, key=lambda e: (e.grade, e.toxicity), default=None)


def _extended(toxicity: str, grade: int, active: bool, onset: datetime | None, span: timedelta) -> Extended:
    return Extended(toxicity, grade, active, onset, None if onset is None else onset + span)


@rule(RULE)
def monitoring(case: Case) -> Iterator[Finding]:
    observed = window(case)
    if observed is None:
        return
    discharge = case.hook is Hook.ENCOUNTER_DISCHARGE
    kept = extended(case)
    if kept is not None:
        indicator = Indicator.CRITICAL if discharge else Indicator.WARNING
        outcome = Outcome.NOT_MET if discharge else Outcome.ONGOING
        ahead = kept.until is not None and kept.until > case.now
        active = "active" if ahead else "unresolved"
        key = f"summary.extended-{active if kept.active else 'recent'}"
        values: dict[str, Scalar] = {"toxicity": kept.toxicity, "toxicity_grade": kept.grade}
        if kept.until is not None:
            values["extended_until"] = kept.until
        # the window of the dose itself may close later still
        until = max(t for t in (kept.until, observed.full, case.now) if t is not None)
        if until > case.now:
            values["observe_until"] = until
        summary = msg(key, toxicity=msg(f"toxicity.{kept.toxicity}"), grade=kept.grade, until=until)
        yield _finding(case, observed, "extended", outcome, indicator, summary, values, kept)
        return
    if observed.full is None or observed.minimum is None:
        yield from _unclosed(case, observed, discharge)
        return
    if case.now >= observed.full:
        return
    if not discharge:
        summary = msg("summary.open", until=observed.full)
        yield _finding(case, observed, observed.row, Outcome.ONGOING, Indicator.INFO, summary, {})
    elif case.now < observed.minimum:
        summary = msg("summary.early", until=observed.minimum)
        yield _finding(case, observed, observed.row, Outcome.NOT_MET, Indicator.WARNING, summary, {})
    else:
        summary = msg("summary.minimum", until=observed.full)
        yield _finding(case, observed, observed.row, Outcome.MET_MINIMUM, Indicator.INFO, summary, {})


def _unclosed(case: Case, observed: Window, discharge: bool) -> Iterator[Finding]:
    """No end of the infusion on the chart: an estimate only. Old doses are left in peace."""
    if observed.estimate is None or case.now >= observed.estimate + timedelta(days=1):
        return
    if not discharge and case.now >= observed.estimate:
        return
    indicator = Indicator.WARNING if discharge else Indicator.INFO
    summary = msg("summary.no-end", estimate=observed.estimate)
    yield _finding(case, observed, observed.row, Outcome.UNKNOWN, indicator, summary, {})


def _finding(
    case: Case,
    observed: Window,
    row: str,
    outcome: Outcome,
    indicator: Indicator,
    summary: Message,
    extra: dict[str, Scalar],
    kept: Extended | None = None,
) -> Finding:
    p = case.p(RULE)
    values: dict[str, Scalar] = {"row": row, **extra}
    detail: list[Block] = [Bullet(msg("detail.dose", start=observed.start))]
    missing: tuple[Missing, ...] = ()
    if observed.label:
        values["label"] = observed.label
    if observed.assumed:
        detail.append(Bullet(msg("detail.assumed")))
    if observed.after_crs:
        detail.append(Bullet(msg("detail.after-crs")))
    if observed.minimum is not None and observed.full is not None:
        values |= {"minimum_end": observed.minimum, "window_end": observed.full}
        text = msg("detail.window", minimum=observed.minimum, full=observed.full)
        if observed.minimum == observed.full:
            text = msg("detail.until", full=observed.full)
        detail.append(Paragraph(text))
    if observed.full is None:
        missing = (Missing("infusion_end"),)
        detail.append(Bullet(msg("detail.no-end")))
    if row == "48h" and case.now - observed.start >= timedelta(hours=float(p["label_alternative_hours"])):
        detail.append(Bullet(msg("detail.label-alternative")))
        values["label_alternative"] = True
    if not observed.start_exact:
        detail.append(Bullet(msg("detail.day-only")))
    suggestions: tuple[Suggestion, ...] = ()
    if kept is not None:
        detail.append(Paragraph(msg("detail.extended")))
        if kept.toxicity == "crs":
            detail.append(Bullet(msg("detail.telemetry")))
            order = Create(ServiceProposal("continuous_monitoring", reason="crs"))
            suggestions = (Suggestion("telemetry", msg("suggest.telemetry"), (order,), recommended=True),)
        if kept.grade >= 3:
            detail.append(Bullet(msg("detail.icu")))
    last = last_exposure(case)
    return Finding(
        rule=RULE,
        outcome=outcome,
        indicator=indicator,
        summary=summary,
        detail=tuple(detail),
        values=values,
        evidence=() if last is None else tuple(of_drug(record) for record in last.records),
        missing=missing,
        suggestions=suggestions,
        until=None if observed.full is None else observed.full.date(),
    )
