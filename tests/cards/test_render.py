"""Cards as contract section 4 says, judged by the response walker."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from cards.escape import utf16_units
from cards.finding import (
    AppointmentMove,
    Bullet,
    Create,
    Days,
    Delete,
    DrugProposal,
    Evidence,
    Finding,
    Heading,
    Indicator,
    Link,
    Message,
    Missing,
    Name,
    Outcome,
    Override,
    Paragraph,
    Selection,
    ServiceProposal,
    Suggestion,
    Table,
    Text,
    Treatment,
    Update,
    msg,
)
from cards.render import FINDING, OMITTED, card_of, render
from cards.sign_off import SignOff
from cards.texts import Language, TextError
from fhir_mapping.chart import Amount, Flag, Loss, LossReason, Route, instant, whole_day
from fhir_mapping.read import read_drafts
from fhir_mapping.terminology import load
from tests.cards.desk import NOW, RULE, ZONE, Info, Parameter, context, faults

pytestmark = pytest.mark.usefixtures("example_texts")

ATC = "http://www.whocc.no/atc"
DRAFT = {
    "resourceType": "MedicationRequest",
    "id": "m1",
    "status": "draft",
    "intent": "order",
    "subject": {"reference": "Patient/p1"},
    "medicationCodeableConcept": {"text": "<b>bendamustine</b>"},
    "dosageInstruction": [{"timing": {"event": ["2026-03-30"]}}],
}
DRAFTS = {"MedicationRequest/m1": DRAFT}

NOT_MET = Finding(
    rule=RULE,
    outcome=Outcome.NOT_MET,
    indicator=Indicator.WARNING,
    summary=msg("summary.not-met", drug=Name("bendamustine"), gap=Days(38), needed=Days(84)),
    subject="bendamustine",
    detail=(
        Paragraph(msg("detail.found", when=date(2026, 3, 1), dose=Amount(Decimal("90"), "mg/m2"))),
        Heading(msg("table.gap")),
        Bullet(msg("detail.value", value=1)),
        Bullet(msg("detail.value", value=Text("a|b"))),
        Table(
            (msg("table.drug"), msg("table.gap")),
            ((Name("bendamustine"), Days(38)), (Text("x|y\n# z"), Days(1))),
        ),
    ),
    grade=None,
    values={
        "row": "W17",
        "gap_days": 38,
        "needed_days": Decimal("84"),
        "earliest": date(2026, 5, 24),
        "bsa_m2": Decimal("1.85"),
    },
    evidence=(
        Evidence("MedicationAdministration/a1", "bendamustine", Decimal("166.5"), "mg", instant(NOW)),
        Evidence(
            "Observation/o1", "bsa", True, "", whole_day(date(2026, 3, 1), NOW), frozenset({Flag.PRELIMINARY})
        ),
    ),
    missing=(Missing("body_weight", LossReason.STALE),),
    losses=(
        Loss(LossReason.UNIT, "body_height", "Observation/o2", "<b>foot</b>"),
        Loss(LossReason.MALFORMED, "", "Condition/c1"),
    ),
    resource="MedicationRequest/m1",
    suggestions=(
        Suggestion(
            "remove", msg("suggest.move", drug=Name("bendamustine")), (Delete("MedicationRequest/m1"),)
        ),
        Suggestion(
            "move",
            msg("suggest.move", drug=Name("bendamustine")),
            (Update(AppointmentMove("MedicationRequest/m1", date(2026, 5, 24))),),
            recommended=True,
        ),
        Suggestion(
            "instead",
            Message("suggest.move", {"drug": Name("dexamethasone")}, RULE),
            (
                Create(ServiceProposal("ferritin")),
                Delete("MedicationRequest/m1"),
                Create(DrugProposal("dexamethasone", Route.ORAL, Amount(Decimal(10), "mg"))),
            ),
            recommended=True,
            rule="dosing.example",
        ),
    ),
    overrides=(Override.DISEASE_PROGRESSION, Override.OTHER, Override.OTHER),
    links=(
        Link(msg("link.guideline"), "https://example.org/g"),
        Link(msg("link.guideline"), "javascript:alert(1)"),
    ),
    treatment=(Treatment("dosing.example", Outcome.ADVISE, {"dose_mg": Decimal(560)}),),
)


def _card(finding: Finding = NOT_MET, language: Language = Language.EN, **changes: Any) -> dict[str, Any]:
    (card,) = render([finding], context(language, **{"drafts": DRAFTS, **changes}))
    return card


@pytest.mark.parametrize("language", Language)
def test_a_full_card_is_conformant_in_both_languages(language: Language) -> None:
    assert faults([_card(language=language)], DRAFTS) == []


def test_summary_states_the_conclusion() -> None:
    assert _card()["summary"] == "Bendamustine 38 days before leukapheresis; 84 days needed"
    assert "距白血球分離術 38 天，需 84 天" in _card(language=Language.ZH_TW)["summary"]


def test_detail_says_what_was_found_what_is_missing_and_where_it_comes_from() -> None:
    assert _card()["detail"].split("\n\n") == [
        "Last dose **2026-03-01**: 90 mg/m².",
        "### Gap",
        "- Found: 1\n- Found: a\\|b",
        "| Drug | Gap |\n| --- | --- |\n| bendamustine | 38 days |\n| x\\|y # z | 1 day |",
        "**Missing**",
        "- Body weight: too old",
        "**Present but not used**",
        "- Body height: unit unknown or unfit (written: &lt;b&gt;foot&lt;/b&gt;)\n"
        "- Condition/c1: entry unreadable",
        "**Note on the data**",
        "- Body surface area: preliminary",
        "Site value in place of the default: W5_days = 9 days",
        "Source: Handbook, chapter 1",
        "Clinical status: draft, not yet reviewed by a clinician. "
        "Supports clinical judgement and does not replace it.",
    ]


def test_a_number_borrowed_from_another_rule_is_marked_as_the_sites_too() -> None:
    lender = Info(parameters=(Parameter("dose_mg", Decimal("8"), "mg", site_value=True),))
    rules = {RULE: Info(borrows=("dosing.lender",)), "dosing.lender": lender}
    detail = _card(rules=rules)["detail"]
    assert "Site value in place of the default: W5_days = 9 days and dose_mg = 8 mg" in detail


def test_source_names_guideline_and_rule() -> None:
    assert _card()["source"] == {
        "label": "Handbook",
        "url": "https://example.org/handbook",
        "topic": {"system": "urn:tcell-cds:rule", "code": RULE, "display": "Drug-free interval"},
    }


def test_a_finding_of_no_declared_rule_still_has_a_source() -> None:
    card = _card(
        replace(NOT_MET, rule="common.not-checked", summary=msg("common.not-checked.summary", count=2))
    )
    assert card["source"]["label"] == "tcell-cds decision support"
    assert card["source"]["topic"]["display"] == "Checks without an answer"


def test_machine_readable_finding() -> None:
    assert _card()["extension"] == {
        FINDING: {
            "rule": RULE,
            "rulesetVersion": "0.1.0+0a1b2c3d",
            "outcome": "not-met",
            "values": {
                "row": "W17",
                "gap_days": 38,
                "needed_days": 84,
                "earliest": "2026-05-24",
                "bsa_m2": 1.85,
            },
            "evidence": [
                {
                    "reference": "MedicationAdministration/a1",
                    "concept": "bendamustine",
                    "value": 166.5,
                    "unit": "mg",
                    "effective": "2026-03-28T14:30:00+08:00",
                },
                {"reference": "Observation/o1", "concept": "bsa", "value": True, "effective": "2026-03-01"},
            ],
            "missing": ["body_weight"],
            "losses": [
                {"concept": "body_weight", "reason": "stale"},
                {"concept": "body_height", "resource": "Observation/o2", "reason": "unit"},
                {"resource": "Condition/c1", "reason": "malformed"},
            ],
            "resource": "MedicationRequest/m1",
            "treatment": [{"rule": "dosing.example", "outcome": "advise", "values": {"dose_mg": 560}}],
        }
    }


def test_grade_zero_and_false_are_values_and_empties_are_not() -> None:
    finding = replace(
        NOT_MET, grade=0, values={"a": False, "b": "", "c": [], "d": 0, "e": [{"f": Decimal("0.0")}]}
    )
    machine = _card(finding)["extension"][FINDING]
    assert machine["grade"] == 0
    assert machine["values"] == {"a": False, "d": 0, "e": [{"f": 0}]}
    assert faults([_card(finding)], DRAFTS) == []


def test_numbers_that_json_cannot_hold_are_words() -> None:
    values = {"a": Decimal("Infinity"), "b": Decimal("1E+40"), "c": 2**70}
    machine = _card(replace(NOT_MET, values=values))["extension"][FINDING]
    assert machine["values"] == {"a": "Infinity", "b": 1e40, "c": float(2**70)}


# --- identity


def test_uuids_depend_on_call_rule_and_subject_only() -> None:
    card = _card()
    UUID(card["uuid"])
    other_words = _card(replace(NOT_MET, summary=msg("summary.plain", value=1)), Language.ZH_TW)
    assert other_words["uuid"] == card["uuid"]
    assert [s["uuid"] for s in other_words["suggestions"]] == [s["uuid"] for s in card["suggestions"]]
    assert _card(replace(NOT_MET, subject="x"))["uuid"] != card["uuid"]
    assert (
        _card(
            replace(
                NOT_MET,
                rule="dosing.example",
                summary=msg("common.days", count=1),
                detail=(),
                suggestions=(),
                links=(),
            )
        )["uuid"]
        != card["uuid"]
    )
    assert _card(hook_instance="other")["uuid"] != card["uuid"]


def test_two_findings_of_one_subject_have_two_uuids() -> None:
    cards = render([NOT_MET, NOT_MET], context(drafts=DRAFTS))
    assert faults(cards, DRAFTS) == []
    assert cards[0]["uuid"] != cards[1]["uuid"]


# --- suggestions


def test_actions_are_ordered_and_only_one_is_recommended() -> None:
    card = _card()
    assert card["selectionBehavior"] == "at-most-one"
    assert [s.get("isRecommended") for s in card["suggestions"]] == [None, True, None]
    assert [a["type"] for a in card["suggestions"][2]["actions"]] == ["delete", "create", "create"]
    assert [s["extension"] for s in card["suggestions"]] == [
        {"org.tcell-cds.rule": RULE},
        {"org.tcell-cds.rule": RULE},
        {"org.tcell-cds.rule": "dosing.example"},
    ]


def test_an_update_is_the_whole_resource_on_its_new_date() -> None:
    (action,) = _card()["suggestions"][1]["actions"]
    assert action["resource"] == DRAFT | {"dosageInstruction": [{"timing": {"event": ["2026-05-24"]}}]}
    assert action["description"] == "Move ‹b>bendamustine‹/b> to 2026-05-24"


def test_a_delete_names_the_draft() -> None:
    (action,) = _card()["suggestions"][0]["actions"]
    assert action == {
        "type": "delete",
        "description": "Remove the draft order ‹b>bendamustine‹/b>",
        "resourceId": "MedicationRequest/m1",
    }


@pytest.mark.parametrize(
    ("coded", "called"),
    [
        ({"medicationCodeableConcept": {"coding": [{"system": ATC, "code": "H02AB02"}]}}, "dexamethasone"),
        ({"medicationCodeableConcept": {"coding": [{"system": ATC, "code": "X99"}]}}, "MedicationRequest"),
        ({}, "MedicationRequest"),
    ],
)
def test_a_draft_without_words_is_called_by_what_its_codes_mean(coded: dict[str, Any], called: str) -> None:
    draft = {k: v for k, v in DRAFT.items() if k != "medicationCodeableConcept"} | coded
    read = read_drafts([draft], patient_id="p1", now=NOW, zone=ZONE, terminology=load())
    card = card_of(NOT_MET, context(drafts={"MedicationRequest/m1": draft}, read=read))
    (action,) = card["suggestions"][0]["actions"]
    assert action["description"] == f"Remove the draft order {called}"


def test_a_suggestion_with_an_impossible_action_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "cards.render"):
        card = _card(drafts={})
    assert "suggestions" not in card
    assert "selectionBehavior" not in card
    assert len(caplog.records) == 3


def test_an_undated_appointment_cannot_be_moved() -> None:
    card = _card(drafts={"MedicationRequest/m1": {"resourceType": "Appointment", "id": "m1"}})
    assert [s["actions"][0]["type"] for s in card["suggestions"]] == ["delete", "delete"]


def test_selection_any_is_kept() -> None:
    assert _card(replace(NOT_MET, selection=Selection.ANY))["selectionBehavior"] == "any"


# --- indicator, overrides, links


@pytest.mark.parametrize("indicator", Indicator)
def test_override_reasons_stand_on_warning_and_critical_cards(indicator: Indicator) -> None:
    card = _card(replace(NOT_MET, indicator=indicator))
    assert card["indicator"] == indicator.value
    assert ("overrideReasons" in card) is (indicator is not Indicator.INFO)
    assert faults([card], DRAFTS) == []


def test_override_reasons_are_coded_and_never_empty() -> None:
    assert _card()["overrideReasons"] == [
        {
            "system": "urn:tcell-cds:override-reason",
            "code": "disease-progression",
            "display": "Disease progression leaves no time to wait",
        },
        {"system": "urn:tcell-cds:override-reason", "code": "other", "display": "Other reason"},
    ]
    assert _card(replace(NOT_MET, overrides=()))["overrideReasons"]


def test_only_absolute_web_links_are_shown() -> None:
    assert _card()["links"] == [{"label": "Guideline", "url": "https://example.org/g", "type": "absolute"}]
    assert "links" not in _card(replace(NOT_MET, links=NOT_MET.links[1:]))


def test_findings_without_indicator_give_no_card() -> None:
    silent = replace(NOT_MET, indicator=None)
    assert render([silent], context()) == []
    with pytest.raises(ValueError, match="indicator"):
        card_of(silent, context())


# --- status


def test_a_reviewed_rule_names_reviewer_and_day() -> None:
    sign_offs = {RULE: SignOff(2, "Dr. A. <b>Chen</b>", date(2026, 3, 1))}
    detail = _card(sign_offs=sign_offs)["detail"]
    assert "Clinical status: reviewed by Dr. A. &lt;b&gt;Chen&lt;/b&gt; on 2026-03-01." in detail
    assert "臨床狀態：" in _card(language=Language.ZH_TW, sign_offs=sign_offs)["detail"]


def test_a_rule_changed_since_its_review_is_a_draft() -> None:
    detail = _card(sign_offs={RULE: SignOff(1, "Dr. A. Chen", date(2026, 3, 1))})["detail"]
    assert "draft; an earlier version was reviewed by Dr. A. Chen on 2026-03-01." in detail


# --- limits


@pytest.mark.parametrize("text", ["長" * 200, "𠮷" * 200, "word " * 60, "e\u0301" * 200])
def test_a_summary_never_exceeds_139_units(text: str) -> None:
    card = _card(replace(NOT_MET, summary=msg("summary.plain", value=text)))
    assert utf16_units(card["summary"]) <= 139
    assert card["summary"].endswith("…")
    assert faults([card], DRAFTS) == []


def test_hostile_chart_text_is_harmless_everywhere() -> None:
    hostile = "<img src=x onerror=alert(1)> [x](javascript:alert(1)) ![p](data:image/png;x)"
    finding = replace(
        NOT_MET,
        summary=msg("summary.plain", value=Text(hostile)),
        detail=(Paragraph(msg("detail.value", value=Text(hostile))),),
        values={"drug": hostile},
        evidence=(Evidence("Observation/o1", "bsa", hostile),),
        losses=(Loss(LossReason.UNIT, "", "Observation/o1", hostile),),
        suggestions=(
            Suggestion("k", msg("suggest.move", drug=Text(hostile)), (Delete("MedicationRequest/m1"),)),
        ),
    )
    draft = DRAFT | {"medicationCodeableConcept": {"text": hostile}}
    card = _card(finding, drafts={"MedicationRequest/m1": draft})
    assert faults([card], DRAFTS) == []
    assert "<img" not in str(card)


@pytest.mark.parametrize(
    ("language", "text", "line"),
    [
        (Language.EN, "in the future", "- Observation/o1: entry unreadable (dated in the future)"),
        (Language.EN, "30 MU", "- Observation/o1: entry unreadable (written: 30 MU)"),
        (Language.ZH_TW, "in the future", "- Observation/o1：資料格式無法判讀 (日期在未來)"),
        (Language.ZH_TW, "30 MU", "- Observation/o1：資料格式無法判讀 (原文：30 MU)"),
    ],
)
def test_the_readers_own_word_is_no_quotation(language: Language, text: str, line: str) -> None:
    lost = replace(NOT_MET, losses=(Loss(LossReason.MALFORMED, "", "Observation/o1", text),))
    assert line in _card(lost, language=language)["detail"]


def test_long_lists_are_counted() -> None:
    missing = tuple(Missing(f"unheard_{number}") for number in range(12))
    detail = _card(replace(NOT_MET, missing=missing))["detail"]
    assert "- unheard 7: not on the chart\n- and 4 more" in detail
    assert "unheard 8" not in detail


def _many(*indicators: Indicator) -> list[Finding]:
    return [replace(NOT_MET, indicator=i, subject=str(n), suggestions=()) for n, i in enumerate(indicators)]


def test_the_rest_is_counted_on_the_last_card() -> None:
    cards = render(_many(*[Indicator.WARNING] * 2, *[Indicator.INFO] * 3), context(max_cards=3))
    assert len(cards) == 3
    assert cards[2]["detail"].endswith("2 more cards are not shown: Drug-free interval")
    assert cards[2]["extension"][OMITTED] == {"count": 2, "rules": [RULE]}
    assert OMITTED not in cards[1]["extension"]
    assert faults(cards) == []


def test_critical_cards_are_never_cut() -> None:
    cards = render(_many(*[Indicator.CRITICAL] * 4, Indicator.WARNING), context(max_cards=2))
    assert [card["indicator"] for card in cards] == ["critical"] * 4
    assert "1 more card is not shown" in cards[-1]["detail"]


def test_no_rest_no_count() -> None:
    assert OMITTED not in str(render(_many(Indicator.INFO), context(max_cards=1)))
    assert render([], context()) == []


# --- failures


def test_a_card_without_text_still_shows_the_verdict(caplog: pytest.LogCaptureFixture) -> None:
    broken = replace(NOT_MET, summary=msg("summary.unheard-of"), subject="secret")
    with pytest.raises(TextError):
        card_of(broken, context())
    with caplog.at_level(logging.ERROR, "cards.render"):
        card, other = render([broken, NOT_MET], context(drafts=DRAFTS))
    assert card["summary"] == "Drug-free interval: result without text, see the values"
    assert "not met" in card["detail"]
    assert card["extension"][FINDING]["values"]["gap_days"] == 38
    assert other["summary"].startswith("Bendamustine")
    assert faults([card, other], DRAFTS) == []
    (record,) = caplog.records
    assert (record.__dict__["rule"], record.__dict__["error"]) == (RULE, "TextError")
    assert "secret" not in caplog.text
