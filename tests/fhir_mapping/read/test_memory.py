"""A chart must die with its request, by reference counting alone."""

from __future__ import annotations

import gc

from benchmarks.bodies import NOW, resources
from fhir_mapping.read import read_chart
from fhir_mapping.terminology import load


def test_a_chart_that_was_read_leaves_no_reference_cycle() -> None:
    entries, drafts = resources("dosing-order-sign", 30)
    gc.collect()
    gc.disable()
    try:
        chart = read_chart(
            entries,
            patient_id="bench",
            now=NOW,
            zone=NOW.tzinfo,  # type: ignore[arg-type]
            terminology=load(),
            drafts=drafts,
        )
        assert len(chart.series("anc"))
        assert len(chart.series("body_temperature"))
        assert chart.exposures
        del chart
        assert gc.collect() == 0
    finally:
        gc.enable()
