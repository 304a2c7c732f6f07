"""One answer to a query, from prefetch or from the server: its matches, its other entries, its next link."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from cds.protocol.addresses import UUID_URN

Json = Mapping[str, Any]

_TRANSIENT = ("transient", "timeout", "throttled")


class Shape(StrEnum):
    """What the JSON is, before anything of it is believed."""

    PAGE = "page"
    OUTCOME = "outcome"  # an OperationOutcome instead of data
    TRANSIENT_OUTCOME = "transient-outcome"
    UNREADABLE = "unreadable"


@dataclass(slots=True)
class Page:
    """`matches` may hold things that are no resources: the mapper names each as a loss.

    `others` were included by the server: never a match. `cut`: there is more, but no link to it.
    """

    shape: Shape = Shape.PAGE
    matches: list[Json] = field(default_factory=list)
    others: list[Json] = field(default_factory=list)
    next: str = ""
    cut: bool = False
    total: int = 0  # as stated; pages after the first repeat the total of all
    addressed: bool = False  # some entry has a `urn:uuid:` address, by which others may refer to it

    @property
    def partial(self) -> bool:
        """A first page that is not the whole answer: some clients pass on a page without its links."""
        return bool(self.next) or self.cut or self.total > len(self.matches) > 0


def read_page(value: object) -> Page:
    """A Bundle of any type, a bare list, or a single resource."""
    if isinstance(value, dict):
        resource_type = value.get("resourceType")
        if resource_type == "Bundle" or (resource_type is None and "entry" in value):
            return _bundle(value)
        if resource_type == "OperationOutcome":
            return Page(_outcome(value))
        if isinstance(resource_type, str) and resource_type:
            return Page(matches=[value])
    elif isinstance(value, list):
        page = Page()
        _collect(value, page, 1)
        return page
    return Page(Shape.UNREADABLE)


def _bundle(bundle: Json) -> Page:
    page = Page()
    page.next, page.cut = _next(bundle.get("link"))
    entries = bundle.get("entry")
    if isinstance(entries, dict):
        entries = [entries]
    if entries is None:
        return page
    if not isinstance(entries, list):
        return Page(Shape.UNREADABLE)
    _collect(entries, page, 2)
    total = bundle.get("total")
    page.total = total if isinstance(total, int) else 0
    return page


def _collect(entries: list[Any], page: Page, depth: int) -> None:
    matches = page.matches
    failed = Shape.PAGE
    for entry in entries:
        if not isinstance(entry, dict):
            matches.append(entry)
            continue
        if not page.addressed:
            address = entry.get("fullUrl")
            page.addressed = isinstance(address, str) and address.startswith(UUID_URN)
        resource = entry.get("resource")
        if resource is None:
            matches.append(entry if "resourceType" in entry else {})
            continue
        search = entry.get("search")
        mode = search.get("mode") if isinstance(search, dict) else None
        if mode == "include":
            page.others.append(resource)
            continue
        if mode == "outcome":
            continue
        kind = resource.get("resourceType") if isinstance(resource, dict) else None
        if kind == "OperationOutcome":
            failed = _outcome(resource)
        elif kind == "Bundle" and depth > 1 and isinstance(resource.get("entry"), list):
            _collect(resource["entry"], page, depth - 1)
        else:
            matches.append(resource)
    if failed is not Shape.PAGE and not matches:
        page.shape = failed


def _outcome(outcome: Json) -> Shape:
    issues = outcome.get("issue")
    for issue in issues if isinstance(issues, list) else ():
        if isinstance(issue, dict) and issue.get("code") in _TRANSIENT:
            return Shape.TRANSIENT_OUTCOME
    return Shape.OUTCOME


def _next(links: object) -> tuple[str, bool]:
    """URL of the next page; a link without a readable URL cuts the answer off."""
    if isinstance(links, list):
        for link in links:
            if isinstance(link, dict) and link.get("relation") == "next":
                url = link.get("url")
                return (url, False) if isinstance(url, str) and url else ("", True)
    return "", False
