"""Dexamethasone before and saline after tarlatamab, step by step of the ladder."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import ROUND_UP, Context, Decimal

from cards.finding import (
    ONCE,
    Bullet,
    Create,
    Delete,
    DrugProposal,
    Evidence,
    Finding,
    Indicator,
    Items,
    Message,
    Missing,
    Name,
    Outcome,
    Override,
    Paragraph,
    Scalar,
    Selection,
    Shown,
    Suggestion,
    msg,
)
from cds.engine.case import Case
from cds.engine.rule import Hook, rule
from cds.rules.bispecific.holds.rows import Action
from cds.rules.bispecific.holds.state import hold_state
from cds.rules.bispecific.orders import Judged
from cds.rules.bispecific.tarlatamab import (
    dosed,
    history_unread,
    judged_active,
    last_exposure,
    tarlatamab_ladder,
    under_judgement,
)
from cds.rules.bispecific.toxicity import crs_since_previous_dose
from cds.rules.evidence import of_drug, of_fact, of_observation
from cds.rules.steroids import (
    GLUCOCORTICOIDS,
    dose_equivalent,
    from_prednisone,
    prednisone_equivalent,
)
from fhir_mapping.chart import (
    Amount,
    ConditionState,
    DrugRecord,
    DrugSource,
    DrugState,
    EventState,
    Moment,
    Route,
    reaches_the_body,
    whole_day,
)

RULE = "dosing.tarlatamab-concomitant"
_SALINE = ("sodium_chloride", "crystalloid")
_FLUID_ORDER = "iv_fluids"
_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*[%％]")
_OVERLOAD = ("heart_failure", "fluid_overload", "esrd")
_DIALYSIS = ("dialysis", "hemodialysis", "peritoneal_dialysis")
_PREMEDICATION = frozenset({"purpose_premedication", "purpose_antiemetic", "purpose_prophylaxis"})


@dataclass(frozen=True, slots=True)
class Point:
    """One thing to put right around one dose."""

    row: str
    outcome: Outcome
    indicator: Indicator
    text: Message
    suggestion: Suggestion | None = None
    evidence: tuple[Evidence, ...] = ()
    missing: tuple[Missing, ...] = ()
    values: Mapping[str, Scalar] = field(default_factory=dict)


@rule(RULE)
def concomitant(case: Case) -> Iterator[Finding]:
    judged = under_judgement(case)
    for one in judged:
        if not one.label or (history_unread(case) and not dosed(case)):
            continue  # which step it is cannot be told
        points = list(_points(case, one))
        if points:
            yield _finding(case, points, one.reference, one.label)
    if not judged and case.hook is Hook.ORDER_SIGN:
        yield from _steroid_alone(case)


def _criterion(case: Case) -> Message:
    p = case.p(RULE)
    return msg("criterion", steroid=Items(p.words("steroid_steps")), saline=Items(p.words("saline_steps")))


def _finding(case: Case, points: list[Point], reference: str, label: str) -> Finding:
    points.sort(key=lambda p: -p.indicator.rank)
    worst = points[0]
    values: dict[str, Scalar | list[Scalar]] = {
        "row": worst.row,
        "rows": [p.row for p in points],
        "label": label,
    }
    for point in points:
        values |= point.values
    return Finding(
        rule=RULE,
        outcome=worst.outcome,
        indicator=worst.indicator,
        summary=msg(f"summary.{worst.row}", label=label, **worst.text.values),
        subject=reference,
        detail=(*(Bullet(p.text) for p in points), Paragraph(_criterion(case))),
        values=values,
        evidence=tuple(e for p in points for e in p.evidence),
        missing=tuple(m for p in points for m in p.missing),
        resource=reference,
        suggestions=_one_recommended(case, [p.suggestion for p in points if p.suggestion is not None]),
        selection=Selection.ANY,
        overrides=(Override.ALREADY_DONE, Override.RISK_BENEFIT, Override.SPECIALIST_ADVICE, Override.OTHER),
    )


def _one_recommended(case: Case, suggestions: list[Suggestion]) -> tuple[Suggestion, ...]:
    """At most one pre-selected; none beside a dose that another card holds or stops."""
    held = hold_state(case).action >= Action.HOLD
    kept: list[Suggestion] = []
    for suggestion in suggestions:
        if suggestion.recommended and (held or any(s.recommended for s in kept)):
            suggestion = Suggestion(suggestion.key, suggestion.label, suggestion.actions)
        kept.append(suggestion)
    return tuple(kept)


def _after_crs(case: Case, judged: Judged) -> bool:
    """CRS since the dose before this one; later doses of a batch follow a dose not given yet."""
    last = last_exposure(case)
    previous = None if judged.place is None else judged.place.last
    return last is not None and previous == last.day and crs_since_previous_dose(case) > 0


def _points(case: Case, judged: Judged) -> Iterator[Point]:
    day = judged.start or judged.planned.day
    yield from _steroid_points(case, judged, day)
    if judged.label in case.p(RULE).words("saline_steps"):
        yield from _saline(case, judged.planned.record, day, _start_on(judged, day))


def _start_on(judged: Judged, day: date) -> Moment | None:
    """The hour at which the infusion starts on that day, where the order says it."""
    first = judged.planned.record.timing.first
    return first if first is not None and first.exact and first.date == day else None


def _steroid_points(case: Case, judged: Judged, day: date) -> Iterator[Point]:
    required = judged.label in case.p(RULE).words("steroid_steps")
    if required or _after_crs(case, judged):
        yield from _steroid(case, day, _start_on(judged, day), required)
    else:
        yield from _not_needed(case, day)


# --- steroid


def _planned_on(record: DrugRecord, day: date) -> tuple[Moment, ...]:
    """The times at which a record gives its doses on that day."""
    timing = record.timing
    if doses := tuple(moment for moment in timing.doses if moment.date == day):
        return doses
    if timing.first is None:
        return ()
    if timing.first.date == day:
        return (timing.first,)
    until = timing.last
    covers = timing.first.first_date <= day and (timing.ongoing or (until is not None and until.date >= day))
    if not covers or timing.as_needed or record.source is DrugSource.ADMINISTRATION:
        return ()
    return (whole_day(day, timing.first.earliest),)


def _available(case: Case, *concepts: str) -> list[DrugRecord]:
    """Drafts, orders in force and doses given."""
    drafts = list(case.chart.drafts.drugs.of(*concepts))
    charted = [
        d
        for d in case.chart.drugs.of(*concepts)
        if (d.source is DrugSource.ORDER and d.state in (DrugState.ACTIVE, DrugState.COMPLETED))
        or (d.source is DrugSource.ADMINISTRATION and d.given)
    ]
    return drafts + charted


def _steroids_on(case: Case, day: date) -> list[tuple[DrugRecord, Moment]]:
    found: list[tuple[DrugRecord, Moment]] = []
    for record in _available(case, *GLUCOCORTICOIDS):
        if record.timing.as_needed or not reaches_the_body(record.route):
            continue
        found += [(record, when) for when in _planned_on(record, day)]
    return found


def _needed(case: Case, record: DrugRecord) -> Decimal | None:
    """mg of the record's drug that equal the dexamethasone dose. Equivalents are printed to three digits
    (42.7, 53.3, 213 mg): such a dose is enough."""
    prednisone = prednisone_equivalent("dexamethasone", case.p(RULE)["dexamethasone_mg"])
    for drug in record.ingredients:
        exact = None if prednisone is None else from_prednisone(drug, prednisone)
        if exact is not None:
            return min(exact, Context(prec=3).plus(exact))
    return None


def _share(case: Case, record: DrugRecord) -> Decimal | None:
    """The dose as a part of the 8 mg of dexamethasone or its equivalent; None where it cannot be read."""
    needed = _needed(case, record)
    if needed is None or record.dose is None or record.dose.mg is None:
        return None
    return record.dose.mg / needed


def _dexamethasone_mg(record: DrugRecord) -> Decimal | None:
    own = dose_equivalent(record)
    equal = None if own is None else from_prednisone("dexamethasone", own)
    return None if equal is None else equal.quantize(Decimal("0.01"))


def _minutes_before(start: Moment, given: Moment) -> Decimal | None:
    if not start.exact or not given.exact:
        return None
    return Decimal((start.earliest - given.earliest) // timedelta(seconds=1)) / 60


def _in_window(start: Moment | None, when: Moment, window: Decimal) -> bool:
    """Within the minutes before the infusion, as far as the hours are known."""
    minutes = None if start is None else _minutes_before(start, when)
    return minutes is None or 0 <= minutes <= window


def _partial(
    case: Case, candidates: list[tuple[DrugRecord, Moment]], start: Moment | None, window: Decimal
) -> dict[DrugRecord, Decimal]:
    """Steroids that are right but for their dose, each with its share of it. An order counts no second time
    beside what was given of its drug."""
    given = {d for r, _ in candidates if r.source is DrugSource.ADMINISTRATION for d in r.ingredients}
    found: dict[DrugRecord, Decimal] = {}
    for record, when in candidates:
        charted = record.source is DrugSource.ORDER and record.state is not DrugState.DRAFT
        if charted and not given.isdisjoint(record.ingredients):
            continue
        share = _share(case, record)
        by_vein = record.route in (None, Route.INTRAVENOUS)
        if share is not None and share < 1 and by_vein and _in_window(start, when, window):
            found[record] = found.get(record, Decimal(0)) + share
    return found


def _steroid(case: Case, day: date, start: Moment | None, required: bool) -> Iterator[Point]:
    p = case.p(RULE)
    window = p["steroid_window_minutes"]
    candidates = _steroids_on(case, day)
    if not candidates:
        signing = case.hook is Hook.ORDER_SIGN
        indicator = Indicator.CRITICAL if required and signing else Indicator.WARNING
        row = "steroid-absent" if required else "steroid-after-crs"
        text = msg(f"row.{row}", dose=Amount(p["dexamethasone_mg"], "mg"), window=window)
        yield Point(row, Outcome.INCOMPLETE, indicator, text, _steroid_order(case, day, start, ()))
        return
    partial = _partial(case, candidates, start, window)
    judged: list[tuple[int, Point | None]] = []
    for record, when in candidates:
        judged.append(_steroid_verdict(case, record, when, day, start, partial))
    best = min(judged, key=lambda pair: pair[0])
    if best[1] is not None:
        yield best[1]


def _steroid_verdict(
    case: Case,
    record: DrugRecord,
    when: Moment,
    day: date,
    start: Moment | None,
    partial: Mapping[DrugRecord, Decimal],
) -> tuple[int, Point | None]:
    """How far this steroid, with those that share its dose, is from what the step asks: 0 fits."""
    window = case.p(RULE)["steroid_window_minutes"]
    parts = tuple(partial) if record in partial else (record,)
    evidence = tuple(of_drug(part) for part in parts)
    drafted = tuple(part.reference for part in parts if part.state is DrugState.DRAFT)
    order = _steroid_order(case, day, start, drafted)
    name = Name(record.ingredients[0]) if record.ingredients else Name("dexamethasone")
    share = sum(partial.values(), Decimal(0)) if record in partial else _share(case, record)
    if share is None:
        text = msg("row.steroid-unreadable", name=name)
        missing = (Missing("dose", resource=record.reference),)
        return 4, Point(
            "steroid-unreadable", Outcome.CANNOT_CHECK, Indicator.WARNING, text, None, evidence, missing
        )
    if record.route not in (None, Route.INTRAVENOUS):
        text = msg("row.steroid-route", name=name)
        return 3, Point("steroid-route", Outcome.WRONG_ROUTE, Indicator.WARNING, text, order, evidence)
    if share < 1:
        names = Items(tuple(dict.fromkeys(Name(part.ingredients[0]) for part in parts)))
        text = msg("row.steroid-dose", name=names, dose=Amount(case.p(RULE)["dexamethasone_mg"], "mg"))
        equal = [mg for part in parts if (mg := _dexamethasone_mg(part)) is not None]
        values = {"dexamethasone_equivalent_mg": sum(equal, Decimal(0))} if equal else {}
        return 3, Point(
            "steroid-dose", Outcome.WRONG_DOSE, Indicator.WARNING, text, order, evidence, values=values
        )
    minutes = None if start is None else _minutes_before(start, when)
    if minutes is None or 0 <= minutes <= window:
        unknown = _not_told(record, name, minutes)
        return (0 if unknown is None else 1), unknown
    outcome = Outcome.TOO_EARLY if minutes > 0 else Outcome.TOO_LATE
    text = msg("row.steroid-timing", name=name, when=when, window=window)
    return 2, Point(
        "steroid-timing",
        outcome,
        Indicator.WARNING,
        text,
        order,
        evidence,
        values={"minutes_before": int(minutes)},
    )


def _not_told(record: DrugRecord, name: Name, minutes: Decimal | None) -> Point | None:
    """What a steroid that would fit leaves open: its route, the hours. None: nothing."""
    evidence = (of_drug(record),)
    if record.route is None:
        row, text = "steroid-route-unknown", msg("row.steroid-route-unknown", name=name)
        missing = (Missing("route", resource=record.reference),)
        return Point(row, Outcome.CANNOT_CHECK, Indicator.INFO, text, None, evidence, missing)
    if minutes is None:
        row, text = "timing-unknown", msg("row.timing-unknown")
        return Point(row, Outcome.CANNOT_CHECK, Indicator.INFO, text, None, evidence)
    return None


def _steroid_order(case: Case, day: date, start: Moment | None, replaces: tuple[str, ...]) -> Suggestion:
    """Dexamethasone before the infusion; with an allergy to it an equivalent, not preselected."""
    p = case.p(RULE)
    when: date | datetime = day
    if start is not None:
        when = start.earliest - timedelta(minutes=float(p["steroid_lead_minutes"]))
    dose = Amount(p["dexamethasone_mg"], "mg")
    drug = "dexamethasone"
    if case.chart.allergy_to("dexamethasone"):
        prednisone = prednisone_equivalent("dexamethasone", p["dexamethasone_mg"])
        equal = None if prednisone is None else from_prednisone("methylprednisolone", prednisone)
        assert equal is not None
        drug = "methylprednisolone"
        dose = Amount(equal.quantize(Decimal("0.1"), ROUND_UP), "mg")
    proposal = DrugProposal(
        drug, Route.INTRAVENOUS, dose, repeat=ONCE, start=when, purpose="purpose_premedication"
    )
    return Suggestion(
        "steroid",
        msg("suggest.steroid", drug=Name(drug), dose=dose),
        (*(Delete(reference) for reference in replaces), Create(proposal)),
        recommended=drug == "dexamethasone",
    )


def _not_needed(case: Case, day: date) -> Iterator[Point]:
    """A premedication steroid drafted for a step that needs none."""
    for record in case.chart.drafts.drugs.of(*GLUCOCORTICOIDS):
        if not _is_premedication(record) or not _planned_on(record, day):
            continue
        name = Name(record.ingredients[0]) if record.ingredients else Name("dexamethasone")
        yield Point(
            "steroid-not-needed",
            Outcome.INFO,
            Indicator.INFO,
            msg("row.steroid-not-needed", name=name),
            evidence=(of_drug(record),),
        )


def _is_premedication(record: DrugRecord) -> bool:
    if not reaches_the_body(record.route) or record.timing.as_needed:
        return False
    if record.reasons or record.other_reason:
        return False
    return not record.purposes or not _PREMEDICATION.isdisjoint(record.purposes)


def _steroid_alone(case: Case) -> Iterator[Finding]:
    """A steroid drafted for the day of an active tarlatamab order: is it what that step asks for?"""
    if history_unread(case) and not dosed(case):
        return
    signed = {draft.reference for draft in case.judged_drugs(*GLUCOCORTICOIDS) if _is_premedication(draft)}
    for judged in judged_active(case):
        if not judged.label or judged.planned.day < case.today:
            continue
        for point in _steroid_points(case, judged, judged.planned.day):
            about = next((e.reference for e in point.evidence if e.reference in signed), "")
            if about:
                yield _finding(case, [point], about, judged.label)


# --- saline


def _volume_ml(amount: Amount | None) -> Decimal | None:
    if amount is None or amount.unit not in ("mL", "L"):
        return None
    return amount.value * (1000 if amount.unit == "L" else 1)


def _length(record: DrugRecord, volume: Decimal) -> Decimal | None:
    if record.timing.infusion_minutes is not None:
        return record.timing.infusion_minutes
    rate = record.rate
    if rate is not None and rate.value > 0 and rate.unit in ("mL/h", "mL/min"):
        return volume / rate.value * (60 if rate.unit == "mL/h" else 1)
    first, last = record.timing.first, record.timing.last
    if (
        record.source is DrugSource.ADMINISTRATION
        and first is not None
        and last is not None
        and first != last
    ):
        return Decimal((last.latest - first.earliest) // timedelta(minutes=1))
    return None


def _risks(case: Case) -> tuple[Evidence, ...]:
    p = case.p(RULE)
    found = [
        of_fact(c, next(name for name in _OVERLOAD if name in c.concepts))
        for c in case.chart.conditions.of(*_OVERLOAD)
        if c.state is ConditionState.ACTIVE
    ]
    since = case.now - timedelta(days=p.int("dialysis_days"))
    for procedure in case.chart.procedures.of(*_DIALYSIS):
        recent = procedure.start is not None and procedure.start.latest >= since
        if procedure.state is EventState.RUNNING or (recent and procedure.state is not EventState.PLANNED):
            found.append(of_fact(procedure, "dialysis"))
    lvef = case.chart.latest("lvef")
    if lvef is not None and lvef.value.quantity is not None and lvef.value.quantity.below(p["low_lvef_pct"]):
        found.append(of_observation(lvef))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Infusion:
    """Saline around the dose; `minutes` None: its length is not written."""

    evidence: Evidence
    volume: Decimal
    minutes: Decimal | None
    when: Moment


def _infusions(case: Case, day: date) -> Iterator[_Infusion]:
    least = case.p(RULE)["hydration_from_ml"]
    for record in _available(case, *_SALINE):
        volume = None if record.dose is None else _volume_ml(record.dose.amount)
        if volume is None or volume < least or _other_strength(case, record):
            continue
        yield from (
            _Infusion(of_drug(record), volume, _length(record, volume), when)
            for when in _planned_on(record, day)
        )
    for order in (*case.chart.drafts.services.of(_FLUID_ORDER), *case.chart.services.of(_FLUID_ORDER)):
        volume, when = _volume_ml(order.quantity), order.when
        planned = order.state in (EventState.ACTIVE, EventState.DRAFT)
        if planned and volume is not None and volume >= least and when is not None and when.date == day:
            yield _Infusion(of_fact(order, _FLUID_ORDER), volume, None, when)


def _other_strength(case: Case, record: DrugRecord) -> bool:
    """Is this sodium chloride known to be another solution than the one asked for ("3 %", "0.45 %")?"""
    wanted = case.p(RULE)["saline_pct"]
    written = {Decimal(number) for number in _PERCENT.findall(record.name)}
    written |= {
        strength.value / 10
        for drug, strength in record.strengths
        if drug == "sodium_chloride" and strength.unit == "mg/mL"
    }
    return bool(written) and wanted not in written


def _schedule(case: Case) -> dict[str, Shown]:
    """What the schedule asks for, as the texts show it."""
    p = case.p(RULE)
    return {
        "volume": Amount(p["saline_ml"], "mL"),
        "low": p["saline_min_minutes"] / 60,
        "high": p["saline_max_minutes"] / 60,
    }


def _saline(case: Case, tarlatamab: DrugRecord, day: date, start: Moment | None) -> Iterator[Point]:
    risks = _risks(case)
    infusions = list(_infusions(case, day))
    if not infusions:
        yield Point(
            "saline-absent",
            Outcome.INCOMPLETE,
            Indicator.WARNING,
            msg("row.saline-absent", **_schedule(case)),
            _saline_order(case, tarlatamab, day, start, recommended=not risks),
        )
    elif not _adds_up(case, infusions, start):
        wrong = [w for infusion in infusions if (w := _saline_verdict(case, infusion, start))]
        if len(wrong) == len(infusions):
            values: dict[str, Scalar] = {"volume_ml": infusions[0].volume}
            if infusions[0].minutes is not None:
                values["saline_minutes"] = round(infusions[0].minutes)
            yield Point(
                "saline-rate",
                Outcome.INFO,
                Indicator.INFO,
                wrong[0],
                evidence=tuple(infusion.evidence for infusion in infusions),
                values=values,
            )
    if risks:
        yield Point("volume-risk", Outcome.REVIEW, Indicator.WARNING, msg("row.volume-risk"), evidence=risks)


def _adds_up(case: Case, infusions: list[_Infusion], start: Moment | None) -> bool:
    """Several bags that together are the volume and the time asked for, none of them before the dose."""
    p = case.p(RULE)
    lengths = [i.minutes for i in infusions if i.minutes is not None]
    if len(infusions) < 2 or len(lengths) < len(infusions) or any(_before(i, start) for i in infusions):
        return False
    whole = sum(lengths, Decimal(0))
    volume = sum((i.volume for i in infusions), Decimal(0))
    return volume == p["saline_ml"] and p["saline_min_minutes"] <= whole <= p["saline_max_minutes"]


def _before(infusion: _Infusion, start: Moment | None) -> bool:
    return start is not None and infusion.when.exact and infusion.when.earliest < start.earliest


def _saline_verdict(case: Case, infusion: _Infusion, start: Moment | None) -> Message | None:
    """What is wrong with this infusion; None: as the schedule asks, or not told otherwise."""
    p = case.p(RULE)
    asked = _schedule(case)
    if infusion.volume != p["saline_ml"]:
        return msg("row.saline-volume", ordered=Amount(infusion.volume, "mL"), **asked)
    minutes = infusion.minutes
    if minutes is not None and not p["saline_min_minutes"] <= minutes <= p["saline_max_minutes"]:
        return msg("row.saline-rate", minutes=round(minutes), **asked)
    if _before(infusion, start):
        return msg("row.saline-before", when=infusion.when, **asked)
    return None


def _saline_order(
    case: Case, tarlatamab: DrugRecord, day: date, start: Moment | None, *, recommended: bool
) -> Suggestion:
    p = case.p(RULE)
    when: date | datetime = day
    if start is not None:
        minutes = tarlatamab.timing.infusion_minutes or tarlatamab_ladder().infusion_minutes
        when = start.earliest + timedelta(minutes=float(minutes))
    volume = Amount(p["saline_ml"], "mL")
    proposal = DrugProposal(
        "sodium_chloride",
        Route.INTRAVENOUS,
        volume,
        repeat=ONCE,
        start=when,
        infusion_minutes=p.int("saline_max_minutes"),
        note=msg("note.saline"),
    )
    return Suggestion(
        "saline", msg("suggest.saline", **_schedule(case)), (Create(proposal),), recommended=recommended
    )
