"""How every command behaves: help that teaches, JSON alone on standard output, exit codes, progress aside."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console

from cds.cli import app, console

Run = Callable[..., Any]
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_teaches_and_speaks_json(name: str, run: Run) -> None:
    command = COMMANDS[name]
    assert command.help
    assert "tcell-cds" in (command.epilog or ""), "an example"
    assert all(p.help for p in command.params if p.name != "help"), "every option is explained"
    options = {option for p in command.params for option in p.opts}
    assert ("--json" in options) is (name != "serve")
    assert run(name, "--help").code == 0


def test_the_exit_codes_are_in_the_help(run: Run) -> None:
    shown = " ".join(run("--help").out.split())
    assert "Exit codes: 0 done; 1 the thing asked for failed" in shown


def test_a_wrong_question_ends_with_2_and_leaves_standard_output_empty(run: Run, tmp_path: Path) -> None:
    for command in (
        ("evaluate", tmp_path / "none.json", "--json"),
        ("codes", tmp_path / "none.json", "--json"),
        ("check", "ftp://example", "--json"),
        ("load", "--fhir-server", "http://127.0.0.1:1", "no-such-patient", "--json"),
    ):
        ended = run(*command)
        assert ended.code == 2, command
        assert ended.out == ""


def test_a_scrubbed_copy_is_told_as_json(run: Run, tmp_path: Path, fixtures: Path) -> None:
    target = tmp_path / "copy.json"
    request = fixtures / "requests" / "demo-washout-bendamustine-1.json"
    ended = run("evaluate", request, "--scrub", "--output", target, "--json")
    assert ended.code == 0
    assert ended.json == {"written": str(target), "sameVerdicts": True}


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_shown_on_a_terminal_only_and_never_on_standard_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], terminal: bool
) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(console, "err", Console(file=screen, force_terminal=terminal, width=80))
    assert list(console.tracked([1, 2, 3], "answering")) == [1, 2, 3]
    with console.busy("checking") as tell:
        tell("discovery [1]")
    assert ("answering" in screen.getvalue()) is terminal
    assert capsys.readouterr().out == ""
