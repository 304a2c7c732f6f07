"""The CDS Hooks wire: requests, hooks, discovery, feedback, errors and the response walker."""

from cds.protocol.discovery import CDS_HOOKS_VERSION, ServiceDescription, discovery, with_versions
from cds.protocol.errors import IssueCode, ProtocolError, invalid, operation_outcome, required
from cds.protocol.feedback import FeedbackItem, FeedbackOutcome, OverrideReason, parse_feedback
from cds.protocol.hooks import HOOKS, USER_TOKENS, ContextField, FieldKind, HookSpec, Presence, Token
from cds.protocol.request import Authorization, HookRequest, Note, parse_request

__all__ = [
    "CDS_HOOKS_VERSION",
    "HOOKS",
    "USER_TOKENS",
    "Authorization",
    "ContextField",
    "FeedbackItem",
    "FeedbackOutcome",
    "FieldKind",
    "HookRequest",
    "HookSpec",
    "IssueCode",
    "Note",
    "OverrideReason",
    "Presence",
    "ProtocolError",
    "ServiceDescription",
    "Token",
    "discovery",
    "invalid",
    "operation_outcome",
    "parse_feedback",
    "parse_request",
    "required",
    "with_versions",
]
