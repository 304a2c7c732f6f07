"""Resources in memory, exactly as they came: a demo of dirty data must stay dirty."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from uuid import uuid4

Resource = Mapping[str, Any]


class Store:
    """Resources by type and id, in the order of arrival."""

    def __init__(self) -> None:
        self._by_type: dict[str, dict[str, Resource]] = {}

    def load(self, bundle: object) -> None:
        """Every resource of a Bundle, of a list, or the single resource. Things that are none are skipped."""
        for resource in _resources(bundle):
            self.put(str(resource["resourceType"]), _id_of(resource), resource)

    def put(self, resource_type: str, resource_id: str, resource: Resource) -> bool:
        """Store; True where the id is new."""
        shelf = self._by_type.setdefault(resource_type, {})
        new = resource_id not in shelf
        shelf[resource_id] = resource
        return new

    def get(self, resource_type: str, resource_id: str) -> Resource | None:
        return self._by_type.get(resource_type, {}).get(resource_id)

    def remove(self, resource_type: str, resource_id: str) -> bool:
        return self._by_type.get(resource_type, {}).pop(resource_id, None) is not None

    def all(self, resource_type: str) -> Iterator[Resource]:
        return iter(tuple(self._by_type.get(resource_type, {}).values()))

    @property
    def types(self) -> tuple[str, ...]:
        return tuple(sorted(self._by_type))


def new_id() -> str:
    return str(uuid4())


def _id_of(resource: Resource) -> str:
    """The resource's own id; one without gets a place but keeps its text."""
    own = resource.get("id")
    return own if isinstance(own, str) and own else f"unnamed-{new_id()}"


def _resources(bundle: object) -> Iterable[Resource]:
    if isinstance(bundle, list):
        for item in bundle:
            yield from _resources(item)
    elif isinstance(bundle, dict):
        if bundle.get("resourceType") == "Bundle":
            for entry in bundle.get("entry") or ():
                if isinstance(entry, dict):
                    yield from _resources(entry.get("resource"))
        elif isinstance(bundle.get("resourceType"), str):
            yield bundle
