"""Why a fact that a rule asked for is missing, as far as the chart knows."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from cards.context import RenderContext
from cards.detail import detail
from cards.finding import Finding, Indicator, Missing, Outcome, msg
from cards.texts import Language
from cds.engine.case import Case, OrderContext
from cds.engine.rule import Hook
from cds.engine.rulebook import load_rulebook
from cds.engine.run import complete
from fhir_mapping.chart import LossReason
from fhir_mapping.read import read_chart
from fhir_mapping.terminology import load

ZONE = ZoneInfo("Asia/Taipei")
NOW = datetime(2026, 3, 28, 14, 30, tzinfo=ZONE)
RULE = "grading.car-hematotox"
RULEBOOK = load_rulebook(load())


def _ferritin(identity: str, when: str, unit: str = "ng/mL") -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": identity,
        "status": "final",
        "code": {"coding": [{"system": "urn:tcell-cds:concept", "code": "ferritin"}]},
        "subject": {"reference": "Patient/p1"},
        "effectiveDateTime": when,
        "valueQuantity": {"value": 800, "system": "http://unitsofmeasure.org", "code": unit},
    }


def _explained(*resources: dict[str, Any]) -> tuple[Missing, str]:
    """The one missing fact as the engine tells it, and the English detail of its card."""
    chart = read_chart(
        [{"resourceType": "Patient", "id": "p1"}, *resources],
        patient_id="p1",
        now=NOW,
        zone=ZONE,
        terminology=RULEBOOK.terminology,
    )
    order = OrderContext(Hook.PATIENT_VIEW, None, "")
    case = Case(chart=chart, order=order, now=NOW, parameters=RULEBOOK.parameters, facility=RULEBOOK.facility)
    given = Finding(
        RULE, Outcome.UNKNOWN, Indicator.INFO, msg("summary.unknown"), missing=(Missing("ferritin"),)
    )
    found = complete(given, RULEBOOK.rules[RULE], case, RULEBOOK)
    context = RenderContext(
        Language.EN, ZONE, "d1577c69", RULEBOOK.rules, "0", RULEBOOK.terminology, NOW, "Patient/p1"
    )
    return found.missing[0], detail(found, context)


def test_what_was_never_measured_is_not_on_the_chart() -> None:
    missing, card = _explained()
    assert missing == Missing("ferritin")
    assert "- Ferritin: not on the chart" in card


def test_values_of_another_time_are_told_by_the_day_of_the_newest() -> None:
    missing, card = _explained(
        _ferritin("f1", "2026-03-20T06:00:00+08:00"), _ferritin("f2", "2026-03-27T23:00:00Z")
    )
    assert missing == Missing("ferritin", newest="2026-03-28")  # the site's day
    assert "not enough from the time that counts; newest on the chart: 2026-03-28" in card


def test_an_unreadable_value_is_the_better_reason() -> None:
    missing, card = _explained(
        _ferritin("f1", "2026-03-20T06:00:00+08:00"), _ferritin("f2", "2026-03-27T06:00:00+08:00", "mm")
    )
    assert (missing.reason, missing.newest) == (LossReason.UNIT, "")
    assert "newest on the chart" not in card
