"""What stands behind an answer, for the page: pictures, the rules' verdicts with their evidence, the data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from cards.context import RenderContext
from cards.finding import Evidence, Finding
from cards.writer import Writer, iso_moment
from cds.engine.run import Trace
from cds.pictures import pictures
from cds.pipeline import Answer
from cds.prefetch import Empty, Failed, Found, NotAsked
from fhir_mapping.chart import Chart

Json = Mapping[str, Any]


def explained(answer: Answer, width: int) -> Json:
    """Plain JSON in the language of the cards; `width` is that of the pictures in CSS pixels."""
    shown: dict[str, Any] = {
        "milliseconds": {stage: round(seconds * 1000, 1) for stage, seconds in answer.stages.items()},
        "keys": [] if answer.fetched is None else list(_keys(answer.fetched.states)),
    }
    if answer.run is None or answer.case is None or answer.context is None:
        return shown
    writer = answer.context.plain
    findings = [finding for trace in answer.run.traces for finding in trace.findings]
    return {
        **shown,
        "course": _course(answer.case.chart),
        "losses": [
            {"what": _named(loss.concept, loss.resource, writer), "why": writer.word(loss.reason.value)}
            for loss in answer.case.chart.losses
        ],
        "rules": [_rule(trace, answer.context) for trace in answer.run.traces if trace.findings],
        "silent": [trace.rule for trace in answer.run.traces if not trace.findings],
        "pictures": [
            {
                "kind": picture.kind,
                "rules": picture.rules,
                "title": picture.title,
                "description": picture.description,
                "header": picture.header,
                "rows": picture.rows,
                "svg": picture.svg,
            }
            for picture in pictures(answer.case, findings, writer, width)
        ],
    }


def _keys(states: Mapping[str, object]) -> Iterator[Json]:
    for key, state in states.items():
        match state:
            case Found(resources=resources, horizon=horizon):
                back = "" if horizon is None else horizon.isoformat(timespec="minutes")
                yield {"key": key, "state": "found", "count": len(resources), "horizon": back}
            case Empty():
                yield {"key": key, "state": "empty"}
            case Failed(reason=reason):
                yield {"key": key, "state": "failed", "reason": reason.value}
            case NotAsked(reason=reason):
                yield {"key": key, "state": "not-asked", "reason": reason.value}


def _course(chart: Chart) -> dict[str, str]:
    """The dates on which the rules hang, by name; what is not known is left out."""
    course = chart.course
    dates = {
        "leukapheresis": course.leukapheresis and course.leukapheresis.date,
        "collected": course.collected and course.collected.date,
        "lymphodepletion": course.ldc_first and course.ldc_first.date,
        "planned": course.infusion_planned and course.infusion_planned.date,
        "day0": course.day0,
    }
    return {name: day.isoformat() for name, day in dates.items() if day}


def _rule(trace: Trace, context: RenderContext) -> Json:
    return {
        "rule": trace.rule,
        "title": context.plain.title(trace.rule),
        "milliseconds": round(trace.seconds * 1000, 2),
        "failure": trace.failure,
        "verdicts": [_verdict(finding, context.plain) for finding in trace.findings],
    }


def _verdict(finding: Finding, writer: Writer) -> Json:
    return {
        "outcome": writer.word(finding.outcome.value),
        "indicator": "" if finding.indicator is None else finding.indicator.value,
        "row": str(finding.values.get("row", "")),
        "subject": finding.resource or finding.subject,
        "evidence": list(_evidence(finding.evidence, writer)),
        "missing": [
            {"what": _named(item.concept, item.resource, writer), "why": writer.word(item.reason.value)}
            for item in finding.missing
        ],
    }


def _evidence(items: Iterable[Evidence], writer: Writer) -> Iterator[Json]:
    for item in items:
        value = "" if item.value is None else writer.shown(item.value)
        yield {
            "reference": item.reference,
            "concept": writer.concept(item.concept) if item.concept else "",
            "value": f"{value} {item.unit}".strip(),
            "effective": iso_moment(item.effective) if item.effective is not None else "",
        }


def _named(concept: str, resource: str, writer: Writer) -> str:
    return " ".join(part for part in (writer.concept(concept) if concept else "", resource) if part)
