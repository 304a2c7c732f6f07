"""Drug exposures: all evidence of one ingredient by one route, folded into its last dose (chart-facts M1)."""

from __future__ import annotations

from collections.abc import Iterable

from fhir_mapping.chart import DrugRecord, DrugSource, DrugState, Exposure, Moment, Route

_RANK = {
    DrugSource.ADMINISTRATION: 0,
    DrugSource.DISPENSE: 1,
    DrugSource.STATEMENT: 2,
    DrugSource.ORDER: 3,
}
_ORDER_STATES = (DrugState.ACTIVE, DrugState.COMPLETED, DrugState.STOPPED)


def counts(record: DrugRecord) -> bool:
    """Evidence that the drug was or will be taken. An as-needed order alone is none."""
    if record.source is DrugSource.ORDER:
        return record.state in _ORDER_STATES and not record.timing.as_needed
    return record.given


def _end(record: DrugRecord) -> Moment | None:
    """End of what one record shows; None: unknown, or no end yet."""
    if record.timing.ongoing:
        return None
    known_to_start_only = record.source in (DrugSource.ADMINISTRATION, DrugSource.DISPENSE)
    if known_to_start_only and record.state is not DrugState.ON_HOLD:
        return record.timing.last or record.timing.first
    return record.timing.last


def is_ongoing(record: DrugRecord) -> bool:
    if record.source is DrugSource.ADMINISTRATION:
        return record.state is DrugState.RUNNING and record.timing.last is None
    return record.state is DrugState.ACTIVE and record.timing.ongoing and not record.timing.as_needed


def _fold(ingredient: str, route: Route | None, records: list[DrugRecord]) -> Exposure:
    ends = [(end, record) for record in records if (end := _end(record)) is not None]
    ongoing = sorted((r for r in records if is_ongoing(r)), key=lambda r: (_RANK[r.source], r.reference))
    if ongoing:
        lead, last = ongoing[0], None
    elif ends:
        last, lead = min(ends, key=lambda e: (-e[0].latest.timestamp(), _RANK[e[1].source], e[1].reference))
    else:
        lead, last = min(records, key=lambda r: (_RANK[r.source], r.reference)), None
    firsts = [r.timing.first for r in records if r.timing.first is not None]
    return Exposure(
        ingredient=ingredient,
        concepts=frozenset().union(*(r.concepts for r in records)),
        name=lead.name,
        route=route,
        first=min(firsts, key=lambda m: (m.earliest, m.latest)) if firsts else None,
        last=last,
        evidence=lead.source,
        ongoing=bool(ongoing),
        record=lead,
        records=tuple(records),
    )


def _with_unstated_route(
    groups: dict[tuple[str, Route | None], list[DrugRecord]],
) -> dict[tuple[str, Route | None], list[DrugRecord]]:
    """Records without a route join those of the ingredient's one route, if that is a systemic one."""
    joined = dict(groups)
    for (ingredient, route), records in groups.items():
        if route is not None:
            continue
        known = [r for (name, r) in groups if name == ingredient and r is not None]
        if len(known) == 1 and known[0].systemic:
            joined[ingredient, known[0]] = [*groups[ingredient, known[0]], *records]
            del joined[ingredient, route]
    return joined


def read_exposures(drugs: Iterable[DrugRecord], drug_concepts: frozenset[str]) -> tuple[Exposure, ...]:
    """One per ingredient (of `drug_concepts`) and route, by ingredient."""
    groups: dict[tuple[str, Route | None], list[DrugRecord]] = {}
    for record in drugs:
        if counts(record):
            for ingredient in record.ingredients:
                if ingredient in drug_concepts:
                    groups.setdefault((ingredient, record.route), []).append(record)
    found = sorted(_with_unstated_route(groups).items(), key=lambda item: (item[0][0], item[0][1] or ""))
    return tuple(_fold(ingredient, route, records) for (ingredient, route), records in found)
