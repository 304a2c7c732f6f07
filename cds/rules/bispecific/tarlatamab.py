"""Tarlatamab on this chart: doses, place on the ladder, verdicts on orders, phase. Shared by its rules."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum

from cds.engine.case import Case, once_per_case
from cds.rules.bispecific.agents import Ladder, agents, ladder_of
from cds.rules.bispecific.history import DoseEvent, Kind, dose_events
from cds.rules.bispecific.ladder import Due, OffLadder, Place, broken, due_after, label_after, place_of
from cds.rules.bispecific.orders import Judged, judge_orders
from fhir_mapping.chart import DrugRecord, DrugState, EventState, KeyState, add_months

DRUG = "tarlatamab"
STEP_UP = "dosing.tarlatamab-step-up"


class Phase(StrEnum):
    """Which part of treatment the next dose belongs to."""

    STEP_UP = "step-up"  # C1D1, C1D8, C1D15 and the same steps after a restart
    TREATMENT = "treatment"


def tarlatamab_ladder() -> Ladder:
    return ladder_of(DRUG)


@once_per_case
def tarlatamab_events(case: Case) -> tuple[DoseEvent, ...]:
    """Dose events up to today."""
    return tuple(e for e in dose_events(case.chart, DRUG) if e.day is None or e.day <= case.today)


@once_per_case
def exposures(case: Case) -> tuple[DoseEvent, ...]:
    """Dated exposures in order, incomplete infusions included."""
    return tuple(e for e in tarlatamab_events(case) if e.day is not None)


@once_per_case
def engager_exposures(case: Case) -> tuple[DoseEvent, ...]:
    """Exposures of tarlatamab, else of the other listed bispecifics: for what no agent table decides."""
    own = exposures(case)
    if own:
        return own
    others = [
        event
        for concept in agents()
        if concept != DRUG
        for event in dose_events(case.chart, concept)
        if event.day is not None and event.day <= case.today
    ]
    return tuple(sorted(others, key=lambda e: (e.day or date.min, e.records[0].reference)))


def engager(case: Case) -> str:
    """The agent of the latest exposure; tarlatamab where none is on the chart."""
    given = engager_exposures(case)
    if not given:
        return DRUG
    return next((name for name in given[-1].records[0].ingredients if name in agents()), DRUG)


def first_exposure(case: Case) -> DoseEvent | None:
    found = exposures(case)
    return found[0] if found else None


def last_exposure(case: Case) -> DoseEvent | None:
    found = exposures(case)
    return max(found, key=lambda e: e.day or date.min) if found else None


def dosed(case: Case) -> bool:
    """At least one exposure is on the chart, dated or not."""
    return bool(tarlatamab_events(case))


@once_per_case
def place(case: Case) -> Place | OffLadder:
    return place_of(tarlatamab_ladder(), tarlatamab_events(case), case.p(STEP_UP)["admin_dose_tolerance"])


@once_per_case
def next_due(case: Case) -> Due | None:
    """The next dose of an unbroken ladder; None where the history cannot be placed."""
    where = place(case)
    return None if isinstance(where, OffLadder) else due_after(tarlatamab_ladder(), where)


def _judge(case: Case, drafts: Iterable[DrugRecord], orders: Iterable[DrugRecord]) -> tuple[Judged, ...]:
    parameters = case.p(STEP_UP)
    return judge_orders(
        tarlatamab_ladder(),
        tarlatamab_events(case),
        drafts,
        orders,
        today=case.today,
        tolerance=parameters["admin_dose_tolerance"],
        early_days=parameters.int("early_tolerance_days"),
    )


@once_per_case
def judged_drafts(case: Case) -> tuple[Judged, ...]:
    """Verdicts on all tarlatamab drafts of the hook (batch rule), in date order."""
    return _judge(case, case.chart.drafts.drugs.of(DRUG), case.chart.orders(DRUG))


@once_per_case
def judged_active(case: Case) -> tuple[Judged, ...]:
    """Verdicts on the active orders, as if drafted now: which step each of them stands for."""
    return _judge(case, live_orders(case), ())


def under_judgement(case: Case) -> tuple[Judged, ...]:
    """Verdicts on the drafts that the hook asks about (selected ones on order-select)."""
    wanted = {record.reference for record in case.judged_drugs(DRUG)}
    return tuple(j for j in judged_drafts(case) if j.reference in wanted)


@once_per_case
def phase(case: Case) -> Phase:
    """Phase of the next due dose, today or where an order plans it; step-up (the stricter one) where the
    history cannot be placed."""
    where = place(case)
    ladder = tarlatamab_ladder()
    if (
        isinstance(where, OffLadder)
        or where.given < len(ladder.steps) - 1
        or broken(ladder, where, case.today)
    ):
        return Phase.STEP_UP
    return Phase.STEP_UP if any(judged.restep for judged in under_judgement(case)) else Phase.TREATMENT


def live_orders(case: Case) -> tuple[DrugRecord, ...]:
    """Active orders that still have, or lately had, a dose to give."""
    window = timedelta(days=case.p(STEP_UP).int("on_treatment_days"))
    found = []
    for record in case.chart.orders(DRUG):
        if record.state is not DrugState.ACTIVE:
            continue
        end = record.timing.last or record.timing.first
        if record.timing.ongoing or end is None or end.date >= case.today - window:
            found.append(record)
    return tuple(found)


def on_treatment(case: Case) -> bool:
    """Active order, or a dose within `on_treatment_days`, and no recorded permanent stop."""
    patient = case.chart.patient
    if patient.deceased or patient.died is not None or recorded_stop(case) is not None:
        return False
    return bool(live_orders(case)) or dosed_within(case, case.p(STEP_UP).int("on_treatment_days"))


def dosed_within(case: Case, days: int) -> bool:
    last = last_exposure(case)
    return last is not None and last.day is not None and (case.today - last.day).days <= days


def concerned(case: Case) -> bool:
    """Tarlatamab is given, ordered, booked or drafted on this chart."""
    return (
        dosed(case)
        or bool(live_orders(case))
        or bool(case.chart.drafts.drugs.of(DRUG))
        or any(s.state in _OPEN for s in case.chart.services.of(DRUG))
        or any(a.state is EventState.BOOKED for a in case.chart.appointments.of(DRUG))
    )


_OPEN = (EventState.ACTIVE, EventState.DRAFT, EventState.PLANNED)


@dataclass(frozen=True, slots=True)
class Recorded:
    """A stop or hold that a clinician recorded (chart-facts K11)."""

    reference: str
    since: date | None


def _about_tarlatamab(case: Case, focus: Iterable[str], agents: frozenset[str]) -> bool:
    if agents:
        return DRUG in agents
    targets = set(focus)
    if targets:
        return any(record.reference in targets for record in case.chart.drugs.of(DRUG))
    return True


def _recorded(case: Case, concept: str) -> Recorded | None:
    for obs in reversed(case.chart.series(concept).items):
        named = frozenset(code for value in obs.components.get("agent", ()) for code in value.codes)
        if not _about_tarlatamab(case, obs.focus, named):
            continue
        return Recorded(obs.reference, obs.when.date) if obs.value.yes else None
    return None


@once_per_case
def recorded_stop(case: Case) -> Recorded | None:
    """Permanent discontinuation recorded by a clinician; the newest statement counts."""
    if found := _recorded(case, "permanently_discontinued"):
        return found
    for record in case.chart.orders(DRUG):
        if record.state is DrugState.STOPPED and "permanently_discontinued" in record.status_reasons:
            authored = record.authored
            return Recorded(record.reference, None if authored is None else authored.date)
    return None


@once_per_case
def recorded_hold(case: Case) -> Recorded | None:
    """Hold recorded by a clinician and not lifted: a statement by a later dose, an order by a newer one or by
    a dose after all of its own."""
    found = _recorded(case, "treatment_hold")
    if found is not None and not (found.since is not None and _dosed_after(case, found.since)):
        return found
    orders = case.chart.orders(DRUG)
    for record in orders:
        if record.state is DrugState.ON_HOLD and not _superseded(case, record, orders):
            return Recorded(record.reference, None if record.authored is None else record.authored.date)
    return None


def _dosed_after(case: Case, day: date) -> bool:
    last = last_exposure(case)
    return last is not None and last.day is not None and last.day > day


def _superseded(case: Case, held: DrugRecord, orders: Iterable[DrugRecord]) -> bool:
    """Is the order on hold only left over?"""
    written, timing = held.authored, held.timing
    for other in orders:
        newer = (
            written is not None and other.authored is not None and other.authored.earliest > written.latest
        )
        if newer and other.state in (DrugState.ACTIVE, DrugState.COMPLETED):
            return True
    if timing.stated and timing.ongoing:
        return False
    over = timing.last or timing.first or written
    return over is not None and _dosed_after(case, over.date)


def history_unread(case: Case) -> bool:
    """Administrations could not be read, so that "no earlier dose" would be a guess."""
    states = [
        case.chart.coverage[key].state
        for key in ("administrations", "course-drugs")
        if key in case.chart.coverage
    ]
    return bool(states) and all(state in (KeyState.FAILED, KeyState.NOT_ASKED) for state in states)


def before_first_dose(case: Case) -> bool:
    """No dose yet, and the chart could tell: unread administrations are never taken for "none"."""
    return not dosed(case) and not history_unread(case)


def start_of(event: DoseEvent, now: datetime) -> datetime:
    """First instant of a dose event, for "results from then on"."""
    start = event.start
    if start is not None:
        return start.earliest
    day = event.day or now.date()
    return datetime(day.year, day.month, day.day, tzinfo=now.tzinfo)


def label_of_last(case: Case) -> str:
    """Label of the latest complete dose; "" where the history cannot be placed or nothing was given."""
    where = place(case)
    return "" if isinstance(where, OffLadder) else where.last_label


def contraception_end(last: date, months: int) -> date:
    """Last day, inclusive, of the protected time after a dose."""
    return add_months(last, months)


__all__ = [
    "DRUG",
    "STEP_UP",
    "Kind",
    "Phase",
    "Recorded",
    "before_first_dose",
    "concerned",
    "contraception_end",
    "dosed",
    "dosed_within",
    "engager",
    "engager_exposures",
    "exposures",
    "first_exposure",
    "history_unread",
    "judged_active",
    "judged_drafts",
    "label_after",
    "label_of_last",
    "last_exposure",
    "live_orders",
    "next_due",
    "on_treatment",
    "phase",
    "place",
    "recorded_hold",
    "recorded_stop",
    "start_of",
    "tarlatamab_events",
    "tarlatamab_ladder",
    "under_judgement",
]
