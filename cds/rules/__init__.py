"""The clinical rules: one topic a module, its numbers and sources in the YAML of the same name."""
