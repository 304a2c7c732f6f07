"""Faults that the embedded server plays on request, so that failing well can be shown and tested."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class FaultKind(StrEnum):
    STATUS = "status"  # answers with `status` and an OperationOutcome
    DELAY = "delay"  # answers late, otherwise well
    TRUNCATED = "truncated"  # JSON cut off in the middle
    HTML = "html"  # a login page with status 200
    CONTENT_TYPE = "content-type"  # right body, text/plain
    OUTCOME = "outcome"  # an OperationOutcome with status 200
    FOREIGN_NEXT = "foreign-next"  # a next link to another origin
    ENDLESS_NEXT = "endless-next"  # a next link that leads to the same page for ever
    REDIRECT = "redirect"  # 302 to another origin


@dataclass(slots=True)
class Fault:
    """Played on requests of `resource_type` ("" any) whose query holds `contains`.

    `times`: on how many of them, None = all.
    """

    kind: FaultKind
    resource_type: str = ""
    contains: str = ""
    status: int = 500
    seconds: float = 0.0
    retry_after: str = ""
    times: int | None = None

    def applies(self, resource_type: str, query: str) -> bool:
        """True where it is played now; counts down."""
        if self.times == 0 or self.resource_type not in ("", resource_type) or self.contains not in query:
            return False
        if self.times is not None:
            self.times -= 1
        return True
