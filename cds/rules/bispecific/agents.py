"""The agent table as typed rows. A new agent is data: no code changes, no number without a source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cache

from cds.engine.parameters import Parameters
from cds.engine.tables import shared_table
from fhir_mapping.chart import Route


class AgentError(Exception):
    """An enabled agent lacks a cell that the ladder needs; names agent and cell."""


@dataclass(frozen=True, slots=True)
class Step:
    """One rung: dose in mg, calendar days from the dose before (earliest, on schedule)."""

    label: str
    dose: Decimal
    min_gap: int
    due_gap: int
    monitored: bool
    verified: bool = True


@dataclass(frozen=True, slots=True)
class Limit:
    """Longest break (days) after `after` doses; a longer one begins again with the first step."""

    row: str
    after: int
    max_days: int
    verified: bool
    source: str


@dataclass(frozen=True, slots=True)
class ThirdDose:
    """Days after the second dose of a new climb: too early before `floor`, undisputed from `clear` on."""

    floor: int
    clear: int


@dataclass(frozen=True, slots=True)
class Ladder:
    """Everything that decides dose and date of one agent. The last step repeats."""

    agent: str
    route: Route
    infusion_minutes: int
    cycle_days: int
    steps: tuple[Step, ...]
    limits: tuple[Limit, ...]
    vials: tuple[Decimal, ...]
    trial_dose: Decimal | None
    third_dose: ThirdDose | None
    version: int
    dated: date

    @property
    def doses(self) -> frozenset[Decimal]:
        return frozenset(step.dose for step in self.steps)

    @property
    def first(self) -> Step:
        return self.steps[0]

    def step(self, given: int) -> Step:
        """The step that follows `given` doses."""
        return self.steps[min(given, len(self.steps) - 1)]

    def limit(self, given: int) -> Limit | None:
        """The restart row after `given` doses; None before the first dose."""
        found = [row for row in self.limits if row.after <= given]
        return max(found, key=lambda row: row.after) if found else None

    @property
    def per_cycle(self) -> int:
        """Maintenance doses per cycle."""
        return max(1, self.cycle_days // self.steps[-1].due_gap)


@dataclass(frozen=True, slots=True)
class Agent:
    """One listed bispecific. `ladder` None: no verified table, no number of any kind."""

    concept: str
    version: int
    dated: date
    ladder: Ladder | None


def agents_from(table: Parameters) -> Mapping[str, Agent]:
    """Agents by concept. Raises AgentError where an enabled agent lacks a cell."""
    agents = {}
    for row in table.table("agents"):
        concept = str(row["agent"])
        enabled = row["status"] == "enabled"
        version, dated = int(row["version"]), row["dated"]
        ladder = _ladder(table, concept, version, dated) if enabled else None
        agents[concept] = Agent(concept, version, dated, ladder)
    return agents


def _cell(table: Parameters, agent: str, cell: str) -> Mapping[str, object]:
    try:
        row = table.row("cells", agent=agent, cell=cell)
    except KeyError:
        raise AgentError(f"{agent}: {cell} is missing") from None
    if row.get("value") in (None, ""):
        raise AgentError(f"{agent}: {cell} has no value")
    return row


def _number(table: Parameters, agent: str, cell: str) -> int:
    return int(str(_cell(table, agent, cell)["value"]))


def _optional(table: Parameters, agent: str, cell: str) -> Decimal | None:
    for row in table.table("cells"):
        if row["agent"] == agent and row["cell"] == cell:
            return Decimal(str(row["value"]))
    return None


def _third_dose(table: Parameters, agent: str) -> ThirdDose | None:
    floor = _optional(table, agent, "third_dose_floor_days")
    clear = _optional(table, agent, "third_dose_clear_days")
    return None if floor is None or clear is None else ThirdDose(int(floor), int(clear))


def _ladder(table: Parameters, agent: str, version: int, dated: date) -> Ladder:
    steps = tuple(
        Step(
            str(row["step"]),
            Decimal(str(row["dose_mg"])),
            int(row["min_gap_days"]),
            int(row["due_gap_days"]),
            bool(row["monitored"]),
            bool(row.get("verified", True)),
        )
        for row in table.table("ladder")
        if row["agent"] == agent
    )
    limits = tuple(
        Limit(
            str(row["row"]),
            int(row["after"]),
            int(row["max_days"]),
            bool(row.get("verified", True)),
            str(row["source"]),
        )
        for row in table.table("restart")
        if row["agent"] == agent
    )
    for cell in table.table("cells"):
        if cell["agent"] == agent and cell["cell"] == "dose_basis" and cell["value"] != "flat":
            raise AgentError(f"{agent}: doses per {cell['value']} cannot be judged")
    if len(steps) < 2:
        raise AgentError(f"{agent}: a ladder has at least two steps")
    if not limits:
        raise AgentError(f"{agent}: restart is missing")
    vials = _cell(table, agent, "vials_mg")["value"]
    assert isinstance(vials, list)
    return Ladder(
        agent,
        Route(str(_cell(table, agent, "route")["value"])),
        _number(table, agent, "infusion_minutes"),
        _number(table, agent, "cycle_days"),
        steps,
        limits,
        tuple(Decimal(str(v)) for v in vials),
        _optional(table, agent, "trial_dose_mg"),
        _third_dose(table, agent),
        version,
        dated,
    )


@cache
def agents() -> Mapping[str, Agent]:
    """The listed bispecifics of this version."""
    return agents_from(shared_table("bispecific_ladders"))


def ladder_of(concept: str) -> Ladder:
    """The ladder of an enabled agent. Raises AgentError where there is none."""
    ladder = agents()[concept].ladder
    if ladder is None:
        raise AgentError(f"{concept}: no verified table")
    return ladder
