"""`tcell-cds replay`: which cards of a folder of saved requests change with other rules or other numbers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from cds.cli.console import out
from cds.cli.fixtures import load_saved
from cds.cli.offline import at, chart_file, evaluate, services_for, with_chart
from cds.pipeline import Runtime
from cds.settings import load

RECORDS = ".replay"
FINDING = "org.tcell-cds.finding"

Cards = dict[str, dict[str, Any]]  # card by its name
Results = dict[str, Cards]  # by request


@dataclass(frozen=True, slots=True)
class Change:
    """One card that is not what it was. `before` or `after` None: it appeared or vanished."""

    request: str
    card: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None

    def as_json(self) -> dict[str, Any]:
        entry = {"request": self.request, "card": self.card, "before": self.before, "after": self.after}
        return {key: value for key, value in entry.items() if value is not None}


def _name(card: Mapping[str, Any]) -> str:
    finding = card["extension"][FINDING]
    return f"{finding['rule']} {finding.get('resource', '')}".strip()


def _essence(card: Mapping[str, Any]) -> dict[str, Any]:
    """What a change of matters: verdict, words and suggestions; not ids nor the version."""
    finding = card["extension"][FINDING]
    return {
        "indicator": card["indicator"],
        "outcome": finding["outcome"],
        "summary": card["summary"],
        "values": finding.get("values", {}),
        "suggestions": [suggestion["label"] for suggestion in card.get("suggestions", [])],
    }


def _named(cards: Sequence[Mapping[str, Any]]) -> Cards:
    found: Cards = {}
    for card in cards:
        name = _name(card)
        number = sum(key == name or key.startswith(f"{name} #") for key in found)
        found[f"{name} #{number + 1}" if number else name] = _essence(card)
    return found


async def results(runtime: Runtime, paths: Iterable[Path]) -> Results:
    """The cards of every saved request. A refused request has one entry that says so. Raises CallError."""
    configured = load()
    found: Results = {}
    for path in paths:
        saved = load_saved(path)
        cards: Cards = {}
        own = at(runtime, saved.clock, configured)
        chart = chart_file(saved, path)
        for service in services_for(own, saved, ""):
            body: Mapping[str, Any] = saved.body
            if chart is not None:
                body = await with_chart(own, service, body, json.loads(chart.read_bytes()))
            evaluated = await evaluate(own, service, body)
            if evaluated.refusal is not None:
                cards[service] = {"refused": evaluated.refusal.status}
            cards |= _named(evaluated.cards)
        found[path.stem] = cards
    return found


def changes(before: Results, after: Results) -> list[Change]:
    """Every card that differs, appeared or vanished, of the requests that both sides know."""
    found: list[Change] = []
    for request in sorted(before.keys() & after.keys()):
        old, new = before[request], after[request]
        for card in dict.fromkeys([*old, *new]):
            if old.get(card) != new.get(card):
                found.append(Change(request, card, old.get(card), new.get(card)))
    return found


def record(folder: Path, version: str, found: Results) -> None:
    """Keep the results beside the requests, so that a later version can be compared with this one."""
    target = folder / RECORDS / f"{version}.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(found, ensure_ascii=False, indent=1, sort_keys=True), encoding="utf-8")


def recorded(folder: Path, version: str) -> Results | None:
    """The results that a version left here; `version` may be its beginning. None where there are none."""
    files = sorted((folder / RECORDS).glob("*.json"), key=lambda path: path.stat().st_mtime)
    chosen = [path for path in files if path.stem.startswith(version)]
    return None if not chosen else json.loads(chosen[-1].read_bytes())


def versions(folder: Path) -> list[str]:
    return sorted(path.stem for path in (folder / RECORDS).glob("*.json"))


def _side(card: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> Text:
    if card is None:
        return Text("no card", style="dim")
    if "refused" in card:
        return Text(f"refused with {card['refused']}", style="red")
    lines = [f"{card['indicator']} {card['outcome']}: {card['summary']}"]
    if other is not None and "values" in other and other["summary"] == card["summary"]:
        differing = {k: v for k, v in card["values"].items() if other["values"].get(k) != v}
        lines += [f"{key} {value}" for key, value in differing.items()]
    return Text("\n".join(lines))


def print_changes(found: Sequence[Change], requests: int, old: str, new: str) -> None:
    if found:
        table = Table("request", "card", old, new, show_lines=True)
        for change in found:
            table.add_row(
                change.request,
                Text(change.card),
                _side(change.before, change.after),
                _side(change.after, change.before),
            )
        out.print(table)
    out.print(Text(f"{requests} requests, {len(found)} cards changed"))
