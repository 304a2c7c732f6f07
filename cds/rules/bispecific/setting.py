"""Where a dose is to be given: the first steps need a place that can treat CRS."""

from __future__ import annotations

from cds.engine.case import Case
from cds.rules.bispecific.agents import Ladder
from fhir_mapping.chart import DrugRecord, Encounter


def _encounter_of(case: Case, record: DrugRecord) -> Encounter | None:
    """The visit of the order; the hook's own visit for a dose of today."""
    wanted = record.encounter
    if not wanted:
        first = record.timing.first
        if first is None or first.date != case.today or not case.order.encounter:
            return None
        wanted = case.order.encounter
    for encounter in case.chart.encounters:
        if encounter.reference.rpartition("/")[2] == wanted.rpartition("/")[2]:
            return encounter
    return None


def unmonitored(case: Case, ladder: Ladder, record: DrugRecord, label: str) -> Encounter | None:
    """The ambulatory visit at which a step that needs monitoring is planned."""
    monitored = {step.label for step in ladder.steps if step.monitored}
    monitored |= {name.replace("C1", "R-") for name in monitored}
    encounter = _encounter_of(case, record)
    return encounter if label in monitored and encounter is not None and encounter.ambulatory else None
