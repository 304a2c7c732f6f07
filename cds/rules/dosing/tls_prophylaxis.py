"""Prophylaxis of tumour lysis by tier and G6PD status (BCSH 2015)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, time, timedelta

from cards.finding import (
    Block,
    Bullet,
    Evidence,
    Finding,
    Indicator,
    Message,
    Missing,
    Outcome,
    Paragraph,
    Suggestion,
    msg,
)
from cds.engine.case import Case
from cds.engine.rule import rule
from cds.rules.after_cart import dosing_weight
from cds.rules.body_size import is_adult
from cds.rules.dosing.tls_drugs import (
    INHIBITORS,
    PURINES,
    allopurinol,
    days_ago,
    febuxostat,
    given_since,
    hla_b5801,
    in_force,
    methaemoglobinaemia,
    order_g6pd,
    rasburicase_excluded,
    rasburicase_once,
    rasburicase_once_mg,
)
from cds.rules.evidence import of_drug_start, of_observation
from cds.rules.g6pd import G6pd, g6pd_state
from cds.rules.grading.tls_risk import (
    Tier,
    above_uln,
    bulk,
    in_risk_window,
    ldc_drafts,
    ldc_start,
    tls_risk,
)
from cds.rules.grading.tls_state import tls_state
from fhir_mapping.chart import Amount, DrugRecord, all_of

RULE = "dosing.tls-prophylaxis"


def _start(case: Case) -> datetime:
    """Doses count from the day before lymphodepletion (of the infusion where there is none)."""
    begun = ldc_start(case)
    if begun is None:
        day0 = case.chart.course.day0_any or case.today
        begun = datetime.combine(day0, time(), case.now.tzinfo)
    return begun - timedelta(days=1)


def _hydration(case: Case) -> tuple[Evidence, ...]:
    """Hydration on the chart: said to be adequate, or intravenous fluid running or ordered."""
    since = days_ago(case, case.p(RULE)["fluid_lookback_hours"])
    stated = case.chart.series("hydration_adequate").latest(case.now, case.now - since)
    if stated is not None and stated.value.yes:
        return (of_observation(stated),)
    fluids = ("sodium_chloride", "crystalloid")
    found = (*in_force(case, *fluids), *given_since(case, since, *fluids))
    orders = [s for s in case.chart.services.of("iv_fluids") if s.state.value in ("active", "draft")]
    return (
        *(of_drug_start(d) for d in found),
        *(Evidence(s.reference, "iv_fluids", effective=s.when) for s in orders),
        *(of_drug_start(d) for d in case.chart.drafts.drugs.of(*fluids)),
    )


def _inhibitors(case: Case) -> tuple[DrugRecord, ...]:
    return (*in_force(case, *INHIBITORS), *case.chart.drafts.drugs.of(*INHIBITORS))


def _rasburicase(case: Case) -> tuple[DrugRecord, ...]:
    given = given_since(case, _start(case), "rasburicase")
    return (*given, *in_force(case, "rasburicase"), *case.chart.drafts.drugs.of("rasburicase"))


# --- plans


def _plan(case: Case) -> tuple[str, tuple[Suggestion, ...], bool]:
    """Row of the table, its orders, and whether its measure is on the chart."""
    tier, g6pd = tls_risk(case).tier, g6pd_state(case)
    by_inhibitor = tuple(s for s in (allopurinol(case, recommended=True), febuxostat(case)) if s is not None)
    if tier is not Tier.HIGH:
        present = bool(_inhibitors(case)) or bool(_rasburicase(case)) or bool(_hydration(case))
        return "intermediate", () if present else by_inhibitor, present
    if g6pd in (G6pd.DEFICIENT, G6pd.INTERMEDIATE) or rasburicase_excluded(case):
        present = bool(_inhibitors(case))
        return "high-deficient", () if present else by_inhibitor, present
    present = bool(_rasburicase(case))
    if g6pd is G6pd.NORMAL:
        once = rasburicase_once(case, recommended=True)
        return "high-normal", () if present or once is None else (once,), present
    once = rasburicase_once(case, recommended=False)
    found = (order_g6pd(RULE, recommended=True), *((once,) if once is not None else ()))
    return "high-unknown", () if present else found, present


def _course_day(case: Case) -> int | None:
    """Day of the running allopurinol or febuxostat; None where none runs."""
    running = in_force(case, *INHIBITORS)
    if not running:
        return None
    drugs = {i for d in running for i in d.ingredients if i in INHIBITORS}
    firsts = [
        d.timing.first.first_date
        for d in (*running, *given_since(case, _start(case) - timedelta(days=7), *drugs))
        if d.timing.first is not None
    ]
    return (case.today - min(firsts)).days + 1 if firsts else None


def _settled(case: Case) -> bool | None:
    """The risk has passed: uric acid below the limit, LDH not raised, no bulk. None: cannot be told."""
    p = case.p(RULE)
    uric = case.chart.series("uric_acid").latest(case.now, timedelta(days=3))
    quantity = None if uric is None else uric.value.quantity
    ldh = case.chart.series("ldh").latest(case.now, timedelta(days=7))
    raised = above_uln(ldh)
    answers = [
        None if quantity is None else quantity.below(p["uric_acid_settled_mg_dl"]),
        None if raised is None else not raised,
    ]
    return False if bulk(case).present else all_of(answers)


# --- the rule


@rule(RULE)
def advise_prophylaxis(case: Case) -> Iterator[Finding]:
    """On orders of lymphodepletion, and on patient-view from its start to day 7."""
    present = tls_state(case)
    if present is not None and present.syndrome:
        return  # treatment, not prophylaxis
    if case.ordering:
        drafts = ldc_drafts(case)
        if drafts and in_risk_window(case):
            yield _finding(case, drafts[0].reference)
        return
    begun = ldc_start(case)
    if not in_risk_window(case) or begun is None or begun > case.now:
        return
    day = _course_day(case)
    if day is not None and tls_risk(case).tier is not Tier.HIGH:
        yield _running(case, day)
    else:
        yield _finding(case, "")


def _finding(case: Case, reference: str) -> Finding:
    row, suggestions, present = _plan(case)
    risk = tls_risk(case)
    missing = list(risk.missing) if risk.tier is Tier.AT_LEAST_INTERMEDIATE else []
    if row == "high-unknown":
        missing.append(Missing("g6pd"))
    if row in ("high-normal", "high-unknown"):
        if is_adult(case) is None:
            missing.append(Missing("birth_date"))
        elif not is_adult(case):
            missing += dosing_weight(case).missing
    indicator: Indicator | None = Indicator.WARNING
    if present:
        indicator = None if case.ordering else Indicator.INFO
    values: dict[str, str | int | bool] = {
        "row": row,
        "tier": risk.tier.value,
        "g6pd": g6pd_state(case).value,
        "present": present,
    }
    mg = rasburicase_once_mg(case)
    extra = {"dose_mg": mg} if mg is not None and row in ("high-normal", "high-unknown") else {}
    return Finding(
        rule=RULE,
        outcome=Outcome.DONE if present else Outcome.ADVISE,
        indicator=indicator,
        summary=msg("summary.present" if present else f"summary.{row}"),
        subject=reference,
        detail=tuple(_detail(case, row)),
        values={**values, **extra},
        evidence=(
            *risk.evidence,
            *(of_drug_start(d) for d in (*_inhibitors(case), *_rasburicase(case))),
            *_hydration(case),
            *dosing_weight(case).evidence,
        ),
        missing=tuple(dict.fromkeys(missing)),
        resource=reference,
        suggestions=suggestions,
    )


def _row(case: Case, row: str) -> Message:
    p = case.p(RULE)
    if row == "intermediate":
        return msg("row.intermediate", days=p.int("allopurinol_days"))
    if row == "high-normal":
        adult, child = p["rasburicase_adult_mg"], p["rasburicase_child_mg_per_kg"]
        return msg("row.high-normal", adult=Amount(adult, "mg"), child=Amount(child, "mg/kg"))
    return msg(f"row.{row}")


def _detail(case: Case, row: str) -> Iterator[Block]:
    p = case.p(RULE)
    yield Paragraph(_row(case, row))
    yield Bullet(msg("hydration"))
    mg = rasburicase_once_mg(case)
    if (
        row.startswith("high-")
        and is_adult(case) is False
        and mg is not None
        and mg > p["rasburicase_adult_mg"]
    ):
        yield Bullet(msg("child-above-adult", adult=Amount(p["rasburicase_adult_mg"], "mg")))
    if hla_b5801(case):
        yield Bullet(msg("block.hla"))
    if in_force(case, *PURINES):
        yield Bullet(msg("block.purines"))
    if methaemoglobinaemia(case):
        yield Bullet(msg("block.methaemoglobinaemia"))
    if case.chart.allergy_to("rasburicase"):
        yield Bullet(msg("block.reaction"))
    if tls_risk(case).tier is Tier.AT_LEAST_INTERMEDIATE:
        yield Bullet(msg("high-not-excluded"))
    yield Bullet(msg("no-alkali"))


def _running(case: Case, day: int) -> Finding:
    """Allopurinol or febuxostat runs: its day, and whether it may stop."""
    p = case.p(RULE)
    settled = _settled(case)
    due = day >= p["allopurinol_days"]
    if due and settled:
        outcome, key = Outcome.MAY_STOP, "summary.may-stop"
    elif due:
        outcome, key = Outcome.CONTINUE, "summary.continue"
    else:
        outcome, key = Outcome.DONE, "summary.present"
    running = in_force(case, *INHIBITORS)
    return Finding(
        rule=RULE,
        outcome=outcome,
        indicator=Indicator.INFO,
        summary=msg(key) if key == "summary.present" else msg(key, day=day),
        detail=(
            Paragraph(msg("running", day=day, days=p.int("allopurinol_days"))),
            *_detail(case, "intermediate"),
        ),
        values={"row": "intermediate", "course_day": day, "present": True},
        evidence=tuple(of_drug_start(d) for d in running),
    )
