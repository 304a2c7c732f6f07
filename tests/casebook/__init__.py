"""Rule cases that a pharmacist can read, turned into FHIR, run through the real mapper, rule and renderer."""
