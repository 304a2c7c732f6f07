"""Run the rules of a service on one case: isolate failures, merge riders, collect what was not checked."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from typing import TypeVar

from cards.finding import (
    Block,
    Bullet,
    Finding,
    Heading,
    Indicator,
    Message,
    Missing,
    Outcome,
    Table,
    Treatment,
    msg,
)
from cds.engine.case import Case
from cds.engine.flags import flagged
from cds.engine.needs import keys_of_concept, needs
from cds.engine.rule import ORDER_HOOKS, Rule
from cds.engine.rulebook import Rulebook, Service
from cds.engine.safety import safe
from fhir_mapping.chart import KeyState, Loss, LossReason

log = logging.getLogger(__name__)
T = TypeVar("T")

NOT_CHECKED = "common.not-checked"
_UNREAD = (KeyState.FAILED, KeyState.NOT_ASKED)


@dataclass(frozen=True, slots=True)
class Trace:
    """What one rule did, for `evaluate --explain` and the metrics."""

    rule: str
    seconds: float
    findings: tuple[Finding, ...]
    failure: str = ""  # exception type, never its text (it may quote the chart)


@dataclass(frozen=True)
class Run:
    """The findings that become cards, in card order, and the trace of every rule."""

    findings: tuple[Finding, ...]
    traces: tuple[Trace, ...] = field(default=())


def run(service: Service, case: Case, rulebook: Rulebook, deadline: float | None = None) -> Run:
    """Evaluate the service's rules. `deadline` is a `time.monotonic()` value after which no further rule
    begins; the rules left out are named on a card. Never raises on account of a rule."""
    traces: list[Trace] = []
    results: dict[str, list[Finding]] = {}
    for rule in service.every_rule:
        if deadline is not None and time.monotonic() >= deadline:
            trace = Trace(rule.id, 0.0, (_did_not_run(rule, case, "time"),), "time budget")
        else:
            trace = _evaluate(rule, case)
        findings = [complete(f, rule, case, rulebook) for f in trace.findings]
        traces.append(replace(trace, findings=tuple(findings)) if findings else trace)
        results[rule.id] = findings
    cards = []
    for rule in service.rules:
        findings = results[rule.id]
        for rider in service.riders.get(rule.id, ()):
            findings = _joined(findings, rider, results[rider.id])
        cards += findings
    shown = [_at_least(f, rulebook) for f in _with_not_checked(cards, case)]
    return Run(tuple(sorted(shown, key=card_order)), tuple(traces))


def _evaluate(rule: Rule, case: Case) -> Trace:
    started = time.perf_counter()
    try:
        findings = tuple(rule.evaluate(case))
        failure = ""
    except Exception as error:  # the others must still answer
        failure = type(error).__name__
        log.error("rule failed", extra={"rule": rule.id, "error": failure, "at": _place(error)})
        findings = (_did_not_run(rule, case, "failed"),)
    return Trace(rule.id, time.perf_counter() - started, findings, failure)


def _place(error: Exception) -> str:
    """Where it failed. Exception texts may quote chart values, so only file and line are logged."""
    traceback = error.__traceback__
    if traceback is None:
        return ""
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    return f"{traceback.tb_frame.f_code.co_filename.rpartition('/')[2]}:{traceback.tb_lineno}"


def _did_not_run(rule: Rule, case: Case, reason: str) -> Finding:
    return Finding(
        rule=rule.id,
        outcome=Outcome.NOT_CHECKED,
        indicator=Indicator.WARNING if case.hook in ORDER_HOOKS else Indicator.INFO,
        summary=msg(f"common.did-not-run.{reason}", rule=Message("common.rule-title", {}, rule.id)),
        detail=(Bullet(msg("common.did-not-run.detail")),),
        values={"reason": reason},
    )


def complete(finding: Finding, rule: Rule, case: Case, rulebook: Rulebook) -> Finding:
    """Forbidden suggestions out, flags of the evidence in, reasons of missing facts sharpened, losses that
    could matter added."""
    finding = flagged(safe(case, finding, rulebook.terminology), case.chart)
    missing = tuple(_sharpened(m, case, rulebook) for m in finding.missing)
    losses = _losses(rule, case, rulebook) if finding.indicator is not None or finding.unconcluded else ()
    if missing == finding.missing and not losses:
        return finding
    return replace(finding, missing=missing, losses=(*finding.losses, *losses))


def _sharpened(missing: Missing, case: Case, rulebook: Rulebook) -> Missing:
    if missing.reason is not LossReason.NOT_ON_CHART or missing.concept not in rulebook.terminology:
        return missing
    lost = case.chart.series(missing.concept).losses
    if lost:
        return replace(missing, reason=lost[-1].reason, resource=lost[-1].resource, text=lost[-1].text)
    coverage = case.chart.coverage
    keys = keys_of_concept(missing.concept, rulebook.terminology)
    # one key unread is enough: the fact may stand in it under a code that the other keys do not ask for
    if any(key in coverage and coverage[key].state in _UNREAD for key in keys):
        return replace(missing, reason=LossReason.NOT_FETCHED)
    short = [coverage[key] for key in keys if key in coverage and not coverage[key].enough]
    if read_back_to := [known.horizon for known in short if known.horizon is not None]:
        day = max(read_back_to).astimezone(case.now.tzinfo).date().isoformat()
        return replace(missing, reason=LossReason.BEYOND_HORIZON, text=day)
    if newest := next(reversed(case.chart.series(missing.concept)), None):
        return replace(missing, newest=newest.when.latest.astimezone(case.now.tzinfo).date().isoformat())
    return missing


def _losses(rule: Rule, case: Case, rulebook: Rulebook) -> tuple[Loss, ...]:
    """Unusable entries that could have changed this rule's answer."""
    lost = case.chart.losses
    if not lost:
        return ()
    own = needs(rule.facts, rulebook.terminology)
    return tuple(
        loss
        for loss in lost
        if (
            loss.concept in own.concepts
            if loss.concept
            else loss.resource.partition("/")[0] in own.resource_types
        )
    )


def _joined(hosts: Sequence[Finding], rider: Rule, verdicts: Sequence[Finding]) -> list[Finding]:
    """The host's first card with the rider's verdicts on it; without such a card the rider stays silent."""
    result = list(hosts)
    place = next((i for i, host in enumerate(result) if host.indicator is not None), None)
    if place is None:
        return result
    host = result[place]
    for verdict in verdicts:
        if not (verdict.detail or verdict.suggestions or verdict.values):
            continue
        title = Heading(Message("common.rule-title", {}, rider.id))
        texts = tuple(_owned(block, rider.id) for block in verdict.detail)
        indicator = host.indicator or Indicator.INFO
        if verdict.indicator is not None and verdict.indicator.rank > indicator.rank:
            indicator = verdict.indicator
        recommended = any(s.recommended for s in host.suggestions)
        suggestions = tuple(
            replace(
                s,
                key=f"{rider.id}:{verdict.subject}:{s.key}",
                rule=rider.id,
                label=_own(s.label, rider.id),
                recommended=s.recommended and not recommended,
            )
            for s in verdict.suggestions
        )
        plain = {k: v for k, v in verdict.values.items() if isinstance(v, str | int | Decimal | date)}
        host = replace(
            host,
            indicator=indicator,
            detail=(*host.detail, title, *texts),
            evidence=_unique((*host.evidence, *verdict.evidence)),
            missing=_unique((*host.missing, *verdict.missing)),
            suggestions=(*host.suggestions, *suggestions),
            treatment=(*host.treatment, Treatment(rider.id, verdict.outcome, plain)),
        )
    result[place] = host
    return result


def _own(message: Message, rule_id: str) -> Message:
    """A message that keeps its own rule's catalogue on another rule's card."""
    return message if message.catalogue else Message(message.key, message.values, rule_id)


def _owned(block: Block, rule_id: str) -> Block:
    if not isinstance(block, Table):
        return replace(block, message=_own(block.message, rule_id))
    rows = tuple(tuple(_own(c, rule_id) if isinstance(c, Message) else c for c in row) for row in block.rows)
    return replace(block, header=tuple(_own(h, rule_id) for h in block.header), rows=rows)


def _unique(items: Iterable[T]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(items))


def _with_not_checked(findings: Sequence[Finding], case: Case) -> list[Finding]:
    """Cards, plus the one info card for every rule that could not conclude."""
    cards = [f for f in findings if f.indicator is not None]
    open_ones = [f for f in findings if f.indicator is None and f.unconcluded]
    if not open_ones:
        return cards
    names = tuple(dict.fromkeys(f.rule for f in open_ones))
    lines = tuple(
        Bullet(
            msg(
                "common.not-checked.line",
                rule=Message("common.rule-title", {}, f.rule),
                why=_own(f.summary, f.rule),
            )
        )
        for f in open_ones
    )
    missing = _unique(m for f in open_ones for m in f.missing)
    cards.append(
        Finding(
            rule=NOT_CHECKED,
            outcome=Outcome.CANNOT_CHECK,
            indicator=Indicator.INFO,
            summary=msg("common.not-checked.summary", count=len(names)),
            detail=lines,
            values={"rules": list(names)},
            missing=missing,
            evidence=_unique(e for f in open_ones for e in f.evidence),
            losses=_unique(loss for f in open_ones for loss in f.losses),
        )
    )
    return cards


def _at_least(finding: Finding, rulebook: Rulebook) -> Finding:
    minimum = rulebook.minimum_indicator(finding.rule)
    if minimum is None or finding.indicator is None or finding.indicator.rank >= minimum.rank:
        return finding
    return replace(finding, indicator=minimum)


def card_order(finding: Finding) -> tuple[int, int, str, str]:
    rank = finding.indicator.rank if finding.indicator is not None else -1
    until = finding.until or date.min
    return (-rank, -until.toordinal(), finding.rule, finding.subject)
