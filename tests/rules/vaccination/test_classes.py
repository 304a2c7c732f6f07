"""The vaccine table is complete: every vaccine of the terminology has a class, every row a concept."""

from cds.engine.tables import shared_table
from cds.rules.vaccination.classes import VaccineClass, alternative, classify
from fhir_mapping.chart import Route, Vaccine
from fhir_mapping.terminology import load

TABLE = shared_table("vaccine_classes")
ROWS = {row["concept"]: row for row in TABLE.table("classes")}


def vaccine(*concepts: str, route: Route | None = None) -> Vaccine:
    return Vaccine("MedicationRequest/v", frozenset(concepts), None, route=route)


def test_every_vaccine_concept_has_a_row() -> None:
    vaccines = {concept.id for concept in load().concepts("vaccine")}
    assert vaccines
    assert not vaccines - set(ROWS)


def test_every_row_names_a_known_concept_and_a_class() -> None:
    words = {c.value for c in VaccineClass} | {"ask"}
    for concept, row in ROWS.items():
        assert concept in load(), concept
        assert row["class"] in words, concept
        assert row["source"], concept


def test_an_alternative_is_never_a_live_vaccine() -> None:
    for row in TABLE.table("alternatives"):
        assert row["of"] in ROWS
        assert classify(vaccine(alternative(row["of"]))).vaccine_class not in (
            VaccineClass.LIVE,
            VaccineClass.UNKNOWN,
        )


def test_the_product_decides_before_its_group() -> None:
    assert classify(vaccine("vac_rsv", "vac_rsv_adjuvanted")).vaccine_class is VaccineClass.ADJUVANTED
    assert classify(vaccine("vac_hepb", "vac_hepb_cpg")).vaccine_class is VaccineClass.ADJUVANTED
    assert classify(vaccine("vac_vaccinia_live", "vac_mpox_nonreplicating")).vaccine_class is (
        VaccineClass.INACTIVATED
    )
    flu = vaccine("vac_influenza_inactivated", "vac_influenza_adjuvanted")
    assert classify(flu).vaccine_class is VaccineClass.INFLUENZA


def test_a_combination_with_a_live_part_is_live() -> None:
    assert classify(vaccine("vac_hepb", "vac_mmr")).vaccine_class is VaccineClass.LIVE


def test_the_nasal_route_makes_influenza_vaccine_live() -> None:
    for concept in ("vac_influenza_inactivated", "vac_influenza_unspecified"):
        assert classify(vaccine(concept, route=Route.NASAL)).vaccine_class is VaccineClass.LIVE
