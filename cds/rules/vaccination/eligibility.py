"""The conditions of the handbook's vaccine rows (Table 16), each judged on one day.

P3, P6, P12 time since infusion; IG2, IG8 time since the last immunoglobulin; ALLO24 time since an
allogeneic transplant; ISFREE no systemic immunosuppressant, cytotoxic drug or corticosteroid; CD4OK and BOK
recovered counts. The numbers are parameters of the vaccine's own rule; ISFREE's is one of
vaccination.inactivated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from decimal import Decimal
from enum import StrEnum

from cards.finding import Evidence, Items, Message, Missing, Name, Scalar, Shown, Table, Text
from cds.engine.case import Case
from cds.rules import evidence, steroids
from cds.rules.unread import DOSES, ORDERS, PROCEDURES, unread
from fhir_mapping.chart import (
    Amount,
    Anchor,
    Condition,
    ConditionState,
    DrugRecord,
    DrugSource,
    DrugState,
    LossReason,
    Moment,
    Observation,
    Procedure,
    Quantity,
    Vaccine,
    add_months,
    reaches_the_body,
)

LIVE = "vaccination.live"
INACTIVATED = "vaccination.inactivated"
_IMMUNOGLOBULINS = (
    "ivig",
    "subcutaneous_immunoglobulin",
    "hyperimmune_globulin",
    "class_immunoglobulins",
)
_SUPPRESSIVE = ("class_immunosuppressants", "class_antineoplastics")
_CAR_T = frozenset({"class_cell_gene_therapy", "car_t_infusion"})
_TRANSPLANTS = ("allo_hct", "hct_unspecified", "hx_stem_cell_transplant")


def _said(key: str, **values: Shown) -> Message:
    """A reason; the words are shared by all vaccine rules."""
    return Message(f"gate.{key}", values, LIVE)


class GateId(StrEnum):
    P3 = "P3"
    P6 = "P6"
    P12 = "P12"
    IG2 = "IG2"
    IG8 = "IG8"
    ALLO24 = "ALLO24"
    ISFREE = "ISFREE"
    CD4OK = "CD4OK"
    BOK = "BOK"


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition on one day. `holds` None: the chart cannot tell. `opens`: first day on which time alone
    makes it true, None where time alone does not decide or the day is not known."""

    id: GateId
    holds: bool | None
    reason: Message
    opens: date | None = None
    evidence: tuple[Evidence, ...] = ()
    missing: tuple[Missing, ...] = ()
    values: Mapping[str, Scalar] = field(default_factory=dict)


def alive(case: Case) -> bool:
    return not case.chart.patient.deceased


def after_therapy(case: Case, on: date) -> bool:
    """The rows for "after CAR-T" decide on that day: infused once, or lymphodepletion has begun."""
    course = case.chart.course
    return course.last_infused is not None or course.infused_date_unknown or course_begun(case, on)


def course_begun(case: Case, on: date) -> bool:
    """The course under way has left the time before therapy on that day."""
    course = case.chart.course
    if course.infused is not None:
        return True
    begun = course.ldc_first
    if begun is not None and begun.date is not None and begun.date <= on:
        return True
    planned = course.infusion_planned
    return planned is not None and planned.date is not None and planned.date <= on


def before_next_course(case: Case, on: date) -> bool:
    """A course is planned and has not begun on that day: vaccination.pre-cart has the word on what the months
    since an earlier infusion would allow."""
    return case.chart.course.candidate and not course_begun(case, on)


def _infusion(case: Case, on: date) -> Anchor | None:
    """The infusion that the months count from: the last one; the planned one from its lymphodepletion on."""
    course = case.chart.course
    if course.infused is None and course_begun(case, on):
        return course.infusion_planned
    return course.last_infused


def planned_day(case: Case, when: Moment | None) -> date:
    """Day on which a draft order is meant to be given; never before today."""
    return case.today if when is None else max(when.first_date, case.today)


def months_passed(case: Case, gate: GateId, months: int, on: date) -> Gate:
    """P3, P6: strictly more than n months; P12: n months reached."""
    anchor = _infusion(case, on)
    start = None if anchor is None else anchor.date
    if start is None:
        answer = None if case.chart.course.infused_date_unknown else False
        return Gate(gate, answer, _said("no-day0", months=months), missing=(Missing("car_t_infusion"),))
    opens = add_months(start, months)
    strict = gate is not GateId.P12
    if strict:
        opens += timedelta(days=1)
    key = "more-than-months" if strict else "months"
    shown = () if anchor is None else (evidence.of_anchor(anchor, "car_t_infusion"),)
    return Gate(gate, on >= opens, _said(key, months=months, day0=start, opens=opens), opens, shown)


def _records(case: Case, *concepts: str) -> tuple[DrugRecord, ...]:
    """Records of the chart, and drafts signed with the vaccine as if they ran (chart-facts M2)."""
    drafts = (d for d in case.chart.drafts.drugs.of(*concepts) if d.state is DrugState.DRAFT)
    return (*case.chart.drugs.of(*concepts), *(replace(d, state=DrugState.ACTIVE) for d in drafts))


@dataclass(frozen=True, slots=True)
class Immunoglobulin:
    """`last`: last dose given (None: none recorded); `running`: an order or plan goes on at that day."""

    last: date | None
    running: bool
    undated: tuple[DrugRecord | Vaccine, ...]
    records: tuple[DrugRecord, ...]
    immunizations: tuple[Vaccine, ...] = ()  # immunoglobulin recorded as one


def immunoglobulin(case: Case, on: date) -> Immunoglobulin:
    """Every kind of immunoglobulin (chart-facts M20); doses come from given records, plans from orders."""
    records = [d for d in _records(case, *_IMMUNOGLOBULINS) if "vac_rsv_mab" not in d.concepts]
    last: date | None = None
    running = False
    undated: list[DrugRecord | Vaccine] = []
    used: list[DrugRecord] = []
    for record in records:
        timing = record.timing
        end = timing.last or timing.first
        if record.given:
            used.append(record)
            if end is None:
                undated.append(record)
            elif end.date <= case.today:
                last = end.date if last is None else max(last, end.date)
            elif record.source is DrugSource.DISPENSE and timing.first is not None:
                last = timing.first.date if last is None else max(last, timing.first.date)
            elif end.first_date <= case.today:
                last = case.today  # given in a month or year that has not ended
        if not record.in_force or (timing.first is not None and timing.first.first_date > on):
            continue
        open_end = timing.ongoing or (record.source is DrugSource.STATEMENT and timing.last is None)
        if open_end or (end is not None and end.date >= on):
            running = True
            used.append(record)
        elif end is not None and end.date > case.today:
            last = end.date if last is None else max(last, end.date)
            used.append(record)
    immunizations = case.chart.vaccines.of(*_IMMUNOGLOBULINS)
    for vaccine in immunizations:
        if vaccine.when is None:
            undated.append(vaccine)
        else:  # of a month or year the last day that has come
            day = min(vaccine.when.date, case.today)
            last = day if last is None else max(last, day)
    return Immunoglobulin(last, running, tuple(undated), tuple(dict.fromkeys(used)), tuple(immunizations))


def immunoglobulin_passed(case: Case, gate: GateId, months: int, on: date) -> Gate:
    """IG2, IG8: none recorded, or strictly more than n months since the last dose."""
    found = immunoglobulin(case, on)
    shown = (
        *(evidence.of_drug(record) for record in found.records),
        *(evidence.of_fact(vaccine, "class_immunoglobulins") for vaccine in found.immunizations),
    )
    opens = None if found.last is None else add_months(found.last, months) + timedelta(days=1)
    values: dict[str, Scalar] = {} if found.last is None else {"immunoglobulin_last": found.last}
    if found.running:
        if found.last is None or opens is None:
            return Gate(gate, False, _said("ig-ordered"), None, shown)
        return Gate(
            gate, False, _said("ig-running", last=found.last, opens=opens), opens, shown, values=values
        )
    if found.last is not None and opens is not None:
        if on < opens:
            reason = _said("ig-wait", last=found.last, months=months, opens=opens)
            return Gate(gate, False, reason, opens, shown, values=values)
        if not found.undated:
            return Gate(
                gate, True, _said("ig-over", last=found.last, months=months), opens, shown, values=values
            )
    if found.undated:
        return Gate(gate, None, _said("ig-undated"), None, shown, (Missing("ivig"),))
    if unread(case, DOSES):
        return Gate(gate, None, _said("ig-unread"), missing=(Missing("ivig", LossReason.NOT_FETCHED),))
    return Gate(gate, True, _said("ig-none"))


def _suppressive(case: Case, on: date) -> tuple[list[DrugRecord], list[DrugRecord]]:
    """Drugs active on the day that suppress immunity, and those that only a readable dose would settle."""
    certain: list[DrugRecord] = []
    replacement: list[DrugRecord] = []
    for record in _records(case, *_SUPPRESSIVE, *steroids.GLUCOCORTICOIDS):
        if not reaches_the_body(record.route) or record.is_any(_CAR_T | {"bcg_intravesical"}):
            continue
        if not steroids.active_on(record, on):
            continue
        other = record.is_any(frozenset(_SUPPRESSIVE)) and not record.is_any(
            frozenset(steroids.GLUCOCORTICOIDS)
        )
        if other or not steroids.is_replacement(record, case):
            certain.append(record)
        else:
            replacement.append(record)
    return _beyond_replacement(case, replacement, certain, on)


def _beyond_replacement(
    case: Case, replacement: list[DrugRecord], certain: list[DrugRecord], on: date
) -> tuple[list[DrugRecord], list[DrugRecord]]:
    """Replacement counts where all of its doses of the day exceed the limit. An order, its statement and its
    administrations tell of the same doses, so each kind is added up for itself."""
    limit = case.p(INACTIVATED)["replacement_prednisone_mg"]
    doses = [(record, steroids.daily_equivalent(record, on)) for record in replacement]
    total: dict[DrugSource, Decimal] = {}
    for record, daily in doses:
        if daily is not None:
            total[record.source] = total.get(record.source, Decimal(0)) + daily
    if any(sum_ > limit for sum_ in total.values()):
        return [*certain, *replacement], []
    return certain, [record for record, daily in doses if daily is None]


def suppressing_drugs(case: Case, on: date) -> tuple[DrugRecord, ...]:
    """Systemic immunosuppressants, cytotoxic drugs and corticosteroids active on that day."""
    return tuple(_suppressive(case, on)[0])


def drug_names(records: Iterable[DrugRecord]) -> Items:
    names: dict[str, Shown] = {}
    for record in records:
        key = record.ingredients[0] if record.ingredients else record.name
        names[key] = Name(key) if record.ingredients else Text(record.name)
    return Items(tuple(names.values()))


def suppression_free(case: Case, on: date) -> Gate:
    """ISFREE on that day."""
    certain, open_ones = _suppressive(case, on)
    if certain:
        days = [None if r.timing.ongoing else steroids.last_day(r) for r in certain]
        last = max((day for day in days if day is not None), default=None)
        endless = None in days
        opens = None if endless or last is None else last + timedelta(days=1)
        shown = tuple(evidence.of_drug(record) for record in certain)
        values: dict[str, Scalar] = {"drugs": ", ".join(sorted(_ids(certain)))}
        return Gate(
            GateId.ISFREE, False, _said("is-active", drugs=drug_names(certain)), opens, shown, values=values
        )
    if open_ones:
        shown = tuple(evidence.of_drug(record) for record in open_ones)
        missing = tuple(Missing(name, resource=r.reference) for r in open_ones for name in r.ingredients[:1])
        return Gate(
            GateId.ISFREE, None, _said("is-unknown", drugs=drug_names(open_ones)), None, shown, missing
        )
    if unread(case, ORDERS):
        lost = (Missing("class_immunosuppressants", LossReason.NOT_FETCHED),)
        return Gate(GateId.ISFREE, None, _said("is-unread"), missing=lost)
    return Gate(GateId.ISFREE, True, _said("is-free"))


def _ids(records: Iterable[DrugRecord]) -> set[str]:
    return {record.ingredients[0] if record.ingredients else record.name for record in records}


def recent(case: Case, concept: str, days: int, on: date) -> tuple[Observation | None, Missing | None]:
    """Newest value after day 0 and at most `days` old on that day, else why there is none."""
    series = case.chart.series(concept)
    start = case.chart.course.last_day0
    newest = series.latest(case.now, None, lambda o: o.value.quantity is not None)
    if newest is None:
        return None, Missing(concept)
    too_old = (on - newest.when.first_date).days > days
    before = start is not None and newest.when.date <= start
    if too_old or before:
        return None, Missing(concept, LossReason.STALE, newest.reference)
    return newest, None


def cd4_recovered(case: Case, on: date) -> Gate:
    """CD4OK: more than the limit, on a value after day 0 and not too old."""
    p = case.p(LIVE)
    found, lack = recent(case, "cd4_abs", p.int("lab_age_days"), on)
    limit = Amount(p["cd4_per_ul"], "/uL")
    if found is None or found.value.quantity is None:
        missing = () if lack is None else (lack,)
        return Gate(GateId.CD4OK, None, _said("cd4-unknown", days=p.int("lab_age_days")), missing=missing)
    quantity = found.value.quantity
    answer = quantity.above(limit.value)
    key = {True: "cd4-ok", False: "cd4-low", None: "cd4-open"}[answer]
    reason = _said(key, value=evidence.shown(quantity), when=found.when.date, limit=limit)
    missing = (Missing("cd4_abs", resource=found.reference),) if answer is None else ()
    values: dict[str, Scalar] = {"cd4_per_ul": evidence.figure(quantity)}
    return Gate(GateId.CD4OK, answer, reason, None, (evidence.of_observation(found),), missing, values)


def b_recovered(case: Case, on: date) -> Gate:
    """BOK: CD19+ or CD20+ cells above the handbook's limit. Between the origin paper's limit, ten times
    lower, and the handbook's the card names both."""
    p = case.p(LIVE)
    days, limit, origin = p.int("lab_age_days"), p["b_per_ul"], p["b_origin_per_ul"]
    lacks: list[Missing] = []
    found: list[tuple[Observation, Quantity, bool | None]] = []
    for concept in ("cd19_abs", "cd20_abs"):
        count, lack = recent(case, concept, days, on)
        if count is not None and count.value.quantity is not None:
            found.append((count, count.value.quantity, count.value.quantity.above(limit)))
        elif lack is not None:
            lacks.append(lack)
    if not found:
        only_cd19 = tuple(m for m in lacks if m.concept == "cd19_abs")
        return Gate(GateId.BOK, None, _said("b-unknown", days=days), missing=only_cd19)
    # the marker that decides: one above the limit, else an open one, else the higher figure
    rank = {True: 2, None: 1, False: 0}
    best, quantity, answer = max(
        found, key=lambda item: (rank[item[2]], item[1].above(origin) is True, item[1].value)
    )
    shown = tuple(evidence.of_observation(count) for count, _, _ in found)
    values: dict[str, Scalar] = {"b_per_ul": evidence.figure(quantity)}
    key = {True: "b-ok", False: "b-low", None: "b-open"}[answer]
    if answer is False and quantity.above(origin):
        key, values = "b-between", {**values, "meets_origin": True}
    reason = _said(
        key,
        value=evidence.shown(quantity),
        when=best.when.date,
        limit=Amount(limit, "/uL"),
        origin=Amount(origin, "/uL"),
    )
    missing = (Missing(best.concept, resource=best.reference),) if answer is None else ()
    return Gate(GateId.BOK, answer, reason, None, shown, missing, values)


def transplants(case: Case, *concepts: str) -> tuple[Procedure | Condition, ...]:
    """Transplants done, oldest first: procedures, and transplant history without a procedure."""
    chart = case.chart
    done = [p for p in chart.procedures.of(*concepts) if p.state.begun]
    history = [
        c
        for c in chart.conditions.of(*concepts)
        if c.state in (ConditionState.ACTIVE, ConditionState.HISTORY)
    ]
    return (*done, *history)


def transplant_passed(case: Case, on: date) -> Gate:
    """ALLO24. A transplant of unknown type or day leaves the question open until 24 months are over."""
    months = case.p(LIVE).int("allo_hct_months")
    last: date | None = None
    wait: date | None = None
    asked: list[Procedure | Condition] = []
    shown: list[Evidence] = []
    own_known = bool(transplants(case, "allo_hct", "auto_hct"))
    for graft in transplants(case, *_TRANSPLANTS):
        certain = "allo_hct" in graft.concepts
        if not certain and isinstance(graft, Condition) and own_known:
            continue  # the history entry repeats a transplant that the procedures date and type
        moment = graft.start if isinstance(graft, Procedure) else graft.onset
        shown.append(evidence.of_fact(graft, "allo_hct" if certain else "hct_unspecified"))
        if moment is None:
            asked.append(graft)
            continue
        opens = add_months(moment.date, months) + timedelta(days=1)
        if certain:
            last = moment.date if last is None else max(last, moment.date)
            wait = opens if wait is None else max(wait, opens)
        elif on < opens:
            asked.append(graft)
    if wait is not None and last is not None and on < wait:
        reason = _said("allo-wait", day=last, months=months, opens=wait)
        return Gate(GateId.ALLO24, False, reason, wait, tuple(shown))
    if asked:
        missing = (Missing("allo_hct", resource=asked[0].reference),)
        return Gate(GateId.ALLO24, None, _said("allo-unknown", months=months), None, tuple(shown), missing)
    if last is None and unread(case, PROCEDURES):
        lost = (Missing("allo_hct", LossReason.NOT_FETCHED),)
        return Gate(GateId.ALLO24, None, _said("allo-unread"), missing=lost)
    if last is None:
        return Gate(GateId.ALLO24, True, _said("allo-none"))
    return Gate(GateId.ALLO24, True, _said("allo-over", day=last, months=months), wait, tuple(shown))


def live_gates(case: Case, on: date) -> tuple[Gate, ...]:
    """The gate of live and of novel-adjuvanted vaccines: P12, CD4OK, BOK, ISFREE, IG8, ALLO24."""
    p = case.p(LIVE)
    return (
        months_passed(case, GateId.P12, p.int("months_after_infusion"), on),
        cd4_recovered(case, on),
        b_recovered(case, on),
        suppression_free(case, on),
        immunoglobulin_passed(case, GateId.IG8, p.int("immunoglobulin_months"), on),
        transplant_passed(case, on),
    )


def inactivated_gates(case: Case, on: date) -> tuple[Gate, ...]:
    """P6, IG2, ISFREE."""
    p = case.p(INACTIVATED)
    return (
        months_passed(case, GateId.P6, p.int("months_after_infusion"), on),
        immunoglobulin_passed(case, GateId.IG2, p.int("immunoglobulin_months"), on),
        suppression_free(case, on),
    )


def failing(gates: Iterable[Gate]) -> tuple[Gate, ...]:
    return tuple(gate for gate in gates if gate.holds is False)


def unknown(gates: Iterable[Gate]) -> tuple[Gate, ...]:
    return tuple(gate for gate in gates if gate.holds is None)


def earliest(gates: Iterable[Gate], on: date) -> date | None:
    """First day on which every dated condition holds; None where that is not after `on`, or a day that
    has to pass is not known."""
    gates = tuple(gates)
    if any(
        g.holds is False and g.opens is None and g.id in (GateId.P3, GateId.P6, GateId.P12) for g in gates
    ):
        return None
    days = [gate.opens for gate in gates if gate.opens is not None]
    found = max(days, default=None)
    return found if found is not None and found > on else None


def table_of(gates: Iterable[Gate]) -> Table:
    """The conditions, unmet ones first."""
    order = {False: 0, None: 1, True: 2}
    words = {False: "no", None: "unknown", True: "yes"}
    rows = tuple(
        (_said(f"name.{gate.id}"), _said(f"word.{words[gate.holds]}"), gate.reason)
        for gate in sorted(gates, key=lambda gate: order[gate.holds])
    )
    return Table((_said("header.condition"), _said("header.state"), _said("header.found")), rows)


def all_evidence(gates: Iterable[Gate]) -> tuple[Evidence, ...]:
    return tuple(dict.fromkeys(item for gate in gates for item in gate.evidence))


def all_missing(gates: Iterable[Gate]) -> tuple[Missing, ...]:
    return tuple(dict.fromkeys(item for gate in gates for item in gate.missing))


def gate_values(gates: Iterable[Gate]) -> dict[str, Scalar | list[Scalar]]:
    """Machine-readable state of the conditions."""
    gates = tuple(gates)
    result: dict[str, Scalar | list[Scalar]] = {}
    for gate in gates:
        result.update(gate.values)
    result["unmet"] = [gate.id.value for gate in gates if gate.holds is False]
    result["not_known"] = [gate.id.value for gate in gates if gate.holds is None]
    return result
