"""All drug records of a chart, joined: doses know their order, orders know what was denied or skipped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fhir_mapping.chart import DrugRecord, DrugSource, DrugState, Flag, Moment
from fhir_mapping.read.administration import read_administration
from fhir_mapping.read.context import Context
from fhir_mapping.read.dosage import BodySize
from fhir_mapping.read.medication import identify
from fhir_mapping.read.outpatient import read_dispense, read_statement
from fhir_mapping.read.pool import Subject, plain_reference, references
from fhir_mapping.read.request import read_request
from fhir_mapping.read.shape import name_of


def in_order(record: DrugRecord) -> tuple[object, ...]:
    """Drugs sort by first date; undated ones last."""
    first = record.timing.first
    return first is None, first.earliest if first else None, first.latest if first else None, record.reference


def _skipped(context: Context) -> list[tuple[frozenset[str], str, Moment]]:
    """Doses that were not given: (ingredients, order, when)."""
    found: list[tuple[frozenset[str], str, Moment]] = []
    for resource in context.pool.of("MedicationAdministration"):
        skipped = resource.get("status") == "not-done" or resource.get("notGiven") is True
        if not skipped or context.pool.subject_of(resource) not in (Subject.OURS, Subject.UNSTATED):
            continue
        when = next((m for m in context.stamps.point_or_period(resource, "effective") if m is not None), None)
        if when is not None:
            ingredients = frozenset(identify(resource, context).ingredients)
            found.append((ingredients, plain_reference(resource.get("request")), when))
    return found


def _without_skipped(record: DrugRecord, skipped: list[tuple[frozenset[str], str, Moment]]) -> DrugRecord:
    """The order without scheduled doses that were recorded as not given (section 19)."""
    doses = record.timing.doses
    if not doses or not skipped:
        return record
    for ingredients, order, when in skipped:
        same = order == record.reference or (not order and ingredients == frozenset(record.ingredients))
        of_day = [d for d in doses if d.date == when.date]
        if not same or not of_day:
            continue
        missed = min(of_day, key=lambda d: (abs((d.earliest - when.earliest).total_seconds()), d.earliest))
        doses = tuple(d for d in doses if d is not missed)
    if doses == record.timing.doses:
        return record
    timing = record.timing
    if timing.last is not None and timing.doses[-1].date == timing.last.date:
        timing = replace(timing, last=doses[-1] if doses else None)
    return replace(record, timing=replace(timing, doses=doses))


def _with_order_purpose(record: DrugRecord, orders: Mapping[str, DrugRecord]) -> DrugRecord:
    """A dose is given for what its order was written for."""
    order = orders.get(record.request)
    if order is None:
        return record
    return replace(
        record,
        purposes=record.purposes or order.purposes,
        reasons=record.reasons or order.reasons,
        other_reason=record.other_reason or order.other_reason,
        regimens=record.regimens or order.regimens,
        group=record.group or order.group,
        dose=record.dose,
    )


def _not_taken(context: Context) -> list[tuple[frozenset[str], tuple[str, ...], Moment]]:
    """Statements that the patient does not take a drug: (ingredients, orders, date)."""
    found: list[tuple[frozenset[str], tuple[str, ...], Moment]] = []
    for resource in context.pool.of("MedicationStatement"):
        taken = resource.get("taken") == "n" or resource.get("status") in ("not-taken", "stopped")
        if not taken or context.pool.subject_of(resource) not in (Subject.OURS, Subject.UNSTATED):
            continue
        stamps = context.stamps
        said = stamps.read(resource.get("dateAsserted")) or stamps.read(resource.get("effectiveDateTime"))
        said = said or next((m for m in reversed(stamps.period(resource.get("effectivePeriod"))) if m), None)
        if said is not None:
            ingredients = frozenset(identify(resource, context).ingredients)
            found.append((ingredients, references(resource.get("basedOn")), said))
    return found


def _still_taken(
    record: DrugRecord, denials: list[tuple[frozenset[str], tuple[str, ...], Moment]]
) -> DrugRecord:
    """An active order that a newer statement denies is not active (section 19)."""
    if record.source is not DrugSource.ORDER or record.state is not DrugState.ACTIVE:
        return record
    for ingredients, orders, said in denials:
        same = record.reference in orders or bool(
            ingredients and ingredients == frozenset(record.ingredients)
        )
        if same and record.authored is not None and said.earliest > record.authored.latest:
            timing = replace(record.timing, last=None, ongoing=False, doses=())
            return replace(
                record, state=DrugState.STOPPED, timing=timing, flags=record.flags | {Flag.REPORTED}
            )
    return record


def read_drugs(context: Context, body: BodySize, replaced: frozenset[str]) -> list[DrugRecord]:
    """Every drug record of the chart in time order; `replaced` orders are left out."""
    pool = context.pool
    requests = [r for r in pool.of("MedicationRequest") if name_of(r) not in replaced]
    orders = context.each(requests, lambda r: read_request(r, context, body=body))
    denials = _not_taken(context)
    skipped = _skipped(context)
    orders = [_without_skipped(_still_taken(order, denials), skipped) for order in orders]
    by_reference = {order.reference: order for order in orders}
    others = [
        *context.each(pool.of("MedicationAdministration"), lambda r: read_administration(r, context)),
        *context.each(pool.of("MedicationDispense"), lambda r: read_dispense(r, context)),
        *context.each(pool.of("MedicationStatement"), lambda r: read_statement(r, context)),
    ]
    records = [*orders, *(_with_order_purpose(record, by_reference) for record in others)]
    return sorted(records, key=in_order)
