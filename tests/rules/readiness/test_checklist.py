"""What the summary of a checklist names of its open rows."""

from decimal import Decimal

from cards.finding import Items, msg
from cds.rules.readiness.checklist import Line, Status, open_labels
from fhir_mapping.chart import Amount

SEVEN = Amount(Decimal(7), "g/dL")


def test_an_open_row_is_named_with_its_number() -> None:
    line = Line("L6", Status.NOT_MET, brief=SEVEN)
    assert open_labels([line]) == Items((msg("common.checklist.brief", item=msg("item.L6"), found=SEVEN),))


def test_words_that_stand_for_the_row_replace_its_label() -> None:
    words = msg("common.checklist.brief.ecog", value=3)
    assert open_labels([Line("L1", Status.NOT_MET, brief=words)]) == Items((words,))


def test_a_number_that_decides_nothing_is_not_named() -> None:
    assert open_labels([Line("L6", Status.UNKNOWN, brief=SEVEN)]) == Items((msg("item.L6"),))


def test_rows_that_are_met_are_not_named() -> None:
    assert open_labels([Line("L6", Status.MET, brief=SEVEN)]) == Items(())
