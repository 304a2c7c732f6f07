"""Who calls? Client tokens of CDS Hooks 2.0 (section Trusting CDS Clients; checklist 84 to 93).

Nothing leaves the machine before issuer and key URL were found on the operator's list. A refusal tells which
check failed in constant words, never anything of the token.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Any, NoReturn
from urllib.parse import urlsplit

import httpx
from joserfc import jws
from joserfc.errors import JoseError
from starlette.requests import Request

from cds.access.guard import OutgoingGuard, OutgoingRefusedError, PinnedTransport
from cds.access.jwks import Key, KeySource, KeysUnavailableError, keys_of_file
from cds.access.limits import JsonError, decode_json
from cds.access.replay import UsedTokens
from cds.protocol import IssueCode, ProtocolError
from cds.settings import PREFIX, JwtClient, Settings, SettingsError

_LONGEST = 8192  # characters of a token
_LONGEST_ID = 255
_CURVES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}
# Whoever reads their repositories can sign as they do: never accepted but in a demo.
PUBLIC_TEST_HOSTS = frozenset({"sandbox.cds-hooks.org", "inferno.healthit.gov", "inferno-qa.healthit.gov"})
SANDBOX = JwtClient(jku=("https://sandbox.cds-hooks.org/.well-known/jwks.json",))
INFERNO = JwtClient(jku=("https://inferno.healthit.gov/suites/custom/crd_server/jwks.json",))
PUBLIC_TEST_CLIENTS: Mapping[str, JwtClient] = {
    "https://sandbox.cds-hooks.org": SANDBOX,
    "https://inferno.healthit.gov/suites": INFERNO,
}


class Refusal(StrEnum):
    """Which check failed; the words appear in answers and metrics."""

    MISSING = "no-token"
    MALFORMED = "malformed"
    TYPE = "typ"
    ALGORITHM = "alg"
    KEY_ID = "kid"
    ISSUER = "iss"
    KEY_URL = "jku"
    KEYS_AWAY = "keys-unavailable"
    KEY = "unknown-key"
    SIGNATURE = "signature"
    AUDIENCE = "aud"
    EXPIRED = "exp"
    ISSUED = "iat"
    LIFETIME = "lifetime"
    TOKEN_ID = "jti"
    TENANT = "tenant"
    REPLAY = "replay"


_TEXTS: Mapping[Refusal, str] = {
    Refusal.MISSING: "a client token is required",
    Refusal.MALFORMED: "the client token is no JWT",
    Refusal.TYPE: "the client token's typ is not JWT",
    Refusal.ALGORITHM: "the client token's alg is not accepted",
    Refusal.KEY_ID: "the client token has no kid",
    Refusal.ISSUER: "the client token's iss is not known here",
    Refusal.KEY_URL: "the client token's jku is not known here",
    Refusal.KEYS_AWAY: "the client's keys cannot be read now",
    Refusal.KEY: "the client token's kid is none of the client's keys",
    Refusal.SIGNATURE: "the client token's signature is wrong",
    Refusal.AUDIENCE: "the client token's aud is not the URL called",
    Refusal.EXPIRED: "the client token has expired, or has no exp",
    Refusal.ISSUED: "the client token's iat is in the future, or missing",
    Refusal.LIFETIME: "the client token lives too long",
    Refusal.TOKEN_ID: "the client token has no jti",
    Refusal.TENANT: "the client token's tenant is not known here",
    Refusal.REPLAY: "the client token was used before",
}


def refused(reason: Refusal) -> ProtocolError:
    """401 with its challenge (RFC 6750, section 3)."""
    challenge = 'Bearer realm="tcell-cds"'
    if reason is not Refusal.MISSING:
        challenge += ', error="invalid_token"'
    return ProtocolError(401, IssueCode.LOGIN, _TEXTS[reason], headers={"WWW-Authenticate": challenge})


class _Registry(jws.JWSRegistry):
    max_header_length = _LONGEST


@dataclass(frozen=True, slots=True)
class _Client:
    """A listed client: its key sources by jku; "" is where a token without jku looks."""

    sources: Mapping[str, KeySource]
    tenants: frozenset[str] = field(default_factory=frozenset)


class ClientTokens:
    """Checks the token of every call; an async context that holds the connections to key servers."""

    def __init__(
        self,
        settings: Settings,
        used: UsedTokens,
        *,
        on_refused: Callable[[str], None] = lambda reason: None,
        clock: Callable[[], float] = time.time,
        transport: httpx.AsyncBaseTransport | None = None,
        clients: Mapping[str, JwtClient] | None = None,
    ) -> None:
        """`clients` replaces the configured ones (a demo's). Raises SettingsError."""
        if not settings.base_url:
            raise SettingsError(f"{PREFIX}AUTH_MODE=jwt needs {PREFIX}BASE_URL: tokens name the URL called")
        listed = settings.jwt_clients if clients is None else clients
        if not listed:
            raise SettingsError(f"{PREFIX}AUTH_MODE=jwt needs {PREFIX}JWT_CLIENTS: nobody could call")
        if clients is None:
            _refuse_public_keys(listed)
        urls = {url for client in listed.values() for url in (*client.jku, client.jwks_url) if url}
        guard = OutgoingGuard([urlsplit(url).netloc for url in urls])
        _check(guard, urls)
        self._http = httpx.AsyncClient(
            transport=transport or PinnedTransport(guard, connections=4),
            headers={"Accept": "application/json", "User-Agent": "tcell-cds"},
            follow_redirects=False,
            trust_env=False,
        )
        self._clients = {issuer: self._client(issuer, client) for issuer, client in listed.items()}
        self._base, self._used = settings.base_url, used
        self._on_refused, self._clock = on_refused, clock
        self._algorithms = frozenset(settings.jwt_algorithms)
        self._leeway, self._lifetime = settings.jwt_leeway_seconds, settings.jwt_lifetime_seconds

    def _client(self, issuer: str, listed: JwtClient) -> _Client:
        sources = {url: KeySource(self._http, url) for url in listed.jku}
        if listed.jwks_file is not None:
            try:
                sources[""] = KeySource(self._http, "", keys_of_file(listed.jwks_file))
            except ValueError as error:
                raise SettingsError(f"{PREFIX}JWT_CLIENTS: {issuer}: {error}") from None
        elif listed.jwks_url:
            known = sources.get(listed.jwks_url)
            sources[""] = known or KeySource(self._http, listed.jwks_url)
        if not sources:
            raise SettingsError(f"{PREFIX}JWT_CLIENTS: {issuer}: jku, jwks_url or jwks_file is needed")
        return _Client(sources, frozenset(listed.tenants))

    async def __aenter__(self) -> ClientTokens:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def keys_are_there(self) -> bool:
        """False where a key server failed when last asked."""
        return not any(s.failing for client in self._clients.values() for s in client.sources.values())

    async def __call__(self, request: Request) -> str:
        """The issuer that calls. Raises ProtocolError(401)."""
        try:
            return await self._checked(_bearer(request), self._base + request.url.path)
        except _Refused as refusal:
            self._on_refused(refusal.reason.value)
            raise refused(refusal.reason) from None

    async def _checked(self, token: str, url: str) -> str:
        header, claims = _parts(token)
        kid = self._header(header)
        issuer = claims.get("iss")
        client = self._clients.get(issuer) if isinstance(issuer, str) else None
        if client is None or not isinstance(issuer, str):
            _refuse(Refusal.ISSUER)
        key = await _key(client, header.get("jku"), kid)
        self._verify(token, header["alg"], key)
        expires = self._claims(claims, url, client)
        token_id = _text(claims, "jti", Refusal.TOKEN_ID)
        if not await self._used.first_use(issuer, token_id, expires + self._leeway):
            _refuse(Refusal.REPLAY)
        return issuer

    def _header(self, header: Mapping[str, Any]) -> str:
        kind = header.get("typ")
        if not isinstance(kind, str) or kind.upper() != "JWT":
            _refuse(Refusal.TYPE)
        algorithm = header.get("alg")
        if not isinstance(algorithm, str) or algorithm not in self._algorithms:
            _refuse(Refusal.ALGORITHM)
        if "crit" in header:  # extensions that must be understood: we understand none
            _refuse(Refusal.MALFORMED)
        return _text(header, "kid", Refusal.KEY_ID)

    def _verify(self, token: str, algorithm: str, key: Key) -> None:
        """The algorithm is that of our list AND fits the key; a key that names another one is refused."""
        curve = _CURVES.get(algorithm)
        fits = key.key_type == ("EC" if curve else "RSA") and key.get("alg") in (None, algorithm)
        if not fits or (curve and key.get("crv") != curve):
            _refuse(Refusal.ALGORITHM)
        registry = _Registry(algorithms=[algorithm], strict_check_header=False)
        try:
            jws.deserialize_compact(token, key, registry=registry)
        except (JoseError, ValueError, TypeError):
            _refuse(Refusal.SIGNATURE)

    def _claims(self, claims: Mapping[str, Any], url: str, client: _Client) -> int:
        audience = claims.get("aud")
        named = audience if isinstance(audience, list) else [audience]
        if url not in named:
            _refuse(Refusal.AUDIENCE)
        now = self._clock()
        expires, issued = _instant(claims, "exp", Refusal.EXPIRED), _instant(claims, "iat", Refusal.ISSUED)
        if expires + self._leeway <= now:
            _refuse(Refusal.EXPIRED)
        if issued > now + self._leeway:
            _refuse(Refusal.ISSUED)
        if expires - issued > self._lifetime:
            _refuse(Refusal.LIFETIME)
        tenant = claims.get("tenant")
        if client.tenants and (not isinstance(tenant, str) or tenant not in client.tenants):
            _refuse(Refusal.TENANT)
        return expires


class _Refused(Exception):  # noqa: N818 - carries the reason to the one place that answers
    def __init__(self, reason: Refusal) -> None:
        super().__init__(reason.value)
        self.reason = reason


def _refuse(reason: Refusal) -> NoReturn:
    raise _Refused(reason)


def _bearer(request: Request) -> str:
    given = request.headers.getlist("authorization")
    if not given:
        _refuse(Refusal.MISSING)
    scheme, _, token = given[0].partition(" ")
    if scheme.lower() != "bearer":
        _refuse(Refusal.MISSING)
    if len(given) > 1 or len(token) > _LONGEST:
        _refuse(Refusal.MALFORMED)
    return token.strip()


def _parts(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims as sent; nothing of them is trusted yet."""
    pieces = token.split(".")
    if len(pieces) != 3:
        _refuse(Refusal.MALFORMED)
    return _decoded(pieces[0]), _decoded(pieces[1])


def _decoded(piece: str) -> dict[str, Any]:
    try:
        raw = base64.b64decode(piece + "=" * (-len(piece) % 4), altchars="-_", validate=True)
        value = decode_json(raw)
    except (binascii.Error, ValueError, JsonError):
        _refuse(Refusal.MALFORMED)
    if not isinstance(value, dict):
        _refuse(Refusal.MALFORMED)
    return value


async def _key(client: _Client, jku: object, kid: str) -> Key:
    source = client.sources.get("" if jku is None else jku if isinstance(jku, str) and jku else "\x00")
    if source is None:
        _refuse(Refusal.KEY_URL)
    try:
        key = await source.key(kid)
    except KeysUnavailableError:
        _refuse(Refusal.KEYS_AWAY)
    if key is None:
        _refuse(Refusal.KEY)
    return key


def _text(holder: Mapping[str, Any], name: str, reason: Refusal) -> str:
    value = holder.get(name)
    if not isinstance(value, str) or not value.strip() or len(value) > _LONGEST_ID:
        _refuse(reason)
    return value


def _instant(claims: Mapping[str, Any], name: str, reason: Refusal) -> int:
    """Seconds since 1970. A huge number is no instant."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**40:
        _refuse(reason)
    return int(value)


def _refuse_public_keys(clients: Mapping[str, JwtClient]) -> None:
    for issuer, client in clients.items():
        for url in (issuer, *client.jku, client.jwks_url):
            if (urlsplit(url).hostname or "").rstrip(".").lower() in PUBLIC_TEST_HOSTS:
                raise SettingsError(
                    f"{PREFIX}JWT_CLIENTS: {issuer} signs with a key that everybody can read; it is accepted "
                    "by `serve --demo` only"
                )


def _check(guard: OutgoingGuard, urls: set[str]) -> None:
    for url in sorted(urls):
        try:
            guard.check(url)
        except OutgoingRefusedError as error:
            raise SettingsError(f"{PREFIX}JWT_CLIENTS: {url}: {error.reason.value}") from None
