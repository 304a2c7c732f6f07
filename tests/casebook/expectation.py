"""Does a finding answer what a case expects? Expectations are partial: what is not named is free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from cards.finding import (
    Create,
    Delete,
    DrugProposal,
    Finding,
    Items,
    Message,
    ServiceProposal,
    Suggestion,
    VaccineProposal,
)
from tests.casebook.shorthand import quantity


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value


def same_value(expected: object, actual: object) -> bool:
    """Equal as a case file writes values: numbers by size, dates as ISO text, lists item by item."""
    expected, actual = _plain(expected), _plain(actual)
    if isinstance(expected, bool) or isinstance(actual, bool):
        return expected is actual
    if isinstance(expected, int | float) and isinstance(actual, int | float):
        return abs(expected - actual) <= 1e-6 * max(1.0, abs(float(expected)))
    if isinstance(expected, list) and isinstance(actual, list):
        return len(expected) == len(actual) and all(map(same_value, expected, actual))
    return str(expected) == str(actual)


def _proposed(wanted: Mapping[str, Any], suggestion: Suggestion) -> list[str]:
    """Differences between a wanted suggestion and this one; [] is a match."""
    differences: list[str] = []
    if "recommended" in wanted and wanted["recommended"] is not suggestion.recommended:
        differences.append(f"recommended is {suggestion.recommended}")
    if "deletes" in wanted:
        deleted = [a.resource for a in suggestion.actions if isinstance(a, Delete)]
        if not any(ref in (wanted["deletes"], f"MedicationRequest/{wanted['deletes']}") for ref in deleted):
            differences.append(f"deletes {deleted}")
    kinds = {"drug": DrugProposal, "service": ServiceProposal, "vaccine": VaccineProposal}
    kind = next((k for k in kinds if k in wanted), None)
    if kind is None:
        return differences
    proposals = [a.proposal for a in suggestion.actions if isinstance(a, Create)]
    best: list[str] = [f"no {kind} {wanted[kind]}"]
    for proposal in proposals:
        if not isinstance(proposal, kinds[kind]):
            continue
        name = {"drug": "drug", "service": "concept", "vaccine": "vaccine"}[kind]
        if getattr(proposal, name) != wanted[kind]:
            continue
        best = _details(wanted, proposal)
        if not best:
            break
    return differences + best


def _details(wanted: Mapping[str, Any], proposal: object) -> list[str]:
    found: list[str] = []

    def check(key: str, actual: object) -> None:
        if key in wanted and not same_value(wanted[key], actual):
            found.append(f"{key} is {_plain(actual)!r}, not {wanted[key]!r}")

    if isinstance(proposal, DrugProposal):
        for key, amount in (("dose", proposal.dose), ("per", proposal.basis.per if proposal.basis else None)):
            if key not in wanted:
                continue
            if wanted[key] in (None, "none"):
                if amount is not None:
                    found.append(f"{key} is {amount.value} {amount.unit}, not none")
                continue
            expected = quantity(wanted[key])
            matches = amount is not None and same_value(expected["value"], amount.value)
            if not matches or amount is None or amount.unit != expected["unit"]:
                found.append(f"{key} is {amount}, not {wanted[key]}")
        check("route", proposal.route.value if proposal.route else None)
        check("every", None if proposal.repeat.every_hours is None else proposal.repeat.every_hours)
        check("days", proposal.repeat.days)
        check("count", proposal.repeat.count)
        check("start", proposal.start)
        check("purpose", proposal.purpose)
    elif isinstance(proposal, ServiceProposal):
        check("when", proposal.when)
        check("details", list(proposal.details))
    elif isinstance(proposal, VaccineProposal):
        check("start", proposal.start)
    return found


def _texts(finding: Finding) -> set[str]:
    keys: set[str] = set()

    def walk(item: object) -> None:
        if isinstance(item, Message):
            keys.add(item.key)
            for value in item.values.values():
                walk(value)
        elif isinstance(item, list | tuple):
            for each in item:
                walk(each)
        elif isinstance(item, Items):
            walk(item.items)
        elif hasattr(item, "message"):
            walk(item.message)
        elif hasattr(item, "header"):
            walk(item.header)
            walk(item.rows)

    walk(finding.summary)
    walk(finding.detail)
    return keys


def differences(wanted: Mapping[str, Any], finding: Finding) -> list[str]:
    """What in the finding is not as the case expects; [] is a match."""
    found: list[str] = []
    plain = {
        "outcome": finding.outcome.value,
        "grade": finding.grade,
        "indicator": None if finding.indicator is None else finding.indicator.value,
        "subject": finding.subject,
        "row": finding.values.get("row"),
        "until": finding.until,
    }
    for key, actual in plain.items():
        if key in wanted:
            expected = None if wanted[key] == "none" and key == "indicator" else wanted[key]
            if not (expected is None and actual is None) and not same_value(expected, actual):
                found.append(f"{key} is {_plain(actual)!r}, not {wanted[key]!r}")
    if "resource" in wanted and finding.resource.rpartition("/")[2] != wanted["resource"].rpartition("/")[2]:
        found.append(f"resource is {finding.resource!r}, not {wanted['resource']!r}")
    for key, expected in wanted.get("values", {}).items():
        actual = finding.values.get(key)
        if not same_value(expected, actual):
            found.append(f"values.{key} is {_plain(actual)!r}, not {expected!r}")
    missing = {m.concept for m in finding.missing}
    for concept in wanted.get("missing", []):
        if concept not in missing:
            found.append(f"{concept} is not named as missing ({sorted(missing)})")
    why = {m.concept: m.reason.value for m in finding.missing}
    for concept, reason in wanted.get("missing_because", {}).items():
        if why.get(concept) != reason:
            found.append(f"{concept} is missing because {why.get(concept)}, not {reason}")
    for concept in wanted.get("no_missing", []):
        if concept in missing:
            found.append(f"{concept} is named as missing")
    for suggestion in wanted.get("suggests", []):
        tries = [_proposed(suggestion, s) for s in finding.suggestions]
        if not any(not t for t in tries):
            nearest = min(tries, key=len, default=["no suggestion at all"])
            found.append(f"suggestion {dict(suggestion)}: {'; '.join(nearest)}")
    for drug in wanted.get("never_suggests", []):
        if any(_creates(s, drug) for s in finding.suggestions):
            found.append(f"suggests {drug}")
    if wanted.get("suggests_none") and finding.suggestions:
        found.append(f"has suggestions {[s.key for s in finding.suggestions]}")
    for treatment in wanted.get("treatment", []):
        if not any(
            t.rule == treatment["rule"]
            and treatment.get("outcome", t.outcome) == t.outcome
            and all(same_value(v, t.values.get(k)) for k, v in treatment.get("values", {}).items())
            for t in finding.treatment
        ):
            found.append(f"no treatment {treatment}")
    keys = _texts(finding)
    for key in wanted.get("detail_has", []):
        if key not in keys:
            found.append(f"no text {key} ({sorted(keys)})")
    found += [f"text {key} is there" for key in wanted.get("detail_lacks", []) if key in keys]
    return found


def _creates(suggestion: Suggestion, drug: str) -> bool:
    return any(
        isinstance(a, Create)
        and drug
        in (
            getattr(a.proposal, "drug", ""),
            getattr(a.proposal, "concept", ""),
            getattr(a.proposal, "vaccine", ""),
        )
        for a in suggestion.actions
    )


def mismatch(expect: object, findings: Sequence[Finding]) -> str:
    """ "" when the findings are what the case expects, else what is wrong."""
    shown = [f for f in findings if f.indicator is not None or f.unconcluded]
    if expect in ("none", None):
        return "" if not shown else f"expected no card, got {[_short(f) for f in shown]}"
    wanted = list(expect) if isinstance(expect, list) else [expect]
    if len(wanted) == 1 and wanted[0].get("silent"):
        return "" if not findings else f"expected silence, got {[_short(f) for f in findings]}"
    if isinstance(expect, Mapping) and "count" in expect and len(shown) != expect["count"]:
        return f"{len(shown)} findings, not {expect['count']}: {[_short(f) for f in shown]}"
    free = list(findings)
    for each in wanted:
        tries = [(differences(each, finding), finding) for finding in free]
        match = next((finding for wrong, finding in tries if not wrong), None)
        if match is None:
            nearest = min((wrong for wrong, _ in tries), key=len, default=["no finding at all"])
            return f"expected {dict(each)}: " + "; ".join(nearest) + f"; got {[_short(f) for f in findings]}"
        free.remove(match)
    if isinstance(expect, list) and any(f.indicator is not None for f in free):
        return f"more cards than expected: {[_short(f) for f in free]}"
    return ""


def _short(finding: Finding) -> str:
    indicator = finding.indicator.value if finding.indicator else "-"
    row = finding.values.get("row", "")
    return f"{finding.rule} {finding.outcome.value} {indicator} {row} {finding.subject}".strip()
