"""Order check of tocilizumab in CRS: dose, route, interval, 24-h count, total, indication."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal

from cards.finding import (
    Action,
    Block,
    Bullet,
    Delete,
    Evidence,
    Finding,
    Indicator,
    Message,
    Missing,
    Outcome,
    Paragraph,
    Shown,
    Suggestion,
    msg,
)
from cds.engine.case import Case
from cds.engine.rule import rule
from cds.rules.after_cart import therapy_start, unread_dose
from cds.rules.dosing.crs_ladder import Node, crs_step
from cds.rules.dosing.tocilizumab import (
    Allowance,
    adult_below_limit,
    allowance,
    reported_line,
    suggestion,
    tocilizumab_dose,
    tocilizumab_doses,
)
from cds.rules.evidence import of_drug_start
from cds.rules.grading.crs_episode import Gate, crs_applies, crs_now
from cds.rules.grading.fever import hours
from cds.rules.grading.icans_episode import icans_now
from cds.rules.grading.iec_hs_episode import iec_hs_now
from fhir_mapping.chart import Amount, DrugRecord, DrugState, Moment, Route, instant

RULE = "dosing.crs-tocilizumab"
GIVEN_EARLY = timedelta(hours=1)  # an administration this long before the ordered time is that dose
Value = str | int | bool | Decimal | date | datetime


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with the draft."""

    row: str
    outcome: Outcome
    indicator: Indicator
    summary: Message
    until: date | None = None


def _instant(moment: Moment | None, case: Case) -> datetime:
    """When a drafted dose is due: a day without a clock time begins today at the earliest."""
    if moment is None:
        return case.now
    return max(moment.earliest, case.now) if not moment.exact else moment.earliest


def _planned(draft: DrugRecord, case: Case) -> tuple[datetime, ...]:
    if draft.timing.as_needed or not draft.timing.doses:
        return (_instant(draft.timing.first, case),)
    return tuple(_instant(moment, case) for moment in draft.timing.doses)


# --- dose


def _per_dose_mg(draft: DrugRecord, case: Case) -> tuple[Decimal | None, Decimal | None]:
    """The drafted dose as (mg, mg/kg): whichever is written, the other computed from the weight."""
    amount = draft.dose.amount if draft.dose is not None else None
    weight = tocilizumab_dose(case).weight.value
    if amount is None:
        return None, None
    if amount.unit == "mg":
        return amount.value, None
    if amount.unit == "mg/kg":
        return (amount.value * weight if weight is not None else None), amount.value
    return None, None


def _dose_faults(draft: DrugRecord, case: Case) -> Iterator[Fault]:
    p = case.p(RULE)
    mg, per_kg = _per_dose_mg(draft, case)
    if mg is not None and mg > p["max_dose_mg"]:
        shown = Amount(mg.quantize(Decimal("0.1")), "mg")
        yield Fault(
            "dose",
            Outcome.OVER_MAXIMUM,
            Indicator.CRITICAL,
            msg("summary.over-maximum", dose=shown, maximum=Amount(p["max_dose_mg"], "mg")),
        )
        return
    if mg is None:
        allowed = (p["per_kg_mg"], p["per_kg_low_weight_mg"])
        if per_kg is not None and per_kg > max(allowed) * (1 + p["tolerance_pct"] / 100):
            yield Fault(
                "dose",
                Outcome.WRONG_DOSE,
                Indicator.WARNING,
                msg(
                    "summary.per-kg",
                    dose=Amount(per_kg, "mg/kg"),
                    per_kg=Amount(p["per_kg_mg"], "mg/kg"),
                    low=Amount(p["per_kg_low_weight_mg"], "mg/kg"),
                    limit=Amount(p["low_weight_below_kg"], "kg"),
                ),
            )
        return
    right = tocilizumab_dose(case)
    if right.mg is None:
        return
    if abs(mg - right.mg) * 100 > right.mg * p["tolerance_pct"]:
        assert right.weight.value is not None
        yield Fault(
            "dose",
            Outcome.WRONG_DOSE,
            Indicator.WARNING,
            msg(
                "summary.wrong-dose",
                dose=Amount(mg.quantize(Decimal("0.1")), "mg"),
                right=Amount(right.mg, "mg"),
                weight=Amount(right.weight.value, "kg"),
            ),
        )


# --- counts


def _counted(case: Case, draft: DrugRecord) -> tuple[tuple[datetime, Allowance], ...]:
    """Each planned dose of the draft with what the limits say, doses planned before it included.

    Of two drafts for the same time the second follows the first.
    """
    known = [d.timing.first for d in tocilizumab_doses(case) if d.timing.first is not None]
    begin = _planned(draft, case)[0]
    for other in case.chart.drafts.drugs.of("tocilizumab"):
        if other.reference != draft.reference:
            planned = _planned(other, case)
            known += [instant(t) for t in planned if (t, other.reference) < (begin, draft.reference)]
    known += [instant(t) for t in _ordered_not_given(case) if t <= begin]
    found = []
    for at in _planned(draft, case):
        found.append((at, allowance(case, at, tuple(known))))
        known.append(instant(at))
    return tuple(found)


def _ordered_not_given(case: Case) -> Iterator[datetime]:
    """Doses of standing orders that are due, or were a short while ago, without an administration yet."""
    since = case.now - hours(case.p(RULE)["min_interval_hours"])
    given = [d.timing.first.latest for d in tocilizumab_doses(case) if d.timing.first is not None]
    for order in case.chart.orders("tocilizumab"):
        if order.state is not DrugState.ACTIVE or order.timing.as_needed:
            continue
        for due in _planned(order, case):
            if due >= since and not any(time >= due - GIVEN_EARLY for time in given):
                yield due


def _count_faults(case: Case, at: datetime, room: Allowance) -> Iterator[Fault]:
    p = case.p(RULE)
    if room.left == 0:
        yield Fault(
            "total",
            Outcome.OVER_MAXIMUM,
            Indicator.CRITICAL,
            msg("summary.total", number=room.given + 1, most=p.int("max_total")),
        )
    if room.in_24_h is not None and room.in_24_h > p.int("max_in_24_h"):
        earliest = room.earliest
        values: dict[str, Shown] = {"number": room.in_24_h, "most": p.int("max_in_24_h")}
        key = "summary.in-24-h"
        if earliest is not None:
            values["earliest"] = earliest
            key = "summary.in-24-h-until"
        yield Fault(
            "24h",
            Outcome.OVER_MAXIMUM,
            Indicator.CRITICAL,
            Message(key, values),
            earliest.date() if earliest is not None else None,
        )
    if room.interval_met is False and room.last is not None:
        earliest = room.earliest
        assert room.hours_since_last is not None
        minutes = int(room.hours_since_last * 60)
        values = {"last": room.last, "gap_h": minutes // 60, "gap_min": minutes % 60}
        values["interval"] = p.int("min_interval_hours")
        yield Fault(
            "interval",
            Outcome.TOO_EARLY,
            Indicator.WARNING,
            Message("summary.interval", values),
            earliest.date() if earliest is not None else None,
        )


# --- indication


def _indication_fault(case: Case) -> Fault | None:
    """Tocilizumab outside the nodes that name it. An ungraded CRS is no fault (it is named as missing)."""
    state = crs_now(case)
    icans = icans_now(case)
    if state.low is None:
        return None
    step = crs_step(case)
    if state.low == 0:
        neuro = icans is not None and (icans.grade or 0) >= 1
        hyperinflammation = iec_hs_now(case)
        iec_hs = hyperinflammation is not None and hyperinflammation.established
        key = "indication.icans-only" if neuro else "indication.iec-hs" if iec_hs else "indication.no-crs"
        return Fault("indication", Outcome.REVIEW, Indicator.WARNING, msg(key))
    if step is None:
        return None
    if step.node is Node.NEUROTOXICITY:
        return None  # dosing.icans warns about this pair
    if step.node is Node.IEC_HS:
        return Fault("indication", Outcome.REVIEW, Indicator.WARNING, msg("indication.iec-hs"))
    if step.node is Node.N1A:
        hours = case.p("dosing.crs").int("grade_1_persistent_hours")
        if step.time_unknown:
            return None
        return Fault("indication", Outcome.REVIEW, Indicator.WARNING, msg("indication.1a", hours=hours))
    if step.node is Node.IMPROVED:
        return Fault("indication", Outcome.REVIEW, Indicator.WARNING, msg("indication.improved"))
    if step.node is Node.N4B and step.icans and not step.tocilizumab_wanted:
        return Fault(
            "indication", Outcome.REVIEW, Indicator.WARNING, msg("indication.4b-icans", grade=step.icans)
        )
    return None


# --- the rule


def _applies(case: Case) -> bool:
    if therapy_start(case) is None:
        return False
    state = crs_now(case)
    open_episode = state.episode is not None and state.gate is not Gate.RESOLVED
    return crs_applies(case) or (open_episode and state.present)


@rule(RULE)
def check_tocilizumab(case: Case) -> Iterator[Finding]:
    """Each drafted tocilizumab from day 0 to 30, or while CRS is open."""
    drafts = case.judged_drugs("tocilizumab")
    if not drafts or not _applies(case):
        return
    for draft in drafts:
        yield _judge(case, draft)


def _faults(case: Case, draft: DrugRecord, counted: Iterable[Fault]) -> list[Fault]:
    """Everything against the order, the gravest first."""
    found = [*_dose_faults(draft, case)]
    if draft.route is not None and draft.route is not Route.INTRAVENOUS:
        found.append(Fault("route", Outcome.WRONG_ROUTE, Indicator.WARNING, msg("summary.route")))
    found += counted
    if (fault := _indication_fault(case)) is not None:
        found.append(fault)
    if case.chart.allergy_to("tocilizumab"):
        found.append(Fault("allergy", Outcome.CONTRAINDICATED, Indicator.CRITICAL, msg("summary.allergy")))
    return sorted(found, key=lambda f: (-f.indicator.rank, f.row != "allergy"))


def _right_dose(case: Case) -> Iterator[Block]:
    right = tocilizumab_dose(case)
    if right.mg is None or right.per_kg is None or right.weight.value is None:
        return
    shown: dict[str, Shown] = {
        "dose": Amount(right.mg, "mg"),
        "per_kg": Amount(right.per_kg, "mg/kg"),
        "weight": Amount(right.weight.value, "kg"),
    }
    if right.capped:
        shown["maximum"] = Amount(case.p(RULE)["max_dose_mg"], "mg")
    yield Paragraph(Message("detail.dose-capped" if right.capped else "detail.dose", shown))
    if right.adult_below_limit:
        yield Paragraph(adult_below_limit(case))


def _detail(case: Case, room: Allowance) -> Iterator[Block]:
    p = case.p(RULE)
    interval = p.int("min_interval_hours")
    yield from _right_dose(case)
    yield Bullet(msg("detail.count", given=room.given, left=room.left))
    if room.last is not None:
        yield Bullet(msg("detail.last", when=room.last))
    yield from reported_line(case)
    if room.earliest is not None and room.given:
        yield Bullet(msg("detail.earliest", when=room.earliest))
    if room.in_24_h is None or room.interval_met is None:
        yield Bullet(msg("detail.time-unknown"))
    check = case.p("dosing.crs").int("response_check_hours")
    yield Bullet(Message("conflict.interval", {"interval": interval, "check": check}, "dosing.crs"))
    if crs_now(case).low is None:
        yield Bullet(msg("detail.grade-unknown"))
    limits = {"in_day": p.int("max_in_24_h"), "total": p.int("max_total")}
    yield Paragraph(msg("criterion", interval=interval, **limits))


def _judge(case: Case, draft: DrugRecord) -> Finding:
    counted = _counted(case, draft)
    at, room, over = next(
        ((when, each, found) for when, each in counted if (found := [*_count_faults(case, when, each)])),
        (*counted[0], []),
    )
    faults = _faults(case, draft, over)
    missing = _missing(case, draft, room)
    values = _values(case, draft, room, at)
    if faults:
        worst = faults[0]
        outcome, indicator, summary = worst.outcome, worst.indicator, worst.summary
        values["row"] = worst.row
        if len(faults) > 1:
            values["rows"] = list[Value](f.row for f in faults)
    elif missing:
        outcome, indicator, summary = Outcome.CANNOT_CHECK, Indicator.WARNING, _cannot(draft, missing)
        values["row"] = "missing"
    else:
        outcome, indicator, summary = Outcome.PASS, None, msg("summary.pass")
    return Finding(
        rule=RULE,
        outcome=outcome,
        indicator=indicator,
        summary=summary,
        subject=draft.reference,
        detail=(*(Paragraph(f.summary) for f in faults[1:]), *_detail(case, room)),
        values=values,
        evidence=(
            *tocilizumab_dose(case).weight.evidence,
            *(of_drug_start(d) for d in tocilizumab_doses(case)),
            *(Evidence(allergy.reference, "tocilizumab") for allergy in case.chart.allergy_to("tocilizumab")),
        ),
        missing=missing,
        resource=draft.reference,
        suggestions=_suggestions(case, draft, faults),
        until=max((f.until for f in faults if f.until is not None), default=None),
        unconcluded=outcome is Outcome.CANNOT_CHECK,
    )


def _cannot(draft: DrugRecord, missing: tuple[Missing, ...]) -> Message:
    if any(m.resource == draft.reference for m in missing):
        return msg("summary.dose-unreadable")
    no_weight = any(m.concept == "body_weight" for m in missing)
    return msg("summary.no-weight" if no_weight else "summary.times-unknown")


def _missing(case: Case, draft: DrugRecord, room: Allowance) -> tuple[Missing, ...]:
    found = list(tocilizumab_dose(case).missing)
    if _per_dose_mg(draft, case) == (None, None):
        found.append(unread_dose(draft, "tocilizumab"))
    if room.in_24_h is None or room.interval_met is None:
        undated = [d for d in tocilizumab_doses(case) if d.timing.first and not d.timing.first.exact]
        found += [Missing("tocilizumab", resource=d.reference) for d in undated]
    return tuple(found)


def _values(
    case: Case, draft: DrugRecord, room: Allowance, at: datetime
) -> dict[str, Value | list[Value] | list[dict[str, Value]]]:
    right = tocilizumab_dose(case)
    mg, _ = _per_dose_mg(draft, case)
    values: dict[str, Value | list[Value] | list[dict[str, Value]]] = {
        "doses_given": room.given,
        "doses_left": room.left,
    }
    if right.mg is not None:
        values["needed_mg"] = right.mg
    if right.per_kg is not None and right.weight.value is not None:
        values["per_kg_mg"] = right.per_kg
        values["weight_kg"] = right.weight.value
    if mg is not None:
        values["dose_mg"] = mg
    if room.hours_since_last is not None:
        values["hours_since_last"] = Decimal(str(round(room.hours_since_last, 4)))
    if room.in_24_h is not None:
        values["doses_in_24_h"] = room.in_24_h
    if room.earliest is not None and room.earliest > at:
        values["earliest"] = room.earliest
    return values


def _suggestions(case: Case, draft: DrugRecord, faults: list[Fault]) -> tuple[Suggestion, ...]:
    """The right order in place of a draft whose only fault is its dose or route; else the draft goes."""
    if not faults:
        return ()
    rows = {f.row for f in faults}
    if draft.state is not DrugState.DRAFT:
        return ()
    if rows <= {"dose", "route"} and tocilizumab_dose(case).mg is not None:
        right = suggestion(case, "replace", recommended=True)
        actions: tuple[Action, ...] = (Delete(draft.reference), *right.actions)
        return (Suggestion("replace", right.label, actions, True),)
    if rows & {"total", "24h", "allergy"}:
        return (Suggestion("remove", msg("suggest.remove"), (Delete(draft.reference),)),)
    return ()
