"""A client's public keys: from a file given out of band, or from a URL that the operator listed.

Keys are kept for an hour. A key id that is not among them causes one refresh, at most one a minute, so that a
client can rotate its keys and nobody can make this service hammer a key server. When the server is away the
keys known so far stay in use.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from cds.access.guard import OutgoingRefusedError
from cds.access.limits import JsonError, TooLargeError, decode_json, read_limited

log = logging.getLogger(__name__)

Key = ECKey | RSAKey

_KEPT_SECONDS = 3600.0
_REFRESH_SECONDS = 60.0  # between two tries, successful or not
_FETCH_SECONDS = 2.0
_BYTES = 256 * 1024
_SHORTEST_RSA = 2048  # bits
_TYPES: Mapping[str, type[ECKey] | type[RSAKey]] = {"EC": ECKey, "RSA": RSAKey}
_PRIVATE = ("d", "p", "q", "k")


class KeysUnavailableError(Exception):
    """No key was ever read from this source."""


def public_keys(document: object) -> dict[str, Key]:
    """The usable public keys of a JWKS by key id: EC, and RSA of 2048 bits or more, for signatures.

    Keys of other kinds, for encryption, without id, or with their private half are left out.
    """
    found: dict[str, Key] = {}
    listed = document.get("keys") if isinstance(document, dict) else None
    for raw in listed if isinstance(listed, list) else ():
        if not isinstance(raw, dict) or any(name in raw for name in _PRIVATE):
            continue
        kind, kid = raw.get("kty"), raw.get("kid")
        if not isinstance(kid, str) or not kid or raw.get("use", "sig") != "sig":
            continue
        if not isinstance(kind, str) or kind not in _TYPES or (kind == "RSA" and not _long_enough(raw)):
            continue
        try:
            found[kid] = _TYPES[kind].import_key(raw)
        except (JoseError, ValueError, TypeError, KeyError):
            continue
    return found


def _long_enough(raw: Mapping[str, Any]) -> bool:
    modulus = raw.get("n")
    return isinstance(modulus, str) and len(modulus) * 6 >= _SHORTEST_RSA


class KeySource:
    """The keys of one client from one place. `url` "" : the fixed `keys` only."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        url: str,
        keys: Mapping[str, Key] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._http, self._url, self._clock = http, url, clock
        self._keys: Mapping[str, Key] = keys or {}
        self._read_at = self._tried_at = float("-inf")
        self._lock = asyncio.Lock()
        self.failing = False

    async def key(self, kid: str) -> Key | None:
        """The key of that id, after a refresh where one is due. Raises KeysUnavailableError."""
        if not self._url:
            return self._keys.get(kid)
        if kid not in self._keys or self._clock() - self._read_at > _KEPT_SECONDS:
            async with self._lock:
                stale = kid not in self._keys or self._clock() - self._read_at > _KEPT_SECONDS
                if stale and self._clock() - self._tried_at > _REFRESH_SECONDS:
                    await self._refresh()
        if not self._keys and self.failing:
            raise KeysUnavailableError
        return self._keys.get(kid)

    async def _refresh(self) -> None:
        self._tried_at = self._clock()
        try:
            keys = public_keys(await self._fetch())
        except (httpx.HTTPError, OutgoingRefusedError, JsonError, TooLargeError, TimeoutError) as error:
            keys = {}
            log.warning("keys of a client not read", extra={"error": type(error).__name__})
        self.failing = not keys
        if keys:
            self._keys, self._read_at = keys, self._clock()

    async def _fetch(self) -> object:
        async with asyncio.timeout(_FETCH_SECONDS), self._http.stream("GET", self._url) as response:
            if response.status_code != 200:  # redirects are not followed
                raise httpx.HTTPError("not 200")
            data = await read_limited(response.aiter_bytes(), _BYTES, response.headers.get("content-length"))
        return decode_json(data)


def keys_of_file(path: Path) -> dict[str, Key]:
    """Raises ValueError naming the file."""
    try:
        found = public_keys(decode_json(path.read_bytes()))
    except (OSError, JsonError) as error:
        raise ValueError(f"{path}: {type(error).__name__}") from None
    if not found:
        raise ValueError(f"{path}: no public EC or RSA key with a kid in it")
    return found
