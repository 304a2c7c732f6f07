"""All rules with the site's decisions applied, and the services that follow from them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from cards.finding import Indicator
from cds import __version__
from cds.engine.case import Facility
from cds.engine.needs import Needs, needs
from cds.engine.parameters import Parameters
from cds.engine.rule import DOMAINS, ORDER_HOOKS, Hook, Rule, all_rules
from cds.engine.site import SiteFile, load_site_file
from fhir_mapping.chart import Drafts
from fhir_mapping.terminology import Terminology

# Findings of these rules ride on a patient-view grading card; on order hooks they stand alone.
HOST_HOOK = Hook.PATIENT_VIEW


@dataclass(frozen=True)
class Service:
    """One CDS service: a domain (or all) on a hook. `riders` are rules whose verdict joins a host's card."""

    id: str
    hook: Hook
    domain: str  # "" for all-<hook>
    rules: tuple[Rule, ...]
    riders: Mapping[str, tuple[Rule, ...]] = field(default_factory=dict)
    needs: Needs = field(default_factory=lambda: Needs(frozenset(), frozenset(), ()))

    @property
    def every_rule(self) -> tuple[Rule, ...]:
        return self.rules + tuple(rule for riders in self.riders.values() for rule in riders)


@dataclass(frozen=True)
class Rulebook:
    """The rules in force. `version` changes with any number, code, site file or site map."""

    rules: Mapping[str, Rule]
    parameters: Mapping[str, Parameters]
    terminology: Terminology
    facility: Facility
    site: SiteFile
    version: str

    @cached_property
    def services(self) -> Mapping[str, Service]:
        """Every service by id, in the order of domains and hooks."""
        result: dict[str, Service] = {}
        for domain in (*DOMAINS, ""):
            for hook in Hook:
                if service := self._service(domain, hook):
                    result[service.id] = service
        return result

    def _service(self, domain: str, hook: Hook) -> Service | None:
        alone: list[Rule] = []
        riding: list[Rule] = []
        for rule in self.rules.values():
            if hook not in rule.hooks or not rule.enabled:
                continue
            (riding if rule.rides_on and hook is HOST_HOOK else alone).append(rule)
        own = tuple(r for r in alone if not r.helper and (not domain or r.domain == domain))
        if not own:
            return None
        hosts = {rule.id for rule in own}
        riders: dict[str, tuple[Rule, ...]] = {}
        for rule in riding:
            if rule.rides_on in hosts:
                riders[rule.rides_on] = (*riders.get(rule.rides_on, ()), rule)
        facts = {fact for rule in own for fact in rule.facts}
        facts |= {fact for rules in riders.values() for rule in rules for fact in rule.facts}
        return Service(f"{domain or 'all'}-{hook}", hook, domain, own, riders, needs(facts, self.terminology))

    def minimum_indicator(self, rule_id: str) -> Indicator | None:
        setting = self.site.rules.get(rule_id)
        return None if setting is None else setting.minimum_indicator


def load_rulebook(terminology: Terminology, site_file: Path | None = None) -> Rulebook:
    """All declared rules with the site file applied.

    Raises DataError on a broken rule YAML, SiteFileError on a broken site file.
    """
    declared = all_rules()
    site = load_site_file(site_file, declared) if site_file else SiteFile()
    rules: dict[str, Rule] = {}
    for rule_id, rule in declared.items():
        setting = site.rules.get(rule_id)
        parameters = site.parameters.get(rule_id, rule.parameters)
        if setting is not None:
            rule = replace(
                rule,
                enabled=rule.enabled if setting.enabled is None else setting.enabled,
                hooks=rule.hooks if setting.hooks is None else setting.hooks,
            )
        rules[rule_id] = replace(rule, parameters=parameters)
    numbers = {rule_id: rule.parameters for rule_id, rule in rules.items()}
    return Rulebook(rules, numbers, terminology, site.facility, site, _version(rules, terminology, site))


def _version(rules: Mapping[str, Rule], terminology: Terminology, site: SiteFile) -> str:
    digest = hashlib.sha256()
    for rule in rules.values():
        digest.update(f"{rule.id}:{rule.version}".encode())
        digest.update(rule.path.read_bytes())
    tables = Path(__file__).parent.parent / "rules" / "tables"
    for table in sorted(tables.glob("*.yaml")):
        digest.update(table.read_bytes())
    digest.update(terminology.version.encode())
    digest.update(site.text.encode())
    return f"{__version__}+{digest.hexdigest()[:8]}"


def drafts_concern(service: Service, drafts: Drafts) -> bool:
    """Could any draft of an order hook concern a rule of the service? Asked before any FHIR call."""
    if service.hook not in ORDER_HOOKS:
        return True
    concepts: set[str] = set()
    unidentified = False
    for drug in drafts.drugs.all:
        concepts |= drug.concepts
        unidentified = unidentified or not drug.identified
    for service_order in drafts.services.all:
        concepts |= service_order.concepts
    for vaccine in drafts.vaccines.all:
        concepts |= vaccine.concepts
    if drafts.of_others:  # that they were not judged must be said
        return True
    anything = bool(drafts.drugs) or bool(drafts.services) or bool(drafts.vaccines)
    if not anything:
        return False
    for rule in service.rules:
        if rule.concerns is not None:
            if rule.concerns(drafts, rule.parameters):
                return True
        elif "*" in rule.triggers or not rule.triggers.isdisjoint(concepts):
            return True
    return unidentified
