"""One chart, the clock moved from day 0 to year 15: at each date exactly these cards and no other."""

from __future__ import annotations

from datetime import datetime

import pytest
from dateutil.relativedelta import relativedelta

from cds.engine.case import Case, OrderContext
from cds.engine.run import run
from fhir_mapping import read_chart
from tests.casebook.case_file import rulebook
from tests.casebook.shorthand import ZONE, Bench, add

D0 = datetime(2020, 1, 15, 10, tzinfo=ZONE)
PROPHYLAXIS = {"follow-up.prophylaxis-antiviral start", "follow-up.prophylaxis-pjp start"}
OPEN = {"common.not-checked cannot-check"}
EARLY = PROPHYLAXIS | OPEN

# date after D0 -> cards beside those of every date
TIMELINE: list[tuple[str, relativedelta, set[str]]] = [
    ("day 0, in season", relativedelta(hours=4), {"vaccination.influenza wait", "vaccination.covid19 wait"}),
    ("day 10", relativedelta(days=10), {"vaccination.influenza wait", "vaccination.covid19 wait"}),
    (
        "day 28",
        relativedelta(days=28),
        {"vaccination.influenza wait", "vaccination.covid19 wait", "follow-up.disease-status due"},
    ),
    ("month 2", relativedelta(months=2), {"vaccination.influenza wait", "vaccination.covid19 wait"}),
    (
        "month 3 exactly, out of season",
        relativedelta(months=3),
        {"vaccination.covid19 wait", "follow-up.disease-status due"},
    ),
    (
        "the day after month 3",
        relativedelta(months=3, days=1),
        {"vaccination.covid19 due", "follow-up.disease-status due"},
    ),
    (
        "month 6 exactly",
        relativedelta(months=6),
        {
            "vaccination.covid19 due",
            "vaccination.inactivated wait",
            "follow-up.schedule overdue",
            "follow-up.disease-status due",
        },
    ),
    (
        "the day after month 6",
        relativedelta(months=6, days=1),
        {
            "vaccination.covid19 due",
            "vaccination.inactivated due",
            "follow-up.schedule overdue",
            "follow-up.disease-status due",
        },
    ),
    (
        "month 11, in season",
        relativedelta(months=11),
        {
            "vaccination.covid19 due",
            "vaccination.influenza due",
            "vaccination.adjuvanted wait",
            "vaccination.live wait",
            "vaccination.inactivated due",
            "follow-up.schedule overdue",
        },
    ),
    *(
        (
            f"year {year}",
            relativedelta(years=year),
            {
                "vaccination.covid19 due",
                "vaccination.influenza due",
                "vaccination.adjuvanted wait",
                "vaccination.live wait",
                "vaccination.inactivated due",
                "follow-up.schedule overdue",
                "follow-up.disease-status due",
            },
        )
        for year in (1, 2, 6, 15)
    ),
]


@pytest.mark.parametrize(("name", "after", "cards"), TIMELINE, ids=[name for name, _, _ in TIMELINE])
def test_cards_of_one_patient_at(name: str, after: relativedelta, cards: set[str]) -> None:
    now = D0 + after
    bench = Bench(now=now, d0=D0)
    for entry in (
        {"patient": "p1", "birth": "1990-01-01", "sex": "male"},
        {"condition": "b_all", "since": "2018-01-01", "status": "remission"},
        {"obs": "hbsag", "value": "negative", "at": "d-20"},
        {"obs": "anti_hbc", "value": "negative", "at": "d-20"},
        {
            "given": "fludarabine",
            "at": "d-5",
            "dose": "45 mg",
            "route": "route_intravenous",
            "purpose": "purpose_lymphodepletion",
        },
        {"given": "tisagenlecleucel", "at": "d+0T10:00", "bag": "1"},
    ):
        add(entry, bench)
    book = rulebook()
    chart = read_chart(
        bench.resources, patient_id=bench.patient, now=now, zone=ZONE, terminology=book.terminology
    )
    shown: list[str] = []
    for service_id in ("vaccination-patient-view", "follow-up-patient-view"):
        service = book.services[service_id]
        case = Case(chart, OrderContext(service.hook), now, book.parameters)
        shown += [f"{f.rule} {f.outcome.value}" for f in run(service, case, book).findings]
    assert sorted(shown) == sorted(cards | EARLY)
