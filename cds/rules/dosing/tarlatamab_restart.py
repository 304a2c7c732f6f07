"""Restart of tarlatamab after a delay: back to the first step, or the open third dose after a restart.

Rows A, B were read in a copy of the 2024 US label; row C and the interval of the third dose are unverified
and every card says so.
"""

from __future__ import annotations

from collections.abc import Iterator

from cards.finding import Finding, Indicator, Name, Outcome, Paragraph, msg
from cds.engine.case import Case
from cds.engine.rule import Hook, rule
from cds.rules.bispecific import answers
from cds.rules.bispecific.ladder import OffLadder, broken
from cds.rules.bispecific.neuro import neuro_state
from cds.rules.bispecific.orders import Row
from cds.rules.bispecific.tarlatamab import (
    DRUG,
    dosed,
    history_unread,
    last_exposure,
    on_treatment,
    place,
    start_of,
    tarlatamab_events,
    tarlatamab_ladder,
    under_judgement,
)
from cds.rules.bispecific.toxicity import crs_since_previous_dose
from cds.rules.dosing.tarlatamab_step_up import order_findings, stopped_or_held

RESTART = "dosing.tarlatamab-restart"


def _not_tolerated(case: Case) -> Iterator[Finding]:
    """The 10 mg after a new first step needs that step to have been tolerated: no CRS or ICANS of grade 3
    or more since, also when it has resolved."""
    neuro, last = neuro_state(case), last_exposure(case)
    if last is None:
        return
    icans = 0 if neuro is None else neuro.worst_since(start_of(last, case.now))
    worst = max(crs_since_previous_dose(case), icans)
    if worst < case.p(RESTART).int("not_tolerated_from_grade"):
        return
    for judged in under_judgement(case):
        place_before = judged.place
        if judged.row not in (Row.CORRECT, Row.LATE) or place_before is None:
            continue
        if not (place_before.restarted and place_before.given == 1 and place_before.last == last.day):
            continue
        yield Finding(
            rule=RESTART,
            outcome=Outcome.REVIEW,
            indicator=Indicator.WARNING,
            summary=msg("summary.not-tolerated", drug=Name(DRUG), grade=worst),
            subject=judged.reference,
            detail=(Paragraph(msg("detail.not-tolerated", drug=Name(DRUG))),),
            values={"row": "not-tolerated", "toxicity_grade": worst, "label": judged.label},
            evidence=answers.event_evidence(tarlatamab_events(case), DRUG),
            resource=judged.reference,
        )


@rule(RESTART)
def restart(case: Case) -> Iterator[Finding]:
    if stopped_or_held(case):
        return
    if case.hook is not Hook.PATIENT_VIEW:
        if not history_unread(case) or dosed(case):
            yield from order_findings(case, RESTART)
            yield from _not_tolerated(case)
        return
    where = place(case)
    if isinstance(where, OffLadder) or where.last is None or not on_treatment(case):
        return
    ladder = tarlatamab_ladder()
    limit = broken(ladder, where, case.today)
    if limit is not None:
        events = tarlatamab_events(case)
        yield answers.restart_finding(RESTART, ladder, limit, where.last, events, case.today)
