"""Orders that nobody closed: one whose last dose was due before today is not in force."""

from __future__ import annotations

from cds.engine.case import Case
from fhir_mapping.chart import DrugRecord, DrugState


def ran_out(case: Case, record: DrugRecord) -> bool:
    """Neither running nor ongoing, and its last day has passed."""
    last = record.timing.last
    running = record.timing.ongoing or record.state is DrugState.RUNNING
    return not running and last is not None and last.date < case.today


def active_today(case: Case, *concepts: str) -> tuple[DrugRecord, ...]:
    """Orders, statements and infusions of these drugs or classes that are in force today."""
    return tuple(d for d in case.chart.active_drugs(*concepts) if not ran_out(case, d))
