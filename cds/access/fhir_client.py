"""Reading a FHIR R4 server on behalf of one hook call.

The client's token belongs to the call: it goes to the one origin that the call named, never into a log, an
error or a redirect. Every failure is one `FhirFailure` of a closed kind; nothing about the patient is in it.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any

import httpx

from cds.access.guard import OutgoingGuard, OutgoingRefusedError, PinnedTransport, same_origin
from cds.access.limits import JsonError, JsonFault, TooLargeError, decode_json, read_limited

_HEADERS = {
    "Accept": "application/fhir+json, application/json;q=0.9",
    "Cache-Control": "no-cache",  # some servers keep search results for a minute
    "User-Agent": "tcell-cds",
}
_FIRST_PAUSE = 0.05  # seconds before the first repeat; doubles


class FailureKind(StrEnum):
    """Why a FHIR answer could not be used. The words appear on cards and in metrics."""

    NOT_ALLOWED = "not-allowed"  # the host is not on the allow-list: no call was made
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    UNAUTHORIZED = "unauthorized"  # 401
    FORBIDDEN = "forbidden"  # 403
    NOT_FOUND = "not-found"  # 404, 410
    REFUSED = "refused"  # 400 and other 4xx: the server does not do this
    THROTTLED = "throttled"  # 429
    SERVER_ERROR = "server-error"  # 5xx
    REDIRECTED = "redirected"
    NOT_FHIR = "not-fhir"  # a login page, a proxy's text, JSON that is no resource
    MALFORMED = "malformed"  # cut off or broken JSON
    TOO_LARGE = "too-large"


_REPEATED = frozenset(
    {FailureKind.UNREACHABLE, FailureKind.TIMEOUT, FailureKind.THROTTLED, FailureKind.SERVER_ERROR}
)


class FhirFailure(Exception):  # noqa: N818 - an outcome that callers handle, named after what it is
    """`retry_after` in seconds where the server named one; `status` 0 where there was no answer."""

    def __init__(self, kind: FailureKind, status: int = 0, retry_after: float | None = None) -> None:
        super().__init__(kind.value)
        self.kind, self.status, self.retry_after = kind, status, retry_after


@dataclass(frozen=True, slots=True)
class FhirTarget:
    """A server that may be called, with the call's own token ("" = open server)."""

    base: httpx.URL
    token: str = field(default="", repr=False)

    def url(self, query: str) -> str:
        """Absolute URL of `Type/id` or `Type?...`."""
        return f"{str(self.base).rstrip('/')}/{query}"

    def follow(self, page: str, link: str) -> str:
        """Absolute URL of a `next` link; "" if it leads to another origin."""
        try:
            url = httpx.URL(page).join(link)
        except (httpx.InvalidURL, ValueError):
            return ""
        return str(url) if same_origin(url, self.base) and not url.userinfo else ""


class FhirClient:
    """One per process; holds connections, never tokens."""

    def __init__(
        self,
        guard: OutgoingGuard,
        *,
        timeout: float = 1.0,
        retries: int = 1,
        response_bytes: int = 20 * 1024 * 1024,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._guard = guard
        self._timeout, self._retries = timeout, retries
        self._response_bytes = response_bytes
        self._http = httpx.AsyncClient(
            transport=transport or PinnedTransport(guard),
            headers=_HEADERS,
            follow_redirects=False,
            trust_env=False,
            timeout=timeout,
        )

    def target(self, base: str, token: str = "") -> FhirTarget:
        """The server of this call. Raises FhirFailure(NOT_ALLOWED) before anything leaves the machine."""
        try:
            return FhirTarget(self._guard.check(base), token)
        except OutgoingRefusedError:
            raise FhirFailure(FailureKind.NOT_ALLOWED) from None

    async def get(self, target: FhirTarget, url: str, deadline: float) -> dict[str, Any]:
        """The resource at `url`. `deadline` is a `time.monotonic()` value. Raises FhirFailure.

        5xx, 429 and lost connections are repeated while the deadline leaves room.
        """
        pause = _FIRST_PAUSE
        for attempt in range(self._retries + 1):
            try:
                return await self._once(target, url, deadline)
            except FhirFailure as failure:
                if failure.kind not in _REPEATED or attempt == self._retries:
                    raise
                wait = pause if failure.retry_after is None else failure.retry_after
                if time.monotonic() + wait >= deadline:
                    raise
            await asyncio.sleep(wait)
            pause *= 2
        raise AssertionError("the last attempt returns or raises")

    async def _once(self, target: FhirTarget, url: str, deadline: float) -> dict[str, Any]:
        left = min(deadline - time.monotonic(), self._timeout)
        if left <= 0:
            raise FhirFailure(FailureKind.TIMEOUT)
        headers = {"Authorization": f"Bearer {target.token}"} if target.token else {}
        try:
            async with asyncio.timeout(left), self._http.stream("GET", url, headers=headers) as response:
                return await self._read(response)
        except (TimeoutError, httpx.TimeoutException):
            raise FhirFailure(FailureKind.TIMEOUT) from None
        except OutgoingRefusedError:
            raise FhirFailure(FailureKind.NOT_ALLOWED) from None
        except TooLargeError:
            raise FhirFailure(FailureKind.TOO_LARGE) from None
        except httpx.DecodingError:
            raise FhirFailure(FailureKind.MALFORMED) from None
        except (httpx.HTTPError, httpx.InvalidURL):
            raise FhirFailure(FailureKind.UNREACHABLE) from None

    async def _read(self, response: httpx.Response) -> dict[str, Any]:
        status = response.status_code
        if status != 200:
            raise _failed(status, response.headers.get("retry-after"))
        media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if "html" in media_type or "xml" in media_type:
            raise FhirFailure(FailureKind.NOT_FHIR, status)
        body = await read_limited(
            response.aiter_bytes(), self._response_bytes, response.headers.get("content-length")
        )
        try:
            value = decode_json(body)
        except JsonError as error:
            looks_json = body.lstrip()[:1] in (b"{", b"[") and error.fault is JsonFault.NOT_JSON
            kind = FailureKind.MALFORMED if looks_json else FailureKind.NOT_FHIR
            raise FhirFailure(kind, status) from None
        if not isinstance(value, dict) or not isinstance(value.get("resourceType"), str):
            raise FhirFailure(FailureKind.NOT_FHIR, status)
        return value

    async def aclose(self) -> None:
        await self._http.aclose()


def _failed(status: int, retry_after: str | None) -> FhirFailure:
    if 300 <= status < 400:
        return FhirFailure(FailureKind.REDIRECTED, status)
    if status == 401:
        return FhirFailure(FailureKind.UNAUTHORIZED, status)
    if status == 403:
        return FhirFailure(FailureKind.FORBIDDEN, status)
    if status in (404, 410):
        return FhirFailure(FailureKind.NOT_FOUND, status)
    if status == 429:
        return FhirFailure(FailureKind.THROTTLED, status, _seconds(retry_after))
    if status >= 500 and status != 501:
        return FhirFailure(FailureKind.SERVER_ERROR, status, _seconds(retry_after))
    return FhirFailure(FailureKind.REFUSED, status)


def _seconds(retry_after: str | None) -> float | None:
    """Retry-After as seconds from now; a date or a number."""
    if not retry_after:
        return None
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        at = parsedate_to_datetime(retry_after)
    except (ValueError, TypeError):
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
