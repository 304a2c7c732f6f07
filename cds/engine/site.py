"""The site file: what a hospital may decide (contract section 2), refused at start when it is wrong."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
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
    name: str = ""

    def fault(self, where: Sequence[str], reason: str) -> SiteFileError:
        """The refusal of the entry at the path `where`, with its file and line."""
        return SiteFileError(f"{self.name}:{_line_of(self.text, where)}: {reason}")


def _line_of(text: str, where: Sequence[str]) -> int:
    """First line of the statement that writes the key path `where`, however the file spells it.

    TOML nests by header, dotted key or inline table; so the file's beginning is read, line by line longer,
    until the path is in it.
    """
    lines = text.splitlines()
    statement = 1
    for number in range(1, len(lines) + 1):
        try:
            known: Any = tomllib.loads("\n".join(lines[:number]))
        except tomllib.TOMLDecodeError:  # the statement goes on
            continue
        for key in where:
            known = known.get(key) if isinstance(known, dict) else None
        if known is not None:
            return statement
        statement = number + 1
    return 1


def load_site_file(path: Path, rules: Mapping[str, Rule]) -> SiteFile:
    """Read and check a site file. Raises SiteFileError with file, line and reason."""
    try:
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except OSError as error:
        raise SiteFileError(f"{path.name}: cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SiteFileError(f"{path.name}: {error}") from error
    site = SiteFile(text=text, name=path.name)
    for section, content in data.items():
        if section not in ("parameters", "rules", "facility", "prefetch"):
            raise site.fault([section], f"unknown section {section}")
        _table(site, [section], content)
    return replace(
        site,
        parameters=_parameters(site, data.get("parameters", {}), rules),
        rules=_settings(site, data.get("rules", {}), rules),
        facility=_facility(site, data.get("facility", {})),
        prefetch=_templates(site, data.get("prefetch", {})),
    )


def _table(site: SiteFile, where: Sequence[str], content: object) -> Mapping[str, Any]:
    if not isinstance(content, dict):
        raise site.fault(where, f"{where[-1]}: a table is expected")
    return content


def _parameters(site: SiteFile, raw: Mapping[str, Any], rules: Mapping[str, Rule]) -> dict[str, Parameters]:
    parameters: dict[str, Parameters] = {}
    for rule_id, changes in raw.items():
        where = ["parameters", rule_id]
        if rule_id not in rules:
            raise site.fault(where, f"unknown rule {rule_id}")
        own = rules[rule_id].parameters
        items = dict(own.items)
        for name, value in _table(site, where, changes).items():
            if name not in items:
                raise site.fault([*where, name], f"{rule_id} has no parameter {name}")
            try:
                items[name] = _changed(items[name], value)
            except ValueError as error:
                raise site.fault([*where, name], f"{name}: {error}") from None
        parameters[rule_id] = replace(own, items=items)
    return parameters


def _settings(site: SiteFile, raw: Mapping[str, Any], rules: Mapping[str, Rule]) -> dict[str, RuleSetting]:
    settings: dict[str, RuleSetting] = {}
    for rule_id, content in raw.items():
        where = ["rules", rule_id]
        if rule_id not in rules:
            raise site.fault(where, f"unknown rule {rule_id}")
        setting = RuleSetting()
        for key, value in _table(site, where, content).items():
            if key not in _SETTINGS:
                raise site.fault([*where, key], f"unknown key {key}")
            try:
                setting = replace(setting, **{key: _SETTINGS[key](value)})
            except ValueError as error:
                raise site.fault([*where, key], f"{key}: {error}") from None
        settings[rule_id] = setting
    return settings


def _templates(site: SiteFile, raw: Mapping[str, Any]) -> Mapping[str, str]:
    """Templates by key; whether a client could fill them is the plan's to say."""
    for key, template in raw.items():
        if not isinstance(template, str):
            raise site.fault(["prefetch", key], "a template is a string")
    return raw


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


def _enabled(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false is expected")
    return value


def _hooks(value: object) -> frozenset[Hook]:
    known = [hook.value for hook in Hook]
    if not isinstance(value, list) or any(hook not in known for hook in value):
        raise ValueError(f"a list of {', '.join(known)} is expected")
    return frozenset(Hook(hook) for hook in value)


def _indicator(value: object) -> Indicator:
    known = [indicator.value for indicator in Indicator]
    if value not in known:
        raise ValueError(f"one of {', '.join(known)} is expected")
    return Indicator(value)


_SETTINGS: Mapping[str, Callable[[object], Any]] = {
    "enabled": _enabled,
    "hooks": _hooks,
    "minimum_indicator": _indicator,
}


def _facility(site: SiteFile, raw: Mapping[str, Any]) -> Facility:
    place = Facility()
    for key, value in raw.items():
        if key not in {item.name for item in fields(Facility)}:
            raise site.fault(["facility", key], f"unknown key {key}")
        expected = _expected(key, value, getattr(place, key))
        if expected:
            raise site.fault(["facility", key], f"{key}: {expected} is expected")
        changed: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value}
        place = replace(place, **changed)
    return place


def _expected(key: str, value: object, default: object) -> str:
    """What the value should have been; "" where it is that."""
    if isinstance(default, bool):
        return "" if isinstance(value, bool) else "true or false"
    if key == "influenza_season":
        months = isinstance(value, list) and [type(month) is int and 1 <= month <= 12 for month in value]
        return "" if months == [True, True] else "[first month, last month], 1 to 12,"
    words = isinstance(value, list) and all(isinstance(word, str) for word in value)
    return "" if words else "a list of words"
