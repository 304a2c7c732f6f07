"""Treatment step of CRS by grade and response (Hayden PJ, Ann Oncol 2022;33:259)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal

from cards.finding import (
    Block,
    Bullet,
    Create,
    Evidence,
    Finding,
    Indicator,
    Message,
    Missing,
    Outcome,
    Paragraph,
    Selection,
    ServiceProposal,
    Suggestion,
    msg,
)
from cds.engine.case import Case
from cds.engine.rule import rule
from cds.rules.after_cart import in_icu
from cds.rules.body_size import is_adult
from cds.rules.dosing.crs_ladder import Node, Response, Step, crs_step, worse_by
from cds.rules.dosing.crs_steroid import icans_tier, treats_another
from cds.rules.dosing.steroid_course import (
    Tier,
    child_d10,
    dexamethasone,
    in_crs_steroids,
    methylprednisolone_course,
    steroid_in_force,
    steroid_run,
    tier_name,
)
from cds.rules.dosing.tocilizumab import (
    adult_below_limit,
    allowance,
    reported_line,
    tocilizumab_dose,
    tocilizumab_doses,
)
from cds.rules.dosing.tocilizumab import suggestion as tocilizumab_suggestion
from cds.rules.evidence import of_drug_start
from cds.rules.grading.crs_episode import Gate, crs_applies, crs_now
from fhir_mapping.chart import DrugRecord

RULE = "dosing.crs"
Value = str | int | bool | Decimal | date | datetime
_GRADE_NODES = {Node.N3A, Node.N3B, Node.N4A, Node.N4B, Node.N5}


def step_outcome(step: Step) -> Outcome:
    """The outcome word of a step."""
    if step.node is Node.IMPROVED:
        return Outcome.CONTINUE
    if step.waiting:
        return Outcome.WAIT
    return Outcome.CONSIDER if step.node is Node.N1B else Outcome.ADVISE


def _indicator(step: Step) -> Indicator:
    if step.node in _GRADE_NODES:
        return Indicator.CRITICAL
    return Indicator.INFO if step.node in (Node.N1A, Node.IMPROVED, Node.IEC_HS) else Indicator.WARNING


# --- suggestions


def step_suggestions(case: Case, step: Step) -> tuple[Suggestion, ...]:
    """Orders of the step that are due now, the first of them recommended; none where a confirmed infection
    leaves open whether this is CRS."""
    found: list[Suggestion] = []
    if step.tocilizumab:
        found.append(tocilizumab_suggestion(case, recommended=step.node is not Node.N1B))
    if not step.waiting:
        steroid = _steroid(case, step)
        if steroid is not None:
            found.append(steroid)
    intensive = step.node in _GRADE_NODES or (step.state.low == 2 and not case.facility.experienced)
    if intensive and in_icu(case) is not True:
        transfer = ServiceProposal("icu_transfer", reason="crs")
        found.append(Suggestion("icu-transfer", msg("suggest.icu"), (Create(transfer),)))
    if step.state.gate is Gate.INFECTION:
        found = [replace(suggestion, recommended=False) for suggestion in found]
    return tuple(found)


def _steroid(case: Case, step: Step) -> Suggestion | None:
    if icans_tier(case) > step.tier:
        return None  # one steroid, the higher tier: its order is on the ICANS card
    first = not step.tocilizumab and not step.tier_optional
    if step.tier is Tier.MP:
        running = step.run is not None and step.run.tier is Tier.MP
        return None if running else methylprednisolone_course(case, recommended=first)
    if step.tier in (Tier.D10, Tier.D20):
        if step.run is not None and step.run.tier >= step.tier:
            return None
        key = "dexamethasone-taper" if step.node is Node.N3B else "dexamethasone"
        return dexamethasone(case, step.tier, key, recommended=first)
    return None


# --- texts


def _detail(case: Case, step: Step) -> Iterator[Block]:
    key = f"wait.{step.node.value}" if step.waiting else f"step.{step.node.value}"
    yield Paragraph(msg(key, **_figures(case, key)))
    if step.response is Response.WORSE and step.since is not None:
        yield Bullet(msg(f"worse.{worse_by(case, step.since)}", since=step.since))
    yield from _conflicts(case, step)
    if step.time_unknown:
        unknown, waited = "time-unknown.fever", case.p(RULE).int("grade_1_persistent_hours")
        if step.index is not None:
            unknown, waited = "time-unknown.tocilizumab", case.p(RULE).int("response_check_hours")
        yield Bullet(msg(unknown, hours=waited))
    if step.next_check is not None and (step.waiting or step.node is Node.N1A):
        yield Bullet(msg("next-check", when=step.next_check))
    yield from _tocilizumab_lines(case, step)
    if step.run is not None and step.run.tier >= Tier.D10:
        name = tier_name(case, step.run.tier)
        yield Bullet(msg("running", tier=name, since=step.run.start, day=step.run.day_at(case.today)))
    if step.tier is Tier.D10 and is_adult(case) is False:
        yield Bullet(child_d10(case))
    if step.tier is not Tier.NONE and icans_tier(case) > step.tier:
        yield Bullet(msg("icans-tier", grade=step.icans or 0))
    if step.tier in (Tier.D20, Tier.MP) and is_adult(case) is not True:
        yield Bullet(msg("no-child-dose"))
    yield Paragraph(msg("always"))
    if step.node in _GRADE_NODES:
        yield Bullet(msg("icu.transfer"))
    elif step.node not in (Node.IMPROVED, Node.NEUROTOXICITY, Node.IEC_HS):
        less = step.state.low == 2 and not case.facility.experienced
        yield Bullet(msg("icu.transfer-less-experienced" if less else "icu.notify"))
    if step.tier in (Tier.D10, Tier.D20, Tier.MP) and not step.waiting:
        yield Bullet(msg("antifungal"))


def _figures(case: Case, key: str) -> dict[str, int | Decimal]:
    """The numbers of one step's text."""
    own, steroid = case.p(RULE), case.p("dosing.crs-steroid")
    days = steroid.int("tier_max_days")
    tier: dict[str, int | Decimal] = {"every": steroid.int("interval_hours"), "days": days}
    d10, d20 = steroid["d10_mg"], steroid["d20_mg"]
    steroid_check: dict[str, int | Decimal] = {"hours": own.int("steroid_check_hours")}
    check: dict[str, int | Decimal] = {"hours": own.int("response_check_hours")}
    figures: dict[str, dict[str, int | Decimal]] = {
        "step.1a": {"hours": own.int("grade_1_persistent_hours")},
        "step.1b": {"hours": own.int("grade_1_persistent_hours")},
        "step.2b": check,
        "step.2c": {"dose": d10, "doses": own.int("tocilizumab_doses_before_steroid"), **tier},
        "step.3a": {"dose": d10, **tier},
        "step.3b": {
            "dose": d20,
            "low": steroid.int("taper_min_days"),
            "high": steroid.int("taper_max_days"),
            **tier,
        },
        "step.4a": {"dose": d20, **tier},
        "step.4b": {"further": own.int("further_after_pulse")},
        "wait.2a": check,
        "wait.2b": check,
        "wait.3a": steroid_check,
        "wait.3b": {"dose": d20, "days": days},
        "wait.4a": {"dose": d20, **steroid_check},
        "wait.4b": {"hours": own.int("refractory_after_hours")},
    }
    return figures.get(key, {})


def _conflicts(case: Case, step: Step) -> Iterator[Block]:
    """Where the sources differ or the figure could not be read for certain, at the step that it concerns."""
    if step.node in (Node.N2A, Node.N2B) and step.index is not None:
        yield Bullet(
            msg(
                "conflict.interval",
                interval=case.p("dosing.crs-tocilizumab").int("min_interval_hours"),
                check=case.p(RULE).int("response_check_hours"),
            )
        )
    if step.node in (Node.N3B, Node.N4A):
        yield Bullet(msg("conflict.boxes", dose=case.p("dosing.crs-steroid")["d20_mg"]))


def _tocilizumab_lines(case: Case, step: Step) -> Iterator[Block]:
    given = tocilizumab_doses(case)
    room = allowance(case, case.now)
    if given and given[-1].timing.first is not None:
        yield Bullet(msg("tocilizumab.given", count=len(given), last=given[-1].timing.first, left=room.left))
    yield from reported_line(case)
    if not step.tocilizumab_wanted:
        if step.node is Node.N4B and step.icans:
            yield Bullet(msg("tocilizumab.icans", grade=step.icans))
        return
    if step.waiting and not given:
        yield Bullet(msg("tocilizumab.none-yet", grade=step.state.low or 0))
    if room.left == 0:
        yield Bullet(msg("tocilizumab.exhausted", count=len(given)))
    elif room.earliest is None:
        yield Bullet(msg("tocilizumab.unknown-time"))
    elif room.earliest > case.now:
        yield Bullet(msg("tocilizumab.not-before", when=room.earliest))
    elif tocilizumab_dose(case).adult_below_limit:
        yield Bullet(adult_below_limit(case))
    elif tocilizumab_dose(case).mg is None:
        p = case.p("dosing.crs-tocilizumab")
        yield Bullet(
            msg(
                "tocilizumab.no-weight",
                per_kg=p["per_kg_mg"],
                low=p["per_kg_low_weight_mg"],
                limit=p["low_weight_below_kg"],
                maximum=p["max_dose_mg"],
            )
        )


def step_values(case: Case, step: Step) -> dict[str, Value]:
    """Node, grade, response, times and doses of a step."""
    room = allowance(case, case.now)
    values: dict[str, Value] = {
        "row": step.node.value,
        "tocilizumab_given": room.given,
        "tocilizumab_left": room.left,
        "tocilizumab_advised": step.tocilizumab,
    }
    if step.state.low is not None:
        values["crs_grade"] = step.state.low
    if step.response is not None:
        values["response"] = step.response.value
    if step.response is Response.WORSE and step.since is not None:
        values["worse_by"] = worse_by(case, step.since)
    if step.next_check is not None:
        values["next_check"] = step.next_check
    if room.hours_since_last is not None:
        values["hours_since_tocilizumab"] = Decimal(str(round(room.hours_since_last, 2)))
    if step.tocilizumab_wanted and room.earliest is not None:
        values["tocilizumab_earliest"] = room.earliest
        dose = tocilizumab_dose(case)
        if dose.mg is not None:
            values["dose_mg"] = dose.mg
    if step.tier is not Tier.NONE:
        values["steroid_tier"] = max(step.tier, icans_tier(case)).name
    if step.run is not None:
        values["steroid_running"] = step.run.tier.name
        values["steroid_hours"] = Decimal(str(round(step.run.hours_at(case), 2)))
    if step.icans is not None:
        values["icans_grade"] = step.icans
    return values


def _evidence(case: Case, step: Step) -> tuple[Evidence, ...]:
    found = [of_drug_start(d) for d in tocilizumab_doses(case)]
    if step.run is not None:
        found += [of_drug_start(step.run.records[0]), of_drug_start(step.run.records[-1])]
    return tuple(dict.fromkeys((*found, *tocilizumab_dose(case).weight.evidence)))


def _missing(case: Case, step: Step) -> tuple[Missing, ...]:
    needs_weight = step.tocilizumab_wanted or (step.tier is Tier.D10 and is_adult(case) is False)
    found = list(tocilizumab_dose(case).missing) if needs_weight else []
    if step.tier in (Tier.D10, Tier.D20, Tier.MP) and is_adult(case) is None:
        found.append(Missing("birth_date"))
    return tuple(found)


# --- the rule


@rule(RULE)
def advise_crs(case: Case) -> Iterator[Finding]:
    """On patient-view the step (it rides on the grading card); on order-sign what the drafts leave out."""
    if not crs_applies(case):
        return
    step = crs_step(case)
    if case.ordering:
        if step is not None:
            yield from _on_orders(case, step)
        return
    if step is None:
        yield from _after_resolution(case)
        return
    yield Finding(
        rule=RULE,
        outcome=step_outcome(step),
        indicator=_indicator(step),
        summary=_summary(step),
        detail=tuple(_detail(case, step)),
        grade=step.state.low,
        values=step_values(case, step),
        evidence=_evidence(case, step),
        missing=_missing(case, step),
        suggestions=step_suggestions(case, step),
        selection=Selection.ANY,
    )


def _summary(step: Step) -> Message:
    return msg("summary.wait" if step.waiting else "summary.step", node=step.node.value)


def _after_resolution(case: Case) -> Iterator[Finding]:
    """CRS has resolved and a steroid still runs: taper."""
    state = crs_now(case)
    if state.gate is not Gate.RESOLVED or state.episode is None:
        return
    running = steroid_in_force(case)
    if not running or steroid_run(case) is None or treats_another(case):
        return
    yield Finding(
        rule=RULE,
        outcome=Outcome.STOP,
        indicator=Indicator.WARNING,
        summary=msg("summary.taper"),
        detail=(Paragraph(msg("step.taper")),),
        grade=0,
        values={"row": "taper"},
        evidence=tuple(of_drug_start(d) for d in running),
    )


def _drafted(case: Case, *drugs: str) -> tuple[DrugRecord, ...]:
    return case.chart.drafts.drugs.of(*drugs)


def _on_orders(case: Case, step: Step) -> Iterator[Finding]:
    """A draft of one of the step's drugs, while the other one that the step needs is neither given nor
    drafted."""
    quiet = (Node.N1A, Node.N1B, Node.NEUROTOXICITY, Node.IEC_HS, Node.IMPROVED, Node.N5)
    if step.waiting or step.node in quiet:
        return
    steroid_drafts = tuple(
        d for d in _drafted(case, "dexamethasone", "methylprednisolone") if in_crs_steroids(d)
    )
    tocilizumab_drafts = _drafted(case, "tocilizumab")
    judged = case.judged_drugs("tocilizumab", "dexamethasone", "methylprednisolone")
    for draft in judged:
        if "tocilizumab" in draft.concepts:
            needed = step.tier in (Tier.D10, Tier.D20, Tier.MP) and not step.tier_optional
            covered = bool(steroid_drafts) or (step.run is not None and step.run.tier >= step.tier)
            if not needed or covered:
                continue
            steroid = _steroid(case, step)
            yield _incomplete(case, step, draft, "summary.steroid-missing", steroid)
        elif in_crs_steroids(draft):
            never = not tocilizumab_doses(case)
            if not step.tocilizumab or tocilizumab_drafts or not never:
                continue
            yield _incomplete(case, step, draft, "summary.tocilizumab-missing", tocilizumab_suggestion(case))


def _incomplete(
    case: Case, step: Step, draft: DrugRecord, key: str, suggestion: Suggestion | None
) -> Finding:
    return Finding(
        rule=RULE,
        outcome=Outcome.REVIEW,
        indicator=Indicator.WARNING,
        summary=msg(key, grade=step.state.low or 0),
        subject=draft.reference,
        detail=tuple(_detail(case, step)),
        grade=step.state.low,
        values=step_values(case, step),
        evidence=_evidence(case, step),
        missing=_missing(case, step),
        resource=draft.reference,
        suggestions=() if suggestion is None else (suggestion,),
    )
