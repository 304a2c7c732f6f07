"""Was a test, an image or a transfer done, is it ordered, or is neither on the chart (chart-facts 13)?

"Not found on the chart" is never "not done".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from cards.finding import Evidence
from cds.engine.case import Case
from fhir_mapping.chart import Chart, EventState, Moment, Observation


class Found(StrEnum):
    DONE = "done"
    ORDERED = "ordered"
    NOT_FOUND = "not-found"


@dataclass(frozen=True, slots=True)
class WorkUp:
    """What the chart shows of one item."""

    found: Found
    concept: str
    when: Moment | None = None
    reference: str = ""

    @property
    def covered(self) -> bool:
        return self.found is not Found.NOT_FOUND

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        if not self.reference:
            return ()
        return (Evidence(self.reference, self.concept, self.found.value, "", self.when),)


# a result may be stamped with its order or request; its sample is collected within days of that
_ORDERED_BEFORE = timedelta(days=14)


def _stands(moment: Moment | None, since: datetime) -> bool:
    """An order without a day, or of a day that can still lead to a result since then."""
    return moment is None or moment.latest >= since - _ORDERED_BEFORE


def _taken(observation: Observation) -> Moment:
    """Collection of the sample where it is known, else the time of the result."""
    if observation.specimen is not None and observation.specimen.collected is not None:
        return observation.specimen.collected
    return observation.when


def _results(chart: Chart, concept: str, since: datetime) -> Iterator[WorkUp]:
    series = chart.series(concept)
    for observation in series.since(since - _ORDERED_BEFORE):
        value, when = observation.value, _taken(observation)
        not_done = value.yes is False or (value.empty and value.absent_reason)
        if not not_done and when.latest >= since:
            yield WorkUp(Found.DONE, concept, when, observation.reference)
    for observation in series.pending:
        if _stands(observation.when, since):
            yield WorkUp(Found.ORDERED, concept, observation.when, observation.reference)


def _procedures(chart: Chart, concept: str, since: datetime) -> Iterator[WorkUp]:
    """One that was broken off shows nothing."""
    for procedure in chart.procedures.of(concept):
        start, running = procedure.start, procedure.state is EventState.RUNNING
        if procedure.state is EventState.PLANNED and _stands(start, since):
            yield WorkUp(Found.ORDERED, concept, start, procedure.reference)
        if start is None or not (running or procedure.state is EventState.DONE):
            continue
        if running or start.latest >= since:
            yield WorkUp(Found.DONE, concept, start, procedure.reference)


def _documents(chart: Chart, concept: str, since: datetime) -> Iterator[WorkUp]:
    for document in chart.documents.of(concept):
        if document.pending and _stands(document.when, since):
            yield WorkUp(Found.ORDERED, concept, document.when, document.reference)
        if not document.pending and document.when is not None and document.when.latest >= since:
            yield WorkUp(Found.DONE, concept, document.when, document.reference)


def _orders(chart: Chart, concept: str, since: datetime) -> Iterator[WorkUp]:
    for order in (*chart.services.of(concept), *chart.drafts.services.of(concept)):
        when = order.when
        if order.state in (EventState.ACTIVE, EventState.DRAFT):
            if order.ongoing or _stands(order.until or when, since):
                yield WorkUp(Found.ORDERED, concept, when, order.reference)
        elif order.state is EventState.DONE and when is not None and when.latest >= since:
            yield WorkUp(Found.DONE, concept, when, order.reference)


def _newest(found: Iterable[WorkUp]) -> WorkUp | None:
    return max(
        found, key=lambda w: (0.0 if w.when is None else w.when.latest.timestamp(), w.reference), default=None
    )


def look_for(case: Case, since: datetime, *concepts: str) -> WorkUp:
    """The newest evidence since `since` of any of the concepts: a result, report or procedure, else an order
    or a pending result."""
    found = [
        item
        for concept in concepts
        for source in (_results, _procedures, _documents, _orders)
        for item in source(case.chart, concept, since)
    ]
    done = _newest(item for item in found if item.found is Found.DONE)
    return done or _newest(found) or WorkUp(Found.NOT_FOUND, concepts[0])
