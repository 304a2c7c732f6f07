"""Hepatitis B prophylaxis around CAR-T cells (section 3.2.1): who needs it, and for how long at least."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from cards.finding import (
    Block,
    Bullet,
    Create,
    DrugProposal,
    Evidence,
    Finding,
    Indicator,
    Items,
    Message,
    Missing,
    Name,
    Outcome,
    Paragraph,
    Repeat,
    Scalar,
    ServiceProposal,
    Suggestion,
    msg,
)
from cds.engine.case import Case
from cds.engine.parameters import Parameters
from cds.engine.rule import rule
from cds.rules import evidence
from cds.rules.follow_up.prophylaxis import (
    DrugUse,
    Use,
    begun,
    drug_use,
    orders_unread,
    replaced,
    start_evidence,
)
from cds.rules.vaccination.eligibility import drug_names
from fhir_mapping.chart import (
    ConditionState,
    Drafts,
    DrugRecord,
    DrugState,
    Observation,
    Result,
    Route,
    add_months,
)

RULE = "follow-up.prophylaxis-hbv"
DRUGS = ("entecavir", "tenofovir", "tenofovir_disoproxil", "tenofovir_alafenamide")
OTHERS = ("lamivudine",)
_CELLS = frozenset({"class_cell_gene_therapy", "car_t_infusion"})
_LDC = "purpose_lymphodepletion"
_IMMUNOGLOBULINS = ("ivig", "subcutaneous_immunoglobulin", "hyperimmune_globulin", "class_immunoglobulins")


@dataclass(frozen=True, slots=True)
class Serology:
    """Newest results. None: not tested, or indeterminate and to be repeated."""

    hbsag: bool | None
    anti_hbc: bool | None
    dna: bool | None  # detected
    history: bool  # hepatitis B coded
    passive: date | None  # anti-HBc may be passive: immunoglobulin given on this day before the sample
    evidence: tuple[Evidence, ...]
    repeat: tuple[str, ...] = ()  # tests whose newest result is indeterminate

    @property
    def positive(self) -> bool:
        return self.hbsag is True or self.anti_hbc is True or self.history

    @property
    def open(self) -> tuple[str, ...]:
        """Tests without a usable result."""
        names = (("hbsag", self.hbsag), ("anti_hbc", self.anti_hbc))
        return tuple(concept for concept, result in names if result is None)


def _answer(observation: Observation | None) -> bool | None:
    if observation is None:
        return None
    if observation.value.detected_below_limit or observation.value.result is Result.POSITIVE:
        return True
    return False if observation.value.result is Result.NEGATIVE else None


def _newest(case: Case, concept: str) -> Observation | None:
    """The newest result; one that was asked for and not performed hides none before it."""
    return case.chart.series(concept).latest(case.now, None, lambda o: not o.value.empty)


def _dna(case: Case) -> Observation | None:
    found = [o for c in ("hbv_dna", "hbv_dna_log", "hbv_dna_qual") if (o := _newest(case, c)) is not None]
    return max(found, key=lambda o: o.when.latest, default=None)


def _dna_answer(observation: Observation | None) -> bool | None:
    told = _answer(observation)
    if told is not None or observation is None or observation.value.quantity is None:
        return told
    return observation.value.quantity.above(0)


def serology(case: Case) -> Serology:
    hbsag, anti_hbc, dna = _newest(case, "hbsag"), _newest(case, "anti_hbc"), _dna(case)
    coded = [
        c
        for c in case.chart.conditions.of("hbv")
        if c.state in (ConditionState.ACTIVE, ConditionState.HISTORY)
    ]
    shown = [evidence.of_observation(o) for o in (hbsag, anti_hbc, dna) if o is not None]
    shown += [evidence.of_fact(c, "hbv") for c in coded]
    passive = _passive(case, anti_hbc) if anti_hbc is not None and _answer(anti_hbc) is True else None
    newest = {"hbsag": hbsag, "anti_hbc": anti_hbc}
    repeat = tuple(c for c, o in newest.items() if o is not None and o.value.result is Result.INDETERMINATE)
    return Serology(
        _answer(hbsag), _answer(anti_hbc), _dna_answer(dna), bool(coded), passive, tuple(shown), repeat
    )


def _passive(case: Case, sample: Observation) -> date | None:
    """Last immunoglobulin before the sample, given recently enough to be found in it (chart-facts M20)."""
    given = [d.timing.last or d.timing.first for d in case.chart.drugs.of(*_IMMUNOGLOBULINS) if d.given]
    given += [v.when for v in case.chart.vaccines.of(*_IMMUNOGLOBULINS)]
    months = case.p(RULE).int("passive_months")
    days = [moment.date for moment in given if moment is not None and moment.date <= sample.when.date]
    last = max(days, default=None)
    return last if last is not None and add_months(last, months) >= sample.when.date else None


def _concerns(drafts: Drafts, _: Parameters) -> bool:
    return any(_own(d) or _therapy(d) for d in drafts.drugs.all) or bool(
        drafts.services.of("car_t_infusion", "lymphodepletion")
    )


def _own(draft: DrugRecord) -> bool:
    return draft.is_any(frozenset((*DRUGS, *OTHERS)))


def _therapy(draft: DrugRecord) -> bool:
    """An order of the cells or of lymphodepletion: the moment at which the serology must be known."""
    return draft.is_any(_CELLS) or _LDC in draft.purposes


@rule(RULE, concerns=_concerns)
def hbv_prophylaxis(case: Case) -> Iterator[Finding]:
    """State of the prophylaxis; on order-sign its own drafts, the cells and lymphodepletion."""
    course = case.chart.course
    if case.chart.patient.deceased or not (course.candidate or begun(case)):
        return
    if case.ordering:
        yield from _orders(case)
        return
    finding = _state(case)
    if finding is not None:
        yield finding


def _floor(case: Case) -> date | None:
    """Last day of the least duration; None while no day of infusion is planned or known."""
    day0 = case.chart.course.day0_any
    return None if day0 is None else add_months(day0, _months(case))


def _months(case: Case) -> int:
    return case.p(RULE).int("months")


def _state(case: Case, resource: str = "") -> Finding | None:
    found = serology(case)
    floor = _floor(case)
    over = floor is not None and case.today > floor
    use, other = drug_use(case, *DRUGS), drug_use(case, *OTHERS)
    outcome: Outcome
    indicator = Indicator.WARNING
    if use.use is Use.ACTIVE or other.use is Use.ACTIVE:
        indicator = Indicator.INFO
        if use.use is not Use.ACTIVE:
            outcome, row = Outcome.ASK, "other-drug"
            summary = msg("summary.other-drug", drugs=drug_names(other.active))
        elif over and floor is not None:
            outcome, row, summary = Outcome.CONTINUE, "minimum-reached", msg("summary.minimum", floor=floor)
        elif floor is not None:
            outcome, row, summary = Outcome.CONTINUE, "active", msg("summary.active", floor=floor)
        else:
            outcome, row, summary = (
                Outcome.CONTINUE,
                "active",
                msg("summary.active-undated", months=_months(case)),
            )
        if resource or not (found.positive or found.open or use.use is Use.ACTIVE):
            return None
    elif over:
        return None
    elif found.positive:
        outcome = Outcome.START
        if found.hbsag is True and found.dna is True:
            indicator = Indicator.CRITICAL
        if use.use is Use.STOPPED and begun(case):
            row, summary = "stopped", _stopped(case, use)
        else:
            row, summary = "needed", msg(f"summary.{_kind(found)}")
    elif found.open:
        course = case.chart.course
        after = course.infused is not None or course.infused_date_unknown
        key = "summary.not-tested-after" if after else "summary.not-tested"
        outcome, row, summary = Outcome.DUE, "not-tested", msg(key)
        if found.repeat == found.open:
            summary = msg("summary.repeat", tests=Items(tuple(map(Name, found.repeat))))
    else:
        return None
    if outcome is Outcome.START and not resource:
        lost = orders_unread(case, RULE, "entecavir", use.use)
        if lost is not None:
            return lost
    missing = _missing(found)
    values: dict[str, Scalar] = {"row": row}
    if floor is not None:
        values["at_least_until"] = floor
    return Finding(
        rule=RULE,
        outcome=outcome,
        indicator=indicator,
        summary=summary,
        subject=resource,
        resource=resource,
        detail=_notes(case, found),
        values=values,
        evidence=(*start_evidence(case), *found.evidence, *use.evidence, *other.evidence),
        missing=missing,
        suggestions=_buttons(case, outcome, missing),
        unconcluded=outcome is Outcome.DUE and bool(resource),
    )


def _stopped(case: Case, use: DrugUse) -> Message:
    months = _months(case)
    if use.last is None:
        return msg("summary.stopped", months=months)
    return msg("summary.stopped-on", last=use.last, months=months)


def _kind(found: Serology) -> str:
    if found.hbsag is True:
        return "needed-viraemic" if found.dna is True else "needed-hbsag"
    return "needed-anti-hbc" if found.anti_hbc is True else "needed-history"


def _missing(found: Serology) -> tuple[Missing, ...]:
    if not found.positive:
        return tuple(Missing(concept) for concept in found.open)
    return (Missing("hbv_dna"),) if found.hbsag is True and found.dna is None else ()


def _notes(case: Case, found: Serology) -> tuple[Block, ...]:
    notes: list[Block] = [Paragraph(msg("detail.rule", months=_months(case)))]
    if found.passive is not None:
        notes.append(Bullet(msg("detail.passive", day=found.passive)))
    return tuple(notes)


def _buttons(case: Case, outcome: Outcome, missing: tuple[Missing, ...]) -> tuple[Suggestion, ...]:
    result: list[Suggestion] = []
    if outcome is Outcome.START:
        for drug in ("entecavir", "tenofovir_alafenamide"):
            proposal = DrugProposal(
                drug,
                Route.ORAL,
                repeat=Repeat(every_hours=24),
                start=case.today,
                purpose="purpose_prophylaxis",
                note=msg("suggest.label-dose"),
            )
            result.append(Suggestion(drug, msg("suggest.drug", drug=Name(drug)), (Create(proposal),)))
    tests = tuple(Create(ServiceProposal(m.concept)) for m in missing)
    if tests:
        result.append(Suggestion("tests", msg("suggest.tests"), tests, recommended=outcome is Outcome.DUE))
    return tuple(result)


def _orders(case: Case) -> Iterator[Finding]:
    floor = _floor(case)
    drafts = case.judged_drugs()
    ending = () if replaced(case, *DRUGS) else case.ending_drugs(*DRUGS, *OTHERS)
    for draft in ending:
        over = floor is not None and case.today > floor
        yield Finding(
            rule=RULE,
            outcome=Outcome.REVIEW,
            indicator=Indicator.INFO if over else Indicator.WARNING,
            summary=msg("summary.stop-late") if over else _stop_early(case, floor),
            subject=draft.reference,
            resource=draft.reference,
            detail=_notes(case, serology(case)),
            values={"row": "stop-order", **({} if floor is None else {"at_least_until": floor})},
            evidence=(*start_evidence(case), evidence.of_drug(draft), *serology(case).evidence),
        )
    if any(_own(d) and d.state is DrugState.DRAFT for d in case.chart.drafts.drugs.all):
        return
    therapy = next((d.reference for d in drafts if _therapy(d)), "")
    if not therapy:
        services = case.judged_services("car_t_infusion", "lymphodepletion")
        therapy = services[0].reference if services else ""
    if therapy:
        finding = _state(case, therapy)
        if finding is not None:
            yield finding


def _stop_early(case: Case, floor: date | None) -> Message:
    if floor is None:
        return msg("summary.stop-undated", months=_months(case))
    return msg("summary.stop-early", floor=floor)
