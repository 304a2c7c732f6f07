"""The facts of a chart, one class per kind. Immutable; every fact knows its resource and its flaws.

Concept ids are the snake_case ids of `fhir_mapping.terminology`. A concept set on a fact holds the concept
itself and, for drugs, every class it belongs to (`tacrolimus`, `class_calcineurin_inhibitors`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from datetime import date
from decimal import Decimal
from enum import StrEnum

from fhir_mapping.chart.frozen import frozen
from fhir_mapping.chart.three_state import all_of
from fhir_mapping.chart.time import Moment, completed_years


class Flag(StrEnum):
    """What a reader should know about how a fact was obtained; cards name these."""

    PRELIMINARY = "preliminary"
    BY_NAME = "matched-by-name"
    NO_SUBJECT = "no-subject"
    ISSUED_TIME = "time-of-issue"
    RECORDED_DATE = "recorded-date"
    AUTHORED_DATE = "authored-date"
    DERIVED = "derived"
    ORDERED_ONLY = "ordered-only"
    REPORTED = "reported"
    PROPERTY_MISMATCH = "unit-and-code-disagree"
    PARTIAL_DATE = "partial-date"
    RANGE_HIGH_END = "high-end-of-range"
    DOSE_CLASH = "ordered-and-calculated-dose-differ"
    UNCONFIRMED = "unconfirmed"
    BOOKING_ONLY = "planned-not-confirmed"
    SURFACE_TEMPERATURE = "surface-temperature"
    FASTING_UNKNOWN = "fasting-unknown"
    HAEMOLYSED = "haemolysed"
    TOTAL_DISAGREES = "total-disagrees-with-items"
    LOCAL_ROUTE_ASSUMED = "route-assumed"
    PRN = "as-needed"
    ON_HOLD = "on-hold"


class LossReason(StrEnum):
    """Why something is missing (closed list of the contract's `losses`)."""

    NOT_ON_CHART = "not-on-chart"
    STALE = "stale"
    UNIT = "unit"
    NO_REFERENCE_RANGE = "no-reference-range"
    NOT_FETCHED = "not-fetched"
    MALFORMED = "malformed"
    BEYOND_HORIZON = "beyond-horizon"
    CONTRADICTORY = "contradictory"


@frozen
class Loss:
    """Something that was there and could not be used. `concept` is "" when not even the code was readable."""

    reason: LossReason
    concept: str = ""
    resource: str = ""  # Type/id, or the bare type when the id is unreadable
    text: str = ""  # the unreadable unit or value as written; escaped when shown


class Result(StrEnum):
    """Qualitative result (chart-facts 2.1)."""

    POSITIVE = "positive"
    NEGATIVE = "negative"
    INDETERMINATE = "indeterminate"


class Route(StrEnum):
    """Route of administration (chart-facts 2.4); values are concept ids."""

    INTRAVENOUS = "route_intravenous"
    ORAL = "route_oral"
    SUBCUTANEOUS = "route_subcutaneous"
    INTRAMUSCULAR = "route_intramuscular"
    INTRATHECAL = "route_intrathecal"
    TOPICAL = "route_topical"
    INHALED = "route_inhaled"
    NASAL = "route_nasal"
    OPHTHALMIC = "route_ophthalmic"
    OTIC = "route_otic"
    RECTAL = "route_rectal"
    INTRA_ARTICULAR = "route_intra_articular"
    INTRAVESICAL = "route_intravesical"
    INTRALESIONAL = "route_intralesional"
    OTHER = "route_other"  # stated, but not one of the above

    @property
    def systemic(self) -> bool:
        return self in _SYSTEMIC


_SYSTEMIC = {Route.INTRAVENOUS, Route.ORAL, Route.SUBCUTANEOUS, Route.INTRAMUSCULAR}


def reaches_the_body(route: Route | None) -> bool:
    """Systemic, or not known to be local: None or an unlisted route counts as systemic (chart-facts 2.4)."""
    return route is None or route is Route.OTHER or route.systemic


@frozen
class Amount:
    """A number with a canonical UCUM unit, e.g. 560 mg, 8 mg/kg, 0.12 ug/kg/min."""

    value: Decimal
    unit: str


@frozen
class Quantity:
    """A measured number in the concept's preferred unit, with what the laboratory wrote beside it.

    `comparator` makes it a bound: the questions below then answer None where the bound does not decide.
    Limits that a guideline prints in several units are compared in the reported unit (`reported`).
    """

    value: Decimal
    unit: str
    comparator: str = ""  # "", "<", "<=", ">=", ">"
    reported: Amount | None = None

    def _decide(self, limit: Decimal, op: str) -> bool | None:
        value, comparator = self.value, self.comparator
        if not comparator:
            return value >= limit if op == ">=" else value > limit
        if comparator == ">":
            return True if value >= limit else None
        if comparator == ">=":
            return True if (value >= limit if op == ">=" else value > limit) else None
        if comparator == "<":
            return False if value <= limit else None
        return False if (value < limit if op == ">=" else value <= limit) else None

    def at_least(self, limit: Decimal | int) -> bool | None:
        return self._decide(Decimal(limit), ">=")

    def above(self, limit: Decimal | int) -> bool | None:
        return self._decide(Decimal(limit), ">")

    def below(self, limit: Decimal | int) -> bool | None:
        answer = self._decide(Decimal(limit), ">=")
        return None if answer is None else not answer

    def at_most(self, limit: Decimal | int) -> bool | None:
        answer = self._decide(Decimal(limit), ">")
        return None if answer is None else not answer

    def within(self, low: Decimal | int, high: Decimal | int) -> bool | None:
        """Not below `low` and not above `high`."""
        return all_of((self.at_least(low), self.at_most(high)))

    def in_reported_unit(self, limits: Mapping[str, Decimal]) -> tuple[Quantity, Decimal]:
        """The quantity and the limit to compare it with: the reported unit's own limit where one is given,
        else the preferred unit's. Raises KeyError where `limits` has neither."""
        if self.reported is not None and self.reported.unit in limits:
            shown = Quantity(self.reported.value, self.reported.unit, self.comparator)
            return shown, limits[self.reported.unit]
        return self, limits[self.unit]


@frozen
class Value:
    """value[x] of an Observation or component. Only what was sent is set; all unset = asked, no result."""

    quantity: Quantity | None = None
    codes: tuple[str, ...] = ()  # answer concepts, e.g. ("room_air",)
    result: Result | None = None  # chart-facts 2.1, where the value says one
    detected_below_limit: bool = False
    yes: bool | None = None  # chart-facts 2.2
    number: int | None = None  # valueInteger, or an integral score sent as Quantity
    time: Moment | None = None
    period_end: Moment | None = None
    text: str = ""
    absent_reason: str = ""  # dataAbsentReason code

    @property
    def empty(self) -> bool:
        return (
            self.quantity is None
            and not self.codes
            and self.result is None
            and self.yes is None
            and self.number is None
            and self.time is None
            and not self.text
        )


@frozen
class Specimen:
    """Where a sample came from. `identifier` is the bag number of a product."""

    reference: str = ""
    concepts: frozenset[str] = frozenset()
    identifier: str = ""
    collected: Moment | None = None


@frozen
class Observation:
    """One measured or assessed fact of one concept."""

    reference: str
    concept: str
    when: Moment  # point; of amounts the end of the period
    value: Value
    started: Moment | None = None  # start of effectivePeriod
    components: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    uln: Quantity | None = None  # referenceRange of this very Observation
    lln: Quantity | None = None
    specimen: Specimen | None = None
    body_sites: frozenset[str] = frozenset()
    devices: frozenset[str] = frozenset()
    focus: tuple[str, ...] = ()
    performers: tuple[str, ...] = ()
    pending: bool = False  # status registered: ordered, no result yet
    flags: frozenset[Flag] = frozenset()

    def component(self, concept: str) -> Value | None:
        values = self.components.get(concept)
        return values[0] if values else None


class ConditionState(StrEnum):
    ACTIVE = "active"
    HISTORY = "history"  # inactive, remission, resolved
    SUSPECTED = "suspected"  # provisional, differential, unconfirmed: opens a question only
    REFUTED = "refuted"


@frozen
class Grade:
    """A toxicity grade as coded (chart-facts 2.3)."""

    value: int
    derived: bool = False


@frozen
class Condition:
    reference: str
    concepts: frozenset[str]
    state: ConditionState
    onset: Moment | None = None
    end: Moment | None = None
    grade: Grade | None = None
    clinical_status: str = ""  # the raw code: active, recurrence, relapse, remission, ...
    categories: frozenset[str] = frozenset()  # concepts in category
    body_sites: frozenset[str] = frozenset()
    attributed_to: frozenset[str] = frozenset()
    recorded: Moment | None = None
    text: str = ""
    flags: frozenset[Flag] = frozenset()


class EventState(StrEnum):
    """State of a Procedure, order, appointment or visit."""

    DONE = "done"
    RUNNING = "running"
    STOPPED = "stopped"  # begun, not finished
    PLANNED = "planned"  # preparation, on-hold
    DRAFT = "draft"
    ACTIVE = "active"
    BOOKED = "booked"
    WAITLIST = "waitlist"
    TOOK_PLACE = "took-place"

    @property
    def begun(self) -> bool:
        """Of a procedure: it took place, in part or as a whole."""
        return self in _BEGUN


_BEGUN = {EventState.DONE, EventState.RUNNING, EventState.STOPPED}


@frozen
class Procedure:
    reference: str
    concepts: frozenset[str]
    state: EventState
    start: Moment | None = None
    end: Moment | None = None
    body_sites: frozenset[str] = frozenset()
    used: frozenset[str] = frozenset()  # usedCode concepts
    purposes: frozenset[str] = frozenset()
    regimens: frozenset[str] = frozenset()
    performers: tuple[str, ...] = ()
    text: str = ""
    flags: frozenset[Flag] = frozenset()
    reasons: frozenset[str] = frozenset()  # diseases and indications as concepts
    notes: str = ""  # as written, for showing only


@frozen
class ServiceOrder:
    """ServiceRequest or DeviceRequest."""

    reference: str
    concepts: frozenset[str]
    state: EventState
    when: Moment | None = None  # occurrence[x], else authoredOn (flagged)
    details: frozenset[str] = frozenset()  # orderDetail concepts, e.g. irradiated
    quantity: Amount | None = None
    purposes: frozenset[str] = frozenset()
    reasons: frozenset[str] = frozenset()
    requested_at: Moment | None = None
    replaces: tuple[str, ...] = ()
    text: str = ""
    flags: frozenset[Flag] = frozenset()
    until: Moment | None = None  # end of occurrence[x]
    ongoing: bool = False  # repeated without a planned end
    regimens: frozenset[str] = frozenset()
    notes: str = ""  # as written, for showing only


@frozen
class Appointment:
    reference: str
    concepts: frozenset[str]
    state: EventState  # BOOKED (booked, pending, proposed, arrived, checked-in), TOOK_PLACE, WAITLIST
    start: Moment | None = None
    purposes: frozenset[str] = frozenset()
    proposed: bool = False  # sent in the hook's `appointments`: the anchor under test
    reasons: frozenset[str] = frozenset()  # diseases and indications as concepts
    flags: frozenset[Flag] = frozenset()


@frozen
class Encounter:
    reference: str
    planned: bool
    finished: bool
    class_code: str = ""  # v3-ActCode: AMB, IMP, ACUTE, EMER, HH, VR, OBSENC, SS
    start: Moment | None = None
    end: Moment | None = None
    concepts: frozenset[str] = frozenset()  # type, serviceType
    reasons: frozenset[str] = frozenset()
    icu: bool = False  # active location is ICU, PEDICU or CCU

    @property
    def inpatient(self) -> bool:
        return self.class_code in ("IMP", "ACUTE")

    @property
    def ambulatory(self) -> bool:
        return self.class_code in ("AMB", "HH", "VR")

    @property
    def monitored(self) -> bool:
        return self.class_code in ("IMP", "ACUTE", "OBSENC", "SS", "EMER")


@frozen
class Vaccine:
    """What a vaccine resource says it is: given (Immunization) or ordered (any order of a vaccine)."""

    reference: str
    concepts: frozenset[str]  # empty: class unknown
    when: Moment | None
    text: str = ""
    route: Route | None = None
    purposes: frozenset[str] = frozenset()
    subpotent: bool = False
    dose_number: int | None = None
    recommendation: bool = False  # ImmunizationRecommendation: never an order, info only
    flags: frozenset[Flag] = frozenset()


@frozen
class Allergy:
    reference: str
    concepts: frozenset[str]  # substance and its class concepts; `no_known_allergy` alone = asked, none
    active: bool
    confirmed: bool
    severe_skin_reaction: bool = False
    manifestations: frozenset[str] = frozenset()
    recorded: Moment | None = None
    text: str = ""


class DrugSource(StrEnum):
    ADMINISTRATION = "administration"
    DISPENSE = "dispense"
    STATEMENT = "statement"
    ORDER = "order"


class DrugState(StrEnum):
    """One word for the many statuses (chart-facts 1.2)."""

    GIVEN = "given"  # completed administration, dispense or statement
    RUNNING = "running"  # administration in progress
    PARTIAL = "partial"  # administration stopped: exposure yes, complete dose no
    ACTIVE = "active"  # order or statement in force
    COMPLETED = "completed"  # order that ran to its end
    STOPPED = "stopped"  # order or statement ended early
    ON_HOLD = "on-hold"
    DRAFT = "draft"
    PLAN = "plan"  # intent plan, proposal, option; statement intended: shown, never exposure


@frozen
class Dose:
    """One administration's dose as written.

    `amount` in mg (mass), mg/kg, mg/m2, mL, [IU], {cells}...: canonical UCUM. `per` is the "calculated" dose
    beside an ordered one. Unreadable doses have `amount` None and the text that could not be read.
    """

    amount: Amount | None
    per: Amount | None = None
    unreadable: str = ""
    flags: frozenset[Flag] = frozenset()
    volume: Amount | None = None  # in mL, where the dose was written as a volume

    @property
    def mg(self) -> Decimal | None:
        if self.amount is not None and self.amount.unit == "mg":
            return self.amount.value
        return None


@frozen
class Timing:
    """When the doses of an order fall (chart-facts 2.6)."""

    first: Moment | None = None
    last: Moment | None = None  # None with `ongoing`: no planned end
    ongoing: bool = False
    doses: tuple[Moment, ...] = ()  # every planned start, where the order lists or bounds them (<= 200)
    interval_hours: Decimal | None = None  # between doses; 24 = daily
    per_day: Decimal | None = None
    infusion_minutes: Decimal | None = None
    as_needed: bool = False
    stated: bool = True  # False: no timing at all in the resource
    flags: frozenset[Flag] = frozenset()


@frozen
class Instruction:
    """One dosage instruction of an order that has several."""

    timing: Timing
    dose: Dose | None = None
    rate: Amount | None = None
    route: Route | None = None
    text: str = ""


@frozen
class DrugRecord:
    """One MedicationAdministration, -Dispense, -Statement or -Request (chart or draft).

    Administrations: `timing.first` = start, `timing.last` = end (start again where no end is written;
    None while running). `identified` False: the drug could not be told; `name` is what was written.
    """

    reference: str
    source: DrugSource
    state: DrugState
    name: str
    concepts: frozenset[str]  # ingredients, their classes, product
    ingredients: tuple[str, ...]  # drug concepts, sorted
    timing: Timing
    identified: bool = True
    dose: Dose | None = None  # None: no dose written
    rate: Amount | None = None
    route: Route | None = None
    form: str = ""
    purposes: frozenset[str] = frozenset()  # purpose_* concepts (chart-facts 2.5)
    reasons: frozenset[str] = frozenset()  # diseases and indications as concepts
    other_reason: bool = False  # a reason is written, and it is none of the concepts
    regimens: frozenset[str] = frozenset()
    group: str = ""  # groupIdentifier value
    authored: Moment | None = None
    request: str = ""  # order that an administration carries out
    replaces: tuple[str, ...] = ()
    part_of: tuple[str, ...] = ()
    bag_number: str = ""
    lot: str = ""
    encounter: str = ""
    status_reasons: frozenset[str] = frozenset()
    instruction_count: int = 1  # dosageInstruction entries
    flags: frozenset[Flag] = frozenset()
    strengths: tuple[tuple[str, Amount], ...] = ()  # ingredient and its strength per mL, where sent
    instructions: tuple[Instruction, ...] = ()  # each of several; with several, `dose` is the largest
    text: str = ""  # dosage texts and notes as written, for showing only

    @property
    def given(self) -> bool:
        """Counts as an exposure that happened (chart-facts M1)."""
        if self.source in (DrugSource.ADMINISTRATION, DrugSource.DISPENSE):
            return self.state in (DrugState.GIVEN, DrugState.RUNNING, DrugState.PARTIAL, DrugState.ON_HOLD)
        if self.source is DrugSource.STATEMENT:
            return self.state in (DrugState.GIVEN, DrugState.ACTIVE, DrugState.STOPPED, DrugState.ON_HOLD)
        return False

    @property
    def in_force(self) -> bool:
        """Active today as an order, a running infusion or a statement (chart-facts M2)."""
        return self.state in (DrugState.ACTIVE, DrugState.RUNNING)

    def is_any(self, concepts: frozenset[str] | set[str]) -> bool:
        return not self.concepts.isdisjoint(concepts)

    def by_instruction(self) -> tuple[DrugRecord, ...]:
        """The record once for each of its dosage instructions; itself where it has one."""
        return tuple(
            replace(self, dose=part.dose, timing=part.timing, instructions=()) for part in self.instructions
        ) or (self,)


@frozen
class Exposure:
    """Everything the chart says about one ingredient by one route, folded into its last dose (M1)."""

    ingredient: str
    concepts: frozenset[str]
    name: str
    route: Route | None
    first: Moment | None
    last: Moment | None  # latest end of all evidence; None with `ongoing`, or when no date is known
    evidence: DrugSource
    ongoing: bool
    record: DrugRecord  # the record that set `last`
    records: tuple[DrugRecord, ...]


@frozen
class Patient:
    reference: str
    birth: Moment | None = None  # interval for YYYY or YYYY-MM
    sex: str = ""  # "male", "female"; "" otherwise
    died: Moment | None = None
    deceased: bool = False

    def age(self, today: date) -> tuple[int, int] | None:
        """Completed years as (lowest, highest); equal where the birth date is a day. None: unknown."""
        if self.birth is None:
            return None
        return (
            completed_years(self.birth.latest.date(), today),
            completed_years(self.birth.earliest.date(), today),
        )


@frozen
class Document:
    """DiagnosticReport, DocumentReference, ImagingStudy, Consent, Device ...: present, dated, coded."""

    reference: str
    resource_type: str
    concepts: frozenset[str]
    when: Moment | None  # of a sample the end of its collection
    conclusions: frozenset[str] = frozenset()
    pending: bool = False
    flags: frozenset[Flag] = frozenset()
    started: Moment | None = None  # of a sample the start of its collection, where a period says it
