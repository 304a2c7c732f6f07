"""What the page shows of a demo: synthetic patients on an embedded FHIR server, and saved hook requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class DemoRequest:
    """A saved hook request; `asks` tells by language (en, zh_TW) what the user does."""

    name: str
    asks: Mapping[str, str]
    services: tuple[str, ...]
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DemoPatient:
    """A story; `id` is the patient's FHIR id, `title` its name by language (en, zh_TW)."""

    id: str
    title: Mapping[str, str]
    requests: tuple[DemoRequest, ...]


@dataclass(frozen=True, slots=True)
class Demo:
    """`fhir_server` is the base URL; `clock` the frozen instant, ISO 8601."""

    fhir_server: str
    clock: str
    patients: tuple[DemoPatient, ...]
