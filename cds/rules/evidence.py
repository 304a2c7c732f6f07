"""Facts of the chart as the evidence of a finding."""

from __future__ import annotations

from decimal import Decimal

from cards.finding import Evidence, Shown
from fhir_mapping.chart import (
    Allergy,
    Amount,
    Anchor,
    Appointment,
    Condition,
    Document,
    DrugRecord,
    Moment,
    Observation,
    Procedure,
    Quantity,
    ServiceOrder,
    Vaccine,
)


def figure(quantity: Quantity) -> Decimal | str:
    """The number of a finding's values; a bound keeps its sign, so that it is not read as a value."""
    return f"{quantity.comparator}{quantity.value}" if quantity.comparator else quantity.value


def of_observation(observation: Observation) -> Evidence:
    """An Observation with the value as the rule used it."""
    value = observation.value
    quantity = value.quantity
    if quantity is not None:
        shown = figure(quantity)
        return Evidence(observation.reference, observation.concept, shown, quantity.unit, observation.when)
    word: str | int | bool | None = None
    if value.codes:
        word = value.codes[0]
    elif value.result is not None:
        word = value.result.value
    elif value.number is not None:
        word = value.number
    else:
        word = value.yes
    return Evidence(observation.reference, observation.concept, word, "", observation.when)


def of_drug(record: DrugRecord) -> Evidence:
    """A drug record with the last day it speaks for, else its first."""
    return _of_drug(record, record.timing.last or record.timing.first)


def of_drug_start(record: DrugRecord) -> Evidence:
    """A drug record with the moment it was begun."""
    return _of_drug(record, record.timing.first)


def _of_drug(record: DrugRecord, when: Moment | None) -> Evidence:
    """Its dose, or the rate of an infusion that names none."""
    dose = record.dose.amount if record.dose is not None else None
    amount = record.rate if dose is None else dose
    return Evidence(
        record.reference,
        record.ingredients[0] if record.ingredients else "",
        None if amount is None else amount.value,
        "" if amount is None else amount.unit,
        when,
    )


def of_anchor(anchor: Anchor, concept: str) -> Evidence:
    return Evidence(anchor.reference, concept, effective=anchor.when)


def of_fact(
    fact: Condition | Procedure | ServiceOrder | Appointment | Vaccine | Allergy | Document, concept: str
) -> Evidence:
    """A fact without a value; `concept` is the one the rule asked for."""
    if isinstance(fact, Condition):
        when = fact.onset
    elif isinstance(fact, Procedure | Appointment):
        when = fact.start
    elif isinstance(fact, Allergy):
        when = fact.recorded
    else:
        when = fact.when
    return Evidence(fact.reference, concept, effective=when)


def shown(quantity: Quantity) -> Shown:
    """A measured number for a card; a bound keeps its comparator."""
    return quantity if quantity.comparator else Amount(quantity.value, quantity.unit)


def as_reported(quantity: Quantity) -> Quantity:
    """A measured value for a card in the unit that was reported; a bound keeps its comparator."""
    if quantity.reported is None:
        return quantity
    return Quantity(quantity.reported.value, quantity.reported.unit, quantity.comparator)
