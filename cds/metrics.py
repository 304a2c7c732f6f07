"""What Prometheus may know: counts and times by service, rule, outcome and key. Never a patient's value."""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from cds.pipeline import Answer
from cds.prefetch import Empty, Found
from cds.prefetch.states import KeyState
from cds.protocol import FeedbackItem

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0)


class Metrics:
    """One per application; several workers share by PROMETHEUS_MULTIPROC_DIR."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "tcell_cds_requests", "HTTP answers", ["route", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "tcell_cds_hook_seconds",
            "Time of one hook call",
            ["service"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._findings = Counter(
            "tcell_cds_findings", "Findings with a card", ["rule", "indicator"], registry=self.registry
        )
        self._failures = Counter(
            "tcell_cds_rule_failures", "Rules that did not run", ["rule", "reason"], registry=self.registry
        )
        self._keys = Counter(
            "tcell_cds_prefetch_keys", "Prefetch keys by state", ["key", "state"], registry=self.registry
        )
        self._notes = Counter(
            "tcell_cds_request_notes", "Oddities tolerated in requests", ["note"], registry=self.registry
        )
        self._feedback = Counter(
            "tcell_cds_feedback", "Feedback items", ["service", "outcome"], registry=self.registry
        )

        self._stages = Histogram(
            "tcell_cds_stage_seconds",
            "Time of one hook call by stage: read, rules, render",
            ["stage"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._losses = Counter(
            "tcell_cds_chart_losses",
            "Facts of charts that could not be used: unknown codes and units, malformed entries ...",
            ["reason"],
            registry=self.registry,
        )
        self._repeats = Counter(
            "tcell_cds_repeats",
            "Overridden cards at order-sign: suppressed, shortened, or not looked up in time",
            ["what"],
            registry=self.registry,
        )
        self._lost = Counter(
            "tcell_cds_audit_rows_lost", "Rows that never reached the store", registry=self.registry
        )
        self._refused = Counter(
            "tcell_cds_client_refusals", "Client tokens refused", ["reason"], registry=self.registry
        )

        self._unshared = Counter(
            "tcell_cds_token_replay_unshared",
            "Client tokens whose first use other workers could not be told of",
            registry=self.registry,
        )

    def unshared(self) -> None:
        self._unshared.inc()

    def lost(self, count: int) -> None:
        self._lost.inc(count)

    def not_looked_up(self) -> None:
        self._repeats.labels("not-looked-up").inc()

    def refused(self, reason: str) -> None:
        self._refused.labels(reason).inc()

    def request(self, route: str, status: int) -> None:
        self._requests.labels(route, str(status)).inc()

    def answered(self, answer: Answer) -> None:
        self._seconds.labels(answer.service.id).observe(answer.seconds)
        for stage, seconds in answer.stages.items():
            self._stages.labels(stage).observe(seconds)
        for what, findings in (("suppressed", answer.suppressed), ("shortened", answer.shortened)):
            if findings:
                self._repeats.labels(what).inc(len(findings))
        for note in answer.request.notes:
            self._notes.labels(note.value).inc()
        if answer.fetched is not None:
            for key, state in answer.fetched.states.items():
                self._keys.labels(key, _state(state)).inc()
        if answer.chart is not None:
            for loss in answer.chart.losses:
                self._losses.labels(loss.reason.value).inc()
        if answer.run is not None:
            for finding in answer.run.findings:
                if finding.indicator is not None:
                    self._findings.labels(finding.rule, finding.indicator.value).inc()
            for trace in answer.run.traces:
                if trace.failure:
                    self._failures.labels(trace.rule, trace.failure).inc()

    def feedback(self, service: str, item: FeedbackItem) -> None:
        self._feedback.labels(service, item.outcome.value).inc()

    def exposition(self) -> bytes:
        if not os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
            return generate_latest(self.registry)
        shared = CollectorRegistry()
        MultiProcessCollector(shared)  # type: ignore[no-untyped-call]
        return generate_latest(shared)


def _state(state: KeyState) -> str:
    match state:
        case Found(horizon=None):
            return "complete"
        case Found():
            return "horizon"
        case Empty():
            return "empty"
        case _:
            return state.reason.value
