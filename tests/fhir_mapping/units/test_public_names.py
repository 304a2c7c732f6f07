from __future__ import annotations

import fhir_mapping.units as units


def test_exported_names_are_the_documented_ones() -> None:
    assert set(units.__all__) == {
        "Analyte", "ParsedValue", "Sex", "TextForm", "UsualRange", "analyte", "canonical", "convert",
        "default_unit", "mass_mg", "parse_text_value", "plausible", "preferred", "same_dimension",
    }  # fmt: skip
    assert all(hasattr(units, name) for name in units.__all__)
