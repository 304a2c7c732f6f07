"""The environment reference, from the settings class."""

from __future__ import annotations

from enum import Enum
from typing import Any

from pydantic import SecretStr

from cds.docs.markdown import NOTICE, table
from cds.settings import PREFIX, Settings


def _default(value: Any) -> str:
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, bool):
        value = str(value).lower()
    if isinstance(value, tuple):
        value = ",".join(map(str, value))
    return "" if value is None or value == {} else str(value)


def settings_page() -> str:
    """Every setting with its default and the sentence that its declaration carries."""
    rows = [
        (
            f"`{PREFIX}{name.upper()}`",
            _default(field.get_default(call_default_factory=True)),
            field.description,
        )
        for name, field in Settings.model_fields.items()
    ]
    intro = (
        "Environment variables, a `.env` file, or a TOML file (keys without prefix, in lower case) that "
        f"`{PREFIX}CONFIG` names; in this order of precedence. An empty default means unset."
    )
    lines = ["# Settings", NOTICE, intro, "\n".join(table(("variable", "default", "meaning"), rows))]
    return "\n\n".join(lines) + "\n"
