"""Which drafts could concern a washout rule, read from the tables: a new drug is a row, never a trigger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cds.rules.drug_classes import drug_classes
from fhir_mapping.chart import Drafts


def drugs_of_rows(rows: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """Drugs that the rows hold for: members of their classes, and drugs they name."""
    classes: set[str] = set()
    named: set[str] = set()
    for row in rows:
        classes.update(row.get("classes") or ())
        named.update(row.get("drugs") or ())
        if "drug" in row:
            named.add(row["drug"])
    return drug_classes().drugs(*classes) | named


def drafts_hold(drafts: Drafts, drugs: frozenset[str], services: frozenset[str]) -> bool:
    """Does any draft carry one of the drugs, order one of the services, or defy identification?"""
    for draft in drafts.drugs.all:
        if not draft.identified or not drugs.isdisjoint(drug_classes().drugs_of(draft)):
            return True
    return any(not services.isdisjoint(service.concepts) for service in drafts.services.all)
