from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cds.cli.codes import Known, judged
from fhir_mapping.terminology import load

LOINC = "http://loinc.org"
CHART = {
    "resourceType": "Bundle",
    "entry": [
        {
            "resource": {
                "resourceType": "Observation",
                "status": "final",
                "code": {
                    "coding": [{"system": LOINC, "code": "8310-5"}, {"system": "urn:lab", "code": "BT"}]
                },
                "component": [{"code": {"coding": [{"system": LOINC, "code": "8480-6"}]}}],
                "text": {"status": "generated", "div": "<div/>"},
            }
        },
        {
            "resource": {
                "resourceType": "MedicationRequest",
                "medicationReference": {"reference": "#m"},
                "contained": [{"resourceType": "Medication", "id": "m", "code": {"text": "Bendamustine"}}],
            }
        },
        {
            "resource": {
                "resourceType": "Observation",
                "code": {"coding": [{"system": "urn:lab", "code": "BT"}]},
            }
        },
    ],
}


def test_codings_are_judged_the_unknown_first() -> None:
    found = {(item.coding.code or item.coding.text): item for item in judged(CHART, load())}
    assert next(iter(found)) == "BT"
    assert (found["BT"].known, found["BT"].count) == (Known.NO, 2)
    assert (found["8310-5"].known, found["8310-5"].concepts[0]) == (Known.YES, "body_temperature")
    assert found["8480-6"].known is Known.YES
    assert found["Bendamustine"].known is Known.BY_NAME
    assert len(found) == 4


@pytest.mark.parametrize(
    "data",
    [
        CHART["entry"][0]["resource"],  # type: ignore[index]
        [CHART],
        {
            "hook": "patient-view",
            "prefetch": {"labs": CHART, "patient": None},
            "context": {"draftOrders": CHART},
        },
    ],
)
def test_a_resource_a_list_and_a_hook_request_are_read(data: object) -> None:
    assert any(item.coding.code == "8310-5" for item in judged(data, load()))


def test_the_site_map_to_fill_in_names_each_unknown_coding(run: Callable[..., Any], tmp_path: Path) -> None:
    chart, site_map = tmp_path / "chart.json", tmp_path / "map.csv"
    chart.write_text(json.dumps(CHART), encoding="utf-8")
    ended = run("codes", chart, "--site-map", site_map)
    assert ended.code == 0
    assert "unknown" in ended.out
    with site_map.open(encoding="utf-8") as stream:
        assert list(csv.DictReader(stream)) == [
            {"concept_id": "", "system": "urn:lab", "code": "BT", "display": ""}
        ]


def test_a_filled_site_map_makes_the_code_known(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: Any
) -> None:
    chart, site_map = tmp_path / "chart.json", tmp_path / "map.csv"
    chart.write_text(json.dumps(CHART), encoding="utf-8")
    site_map.write_text("concept_id,system,code\nbody_temperature,urn:lab,BT\n", encoding="utf-8")
    monkeypatch.setenv("TCELL_CDS_SITE_MAP", str(site_map))
    entries = run("codes", chart, "--json").json
    assert [e["known"] for e in entries if e.get("code") == "BT"] == ["known"]
