"""Sedation now (chart-facts S8): consciousness, ICE and CAPD are then not counted."""

from __future__ import annotations

from datetime import datetime, timedelta

from cards.finding import Evidence
from cds.engine.case import Case
from cds.rules.evidence import of_drug_start, of_observation
from cds.rules.grading.fever import LOCAL, given_between, hours
from fhir_mapping.chart import Route

SEDATIVES = ("midazolam", "lorazepam", "propofol", "dexmedetomidine", "sedative_other")
_LOCAL = LOCAL - {Route.NASAL, Route.RECTAL}  # given that way against a seizure they sedate all the same


def sedation_at(case: Case, at: datetime) -> tuple[Evidence, ...]:
    """Why the patient counts as sedated at `at`; empty where nothing says so. A sedative runs, was given in
    the last hours, or a nurse recorded it."""
    start = at - hours(case.p("grading.ice")["sedation_hours"])
    given = given_between(case, start, at, *SEDATIVES, completed_statements=False, local=_LOCAL)
    if given:
        return tuple(of_drug_start(d) for d in given)
    stated = case.chart.series("sedated").latest(at, timedelta(hours=24))
    if stated is not None and stated.value.yes:
        return (of_observation(stated),)
    return ()
