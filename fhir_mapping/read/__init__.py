"""FHIR R4 JSON in, one typed Chart out. Tolerant: damage costs the damaged entry only, and is named."""

from fhir_mapping.read.build import read_chart, read_drafts

__all__ = ["read_chart", "read_drafts"]
