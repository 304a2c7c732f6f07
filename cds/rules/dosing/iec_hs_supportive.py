"""Supportive care in IEC-HS: blood products, vitamin K, growth factors, infections (Hines MR 2023, table 4).

Bleeding that is not documented either way is treated by the limits without bleeding; the others are shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
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
from cds.rules.dosing.gcsf import course_evidence, gcsf_course, neutrophils
from cds.rules.dosing.steroid_course import steroid_in_force
from cds.rules.evidence import of_drug_start, of_observation, shown
from cds.rules.grading.iec_hs_episode import IecHsState, Status, bleeding_now, iec_hs_drugs, iec_hs_now
from fhir_mapping.chart import Amount, LossReason, Observation, Quantity

RULE = "dosing.iec-hs-supportive"
LABS = ("hemoglobin", "platelets", "fibrinogen", "inr")
_PRODUCTS = {
    "hb": ("red_cells_irradiated",),
    "platelets": ("platelets_irradiated",),
    "fibrinogen": ("cryoprecipitate",),
    "inr-plasma": ("plasma_product", "cryoprecipitate"),
}


@dataclass(frozen=True, slots=True)
class Action:
    """One row of the table that is due; `row` is a catalogue key `act.*`."""

    row: str
    value: Quantity | None
    evidence: tuple[Evidence, ...]


def _newest(case: Case, concept: str) -> Observation | None:
    within = timedelta(hours=case.p(RULE).int("max_age_hours"))
    return case.chart.series(concept).latest(case.now, within, lambda o: o.value.quantity is not None)


def _rows(
    case: Case, concept: str, quantity: Quantity, bleeding: bool
) -> tuple[tuple[str, bool | None], ...]:
    """The rows that a value answers, each with its answer; None where a bound ("<8") leaves it open."""
    p = case.p(RULE)
    if concept == "hemoglobin":
        return (("hb", quantity.at_most(p["hemoglobin_g_dl"])),)
    if concept == "platelets":
        return (("platelets", quantity.below(p["platelets_bleeding"]) if bleeding else False),)
    if concept == "fibrinogen":
        limit = p["fibrinogen_bleeding_mg_dl"] if bleeding else p["fibrinogen_mg_dl"]
        return (("fibrinogen", quantity.at_most(limit)),)
    plasma = quantity.above(p["inr_plasma"])
    vitamin_k = quantity.above(p["inr_vitamin_k"])
    return (("inr-plasma", plasma), ("inr-vitamin-k", False if plasma else vitamin_k))


def _products(case: Case) -> tuple[tuple[Action, ...], tuple[Missing, ...]]:
    """The rows that are due by the values of the last day, and the values that lack or decide nothing."""
    bleeding = bleeding_now(case).present is True
    due: list[Action] = []
    missing: list[Missing] = []
    for concept in LABS:
        found = _newest(case, concept)
        quantity = found.value.quantity if found is not None else None
        if found is None or quantity is None:
            old = case.chart.latest(concept)
            reason = LossReason.NOT_ON_CHART if old is None else LossReason.STALE
            missing.append(Missing(concept, reason, "" if old is None else old.reference))
            continue
        answers = _rows(case, concept, quantity, bleeding)
        due += [Action(row, quantity, (of_observation(found),)) for row, answer in answers if answer]
        if any(answer is None for _, answer in answers):
            missing.append(Missing(concept, LossReason.NOT_ON_CHART, found.reference))
    return tuple(due), tuple(missing)


def _warnings(case: Case, state: IecHsState) -> Iterator[Action]:
    counts = neutrophils(case)
    low = counts is not None and counts.below(case.p(RULE)["anc_due_ul"])
    if gcsf_course(case).current or low:
        facts = course_evidence(case)
        if counts is not None:
            facts = (*facts, of_observation(counts.observation))
        yield Action("gcsf", None, facts)
    agonists = case.chart.active_drugs("eltrombopag", "romiplostim")
    if agonists:
        yield Action("tpo", None, tuple(of_drug_start(d) for d in agonists))
    drugs = (*iec_hs_drugs(case, state.onset), *steroid_in_force(case))
    if drugs:
        yield Action("infection", None, tuple(dict.fromkeys(of_drug_start(d) for d in drugs)))


def _suggestions(actions: tuple[Action, ...]) -> tuple[Suggestion, ...]:
    wanted = dict.fromkeys(c for a in actions for c in _PRODUCTS.get(a.row, ()))
    found = []
    for concept in wanted:
        irradiated = ("irradiated",) if concept.endswith("_irradiated") else ()
        units = Amount(Decimal(1), "{unit}") if concept == "red_cells_irradiated" else None
        service = ServiceProposal(concept, None, units, irradiated, "iec_hs")
        found.append(Suggestion(concept.replace("_", "-"), msg(f"suggest.{concept}"), (Create(service),)))
    return tuple(found)


def _detail(case: Case, actions: tuple[Action, ...], bleeding: bool | None) -> Iterator[Block]:
    p = case.p(RULE)
    target = Amount(p["hemoglobin_g_dl"], "g/dL")
    for action in actions:
        values = {} if action.value is None else {"value": shown(action.value)}
        yield Bullet(Message(f"act.{action.row}", {**values, "target": target}))
    if not actions:
        yield Bullet(msg("nothing", hours=p.int("max_age_hours")))
    if bleeding is None:
        yield Bullet(
            msg(
                "bleeding-unknown",
                platelets=p["platelets_bleeding"],
                fibrinogen=Amount(p["fibrinogen_bleeding_mg_dl"], "mg/dL"),
            )
        )
    yield Paragraph(msg("irradiated"))


@rule(RULE)
def support(case: Case) -> Iterator[Finding]:
    """What the values of the last 24 h ask for while IEC-HS is at least probable."""
    state = iec_hs_now(case)
    if state is None or not (state.open_episode or state.status.rank >= Status.PROBABLE.rank):
        return
    products, missing = _products(case)
    actions = (*products, *_warnings(case, state))
    bleeding = bleeding_now(case)
    indicator = None
    if actions:
        indicator = Indicator.CRITICAL if bleeding.present and products else Indicator.WARNING
    words = {True: "yes", False: "no", None: "unknown"}
    yield Finding(
        rule=RULE,
        outcome=Outcome.ADVISE if actions else Outcome.CONTINUE,
        indicator=indicator,
        summary=msg("summary", count=len(actions)),
        detail=tuple(_detail(case, actions, bleeding.present)),
        values={
            "row": actions[0].row if actions else "none",
            "rows": " ".join(a.row for a in actions),
            "bleeding": words[bleeding.present],
        },
        evidence=tuple(dict.fromkeys((*bleeding.evidence, *(e for a in actions for e in a.evidence)))),
        missing=missing,
        suggestions=_suggestions(products),
        selection=Selection.ANY,
    )
