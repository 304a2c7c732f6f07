"""A log line holds nothing that came from a request."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from io import StringIO

import pytest

from cds.logs import configure, safe_handler


def shown(record: logging.LogRecord) -> dict[str, object]:
    stream = StringIO()
    safe_handler(stream).handle(record)
    parsed: dict[str, object] = json.loads(stream.getvalue())
    return parsed


def record(name: str, message: object, *args: object, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord(name, logging.INFO, "x.py", 1, message, args, None)
    vars(made).update(extra)
    return made


def test_our_records_keep_their_template_and_known_extras() -> None:
    line = shown(record("cds.app", "hook answered", service="grading-patient-view", ms=12, patient="p1"))
    assert line["event"] == "hook answered"
    assert (line["service"], line["ms"]) == ("grading-patient-view", 12)
    assert "patient" not in line


def test_arguments_are_never_filled_in() -> None:
    assert "Lee" not in json.dumps(shown(record("cds.x", "patient %s", "Lee")))
    assert shown(record("cds.x", ValueError("Lee")))["event"] == "ValueError"


def test_arguments_that_do_not_fit_are_no_leak(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(record("cds.x", "%d patients", "Lee"))["event"] == "%d patients"
    assert "Lee" not in capsys.readouterr().err


def test_records_of_libraries_keep_only_who_and_how_bad() -> None:
    line = shown(record("httpx", "GET https://fhir/Patient/p1"))
    assert set(line) == {"time", "level", "logger"}


def test_exceptions_keep_their_type() -> None:
    try:
        raise ValueError("Lee, 1968")
    except ValueError:
        made = logging.LogRecord("asyncio", logging.ERROR, "x", 1, "x", (), sys.exc_info())
    line = shown(made)
    assert line["error"] == "ValueError"
    assert "Lee" not in json.dumps(line)


@pytest.fixture
def _logging_restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("_logging_restored")
def test_configure_sends_everything_through_the_formatter(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    logging.getLogger("anything").warning("Patient %s", "Lee")
    lines = capsys.readouterr().err.splitlines()
    assert [json.loads(line)["logger"] for line in lines] == ["anything"]
    assert "Lee" not in "".join(lines)
