"""Several results of one concept: which one stands (chart-facts section 19)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from operator import attrgetter
from typing import TypeAlias

from fhir_mapping.chart import Loss, LossReason, Moment, Observation, Result, Value
from fhir_mapping.read.times import Stamps
from fhir_mapping.read.traits import Traits, Worst

_SAME = Decimal("0.01")  # relative difference up to which two units of one result agree
_TOLD_APART_BY = ("agent", "toxicity", "identity_check_stage", "bag_number", "icaht_phase", "oxygen_device")
_About: TypeAlias = tuple[object, ...]
_RESULT_ORDER = {Result.NEGATIVE: 0, Result.INDETERMINATE: 1, Result.POSITIVE: 2}


@dataclass(slots=True, eq=False)
class Reported:
    """An Observation with what decides between versions of it."""

    observation: Observation
    status: str
    issued: str = ""  # as written; read only where two reports compete
    updated: str = ""
    identifiers: frozenset[str] = frozenset()

    @property
    def preliminary(self) -> bool:
        return self.status in ("preliminary", "partial")

    @property
    def revised(self) -> bool:
        return self.status in ("amended", "corrected")

    @property
    def sample(self) -> str:
        specimen = self.observation.specimen
        return specimen.reference if specimen is not None else ""


def _key(one: Reported) -> tuple[object, ...]:
    """A total order that no order of arrival can change."""
    seen = one.observation
    value = seen.value
    number = value.quantity.value if value.quantity is not None else Decimal(value.number or 0)
    richness = (-len(seen.components), seen.uln is None, seen.lln is None, bool(seen.flags))
    return (
        seen.when.latest,
        seen.when.earliest,
        seen.reference,
        number,
        value.codes,
        value.text,
        str(value.result),
        str(value.yes),
        richness,
    )


def _shape(value: Value) -> tuple[object, ...]:
    return value.codes, value.result, value.yes, value.number, value.time, value.absent_reason


def _same_value(one: Value, other: Value) -> bool:
    """Equal, or the same number within 1 % after conversion."""
    a, b = one.quantity, other.quantity
    if a is None or b is None:
        if a is not None or b is not None:
            return False
        return _shape(one) == _shape(other) and (bool(one.codes) or one.text == other.text)
    if a.unit != b.unit or a.comparator != b.comparator:
        return False
    return abs(a.value - b.value) <= _SAME * max(abs(a.value), abs(b.value))


def _better(one: Reported) -> tuple[object, ...]:
    """Which of two equal reports is shown: the richer one, reported in the preferred unit."""
    seen = one.observation
    quantity = seen.value.quantity
    converted = (
        quantity is not None and quantity.reported is not None and quantity.reported.unit != quantity.unit
    )
    return -len(seen.components), seen.uln is None, converted, one.preliminary, len(seen.flags), _key(one)


def _without_repeats(group: list[Reported]) -> list[Reported]:
    kept: list[Reported] = []
    for one in sorted(group, key=_better):
        if not any(_twins(one, other) for other in kept):
            kept.append(one)
    return kept


def _twins(one: Reported, other: Reported) -> bool:
    a, b = one.observation, other.observation
    if one.sample and other.sample and one.sample != other.sample:
        return False
    if a.components and b.components and a.components != b.components:
        return False
    return _same_value(a.value, b.value)


def _newest_versions(group: list[Reported]) -> list[Reported]:
    """Versions of one report (same business identifier): the final or corrected one replaces the earlier."""
    sharing: dict[str, list[Reported]] = {}
    for one in group:
        for identifier in one.identifiers:
            sharing.setdefault(identifier, []).append(one)
    replaced: set[int] = set()
    for versions in sharing.values():
        final = any(not one.preliminary for one in versions)
        revised = any(one.revised for one in versions)
        for one in versions:
            if (final and one.preliminary) or (revised and not one.revised):
                replaced.add(id(one))
    return [one for one in group if id(one) not in replaced]


def _final_over_preliminary(group: list[Reported]) -> list[Reported]:
    if not any(one.preliminary for one in group):
        return group
    settled = {one.sample for one in group if one.sample and not one.preliminary}
    times = {one.observation.when for one in group if not one.preliminary}
    return [
        one
        for one in group
        if not one.preliminary or not (one.sample in settled or one.observation.when in times)
    ]


def _is_number(one: Reported) -> bool:
    return one.observation.value.quantity is not None or one.observation.value.number is not None


def _comparable(one: Reported, traits: Traits) -> bool:
    value = one.observation.value
    if value.codes:
        return _rank(one, traits) is not None
    return _is_number(one) or value.result is not None


def _rank(one: Reported, traits: Traits) -> int | None:
    """Place of a coded answer among those of its concept, the worst last; None where they have no order."""
    codes = one.observation.value.codes
    if traits.worst is not Worst.LAST or len(codes) != 1 or codes[0] not in traits.answers:
        return None
    return traits.answers.index(codes[0])


def _amount(one: Reported) -> Decimal:
    value = one.observation.value
    return value.quantity.value if value.quantity is not None else Decimal(value.number or 0)


def _units_differ(group: Sequence[Reported]) -> bool:
    units = {
        q.reported.unit
        for one in group
        if (q := one.observation.value.quantity) is not None and q.reported is not None
    }
    return len(units) > 1


def _worst(group: list[Reported], traits: Traits) -> list[Reported]:
    """The report that is worse for the patient; all of them where that cannot be said."""
    if all(_is_number(one) for one in group) and traits.worst in (Worst.LOW, Worst.HIGH):
        chosen = (min if traits.worst is Worst.LOW else max)(_amount(one) for one in group)
        return [next(one for one in sorted(group, key=_better) if _amount(one) == chosen)]
    ranks = [_rank(one, traits) for one in group]
    if traits.worst is Worst.LAST and None not in ranks:
        return [max(sorted(group, key=_better), key=lambda one: _rank(one, traits) or 0)]
    if traits.worst is Worst.POSITIVE and not any(_is_number(one) for one in group):
        return [max(sorted(group, key=_better), key=_severity)]
    return group


def _severity(one: Reported) -> int:
    result = one.observation.value.result
    return -1 if result is None else _RESULT_ORDER[result]


def _latest_issued(group: list[Reported], stamps: Stamps) -> list[Reported]:
    """Those issued last, then updated last; reports without such stamps cannot be told apart."""
    chosen = group
    for stamp in (attrgetter("issued"), attrgetter("updated")):
        dated = [(moment.latest, one) for one in chosen if (moment := stamps.read(stamp(one))) is not None]
        if len(chosen) > 1 and len(dated) == len(chosen):
            newest = max(when for when, _ in dated)
            chosen = [one for when, one in dated if when == newest]
    return chosen


def _about(seen: Observation) -> _About:
    """What an Observation is about besides its concept: other drug, bag or site, other fact."""
    if not seen.focus and not seen.body_sites and not seen.components:
        return ()
    named = tuple((c, v.codes, v.text) for c in _TOLD_APART_BY if (v := seen.component(c)) is not None)
    about = (seen.focus, tuple(sorted(seen.body_sites)), named)
    return about if any(about) else ()


def _contradiction(group: list[Reported]) -> list[Loss]:
    return [
        Loss(LossReason.CONTRADICTORY, one.observation.concept, one.observation.reference, _written(one))
        for one in group
    ]


def _one_instant(group: list[Reported], traits: Traits, stamps: Stamps) -> tuple[list[Reported], list[Loss]]:
    """What stands of several reports of one moment.

    A corrected report stands for the one it corrects. Results in different units that differ are unusable;
    in one unit the one issued last stands, then the worst for the patient. A date without an hour may hold
    several samples.
    """
    group = _without_repeats(group)
    comparable = [one for one in group if _comparable(one, traits)]
    if len(comparable) < 2:
        return group, []
    others = [one for one in group if not _comparable(one, traits)]
    one_sample = len({one.sample for one in comparable}) == 1
    exact = all(one.observation.when.exact for one in comparable)
    revised = [one for one in comparable if one.revised]
    if revised and (exact or one_sample):
        latest = _latest_issued(comparable, stamps)
        comparable = latest if len(latest) < len(comparable) else revised
    if len(comparable) < 2 or not exact:
        return others + comparable, []
    two_facts = not one_sample and (not traits.lab or not all(_is_number(one) for one in comparable))
    if two_facts and all(one.sample for one in comparable):
        return group, []  # two samples of one moment: two cultures, two bags
    if _units_differ(comparable):
        return others, _contradiction(comparable)
    if two_facts:
        return group, []
    if one_sample:
        comparable = _latest_issued(comparable, stamps)
    if len(comparable) > 1:
        comparable = _worst(comparable, traits)
    if len(comparable) > 1 and traits.single:
        return others, _contradiction(comparable)
    return others + comparable, []


def _written(one: Reported) -> str:
    quantity = one.observation.value.quantity
    if quantity is None or quantity.reported is None:
        return ""
    return f"{quantity.comparator}{quantity.reported.value} {quantity.reported.unit}"


def _time(one: Reported) -> datetime:
    return one.observation.when.latest


def _settled(group: list[Reported]) -> bool:
    """The usual series: final reports of instants that all differ. Nothing competes with anything."""
    instants = set()
    for one in group:
        when = one.observation.when
        if one.identifiers or one.preliminary or not when.exact:
            return False
        instants.add(when.latest)
    return len(instants) == len(group)


def resolve(
    reports: Iterable[Reported], traits: Traits, stamps: Stamps
) -> tuple[list[Observation], list[Loss]]:
    """The time points of one concept, oldest first, and the reports that contradict each other."""
    group = list(reports)
    if _settled(group):
        group.sort(key=_time)
        return [one.observation for one in group], []
    if len(group) > 1:
        group = _final_over_preliminary(_newest_versions(group))
    moments: dict[tuple[Moment, _About], list[Reported]] = {}
    for one in group:
        moments.setdefault((one.observation.when, _about(one.observation)), []).append(one)
    kept: list[Reported] = []
    losses: list[Loss] = []
    for same in moments.values():
        if len(same) == 1:
            kept += same
            continue
        standing, lost = _one_instant(same, traits, stamps)
        kept += standing
        losses += lost
    kept.sort(key=_key)
    return [one.observation for one in kept], losses
