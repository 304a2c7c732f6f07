"""References inside a Bundle by the `urn:uuid:` address of an entry (collection and transaction Bundles).

The mapper knows resources by `Type/id`: one with an id is referred to by it, one without takes the id of
its address. A Patient without id stays so: whether it is the hook's patient is judged elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Json = Mapping[str, Any]

UUID_URN = "urn:uuid:"
_BUNDLES_IN_BUNDLES = 2  # as deep as pages are read


def readdressed(held: Json) -> Json:
    """The same prefetch or context with such references written as `Type/id`; itself where there are none."""
    known = dict(_addresses(held.values(), _BUNDLES_IN_BUNDLES))
    return _rewritten(held, known) if known else held


def _addresses(values: Iterable[Any], depth: int) -> Iterator[tuple[str, str]]:
    for value in values:
        entries = value.get("entry") if isinstance(value, dict) else None
        if not isinstance(entries, list):
            continue
        bundles = []
        for entry in entries:
            if not isinstance(entry, dict):
                continue
            address, resource = entry.get("fullUrl"), entry.get("resource")
            if isinstance(address, str) and address.startswith(UUID_URN):
                name = _name(resource, address.removeprefix(UUID_URN))
                if name:
                    yield address, name
            if isinstance(resource, dict) and "entry" in resource:
                bundles.append(resource)
        if depth > 1 and bundles:
            yield from _addresses(bundles, depth - 1)


def _name(resource: object, uuid: str) -> str:
    """`Type/id`, or "" where the address already says it or nothing can be said."""
    if not isinstance(resource, dict):
        return ""
    kind, identity = resource.get("resourceType"), resource.get("id")
    if not isinstance(kind, str) or identity == uuid:
        return ""
    if isinstance(identity, str) and identity:
        return f"{kind}/{identity}"
    return "" if kind == "Patient" else f"{kind}/{uuid}"


def _rewritten(held: Json, known: Mapping[str, str]) -> Json:
    """A copy. Without recursion: what a prefetch holds may be nested as deeply as the parser allows."""
    copy: dict[str, Any] = dict(held)
    places: list[tuple[Any, Any]] = [(copy, name) for name in copy]  # a copied container, and where in it
    while places:
        holder, place = places.pop()
        value = holder[place]
        if isinstance(value, list):
            holder[place] = inner = list(value)
            places += [(inner, index) for index in range(len(inner))]
        elif isinstance(value, dict):
            holder[place] = changed = dict(value)
            reference, address, resource = (value.get(name) for name in ("reference", "fullUrl", "resource"))
            if isinstance(reference, str) and reference in known:
                changed["reference"] = known[reference]
            if isinstance(address, str) and address in known and isinstance(resource, dict):
                changed["resource"] = {
                    **resource,
                    "id": resource.get("id") or known[address].rpartition("/")[2],
                }
            places += [(changed, name) for name in changed]
    return copy
