"""`tcell-cds evaluate --explain`: which rule looked at what, and what became of every prefetch key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from cards.finding import Evidence, Finding
from cards.writer import iso_moment, number
from cds.cli.console import out
from cds.engine.run import Trace
from cds.pipeline import Answer
from cds.prefetch import Empty, Failed, Found, NotAsked
from fhir_mapping.chart import Chart


def _evidence(item: Evidence) -> str:
    value = "" if item.value is None else str(item.value)
    parts = [
        item.concept,
        value,
        item.unit,
        iso_moment(item.effective) if item.effective else "",
        item.reference,
    ]
    return " ".join(part for part in parts if part)


def _verdict(finding: Finding) -> str:
    shown = finding.outcome.value
    if finding.indicator is not None:
        shown += f" [{finding.indicator.value}]"
    if row := finding.values.get("row"):
        shown += f" row {row}"
    return f"{shown} {finding.resource or finding.subject}".rstrip()


def _state(state: object) -> tuple[str, str]:
    match state:
        case Found(resources=resources, horizon=None):
            return f"{len(resources)} found", "green"
        case Found(resources=resources, horizon=horizon):
            return f"{len(resources)} found, complete back to {horizon:%Y-%m-%d %H:%M} only", "yellow"
        case Empty():
            return "looked at, nothing there", "dim"
        case Failed(reason=reason):
            return f"failed: {reason.value}", "red"
        case NotAsked(reason=reason):
            return f"not asked: {reason.value}", "yellow"
    return "", ""


def _print_keys(answer: Answer) -> None:
    if answer.fetched is None:
        out.print("no draft order concerns this service: nothing was read", style="dim")
        return
    table = Table("key", "state", title="data", title_justify="left")
    for key, state in answer.fetched.states.items():
        text, colour = _state(state)
        table.add_row(key, Text(text, style=colour))
    out.print(table)


def _anchors(chart: Chart) -> Mapping[str, object]:
    course = chart.course
    return {
        "leukapheresis planned": course.leukapheresis and course.leukapheresis.date,
        "collected": course.collected and course.collected.date,
        "lymphodepletion from": course.ldc_first and course.ldc_first.date,
        "lymphodepletion to": course.ldc_last and course.ldc_last.date,
        "infusion planned": course.infusion_planned and course.infusion_planned.date,
        "infused (day 0)": course.day0,
        "product": course.product and course.product.concept,
    }


def _print_course(chart: Chart) -> None:
    known = {name: value for name, value in _anchors(chart).items() if value}
    shown = ", ".join(f"{name} {value}" for name, value in known.items())
    out.print(Text(f"course: {shown or 'no CAR-T course on the chart'}"))
    for loss in chart.losses:
        text = " ".join(part for part in (loss.concept, loss.resource, loss.reason.value) if part)
        out.print(Text(f"not usable: {text}", style="yellow"))


def _print_traces(traces: tuple[Trace, ...]) -> None:
    """Rules that answered, one block each; then the silent ones in a line."""
    for trace in traces:
        if trace.failure:
            out.print(Text(f"{trace.rule}: did not run, {trace.failure}", style="bold red"))
        if trace.failure or not trace.findings:
            continue
        out.print(Text(trace.rule, style="bold").append(f"  {trace.seconds * 1000:.1f} ms", style="dim"))
        seen = dict.fromkeys(_evidence(e) for finding in trace.findings for e in finding.evidence)
        missing = dict.fromkeys(f"{m.concept} ({m.reason.value})" for f in trace.findings for m in f.missing)
        for heading, lines in (
            ("answer", [_verdict(finding) for finding in trace.findings]),
            ("looked at", seen),
            ("missing", missing),
        ):
            for line in lines:
                out.print(Text(f"  {heading:<10}{line}"))
    silent = [trace.rule for trace in traces if not trace.findings and not trace.failure]
    out.print(Text(f"silent: {', '.join(silent) or 'none'}", style="dim"))


def print_explanation(answer: Answer) -> None:
    """Data, course and rules of one answer."""
    _print_keys(answer)
    if answer.chart is not None:
        _print_course(answer.chart)
    if answer.run is not None:
        _print_traces(answer.run.traces)


def explanation(answer: Answer) -> dict[str, Any]:
    """The same as plain JSON."""
    states = {} if answer.fetched is None else answer.fetched.states
    traces = () if answer.run is None else answer.run.traces
    return {
        "service": answer.service.id,
        "keys": {key: _state(state)[0] for key, state in states.items()},
        "losses": [
            {"concept": loss.concept, "resource": loss.resource, "reason": loss.reason.value}
            for loss in (() if answer.chart is None else answer.chart.losses)
        ],
        "rules": [
            {
                "rule": trace.rule,
                "milliseconds": float(number(round(trace.seconds * 1000, 3))),
                "failure": trace.failure,
                "answers": [_verdict(finding) for finding in trace.findings],
                "evidence": sorted({_evidence(e) for f in trace.findings for e in f.evidence}),
                "missing": sorted({m.concept for f in trace.findings for m in f.missing}),
            }
            for trace in traces
        ],
    }
