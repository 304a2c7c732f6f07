"""Cellular blood products from a week before collection to day 90: irradiated; red cells one by one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from math import ceil
from typing import Any

from cards.finding import (
    Block,
    Bullet,
    Create,
    Delete,
    Evidence,
    Finding,
    Indicator,
    Message,
    Name,
    Outcome,
    Paragraph,
    ServiceProposal,
    Shown,
    Suggestion,
    msg,
)
from cds.engine.case import Case, once_per_case
from cds.engine.rule import rule
from cds.rules.evidence import of_anchor
from cds.rules.grading.iec_hs_episode import bleeding_now
from fhir_mapping.chart import Anchor, DrugState, EventState, Moment, ServiceOrder
from fhir_mapping.product_words import stated_attributes

RULE = "dosing.blood-products"


class Place(StrEnum):
    """Where a day lies against the irradiation window."""

    OUTSIDE = "outside"
    INSIDE = "inside"
    AFTER = "after"


_NEAREST = (Place.INSIDE, Place.AFTER, Place.OUTSIDE)


@dataclass(frozen=True, slots=True)
class Window:
    """First and last day of irradiated products; `first` None: begun already, or no day is known; `last` None
    while the infusion has no day."""

    first: date | None
    last: date | None
    estimated: bool  # no collection date: taken from the plan
    evidence: tuple[Evidence, ...]

    def place(self, day: date, shown_after: timedelta) -> Place:
        if self.first is not None and day < self.first:
            return Place.OUTSIDE
        if self.last is None or day <= self.last:
            return Place.INSIDE
        return Place.AFTER if day <= self.last + shown_after else Place.OUTSIDE


def _dated(anchor: Anchor | None) -> date | None:
    return None if anchor is None else anchor.date


def windows(case: Case) -> tuple[Window, ...]:
    """The window of the course under way, then that of the one before it, which a new plan does not end."""
    return tuple(w for w in (_window(case), _earlier_window(case)) if w is not None)


@once_per_case
def _earlier_window(case: Case) -> Window | None:
    """From the last infusion before the course that is only planned."""
    course = case.chart.course
    if course.infused is not None or course.last_infused is None or course.last_day0 is None:
        return None
    last = course.last_day0 + timedelta(days=case.p(RULE).int("after_infusion_days"))
    evidence = (of_anchor(course.last_infused, "car_t_infusion"),)
    return Window(None, last, False, evidence)


@once_per_case
def _window(case: Case) -> Window | None:
    """None without a CAR-T course under way or infused."""
    course = case.chart.course
    if not (course.candidate or course.infused is not None):
        return None
    p = case.p(RULE)
    collected = course.collections[0] if course.collections else course.leukapheresis
    begin = _dated(collected)
    evidence = () if collected is None else (of_anchor(collected, "leukapheresis"),)
    if course.infused is not None:
        evidence = (*evidence, of_anchor(course.infused, "car_t_infusion"))
    first = None if begin is None else begin - timedelta(days=p.int("before_collection_days"))
    last = None if course.day0 is None else course.day0 + timedelta(days=p.int("after_infusion_days"))
    return Window(first, last, begin is None, evidence)


@dataclass(frozen=True, slots=True)
class Ordered:
    """One draft of a cellular product."""

    reference: str
    row: Mapping[str, Any]
    day: date
    irradiated: bool
    units: int | None


def _row(case: Case, concepts: frozenset[str]) -> tuple[Mapping[str, Any], bool] | None:
    for row in case.p(RULE).table("products"):
        if row.get("irradiated") in concepts:
            return row, True
        if not concepts.isdisjoint(row["concepts"]):
            return row, False
    return None


def _orders(case: Case) -> Iterator[Ordered]:
    """Drafts under judgement; on the patient's page the orders in force."""
    if case.ordering:
        services, drugs = case.judged_services(), case.judged_drugs()
    else:
        services = tuple(s for s in case.chart.services.all if s.state is EventState.ACTIVE)
        drugs = tuple(d for d in case.chart.drugs.all if d.state is DrugState.ACTIVE)
    for order in services:
        found = _row(case, order.concepts)
        if found is not None:
            row, named = found
            irradiated = named or "irradiated" in order.details | stated_attributes(order.text)
            yield Ordered(order.reference, row, _given_on(case, order.when), irradiated, _units(order))
    for drug in drugs:
        found = _row(case, drug.concepts)
        if found is not None:
            row, named = found
            irradiated = named or "irradiated" in stated_attributes(drug.name)
            yield Ordered(drug.reference, row, _given_on(case, drug.timing.first), irradiated, None)


def _units(order: ServiceOrder) -> int | None:
    """Units ordered; None where none are counted, or a volume is."""
    if order.quantity is None or order.quantity.unit not in ("{unit}", "1"):
        return None
    return ceil(order.quantity.value)


def _given_on(case: Case, planned: Moment | None) -> date:
    """The planned day; an order in force whose day is over is given today at the earliest."""
    if planned is None:
        return case.today
    return planned.date if case.ordering else max(planned.date, case.today)


def _replace(order: Ordered) -> tuple[Suggestion, ...]:
    irradiated = ServiceProposal(str(order.row["irradiated"]), order.day, details=("irradiated",))
    actions = (Delete(order.reference), Create(irradiated))
    return (
        Suggestion(
            "irradiated", msg("suggest.irradiated", product=Name(str(order.row["product"]))), actions, True
        ),
    )


def _figures(case: Case) -> dict[str, Shown]:
    """The figures in force, as the texts name them."""
    p = case.p(RULE)
    return {"before": p.int("before_collection_days"), "after": p.int("after_infusion_days")}


def _card(
    case: Case,
    order: Ordered,
    outcome: Outcome,
    indicator: Indicator,
    summary: Message,
    row: str,
    place: Window,
    suggestions: tuple[Suggestion, ...] = (),
) -> Finding:
    values: dict[str, str | int | date | bool] = {"row": row, "planned": order.day}
    figures = _figures(case)
    detail: list[Block] = []
    if place.first is not None:
        values["window_first"] = place.first
        detail.append(Bullet(Message("window.first", {**figures, "day": place.first})))
    if place.last is not None:
        values["window_last"] = place.last
        detail.append(Bullet(Message("window.last", {**figures, "day": place.last})))
    if place.estimated:
        values["window_estimated"] = True
        detail.append(Bullet(msg("window.estimated")))
    if order.units is not None:
        values["units"] = order.units
    return Finding(
        rule=RULE,
        outcome=outcome,
        indicator=indicator,
        summary=summary,
        detail=(*detail, Paragraph(Message("criterion", figures))),
        values=values,
        evidence=place.evidence,
        subject=f"{order.reference}/{row}" if row == "units" else order.reference,
        resource=order.reference,
        suggestions=suggestions,
    )


@rule(RULE)
def check_blood_products(case: Case) -> Iterator[Finding]:
    """One card per product order that is not irradiated in the window, or of several red-cell units."""
    spans = windows(case)
    if not spans or case.chart.patient.deceased:
        return
    p = case.p(RULE)
    extra = timedelta(days=p.int("shown_after_days") - p.int("after_infusion_days"))
    for order in _orders(case):
        places = [(span, span.place(order.day, extra)) for span in spans]
        span, place = min(places, key=lambda found: _NEAREST.index(found[1]))
        if place is Place.OUTSIDE:
            continue
        name = Name(str(order.row["product"]))
        if order.row.get("ask"):
            if place is Place.INSIDE and not order.irradiated:
                text = msg("summary.ask", product=name)
                yield _card(case, order, Outcome.REVIEW, Indicator.WARNING, text, "ask", span)
            continue
        if place is Place.AFTER:
            if not order.irradiated and case.ordering:
                text = Message("summary.after", {**_figures(case), "product": name})
                yield _card(case, order, Outcome.INFO, Indicator.INFO, text, "after", span)
            continue
        if not order.irradiated:
            text = Message("summary.not-irradiated", {**_figures(case), "product": name, "day": order.day})
            yield _card(
                case,
                order,
                Outcome.CONTRAINDICATED,
                Indicator.CRITICAL,
                text,
                "not-irradiated",
                span,
                _replace(order) if case.ordering else (),
            )
        too_many = order.row.get("single") and (order.units or 1) > p.int("red_cell_units")
        if too_many and not bleeding_now(case).present:
            text = msg("summary.units", units=order.units or 1)
            yield _card(case, order, Outcome.OVER_MAXIMUM, Indicator.WARNING, text, "units", span)
