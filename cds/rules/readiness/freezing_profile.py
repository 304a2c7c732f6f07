"""The recorded freezer run beside the handbook's programme; a difference is worth knowing, never a stop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from cards.finding import Finding, Indicator, Items, Message, Missing, Shown, msg
from cds.engine.case import Case
from cds.engine.rule import rule
from cds.rules.evidence import of_observation
from cds.rules.readiness.checklist import NOTHING, Line, Status, checklist
from cds.rules.readiness.phase import collected, infused
from cds.rules.readiness.product import COLLECTED, freezings, papers, results
from fhir_mapping.chart import EventState, Observation

RULE = "readiness.freezing-profile"
_PARTS = {"rate": "freezing_rate", "target": "freezing_target", "hold": "freezing_hold"}


def _steps(case: Case) -> dict[int, Observation]:
    """Newest record of each step of the last collection's run."""
    found: dict[int, Observation] = {}
    for observation in results(case, "freezing_step", COLLECTED, case.chart.course.collections[-1:]):
        number = observation.component("freezing_step_number")
        if number is not None and number.number is not None:
            found[number.number] = observation
    return found


def _part(observation: Observation, name: str) -> Decimal | None:
    value = observation.component(_PARTS[name])
    return None if value is None or value.quantity is None else value.quantity.value


def _as_text(numbers: Mapping[str, Decimal]) -> Shown:
    if not numbers:
        return NOTHING
    return Items(tuple(msg(f"part.{name}", number=number) for name, number in numbers.items()))


def _line(row: Mapping[str, Any], observation: Observation | None) -> Line:
    label = f"step-{row['step']}"
    wanted = {name: Decimal(row[name]) for name in _PARTS if name in row}
    limits: dict[str, Shown] = {"programme": _as_text(wanted) if wanted else msg("end")}
    if observation is None:
        missing = (Missing("freezing_step"),)
        return Line(label, Status.UNKNOWN, NOTHING, limits, weight=Indicator.INFO, missing=missing)
    seen = {name: number for name in _PARTS if (number := _part(observation, name)) is not None}
    evidence = (of_observation(observation),)
    differs = any(seen[name] != wanted[name] for name in wanted if name in seen)
    found: Message | Shown = _as_text(seen) if seen else msg("common.checklist.present")
    if differs:
        return Line(label, Status.CAUTION, found, limits, weight=Indicator.INFO, evidence=evidence)
    lacking = tuple(Missing(_PARTS[name]) for name in wanted if name not in seen)
    if lacking:
        return Line(label, Status.UNKNOWN, found, limits, (), Indicator.INFO, {}, evidence, lacking)
    return Line(label, Status.MET, found, limits, evidence=evidence)


def _frozen(case: Case) -> bool:
    ended = results(case, "freezing_completed", COLLECTED, case.chart.course.collections[-1:])
    return bool(ended) or any(p.state is EventState.DONE for p in freezings(case))


@rule(RULE)
def freezing_profile(case: Case) -> Iterator[Finding]:
    """One table of the seven steps; without a record of the run the curve is asked for."""
    if not collected(case) or infused(case):
        return
    steps, attached = _steps(case), bool(papers(case, "freezing_step"))
    if not steps and (attached or not _frozen(case)):
        return
    rows = case.p(RULE).table("steps")
    lines = [_line(row, steps.get(int(row["step"]))) for row in rows]
    differing = [line for line in lines if line.status is Status.CAUTION]
    absent = [int(row["step"]) for row in rows if int(row["step"]) not in steps]
    extra = () if attached else (msg("note.curve"),)
    values = {"deviations": len(differing), "steps_recorded": len(steps)}
    finding = checklist(case, RULE, lines, extra=extra, values=values)
    labels = Items(tuple(line.label for line in differing))
    if not steps:
        yield replace(finding, summary=msg("summary.no-record"), indicator=None, unconcluded=True)
    elif differing:
        yield replace(finding, summary=msg("summary.differs", steps=labels))
    elif absent:
        yield replace(finding, summary=msg("summary.gaps", steps=Items(tuple(absent))))
    else:
        yield finding
