"""Two toxicities at once: which card speaks, what it orders, and what a draft meets.

The matrix of the cross-rule precedence of the after-CAR-T inventory. Each toxicity is one card, its treatment
rides on it; between the cards the higher steroid tier wins, ICANS takes tocilizumab from CRS grade 1, IEC-HS
takes IL-6 blockade from CRS, and G-CSF is only weighed beside IEC-HS or severe CRS.
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from cards.finding import Create, DrugProposal, Finding, Indicator
from cds.engine.run import run
from tests.casebook.case_file import Written, bench_of, case_of, rulebook

NOW, D0 = "2025-04-24T10:00+08:00", "2025-04-12T14:00+08:00"
GIVEN: list[dict[str, Any]] = [
    {"patient": "p1", "birth": "1968-02-11", "sex": "male"},
    {"condition": "dlbcl", "since": "2024-01-01"},
    {
        "given": "fludarabine",
        "at": "d-5T09:00",
        "dose": "45 mg",
        "route": "route_intravenous",
        "purpose": "purpose_lymphodepletion",
    },
    {"given": "tisagenlecleucel", "at": "d+0T14:00", "bag": "B1"},
    {"obs": "body_weight", "value": "70 kg", "at": "-1d"},
    {"obs": "body_height", "value": "172 cm", "at": "-1d"},
    {"obs": "g6pd_qual", "value": "normal", "at": "-100d"},
]
_FEVER = [
    {"obs": "body_temperature", "value": "38.9 Cel", "at": "-10h"},
    {"obs": "body_temperature", "value": "38.6 Cel", "at": "-2h"},
    {"obs": "bp_systolic", "value": "112 mm[Hg]", "at": "-1h"},
]
_AIR = {"obs": "oxygen_device", "value": "room_air", "at": "-1h"}
_PRESSOR = {
    "given": "norepinephrine",
    "from": "-3h",
    "running": True,
    "rate": "0.1 ug/kg/min",
    "route": "route_intravenous",
}
TOXICITIES: dict[str, list[dict[str, Any]]] = {
    "crs 1": [*_FEVER, _AIR],
    "crs 2": [
        *_FEVER,
        {"obs": "oxygen_device", "value": "dev_nasal_cannula", "at": "-1h"},
        {"obs": "o2_flow_rate", "value": "3 L/min", "at": "-1h"},
    ],
    "crs 3": [*_FEVER, _AIR, _PRESSOR],
    "crs 4": [*_FEVER, _AIR, _PRESSOR, {**_PRESSOR, "given": "phenylephrine", "from": "-2h"}],
    **{f"icans {n}": [{"obs": "icans_grade", "value": n, "at": "-2h"}] for n in (1, 2, 3, 4)},
    # CRS of grade 2 was closed by the clinician before IEC-HS came
    "iec-hs": [
        {"obs": "crs_grade", "value": 2, "at": "-6d"},
        {"obs": "crs_grade", "value": 0, "at": "-4d"},
        {"obs": "iec_hs_grade", "value": 3, "at": "-2h"},
    ],
    "icaht": [{"obs": "anc", "value": "0.3 10*9/L", "at": f"-{n}d"} for n in range(9)],
    "tls": [
        {"obs": "uric_acid", "value": "9.4 mg/dL", "at": "-3h"},
        {"obs": "potassium", "value": "6.4 mmol/L", "at": "-3h"},
    ],
}
RIDERS = {
    "grading.crs": {"dosing.crs"},
    "grading.icans": {"dosing.icans"},
    "grading.iec-hs": {"dosing.iec-hs", "dosing.iec-hs-supportive"},
    "grading.icaht": {"dosing.icaht"},
    "grading.tls": {"dosing.tls-treatment"},
}

# pair; then what each toxicity's card orders, * = the recommended one
MATRIX = """
crs 1 + icans 1 | crs: - | icans: -
crs 1 + icans 2 | crs: - | icans: dexamethasone*
crs 1 + icans 3 | crs: - | icans: dexamethasone* methylprednisolone
crs 1 + icans 4 | crs: - | icans: methylprednisolone*
crs 2 + icans 1 | crs: dexamethasone tocilizumab* | icans: -
crs 2 + icans 2 | crs: dexamethasone tocilizumab* | icans: dexamethasone*
crs 2 + icans 3 | crs: dexamethasone tocilizumab* | icans: dexamethasone* methylprednisolone
crs 2 + icans 4 | crs: tocilizumab* | icans: methylprednisolone*
crs 3 + icans 1 | crs: dexamethasone tocilizumab* | icans: -
crs 3 + icans 2 | crs: dexamethasone tocilizumab* | icans: dexamethasone*
crs 3 + icans 3 | crs: dexamethasone tocilizumab* | icans: dexamethasone* methylprednisolone
crs 3 + icans 4 | crs: tocilizumab* | icans: methylprednisolone*
crs 4 + icans 1 | crs: dexamethasone tocilizumab* | icans: -
crs 4 + icans 2 | crs: dexamethasone tocilizumab* | icans: -
crs 4 + icans 3 | crs: dexamethasone tocilizumab* | icans: -
crs 4 + icans 4 | crs: tocilizumab* | icans: methylprednisolone*
crs 1 + iec-hs  | crs: - | iec-hs: anakinra* dexamethasone
crs 2 + iec-hs  | crs: - | iec-hs: anakinra* dexamethasone
crs 3 + iec-hs  | crs: - | iec-hs: anakinra* dexamethasone
crs 4 + iec-hs  | crs: - | iec-hs: anakinra* dexamethasone
crs 1 + icaht   | crs: - | icaht: filgrastim*
crs 2 + icaht   | crs: dexamethasone tocilizumab* | icaht: filgrastim*
crs 3 + icaht   | crs: dexamethasone tocilizumab* | icaht: filgrastim
crs 4 + icaht   | crs: dexamethasone tocilizumab* | icaht: filgrastim
crs 1 + tls     | crs: - | tls: crystalloid rasburicase*
crs 2 + tls     | crs: dexamethasone tocilizumab* | tls: crystalloid rasburicase*
crs 3 + tls     | crs: dexamethasone tocilizumab* | tls: crystalloid rasburicase*
crs 4 + tls     | crs: dexamethasone tocilizumab* | tls: crystalloid rasburicase*
icans 2 + iec-hs | icans: dexamethasone* | iec-hs: anakinra* dexamethasone
icans 4 + iec-hs | icans: methylprednisolone* | iec-hs: anakinra* dexamethasone
icans 3 + icaht  | icans: dexamethasone* methylprednisolone | icaht: filgrastim*
icans 4 + tls    | icans: methylprednisolone* | tls: crystalloid rasburicase*
iec-hs + icaht   | iec-hs: anakinra* dexamethasone | icaht: filgrastim
iec-hs + tls     | iec-hs: anakinra* dexamethasone | tls: crystalloid rasburicase*
icaht + tls      | icaht: filgrastim* | tls: crystalloid rasburicase*
"""

_STEROID = {"route": "route_intravenous", "at": "now"}
DRAFTS: dict[str, dict[str, Any]] = {
    "tocilizumab": {"dose": "560 mg", "route": "route_intravenous", "at": "now"},
    "dexamethasone": {**_STEROID, "dose": "10 mg", "every": "6h", "until": "+66h"},
    "methylprednisolone": {**_STEROID, "dose": "1000 mg", "every": "24h", "until": "+48h"},
    "siltuximab": {"dose": "770 mg", "route": "route_intravenous", "at": "now"},
    "filgrastim": {
        "dose": "350 ug",
        "route": "route_subcutaneous",
        "at": "now",
        "every": "24h",
        "until": "+96h",
    },
}

# toxicities; the drafted drug; the rules that object to it on order-sign, with their row
ORDERS = """
crs 1           | tocilizumab        | dosing.crs-tocilizumab/indication
crs 1 + icans 2 | tocilizumab        | dosing.icans/tocilizumab
crs 2 + icans 2 | tocilizumab        | dosing.icans/steroid-missing
crs 3 + icans 4 | tocilizumab        | dosing.crs/3a dosing.icans/steroid-missing
crs 3 + icans 4 | dexamethasone      | dosing.crs/3a dosing.crs-steroid/tier
crs 3 + icans 4 | methylprednisolone | dosing.crs/3a
crs 3 + icans 3 | methylprednisolone | dosing.crs/3a dosing.crs-steroid/tier
iec-hs          | tocilizumab        | dosing.crs-tocilizumab/indication dosing.iec-hs/anti-il6
iec-hs          | siltuximab         | dosing.iec-hs/anti-il6
iec-hs          | dexamethasone      | -
iec-hs          | methylprednisolone | -
iec-hs          | filgrastim         | dosing.icaht/4
crs 3 + iec-hs  | tocilizumab        | dosing.crs-tocilizumab/indication dosing.iec-hs/anti-il6
crs 3 + iec-hs  | dexamethasone      | -
icans 3 + iec-hs | dexamethasone     | -
icaht           | filgrastim         | -
iec-hs + icaht  | filgrastim         | dosing.icaht/4
icaht + tls     | filgrastim         | -
"""


def _findings(names: list[str], service: str, draft: str = "") -> tuple[Finding, ...]:
    chart = [*GIVEN, *(entry for name in names for entry in TOXICITIES[name])]
    if draft:
        chart.append({"draft": draft, "id": "d1", **DRAFTS[draft]})
    raw = {"now": NOW, "d0": D0, "hook": service.partition("-")[2], "chart": chart}
    written = Written("grading.crs", " + ".join(names), raw, Path(__file__))
    return run(rulebook().services[service], case_of(written, bench_of(written)), rulebook()).findings


def _rows(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")] for line in table.strip().splitlines()]


def _names(cell: str) -> list[str]:
    return [name.strip() for name in cell.split("+")]


def _ordered(finding: Finding) -> set[str]:
    """Drugs that a card offers, the recommended one with a star."""
    return {
        action.proposal.drug + ("*" if suggestion.recommended else "")
        for suggestion in finding.suggestions
        for action in suggestion.actions
        if isinstance(action, Create) and isinstance(action.proposal, DrugProposal)
    }


def _cards(findings: tuple[Finding, ...]) -> dict[str, Finding]:
    """The card of each toxicity. Fails where one has two."""
    own = [f for f in findings if f.rule in RIDERS]
    assert len({f.rule for f in own}) == len(own)
    return {f.rule: f for f in own}


@pytest.mark.parametrize("row", _rows(MATRIX), ids=lambda row: row[0])
def test_pair_on_patient_view(row: list[str]) -> None:
    cards = _cards(_findings(_names(row[0]), "grading-patient-view"))
    for cell in row[1:]:
        toxicity, _, drugs = cell.partition(":")
        expected = set(drugs.split()) - {"-"}
        assert _ordered(cards[f"grading.{toxicity}"]) == expected, toxicity


@pytest.mark.parametrize("row", _rows(ORDERS), ids=lambda row: f"{row[1]} in {row[0]}")
def test_draft_on_order_sign(row: list[str]) -> None:
    found = _findings(_names(row[0]), "dosing-order-sign", row[1])
    objections = {f"{f.rule}/{f.values.get('row')}" for f in found if f.indicator is not Indicator.INFO}
    assert objections == set(row[2].split()) - {"-"}


_PAIRS = [pair for pair in combinations(TOXICITIES, 2) if pair[0].split()[0] != pair[1].split()[0]]


@pytest.mark.parametrize("pair", _PAIRS, ids=" + ".join)
def test_one_toxicity_is_one_card(pair: tuple[str, str]) -> None:
    cards = _cards(_findings(list(pair), "grading-patient-view"))
    assert {f"grading.{name.split()[0]}" for name in pair} <= set(cards)
    for rule, card in cards.items():
        assert {t.rule for t in card.treatment} <= RIDERS[rule] | {"dosing.crs-refractory"}
        assert sum(s.recommended for s in card.suggestions) <= 1


@pytest.mark.parametrize("pair", _PAIRS, ids=" + ".join)
def test_treatment_has_no_card_of_its_own(pair: tuple[str, str]) -> None:
    riding = {rule for rules in RIDERS.values() for rule in rules}
    assert riding.isdisjoint(f.rule for f in _findings(list(pair), "dosing-patient-view"))


def test_all_five_at_once() -> None:
    cards = _cards(_findings(["crs 3", "icans 4", "iec-hs", "icaht", "tls"], "grading-patient-view"))
    assert set(cards) == set(RIDERS)
    assert "tocilizumab" not in {d.rstrip("*") for card in cards.values() for d in _ordered(card)}
    assert "filgrastim*" not in _ordered(cards["grading.icaht"])
