from __future__ import annotations

import ast
from pathlib import Path

import fhir_mapping.terminology as terminology
import fhir_mapping.units as units


def test_exported_names_are_the_documented_ones() -> None:
    assert set(terminology.__all__) == {
        "Code",
        "Concept",
        "Fact",
        "Result",
        "Severity",
        "SiteMapError",
        "TableError",
        "Terminology",
        "YesNo",
        "load",
    }
    assert all(hasattr(terminology, name) for name in terminology.__all__)


def test_packages_import_nothing_of_ours() -> None:
    for package in (terminology, units):
        for path in Path(package.__file__ or "").parent.glob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                names += [a.name for a in node.names] if isinstance(node, ast.Import) else []
                for name in names:
                    foreign = name.split(".")[0] in ("cds", "cards", "fhir_mapping")
                    assert not foreign or name.startswith(package.__name__), (path.name, name)
