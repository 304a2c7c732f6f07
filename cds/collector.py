"""Python's collector of reference cycles, set for requests that are large and live for milliseconds.

A prefetch is a quarter of a million objects that die with their request, without cycles: scanning them while
they live is wasted. What does stay behind in cycles (answers of the FHIR client, exceptions) holds whole
bodies, so it is collected every few calls instead of by the number of objects.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_OBJECTS_OF_A_LARGE_REQUEST = 250_000
_EVERY = 20  # calls


@contextmanager
def loading() -> Iterator[None]:
    """No scans while the service loads, because what is loaded stays. `Collector.start` ends it."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Collector:
    """One per process."""

    def __init__(self) -> None:
        self._calls = 0

    def start(self) -> None:
        """After loading: rules and terminology live for ever and are never scanned again."""
        gc.freeze()
        gc.set_threshold(_OBJECTS_OF_A_LARGE_REQUEST, 20, 50)
        gc.enable()

    def call_ended(self) -> None:
        """Every few calls, collect the young cycles."""
        self._calls += 1
        if self._calls % _EVERY == 0:
            gc.collect(1)
