"""One key read from the FHIR server: pages, refusals of `_sort`, splitting by category."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Any

from cds.access import FailureKind, FhirClient, FhirFailure, FhirTarget
from cds.prefetch.bundles import Page, Shape, read_page
from cds.prefetch.horizon import horizon
from cds.prefetch.keys import KeySpec, Sort
from cds.prefetch.states import Empty, Failed, Found, KeyState, Reason, joined

Json = Mapping[str, Any]

_SORT = re.compile(r"&?_sort=[^&]*")
_CATEGORIES = re.compile(r"(?<=category=)[^&]*,[^&]*")


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads keys of one hook call. `target` None: there is no server to ask. `zone`: the site's."""

    client: FhirClient
    target: FhirTarget | None
    now: datetime
    zone: tzinfo
    deadline: float
    page_limit: int

    async def fetch(self, spec: KeySpec, query: str) -> KeyState:
        """The key, asked as published, then in the ways that stricter servers accept."""
        try:
            return await self._search(spec, query, spec.sort)
        except FhirFailure as failure:
            if failure.kind is not FailureKind.REFUSED:
                return Failed(Reason(failure.kind.value))
        if "_sort=" in query:
            query = _SORT.sub("", query)
            try:
                return await self._search(spec, query, None)
            except FhirFailure as failure:
                if failure.kind is not FailureKind.REFUSED:
                    return Failed(Reason(failure.kind.value))
        several = _CATEGORIES.search(query)
        if several is None:
            return Failed(Reason.REFUSED)
        parts: list[KeyState] = []
        for category in several[0].split(","):
            single = f"{query[: several.start()]}{category}{query[several.end() :]}"
            try:
                parts.append(await self._search(spec, single, None))
            except FhirFailure as failure:
                parts.append(Failed(Reason(failure.kind.value)))
        state = parts[0]
        for part in parts[1:]:
            state = joined(state, part)
        return state

    async def _search(self, spec: KeySpec, query: str, sort: Sort | None) -> KeyState:
        assert self.target is not None
        url = self.target.url(query)
        answer = await self.client.get(self.target, url, self.deadline)
        return await self.continued(read_page(answer), spec, sort, url)

    async def continued(self, page: Page, spec: KeySpec, sort: Sort | None, url: str) -> KeyState:
        """The state of a key whose first page is here; reads on where the rest could matter."""
        if page.shape is not Shape.PAGE:
            malformed = page.shape is Shape.UNREADABLE
            return Failed(Reason.MALFORMED if malformed else Reason.OUTCOME)
        matches, others = page.matches, page.others
        link, cut, visited = page.next, page.partial and not page.next, {url}
        pages = 1
        while link or cut:
            reached = horizon(matches, sort, self.zone)
            if reached is not None and self._far_enough(reached, spec):
                return Found((*matches, *others), reached, enough=True)
            more = None if cut or pages >= self.page_limit else await self._next(link, url, visited)
            if more is None or not _news(more.matches, matches):
                kept = (*matches, *others)
                return Failed(Reason.INCOMPLETE, kept) if reached is None else Found(kept, reached)
            pages += 1
            matches, others = matches + more.matches, others + more.others
            link, cut = more.next, more.cut
        return Found((*matches, *others)) if matches else Empty(tuple(others))

    def _far_enough(self, reached: datetime, spec: KeySpec) -> bool:
        return spec.look_back is not None and reached <= self.now - timedelta(days=spec.look_back)

    async def _next(self, link: str, page_url: str, visited: set[str]) -> Page | None:
        """The next page; None where it may not or cannot be read, or was read before."""
        if self.target is None:
            return None
        url = self.target.follow(page_url, link)
        if not url or url in visited:
            return None
        visited.add(url)
        try:
            page = read_page(await self.client.get(self.target, url, self.deadline))
        except FhirFailure:
            return None
        return page if page.shape is Shape.PAGE else None


def _news(more: list[Json], known: list[Json]) -> bool:
    """A page that repeats what is known is the sign of a server that pages in circles."""
    if not more:
        return True
    seen = {_identity(resource) for resource in known}
    return any(_identity(resource) not in seen for resource in more)


def _identity(resource: object) -> object:
    if isinstance(resource, dict) and isinstance(resource.get("id"), str):
        return resource.get("resourceType"), resource["id"]
    return id(resource)
