"""Oxygen support: the hypoxia axis of ASTCT CRS grading.

    0  none                                   2  blow-by, or any cannula at <= 6 L/min
    3  cannula > 6 L/min; any mask            4  CPAP, BiPAP, intubation or mechanical ventilation

Lee DW et al., BBMT 2019;25:625. Mask types grade by the device, cannulae by the flow. Not counted: a home
device with unchanged settings, intubation that only protects the airway.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import replace
from datetime import datetime, timedelta
from enum import Enum

from cds.engine.case import Case, once_per_case
from cds.rules.grading.fever import hours
from fhir_mapping.chart import (
    ConditionState,
    EventState,
    Moment,
    Observation,
    Procedure,
    Quantity,
    frozen,
)


class Support(Enum):
    """Kind of support in force, weakest first; the value is its rank."""

    NONE = 0  # room air, or nothing on the chart
    UNKNOWN = 1  # oxygen by an unknown device
    BLOW_BY = 2
    CANNULA = 3
    HFNC = 4
    MASK = 5
    POSITIVE_PRESSURE = 6
    VENTILATED = 7


_KIND = {
    "room_air": Support.NONE,
    "dev_blow_by": Support.BLOW_BY,
    "dev_nasal_cannula": Support.CANNULA,
    "dev_hfnc": Support.HFNC,
    "dev_simple_mask": Support.MASK,
    "dev_nonrebreather": Support.MASK,
    "dev_partial_rebreather": Support.MASK,
    "dev_venturi": Support.MASK,
    "dev_face_tent": Support.MASK,
    "dev_aerosol_mask": Support.MASK,
    "dev_cpap": Support.POSITIVE_PRESSURE,
    "dev_bipap": Support.POSITIVE_PRESSURE,
    "dev_ventilator": Support.VENTILATED,
    "dev_endotracheal_tube": Support.VENTILATED,
    "oxygen_nasal_cannula": Support.CANNULA,
    "oxygen_mask": Support.MASK,
    "oxygen_venturi": Support.MASK,
    "hfnc": Support.HFNC,
    "cpap": Support.POSITIVE_PRESSURE,
    "bipap": Support.POSITIVE_PRESSURE,
    "niv": Support.POSITIVE_PRESSURE,
    "mechanical_ventilation": Support.VENTILATED,
    "intubation": Support.VENTILATED,
    "ecmo": Support.VENTILATED,
    "oxygen_therapy": Support.UNKNOWN,
}
_PROCEDURES = (
    "oxygen_nasal_cannula",
    "oxygen_mask",
    "oxygen_venturi",
    "hfnc",
    "cpap",
    "bipap",
    "niv",
    "mechanical_ventilation",
    "intubation",
    "ecmo",
    "oxygen_therapy",
    "room_air",
)
_HOME = {
    "dep_cpap": frozenset({"dev_cpap", "cpap"}),
    "dep_bipap": frozenset({"dev_bipap", "bipap", "niv"}),
    "dep_ventilator": frozenset({"dev_ventilator", "mechanical_ventilation", "dev_endotracheal_tube"}),
}
_SLEEP = frozenset({"dev_cpap", "cpap", "dev_bipap", "bipap", "niv"})
_AIRWAY = frozenset({"intubation", "mechanical_ventilation", "dev_ventilator", "dev_endotracheal_tube"})


@frozen
class DeviceRecord:
    """One statement of how oxygen was given: from `start` until the next record, at most `until`."""

    start: datetime
    until: datetime
    concept: str
    reference: str
    flow: Quantity | None = None
    lasting: bool = False  # holds over its own period, whatever device is recorded meanwhile
    ordered_only: bool = False

    @property
    def kind(self) -> Support:
        return _KIND[self.concept]


@frozen
class OxygenState:
    """The hypoxia component at one time: `low` <= truth <= `high`.

    `saturation` is set where it alone decides. `open_ended`: the device is unknown, so only "at least" holds.
    `flow_missing` / `device_missing` name what a narrower answer needs.
    """

    low: int
    high: int
    device: str = ""
    flow: Quantity | None = None
    references: tuple[str, ...] = ()
    open_ended: bool = False
    flow_missing: bool = False
    device_missing: bool = False
    unread: bool = False  # a device is on the chart, but its name is not understood
    recorded: bool = True  # False: no record of oxygen or saturation in the window
    mask_low_flow: bool = False  # a mask at a flow that a cannula would grade 2, or at an unknown flow
    excluded: tuple[str, ...] = ()  # devices not counted: home device, airway protection
    saturation: Observation | None = None
    ordered_only: bool = False

    @property
    def provisional(self) -> bool:
        return self.saturation is not None


# --- records


def _named(observation: Observation) -> tuple[str, ...]:
    return tuple(c for c in observation.value.codes if c in _KIND)


def _of_observations(case: Case, longest: timedelta) -> list[DeviceRecord]:
    """Devices as charted, with the flow of the same Observation. The device of a flow Observation counts
    where it names none itself."""
    series = case.chart.series
    named = [(o, device) for o in series("oxygen_device") for device in _named(o)]
    told = {o.reference for o, _ in named}
    for o in series("o2_flow_rate"):
        if o.reference not in told:
            named += [(o, device) for device in sorted(o.devices & _KIND.keys())]
    flows = {reference: flow for _, flow, reference in _flows(case)}
    return [
        DeviceRecord(o.when.earliest, o.when.latest + longest, device, o.reference, flows.get(o.reference))
        for o, device in named
        if o.when.day_known
    ]


def _of_procedure(procedure: Procedure, case: Case, longest: timedelta) -> list[DeviceRecord]:
    if procedure.start is None or not procedure.state.begun:
        return []
    start = procedure.start.earliest
    at_one_time = procedure.end is None or procedure.end.latest <= procedure.start.latest
    if procedure.state is EventState.RUNNING and procedure.end is None:
        until = case.now + timedelta(microseconds=1)
    elif procedure.end is None or at_one_time:
        until = procedure.start.latest + longest
    else:
        until = procedure.end.latest
    named = [c for c in (*procedure.used, *procedure.concepts) if c in _KIND]
    if any(c != "oxygen_therapy" for c in named):
        named = [c for c in named if c != "oxygen_therapy"]
    lasting = procedure.state is EventState.RUNNING or not at_one_time
    return [DeviceRecord(start, until, c, procedure.reference, None, lasting) for c in sorted(set(named))]


@once_per_case
def _ordered(case: Case) -> list[DeviceRecord]:
    """Oxygen that is only ordered: used where nothing else speaks, flagged."""
    records = []
    for order in case.chart.services.of(*(c for c in _KIND if c != "room_air")):
        if order.state is not EventState.ACTIVE:
            continue
        start = order.when.earliest if order.when is not None else case.now
        named = sorted(c for c in (*order.details, *order.concepts) if c in _KIND and c != "room_air")
        for concept in named[:1]:
            records.append(
                DeviceRecord(
                    start,
                    case.now + timedelta(microseconds=1),
                    concept,
                    order.reference,
                    ordered_only=True,
                )
            )
    return records


@once_per_case
def device_records(case: Case) -> tuple[DeviceRecord, ...]:
    """Every statement about the oxygen device, oldest first (orders left out)."""
    longest = hours(case.p("grading.crs")["oxygen_record_hours"])
    records = _of_observations(case, longest)
    for procedure in case.chart.procedures.of(*_PROCEDURES):
        records += _of_procedure(procedure, case, longest)
    return tuple(sorted(records, key=lambda r: (r.start, r.concept, r.reference)))


@once_per_case
def _flows(case: Case) -> tuple[tuple[Moment, Quantity, str], ...]:
    """Oxygen flows, oldest first; of one instant the highest last."""
    found = [
        (o.when, o.value.quantity, o.reference)
        for o in case.chart.series("o2_flow_rate")
        if o.value.quantity is not None and o.when.day_known
    ]
    return tuple(sorted(found, key=lambda f: (f[0].latest, f[1].value, f[2])))


@once_per_case
def _saturations(case: Case) -> tuple[list[datetime], list[Observation]]:
    found = [
        o
        for concept in ("spo2", "sao2")
        for o in case.chart.series(concept)
        if o.value.quantity is not None and o.when.day_known
    ]
    found.sort(key=lambda o: (o.when.earliest, o.reference))
    return [o.when.earliest for o in found], found


def _excluded(case: Case, at: datetime, since: datetime) -> frozenset[str]:
    """Device concepts that do not count at `at`: home devices on unchanged settings, airway protection."""
    chart = case.chart
    increased = any(
        o.value.yes and since <= o.when.latest and o.when.earliest <= at
        for o in chart.series("support_increased")
    )
    found: set[str] = set()
    if not increased:
        for home, devices in _HOME.items():
            for condition in chart.conditions.of(home):
                onset = condition.onset
                before = onset is None or onset.latest < since
                if condition.state is ConditionState.ACTIVE and before:
                    found |= devices
        for procedure in chart.procedures.of("cpap", "bipap", "niv"):
            if "sleep_apnea" in procedure.reasons:
                found |= _SLEEP
        sleep = [c for c in chart.conditions.of("sleep_apnea") if c.state is ConditionState.ACTIVE]
        if any(c.onset is None or c.onset.latest < since for c in sleep) and any(
            r.start < since and r.concept in _SLEEP for r in device_records(case)
        ):
            found |= _SLEEP
    if _protects_airway(case, at, since):
        found |= _AIRWAY
    return frozenset(found)


def _protects_airway(case: Case, at: datetime, since: datetime) -> bool:
    """The newest intubation, or a ventilation, only protects the airway. An intubation written as one time
    lasts until another one."""
    begun: list[tuple[datetime, Procedure]] = []
    for procedure in case.chart.procedures.of("intubation", "mechanical_ventilation"):
        start, end = procedure.start, procedure.end
        if start is None or start.earliest > at or not procedure.state.begun:
            continue
        over = end is not None and start.latest < end.latest <= at
        if start.latest >= since and not over:
            begun.append((start.latest, procedure))
    newest = max((when for when, p in begun if "intubation" in p.concepts), default=None)
    counted = [p for when, p in begun if when == newest or "intubation" not in p.concepts]
    return any("purpose_airway_protection" in p.purposes for p in counted)


@once_per_case
def _observed(case: Case) -> tuple[list[datetime], list[DeviceRecord]]:
    records = [r for r in device_records(case) if not r.lasting]
    return [r.start for r in records], records


@once_per_case
def _procedures(case: Case) -> tuple[DeviceRecord, ...]:
    return tuple(r for r in device_records(case) if r.lasting)


def _in_force(case: Case, at: datetime) -> tuple[DeviceRecord, ...]:
    """Records that hold at `at`: the newest group of one instant, and procedures that cover the time."""
    starts, observed = _observed(case)
    index = bisect_right(starts, at)
    newest = starts[index - 1] if index else None
    group = []
    while index and starts[index - 1] == newest:
        index -= 1
        if observed[index].until >= at:
            group.append(observed[index])
    running = [r for r in _procedures(case) if r.start <= at < r.until]
    return tuple(group + running)


# --- the component


def _graded(case: Case, record: DeviceRecord, flow: Quantity | None) -> OxygenState:
    p = case.p("grading.crs")
    kind, limit = record.kind, p["cannula_flow_l_min"]
    base = OxygenState(0, 0, record.concept, flow, (record.reference,), ordered_only=record.ordered_only)
    if kind is Support.NONE:
        return base
    above = None if flow is None else flow.above(limit)
    if kind in (Support.POSITIVE_PRESSURE, Support.VENTILATED):
        return replace(base, low=4, high=4)
    if kind is Support.MASK:
        low = 3 if above else p.int("mask_low_flow_component")
        high = low if above is False else 3
        return replace(base, low=low, high=high, mask_low_flow=not above, flow_missing=low < high)
    if kind is Support.BLOW_BY:
        return replace(base, low=2, high=2)
    if kind is Support.UNKNOWN:
        return replace(base, low=3 if above else 2, high=4, open_ended=True, device_missing=True)
    if above is None:
        # high-flow devices deliver more than 6 L/min unless the chart says otherwise
        low = 3 if kind is Support.HFNC else 2
        return replace(base, low=low, high=3, flow_missing=True)
    return replace(base, low=3, high=3) if above else replace(base, low=2, high=2)


def _paired_flow(
    case: Case, records: tuple[DeviceRecord, ...], at: datetime, start: datetime
) -> tuple[Quantity | None, str, datetime | None]:
    """The newest flow that belongs to the devices in force: not older than their record."""
    since = max((r.start for r in records if not r.lasting), default=start)
    for when, flow, reference in reversed(_flows(case)):
        if when.earliest <= at and when.latest >= max(since, start):
            return flow, reference, when.latest
    return None, "", None


def _unread_device(case: Case, at: datetime, start: datetime) -> str:
    """Reference of the newest device record of the window, where its value is text that names no device."""
    newest = case.chart.series("oxygen_device").latest(at, at - start)
    if newest is None or _named(newest) or not newest.value.text:
        return ""
    return newest.reference


def _saturation(case: Case, at: datetime, start: datetime) -> Observation | None:
    times, found = _saturations(case)
    index = bisect_right(times, at)
    return found[index - 1] if index and found[index - 1].when.latest >= start else None


def _fio2_above_air(case: Case, at: datetime, start: datetime) -> tuple[bool | None, str]:
    p = case.p("grading.crs")
    newest = case.chart.series("fio2").latest(at, at - start)
    if newest is None or newest.value.quantity is None:
        return None, ""
    return newest.value.quantity.above(p["fio2_room_air_pct"]), newest.reference


def oxygen_at(case: Case, at: datetime, since: datetime) -> OxygenState:
    """The hypoxia component at `at`, from what was on the chart by then. `since`: start of the therapy
    (home devices are those in use before it)."""
    p = case.p("grading.crs")
    limit = p["cannula_flow_l_min"]
    start = at - hours(p["oxygen_record_hours"])
    in_force = _in_force(case, at)
    flow, flow_reference, flow_time = _paired_flow(case, in_force, at, start)
    none_flowing = flow is not None and flow.at_most(0) is True
    held = in_force
    if not in_force and (flow is None or none_flowing):
        held = tuple(r for r in _ordered(case) if r.start <= at)
    left_out = _excluded(case, at, since) if held else frozenset()
    counted = tuple(r for r in held if r.concept not in left_out)
    excluded = tuple(sorted({r.concept for r in in_force} & left_out))
    # a flow of another record was turned up or down since the device was charted
    newer = flow is not None and all(r.reference != flow_reference for r in held)
    states = [_graded(case, r, flow if newer or r.flow is None else r.flow) for r in counted]
    if none_flowing:
        assert flow_time is not None
        states = [s for s in states if _KIND[s.device] in (Support.POSITIVE_PRESSURE, Support.VENTILATED)]
    elif flow is not None and not in_force:
        above = flow.above(limit)
        low = 3 if above else 2
        states.append(OxygenState(low, 4, flow=flow, open_ended=True, device_missing=True))
    saturation = _saturation(case, at, start)
    best = max(states, key=lambda s: (s.low, s.high), default=None)
    if best is not None and best.low > 0:
        references = tuple(dict.fromkeys((*best.references, *((flow_reference,) if best.flow else ()))))
        return replace(best, references=references, excluded=excluded)
    enriched, fio2_reference = _fio2_above_air(case, at, start)
    if enriched and not in_force:
        return OxygenState(2, 4, references=(fio2_reference,), open_ended=True, device_missing=True)
    percent = None if saturation is None else saturation.value.quantity
    low_percent = percent is not None and percent.below(p["spo2_room_air_pct"])
    if unread := _unread_device(case, at, start):
        return OxygenState(
            2 if low_percent else 0,
            4,
            references=(unread,),
            open_ended=True,
            device_missing=True,
            unread=True,
        )
    if saturation is not None and low_percent and not excluded:
        return OxygenState(2, 2, references=(saturation.reference,), saturation=saturation)
    references = best.references if best is not None else ()
    recorded = bool(in_force) or flow is not None or saturation is not None or enriched is not None
    device = best.device if best is not None else ""
    return OxygenState(0, 0, device, references=references, recorded=recorded, excluded=excluded)


def oxygen_spans(
    case: Case, start: datetime, end: datetime, since: datetime
) -> tuple[tuple[datetime, datetime, int], ...]:
    """When the hypoxia component was above 0 in [start, end]: (from, to, component at its beginning)."""
    p = case.p("grading.crs")
    longest = hours(p["oxygen_record_hours"])
    records = device_records(case)
    moments = {max(r.start, start) for r in records if r.kind is not Support.NONE and r.until > start}
    moments |= {when.latest for when, flow, _ in _flows(case) if flow.above(0)}
    for o in _saturations(case)[1]:
        assert o.value.quantity is not None
        if o.value.quantity.below(p["spo2_room_air_pct"]):
            moments.add(o.when.latest)
    observed = _observed(case)[0]
    spans: list[tuple[datetime, datetime, int]] = []
    for moment in sorted(m for m in moments if start <= m <= end):
        state = oxygen_at(case, moment, since)
        if state.low == 0:
            continue
        finish = moment
        if not state.provisional:
            held = [r for r in _in_force(case, moment) if r.concept == state.device]
            newest = max(held, key=lambda r: r.until, default=None)
            finish = moment + longest if newest is None else newest.until
            following = bisect_right(observed, moment)
            if following < len(observed) and not (newest is not None and newest.lasting):
                finish = min(finish, observed[following])
        spans.append((moment, min(finish, end), state.low))
    return tuple(spans)
