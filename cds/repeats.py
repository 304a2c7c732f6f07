"""A warning that was overridden a moment ago is not said again (contract section 7)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from cards.finding import Finding, Indicator, Message, Paragraph

CATALOGUE = "common.repeated"


@dataclass(frozen=True, slots=True)
class Repeats:
    """`kept` become cards; of them `shortened` are short; `suppressed` are not sent."""

    kept: tuple[Finding, ...]
    suppressed: tuple[Finding, ...] = ()
    shortened: tuple[Finding, ...] = ()


def without_repeats(findings: Sequence[Finding], overridden: Collection[int]) -> Repeats:
    """`overridden` holds positions in `findings`. Critical ones stay, shortened; verdicts without a card and
    infos stay as they are."""
    kept: list[Finding] = []
    suppressed: list[Finding] = []
    shortened: list[Finding] = []
    for place, finding in enumerate(findings):
        if place not in overridden or finding.indicator not in (Indicator.WARNING, Indicator.CRITICAL):
            kept.append(finding)
        elif finding.indicator is Indicator.WARNING:
            suppressed.append(finding)
        else:
            short = replace(finding, detail=(Paragraph(Message("detail.critical", {}, CATALOGUE)),))
            kept.append(short)
            shortened.append(short)
    return Repeats(tuple(kept), tuple(suppressed), tuple(shortened))
