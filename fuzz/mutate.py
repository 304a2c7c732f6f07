"""Real hook requests, broken in the ways in which clients, servers and attackers break them.

Mutations know the structure: they swap values for others of the wrong kind, duplicate and drop entries,
exchange codes, units, dates and statuses between resources, point references elsewhere, nest, truncate.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import orjson

Json = Any
Place = tuple[Any, Any]  # container, key or index

_LEAVES: tuple[Json, ...] = (
    None, True, False, 0, -1, 1, 2**53, -(2**63), 2**64 - 1, 1e308, -1e308, 5e-324, 0.1, "", " ", "null",
    "NaN", "-0", "\u0000", "\ud7ff\u202e", "<script>alert(1)</script>", "![x](javascript:alert(1))",
    "](http://evil.example)", "{{context.patientId}}", "{x}", "%s%n", "' OR 1=1 --", "../../etc/passwd",
    "A" * 5000, "é" * 300, "\U0001f9ec" * 140, [], {}, [[]], [None], [{}], {"": None},
    {"resourceType": "Patient"}, {"resourceType": 7},
)  # fmt: skip
_DATES = (
    "2026", "2026-13", "2026-02-30", "0000-00-00", "9999-12-31", "0001-01-01", "2026-03-16",
    "2026-03-16T24:00:00Z", "2026-03-16T10:00:00", "2026-03-16T10:00:00+14:00", "2026-03-16T10:00:60Z",
    "2026-03-16T10:00:00.999999999+08:00", "20260316", "+10000-01-01", "2026-W12", "1900-01-01T00:00:00Z",
)  # fmt: skip
_NUMBERS = (0, -1, 1e-9, 1e9, 1e30, 999999999999999999, 0.30000000000000004, "1,5", "1e3", "５", True, None)
_UNITS = ("mg", "g", "ug", "mg/dL", "10*3/uL", "/uL", "%", "Cel", "[degF]", "kg", "[lb_av]", "", "furlong", 7)
_STATUSES = ("final", "active", "draft", "entered-in-error", "unknown", "completed", "not-done", "", 5, None)
_IDS = ("", " ", "p1", "Patient/p1", "a/b", "x" * 64, "x" * 300, "é", "..", "#", "urn:uuid:x", 4, None, ["a"])


def places(value: Json) -> Iterator[Place]:
    """Every (container, key) of a JSON value, without recursion."""
    waiting = [value]
    while waiting:
        found = waiting.pop()
        items = found.items() if isinstance(found, dict) else enumerate(found)
        for key, inner in items:
            yield found, key
            if isinstance(inner, dict | list):
                waiting.append(inner)


def _pool(dice: random.Random, name: str) -> Json:
    """A value that fits the name of the field, more or less."""
    folded = name.lower()
    if any(word in folded for word in ("date", "time", "period", "start", "end", "issued", "authored")):
        return dice.choice(_DATES)
    if "value" in folded or folded in ("low", "high", "count", "total", "frequency", "rank"):
        return dice.choice(_NUMBERS)
    if folded in ("unit", "code"):
        return dice.choice(_UNITS)
    if folded in ("status", "intent", "lifecyclestatus"):
        return dice.choice(_STATUSES)
    if folded in ("id", "reference", "patientid", "userid", "encounterid", "hookinstance"):
        return dice.choice(_IDS)
    return dice.choice(_LEAVES)


def _replace(dice: random.Random, target: list[Place]) -> None:
    holder, key = dice.choice(target)
    holder[key] = copy.deepcopy(_pool(dice, str(key)))


def _hostile(dice: random.Random, target: list[Place]) -> None:
    holder, key = dice.choice(target)
    holder[key] = copy.deepcopy(dice.choice(_LEAVES))


def _exchange(dice: random.Random, target: list[Place]) -> None:
    """Two values of the same field name change places: a code gets another's unit, a date another's order."""
    one, key = dice.choice(target)
    alike = [place for place in target if place[1] == key and place[0] is not one]
    if alike:
        other, again = dice.choice(alike)
        one[key], other[again] = copy.deepcopy(other[again]), copy.deepcopy(one[key])


def _drop(dice: random.Random, target: list[Place]) -> None:
    holder, key = dice.choice(target)
    del holder[key]


def _repeat(dice: random.Random, target: list[Place]) -> None:
    lists = [holder[key] for holder, key in target if isinstance(holder[key], list) and holder[key]]
    if lists:
        chosen = dice.choice(lists)
        chosen += [copy.deepcopy(dice.choice(chosen)) for _ in range(dice.choice((1, 2, 20)))]


def _wrap(dice: random.Random, target: list[Place]) -> None:
    holder, key = dice.choice(target)
    inner = holder[key]
    for _ in range(dice.choice((1, 1, 3, 60))):
        inner = [inner] if dice.random() < 0.5 else {str(key): inner}
    holder[key] = inner


def _rename(dice: random.Random, target: list[Place]) -> None:
    named = [(holder, key) for holder, key in target if isinstance(holder, dict)]
    if named:
        holder, key = dice.choice(named)
        holder[dice.choice((key.upper(), "_" + key, key + "x", "resourceType", "extension"))] = holder.pop(
            key
        )


def _shuffle(dice: random.Random, target: list[Place]) -> None:
    for holder, key in target:
        if isinstance(holder[key], list) and key in ("entry", "coding", "component"):
            dice.shuffle(holder[key])


_MUTATIONS: tuple[Callable[[random.Random, list[Place]], None], ...] = (
    _replace, _replace, _replace, _hostile, _exchange, _exchange, _drop, _repeat, _wrap, _rename, _shuffle,
)  # fmt: skip


def mutated(data: bytes, dice: random.Random) -> Json:
    """The request with one to eight mutations; a quarter of them around the data, not in it."""
    changed = orjson.loads(data)
    target = list(places(changed))
    around = list(places({key: value for key, value in changed.items() if key != "prefetch"}))
    around += [(changed, key) for key in changed]
    for _ in range(dice.choice((1, 1, 2, 2, 3, 5, 8))):
        try:
            dice.choice(_MUTATIONS)(dice, around if dice.random() < 0.25 else target)
        except (KeyError, IndexError):
            continue  # an earlier mutation took the place away
    return changed


def encoded(body: Json, dice: random.Random) -> bytes:
    """The bytes; now and then cut off, with broken characters, or with a key given twice."""
    data = json.dumps(body).encode("utf-8", "replace")
    fate = dice.random()
    if fate < 0.01:
        return data[: dice.randrange(len(data) + 1)]
    if fate < 0.02:
        place = dice.randrange(len(data) + 1)
        return data[:place] + bytes([dice.randrange(256)]) + data[place:]
    if fate < 0.025 and data.startswith(b"{"):
        return b'{"hook":"patient-view",' + data[1:]
    return data
