"""Logs as JSON lines that cannot hold a patient: constant messages, and extras from a closed list only.

Other libraries may log URLs, bodies or exception texts; of their records only the logger's name, the level
and the exception's type are kept.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, TextIO

import orjson
from structlog.processors import JSONRenderer, TimeStamper
from structlog.stdlib import ExtraAdder, ProcessorFormatter, add_log_level, add_logger_name
from structlog.typing import EventDict, WrappedLogger

_OURS = ("cds", "cards", "fhir_mapping", "uvicorn.error")
_EXTRAS = (
    "request_id",
    "route",
    "service",
    "status",
    "ms",
    "cards",
    "findings",
    "asked",
    "unread",
    "rule",
    "reason",
    "error",
    "at",
    "notes",
    "count",
)
_OF_OTHERS = ("time", "level", "logger", "error")


def _without_arguments(record: logging.LogRecord) -> bool:
    """Keeps the template and drops the arguments, which may come from a request."""
    if not isinstance(record.msg, str):
        record.msg = type(record.msg).__name__
    record.args = None
    return True


def _with_error(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """The exception's type; its text may quote a chart."""
    record: logging.LogRecord = event["_record"]
    if record.exc_info and record.exc_info[0] is not None:
        event["error"] = record.exc_info[0].__name__
    return event


def _allowed(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Only what may be shown: the closed list of ours, who and how bad of everybody else's."""
    ours = str(event.get("logger", "")).startswith(_OURS)
    kept = (*_OF_OTHERS, "event", *_EXTRAS) if ours else _OF_OTHERS
    return {name: event[name] for name in kept if event.get(name) is not None}


def _json(event: Any, **_: Any) -> str:
    return orjson.dumps(event, default=str).decode()


def safe_handler(stream: TextIO) -> logging.Handler:
    """A handler that writes one safe JSON object per record."""
    handler = logging.StreamHandler(stream)
    handler.addFilter(_without_arguments)
    handler.setFormatter(
        ProcessorFormatter(
            foreign_pre_chain=[
                TimeStamper(fmt="iso", utc=True, key="time"),
                add_log_level,
                add_logger_name,
                ExtraAdder(allow=_EXTRAS),
                _with_error,
            ],
            processors=[_allowed, JSONRenderer(serializer=_json)],
        )
    )
    return handler


def configure(level: str = "INFO") -> None:
    """Send every log record of the process to stderr through the safe handler."""
    root = logging.getLogger()
    root.handlers[:] = [safe_handler(sys.stderr)]
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = name != "uvicorn.access"
    for noisy in ("httpx", "httpcore"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
