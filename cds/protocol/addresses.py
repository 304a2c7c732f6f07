"""References inside a Bundle by the `urn:uuid:` address of an entry (collection and transaction Bundles).

The mapper knows resources by `Type/id`: one with an id is referred to by it, one without takes the id of
its address. A Patient without id stays so: whether it is the hook's patient is judged elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Json = Mapping[str, Any]

_UUID_URN = "urn:uuid:"
_BUNDLES_IN_BUNDLES = 2  # as deep as pages are read


def readdressed(held: Json) -> Json:
    """The same prefetch or context with such references written as `Type/id`; itself where there are none."""
    known = dict(_addresses(held.values(), _BUNDLES_IN_BUNDLES))
    return {name: _rewritten(value, known) for name, value in held.items()} if known else held


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
            if isinstance(address, str) and address.startswith(_UUID_URN):
                name = _name(resource, address.removeprefix(_UUID_URN))
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


def _rewritten(value: Any, known: Mapping[str, str]) -> Any:
    if isinstance(value, list):
        return [_rewritten(one, known) for one in value]
    if not isinstance(value, dict):
        return value
    changed = {name: _rewritten(one, known) for name, one in value.items()}
    reference, address = value.get("reference"), value.get("fullUrl")
    if isinstance(reference, str) and reference in known:
        changed["reference"] = known[reference]
    if isinstance(address, str) and address in known and not changed["resource"].get("id"):
        changed["resource"]["id"] = known[address].rpartition("/")[2]
    return changed
