"""The OpenAPI description behind /docs. Written out, because the routes bypass FastAPI's own validation."""

from __future__ import annotations

from typing import Any

from cds import __version__
from cds.pipeline import Runtime
from cds.protocol import HOOKS, FieldKind, Presence


def openapi(runtime: Runtime, base_url: str) -> dict[str, Any]:
    """OpenAPI 3.1 of the service with its real services and hooks."""
    services = runtime.rulebook.services.values()
    description: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "tcell-cds",
            "version": __version__,
            "description": "CDS Hooks 2.0 decision support for CAR-T cells and bispecific T-cell engagers.",
        },
        "paths": {
            "/cds-services": {
                "get": _operation("Services on offer", "discovery", {"200": _json("Discovery", "Services")})
            },
            **{
                f"/cds-services/{service.id}": {
                    "post": {
                        **_operation(
                            f"{service.id} ({len(service.rules)} rules)",
                            service.hook,
                            {
                                "200": _json("Cards", "CardsResponse"),
                                "400": _outcome("Not a request of this hook"),
                                "412": _outcome("Required data neither in prefetch nor at fhirServer"),
                                "413": _outcome("Body too large"),
                                "415": _outcome("Not JSON"),
                            },
                        ),
                        "requestBody": {
                            "required": True,
                            "content": {"application/json": {"schema": _request(service.hook)}},
                        },
                    }
                }
                for service in services
            },
            "/cds-services/{id}/feedback": {
                "post": {
                    **_operation(
                        "Feedback on cards",
                        "feedback",
                        {"200": {"description": "Received"}, "400": _outcome("Not feedback")},
                    ),
                    "parameters": [
                        {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
                    ],
                    "requestBody": {
                        "required": True,
                        "content": {
                            "application/json": {"schema": {"$ref": "#/components/schemas/Feedback"}}
                        },
                    },
                }
            },
            "/health/live": {
                "get": _operation("The process answers", "health", {"200": {"description": "Live"}})
            },
            "/health/ready": {
                "get": _operation("Rules are loaded", "health", {"200": {"description": "Ready"}})
            },
            "/metrics": {
                "get": _operation("Prometheus metrics", "health", {"200": {"description": "Exposition"}})
            },
        },
        "components": {"schemas": _SCHEMAS},
    }
    if base_url:
        description["servers"] = [{"url": base_url}]
    return description


def _operation(summary: str, tag: str, responses: dict[str, Any]) -> dict[str, Any]:
    return {"summary": summary, "tags": [tag], "responses": responses}


def _json(description: str, schema: str) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {"description": description, "content": content}


def _outcome(description: str) -> dict[str, Any]:
    content = {"application/fhir+json": {"schema": {"$ref": "#/components/schemas/OperationOutcome"}}}
    return {"description": description, "content": content}


def _request(hook: str) -> dict[str, Any]:
    kinds: dict[FieldKind, dict[str, Any]] = {
        FieldKind.ID: {"type": "string"},
        FieldKind.REFERENCE: {"type": "string"},
        FieldKind.REFERENCES: {"type": "array", "items": {"type": "string"}},
        FieldKind.RESOURCE: {"type": "object"},
        FieldKind.RESOURCES: {"type": "object", "description": "FHIR Bundle"},
    }
    fields = HOOKS[hook].fields
    return {
        "type": "object",
        "required": ["hook", "hookInstance", "context"],
        "properties": {
            "hook": {"const": hook},
            "hookInstance": {"type": "string", "format": "uuid"},
            "fhirServer": {"type": "string", "format": "uri"},
            "fhirAuthorization": {"type": "object"},
            "prefetch": {"type": "object"},
            "context": {
                "type": "object",
                "required": [item.name for item in fields if item.presence is Presence.REQUIRED],
                "properties": {item.name: kinds[item.kind] for item in fields},
            },
        },
    }


_SCHEMAS: dict[str, Any] = {
    "Services": {
        "type": "object",
        "required": ["services"],
        "properties": {"services": {"type": "array", "items": {"type": "object"}}},
    },
    "CardsResponse": {
        "type": "object",
        "required": ["cards"],
        "properties": {"cards": {"type": "array", "items": {"$ref": "#/components/schemas/Card"}}},
    },
    "Card": {
        "type": "object",
        "required": ["summary", "indicator", "source"],
        "properties": {
            "uuid": {"type": "string", "format": "uuid"},
            "summary": {"type": "string", "maxLength": 139},
            "detail": {"type": "string", "description": "GitHub-flavoured Markdown"},
            "indicator": {"enum": ["info", "warning", "critical"]},
            "source": {"type": "object"},
            "suggestions": {"type": "array", "items": {"type": "object"}},
            "selectionBehavior": {"enum": ["at-most-one", "any"]},
            "overrideReasons": {"type": "array", "items": {"type": "object"}},
            "links": {"type": "array", "items": {"type": "object"}},
            "extension": {"type": "object", "description": "org.tcell-cds.finding: the verdict for machines"},
        },
    },
    "Feedback": {
        "type": "object",
        "required": ["feedback"],
        "properties": {
            "feedback": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["card", "outcome", "outcomeTimestamp"],
                    "properties": {
                        "card": {"type": "string"},
                        "outcome": {"enum": ["accepted", "overridden"]},
                        "outcomeTimestamp": {"type": "string", "format": "date-time"},
                        "acceptedSuggestions": {"type": "array", "items": {"type": "object"}},
                        "overrideReason": {"type": "object"},
                    },
                },
            }
        },
    },
    "OperationOutcome": {
        "type": "object",
        "required": ["resourceType", "issue"],
        "properties": {
            "resourceType": {"const": "OperationOutcome"},
            "issue": {"type": "array", "items": {"type": "object"}},
        },
    },
}
