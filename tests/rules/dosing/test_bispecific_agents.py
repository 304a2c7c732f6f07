"""The agent table: what it must have to load, and that a new agent is data."""

from pathlib import Path

import pytest

from cards.finding import Bullet, Finding, Indicator, Outcome
from cds.engine.parameters import DataError, load_yaml, parameters_from
from cds.engine.tables import shared_table
from cds.rules.bispecific.agents import AgentError, agents, agents_from, ladder_of
from tests.casebook.case_file import Written, findings_of

RULE = "dosing.bispecific-step-up"

HEAD = """
tables:
  agents:
    rows:
      - {agent: elranatamab, status: enabled, version: 1, dated: 2025-01-01, source: a test}
"""
CELLS = """
  cells:
    rows:
      - {agent: elranatamab, cell: route, value: route_subcutaneous, source: a test}
      - {agent: elranatamab, cell: infusion_minutes, value: 1, source: a test}
      - {agent: elranatamab, cell: cycle_days, value: 28, source: a test}
      - {agent: elranatamab, cell: vials_mg, value: [2, 5], source: a test}
"""
LADDER = """
  ladder:
    rows:
      - {agent: elranatamab, step: S1, dose_mg: 2, min_gap_days: 0, due_gap_days: 0, monitored: true,
         source: a test}
      - {agent: elranatamab, step: S2, dose_mg: 5, min_gap_days: 3, due_gap_days: 3, monitored: true,
         source: a test}
"""
RESTART = """
  restart:
    rows:
      - {agent: elranatamab, row: A, after: 1, max_days: 14, source: a test}
"""


def _loaded(tmp_path: Path, text: str) -> object:
    path = tmp_path / "ladders.yaml"
    path.write_text(text, encoding="utf-8")
    return agents_from(parameters_from(path, "tables/ladders", load_yaml(path)))


def test_a_complete_row_of_another_agent_loads_without_code(tmp_path: Path) -> None:
    loaded = _loaded(tmp_path, HEAD + CELLS + LADDER + RESTART)
    ladder = loaded["elranatamab"].ladder  # type: ignore[index]
    assert [step.dose for step in ladder.steps] == [2, 5]


def _answers(hook: str, *chart: object) -> list[Finding]:
    raw = {"hook": hook, "now": "2025-03-06T08:00+08:00", "chart": list(chart), "encounter": "enc"}
    found = findings_of(Written(RULE, "another agent", raw, Path("another-agent")))
    return [finding for finding in found if finding.indicator is not None]


def test_an_agent_added_as_data_is_judged_planned_and_placed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = _loaded(tmp_path, HEAD + CELLS + LADDER + RESTART)
    monkeypatch.setattr("cds.rules.dosing.bispecific_step_up.agents", lambda: loaded)
    order = {"draft": "elranatamab", "route": "route_subcutaneous", "at": "2025-03-06T09:00"}

    [first] = _answers("order-sign", {**order, "dose": "5 mg"})
    assert (first.values["row"], first.values["due_dose_mg"]) == ("D6", 2)
    assert not _answers("order-sign", {**order, "dose": "2 mg"})

    given = {"given": "elranatamab", "at": "2025-03-03T09:00", "dose": "2 mg"}
    [plan] = _answers("patient-view", given)
    assert (plan.outcome, plan.values["due_dose_mg"]) == (Outcome.DUE, 5)

    visit = {"encounter": "AMB", "id": "enc", "from": "2025-03-06T07:00"}
    [setting] = _answers("order-sign", visit, {**order, "dose": "2 mg"})
    assert (setting.values["row"], setting.indicator) == ("setting", Indicator.WARNING)


def test_the_words_and_labels_of_another_agent_are_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    third = "{agent: elranatamab, step: S3, dose_mg: 8, min_gap_days: 7, due_gap_days: 7, monitored: false,"
    loaded = _loaded(tmp_path, HEAD + CELLS + LADDER + f"      - {third} source: a test}}\n" + RESTART)
    monkeypatch.setattr("cds.rules.dosing.bispecific_step_up.agents", lambda: loaded)

    def given(day: int, dose: str) -> dict[str, str]:
        return {"given": "elranatamab", "at": f"2025-02-{day}T09:00", "dose": dose}

    history = (given(10, "2 mg"), given(13, "5 mg"), given(20, "8 mg"), given(27, "8 mg"))
    [plan] = _answers("patient-view", *history)
    assert (plan.values["label"], plan.values["due_dose_mg"]) == ("S3", 8)

    order = {"draft": "elranatamab", "route": "route_subcutaneous", "at": "2025-03-06T09:00"}
    [slow] = _answers("order-sign", {**order, "dose": "2 mg", "minutes": 30})
    assert slow.summary.values["minutes"] == 1
    [wrong] = _answers("order-sign", {**order, "dose": "5 mg"})
    keys = {block.message.key for block in wrong.detail if isinstance(block, Bullet)}
    assert "detail.follow-up-plain" in keys  # premedication and 48 h are tarlatamab's


def test_orders_of_another_agent_are_not_judged_while_its_doses_are_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = _loaded(tmp_path, HEAD + CELLS + LADDER + RESTART)
    monkeypatch.setattr("cds.rules.dosing.bispecific_step_up.agents", lambda: loaded)
    monkeypatch.setattr("cds.rules.dosing.bispecific_step_up.history_unread", lambda case: True)
    order = {"draft": "elranatamab", "id": "e", "dose": "5 mg", "at": "2025-03-06T09:00"}
    [finding] = _answers("order-sign", order)
    assert (finding.outcome, finding.resource) == (Outcome.CANNOT_CHECK, "MedicationRequest/e")


def test_an_agent_dosed_by_weight_is_refused(tmp_path: Path) -> None:
    by_weight = CELLS + "      - {agent: elranatamab, cell: dose_basis, value: kg, source: a test}\n"
    with pytest.raises(AgentError, match="per kg"):
        _loaded(tmp_path, HEAD + by_weight + LADDER + RESTART)


def test_a_row_with_an_unsourced_cell_is_refused_with_its_line(tmp_path: Path) -> None:
    broken = CELLS.replace("cell: cycle_days, value: 28, source: a test", "cell: cycle_days, value: 28")
    with pytest.raises(DataError, match=r"ladders\.yaml:\d+: .*without a source"):
        _loaded(tmp_path, HEAD + broken + LADDER + RESTART)


@pytest.mark.parametrize("cell", ["route", "infusion_minutes", "cycle_days", "vials_mg"])
def test_an_enabled_row_without_a_cell_is_refused(tmp_path: Path, cell: str) -> None:
    lines = [line for line in CELLS.splitlines() if f"cell: {cell}," not in line]
    with pytest.raises(AgentError, match=cell):
        _loaded(tmp_path, HEAD + "\n".join(lines) + LADDER + RESTART)


def test_every_row_of_our_table_is_cited() -> None:
    table = shared_table("bispecific_ladders")
    for name in ("agents", "cells", "ladder", "restart"):
        for row in table.table(name):
            assert len(str(row["source"])) > 10, row


def test_only_tarlatamab_has_numbers() -> None:
    assert [a.concept for a in agents().values() if a.ladder is not None] == ["tarlatamab"]
    with pytest.raises(AgentError):
        ladder_of("glofitamab")


def test_the_28_day_limit_is_marked_unverified() -> None:
    assert [limit.verified for limit in ladder_of("tarlatamab").limits] == [True, True, False]
