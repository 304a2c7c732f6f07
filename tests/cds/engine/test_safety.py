"""No suggestion that the chart forbids, whatever rule made it."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from cards.finding import (
    ONCE,
    Create,
    Delete,
    DrugProposal,
    Finding,
    Indicator,
    Outcome,
    Repeat,
    ServiceProposal,
    Suggestion,
    msg,
)
from cds.engine.case import Case, OrderContext
from cds.engine.rule import Hook
from cds.engine.safety import safe
from fhir_mapping import read_chart
from fhir_mapping.chart import Amount, Route
from tests.casebook.case_file import rulebook
from tests.casebook.shorthand import ZONE, Bench, add
from tests.conftest import FROZEN

Entry = dict[str, Any]


def _case(*entries: Entry) -> Case:
    bench = Bench(now=FROZEN, d0=FROZEN)
    add({"patient": "p1"}, bench)
    for entry in entries:
        add(entry, bench)
    book = rulebook()
    chart = read_chart(
        bench.resources,
        patient_id="p1",
        now=FROZEN,
        zone=ZONE,
        terminology=book.terminology,
        drafts=bench.drafts,
    )
    return Case(chart, OrderContext(Hook.ORDER_SIGN), FROZEN, book.parameters)


def _offered(case: Case, *actions: Create | Delete) -> int:
    finding = Finding(
        rule="grading.crs",
        outcome=Outcome.ADVISE,
        indicator=Indicator.WARNING,
        summary=msg("summary"),
        suggestions=(Suggestion("one", msg("label"), actions),),
    )
    return len(safe(case, finding, rulebook().terminology).suggestions)


def _drug(drug: str, days_ahead: int = 0, repeat: Repeat = ONCE, dose: str = "10") -> Create:
    start = FROZEN + timedelta(days=days_ahead)
    return Create(
        DrugProposal(drug, Route.INTRAVENOUS, Amount(Decimal(dose), "mg"), repeat=repeat, start=start)
    )


@pytest.mark.parametrize(
    ("entry", "drug", "offered"),
    [
        ({"allergy": "dexamethasone"}, "dexamethasone", 0),
        ({"allergy": "dexamethasone", "verification": "unconfirmed"}, "dexamethasone", 0),
        ({"allergy": "dexamethasone", "status": "resolved"}, "dexamethasone", 1),
        ({"allergy": "dexamethasone"}, "methylprednisolone", 1),
        ({"allergy": "class_glucocorticoids"}, "methylprednisolone", 0),
        ({"allergy": "sulfonamide"}, "sulfamethoxazole_trimethoprim", 0),
        ({"allergy": "trimethoprim"}, "sulfamethoxazole_trimethoprim", 0),  # an ingredient
        ({"allergy": "acyclovir"}, "valacyclovir", 0),  # its active form
        ({"allergy": "tenofovir"}, "tenofovir_alafenamide", 0),  # the wider word
        (
            {"allergy": "x", "coding": ["http://www.whocc.no/atc", "J01CA04"]},
            "levofloxacin",
            1,
        ),  # amoxicillin
        ({"allergy": "x", "coding": ["http://www.whocc.no/atc", "J02AC"]}, "micafungin", 1),  # azoles
        ({"allergy": "x", "coding": ["http://www.whocc.no/atc", "J02AC"]}, "posaconazole", 0),
        ({"allergy": "x", "coding": ["http://www.whocc.no/atc", "J02"]}, "micafungin", 0),  # antimycotics
        ({"condition": "g6pd_deficiency"}, "rasburicase", 0),
        ({"condition": "g6pd_deficiency"}, "dapsone", 0),
        ({"condition": "g6pd_deficiency", "verification": "refuted"}, "rasburicase", 1),
        ({"condition": "g6pd_deficiency"}, "allopurinol", 1),
    ],
)
def test_allergy_and_g6pd(entry: Entry, drug: str, offered: int) -> None:
    assert _offered(_case(entry), _drug(drug)) == offered


ORDER = {"order": "dexamethasone", "id": "o1", "dose": "10 mg", "route": "route_intravenous"}


@pytest.mark.parametrize(
    ("entry", "offered"),
    [
        ({**ORDER, "at": "-1d", "every": "6h"}, 0),  # in force without an end
        ({**ORDER, "at": "-1d", "every": "6h", "for": "3d"}, 0),
        ({**ORDER, "at": "-9d", "every": "6h", "for": "3d"}, 1),  # over
        ({**ORDER, "at": "+5d"}, 1),  # another day
        ({**ORDER, "at": "-1d", "every": "6h", "dose": "4 mg"}, 1),  # another dose
        ({**ORDER, "at": "-1d", "every": "6h", "route": "route_oral"}, 1),
        ({**ORDER, "at": "-1d", "every": "6h", "status": "on-hold"}, 1),
        (
            {
                "draft": "dexamethasone",
                "id": "d1",
                "dose": "10 mg",
                "route": "route_intravenous",
                "at": "+1h",
            },
            0,
        ),
        (
            {
                "draft": "dexamethasone",
                "id": "d1",
                "dose": "10 mg",
                "route": "route_intravenous",
                "at": "+7d",
            },
            1,
        ),
    ],
)
def test_the_same_order_twice(entry: Entry, offered: int) -> None:
    assert _offered(_case(entry), _drug("dexamethasone")) == offered


def test_a_course_meets_an_order_of_a_later_day() -> None:
    later = _case({**ORDER, "at": "+2d"})
    assert _offered(later, _drug("dexamethasone", repeat=Repeat(every_hours=6, days=3))) == 0


def test_a_replaced_draft_is_no_second_order() -> None:
    draft = {"draft": "dexamethasone", "id": "d1", "dose": "10 mg", "route": "route_intravenous", "at": "+1h"}
    case = _case(draft)
    assert _offered(case, Delete("MedicationRequest/d1"), _drug("dexamethasone")) == 1


@pytest.mark.parametrize(
    ("entry", "offered"), [({"service": "cmv_pcr", "at": "+1d"}, 0), ({"service": "ebv_pcr", "at": "+1d"}, 1)]
)
def test_a_test_already_ordered_is_not_ordered_again(entry: Entry, offered: int) -> None:
    assert _offered(_case(entry), Create(ServiceProposal("cmv_pcr"))) == offered


@pytest.mark.parametrize("died", [True, "-1d"])
def test_nothing_is_ordered_for_a_patient_who_has_died(died: object) -> None:
    case = _case({"patient": "p1", "died": died})
    assert _offered(case, _drug("dexamethasone")) == 0
    assert _offered(case, Create(ServiceProposal("cmv_pcr"))) == 0
    assert _offered(case, Delete("MedicationRequest/d1")) == 1
