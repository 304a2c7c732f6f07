"""Where commands print, and how they end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

T = TypeVar("T")

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

FAILED = 1  # the thing asked for did not succeed
USAGE = 2  # the question itself was wrong


def fail(text: str, code: int = FAILED) -> NoReturn:
    """Say why and end with an exit code."""
    err.print("[bold red]error[/] ", end="")
    err.print(text, markup=False)
    raise typer.Exit(code)


def print_json(value: object) -> None:
    """Machine-readable output: nothing but JSON on standard output."""
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2))


def tracked(items: Sequence[T], doing: str) -> Iterator[T]:
    """The items, with a progress bar on a terminal while they are worked on; none where errors are piped."""
    bar = Progress(*Progress.get_default_columns(), console=err, transient=True, disable=not err.is_terminal)
    with bar:
        yield from bar.track(items, description=doing)


@contextmanager
def busy(doing: str) -> Iterator[Callable[[str], None]]:
    """A spinner on a terminal during work of unknown length; call it to tell what is being done."""
    if not err.is_terminal:
        yield lambda text: None
        return
    with err.status(escape(doing)) as status:
        yield lambda text: status.update(escape(f"{doing}: {text}"))


def read_json(path: Path) -> Any:
    """The JSON of a file; ends the command with a clear text where there is none."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        fail(f"{path}: {error.strerror or 'cannot be read'}", USAGE)
    except ValueError as error:
        fail(f"{path}: not JSON ({error})", USAGE)


@contextmanager
def explained() -> Iterator[None]:
    """Errors that a user can act on (settings, site file, rule data) become one line, not a trace."""
    from cards.sign_off import SignOffError
    from cds.engine.parameters import DataError
    from cds.engine.site import SiteFileError
    from cds.settings import SettingsError
    from fhir_mapping.terminology import SiteMapError

    try:
        yield
    except (SettingsError, SiteFileError, SiteMapError, DataError, SignOffError) as error:
        fail(str(error), USAGE)
