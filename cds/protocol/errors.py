"""The one failure that a client sees: an HTTP status with an OperationOutcome.

Texts are constant or built from names of our own lists (fields, keys, service ids that exist), never from
what was sent: an error body, like a log line, must not repeat a patient's data or a token.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any


class IssueCode(StrEnum):
    """FHIR issue-type codes that this service uses."""

    INVALID = "invalid"
    STRUCTURE = "structure"
    REQUIRED = "required"
    VALUE = "value"
    NOT_FOUND = "not-found"
    NOT_SUPPORTED = "not-supported"
    INCOMPLETE = "incomplete"
    TOO_LONG = "too-long"
    TOO_COSTLY = "too-costly"
    TIMEOUT = "timeout"
    THROTTLED = "throttled"
    LOGIN = "login"
    SECURITY = "security"
    EXCEPTION = "exception"


class ProtocolError(Exception):
    """`field` is the JSON path of the culprit (`context.patientId`), "" where no single field is.

    `diagnostics` says what to do about it; `headers` join the response (WWW-Authenticate, Allow).
    """

    def __init__(
        self,
        status: int,
        code: IssueCode,
        text: str,
        field: str = "",
        *,
        diagnostics: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(text)
        self.status, self.code, self.text, self.field = status, code, text, field
        self.diagnostics = diagnostics
        self.headers = dict(headers or {})


def operation_outcome(error: ProtocolError) -> dict[str, Any]:
    """The FHIR R4 OperationOutcome of the failure."""
    text = f"{error.field}: {error.text}" if error.field else error.text
    issue: dict[str, Any] = {"severity": "error", "code": error.code.value, "details": {"text": text}}
    if error.diagnostics:
        issue["diagnostics"] = error.diagnostics
    if error.field:
        issue["expression"] = [error.field]
    return {"resourceType": "OperationOutcome", "issue": [issue]}


def invalid(text: str, field: str) -> ProtocolError:
    """400: a field that is there and cannot be used."""
    return ProtocolError(400, IssueCode.INVALID, text, field)


def required(field: str) -> ProtocolError:
    """400: a field that must be there."""
    return ProtocolError(400, IssueCode.REQUIRED, "is required", field)
