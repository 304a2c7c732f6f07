"""FHIR R4 resources in, one typed and immutable `Chart` out."""
