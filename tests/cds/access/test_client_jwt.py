"""Checklist 84 to 93: every way in which a client token is refused, and the few in which it is accepted."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI
from joserfc import jwk, jws
from joserfc.errors import JoseError

from cds.access import PUBLIC_TEST_CLIENTS, ClientTokens, UsedTokens
from cds.access.jwks import public_keys
from cds.access.replay import KEPT_BEYOND_EXPIRY, Shared
from cds.app import create_app
from cds.settings import JwtClient, SettingsError
from tests.conftest import client_of, hook_request, settings_for_tests

BASE = "https://cds.hospital.example"
DISCOVERY = f"{BASE}/cds-services"
ISSUER, JKU = "https://ehr.example", "https://ehr.example/keys.json"
NOW = 1_800_000_000

EC = jwk.ECKey.generate_key("P-384", {"kid": "ec", "use": "sig", "alg": "ES384"})
EC_NEXT = jwk.ECKey.generate_key("P-384", {"kid": "next"})
EC_256 = jwk.ECKey.generate_key("P-256", {"kid": "p256"})
STRANGER = jwk.ECKey.generate_key("P-384", {"kid": "ec"})
RSA = jwk.RSAKey.generate_key(2048, {"kid": "rsa"})
ONLY_RS256 = jwk.RSAKey.generate_key(2048, {"kid": "rs256", "alg": "RS256"})
EVERY = ["ES384", "RS384", "ES256", "RS256", "HS256", "HS384", "none"]

Change = dict[str, Any]
_ABSENT = object()


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(key: Any = EC, header: Change | None = None, claims: Change | None = None) -> str:
    """A good token with changes; `_ABSENT` takes a field away."""
    head = {"alg": "ES384", "kid": key.kid if key else "ec", "typ": "JWT", "jku": JKU} | (header or {})
    body = {"iss": ISSUER, "aud": DISCOVERY, "iat": NOW, "exp": NOW + 300, "jti": uuid4().hex}
    body |= claims or {}
    head = {name: value for name, value in head.items() if value is not _ABSENT}
    body = {name: value for name, value in body.items() if value is not _ABSENT}
    registry = jws.JWSRegistry(algorithms=EVERY, strict_check_header=False)
    payload = json.dumps(body).encode()
    if key is not None:
        try:
            return jws.serialize_compact(head, payload, key, algorithms=EVERY, registry=registry)
        except (JoseError, ValueError):
            pass  # the library does not write what an attacker would
    return f"{b64(json.dumps(head).encode())}.{b64(payload)}.{b64(b'x' * 96)}"


def jwks(*keys: Any) -> dict[str, Any]:
    return {"keys": [key.as_dict(private=False) for key in keys]}


class KeyServer:
    """The client's key server: what it says, what was asked, and what it is asked to play."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.document: Any = jwks(EC, EC_256, RSA, ONLY_RS256)
        self.answer: Callable[[], httpx.Response] | None = None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(str(request.url))
        return self.answer() if self.answer else httpx.Response(200, json=self.document)


@pytest.fixture
def server() -> KeyServer:
    return KeyServer()


Clients = dict[str, JwtClient]
LISTED: Clients = {
    ISSUER: JwtClient(jku=(JKU,)),
    "https://tenants.example": JwtClient(jku=(JKU,), tenants=("ward-a",)),
}


def checker(server: KeyServer, clients: Clients = LISTED, **options: Any) -> ClientTokens:
    shared = options.pop("shared", None)
    settings = settings_for_tests(auth_mode="jwt", base_url=BASE, jwt_clients=clients, **options)
    return ClientTokens(
        settings,
        UsedTokens(shared, clock=lambda: NOW),
        clock=lambda: NOW,
        transport=httpx.MockTransport(server),
    )


@asynccontextmanager
async def protected(server: KeyServer, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    tokens = checker(server, **options)
    app: FastAPI = create_app(
        settings_for_tests(auth_mode="jwt", base_url=BASE), authenticate=tokens, resources=(tokens,)
    )
    async with app.router.lifespan_context(app), client_of(app) as client:
        yield client


async def get(client: httpx.AsyncClient, given: str, path: str = "/cds-services") -> httpx.Response:
    return await client.get(path, headers={"Authorization": f"Bearer {given}"})


def reason(response: httpx.Response) -> str:
    text: str = response.json()["issue"][0]["details"]["text"]
    return text


@pytest.mark.parametrize(
    ("key", "header", "claims"),
    [
        (EC, {}, {}),
        (RSA, {"alg": "RS384"}, {}),
        (EC, {"typ": "jwt"}, {}),
        (EC, {}, {"aud": ["https://other.example", DISCOVERY]}),
        (EC, {}, {"tenant": "any"}),
        (EC, {}, {"iss": "https://tenants.example", "tenant": "ward-a"}),
        (EC, {}, {"iat": NOW + 29, "exp": NOW + 200}),
        (EC, {}, {"iat": NOW - 200, "exp": NOW - 29}),
        (EC, {}, {"iat": NOW - 0.5, "exp": NOW + 60.5}),
        (EC, {}, {"exp": NOW + 3600}),
        (EC, {"x-own": "extra"}, {"own": {"extra": True}}),
    ],
)
async def test_86_92_good_tokens_are_accepted(
    server: KeyServer, key: Any, header: Change, claims: Change
) -> None:
    async with protected(server) as client:
        response = await get(client, token(key, header, claims))
        assert response.status_code == 200, reason(response)


HS_KEY = jwk.OctKey.import_key("whatever an attacker chose, 32 bytes long", {"kid": "ec"})

MATRIX: list[tuple[str, Any, Change, Change]] = [
    ("typ", EC, {"typ": _ABSENT}, {}),
    ("typ", EC, {"typ": "at+jwt"}, {}),
    ("typ", EC, {"typ": 1}, {}),
    ("alg", None, {"alg": "none"}, {}),
    ("alg", None, {"alg": "None"}, {}),
    ("alg", None, {"alg": _ABSENT}, {}),
    ("alg", None, {"alg": ["ES384"]}, {}),
    ("alg", HS_KEY, {"alg": "HS256"}, {}),
    ("alg", HS_KEY, {"alg": "HS384"}, {}),
    ("alg", EC_256, {"alg": "ES256"}, {}),
    ("alg", RSA, {"alg": "RS256"}, {}),
    ("alg", None, {"alg": "RS384", "kid": "ec"}, {}),
    ("alg", None, {"alg": "ES384", "kid": "rsa"}, {}),
    ("alg", None, {"alg": "ES384", "kid": "p256"}, {}),
    ("alg", ONLY_RS256, {"alg": "RS384"}, {}),
    ("kid", EC, {"kid": _ABSENT}, {}),
    ("kid", None, {"kid": 7}, {}),
    ("kid", EC, {"kid": ""}, {}),
    ("kid is none", EC, {"kid": "other"}, {}),
    ("no JWT", None, {"crit": ["b64"], "b64": False}, {}),
    ("iss", EC, {}, {"iss": _ABSENT}),
    ("iss", EC, {}, {"iss": "https://ehr.example/"}),
    ("iss", EC, {}, {"iss": "https://evil.example"}),
    ("iss", EC, {}, {"iss": [ISSUER]}),
    ("jku", EC, {"jku": "https://evil.example/keys.json"}, {}),
    ("jku", EC, {"jku": JKU + "?x"}, {}),
    ("jku", EC, {"jku": "http://ehr.example/keys.json"}, {}),
    ("jku", EC, {"jku": ""}, {}),
    ("jku", EC, {"jku": None}, {}),
    ("jku", EC, {"jku": [JKU]}, {}),
    ("jku", EC, {"jku": _ABSENT}, {}),
    ("signature", STRANGER, {}, {}),
    ("signature", None, {}, {}),
    ("aud", EC, {}, {"aud": _ABSENT}),
    ("aud", EC, {}, {"aud": BASE}),
    ("aud", EC, {}, {"aud": DISCOVERY + "/"}),
    ("aud", EC, {}, {"aud": "http://cds.test/cds-services"}),
    ("aud", EC, {}, {"aud": DISCOVERY.upper()}),
    ("aud", EC, {}, {"aud": []}),
    ("aud", EC, {}, {"aud": {DISCOVERY: 1}}),
    ("exp", EC, {}, {"exp": _ABSENT}),
    ("exp", EC, {}, {"exp": str(NOW + 300)}),
    ("exp", EC, {}, {"exp": True}),
    ("exp", EC, {}, {"exp": 1e300}),
    ("exp", EC, {}, {"iat": NOW - 300, "exp": NOW - 31}),
    ("iat", EC, {}, {"iat": _ABSENT}),
    ("iat", EC, {}, {"iat": "now"}),
    ("iat", EC, {}, {"iat": NOW + 31}),
    ("too long", EC, {}, {"exp": NOW + 3601}),
    ("jti", EC, {}, {"jti": _ABSENT}),
    ("jti", EC, {}, {"jti": ""}),
    ("jti", EC, {}, {"jti": 5}),
    ("jti", EC, {}, {"jti": "x" * 256}),
    ("tenant", EC, {}, {"iss": "https://tenants.example"}),
    ("tenant", EC, {}, {"iss": "https://tenants.example", "tenant": "ward-b"}),
    ("tenant", EC, {}, {"iss": "https://tenants.example", "tenant": ["ward-a"]}),
]


@pytest.mark.parametrize(("why", "key", "header", "claims"), MATRIX)
async def test_86_92_every_other_token_is_refused_with_its_reason(
    server: KeyServer, why: str, key: Any, header: Change, claims: Change
) -> None:
    bad = token(key, header, claims)
    async with protected(server) as client:
        response = await get(client, bad)
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == 'Bearer realm="tcell-cds", error="invalid_token"'
        assert why in reason(response)
        assert not any(part in response.text for part in (bad, ISSUER, "evil", "ward"))
        assert all(asked == JKU for asked in server.asked)


@pytest.mark.parametrize(
    ("header", "challenge"),
    [
        (None, 'Bearer realm="tcell-cds"'),
        ("Basic dXNlcjpwYXNz", 'Bearer realm="tcell-cds"'),
        ("Bearer", 'Bearer realm="tcell-cds", error="invalid_token"'),
        ("Bearer x", 'Bearer realm="tcell-cds", error="invalid_token"'),
        ("Bearer a.b.c", 'Bearer realm="tcell-cds", error="invalid_token"'),
        ("Bearer " + "a" * 9000, 'Bearer realm="tcell-cds", error="invalid_token"'),
        ("Bearer W10.W10.x", 'Bearer realm="tcell-cds", error="invalid_token"'),
        ("Bearer ..", 'Bearer realm="tcell-cds", error="invalid_token"'),
        ("Bearer " + "é.é.é", 'Bearer realm="tcell-cds", error="invalid_token"'),
    ],
)
async def test_93_no_token_and_no_jwt(server: KeyServer, header: str | None, challenge: str) -> None:
    async with protected(server) as client:
        headers = {} if header is None else {b"Authorization": header.encode("latin-1")}
        response = await client.get("/cds-services", headers=headers)
        assert (response.status_code, response.headers["www-authenticate"]) == (401, challenge)
    assert server.asked == []


async def test_two_tokens_are_none(server: KeyServer) -> None:
    async with protected(server) as client:
        twice = [("Authorization", f"Bearer {token()}"), ("Authorization", f"Bearer {token()}")]
        assert (await client.get("/cds-services", headers=twice)).status_code == 401


@pytest.mark.parametrize("header", [{"jku": "https://evil.example/k"}, {"alg": "HS256"}])
@pytest.mark.parametrize("claims", [{"iss": "https://evil.example"}, {}])
async def test_89_nothing_is_fetched_before_issuer_and_key_url_are_known(
    server: KeyServer, header: Change, claims: Change
) -> None:
    async with protected(server) as client:
        assert (await get(client, token(None, header, claims))).status_code == 401
    assert server.asked == []


async def test_every_path_has_its_own_audience(server: KeyServer) -> None:
    service = "/cds-services/grading-patient-view"
    async with protected(server) as client:
        for path, audience, status in (
            (service, BASE + service, 412),
            (service, DISCOVERY, 401),
            (f"{service}/feedback", f"{BASE}{service}/feedback", 400),
            (f"{service}/feedback", BASE + service, 401),
        ):
            response = await client.post(
                path,
                json=hook_request("patient-view"),
                headers={
                    "Authorization": f"Bearer {token(claims={'aud': audience})}",
                    "Host": "evil.example",
                },
            )
            assert response.status_code == status, path
        assert (await client.get("/health/live")).status_code == 200


async def test_92_a_token_is_used_once(server: KeyServer) -> None:
    once = token()
    async with protected(server) as client:
        assert (await get(client, once)).status_code == 200
        again = await get(client, once)
        assert (again.status_code, "used before" in reason(again)) == (401, True)
        assert (await get(client, token())).status_code == 200


async def test_92_a_refused_token_uses_nothing_up(server: KeyServer) -> None:
    async with protected(server) as client:
        assert (await get(client, token(STRANGER, claims={"jti": "j1"}))).status_code == 401
        assert (await get(client, token(claims={"jti": "j1"}))).status_code == 200


@pytest.mark.parametrize(("known", "status"), [(True, 200), (False, 401), (None, 200)])
async def test_92_other_workers_are_asked(server: KeyServer, known: bool | None, status: int) -> None:
    asked = []

    async def shared(issuer: str, name: str, expires: int) -> bool | None:
        asked.append((issuer, name, expires))
        return known

    async with protected(server, shared=shared) as client:
        assert (await get(client, token(claims={"jti": "j"}))).status_code == status
    assert asked == [(ISSUER, "j", NOW + 330)]


async def test_of_two_uses_at_once_one_is_first() -> None:
    async def slow(issuer: str, name: str, expires: int) -> bool | None:
        await asyncio.sleep(0.01)
        return True

    shared: Shared = slow
    used = UsedTokens(shared)
    found = await asyncio.gather(*(used.first_use("i", "t", int(time.time()) + 60) for _ in range(3)))
    assert sorted(found) == [False, False, True]


async def test_the_memory_of_used_tokens_is_bounded_and_forgets_the_expired() -> None:
    clock = [0.0]
    used = UsedTokens(None, clock=lambda: clock[0], most=10)
    for number in range(50):
        assert await used.first_use("i", str(number), 100 + number)
    assert len(used._seen) == 10
    assert not await used.first_use("i", "49", 149)
    clock[0] = 1000.0 + KEPT_BEYOND_EXPIRY
    assert await used.first_use("i", "new", 1100 + KEPT_BEYOND_EXPIRY)
    assert len(used._seen) == 1


@pytest.mark.parametrize("jump", [-3600, 3600, 20 * 3600])
async def test_a_clock_that_jumps_and_comes_back_replays_no_token(jump: int) -> None:
    clock = [float(NOW)]
    used = UsedTokens(None, clock=lambda: clock[0])
    assert await used.first_use("i", "t", NOW + 300)
    clock[0] += jump
    assert await used.first_use("i", "other", NOW + jump + 300)
    clock[0] -= jump
    assert not await used.first_use("i", "t", NOW + 300)


# --- keys


async def test_91_keys_are_read_once_and_again_when_a_client_rotates(server: KeyServer) -> None:
    clock = [0.0]
    tokens = checker(server)
    tokens._clients[ISSUER].sources[JKU]._clock = lambda: clock[0]
    app = create_app(settings_for_tests(auth_mode="jwt", base_url=BASE), authenticate=tokens)
    async with tokens, client_of(app) as client:
        for _ in range(5):
            assert (await get(client, token())).status_code == 200
        assert len(server.asked) == 1
        server.document = jwks(EC_NEXT)
        for _ in range(5):  # too soon after the first reading
            assert (await get(client, token(EC_NEXT))).status_code == 401
        assert len(server.asked) == 1
        clock[0] += 61
        assert (await get(client, token(EC_NEXT))).status_code == 200
        assert (await get(client, token(EC))).status_code == 401  # withdrawn
        assert len(server.asked) == 2
        clock[0] += 61
        await asyncio.gather(*(get(client, token(EC, {"kid": f"k{n}"})) for n in range(20)))
        assert len(server.asked) == 3


async def test_91_old_keys_stay_while_the_key_server_is_away(server: KeyServer) -> None:
    clock = [0.0]
    tokens = checker(server)
    tokens._clients[ISSUER].sources[JKU]._clock = lambda: clock[0]
    app = create_app(settings_for_tests(auth_mode="jwt", base_url=BASE), authenticate=tokens)
    async with tokens, client_of(app) as client:
        assert (await get(client, token())).status_code == 200
        server.answer = lambda: httpx.Response(500)
        clock[0] += 7200
        assert (await get(client, token())).status_code == 200
        assert not await tokens.keys_are_there()


def raised(error: Exception) -> Callable[[], httpx.Response]:
    def play() -> httpx.Response:
        raise error

    return play


@pytest.mark.parametrize(
    "answer",
    [
        lambda: httpx.Response(302, headers={"Location": "https://evil.example/keys"}),
        lambda: httpx.Response(404),
        lambda: httpx.Response(200, content=b"<html>"),
        lambda: httpx.Response(200, json=[]),
        lambda: httpx.Response(200, json={"keys": {}}),
        lambda: httpx.Response(200, json={"keys": [None, {}, {"kty": "EC", "kid": "ec"}]}),
        lambda: httpx.Response(200, content=b" " * 300_000),
        lambda: httpx.Response(200, content=b"[" * 50_000),
        raised(httpx.ConnectError("x")),
        raised(httpx.ReadTimeout("x")),
    ],
)
async def test_89_a_key_server_that_answers_badly_means_no(server: KeyServer, answer: Any) -> None:
    server.answer = answer
    async with protected(server) as client:
        response = await get(client, token())
        assert (response.status_code, reason(response)) == (401, "the client's keys cannot be read now")
    assert server.asked == [JKU]


def test_only_public_signature_keys_are_taken() -> None:
    short = jwk.RSAKey.generate_key(2048, {"kid": "short"}).as_dict(private=False)
    short["n"] = short["n"][:171]
    document = jwks(EC, RSA)["keys"] + [
        EC_NEXT.as_dict(private=True),
        {"kty": "oct", "kid": "oct", "k": "c2VjcmV0"},
        short,
        {**EC_256.as_dict(private=False), "use": "enc"},
        {**EC_256.as_dict(private=False), "kid": ""},
        {"kty": "EC", "crv": "P-384", "kid": "bad", "x": "!", "y": "!"},
        {"kty": "EC", "crv": "P-999", "kid": "bad", "x": "AA", "y": "AA"},
        {"kty": ["EC"], "kid": "bad"},
    ]
    assert set(public_keys({"keys": document})) == {"ec", "rsa"}
    assert public_keys(None) == public_keys({"keys": 7}) == {}


async def test_90_without_jku_the_keys_given_out_of_band_count(server: KeyServer, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_text(json.dumps(jwks(EC)))
    clients = {
        ISSUER: JwtClient(jwks_file=file),
        "https://by-url.example": JwtClient(jwks_url="https://by-url.example/jwks"),
    }
    no_jku: Change = {"jku": _ABSENT}
    async with protected(server, clients=clients) as client:
        assert (await get(client, token(EC, no_jku))).status_code == 200
        assert server.asked == []
        assert (await get(client, token(EC))).status_code == 401  # its jku is not listed
        by_url = token(EC, no_jku, {"iss": "https://by-url.example"})
        assert (await get(client, by_url)).status_code == 200
        assert server.asked == ["https://by-url.example/jwks"]


# --- set-up


@pytest.mark.parametrize(
    ("clients", "text"),
    [
        ({}, "JWT_CLIENTS"),
        ({ISSUER: JwtClient()}, "jku, jwks_url or jwks_file"),
        ({ISSUER: JwtClient(jku=("http://ehr.example/k",))}, "https-required"),
        ({ISSUER: JwtClient(jku=("https://u:p@ehr.example/k",))}, "userinfo|host-not-allowed"),
        ({ISSUER: JwtClient(jwks_file=Path("/no/such"))}, "FileNotFoundError"),
        (dict(PUBLIC_TEST_CLIENTS), "everybody can read"),
        ({ISSUER: JwtClient(jku=("https://SANDBOX.cds-hooks.org./x",))}, "everybody can read"),
        ({"https://sandbox.cds-hooks.org": JwtClient(jku=(JKU,))}, "everybody can read"),
    ],
)
def test_a_set_up_that_could_not_work_or_protect_does_not_start(
    server: KeyServer, clients: Clients, text: str
) -> None:
    with pytest.raises(SettingsError, match=text):
        checker(server, clients=clients)


def test_the_public_test_clients_are_for_demos() -> None:
    settings = settings_for_tests(auth_mode="jwt", base_url=BASE)
    assert ClientTokens(settings, UsedTokens(), clients=PUBLIC_TEST_CLIENTS)
    with pytest.raises(SettingsError, match="BASE_URL"):
        ClientTokens(settings_for_tests(auth_mode="jwt"), UsedTokens(), clients=LISTED)


@pytest.mark.parametrize("names", ["HS256", "none", "", "ES384,HS384"])
def test_88_a_symmetric_algorithm_cannot_be_configured(names: str) -> None:
    with pytest.raises(SettingsError, match="JWT_ALGORITHMS"):
        settings_for_tests(jwt_algorithms=names)


async def test_settings_read_clients_from_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TCELL_CDS_JWT_CLIENTS", json.dumps({ISSUER: {"jku": [JKU], "tenants": ["a"]}}))
    assert settings_for_tests().jwt_clients[ISSUER].jku == (JKU,)
    monkeypatch.setenv("TCELL_CDS_JWT_CLIENTS", json.dumps({ISSUER: {"jkus": [JKU]}}))
    with pytest.raises(SettingsError, match="JWT_CLIENTS"):
        settings_for_tests()
