"""Rule data: the YAML beside each rule, read once, checked line by line, addressed by name.

A rule's YAML holds its declaration and every number a clinician could dispute:

    id: washout.leukapheresis
    title: {en: ..., zh_TW: ...}
    version: 1
    hooks: [patient-view, order-select, order-sign, appointment-book]
    facts: [M1, M2, K2]                  # rows of fhir_mapping's facts table: what the rule reads
    source: {label: ..., citation: ..., url: ...}      # url only if public
    parameters:
      W5_days: {value: 7, unit: d, min: 1, max: 60, source: ..., origin: seed}
    tables:
      intervals:
        source: ...                      # or one `source` per row
        rows:
          - {row: W5, class: DC6, parameter: W5_days}
    triggers: [class_glucocorticoids]    # order hooks: concepts of a draft that concern the rule; "*" = any
    rides_on: grading.crs                # its patient-view verdict joins that rule's card
    borrows: [dosing.crs-steroid]        # rules whose numbers its texts and orders use too
    helper: true                         # gives no card
    enabled: true
    notes: [{en: ..., zh_TW: ...}]       # known ambiguities, for the catalogue

`origin` is `seed` (the handbook or monograph), `extension` (named literature) or `default` (product
default, configurable). `verified: false` marks a number nobody has checked against its source.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml


class DataError(Exception):
    """A data row that cannot be used; names file, line and reason."""

    def __init__(self, path: Path | str, line: int, reason: str) -> None:
        super().__init__(f"{Path(path).name}:{line}: {reason}")
        self.path, self.line, self.reason = path, line, reason


class LinedDict(dict[str, Any]):
    """A mapping that remembers the line it began on and the line of each key."""

    line: int
    lines: dict[str, int]


class _Loader(yaml.CSafeLoader):
    pass


def _mapping(loader: _Loader, node: yaml.MappingNode) -> LinedDict:
    result = LinedDict()
    result.line = node.start_mark.line + 1
    result.lines = {}
    for key_node, value_node in node.value:
        key = str(loader.construct_object(key_node, deep=True))
        if key in result:
            raise DataError(node.start_mark.name, key_node.start_mark.line + 1, f"key {key!r} twice")
        result[key] = loader.construct_object(value_node, deep=True)
        result.lines[key] = key_node.start_mark.line + 1
    return result


def _decimal(loader: _Loader, node: yaml.ScalarNode) -> Decimal:
    return Decimal(str(loader.construct_scalar(node)).replace("_", ""))


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
_Loader.add_constructor("tag:yaml.org,2002:float", _decimal)


def load_yaml(path: Path) -> LinedDict:
    """One YAML mapping with line numbers; numbers with a point become Decimal.

    Raises DataError with file and line on a broken file.
    """
    try:
        with path.open(encoding="utf-8") as stream:
            data = yaml.load(stream, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise DataError(path, mark.line + 1 if mark else 0, error.problem or "not YAML") from error
    if not isinstance(data, LinedDict):
        raise DataError(path, 1, "a mapping is expected")
    return data


@dataclass(frozen=True, slots=True)
class Parameter:
    """One disputable number (or word list) with its unit and source."""

    name: str
    value: Decimal | str | bool | tuple[str, ...]
    unit: str
    source: str
    origin: str
    verified: bool
    low: Decimal | None
    high: Decimal | None
    site_value: bool = False


@dataclass(frozen=True, slots=True)
class Parameters:
    """The numbers and tables of one rule."""

    rule: str
    items: Mapping[str, Parameter] = field(default_factory=dict)
    tables: Mapping[str, tuple[Mapping[str, Any], ...]] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Decimal:
        """A number. Raises KeyError on an unknown name, TypeError where the value is not a number."""
        value = self.items[name].value
        if isinstance(value, Decimal):
            return value
        raise TypeError(f"{self.rule}: {name} is not a number")

    def int(self, name: str) -> int:
        return int(self[name])

    def words(self, name: str) -> tuple[str, ...]:
        value = self.items[name].value
        if isinstance(value, tuple):
            return value
        raise TypeError(f"{self.rule}: {name} is not a list of words")

    def flag(self, name: str) -> bool:
        value = self.items[name].value
        if isinstance(value, bool):
            return value
        raise TypeError(f"{self.rule}: {name} is not true or false")

    def table(self, name: str) -> tuple[Mapping[str, Any], ...]:
        return self.tables[name]

    def row(self, table: str, **match: object) -> Mapping[str, Any]:
        """The one row whose cells equal `match`. Raises KeyError where none does."""
        for row in self.tables[table]:
            if all(row.get(key) == value for key, value in match.items()):
                return row
        raise KeyError(f"{self.rule}: no row {match} in {table}")

    @property
    def site_values(self) -> frozenset[str]:
        return frozenset(name for name, item in self.items.items() if item.site_value)

    def __iter__(self) -> Iterator[Parameter]:
        return iter(self.items.values())


ORIGINS = ("seed", "extension", "default")


def _parameter(path: Path, name: str, raw: object, line: int) -> Parameter:
    if not isinstance(raw, LinedDict):
        raise DataError(path, line, f"parameter {name}: a mapping with value, unit, source is expected")
    unknown = set(raw) - {"value", "unit", "source", "origin", "verified", "min", "max", "note"}
    if unknown:
        raise DataError(path, raw.line, f"parameter {name}: unknown key {sorted(unknown)[0]}")
    for key in ("value", "source", "origin"):
        if key not in raw or raw[key] in (None, ""):
            raise DataError(path, raw.line, f"parameter {name}: {key} is missing")
    if raw["origin"] not in ORIGINS:
        raise DataError(path, raw.line, f"parameter {name}: origin must be one of {', '.join(ORIGINS)}")
    value = raw["value"]
    if isinstance(value, list):
        value = tuple(str(word) for word in value)
    elif isinstance(value, int) and not isinstance(value, bool):
        value = Decimal(value)
    elif not isinstance(value, Decimal | bool | str):
        raise DataError(path, raw.line, f"parameter {name}: value must be a number, words or true/false")
    low, high = (None if raw.get(k) is None else Decimal(str(raw[k])) for k in ("min", "max"))
    if isinstance(value, Decimal):
        if "unit" not in raw:
            raise DataError(path, raw.line, f"parameter {name}: unit is missing (1 for a bare count)")
        if (low is not None and value < low) or (high is not None and value > high):
            raise DataError(path, raw.line, f"parameter {name}: {value} is outside {low}..{high}")
    return Parameter(
        name,
        value,
        str(raw.get("unit", "")),
        str(raw["source"]),
        str(raw["origin"]),
        bool(raw.get("verified", True)),
        low,
        high,
    )


def _table(path: Path, name: str, raw: object, line: int) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(raw, LinedDict) or not isinstance(raw.get("rows"), list):
        raise DataError(path, line, f"table {name}: a mapping with rows is expected")
    common = raw.get("source")
    for row in raw["rows"]:
        if not isinstance(row, LinedDict):
            raise DataError(path, raw.line, f"table {name}: every row is a mapping")
        if not (row.get("source") or common):
            raise DataError(path, row.line, f"table {name}: row without a source")
        row.setdefault("source", common)
    return tuple(raw["rows"])


def parameters_from(path: Path, rule: str, data: LinedDict) -> Parameters:
    """The `parameters` and `tables` of a rule's or shared YAML. Raises DataError on a broken row."""
    raw_items = data.get("parameters") or LinedDict()
    raw_tables = data.get("tables") or LinedDict()
    for section, raw in (("parameters", raw_items), ("tables", raw_tables)):
        if not isinstance(raw, dict):
            raise DataError(path, data.lines[section], f"{section} must be a mapping")
    items = {n: _parameter(path, n, raw, raw_items.lines[n]) for n, raw in raw_items.items()}
    tables = {n: _table(path, n, raw, raw_tables.lines[n]) for n, raw in raw_tables.items()}
    return Parameters(rule, items, tables)
