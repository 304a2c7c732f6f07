"""Rows of the hold table that apply to a chart, and what they ask for."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from enum import IntEnum

from cards.finding import Evidence, Message, Missing, Scalar

RULE = "dosing.tarlatamab-hold"


class Action(IntEnum):
    """What a row asks for, mildest first."""

    GO = 0
    NOTE = 1
    REVIEW = 2
    HOLD = 3
    STOP = 4


@dataclass(frozen=True, slots=True)
class HoldRow:
    """One row of the table that applies.

    `day0` starts its clock; `days_left` until the limit; `elsewhere`: another rule writes its card;
    `labs`: tests to repeat.
    """

    row: str
    action: Action
    text: Message
    day0: date | None = None
    days_left: int | None = None
    evidence: tuple[Evidence, ...] = ()
    missing: tuple[Missing, ...] = ()
    labs: tuple[str, ...] = ()
    elsewhere: bool = False
    alarming: bool = False  # critical also as a hold
    values: dict[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HoldState:
    """All rows that apply, worst first."""

    rows: tuple[HoldRow, ...]

    @property
    def action(self) -> Action:
        return max((row.action for row in self.rows), default=Action.GO)

    @property
    def own(self) -> tuple[HoldRow, ...]:
        """Rows whose card this rule writes."""
        return tuple(row for row in self.rows if not row.elsewhere)
