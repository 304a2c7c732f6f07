"""What a call leaves in a reference cycle does not stay."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from cds.collector import Collector, loading


class Body:
    """Something large that is part of a cycle, as an answer of the FHIR client is."""

    def __init__(self) -> None:
        self.own = self


@pytest.fixture(autouse=True)
def _collector_restored() -> Iterator[None]:
    kept = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*kept)


def test_cycles_are_collected_every_few_calls() -> None:
    collector = Collector()
    collector.start()
    left = weakref.ref(Body())
    assert left() is not None
    for _ in range(20):
        collector.call_ended()
    assert left() is None


def test_nothing_is_scanned_while_the_service_loads() -> None:
    with loading():
        assert not gc.isenabled()
        Collector().start()
        assert gc.isenabled()
    with pytest.raises(ValueError, match="broken"), loading():
        raise ValueError("broken")
    assert gc.isenabled()
