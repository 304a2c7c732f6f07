"""House rules: what every declared rule must have before it may speak."""

from pathlib import Path

import pytest
import yaml

from cards.catalogue_check import check_catalogue
from cds.engine.rule import ORDER_HOOKS, Hook, Rule, all_rules
from cds.engine.rulebook import load_rulebook
from fhir_mapping.terminology import load

CASES = Path(__file__).parent
RULES = list(all_rules().values())


def _cases(rule: Rule) -> Path:
    return CASES / rule.domain.replace("-", "_") / f"{rule.topic.replace('-', '_')}.yaml"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_facts_are_rows_of_the_facts_table(rule: Rule) -> None:
    terminology = load()
    for fact in rule.facts:
        terminology.fact(fact)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_triggers_are_known_concepts(rule: Rule) -> None:
    terminology = load()
    unknown = [t for t in rule.triggers if t != "*" and t not in terminology]
    assert not unknown


@pytest.mark.parametrize(
    "rule", [r for r in RULES if r.hooks & ORDER_HOOKS and not r.helper], ids=lambda rule: rule.id
)
def test_an_order_rule_says_which_drafts_concern_it(rule: Rule) -> None:
    assert rule.triggers or rule.concerns is not None


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_texts_stand_in_both_languages(rule: Rule) -> None:
    assert not check_catalogue(rule.id)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_every_rule_has_cases(rule: Rule) -> None:
    data = yaml.safe_load(_cases(rule).read_text(encoding="utf-8"))
    assert len(data["cases"]) >= 3


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_every_number_is_cited(rule: Rule) -> None:
    for parameter in rule.parameters:
        assert len(parameter.source) > 3, parameter.name


@pytest.mark.parametrize("rule", [r for r in RULES if r.rides_on], ids=lambda rule: rule.id)
def test_a_rider_has_a_host_on_patient_view(rule: Rule) -> None:
    host = all_rules()[rule.rides_on]
    assert Hook.PATIENT_VIEW in host.hooks
    assert not host.helper
    assert not host.rides_on


@pytest.mark.parametrize("rule", [r for r in RULES if r.borrows], ids=lambda rule: rule.id)
def test_a_rule_borrows_numbers_of_others_only(rule: Rule) -> None:
    assert rule.id not in rule.borrows
    assert set(rule.borrows) <= set(all_rules())


def test_services_follow_from_the_declarations() -> None:
    book = load_rulebook(load())
    for rule in book.rules.values():
        for hook in rule.hooks:
            if rule.helper or not rule.enabled or (rule.rides_on and hook is Hook.PATIENT_VIEW):
                continue
            assert rule in book.services[f"{rule.domain}-{hook}"].rules
            assert rule in book.services[f"all-{hook}"].rules
