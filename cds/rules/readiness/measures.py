"""Rows that several checklists share: performance status, saturation with the oxygen given."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from cards.finding import Evidence, Items, Missing, Name, Scalar, Shown, msg
from cds.engine.case import Case
from cds.engine.parameters import Parameters
from cds.rules.evidence import of_observation
from cds.rules.grading.oxygen_support import oxygen_at
from cds.rules.readiness.checklist import Line, Look, Status, newest, shown
from fhir_mapping.chart import Observation

_AIR_PERCENT = 21
_HOLDS = timedelta(hours=6)  # as long as a record of the device stands (chart-facts O6)
SCALES = ("ecog", "karnofsky", "lansky")


def score(observation: Observation) -> Decimal | None:
    if observation.value.number is not None:
        return Decimal(observation.value.number)
    quantity = observation.value.quantity
    return quantity.value if quantity is not None and not quantity.comparator else None


def performance_line(case: Case, row: str, p: Parameters) -> Line:
    """Any recorded scale that fails fails the row; ECOG below, Karnofsky and Lansky above their limits."""
    within = case.days_back(p.int("performance_max_age_days"))
    looks = {scale: newest(case, scale, within, lambda o: score(o) is not None) for scale in SCALES}
    found: list[Shown] = []
    evidence: list[Evidence] = []
    failed: list[Shown] = []
    values: dict[str, Scalar] = {}
    for scale, look in looks.items():
        observation = look.observation
        number = None if observation is None else score(observation)
        if observation is None or number is None:
            continue
        values[scale] = int(number)
        found.append(msg("common.checklist.scale", scale=Name(scale), value=number, when=observation.when))
        evidence.append(of_observation(observation))
        if number >= p["ecog_below"] if scale == "ecog" else number <= p[f"{scale}_above"]:
            failed.append(msg(f"common.checklist.brief.{scale}", value=number))
    limits: dict[str, Shown] = {
        "ecog": p["ecog_below"],
        "karnofsky": p["karnofsky_above"],
        "lansky": p["lansky_above"],
    }
    if not found:
        stale = next((look for look in looks.values() if look.old is not None), looks["ecog"])
        return Line(row, Status.UNKNOWN, stale.shown, limits, missing=stale.missing or (Missing("ecog"),))
    status = Status.NOT_MET if failed else Status.MET
    brief = Items(tuple(failed)) if failed else None
    return Line(
        row, status, Items(tuple(found)), limits, values=values, evidence=tuple(evidence), brief=brief
    )


@dataclass(frozen=True, slots=True)
class Saturation:
    """Newest saturation with the oxygen in force at that time: given, room air, or not recorded (None)."""

    look: Look
    oxygen: bool | None
    evidence: tuple[Evidence, ...] = ()

    @property
    def shown(self) -> Shown:
        if self.look.observation is None:
            return self.look.shown
        key = {True: "on-oxygen", False: "room-air", None: "oxygen-unknown"}[self.oxygen]
        return msg(f"common.checklist.{key}", what=shown(self.look.observation))


def saturation(case: Case, within: timedelta) -> Saturation:
    look = newest(case, ("spo2", "sao2"), within, lambda o: o.value.quantity is not None)
    observation = look.observation
    if observation is None:
        return Saturation(look, None)
    own, flow = observation.component("oxygen_device"), observation.component("o2_flow_rate")
    flowing = flow is not None and flow.quantity is not None and flow.quantity.above(0) is True
    if flowing:
        return Saturation(look, True)
    if own is not None and "room_air" in own.codes:
        return Saturation(look, False)  # as the reading itself says, whatever runs at other times
    at = observation.when.latest if observation.when.exact else case.now
    state = oxygen_at(case, at, at)
    if (state.low > 0 and not state.provisional) or state.device_missing:
        return Saturation(look, True, tuple(Evidence(r, "oxygen_device") for r in state.references))
    room = state.device == "room_air" or any(
        found.value.quantity is not None and found.value.quantity.at_most(limit)
        for concept, limit in (("fio2", _AIR_PERCENT), ("o2_flow_rate", 0))
        if (found := case.chart.series(concept).latest(at, _HOLDS)) is not None
    )
    return Saturation(look, False if room else None)
