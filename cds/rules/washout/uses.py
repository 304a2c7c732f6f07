"""What was used, and until when: drug exposures, regimens and procedures with their handbook classes.

A `Use` is one line of a washout table: one ingredient by one route, one regimen, one transplant. The end of
use is known per class, because a drug may be high-dose in one cycle and standard in the next, or a steroid
for GvHD in one month and against nausea in another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from enum import StrEnum

from cards.finding import Evidence
from cds.engine.case import Case, once_per_case
from cds.engine.parameters import Parameters
from cds.rules.body_size import surface
from cds.rules.drug_classes import DoseLimit, Membership, dose_band, drug_classes
from fhir_mapping.chart import (
    Condition,
    ConditionState,
    DrugRecord,
    DrugSource,
    DrugState,
    EventState,
    Exposure,
    Flag,
    Moment,
    Procedure,
    Route,
    whole_day,
)

OWNER = "washout.leukapheresis"  # its parameters hold the dose limits and the length of a cycle


class Kind(StrEnum):
    """What the last dose rests on."""

    ADMINISTRATION = "administration"
    DISPENSE = "dispense"
    STATEMENT = "statement"
    ORDER = "order"
    PROCEDURE = "procedure"
    CONDITION = "condition"
    DRAFT = "draft"


@dataclass(frozen=True, slots=True)
class End:
    """End of use. `last` None and not `ongoing`: used, but nobody wrote until when."""

    last: Moment | None
    ongoing: bool = False

    @property
    def known(self) -> bool:
        return self.ongoing or self.last is not None


@dataclass(frozen=True, slots=True)
class Use:
    """One thing used. `ends` per class; `possible` classes apply too if an unreadable dose was high."""

    subject: str
    concept: str
    name: str
    drug: str  # drug concept; "" for regimens and procedures
    route: Route | None
    ends: Mapping[str, End]
    possible: Mapping[str, End]
    kind: Kind
    reference: str
    first: Moment | None = None
    records: tuple[DrugRecord, ...] = ()
    flags: frozenset[Flag] = frozenset()

    @property
    def end(self) -> End:
        """End over all classes."""
        return _latest(list(self.ends.values()))

    def evidence(self) -> tuple[Evidence, ...]:
        return (Evidence(self.reference, self.concept, effective=self.end.last),)


def _latest(ends: Sequence[End]) -> End:
    known = [end.last for end in ends if end.last is not None]
    last = max(known, key=lambda moment: moment.latest) if known else None
    return End(last, any(end.ongoing for end in ends))


def end_of(record: DrugRecord) -> End:
    """End of one record as an exposure (chart-facts M1)."""
    timing = record.timing
    last = timing.last or timing.first
    if record.state is DrugState.RUNNING:
        return End(None, ongoing=True)
    if record.source is DrugSource.DISPENSE:
        return End(_last_supplied_day(record))
    if record.source is DrugSource.ORDER:
        if record.state is DrugState.STOPPED:
            return End(None)
        if record.state in (DrugState.ACTIVE, DrugState.DRAFT) and timing.ongoing:
            return End(None, ongoing=True)
    if record.source is DrugSource.STATEMENT and record.state is DrugState.ACTIVE:
        return End(timing.last) if timing.last is not None else End(None, ongoing=True)
    return End(last)


def intermittent(record: DrugRecord) -> bool:
    """Taken as needed or less often than once a day."""
    interval = record.timing.interval_hours
    return record.timing.as_needed or (interval is not None and interval > 24)


def _last_supplied_day(record: DrugRecord) -> Moment | None:
    """The day of the last dose of a supply: a supply of 30 days from day 1 ends with day 30."""
    first, last = record.timing.first, record.timing.last
    if first is None or last is None or last.date <= first.date:
        return last or first
    if intermittent(record):
        return first  # how often it was taken from the supply is not known
    return whole_day(last.date - timedelta(days=1), last.latest)


def dose_limits(numbers: Parameters) -> Mapping[str, DoseLimit]:
    """Limits between low, standard and high dose of the drugs that have them (chart-facts M7)."""
    return {
        "cytarabine": DoseLimit(numbers["cytarabine_high_mg_m2"], numbers["cytarabine_low_mg_m2"]),
        "methotrexate": DoseLimit(numbers["methotrexate_high_mg_m2"], intravenous=True),
        "melphalan": DoseLimit(numbers["melphalan_high_mg_m2"]),
    }


_TAKEN = (DrugState.ACTIVE, DrugState.COMPLETED, DrugState.STOPPED)


def _of_class_only(record: DrugRecord) -> bool:
    """Evidence of a drug whose code names no ingredient. An as-needed order alone is none."""
    if record.ingredients or not drug_classes().drugs_of(record):
        return False
    if record.source is DrugSource.ORDER:
        return record.state in _TAKEN and not record.timing.as_needed
    return record.given


@once_per_case
def exposures(case: Case) -> tuple[Exposure, ...]:
    """The chart's exposures, and those known by their class only (a code of the ATC group)."""
    groups: dict[tuple[str, str], list[DrugRecord]] = {}
    for record in case.chart.drugs.all:
        if _of_class_only(record):
            group = drug_classes().drugs_of(record)[0]
            groups.setdefault((group, record.route or ""), []).append(record)
    return (*case.chart.exposures, *(_class_exposure(group, r) for (group, _), r in sorted(groups.items())))


def _class_exposure(group: str, records: list[DrugRecord]) -> Exposure:
    ends = [end_of(record) for record in records]
    end = _latest(ends)
    lead = next((r for r, e in zip(records, ends, strict=True) if e == end), records[0])
    firsts = [record.timing.first for record in records if record.timing.first is not None]
    return Exposure(
        ingredient=group,
        concepts=frozenset().union(*(record.concepts for record in records)),
        name=lead.name,
        route=lead.route,
        first=min(firsts, key=lambda moment: moment.earliest) if firsts else None,
        last=None if end.ongoing else end.last,
        evidence=lead.source,
        ongoing=end.ongoing,
        record=lead,
        records=tuple(records),
    )


@once_per_case
def _limits(case: Case) -> Mapping[str, DoseLimit]:
    return dose_limits(case.p(OWNER))


@once_per_case
def _surface(case: Case) -> Decimal | None:
    return surface(case, None).value


def dose_per_m2(record: DrugRecord, surface_m2: Decimal | None) -> Decimal | None:
    """One dose in mg/m2: as written per m2, else mg over the surface area, else the calculated figure."""
    dose = record.dose
    if dose is None:
        return None
    if dose.amount is not None and dose.amount.unit == "mg/m2":
        return dose.amount.value
    if dose.mg is not None and surface_m2:
        return dose.mg / surface_m2
    if dose.per is not None and dose.per.unit == "mg/m2":
        return dose.per.value
    return None


def membership(case: Case, record: DrugRecord, drug: str) -> Membership:
    limit = _limits(case).get(drug)
    surface_m2 = _surface(case) if limit is not None else None
    band = dose_band(limit, dose_per_m2(record, surface_m2), record.route)
    return drug_classes().membership(record, drug, band)


# --- regimens


@once_per_case
def _inferred(case: Case) -> Mapping[str, frozenset[str]]:
    """Regimens recognised by their members, over chart and drafts: record reference -> regimens."""
    tables = drug_classes()
    given: list[tuple[str, date, str]] = []
    records = [r for exposure in exposures(case) for r in exposure.records]
    lymphodepletion = {r.reference for r in case.chart.course.ldc_records}
    for record in (*records, *case.chart.drafts.drugs.all):
        if record.route is not None and not record.route.systemic:
            continue
        if record.reference in lymphodepletion or "purpose_lymphodepletion" in record.purposes:
            continue  # its fludarabine makes no FLAG of the cytarabine before it
        starts = record.timing.doses or tuple(
            moment for moment in (record.timing.first, record.timing.last) if moment is not None
        )
        for drug in record.ingredients:
            given += [(drug, moment.date, record.reference) for moment in starts]
    return tables.inferred_regimens(given, case.p(OWNER).int("cycle_days"))


def regimens_of(case: Case, record: DrugRecord, found: Membership) -> frozenset[str]:
    """Regimens whose cytotoxic member this record is: tagged, else recognised by the members."""
    if found.regimens or not any(drug_classes().classes[c].cytotoxic for c in found.classes):
        return found.regimens
    return _inferred(case).get(record.reference, frozenset())


_OF_REGIMENS = frozenset({"DC9", "DC10"})  # the chemotherapy rows; other classes belong to single drugs


def _classes_by_members(regimen: str) -> frozenset[str]:
    """Classes of a regimen whose drugs are on the chart one by one; a drug keeps its own class."""
    return drug_classes().regimen_classes(regimen) & _OF_REGIMENS


def _own_classes(found: Membership, regimens: frozenset[str]) -> frozenset[str]:
    """Classes judged for the drug itself: its regimens stand for the chemotherapy rows."""
    covered = frozenset[str]().union(*(_classes_by_members(r) for r in regimens))
    if not covered:
        return found.classes
    hidden = {"DC9", "DC1T4"} | ({"DC10"} if "DC10" in covered else set())
    return found.classes - hidden


# --- uses


def _begins_by(first: Moment | None, anchor: date | None) -> bool:
    return anchor is None or first is None or first.first_date <= anchor


def _started_from(end: End, first: Moment | None, since: date | None) -> bool:
    """Was it used on or after the day `since`?"""
    if since is None or end.ongoing:
        return True
    moment = end.last or first
    return moment is None or moment.date >= since


@dataclass(slots=True)
class _Cycle:
    """Cytotoxic doses of one regimen."""

    records: list[DrugRecord]
    end: End = field(default_factory=lambda: End(None))
    first: Moment | None = None
    reference: str = ""
    kind: Kind = Kind.ADMINISTRATION
    whole: bool = False  # recorded as one procedure, so its drugs are not on the chart one by one

    def add(self, end: End, first: Moment | None, reference: str, kind: Kind) -> None:
        before = self.end
        self.end = _latest([before, end])
        if first is not None and (self.first is None or first.earliest < self.first.earliest):
            self.first = first
        newer = end.last is not None and (before.last is None or end.last.latest >= before.last.latest)
        if newer or end.ongoing or not self.reference:
            self.reference, self.kind = reference, kind
        self.whole = self.whole or kind is Kind.PROCEDURE

    def classes(self, regimen: str) -> frozenset[str]:
        return drug_classes().regimen_classes(regimen) if self.whole else _classes_by_members(regimen)


def _kind(record: DrugRecord) -> Kind:
    return Kind.DRAFT if record.state is DrugState.DRAFT else Kind(record.source.value)


def _of_exposure(
    case: Case,
    exposure: Exposure,
    anchor: date | None,
    since: date | None,
    without: frozenset[str],
    cycles: dict[str, _Cycle],
) -> Use | None:
    drug = exposure.ingredient
    kept = [
        r
        for r in exposure.records
        if r.reference not in without
        and _begins_by(r.timing.first, anchor)
        and _started_from(end_of(r), r.timing.first, since)
    ]
    if exposure.records and not kept:
        return None
    supplied = any(record.source is DrugSource.DISPENSE for record in kept)
    whole = len(kept) == len(exposure.records) and not supplied
    by_class: dict[str, list[DrugRecord]] = {}
    maybe: dict[str, list[DrugRecord]] = {}
    for record in kept:
        found = membership(case, record, drug)
        regimens = regimens_of(case, record, found)
        for name in regimens:
            cycle = cycles.setdefault(name, _Cycle([]))
            cycle.records.append(record)
            cycle.add(end_of(record), record.timing.first, record.reference, _kind(record))
        for name in _own_classes(found, regimens):
            by_class.setdefault(name, []).append(record)
        for name in found.possible if not regimens else ():
            maybe.setdefault(name, []).append(record)

    def end(records: list[DrugRecord]) -> End:
        if whole and len(records) == len(exposure.records):
            return End(exposure.last, exposure.ongoing)
        return _latest([end_of(r) for r in records])

    ends = {name: end(records) for name, records in by_class.items()}
    record = exposure.record
    return Use(
        subject=f"{drug}:{exposure.route.value if exposure.route else 'route-unknown'}",
        concept=drug,
        name=exposure.name,
        drug=drug,
        route=exposure.route,
        ends=ends
        or {"": End(exposure.last, exposure.ongoing) if whole else _latest([end_of(r) for r in kept])},
        possible={name: end(records) for name, records in maybe.items()},
        kind=Kind(exposure.evidence.value),
        reference=record.reference,
        first=exposure.first,
        records=tuple(kept),
        flags=record.flags | record.timing.flags,
    )


_HAPPENED = (EventState.DONE, EventState.RUNNING, EventState.STOPPED, EventState.TOOK_PLACE)
_PROCEDURE_CLASS = {
    "allo_hct": "allo_hct",
    "donor_lymphocyte_infusion": "donor_lymphocyte_infusion",
    "extracorporeal_photopheresis": "DC11",
    "intrathecal_chemo": "DC7",
}


def procedure_end(procedure: Procedure) -> End:
    if procedure.state is EventState.RUNNING:
        return End(None, ongoing=True)
    return End(procedure.end or procedure.start)


def _of_procedure(
    procedure: Procedure, concept: str, drug_class: str, single_day: Moment | None = None
) -> Use:
    end = End(single_day) if single_day is not None else procedure_end(procedure)
    used = sorted(procedure.used & drug_classes().drugs("DC7"))
    return Use(
        subject=procedure.reference,
        concept=used[0] if drug_class == "DC7" and used else concept,
        name=procedure.text,
        drug=used[0] if drug_class == "DC7" and used else "",
        route=Route.INTRATHECAL if drug_class == "DC7" else None,
        ends={drug_class: end},
        possible={},
        kind=Kind.PROCEDURE,
        reference=procedure.reference,
        first=procedure.start,
        flags=procedure.flags,
    )


def _procedures(case: Case, anchor: date | None, since: date | None, cycles: dict[str, _Cycle]) -> list[Use]:
    found: list[Use] = []
    for concept, drug_class in _PROCEDURE_CLASS.items():
        for procedure in case.chart.procedures.of(concept):
            if procedure.state not in _HAPPENED or not _begins_by(procedure.start, anchor):
                continue
            if not _started_from(procedure_end(procedure), procedure.start, since):
                continue
            # the day of the graft counts, not the end of the transplant stay
            graft = procedure.start if concept == "allo_hct" else None
            found.append(_of_procedure(procedure, concept, drug_class, graft))
    for procedure in case.chart.procedures.of("chemotherapy"):
        if procedure.state not in _HAPPENED or not _begins_by(procedure.start, anchor):
            continue
        end = procedure_end(procedure)
        if not _started_from(end, procedure.start, since):
            continue
        regimens = sorted(r for r in procedure.regimens if drug_classes().regimen_classes(r))
        for name in regimens:
            cycles.setdefault(name, _Cycle([])).add(end, procedure.start, procedure.reference, Kind.PROCEDURE)
        if not regimens:
            found.append(_of_procedure(procedure, "chemotherapy", "DC9"))
    return found


def _transplant_of_unknown_type(case: Case, anchor: date | None) -> list[Use]:
    """A transplant whose type nobody coded: a procedure of another day than those with a type; the history
    only where no procedure tells of a transplant."""
    typed = [p for p in case.chart.procedures.of("allo_hct", "auto_hct") if p.state in _HAPPENED]
    days = {p.start.date for p in typed if p.start is not None}
    uses = [
        _of_procedure(p, "hct_unspecified", "hct_unspecified", p.start)
        for p in case.chart.procedures.of("hct_unspecified")
        if p.state in _HAPPENED
        and _begins_by(p.start, anchor)
        and not (typed and (p.start is None or p.start.date in days))
    ]
    conditions: Iterable[Condition] = case.chart.conditions.of("hx_stem_cell_transplant")
    for condition in conditions if not uses and not typed else ():
        if condition.state in (ConditionState.ACTIVE, ConditionState.HISTORY):
            uses.append(
                Use(
                    subject=condition.reference,
                    concept="hx_stem_cell_transplant",
                    name=condition.text,
                    drug="",
                    route=None,
                    ends={"hct_unspecified": End(condition.onset)},
                    possible={},
                    kind=Kind.CONDITION,
                    reference=condition.reference,
                    first=condition.onset,
                    flags=condition.flags,
                )
            )
    return uses


def _newest_per_class(uses: list[Use]) -> list[Use]:
    """Of several procedures of one kind only the last one counts."""
    newest: dict[tuple[str, str], Use] = {}
    for use in uses:
        key = (use.concept, next(iter(use.ends)))
        held = newest.get(key)
        if held is None or _later(use.end, held.end):
            newest[key] = use
    return list(newest.values())


def _later(end: End, other: End) -> bool:
    if end.ongoing != other.ongoing:
        return end.ongoing
    if end.last is None or other.last is None:
        return end.last is not None
    return end.last.latest > other.last.latest


@once_per_case
def _remembered(case: Case) -> dict[object, tuple[Use, ...]]:
    """Several rules ask for the same uses."""
    return {}


def uses(
    case: Case, anchor: date | None, since: date | None = None, without: frozenset[str] = frozenset()
) -> tuple[Use, ...]:
    """Everything used by the anchor (begun later: left out) and, if given, not ended before `since`.

    Records whose reference is in `without` do not count. Sorted by subject. CAR-T products are no exposure.
    """
    known, key = _remembered(case), (anchor, since, without)
    if key not in known:
        known[key] = _uses(case, anchor, since, without)
    return known[key]


def _uses(case: Case, anchor: date | None, since: date | None, without: frozenset[str]) -> tuple[Use, ...]:
    cycles: dict[str, _Cycle] = {}
    found: list[Use] = []
    for exposure in exposures(case):
        if "class_cell_gene_therapy" in exposure.concepts or "car_t_infusion" in exposure.concepts:
            continue
        use = _of_exposure(case, exposure, anchor, since, without, cycles)
        if use is not None:
            found.append(use)
    found += _newest_per_class(_procedures(case, anchor, since, cycles))
    if since is None:
        found += _newest_per_class(_transplant_of_unknown_type(case, anchor))
    for name, cycle in cycles.items():
        end = cycle.end
        if not cycle.classes(name):
            continue
        found.append(
            Use(
                subject=name,
                concept=name,
                name="",
                drug="",
                route=None,
                ends=dict.fromkeys(sorted(cycle.classes(name)), end),
                possible={},
                kind=cycle.kind,
                reference=cycle.reference,
                first=cycle.first,
                records=tuple(cycle.records),
            )
        )
    return tuple(sorted(found, key=lambda use: use.subject))


def draft_uses(case: Case, draft: DrugRecord) -> tuple[Use, ...]:
    """What signing the draft would mean: one use per ingredient, one per regimen it belongs to."""
    end = end_of(draft)
    result: list[Use] = []
    names: set[str] = set()
    for drug in drug_classes().drugs_of(draft):
        found = membership(case, draft, drug)
        regimens = regimens_of(case, draft, found)
        names |= regimens
        result.append(
            Use(
                subject=draft.reference,
                concept=drug,
                name=draft.name,
                drug=drug,
                route=draft.route,
                ends=dict.fromkeys(sorted(_own_classes(found, regimens)), end) or {"": end},
                possible=dict.fromkeys(sorted(found.possible) if not regimens else (), end),
                kind=Kind.DRAFT,
                reference=draft.reference,
                first=draft.timing.first,
                records=(draft,),
                flags=draft.flags | draft.timing.flags,
            )
        )
    for name in sorted(name for name in names if _classes_by_members(name)):
        result.append(
            Use(
                subject=draft.reference,
                concept=name,
                name=draft.name,
                drug="",
                route=draft.route,
                ends=dict.fromkeys(sorted(_classes_by_members(name)), end),
                possible={},
                kind=Kind.DRAFT,
                reference=draft.reference,
                first=draft.timing.first,
                records=(draft,),
                flags=draft.flags | draft.timing.flags,
            )
        )
    return tuple(result)
