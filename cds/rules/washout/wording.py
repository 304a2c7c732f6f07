"""From judged lines to values and table rows, shared by the washout cards; texts are in the catalogues."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date

from cards.finding import Block, Bullet, Days, Items, Message, Name, Scalar, Shown, Table, Text, msg
from cds.rules.drug_classes import drug_classes
from cds.rules.washout.intervals import Line
from cds.rules.washout.uses import Kind, Use, intermittent
from fhir_mapping.chart import DrugSource, DrugState, Flag, Moment, Route

MOST_LINES = 12  # rows of a table; the rest are counted

Values = dict[str, Scalar | list[Scalar] | list[dict[str, Scalar]]]


def shown_name(use: Use) -> Shown:
    """Concept name with its route where the route decides and the name does not say it."""
    if use.route is Route.INTRATHECAL and use.drug:
        return msg("name.intrathecal", drug=Name(use.concept))
    return Name(use.concept) if use.concept else Text(use.name)


def last_dose(line: Line) -> Shown:
    if line.end.ongoing:
        kind, given = msg(f"kind.{line.use.kind.value}"), _last_given(line.use)
        if given is not None and line.use.kind is not Kind.ADMINISTRATION:
            return msg("cell.ongoing-given", kind=kind, given=given)
        return msg("cell.ongoing", kind=kind)
    if line.end.last is None:
        return msg("cell.unknown")
    return msg("cell.last", date=line.end.last, kind=msg(f"kind.{line.use.kind.value}"))


def _last_given(use: Use) -> Moment | None:
    """The last administration, whatever a later order or statement says of the end of use."""
    given = (r.timing.last or r.timing.first for r in use.records if r.source is DrugSource.ADMINISTRATION)
    return max((m for m in given if m is not None), key=lambda m: m.latest, default=None)


def shown_gap(line: Line) -> Shown:
    return msg("cell.none") if line.gap is None else Days(line.gap)


def first_day(line: Line) -> Shown:
    """The first day that the interval allows; counted from the last dose where that is still to come."""
    if line.earliest is not None:
        return line.earliest
    return msg("cell.after-last", needed=line.interval.needed()) if line.end.ongoing else msg("cell.unknown")


def line_values(line: Line) -> dict[str, Scalar]:
    """Machine-readable line: row, concept, dates, days, outcome."""
    values: dict[str, Scalar] = {
        "row": line.interval.row,
        "drug": line.use.concept,
        "outcome": line.outcome.value,
        "evidence_kind": line.use.kind.value,
    }
    if line.use.route is not None:
        values["route"] = line.use.route.value
    if line.end.last is not None:
        values["last_dose"] = line.end.last.date
        if not line.end.last.day_known:
            values["partial_date"] = True
    if line.end.ongoing:
        values["ongoing"] = True
    if line.gap is not None:
        values["gap_days"] = line.gap
    if line.needed is not None:
        values["needed_days"] = line.needed
    if line.interval.months:
        values["needed_months"] = line.interval.low
    if line.interval.ranged:
        values["preferred_days"] = line.interval.full
    if line.earliest is not None:
        values["earliest"] = line.earliest
    if line.interval.ranged and line.full is not None:
        values["earliest_preferred"] = line.full
    if line.possible is not None:
        values["possible_row"] = line.possible[0].row
        if line.possible[1] is not None:
            values["possible_earliest"] = line.possible[1]
    return values


def table(lines: Sequence[Line]) -> tuple[Block, ...]:
    """The lines as a table, worst first as given; more than `MOST_LINES` are counted, not shown."""
    header = tuple(msg(f"head.{name}") for name in ("drug", "last", "gap", "needed", "earliest", "verdict"))
    rows = tuple(
        (
            shown_name(line.use),
            last_dose(line),
            shown_gap(line),
            line.interval.needed(),
            line.earliest if line.earliest is not None else msg("cell.none"),
            msg("cell.verdict", outcome=line.outcome, row=line.interval.row),
        )
        for line in lines[:MOST_LINES]
    )
    blocks: list[Block] = [Table(header, rows)]
    if len(lines) > MOST_LINES:
        blocks.append(Bullet(msg("note.more-lines", count=len(lines) - MOST_LINES)))
    return tuple(blocks)


def notes(lines: Iterable[Line]) -> tuple[Block, ...]:
    """What a reader must know about how the lines were read."""
    found = tuple(lines)
    result: list[Message] = []

    def add(key: str, chosen: Iterable[Line], **values: Shown) -> None:
        names = tuple(dict.fromkeys(line.use.concept for line in chosen))
        if names:
            result.append(msg(key, drugs=_items(names), **values))

    add("note.class-member", (line for line in found if not _named(line)))
    add("note.partial-date", (x for x in found if x.end.last is not None and not x.end.last.day_known))
    add("note.ordered-only", (line for line in found if _ordered_only(line.use)))
    add("note.intermittent-supply", (line for line in found if _intermittent_supply(line)))
    add("note.by-name", (line for line in found if Flag.BY_NAME in line.use.flags))
    add("note.route-assumed", (line for line in found if line.use.drug and line.use.route is None))
    unverified = tuple(dict.fromkeys(line.interval.row for line in found if not line.interval.verified))
    if unverified:
        result.append(msg("note.unverified", rows=Items(unverified)))
    add("note.stopped-order", (x for x in found if not x.end.known and _stopped(x.use)))
    for line in found:
        if line.possible is not None:
            result.append(
                msg("note.if-high-dose", drug=shown_name(line.use), needed=line.possible[0].needed())
            )
    return tuple(Bullet(message) for message in result)


def _items(concepts: Iterable[str]) -> Shown:
    return Items(tuple(Name(concept) for concept in concepts))


def unique(blocks: Iterable[Block]) -> tuple[Block, ...]:
    """Each block once, in order (messages hold mappings and cannot be hashed)."""
    result: list[Block] = []
    for block in blocks:
        if block not in result:
            result.append(block)
    return tuple(result)


def _named(line: Line) -> bool:
    """The handbook names the drug in the class, or the line is a regimen or procedure it names."""
    use = line.use
    if not use.drug or use.drug in line.interval.drugs:
        return True
    classes = line.interval.classes & set(use.ends)
    return any(drug_classes().named(use.drug, name) for name in classes)


def _ordered_only(use: Use) -> bool:
    return use.kind is Kind.ORDER and _last_given(use) is None


def _intermittent_supply(line: Line) -> bool:
    supplied = line.use.kind is Kind.DISPENSE and not line.end.ongoing
    return supplied and any(intermittent(record) for record in line.use.records)


def _stopped(use: Use) -> bool:
    return any(record.state is DrugState.STOPPED for record in use.records)


def open_ended(lines: Iterable[Line]) -> bool:
    """Does any line that demands a day lack its last dose (still in use, or end unknown)?"""
    return any(x.earliest is None and not x.interval.waivable for x in lines)


def latest_day(lines: Iterable[Line]) -> date | None:
    """The first day that satisfies every line that demands one (waived lines demand nothing)."""
    days = [x.earliest for x in lines if x.earliest is not None and not x.interval.waivable]
    return max(days) if days else None
