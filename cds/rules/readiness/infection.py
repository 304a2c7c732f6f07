"""Active infection and viraemia as the checklists before CAR-T ask for them (chart-facts T10, T11, V2, V4).

Fever or an antibiotic alone never makes an infection; it raises the question.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum

from cards.finding import Evidence
from cds.engine.case import Case, once_per_case
from cds.rules.after_cart import INFECTIONS, confirmed_infections
from cds.rules.evidence import of_drug_start, of_fact, of_observation
from cds.rules.readiness.in_force import active_today
from cds.rules.readiness.suspected import is_suspected
from fhir_mapping.chart import Condition, ConditionState, DrugRecord, Observation, Result

VIRAL_LOADS = (
    "cmv_pcr",
    "ebv_pcr",
    "hhv6_pcr",
    "adenovirus_pcr",
    "hsv_pcr",
    "vzv_pcr",
    "enterovirus_pcr",
    "parvovirus_b19_pcr",
    "jcv_pcr",
    "bkv_pcr",
    "viral_pcr_other",
    "hbv_dna",
    "hbv_dna_log",
    "hbv_dna_qual",
    "hcv_rna",
    "hcv_rna_qual",
    "hiv_rna",
)
_VIRAL = frozenset({"infection_viral", "cmv_disease", "herpes_zoster", "covid19"})
_TREATMENT = ("class_antibacterials", "class_antimycotics", "class_azole_antifungals", "class_antivirals")
_PROPHYLACTIC = ("class_hbv_antivirals", "class_hcv_antivirals", "class_hiv_antiretrovirals")
_CULTURE_DAYS = timedelta(days=7)
_REVIEW_DAYS = timedelta(days=30)  # as long as an active Condition without anything newer counts
_SILENT = ("none", "controlled", "resolved")
_NOT_BLOOD = frozenset({"csf", "other_specimen"})


@dataclass(frozen=True, slots=True)
class Infections:
    """`active`, `viral`: confirmed and not controlled; `controlled`: reviewed as such; `suspected`: coded as
    suspected; `treatment`: an anti-infective course without a coded infection."""

    active: tuple[Evidence, ...]
    viral: tuple[Evidence, ...]
    controlled: tuple[Evidence, ...]
    suspected: tuple[Evidence, ...]
    treatment: tuple[Evidence, ...]
    review: Observation | None  # newest infection review, any word

    def cleared(self, case: Case, within: timedelta, measured: Iterable[Observation] = ()) -> bool:
        """A review at most `within` old says that no uncontrolled infection is left. What was suspected,
        begun or `measured` after it stays open; so does a suspected infection that it does not speak of."""
        reviews = [
            r for r in reversed(case.chart.series("infection_status")) if r.when.reaches(case.now - within)
        ]
        if not says_none(reviews[0] if reviews else None):
            return False

        def answered(sign: Evidence, *, by_any: bool) -> bool:
            of_sign = (r for r in reviews if by_any or not r.focus or sign.reference in r.focus)
            review = next(of_sign, None)
            if review is None or not says_none(review):
                return False
            return sign.effective is None or review.when.latest >= sign.effective.earliest

        signs = (*self.treatment, *(of_observation(o) for o in measured))
        return all(answered(s, by_any=False) for s in self.suspected) and all(
            answered(s, by_any=True) for s in signs
        )


def says_none(review: Observation | None) -> bool:
    """A review that finds no uncontrolled infection."""
    return review is not None and not set(_SILENT).isdisjoint(review.value.codes)


def is_viral(condition: Condition) -> bool:
    return bool(_VIRAL & (condition.concepts | condition.categories))


def _reviewed(case: Case, fact: Evidence) -> bool:
    """A later review of this infection says controlled, resolved or none. Of a review of the whole patient
    "none" does not undo a coded infection."""
    for review in reversed(case.chart.series("infection_status")):
        if review.focus and fact.reference not in review.focus:
            continue
        if fact.effective is not None and review.when.latest < fact.effective.earliest:
            return False
        words = set(_SILENT) if review.focus else set(_SILENT) - {"none"}
        return not words.isdisjoint(review.value.codes)
    return False


def _fungal_markers(case: Case) -> Iterable[Observation]:
    for observation in case.chart.series("fungal_marker"):
        contaminant = observation.component("contaminant")
        if contaminant is not None and contaminant.yes:
            continue
        if (
            observation.value.result is Result.POSITIVE
            and observation.when.latest >= case.now - _CULTURE_DAYS
        ):
            yield observation


def _still_active(review: Observation, coded: Mapping[str, Condition]) -> bool:
    """The review says active, and not of an infection that is over by now."""
    if "active" not in review.value.codes:
        return False
    over = (ConditionState.HISTORY, ConditionState.REFUTED)
    return not review.focus or any(f not in coded or coded[f].state not in over for f in review.focus)


def _course(record: DrugRecord) -> Evidence:
    """An anti-infective; by its class where its drug is not known."""
    fact = of_drug_start(record)
    if fact.concept:
        return fact
    return replace(fact, concept=next(c for c in _TREATMENT if c in record.concepts))


@once_per_case
def infections(case: Case) -> Infections:
    """What the chart says of infection today."""
    chart = case.chart
    coded = {c.reference: c for c in chart.conditions.of(*INFECTIONS)}
    active: list[Evidence] = []
    viral: list[Evidence] = []
    controlled: list[Evidence] = []
    for fact in (*confirmed_infections(case), *map(of_observation, _fungal_markers(case))):
        condition = coded.get(fact.reference)
        if _reviewed(case, fact):
            controlled.append(fact)
        elif condition is not None and is_viral(condition):
            viral.append(fact)
        else:
            active.append(fact)
    review = chart.latest("infection_status")
    suspected: list[Evidence] = []
    if review is not None and _still_active(review, coded) and not active and not viral:
        recent = review.when.reaches(case.now - _REVIEW_DAYS)
        (active if recent else suspected).append(of_observation(review))
    counted = {fact.reference for fact in (*active, *viral, *controlled)}
    suspected += [
        of_fact(c, next(i for i in INFECTIONS if i in c.concepts))
        for c in coded.values()
        if c.reference not in counted and (c.state is ConditionState.ACTIVE or is_suspected(case, c))
    ]
    treatment = [
        _course(d)
        for d in active_today(case, *_TREATMENT)
        if "purpose_prophylaxis" not in d.purposes and d.concepts.isdisjoint(_PROPHYLACTIC)
    ]
    return Infections(
        tuple(active), tuple(viral), tuple(controlled), tuple(suspected), tuple(treatment), review
    )


def detected_loads(case: Case, within: timedelta) -> tuple[Observation, ...]:
    """Newest load of each virus that is detected in blood, at most `within` old."""
    loads = [viral_load(case, (concept,), within) for concept in VIRAL_LOADS]
    return tuple(o for o in loads if o is not None and detection(o) is Detection.DETECTED)


class Detection(StrEnum):
    DETECTED = "detected"
    BELOW_LIMIT = "detected-below-limit"
    NOT_DETECTED = "not-detected"


def detection(observation: Observation) -> Detection | None:
    """What a viral load says: any detected quantity is viraemia; None where it says nothing."""
    value = observation.value
    if value.detected_below_limit:
        return Detection.BELOW_LIMIT
    if value.result is Result.NEGATIVE:
        return Detection.NOT_DETECTED
    if value.result is Result.POSITIVE:
        return Detection.DETECTED
    quantity = value.quantity
    if quantity is None:
        return None
    if quantity.comparator in ("<", "<="):
        return Detection.BELOW_LIMIT
    return Detection.DETECTED if quantity.value > 0 else Detection.NOT_DETECTED


def viral_load(case: Case, concepts: Iterable[str], within: timedelta | None) -> Observation | None:
    """Newest viral load in blood of any of the concepts that says something, at most `within` old (None: any
    age)."""

    def blood(observation: Observation) -> bool:
        elsewhere = observation.specimen is not None and observation.specimen.concepts & _NOT_BLOOD
        return not elsewhere and detection(observation) is not None

    found = [o for c in concepts if (o := case.chart.series(c).latest(case.now, within, blood)) is not None]
    return max(found, key=lambda o: o.when.latest, default=None)
