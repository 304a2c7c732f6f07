"""Bounds on what is read: size while it streams in, nesting before anything recurses over it."""

from __future__ import annotations

from collections.abc import AsyncIterable
from enum import StrEnum
from typing import Any

import orjson

_BOM = b"\xef\xbb\xbf"
DEEPEST = 254  # levels of nesting; FHIR resources have about a dozen


class JsonFault(StrEnum):
    NOT_JSON = "not-json"
    TOO_DEEP = "too-deep"


class JsonError(Exception):
    """Bytes that are not acceptable JSON. Carries the kind of fault only, never the text."""

    def __init__(self, fault: JsonFault) -> None:
        super().__init__(fault.value)
        self.fault = fault


class TooLargeError(Exception):
    """More bytes than the limit allows."""


async def read_limited(chunks: AsyncIterable[bytes], limit: int, declared: str | None = None) -> bytes:
    """All chunks joined. Raises TooLargeError as soon as the limit is passed, or is declared to be."""
    if declared is not None and declared.isdecimal() and int(declared) > limit:
        raise TooLargeError
    received: list[bytes] = []
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > limit:
            raise TooLargeError
        received.append(chunk)
    return received[0] if len(received) == 1 else b"".join(received)


def decode_json(data: bytes, *, resources: str = "") -> Any:
    """The value of a JSON text. NaN, infinities and broken UTF-8 are no JSON. Raises JsonError.

    Depth is bounded twice, both times in C: the parser stops at 1024 levels, so memory stays bounded, and
    more than DEEPEST levels are refused, well below the interpreter's recursion limit. `resources` names the
    member of an object that holds FHIR resources: the mapper survives any depth, and to go through a whole
    chart once more would cost a fifth of a call.
    """
    if data.startswith(_BOM):
        data = data[len(_BOM) :]
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        fault = JsonFault.TOO_DEEP if "depth limit" in str(error) else JsonFault.NOT_JSON
        raise JsonError(fault) from None
    if resources and isinstance(value, dict):
        _check_depth({name: member for name, member in value.items() if name != resources})
    else:
        _check_depth(value)
    return value


def _check_depth(value: Any) -> None:
    """Refuses what no code of ours may recurse over. Raises JsonError.

    Encoding once costs a sixth of parsing; counting brackets would be fooled by brackets in strings.
    """
    try:
        orjson.dumps(value)
    except orjson.JSONEncodeError as error:
        if "Recursion" in str(error):  # what is odd in another way was not read from JSON text by us
            raise JsonError(JsonFault.TOO_DEEP) from None
