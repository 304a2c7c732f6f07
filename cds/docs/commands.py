"""The command reference, from what `--help` says."""

from __future__ import annotations

from typing import Any

import typer

from cds.cli import app
from cds.docs.markdown import NOTICE, table


def _option(parameter: Any) -> tuple[str, str, str]:
    """Spelling, default and help of an option or argument."""
    if parameter.param_type_name == "argument":
        return f"`{parameter.metavar or parameter.name.upper()}`", "", parameter.help or ""
    names = [*parameter.opts, *parameter.secondary_opts]
    value = parameter.default() if callable(parameter.default) else parameter.default
    shown = "" if parameter.is_flag or value in (None, "", ()) else str(value)
    return ", ".join(f"`{name}`" for name in names), shown, parameter.help or ""


def commands_page() -> str:
    """Every command with its arguments, options and examples."""
    group: Any = typer.main.get_command(app)
    parts = ["# Commands", NOTICE, str(group.help), str(group.epilog)]
    for name, command in group.commands.items():
        rows = [_option(parameter) for parameter in command.params if parameter.name != "help"]
        parts += [f"## {name}", str(command.help), "\n".join(table(("option", "default", "meaning"), rows))]
        if command.epilog:
            parts.append(command.epilog)
    return "\n\n".join(part.strip() for part in parts) + "\n"
