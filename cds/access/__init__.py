"""Who may call, whom we may call, and how much is read."""

from cds.access.fhir_client import FailureKind, FhirClient, FhirFailure, FhirTarget
from cds.access.guard import OutgoingGuard, OutgoingRefusedError, PinnedTransport, Refusal
from cds.access.limits import JsonError, JsonFault, TooLargeError, decode_json, read_limited

__all__ = [
    "FailureKind",
    "FhirClient",
    "FhirFailure",
    "FhirTarget",
    "JsonError",
    "JsonFault",
    "OutgoingGuard",
    "OutgoingRefusedError",
    "PinnedTransport",
    "Refusal",
    "TooLargeError",
    "decode_json",
    "read_limited",
]
