"""The step of ICANS treatment that is due, its doses and the orders that propose them.

Hayden PJ, Ann Oncol 2022;33:259, figure 3, as the handbook prints it; figures in dosing/icans.yaml.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum

from cards.finding import (
    ONCE,
    Basis,
    Create,
    DrugProposal,
    Message,
    Repeat,
    ServiceProposal,
    Shown,
    Suggestion,
    msg,
)
from cds.engine.case import Case, once_per_case
from cds.rules.after_cart import clinical_course, dosing_weight, in_icu, therapy_start
from cds.rules.body_size import is_adult
from cds.rules.dosing.crs_ladder import crs_step
from cds.rules.dosing.steroid_course import SteroidRun, Tier, methylprednisolone_course, steroid_run
from cds.rules.grading.icans_episode import IcansState, icans_at, icans_now
from fhir_mapping.chart import Amount, Route

RULE = "dosing.icans"


class Row(StrEnum):
    """Row of the treatment table."""

    G1 = "1"
    G1_EARLY = "1-early"
    G2 = "2"
    G3 = "3"
    G4 = "4"
    WORSE = "worse"  # grade 2-3 worse on its steroid: the high-dose course (a new grade 2-3 has its own row)
    ALTERNATIVES = "alternatives"  # worse on the high-dose course
    IMPROVED = "improved"


@dataclass(frozen=True, slots=True)
class Plan:
    """What the table asks for today. `tier`: steroid tier, for comparison with the CRS step."""

    row: Row
    state: IcansState
    tier: Tier
    early: bool | None  # grade 1: onset within the early window; None: cannot be judged
    run: SteroidRun | None
    crs_tier: Tier = Tier.NONE

    @property
    def grade(self) -> int:
        assert self.state.low is not None
        return self.state.low


def onset_hours(case: Case, state: IcansState) -> tuple[float, float] | None:
    """Hours from the infusion to the onset as (least, most); None where either is not on the chart."""
    infused = case.chart.course.last_infused
    if infused is None or infused.when is None or state.onset is None:
        return None
    hour = timedelta(hours=1)
    least = (state.onset.earliest - infused.when.latest) / hour
    return max(least, 0.0), (state.onset.latest - infused.when.earliest) / hour


def _early(case: Case, state: IcansState) -> bool | None:
    span = onset_hours(case, state)
    limit = float(case.p(RULE)["early_onset_hours"])
    if span is None:
        return None
    if span[1] <= limit:
        return True
    return False if span[0] > limit else None


def _response(case: Case, state: IcansState, run: SteroidRun) -> str:
    """improved, unchanged or worse since the running steroid began."""
    start = therapy_start(case)
    assert start is not None
    begun = run.start.earliest
    word, _ = clinical_course(case, "icans", begun, case.now)
    before = icans_at(case, begun, start)
    if word in ("worse", "refractory"):
        return "worse"
    if state.low is not None and before.low is not None and before.high is not None:
        if not before.open_ended and state.low > before.high:
            return "worse"
        if state.high is not None and state.high < before.low:
            return "improved"
    return "improved" if word in ("improving", "resolved") else "unchanged"


def _milder_at(case: Case, run: SteroidRun) -> bool:
    """ICANS was of grade 1 or absent when the steroid began (given early, or for CRS)."""
    start = therapy_start(case)
    assert start is not None
    before = icans_at(case, run.start.earliest, start)
    return before.high is not None and before.high <= 1 and not before.open_ended


@once_per_case
def icans_plan(case: Case) -> Plan | None:
    """The step of an ICANS of grade 1 or more; None otherwise."""
    state = icans_now(case)
    if state is None or not state.low or state.low > 4:
        return None
    run = steroid_run(case)
    step = crs_step(case)
    crs_tier = Tier.NONE if step is None or step.tier_optional else step.tier
    response = _response(case, state, run) if run is not None and run.tier >= Tier.D10 else ""
    if run is not None and run.tier is Tier.MP and response == "worse":
        return Plan(Row.ALTERNATIVES, state, Tier.MP, None, run, crs_tier)
    if response == "improved":
        return Plan(Row.IMPROVED, state, Tier.NONE, None, run, crs_tier)
    if state.low >= 4:
        return Plan(Row.G4, state, Tier.MP, None, run, crs_tier)
    if state.low >= 2 and response == "worse" and run is not None and not _milder_at(case, run):
        return Plan(Row.WORSE, state, Tier.MP, None, run, crs_tier)
    if state.low >= 2:
        return Plan(Row.G3 if state.low == 3 else Row.G2, state, Tier.D10, None, run, crs_tier)
    early = _early(case, state)
    return Plan(Row.G1_EARLY if early else Row.G1, state, Tier.NONE, early, run, crs_tier)


# --- doses


def child_dexamethasone_mg(case: Case) -> Decimal | None:
    p = case.p(RULE)
    weight = dosing_weight(case).value
    if weight is None:
        return None
    most = p["dexamethasone_child_max_mg"]
    return min(p["dexamethasone_child_mg_per_kg"] * weight, most).quantize(Decimal("0.1"))


def child_pulse_mg(case: Case) -> Decimal | None:
    p = case.p(RULE)
    weight = dosing_weight(case).value
    if weight is None:
        return None
    return min(p["pulse_child_mg_per_kg"] * weight, p["pulse_child_max_mg"]).quantize(Decimal("0.1"))


def low_dose_mg(case: Case) -> Decimal | None:
    """Methylprednisolone 1 mg/kg, the grade 3 alternative."""
    weight = dosing_weight(case).value
    if weight is None:
        return None
    return (case.p(RULE)["methylprednisolone_mg_per_kg"] * weight).quantize(Decimal("0.1"))


def dexamethasone_mg(case: Case) -> Decimal | None:
    """One dexamethasone dose for this patient; None where weight or age is not known."""
    adult = is_adult(case)
    if adult is None:
        return None
    return case.p(RULE)["dexamethasone_mg"] if adult else child_dexamethasone_mg(case)


def _dexamethasone(case: Case, repeat: Repeat, label: str, *, recommended: bool) -> Suggestion | None:
    p = case.p(RULE)
    adult = is_adult(case)
    if adult is None:
        return None
    per = Amount(p["dexamethasone_child_mg_per_kg"], "mg/kg")
    most = Amount(p["dexamethasone_child_max_mg"], "mg")
    weight = dosing_weight(case).value
    mg = dexamethasone_mg(case)
    basis = None
    note: Message | None = None
    if not adult and weight is not None:
        basis = Basis(per, Amount(weight, "kg"), most)
    if mg is None:
        note = Message("note.per-kg", {"per_kg": per, "maximum": most}, RULE)
        shown_label = msg("suggest.dexamethasone-no-weight")
    else:
        values: dict[str, Shown] = {"dose": Amount(mg, "mg")}
        if repeat.every_hours is not None:
            values["every"] = repeat.every_hours
        if repeat.days is not None:
            values["days"] = repeat.days
        if repeat.count is not None:
            values["count"] = repeat.count
        shown_label = Message(label, values)
    proposal = DrugProposal(
        "dexamethasone",
        Route.INTRAVENOUS,
        None if mg is None else Amount(mg, "mg"),
        basis,
        repeat,
        case.now,
        reason="icans",
        note=note,
    )
    return Suggestion("dexamethasone", shown_label, (Create(proposal),), recommended)


def _low_dose(case: Case) -> Suggestion | None:
    p = case.p(RULE)
    mg, weight = low_dose_mg(case), dosing_weight(case).value
    if mg is None or weight is None:
        return None
    proposal = DrugProposal(
        "methylprednisolone",
        Route.INTRAVENOUS,
        Amount(mg, "mg"),
        Basis(Amount(p["methylprednisolone_mg_per_kg"], "mg/kg"), Amount(weight, "kg")),
        Repeat(every_hours=p["methylprednisolone_interval_hours"], days=p.int("tier_max_days")),
        case.now,
        reason="icans",
    )
    every = p["methylprednisolone_interval_hours"]
    label = msg("suggest.methylprednisolone-low", dose=Amount(mg, "mg"), every=every)
    return Suggestion("methylprednisolone-low", label, (Create(proposal),))


def _pulse(case: Case) -> Suggestion | None:
    adult = is_adult(case)
    if adult:
        return methylprednisolone_course(case, reason="icans", recommended=True)
    mg, weight = child_pulse_mg(case), dosing_weight(case).value
    if adult is None or mg is None or weight is None:
        return None
    p = case.p(RULE)
    proposal = DrugProposal(
        "methylprednisolone",
        Route.INTRAVENOUS,
        Amount(mg, "mg"),
        Basis(
            Amount(p["pulse_child_mg_per_kg"], "mg/kg"),
            Amount(weight, "kg"),
            Amount(p["pulse_child_max_mg"], "mg"),
        ),
        Repeat(every_hours=24, days=p.int("pulse_days")),
        case.now,
        reason="icans",
        note=Message("note.child-taper", {}, RULE),
    )
    label = msg("suggest.pulse-child", dose=Amount(mg, "mg"), days=p.int("pulse_days"))
    return Suggestion("methylprednisolone", label, (Create(proposal),), True)


def suggestions(case: Case, plan: Plan) -> tuple[Suggestion, ...]:
    p = case.p(RULE)
    found: list[Suggestion | None] = []
    running = plan.run.tier if plan.run is not None else Tier.NONE
    higher_for_crs = plan.crs_tier > plan.tier
    if plan.row is Row.G1_EARLY and running < Tier.D10:
        repeat = Repeat(count=p.int("early_doses"), every_hours=p["early_interval_hours"])
        found.append(_dexamethasone(case, repeat, "suggest.dexamethasone-early", recommended=False))
    elif plan.row is Row.G2 and running < Tier.D10 and not higher_for_crs:
        found.append(_dexamethasone(case, ONCE, "suggest.dexamethasone-once", recommended=True))
    elif plan.row is Row.G3 and running < Tier.D10 and not higher_for_crs:
        repeat = Repeat(every_hours=p["repeat_interval_hours"], days=p.int("tier_max_days"))
        found.append(_dexamethasone(case, repeat, "suggest.dexamethasone-q6h", recommended=True))
        found.append(_low_dose(case))
    elif plan.row in (Row.G4, Row.WORSE) and running < Tier.MP:
        found.append(_pulse(case))
    if plan.grade >= 3 and in_icu(case) is not True:
        transfer = ServiceProposal("icu_transfer", reason="icans")
        found.append(Suggestion("icu-transfer", msg("suggest.icu"), (Create(transfer),)))
    return tuple(s for s in found if s is not None)
