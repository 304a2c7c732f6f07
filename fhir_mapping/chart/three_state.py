"""Any and all of answers that may be unknown (chart-facts 1.6). None: not known."""

from __future__ import annotations

from collections.abc import Iterable


def any_of(answers: Iterable[bool | None]) -> bool | None:
    """True where one is; False where all are; no answers: False."""
    known = set(answers)
    return True if True in known else None if None in known else False


def all_of(answers: Iterable[bool | None]) -> bool | None:
    """False where one is; True where all are; no answers: True."""
    known = set(answers)
    return False if False in known else None if None in known else True
