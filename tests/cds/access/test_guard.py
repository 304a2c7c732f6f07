"""Checklist 46 and 48: which hosts may be called, and that the checked address is the one connected to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import httpx
import pytest

from cds.access import OutgoingGuard, OutgoingRefusedError, PinnedTransport, Refusal


def refusal(guard: OutgoingGuard, url: str) -> Refusal:
    with pytest.raises(OutgoingRefusedError) as caught:
        guard.check(url)
    return caught.value.reason


@pytest.mark.parametrize(
    "url", ["http://localhost:8080/fhir", "http://127.0.0.1/fhir/", "https://[::1]/r4", "http://LOCALHOST./"]
)
def test_48_unset_allow_list_means_this_machine(url: str) -> None:
    assert OutgoingGuard(None).check(url)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://fhir.example.org/r4", Refusal.HOST),
        ("http://169.254.169.254/latest", Refusal.HOST),
        ("http://10.0.0.1/fhir", Refusal.HOST),
        ("http://localhost.example.org/", Refusal.HOST),
        ("http://2130706433/", Refusal.HOST),
        ("http://0/", Refusal.HOST),
        ("http://user:pass@localhost/", Refusal.USERINFO),
        ("http://localhost@evil.example/", Refusal.USERINFO),
        ("http://localhost/fhir?x=", Refusal.QUERY),
        ("http://localhost/fhir#x", Refusal.QUERY),
        ("ftp://localhost/", Refusal.NOT_A_URL),
        ("file:///etc/passwd", Refusal.NOT_A_URL),
        ("localhost", Refusal.NOT_A_URL),
        ("", Refusal.NOT_A_URL),
        ("http://", Refusal.NOT_A_URL),
        ("http://[::1", Refusal.NOT_A_URL),
        ("http://localhost:99999999/", Refusal.NOT_A_URL),
    ],
)
def test_48_everything_else_is_refused(url: str, reason: Refusal) -> None:
    assert refusal(OutgoingGuard(None), url) is reason


def test_48_listed_hosts_only_on_their_ports() -> None:
    guard = OutgoingGuard(
        ["fhir.example.org", "ehr.example.org:8443", "[2001:db8::1]:443", "https://full.example/x"]
    )
    assert guard.check("https://FHIR.example.org:444/r4/").path == "/r4"
    assert guard.check("https://ehr.example.org:8443")
    assert guard.check("https://[2001:db8::1]/fhir")
    assert guard.check("https://full.example/fhir")
    assert refusal(guard, "https://ehr.example.org/") is Refusal.HOST
    assert refusal(guard, "https://sub.fhir.example.org/") is Refusal.HOST
    assert refusal(guard, "http://localhost/") is Refusal.HOST


def test_26_https_is_required_outside_this_machine() -> None:
    guard = OutgoingGuard(["fhir.example.org", "localhost"])
    assert refusal(guard, "http://fhir.example.org/") is Refusal.SCHEME
    assert guard.check("http://localhost/")


def resolving(*answers: str) -> OutgoingGuard:
    async def fake(host: str, port: int) -> Sequence[str]:
        return answers

    return OutgoingGuard(["fhir.example.org"], fake)


@pytest.mark.parametrize("address", ["10.1.2.3", "192.168.1.1", "93.184.216.34", "2001:4860::1"])
async def test_private_and_public_addresses_of_a_listed_host_are_called(address: str) -> None:
    assert await resolving(address).addresses("fhir.example.org", 443) == [address]


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "::1", "::ffff:127.0.0.1", "169.254.169.254", "fe80::1%eth0", "0.0.0.0", "224.0.0.1", "x"],
)
async def test_rebinding_to_this_machine_or_metadata_is_refused(address: str) -> None:
    with pytest.raises(OutgoingRefusedError) as caught:
        await resolving(address).addresses("fhir.example.org", 443)
    assert caught.value.reason is Refusal.ADDRESS


async def test_a_name_without_address_is_refused() -> None:
    with pytest.raises(OutgoingRefusedError) as caught:
        await resolving().addresses("fhir.example.org", 443)
    assert caught.value.reason is Refusal.UNRESOLVED

    async def broken(host: str, port: int) -> Sequence[str]:
        raise OSError

    with pytest.raises(OutgoingRefusedError):
        await OutgoingGuard(None, broken).addresses("localhost", 80)


@pytest.fixture
async def server() -> AsyncIterator[tuple[int, list[bytes]]]:
    """A loopback server that records request heads."""
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield listening.sockets[0].getsockname()[1], heads
    listening.close()
    await listening.wait_closed()


async def test_the_checked_address_is_connected_to_under_the_servers_name(
    server: tuple[int, list[bytes]],
) -> None:
    port, heads = server
    asked: list[str] = []

    async def first_checked_then_rebound(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.2", "127.0.0.1"] if len(asked) == 1 else ["169.254.169.254"]

    guard = OutgoingGuard(None, first_checked_then_rebound, remember_seconds=0)
    transport = PinnedTransport(guard)
    async with httpx.AsyncClient(transport=transport) as client:
        answer = await client.get(f"http://localhost:{port}/fhir/metadata")
        assert answer.text == "ok"
        assert f"host: localhost:{port}".encode() in heads[0].lower()
        with pytest.raises(OutgoingRefusedError):
            await client.get(f"http://localhost:{port}/fhir/metadata")
    assert len(heads) == 1


async def test_no_listener_is_a_connect_error() -> None:
    async def nowhere(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    async with httpx.AsyncClient(transport=PinnedTransport(OutgoingGuard(None, nowhere))) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get("http://localhost:9/")


async def test_checked_addresses_are_remembered_for_a_moment() -> None:
    asked: list[str] = []

    async def once(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["10.0.0.1"]

    guard = OutgoingGuard(["fhir.example.org"], once)
    assert await guard.addresses("fhir.example.org", 443) == ["10.0.0.1"]
    assert await guard.addresses("fhir.example.org", 443) == ["10.0.0.1"]
    assert await guard.addresses("fhir.example.org", 8443) == ["10.0.0.1"]
    assert len(asked) == 2
