"""Pictures say what the rules found, in both languages, to those who see them and to those who do not."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import pytest

from cards import escape
from cards.finding import Finding
from cards.texts import Language
from cards.writer import Writer
from cds.cli.fixtures import folder, load_saved
from cds.cli.offline import at, chart_file, evaluate, runtime_for, with_chart
from cds.pictures import Picture, pictures
from cds.pipeline import Answer, Runtime
from tests.casebook.case_file import bench_of, case_of, rulebook, written_cases
from tests.casebook.shorthand import ZONE
from tests.conftest import settings_for_tests

SVG = "{http://www.w3.org/2000/svg}"
REQUESTS = sorted(path.stem for path in (folder() / "requests").glob("*.json"))
KINDS = {
    "demo-crs-grade-3-1": {"toxicity", "neutrophils"},
    "demo-icans-grade-3-1": {"toxicity", "neutrophils"},
    "demo-icaht-day-16-1": {"neutrophils"},
    "demo-washout-many-drugs-1": {"washout-leukapheresis"},
    "demo-lymphodepletion-1": {"washout-lymphodepletion"},
    "demo-tarlatamab-late-dose-2": {"ladder"},
    "demo-follow-up-13-1": {"follow-up"},
    "demo-nothing-to-say-1": set(),
}


@cache
def _runtime() -> Runtime:
    return runtime_for(None)


async def answered(name: str, language: str = "en") -> Answer:
    """The answer of every rule of the hook to one saved request."""
    path = folder() / "requests" / f"{name}.json"
    saved = load_saved(path)
    runtime = at(_runtime(), saved.clock, settings_for_tests(clock=None))
    chart = json.loads((chart_file(saved, path) or Path()).read_bytes())
    service = f"all-{saved.body['hook']}"
    body = await with_chart(runtime, service, saved.body, chart)
    found = (await evaluate(runtime, service, body, language)).answer
    assert found is not None
    return found


def findings_of(answer: Answer) -> list[Finding]:
    return [] if answer.run is None else [f for trace in answer.run.traces for f in trace.findings]


def drawn(answer: Answer, width: int = 620) -> dict[str, Picture]:
    if answer.case is None or answer.context is None:
        return {}
    found = pictures(answer.case, findings_of(answer), answer.context.plain, width)
    assert len({picture.kind for picture in found}) == len(found)
    return {picture.kind: picture for picture in found}


@pytest.mark.parametrize("language", ["en", "zh-TW"])
@pytest.mark.parametrize("name", REQUESTS)
async def test_every_picture_is_sound_and_told_in_words(name: str, language: str) -> None:
    answer = await answered(name, language)
    for width in (300, 620, 1200):
        for picture in drawn(answer, width).values():
            root = ElementTree.fromstring(picture.svg)
            assert root.get("role") == "img"
            named = (root.get("aria-labelledby") or "").split()
            told = [root.find(f"{SVG}title"), root.find(f"{SVG}desc")]
            assert [node.get("id") for node in told if node is not None] == named
            assert [node.text for node in told if node is not None] == [picture.title, picture.description]
            assert picture.rows
            assert all(len(row) == len(picture.header) for row in picture.rows)
            assert not _outside(root, width), "drawn outside the picture"
            assert {node.tag.removeprefix(SVG) for node in root.iter()} <= {
                "svg", "title", "desc", "line", "rect", "circle", "polygon", "polyline", "text",
            }  # fmt: skip


def _outside(root: ElementTree.Element, width: int) -> list[str]:
    found = []
    for node in root.iter():
        for name in ("x", "x1", "x2", "cx"):
            value = float(node.get(name, 0))
            if not -1 <= value <= width + 1:
                found.append(f"{node.tag} {name}={value}")
        if node.tag == f"{SVG}rect" and float(node.get("width", 0)) < 0:
            found.append("negative width")
    return found


@pytest.mark.parametrize("name", KINDS)
async def test_the_stories_have_the_pictures_that_their_rules_call_for(name: str) -> None:
    assert set(drawn(await answered(name))) == KINDS[name]


async def test_the_washout_timeline_shows_the_dates_of_the_finding() -> None:
    answer = await answered("demo-washout-many-drugs-1")
    finding = next(f for f in findings_of(answer) if f.rule == "washout.leukapheresis")
    picture = drawn(answer)["washout-leukapheresis"]
    listed = finding.values["lines"]
    assert isinstance(listed, list)
    assert len(picture.rows) == len(listed)
    for row, line in zip(picture.rows, listed, strict=True):
        assert row[4] == str(line.get("earliest", ""))
    assert str(finding.values["earliest"]) in picture.description
    assert str(finding.values["leukapheresis"]) in picture.description


async def test_the_toxicity_timeline_ends_with_the_grade_of_the_card() -> None:
    answer = await answered("demo-icans-grade-3-1")
    picture = drawn(answer)["toxicity"]
    grades = {f.rule: f.grade for f in findings_of(answer)}
    assert f"CRS now grade {grades['grading.crs']}" in picture.description
    assert f"ICANS now grade {grades['grading.icans']}" in picture.description
    assert any(row[1] == "tocilizumab" and row[2] == "480 mg" for row in picture.rows)


async def test_the_neutrophil_curve_marks_the_run_that_the_rule_counted() -> None:
    answer = await answered("demo-icaht-day-16-1")
    values = next(f.values for f in findings_of(answer) if f.rule == "grading.icaht")
    picture = drawn(answer)["neutrophils"]
    assert f"{values['run_days']} days, day {values['run_from_day']} to day {values['run_to_day']}" in (
        picture.description
    )
    assert f"≤ 500: {values['run_days']} days" in picture.svg
    assert f"≤ 100: {values['deep_run_days']} days" in picture.svg


async def test_the_ladder_begins_again_where_the_rule_says_so() -> None:
    answer = await answered("demo-tarlatamab-late-dose-2")
    values = next(f.values for f in findings_of(answer) if f.rule == "dosing.tarlatamab-restart")
    rows = drawn(answer)["ladder"].rows
    assert [row[2:4] for row in rows] == [("C1D1", "given"), (values["label"], "due"), ("R-D8", "after that")]
    assert rows[2][0] == str(values["follow_up_date"])


async def test_the_calendar_shows_the_next_visit_and_the_missed_assessment() -> None:
    answer = await answered("demo-follow-up-13-1")
    by_rule = {f.rule: f.values for f in findings_of(answer)}
    rows = drawn(answer)["follow-up"].rows
    visit = by_rule["follow-up.schedule"]
    assert (str(visit["next_visit"]), "Visits", f"M{visit['next_month']}", "next") in rows
    missed = by_rule["follow-up.disease-status"]
    assert (str(missed["due"]), "Response assessment", f"M{missed['month']}", "missed") in rows


async def test_a_picture_that_cannot_be_drawn_costs_only_itself(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("something of the chart")

    monkeypatch.setattr("cds.pictures.gallery.neutrophils", broken)
    assert set(drawn(await answered("demo-crs-grade-3-1"))) == {"toxicity"}
    assert "something of the chart" not in caplog.text


@pytest.mark.parametrize(
    "cases", ["washout/*.yaml", "grading/[ci]*.yaml", "dosing/tarlatamab*.yaml", "follow_up/[sd]*.yaml"]
)
def test_no_case_of_the_rules_breaks_a_picture(cases: str, caplog: pytest.LogCaptureFixture) -> None:
    titles = {name: rule.title for name, rule in rulebook().rules.items()}
    count = 0
    for written in written_cases(cases):
        case = case_of(written, bench_of(written))
        findings = list(rulebook().rules[written.rule].evaluate(case))
        for language in Language:
            writer = Writer(language, ZONE, rulebook().terminology, titles, escape.plain)
            for picture in pictures(case, findings, writer, 400):
                count += 1
                assert picture.rows
                ElementTree.fromstring(picture.svg)
    assert count > 20
    assert "picture failed" not in caplog.text
