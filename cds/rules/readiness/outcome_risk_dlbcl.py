"""DLBCL: factors that lower the effect of CAR-T cells; on the order of lymphodepletion the fludarabine dose.

What was not tested is listed, never taken as absent. Nothing here stops a treatment.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

from cards.finding import Evidence, Finding, Items, Message, Missing, Name, Scalar, Shown, Text, msg
from cds.engine.case import Case
from cds.engine.rule import Hook, rule
from cds.rules.disease import Disease, disease, disease_evidence
from cds.rules.dosing.ldc import body_surface, doses_per_day, orders, planned_days
from cds.rules.evidence import of_drug, of_observation
from cds.rules.grading.ctcae_labs import ratio_uln, times_uln
from cds.rules.readiness.biology import Spread, bulk, extramedullary, outside
from cds.rules.readiness.checklist import dated, rounded, shown
from cds.rules.readiness.outcome_risk_all import Factor, State, card, genetic
from cds.rules.readiness.phase import candidate, collection_date, infused
from cds.rules.readiness.product import COLLECTED, MANUFACTURED, results
from cds.rules.unread import DOSES, unread
from cds.rules.washout.leukapheresis import planned_collection
from cds.rules.washout.uses import Use, dose_per_m2, uses
from fhir_mapping.chart import Amount, DrugRecord, DrugSource, LossReason, Observation, add_months

RULE = "readiness.outcome-risk-dlbcl"
_OTHERS = ("transformed_follicular_lymphoma", "high_grade_b_cell_lymphoma")
_FLUDARABINE = "fludarabine"


def _burden(case: Case) -> Factor:
    """High burden by the clinician, or any site outside marrow, blood and nodes."""
    found: list[Shown] = []
    evidence: list[Evidence] = []
    known = False
    burden = case.chart.latest("tumor_burden")
    if burden is not None and burden.value.codes:
        known = True
        evidence.append(of_observation(burden))
        if "high" in burden.value.codes:
            found.append(dated(msg("burden.high"), burden.when))
    mass = bulk(case)
    if mass is not None:
        known = True
        evidence.append(of_observation(mass.source))
        if mass.bulky:
            found.append(dated(msg("burden.bulky"), mass.source.when))
    spread = extramedullary(case, ("dlbcl", *_OTHERS))
    if spread is not None:
        known = True
        evidence += spread.evidence
        if spread.spread is Spread.ACTIVE:
            found.append(dated(msg("burden.extranodal"), spread.when))
            found += [Text(site) for site in spread.sites]
    for observation in case.chart.series("extranodal_site"):
        value = observation.value
        known = True
        named = outside(frozenset((*value.codes, *((value.text,) if value.text else ()))))
        evidence.append(of_observation(observation))
        if named - {"none"}:
            found += [Text(site.replace("_", " ")) for site in sorted(named)]
    missing = () if known else (Missing("tumor_burden"), Missing("extranodal_site"))
    if found:
        return Factor(
            "burden",
            State.FLAG,
            Items(tuple(f for i, f in enumerate(found) if f not in found[:i])),
            tuple(evidence),
        )
    state = State.CLEAR if known else State.UNTESTED
    return Factor(
        "burden", state, msg("burden.none") if known else msg("not-known"), tuple(evidence), missing
    )


# --- laboratory before the infusion


def _before_infusion(case: Case, concept: str) -> tuple[Observation | None, Observation | None]:
    """Newest result from a week before lymphodepletion on, preferably before it; and the one too old."""
    days = timedelta(days=case.p(RULE).int("lab_window_days"))
    first = case.chart.course.ldc_first
    start = None if first is None else first.date
    ahead = start is None or start > case.today
    begin: date = case.today - days if ahead or start is None else start - days
    usable = [o for o in case.chart.series(concept) if o.value.quantity is not None]
    inside = [o for o in usable if o.when.date >= begin]
    if first is not None and first.when is not None and not ahead:
        limit = first.when.latest
        inside = [o for o in inside if o.when.latest <= limit] or inside
    if inside:
        return inside[-1], None
    return None, usable[-1] if usable else None


def _lacking(row: str, concept: str, old: Observation | None) -> Factor:
    if old is None:
        return Factor(row, State.UNTESTED, missing=(Missing(concept),))
    found = msg("common.checklist.stale", what=shown(old))
    return Factor(row, State.UNTESTED, found, missing=(Missing(concept, LossReason.STALE, old.reference),))


def _ldh(case: Case) -> Factor:
    factor = case.p(RULE)["ldh_times_uln"]
    seen, old = _before_infusion(case, "ldh")
    if seen is None:
        return _lacking("ldh", "ldh", old)
    above, ratio = times_uln(seen, factor), ratio_uln(seen)
    evidence = (of_observation(seen),)
    if above is None or ratio is None:
        reason = LossReason.NO_REFERENCE_RANGE if seen.uln is None else LossReason.NOT_ON_CHART
        return Factor("ldh", State.UNTESTED, shown(seen), evidence, (Missing("ldh", reason, seen.reference),))
    quantity = seen.value.quantity
    exact = quantity is not None and not quantity.comparator
    found: Shown = msg("ldh", value=shown(seen), ratio=rounded(ratio, factor, Decimal("0.01")).normalize())
    if exact and ratio == factor:
        found = msg("common.checklist.at-limit", what=found)
    values: dict[str, Scalar] = {"ldh_times_uln": ratio} if exact else {}
    state = State.FLAG if above else State.CLEAR
    return Factor("ldh", state, found, evidence, values=values, limit=factor)


def _platelets(case: Case) -> Factor:
    limit = case.p(RULE)["platelets_k_ul"]
    seen, old = _before_infusion(case, "platelets")
    quantity = None if seen is None else seen.value.quantity
    if seen is None or quantity is None:
        return _lacking("platelets", "platelets", old)
    below = quantity.below(limit)
    if below is None:
        return Factor("platelets", State.UNTESTED, shown(seen), missing=(Missing("platelets"),))
    values: dict[str, Scalar] = {} if quantity.comparator else {"platelets_k_ul": quantity.value}
    state = State.FLAG if below else State.CLEAR
    return Factor("platelets", state, shown(seen), (of_observation(seen),), values=values, limit=limit)


# --- drugs


def _doses(record: DrugRecord) -> Decimal | None:
    """How many doses a record stands for; None where an order has no end."""
    if record.source is not DrugSource.ORDER:
        return Decimal(1)
    days = planned_days(record)
    return None if days is None else days * doses_per_day(record)


def _total(case: Case, records: list[DrugRecord]) -> Decimal | None:
    """mg/m2 of all doses; None where a dose, a number of doses or the surface area cannot be told."""
    total = Decimal(0)
    m2 = body_surface(case).value
    for record in records:
        per, count = dose_per_m2(record, m2), _doses(record)
        if per is None or count is None:
            return None
        total += per * count
    return total


def _fludarabine_records(case: Case) -> list[DrugRecord]:
    """What was given, once its last day has passed; else what is ordered and what was given before it."""
    course = case.chart.course
    own = [r for r in course.ldc_records if _FLUDARABINE in r.ingredients]
    given = [r for r in own if r.given]
    ordered = [r for r in own if r.source is DrugSource.ORDER]
    last = max((d for r in own if (m := r.timing.last or r.timing.first) and (d := m.date)), default=None)
    if given and (not ordered or (last is not None and last < case.today)):
        return given
    starts = [m.date for r in ordered if (m := r.timing.first) is not None]
    begin = min(starts) if starts else None
    earlier = [r for r in given if begin is None or ((m := r.timing.first) is not None and m.date < begin)]
    return [*ordered, *earlier]


def _fludarabine(case: Case) -> Factor | None:
    """None: no fludarabine in lymphodepletion is ordered or given."""
    p = case.p(RULE)
    records = _fludarabine_records(case)
    if not records:
        return None
    full, evidence = p["fludarabine_mg_m2"], tuple(of_drug(r) for r in records)
    total = _total(case, records)
    if total is None:
        missing = body_surface(case).missing or (Missing(_FLUDARABINE),)
        return Factor("fludarabine", State.UNTESTED, msg("fludarabine.unread"), evidence, missing, limit=full)
    least = full * (100 - p["fludarabine_short_percent"]) / 100
    values: dict[str, Scalar] = {"fludarabine_mg_m2": total, "fludarabine_full_mg_m2": full}
    state = State.FLAG if total < least else State.CLEAR
    amount = Amount(total.quantize(Decimal("0.1")).normalize(), "mg/m2")
    found = msg("fludarabine.total", total=amount)
    return Factor("fludarabine", state, found, evidence, values=values, limit=full)


def _last_bendamustine(case: Case, anchor: date | None) -> Use | None:
    own = frozenset(record.reference for record in case.chart.course.ldc_records)
    found = [use for use in uses(case, anchor, without=own) if "DC17" in use.ends]
    known = [use for use in found if use.end.last is not None or use.end.ongoing]
    if not known:
        return found[0] if found else None
    return max(known, key=lambda u: (u.end.ongoing, u.end.last.date if u.end.last else date.min, u.reference))


def _bendamustine(case: Case) -> Factor:
    months = case.p(RULE).int("bendamustine_months")
    anchor = collection_date(case) or planned_collection(case)
    use = _last_bendamustine(case, anchor)
    if use is None and unread(case, DOSES):
        lost = (Missing("bendamustine", LossReason.NOT_FETCHED),)
        return Factor("bendamustine", State.UNTESTED, missing=lost, limit=months)
    if use is None:
        return Factor("bendamustine", State.CLEAR, msg("bendamustine.never"), limit=months)
    end = use.end.last
    if end is None and not use.end.ongoing:
        missing = (Missing("bendamustine"),)
        return Factor("bendamustine", State.UNTESTED, msg("bendamustine.undated"), use.evidence(), missing)
    until = anchor if anchor is not None else case.today
    last = until if end is None else min(end.date, until)
    free = add_months(last, months)
    values: dict[str, Scalar] = {"bendamustine_last": last, "bendamustine_free": free}
    found = msg("bendamustine.last", last=last, anchor=until)
    state = State.FLAG if until < free else State.CLEAR
    notes: tuple[Message, ...] = ()
    if state is State.FLAG and anchor is None:
        notes = (msg("note.bendamustine", day=free),)
        state = State.NOTE
    return Factor("bendamustine", state, found, use.evidence(), (), notes, values, months)


# --- the product


def _t_cells(case: Case) -> tuple[list[Message], list[Evidence]]:
    """T-cell quality where it was measured: no cut-off is given."""
    notes: list[Message] = []
    evidence: list[Evidence] = []
    for concept in ("product_naive_t_percent", "product_treg_percent"):
        both = (*results(case, concept, COLLECTED), *results(case, concept, MANUFACTURED))
        seen = [o for o in both if o.value.quantity is not None]
        if seen:
            newest = max(seen, key=lambda o: o.when.latest)
            notes.append(msg("note.t-cells", name=Name(concept), value=shown(newest)))
            evidence.append(of_observation(newest))
    return notes, evidence


def _order(case: Case) -> Iterator[Finding]:
    """On the order of lymphodepletion: fludarabine below the full dose."""
    ordered = orders(case)
    drafts = [d for d in ordered.drugs if _FLUDARABINE in d.ingredients]
    factor = _fludarabine(case)
    if not drafts or factor is None or factor.state is not State.FLAG:
        return
    finding = card(RULE, [factor], (), disease_evidence(case), {})
    total = factor.values["fludarabine_mg_m2"]
    assert isinstance(total, Decimal)
    amount = Amount(total.quantize(Decimal("0.1")).normalize(), "mg/m2")
    full = Amount(case.p(RULE)["fludarabine_mg_m2"], "mg/m2")
    reference = drafts[0].reference
    summary = msg("summary.fludarabine", total=amount, full=full)
    yield replace(finding, summary=summary, subject=reference, resource=reference)


@rule(RULE)
def outcome_risk_dlbcl(case: Case) -> Iterator[Finding]:
    """One card for a candidate with DLBCL; on the order of lymphodepletion the fludarabine row alone."""
    if not candidate(case) or infused(case) or disease(case) is not Disease.DLBCL:
        return
    if case.hook is not Hook.PATIENT_VIEW:
        yield from _order(case)
        return
    factors = [
        _burden(case),
        _ldh(case),
        _platelets(case),
        _bendamustine(case),
        genetic(case, "myc", "myc_overexpression"),
        genetic(case, "tp53", "tp53_mutation"),
        genetic(case, "microenvironment", "suppressive_microenvironment"),
    ]
    fludarabine = _fludarabine(case)
    if fludarabine is not None:
        factors.append(fludarabine)
    notes, evidence = _t_cells(case)
    yield card(RULE, factors, notes, (*disease_evidence(case), *evidence), {})
