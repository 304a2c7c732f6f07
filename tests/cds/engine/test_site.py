"""The site file: every mistake is refused at start with its file and line, however the TOML is spelled."""

from __future__ import annotations

from pathlib import Path

import pytest

from cds.access import FhirClient, OutgoingGuard
from cds.engine.site import SiteFileError
from cds.pipeline import Runtime, build_runtime
from tests.conftest import settings_for_tests

WASHOUT = '[parameters."washout.leukapheresis"]'
FREEZING = '[rules."readiness.freezing-profile"]'


def started(path: Path) -> Runtime:
    return build_runtime(settings_for_tests(site_file=path), FhirClient(OutgoingGuard(())))


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return tmp_path / "site.toml"


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("# ours\n\n[nonsense]\nx = 1", "site.toml:3: unknown section nonsense"),
        (f"{WASHOUT}\n\nnothing = 7", "site.toml:3: washout.leukapheresis has no parameter nothing"),
        (f"{WASHOUT}\nW5_days = 700", "site.toml:2: W5_days: 700 is above"),
        (f"{WASHOUT}\nW5_days = -1", "site.toml:2: W5_days: -1 is below"),
        (f"{WASHOUT}\nW5_days = '7'", "site.toml:2: W5_days: a number is expected"),
        (f"{WASHOUT}\nW5_days = {{value = 7, unit = 'h'}}", "site.toml:2: W5_days: unit h where d"),
        ('\n\nparameters."washout.leukapheresis".W5_days = 700', "site.toml:3: W5_days: 700 is above"),
        ('[parameters]\n"washout.leukapheresis" = {W5_days = 700}', "site.toml:2: W5_days: 700 is above"),
        ('[ parameters . "washout.leukapheresis" ]\nW5_days = 700', "site.toml:2: W5_days: 700 is above"),
        ('[parameters."washout.nothing"]\nW5_days = 7', "site.toml:1: unknown rule washout.nothing"),
        ("parameters = 3", "site.toml:1: parameters: a table is expected"),
        ('[parameters]\n"washout.leukapheresis" = 3', "site.toml:2: washout.leukapheresis: a table"),
        ('[rules."no.rule"]\nenabled = false', "site.toml:1: unknown rule no.rule"),
        ('[rules]\n"readiness.freezing-profile" = true', "site.toml:2: readiness.freezing-profile: a table"),
        (f"{FREEZING}\nenabled = 'no'", "site.toml:2: enabled: true or false is expected"),
        (f"{FREEZING}\nenabled = true\nhook = []", "site.toml:3: unknown key hook"),
        (f"{FREEZING}\nenabled = true\nhooks = 'order-sign'", "site.toml:3: hooks: a list of patient-view"),
        (f"{FREEZING}\n\nhooks = [\n  'order-sing',\n]", "site.toml:3: hooks: a list of patient-view"),
        (f"{FREEZING}\nminimum_indicator = 'hard'", "site.toml:2: minimum_indicator: one of info, warning"),
        ("[facility]\n\nseason = 1", "site.toml:3: unknown key season"),
        ("[facility]\nexperienced = 1", "site.toml:2: experienced: true or false is expected"),
        ("[facility]\nmonitored_wards = [7]", "site.toml:2: monitored_wards: a list of words"),
        ("[facility]\ninfluenza_season = [10, 13]", "site.toml:2: influenza_season: [first month"),
        ("[prefetch]\n\nlabs = 3", "site.toml:3: a template is a string"),
        ("[prefetch]\nlab = 'Observation?x=1'", "site.toml:2: prefetch: unknown key lab"),
        ("[prefetch]\n\nlabs = 'Condition?x=1'", "site.toml:3: prefetch: labs must read Observation"),
        ("[prefetch]\nlabs = 'Observation?x={{context.y}}'", "site.toml:2: prefetch: labs has the unknown"),
        (f"{WASHOUT}\nW5_days = 7\nW5_days = 8", "site.toml: "),
        ("no toml [", "site.toml: "),
    ],
)
def test_a_mistake_is_named_with_its_line(site: Path, text: str, refusal: str) -> None:
    site.write_text(text, encoding="utf-8")
    with pytest.raises(SiteFileError) as caught:
        started(site)
    assert str(caught.value).startswith(refusal)


def test_a_file_that_cannot_be_read_is_named(site: Path) -> None:
    with pytest.raises(SiteFileError, match=r"site\.toml: cannot be read"):
        started(site)
    site.write_bytes(b"\xff\xfe")
    with pytest.raises(SiteFileError, match=r"site\.toml: "):
        started(site)


def test_what_a_hospital_decides_is_in_force(site: Path) -> None:
    site.write_text(
        f"{WASHOUT}\nW5_days = {{value = 7, unit = 'd'}}\n"
        f"{FREEZING}\nenabled = false\n"
        "[facility]\nexperienced = false\nmonitored_wards = ['ward-9']\ninfluenza_season = [11, 4]\n"
        "[prefetch]\nlabs = 'Observation?patient={{context.patientId}}&category=LAB'\n",
        encoding="utf-8",
    )
    runtime = started(site)
    rulebook = runtime.rulebook
    assert rulebook.parameters["washout.leukapheresis"].items["W5_days"].site_value
    assert not rulebook.rules["readiness.freezing-profile"].enabled
    assert rulebook.facility.influenza_season == (11, 4)
    assert rulebook.facility.monitored_wards == ("ward-9",)
    assert runtime.plans["grading-patient-view"].published["labs"].endswith("category=LAB")
