"""Findings in, CDS Hooks cards and suggested FHIR orders out."""
