"""Fever and what may hide it: temperatures, antipyretics, anticytokine drugs (ASTCT fever criterion).

The limit is compared in the unit that was reported (38.0 Cel, 100.4 [degF]); figures in grading/crs.yaml.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache

from cds.engine.case import Case, once_per_case
from fhir_mapping.chart import (
    ConditionState,
    DrugRecord,
    DrugSource,
    DrugState,
    Moment,
    Observation,
    Route,
    frozen,
)

ANTIPYRETICS = ("paracetamol", "class_antipyretics")
ANTICYTOKINES = ("tocilizumab", "siltuximab", "anakinra", "sarilumab", "emapalumab", "ruxolitinib")
STEROIDS = ("class_glucocorticoids",)
LOCAL = frozenset(
    {
        Route.TOPICAL,
        Route.INHALED,
        Route.NASAL,
        Route.OPHTHALMIC,
        Route.OTIC,
        Route.RECTAL,
        Route.INTRA_ARTICULAR,
        Route.INTRAVESICAL,
        Route.INTRALESIONAL,
        Route.INTRATHECAL,
    }
)
_SUPPOSITORIES_COUNT = LOCAL - {Route.RECTAL}


@frozen
class Fever:
    """One sign of fever: a temperature at or above the limit, or a coded fever at its onset."""

    when: Moment
    reference: str
    temperature: Observation | None = None


def _hot(observation: Observation, case: Case) -> bool | None:
    quantity = observation.value.quantity
    if quantity is None:
        return None
    p = case.p("grading.crs")
    shown, limit = quantity.in_reported_unit({"Cel": p["fever_cel"], "[degF]": p["fever_degf"]})
    return shown.at_least(limit)


@once_per_case
def temperatures(case: Case) -> tuple[tuple[Observation, bool], ...]:
    """Every usable temperature, oldest first, with "is fever". Bounds that decide nothing are left out."""
    judged = ((o, _hot(o, case)) for o in case.chart.series("body_temperature"))
    return tuple((o, hot) for o, hot in judged if hot is not None)


@once_per_case
def fevers(case: Case) -> tuple[Fever, ...]:
    """Signs of fever, oldest first: temperatures, and coded fever (active) at its onset."""
    signs = [Fever(o.when, o.reference, o) for o, hot in temperatures(case) if hot]
    for condition in case.chart.conditions.of("fever"):
        coded = condition.state in (ConditionState.ACTIVE, ConditionState.HISTORY)
        if coded and condition.onset is not None and condition.onset.day_known:
            signs.append(Fever(condition.onset, condition.reference))
    return tuple(sorted(signs, key=lambda f: (f.when.earliest, f.reference)))


def measured(case: Case, start: datetime, end: datetime) -> tuple[tuple[Observation, bool], ...]:
    """Temperatures that may lie in [start, end]."""
    return tuple(
        (o, hot) for o, hot in temperatures(case) if o.when.reaches(start) and o.when.earliest <= end
    )


def fevers_between(case: Case, start: datetime, end: datetime) -> tuple[Fever, ...]:
    """Signs of fever that may lie in [start, end]."""
    return tuple(f for f in fevers(case) if f.when.reaches(start) and f.when.earliest <= end)


def given_between(
    case: Case,
    start: datetime,
    end: datetime,
    *concepts: str,
    completed_statements: bool = True,
    local: frozenset[Route] = LOCAL,
) -> tuple[DrugRecord, ...]:
    """Doses of these drugs, not by a `local` route, that may have been running in [start, end]:
    administrations, and completed statements where the site charts no administration of the drug."""
    found = []
    for record in case.chart.drugs.of(*concepts):
        if not record.given or record.route in local:
            continue
        if record.source is DrugSource.STATEMENT:
            if not completed_statements:
                continue
        elif record.source is not DrugSource.ADMINISTRATION:
            continue
        first, last = record.timing.first, record.timing.last
        if first is None or first.earliest > end:
            continue
        running = last is None and record.state in (DrugState.RUNNING, DrugState.ACTIVE)
        if running or (last or first).reaches(start):
            found.append(record)
    return tuple(found)


def _scheduled_antipyretics(case: Case, end: datetime) -> tuple[DrugRecord, ...]:
    """Standing antipyretic orders (M11): they mask fever even where no dose is charted."""
    return tuple(
        order
        for order in case.chart.orders(*ANTIPYRETICS)
        if order.state is DrugState.ACTIVE
        and order.route not in _SUPPOSITORIES_COUNT
        and not order.timing.as_needed
        and order.timing.stated
        and order.timing.first is not None
        and order.timing.first.earliest <= end
        and (order.timing.last is None or order.timing.last.latest >= end)
    )


def masking(case: Case, start: datetime, end: datetime) -> tuple[DrugRecord, ...]:
    """Antipyretic, anticytokine and systemic steroid doses that may have been given in [start, end]. Of
    antipyretics a suppository lowers fever too."""
    antipyretics = given_between(case, start, end, *ANTIPYRETICS, local=_SUPPOSITORIES_COUNT)
    others = given_between(case, start, end, *ANTICYTOKINES, *STEROIDS)
    found = dict.fromkeys((*antipyretics, *others))
    return (*found, *_scheduled_antipyretics(case, end))


@lru_cache(maxsize=256)
def hours(count: Decimal) -> timedelta:
    """A span of hours from a parameter."""
    return timedelta(hours=float(count))
