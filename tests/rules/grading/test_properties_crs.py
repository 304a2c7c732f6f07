"""What must hold for every CRS and ICANS grade: worse facts never lower it, units and order never matter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from cards.finding import Create, DrugProposal, Finding
from tests.casebook.case_file import Written, findings_of

NOW = "2025-04-18T10:00+08:00"
BASE: list[dict[str, Any]] = [
    {"patient": "p1", "birth": "1968-02-11", "sex": "male"},
    {"given": "tisagenlecleucel", "at": "d+0T14:00", "bag": "B1"},
]
quick = settings(max_examples=20, deadline=None, derandomize=True)

temperatures = st.integers(380, 415).map(lambda t: t / 10)
pressures = st.integers(55, 150)
devices = st.sampled_from(["room_air", "dev_nasal_cannula", "dev_hfnc", "dev_simple_mask", "dev_cpap"])
flows = st.integers(1, 160).map(lambda f: f / 10)
pressors = st.sets(st.sampled_from(["norepinephrine", "phenylephrine", "vasopressin", "dopamine"]))


def findings(rule: str, *entries: dict[str, Any], shuffle: Any = None) -> list[Finding]:
    """Findings of one rule on the base chart with these entries."""
    chart = [*BASE, *entries]
    if shuffle is not None:
        chart = shuffle(chart)
    raw = {"now": NOW, "d0": "2025-04-14T14:00+08:00", "chart": chart}
    return findings_of(Written(rule, "generated", raw, Path("generated.yaml")))


def bedside(
    temperature: float, systolic: int, device: str, flow: float, drugs: set[str]
) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = [
        {"obs": "body_temperature", "value": f"{temperature} Cel", "at": "-2h"},
        {"obs": "bp_systolic", "value": f"{systolic} mm[Hg]", "at": "-1h"},
        {"obs": "oxygen_device", "value": device, "at": "-40min"},
    ]
    if device != "room_air":
        entries.append({"obs": "o2_flow_rate", "value": f"{flow} L/min", "at": "-30min"})
    entries += [
        {"given": drug, "from": "-2h", "running": True, "route": "route_intravenous"}
        for drug in sorted(drugs)
    ]
    return entries


def crs_grade(*entries: dict[str, Any], shuffle: Any = None) -> int:
    [finding] = findings("grading.crs", *entries, shuffle=shuffle)
    assert finding.grade is not None
    return finding.grade


@quick
@given(temperatures, pressures, devices, flows, pressors, st.sampled_from(["norepinephrine", "vasopressin"]))
def test_a_further_vasopressor_never_lowers_the_grade(
    temperature: float, systolic: int, device: str, flow: float, drugs: set[str], more: str
) -> None:
    before = crs_grade(*bedside(temperature, systolic, device, flow, drugs))
    after = crs_grade(*bedside(temperature, systolic, device, flow, drugs | {more}))
    assert after >= before


@quick
@given(temperatures, pressures, devices, flows, pressors, st.integers(1, 40))
def test_a_lower_pressure_never_lowers_the_grade(
    temperature: float, systolic: int, device: str, flow: float, drugs: set[str], less: int
) -> None:
    before = crs_grade(*bedside(temperature, systolic, device, flow, drugs))
    after = crs_grade(*bedside(temperature, systolic - less, device, flow, drugs))
    assert after >= before


@quick
@given(temperatures, pressures, devices, flows, pressors, st.integers(1, 100))
def test_more_oxygen_never_lowers_the_grade(
    temperature: float, systolic: int, device: str, flow: float, drugs: set[str], more: int
) -> None:
    before = crs_grade(*bedside(temperature, systolic, device, flow, drugs))
    after = crs_grade(*bedside(temperature, systolic, device, flow + more / 10, drugs))
    assert after >= before


@quick
@given(temperatures, pressures, devices, flows, pressors, st.randoms(use_true_random=False))
def test_the_order_of_the_chart_never_matters(
    temperature: float, systolic: int, device: str, flow: float, drugs: set[str], random: Any
) -> None:
    entries = bedside(temperature, systolic, device, flow, drugs)

    def shuffled(chart: list[dict[str, Any]]) -> list[dict[str, Any]]:
        named = [{**entry, "id": f"e{index}"} if index else entry for index, entry in enumerate(chart)]
        return random.sample(named, len(named))

    assert crs_grade(*entries) == crs_grade(*entries, shuffle=shuffled)


@quick
@given(st.integers(360, 415), pressures)
def test_fahrenheit_and_kilopascal_grade_alike(tenths: int, systolic: int) -> None:
    celsius = tenths / 10
    fahrenheit = round(celsius * 9 / 5 + 32, 4)
    pascal = round(systolic * 0.133322387415, 9)
    one = findings("grading.crs", *bedside(celsius, systolic, "room_air", 0, set()))
    other = findings(
        "grading.crs",
        {"obs": "body_temperature", "value": f"{fahrenheit} [degF]", "at": "-2h"},
        {"obs": "bp_systolic", "value": f"{pascal} kPa", "at": "-1h"},
        {"obs": "oxygen_device", "value": "room_air", "at": "-40min"},
    )
    if systolic != 90:  # a conversion may fall on either side of the very limit
        assert [f.grade for f in one] == [f.grade for f in other]


@quick
@given(st.integers(0, 10), st.integers(0, 10))
def test_a_lower_ice_total_never_lowers_the_grade(one: int, other: int) -> None:
    low, high = sorted((one, other))
    grades = []
    for total in (low, high):
        [finding] = findings("grading.icans", {"obs": "ice_score", "value": total, "at": "-2h"})
        grades.append(finding.grade or 0)
    assert grades[0] >= grades[1]


@quick
@given(st.integers(30, 2000).map(lambda w: w / 10), st.integers(1945, 2023), temperatures)
def test_no_suggested_dose_exceeds_its_maximum(weight: float, born: int, temperature: float) -> None:
    entries = [
        {"patient": "p1", "birth": f"{born}-02-11", "sex": "female"},
        {"obs": "body_weight", "value": f"{weight} kg", "at": "-1h"},
        *bedside(temperature, 60, "dev_simple_mask", 8, set()),
    ]
    [finding] = findings("dosing.crs", *entries)
    limits = {"tocilizumab": 800, "dexamethasone": 20, "methylprednisolone": 1000}
    for suggestion in finding.suggestions:
        for action in suggestion.actions:
            if isinstance(action, Create) and isinstance(action.proposal, DrugProposal):
                proposal = action.proposal
                assert proposal.dose is not None
                assert proposal.dose.value <= limits[proposal.drug]
                if proposal.drug == "tocilizumab":
                    per_kg = 8 if weight >= 30 else 12
                    assert abs(float(proposal.dose.value) - min(per_kg * weight, 800)) <= 0.051
