"""Which pictures an answer has. A picture is drawn where its rules ran and spoke, and never by itself."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from cards.finding import Finding
from cards.writer import Writer
from cds.engine.case import Case
from cds.pictures import plot
from cds.pictures.follow_up import calendar
from cds.pictures.ladder import RULES as LADDER_RULES
from cds.pictures.ladder import ladder
from cds.pictures.neutrophils import RULE as ICAHT
from cds.pictures.neutrophils import neutrophils
from cds.pictures.pen import Pen
from cds.pictures.picture import Picture
from cds.pictures.toxicity import CRS_RULES, ICANS_RULES, toxicity
from cds.pictures.washout import TARGETS, washout
from cds.rules.bispecific.toxicity import tarlatamab_view

log = logging.getLogger(__name__)


def pictures(case: Case, findings: Sequence[Finding], writer: Writer, width: int) -> tuple[Picture, ...]:
    """The pictures of one answer at a width in CSS pixels (clamped). `findings` are those of every rule that
    ran. A picture that cannot be drawn is left out and logged: the cards matter more."""
    pen = Pen(writer, plot.clamped(width), case.now)
    found = (_tried(draw) for draw in _wanted(case, findings, pen))
    return tuple(picture for picture in found if picture is not None)


def _tried(draw: Callable[[], Picture | None]) -> Picture | None:
    try:
        return draw()
    except Exception as error:  # texts of exceptions may quote the chart
        log.error("picture failed", extra={"error": type(error).__name__})
        return None


def _wanted(case: Case, findings: Sequence[Finding], pen: Pen) -> Iterator[Callable[[], Picture | None]]:
    def of(rules: Iterable[str]) -> list[Finding]:
        return [finding for finding in findings if finding.rule in set(rules)]

    if of((*CRS_RULES, *ICANS_RULES)):
        yield partial(_toxicity, case, findings, pen)
    if of((ICAHT,)):
        yield partial(neutrophils, case, findings, pen)
    for target, rules in TARGETS.items():
        yield partial(washout, target, of(rules), pen)
    if of(LADDER_RULES):
        yield partial(ladder, case, pen)
    yield partial(calendar, case, findings, pen)


def _toxicity(case: Case, findings: Sequence[Finding], pen: Pen) -> Picture | None:
    """From the infusion of the cells, else from the first dose of the bispecific antibody."""
    if case.chart.course.infused is not None:
        return toxicity(case, findings, pen)
    view = tarlatamab_view(case)
    return None if view is None else toxicity(view, findings, pen)
