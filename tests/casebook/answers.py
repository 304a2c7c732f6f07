"""Recorded answers of the grading rules: everything a case's findings hold, kept beside the cases.

A case file says what must be so; the recording holds the rest (every piece of evidence, every line of the
detail), so that a change of any of it is seen in the diff and meant. After a change that is meant:
`python -m tests.casebook.answers`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any

from tests.casebook.case_file import RULES, Written, findings_of, written_cases

RECORDED = "grading/*.yaml"


def plain(value: object) -> Any:
    """Any value of a finding as JSON; what is empty or unset is left out of objects."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, datetime | date):
        return value.isoformat()
    if is_dataclass(value) and not isinstance(value, type):
        held = {f.name: plain(getattr(value, f.name)) for f in fields(value)}
        return {name: one for name, one in held.items() if one not in (None, "", [], {}, False)}
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, frozenset | set):
        return sorted(plain(one) for one in value)
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value


def path_of(written: Written) -> Path:
    return written.path.with_suffix(".answers.json")


def answer_of(written: Written) -> list[Any]:
    return [plain(finding) for finding in findings_of(written)]


def recorded() -> dict[Path, dict[str, list[Any]]]:
    """Answers by file and case name."""
    paths = RULES.glob(RECORDED.replace(".yaml", ".answers.json"))
    return {path: json.loads(path.read_text(encoding="utf-8")) for path in paths}


def _record() -> None:
    found: dict[Path, dict[str, list[Any]]] = {}
    for written in written_cases(RECORDED):
        found.setdefault(path_of(written), {})[written.name] = answer_of(written)
    for path in recorded().keys() - found.keys():
        path.unlink()
    for path, answers in found.items():  # one case a line: a diff names the case
        lines = (f"{json.dumps(n)}: {json.dumps(a, ensure_ascii=False)}" for n, a in answers.items())
        path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    _record()
