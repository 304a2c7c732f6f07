"""Reading the package's CSV files; a broken row is a programming error and stops the start."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

DATA = Path(__file__).parent / "data"


class TableError(Exception):
    """A data file of the package is not as expected: file, line, reason."""

    def __init__(self, path: Path, line: int, reason: str) -> None:
        super().__init__(f"{path.name}:{line}: {reason}")
        self.path, self.line, self.reason = path, line, reason


def rows(name: str, columns: tuple[str, ...], folder: Path) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of every row. Raises TableError on another header or row length."""
    path = folder / name
    with path.open(encoding="utf-8", newline="") as stream:
        reader = csv.reader(stream)
        header = next(reader, [])
        if tuple(header) != columns:
            raise TableError(path, 1, f"columns {header}, expected {list(columns)}")
        width = len(columns)
        for cells in reader:
            if len(cells) != width:
                raise TableError(path, reader.line_num, f"{len(cells)} cells, expected {width}")
            yield reader.line_num, cells


def mapping(name: str, columns: tuple[str, str, str], folder: Path) -> Mapping[str, str]:
    """First column -> second column of a three-column file (the third is the source)."""
    result: dict[str, str] = {}
    for line, (key, value, _source) in rows(name, columns, folder):
        if key in result:
            raise TableError(folder / name, line, f"{key} twice")
        result[key] = value
    return result
