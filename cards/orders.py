"""Proposals become complete draft FHIR R4 orders; a move becomes the whole re-dated resource.

A drafted dose carries the ordered amount and, where it was computed, the per-kg or per-m2 amount behind it
(`doseAndRate` of type ordered and calculated), so that a pharmacist sees both. Codes: one per standard code
system, then the project's own code, so that the order says exactly which concept is meant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any, Protocol

from cards.finding import (
    AppointmentMove,
    Basis,
    DrugProposal,
    Message,
    Proposal,
    Repeat,
    ServiceProposal,
    VaccineProposal,
)
from cards.texts import Language
from cards.writer import Writer, unit_symbol
from fhir_mapping.chart import Amount, Route

UCUM = "http://unitsofmeasure.org"
OWN_CODES = "urn:tcell-cds:concept"
DOSE_RATE_TYPE = "http://terminology.hl7.org/CodeSystem/dose-rate-type"

Resource = dict[str, Any]
SYSTEMS = frozenset(
    {
        "http://www.whocc.no/atc",
        "http://www.nlm.nih.gov/research/umls/rxnorm",
        "http://hl7.org/fhir/sid/cvx",
        "http://loinc.org",
        "http://snomed.info/sct",
        "http://hl7.org/fhir/sid/icd-10-cm",
    }
)
"""Code systems that an order carries; hospital catalogues (product codes) are not ours to choose from."""


class Codes(Protocol):
    """What orders ask of the terminology."""

    def __contains__(self, concept: str, /) -> bool: ...
    def display(self, id: str, language: str, /) -> str: ...
    def codes(self, id: str, /) -> Sequence[tuple[str, str]]: ...
    def unverified_codes(self, id: str, /) -> Sequence[tuple[str, str]]: ...
    def __hash__(self) -> int: ...


class CannotMoveError(Exception):
    """The resource has no date that could be moved. Names the resource type only."""


@dataclass(frozen=True, slots=True)
class Desk:
    """Where an order is written: for whom, by whom, when, in which words.

    References are relative ("Patient/1"); `encounter` and `requester` may be "".
    """

    subject: str
    authored: datetime
    terminology: Codes
    writer: Writer
    encounter: str = ""
    requester: str = ""


def json_number(value: Decimal | int | float) -> int | float:
    """A JSON number: an integer where it is one (and exact in every client), else a float."""
    if isinstance(value, int):
        return value if abs(value) <= 2**53 else float(value)
    whole = int(value)
    return whole if whole == value and abs(whole) <= 2**53 else float(value)


@lru_cache(maxsize=4096)
def _codings(terminology: Codes, concept: str) -> tuple[tuple[str, str, str], ...]:
    """(system, code, display) of a concept: the first code of each standard system, then our own code."""
    found: dict[str, tuple[str, str, str]] = {}
    shown = concept.replace("_", " ")
    if concept in terminology:
        shown = terminology.display(concept, Language.EN.value)
        codes = list(terminology.codes(concept))
        if concept.startswith("route_"):  # published in the FHIR route value set; see chart-facts 2.4
            codes += terminology.unverified_codes(concept)
        for system, code in codes:
            if system in SYSTEMS:
                found.setdefault(system, (system, code, ""))
    return (*found.values(), (OWN_CODES, concept.replace("_", "-"), shown))


def codeable(concept: str, desk: Desk) -> Resource:
    """A CodeableConcept; its text is in the language of the card."""
    coding = [
        {"system": system, "code": code} | ({"display": display} if display else {})
        for system, code, display in _codings(desk.terminology, concept)
    ]
    return {"coding": coding, "text": desk.writer.concept(concept)}


def quantity(amount: Amount) -> Resource:
    """A Quantity in UCUM."""
    return {
        "value": json_number(amount.value),
        "unit": unit_symbol(amount.unit) or amount.unit,
        "system": UCUM,
        "code": amount.unit,
    }


def _stamp(when: date | datetime, desk: Desk) -> str:
    if not isinstance(when, datetime):
        return when.isoformat()
    aware = when if when.tzinfo else when.replace(tzinfo=desk.writer.zone)
    return aware.astimezone(desk.writer.zone).isoformat(timespec="seconds")


def _base(resource_type: str, desk: Desk) -> Resource:
    base: Resource = {
        "resourceType": resource_type,
        "status": "draft",
        "intent": "order",
        "subject": {"reference": desk.subject},
        "authoredOn": _stamp(desk.authored, desk),
    }
    if desk.encounter:
        base["encounter"] = {"reference": desk.encounter}
    if desk.requester:
        base["requester"] = {"reference": desk.requester}
    return base


def _reasons(concepts: Sequence[str], desk: Desk) -> Resource:
    reasons = [codeable(concept, desk) for concept in concepts if concept]
    return {"reasonCode": reasons} if reasons else {}


def _notes(note: Message | None, owner: str, desk: Desk) -> Resource:
    return {"note": [{"text": desk.writer.message(note, owner)}]} if note is not None else {}


# --- dosage


def _interval(hours: Decimal | int) -> Amount:
    """Hours between doses as the largest whole UCUM unit."""
    hours = Decimal(hours)
    for unit, length in (("wk", 168), ("d", 24)):
        if hours % length == 0:
            return Amount(hours / length, unit)
    return Amount(hours, "h")


def _bounds(repeat: Repeat, start: date | datetime | None, desk: Desk) -> Resource:
    if start is None:
        return {"boundsDuration": quantity(Amount(Decimal(repeat.days), "d"))} if repeat.days else {}
    period = {"start": _stamp(start, desk)}
    if repeat.days:
        if isinstance(start, datetime):
            length = timedelta(days=repeat.days) - timedelta(hours=float(repeat.every_hours or 24))
            last: date | datetime = start + length
        else:
            last = start + timedelta(days=repeat.days - 1)
        period["end"] = _stamp(max(last, start), desk)
    return {"boundsPeriod": period}


def _timing(proposal: DrugProposal, desk: Desk) -> Resource:
    """Timing.event for a single dated dose, else Timing.repeat."""
    plan, start = proposal.repeat, proposal.start
    repeat: Resource = {}
    timing: Resource = {}
    single = plan.every_hours is None and plan.count in (None, 1) and not plan.days
    if single and start is not None:
        timing["event"] = [_stamp(start, desk)]
    else:
        repeat |= _bounds(plan, start, desk)
    if plan.count is not None:
        repeat["count"] = plan.count
    if proposal.infusion_minutes:
        repeat |= {"duration": proposal.infusion_minutes, "durationUnit": "min"}
    if plan.every_hours is not None:
        every = _interval(plan.every_hours)
        repeat |= {"frequency": 1, "period": json_number(every.value), "periodUnit": every.unit}
    if repeat:
        timing["repeat"] = repeat
    return timing


def _basis_text(basis: Basis, writer: Writer) -> str:
    parts = [writer.common("dose.basis", per=basis.per, measure=basis.measure)]
    if basis.formula:
        parts.append(writer.common("dose.formula", formula=basis.formula))
    if basis.maximum is not None:
        parts.append(writer.common("dose.maximum", maximum=basis.maximum))
    return writer.common("dose.separator").join(parts)


def _frequency_text(plan: Repeat, writer: Writer) -> list[str]:
    parts: list[str] = []
    if plan.every_hours is not None:
        every = _interval(plan.every_hours)
        daily = every == Amount(Decimal(1), "d")
        parts.append(writer.common("dose.daily") if daily else writer.common("dose.every", interval=every))
    if plan.days:
        parts.append(writer.common("dose.for", period=Amount(Decimal(plan.days), "d")))
    if plan.count == 1:
        parts.append(writer.common("dose.once"))
    elif plan.count is not None:
        parts.append(writer.common("dose.doses", count=plan.count))
    return parts


def dose_text(proposal: DrugProposal, writer: Writer) -> str:
    """The dosage in words, e.g. "560 mg, intravenous, over 60 min, once; calculated 8 mg/kg × 70 kg"."""
    if proposal.dose is not None:
        dose = writer.amount(proposal.dose)
    elif proposal.basis is not None:
        dose = writer.amount(proposal.basis.per)
    else:
        dose = writer.common("dose.none")
    parts = [dose]
    if proposal.route is not None:
        parts.append(writer.word(proposal.route.value))
    if proposal.infusion_minutes:
        parts.append(writer.common("dose.over", minutes=proposal.infusion_minutes))
    parts += _frequency_text(proposal.repeat, writer)
    if proposal.as_needed:
        parts.append(writer.common("dose.as-needed"))
    if proposal.start is not None:
        key = "dose.on" if proposal.repeat.count == 1 else "dose.from"
        parts.append(writer.common(key, start=proposal.start))
    if proposal.basis is not None and proposal.dose is not None:
        parts.append(_basis_text(proposal.basis, writer))
    return writer.common("dose.separator").join(parts)


def _dose_and_rate(proposal: DrugProposal) -> list[Resource]:
    amounts = [("ordered", proposal.dose)]
    amounts += [("calculated", proposal.basis.per)] if proposal.basis is not None else []
    return [
        {"type": {"coding": [{"system": DOSE_RATE_TYPE, "code": kind}]}, "doseQuantity": quantity(amount)}
        for kind, amount in amounts
        if amount is not None
    ]


def _route(route: Route, desk: Desk) -> Resource:
    if route is Route.OTHER:
        return {"text": desk.writer.word(route.value)}
    return codeable(route.value, desk)


def _drug(proposal: DrugProposal, owner: str, desk: Desk) -> Resource:
    dosage: Resource = {"text": dose_text(proposal, desk.writer)}
    if timing := _timing(proposal, desk):
        dosage["timing"] = timing
    if proposal.as_needed:
        dosage["asNeededBoolean"] = True
    if proposal.route is not None:
        dosage["route"] = _route(proposal.route, desk)
    if doses := _dose_and_rate(proposal):
        dosage["doseAndRate"] = doses
    if proposal.basis is not None and proposal.basis.maximum is not None:
        dosage["maxDosePerAdministration"] = quantity(proposal.basis.maximum)
    return {
        **_base("MedicationRequest", desk),
        "medicationCodeableConcept": codeable(proposal.drug, desk),
        **_reasons((proposal.reason, proposal.purpose), desk),
        **_notes(proposal.note, owner, desk),
        "dosageInstruction": [dosage],
    }


def _vaccine(proposal: VaccineProposal, owner: str, desk: Desk) -> Resource:
    order = DrugProposal(proposal.vaccine, None, start=proposal.start)
    shown = [desk.writer.common("dose.once")]
    if proposal.start is not None:
        shown.append(desk.writer.common("dose.on", start=proposal.start))
    dosage = {"text": desk.writer.common("dose.separator").join(shown), "timing": _timing(order, desk)}
    return {
        **_base("MedicationRequest", desk),
        "medicationCodeableConcept": codeable(proposal.vaccine, desk),
        **_notes(proposal.note, owner, desk),
        "dosageInstruction": [dosage],
    }


def _service(proposal: ServiceProposal, owner: str, desk: Desk) -> Resource:
    order = {
        **_base("ServiceRequest", desk),
        "code": codeable(proposal.concept, desk),
        **_reasons((proposal.reason,), desk),
        **_notes(proposal.note, owner, desk),
    }
    if proposal.when is not None:
        order["occurrenceDateTime"] = _stamp(proposal.when, desk)
    if proposal.quantity is not None:
        order["quantityQuantity"] = quantity(proposal.quantity)
    if proposal.details:
        order["orderDetail"] = [codeable(detail, desk) for detail in proposal.details]
    return order


def draft_order(proposal: Proposal, owner: str, desk: Desk) -> Resource:
    """The draft FHIR R4 resource of a proposal of the rule `owner`. Raises TextError on an unknown text."""
    match proposal:
        case DrugProposal():
            return _drug(proposal, owner, desk)
        case VaccineProposal():
            return _vaccine(proposal, owner, desk)
        case ServiceProposal():
            return _service(proposal, owner, desk)


def proposal_text(proposal: Proposal, writer: Writer) -> str:
    """What is ordered, in a few words, for the description of an action."""
    match proposal:
        case DrugProposal():
            name, amount = proposal.drug, proposal.dose or (proposal.basis.per if proposal.basis else None)
        case VaccineProposal():
            name, amount = proposal.vaccine, None
        case ServiceProposal():
            name, amount = proposal.concept, proposal.quantity
    shown = writer.concept(name)
    if amount is not None:
        shown += f" {writer.amount(amount)}"
    if isinstance(proposal, DrugProposal) and proposal.route is not None:
        shown += f" ({writer.word(proposal.route.value)})"
    return shown


# --- moving an order or appointment of the hook


_SCALARS = (str, int, float)
_LISTS = (list, tuple)


def pruned(value: object) -> Any:
    """A copy of JSON without null, "", [] and {} (CDS Hooks forbids them); None if nothing is left."""
    if isinstance(value, _SCALARS):
        return None if value == "" else value
    if isinstance(value, dict):
        kept = {k: p for k, v in value.items() if (p := pruned(v)) is not None}
        return kept or None
    if isinstance(value, _LISTS):
        return [p for v in value if (p := pruned(v)) is not None] or None
    return value


def _parsed(stamp: object) -> date | datetime | None:
    if not isinstance(stamp, str):
        return None
    try:
        return date.fromisoformat(stamp) if len(stamp) == 10 else datetime.fromisoformat(stamp)
    except ValueError:
        return None


class _Shift:
    """Moves stamps by one and the same span; the first stamp decides the span. Days keep the hour."""

    def __init__(self, first: date | datetime, target: date | datetime, desk: Desk) -> None:
        self._desk = desk
        if isinstance(first, datetime) and isinstance(target, datetime):
            self.span = self._aware(target) - self._aware(first)
        else:
            day = self._aware(first).date() if isinstance(first, datetime) else first
            end = self._aware(target).date() if isinstance(target, datetime) else target
            self.span = end - day

    def _aware(self, stamp: datetime) -> datetime:
        zone = self._desk.writer.zone
        return stamp.astimezone(zone) if stamp.tzinfo else stamp.replace(tzinfo=zone)

    def __call__(self, stamp: object) -> object:
        parsed = _parsed(stamp)
        if parsed is None:
            return stamp
        moved = parsed + self.span
        return moved.isoformat(timespec="seconds") if isinstance(moved, datetime) else moved.isoformat()


def _places(resource: Resource) -> list[tuple[Any, Any]]:
    """(holder, key) of every stamp that says when the resource is due, the first due one first."""
    kind = resource.get("resourceType")
    found: list[tuple[Any, Any]] = []

    def period(holder: object) -> None:
        if isinstance(holder, dict):
            found.extend((holder, key) for key in ("start", "end") if key in holder)

    def timing(holder: object) -> None:
        if not isinstance(holder, dict):
            return
        events = holder.get("event")
        if isinstance(events, list):
            found.extend((events, number) for number in range(len(events)))
        repeat = holder.get("repeat")
        if isinstance(repeat, dict):
            period(repeat.get("boundsPeriod"))

    if kind == "Appointment":
        period(resource)
        for requested in resource.get("requestedPeriod") or ():
            period(requested)
    elif kind == "MedicationRequest":
        for dosage in resource.get("dosageInstruction") or ():
            if isinstance(dosage, dict):
                timing(dosage.get("timing"))
        dispense = resource.get("dispenseRequest")
        if isinstance(dispense, dict):
            period(dispense.get("validityPeriod"))
    else:
        for key in ("occurrenceDateTime", "performedDateTime"):
            if key in resource:
                found.append((resource, key))
        period(resource.get("occurrencePeriod"))
        timing(resource.get("occurrenceTiming"))
    return found


def moved(resource: Mapping[str, Any], move: AppointmentMove, desk: Desk) -> Resource:
    """The whole resource on its new date, all its due stamps moved by the same span.

    A MedicationRequest or ServiceRequest without any date gets one. Raises CannotMoveError for other
    resources without a readable date.
    """
    copy: Resource = pruned(resource) or {}
    if isinstance(copy.get("category"), dict):  # sent so by the CDS Hooks sandbox; R4 has a list
        copy["category"] = [copy["category"]]
    places = _places(copy)
    stamps = [parsed for holder, key in places if (parsed := _parsed(holder[key])) is not None]
    if stamps:
        shift = _Shift(stamps[0], move.start, desk)
        for holder, key in places:
            holder[key] = shift(holder[key])
        return copy
    start = _stamp(move.start, desk)
    if copy.get("resourceType") == "ServiceRequest":
        return copy | {"occurrenceDateTime": start}
    if copy.get("resourceType") == "MedicationRequest":
        dosages = copy.get("dosageInstruction")
        if not isinstance(dosages, list) or not isinstance(dosages[0], dict):
            return copy | {"dosageInstruction": [{"timing": {"event": [start]}}]}
        timing = dosages[0].get("timing")
        if not isinstance(timing, dict):
            timing = {}
        dosages[0]["timing"] = timing | {"event": [start]}
        return copy
    raise CannotMoveError(str(copy.get("resourceType")))


def resource_text(resource: Mapping[str, Any], writer: Writer) -> str:
    """What an order of the hook is called, as its own text or display says; "" where it says nothing."""
    for key in ("medicationCodeableConcept", "code", "vaccineCode", "serviceType", "medicationReference"):
        concept = resource.get(key)
        if isinstance(concept, list):
            concept = concept[0] if concept else None
        if not isinstance(concept, dict):
            continue
        codings = concept.get("coding")
        names = [concept.get("text"), concept.get("display")]
        if isinstance(codings, list):
            names += [coding.get("display") for coding in codings if isinstance(coding, dict)]
        for name in names:
            if isinstance(name, str) and name.strip():
                return writer.escape(name[:120])
    return ""
