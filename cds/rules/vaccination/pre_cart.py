"""Vaccines before lymphodepletion: what is still in time, what has to wait for the rules after CAR-T."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

from cards.finding import (
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
    Paragraph,
    Shown,
    Suggestion,
    Table,
    VaccineProposal,
    msg,
)
from cds.engine.case import Case
from cds.engine.rule import rule
from cds.rules import evidence
from cds.rules.unread import VACCINES, unread
from cds.rules.vaccination.answers import allowed, offered, removal
from cds.rules.vaccination.classes import (
    Classified,
    VaccineClass,
    at_most_info,
    concerns,
    drafted,
    name_of,
    post_exposure,
)
from cds.rules.vaccination.covid19 import against_covid19
from cds.rules.vaccination.eligibility import (
    alive,
    course_begun,
    drug_names,
    planned_day,
    recent,
    suppressing_drugs,
    suppression_free,
)
from cds.rules.vaccination.influenza import PRODUCT as INFLUENZA
from cds.rules.vaccination.influenza import (
    against_influenza,
    day_of,
    given,
    season_of_dose,
    season_start,
    vaccines_unread,
)
from fhir_mapping.chart import Vaccine

RULE = "vaccination.pre-cart"
COVID19 = "vac_covid19"
_NON_LIVE = (VaccineClass.INFLUENZA, VaccineClass.INACTIVATED, VaccineClass.ADJUVANTED)
_ALL = (*_NON_LIVE, VaccineClass.COVID19, VaccineClass.LIVE)


@dataclass(frozen=True, slots=True)
class Start:
    """First day of lymphodepletion. `exact` False: only the infusion is planned, which is later."""

    day: date | None
    exact: bool
    evidence: tuple[Evidence, ...] = ()


def therapy_start(case: Case) -> Start:
    """Planned lymphodepletion, else the planned infusion as an upper bound."""
    course = case.chart.course
    if course.ldc_first is not None and course.ldc_first.date is not None:
        return Start(course.ldc_first.date, True, (evidence.of_anchor(course.ldc_first, "lymphodepletion"),))
    planned = course.infusion_planned
    if planned is not None and planned.date is not None:
        return Start(planned.date, False, (evidence.of_anchor(planned, "car_t_infusion"),))
    return Start(None, False)


@rule(RULE, concerns=concerns(*_ALL))
def vaccines_before(case: Case) -> Iterator[Finding]:
    """Each drafted vaccine of a planned course; on patient-view the seasonal and SARS-CoV-2 vaccines."""
    if not case.chart.course.candidate or not alive(case):
        return
    if case.ordering:
        for vaccine, told in drafted(case, *_ALL):
            on = planned_day(case, vaccine.when)
            if not course_begun(case, on):
                yield _order(case, vaccine, told, on)
    elif not course_begun(case, case.today):
        if unread(case, VACCINES):
            yield vaccines_unread(RULE, "class_vaccines")
        else:
            yield from _status(case)


def _b_cells_low(case: Case, on: date) -> tuple[Bullet, ...]:
    """Depleted B cells: every marker that was counted is low."""
    p = case.p("vaccination.live")
    counts = [
        found.value.quantity.at_most(p["b_origin_per_ul"])
        for found, _ in (recent(case, name, p.int("lab_age_days"), on) for name in ("cd19_abs", "cd20_abs"))
        if found is not None and found.value.quantity is not None
    ]
    return (Bullet(msg("detail.aplasia")),) if counts and all(counts) else ()


def _order(case: Case, vaccine: Vaccine, told: Classified, on: date) -> Finding:
    p = case.p(RULE)
    start = therapy_start(case)
    name = name_of(vaccine, told)
    left = None if start.day is None else (start.day - on).days
    kind = told.vaccine_class
    needed = p.int("live_days") if kind is VaccineClass.LIVE else p.int("non_live_days")
    suppression = suppression_free(case, on)
    drugs = suppressing_drugs(case, on)
    missing: tuple[Missing, ...] = ()
    notes: tuple[Bullet, ...] = _b_cells_low(case, on)
    indicator: Indicator | None
    short = left is not None and left < needed
    suggestions: tuple[Suggestion, ...] = ()
    if kind is VaccineClass.LIVE:
        row = "live"
        if short and left is not None:
            outcome, indicator = Outcome.CONTRAINDICATED, Indicator.CRITICAL
            summary = msg("summary.live-late", vaccine=name, left=Days(left), needed=needed)
            suggestions = (removal(vaccine),)
        elif drugs:
            outcome, indicator = Outcome.CONTRAINDICATED, Indicator.CRITICAL
            summary = msg("summary.live-suppressed", vaccine=name, drugs=drug_names(drugs))
            suggestions = (removal(vaccine),)
        elif left is None or not start.exact:
            outcome, indicator = Outcome.CANNOT_CHECK, Indicator.WARNING
            summary = msg("summary.live-undated", vaccine=name, needed=needed)
        elif suppression.holds is None:
            outcome, indicator = Outcome.CANNOT_CHECK, Indicator.WARNING
            summary = msg("summary.live-unknown", vaccine=name)
            notes += (Bullet(suppression.reason),)
            missing = suppression.missing
        else:
            outcome, indicator = Outcome.PASS, Indicator.INFO
            summary = msg("summary.live-in-time", vaccine=name, left=Days(left), needed=needed)
        notes += (Bullet(msg("detail.live", needed=needed)),)
    elif kind is VaccineClass.COVID19 or post_exposure(vaccine):
        row, outcome = "no-interval", Outcome.PASS
        indicator = Indicator.INFO if notes or drugs else None
        summary = msg("summary.in-time", vaccine=name)
    elif short and left is not None:
        row, outcome, indicator = "late", Outcome.TOO_LATE, Indicator.INFO
        summary = msg("summary.late", vaccine=name, left=Days(left), needed=needed)
    elif left is None or not start.exact:
        row, outcome, indicator = "undated", Outcome.CANNOT_CHECK, Indicator.INFO
        summary = msg("summary.undated", vaccine=name, needed=needed)
    else:
        row, outcome = "in-time", Outcome.PASS
        indicator = Indicator.INFO if notes or drugs else None
        summary = msg("summary.in-time", vaccine=name)
    if drugs and kind is not VaccineClass.LIVE:
        notes += (Bullet(msg("detail.suppressed", drugs=drug_names(drugs))),)
    anchor = () if start.day is None else (Paragraph(_anchor_text(start, start.day)),)
    values: dict[str, str | int | date] = {"row": row, "vaccine_class": kind.value, "planned": on}
    if left is not None:
        values |= {"days_before": left, "needed_days": needed}
    return Finding(
        rule=RULE,
        outcome=outcome,
        indicator=None if indicator is None else at_most_info(vaccine, indicator),
        summary=summary,
        subject=vaccine.reference,
        resource=vaccine.reference,
        detail=(*anchor, *notes, Paragraph(msg("detail.preference", needed=p.int("non_live_days")))),
        values=values,
        evidence=start.evidence,
        missing=missing,
        suggestions=offered(vaccine, suggestions),
        unconcluded=outcome is Outcome.CANNOT_CHECK,
    )


def _anchor_text(start: Start, day: date) -> Message:
    return msg("detail.starts" if start.exact else "detail.infusion-only", day=day)


def _status(case: Case) -> Iterator[Finding]:
    p = case.p(RULE)
    start = therapy_start(case)
    needed = p.int("non_live_days")
    left = None if start.day is None else (start.day - case.today).days
    rows: list[tuple[Shown, ...]] = []
    values: dict[str, str | int | date] = {}
    suggestions: list[Suggestion] = []
    season = season_start(case, case.today)
    flu = given(case, against_influenza)
    in_season = [dose for dose in flu if dose[1] >= season_of_dose(case, case.today)]
    state = ""
    if in_season:
        rows.append((Name(INFLUENZA), msg("word.done"), msg("row.given", day=day_of(in_season[-1][0]))))
        values |= {"influenza": "done", "influenza_on": in_season[-1][1]}
        state = "done"
    elif season is not None:
        state = "late" if left is not None and left < needed else "due"
        rows.append((Name(INFLUENZA), msg(f"word.{state}"), _advice(start, left, needed)))
        values["influenza"] = state
        if allowed(case, INFLUENZA):
            suggestions.append(_offer(INFLUENZA, case.today))
    covid = given(case, against_covid19)
    if covid:
        rows.append((Name(COVID19), msg("word.done"), msg("row.given", day=day_of(covid[-1][0]))))
        values |= {"covid19": "done", "covid19_on": covid[-1][1]}
    else:
        rows.append((Name(COVID19), msg("word.due"), msg("row.covid")))
        values["covid19"] = "due"
        if allowed(case, COVID19):
            suggestions.append(_offer(COVID19, case.today))
    if not state and covid:
        return
    worst = state or "covid19"
    if left is not None:
        values |= {"days_before": left, "needed_days": needed}
    outcome = {"late": Outcome.TOO_LATE, "due": Outcome.DUE, "covid19": Outcome.DUE, "done": Outcome.DONE}[
        worst
    ]
    yield Finding(
        rule=RULE,
        outcome=outcome,
        indicator=Indicator.WARNING if worst == "due" else Indicator.INFO,
        summary=_summary(worst, start, left, needed),
        detail=(
            Table((msg("header.vaccine"), msg("header.state"), msg("header.found")), tuple(rows)),
            *((Paragraph(_anchor_text(start, start.day)),) if start.day is not None else ()),
            *_b_cells_low(case, case.today),
            Paragraph(msg("detail.preference", needed=needed)),
        ),
        values={"row": worst, **values},
        evidence=(
            *start.evidence,
            *(evidence.of_fact(v, INFLUENZA) for v, _ in flu[-1:]),
            *(evidence.of_fact(v, COVID19) for v, _ in covid[-1:]),
        ),
        suggestions=tuple(suggestions),
        until=start.day - timedelta(days=needed) if start.day is not None and worst == "due" else None,
    )


def _advice(start: Start, left: int | None, needed: int) -> Message:
    if left is None or start.day is None:
        return msg("row.undated", needed=needed)
    if left < needed:
        return msg("row.late", left=Days(left), needed=needed)
    return msg("row.until", last=start.day - timedelta(days=needed), needed=needed)


def _summary(worst: str, start: Start, left: int | None, needed: int) -> Message:
    if worst == "done":
        return msg("summary.status-done")
    if worst == "covid19":
        return msg("summary.status-covid19")
    if left is None or start.day is None:
        return msg("summary.status-undated", needed=needed)
    if worst == "late":
        return msg("summary.status-late", left=Days(left), needed=needed)
    return msg("summary.status-due", left=Days(left))


def _offer(vaccine: str, today: date) -> Suggestion:
    return Suggestion(
        vaccine, msg("suggest.vaccine", vaccine=Name(vaccine)), (Create(VaccineProposal(vaccine, today)),)
    )
