"""FHIR R4 resources in, one typed and immutable `Chart` out."""

from fhir_mapping.read import read_chart, read_drafts

__all__ = ["read_chart", "read_drafts"]
