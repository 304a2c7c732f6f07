"""The machine-readable finding that every card carries (contract section 4, `extension`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any

from cards import escape
from cards.context import RenderContext
from cards.finding import Evidence, Finding, Missing
from cards.orders import json_number, pruned
from fhir_mapping.chart import Loss, Moment, Precision

Json = dict[str, Any]


def machine_readable(finding: Finding, context: RenderContext) -> Json:
    """The `org.tcell-cds.finding` object; fields without a value are left out."""
    missing = list(dict.fromkeys(item.concept for item in finding.missing if item.concept))
    parts: Json = {
        "rule": finding.rule,
        "rulesetVersion": context.ruleset_version,
        "outcome": finding.outcome.value,
        "grade": finding.grade,
        "values": _json(finding.values, context),
        "evidence": [_evidence(item, context) for item in finding.evidence],
        "missing": missing,
        "losses": _reasons(finding.missing, finding.losses),
        "resource": finding.resource,
        "treatment": [
            {"rule": t.rule, "outcome": str(t.outcome), "values": _json(t.values, context)}
            for t in finding.treatment
        ],
    }
    kept: Json = pruned(parts)
    return kept


def _json(value: object, context: RenderContext) -> Any:
    """JSON of a machine-readable value: Decimal as number, dates ISO 8601, text harmless."""
    match value:
        case None | bool():
            return value
        case Enum():
            return str(value.value)
        case str():
            return escape.plain(value)
        case int():
            return json_number(value)
        case Decimal() | float():
            exact = Decimal(str(value))
            return json_number(exact) if exact.is_finite() else str(value)
        case datetime():
            aware = value if value.tzinfo else value.replace(tzinfo=context.zone)
            return aware.astimezone(context.zone).isoformat(timespec="seconds")
        case date():
            return value.isoformat()
        case Mapping():
            return {str(key): _json(item, context) for key, item in value.items()}
        case Iterable():
            return [_json(item, context) for item in value]
    return escape.plain(str(value))


def _evidence(evidence: Evidence, context: RenderContext) -> Json:
    effective = evidence.effective
    return {
        "reference": evidence.reference,
        "concept": evidence.concept,
        "value": _json(evidence.value, context),
        "unit": escape.plain(evidence.unit),
        "effective": None if effective is None else _effective(effective, context),
    }


def _effective(moment: Moment, context: RenderContext) -> str:
    if moment.precision is Precision.INSTANT:
        return moment.earliest.astimezone(context.zone).isoformat(timespec="seconds")
    text = moment.earliest.date().isoformat()
    return text[: {Precision.DAY: 10, Precision.MONTH: 7, Precision.YEAR: 4}[moment.precision]]


def _reasons(missing: Sequence[Missing], losses: Sequence[Loss]) -> list[Json]:
    """Why something is missing or unused, each pair of thing and reason once."""
    items = [(item.concept, item.resource, item.reason.value) for item in missing]
    items += [(item.concept, item.resource, item.reason.value) for item in losses]
    names = ("concept", "resource", "reason")
    return [dict(zip(names, item, strict=True)) for item in dict.fromkeys(items)]
