"""Findings about the request itself: what could not be read, and whom that may concern.

Rules speak only of patients with CAR-T or bispecific therapy. Where the part of the chart that would show the
therapy failed to arrive, their silence would look like an all-clear; so it is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cards.finding import Finding, Indicator, Items, Message, Outcome, Paragraph, msg
from cds.engine.run import NOT_CHECKED
from cds.prefetch import KEYS, SCOPE, Failed, KeyState, Reason
from cds.protocol import HookRequest
from fhir_mapping.chart import Loss, LossReason


def gaps(
    request: HookRequest, states: Mapping[str, KeyState], therapy_seen: bool, drafts_of_others: int = 0
) -> Iterator[Finding]:
    """Cards beside those of the rules; none for a complete request. `drafts_of_others`: orders and visits of
    the hook that name another patient."""
    unread = tuple(name for name in SCOPE if _hides_therapy(states.get(name)))
    if unread and not therapy_seen:
        what = Items(tuple(Message(f"what.{name}", {}, NOT_CHECKED) for name in unread))
        yield Finding(
            rule=NOT_CHECKED,
            subject="therapy",
            outcome=Outcome.NOT_CHECKED,
            indicator=Indicator.INFO,
            summary=msg("summary.therapy", what=what),
            detail=(Paragraph(msg("detail.therapy")),),
            values={"keys": list(unread)},
            losses=tuple(
                Loss(LossReason.NOT_FETCHED, resource=kind)
                for kind in dict.fromkeys(KEYS[name].resource_type for name in unread)
            ),
        )
    if not (therapy_seen or unread):
        return
    if request.unreadable_entries:
        yield _unjudged("drafts", "unreadable_entries", request.unreadable_entries)
    if drafts_of_others:
        yield _unjudged("drafts-of-others", "entries_of_another_patient", drafts_of_others)


def _unjudged(subject: str, value: str, count: int) -> Finding:
    """So many entries of the hook no rule has seen."""
    return Finding(
        rule=NOT_CHECKED,
        subject=subject,
        outcome=Outcome.NOT_CHECKED,
        indicator=Indicator.WARNING,
        summary=msg(f"summary.{subject}", count=count),
        detail=(Paragraph(msg(f"detail.{subject}")),),
        values={value: count},
    )


def _hides_therapy(state: KeyState | None) -> bool:
    """Asked for and failed; a type that the server does not have, or a key left out, is no failure."""
    return isinstance(state, Failed) and state.reason is not Reason.NOT_OFFERED
