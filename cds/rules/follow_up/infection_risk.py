"""Risk factors for infection that are on the chart (section 3.2.1): a list without score or threshold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from cards.finding import (
    Bullet,
    Evidence,
    Finding,
    Indicator,
    Items,
    Message,
    Missing,
    Outcome,
    Paragraph,
    Shown,
    msg,
)
from cds.engine.case import Case
from cds.engine.rule import rule
from cds.rules import evidence
from cds.rules.after_cart import coded_episodes, recorded_grades, therapy_start
from cds.rules.follow_up.b_cell_recovery import Share, b_cells
from cds.rules.follow_up.neutropenia import current_anc
from cds.rules.grading.crs_episode import crs_applies, crs_now, worst_grade
from cds.rules.grading.icans_episode import worst_icans
from cds.rules.steroids import systemic_steroids
from cds.rules.vaccination.eligibility import drug_names, transplants
from fhir_mapping.chart import Amount

RULE = "follow-up.infection-risk"
TRANSPLANTS = ("allo_hct", "auto_hct", "hct_unspecified", "hx_stem_cell_transplant")
_TOXICITIES = frozenset({"crs", "icans"})


@dataclass(frozen=True, slots=True)
class Factor:
    """One item of the list. `present` None: the chart does not tell."""

    word: str
    present: bool | None
    text: Message
    evidence: tuple[Evidence, ...] = ()
    missing: tuple[Missing, ...] = ()


def _factor(
    word: str,
    present: bool | None,
    facts: tuple[Evidence, ...] = (),
    lacks: tuple[str, ...] = (),
    **values: Shown,
) -> Factor:
    missing = tuple(Missing(concept) for concept in lacks) if present is None else ()
    return Factor(word, present, msg(f"factor.{word}", **values), facts, missing)


def _lines(case: Case) -> Factor:
    newest = case.chart.latest("prior_lines_of_therapy")
    limit = case.p(RULE).int("prior_lines")
    more: bool | None = None
    if newest is not None and newest.value.number is not None:
        more = newest.value.number > limit
    elif newest is not None and newest.value.quantity is not None:
        more = newest.value.quantity.above(limit)
    facts = () if newest is None else (evidence.of_observation(newest),)
    return _factor("lines", more, facts, ("prior_lines_of_therapy",), limit=limit)


def _transplant(case: Case) -> Factor:
    start = case.chart.course.last_day0
    found = []
    for graft in transplants(case, *TRANSPLANTS):
        moment = getattr(graft, "start", None) or getattr(graft, "onset", None)
        if moment is None or start is None or moment.date <= start:
            concept = next(c for c in TRANSPLANTS if c in graft.concepts)
            found.append(evidence.of_fact(graft, concept))
    return _factor("transplant", bool(found), tuple(found))


def _bridging(case: Case) -> Factor:
    """Treatment that says it is bridging, before lymphodepletion or infusion."""
    wanted = ("purpose_bridging", "purpose_sequential_bridging")
    start = case.chart.course.last_day0
    found = [
        evidence.of_drug(d)
        for d in case.chart.drugs.all
        if not d.purposes.isdisjoint(wanted)
        and (d.given or d.state.value in ("completed", "active"))
        and d.timing.first is not None
        and (start is None or d.timing.first.first_date < start)
    ]
    found += [
        evidence.of_fact(p, "purpose_bridging")
        for p in case.chart.procedures.all
        if not p.purposes.isdisjoint(wanted)
        and p.state.begun
        and (p.start is None or start is None or p.start.date <= start)
    ]
    return _factor("bridging", bool(found), tuple(found))


def _worst(
    case: Case, score: str, concept: str, by_values: int | None
) -> tuple[int | None, tuple[Evidence, ...]]:
    """Worst grade since the infusion: recorded, or `by_values` of the chart where that is worse."""
    since = therapy_start(case)
    if since is None:
        return None, ()
    graded: list[tuple[int, Evidence | None]] = [] if by_values is None else [(by_values, None)]
    graded += [
        (r.grade or 0, Evidence(r.reference, score, r.grade, "", r.when))
        for r in recorded_grades(case, score, since)
    ]
    for episode in coded_episodes(case, concept, since):
        if episode.grade is not None:
            grade = episode.grade.value
            graded.append((grade, Evidence(episode.reference, concept, grade, "", episode.onset)))
    if not graded:
        return None, ()
    worst, source = max(graded, key=lambda item: item[0])
    return worst, () if source is None else (source,)


def _crs_by_values(case: Case) -> int | None:
    """Worst grade of the episode that vital signs, oxygen and vasopressors show."""
    if not crs_applies(case):
        return None
    state = crs_now(case)
    return worst_grade(case, state) if state.low is not None or state.episode is not None else None


def _ungraded(case: Case, concept: str) -> bool:
    """The toxicity is coded without its grade."""
    since = therapy_start(case)
    return since is not None and any(e.grade is None for e in coded_episodes(case, concept, since))


def _toxicity(case: Case) -> Factor:
    p = case.p(RULE)
    crs, crs_facts = _worst(case, "crs_grade", "crs", _crs_by_values(case))
    icans, icans_facts = _worst(case, "icans_grade", "icans", worst_icans(case))
    facts = (*crs_facts, *icans_facts)
    if (crs or 0) >= p["crs_grade"] or (icans or 0) >= p["icans_grade"]:
        return _factor("toxicity", True, facts, crs=crs or 0, icans=icans or 0)
    known = (("crs", "crs_grade", crs), ("icans", "icans_grade", icans))
    lacks = tuple(score for name, score, grade in known if grade is None or _ungraded(case, name))
    return _factor("toxicity", None if lacks else False, facts, lacks, crs=crs or 0, icans=icans or 0)


def _treatment(case: Case) -> Factor:
    """Tocilizumab since the infusion, or a steroid given for CRS or ICANS; a steroid of that time without a
    reason leaves it open."""
    since = therapy_start(case)
    if since is None:
        return _factor("treatment", False, drugs=Items(()))
    used = [
        d
        for d in case.chart.drugs.of("tocilizumab")
        if d.given and d.timing.first is not None and since <= d.timing.first.latest <= case.now
    ]
    last_day, unexplained = case.p("grading.crs").int("last_day"), False
    for record in systemic_steroids(case):
        first = record.timing.first
        if not (record.given or record.in_force) or first is None or first.latest < since:
            continue
        if not record.reasons.isdisjoint(_TOXICITIES):
            used.append(record)
        elif not record.reasons and not record.purposes and (first.date - since.date()).days <= last_day:
            unexplained = True
    facts = tuple(evidence.of_drug(record) for record in used)
    present = True if used else None if unexplained else False
    return _factor("treatment", present, facts, drugs=drug_names(used))


def _neutrophils(case: Case) -> Factor:
    p = case.p(RULE)
    count = current_anc(case, p.int("anc_age_days"))
    if count is None:
        return _factor("neutropenia", None, lacks=("anc",), anc="")
    low = count.per_ul.at_most(p["anc_per_ul"])
    return _factor("neutropenia", low, (count.evidence,), ("anc",), anc=evidence.shown(count.per_ul))


def _cd4(case: Case) -> Factor:
    """Low CD4 later than the given number of days after infusion."""
    p = case.p(RULE)
    newest = case.chart.series("cd4_abs").latest(
        case.now, timedelta(days=p.int("immune_age_days")), lambda o: o.value.quantity is not None
    )
    start = case.chart.course.last_day0
    if newest is None or newest.value.quantity is None or start is None:
        return _factor("cd4", None, lacks=("cd4_abs",), cd4="", days=p.int("prolonged_days"))
    late = (newest.when.date - start).days > p.int("prolonged_days")
    low = newest.value.quantity.at_most(p["cd4_per_ul"])
    present = False if not late else low
    return _factor(
        "cd4",
        present,
        (evidence.of_observation(newest),),
        ("cd4_abs",),
        cd4=evidence.shown(newest.value.quantity),
        days=p.int("prolonged_days"),
    )


def _humoral(case: Case) -> Factor:
    """Lasting B-cell aplasia together with low IgG."""
    p = case.p(RULE)
    start = case.chart.course.last_day0
    cells = b_cells(case)
    current = timedelta(days=p.int("immune_age_days"))
    igg = case.chart.series("igg").latest(case.now, current, lambda o: o.value.quantity is not None)
    sample = next((s for s in cells.samples[-1:] if case.today - s.day <= current), None)
    limit = Amount(p["igg_mg_dl"], "mg/dL")
    low = None if igg is None or igg.value.quantity is None else igg.value.quantity.at_most(limit.value)
    facts = (
        *(sample.evidence if sample is not None else ()),
        *((evidence.of_observation(igg),) if igg is not None else ()),
    )
    early = sample is not None and start is not None and (sample.day - start).days <= p.int("prolonged_days")
    aplasia: bool | None = cells.aplasia
    if cells.state is Share.UNDETERMINED or (sample is None and cells.state is not Share.RECOVERED):
        aplasia = None
    if low is False or aplasia is False or early:
        return _factor("humoral", False, facts, limit=limit)
    if low is True and aplasia:
        return _factor("humoral", True, facts, limit=limit)
    lacks = (*(("igg",) if low is None else ()), *(("cd19_abs",) if aplasia is None else ()))
    return _factor("humoral", None, facts, lacks, limit=limit)


def factors(case: Case) -> tuple[Factor, ...]:
    """Every item of the handbook's list but the cell dose, for which it gives no limit."""
    return (
        _lines(case),
        _transplant(case),
        _bridging(case),
        _toxicity(case),
        _treatment(case),
        _neutrophils(case),
        _cd4(case),
        _humoral(case),
    )


@rule(RULE)
def infection_risk(case: Case) -> Iterator[Finding]:
    """The factors present; silent where none is."""
    if case.chart.course.last_day0 is None or case.chart.patient.deceased:
        return
    found = factors(case)
    present = [f for f in found if f.present is True]
    if not present:
        return
    unknown = [f for f in found if f.present is None]
    open_items = Items(tuple(msg(f"name.{f.word}") for f in unknown))
    yield Finding(
        rule=RULE,
        outcome=Outcome.INFO,
        indicator=Indicator.INFO,
        summary=msg("summary.factors", count=len(present), all=len(found)),
        detail=(
            *(Bullet(f.text) for f in present),
            *((Paragraph(msg("detail.unknown", items=open_items)),) if unknown else ()),
            Paragraph(msg("detail.no-score")),
        ),
        values={
            "row": "factors",
            "count": len(present),
            "factors": [f.word for f in present],
            "not_known": [f.word for f in unknown],
        },
        evidence=tuple(dict.fromkeys(e for f in present for e in f.evidence)),
        missing=tuple(dict.fromkeys(m for f in unknown for m in f.missing)),
    )
