"""Findings become CDS Hooks 2.0 cards: contract section 4, word for word.

Nothing here decides anything clinical. Every string that may hold chart text is escaped; a finding whose
text cannot be built still gives a card with its values, so that no verdict is lost to a typo.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid5

from cards import escape
from cards.context import RenderContext
from cards.detail import detail
from cards.finding import (
    DEFAULT_OVERRIDES,
    Action,
    Create,
    Delete,
    Finding,
    Indicator,
    Link,
    Message,
    Paragraph,
    Suggestion,
    Update,
)
from cards.machine import machine_readable
from cards.once import offered_once
from cards.orders import CannotMoveError, draft_order, moved, proposal_text, resource_text
from cards.writer import RULE_TITLE, Written

log = logging.getLogger(__name__)

Card = dict[str, Any]

RULE_SYSTEM = "urn:tcell-cds:rule"
OVERRIDE_SYSTEM = "urn:tcell-cds:override-reason"
FINDING = "org.tcell-cds.finding"
OMITTED = "org.tcell-cds.omitted"
SUGGESTING_RULE = "org.tcell-cds.rule"
_NAMESPACE = uuid5(UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8"), "urn:tcell-cds:card")  # RFC 4122 URL space


def render(findings: Sequence[Finding], context: RenderContext) -> list[Card]:
    """The cards of the findings, in their order, at most `max_cards` unless more are critical.

    Findings without an indicator give no card. Of two cards that offer the same order, one keeps it. Never
    raises on account of one finding: a card whose text cannot be built is shown with its rule, outcome and
    values.
    """
    shown = [finding for finding in findings if finding.indicator is not None]
    kept, rest = _capped(shown, context.max_cards)
    kept = offered_once(kept, context.now.date())
    seen: dict[tuple[str, str], int] = {}
    cards: list[Card] = []
    for finding in kept:
        name = (finding.rule, finding.subject)
        seen[name] = seen.get(name, 0) + 1
        cards.append(_isolated(finding, context, seen[name]))
    if rest and cards:
        _count_rest(cards[-1], rest, context)
    return cards


def _capped(findings: Sequence[Finding], most: int) -> tuple[list[Finding], list[Finding]]:
    """Critical findings are never cut; the others fill what room is left, in their order."""
    room = most - sum(finding.indicator is Indicator.CRITICAL for finding in findings)
    kept: list[Finding] = []
    rest: list[Finding] = []
    for finding in findings:
        if finding.indicator is Indicator.CRITICAL:
            kept.append(finding)
        elif room > 0:
            room -= 1
            kept.append(finding)
        else:
            rest.append(finding)
    return kept, rest


def _count_rest(card: Card, rest: Sequence[Finding], context: RenderContext) -> None:
    rules = list(dict.fromkeys(finding.rule for finding in rest))
    titles = context.markdown.joined([context.markdown.title(rule) for rule in rules])
    line = context.markdown.common("more", count=len(rest), rules=Written(titles))
    card["detail"] = f"{card['detail']}\n\n{line}"
    card["extension"][OMITTED] = {"count": len(rest), "rules": rules}


def _isolated(finding: Finding, context: RenderContext, number: int) -> Card:
    try:
        return card_of(finding, context, number)
    except Exception as error:  # a text or an order that cannot be built must not hide the verdict
        log.error("card failed", extra={"rule": finding.rule, "error": type(error).__name__})
        fallback = replace(
            finding,
            summary=Message("common.text-failed.summary", {"rule": Message(RULE_TITLE)}, finding.rule),
            detail=(Paragraph(Message("common.text-failed.detail", {"outcome": finding.outcome})),),
            suggestions=(),
            links=(),
        )
        return card_of(fallback, context, number)


def card_of(finding: Finding, context: RenderContext, number: int = 1) -> Card:
    """The card of one finding. `number` tells findings of the same rule and subject apart.

    Raises TextError where a text of the catalogue is missing, ValueError where the finding has no indicator.
    """
    if finding.indicator is None:
        raise ValueError("a finding without an indicator has no card")
    identity = "\x1f".join((context.hook_instance, finding.rule, finding.subject))
    if number > 1:
        identity += f"\x1f{number}"
    card: Card = {
        "uuid": str(uuid5(_NAMESPACE, identity)),
        "summary": escape.shortened(context.plain.sentence(finding.summary, finding.rule)),
        "detail": detail(finding, context),
        "indicator": finding.indicator.value,
        "source": _source(finding.rule, context),
        "extension": {FINDING: machine_readable(finding, context)},
    }
    if suggestions := _suggestions(finding, identity, context):
        card["suggestions"] = suggestions
        card["selectionBehavior"] = finding.selection.value
    if finding.indicator is not Indicator.INFO:
        card["overrideReasons"] = [
            {"system": OVERRIDE_SYSTEM, "code": reason.value, "display": context.plain.word(reason.value)}
            for reason in dict.fromkeys(finding.overrides or DEFAULT_OVERRIDES)
        ]
    if links := [_link(link, finding.rule, context) for link in finding.links if _absolute(link.url)]:
        card["links"] = links
    return card


def _absolute(url: str) -> bool:
    return url.startswith(("https://", "http://")) and url.split() == [url]


def _link(link: Link, rule: str, context: RenderContext) -> Card:
    return {"label": context.plain.message(link.label, rule), "url": link.url, "type": "absolute"}


def _source(rule: str, context: RenderContext) -> Card:
    info = context.rules.get(rule)
    label = escape.plain(info.source.label) if info else context.plain.common("service")
    source: Card = {
        "label": label,
        "topic": {"system": RULE_SYSTEM, "code": rule, "display": context.plain.title(rule)},
    }
    if info and _absolute(info.source.url):
        source["url"] = info.source.url
    return source


# --- suggestions


def _suggestions(finding: Finding, identity: str, context: RenderContext) -> list[Card]:
    found: list[Card] = []
    keys: dict[str, int] = {}
    recommended = False
    for suggestion in finding.suggestions:
        rule = suggestion.rule or finding.rule
        actions = _actions(suggestion, rule, context)
        if not actions:
            continue
        keys[suggestion.key] = number = keys.get(suggestion.key, 0) + 1
        seed = f"{identity}\x1fsuggestion\x1f{suggestion.key}" + (f"\x1f{number}" if number > 1 else "")
        card: Card = {
            "label": context.plain.sentence(suggestion.label, rule),
            "uuid": str(uuid5(_NAMESPACE, seed)),
            "actions": actions,
            "extension": {SUGGESTING_RULE: rule},
        }
        if suggestion.recommended and not recommended:
            card["isRecommended"] = recommended = True
        found.append(card)
    return found


_ACTION_ORDER = (Delete, Create, Update)


def _actions(suggestion: Suggestion, rule: str, context: RenderContext) -> list[Card]:
    """Deletes, creates, updates in this order; [] when one is impossible, since all belong together."""
    found: list[Card] = []
    for action in sorted(suggestion.actions, key=lambda action: _ACTION_ORDER.index(type(action))):
        written = _action(action, rule, context)
        if written is None:
            log.warning("suggestion dropped", extra={"rule": rule, "action": type(action).__name__})
            return []
        found.append(written)
    return found


def _action(action: Action, rule: str, context: RenderContext) -> Card | None:
    writer = context.plain
    match action:
        case Create():
            what = Written(proposal_text(action.proposal, writer))
            return {
                "type": "create",
                "description": writer.common("action.create", what=what),
                "resource": draft_order(action.proposal, rule, context.desk),
            }
        case Delete():
            draft = context.drafts.get(action.resource)
            if draft is None:
                return None
            what = Written(_called(action.resource, draft, context))
            return {
                "type": "delete",
                "description": writer.common("action.delete", what=what),
                "resourceId": action.resource,
            }
        case Update():
            draft = context.drafts.get(action.move.resource)
            if draft is None:
                return None
            try:
                resource = moved(draft, action.move, context.desk)
            except CannotMoveError:
                return None
            what = Written(_called(action.move.resource, draft, context))
            return {
                "type": "update",
                "description": writer.common("action.update", what=what, when=action.move.start),
                "resource": resource,
            }


def _called(reference: str, draft: Mapping[str, Any], context: RenderContext) -> str:
    """The order's own words, else our names of what its codes mean, else its type."""
    writer, read = context.plain, context.read
    own = resource_text(draft, writer)
    if own:
        return own
    concepts = {c for drug in read.drugs.all if drug.reference == reference for c in drug.ingredients}
    if not concepts:
        services = [service.concepts for service in read.services.all if service.reference == reference]
        concepts = set().union(*(found for found in services if len(found) == 1))
    names = [writer.concept(concept) for concept in sorted(concepts)]
    return writer.joined(names) or writer.escape(reference.partition("/")[0])
