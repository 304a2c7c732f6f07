"""Who may call, whom we may call, and how much is read."""

from cds.access.client_jwt import PUBLIC_TEST_CLIENTS, ClientTokens
from cds.access.fhir_client import FailureKind, FhirClient, FhirFailure, FhirTarget
from cds.access.guard import OutgoingGuard, OutgoingRefusedError, PinnedTransport, Refusal
from cds.access.limits import JsonError, JsonFault, TooLargeError, decode_json, read_limited
from cds.access.replay import UsedTokens

__all__ = [
    "PUBLIC_TEST_CLIENTS",
    "ClientTokens",
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
    "UsedTokens",
    "decode_json",
    "read_limited",
]
