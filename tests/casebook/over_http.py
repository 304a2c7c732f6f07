"""A case as a hook request: the same chart, now in the prefetch of a real HTTP call."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from datetime import datetime
from typing import Any

from cds.settings import Settings
from tests.casebook.case_file import Written, rulebook
from tests.casebook.expectation import same_value
from tests.casebook.shorthand import ZONE, Bench, Resource

CLOCK: ContextVar[datetime] = ContextVar("case clock")
_KEY_OF_TYPE = {
    "Condition": "conditions",
    "Procedure": "procedures",
    "MedicationAdministration": "administrations",
    "MedicationDispense": "dispenses",
    "MedicationStatement": "statements",
    "MedicationRequest": "orders-active",
    "ServiceRequest": "service-requests",
    "DeviceRequest": "service-requests",
    "Appointment": "appointments",
    "AllergyIntolerance": "allergies",
    "Immunization": "immunizations",
    "Encounter": "encounters",
    "DiagnosticReport": "reports",
    "Specimen": "specimens",
    "Observation": "labs",
}
FINDING = "org.tcell-cds.finding"


class CaseClock(Settings):
    """Settings whose clock each case sets for its own call."""

    def now(self) -> datetime:
        return CLOCK.get().astimezone(ZONE)


def service_of(written: Written) -> str:
    """The service whose cards answer this case: the host's domain for a rider on patient-view."""
    rule = rulebook().rules[written.rule]
    host = rule.rides_on if rule.rides_on and written.hook.value == "patient-view" else written.rule
    return f"{host.partition('.')[0]}-{written.hook}"


def hook_request(written: Written, bench: Bench) -> Resource:
    """Everything on the bench as a complete CDS Hooks request."""
    context: Resource = {"userId": "Practitioner/demo", "patientId": bench.patient}
    hook = written.hook.value
    if hook in ("order-select", "order-sign"):
        context["draftOrders"] = _bundle(bench.drafts, "collection")
    if hook == "order-select":
        chosen = written.raw.get("select") or [draft["id"] for draft in bench.drafts]
        context["selections"] = [f"{d['resourceType']}/{d['id']}" for d in bench.drafts if d["id"] in chosen]
    if hook == "appointment-book":
        context["appointments"] = _bundle(bench.appointments, "collection")
    if hook.startswith("encounter-") or "encounter" in written.raw:
        context["encounterId"] = str(written.raw.get("encounter", "enc"))
    keys: dict[str, list[Resource]] = {key: [] for key in set(_KEY_OF_TYPE.values())}
    prefetch: dict[str, Any] = {}
    for resource in bench.resources:
        if resource["resourceType"] == "Patient":
            prefetch["patient"] = resource
        else:
            keys[_KEY_OF_TYPE.get(resource["resourceType"], "labs")].append(resource)
    prefetch |= {key: _bundle(found, "searchset") for key, found in keys.items()}
    for key in rulebook().services[service_of(written)].needs.keys:
        prefetch.setdefault(key, None)
    return {
        "hook": hook,
        "hookInstance": "7c1f3b0e-52a4-4b43-9d0c-2f0f6c7f1a10",
        "context": context,
        "prefetch": prefetch,
    }


def _bundle(resources: list[Resource], kind: str) -> Resource:
    bundle: Resource = {"resourceType": "Bundle", "type": kind}
    if resources:
        bundle["entry"] = [{"resource": resource} for resource in resources]
    return bundle


def card_mismatch(written: Written, cards: list[Mapping[str, Any]]) -> str:
    """ "" when the cards say what the case expects of its rule, else what is wrong."""
    expect = written.raw["expect"]
    own = [c for c in cards if c["extension"][FINDING]["rule"] == written.rule]
    rule = rulebook().rules[written.rule]
    riding = bool(rule.rides_on) and written.hook.value == "patient-view"
    wanted = expect if isinstance(expect, list) else [expect]
    if riding or rule.helper or not rule.enabled:
        return ""
    if expect in ("none", None) or (len(wanted) == 1 and wanted[0].get("silent")):
        return f"unexpected cards: {[c['summary'] for c in own]}" if own else ""
    for each in wanted:
        if each.get("indicator", "") in (None, "none", ""):
            continue
        if not any(_matches(each, card) for card in own):
            shown = [(c["indicator"], c["extension"][FINDING].get("outcome"), c["summary"]) for c in own]
            return f"no card {each}; got {shown}"
    return ""


def _matches(wanted: Mapping[str, Any], card: Mapping[str, Any]) -> bool:
    finding = card["extension"][FINDING]
    if wanted["indicator"] != card["indicator"]:
        return False
    for key in ("outcome", "grade"):
        if wanted.get(key) is not None and not same_value(wanted[key], finding.get(key)):
            return False
    if "row" in wanted and not same_value(wanted["row"], finding["values"].get("row")):
        return False
    return all(
        same_value(value, finding.get("values", {}).get(key))
        for key, value in wanted.get("values", {}).items()
        if not isinstance(value, list | dict)
    )
