"""The handbook's drug classes DC1-DC25 (tables/drug_classes.yaml): which classes a drug record belongs to.

A class member is a row. Route, dose and indication split a drug: methotrexate is intrathecal, standard or
high-dose chemotherapy. The dose limits come from the caller, so a site may change them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from cds.engine.parameters import DataError, LinedDict, Parameters, load_yaml, parameters_from
from fhir_mapping.chart import DrugRecord, Route, reaches_the_body

PATH = Path(__file__).parent / "tables" / "drug_classes.yaml"


class RouteRule(StrEnum):
    SYSTEMIC = "systemic"  # also when no route is stated
    INTRATHECAL = "intrathecal"
    INTRAVENOUS = "intravenous"
    INTRAMUSCULAR = "intramuscular"
    ORAL = "oral"
    ANY = "any"


class DoseRule(StrEnum):
    ANY = "any"
    HIGH = "high"
    NOT_HIGH = "not-high"
    LOW = "low"


class Band(StrEnum):
    """Where one dose stands against the limits of its drug."""

    HIGH = "high"
    STANDARD = "standard"
    LOW = "low"
    UNKNOWN = "unknown"  # the drug has limits, its dose per m2 could not be told


@dataclass(frozen=True, slots=True)
class DrugClass:
    id: str
    en: str
    zh_tw: str
    exclusive: bool
    cytotoxic: bool


@dataclass(frozen=True, slots=True)
class Member:
    drug_class: str
    drug: str
    named: bool  # the handbook names the drug; else it is a class member added by the product
    source: str
    route: RouteRule = RouteRule.SYSTEMIC
    dose: DoseRule = DoseRule.ANY
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Regimen:
    regimen: str
    drug_class: str
    named: bool
    source: str
    inferred_from: tuple[frozenset[str], ...] = ()


@dataclass(frozen=True, slots=True)
class DoseLimit:
    """mg/m2: high at or above `high` per dose (intravenous only where `intravenous`), low below `low`."""

    high: Decimal | None = None
    low: Decimal | None = None
    intravenous: bool = False


@dataclass(frozen=True, slots=True)
class Membership:
    """Classes of one record. `possible` apply too if the unreadable dose was high."""

    classes: frozenset[str]
    possible: frozenset[str] = frozenset()
    regimens: frozenset[str] = frozenset()


_CLASS_KEYS = frozenset({"class", "en", "zh_TW", "exclusive", "cytotoxic", "source"})
_MEMBER_KEYS = frozenset({"class", "drug", "members_of", "route", "dose", "reason", "named", "source"})
_REGIMEN_KEYS = frozenset({"class", "regimen", "inferred_from", "named", "source"})
_PURPOSE_KEYS = frozenset({"class", "purpose", "named", "source"})


class DrugClasses:
    """The checked tables."""

    def __init__(self, tables: Parameters, path: Path = PATH) -> None:
        self._path = path
        self.classes: Mapping[str, DrugClass] = self._read_classes(tables.table("classes"))
        self.members: tuple[Member, ...] = self._read_members(tables.table("members"))
        self.regimens: tuple[Regimen, ...] = self._read_regimens(tables.table("regimens"))
        self.purposes: Mapping[str, str] = self._read_purposes(tables.table("purposes"))
        self._by_drug: dict[str, list[Member]] = {}
        for member in self.members:
            self._by_drug.setdefault(member.drug, []).append(member)

    def _fail(self, row: Mapping[str, Any], reason: str) -> DataError:
        return DataError(self._path, row.line if isinstance(row, LinedDict) else 1, reason)

    def _checked(self, row: Mapping[str, Any], allowed: frozenset[str], *needed: str) -> None:
        if unknown := sorted(set(row) - allowed):
            raise self._fail(row, f"unknown key {unknown[0]}")
        for key in needed:
            if row.get(key) in (None, ""):
                raise self._fail(row, f"{key} is missing")
        if "named" in needed and not isinstance(row["named"], bool):
            raise self._fail(row, "named must be true or false")

    def _class_of(self, row: Mapping[str, Any]) -> str:
        name = str(row["class"])
        if name not in self.classes:
            raise self._fail(row, f"unknown class {name}")
        return name

    def _read_classes(self, rows: Iterable[Mapping[str, Any]]) -> dict[str, DrugClass]:
        result: dict[str, DrugClass] = {}
        for row in rows:
            self._checked(row, _CLASS_KEYS, "class", "en", "zh_TW", "exclusive", "cytotoxic")
            if row["class"] in result:
                raise self._fail(row, f"class {row['class']} twice")
            result[row["class"]] = DrugClass(
                row["class"], row["en"], row["zh_TW"], row["exclusive"], row["cytotoxic"]
            )
        return result

    def _read_members(self, rows: Iterable[Mapping[str, Any]]) -> tuple[Member, ...]:
        result: list[Member] = []
        seen: dict[tuple[str, RouteRule, DoseRule, str], str] = {}
        for row in rows:
            self._checked(row, _MEMBER_KEYS, "class", "named", "source")
            name = self._class_of(row)
            try:
                route, dose = RouteRule(row.get("route", "systemic")), DoseRule(row.get("dose", "any"))
            except ValueError as error:
                raise self._fail(row, str(error)) from None
            if ("drug" in row) == ("members_of" in row):
                raise self._fail(row, "either drug or members_of is expected")
            if "drug" in row:
                drugs = [str(row["drug"])]
            else:
                drugs = [m.drug for m in result if m.drug_class == row["members_of"]]
                if not drugs:
                    raise self._fail(row, f"no members of {row['members_of']} above this row")
            reason = str(row.get("reason", ""))
            for drug in drugs:
                key = (drug, route, dose, reason)
                if self.classes[name].exclusive:
                    if key in seen:
                        raise self._fail(row, f"{drug} already belongs to {seen[key]}")
                    seen[key] = name
                elif any(m.drug_class == name and (m.drug, m.route, m.dose, m.reason) == key for m in result):
                    raise self._fail(row, f"{drug} twice in {name}")
                result.append(Member(name, drug, row["named"], str(row["source"]), route, dose, reason))
        return tuple(result)

    def _read_regimens(self, rows: Iterable[Mapping[str, Any]]) -> tuple[Regimen, ...]:
        result: list[Regimen] = []
        for row in rows:
            self._checked(row, _REGIMEN_KEYS, "class", "regimen", "named", "source")
            groups = row.get("inferred_from") or []
            if not isinstance(groups, list) or not all(isinstance(g, list) and g for g in groups):
                raise self._fail(row, "inferred_from is a list of lists of drugs")
            inferred = tuple(frozenset(str(drug) for drug in group) for group in groups)
            result.append(
                Regimen(str(row["regimen"]), self._class_of(row), row["named"], str(row["source"]), inferred)
            )
        return tuple(result)

    def _read_purposes(self, rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
        result: dict[str, str] = {}
        for row in rows:
            self._checked(row, _PURPOSE_KEYS, "class", "purpose", "named", "source")
            result[str(row["purpose"])] = self._class_of(row)
        return result

    # --- questions

    def drugs(self, *classes: str) -> frozenset[str]:
        """Every drug with a row in any of the classes, whatever its route or dose."""
        return frozenset(m.drug for m in self.members if m.drug_class in classes)

    def drugs_of(self, record: DrugRecord) -> tuple[str, ...]:
        """Ingredients of a record; where its code names no more than a class, that class."""
        groups = sorted(concept for concept in record.concepts if concept.startswith("class_"))
        if record.ingredients or not groups:
            return record.ingredients
        return tuple(group for group in groups if group in self._by_drug)[:1] or (groups[0],)

    def rows_of(self, drug: str) -> tuple[Member, ...]:
        return tuple(self._by_drug.get(drug, ()))

    def named(self, drug: str, drug_class: str) -> bool:
        return any(m.named for m in self._by_drug.get(drug, ()) if m.drug_class == drug_class)

    def source(self, drug: str, drug_class: str) -> str:
        """Citation of the drug's row in the class; "" where it has none."""
        return next((m.source for m in self._by_drug.get(drug, ()) if m.drug_class == drug_class), "")

    def regimen_classes(self, regimen: str) -> frozenset[str]:
        return frozenset(r.drug_class for r in self.regimens if r.regimen == regimen)

    def cytotoxic(self, drug: str) -> bool:
        return any(self.classes[m.drug_class].cytotoxic for m in self._by_drug.get(drug, ()))

    def membership(self, record: DrugRecord, drug: str, band: Band) -> Membership:
        """Classes of one ingredient of a record, given its dose band (`band` of a drug without limits: any).

        Regimen tags of the record count for its cytotoxic drugs only: prednisone of CHOP stays a steroid.
        """
        classes: set[str] = set()
        possible: set[str] = set()
        for member in self._by_drug.get(drug, ()):
            if not _route_fits(member.route, record.route):
                continue
            if member.reason and member.reason not in record.reasons:
                continue
            if _dose_fits(member.dose, band):
                classes.add(member.drug_class)
            elif member.dose is DoseRule.HIGH and band is Band.UNKNOWN:
                possible.add(member.drug_class)
        regimens: frozenset[str] = frozenset()
        cytotoxic = any(self.classes[name].cytotoxic for name in classes)
        if cytotoxic:
            regimens = frozenset(r for r in record.regimens if self.regimen_classes(r))
            classes.update(self.purposes[p] for p in record.purposes if p in self.purposes)
        return Membership(frozenset(classes), frozenset(possible), regimens)

    def inferred_regimens(
        self, given: Iterable[tuple[str, date, str]], cycle_days: int
    ) -> dict[str, frozenset[str]]:
        """Regimens recognised by their members alone.

        `given` are (drug, day, record reference) of systemic doses; a regimen is there where each of its
        member groups was given within `cycle_days` of its first drug. Answer: record reference -> regimens.
        """
        references: dict[tuple[date, str], set[str]] = {}
        for drug, day, reference in given:
            references.setdefault((day, drug), set()).add(reference)
        doses = sorted(references)
        result: dict[str, set[str]] = {}
        for regimen in self.regimens:
            for day, drug in _of_cycles(doses, regimen.inferred_from, cycle_days):
                for reference in references[day, drug]:
                    result.setdefault(reference, set()).add(regimen.regimen)
        return {reference: frozenset(regimens) for reference, regimens in result.items()}


def _of_cycles(
    doses: Sequence[tuple[date, str]], groups: Sequence[frozenset[str]], cycle_days: int
) -> set[tuple[date, str]]:
    """Doses that belong to a cycle in which every member group was given; `doses` in time order."""
    wanted = frozenset[str]().union(*groups)
    own = [dose for dose in doses if dose[1] in wanted]
    found: set[tuple[date, str]] = set()
    end = 0
    inside: Counter[str] = Counter()
    for begin, (start, drug) in enumerate(own):
        while end < len(own) and (own[end][0] - start).days <= cycle_days:
            inside[own[end][1]] += 1
            end += 1
        if all(any(inside[member] for member in group) for group in groups):
            found.update(own[begin:end])
        inside[drug] -= 1
    return found


def _route_fits(rule: RouteRule, route: Route | None) -> bool:
    if rule is RouteRule.ANY:
        return True
    if rule is RouteRule.SYSTEMIC:
        return reaches_the_body(route)
    return route is not None and route.value == f"route_{rule.value}"


def _dose_fits(rule: DoseRule, band: Band) -> bool:
    if rule is DoseRule.ANY:
        return True
    if rule is DoseRule.NOT_HIGH:
        return band is not Band.HIGH
    return band.value == rule.value


def dose_band(limit: DoseLimit | None, mg_m2: Decimal | None, route: Route | None) -> Band:
    """Band of one dose in mg/m2. A drug without limits is standard; without a dose per m2 it is unknown."""
    if limit is None:
        return Band.STANDARD
    if limit.intravenous and route is not None and route is not Route.INTRAVENOUS:
        return Band.STANDARD
    if mg_m2 is None:
        return Band.UNKNOWN
    if limit.high is not None and mg_m2 >= limit.high:
        return Band.HIGH
    if limit.low is not None and mg_m2 < limit.low:
        return Band.LOW
    return Band.STANDARD


def read_drug_classes(path: Path) -> DrugClasses:
    """Raises DataError with file, line and reason on a broken row."""
    return DrugClasses(parameters_from(path, "tables/drug_classes", load_yaml(path)), path)


@cache
def drug_classes() -> DrugClasses:
    """The tables of the product."""
    return read_drug_classes(PATH)
