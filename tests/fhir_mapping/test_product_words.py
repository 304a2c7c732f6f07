"""What a free text says about a blood product, and what it leaves open."""

from __future__ import annotations

import pytest

from fhir_mapping.product_words import stated_attributes


@pytest.mark.parametrize(
    ("text", "stated"),
    [
        ("Irradiated, leukoreduced", {"irradiated", "leukoreduced"}),
        ("2 units, gamma-irradiated please", {"irradiated"}),
        ("請給照射血小板", {"irradiated"}),
        ("照射、減白", {"irradiated", "leukoreduced"}),
        ("non-irradiated", set()),
        ("unirradiated product", set()),
        ("未照射紅血球", set()),
        ("irradiated: no", set()),
        ("irradiated if available", set()),
        ("leukoreduced, not irradiated", {"leukoreduced"}),
        ("", set()),
    ],
)
def test_only_a_plain_statement_counts(text: str, stated: set[str]) -> None:
    assert stated_attributes(text) == stated
