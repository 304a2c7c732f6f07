"""One line of a table of facts: what is on the chart, and what is read from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fhir_mapping.chart import Chart
from tests.fhir_mapping.read.charts import Resource, chart


@dataclass(frozen=True)
class Row:
    """`fact`: row id of the chart-facts table. `read` answers from the chart; the answer is `expected`."""

    fact: str
    what: str
    resources: tuple[Resource, ...]
    read: Callable[[Chart], Any]
    expected: Any
    hook: dict[str, Any] | None = None

    @property
    def id(self) -> str:
        return f"{self.fact} {self.what}"

    def answer(self) -> Any:
        return self.read(chart(*self.resources, **(self.hook or {})))


def row(
    fact: str, what: str, *resources: Resource, read: Callable[[Chart], Any], expect: Any, **hook: Any
) -> Row:
    return Row(fact, what, resources, read, expect, hook or None)
