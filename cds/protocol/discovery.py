"""What `GET /cds-services` answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cds.protocol.hooks import HOOKS

CDS_HOOKS_VERSION = "2.0.1"


@dataclass(frozen=True, slots=True)
class ServiceDescription:
    """One service as clients see it. `prefetch` maps key to template."""

    id: str
    hook: str
    title: str
    description: str
    prefetch: Mapping[str, str] = field(default_factory=dict)
    usage_requirements: str = ""


def _described(service: ServiceDescription) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "hook": service.hook,
        "title": service.title,
        "description": service.description,
        "id": service.id,
    }
    if service.prefetch:
        shown["prefetch"] = dict(service.prefetch)
    if service.usage_requirements:
        shown["usageRequirements"] = service.usage_requirements
    return shown


def discovery(services: Iterable[ServiceDescription]) -> dict[str, Any]:
    """The discovery answer as CDS Hooks 2.0.1 has it."""
    return {"services": [_described(service) for service in services]}


def with_versions(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The same with the fields that later versions of CDS Hooks added: `version`, `hookVersion`."""
    return {
        "services": [
            {**service, "version": CDS_HOOKS_VERSION, "hookVersion": HOOKS[service["hook"]].version}
            for service in answer["services"]
        ]
    }
