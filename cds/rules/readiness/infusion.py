"""Bedside on the day of infusion: check, set, time from thaw, vital signs, record, reactions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise

from cards.finding import (
    Bullet,
    Evidence,
    Finding,
    Indicator,
    Items,
    Message,
    Missing,
    Name,
    Outcome,
    Scalar,
    Shown,
    msg,
)
from cds.engine.case import Case, once_per_case
from cds.engine.rule import Hook, rule
from cds.rules.evidence import of_fact, of_observation
from cds.rules.readiness.bags import Bag, bags
from cds.rules.readiness.checklist import NOTHING, OVERRIDES, Line, Status, checklist, dated
from cds.rules.readiness.identity import Identity, Stage, identity
from cds.rules.readiness.phase import infusing
from cds.rules.readiness.suspected import is_suspected, suspicion
from cds.rules.unread import CONDITIONS, unread
from fhir_mapping.chart import Condition, ConditionState, EventState, Flag, LossReason, Moment, Observation

RULE = "readiness.infusion"
_VITALS = ("bp_panel", "bp_systolic", "heart_rate", "spo2")
MONITORS = ("monitor_spo2", "monitor_ecg", "monitor_bp")
_COMMON = frozenset({"nausea", "vomiting", "abdominal_pain", "garlic_odor"})
SEVERE_REACTIONS = frozenset(
    {
        "hypotension",
        "hypertension",
        "bradycardia",
        "cardiac_arrest",
        "chest_tightness",
        "rash",
        "anaphylaxis",
    }
)
_SEVERE_GRADE = 3
_HAPPENED = (ConditionState.ACTIVE, ConditionState.HISTORY)  # one that has passed was one too
_MINUTE = timedelta(minutes=1)


def _minutes(start: datetime, end: datetime) -> Decimal:
    return Decimal(str(round((end - start) / _MINUTE, 2)))


def _check(case: Case) -> Line:
    needed = case.p(RULE).int("persons")
    limits = {"persons": needed}
    found = identity(case, Stage.BEDSIDE)
    if found is None or found.answer is None:
        note = msg("note.do-not-start", persons=needed)
        missing = (Missing("identity_check"),)
        return Line("check", Status.UNKNOWN, limits=limits, notes=(note,), missing=missing)
    cell = msg("found.check", answer=Name(found.answer.value), persons=found.persons)
    if found.answer is not Identity.MATCH:
        note = msg(f"note.{found.answer.value}")
        return Line(
            "check",
            Status.NOT_MET,
            cell,
            limits,
            (note,),
            Indicator.CRITICAL,
            {"identity": found.answer.value},
            found.evidence,
        )
    if found.persons < needed:
        note = msg("note.one-person", persons=needed)
        return Line("check", Status.NOT_MET, cell, limits, (note,), evidence=found.evidence)
    return Line("check", Status.MET, cell, limits, evidence=found.evidence)


@once_per_case
def filters(case: Case) -> tuple[Evidence, ...]:
    """An infusion set with leucocyte filter, ordered, drafted or recorded."""
    found = [
        of_fact(s, "leukocyte_filter")
        for s in (
            *case.chart.services.of("leukocyte_filter"),
            *case.chart.drafts.services.of("leukocyte_filter"),
        )
        if s.state in (EventState.ACTIVE, EventState.DRAFT)
    ]
    found += [of_fact(d, "leukocyte_filter") for d in case.chart.documents.of("leukocyte_filter")]
    recorded = case.chart.series("leukocyte_filter").on(case.today)  # another day: another product
    found += [of_observation(o) for o in recorded[-1:] if o.value.yes]
    return tuple(found)


def _set(case: Case) -> Line:
    found = filters(case)
    if found:
        return Line("set", Status.NOT_MET, msg("found.filter"), notes=(msg("note.filter"),), evidence=found)
    return Line("set", Status.MET, msg("found.no-filter"))


def _end_known(bag: Bag) -> bool:
    """Running, or ended at a time that is on the chart."""
    return bag.running if bag.end is None else bag.end.exact


def _time_of(case: Case, bag: Bag) -> tuple[Status, Shown, dict[str, Scalar], bool]:
    """Status, cell and minutes of one bag; the last tells whether the thaw time lacks."""
    limit = case.p(RULE)["thaw_to_end_min"]
    if bag.thaw is None or not bag.thaw.start.exact:
        return Status.UNKNOWN, msg("found.no-thaw", bag=bag.label), {}, True
    start = bag.thaw.start.latest
    end = bag.end.latest if bag.end is not None and bag.end.exact else None
    ended = bag.start is not None and not bag.running
    if (ended and end is None) or (end is not None and end < start):
        return Status.UNKNOWN, msg("found.no-end", bag=bag.label), {}, False
    spent = _minutes(start, end if end is not None else case.now)
    late = spent > limit
    key = "found.minutes" if end is not None else "found.minutes-running"
    cell = msg(key, bag=bag.label, minutes=spent, until=start + timedelta(minutes=int(limit)))
    status = Status.NOT_MET if late else (Status.MET if end is not None else Status.NOT_APPLICABLE)
    return status, cell, {"thaw_to_end_min": spent}, False


def _time(case: Case, found: Sequence[Bag]) -> Line:
    limits = {"limit": case.p(RULE)["thaw_to_end_min"]}
    if not found:
        return Line("time", Status.NOT_APPLICABLE, msg("found.not-begun"), limits)
    answers = [_time_of(case, bag) for bag in found]
    worst = min(
        answers, key=lambda a: (list(Status).index(a[0]), -Decimal(str(a[2].get("thaw_to_end_min", 0))))
    )
    missing = (Missing("thaw_start"),) if any(a[3] for a in answers) else ()
    if any(a[0] is Status.UNKNOWN and not a[3] for a in answers):
        missing = (*missing, Missing("car_t_infusion"))
    notes = (msg("note.thaw-late", limit=limits["limit"]),) if worst[0] is Status.NOT_MET else ()
    return Line(
        "time",
        worst[0],
        Items(tuple(a[1] for a in answers)),
        limits,
        notes,
        values=worst[2],
        evidence=tuple(e for bag in found for e in bag.evidence),
        missing=missing,
    )


def monitoring(case: Case) -> tuple[tuple[Observation, ...], tuple[str, ...]]:
    """(monitors recorded as connected today, those not recorded); continuous monitoring covers all three."""
    found = [o for c in MONITORS for o in case.chart.series(c).on(case.today) if o.value.yes]
    whole = [o for o in case.chart.series("continuous_monitoring").on(case.today) if o.value.yes]
    running = any(p.state is EventState.RUNNING for p in case.chart.procedures.of("continuous_monitoring"))
    ordered = any(s.state is EventState.ACTIVE for s in case.chart.services.of("continuous_monitoring"))
    if whole or running or ordered:
        return tuple(whole), ()
    there = {o.concept for o in found}
    return tuple(found), tuple(c for c in MONITORS if c not in there)


def _staff(case: Case) -> Line:
    present = [o for o in case.chart.series("staff_present").on(case.today) if o.value.yes is not None]
    connected, lacking = monitoring(case)
    evidence = tuple(of_observation(o) for o in (*present[-1:], *connected))
    if present and present[-1].value.yes is False:
        return Line(
            "staff", Status.NOT_MET, msg("found.no-staff"), notes=(msg("note.staff"),), evidence=evidence
        )
    missing = [Missing(c) for c in lacking]
    if not present:
        missing.insert(0, Missing("staff_present"))
    if missing:
        return Line("staff", Status.UNKNOWN, weight=Indicator.INFO, evidence=evidence, missing=tuple(missing))
    return Line("staff", Status.MET, msg("found.staff"), evidence=evidence)


@once_per_case
def _vital_times(case: Case) -> tuple[datetime, ...]:
    times = {
        o.when.latest
        for c in _VITALS
        for o in case.chart.series(c)
        if o.when.exact and o.when.latest <= case.now
    }
    return tuple(sorted(times))


def longest_gap(points: Sequence[datetime]) -> Decimal:
    """Longest stretch between neighbours in minutes; 0 for fewer than two."""
    return max((_minutes(one, two) for one, two in pairwise(points)), default=Decimal(0))


def _during(case: Case, found: Sequence[Bag]) -> Line:
    p = case.p(RULE)
    allowed = p["vitals_every_min"] + p["vitals_tolerance_min"]
    limits = {"every": p["vitals_every_min"]}
    begun = [b for b in found if b.start is not None]
    if not begun:
        return Line("vitals-during", Status.NOT_APPLICABLE, msg("found.not-begun"), limits)
    gaps: list[Decimal] = []
    slack = timedelta(minutes=int(allowed))
    for bag in begun:
        start, end = bag.start, bag.end
        if start is None or not start.exact or not _end_known(bag):
            return Line("vitals-during", Status.UNKNOWN, limits=limits, missing=(Missing("car_t_infusion"),))
        stop = case.now if end is None else end.latest
        inside = [max(t, start.latest) for t in _vital_times(case) if start.latest - slack <= t <= stop]
        gaps.append(longest_gap([start.latest, *inside, stop]))
    gap = max(gaps)
    good = gap <= allowed
    return Line(
        "vitals-during",
        Status.MET if good else Status.NOT_MET,
        msg("found.gap", minutes=gap),
        limits,
        () if good else (msg("note.vitals-during", every=p["vitals_every_min"]),),
        values={"longest_vitals_gap_min": gap},
    )


def _after(case: Case, found: Sequence[Bag]) -> Line:
    p = case.p(RULE)
    limits = {"marks": Items(p.words("after_required_min"))}
    ends = [b.end for b in found if b.end is not None]
    if any(b.running for b in found) or not any(b.start for b in found):
        return Line("vitals-after", Status.NOT_APPLICABLE, msg("found.not-ended"), limits)
    if any(b.start is not None and not _end_known(b) for b in found):
        return Line("vitals-after", Status.UNKNOWN, limits=limits, missing=(Missing("car_t_infusion"),))
    end = max(e.latest for e in ends)
    slack = timedelta(minutes=p.int("after_tolerance_min"))

    def seen(mark: str) -> bool | None:
        """Recorded near the mark; None while it is not yet due."""
        due = end + timedelta(minutes=int(mark))
        if any(abs(t - due) <= slack for t in _vital_times(case)):
            return True
        return None if case.now <= due + slack else False

    required = {mark: seen(mark) for mark in p.words("after_required_min")}
    wished = {mark: seen(mark) for mark in p.words("after_recommended_min")}
    late = [mark for mark, there in required.items() if there is False]
    open_marks = [mark for mark, there in required.items() if there is None]
    notes: list[Message] = []
    if late:
        notes.append(msg("note.vitals-after", marks=Items(tuple(late))))
    lacking = [mark for mark, there in wished.items() if not there]
    if lacking and not late:
        notes.append(msg("note.vitals-wished", marks=Items(tuple(lacking))))
    status = Status.NOT_MET if late else (Status.NOT_APPLICABLE if open_marks else Status.MET)
    done = [mark for mark, there in required.items() if there]
    cell = msg("found.marks", marks=Items(tuple(done))) if done else NOTHING
    values: dict[str, Scalar] = {"vitals_after_missing_min": ",".join(late)} if late else {}
    return Line("vitals-after", status, cell, limits, tuple(notes), values=values)


def _record(found: Sequence[Bag]) -> Line:
    begun = [b for b in found if b.start is not None]
    if not begun:
        return Line("record", Status.NOT_APPLICABLE, msg("found.not-begun"))
    missing: list[Missing] = []
    for bag in begun:
        if not bag.product_number:
            missing.append(Missing("bag_number", resource=bag.evidence[0].reference))
        no_times = bag.start is None or not bag.start.exact or not _end_known(bag)
        if no_times:
            missing.append(Missing("car_t_infusion", resource=bag.evidence[0].reference))
    evidence = tuple(e for bag in begun for e in bag.evidence)
    if missing:
        return Line(
            "record", Status.UNKNOWN, weight=Indicator.INFO, evidence=evidence, missing=tuple(missing)
        )
    return Line("record", Status.MET, msg("found.record", bags=len(begun)), evidence=evidence)


def _inside(case: Case, found: Sequence[Bag], when: Moment | None) -> bool:
    """Between the first bag and some hours after the last."""
    starts = [b.start.earliest for b in found if b.start is not None]
    if when is None or not starts:
        return False
    ends = [b.end.latest for b in found if b.end is not None]
    last = case.now if any(b.end is None for b in found) or not ends else max(ends)
    stop = last + timedelta(hours=case.p(RULE).int("reaction_after_h"))
    return min(starts) <= when.latest and when.earliest <= stop


def _reactions(case: Case, found: Sequence[Bag]) -> tuple[dict[str, Evidence], dict[str, Evidence]]:
    """(severe, common) reactions between the first bag and some hours after the last."""
    severe: dict[str, Evidence] = {}
    common: dict[str, Evidence] = {}
    for observation in case.chart.series("infusion_reaction"):
        for word in observation.value.codes if _inside(case, found, observation.when) else ():
            group = severe if word in SEVERE_REACTIONS else (common if word in _COMMON else None)
            if group is not None:
                group[word] = of_observation(observation)
    for condition in case.chart.conditions.of("infusion_reaction", *sorted(SEVERE_REACTIONS | _COMMON)):
        happened = condition.state in _HAPPENED and not _day_of_entry(condition)
        if not happened or not _inside(case, found, condition.onset):
            continue
        words = condition.concepts & (SEVERE_REACTIONS | _COMMON)
        for word in sorted(words):
            (severe if word in SEVERE_REACTIONS else common)[word] = of_fact(condition, word)
        if not words:  # a reaction that is not named weighs as its grade says
            graded = condition.grade is not None and condition.grade.value >= _SEVERE_GRADE
            group = severe if graded else common
            group["infusion_reaction"] = of_fact(condition, "infusion_reaction")
    return severe, common


def _day_of_entry(condition: Condition) -> bool:
    """Its only time is the day on which it was entered: it may be as old as the patient."""
    onset = condition.onset
    return onset is not None and not onset.exact and Flag.RECORDED_DATE in condition.flags


def _unsure(case: Case, found: Sequence[Bag]) -> tuple[Evidence, ...]:
    """What may be a reaction to this infusion: suspected, or entered on its day without a time."""
    words = ("infusion_reaction", *sorted(SEVERE_REACTIONS))
    return tuple(
        of_fact(c, next(w for w in words if w in c.concepts))
        for c in case.chart.conditions.of(*words)
        if (is_suspected(case, c) or (c.state is ConditionState.ACTIVE and _day_of_entry(c)))
        and _inside(case, found, c.onset)
    )


def _reaction(case: Case, found: Sequence[Bag]) -> Line:
    severe, common = _reactions(case, found)
    both = {**severe, **common}
    cell = Items(tuple(dated(Name(w), e.effective) for w, e in both.items())) if both else msg("found.none")
    evidence = tuple(dict.fromkeys(both.values()))
    if severe:
        words = {"reaction": next(iter(severe))}
        return Line(
            "reaction",
            Status.NOT_MET,
            cell,
            notes=(msg("note.severe"),),
            weight=Indicator.CRITICAL,
            values=words,
            evidence=evidence,
        )
    unsure = _unsure(case, found)
    if unsure:
        return suspicion("reaction", unsure)
    if "infusion_reaction" in common:
        return Line("reaction", Status.CAUTION, cell, notes=(msg("note.unnamed"),), evidence=evidence)
    if unread(case, CONDITIONS) and any(b.start is not None for b in found):
        lost = (Missing("anaphylaxis", LossReason.NOT_FETCHED),)
        return Line("reaction", Status.UNKNOWN, cell, weight=Indicator.INFO, evidence=evidence, missing=lost)
    notes = (msg("note.common"),) if common else ()
    return Line("reaction", Status.MET, cell, notes=notes, evidence=evidence)


def lines(case: Case) -> tuple[Line, ...]:
    """The bedside rows."""
    found = bags(case)
    return (
        _check(case),
        _set(case),
        _time(case, found),
        _staff(case),
        _during(case, found),
        _after(case, found),
        _record(found),
        _reaction(case, found),
    )


def _filter_order(case: Case) -> Iterator[Finding]:
    for service in case.judged_services("leukocyte_filter"):
        yield Finding(
            rule=RULE,
            outcome=Outcome.CONTRAINDICATED,
            indicator=Indicator.WARNING,
            summary=msg("summary.filter-order"),
            subject=service.reference,
            detail=(Bullet(msg("note.filter")),),
            values={"row": "set"},
            evidence=(of_fact(service, "leukocyte_filter"),),
            resource=service.reference,
            overrides=OVERRIDES,
        )


@rule(RULE)
def infusion(case: Case) -> Iterator[Finding]:
    """The bedside checklist of the day; on orders only a set with leucocyte filter."""
    if not infusing(case):
        return
    if case.hook is Hook.ORDER_SIGN:
        yield from _filter_order(case)
    elif case.chart.course.day0_any == case.today:
        yield checklist(case, RULE, lines(case), extra=(msg("note.rinse"),))
