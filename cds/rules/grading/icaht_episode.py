"""Counting neutropenic days for ICAHT (Rejeski K, Blood 2023;142:865; counting after Liang EC et al. 2024).

One value a local calendar day, the lowest. Short gaps are interpolated, long ones stay unknown. A run is a
stretch of days at or below a limit; one or two days above it do not end it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal

from cards.finding import Evidence
from cds.engine.case import Case, once_per_case
from cds.rules.evidence import of_observation
from fhir_mapping.chart import ConditionState, DrugRecord, Observation, by_day, reaches_the_body

RULE = "grading.icaht"
LAST_EARLY_DAY = 30
NEXT_THERAPY = ("class_antineoplastics",)
CAR_T = "class_cell_gene_therapy"
# given for a toxicity, not against the tumour
NOT_A_NEXT_THERAPY = frozenset({"iec_hs", "hlh", "crs", "icans", "gvhd", "purpose_car_t_switch_off"})
TOXICITY_DRUGS = frozenset({"ruxolitinib"})
HLH = ("iec_hs", "hlh")
HLH_DRUGS = frozenset({"etoposide"})


@dataclass(frozen=True, slots=True)
class Count:
    """The lowest ANC of one day in cells/uL. A bound ("<500") keeps its comparator."""

    day: int
    cells: Decimal
    comparator: str
    observation: Observation

    def at_most(self, limit: int) -> bool | None:
        """At or below the limit; None where a bound does not decide."""
        if not self.comparator:
            return self.cells <= limit
        if self.comparator.startswith("<"):
            return True if self.cells <= limit else None
        return False if (self.cells >= limit and self.comparator == ">") or self.cells > limit else None


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive days at or below a limit; both ends are low days."""

    first: int
    last: int
    measured: int  # measured low days
    interpolated: int  # days between measured ones, counted in

    @property
    def days(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class Early:
    """Days 0 to 30. `low` to `high` is the grade's range (unknown stretches counted out, counted in);
    `by_deep`: the run at or below 100 decides it."""

    low: int
    high: int
    measured_only: int
    run: Run | None  # longest run at or below 500
    deep: Run | None  # longest run at or below 100
    by_deep: bool
    never_above: bool
    provisional: bool
    counts: tuple[Count, ...]


@dataclass(frozen=True, slots=True)
class Late:
    """From day 31 on. `grade` None: not gradable; `would_be` is then the grade of the single low day."""

    grade: int | None
    counts: tuple[Count, ...]  # the days that decided
    would_be: int = 0


@dataclass(frozen=True, slots=True)
class IcahtState:
    """Both phases as far as the chart tells. `ended` is why counting stopped, "" where it did not."""

    day: int
    early: Early | None
    late: Late | None
    counts: tuple[Count, ...]
    ended: str
    ended_on: date | None

    def evidence(self, used: Iterable[Count]) -> tuple[Evidence, ...]:
        return tuple(of_observation(count.observation) for count in used)


def daily_counts(case: Case, day0: date, until: date | None) -> tuple[Count, ...]:
    """The lowest ANC of every day from D0 to now, in cells/uL; days after `until` left out."""
    found = []
    begin = datetime.combine(day0, time(), case.now.tzinfo)
    for day, observations in by_day(case.chart.series("anc").since(begin)).items():
        number = (day - day0).days
        if day > case.today or (until is not None and day > until):
            continue
        readable = [o for o in observations if o.value.quantity is not None]
        if not readable:
            continue
        lowest = min(readable, key=_cells)
        quantity = lowest.value.quantity
        assert quantity is not None
        found.append(Count(number, _cells(lowest), quantity.comparator, lowest))
    return tuple(sorted(found, key=lambda count: count.day))


def _cells(observation: Observation) -> Decimal:
    quantity = observation.value.quantity
    assert quantity is not None
    return quantity.value * 1000


# --- runs


def _filled(
    counts: Sequence[Count], limit: int, longest_gap: int, unknown_is_low: bool
) -> list[dict[int, tuple[bool, bool]]]:
    """Blocks of consecutive days: day -> (low, measured). A gap too long to interpolate ends a block, unless
    it lies between low days and is counted low for the upper bound."""
    decided = [(c, low) for c in counts if (low := c.at_most(limit)) is not None]
    blocks: list[dict[int, tuple[bool, bool]]] = []
    previous: tuple[Count, bool] | None = None
    for count, low in decided:
        if previous is None:
            blocks.append({})
        else:
            before, was_low = previous
            gap = count.day - before.day - 1
            if gap <= longest_gap:
                for day in range(before.day + 1, count.day):
                    share = Decimal(day - before.day) / Decimal(count.day - before.day)
                    value = before.cells + (count.cells - before.cells) * share
                    blocks[-1][day] = (value <= limit, False)
            elif unknown_is_low and low and was_low:
                blocks[-1].update(dict.fromkeys(range(before.day + 1, count.day), (True, False)))
            else:
                blocks.append({})
        blocks[-1][count.day] = (low, True)
        previous = (count, low)
    return blocks


def _runs(block: Mapping[int, tuple[bool, bool]], bridged: int) -> list[Run]:
    """Runs of low days in one block; up to `bridged` days above the limit do not end a run."""
    lows = sorted(day for day, (low, _) in block.items() if low)
    stretches: list[list[int]] = []
    for day in lows:
        if stretches and day - stretches[-1][-1] - 1 <= bridged:
            stretches[-1].append(day)
        else:
            stretches.append([day])
    found = []
    for stretch in stretches:
        first, last = stretch[0], stretch[-1]
        measured = sum(1 for day in stretch if block[day][1])
        between = sum(1 for day in range(first, last + 1) if not block[day][1])
        found.append(Run(first, last, measured, between))
    return found


def _longest(runs: Iterable[Run]) -> Run | None:
    return max(runs, key=lambda run: (run.days, -run.first), default=None)


def _days(run: Run | None) -> int:
    return 0 if run is None else run.days


def _grade_of_length(case: Case, days: int, deep_days: int) -> int:
    grade = 0
    for row in case.p(RULE).table("early"):
        length = days if row["limit"] == "moderate" else deep_days
        if length >= row["days"]:
            grade = max(grade, int(row["grade"]))
    return grade


def _early(case: Case, counts: Sequence[Count], day: int, died_on: int | None) -> Early | None:
    p = case.p(RULE)
    counts = [c for c in counts if c.day <= LAST_EARLY_DAY]
    if not counts:
        return None
    limit, deep_limit = p.int("early_limit"), p.int("early_deep_limit")
    gap, bridged = p.int("interpolated_days"), p.int("bridged_days")

    def longest(limit: int, unknown_is_low: bool = False) -> Run | None:
        blocks = _filled(counts, limit, gap, unknown_is_low)
        return _longest(run for block in blocks for run in _runs(block, bridged))

    run, deep = longest(limit), longest(deep_limit)
    wide, wide_deep = longest(limit, True), longest(deep_limit, True)
    low = _grade_of_length(case, _days(run), _days(deep))
    high = _grade_of_length(case, _days(wide), _days(wide_deep))
    measured = _grade_of_length(case, run.measured if run else 0, deep.measured if deep else 0)
    pattern = _never_above(case, counts, limit, died_on)
    solid = len(_filled(counts, limit, gap, False)) == 1
    never_above = pattern and solid
    by_deep = _grade_of_length(case, _days(run), 0) < low
    if pattern:
        high = 4
    if never_above:
        low = measured = 4
    return Early(
        low,
        high,
        measured,
        run,
        deep,
        by_deep and not never_above,
        never_above,
        day < LAST_EARLY_DAY and died_on is None,
        tuple(c for c in counts if c.at_most(limit)),
    )


def _never_above(case: Case, counts: Sequence[Count], limit: int, died_on: int | None) -> bool:
    """Low by day 3 and no measured value above the limit afterwards, to day 28 or later (or to death)."""
    p = case.p(RULE)
    first = next((c for c in counts if c.at_most(limit)), None)
    if first is None or first.day > p.int("never_above_from_day"):
        return False
    after = [c for c in counts if c.day >= first.day]
    if not all(c.at_most(limit) for c in after):
        return False
    return after[-1].day >= p.int("never_above_to_day") or (died_on is not None and died_on <= LAST_EARLY_DAY)


def _late_grade(case: Case, count: Count) -> int:
    """The grade whose limit this one day meets."""
    rows = case.p(RULE).table("late")
    return max((int(row["grade"]) for row in rows if count.at_most(int(row["limit"]))), default=0)


def _late(case: Case, counts: Sequence[Count], day: int) -> Late | None:
    p = case.p(RULE)
    current = day - p.int("late_current_days")
    counts = [c for c in counts if c.day > LAST_EARLY_DAY and c.day >= current]
    if not counts:
        return None
    apart = p.int("late_apart_days")
    grades = {c.day: _late_grade(case, c) for c in counts}
    best: tuple[int, tuple[Count, ...]] | None = None
    for index, one in enumerate(counts):
        for other in counts[index + 1 :]:
            if other.day - one.day > apart:
                break
            grade = min(grades[one.day], grades[other.day])
            if best is None or grade >= best[0]:
                best = (grade, (one, other))
    worst = max(counts, key=lambda c: (grades[c.day], c.day))
    would_be = grades[worst.day]
    if best is None or (best[0] == 0 and would_be > 0):
        if would_be == 0:
            return Late(0, tuple(counts[-1:]))
        return Late(None, (worst,), would_be)
    return Late(*best)


# --- where counting ends


def _against_tumour(case: Case, drug: DrugRecord) -> bool:
    """A systemic antineoplastic that is not known to treat a toxicity of the cells."""
    if CAR_T in drug.concepts or TOXICITY_DRUGS & drug.concepts:
        return False
    if NOT_A_NEXT_THERAPY & (drug.reasons | drug.purposes):
        return False
    if not reaches_the_body(drug.route):
        return False
    if not HLH_DRUGS & drug.concepts:
        return True
    return not any(c.state is ConditionState.ACTIVE for c in case.chart.conditions.of(*HLH))


def _ended(case: Case, day0: date) -> tuple[str, date | None]:
    """Progression, next antineoplastic therapy or death after D0, whichever came first."""
    found: list[tuple[date, str]] = []
    for observation in case.chart.series("disease_response"):
        if {"progressive_disease", "relapse"} & set(observation.value.codes) and observation.when.date > day0:
            found.append((observation.when.date, "progression"))
    for condition in case.chart.conditions.all:
        if (
            condition.clinical_status in ("relapse", "recurrence")
            and condition.state is ConditionState.ACTIVE
            and condition.onset is not None
            and condition.onset.date > day0
        ):
            found.append((condition.onset.date, "progression"))
    for drug in case.chart.drugs.of(*NEXT_THERAPY):
        start = drug.timing.first
        if drug.given and start is not None and start.date > day0 and _against_tumour(case, drug):
            found.append((start.date, "next-therapy"))
    died = case.chart.patient.died
    if died is not None:
        found.append((died.date, "death"))
    if not found:
        return "", None
    when, why = min(found)
    return why, when


@once_per_case
def icaht_now(case: Case) -> IcahtState | None:
    """Neutropenic days since the infusion; None before day 1 or without an infusion day."""
    day0 = case.chart.course.last_day0
    if day0 is None:
        return None
    day = (case.today - day0).days
    if day < 1:
        return None
    why, when = _ended(case, day0)
    until = None if when is None else (when if why == "death" else when - timedelta(days=1))
    counts = daily_counts(case, day0, until)
    died_on = (when - day0).days if why == "death" and when is not None else None
    return IcahtState(
        day,
        _early(case, counts, day, died_on),
        _late(case, counts, day),
        counts,
        why,
        when,
    )
