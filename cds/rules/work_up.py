"""Was a test, an image or a transfer done, is it ordered, or is neither on the chart (chart-facts 13)?

"Not found on the chart" is never "not done".
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from cards.finding import Evidence
from cds.engine.case import Case
from fhir_mapping.chart import EventState, Moment, Observation


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


def look_for(case: Case, since: datetime, *concepts: str) -> WorkUp:
    """The newest evidence since `since` of any of the concepts: a result, report or procedure, else an order
    or a pending result."""
    chart = case.chart
    done: list[tuple[datetime, Moment, str, str]] = []
    ordered: list[tuple[Moment | None, str, str]] = []
    for concept in concepts:
        series = chart.series(concept)
        for observation in series.since(since - _ORDERED_BEFORE):
            if observation.value.empty and observation.value.absent_reason:
                continue
            if observation.value.yes is False:
                continue
            when = _taken(observation)
            if when.latest >= since:
                done.append((when.latest, when, observation.reference, concept))
        ordered += [(o.when, o.reference, concept) for o in series.pending if _stands(o.when, since)]
        for procedure in chart.procedures.of(concept):
            start = procedure.start
            ongoing = procedure.state is EventState.RUNNING
            if ongoing or procedure.state is EventState.DONE:  # one that was broken off shows nothing
                if start is not None and (ongoing or start.latest >= since):
                    done.append((start.latest, start, procedure.reference, concept))
            elif procedure.state is EventState.PLANNED and _stands(start, since):
                ordered.append((start, procedure.reference, concept))
        for document in chart.documents.of(concept):
            if document.pending:
                if _stands(document.when, since):
                    ordered.append((document.when, document.reference, concept))
            elif document.when is not None and document.when.latest >= since:
                done.append((document.when.latest, document.when, document.reference, concept))
        for order in (*chart.services.of(concept), *chart.drafts.services.of(concept)):
            if order.state in (EventState.ACTIVE, EventState.DRAFT):
                if order.ongoing or _stands(order.until or order.when, since):
                    ordered.append((order.when, order.reference, concept))
            elif order.state is EventState.DONE and order.when is not None and order.when.latest >= since:
                done.append((order.when.latest, order.when, order.reference, concept))
    if done:
        _, when, reference, concept = max(done, key=lambda d: (d[0], d[2]))
        return WorkUp(Found.DONE, concept, when, reference)
    if ordered:
        moment, reference, concept = max(
            ordered, key=lambda o: (o[0].latest.timestamp() if o[0] is not None else 0.0, o[1])
        )
        return WorkUp(Found.ORDERED, concept, moment, reference)
    return WorkUp(Found.NOT_FOUND, concepts[0])
