"""Tocilizumab in CRS: dose by weight, doses given since the infusion, and what the limits still allow."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from cards.finding import ONCE, Basis, Bullet, Create, DrugProposal, Message, Missing, Suggestion
from cds.engine.case import Case, once_per_case
from cds.rules.after_cart import doses_since, dosing_weight, therapy_start
from cds.rules.body_size import Measure, is_adult
from cds.rules.grading.fever import hours
from fhir_mapping.chart import Amount, DrugRecord, DrugSource, Moment, Route

RULE = "dosing.crs-tocilizumab"
MG = "mg"


@dataclass(frozen=True, slots=True)
class TocilizumabDose:
    """One dose for this patient; `mg` None where no current weight is on the chart."""

    mg: Decimal | None
    per_kg: Decimal | None
    weight: Measure
    capped: bool = False
    adult_below_limit: bool = False

    @property
    def missing(self) -> tuple[Missing, ...]:
        return self.weight.missing

    @property
    def basis(self) -> Basis | None:
        if self.per_kg is None or self.weight.value is None:
            return None
        return Basis(Amount(self.per_kg, "mg/kg"), Amount(self.weight.value, "kg"))


@once_per_case
def tocilizumab_dose(case: Case) -> TocilizumabDose:
    """8 mg/kg from 30 kg, 12 mg/kg below, never more than 800 mg; exact to 0.1 mg."""
    p = case.p(RULE)
    weight = dosing_weight(case)
    if weight.value is None:
        return TocilizumabDose(None, None, weight)
    light = weight.value < p["low_weight_below_kg"]
    per_kg = p["per_kg_low_weight_mg"] if light else p["per_kg_mg"]
    full = per_kg * weight.value
    mg = min(full, p["max_dose_mg"])
    return TocilizumabDose(
        mg.quantize(Decimal("0.1")), per_kg, weight, full > mg, light and is_adult(case) is True
    )


@once_per_case
def tocilizumab_doses(case: Case) -> tuple[DrugRecord, ...]:
    """Administrations since the infusion of this course, oldest first."""
    start = therapy_start(case)
    return () if start is None else doses_since(case, start, "tocilizumab")


@once_per_case
def reported_doses(case: Case) -> tuple[DrugRecord, ...]:
    """Doses that are only reported, by statements: counts and intervals never rest on them."""
    start = therapy_start(case)
    return tuple(
        d
        for d in case.chart.drugs.of("tocilizumab")
        if d.source is DrugSource.STATEMENT
        and d.given
        and start is not None
        and d.timing.first is not None
        and d.timing.first.latest >= start
        and d.timing.first.earliest <= case.now
    )


def reported_line(case: Case) -> tuple[Bullet, ...]:
    """What a card says of reported doses; nothing where there are none."""
    reported = reported_doses(case)
    if not reported:
        return ()
    when = reported[-1].timing.first
    assert when is not None
    return (Bullet(Message("detail.reported", {"count": len(reported), "last": when}, RULE)),)


def _times(case: Case) -> tuple[Moment, ...]:
    return tuple(d.timing.first for d in tocilizumab_doses(case) if d.timing.first is not None)


@dataclass(frozen=True, slots=True)
class Allowance:
    """What the limits say of one more dose at a time.

    `in_24_h` counts this dose too and is None where a dose without a clock time leaves it open; `earliest` is
    the first time that interval and 24-h limit allow (None: the total is reached, or it cannot be told).
    """

    given: int
    left: int
    last: Moment | None
    hours_since_last: float | None
    in_24_h: int | None
    interval_met: bool | None
    earliest: datetime | None


def allowance(case: Case, at: datetime, before: tuple[Moment, ...] | None = None) -> Allowance:
    """One more dose at `at`, after the doses `before` (default: those given)."""
    p = case.p(RULE)
    doses = tuple(sorted(_times(case) if before is None else before, key=lambda m: (m.latest, m.earliest)))
    earlier = tuple(m for m in doses if m.earliest <= at)
    given = len(earlier)
    left = max(0, p.int("max_total") - given)
    last = earlier[-1] if earlier else None
    since = None if last is None else last.hours_to(at)
    interval_met: bool | None = True
    if last is not None:
        gap = p["min_interval_hours"]
        if since is not None:
            interval_met = at - last.latest >= hours(gap)
        elif at - min(last.latest, at) >= hours(gap):
            interval_met = True
        else:
            interval_met = None
    day = at - timedelta(hours=24)
    open_ones = [m for m in earlier if not m.exact and m.latest > day and m.earliest < at]
    in_24_h = None if open_ones else sum(1 for m in earlier if m.exact and m.latest > day) + 1
    earliest = _earliest(case, at, earlier) if left and not open_ones and interval_met is not None else None
    return Allowance(given, left, last, since, in_24_h, interval_met, earliest)


def _earliest(case: Case, at: datetime, earlier: tuple[Moment, ...]) -> datetime:
    """First time from `at` on that keeps the interval and the 24-h limit. The 24-h window is open at its
    old end: a dose exactly 24 h ago has left it."""
    p = case.p(RULE)
    moment = at
    if earlier:
        moment = max(moment, earlier[-1].latest + hours(p["min_interval_hours"]))
    exact = sorted(m.latest for m in earlier if m.exact)
    most = p.int("max_in_24_h")
    while sum(1 for t in exact if t > moment - timedelta(hours=24)) >= most:
        inside = [t for t in exact if t > moment - timedelta(hours=24)]
        moment = inside[0] + timedelta(hours=24)
    return moment


def may_give_now(case: Case) -> bool:
    """A dose now would break no limit that the chart can judge."""
    room = allowance(case, case.now)
    return room.left > 0 and room.earliest == case.now


def adult_below_limit(case: Case) -> Message:
    """Why an adult of low weight gets the higher dose per kg."""
    p = case.p(RULE)
    return Message(
        "detail.adult-low-weight",
        {
            "limit": Amount(p["low_weight_below_kg"], "kg"),
            "per_kg": Amount(p["per_kg_low_weight_mg"], "mg/kg"),
        },
        RULE,
    )


def suggestion(
    case: Case,
    key: str = "tocilizumab",
    *,
    recommended: bool = False,
    infusion_minutes: int | None = None,
) -> Suggestion:
    """One dose now; without a current weight the rule is given in place of a dose."""
    p = case.p(RULE)
    dose = tocilizumab_dose(case)
    maximum = Amount(p["max_dose_mg"], MG)
    if dose.mg is None or dose.basis is None:
        note = Message(
            "note.per-kg",
            {
                "per_kg": Amount(p["per_kg_mg"], "mg/kg"),
                "low": Amount(p["per_kg_low_weight_mg"], "mg/kg"),
                "limit": Amount(p["low_weight_below_kg"], "kg"),
                "maximum": maximum,
            },
            RULE,
        )
        proposal = DrugProposal("tocilizumab", Route.INTRAVENOUS, reason="crs", note=note)
        label = Message("suggest.tocilizumab-no-weight", {}, RULE)
        return Suggestion(key, label, (Create(proposal),), recommended)
    amount = Amount(dose.mg, MG)
    basis = Basis(dose.basis.per, dose.basis.measure, maximum)
    proposal = DrugProposal(
        "tocilizumab",
        Route.INTRAVENOUS,
        amount,
        basis,
        ONCE,
        infusion_minutes=infusion_minutes,
        reason="crs",
    )
    label = Message("suggest.tocilizumab", {"dose": amount}, RULE)
    return Suggestion(key, label, (Create(proposal),), recommended)
