"""Signs of hyperinflammation after CAR-T cells: ferritin, liver, fibrinogen, haemophagocytosis, cytopenia.

Limits: grading/iec_hs.yaml (Hines MR, TCT 2023;29:438) and grading/cart_hlh_2018.yaml (Neelapu SS, Nat Rev
Clin Oncol 2018;15:47). A multiple of the upper limit uses the limit of that very result; there is no default.
"""

from __future__ import annotations

from bisect import bisect_left
from datetime import datetime, timedelta
from decimal import Decimal
from math import log

from cards.finding import Evidence, Missing, Shown
from cds.engine.case import Case, once_per_case
from cds.rules.after_cart import therapy_start
from cds.rules.evidence import of_fact, of_observation, shown
from cds.rules.grading.ctcae_labs import baseline_before, times_uln
from cds.rules.grading.fever import hours
from fhir_mapping.chart import ConditionState, LossReason, Moment, Observation, Result, frozen

RULE = "grading.iec-hs"
LABS = {"C2": ("alt", "ast"), "C3": ("fibrinogen",), "C5": ("anc", "platelets")}
_RAISED = ("ldh", "pt", "aptt", "bilirubin_direct")
_NEW = ("splenomegaly", "hypoxemia", "lung_infiltrate", "pulmonary_edema", "aki")
_CYTOPENIA = ("pancytopenia", "neutropenia", "thrombocytopenia", "anemia")


@frozen
class Hit:
    """One fact that meets a criterion."""

    at: datetime
    evidence: Evidence
    value: Shown | None = None

    @property
    def when(self) -> Moment | None:
        return self.evidence.effective


@frozen
class Criterion:
    """One of C2 to C5. `assessed` False: nothing on the chart decides it, `missing` says what lacks."""

    key: str
    hits: tuple[Hit, ...]
    assessed: bool
    missing: tuple[Missing, ...] = ()


@frozen
class Ferritin:
    """The newest ferritin (worst of its day) and what it is measured against. `required`: the criterion every
    IEC-HS needs; None where neither limit nor baseline decides."""

    current: Observation | None
    previous: Observation | None = None
    baseline: Observation | None = None
    required: bool | None = None
    by: tuple[str, ...] = ()
    clinician: Observation | None = None

    @property
    def ratio_uln(self) -> Decimal | None:
        return _ratio(self.current, self.current.uln.value if self.current and self.current.uln else None)

    @property
    def ratio_baseline(self) -> Decimal | None:
        base = self.baseline.value.quantity if self.baseline is not None else None
        return _ratio(self.current, base.value if base is not None else None)

    @property
    def doubling_hours(self) -> Decimal | None:
        """Doubling time from the last two values; None where it does not rise."""
        if self.current is None or self.previous is None:
            return None
        new, old = self.current.value.quantity, self.previous.value.quantity
        if new is None or old is None or new.comparator or old.comparator or old.value <= 0:
            return None
        between = (self.current.when.latest - self.previous.when.latest) / timedelta(hours=1)
        if new.value <= old.value or between <= 0:
            return None
        return Decimal(str(round(between * log(2) / log(new.value / old.value), 1)))


def _ratio(observation: Observation | None, limit: Decimal | None) -> Decimal | None:
    if observation is None or observation.value.quantity is None or not limit or limit <= 0:
        return None
    return (observation.value.quantity.value / limit).quantize(Decimal("0.01"))


def _measured(observation: Observation) -> bool:
    return observation.value.quantity is not None


def recent(case: Case, concept: str) -> tuple[Observation, ...]:
    """Results since the infusion that are young enough to count, oldest first."""
    start = therapy_start(case)
    if start is None:
        return ()
    since = max(start, case.now - timedelta(days=case.p(RULE).int("lookback_days")))
    return tuple(o for o in case.chart.series(concept).between(since, case.now) if _measured(o))


def baseline(case: Case, concept: str) -> Observation | None:
    """Last value before the infusion."""
    start = therapy_start(case)
    return None if start is None else baseline_before(case.chart.series(concept), start)


def exceeds(observation: Observation, base: Observation | None, factor: Decimal) -> bool | None:
    """Above `factor` x upper limit, or x baseline where the baseline was abnormal (CTCAE v5.0). None: no
    limit with the result, or a bound that decides nothing."""
    quantity, uln = observation.value.quantity, observation.uln
    if quantity is None:
        return None
    before = base.value.quantity if base is not None else None
    limit = (base.uln if base is not None else None) or uln
    if before is not None and limit is not None and before.above(limit.value):
        answer = quantity.above(before.value * factor)
        return None if answer and before.comparator else answer  # a baseline "> 200" may have been more
    return None if uln is None else quantity.above(uln.value * factor)


def lacking(case: Case, concept: str, found: tuple[Observation, ...]) -> Missing:
    """Why a laboratory criterion could not be judged."""
    if found:
        return Missing(concept, LossReason.NO_REFERENCE_RANGE, found[-1].reference)
    old = case.chart.latest(concept)
    start = therapy_start(case)
    if old is not None and start is not None and old.when.latest >= start:
        return Missing(concept, LossReason.STALE, old.reference)
    return Missing(concept)


def _hit(observation: Observation) -> Hit:
    quantity = observation.value.quantity
    value = shown(quantity) if quantity is not None else None
    return Hit(observation.when.latest, of_observation(observation), value)


# --- ferritin


@once_per_case
def ferritin(case: Case) -> Ferritin:
    """Ferritin now, against its upper limit, its value at infusion, and the clinician's word."""
    p = case.p(RULE)
    values = recent(case, "ferritin")
    stated = case.chart.series("ferritin_rapid_rise").latest(
        case.now, timedelta(days=p.int("lookback_days")), lambda o: o.value.yes is not None
    )
    start = therapy_start(case)
    if stated is not None and (start is None or stated.when.latest < start):
        stated = None
    if not values:
        return Ferritin(None, clinician=stated, required=True if stated and stated.value.yes else None)
    newest_day = values[-1].when.date
    day = [o for o in values if o.when.date == newest_day]
    current = max(day, key=lambda o: o.value.quantity.value if o.value.quantity else Decimal(0))
    apart = hours(p["trend_min_hours"])
    previous = next(
        (
            o
            for o in case.chart.series("ferritin").until(current.when.latest - apart)
            if _measured(o) and current.when.latest - o.when.latest >= apart
        ),
        None,
    )
    base = _ferritin_baseline(case, current)
    quantity = current.value.quantity
    assert quantity is not None
    answers: dict[str, bool | None] = {}
    if current.uln is not None:
        answers["uln"] = quantity.above(current.uln.value * p["ferritin_uln_factor"])
    if base is not None and base.value.quantity is not None:
        answers["baseline"] = quantity.above(base.value.quantity.value * p["ferritin_baseline_factor"])
    if stated is not None and stated.value.yes:
        answers["clinician"] = True
    met = tuple(key for key, answer in answers.items() if answer)
    decided = any(a is not None for a in answers.values())
    required = True if met else False if decided and None not in answers.values() else None
    return Ferritin(current, previous, base, required, met, stated)


def _ferritin_baseline(case: Case, current: Observation) -> Observation | None:
    """Last ferritin of the days before infusion up to D0; bounds are no baseline."""
    day0 = case.chart.course.last_day0
    if day0 is None:
        return None
    first = day0 - timedelta(days=case.p(RULE).int("baseline_days"))
    return next(
        (
            o
            for o in reversed(case.chart.series("ferritin"))
            if o is not current
            and o.value.quantity is not None
            and not o.value.quantity.comparator
            and o.when.day_known
            and first <= o.when.date <= day0
        ),
        None,
    )


def ferritin_rising(case: Case) -> bool | None:
    """Newest ferritin above the one at least 12 h before it; None with fewer than two."""
    found = ferritin(case)
    if found.current is None or found.previous is None:
        return None
    new, old = found.current.value.quantity, found.previous.value.quantity
    if new is None or old is None or old.comparator:
        return None
    return new.above(old.value)


def ferritin_evidence(case: Case) -> tuple[Evidence, ...]:
    found = ferritin(case)
    facts = (found.current, found.previous, found.baseline, found.clinician)
    return tuple(of_observation(o) for o in facts if o is not None)


# --- criteria C2 to C5


def _transaminases(case: Case) -> Criterion:
    factor = case.p(RULE)["transaminase_factor"]
    hits, assessed, missing = [], False, []
    for concept in LABS["C2"]:
        values, base = recent(case, concept), baseline(case, concept)
        answers = [(o, exceeds(o, base, factor)) for o in values]
        hits += [_hit(o) for o, answer in answers if answer]
        known = any(answer is not None for _, answer in answers)
        assessed = assessed or known
        if not known:
            missing.append(lacking(case, concept, values))
    return Criterion("C2", tuple(hits), assessed, () if assessed else tuple(missing))


def _fibrinogen(case: Case) -> Criterion:
    limit = case.p(RULE)["fibrinogen_mg_dl"]
    values = recent(case, "fibrinogen")
    hits = []
    assessed = False
    for observation in values:
        quantity = observation.value.quantity
        assert quantity is not None
        low = quantity.below(limit)
        if not low and observation.lln is not None:
            low = quantity.below(observation.lln.value)
        assessed = assessed or low is not None
        if low:
            hits.append(_hit(observation))
    return Criterion("C3", tuple(hits), assessed, () if assessed else (lacking(case, "fibrinogen", values),))


def _haemophagocytosis(case: Case) -> Criterion:
    start = therapy_start(case)
    assert start is not None
    since = max(start, case.now - timedelta(days=case.p(RULE).int("lookback_days")))
    hits = []
    assessed = False
    for observation in case.chart.series("hemophagocytosis"):
        specimen = observation.specimen
        taken = specimen.collected if specimen is not None and specimen.collected else observation.when
        if taken.latest < start:
            continue
        result = observation.value.result
        assessed = assessed or result in (Result.POSITIVE, Result.NEGATIVE)
        if result is Result.POSITIVE and taken.latest >= since:
            hits.append(Hit(taken.latest, of_observation(observation)))
    for document in case.chart.documents.all:
        named = "hemophagocytosis" in document.conclusions
        if named and document.when is not None and document.when.latest >= since:
            assessed = True
            hits.append(Hit(document.when.latest, of_fact(document, "hemophagocytosis")))
    return Criterion("C4", tuple(hits), assessed, () if assessed else (Missing("hemophagocytosis"),))


def _values_from(case: Case, concept: str, start: datetime) -> list[Observation]:
    """Values since `start` and the last one before it, oldest first."""
    series = case.chart.series(concept)
    before = next((o for o in series.until(start) if o.when.latest < start and _measured(o)), None)
    later = [o for o in series.since(start) if _measured(o)]
    return later if before is None else [before, *later]


def _new_cytopenia(case: Case, concept: str, limit: Decimal) -> tuple[list[Hit], bool]:
    """Values that are low and were not before, or that have halved within a week."""
    p = case.p(RULE)
    share = 1 - p["cytopenia_fall_pct"] / 100
    within = timedelta(days=p.int("cytopenia_fall_days"))
    span = hours(p["span_hours"])
    values = recent(case, concept)
    if not values:
        return [], False
    series = _values_from(case, concept, values[0].when.earliest - max(within, span))
    known = [(o.when.latest, q) for o in series if (q := o.value.quantity) is not None]
    times = [at for at, _ in known]
    high = [q.at_least(limit) for _, q in known]
    exact = [(at, q.value * share) for at, q in known if q.value > 0 and not q.comparator]
    exact_times, floors = [at for at, _ in exact], [floor for _, floor in exact]
    hits, assessed = [], False
    for observation in values:
        quantity, when = observation.value.quantity, observation.when
        assert quantity is not None
        before = bisect_left(times, when.earliest)
        if not before:
            continue
        assessed = True
        fresh = bisect_left(times, when.latest - span)
        was_high = any(high[max(fresh - 1, 0) : before])
        first, end = bisect_left(exact_times, when.latest - within), bisect_left(exact_times, when.earliest)
        halved = first < end and quantity.at_most(max(floors[first:end]))
        if (quantity.below(limit) and was_high) or halved:
            hits.append(_hit(observation))
    return hits, assessed


def _transfusions(case: Case) -> list[Hit]:
    """Red cells given repeatedly within a week, none in the week before."""
    p = case.p(RULE)
    week = timedelta(days=p.int("cytopenia_fall_days"))
    given = [
        (pr.start.latest, pr)
        for pr in case.chart.procedures.of("transfusion_rbc")
        if pr.state.begun and pr.start is not None and pr.start.earliest <= case.now
    ]
    now = [(at, pr) for at, pr in given if at >= case.now - week]
    before = any(case.now - 2 * week <= at < case.now - week for at, _ in given)
    if before or len(now) < p.int("transfusions"):
        return []
    at, last = now[-1]
    return [Hit(at, of_fact(last, "transfusion_rbc"))]


def _cytopenia(case: Case) -> Criterion:
    p = case.p(RULE)
    hits = _transfusions(case)
    assessed = bool(hits)
    limits = {"anc": p["cytopenia_anc_ul"] / 1000, "platelets": p["cytopenia_platelets_ul"] / 1000}
    for concept in LABS["C5"]:
        found, known = _new_cytopenia(case, concept, limits[concept])
        hits, assessed = [*hits, *found], assessed or known
    fallen, known = _new_cytopenia(case, "hemoglobin", Decimal(0))
    hits, assessed = [*hits, *fallen], assessed or known
    start = therapy_start(case)
    assert start is not None
    since = max(start, case.now - timedelta(days=p.int("lookback_days")))
    for condition in case.chart.conditions.of(*_CYTOPENIA):
        onset = condition.onset
        if condition.state is ConditionState.ACTIVE and onset is not None and onset.latest >= since:
            concept = next(c for c in _CYTOPENIA if c in condition.concepts)
            hits.append(Hit(min(onset.latest, case.now), of_fact(condition, concept)))
            assessed = True
    missing = () if assessed else tuple(Missing(c) for c in LABS["C5"])
    return Criterion("C5", tuple(hits), assessed, missing)


@once_per_case
def criteria(case: Case) -> tuple[Criterion, ...]:
    """C2 to C5 since the look-back."""
    return (_transaminases(case), _fibrinogen(case), _haemophagocytosis(case), _cytopenia(case))


def best_span(case: Case) -> tuple[Hit | None, ...]:
    """For C2 to C5 the earliest fact within the 72 h span that holds most criteria (latest span on a tie)."""
    length = hours(case.p(RULE)["span_hours"])
    every = criteria(case)
    best: tuple[int, tuple[Hit | None, ...]] = (0, (None,) * len(every))
    for end in sorted({h.at for c in every for h in c.hits}, reverse=True):
        chosen = tuple(
            min((h for h in c.hits if end - length <= h.at <= end), key=lambda h: h.at, default=None)
            for c in every
        )
        count = sum(h is not None for h in chosen)
        if count > best[0]:
            best = (count, chosen)
    return best[1]


# --- the "other" features


def new_conditions(case: Case, *concepts: str) -> tuple[Evidence, ...]:
    """Active conditions that began since the week before the infusion."""
    day0 = case.chart.course.last_day0
    assert day0 is not None
    first = day0 - timedelta(days=case.p(RULE).int("new_before_day0_days"))
    return tuple(
        of_fact(condition, next(c for c in concepts if c in condition.concepts))
        for condition in case.chart.conditions.of(*concepts)
        if condition.state is ConditionState.ACTIVE
        and condition.onset is not None
        and condition.onset.date >= first
    )


@once_per_case
def other_features(case: Case) -> tuple[str, ...]:
    """Features that support but never decide, apart from fever, oxygen and nerves."""
    newest = {concept: recent(case, concept)[-1:] for concept in (*_RAISED, "triglycerides_fasting")}
    found = [c for c in _RAISED if any(times_uln(o, Decimal(1)) for o in newest[c])]
    for observation in newest["triglycerides_fasting"]:
        quantity = observation.value.quantity
        if quantity is not None and quantity.above(case.p(RULE)["triglycerides_mg_dl"]):
            found.append("triglycerides_fasting")
    return (*found, *(c for c in _NEW if new_conditions(case, c)))
