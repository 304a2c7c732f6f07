"""Logs as JSON lines that cannot hold a patient: constant messages, and extras from a closed list only.

Other libraries may log URLs, bodies or exception texts; of their records only the logger's name, the level
and the exception's type are kept.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Any

import orjson

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


class SafeFormatter(logging.Formatter):
    """One JSON object per record."""

    def format(self, record: logging.LogRecord) -> str:
        shown: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        if record.name.startswith(_OURS):
            # the template, never the filled message: arguments may come from a request
            shown["event"] = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
            for name in _EXTRAS:
                if (value := getattr(record, name, None)) is not None:
                    shown[name] = value
        if record.exc_info and record.exc_info[0] is not None:
            shown["error"] = record.exc_info[0].__name__
        return orjson.dumps(shown, default=str).decode()


def configure(level: str = "INFO") -> None:
    """Send every log record of the process to stderr through the safe formatter."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(SafeFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = name != "uvicorn.access"
    for noisy in ("httpx", "httpcore"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
