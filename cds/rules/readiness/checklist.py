"""Checklists before and during CAR-T: lines with a status, one verdict, one table.

Every checklist of the domain is built from these lines, so that they sort, read and count alike
(conventions of the rule inventory: any not-met is "not ready", else any unknown "incomplete", else any
caution or clinician's decision "ready with points").
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from cards.finding import (
    DEFAULT_OVERRIDES,
    Block,
    Bullet,
    Create,
    Evidence,
    Finding,
    Indicator,
    Items,
    Message,
    Missing,
    Name,
    Outcome,
    Override,
    Scalar,
    Selection,
    ServiceProposal,
    Shown,
    Suggestion,
    Table,
    Text,
    msg,
)
from cds.engine.case import Case
from cds.engine.rule import Hook
from cds.rules import evidence as facts
from fhir_mapping.chart import Amount, LossReason, Moment, Observation, Quantity

OVERRIDES = (Override.DISEASE_PROGRESSION, Override.MANUFACTURER_AGREED, *DEFAULT_OVERRIDES)
_LABELS = 4  # open rows that the summary names; the detail has all


class Status(StrEnum):
    """Status of one line, worst first."""

    NOT_MET = "not-met"
    UNKNOWN = "unknown"
    CAUTION = "caution"
    CLINICIAN = "clinician"
    MET_MINIMUM = "met-minimum"
    MET = "met"
    NOT_APPLICABLE = "n-a"

    @property
    def open(self) -> bool:
        return self in _OPEN


def status_of(good: bool | None) -> Status | None:
    """Met or not met; None where a bound decides neither."""
    return None if good is None else Status.MET if good else Status.NOT_MET


_OPEN = (Status.NOT_MET, Status.UNKNOWN, Status.CAUTION, Status.CLINICIAN)
_ORDER = list(Status)
NOTHING = msg("common.checklist.none")


@dataclass(frozen=True, slots=True)
class Line:
    """One row of a checklist. Label and criterion are the catalogue's `item.<row>` and `limit.<row>`.

    `weight` replaces the indicator that the status has by itself; `tests` may be ordered to close the row;
    `brief` is the number that the summary names beside the label, or words that stand for both.
    """

    row: str
    status: Status
    found: Shown = NOTHING
    limits: Mapping[str, Shown] = field(default_factory=dict)
    notes: tuple[Message, ...] = ()
    weight: Indicator | None = None
    values: Mapping[str, Scalar] = field(default_factory=dict)
    evidence: tuple[Evidence, ...] = ()
    missing: tuple[Missing, ...] = ()
    tests: tuple[str, ...] = ()
    brief: Shown | None = None

    @property
    def indicator(self) -> Indicator:
        if self.weight is not None:
            return self.weight
        return Indicator.WARNING if self.status.open else Indicator.INFO

    @property
    def label(self) -> Message:
        return msg(f"item.{self.row}")


def verdict(lines: Iterable[Line]) -> Outcome:
    """Overall word of a checklist."""
    found = {line.status for line in lines}
    if Status.NOT_MET in found:
        return Outcome.NOT_READY
    if Status.UNKNOWN in found:
        return Outcome.INCOMPLETE
    if found & {Status.CAUTION, Status.CLINICIAN}:
        return Outcome.READY_WITH_POINTS
    return Outcome.READY


def worst_first(lines: Iterable[Line]) -> list[Line]:
    return sorted(lines, key=lambda line: (-line.indicator.rank, _ORDER.index(line.status)))


def table(lines: Sequence[Line]) -> Table:
    header = tuple(msg(f"common.checklist.{name}") for name in ("item", "found", "criterion", "status"))
    rows = tuple(
        (
            line.label,
            line.found,
            msg(f"limit.{line.row}", **line.limits),
            msg(f"common.checklist.status.{line.status.value}"),
        )
        for line in lines
    )
    return Table(header, rows)


def open_labels(lines: Iterable[Line]) -> Items:
    """Labels of the rows that a summary names: open ones, as many as fit."""
    labels = [_named(line) for line in lines if line.status.open]
    return Items(tuple(labels[:_LABELS]))


def _named(line: Line) -> Shown:
    if line.brief is None or line.status is Status.UNKNOWN:
        return line.label
    if isinstance(line.brief, Quantity | Amount):
        return msg("common.checklist.brief", item=line.label, found=line.brief)
    return line.brief


def tests_suggestion(tests: Sequence[str]) -> tuple[Suggestion, ...]:
    """One button that orders the missing tests."""
    wanted = tuple(dict.fromkeys(tests))
    if not wanted:
        return ()
    label = msg("common.checklist.order-tests", count=len(wanted))
    creates = tuple(Create(ServiceProposal(test)) for test in wanted)
    return (Suggestion("tests", label, creates, recommended=True),)


def missing_tests_text(tests: Sequence[str]) -> tuple[Block, ...]:
    names = Items(tuple(Name(test) for test in dict.fromkeys(tests)))
    return (Bullet(msg("common.checklist.tests", tests=names)),) if names.items else ()


def checklist(
    case: Case,
    rule: str,
    lines: Iterable[Line],
    *,
    resource: str = "",
    extra: Sequence[Message] = (),
    suggestions: tuple[Suggestion, ...] = (),
    values: Mapping[str, Scalar] | None = None,
) -> Finding:
    """The card of a checklist, or on order hooks and bookings a silent verdict where no row is open.

    The summary is the rule's `summary.<outcome>` with `open` (labels) and `count` (open rows).
    """
    ordered = worst_first(lines)
    outcome = verdict(ordered)
    points = [line for line in ordered if line.status.open]
    indicator: Indicator | None = max(
        (line.indicator for line in ordered), key=lambda i: i.rank, default=Indicator.INFO
    )
    of_an_act = case.ordering or case.hook is Hook.APPOINTMENT_BOOK
    if not points and of_an_act and indicator is Indicator.INFO:
        indicator = None
    tests = [test for line in ordered for test in line.tests]
    found: dict[str, Scalar | Sequence[Scalar] | Sequence[Mapping[str, Scalar]]] = {
        "row": ordered[0].row if ordered else "",
        "lines": [{"row": line.row, "status": line.status.value} for line in ordered],
        "open_points": len(points),
    }
    for status in _OPEN:
        rows = [line.row for line in ordered if line.status is status]
        if rows:
            found[status.value.replace("-", "_")] = rows
    for line in ordered:
        found.update(line.values)
    found.update(values or {})
    notes = list(extra)
    for line in ordered:
        for note in line.notes:
            if note not in notes:
                notes.append(note)
    return Finding(
        rule=rule,
        outcome=outcome,
        indicator=indicator,
        summary=msg(f"summary.{outcome.value}", open=open_labels(ordered), count=len(points)),
        subject=resource,
        detail=(table(ordered), *(Bullet(note) for note in notes), *missing_tests_text(tests)),
        values=found,
        evidence=tuple(dict.fromkeys(e for line in ordered for e in line.evidence)),
        missing=tuple(dict.fromkeys(m for line in ordered for m in line.missing)),
        resource=resource,
        suggestions=(*suggestions, *tests_suggestion(tests)),
        selection=Selection.ANY,
        overrides=OVERRIDES,
    )


# --- reading one fact


@dataclass(frozen=True, slots=True)
class Look:
    """The newest fact inside its window; else why there is none (`missing`, and the one that is too old)."""

    observation: Observation | None = None
    old: Observation | None = None
    missing: tuple[Missing, ...] = ()

    @property
    def quantity(self) -> Quantity | None:
        return None if self.observation is None else self.observation.value.quantity

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        return () if self.observation is None else (facts.of_observation(self.observation),)

    @property
    def known(self) -> Observation | None:
        """What the table shows, whether it counts or is too old."""
        return self.observation or self.old

    @property
    def named(self) -> tuple[Shown, ...]:
        """Test, value and time, where a row holds several tests; () where nothing is on the chart."""
        if self.known is None:
            return ()
        return (msg("common.checklist.named", test=Name(self.known.concept), what=self.shown),)

    @property
    def shown(self) -> Shown:
        """Value and time for the table's second column."""
        if self.observation is not None:
            return shown(self.observation)
        if self.old is not None:
            return msg("common.checklist.stale", what=shown(self.old))
        return NOTHING


def word_of(observation: Observation) -> Shown:
    value = observation.value
    if value.quantity is not None:
        return value.quantity
    if value.codes:
        return Items(tuple(Name(code) for code in value.codes))
    if value.yes is not None:
        return msg(f"common.checklist.{'yes' if value.yes else 'no'}")
    if value.result is not None:
        return value.result
    if value.number is not None:
        return value.number
    return msg("common.checklist.present")


def shown(observation: Observation) -> Shown:
    return msg("common.checklist.value", value=word_of(observation), when=observation.when)


def seen(observation: Observation) -> Shown:
    """Test, value and time."""
    return msg("common.checklist.named", test=Name(observation.concept), what=shown(observation))


def dated(what: Shown, when: Moment | None) -> Shown:
    if when is None:
        return what
    return msg("common.checklist.value", value=what, when=when)


def listed(found: Iterable[Evidence]) -> Items:
    """What was found, each with its value where it has one, and its time."""
    return Items(tuple(dated(_with_value(fact), fact.effective) for fact in found))


def _with_value(fact: Evidence) -> Shown:
    value = fact.value
    if isinstance(value, Decimal | int) and not isinstance(value, bool):
        return msg("common.checklist.brief", item=Name(fact.concept), found=Amount(Decimal(value), fact.unit))
    if isinstance(value, str):
        word: Shown = Text(f"{value} {fact.unit}") if fact.unit else Name(value)
        return msg("common.checklist.named", test=Name(fact.concept), what=word)
    return Name(fact.concept)


def rounded(value: Decimal, limit: Decimal, step: Decimal) -> Decimal:
    """`value` rounded to `step` for a card, finer where that would put it on a limit that it is not at."""
    while (figure := value.quantize(step)) == limit != value:
        step /= 10
    return figure


def _anything(observation: Observation) -> bool:
    return not observation.value.empty


def with_number(observation: Observation) -> bool:
    return observation.value.quantity is not None


def newest(
    case: Case,
    concepts: str | tuple[str, ...],
    within: timedelta | None,
    usable: Callable[[Observation], bool] = _anything,
    after: datetime | None = None,
) -> Look:
    """Newest usable observation of any of the concepts, at most `within` old (None: any age) and, if given,
    not from before `after`."""
    names = (concepts,) if isinstance(concepts, str) else concepts
    fresh = [o for c in names if (o := case.chart.series(c).latest(case.now, within, usable)) is not None]
    fresh = [o for o in fresh if after is None or o.when.latest >= after]
    if fresh:
        return Look(max(fresh, key=lambda o: o.when.latest))
    past = [o for c in names if (o := case.chart.series(c).latest(case.now, None, usable)) is not None]
    if not past:
        return Look(missing=(Missing(names[0]),))
    old = max(past, key=lambda o: o.when.latest)
    return Look(old=old, missing=(Missing(names[0], LossReason.STALE, old.reference),))
