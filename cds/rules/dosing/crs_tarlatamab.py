"""What to do about CRS after tarlatamab, by grade, during or after the infusion."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from cards.finding import (
    ONCE,
    Block,
    Bullet,
    Create,
    DrugProposal,
    Finding,
    Indicator,
    Missing,
    Outcome,
    Repeat,
    Scalar,
    Selection,
    ServiceProposal,
    Suggestion,
    msg,
)
from cds.engine.case import Case
from cds.engine.rule import Hook, rule
from cds.rules.after_cart import in_icu
from cds.rules.bispecific.history import Kind
from cds.rules.bispecific.tarlatamab import exposures, tarlatamab_events
from cds.rules.bispecific.toxicity import crs_history, tarlatamab_view
from cds.rules.dosing.tocilizumab import may_give_now, tocilizumab_dose
from cds.rules.dosing.tocilizumab import suggestion as tocilizumab
from cds.rules.grading.crs_tarlatamab import TarlatamabCrs, tarlatamab_crs
from cds.rules.grading.fever import hours
from fhir_mapping.chart import Amount, Route

RULE = "dosing.crs-tarlatamab"


@rule(RULE)
def crs_management(case: Case) -> Iterator[Finding]:
    found = tarlatamab_crs(case)
    if not exposures(case) or case.chart.patient.deceased:
        return  # doses and holds are those of tarlatamab
    if found is None or found.outside or found.grade is None or found.grade < 1:
        return
    references = [""]
    if case.hook is Hook.ORDER_SELECT:
        references = [d.reference for d in case.judged_drugs("tocilizumab", "class_glucocorticoids")]
    for reference in references:
        yield _advice(case, found, found.grade, reference)


def _running(case: Case) -> bool:
    """The infusion of the latest day runs; an older one is a record that nobody closed."""
    given = exposures(case)
    return any(e.kind is Kind.RUNNING and e.day == given[-1].day for e in given)


def _end_unknown(case: Case) -> bool:
    last = exposures(case)[-1]
    return last.kind is not Kind.RUNNING and last.end is None


def _recurred(case: Case) -> bool:
    """An interrupted and restarted infusion: a stopped and a running record on one day."""
    days = {e.day for e in tarlatamab_events(case) if e.kind is Kind.INCOMPLETE}
    return any(e.kind is Kind.RUNNING and e.day in days for e in exposures(case))


def _persistent(case: Case, found: TarlatamabCrs) -> bool | None:
    """Longer than the limit since onset; None where the onset knows no hour."""
    if found.onset is None or not found.onset.exact:
        return None
    return case.now - found.onset.earliest > hours(case.p(RULE)["persist_hours"])


def _advice(case: Case, found: TarlatamabCrs, grade: int, reference: str) -> Finding:
    during = _running(case)
    blocks: list[Block] = []
    column = "during" if during else "after"
    if during or _end_unknown(case):
        key = "during.1-recurred" if grade == 1 and _recurred(case) else f"during.{grade}"
        blocks.append(Bullet(msg(key)))
        column = "during" if during else "both"
    late = _persistent(case, found) if grade == 1 else None
    if not during or grade > 1:
        blocks.append(Bullet(msg(f"after.{grade}")))
    if late:
        blocks.append(Bullet(msg("after.1-late", hours=case.p(RULE).int("persist_hours"))))
    elif grade == 1 and late is None:
        blocks.append(Bullet(msg("onset-unknown", hours=case.p(RULE).int("persist_hours"))))
    history = crs_history(case)
    stopped = history is not None and history.ever >= 4
    if grade < 4:
        blocks.append(Bullet(msg("stopped-before" if stopped else "hold")))
    if grade >= 3:
        blocks.append(Bullet(msg("dose-source")))
    infected = bool(found.state.infections)
    if infected:
        blocks.append(Bullet(msg("serious-infection")))
    optional = grade == 2 or bool(late)
    suggestions, missing, doses = _orders(case, grade, bool(late), infected, blocks)
    stop = grade >= 4 or stopped
    values: dict[str, Scalar] = {
        "row": f"G{grade}",
        "column": column,
        "steroid": "consider" if late else grade >= 2,
        "tocilizumab": "advise" if grade >= 3 else "consider" if optional else "no",
        "tarlatamab": "stop" if stop else "hold",
        **doses,
    }
    if found.onset is not None and found.onset.exact:
        values["hours_since_onset"] = round((case.now - found.onset.earliest) / timedelta(hours=1))
    outcome = Outcome.STOP if stop else Outcome.ADVISE if grade >= 2 else Outcome.CONSIDER
    key = "stop" if grade >= 4 else "advise-stopped" if stop else "advise"
    return Finding(
        rule=RULE,
        outcome=outcome,
        indicator=Indicator.CRITICAL if grade >= 3 else Indicator.WARNING,
        summary=msg(f"summary.{key}", grade=grade),
        subject=reference,
        detail=tuple(blocks),
        grade=grade,
        values=values,
        missing=missing,
        resource=reference,
        suggestions=suggestions,
        selection=Selection.ANY,
    )


def _orders(
    case: Case, grade: int, late: bool, infected: bool, blocks: list[Block]
) -> tuple[tuple[Suggestion, ...], tuple[Missing, ...], dict[str, Scalar]]:
    """Suggested orders, what a dose lacks, and the doses in mg."""
    view = tarlatamab_view(case)
    assert view is not None
    p = case.p(RULE)
    found: list[Suggestion] = []
    missing: tuple[Missing, ...] = ()
    doses: dict[str, Scalar] = {}
    if grade >= 2 or late:
        dose = tocilizumab_dose(view)
        if dose.mg is None:
            missing = dose.missing
            blocks.append(Bullet(msg("no-weight")))
        elif not may_give_now(view):
            blocks.append(Bullet(msg("toci-limit")))
        else:
            wanted = grade >= 3 and not infected
            minutes = p.int("tocilizumab_minutes")
            found.append(tocilizumab(view, recommended=wanted, infusion_minutes=minutes))
            doses["tocilizumab_mg"] = dose.mg
    if grade >= 2:
        mg = Amount(p[f"dexamethasone_g{min(grade, 4)}_mg"], "mg")
        doses["dexamethasone_mg"] = mg.value
        if grade == 2:
            repeat, label = ONCE, msg("suggest.dexamethasone", dose=mg)
        else:
            repeat = Repeat(every_hours=p.int("interval_hours"), days=p.int("course_days"))
            label = msg("suggest.dexamethasone-q6h", dose=mg)
        order = DrugProposal("dexamethasone", Route.INTRAVENOUS, mg, repeat=repeat, reason="crs")
        found.append(Suggestion("dexamethasone", label, (Create(order),)))
    if grade >= 3 and in_icu(case) is not True:
        found.append(
            Suggestion("icu", msg("suggest.icu"), (Create(ServiceProposal("icu_transfer", reason="crs")),))
        )
    return tuple(found), missing, doses
