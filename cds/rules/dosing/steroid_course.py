"""Corticosteroid courses in CRS and ICANS: which tier runs, since when, and the tiers as proposals.

    D10  dexamethasone 10 mg IV q6h, 1-3 days         D20  dexamethasone 20 mg IV q6h
    MP   methylprednisolone 1,000 mg/day for 3 days, then 250, 125, 60 mg twice daily, 2 days each

Figures: dosing/crs_steroid.yaml (Hayden PJ, Ann Oncol 2022;33:259, as the handbook prints it).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from enum import IntEnum
from math import ceil

from cards.finding import Basis, Create, DrugProposal, Message, Repeat, Shown, Suggestion
from cds.engine.case import Case, once_per_case
from cds.rules.after_cart import doses_since, dosing_weight, therapy_start
from cds.rules.body_size import is_adult
from cds.rules.grading.fever import hours
from fhir_mapping.chart import Amount, Dose, DrugRecord, DrugState, Moment, Route, Timing, instant

RULE = "dosing.crs-steroid"
OTHER_PURPOSES = frozenset({"purpose_premedication", "purpose_antiemetic", "purpose_replacement"})
_SYSTEMIC = frozenset({None, Route.INTRAVENOUS, Route.ORAL, Route.INTRAMUSCULAR, Route.SUBCUTANEOUS})


class Tier(IntEnum):
    """Steroid tiers, weakest first."""

    NONE = 0
    OTHER = 1  # a systemic steroid below the tiers
    D10 = 2
    D20 = 3
    MP = 4


@dataclass(frozen=True, slots=True)
class SteroidRun:
    """The steroid course that runs: doses of one tier close to each other."""

    tier: Tier
    start: Moment
    last: Moment
    records: tuple[DrugRecord, ...]

    def hours_at(self, case: Case) -> float:
        """Hours since the tier began; of a start without a clock time the longest possible."""
        return (case.now - self.start.earliest) / timedelta(hours=1)

    def day_at(self, on: date) -> int:
        """Day of the course; its first day is day 1."""
        return (on - self.start.first_date).days + 1


def in_crs_steroids(record: DrugRecord) -> bool:
    """A systemic dexamethasone or methylprednisolone that is not premedication, antiemetic or replacement."""
    return record.route in _SYSTEMIC and record.purposes.isdisjoint(OTHER_PURPOSES)


def dose_mg(case: Case, record: DrugRecord) -> Decimal | None:
    """The dose of one administration in mg; per-kg doses by the current weight."""
    return _mg(case, record.dose)


def _mg(case: Case, dose: Dose | None) -> Decimal | None:
    if dose is None or dose.amount is None:
        return None
    amount = dose.amount
    if amount.unit == "mg":
        return amount.value
    if amount.unit == "mg/kg":
        weight = dosing_weight(case).value
        return None if weight is None else amount.value * weight
    return None


def child_d10_mg(case: Case) -> Decimal | None:
    """A child's dose of the first tier: 0.5 mg/kg, at most the adult dose; None without a weight."""
    p = case.p(RULE)
    weight = dosing_weight(case).value
    if weight is None:
        return None
    return min(p["d10_child_mg_per_kg"] * weight, p["d10_child_max_mg"]).quantize(Decimal("0.1"))


def child_d10(case: Case) -> Message:
    """The first tier as a child gets it."""
    p = case.p(RULE)
    values: dict[str, Shown] = {
        "per_kg": Amount(p["d10_child_mg_per_kg"], "mg/kg"),
        "maximum": Amount(p["d10_child_max_mg"], "mg"),
    }
    return Message("child", values, RULE)


def tier_of(case: Case, record: DrugRecord) -> Tier:
    """The tier that one dose belongs to, by its size alone."""
    p = case.p(RULE)
    mg = dose_mg(case, record)
    if mg is None:
        return Tier.OTHER
    if "methylprednisolone" in record.concepts:
        limit = p["pulse_from_mg"]
        weight = dosing_weight(case).value
        if is_adult(case) is False and weight is not None:
            limit = min(limit, p["child_pulse_from_mg_per_kg"] * weight)
        return Tier.MP if mg >= limit else Tier.OTHER
    share = p["d10_from_share_pct"] / 100
    if mg >= share * p["d20_mg"]:
        return Tier.D20
    first = p["d10_mg"]
    if is_adult(case) is False:
        first = child_d10_mg(case) or first
    return Tier.D10 if mg >= share * first else Tier.OTHER


@once_per_case
def steroid_records(case: Case) -> tuple[DrugRecord, ...]:
    """Doses since the infusion, oldest first; where none is charted, orders in force stand in."""
    start = therapy_start(case)
    if start is None:
        return ()
    given = [d for d in doses_since(case, start, "dexamethasone", "methylprednisolone") if in_crs_steroids(d)]
    if given:
        return tuple(given)
    orders = [
        d
        for d in case.chart.orders("dexamethasone", "methylprednisolone")
        if d.state is DrugState.ACTIVE
        and in_crs_steroids(d)
        and not d.timing.as_needed
        and d.timing.first is not None
        and d.timing.first.earliest <= case.now
        and d.timing.first.latest >= start
    ]
    return tuple(orders)


def _begun(record: DrugRecord) -> Moment:
    assert record.timing.first is not None
    return record.timing.first


def _tiers(case: Case, records: tuple[DrugRecord, ...]) -> list[tuple[DrugRecord, Tier]]:
    """Each dose with its tier; the taper of a high-dose course belongs to the course."""
    judged: list[tuple[DrugRecord, Tier]] = []
    pulse: Moment | None = None
    longest = max(int(row["to_day"]) for row in case.p(RULE).table("methylprednisolone"))
    for record in records:
        tier = tier_of(case, record)
        when = _begun(record)
        if tier is Tier.MP and (pulse is None or (when.first_date - pulse.first_date).days >= longest):
            pulse = when
        elif (
            "methylprednisolone" in record.concepts
            and pulse is not None
            and (when.first_date - pulse.first_date).days < longest
        ):
            tier = Tier.MP
        judged.append((record, tier))
    return judged


@once_per_case
def steroid_run(case: Case) -> SteroidRun | None:
    """The course that runs now: its newest dose is recent, or its order is in force."""
    judged = _tiers(case, steroid_records(case))
    if not judged:
        return None
    span = hours(case.p(RULE)["same_run_hours"])
    newest, tier = judged[-1]
    if newest.state is not DrugState.ACTIVE and case.now - _begun(newest).latest > span:
        return None
    run = [newest]
    for record, of_record in reversed(judged[:-1]):
        close = _begun(run[-1]).earliest - _begun(record).latest <= span
        if of_record is not tier or not close:
            break
        run.append(record)
    run.reverse()
    return SteroidRun(tier, _begun(run[0]), _begun(newest), tuple(run))


def steroid_in_force(case: Case) -> tuple[DrugRecord, ...]:
    """Systemic steroid that continues: an order in force, or a dose of the last day."""
    orders = tuple(
        d
        for d in case.chart.orders("dexamethasone", "methylprednisolone", "class_glucocorticoids")
        if d.state is DrugState.ACTIVE
        and in_crs_steroids(d)
        and not d.timing.as_needed
        and (d.timing.last is None or d.timing.last.latest >= case.now)
    )
    run = steroid_run(case)
    if orders or run is None or run.last.latest < case.now - timedelta(days=1):
        return orders
    return run.records[-1:]


def tier_name(case: Case, tier: Tier) -> Message:
    """The words for a tier that runs: its drug and dose."""
    p = case.p(RULE)
    values: dict[str, Shown] = {}
    if tier in (Tier.D10, Tier.D20):
        values["dose"] = p["d10_mg" if tier is Tier.D10 else "d20_mg"]
    return Message(f"tier-name.{tier.name.lower()}", values, RULE)


def pulse_step(case: Case, day: int) -> tuple[Decimal, int] | None:
    """Dose in mg and doses per day of the methylprednisolone course on its day n; None after its end."""
    for row in case.p(RULE).table("methylprednisolone"):
        if int(row["from_day"]) <= day <= int(row["to_day"]):
            return Decimal(row["dose_mg"]), int(row["per_day"])
    return None


def pulse_end(case: Case, first: date) -> date:
    """Last day of a methylprednisolone course that began on `first`."""
    return first + timedelta(days=max(int(r["to_day"]) for r in case.p(RULE).table("methylprednisolone")) - 1)


# --- drafts


def planned_days(case: Case, timing: Timing) -> tuple[date, ...]:
    """Days on which an order gives a dose; its first day, or today, where it lists none."""
    if timing.doses:
        return tuple(dict.fromkeys(m.first_date for m in timing.doses))
    return (case.today if timing.first is None else timing.first.first_date,)


def doses_per_day(timing: Timing) -> Decimal | None:
    """Doses per day as ordered; None where the order states no rhythm."""
    if timing.per_day is not None:
        return timing.per_day
    return Decimal(24) / timing.interval_hours if timing.interval_hours else None


def tier_day(case: Case, draft: DrugRecord) -> int:
    """Day of a dexamethasone tier that the draft reaches: of the tier that runs on the same dose, else of its
    own first dose. Another dose begins a new tier."""
    run = steroid_run(case)
    doses = draft.timing.doses or ((draft.timing.first or instant(case.now)),)
    days = _tier_days(doses[0], doses[-1])
    if run is None or run.tier not in (Tier.D10, Tier.D20):
        return days
    mg, running = dose_mg(case, draft), dose_mg(case, run.records[-1])
    tolerance = case.p(RULE)["tolerance_pct"]
    if mg is None or running is None or abs(running - mg) * 100 > running * tolerance:
        return days
    return max(run.day_at(doses[0].first_date), _tier_days(run.start, doses[-1]))


def _tier_days(begun: Moment, last: Moment) -> int:
    """Days that a tier has run by its last dose. Of clock times each begun 24 h is a day (twelve doses every
    6 h are three days, whatever the hour of the first); else calendar days."""
    if begun.exact and last.exact:
        return max(1, ceil((last.latest - begun.latest) / timedelta(days=1)))
    return (last.first_date - begun.first_date).days + 1


def pulse_begin(case: Case) -> date | None:
    """Day 1 of the high-dose course: that of the course that runs, else the first drafted dose of its size
    (its later steps are drafts of their own)."""
    run = steroid_run(case)
    if run is not None and run.tier is Tier.MP:
        return run.start.first_date
    drafts = [
        d
        for d in case.chart.drafts.drugs.of("methylprednisolone")
        if in_crs_steroids(d) and tier_of(case, d) is Tier.MP
    ]
    return min((planned_days(case, d.timing)[0] for d in drafts), default=None)


@dataclass(frozen=True, slots=True)
class OffStep:
    """A drafted dose that is not the step of its day of the course. `right`: mg and doses per day of that
    step; None after the end of the course."""

    day: int
    mg: Decimal
    right: tuple[Decimal, int] | None


def off_pulse_step(case: Case, draft: DrugRecord) -> OffStep | None:
    """The first planned day on which a methylprednisolone draft leaves the course, by dose or by number of
    doses; None where it keeps to it, or its dose cannot be read."""
    tolerance = case.p(RULE)["tolerance_pct"] / 100
    begin = pulse_begin(case)
    orders = [(i.dose, i.timing) for i in draft.instructions] or [(draft.dose, draft.timing)]
    for dose, timing in orders:
        mg = _mg(case, dose)
        if mg is None:
            continue
        days = planned_days(case, timing)
        per_day = doses_per_day(timing)
        for day in days:
            number = (day - (begin or days[0])).days + 1
            step = pulse_step(case, number)
            if step is None or abs(mg - step[0]) > step[0] * tolerance or per_day not in (None, step[1]):
                return OffStep(number, mg, step)
    return None


# --- proposals


def dexamethasone(
    case: Case, tier: Tier, key: str, *, reason: str = "crs", recommended: bool = False
) -> Suggestion | None:
    """Dexamethasone of a tier every 6 h; None where the sources give this patient no dose (a child above the
    first tier, or an unknown age)."""
    p = case.p(RULE)
    adult = is_adult(case)
    repeat = Repeat(every_hours=p["interval_hours"], days=p.int("tier_max_days"))
    basis = None
    if adult:
        mg: Decimal | None = p["d10_mg"] if tier is Tier.D10 else p["d20_mg"]
    elif adult is False and tier is Tier.D10:
        mg = child_d10_mg(case)
        weight = dosing_weight(case).value
        if weight is not None:
            basis = Basis(
                Amount(p["d10_child_mg_per_kg"], "mg/kg"),
                Amount(weight, "kg"),
                Amount(p["d10_child_max_mg"], "mg"),
            )
    else:
        return None
    if mg is None:
        values = {
            "per_kg": Amount(p["d10_child_mg_per_kg"], "mg/kg"),
            "maximum": Amount(p["d10_child_max_mg"], "mg"),
        }
        proposal = DrugProposal(
            "dexamethasone",
            Route.INTRAVENOUS,
            repeat=repeat,
            start=case.now,
            reason=reason,
            note=Message("note.child-per-kg", values, RULE),
        )
        label = Message("suggest.dexamethasone-no-weight", {}, RULE)
        return Suggestion(key, label, (Create(proposal),), recommended)
    amount = Amount(mg, "mg")
    taper = tier is Tier.D20 and key.endswith("taper")
    note = (
        Message("note.taper", {"low": p.int("taper_min_days"), "high": p.int("taper_max_days")}, RULE)
        if taper
        else Message("note.reassess", {"days": p.int("tier_max_days")}, RULE)
    )
    proposal = DrugProposal(
        "dexamethasone", Route.INTRAVENOUS, amount, basis, repeat, case.now, reason=reason, note=note
    )
    shown: dict[str, Shown] = {
        "dose": amount,
        "every": p.int("interval_hours"),
        "days": p.int("tier_max_days"),
    }
    label = Message("suggest.dexamethasone-taper" if taper else "suggest.dexamethasone", shown, RULE)
    return Suggestion(key, label, (Create(proposal),), recommended)


def methylprednisolone_course(
    case: Case, key: str = "methylprednisolone", *, reason: str = "crs", recommended: bool = False
) -> Suggestion | None:
    """The whole course as dated orders, one per step; None where the sources give no dose (not an adult)."""
    if not is_adult(case):
        return None
    actions = []
    for row in case.p(RULE).table("methylprednisolone"):
        first, last = int(row["from_day"]), int(row["to_day"])
        begin = case.now if first == 1 else case.today + timedelta(days=first - 1)
        every = Decimal(24) / int(row["per_day"])
        actions.append(
            Create(
                DrugProposal(
                    "methylprednisolone",
                    Route.INTRAVENOUS,
                    Amount(Decimal(row["dose_mg"]), "mg"),
                    repeat=Repeat(every_hours=every, days=last - first + 1),
                    start=begin,
                    reason=reason,
                )
            )
        )
    label = Message("suggest.methylprednisolone", {"last": pulse_end(case, case.today)}, RULE)
    return Suggestion(key, label, tuple(actions), recommended)
