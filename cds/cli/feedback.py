"""`tcell-cds feedback`: what clinicians do with the cards."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime

from rich.table import Table
from sqlalchemy.exc import SQLAlchemyError

from cds.cli.console import err, fail, out
from cds.store import RuleUse, Usage, connect, usage
from cds.store.database import migrate


def waited(url: str, days: int) -> Usage:
    """The report. Ends the command where the store cannot be read; raises SettingsError on a bad URL."""
    try:
        return asyncio.run(_read(url, days))
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        fail(f"TCELL_CDS_DATABASE_URL: the store cannot be read ({type(error).__name__})")


async def _read(url: str, days: int) -> Usage:
    engine = connect(url)
    try:
        await migrate(engine)
        return await usage(engine, datetime.now(UTC), days)
    finally:
        await engine.dispose()


def print_usage(found: Usage) -> None:
    out.print(
        f"{found.since:%Y-%m-%d} to {found.until:%Y-%m-%d}: {found.calls} calls, {found.patients} patients"
    )
    if not found.rules:
        err.print("no card in this time", style="dim")
        return
    table = Table(box=None, pad_edge=False)
    for name in ("rule", "fired", "before", "accepted", "overridden", "override %", "why", "not sent"):
        left = name in ("rule", "why", "not sent")
        table.add_column(name, justify="left" if left else "right", overflow="fold")
    for rule in found.rules:
        table.add_row(*_cells(rule))
    out.print(table)
    if found.unmatched:
        err.print(f"{found.unmatched} answers to cards that the store does not know", style="dim")


def _cells(rule: RuleUse) -> tuple[str, ...]:
    percent = "" if rule.override_percent is None else str(rule.override_percent)
    counts = (str(n) for n in (rule.fired, rule.before, rule.accepted, rule.overridden))
    return (rule.rule, *counts, percent, _words(rule.reasons), _words(rule.withheld))


def _words(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{word} {count}" for word, count in sorted(counts.items(), key=lambda c: -c[1]))
