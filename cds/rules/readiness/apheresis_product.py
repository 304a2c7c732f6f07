"""Is the collected product enough and documented? Counts, share of T cells, viability, collection record.

Counts of the bags of one order are added up; the share of CD3+ cells is judged bag by bag, never across bags.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from cards.finding import Evidence, Finding, Indicator, Items, Message, Missing, Outcome, Scalar, Shown, msg
from cds.engine.case import Case
from cds.engine.rule import rule
from cds.rules.evidence import of_anchor, of_observation
from cds.rules.readiness.checklist import NOTHING, Line, Status, checklist
from cds.rules.readiness.phase import collected, infused
from cds.rules.readiness.product import (
    COLLECTED,
    collections,
    named_bag,
    newest_per_bag,
    product_status,
    results,
)
from fhir_mapping.chart import Amount, Anchor, Observation, Quantity, all_of

RULE = "readiness.apheresis-product"
_VITALS = ("body_temperature", "bp_systolic", "heart_rate", "respiratory_rate", "spo2")
_MADE = frozenset({"manufactured", "in_transit", "received", "stored"})
_BILLION = Decimal(10) ** 9
_Bags = dict[str, Observation]


def _bags(case: Case, taken: tuple[Anchor, ...], concept: str) -> _Bags:
    found = tuple(o for o in results(case, concept, COLLECTED, taken) if o.value.quantity is not None)
    return newest_per_bag(found, taken)


def _cell_bags(case: Case, taken: tuple[Anchor, ...], concept: str) -> _Bags:
    """Absolute counts; a count per mL is multiplied by the volume of that very bag, else left out."""
    volumes = _bags(case, taken, "product_volume")
    found: _Bags = {}
    for bag, observation in _bags(case, taken, concept).items():
        quantity, volume = observation.value.quantity, volumes.get(bag)
        assert quantity is not None
        if quantity.unit != "/mL":
            found[bag] = observation
            continue
        ml = None if volume is None else volume.value.quantity
        if ml is not None and not ml.comparator:
            cells = Quantity(quantity.value * ml.value, "{cells}", quantity.comparator)
            found[bag] = replace(observation, value=replace(observation.value, quantity=cells))
    return found


def at_least(numbers: Iterable[Quantity], limit: Decimal) -> bool | None:
    """Does the sum reach the limit? Bounds (<, >) answer only where they decide."""
    low, high, open_end = Decimal(0), Decimal(0), False
    short = False  # the sum stays below `high`, never reaching it
    for number in numbers:
        if number.comparator in (">", ">="):
            low, open_end = low + number.value, True
        elif number.comparator:
            high, short = high + number.value, short or number.comparator == "<"
        else:
            low, high = low + number.value, high + number.value
    if low >= limit:
        return True
    return False if not open_end and (high < limit or (short and high <= limit)) else None


def _cells(bags: _Bags) -> Shown:
    if not bags:
        return NOTHING
    numbers = [o.value.quantity for o in bags.values() if o.value.quantity is not None]
    total = sum((n.value for n in numbers), Decimal(0)) / _BILLION
    bound = next((n.comparator for n in numbers if n.comparator), "")
    when = max((o.when for o in bags.values()), key=lambda m: m.latest)
    key = {"<": "cells-below", "<=": "cells-below", ">": "cells-above", ">=": "cells-above"}.get(
        bound, "cells"
    )
    return msg(key, count=total, bags=len(bags), when=when)


def _named(*groups: _Bags) -> frozenset[str]:
    """Bags that any result names by its Specimen."""
    return frozenset(bag for bags in groups for bag, seen in bags.items() if named_bag(seen))


def _count_line(
    case: Case, row: str, concept: str, bags: _Bags, known: frozenset[str], limit: Decimal
) -> Line:
    """A sum that lacks one of the known bags may reach the limit, it never fails it."""
    shown = {"limit": limit / _BILLION}
    if not bags:
        return Line(row, Status.UNKNOWN, NOTHING, shown, missing=(_lost(case, concept),))
    numbers = [o.value.quantity for o in bags.values() if o.value.quantity is not None]
    good = at_least(numbers, limit)
    if good is False and _named(bags) and known - bags.keys():
        good = None
    status = Status.UNKNOWN if good is None else Status.MET if good else Status.NOT_MET
    values: dict[str, Scalar] = {}
    if all(not n.comparator for n in numbers):
        values[f"{row}_cells"] = sum((n.value for n in numbers), Decimal(0))
    evidence = tuple(of_observation(o) for o in bags.values())
    missing = (Missing(concept),) if good is None else ()
    notes = (msg("note.second"),) if status is Status.NOT_MET else ()
    if len(bags) > 1:
        notes = (*notes, msg("note.summed", bags=len(bags)))
    return Line(row, status, _cells(bags), shown, notes, None, values, evidence, missing)


def _lost(case: Case, concept: str) -> Missing:
    """Why there is no number: not on the chart, or there in a unit nobody can read."""
    losses = case.chart.series(concept).losses
    if not losses:
        per_volume = any(
            o.value.quantity is not None and o.value.quantity.unit == "/mL"
            for o in case.chart.series(concept)
        )
        return Missing("product_volume" if per_volume else concept)
    return Missing(concept, losses[-1].reason, losses[-1].resource, losses[-1].text)


def _computed(tnc: Observation, cd3: Observation) -> Quantity | None:
    """CD3+ of nucleated cells in percent, of one report or one moment of one bag."""
    if tnc.reference != cd3.reference and tnc.specimen is None and tnc.when != cd3.when:
        return None
    whole, part = tnc.value.quantity, cd3.value.quantity
    if whole is None or part is None or whole.comparator or part.comparator or whole.value <= 0:
        return None
    return Quantity(100 * part.value / whole.value, "%")


def _share_line(case: Case, tnc: _Bags, cd3: _Bags, reported: _Bags, limit: Decimal) -> Line:
    """Lowest share of any bag; a bag without a share leaves the row open."""
    shares: list[tuple[Quantity, tuple[Evidence, ...]]] = []
    bare = False
    for bag in dict.fromkeys((*tnc, *cd3, *reported)):
        found: list[tuple[Quantity, tuple[Evidence, ...]]] = []
        if bag in reported and (number := reported[bag].value.quantity) is not None:
            found.append((number, (of_observation(reported[bag]),)))
        if bag in tnc and bag in cd3 and (worked := _computed(tnc[bag], cd3[bag])) is not None:
            found.append((worked, (of_observation(tnc[bag]), of_observation(cd3[bag]))))
        bare = bare or not found
        shares += found
    row, limits = "cd3-share", {"limit": limit}
    if not shares:
        return Line(row, Status.UNKNOWN, NOTHING, limits, missing=(_lost(case, "product_cd3_percent"),))
    lowest, evidence = min(shares, key=lambda item: item[0].value)
    enough = all_of(number.above(limit) for number, _ in shares)
    status = Status.UNKNOWN if bare or enough is None else Status.MET
    if enough is False:
        status = Status.NOT_MET
    shown: Shown = Amount(_rounded(lowest.value), "%")
    if lowest.value == limit and not lowest.comparator:
        shown = msg("common.checklist.at-limit", what=shown)
    missing = (Missing("product_cd3_percent"),) if status is Status.UNKNOWN else ()
    notes = (msg("note.share"),) if status is Status.NOT_MET else ()
    values: dict[str, Scalar] = {"cd3_share_percent": lowest.value}
    return Line(row, status, shown, limits, notes, None, values, evidence, missing)


def _viability_line(case: Case, bags: _Bags) -> Line:
    if not bags:
        missing = (_lost(case, "product_viability"),)
        return Line("viability", Status.UNKNOWN, weight=Indicator.INFO, missing=missing)
    lowest = min(bags.values(), key=lambda o: o.value.quantity.value if o.value.quantity else Decimal(0))
    quantity = lowest.value.quantity
    assert quantity is not None
    values: dict[str, Scalar] = {} if quantity.comparator else {"viability_percent": quantity.value}
    evidence = tuple(of_observation(o) for o in bags.values())
    return Line("viability", Status.MET, quantity, values=values, evidence=evidence)


def _blood_count(case: Case, taken: tuple[Anchor, ...]) -> Line:
    """CBC with differential of the product itself; a count of the patient's blood does not answer."""
    done = [
        o
        for o in results(case, "cbc_panel", COLLECTED, taken)
        if o.specimen is not None and COLLECTED in o.specimen.concepts
    ]
    if not done:
        return Line("cbc", Status.UNKNOWN, weight=Indicator.INFO, missing=(Missing("cbc_panel"),))
    newest = done[-1]
    shown = msg("common.checklist.value", value=msg("common.checklist.present"), when=newest.when)
    return Line("cbc", Status.MET, shown, evidence=(of_observation(newest),))


# --- collection record


def _vitals(case: Case, anchor: Anchor, minutes: int) -> Iterator[str]:
    """What lacks of the vital signs during and at the end of one collection."""
    if anchor.when is None:
        yield from ("vitals-during", "vitals-end")
        return
    begin, end = anchor.when.earliest, None if anchor.end == anchor.when else anchor.end
    finish = end if end is not None else anchor.when
    near = timedelta(minutes=minutes)
    seen = [o for concept in _VITALS for o in case.chart.series(concept).between(begin, finish.latest + near)]
    if not any(o.when.earliest < finish.latest for o in seen):
        yield "vitals-during"
    exact = end is not None and end.exact
    if not exact or not any(o.when.latest >= finish.earliest - near for o in seen):
        yield "vitals-end"


def _gaps(case: Case, taken: tuple[Anchor, ...]) -> list[str]:
    gaps: list[str] = []
    minutes = case.p(RULE).int("end_minutes")
    for anchor in taken:
        gaps += _vitals(case, anchor, minutes)
        if anchor.when is None or not anchor.when.exact:
            gaps.append("time")
    for concept in ("blood_volume_processed", "product_volume"):
        if not _bags(case, taken, concept):
            gaps.append(concept)
    lots = results(case, "reagent_lot", COLLECTED, taken)
    if not lots:
        gaps.append("lot")
    elif any(o.component("expiry_date") is None for o in lots):
        gaps.append("expiry")
    return list(dict.fromkeys(gaps))


def _record_line(case: Case, taken: tuple[Anchor, ...]) -> Line:
    gaps = _gaps(case, taken)
    evidence = tuple(of_anchor(a, "leukapheresis") for a in taken)
    if not gaps:
        return Line("record", Status.MET, msg("record.complete"), evidence=evidence)
    shown = msg("record.gaps", gaps=Items(tuple(msg(f"gap.{gap}") for gap in gaps)))
    lacking = tuple(Missing(gap) for gap in gaps if gap in ("blood_volume_processed", "product_volume"))
    return Line(
        "record",
        Status.CAUTION,
        shown,
        weight=Indicator.INFO,
        values={"record_gaps": len(gaps)},
        evidence=evidence,
        missing=lacking + ((Missing("reagent_lot"),) if "lot" in gaps else ()),
    )


def _short(line: Line) -> Message:
    """The number of a row for the summary."""
    limit = line.limits["limit"]
    if f"{line.row}_cells" in line.values:
        cells = line.values[f"{line.row}_cells"]
        assert isinstance(cells, Decimal)
        return msg(f"short.{line.row}", count=cells / _BILLION, limit=limit)
    if "cd3_share_percent" in line.values:
        share = line.values["cd3_share_percent"]
        assert isinstance(share, Decimal)
        return msg("short.cd3-share", count=_rounded(share), limit=limit)
    return line.label


def _rounded(percent: Decimal) -> Decimal:
    return percent.quantize(Decimal("0.01")).normalize()


@rule(RULE)
def apheresis_product(case: Case) -> Iterator[Finding]:
    """One card of the collected product, from the collection to the infusion."""
    if not collected(case) or infused(case):
        return
    p = case.p(RULE)
    taken = collections(case, p.int("same_order_days"))
    tnc = _cell_bags(case, taken, "product_viable_tnc")
    cd3 = _cell_bags(case, taken, "product_viable_cd3")
    share = _bags(case, taken, "product_cd3_percent")
    viability = _bags(case, taken, "product_viability")
    counted = (_bags(case, taken, concept) for concept in ("product_viable_tnc", "product_viable_cd3"))
    known = _named(*counted, share, viability)
    nothing = not (tnc or cd3 or share or viability)
    if nothing and not _MADE.isdisjoint(product_status(case).words):
        return
    lines = [
        _count_line(case, "tnc", "product_viable_tnc", tnc, known, p["min_viable_tnc"]),
        _count_line(case, "cd3", "product_viable_cd3", cd3, known, p["min_viable_cd3"]),
        _share_line(case, tnc, cd3, share, p["min_cd3_percent"]),
        _viability_line(case, viability),
        _blood_count(case, taken),
        _record_line(case, taken),
    ]
    finding = checklist(case, RULE, lines, values={"bags": len({*tnc, *cd3, *share})})
    failed = tuple(_short(line) for line in lines if line.status is Status.NOT_MET)
    if failed:
        finding = replace(finding, summary=msg("summary.not-ready", failed=Items(failed)))
    if finding.outcome in (Outcome.READY, Outcome.READY_WITH_POINTS):
        counts = tuple(_short(line) for line in lines[:3])
        finding = replace(finding, summary=msg(finding.summary.key, counts=Items(counts)))
    yield replace(finding, indicator=None, unconcluded=True) if nothing else finding
