"""What must hold for any patient: suppression, immunoglobulin or low counts never open a gate."""

from datetime import date, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from cards.finding import Create, Indicator, Outcome, VaccineProposal
from cds.rules.vaccination.classes import VaccineClass, classify
from fhir_mapping.chart import Vaccine, add_months
from tests.casebook.case_file import Written, findings_of

D0 = date(2025, 1, 31)
DAYS = st.integers(min_value=0, max_value=900)
FAST = settings(max_examples=40, deadline=None)


def answers(rule: str, today: date, chart: list[dict[str, Any]]) -> list[Any]:
    raw = {
        "now": f"{today.isoformat()}T10:00+08:00",
        "hook": "order-sign",
        "chart": [{"given": "tisagenlecleucel", "at": D0.isoformat()}, *chart],
    }
    return findings_of(Written(rule, "property", raw, __file__))  # type: ignore[arg-type]


def counts(today: date, cd4: int, b: int) -> list[dict[str, Any]]:
    at = today.isoformat()
    return [
        {"obs": "cd4_abs", "value": f"{cd4} /uL", "at": at},
        {"obs": "cd19_abs", "value": f"{b} /uL", "at": at},
    ]


LIVE = {"draft_vaccine": "vac_mmr", "id": "v1"}
KILLED = {"draft_vaccine": "vac_pneumococcal", "id": "v1"}


@FAST
@given(DAYS, st.integers(0, 1000), st.integers(0, 1000), st.booleans())
def test_a_live_vaccine_is_free_only_when_every_condition_is_proven(
    days: int, cd4: int, b: int, tacrolimus: bool
) -> None:
    today = D0 + timedelta(days=days)
    drug = [{"order": "tacrolimus", "at": "-5d", "every": "12h", "route": "route_oral"}] if tacrolimus else []
    (finding,) = answers("vaccination.live", today, [*counts(today, cd4, b), *drug, LIVE])
    open_now = today >= add_months(D0, 12) and cd4 > 200 and b > 200 and not tacrolimus
    assert (finding.outcome is Outcome.ELIGIBLE) is open_now
    assert (finding.indicator is Indicator.INFO) is open_now


@FAST
@given(DAYS, st.integers(0, 400))
def test_an_inactivated_vaccine_opens_on_the_day_it_says(days: int, ivig_after: int) -> None:
    today = D0 + timedelta(days=days)
    dose = D0 + timedelta(days=ivig_after)
    chart = [{"given": "ivig", "at": dose.isoformat()}] if dose <= today else []
    (finding,) = answers("vaccination.inactivated", today, [*chart, KILLED])
    if finding.outcome is Outcome.ELIGIBLE:
        return
    first = finding.values["earliest"]
    assert first > today
    before, on = (
        answers("vaccination.inactivated", day, [*chart, KILLED])[0].outcome
        for day in (first - timedelta(days=1), first)
    )
    assert before is Outcome.TOO_EARLY
    assert on is Outcome.ELIGIBLE


@FAST
@given(DAYS, st.sampled_from(["vac_mmr", "vac_je_live", "vac_zoster_live", "vac_opv", "vac_hepb_adjuvanted"]))
def test_no_live_vaccine_is_ever_offered(days: int, concept: str) -> None:
    today = D0 + timedelta(days=days)
    draft = {"draft_vaccine": concept, "id": "v1"}
    for rule in ("vaccination.live", "vaccination.adjuvanted", "vaccination.pre-cart"):
        for finding in answers(rule, today, [draft]):
            for suggestion in finding.suggestions:
                for action in suggestion.actions:
                    if isinstance(action, Create) and isinstance(action.proposal, VaccineProposal):
                        offered = Vaccine("", frozenset({action.proposal.vaccine}), None)
                        assert classify(offered).vaccine_class is not VaccineClass.LIVE
                        assert action.proposal.start is not None
                        assert action.proposal.start >= today


@FAST
@given(DAYS, st.integers(0, 600), st.randoms(use_true_random=False))
def test_the_order_of_the_chart_does_not_matter(days: int, cd4: int, random: Any) -> None:
    today = D0 + timedelta(days=days)
    chart = [
        *counts(today, cd4, 300),
        {"given": "ivig", "at": "-40d"},
        {"procedure": "auto_hct", "at": "-900d"},
    ]
    shuffled = list(chart)
    random.shuffle(shuffled)
    one, two = (answers("vaccination.live", today, [*c, LIVE])[0] for c in (chart, shuffled))
    assert (one.outcome, one.until, one.values["unmet"]) == (two.outcome, two.until, two.values["unmet"])
