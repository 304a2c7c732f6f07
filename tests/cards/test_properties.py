"""Whatever a rule answers, the cards are conformant CDS Hooks in both languages."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
    Hours,
    Indicator,
    Items,
    Missing,
    Name,
    Outcome,
    Override,
    Paragraph,
    Repeat,
    Selection,
    ServiceProposal,
    Suggestion,
    Table,
    Text,
    Treatment,
    Update,
    VaccineProposal,
    msg,
)
from cards.render import card_of, render
from cards.texts import Language
from fhir_mapping.chart import Amount, Flag, Loss, LossReason, Moment, Precision, Quantity, Route, instant
from tests.cards.desk import NOW, RULE, context, faults

DRAFT = {"resourceType": "ServiceRequest", "id": "s1", "status": "draft", "intent": "order"} | {
    "subject": {"reference": "Patient/p1"},
    "occurrenceDateTime": "2026-03-30",
}
DRAFTS = {"ServiceRequest/s1": DRAFT}

texts = st.text(max_size=40) | st.text(alphabet="<>[]()!`*_|#: /a長𠮷\n", max_size=40)
numbers = st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**12), max_value=10**12)
dates = st.dates(date(1900, 1, 1), date(2200, 1, 1))
stamps = st.datetimes(datetime(1900, 1, 2), datetime(2200, 1, 1)).map(lambda d: d.replace(tzinfo=UTC))
concepts = st.sampled_from(["anc", "bendamustine", "crs", "body_weight", "unheard_of", "purpose_bridging"])
units = st.sampled_from(
    ["mg", "mg/kg", "10*3/uL", "d", "%", "[IU]", "{cells}", "mL/min/{1.73_m2}", "odd <unit>"]
)
amounts = st.builds(Amount, numbers, units)
moments = stamps.map(instant) | st.builds(Moment, st.just(NOW), st.just(NOW), st.sampled_from(Precision))
leaves = (
    texts
    | st.integers(-(10**20), 10**20)
    | numbers
    | dates
    | stamps
    | moments
    | amounts
    | st.builds(Quantity, numbers, units, st.sampled_from(["", "<", ">="]))
    | concepts.map(Name)
    | texts.map(Text)
    | st.integers(0, 9999).map(Days)
    | numbers.map(Hours)
    | st.sampled_from(list(Outcome))
    | st.sampled_from(list(Route))
)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3).map(tuple).map(Items)
        | inner.map(lambda value: msg("detail.value", value=value))
    ),
    max_leaves=4,
)
messages = values.map(lambda value: msg("summary.plain", value=value))
blocks = (
    messages.map(Paragraph)
    | messages.map(Bullet)
    | messages.map(Heading)
    | st.lists(st.tuples(values, values), max_size=3).map(
        lambda rows: Table((msg("table.drug"), msg("table.gap")), tuple(rows))
    )
)
scalars = texts | st.integers(-(2**70), 2**70) | st.booleans() | numbers | dates | stamps
proposals = (
    st.builds(
        DrugProposal,
        concepts,
        st.none() | st.sampled_from(Route),
        st.none() | amounts,
        repeat=st.builds(
            Repeat,
            st.none() | st.integers(1, 9),
            st.sampled_from([None, 6, 24]),
            st.none() | st.integers(1, 9),
        ),
        start=st.none() | dates | stamps,
    )
    | st.builds(ServiceProposal, concepts, st.none() | dates | stamps)
    | st.builds(VaccineProposal, concepts, st.none() | dates)
)
actions = (
    proposals.map(Create)
    | st.sampled_from(["ServiceRequest/s1", "ServiceRequest/gone"]).map(Delete)
    | dates.map(lambda day: Update(AppointmentMove("ServiceRequest/s1", day)))
)
findings = st.builds(
    Finding,
    rule=st.just(RULE),
    outcome=st.sampled_from(Outcome),
    indicator=st.sampled_from(Indicator),
    summary=messages,
    subject=texts,
    detail=st.lists(blocks, max_size=3).map(tuple),
    grade=st.none() | st.integers(0, 5),
    values=st.dictionaries(
        st.sampled_from(["row", "gap_days", "dose_mg"]), scalars | st.lists(scalars, max_size=2)
    ),
    evidence=st.lists(
        st.builds(
            Evidence,
            st.just("Observation/o1"),
            concepts,
            st.none() | numbers | st.booleans() | texts,
            units,
            st.none() | moments,
            st.frozensets(st.sampled_from(Flag), max_size=2),
        ),
        max_size=2,
    ).map(tuple),
    missing=st.lists(st.builds(Missing, concepts, st.sampled_from(LossReason), texts, texts), max_size=2).map(
        tuple
    ),
    losses=st.lists(st.builds(Loss, st.sampled_from(LossReason), concepts, texts, texts), max_size=2).map(
        tuple
    ),
    resource=st.sampled_from(["", "ServiceRequest/s1"]),
    suggestions=st.lists(
        st.builds(
            Suggestion,
            st.sampled_from(["a", "b"]),
            messages,
            st.lists(actions, min_size=1, max_size=3).map(tuple),
            st.booleans(),
        ),
        max_size=3,
    ).map(tuple),
    selection=st.sampled_from(Selection),
    overrides=st.lists(st.sampled_from(Override), max_size=3).map(tuple),
    treatment=st.lists(
        st.builds(Treatment, st.just("dosing.example"), st.just("advise"), st.just({"dose_mg": Decimal(1)})),
        max_size=1,
    ).map(tuple),
)


@pytest.mark.usefixtures("example_texts")
@settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(findings, st.sampled_from(Language))
def test_any_finding_renders_without_a_fault(finding: Finding, language: Language) -> None:
    card = card_of(finding, context(language, drafts=DRAFTS))
    assert faults([card], DRAFTS) == []
    json.dumps(card, allow_nan=False).encode()


@pytest.mark.usefixtures("example_texts")
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(findings, max_size=6), st.integers(1, 4))
def test_no_verdict_is_lost(several: list[Finding], most: int) -> None:
    ordered = sorted(several, key=lambda finding: -(finding.indicator or Indicator.INFO).rank)
    cards = render(ordered, context(drafts=DRAFTS, max_cards=most))
    omitted = sum(card["extension"].get("org.tcell-cds.omitted", {}).get("count", 0) for card in cards)
    assert len(cards) + omitted == len(several)
    assert faults(cards, DRAFTS) == []
