"""`tcell-cds rules`: the catalogue, derived from the declarations."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from rich.table import Table
from rich.text import Text

from cds.cli.console import USAGE, fail, out, print_json
from cds.engine.needs import needs
from cds.engine.parameters import Parameter
from cds.engine.rule import Rule
from cds.engine.rulebook import Rulebook


def _value(parameter: Parameter) -> object:
    value = parameter.value
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return list(value) if isinstance(value, tuple) else value


def described(rule: Rule, book: Rulebook) -> dict[str, Any]:
    """One rule as plain JSON; `concepts` are those that it reads."""
    source = {"label": rule.source.label, "citation": rule.source.citation, "url": rule.source.url}
    entry: dict[str, Any] = {
        "id": rule.id,
        "title": {"en": rule.title["en"], "zh-TW": rule.title["zh_TW"]},
        "version": rule.version,
        "hooks": sorted(hook.value for hook in rule.hooks),
        "enabled": rule.enabled,
        "helper": rule.helper,
        "source": {key: value for key, value in source.items() if value},
        "facts": list(rule.facts),
        "concepts": sorted(needs(rule.facts, book.terminology).concepts),
        "triggers": sorted(rule.triggers),
        "parameters": [
            {
                "name": parameter.name,
                "value": _value(parameter),
                "unit": parameter.unit,
                "source": parameter.source,
                "origin": parameter.origin,
                "verified": parameter.verified,
                "siteValue": parameter.site_value,
            }
            for parameter in rule.parameters
        ],
        "notes": [{"en": note["en"], "zh-TW": note["zh_TW"]} for note in rule.notes],
    }
    if rule.rides_on:
        entry["ridesOn"] = rule.rides_on
    return entry


def chosen(book: Rulebook, wanted: Iterable[str]) -> list[Rule]:
    """Rules named by id or by domain; all without a name. Ends the command on an unknown name."""
    rules = list(book.rules.values())
    names = list(wanted)
    if not names:
        return rules
    found = [rule for rule in rules if rule.id in names or rule.domain in names]
    known = {rule.id for rule in rules} | {rule.domain for rule in rules}
    if unknown := sorted(set(names) - known):
        fail(f"no rule or domain {unknown[0]}; `tcell-cds rules` lists them", USAGE)
    return found


def print_catalogue(book: Rulebook, rules: list[Rule], language: str) -> None:
    table = Table(title=f"{len(rules)} rules, ruleset {book.version}", title_justify="left", show_lines=True)
    for heading in ("rule", "hooks", "source", "needs"):
        table.add_column(heading, overflow="fold")
    for rule in rules:
        name = Text(rule.id, style="bold" if rule.enabled else "dim")
        name.append(f" v{rule.version}\n", style="dim").append(rule.title[language])
        for flag, shown in ((not rule.enabled, "disabled"), (rule.helper, "helper: no card")):
            if flag:
                name.append(f"\n({shown})", style="yellow")
        if rule.rides_on:
            name.append(f"\n(on patient-view on the card of {rule.rides_on})", style="dim")
        concepts = sorted(needs(rule.facts, book.terminology).concepts)
        shown_concepts = ", ".join(concepts[:12])
        if len(concepts) > 12:
            shown_concepts += f" and {len(concepts) - 12} more"
        table.add_row(
            name, "\n".join(sorted(hook.value for hook in rule.hooks)), rule.source.citation, shown_concepts
        )
    out.print(table)


def print_rule(book: Rulebook, rule: Rule, language: str) -> None:
    """One rule in full: what it reads and every number with its source."""
    entry = described(rule, book)
    out.print(Text(f"{rule.id}  v{rule.version}", style="bold"))
    out.print(Text(rule.title[language]))
    out.print(Text(f"hooks     {', '.join(entry['hooks'])}"))
    out.print(Text(f"source    {rule.source.citation} {rule.source.url}".rstrip()))
    out.print(Text(f"reads     {', '.join(entry['concepts'])}"))
    if entry["triggers"]:
        out.print(Text(f"triggers  {', '.join(entry['triggers'])}"))
    if entry["parameters"]:
        table = Table(title="parameters", title_justify="left")
        for heading in ("name", "value", "unit", "origin", "source"):
            table.add_column(heading, overflow="fold")
        for item in entry["parameters"]:
            origin = item["origin"] + ("" if item["verified"] else ", unverified")
            value = f"{item['value']}" + (" (site value)" if item["siteValue"] else "")
            table.add_row(*map(Text, (item["name"], value, item["unit"], origin, item["source"])))
        out.print(table)
    for note in rule.notes:
        out.print(Text(f"note      {note[language]}"))


def run(book: Rulebook, wanted: list[str], language: str, as_json: bool) -> None:
    rules = chosen(book, wanted)
    if as_json:
        print_json([described(rule, book) for rule in rules])
    elif len(rules) == 1 and wanted:
        print_rule(book, rules[0], language)
    else:
        print_catalogue(book, rules, language)
