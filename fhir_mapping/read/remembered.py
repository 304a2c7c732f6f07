"""What is worked out once and kept for the next chart: the meaning of codes, drug names and dosages.

Nothing in here belongs to a patient: keys are codes with their names, or digests of dosages. Every table is
bounded and starts anew when it is full.
"""

from __future__ import annotations

from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")
LIMIT = 8192  # entries of one table
LONGEST_TEXT = 120  # characters of a name; anything longer is prose and not kept


class Remembered(dict[K, V], Generic[K, V]):
    """A dictionary of at most `LIMIT` entries."""

    __slots__ = ()

    def __setitem__(self, key: K, value: V) -> None:
        if len(self) >= LIMIT:
            self.clear()
        super().__setitem__(key, value)
