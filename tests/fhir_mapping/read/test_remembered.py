"""What one chart taught is kept within bounds, whatever charts send."""

from __future__ import annotations

from fhir_mapping.read import remembered
from fhir_mapping.read.build import _codes, _memory
from fhir_mapping.read.remembered import LIMIT, Remembered
from fhir_mapping.terminology import load
from tests.fhir_mapping.read.charts import chart, given, local, obs


def test_a_table_starts_anew_when_it_is_full() -> None:
    table: Remembered[int, int] = Remembered()
    for number in range(LIMIT + 3):
        table[number] = number
    assert len(table) == 3


def test_prose_and_absurd_codes_are_not_kept() -> None:
    prose = "Mr Lee of ward 9 " * 20
    sentence = {"coding": [{"system": "urn:x", "code": "y" * 5000, "display": prose}], "text": prose}
    seen = chart(obs(sentence, 3), given("tocilizumab", dose="x", medicationCodeableConcept=sentence))
    assert seen.series("anc").items == ()
    assert seen.drugs.all
    kept = repr((_codes(load())._seen, _codes(load())._plain, _memory(load())))
    assert "Mr Lee" not in kept
    assert "yyyy" not in kept


def test_the_lot_of_a_product_is_not_kept() -> None:
    product = {
        "resourceType": "Medication",
        "id": "m",
        "code": {"text": "tisagenlecleucel"},
        "batch": {"lotNumber": "LOT-OF-ONE-PATIENT"},
    }
    dose = given(
        "tocilizumab", contained=[product], medicationReference={"reference": "#m"}, dosage={"text": "once"}
    )
    del dose["medicationCodeableConcept"]
    (read,) = chart(dose).drugs.all
    assert "tisagenlecleucel" in read.concepts
    assert "LOT-OF-ONE-PATIENT" not in repr(_memory(load()))


def test_the_same_name_means_the_same_in_the_next_chart() -> None:
    first = chart(obs(local("anc"), (1, "10*3/uL")))
    again = chart(obs(local("anc"), (1, "10*3/uL")))
    assert first.series("anc").items == again.series("anc").items
    assert remembered.LONGEST_TEXT < 200
