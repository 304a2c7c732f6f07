"""Phases and predicates of the CAR-T course that every rule shares (handbook ch. 1, chart-facts section 12).

`candidate`, `collected`, `ldc`, `infusing` and `infused` are the predicates of the rule inventory. A rule
whose predicate is false is silent.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from enum import StrEnum

from cards.finding import Finding, Outcome, msg
from cds.engine.case import Case, once_per_case
from cds.engine.rule import rule
from fhir_mapping.chart import Appointment, EventState, Procedure, ServiceOrder

_OTHER_APHERESIS = frozenset({"plasmapheresis", "extracorporeal_photopheresis"})


class Phase(StrEnum):
    """Where the course stands today. `NONE`: nothing on the chart speaks of CAR-T cells."""

    NONE = "none"
    BEFORE = "before"
    DURING = "during"
    FOLLOW_UP = "follow-up"


def candidate(case: Case) -> bool:
    """A course is under way (evaluation, product order, collection) and not infused (K1)."""
    return case.chart.course.candidate


def collected(case: Case) -> bool:
    """Leukapheresis of this course was carried out (K3)."""
    return case.chart.course.collected is not None


def collection_date(case: Case) -> date | None:
    """D_aph of the last collection done; None when not collected or its day is not on the chart."""
    done = case.chart.course.collected
    return None if done is None else done.date


def _for_car_t(fact: ServiceOrder | Appointment | Procedure) -> bool:
    """Not a collection of stem cells, an exchange of plasma or photopheresis (K2)."""
    return "purpose_stem_cell_collection" not in fact.purposes and fact.concepts.isdisjoint(_OTHER_APHERESIS)


def collection_order(case: Case) -> ServiceOrder | None:
    """The drafted collection of CAR-T cells that is judged."""
    return next((s for s in case.judged_services("leukapheresis") if _for_car_t(s)), None)


def collection_booking(case: Case) -> Appointment | None:
    """The booking of a collection of CAR-T cells that is judged."""
    return next((b for b in case.judged_appointments("leukapheresis") if _for_car_t(b)), None)


def collection_running(case: Case) -> Procedure | None:
    """The collection of CAR-T cells of this day: under way, or done today."""
    for procedure in case.chart.procedures.of("leukapheresis"):
        today = procedure.start is not None and procedure.start.date == case.today
        if today and procedure.state in (EventState.RUNNING, EventState.DONE) and _for_car_t(procedure):
            return procedure
    return None


def ldc(case: Case) -> bool:
    """Lymphodepletion is ordered or given after a collection (K4)."""
    course = case.chart.course
    return collected(case) and (bool(course.ldc_records) or bool(course.ldc_events))


def infused(case: Case) -> bool:
    """CAR-T cells of this course were given (K6), also when their day is unknown."""
    course = case.chart.course
    return course.infused is not None or course.infused_date_unknown


def infusing(case: Case) -> bool:
    """The infusion is planned for today or tomorrow, or took place today."""
    day0 = case.chart.course.day0_any
    if day0 is None:
        return False
    ahead = (day0 - case.today).days
    return ahead == 0 if case.chart.course.infused is not None else ahead in (0, 1)


def day(case: Case) -> int | None:
    """Day of the course today, counted from the infusion; None when not infused or its day is unknown."""
    return case.chart.course.day(case.today)


@once_per_case
def phase(case: Case) -> Phase:
    """Before, during (day 0 to day 30, whatever the discharge date) or after.

    Without D0 a course is before; a history of CAR-T without a day is follow-up.
    """
    course = case.chart.course
    since = day(case)
    if since is None:
        if course.infused_date_unknown and not course.candidate:
            return Phase.FOLLOW_UP
        planned = course.day0_any
        if not course.any_evidence:
            return Phase.NONE
        return Phase.DURING if planned == case.today else Phase.BEFORE
    if since < 0:
        return Phase.BEFORE
    return Phase.DURING if since <= case.p("readiness.phase").int("during_days") else Phase.FOLLOW_UP


@rule("readiness.phase")
def tell_phase(case: Case) -> Iterator[Finding]:
    """Verdict only: the phase and the day, for the trace."""
    now = phase(case)
    if now is Phase.NONE:
        return
    values: dict[str, str | int] = {"phase": now.value}
    since = day(case)
    if since is not None:
        values["day"] = since
    yield Finding(
        rule="readiness.phase",
        outcome=Outcome.INFO,
        indicator=None,
        summary=msg("summary.phase", phase=msg(f"phase.{now.value}")),
        values=values,
    )
