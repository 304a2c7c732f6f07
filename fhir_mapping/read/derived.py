"""Series that join facts: absolute counts from percentages, corrected calcium and the like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from math import inf

from fhir_mapping import units
from fhir_mapping.chart import Amount, Flag, Observation, Quantity, Series, Value
from fhir_mapping.read.context import Context
from fhir_mapping.read.observation import Observations
from fhir_mapping.read.stored_product import storage_temperatures

# absolute -> (percentage, total, whether the percentage's denominator must be stated), L2, L3, L6
_FROM_PERCENT = {
    "anc": ("neutrophil_pct", "wbc", False),
    "alc": ("lymphocyte_pct", "wbc", False),
    "cd3_abs": ("cd3_pct", "alc", True),
    "cd4_abs": ("cd4_pct", "alc", True),
    "cd8_abs": ("cd8_pct", "alc", True),
    "cd19_abs": ("cd19_of_lymphocytes", "alc", False),
    "cd20_abs": ("cd20_pct", "alc", True),
}
_ALBUMIN_NORMAL, _CALCIUM_PER_ALBUMIN = Decimal("4.0"), Decimal("0.8")  # g/dL; mg/dL per g/dL, L14
_ITEMS = {
    "ice_score": frozenset(
        "ice_orientation_year ice_orientation_month ice_orientation_city ice_orientation_hospital "
        "ice_orientation ice_naming ice_command ice_writing ice_attention ice_not_testable".split()
    ),
    "capd_score": frozenset(
        "capd_eye_contact capd_purposeful_actions capd_aware_of_surroundings capd_communicates_needs "
        "capd_restless capd_inconsolable capd_underactive capd_slow_response capd_not_testable".split()
    ),
}
_ITEM_WINDOW_HOURS = 0.5  # S2: own Observations within 30 minutes


def _by_time(item: Observation) -> tuple[object, ...]:
    return item.when.latest, item.when.earliest, item.reference


def _same_sample(one: Observation, other: Observation) -> bool:
    if (
        one.specimen is not None
        and other.specimen is not None
        and one.specimen.reference
        and other.specimen.reference
    ):
        return one.specimen.reference == other.specimen.reference
    return one.when == other.when


def _raised(total: Quantity, rise: Decimal) -> Quantity:
    """Total calcium plus the albumin correction (mg/dL), also in the reported unit, where limits compare."""
    reported = total.reported
    step = None if reported is None else units.convert("calcium_total", rise, total.unit, reported.unit)
    corrected = None if reported is None or step is None else Amount(reported.value + step, reported.unit)
    return Quantity(total.value + rise, total.unit, reported=corrected)


class DerivedSeries:
    """`series(concept)`: the concept's own Observations and what may stand in for them, flagged."""

    __slots__ = ("_context", "_observations", "_seen")

    def __init__(self, context: Context, observations: Observations) -> None:
        self._context = context
        self._observations = observations
        self._seen: dict[str, Series] = {}

    def __call__(self, concept: str) -> Series:
        known = self._seen.get(concept)
        if known is None:
            known = self._seen[concept] = self._make(concept)
        return known

    def _make(self, concept: str) -> Series:
        own = self._observations.raw(concept)
        if concept in _ITEMS:
            own = self._with_items(own)
        if concept == "triglycerides":
            own = self._told_fasting(own)
        if concept == "urine_output":
            own = Series(concept, tuple(i for i in own.items if not _is_rate(i)), own.losses, own.pending)
        extra: list[Observation] = []
        if concept in _FROM_PERCENT:
            extra = self._from_percent(concept, own)
        elif concept in _SPECIAL:
            extra = _SPECIAL[concept](self)
        if not extra:
            return own
        return Series(concept, tuple(sorted([*own.items, *extra], key=_by_time)), own.losses, own.pending)

    # -- counts ------------------------------------------------------------------------------------------

    def _from_percent(self, concept: str, own: Series) -> list[Observation]:
        percent_concept, total_concept, denominator_needed = _FROM_PERCENT[concept]
        traits = self._context.traits(concept)
        percents = self(percent_concept).items
        totals = self(total_concept).items if percents else ()
        found: list[Observation] = []
        for percent in percents:
            if denominator_needed and "lymphocytes" not in self._denominator(percent):
                continue
            if any(_same_sample(percent, absolute) for absolute in own.items):
                continue
            for total in totals:
                if not _same_sample(percent, total):
                    continue
                count = _share(percent.value.quantity, total.value.quantity, traits.preferred)
                if count is not None:
                    found.append(
                        replace(
                            percent,
                            concept=concept,
                            value=Value(quantity=count),
                            uln=None,
                            lln=None,
                            components={},
                            flags=percent.flags | total.flags | {Flag.DERIVED},
                        )
                    )
                    break
        return found

    def _denominator(self, item: Observation) -> frozenset[str]:
        """Denominator of a percentage as stated by component or method."""
        stated = item.component("cd19_denominator")
        if stated is not None and stated.codes:
            return frozenset(stated.codes)
        words = self._observations.method_text(item.reference).casefold()
        found = {name for name in ("leukocytes", "lymphocytes") if name in words}
        if "淋巴球" in words:
            found.add("lymphocytes")
        if "白血球" in words:
            found.add("leukocytes")
        return frozenset(found) if len(found) == 1 else frozenset()

    def _with_denominator(self, cells: str) -> list[Observation]:
        items = self._observations.raw("cd19_pct").items
        return [
            replace(item, concept=f"cd19_of_{cells}") for item in items if cells in self._denominator(item)
        ]

    # -- chemistry ---------------------------------------------------------------------------------------

    def _corrected_calcium(self) -> list[Observation]:
        reported = self._observations.raw("calcium_corrected").items
        albumins = self("albumin").by_day()
        found: list[Observation] = []
        for calcium in self("calcium_total").items:
            total = calcium.value.quantity
            if total is None or total.comparator or not calcium.when.day_known:
                continue
            day = calcium.when.date
            if any(item.when.day_known and item.when.date == day for item in reported):
                continue
            candidates = [
                a for a in albumins.get(day, []) if a.value.quantity and not a.value.quantity.comparator
            ]
            if not candidates:
                continue
            albumin = min(
                candidates,
                key=lambda a: (abs((a.when.latest - calcium.when.latest).total_seconds()), a.reference),
            )
            assert albumin.value.quantity is not None
            rise = _CALCIUM_PER_ALBUMIN * (_ALBUMIN_NORMAL - albumin.value.quantity.value)
            found.append(
                replace(
                    calcium,
                    concept="calcium_corrected",
                    value=Value(quantity=_raised(total, rise)),
                    uln=None,
                    lln=None,
                    flags=calcium.flags | albumin.flags | {Flag.DERIVED},
                )
            )
        return found

    def _fasting(self) -> list[Observation]:
        items = self._observations.raw("triglycerides").items
        return [
            replace(item, concept="triglycerides_fasting")
            for item in items
            if (said := item.component("fasting")) is not None and said.yes is True
        ]

    def _told_fasting(self, own: Series) -> Series:
        """A plain triglyceride: fasting unknown unless a component says it."""
        items = []
        for item in own.items:
            said = item.component("fasting")
            known = said is not None and said.yes is not None
            items.append(item if known else replace(item, flags=item.flags | {Flag.FASTING_UNKNOWN}))
        return Series(own.concept, tuple(items), own.losses, own.pending)

    # -- genomics ----------------------------------------------------------------------------------------

    def _variants(self, concept: str, gene: str) -> list[Observation]:
        """Genomic variant Observations of mCODE whose studied gene is exactly this one (D9)."""
        found = []
        for item in self._observations.raw("genetic_variant").items:
            studied = item.component("gene_studied")
            if studied is not None and studied.text.upper() == gene:
                found.append(replace(item, concept=concept))
        return found

    # -- vital signs -------------------------------------------------------------------------------------

    def _surface_temperatures(self) -> list[Observation]:
        surface = self._observations.raw("body_surface_temperature").items
        if not surface:
            return []
        core = {item.when for item in self._observations.raw("body_temperature").items}
        return [item for item in surface if item.when not in core]

    def _urine_rates(self) -> list[Observation]:
        """Rates sent under the code of the volume (O12)."""
        items = self._observations.raw("urine_output").items
        return [replace(item, concept="urine_output_rate") for item in items if _is_rate(item)]

    # -- products ----------------------------------------------------------------------------------------

    def _storage(self) -> list[Observation]:
        """What the product's own record says, where no measurement was sent."""
        measured = self._observations.raw("storage_temperature").items
        return [] if measured else storage_temperatures(self._context)

    # -- scores ------------------------------------------------------------------------------------------

    def _with_items(self, own: Series) -> Series:
        """Items sent as Observations of their own within 30 minutes belong to the total beside them."""
        names = _ITEMS[own.concept]
        items = tuple(self._joined(total, names) for total in own.items)
        return Series(own.concept, items, own.losses, own.pending)

    def _joined(self, total: Observation, names: frozenset[str]) -> Observation:
        extra: dict[str, tuple[Value, ...]] = {}
        for name in sorted(names - set(total.components)):
            near = [item for item in self._observations.raw(name).items if _near(item, total)]
            if near:
                extra[name] = (min(near, key=lambda item: (_hours_apart(item, total), item.reference)).value,)
        return replace(total, components={**total.components, **extra}) if extra else total

    def _loose_items(self, concept: str) -> list[Observation]:
        """Items without any total near them: one assessment per half hour, with an empty value."""
        names = _ITEMS[concept]
        totals = self._observations.raw(concept).items
        loose = sorted(
            (
                item
                for name in names
                for item in self._observations.raw(name).items
                if not any(_near(item, total) for total in totals)
            ),
            key=_by_time,
        )
        found: list[Observation] = []
        while loose:
            start = loose[0]
            group = [item for item in loose if item is start or _near(start, item)]
            loose = [item for item in loose if item not in group]
            values: dict[str, tuple[Value, ...]] = {}
            for item in group:  # oldest first: of an item asked again the newest answer counts
                values[item.concept] = (item.value,)
            flags = frozenset().union(*(item.flags for item in group)) | {Flag.DERIVED}
            found.append(replace(start, concept=concept, value=Value(), components=values, flags=flags))
        return found


def _is_rate(item: Observation) -> bool:
    return item.value.quantity is not None and item.value.quantity.unit.endswith("/h")


def _near(one: Observation, other: Observation) -> bool:
    if one.reference == other.reference:
        return True
    return _hours_apart(one, other) <= _ITEM_WINDOW_HOURS


def _hours_apart(one: Observation, other: Observation) -> float:
    """Hours between the two; dates without hours are of one time only where they are equal."""
    gap = one.when.hours_to(other.when)
    if gap is None:
        return 0.0 if one.when == other.when else inf
    return abs(gap)


def _share(percent: Quantity | None, total: Quantity | None, unit: str) -> Quantity | None:
    """percent of total, in the unit of the absolute count."""
    if percent is None or total is None or (percent.comparator and total.comparator) or percent.unit != "%":
        return None
    value = total.value * percent.value / 100
    converted = value if total.unit == unit else units.convert(None, value, total.unit, unit)
    return None if converted is None else Quantity(converted, unit, percent.comparator or total.comparator)


# Outside the class: bound methods kept by an instance would hold the whole request in a reference cycle.
_SPECIAL: dict[str, Callable[[DerivedSeries], list[Observation]]] = {
    "body_temperature": DerivedSeries._surface_temperatures,
    "calcium_corrected": DerivedSeries._corrected_calcium,
    "cd19_of_leukocytes": lambda series: series._with_denominator("leukocytes"),
    "cd19_of_lymphocytes": lambda series: series._with_denominator("lymphocytes"),
    "triglycerides_fasting": DerivedSeries._fasting,
    "tp53_mutation": lambda series: series._variants("tp53_mutation", "TP53"),
    "kmt2a_rearrangement": lambda series: series._variants("kmt2a_rearrangement", "KMT2A"),
    "ph_positive": lambda series: series._variants("ph_positive", "BCR::ABL1"),
    "storage_temperature": DerivedSeries._storage,
    "urine_output_rate": DerivedSeries._urine_rates,
    "ice_score": lambda series: series._loose_items("ice_score"),
    "capd_score": lambda series: series._loose_items("capd_score"),
}
