"""Several codings of one resource: relations of the tables as the reader uses them."""

from __future__ import annotations

import pytest

from fhir_mapping.read.coding import Codes
from fhir_mapping.terminology import load

CVX, ATC, LN = "http://hl7.org/fhir/sid/cvx", "http://www.whocc.no/atc", "http://loinc.org"
ICD, SCT = "http://hl7.org/fhir/sid/icd-10-cm", "http://snomed.info/sct"
RX = "http://www.nlm.nih.gov/research/umls/rxnorm"


@pytest.mark.parametrize(
    ("one", "other", "kept", "dropped"),
    [
        ((CVX, "189"), (ATC, "J07BC01"), "vac_hepb_cpg vac_hepb", ""),
        ((CVX, "303"), (ATC, "J07BX05"), "vac_rsv_as01 vac_rsv", ""),
        ((CVX, "118"), (ATC, "J07BM02"), "vac_hpv_as04", ""),
        ((CVX, "168"), (ATC, "J07BB02"), "vac_influenza_adjuvanted", ""),
        ((CVX, "88"), (ATC, "J07BB02"), "vac_influenza_inactivated", "vac_influenza_unspecified"),
        ((CVX, "206"), (ATC, "J07BX01"), "vac_mpox_mva", ""),
        ((RX, "42316"), (ATC, "L04AD02"), "tacrolimus class_calcineurin_inhibitors", "tacrolimus_topical"),
        ((RX, "42316"), (ATC, "D11AH01"), "tacrolimus_topical", "tacrolimus class_immunosuppressants"),
        ((RX, "1011"), (ATC, "L04AA04"), "atg_rabbit", "atg_equine"),
        ((LN, "2708-6"), (LN, "59408-5"), "spo2", "sao2"),
        ((ICD, "C91.00"), (SCT, "277571004"), "b_all", ""),
        ((ICD, "C34.90"), (SCT, "254632001"), "sclc", ""),
        ((ICD, "C83.39"), (SCT, "734066005"), "primary_cns_lymphoma", ""),
        ((ICD, "D89.833"), (ICD, "T80.82XA"), "crs", ""),
        ((SCT, "127788007"), (SCT, "20720000"), "plasmapheresis", ""),
    ],
)
def test_the_exact_meaning_survives(
    one: tuple[str, str], other: tuple[str, str], kept: str, dropped: str
) -> None:
    for pair in ((one, other), (other, one)):
        coded = Codes(load()).read({"coding": [{"system": system, "code": code} for system, code in pair]})
        assert not coded.contradictory
        assert set(kept.split()) <= coded.concepts
        assert coded.concepts.isdisjoint(dropped.split())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((ATC, "H02AB02"), (ATC, "H02AB04")),
        ((CVX, "03"), (CVX, "187")),
        ((LN, "6690-2"), (LN, "777-3")),
        ((ICD, "C90.00"), (ICD, "C83.39")),
        ((CVX, "121"), (CVX, "187")),
    ],
)
def test_two_things_in_one_resource_contradict(one: tuple[str, str], other: tuple[str, str]) -> None:
    coded = Codes(load()).read({"coding": [{"system": s, "code": c} for s, c in (one, other)]})
    assert coded.contradictory
    assert not coded.concepts
