"""Order checks around tumour lysis: rasburicase, xanthine oxidase inhibitors, potassium, alkali, calcium."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta

from cards.finding import (
    Delete,
    Evidence,
    Finding,
    Hours,
    Indicator,
    Items,
    Message,
    Missing,
    Name,
    Outcome,
    Paragraph,
    Suggestion,
    msg,
)
from cds.engine.case import Case
from cds.engine.parameters import Parameters
from cds.engine.rule import rule
from cds.rules.dosing.tls_drugs import (
    INHIBITORS,
    PURINES,
    allopurinol,
    days_ago,
    febuxostat,
    given_since,
    hla_b5801,
    in_force,
    order_g6pd,
    rasburicase_excluded,
)
from cds.rules.evidence import of_drug_start, of_fact, of_observation
from cds.rules.g6pd import G6pd, g6pd_state
from cds.rules.grading.tls_risk import in_risk_window
from cds.rules.grading.tls_state import Level, TlsState, beyond_limit, series_of, tls_state
from fhir_mapping.chart import ConditionState, Drafts, DrugRecord, DrugState, Route

RULE = "dosing.tls-safety"
_CALCIUM = ("calcium_gluconate", "calcium_chloride")
_ALKALI = ("sodium_bicarbonate", "acetazolamide")
_OTHER_ALKALI_REASONS = ("metabolic_acidosis", "hyperkalemia")


def _tls_coded(case: Case) -> bool:
    return any(c.state is ConditionState.ACTIVE for c in case.chart.conditions.of("tls"))


def _syndrome(case: Case, state: TlsState | None) -> bool:
    """Laboratory or clinical TLS by the values, or coded."""
    return (state is not None and state.syndrome) or _tls_coded(case)


def _at_risk(case: Case, state: TlsState | None) -> bool:
    """Tumour lysis by the values or coded, or the time of its risk."""
    abnormal = state is not None and state.level is not Level.NONE
    return abnormal or in_risk_window(case) or _tls_coded(case)


def _concerns(drafts: Drafts, p: Parameters) -> bool:
    """A drug or procedure of the table, or a fluid whose text names potassium."""
    table = {"rasburicase", "potassium_chloride", *INHIBITORS, *_ALKALI, *_CALCIUM}
    return bool(drafts.services.of("peritoneal_dialysis")) or any(
        not table.isdisjoint(drug.concepts) or _contains_potassium(drug, p) for drug in drafts.drugs.all
    )


@rule(RULE, concerns=_concerns)
def check_orders(case: Case) -> Iterator[Finding]:
    """Each judged draft of the table, in patients with a CAR-T course."""
    if not case.chart.course.any_evidence:
        return
    state = tls_state(case)
    for draft in case.judged_drugs():
        yield from _drug(case, draft, state)
    for service in case.judged_services("peritoneal_dialysis"):
        if _syndrome(case, state):
            yield _finding(
                "peritoneal",
                service.reference,
                Outcome.REVIEW,
                Indicator.WARNING,
                msg("summary.peritoneal"),
                evidence=_tls_evidence(case, state),
            )


def _drug(case: Case, draft: DrugRecord, state: TlsState | None) -> Iterator[Finding]:
    concepts = draft.concepts
    if "rasburicase" in concepts:
        yield from _rasburicase(case, draft)
    elif not concepts.isdisjoint(INHIBITORS):
        yield from _inhibitor(case, draft)
    elif not concepts.isdisjoint(_ALKALI) and (
        "purpose_alkalinization" in draft.purposes or _at_risk(case, state)
    ):
        yield from _alkali(case, draft, state)
    fluid = draft.route in (None, Route.INTRAVENOUS)
    if fluid and _contains_potassium(draft, case.p(RULE)) and _syndrome(case, state):
        yield _finding(
            "potassium",
            draft.reference,
            Outcome.CONTRAINDICATED,
            Indicator.CRITICAL,
            msg("summary.potassium"),
            evidence=_tls_evidence(case, state),
            suggestions=_remove(draft),
        )
    if fluid and not concepts.isdisjoint(_CALCIUM):
        yield from _calcium(case, draft, state)


def _contains_potassium(draft: DrugRecord, p: Parameters) -> bool:
    """Potassium as an ingredient, or named in the text of the fluid (B6)."""
    named = "|".join(re.escape(row["name"]) for row in p.table("potassium"))
    in_text = re.search(f"(?<![a-z])(?:{named})", draft.name, re.IGNORECASE)
    return "potassium_chloride" in draft.concepts or in_text is not None


def _remove(draft: DrugRecord) -> tuple[Suggestion, ...]:
    if draft.state is not DrugState.DRAFT:
        return ()
    return (Suggestion("remove", msg("suggest.remove"), (Delete(draft.reference),)),)


# --- rasburicase and inhibitors


def _rasburicase(case: Case, draft: DrugRecord) -> Iterator[Finding]:
    g6pd = g6pd_state(case)
    beside = (*in_force(case, *INHIBITORS), *case.chart.drafts.drugs.of(*INHIBITORS))
    if g6pd in (G6pd.DEFICIENT, G6pd.INTERMEDIATE):
        alternatives = () if beside else (allopurinol(case, recommended=True), febuxostat(case))
        offers = [s for s in alternatives if s is not None]
        if draft.state is DrugState.DRAFT:
            offers = [
                Suggestion(s.key, s.label, (Delete(draft.reference), *s.actions), s.recommended)
                for s in offers
            ]
        key = "summary.g6pd-intermediate" if g6pd is G6pd.INTERMEDIATE else "summary.g6pd-deficient"
        yield _finding(
            "g6pd",
            draft.reference,
            Outcome.CONTRAINDICATED,
            Indicator.CRITICAL,
            msg(key),
            evidence=_g6pd_evidence(case),
            suggestions=(*offers, *_remove(draft)),
        )
        return
    blocks = rasburicase_excluded(case)
    if blocks:
        yield _finding(
            "rasburicase-blocked",
            draft.reference,
            Outcome.CONTRAINDICATED,
            Indicator.CRITICAL,
            msg("summary.rasburicase-blocked"),
            evidence=blocks,
            suggestions=_remove(draft),
        )
        return
    if g6pd is G6pd.UNKNOWN:
        yield _finding(
            "g6pd-unknown",
            draft.reference,
            Outcome.REVIEW,
            Indicator.WARNING,
            msg("summary.g6pd-unknown"),
            missing=(Missing("g6pd"),),
            suggestions=(order_g6pd(RULE, recommended=True),),
        )
    if beside:
        drugs = Items(tuple(dict.fromkeys(Name(i) for d in beside for i in d.ingredients if i in INHIBITORS)))
        yield _finding(
            "inhibitor-active",
            draft.reference,
            Outcome.REVIEW,
            Indicator.WARNING,
            msg("summary.inhibitor-active", drugs=drugs),
            evidence=tuple(of_drug_start(d) for d in beside),
            subject=f"{draft.reference}#inhibitor",
        )


def _g6pd_evidence(case: Case) -> tuple[Evidence, ...]:
    found = [of_fact(c, "g6pd_deficiency") for c in case.chart.conditions.of("g6pd_deficiency")]
    for concept in ("g6pd_qual", "g6pd", "g6pd_genotype"):
        latest = case.chart.latest(concept)
        if latest is not None:
            found.append(of_observation(latest))
    return tuple(found)


def _inhibitor(case: Case, draft: DrugRecord) -> Iterator[Finding]:
    """Allopurinol or febuxostat: blocked by the chart, or within a day of rasburicase (a drafted rasburicase
    has its own card)."""
    yield from _inhibitor_blocked(case, draft)
    start = days_ago(case, case.p(RULE)["rasburicase_window_hours"])
    beside = tuple(dict.fromkeys((*given_since(case, start, "rasburicase"), *in_force(case, "rasburicase"))))
    if beside:
        drug = next(i for i in draft.ingredients if i in INHIBITORS)
        yield _finding(
            "rasburicase-active",
            draft.reference,
            Outcome.REVIEW,
            Indicator.WARNING,
            msg("summary.not-needed", drug=Name(drug)),
            detail=msg("detail.rasburicase-active", hours=Hours(case.p(RULE)["rasburicase_window_hours"])),
            evidence=tuple(of_drug_start(d) for d in beside),
            suggestions=_remove(draft),
        )


def _inhibitor_blocked(case: Case, draft: DrugRecord) -> Iterator[Finding]:
    drug = next(i for i in draft.ingredients if i in INHIBITORS)
    allergies = case.chart.allergy_to(drug)
    positive = drug == "allopurinol" and hla_b5801(case)
    if allergies or positive:
        hla = case.chart.latest("hla_b5801")
        other = febuxostat(case) if drug == "allopurinol" else allopurinol(case, recommended=False)
        yield _finding(
            "inhibitor-blocked",
            draft.reference,
            Outcome.CONTRAINDICATED,
            Indicator.CRITICAL,
            msg("summary.hla") if positive else msg("summary.allergy", drug=Name(drug)),
            evidence=(
                *(of_fact(a, drug) for a in allergies),
                *((of_observation(hla),) if positive and hla is not None else ()),
            ),
            suggestions=(*((other,) if other is not None else ()), *_remove(draft)),
            subject=f"{draft.reference}#blocked",
        )
    purines = in_force(case, *PURINES)
    if purines:
        named = Items(tuple(dict.fromkeys(Name(i) for d in purines for i in d.ingredients if i in PURINES)))
        yield _finding(
            "purines",
            draft.reference,
            Outcome.REVIEW,
            Indicator.WARNING,
            msg("summary.purines", drug=Name(drug), drugs=named),
            evidence=tuple(of_drug_start(d) for d in purines),
            subject=f"{draft.reference}#purines",
        )


# --- alkali and calcium


def _alkali(case: Case, draft: DrugRecord, state: TlsState | None) -> Iterator[Finding]:
    if not _at_risk(case, state):
        return
    other = [c for c in case.chart.conditions.of(*_OTHER_ALKALI_REASONS) if c.state is ConditionState.ACTIVE]
    stated = not draft.reasons.isdisjoint(_OTHER_ALKALI_REASONS)
    meant = "purpose_alkalinization" in draft.purposes
    drug = next(i for i in draft.ingredients if i in _ALKALI)
    info = (bool(other) or stated) and not meant
    if not meant and not info and drug == "acetazolamide" and draft.reasons:
        return  # another stated indication
    yield _finding(
        "alkali",
        draft.reference,
        Outcome.INFO if info else Outcome.REVIEW,
        Indicator.INFO if info else Indicator.WARNING,
        msg("summary.alkali-other" if info else "summary.alkali", drug=Name(drug)),
        evidence=(
            *_tls_evidence(case, state),
            *(of_fact(c, next(k for k in _OTHER_ALKALI_REASONS if k in c.concepts)) for c in other),
        ),
        suggestions=() if info else _remove(draft),
    )


def _symptoms(case: Case) -> bool | None:
    """Symptoms of hypocalcaemia: coded or stated, denied, or not known."""
    if any(c.state is ConditionState.ACTIVE for c in case.chart.conditions.of("symptomatic_hypocalcemia")):
        return True
    stated = case.chart.series("symptomatic_hypocalcemia").latest(case.now, timedelta(days=2))
    if stated is not None and stated.value.yes is not None:
        return stated.value.yes
    refuted = case.chart.conditions.of("symptomatic_hypocalcemia")
    if any(c.state is ConditionState.REFUTED for c in refuted):
        return False
    return None


def _low_calcium(case: Case) -> Evidence | None:
    values = series_of(case, "calcium", case.now - timedelta(days=2))
    if values and beyond_limit(case, "calcium", values[-1]):
        return of_observation(values[-1])
    for newest in values[-1:]:
        quantity, low = newest.value.quantity, newest.lln
        if quantity is not None and low is not None and quantity.below(low.value):
            return of_observation(newest)
    for condition in case.chart.conditions.of("hypocalcemia"):
        if condition.state is ConditionState.ACTIVE:
            return of_fact(condition, "hypocalcemia")
    return None


def _calcium(case: Case, draft: DrugRecord, state: TlsState | None) -> Iterator[Finding]:
    """Calcium for a low value alone; symptoms, or potassium as its reason, are another matter."""
    if not _syndrome(case, state) or "hyperkalemia" in draft.reasons:
        return
    low = _low_calcium(case)
    symptoms = _symptoms(case)
    if symptoms or low is None:
        return
    denied = symptoms is False
    yield _finding(
        "calcium",
        draft.reference,
        Outcome.REVIEW,
        Indicator.WARNING,
        msg("summary.calcium" if denied else "summary.calcium-ask"),
        evidence=(*_tls_evidence(case, state), low),
        missing=() if denied else (Missing("symptomatic_hypocalcemia"),),
    )


# --- cards


def _tls_evidence(case: Case, state: TlsState | None) -> tuple[Evidence, ...]:
    coded = [of_fact(c, "tls") for c in case.chart.conditions.of("tls") if c.state is ConditionState.ACTIVE]
    values = [of_observation(a.observation) for a in state.abnormal] if state is not None else []
    return tuple(dict.fromkeys((*coded, *values)))


def _finding(
    row: str,
    reference: str,
    outcome: Outcome,
    indicator: Indicator,
    summary: Message,
    *,
    detail: Message | None = None,
    evidence: tuple[Evidence, ...] = (),
    missing: tuple[Missing, ...] = (),
    suggestions: tuple[Suggestion, ...] = (),
    subject: str = "",
) -> Finding:
    return Finding(
        rule=RULE,
        outcome=outcome,
        indicator=indicator,
        summary=summary,
        subject=subject or reference,
        detail=(Paragraph(detail or msg(f"detail.{row}")),),
        values={"row": row},
        evidence=evidence,
        missing=missing,
        resource=reference,
        suggestions=suggestions,
    )
