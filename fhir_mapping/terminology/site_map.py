"""A hospital's own codes (`TCELL_CDS_SITE_MAP`), added to the tables without touching the code.

CSV with the header `concept_id,system,code` or `concept_id,system,code,display`; a row whose concept is
`system-alias` declares another spelling of a code system: `system-alias,<spelling>,<canonical URI>`.
TOML says the same:

    [systems]
    "https://hospital.example/loinc" = "http://loinc.org"

    [[codes]]
    concept = "ferritin"
    system = "https://hospital.example/lab"
    code = "FER01"
    display = "Ferritin"      # optional
"""

from __future__ import annotations

import csv
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SYSTEM_ALIAS = "system-alias"
_CODE_KEYS = {"concept", "system", "code", "display"}


class SiteMapError(Exception):
    """The site map cannot be used: file, line (1-based) and reason."""

    def __init__(self, path: Path, line: int, reason: str) -> None:
        super().__init__(f"{path.name}, line {line}: {reason}")
        self.path, self.line, self.reason = path, line, reason


@dataclass(frozen=True, slots=True)
class SiteRow:
    """One added code, or (concept `system-alias`) one added spelling of a code system."""

    line: int
    concept: str
    system: str
    code: str
    display: str = ""


def read_site_map(path: Path) -> tuple[SiteRow, ...]:
    """Rows of a site map, system aliases first. Raises SiteMapError on anything unreadable or empty."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise SiteMapError(path, 1, f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise SiteMapError(path, 1, f"is not UTF-8 (byte {error.start})") from None
    found = list(_toml(path, text) if path.suffix.lower() == ".toml" else _csv(path, text))
    for row in found:
        for name, value in (("concept", row.concept), ("system", row.system), ("code", row.code)):
            if not value:
                raise SiteMapError(path, row.line, f"{name} is empty")
    return tuple(sorted(found, key=lambda row: row.concept != SYSTEM_ALIAS))


def _csv(path: Path, text: str) -> Iterator[SiteRow]:
    reader = csv.reader(text.splitlines(keepends=True))
    try:
        header = [cell.strip() for cell in next(reader, [])]
        if header not in (["concept_id", "system", "code"], ["concept_id", "system", "code", "display"]):
            raise SiteMapError(path, 1, "header is not concept_id,system,code[,display]")
        for cells in reader:
            values = [cell.strip() for cell in cells]
            if not any(values) or values[0].startswith("#"):
                continue
            if not 3 <= len(values) <= len(header):
                raise SiteMapError(path, reader.line_num, f"{len(values)} cells, expected {len(header)}")
            yield SiteRow(reader.line_num, *values)
    except csv.Error as error:
        raise SiteMapError(path, reader.line_num, str(error)) from None


def _toml(path: Path, text: str) -> Iterator[SiteRow]:
    try:
        content: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        stated = re.search(r"at line (\d+)", str(error))
        where = int(stated[1]) if stated else text.count("\n") + 1
        raise SiteMapError(path, where, f"not TOML: {error}") from None
    lines = text.splitlines()
    headers = [n for n, line in enumerate(lines, 1) if re.match(r"\s*\[\[\s*codes\s*\]\]", line)]

    def line_with(value: object) -> int:
        return next((n for n, line in enumerate(lines, 1) if str(value) in line), 1)

    if unknown := sorted(set(content) - {"systems", "codes"}):
        raise SiteMapError(path, line_with(unknown[0]), f"unknown key {unknown[0]}")
    systems, codes = content.get("systems", {}), content.get("codes", [])
    if not isinstance(systems, dict):
        raise SiteMapError(path, line_with("systems"), "systems is not a table")
    if not isinstance(codes, list):
        raise SiteMapError(path, line_with("codes"), "codes is not a list of tables")
    for alias, target in systems.items():
        if not isinstance(target, str):
            raise SiteMapError(path, line_with(alias), f"target of {alias} is not a text")
        yield SiteRow(line_with(alias), SYSTEM_ALIAS, alias.strip(), target.strip())
    for number, entry in enumerate(codes):
        if not isinstance(entry, dict):
            raise SiteMapError(path, line_with("codes"), f"code {number + 1} is not a table")
        line = headers[number] if len(headers) == len(codes) else line_with(entry.get("code", "codes"))
        if unknown := sorted(set(entry) - _CODE_KEYS):
            raise SiteMapError(path, line, f"unknown key {unknown[0]}")
        for key, value in entry.items():
            if not isinstance(value, str):
                raise SiteMapError(path, line, f"{key} is not a text (write it in quotes)")
        cells = (str(entry.get(key, "")).strip() for key in ("concept", "system", "code", "display"))
        yield SiteRow(line, *cells)
