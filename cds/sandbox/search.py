"""FHIR R4 search, as far as the service's prefetch templates and its testers go.

Per type: references to the patient, token parameters (`[system|]code`, commas are OR), dates with prefixes,
`_id`, `_sort`, `_count`. A parameter that is not known is refused with 400, as strict servers do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from dateutil import parser as date_parser

Resource = Mapping[str, Any]

_MEDICATION = {"code": ("medicationCodeableConcept",), "category": ("category",), "status": ("status",)}
_CODED = {"code": ("code",), "category": ("category",), "status": ("status",)}

# token parameter -> element paths; a dotted path goes through arrays
_TOKENS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "Patient": {"identifier": ("identifier",), "gender": ("gender",)},
    "Observation": {
        **_CODED,
        "combo-code": ("code", "component.code"),
        "component-code": ("component.code",),
    },
    "Condition": {
        "code": ("code",),
        "category": ("category",),
        "clinical-status": ("clinicalStatus",),
        "verification-status": ("verificationStatus",),
    },
    "Procedure": _CODED,
    "ServiceRequest": {**_CODED, "intent": ("intent",)},
    "DiagnosticReport": _CODED,
    "AllergyIntolerance": {
        "code": ("code", "reaction.substance"),
        "clinical-status": ("clinicalStatus",),
        "verification-status": ("verificationStatus",),
    },
    "Immunization": {"vaccine-code": ("vaccineCode",), "status": ("status",)},
    "MedicationAdministration": {"code": ("medicationCodeableConcept",), "status": ("status",)},
    "MedicationRequest": {**_MEDICATION, "intent": ("intent",)},
    "MedicationDispense": {"code": ("medicationCodeableConcept",), "status": ("status",)},
    "MedicationStatement": _MEDICATION,
    "Appointment": {
        "service-type": ("serviceType",),
        "status": ("status",),
        "reason-code": ("reasonCode",),
    },
    "Encounter": {"class": ("class",), "status": ("status",), "type": ("type",)},
    "Specimen": {"type": ("type",), "status": ("status",)},
}

# date parameter -> elements, choice types spelled out
_DATES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "Observation": {"date": ("effectiveDateTime", "effectiveInstant", "effectivePeriod")},
    "DiagnosticReport": {"date": ("effectiveDateTime", "effectivePeriod")},
    "Procedure": {"date": ("performedDateTime", "performedPeriod")},
    "MedicationAdministration": {"effective-time": ("effectiveDateTime", "effectivePeriod")},
    "MedicationRequest": {"authoredon": ("authoredOn",)},
    "MedicationDispense": {"whenhandedover": ("whenHandedOver",)},
    "MedicationStatement": {"effective": ("effectiveDateTime", "effectivePeriod")},
    "ServiceRequest": {
        "authored": ("authoredOn",),
        "occurrence": ("occurrenceDateTime", "occurrencePeriod"),
    },
    "Appointment": {"date": ("start",)},
    "Immunization": {"date": ("occurrenceDateTime",)},
    "Encounter": {"date": ("period",)},
    "Condition": {"onset-date": ("onsetDateTime", "onsetPeriod"), "recorded-date": ("recordedDate",)},
}

_PATIENT_ELEMENTS = ("subject", "patient", "participant.actor")
_FIRST = datetime.min.replace(tzinfo=UTC)


class UnknownParameterError(Exception):
    """A search parameter that this server does not have for the type."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


@dataclass(frozen=True, slots=True)
class Query:
    """A parsed search: every test must hold."""

    tests: tuple[Callable[[Resource], bool], ...] = ()
    sort: tuple[tuple[Callable[[Resource], datetime | None], int], ...] = ()
    count: int | None = None
    offset: int = 0
    seen: tuple[tuple[str, str], ...] = field(default=())  # parameters without paging, for the next link

    def run(self, resources: Iterable[Resource]) -> list[Resource]:
        found = [resource for resource in resources if all(test(resource) for test in self.tests)]
        for key, direction in reversed(self.sort):
            dated = [(key(resource), resource) for resource in found]
            undated = [resource for when, resource in dated if when is None]
            placed = sorted(
                (pair for pair in dated if pair[0] is not None),
                key=lambda pair: pair[0] or _FIRST,
                reverse=direction < 0,
            )
            found = [resource for _, resource in placed] + undated
        return found


def parse(resource_type: str, parameters: Sequence[tuple[str, str]]) -> Query:
    """Raises UnknownParameterError."""
    tests: list[Callable[[Resource], bool]] = []
    sort: list[tuple[Callable[[Resource], datetime | None], int]] = []
    count: int | None = None
    offset = 0
    tokens, dates = _TOKENS.get(resource_type, {}), _DATES.get(resource_type, {})
    for name, value in parameters:
        if name == "_count":
            count = _whole(name, value)
        elif name == "_offset":
            offset = _whole(name, value)
        elif name == "_sort":
            sort += [_sort_key(part, dates) for part in value.split(",") if part]
        elif name == "_id":
            ids = set(value.split(","))
            tests.append(lambda resource, ids=ids: resource.get("id") in ids)  # type: ignore[misc]
        elif name in ("patient", "subject"):
            tests.append(_about(value))
        elif name in tokens:
            tests.append(_token(tokens[name], value))
        elif name in dates:
            tests.append(_dated(dates[name], value))
        elif name not in ("_format", "_pretty", "_total"):
            raise UnknownParameterError(name)
    seen = tuple(pair for pair in parameters if pair[0] != "_offset")
    return Query(tuple(tests), tuple(sort), count, offset, seen)


def _whole(name: str, value: str) -> int:
    if not value.isdecimal():
        raise UnknownParameterError(name)
    return int(value)


def _at(value: object, path: str) -> Iterator[Any]:
    """Everything at a dotted path, arrays opened."""
    if isinstance(value, list):
        for item in value:
            yield from _at(item, path)
    elif not path:
        yield value
    elif isinstance(value, dict):
        head, _, rest = path.partition(".")
        if head in value:
            yield from _at(value[head], rest)


def _about(value: str) -> Callable[[Resource], bool]:
    wanted = {part if "/" in part else f"Patient/{part}" for part in value.split(",")}

    def test(resource: Resource) -> bool:
        for element in _PATIENT_ELEMENTS:
            for reference in _at(resource, f"{element}.reference"):
                if isinstance(reference, str) and "/".join(reference.split("/")[-2:]) in wanted:
                    return True
        return False

    return test


def _codings(value: object) -> Iterator[tuple[str, str]]:
    """(system, code) of a CodeableConcept, Coding, Identifier or bare code."""
    if isinstance(value, str):
        yield "", value
    elif isinstance(value, dict):
        if isinstance(value.get("coding"), list):
            for coding in value["coding"]:
                yield from _codings(coding)
        else:
            yield str(value.get("system", "")), str(value.get("code", value.get("value", "")))


def _token(paths: Sequence[str], value: str) -> Callable[[Resource], bool]:
    wanted = [tuple(part.rpartition("|")) for part in value.split(",") if part]

    def test(resource: Resource) -> bool:
        for path in paths:
            for element in _at(resource, path):
                for system, code in _codings(element):
                    if any(
                        (not bar or system == wanted_system) and wanted_code in ("", code)
                        for wanted_system, bar, wanted_code in wanted
                    ):
                        return True
        return False

    return test


def instant(value: object) -> datetime | None:
    """A FHIR date of any precision as the instant at which it begins; None where it is none."""
    if not isinstance(value, str):
        return None
    try:
        parsed = date_parser.isoparse(value)
    except (ValueError, OverflowError):
        return None
    return parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)


def _span(value: str) -> timedelta:
    """How long a date of this precision lasts."""
    return {4: timedelta(days=365), 7: timedelta(days=30), 10: timedelta(days=1)}.get(
        len(value), timedelta(milliseconds=1)
    )


def _when(elements: Sequence[str], resource: Resource) -> datetime | None:
    for element in elements:
        value = resource.get(element)
        if isinstance(value, dict):
            value = value.get("start") or value.get("end")
        if (found := instant(value)) is not None:
            return found
    return None


def _dated(elements: Sequence[str], value: str) -> Callable[[Resource], bool]:
    prefix, text = (value[:2], value[2:]) if value[:2].isalpha() else ("eq", value)
    bound = instant(text)
    if bound is None or prefix not in ("eq", "gt", "ge", "lt", "le"):
        raise UnknownParameterError(value)
    after = bound + _span(text)

    def test(resource: Resource) -> bool:
        when = _when(elements, resource)
        if when is None:
            return False
        return {
            "eq": bound <= when < after,
            "gt": when >= after,
            "ge": when >= bound,
            "lt": when < bound,
            "le": when < after,
        }[prefix]

    return test


def _sort_key(
    part: str, dates: Mapping[str, tuple[str, ...]]
) -> tuple[Callable[[Resource], datetime | None], int]:
    name = part.removeprefix("-")
    direction = -1 if part.startswith("-") else 1
    if name == "_lastUpdated":
        return lambda resource: instant(next(_at(resource, "meta.lastUpdated"), None)), direction
    if name not in dates:
        raise UnknownParameterError("_sort")
    return lambda resource: _when(dates[name], resource), direction
