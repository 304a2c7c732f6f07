"""The vocabulary a rule answers in. A rule never formats text: it names messages and hands over values.

A `Finding` becomes one card, or (with `indicator` None) a verdict that only other rules, the trace or the
shared "not checked" card show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum

from fhir_mapping.chart import Amount, Flag, Loss, LossReason, Moment, Quantity, Route, frozen


class Indicator(StrEnum):
    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        return ("info", "warning", "critical").index(self.value)


class Outcome(StrEnum):
    """Closed list of outcome words (contract section 4)."""

    MET = "met"
    MET_MINIMUM = "met-minimum"
    NOT_MET = "not-met"
    ONGOING = "ongoing"
    WAIVED = "waived"
    UNKNOWN = "unknown"
    READY = "ready"
    READY_WITH_POINTS = "ready-with-points"
    INCOMPLETE = "incomplete"
    NOT_READY = "not-ready"
    NOT_PRESENT = "not-present"
    GRADE_1 = "grade-1"
    GRADE_2 = "grade-2"
    GRADE_3 = "grade-3"
    GRADE_4 = "grade-4"
    GRADE_5 = "grade-5"
    AT_LEAST_GRADE_N = "at-least-grade-n"
    RANGE = "range"
    CANNOT_GRADE = "cannot-grade"
    PASS = "pass"
    TOO_EARLY = "too-early"
    TOO_LATE = "too-late"
    WRONG_DOSE = "wrong-dose"
    OVER_MAXIMUM = "over-maximum"
    WRONG_ROUTE = "wrong-route"
    DUPLICATE = "duplicate"
    HOLD = "hold"
    STOP = "stop"
    REVIEW = "review"
    CONTRAINDICATED = "contraindicated"
    CANNOT_CHECK = "cannot-check"
    DUE = "due"
    OVERDUE = "overdue"
    WAIT = "wait"
    DONE = "done"
    # words of single rules, each explained in the rule's catalogue entry (`outcomes` in its YAML)
    INFO = "info"  # worth knowing, no verdict
    NOT_CHECKED = "not-checked"  # this rule did not run
    CAUTION = "caution"
    ADVISE = "advise"  # a treatment step is advised
    LOW = "low"
    INTERMEDIATE = "intermediate"
    HIGH = "high"
    AT_LEAST_INTERMEDIATE = "at-least-intermediate"
    LABORATORY = "laboratory"
    LABORATORY_2004 = "laboratory-2004"
    CLINICAL = "clinical"
    SINGLE_ABNORMALITY = "single-abnormality"
    POSSIBLE = "possible"
    SUSPECTED = "suspected"
    MEETS_CRITERIA = "meets-criteria"
    PREDICTOR_POSITIVE = "predictor-positive"
    CONTINUE = "continue"
    START = "start"
    CONSIDER = "consider"
    MAY_STOP = "may-stop"
    ELIGIBLE = "eligible"
    RECOVERED = "recovered"
    NOT_RECOVERED = "not-recovered"
    ASK = "ask"
    FERRITIN_ALERT = "ferritin-alert"
    PROBABLE = "probable"
    CONSISTENT = "consistent"
    CRS_MAS = "crs-mas"
    IEC_HS = "iec-hs"
    UNDETERMINED = "undetermined"


def graded(grade: int) -> Outcome:
    """Outcome word of a numeric grade; 0 is `not-present`."""
    return Outcome.NOT_PRESENT if grade == 0 else Outcome(f"grade-{grade}")


# --- values that messages carry; the renderer formats each by type and language


@frozen
class Name:
    """A concept shown by its display name in the card's language."""

    concept: str


@frozen
class Text:
    """Text from the chart (drug name, unreadable value): escaped before it is shown."""

    text: str


@frozen
class Days:
    """A number of days ("38 days", "38 天")."""

    count: int


@frozen
class Hours:
    count: Decimal | float | int


@frozen
class Message:
    """A text of the catalogue of one rule. `key` is the msgid in cards/locale/<lang>/<rule id>.po,
    or in common.po when it starts with "common."."""

    key: str
    values: Mapping[str, Shown] = field(default_factory=dict)
    catalogue: str = ""  # rule id; "" = the finding's own rule


@frozen
class Items:
    """Several values joined as a list in the card's language."""

    items: tuple[Shown, ...]


Shown = (
    str
    | int
    | Decimal
    | date
    | datetime
    | Moment
    | Amount
    | Quantity
    | Name
    | Text
    | Days
    | Hours
    | Message
    | Items
    | StrEnum
)


def msg(key: str, /, **values: Shown) -> Message:
    return Message(key, values)


# --- detail blocks


@frozen
class Paragraph:
    message: Message


@frozen
class Bullet:
    message: Message


@frozen
class Heading:
    message: Message


@frozen
class Table:
    """A small table; every row has as many cells as the header."""

    header: tuple[Message, ...]
    rows: tuple[tuple[Shown, ...], ...]


Block = Paragraph | Bullet | Heading | Table


# --- evidence


@frozen
class Evidence:
    """One fact that decided. `value` as used (number or word), `unit` UCUM, `effective` ISO 8601. The card
    names the `flags` of the fact (preliminary, matched by name ...)."""

    reference: str
    concept: str = ""
    value: Decimal | int | str | bool | None = None
    unit: str = ""
    effective: Moment | None = None
    flags: frozenset[Flag] = frozenset()


@frozen
class Missing:
    """A fact the rule needed. The engine sharpens `not-on-chart` to `not-fetched` and the like where the
    chart knows why. `newest`: ISO day of the newest value where there are some, none of which will do."""

    concept: str
    reason: LossReason = LossReason.NOT_ON_CHART
    resource: str = ""
    text: str = ""
    newest: str = ""


# --- suggestions


@frozen
class Basis:
    """How a computed dose came about: `per` (8 mg/kg) x `measure` (70 kg), `maximum` applied if set."""

    per: Amount
    measure: Amount
    maximum: Amount | None = None
    formula: str = ""  # e.g. "Mosteller"


@frozen
class Repeat:
    """Repetition of an order. Once = count 1. `every_hours` 24 = daily; `days` bounds it."""

    count: int | None = None
    every_hours: Decimal | int | None = None
    days: int | None = None


ONCE = Repeat(count=1)


@frozen
class DrugProposal:
    """A MedicationRequest to sign. `dose` None: no dose is suggested (the card says why); then `note` tells
    the rule. Doses in mg unless the drug is measured otherwise."""

    drug: str  # drug concept
    route: Route | None
    dose: Amount | None = None
    basis: Basis | None = None
    repeat: Repeat = ONCE
    start: date | datetime | None = None
    infusion_minutes: int | None = None
    purpose: str = ""  # purpose_* concept
    reason: str = ""  # disease concept
    note: Message | None = None
    as_needed: bool = False


@frozen
class ServiceProposal:
    """A ServiceRequest for a test, procedure, transfer or consult."""

    concept: str
    when: date | datetime | None = None
    quantity: Amount | None = None
    details: tuple[str, ...] = ()  # orderDetail concepts, e.g. irradiated
    reason: str = ""
    note: Message | None = None


@frozen
class VaccineProposal:
    """A MedicationRequest for a vaccine on its earliest date."""

    vaccine: str
    start: date | None = None
    note: Message | None = None


@frozen
class AppointmentMove:
    """A re-dated copy of an Appointment or order of this hook (`update`): same resource, new date."""

    resource: str  # Type/id within the hook's drafts or appointments
    start: date | datetime


Proposal = DrugProposal | ServiceProposal | VaccineProposal


@frozen
class Create:
    proposal: Proposal


@frozen
class Delete:
    resource: str  # Type/id of a draft order


@frozen
class Update:
    move: AppointmentMove


Action = Create | Delete | Update


@frozen
class Suggestion:
    """A button. `key` is unique within the finding (it seeds the uuid); actions are all done together,
    deletes before creates before updates. The engine removes a suggestion that the chart contraindicates
    (allergy, G6PD deficiency, duplicate of an active order); name the alternative in the detail."""

    key: str
    label: Message
    actions: tuple[Action, ...]
    recommended: bool = False
    rule: str = ""  # rule that suggests it; "" = the finding's rule


class Selection(StrEnum):
    AT_MOST_ONE = "at-most-one"
    ANY = "any"


class Override(StrEnum):
    """Override reasons offered on warning and critical cards."""

    DISEASE_PROGRESSION = "disease-progression"
    RISK_BENEFIT = "risk-benefit-discussed"
    MANUFACTURER_AGREED = "manufacturer-agreed"
    DATA_OUTDATED = "data-on-chart-outdated"
    ALREADY_DONE = "already-done"
    OTHER_CAUSE = "other-cause-established"
    SPECIALIST_ADVICE = "specialist-advice"
    PATIENT_DECLINED = "patient-declined"
    OTHER = "other"


DEFAULT_OVERRIDES = (
    Override.RISK_BENEFIT,
    Override.SPECIALIST_ADVICE,
    Override.DATA_OUTDATED,
    Override.OTHER,
)


@frozen
class Link:
    label: Message
    url: str


Scalar = str | int | bool | Decimal | date | datetime


@frozen
class Treatment:
    """A dosing verdict that rides on a toxicity's card (`finding.treatment`)."""

    rule: str
    outcome: str
    values: Mapping[str, Scalar]


@frozen
class Finding:
    """One outcome of one rule for one subject.

    `subject` tells findings of one rule apart (draft reference, drug concept, "" for one-card rules) and
    seeds the card's uuid. `values` are machine-readable: snake_case keys with their unit (`gap_days`,
    `dose_mg`); the inventory's row or node id is `values["row"]`. `until` is the earliest date a card
    argues for; later dates sort first within one indicator. `resource` is the draft order concerned.
    """

    rule: str
    outcome: Outcome
    indicator: Indicator | None
    summary: Message
    subject: str = ""
    detail: tuple[Block, ...] = ()
    grade: int | None = None
    values: Mapping[str, Scalar | Sequence[Scalar] | Sequence[Mapping[str, Scalar]]] = field(
        default_factory=dict
    )
    evidence: tuple[Evidence, ...] = ()
    missing: tuple[Missing, ...] = ()
    losses: tuple[Loss, ...] = ()  # unusable entries that could have changed the answer (engine)
    resource: str = ""
    suggestions: tuple[Suggestion, ...] = ()
    selection: Selection = Selection.AT_MOST_ONE
    overrides: tuple[Override, ...] = DEFAULT_OVERRIDES
    links: tuple[Link, ...] = ()
    treatment: tuple[Treatment, ...] = ()
    until: date | None = None
    unconcluded: bool = False
    """True: the rule could not conclude. On order hooks it is a card of that order; on patient-view it joins
    the service's one "Not checked" card unless `indicator` is set on purpose (own card)."""
