"""Cards on a terminal, as a clinician would see them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.markdown import Markdown
from rich.padding import Padding
from rich.panel import Panel
from rich.text import Text

from cds.cli.console import out

Json = Mapping[str, Any]

COLOURS = {"critical": "red", "warning": "yellow", "info": "blue"}
_ENTITIES = (("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&"))
_BIDI = re.compile("[\u202a-\u202e\u2066-\u2069]")


def _safe(value: object) -> Text:
    """Text from outside: no markup, no terminal control."""
    shown = "".join(c if c.isprintable() else " " for c in str(value))
    return Text(_BIDI.sub("", shown))


def _order(resource: Json) -> str:
    """What a suggested resource orders, in one line."""
    for dosage in resource.get("dosageInstruction") or ():
        if isinstance(dosage, Mapping) and dosage.get("text"):
            return str(dosage["text"])
    return str(resource.get("occurrenceDateTime") or resource.get("start") or "")


def _suggestion(suggestion: Json) -> Group:
    label = Text("▸ ", style="bold")
    label.append_text(_safe(suggestion.get("label", "")))
    if suggestion.get("isRecommended"):
        label.append("  ★", style="bold green")
    lines: list[RenderableType] = [label]
    for action in suggestion.get("actions") or ():
        line = _safe(action.get("description", ""))
        detail = _order(action.get("resource") or {})
        if detail:
            line.append_text(Text(" — ")).append_text(_safe(detail))
        lines.append(
            Padding(Text(f"{action.get('type', '?')}: ", style="dim").append_text(line), (0, 0, 0, 4))
        )
    return Group(*lines)


def _footer(card: Json) -> Text:
    source = card.get("source") or {}
    topic = source.get("topic") or {}
    finding = (card.get("extension") or {}).get("org.tcell-cds.finding") or {}
    parts = [topic.get("code", ""), finding.get("outcome", ""), source.get("label", "")]
    return Text(" · ".join(str(part) for part in parts if part), style="dim")


def card_panel(card: Json) -> Panel:
    """One card as a framed panel, coloured by its indicator."""
    indicator = str(card.get("indicator", ""))
    detail = str(card.get("detail", ""))
    for entity, character in _ENTITIES:
        detail = detail.replace(entity, f"\\{character}" if character == "<" else character)
    body: list[RenderableType] = [Text("", style="bold").append_text(_safe(card.get("summary", "")))]
    body += [Padding(Markdown(detail, hyperlinks=False), (1, 0, 0, 0))] if detail else []
    body += [Padding(_suggestion(s), (1, 0, 0, 0)) for s in card.get("suggestions") or ()]
    body += [_safe(f"{link.get('label')}: {link.get('url')}") for link in card.get("links") or ()]
    body.append(_footer(card))
    colour = COLOURS.get(indicator, "magenta")
    title = Text(indicator.upper(), style=f"bold {colour}")
    return Panel(Group(*body), title=title, title_align="left", border_style=colour)


def print_cards(cards: Sequence[Json], heading: str = "") -> None:
    """All cards of an answer; says so when there is none."""
    if heading:
        out.rule(_safe(heading), align="left", style="dim")
    if not cards:
        out.print("no cards: nothing to say for this patient and hook", style="dim")
    for card in cards:
        out.print(card_panel(card))


def outcome_text(body: object) -> str:
    """The text of an OperationOutcome, for an error line."""
    issues = body.get("issue") if isinstance(body, Mapping) else None
    texts: list[str] = []
    for issue in issues if isinstance(issues, list) else ():
        if isinstance(issue, Mapping):
            details = issue.get("details")
            shown = [details.get("text") if isinstance(details, Mapping) else None, issue.get("diagnostics")]
            texts.append(": ".join(str(text) for text in shown if text))
    return "; ".join(text for text in texts if text)
