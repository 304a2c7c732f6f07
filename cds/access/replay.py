"""Every token is used once: remembered here, and by all workers through the store.

Where the store does not answer, this process still remembers; that other workers do not know of the token
then is counted, and the token's short life bounds the harm.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Awaitable, Callable

# (issuer, token id, expiry in seconds since 1970) -> first use by any worker; None: nobody could tell
Shared = Callable[[str, str, int], Awaitable[bool | None]]

_MOST = 200_000  # tokens remembered in this process
# a clock that was set ahead and is set back makes expired tokens valid again
KEPT_BEYOND_EXPIRY = 24 * 3600


class UsedTokens:
    """The memory of one process in front of the shared one."""

    def __init__(
        self, shared: Shared | None = None, clock: Callable[[], float] = time.time, most: int = _MOST
    ) -> None:
        self._shared, self._clock, self._most = shared, clock, most
        self._seen: set[tuple[str, str]] = set()
        self._expiring: list[tuple[int, tuple[str, str]]] = []

    async def first_use(self, issuer: str, token: str, expires: int) -> bool:
        """`expires` includes the leeway: seconds since 1970 until which the token would be accepted."""
        name = (issuer, token)
        if name in self._seen:
            return False
        self._remember(name, expires)  # before waiting: two uses at once must not both be first
        if self._shared is None:
            return True
        return await self._shared(issuer, token, expires) is not False

    def _remember(self, name: tuple[str, str], expires: int) -> None:
        oldest = self._clock() - KEPT_BEYOND_EXPIRY
        while self._expiring and (self._expiring[0][0] < oldest or len(self._seen) >= self._most):
            self._seen.discard(heapq.heappop(self._expiring)[1])
        self._seen.add(name)
        heapq.heappush(self._expiring, (expires, name))
