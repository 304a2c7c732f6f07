"""Tables that several rules share (drug classes, CTCAE cut-offs): YAML under cds/rules/tables."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from cds.engine.parameters import Parameters, load_yaml, parameters_from

_FOLDER = Path(__file__).parent.parent / "rules" / "tables"


@cache
def shared_table(name: str) -> Parameters:
    """The parameters and tables of cds/rules/tables/<name>.yaml. Raises DataError on a broken row."""
    path = _FOLDER / f"{name}.yaml"
    return parameters_from(path, f"tables/{name}", load_yaml(path))
