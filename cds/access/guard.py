"""Which hosts may be called. Checked on the URL, and once more on the address that is connected to.

An EHR names the FHIR server in its request, so the name is untrusted: only hosts that the operator listed
are called (none listed: this machine only), and a listed name that suddenly resolves to this machine or to a
link-local address (cloud metadata) is refused. The connection goes to the very address that was checked, so
a second DNS answer cannot redirect it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from enum import StrEnum

import httpx

from cds.settings import is_loopback

_PORTS = {"http": 80, "https": 443}
_MOST_REMEMBERED = 100

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]


class Refusal(StrEnum):
    NOT_A_URL = "not-a-url"
    SCHEME = "https-required"
    USERINFO = "userinfo-in-url"
    QUERY = "query-in-base-url"
    HOST = "host-not-allowed"
    ADDRESS = "address-not-allowed"
    UNRESOLVED = "host-not-found"


class OutgoingRefusedError(Exception):
    """A call that must not leave the machine."""

    def __init__(self, reason: Refusal) -> None:
        super().__init__(reason.value)
        self.reason = reason


async def resolve(host: str, port: int) -> Sequence[str]:
    """Addresses of a host name, in the order of the system's resolver."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(item[4][0]) for item in found))


def port_of(url: httpx.URL) -> int:
    return url.port or _PORTS.get(url.scheme, 0)


def same_origin(one: httpx.URL, other: httpx.URL) -> bool:
    return (one.scheme, one.host, port_of(one)) == (other.scheme, other.host, port_of(other))


def _allowed_entry(entry: str) -> tuple[str, int]:
    """`host`, `host:port` or `[v6]:port` as (host, port); port 0 = any."""
    text = entry.strip().lower()
    if "://" in text:
        text = text.partition("://")[2].partition("/")[0]
    if text.count(":") > 1 and not text.startswith("["):
        return text, 0
    host, _, port = text.rpartition(":") if not text.endswith("]") and ":" in text else (text, "", "")
    return host.removeprefix("[").removesuffix("]").rstrip("."), int(port) if port.isdecimal() else 0


class OutgoingGuard:
    """The allow-list. `allowed` None: loopback only."""

    def __init__(
        self, allowed: Iterable[str] | None, resolver: Resolver = resolve, *, remember_seconds: float = 10.0
    ) -> None:
        self._allowed = None if allowed is None else frozenset(_allowed_entry(entry) for entry in allowed)
        self._resolve, self._remember = resolver, remember_seconds
        self._known: dict[tuple[str, int], tuple[float, Sequence[str]]] = {}

    def check(self, text: str) -> httpx.URL:
        """The base URL of a FHIR server that may be called, without trailing slash.

        Raises OutgoingRefusedError.
        """
        try:
            url = httpx.URL(text)
        except (httpx.InvalidURL, TypeError, ValueError):
            raise OutgoingRefusedError(Refusal.NOT_A_URL) from None
        host = url.host.rstrip(".").lower()
        if url.scheme not in _PORTS or not host or port_of(url) > 65535:
            raise OutgoingRefusedError(Refusal.NOT_A_URL)
        if url.userinfo:
            raise OutgoingRefusedError(Refusal.USERINFO)
        if url.query or url.fragment:
            raise OutgoingRefusedError(Refusal.QUERY)
        if not self._listed(host, port_of(url)):
            raise OutgoingRefusedError(Refusal.HOST)
        if url.scheme != "https" and not is_loopback(host):
            raise OutgoingRefusedError(Refusal.SCHEME)
        return url.copy_with(raw_path=url.raw_path.rstrip(b"/") or b"/")

    def _listed(self, host: str, port: int) -> bool:
        if self._allowed is None:
            return is_loopback(host)
        return (host, 0) in self._allowed or (host, port) in self._allowed

    async def addresses(self, host: str, port: int) -> Sequence[str]:
        """The addresses that may be connected to for an allowed host. Raises OutgoingRefusedError."""
        known = self._known.get((host, port))
        if known is not None and known[0] > time.monotonic():
            return known[1]
        try:
            found = await self._resolve(host, port)
        except OSError:
            raise OutgoingRefusedError(Refusal.UNRESOLVED) from None
        passed = [address for address in found if _acceptable(address, host)]
        if not passed:
            raise OutgoingRefusedError(Refusal.ADDRESS if found else Refusal.UNRESOLVED)
        if len(self._known) < _MOST_REMEMBERED or (host, port) in self._known:
            self._known[host, port] = (time.monotonic() + self._remember, passed)
        return passed


def _acceptable(address: str, host: str) -> bool:
    """Private addresses are where hospitals keep their EHR; loopback only if the name says so."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    if parsed.is_loopback or is_loopback(host):
        return parsed.is_loopback and is_loopback(host)
    return not (parsed.is_link_local or parsed.is_multicast or parsed.is_unspecified or parsed.is_reserved)


class PinnedTransport(httpx.AsyncBaseTransport):
    """Connects to the checked address; the certificate is still that of the name.

    One pool per host name, so that two names on one address never share a connection.
    """

    def __init__(self, guard: OutgoingGuard, connections: int = 50) -> None:
        self._guard = guard
        self._limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        self._pools: dict[str, httpx.AsyncHTTPTransport] = {}
        self._context: ssl.SSLContext | None = None

    def _pool(self, host: str) -> httpx.AsyncHTTPTransport:
        pool = self._pools.get(host)
        if pool is None:
            if self._context is None:
                self._context = httpx.create_ssl_context()
            pool = httpx.AsyncHTTPTransport(verify=self._context, limits=self._limits, trust_env=False)
            self._pools[host] = pool
        return pool

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        host = request.url.host
        addresses = await self._guard.addresses(host, port_of(request.url))
        pool = self._pool(host)
        last: httpx.ConnectError | None = None
        for address in addresses:
            pinned = httpx.Request(
                request.method,
                request.url.copy_with(host=address),
                headers=request.headers,  # Host names the server, not the address
                stream=request.stream,
                extensions={**request.extensions, "sni_hostname": host},
            )
            try:
                return await pool.handle_async_request(pinned)
            except httpx.ConnectError as error:
                last = error
        raise last or httpx.ConnectError("no address")

    async def aclose(self) -> None:
        for pool in self._pools.values():
            await pool.aclose()
