"""Antifungal prophylaxis (Table 15): who, which drug, how long."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from cards.finding import (
    Block,
    Bullet,
    Create,
    Days,
    DrugProposal,
    Evidence,
    Finding,
    Indicator,
    Items,
    Missing,
    Name,
    Outcome,
    Paragraph,
    Repeat,
    Scalar,
    Suggestion,
    msg,
)
from cds.engine.case import Case
from cds.engine.rule import rule
from cds.rules import evidence, steroids
from cds.rules.after_cart import (
    closings,
    coded_episodes,
    confirmed_infections,
    recorded_grade,
    therapy_start,
)
from cds.rules.follow_up.neutropenia import current_anc, days_below, score_evidence
from cds.rules.follow_up.prophylaxis import (
    Use,
    adult,
    begun,
    current_day0,
    drug_use,
    for_treatment,
    orders_unread,
    start_evidence,
)
from cds.rules.grading.car_hematotox import Group, risk_group
from cds.rules.grading.crs_episode import crs_now
from cds.rules.grading.icans_episode import icans_now
from cds.rules.vaccination.eligibility import drug_names, transplants
from fhir_mapping.chart import (
    Amount,
    ConditionState,
    DrugRecord,
    DrugSource,
    Route,
    add_months,
    reaches_the_body,
)

RULE = "follow-up.prophylaxis-antifungal"
ANTIFUNGALS = ("class_antimycotics",)
AZOLES = ("posaconazole", "voriconazole", "itraconazole", "isavuconazole", "fluconazole")
MOULD = ("aspergillosis", "invasive_mold_infection")
FUNGAL = frozenset({"candidiasis", "infection_fungal", *MOULD})
TOXICITIES = frozenset({"crs", "icans", "iec_hs"})
_NOT_A_COURSE = frozenset({"purpose_premedication", "purpose_antiemetic"})


class Strength(StrEnum):
    STRONG = "strong"
    RECOMMENDED = "recommended"
    CONSIDER = "consider"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Need:
    """How strongly a drug is advised, and by which criteria."""

    strength: Strength
    criteria: tuple[Bullet, ...] = ()
    words: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    missing: tuple[Missing, ...] = ()
    values: dict[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SteroidRun:
    """Systemic steroid running now, or ended lately. `hours`: least time since the unbroken run began;
    `exact`: its start has an hour; `days`: its length."""

    records: tuple[DrugRecord, ...]
    hours: float
    exact: bool
    days: int


def _is_replacement(record: DrugRecord, case: Case) -> bool:
    return any(steroids.replaces(record, drug, case) for drug in record.ingredients)


def steroid_run(case: Case, ended_within: timedelta = timedelta(0)) -> SteroidRun | None:
    """The unbroken run of systemic corticosteroid up to now, or one that ended `ended_within` of now;
    replacement, premedication and antiemetic single doses are left out. Doses at most `steroid_gap_hours`
    apart are one run."""
    gap = timedelta(hours=float(case.p(RULE)["steroid_gap_hours"]))
    spans: list[tuple[datetime, datetime, bool, DrugRecord]] = []
    for record in steroids.systemic_steroids(case):
        if not _NOT_A_COURSE.isdisjoint(record.purposes) or _is_replacement(record, case):
            continue
        timing = record.timing
        if timing.first is None or timing.as_needed or timing.first.earliest > case.now:
            continue
        active = steroids.active_on(record, case.today)
        if not (record.given or active or record.source is DrugSource.ORDER):
            continue
        if record.source is DrugSource.ORDER and not active and timing.last is None:
            continue
        end = case.now if active else (timing.last or timing.first).latest
        spans.append((timing.first.latest, min(end, case.now), timing.first.exact, record))
    spans.sort(key=lambda span: span[1], reverse=True)
    if not spans or spans[0][1] < case.now - max(gap, ended_within):
        return None
    until = case.today if spans[0][1] >= case.now - gap else spans[0][1].date()
    start, exact, used = spans[0][0], spans[0][2], [spans[0][3]]
    for begin, end, has_hour, record in spans[1:]:
        if end < start - gap:
            continue
        used.append(record)
        if begin < start:
            start, exact = begin, has_hour
    hours = max(timedelta(0), case.now - start) / timedelta(hours=1)
    return SteroidRun(tuple(used), hours, exact, (until - start.date()).days)


def _coded_open(case: Case, toxicity: str) -> bool:
    """Coded as active since the infusion and not too long ago to explain a steroid of today; not closed by a
    grade 0 or by word."""
    since = therapy_start(case)
    if since is None:
        return False
    closed = closings(case, f"{toxicity}_grade", toxicity, since)
    floor = case.now - timedelta(days=case.p(RULE).int("toxicity_open_days"))
    return any(
        c.state is ConditionState.ACTIVE
        and c.onset is not None
        and c.onset.latest >= floor
        and not any(at > c.onset.latest for at in closed)
        for c in coded_episodes(case, toxicity, since)
    )


def _for_toxicity(case: Case, run: SteroidRun) -> bool:
    """Given for CRS, ICANS or IEC-HS: said by the order, or the toxicity is open and no other reason said."""
    if any(not TOXICITIES.isdisjoint(r.reasons) for r in run.records):
        return True
    if any(r.reasons for r in run.records):
        return False
    if any(_coded_open(case, toxicity) for toxicity in sorted(TOXICITIES)):
        return True
    window = timedelta(days=case.p(RULE).int("toxicity_days"))
    for score in ("crs_grade", "icans_grade", "iec_hs_grade"):
        newest = case.chart.series(score).latest(case.now, window)
        if newest is not None and (recorded_grade(newest) or 0) >= 1:
            return True
    icans = icans_now(case)
    return icans is not None and (crs_now(case).present or (icans.grade or 0) >= 1)


def _high_dose(case: Case, run: SteroidRun) -> bool:
    limit = case.p(RULE)["high_dose_dexamethasone_mg"]
    for record in run.records:
        one = steroids.dose_equivalent(record)
        dexamethasone = None if one is None else steroids.from_prednisone("dexamethasone", one)
        if dexamethasone is not None and dexamethasone >= limit and steroids.active_on(record, case.today):
            return True
    return False


def need(case: Case) -> Need:
    """The strongest row of Table 15 that the chart meets, with every criterion that is there."""
    p = case.p(RULE)
    strengths: list[Strength] = []
    criteria: list[Bullet] = []
    words: list[str] = []
    shown: list[Evidence] = []
    values: dict[str, Scalar] = {}

    def add(strength: Strength, word: str, bullet: Bullet, *facts: Evidence) -> None:
        strengths.append(strength)
        words.append(word)
        criteria.append(bullet)
        shown.extend(facts)

    start = current_day0(case)
    for graft in transplants(case, "allo_hct"):
        moment = getattr(graft, "start", None) or getattr(graft, "onset", None)
        if start is None or moment is None or moment.date <= start:
            add(
                Strength.RECOMMENDED,
                "allo-hct",
                Bullet(msg("criterion.allo")),
                evidence.of_fact(graft, "allo_hct"),
            )
            break
    for condition in case.chart.conditions.of(*MOULD):
        if condition.state in (ConditionState.ACTIVE, ConditionState.HISTORY):
            concept = next(c for c in MOULD if c in condition.concepts)
            add(
                Strength.RECOMMENDED,
                "mould-disease",
                Bullet(msg("criterion.mould", disease=Name(concept))),
                evidence.of_fact(condition, concept),
            )
            break
    run = steroid_run(case)
    if run is not None:
        facts = tuple(evidence.of_drug(r) for r in run.records)
        hours = p["steroid_hours"]
        if run.exact:
            values["steroid_hours"] = int(run.hours)
        if _for_toxicity(case, run):
            add(
                Strength.STRONG,
                "steroid-for-toxicity",
                Bullet(msg("criterion.toxicity", drugs=drug_names(run.records))),
                *facts,
            )
        if _high_dose(case, run):
            bullet = Bullet(msg("criterion.high-dose", limit=Amount(p["high_dose_dexamethasone_mg"], "mg")))
            add(Strength.RECOMMENDED, "steroid-high-dose", bullet, *facts)
        if run.hours > hours:
            add(Strength.RECOMMENDED, "steroid-long", Bullet(msg("criterion.long", hours=int(hours))), *facts)
    count = current_anc(case, p.int("anc_age_days"))
    group = risk_group(case)
    missing: list[Missing] = []
    if count is not None and count.per_ul.below(p["anc_per_ul"]) is True:
        run_days = days_below(case, p["anc_per_ul"], count)
        values |= {"anc_per_ul": count.per_ul.value, "neutropenia_days": run_days}
        high = group is Group.HIGH
        values["car_hematotox_group"] = group.value
        if group is Group.UNCLEAR:
            missing.append(Missing("car_hematotox"))
        elif high:
            shown.extend(score_evidence(case))
        if high or run_days >= p["prolonged_days"]:
            anc = evidence.shown(count.per_ul)
            bullet = Bullet(msg("criterion.neutropenia", anc=anc, days=Days(run_days)))
            add(Strength.CONSIDER, "neutropenia", bullet, count.evidence)
    order = list(Strength)
    strength = min(strengths, key=order.index, default=Strength.NONE)
    return Need(strength, tuple(criteria), tuple(words), tuple(dict.fromkeys(shown)), tuple(missing), values)


@rule(RULE)
def antifungal_prophylaxis(case: Case) -> Iterator[Finding]:
    """State of the prophylaxis; on order-sign the drafts of antifungal drugs."""
    if not begun(case):
        return
    found = need(case)
    if case.ordering:
        yield from _orders(case, found)
        return
    finding = _state(case, found)
    if finding is not None:
        yield finding


def _state(case: Case, found: Need) -> Finding | None:
    p = case.p(RULE)
    use = drug_use(case, *ANTIFUNGALS)
    start = current_day0(case)
    end = None if start is None else add_months(start, p.int("longest_months"))
    within = end is None or case.today < end
    if found.words and (lost := orders_unread(case, RULE, "posaconazole", use.use)) is not None:
        return lost
    standing = [w for w in found.words if w not in ("allo-hct", "mould-disease")]
    active = use.use is Use.ACTIVE and any(not for_treatment(record) for record in use.active)
    if use.use is Use.ACTIVE and not active:
        return None  # treatment covers
    if not active and not standing and not (within and found.words):
        return None
    indicator = Indicator.INFO
    if active and not standing and not within:
        outcome, row, summary = (
            Outcome.MAY_STOP,
            "may-stop",
            msg("summary.may-stop", months=p.int("longest_months")),
        )
    elif active:
        outcome, row, summary = Outcome.CONTINUE, "active", msg("summary.active")
    elif found.strength is Strength.CONSIDER:
        outcome, row, summary = Outcome.CONSIDER, "consider", msg("summary.consider")
    else:
        outcome, indicator = Outcome.START, Indicator.WARNING
        row, summary = found.strength.value, msg(f"summary.{found.strength.value}")
    wanted = outcome in (Outcome.START, Outcome.CONSIDER)
    notes: tuple[Block, ...] = (
        *found.criteria,
        Paragraph(msg("detail.regimen", **_doses(case))),
        *((Bullet(msg("detail.azole-allergy")),) if wanted and _azole_allergy(case) else ()),
        *((Bullet(msg("detail.child")),) if wanted and not adult(case) else ()),
        *((Bullet(msg("detail.fluconazole")),) if active and _only_fluconazole(use.active) else ()),
        *(_interactions(case) if wanted or any(r.is_any(frozenset(AZOLES)) for r in use.active) else ()),
    )
    return Finding(
        rule=RULE,
        outcome=outcome,
        indicator=indicator,
        summary=summary,
        detail=notes,
        values={"row": row, "criteria": list(found.words), **found.values},
        evidence=(*start_evidence(case), *found.evidence, *(use.evidence if active else ())),
        missing=found.missing,
        suggestions=_drugs(case, recommended=outcome is Outcome.START) if wanted else (),
    )


def _doses(case: Case) -> dict[str, Amount | int]:
    p = case.p(RULE)
    return {
        "posaconazole": Amount(p["posaconazole_mg"], "mg"),
        "micafungin": Amount(p["micafungin_mg"], "mg"),
        "months": p.int("longest_months"),
    }


def _azole_allergy(case: Case) -> bool:
    return bool(case.chart.allergy_to("class_azole_antifungals", *AZOLES))


def _partners(case: Case) -> tuple[DrugRecord, ...]:
    """Drugs in use that azoles interact with."""
    partners = [str(row["drug"]) for row in case.p(RULE).table("azole_interactions")]
    found = [d for d in case.chart.active_drugs(*partners) if steroids.active_on(d, case.today)]
    return (*found, *case.chart.drafts.drugs.of(*partners))


def _only_fluconazole(records: tuple[DrugRecord, ...]) -> bool:
    return all("fluconazole" in record.ingredients for record in records)


def _interactions(case: Case) -> tuple[Bullet, ...]:
    partners = _partners(case)
    return (Bullet(msg("detail.interaction", drugs=drug_names(partners))),) if partners else ()


def _drugs(case: Case, recommended: bool) -> tuple[Suggestion, ...]:
    p = case.p(RULE)
    choices = [("micafungin", "micafungin_mg", Route.INTRAVENOUS)]
    if not _azole_allergy(case) and not _partners(case):
        choices.insert(0, ("posaconazole", "posaconazole_mg", Route.ORAL))
    grown = adult(case)
    result = []
    for place, (drug, name, route) in enumerate(choices):
        proposal = DrugProposal(
            drug,
            route,
            Amount(p[name], "mg") if grown else None,
            repeat=Repeat(every_hours=24),
            start=case.today,
            purpose="purpose_prophylaxis",
            note=None if grown else msg("suggest.label-dose"),
        )
        label = msg("suggest.drug", drug=Name(drug))
        result.append(Suggestion(drug, label, (Create(proposal),), recommended=recommended and place == 0))
    return tuple(result)


def _prevents(case: Case, draft: DrugRecord) -> bool:
    """Prophylaxis by its purpose; without one, a drug beside an active fungal infection and a listed drug
    above its listed dose are treatment (chart-facts M16)."""
    if for_treatment(draft):
        return False
    if "purpose_prophylaxis" in draft.purposes:
        return True
    if any(found.concept in FUNGAL for found in confirmed_infections(case)):
        return False
    if draft.dose is None or draft.dose.mg is None:
        return True
    p = case.p(RULE)
    listed = [p[f"{drug}_mg"] for drug in ("posaconazole", "micafungin") if drug in draft.ingredients]
    return all(draft.dose.mg <= mg for mg in listed)


def _orders(case: Case, found: Need) -> Iterator[Finding]:
    for draft in case.judged_drugs(*ANTIFUNGALS):
        if not reaches_the_body(draft.route):
            continue
        azole = draft.is_any(frozenset(AZOLES))
        partners = _partners(case) if azole else ()
        prevention = _prevents(case, draft)
        outcome: Outcome = Outcome.PASS
        indicator: Indicator | None = None
        row, summary = "pass", msg("summary.order-pass")
        buttons: tuple[Suggestion, ...] = ()
        if azole and case.chart.allergy_to(*draft.ingredients, "class_azole_antifungals"):
            outcome, indicator, row = Outcome.CONTRAINDICATED, Indicator.CRITICAL, "azole-allergy"
            summary = msg("summary.order-allergy", drug=drug_names((draft,)), other=Name("micafungin"))
            buttons = _drugs(case, recommended=prevention) if prevention else ()
        elif partners:
            outcome, indicator, row = Outcome.CAUTION, Indicator.WARNING, "interaction"
            summary = msg(
                "summary.order-interaction",
                drug=drug_names((draft,)),
                partners=Items(drug_names(partners).items),
            )
        elif prevention and found.strength is Strength.NONE:
            outcome, indicator, row = Outcome.REVIEW, Indicator.INFO, "not-advised"
            summary = msg("summary.order-not-advised")
        yield Finding(
            rule=RULE,
            outcome=outcome,
            indicator=indicator,
            summary=summary,
            subject=draft.reference,
            resource=draft.reference,
            detail=(*found.criteria, Paragraph(msg("detail.regimen", **_doses(case)))),
            values={"row": row, "criteria": list(found.words), **found.values},
            evidence=(*start_evidence(case), evidence.of_drug(draft), *found.evidence),
            missing=found.missing,
            suggestions=buttons,
        )
