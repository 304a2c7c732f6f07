"""Who reviewed which rule: a TOML file kept by the hospital, shown on every card.

    [rules."washout.leukapheresis"]
    version = 1                       # the rule's version that was read
    reviewed_by = "Dr. A. Chen, haematology"
    reviewed_on = 2026-03-01

A rule without an entry is a draft; an entry for another version says that the rule changed since.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path


class SignOffError(Exception):
    """A sign-off file that cannot be used; names file, rule and reason."""


@dataclass(frozen=True, slots=True)
class SignOff:
    version: int
    reviewed_by: str
    reviewed_on: date


def load_sign_offs(path: Path, rules: Collection[str]) -> Mapping[str, SignOff]:
    """The sign-offs by rule id. Raises SignOffError on a broken file, an unknown rule or key."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SignOffError(f"{path.name}: {error}") from error
    if set(data) - {"rules"} or not isinstance(data.get("rules", {}), dict):
        raise SignOffError(f'{path.name}: only tables [rules."<rule id>"] are expected')
    found: dict[str, SignOff] = {}
    for rule, raw in data.get("rules", {}).items():
        if rule not in rules:
            raise SignOffError(f"{path.name}: unknown rule {rule}")
        if not isinstance(raw, dict) or set(raw) != {"version", "reviewed_by", "reviewed_on"}:
            raise SignOffError(f"{path.name}: {rule}: version, reviewed_by and reviewed_on are expected")
        version, who, when = raw["version"], raw["reviewed_by"], raw["reviewed_on"]
        if not isinstance(version, int) or isinstance(version, bool):
            raise SignOffError(f"{path.name}: {rule}: version is a whole number")
        if not isinstance(who, str) or not who.strip():
            raise SignOffError(f"{path.name}: {rule}: reviewed_by names a person")
        if not isinstance(when, date) or isinstance(when, datetime):
            raise SignOffError(f"{path.name}: {rule}: reviewed_on is a date")
        found[rule] = SignOff(version, who.strip(), when)
    return found
