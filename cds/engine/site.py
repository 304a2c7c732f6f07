"""The site file: what a hospital may decide (contract section 2), refused at start when it is wrong."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from cards.finding import Indicator
from cds.engine.case import Facility
from cds.engine.parameters import Parameter, Parameters
from cds.engine.rule import Hook, Rule


class SiteFileError(Exception):
    """A site file that cannot be used; names file, line and reason."""


@dataclass(frozen=True, slots=True)
class RuleSetting:
    enabled: bool | None = None
    hooks: frozenset[Hook] | None = None
    minimum_indicator: Indicator | None = None


@dataclass(frozen=True)
class SiteFile:
    """A checked site file. `prefetch` overrides templates by key name."""

    parameters: Mapping[str, Parameters] = field(default_factory=dict)
    rules: Mapping[str, RuleSetting] = field(default_factory=dict)
    facility: Facility = field(default_factory=Facility)
    prefetch: Mapping[str, str] = field(default_factory=dict)
    text: str = ""


def _line_of(text: str, table: str, key: str) -> int:
    """Line of `key` in the TOML table `table` (or of the table itself), for messages."""
    current, found = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[([^\]]+)\]", line):
            current = header[1].replace('"', "").replace("'", "").strip()
            if current == table:
                found = number
        elif current == table and re.match(rf"\s*\"?{re.escape(key)}\"?\s*=", line):
            return number
    return found or 1


def load_site_file(path: Path, rules: Mapping[str, Rule]) -> SiteFile:
    """Read and check a site file. Raises SiteFileError with file, line and reason."""
    text = path.read_text(encoding="utf-8")
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SiteFileError(f"{path.name}: {error}") from error

    def fail(table: str, key: str, reason: str) -> SiteFileError:
        return SiteFileError(f"{path.name}:{_line_of(text, table, key)}: {reason}")

    for section in data:
        if section not in ("parameters", "rules", "facility", "prefetch"):
            raise fail(section, section, f"unknown section {section}")
    parameters: dict[str, Parameters] = {}
    for rule_id, changes in data.get("parameters", {}).items():
        table = f"parameters.{rule_id}"
        if rule_id not in rules:
            raise fail(table, rule_id, f"unknown rule {rule_id}")
        own = rules[rule_id].parameters
        items = dict(own.items)
        for name, raw in changes.items():
            if name not in items:
                raise fail(table, name, f"{rule_id} has no parameter {name}")
            try:
                items[name] = _changed(items[name], raw)
            except ValueError as error:
                raise fail(table, name, f"{name}: {error}") from None
        parameters[rule_id] = replace(own, items=items)
    settings: dict[str, RuleSetting] = {}
    for rule_id, raw in data.get("rules", {}).items():
        table = f"rules.{rule_id}"
        if rule_id not in rules:
            raise fail(table, rule_id, f"unknown rule {rule_id}")
        for key in raw:
            if key not in ("enabled", "hooks", "minimum_indicator"):
                raise fail(table, key, f"unknown key {key}")
        try:
            settings[rule_id] = _setting(raw)
        except (ValueError, TypeError) as error:
            raise fail(table, next(iter(raw), rule_id), str(error)) from None
    facility = data.get("facility", {})
    known = {item.name for item in fields(Facility)}
    for key in facility:
        if key not in known:
            raise fail("facility", key, f"unknown key {key}")
    prefetch = data.get("prefetch", {})
    for key, template in prefetch.items():
        if not isinstance(template, str):
            raise fail("prefetch", key, "a template is a string")
    try:
        place = _facility(facility)
    except (TypeError, ValueError) as error:
        raise fail("facility", "facility", str(error)) from None
    return SiteFile(parameters, settings, place, prefetch, text)


def _changed(item: Parameter, raw: Any) -> Parameter:
    """The parameter with the site's value. A `{value, unit}` table must name the parameter's own unit."""
    if isinstance(raw, dict):
        if set(raw) - {"value", "unit"} or "value" not in raw:
            raise ValueError("value and unit are expected")
        if raw.get("unit", item.unit) != item.unit:
            raise ValueError(f"unit {raw['unit']} where {item.unit} is expected")
        raw = raw["value"]
    value: Decimal | str | bool | tuple[str, ...]
    if isinstance(item.value, bool):
        if not isinstance(raw, bool):
            raise ValueError("true or false is expected")
        value = raw
    elif isinstance(item.value, Decimal):
        if isinstance(raw, bool) or not isinstance(raw, int | float):
            raise ValueError("a number is expected")
        value = Decimal(str(raw))
        if not value.is_finite():
            raise ValueError("a finite number is expected")
        if item.low is not None and value < item.low:
            raise ValueError(f"{value} is below {item.low} {item.unit}")
        if item.high is not None and value > item.high:
            raise ValueError(f"{value} is above {item.high} {item.unit}")
    elif isinstance(item.value, tuple):
        if not isinstance(raw, list) or not all(isinstance(word, str) for word in raw):
            raise ValueError("a list of words is expected")
        value = tuple(raw)
    else:
        if not isinstance(raw, str):
            raise ValueError("a word is expected")
        value = raw
    return replace(item, value=value, site_value=True)


def _setting(raw: Mapping[str, Any]) -> RuleSetting:
    enabled = raw.get("enabled")
    if enabled is not None and not isinstance(enabled, bool):
        raise ValueError("enabled must be true or false")
    hooks = raw.get("hooks")
    minimum = raw.get("minimum_indicator")
    return RuleSetting(
        enabled,
        None if hooks is None else frozenset(Hook(hook) for hook in hooks),
        None if minimum is None else Indicator(minimum),
    )


def _facility(raw: Mapping[str, Any]) -> Facility:
    """The centre's settings. Raises ValueError on a value of the wrong kind."""
    place = Facility()
    for key, value in raw.items():
        if isinstance(value, list):
            value = tuple(value)
        expected = type(getattr(place, key))
        if type(value) is not expected:
            raise ValueError(f"{key}: {expected.__name__} is expected")
        place = replace(place, **{key: value})
    return place
