"""Criteria E9 to E12: infection, viraemia, latent hepatitis and HIV, SARS-CoV-2."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cards.finding import (
    Create,
    DrugProposal,
    Evidence,
    Indicator,
    Items,
    Message,
    Missing,
    Name,
    Repeat,
    Shown,
    Suggestion,
    msg,
)
from cds.engine.case import Case
from cds.engine.rule import Hook
from cds.rules import evidence as facts
from cds.rules.body_size import is_adult
from cds.rules.drug_classes import drug_classes
from cds.rules.readiness.checklist import NOTHING, Line, Status, dated, listed, newest
from cds.rules.readiness.in_force import active_today
from cds.rules.readiness.infection import (
    VIRAL_LOADS,
    Detection,
    detection,
    infections,
    says_none,
    viral_load,
)
from cds.rules.readiness.organs import days
from cds.rules.renal import clearance
from fhir_mapping.chart import (
    Amount,
    ConditionState,
    LossReason,
    Observation,
    Result,
    Route,
    add_months,
)

RULE = "readiness.eligibility"
_UNUSABLE = (LossReason.UNIT, LossReason.CONTRADICTORY, LossReason.MALFORMED)
_IMMUNOGLOBULINS = ("ivig", "subcutaneous_immunoglobulin", "hyperimmune_globulin", "class_immunoglobulins")


def _signed(case: Case) -> Indicator:
    """Weight of a contraindication: critical where the order is signed."""
    return Indicator.CRITICAL if case.hook is Hook.ORDER_SIGN else Indicator.WARNING


def infection_line(case: Case) -> Line:
    """E9: bacterial, fungal or unspecified infection that is active and not controlled."""
    state = infections(case)
    if state.active:
        return Line(
            "E9",
            Status.NOT_MET,
            listed(state.active),
            notes=(msg("note.infection"),),
            weight=_signed(case),
            evidence=state.active,
        )
    if state.suspected or state.treatment:
        open_facts = (*state.suspected, *state.treatment)
        missing = (Missing("infection_status"),)
        if not state.cleared(case, days(case, case.p(RULE), "review_max_age_days")):
            return Line(
                "E9",
                Status.UNKNOWN,
                listed(open_facts),
                notes=(msg("note.infection-ask"),),
                evidence=open_facts,
                missing=missing,
            )
    if state.controlled:
        return Line("E9", Status.MET, listed(state.controlled), evidence=state.controlled)
    look = newest(case, "infection_status", days(case, case.p(RULE), "review_max_age_days"))
    if look.observation is None or not says_none(look.observation):
        asked = look.missing or (Missing("infection_status"),)
        return Line("E9", Status.UNKNOWN, look.shown, notes=(msg("note.infection-review"),), missing=asked)
    return Line("E9", Status.MET, look.shown, evidence=look.evidence)


def viraemia_line(case: Case) -> Line:
    """E10: any detected quantity of any virus in blood, or an active viral infection."""
    state, within = infections(case), days(case, case.p(RULE), "viral_load_max_age_days")
    loads = [o for c in VIRAL_LOADS if (o := viral_load(case, (c,), within)) is not None]
    detected = [o for o in loads if detection(o) is Detection.DETECTED]
    limit = [o for o in loads if detection(o) is Detection.BELOW_LIMIT]
    evidence = (*state.viral, *(facts.of_observation(o) for o in loads))
    if state.viral or detected:
        found = (*(_loads(detected)), *((listed(state.viral),) if state.viral else ()))
        return Line(
            "E10",
            Status.NOT_MET,
            Items(found),
            notes=(msg("note.viraemia"),),
            weight=_signed(case),
            evidence=evidence,
        )
    if limit:
        return Line(
            "E10", Status.CLINICIAN, Items(_loads(limit)), notes=(msg("note.below-limit"),), evidence=evidence
        )
    fresh = frozenset(o.concept for o in loads)
    old = [o for c in VIRAL_LOADS if c not in fresh and (o := viral_load(case, (c,), None)) is not None]
    if loads:  # what was detected last and not tested since is not excluded by the test of another virus
        old = [o for o in old if detection(o) is not Detection.NOT_DETECTED]
    missing = tuple(Missing(o.concept, LossReason.STALE, o.reference) for o in old)
    missing += _unreadable_loads(case, fresh)
    if loads and not missing:
        return Line("E10", Status.MET, Items(_loads(loads[:3])), evidence=evidence)
    missing = missing or (Missing("cmv_pcr"),)
    tests = tuple(m.concept for m in missing)
    cell: Shown = msg("common.checklist.stale", what=Items(_loads(old))) if old else NOTHING
    return Line("E10", Status.UNKNOWN, cell, evidence=evidence, missing=missing, tests=tests)


def _unreadable_loads(case: Case, fresh: frozenset[str]) -> tuple[Missing, ...]:
    """Loads that are there and cannot be used; a readable fresh one of the same virus answers them."""
    return tuple(
        Missing(concept, loss.reason, loss.resource, loss.text)
        for concept in VIRAL_LOADS
        if concept not in fresh
        for loss in case.chart.series(concept).losses
        if loss.reason in _UNUSABLE
    )


def _loads(observations: Iterable[Observation]) -> tuple[Shown, ...]:
    return tuple(msg("found.load", virus=Name(o.concept), result=_word(o), when=o.when) for o in observations)


def _word(observation: Observation) -> Shown:
    quantity = observation.value.quantity
    if quantity is not None and detection(observation) is not Detection.NOT_DETECTED:
        return quantity
    return msg(f"found.{detection(observation) or 'none'}")


# --- E11


@dataclass(frozen=True, slots=True)
class Latent:
    """One latent virus: status with its note and what lacks."""

    status: Status
    note: Message | None = None
    evidence: tuple[Evidence, ...] = ()
    missing: tuple[Missing, ...] = ()


def _newest_result(case: Case, test: str) -> Observation | None:
    """Newest report that says something, whatever its age."""
    return case.chart.series(test).latest(case.now, usable=lambda o: o.value.result is not None)


def _positive(case: Case, tests: tuple[str, ...], condition: str) -> tuple[Evidence, ...]:
    found = [
        facts.of_observation(o)
        for c in tests
        if (o := _newest_result(case, c)) is not None and o.value.result is Result.POSITIVE
    ]
    found += [
        facts.of_fact(c, condition)
        for c in case.chart.conditions.of(condition)
        if c.state in (ConditionState.ACTIVE, ConditionState.HISTORY)
    ]
    return tuple(found)


def _treated(case: Case, group: str, klass: str) -> tuple[Evidence, ...]:
    names = (*sorted(drug_classes().drugs(group)), klass)
    return tuple(facts.of_drug(d) for d in active_today(case, *names))


def _negative(case: Case, tests: tuple[str, ...]) -> Latent:
    within = days(case, case.p(RULE), "serology_max_age_days")
    looks = [newest(case, t, within, lambda o: o.value.result is not None) for t in tests]
    missing = tuple(m for look in looks for m in look.missing)
    missing += tuple(
        Missing(o.concept, LossReason.NOT_ON_CHART, o.reference)
        for look in looks
        if (o := look.observation) is not None and o.value.result is not Result.NEGATIVE
    )
    evidence = tuple(e for look in looks for e in look.evidence)
    if missing:
        return Latent(Status.UNKNOWN, None, evidence, missing)
    return Latent(Status.MET, None, evidence)


def _load(case: Case, *concepts: str) -> Observation | None:
    return viral_load(case, concepts, days(case, case.p(RULE), "hepatitis_load_max_age_days"))


def hbv(case: Case) -> Latent:
    positive = _positive(case, ("hbsag", "anti_hbc"), "hbv")
    if not positive:
        return _negative(case, ("hbsag", "anti_hbc"))
    drugs, load = (
        _treated(case, "DC23", "class_hbv_antivirals"),
        _load(case, "hbv_dna", "hbv_dna_log", "hbv_dna_qual"),
    )
    evidence = (*positive, *drugs, *((facts.of_observation(load),) if load is not None else ()))
    if not drugs:
        return Latent(Status.NOT_MET, msg("note.hbv-untreated"), evidence)
    if load is None:
        return Latent(Status.UNKNOWN, msg("note.hbv-load"), evidence, (Missing("hbv_dna"),))
    if detection(load) is Detection.NOT_DETECTED:
        return Latent(Status.MET, None, evidence)
    return Latent(Status.CAUTION, msg("note.hbv-detected"), evidence)


def hcv(case: Case) -> Latent:
    positive = _positive(case, ("anti_hcv",), "hcv")
    if not positive:
        return _negative(case, ("anti_hcv",))
    load, drugs = _load(case, "hcv_rna", "hcv_rna_qual"), _treated(case, "DC24", "class_hcv_antivirals")
    evidence = (*positive, *drugs, *((facts.of_observation(load),) if load is not None else ()))
    if load is None:
        return Latent(Status.UNKNOWN, msg("note.hcv-load"), evidence, (Missing("hcv_rna"),))
    if detection(load) is Detection.NOT_DETECTED:
        return Latent(Status.CLINICIAN, msg("note.hcv-cleared"), evidence)
    if not drugs:
        return Latent(Status.NOT_MET, msg("note.hcv-untreated"), evidence)
    return Latent(Status.CAUTION, msg("note.hcv-detected"), evidence)


def hiv(case: Case) -> Latent:
    positive = _positive(case, ("hiv_ag_ab",), "hiv")
    if not positive:
        return _negative(case, ("hiv_ag_ab",))
    drugs, load = _treated(case, "DC25", "class_hiv_antiretrovirals"), _load(case, "hiv_rna")
    evidence = (*positive, *drugs, *((facts.of_observation(load),) if load is not None else ()))
    if not drugs:
        return Latent(Status.NOT_MET, msg("note.hiv-untreated"), evidence)
    if load is None:
        return Latent(Status.UNKNOWN, msg("note.hiv-label"), evidence, (Missing("hiv_rna"),))
    return Latent(Status.CLINICIAN, msg("note.hiv-label"), evidence)


def _passive(case: Case) -> Message | None:
    """Anti-HBc may come from immunoglobulin given shortly before the sample."""
    test = _newest_result(case, "anti_hbc")
    if test is None or test.value.result is not Result.POSITIVE:
        return None
    months = case.p(RULE).int("passive_antibody_months")
    for record in case.chart.drugs.of(*_IMMUNOGLOBULINS):
        moment = record.timing.last or record.timing.first
        if not record.given or moment is None:
            continue
        if moment.date <= test.when.date <= add_months(moment.date, months):
            return msg("note.passive", date=moment.date)
    return None


def latent_line(case: Case) -> Line:
    """E11: negative, or treated and undetectable."""
    found = {"hbv": hbv(case), "hcv": hcv(case), "hiv": hiv(case)}
    worst = min(found.values(), key=lambda f: list(Status).index(f.status))
    notes = [f.note for f in found.values() if f.note is not None]
    passive = _passive(case)
    if passive is not None:
        notes.append(passive)
    missing = tuple(m for f in found.values() for m in f.missing)
    evidence = tuple(e for f in found.values() for e in f.evidence)
    cell: Shown = Items(
        tuple(
            msg("found.latent", virus=Name(name), status=msg(f"common.checklist.status.{f.status.value}"))
            for name, f in found.items()
        )
    )
    return Line(
        "E11",
        worst.status,
        cell,
        notes=tuple(notes),
        evidence=evidence,
        missing=missing,
        tests=tuple(m.concept for m in missing),
    )


def antiviral_suggestions(case: Case, lines: Iterable[Line]) -> tuple[Suggestion, ...]:
    """Entecavir for latent HBV without an antiviral; the adult dose only, with normal renal function."""
    if hbv(case).status is not Status.NOT_MET or not any(line.row == "E11" for line in lines):
        return ()
    p = case.p(RULE)
    renal = clearance(case, p.int("chemistry_max_age_days"), p.int("body_max_age_days"))
    full = renal.value is not None and renal.value >= p["entecavir_full_clearance_ml_min"]
    dose = Amount(p["entecavir_mg"], "mg") if full and is_adult(case) else None
    proposals = (
        ("entecavir", dose, msg("suggest.note-dose" if dose is None else "suggest.note")),
        ("tenofovir_alafenamide", None, msg("suggest.note-dose")),
    )
    return tuple(
        Suggestion(
            drug,
            msg("suggest.antiviral", drug=Name(drug)),
            (
                Create(
                    DrugProposal(
                        drug,
                        Route.ORAL,
                        amount,
                        repeat=Repeat(every_hours=24),
                        start=case.today,
                        purpose="purpose_prophylaxis",
                        note=note,
                    )
                ),
            ),
        )
        for drug, amount, note in proposals
    )


def sars_line(case: Case) -> Line:
    """E12: PCR; positive without symptoms is an individual decision.

    A positive antigen test or COVID-19 coded as active stands for a positive PCR; a negative one for nothing.
    """
    within = days(case, case.p(RULE), "viral_load_max_age_days")
    look = newest(case, "sars_cov2_pcr", within, lambda o: o.value.result is not None)
    result = None if look.observation is None else look.observation.value.result
    if result is Result.NEGATIVE:
        return Line("E12", Status.MET, look.shown, evidence=look.evidence)
    positive, shown = look, look.shown
    if result is not Result.POSITIVE:
        positive = newest(case, "sars_cov2_ag", within, lambda o: o.value.result is Result.POSITIVE)
        shown = positive.shown
    evidence = positive.evidence
    if positive.observation is None:
        covid = [c for c in case.chart.conditions.of("covid19") if c.state is ConditionState.ACTIVE]
        if not covid:
            missing = look.missing or (Missing("sars_cov2_pcr"),)
            return Line("E12", Status.UNKNOWN, look.shown, missing=missing, tests=("sars_cov2_pcr",))
        shown, evidence = dated(Name("covid19"), covid[-1].onset), (facts.of_fact(covid[-1], "covid19"),)
    if positive.observation is not None and _without_symptoms(case, positive.observation):
        note = msg("note.sars-asymptomatic")
        return Line("E12", Status.CLINICIAN, shown, notes=(note,), evidence=evidence)
    return Line("E12", Status.NOT_MET, shown, notes=(msg("note.sars"),), evidence=evidence)


def _without_symptoms(case: Case, test: Observation) -> bool:
    own = test.component("asymptomatic")
    stated = [o.value.yes for o in case.chart.series("asymptomatic").on(test.when.date)]
    return (own is not None and bool(own.yes)) or any(stated)
