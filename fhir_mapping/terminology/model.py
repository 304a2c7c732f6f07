"""What the tables hold: concepts, codes, chart facts and the closed answer vocabularies."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Code(NamedTuple):
    """A coding: canonical system URI and code as published."""

    system: str
    code: str


@dataclass(frozen=True, slots=True)
class Concept:
    """One clinical idea of the project.

    `preferred_unit` is the canonical UCUM unit that rules compare in ("" where the concept has none).
    `allowed` are answers: concept ids, ranges such as `0-5`, or `kind:drug` (any concept of that kind).
    """

    id: str
    kind: str
    display_en: str
    display_zh_tw: str
    preferred_unit: str
    value_type: str
    allowed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fact:
    """A row of the chart-facts table: which concepts and FHIR resource types carry the fact."""

    id: str
    title_en: str
    title_zh_tw: str
    concepts: tuple[str, ...]
    resource_types: tuple[str, ...]
    note: str


class Result(StrEnum):
    """Qualitative result (chart-facts 2.1)."""

    POSITIVE = "positive"
    NEGATIVE = "negative"
    INDETERMINATE = "indeterminate"


class YesNo(StrEnum):
    """Yes/no answer (chart-facts 2.2); UNKNOWN was stated, it is not the absence of an answer."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Severity:
    """Grade 0-5 (chart-facts 2.3); `derived` when it comes from mild / moderate / severe."""

    grade: int
    derived: bool
