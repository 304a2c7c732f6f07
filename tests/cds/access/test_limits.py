"""Checklist 33: bodies of any size and depth are refused within bounded memory and time."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from cds.access import JsonError, JsonFault, TooLargeError, decode_json, read_limited
from cds.access.limits import DEEPEST


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_33_body_is_joined_up_to_the_limit() -> None:
    assert await read_limited(chunks(b"abc", b"de"), 5) == b"abcde"
    assert await read_limited(chunks(), 5) == b""


async def test_33_body_over_the_limit_is_refused_while_it_streams() -> None:
    seen = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal seen
        while True:
            seen += 1
            yield b"x" * 10

    with pytest.raises(TooLargeError):
        await read_limited(endless(), 100)
    assert seen == 11


async def test_33_declared_length_over_the_limit_is_refused_unread() -> None:
    with pytest.raises(TooLargeError):
        await read_limited(chunks(), 100, "101")
    assert await read_limited(chunks(b"x"), 100, "many") == b"x"


@pytest.mark.parametrize(
    "text", [b"", b"{", b"NaN", b"[1e999]", b"{'a': 1}", b"\xff\xfe", b'"\\ud800"', b"[1,]"]
)
def test_33_what_is_not_json_is_refused(text: bytes) -> None:
    with pytest.raises(JsonError) as caught:
        decode_json(text)
    assert caught.value.fault is JsonFault.NOT_JSON


def test_a_byte_order_mark_is_tolerated() -> None:
    assert decode_json(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}


@pytest.mark.parametrize("depth", [DEEPEST + 1, 1000, 10_000, 500_000])
@pytest.mark.parametrize(("opened", "closed"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_33_absurd_nesting_is_refused(depth: int, opened: bytes, closed: bytes) -> None:
    text = opened * depth + b"1" + closed * depth
    with pytest.raises(JsonError) as caught:
        decode_json(text)
    assert caught.value.fault is JsonFault.TOO_DEEP


def test_33_nesting_at_the_limit_is_read() -> None:
    assert decode_json(b"[" * DEEPEST + b"]" * DEEPEST)


def test_brackets_in_strings_are_no_nesting_and_hide_none() -> None:
    text = json.dumps({"a": "[" * 500, "b": '"[\\', "c": "1-3)]"})
    assert decode_json(text.encode()) == json.loads(text)
    half = DEEPEST // 2
    masked = (
        "[" * half
        + f'"{"]" * half}",'
        + "[" * (half + 1)
        + "]" * (half + 1)
        + f',"{"[" * half}"'
        + "]" * half
    )
    with pytest.raises(JsonError):
        decode_json(masked.encode())
