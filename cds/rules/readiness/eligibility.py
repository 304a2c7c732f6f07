"""Fifteen selection criteria E1 to E15: patient condition and organ function before CAR-T."""

from __future__ import annotations

from collections.abc import Iterator

from cards.finding import Finding, Indicator, Items, Missing, Name, msg
from cds.engine.case import Case
from cds.engine.rule import Hook, rule
from cds.rules import evidence as facts
from cds.rules.disease import Disease, disease, disease_concept
from cds.rules.grading.ctcae_labs import times_uln
from cds.rules.readiness.biology import CENTRAL_CONDITIONS, bulk, central_disease
from cds.rules.readiness.checklist import Line, Status, checklist, dated, newest, seen, status_of, with_number
from cds.rules.readiness.eligibility_infection import (
    antiviral_suggestions,
    infection_line,
    latent_line,
    sars_line,
    viraemia_line,
)
from cds.rules.readiness.eligibility_therapy import (
    immunosuppression_line,
    target_line,
    transplant_line,
)
from cds.rules.readiness.measures import performance_line
from cds.rules.readiness.organs import days, kidney_line
from cds.rules.readiness.phase import candidate, collection_booking, collection_order
from cds.rules.readiness.suspected import is_suspected, suspected, suspicion
from cds.rules.unread import CONDITIONS, unread
from fhir_mapping.chart import (
    Amount,
    Condition,
    ConditionState,
    LossReason,
    Observation,
    Quantity,
)

RULE = "readiness.eligibility"
_EXEMPT = frozenset({"nonmelanoma_skin_cancer", "carcinoma_in_situ"})
_OTHER_CANCERS = ("second_malignancy", "ptld", "sclc", "nsclc", "lung_cancer_any", "multiple_myeloma")


def _age(case: Case) -> Line:
    age, limit = case.chart.patient.age(case.today), case.p(RULE).int("small_child_years")
    small = age is not None and age[0] < limit
    return Line(
        "E1",
        Status.MET,
        age[1] if age is not None else msg("common.checklist.none"),
        notes=(msg("note.small-child"),) if small else (),
    )


def _bounds(observation: Observation) -> tuple[Quantity, Quantity] | None:
    """Lower and upper estimate in days."""
    low, high = observation.component("life_expectancy_low"), observation.component("life_expectancy_high")
    one = low.quantity if low is not None else None
    two = high.quantity if high is not None else None
    whole = observation.value.quantity
    first, last = one or whole or two, two or whole or one
    return (first, last) if first is not None and last is not None else None


def _life(case: Case) -> Line:
    p = case.p(RULE)
    within = days(case, p, "life_max_age_days")
    look = newest(case, "life_expectancy", within, lambda o: _bounds(o) is not None)
    limits = {"low": p["life_low_weeks"], "high": p["life_high_weeks"]}
    bounds = None if look.observation is None else _bounds(look.observation)
    if look.observation is None or bounds is None:
        return Line("E3", Status.UNKNOWN, look.shown, limits, (msg("note.ask-life"),), missing=look.missing)
    lower, upper = bounds
    shown = facts.as_reported(lower)
    if lower.above(p["life_high_weeks"] * 7):
        status = Status.MET
    elif upper.below(p["life_low_weeks"] * 7):
        status = Status.NOT_MET
    else:
        status = Status.CAUTION
    span = shown if lower == upper else msg("found.range", low=shown, high=facts.as_reported(upper))
    found = dated(span, look.observation.when)
    notes = () if status is Status.MET else (msg("note.weigh-life"),)
    values = {"life_expectancy_days": lower.value} if lower.value == upper.value else {}
    return Line("E3", status, found, limits, notes, values=values, evidence=look.evidence, brief=shown)


def _burden(case: Case) -> Line:
    p = case.p(RULE)
    within = days(case, p, "tumour_max_age_days")
    limits = {"blasts": p["blasts_percent"], "ldh": p["ldh_uln"]}
    signs: list[tuple[Observation, bool | None]] = []  # True: high burden, None: it cannot be told
    stated = newest(case, "tumor_burden", within).observation
    if stated is not None and {"high", "low"} & set(stated.value.codes):
        signs.append((stated, "high" in stated.value.codes))
    mass = bulk(case, within)
    if mass is not None:
        signs.append((mass.source, mass.bulky))
    needed, reason = "tumor_burden", LossReason.NOT_ON_CHART
    if disease(case) is Disease.B_ALL:
        needed = "marrow_blasts"
        blasts = newest(case, "marrow_blasts", within, with_number)
        if blasts.observation is not None and blasts.quantity is not None:
            signs.append((blasts.observation, blasts.quantity.at_least(p["blasts_percent"])))
    elif disease(case) is Disease.DLBCL:
        needed = "ldh"
        ldh = newest(case, "ldh", days(case, p, "chemistry_max_age_days"), with_number).observation
        if ldh is not None:
            signs.append((ldh, times_uln(ldh, p["ldh_uln"])))
            reason = LossReason.NO_REFERENCE_RANGE if ldh.uln is None else reason
    high = [o for o, answer in signs if answer]
    low = [o for o, answer in signs if answer is False]
    if high or low:
        cells = Items(tuple(seen(o) for o in high or low))
        status = Status.CAUTION if high else Status.MET
        notes = (msg("note.burden"),) if high else ()
        evidence = tuple(facts.of_observation(o) for o in (*high, *low))
        return Line("E4", status, cells, limits, notes, evidence=evidence)
    look = newest(case, needed, within)
    missing = look.missing or (
        Missing(needed, reason, look.observation.reference if look.observation else ""),
    )
    return Line("E4", Status.UNKNOWN, look.shown, limits, missing=missing)


def _another(case: Case, condition: Condition) -> str:
    """The concept that makes a Condition another malignancy than the treated one; "" none."""
    if condition.concepts & _EXEMPT:
        return ""
    return next((c for c in _OTHER_CANCERS if c in condition.concepts and c != disease_concept(case)), "")


def _needs_treatment(case: Case, condition: Condition) -> bool | None:
    for stated in reversed(case.chart.series("needs_treatment")):
        if not stated.focus or condition.reference in stated.focus:
            return stated.value.yes
    return None


def _other_malignancy(case: Case) -> Line:
    """The one that weighs most: in need of treatment, else not known to be, else left alone."""
    found = [
        (_needs_treatment(case, c), c, concept)
        for c in case.chart.conditions.of(*_OTHER_CANCERS)
        if c.state is ConditionState.ACTIVE and (concept := _another(case, c))
    ]
    if not found:
        unsure = tuple(
            facts.of_fact(c, concept)
            for c in case.chart.conditions.of(*_OTHER_CANCERS)
            if is_suspected(case, c) and (concept := _another(case, c))
        )
        return suspicion("E5", unsure) if unsure else _none_coded(case, "E5", "second_malignancy")
    treat, condition, _ = min(found, key=lambda item: (True, None, False).index(item[0]))
    status = {True: Status.NOT_MET, False: Status.MET, None: Status.CLINICIAN}[treat]
    note = msg("note.malignancy" if treat else "note.malignancy-ask")
    return Line(
        "E5",
        status,
        msg("found.malignancy", date=condition.onset or msg("no-date")),
        notes=(note,) if status.open else (),
        evidence=tuple(facts.of_fact(c, concept) for _, c, concept in found),
    )


def _none_coded(case: Case, row: str, concept: str) -> Line:
    """Nothing coded: met, unless the conditions could not be read."""
    if unread(case, CONDITIONS):
        return Line(row, Status.UNKNOWN, missing=(Missing(concept, LossReason.NOT_FETCHED),))
    return Line(row, Status.MET, msg("found.none-coded"))


def _cns(case: Case) -> Line:
    """Active disease is a warning, any earlier involvement stays a caution."""
    found = central_disease(case)
    if found.active:
        return Line(
            "E13",
            Status.CAUTION,
            msg("found.cns-active"),
            notes=(msg("note.cns-active"),),
            evidence=found.evidence,
        )
    if found.ever:
        return Line(
            "E13",
            Status.CAUTION,
            msg("found.cns-past"),
            notes=(msg("note.cns-past"),),
            weight=Indicator.INFO,
            evidence=found.evidence,
        )
    unsure = suspected(case, *CENTRAL_CONDITIONS)
    said = max((e.effective.latest for e in found.evidence if e.effective is not None), default=None)
    later = [e for e in unsure if said is None or e.effective is None or e.effective.earliest > said]
    if later:
        return suspicion("E13", tuple(later))
    if not found.evidence:
        return Line(
            "E13", Status.UNKNOWN, notes=(msg("note.ask-cns"),), missing=(Missing("cns_involvement"),)
        )
    return Line("E13", Status.MET, msg("found.cns-none"), evidence=found.evidence)


def _kidney(case: Case) -> Line:
    p = case.p(RULE)
    limit = p["clearance_min_ml_min"]

    def judge(value: Quantity) -> Status | None:
        return status_of(value.at_least(limit))

    limits = {"limit": Amount(limit, "mL/min")}
    return kidney_line(case, "E14", p, judge, limits, limit, notes={Status.NOT_MET: msg("note.clearance")})


def _reserve(case: Case) -> Line:
    names = ("heart_failure", "oxygen_dependence", "severe_lung_disease")
    found = [c for c in case.chart.conditions.of(*names) if c.state is ConditionState.ACTIVE]
    if not found:
        unsure = suspected(case, *names)
        return suspicion("E15", unsure) if unsure else _none_coded(case, "E15", "heart_failure")
    evidence = tuple(facts.of_fact(c, next(n for n in names if n in c.concepts)) for c in found)
    shown = Items(tuple(Name(e.concept) for e in evidence))
    return Line("E15", Status.CAUTION, shown, notes=(msg("note.reserve"),), evidence=evidence)


def lines(case: Case) -> tuple[Line, ...]:
    """E1 to E15."""
    p = case.p(RULE)
    return (
        _age(case),
        performance_line(case, "E2", p),
        _life(case),
        _burden(case),
        _other_malignancy(case),
        transplant_line(case),
        target_line(case),
        immunosuppression_line(case),
        infection_line(case),
        viraemia_line(case),
        latent_line(case),
        sars_line(case),
        _cns(case),
        _kidney(case),
        _reserve(case),
    )


def _resource(case: Case) -> str | None:
    """Order or booking judged; "" on the patient's page, None where nothing here concerns the rule."""
    if case.ordering:
        judged = (
            collection_order(case),
            *case.judged_services("car_t_infusion"),
            *case.judged_drugs("class_cell_gene_therapy", "car_t_infusion"),
        )
        return next((order.reference for order in judged if order is not None), None)
    if case.hook is Hook.APPOINTMENT_BOOK:
        booking = collection_booking(case)
        return None if booking is None else booking.reference
    return ""


@rule(RULE)
def eligibility(case: Case) -> Iterator[Finding]:
    """One card with the fifteen criteria."""
    resource = _resource(case)
    if resource is None or not candidate(case):
        return
    found = lines(case)
    yield checklist(case, RULE, found, resource=resource, suggestions=antiviral_suggestions(case, found))
