"""What clinicians do with the cards, rule by rule: fired, accepted, overridden, why, and the trend."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from cds.protocol import FeedbackOutcome
from cds.store.audit import Shown
from cds.store.models import Call, Feedback, Verdict

_SENT = (Shown.CARD, Shown.SHORTENED)


@dataclass(slots=True)
class RuleUse:
    """Counts of cards, not of calls: a call repeated with the same hookInstance gives the same card.

    `before` is `fired` of the period of the same length before this one. `withheld` were not sent: silent
    mode, repeats of an overridden card, cut off.
    """

    rule: str
    fired: int = 0
    accepted: int = 0
    overridden: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    indicators: Counter[str] = field(default_factory=Counter)
    withheld: Counter[str] = field(default_factory=Counter)
    versions: set[str] = field(default_factory=set)
    before: int = 0

    @property
    def override_percent(self) -> int | None:
        """Of the cards that got an answer; None where none did."""
        answered = self.accepted + self.overridden
        return round(100 * self.overridden / answered) if answered else None

    def as_json(self) -> dict[str, Any]:
        return {
            "rule": self.rule,
            "fired": self.fired,
            "firedBefore": self.before,
            "accepted": self.accepted,
            "overridden": self.overridden,
            "overridePercent": self.override_percent,
            "reasons": dict(self.reasons.most_common()),
            "indicators": dict(self.indicators),
            "withheld": dict(self.withheld),
            "rulesetVersions": sorted(self.versions),
        }


@dataclass(frozen=True, slots=True)
class Usage:
    """The report of one period. `unmatched`: feedback on cards that the store does not know."""

    since: datetime
    until: datetime
    calls: int
    patients: int
    rules: tuple[RuleUse, ...]
    unmatched: int

    def as_json(self) -> dict[str, Any]:
        return {
            "since": self.since.isoformat(timespec="seconds"),
            "until": self.until.isoformat(timespec="seconds"),
            "calls": self.calls,
            "patients": self.patients,
            "unmatchedFeedback": self.unmatched,
            "rules": [rule.as_json() for rule in self.rules],
        }


async def usage(engine: AsyncEngine, until: datetime, days: int) -> Usage:
    """The `days` before `until`, most fired first. Raises SQLAlchemyError where the store cannot be read."""
    since = until - timedelta(days=days)
    earlier = since - timedelta(days=days)
    async with engine.connect() as connection:
        calls = (
            await connection.execute(select(Call.patient).where(Call.at >= since, Call.at < until))
        ).all()
        verdicts = (
            await connection.execute(
                select(
                    Verdict.card, Verdict.rule, Verdict.indicator, Verdict.shown, Verdict.ruleset, Verdict.at
                ).where(Verdict.at >= earlier, Verdict.at < until)
            )
        ).all()
        answers = (
            await connection.execute(
                select(Feedback.card, Feedback.outcome, Feedback.reason)
                .where(Feedback.received_at >= since)
                .order_by(Feedback.at, Feedback.received_at)
            )
        ).all()
    rules, rule_of = _fired(verdicts, since)
    last = {card: (outcome, reason) for card, outcome, reason in answers}  # the latest answer counts
    unmatched = 0
    for card, (outcome, reason) in last.items():
        if card not in rule_of:
            unmatched += 1
            continue
        use = rules[rule_of[card]]
        if outcome == FeedbackOutcome.ACCEPTED:
            use.accepted += 1
        else:
            use.overridden += 1
            use.reasons[reason or "none given"] += 1
    order = sorted(rules.values(), key=lambda use: (-use.fired, -sum(use.withheld.values()), use.rule))
    patients = {patient for (patient,) in calls if patient}
    return Usage(since, until, len(calls), len(patients), tuple(order), unmatched)


def _fired(verdicts: Iterable[Any], since: datetime) -> tuple[dict[str, RuleUse], dict[str, str]]:
    rules: dict[str, RuleUse] = {}
    rule_of: dict[str, str] = {}
    counted: dict[bool, set[str]] = defaultdict(set)
    for card, rule, indicator, shown, version, at in verdicts:
        use = rules.setdefault(rule, RuleUse(rule))
        current = at >= since
        if shown not in _SENT:
            if current:
                use.withheld[shown] += 1
            continue
        rule_of[card] = rule
        if card in counted[current]:
            continue
        counted[current].add(card)
        if not current:
            use.before += 1
            continue
        use.fired += 1
        use.indicators[indicator] += 1
        use.versions.add(version)
    return rules, rule_of
