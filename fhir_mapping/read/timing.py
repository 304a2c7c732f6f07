"""When the doses of an order fall (chart-facts 2.6)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice

from dateutil.relativedelta import relativedelta

from fhir_mapping.chart import Flag, Moment, Timing, instant
from fhir_mapping.read.coding import codings
from fhir_mapping.read.shape import Json, number, obj, objs, text, texts, whole
from fhir_mapping.read.times import Stamps, shifted

MOST_DOSES = 200
_DAY = timedelta(days=1)
_SECONDS = {  # a month is 730.5 h, a year 8766 h
    "s": Decimal(1),
    "min": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86400),
    "wk": Decimal(604800),
    "mo": Decimal(2629800),
    "a": Decimal(31557600),
}
_UNIT_WORDS = {
    "sec": "s",
    "second": "s",
    "seconds": "s",
    "minute": "min",
    "minutes": "min",
    "mins": "min",
    "hr": "h",
    "hour": "h",
    "hours": "h",
    "hrs": "h",
    "day": "d",
    "days": "d",
    "week": "wk",
    "weeks": "wk",
    "month": "mo",
    "months": "mo",
    "year": "a",
    "years": "a",
    "分鐘": "min",
    "小時": "h",
    "天": "d",
    "日": "d",
    "週": "wk",
}
_CODE_HOURS = {
    "QD": 24,
    "DAILY": 24,
    "AM": 24,
    "PM": 24,
    "BED": 24,
    "HS": 24,
    "QN": 24,
    "QDPC": 24,
    "QDAC": 24,
    "QAM": 24,
    "QPM": 24,
    "QDAM": 24,
    "QDPM": 24,
    "QDHS": 24,
    "QAM&HS": 12,
    "QPM&HS": 12,
    "QAM&PM": 12,
    "BID&HS": 8,
    "TID&HS": 6,
    "BID": 12,
    "BIDPC": 12,
    "BIDAC": 12,
    "TID": 8,
    "TIDPC": 8,
    "TIDAC": 8,
    "QID": 6,
    "QIDPC": 6,
    "QIDAC": 6,
    "QOD": 48,
    "Q2D": 48,
    "BIW": 84,
    "TIW": 56,
    "QW": 168,
    "WK": 168,
    "Q1W": 168,
    "Q2W": 336,
    "Q3W": 504,
    "Q4W": 672,
}
_OF_ONE_INFUSION = frozenset({"duration", "durationUnit", "durationMax"})
_ONCE_CODES = frozenset({"ONCE", "STAT", "X1", "1X"})
_AS_NEEDED = "PRN"
_ON_WEEKDAYS = re.compile(r"QW\(([1-7](?:,[1-7])*)\)")  # 1 is Monday
_WEEKDAYS = {"mon": 0, "tue": 1, "wed": 2, "thu": 3, "fri": 4, "sat": 5, "sun": 6}


def unit_of_time(written: str) -> str | None:
    """Canonical UCUM unit of time of a word: "minutes" -> "min"."""
    folded = written.strip().casefold()
    return folded if folded in _SECONDS else _UNIT_WORDS.get(folded)


def _seconds(value: object, unit: object) -> Decimal | None:
    count, known = number(value), unit_of_time(text(unit))
    return None if count is None or known is None or count < 0 else count * _SECONDS[known]


def hours(value: object, unit: object) -> Decimal | None:
    """A length of time in hours."""
    found = _seconds(value, unit)
    return None if found is None else found / 3600


def length(quantity: object) -> Decimal | None:
    """A Duration in hours."""
    raw = obj(quantity)
    found = hours(raw.get("value"), raw.get("code"))
    return hours(raw.get("value"), raw.get("unit")) if found is None else found


def _span(hours_long: Decimal) -> timedelta:
    return timedelta(hours=float(min(hours_long, Decimal(24 * 366 * 100))))


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often: hours between doses, and doses per day. All None: not said."""

    interval: Decimal | None = None
    months: int = 0  # calendar months between doses, where the period is in months
    weekdays: tuple[int, ...] = ()
    once: bool = False
    clash: bool = False  # code and repeat differ: a loss
    as_needed: bool = False  # the code says so

    @property
    def per_day(self) -> Decimal | None:
        if self.weekdays:
            return Decimal(len(self.weekdays)) / 7
        return None if self.interval is None or self.interval == 0 else Decimal(24) / self.interval

    @property
    def period(self) -> timedelta | None:
        if self.weekdays:
            return timedelta(days=1)
        return None if self.interval is None else _span(self.interval)


_UNSAID = Rhythm()


def _of_word(folded: str) -> Rhythm | None:
    if folded in _ONCE_CODES:
        return Rhythm(once=True)
    if folded in _CODE_HOURS:
        return Rhythm(Decimal(_CODE_HOURS[folded]))
    if days := _ON_WEEKDAYS.fullmatch(folded):
        return Rhythm(weekdays=tuple(sorted({int(day) - 1 for day in days[1].split(",")})))
    if folded[:1] == "Q" and folded[-1:] in ("H", "D") and folded[1:-1].isdecimal() and len(folded) < 6:
        count = Decimal(folded[1:-1])
        if count > 0:
            return Rhythm(count * (1 if folded[-1] == "H" else 24))
    return None


def _of_code(value: object) -> Rhythm | None:
    """HL7 and NHI codes; a trailing PRN ("Q6HPRN", or alone) makes the doses as needed."""
    words = [code for _, code in codings(value)] + [text(obj(value).get("text"))]
    for word in words:
        folded = word.upper().replace(" ", "").replace(".", "")
        needed = folded.endswith(_AS_NEEDED)
        said = _of_word(folded.removesuffix(_AS_NEEDED))
        if needed:
            return replace(said or _UNSAID, as_needed=True)
        if said is not None:
            return said
    return None


def _of_repeat(repeat: Json) -> Rhythm | None:
    period = hours(repeat.get("period"), repeat.get("periodUnit") or repeat.get("periodUnits"))
    frequency = number(repeat.get("frequency"))
    days = tuple(
        sorted({_WEEKDAYS[d.casefold()] for d in texts(repeat.get("dayOfWeek")) if d.casefold() in _WEEKDAYS})
    )
    if days:
        return Rhythm(weekdays=days)
    if period is None:
        at_times = len(set(texts(repeat.get("timeOfDay")))) or len(set(texts(repeat.get("when"))))
        if not at_times or "period" in repeat:
            return None
        return Rhythm(Decimal(24) / at_times)
    if period == 0:
        return None
    often = frequency if frequency is not None and frequency > 0 else Decimal(1)
    unit = unit_of_time(text(repeat.get("periodUnit") or repeat.get("periodUnits")))
    count = whole(number(repeat.get("period")))
    calendar = count if unit == "mo" and often == 1 and count else 0
    return Rhythm(period / often, months=calendar)


def rhythm(timing: Json) -> Rhythm:
    """Code and repeat say the same thing in two ways; different answers are a clash."""
    coded = _of_code(timing.get("code"))
    repeated = _of_repeat(obj(timing.get("repeat")))
    if coded is None or repeated is None:
        return coded or repeated or _UNSAID
    if coded == Rhythm(as_needed=True):
        return replace(repeated, as_needed=True)
    days_differ = coded.weekdays and repeated.weekdays and coded.weekdays != repeated.weekdays
    if coded.once or days_differ or coded.per_day != repeated.per_day:
        return Rhythm(clash=True)
    return replace(repeated, weekdays=repeated.weekdays or coded.weekdays, as_needed=coded.as_needed)


@dataclass(frozen=True, slots=True)
class OrderDates:
    """What stands around the dosage: used where the dosage itself names no date."""

    supply_start: Moment | None = None
    supply_end: Moment | None = None
    supply_hours: Decimal | None = None
    authored: Moment | None = None
    draft: bool = False
    now: datetime | None = None


def _first(
    events: list[Moment], start: Moment | None, dates: OrderDates
) -> tuple[Moment | None, frozenset[Flag]]:
    if events:
        return events[0], frozenset()
    for moment in (start, dates.supply_start):
        if moment is not None:
            return moment, frozenset()
    if dates.authored is not None:
        return dates.authored, frozenset({Flag.AUTHORED_DATE})
    if dates.draft and dates.now is not None:
        return instant(dates.now), frozenset({Flag.AUTHORED_DATE})
    return None, frozenset()


def _moved(first: Moment, by: timedelta | relativedelta) -> Moment:
    """By the wall clock."""
    return Moment(first.earliest + by, first.latest + by, first.precision)


def _train(first: Moment, beat: Rhythm) -> Iterator[Moment]:
    """Every dose of an endless order, from the first on, at most `MOST_DOSES`."""
    period = beat.period
    if beat.weekdays:
        days = (_moved(first, _DAY * n) for n in range(MOST_DOSES * 7))
        yield from islice((day for day in days if day.earliest.weekday() in beat.weekdays), MOST_DOSES)
    elif beat.months:
        yield from (_moved(first, relativedelta(months=beat.months * n)) for n in range(MOST_DOSES))
    elif period is not None and first.exact and period % _DAY:  # hours are elapsed hours
        zone, stamp = first.latest.tzinfo, first.latest.astimezone(UTC)
        for _ in range(MOST_DOSES):
            yield instant(stamp.astimezone(zone))
            stamp += period
    elif period is not None:
        shown, at = first, 0
        for n in range(MOST_DOSES):
            if (day := period * n // _DAY) != at:
                shown, at = _moved(first, _DAY * day), day
            yield shown


def _until(first: Moment, last: Moment, beat: Rhythm) -> tuple[Moment, ...]:
    found: list[Moment] = []
    for moment in _train(first, beat):
        if moment.earliest > last.latest or len(found) >= MOST_DOSES:
            break
        found.append(moment)
    return tuple(found)


def _last_of(first: Moment, beat: Rhythm, count: int) -> Moment:
    """The last of `count` doses."""
    train = list(islice(_train(first, beat), count))
    if len(train) == count or beat.interval is None or beat.months:
        return train[-1]
    return shifted(first, _span(beat.interval * (count - 1)))


@dataclass(frozen=True, slots=True)
class _Written:
    """What one instruction says of its times, before the dates around it are looked at."""

    events: list[Moment]
    repeat: Json
    start: Moment | None
    end: Moment | None
    beat: Rhythm
    count: int | None
    code_unread: bool  # some code of a rhythm that is not known

    @property
    def repeats(self) -> bool:
        return bool(self.beat.interval or self.beat.weekdays)

    @property
    def stated(self) -> bool:
        return bool(self.events or self.repeat or self.code_unread or self.beat != _UNSAID)

    @property
    def length_only(self) -> bool:
        """Only how long a single infusion takes."""
        silent = self.beat == _UNSAID and not self.code_unread
        return self.stated and silent and not self.repeat.keys() - _OF_ONE_INFUSION


def _written(timing: Json, stamps: Stamps) -> _Written:
    repeat = obj(timing.get("repeat"))
    raw = timing.get("event")
    events = [moment for one in (raw if isinstance(raw, list) else [raw]) if (moment := stamps.read(one))]
    events.sort(key=lambda m: (m.earliest, m.latest))
    start, end = stamps.period(repeat.get("boundsPeriod"))
    beat = rhythm(timing)
    unread = bool(codings(timing.get("code"))) and beat == _UNSAID
    return _Written(events, repeat, start, end, beat, whole(number(repeat.get("count"))), unread)


def _last(written: _Written, first: Moment | None, one_dose: bool, dates: OrderDates) -> Moment | None:
    """The last dose: as written, else as the supply tells; None where the order has no end."""
    events, beat, count = written.events, written.beat, written.count
    if events and not written.repeats:
        return events[-1]
    if one_dose:
        return first
    if len(events) > 1:
        return events[-1]
    if written.end is not None:
        return written.end
    step = beat.period or _DAY
    if first is not None and (bound := length(written.repeat.get("boundsDuration"))) is not None:
        return max(first, shifted(first, _span(bound) - step), key=lambda m: m.latest) if bound else first
    if first is not None and count is not None and count > 1 and written.repeats:
        return _last_of(first, beat, count)
    if first is not None and dates.supply_hours is not None:
        return shifted(first, max(_span(dates.supply_hours) - step, timedelta(0)))
    if dates.supply_end is not None:
        return dates.supply_end
    return first if written.length_only and dates.draft else None


def _doses(
    written: _Written, first: Moment | None, last: Moment | None, *, one_dose: bool, as_needed: bool
) -> tuple[Moment, ...]:
    """Every dose whose time is known: those written one by one, or of a scheduled order that has an end."""
    if written.events and (len(written.events) > 1 or not written.repeats):
        return tuple(written.events[:MOST_DOSES])
    if first is None or last is None or as_needed:
        return ()
    if written.repeats:
        return _until(first, last, written.beat)
    return (first,) if first == last or one_dose else ()


def _as_needed(instruction: Json) -> bool:
    """R4 says it by `asNeeded[x]`, R5 by `asNeeded` and `asNeededFor`."""
    return (
        instruction.get("asNeededBoolean") is True
        or isinstance(instruction.get("asNeededCodeableConcept"), dict)
        or instruction.get("asNeeded") is True
        or isinstance(instruction.get("asNeededFor"), list)
    )


def read_timing(instruction: Json, stamps: Stamps, dates: OrderDates) -> Timing:
    """Timing of one dosage instruction (`{}`: an order without any)."""
    written = _written(obj(instruction.get("timing")), stamps)
    repeat, beat = written.repeat, written.beat
    first, flags = _first(written.events, written.start, dates)
    one_dose = beat.once or written.count == 1 or (not written.stated and dates.draft)
    last = _last(written, first, one_dose, dates)
    as_needed = beat.as_needed or _as_needed(instruction)
    if as_needed:
        flags |= {Flag.PRN}
    if first is not None and not first.day_known:
        flags |= {Flag.PARTIAL_DATE}
    lasts = _seconds(repeat.get("duration"), repeat.get("durationUnit") or repeat.get("durationUnits"))
    return Timing(
        first=first,
        last=last,
        ongoing=last is None and first is not None and not beat.clash,
        doses=_doses(written, first, last, one_dose=one_dose, as_needed=as_needed),
        interval_hours=beat.interval,
        per_day=beat.per_day,
        infusion_minutes=None if lasts is None else lasts / 60,
        as_needed=as_needed,
        stated=written.stated,
        flags=flags,
    )


def merged(timings: Iterable[Timing]) -> Timing:
    """One timing for an order of several instructions: its earliest and latest dose, and all between."""
    parts = list(timings)
    if len(parts) == 1:
        return parts[0]
    firsts = [t.first for t in parts if t.first is not None]
    lasts = [t.last for t in parts if t.last is not None]
    ongoing = any(t.ongoing for t in parts)
    doses = sorted({m for t in parts for m in t.doses}, key=lambda m: (m.earliest, m.latest))
    scheduled = [t for t in parts if not t.as_needed]
    lead = scheduled[0] if scheduled else parts[0]
    return replace(
        lead,
        first=min(firsts, key=lambda m: (m.earliest, m.latest)) if firsts else None,
        last=None if ongoing or not lasts else max(lasts, key=lambda m: (m.latest, m.earliest)),
        ongoing=ongoing,
        doses=tuple(doses[:MOST_DOSES]),
        as_needed=not scheduled,
        stated=any(t.stated for t in parts),
        flags=frozenset().union(*(t.flags for t in parts)),
    )


def supply_dates(order: Json, stamps: Stamps) -> tuple[Moment | None, Moment | None, Decimal | None]:
    """Validity period and supply (in hours) of `dispenseRequest`."""
    dispense = obj(order.get("dispenseRequest"))
    start, end = stamps.period(dispense.get("validityPeriod"))
    return start, end, length(dispense.get("expectedSupplyDuration"))


def days_of(quantity: object) -> Decimal | None:
    """`daysSupply` in days; a bare number is days."""
    raw = obj(quantity)
    if not text(raw.get("code")) and not text(raw.get("unit")):
        return number(raw.get("value"))
    found = length(quantity)
    return None if found is None else found / 24


def instructions(order: Json, field: str = "dosageInstruction") -> list[Json]:
    """Dosage instructions in their `sequence`; one empty instruction where the order has none."""
    found = objs(order.get(field))
    return sorted(found, key=lambda i: whole(number(i.get("sequence"))) or 0) if found else [{}]
