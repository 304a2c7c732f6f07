"""What a FHIR server does not offer: asked once, remembered for a while, shown in /health/ready."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

_MOST = 1000  # servers come from requests: the memory must not grow without bound


class OfferedTypes:
    """Refused resource types per server and token scope, forgotten after `seconds`.

    The scope is part of the key: a type that one client may not read can be open to another.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._clock = seconds, clock
        self._refused: dict[tuple[str, str, str], float] = {}

    def refuse(self, server: str, scope: str, resource_type: str) -> None:
        if self._seconds <= 0:
            return
        if len(self._refused) >= _MOST:
            self._refused.pop(next(iter(self._refused)))
        self._refused[server, scope, resource_type] = self._clock() + self._seconds

    def offers(self, server: str, scope: str, resource_type: str) -> bool:
        until = self._refused.get((server, scope, resource_type))
        if until is None:
            return True
        if until > self._clock():
            return False
        del self._refused[server, scope, resource_type]
        return True

    def refused(self) -> Mapping[str, tuple[str, ...]]:
        """Server -> types that it refuses now, sorted."""
        found: dict[str, set[str]] = {}
        for (server, _, resource_type), until in tuple(self._refused.items()):
            if until > self._clock():
                found.setdefault(server, set()).add(resource_type)
        return {server: tuple(sorted(types)) for server, types in sorted(found.items())}
