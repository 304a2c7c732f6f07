"""Observations: one pass indexes them by concept, values are decoded when a series is asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from fhir_mapping.chart import (
    Flag,
    Loss,
    LossReason,
    Moment,
    Observation,
    Patient,
    Precision,
    Quantity,
    Result,
    Series,
    Specimen,
    Value,
)
from fhir_mapping.read.coding import NO_CONCEPTS, Coded, codings, names_of
from fhir_mapping.read.conflicts import Reported, resolve
from fhir_mapping.read.context import DAMAGE, Context
from fhir_mapping.read.losses import in_order
from fhir_mapping.read.pool import Subject, accepted, references
from fhir_mapping.read.reference_range import ReferenceRanges
from fhir_mapping.read.shape import EMPTY, Json, name_of, notes, obj, objs, text
from fhir_mapping.read.specimen import is_blood, read_specimen
from fhir_mapping.read.traits import Traits
from fhir_mapping.read.unread import Entry, unread_series
from fhir_mapping.read.values import Unreadable, quantitative

_USED = frozenset({"final", "amended", "corrected", "preliminary", "partial"})
_PENDING = "registered"
_NEVER = frozenset({"entered-in-error", "cancelled", "unknown", "specimen-in-process"})
_CATEGORY_OF_KIND = {"laboratory": "lab", "vital-signs": "vital", "survey": "score", "exam": "score"}
_NAMES = frozenset({"lab", "vital", "score", "test"})  # matched by exact name where no code is known
_INHERITED = ("subject", "effectiveDateTime", "effectivePeriod")
_NO_FLAGS: frozenset[Flag] = frozenset()
_MISMATCH = frozenset({Flag.PROPERTY_MISMATCH})
_ASKED_MORE = frozenset({"body_surface_temperature"})  # flagged whatever it holds
_NO_COMPONENTS: Mapping[str, tuple[Value, ...]] = MappingProxyType({})
_HAEMOLYSED = re.compile(r"\b(?:haemoly[sz]|hemoly[sz])|溶血", re.IGNORECASE)
_NOT_HAEMOLYSED = re.compile(
    r"\b(?:no|not|non|without)[\s-]+(?:\w+\s+){0,2}(?:haemoly|hemoly)|(?:無|未|沒有)\s*溶血", re.IGNORECASE
)
# What a plain result may hold. Anything else (specimen, interpretation, note ...) can change what it means.
_PLAIN = frozenset(
    "resourceType id meta text language status category code subject encounter basedOn identifier "
    "effectiveDateTime issued performer valueQuantity referenceRange".split()
)


@dataclass(slots=True, eq=False)
class _Shared:
    """What an Observation and its components have in common."""

    reference: str
    status: str
    when: Moment | None
    started: Moment | None
    issued: str
    flags: frozenset[Flag]
    specimen: Specimen | None


class Observations:
    """The Observations of one chart."""

    __slots__ = ("_context", "_decoder", "_index", "_series")

    def __init__(self, context: Context, patient: Patient) -> None:
        self._context = context
        self._index: dict[str, list[Entry]] | None = None
        self._series: dict[str, Series] = {}
        self._decoder = Decoder(context, patient)

    # -- index -------------------------------------------------------------------------------------------

    def _arrived(self) -> Iterator[Json]:
        """Observations that came alone, contained in a report or panel, or as the conclusion of a report."""
        pool = self._context.pool
        for resource in pool.of("Observation"):
            yield resource
            if "contained" in resource:
                yield from self._contained(resource)
        for report in pool.of("DiagnosticReport"):
            if "contained" in report and pool.subject_of(report) in (Subject.OURS, Subject.UNSTATED):
                yield from self._contained(report)
            if "conclusionCode" in report and (culture := self._concluded(report)) is not None:
                yield culture

    def _concluded(self, report: Json) -> Json | None:
        """The conclusion of a culture's report as a result, where none of the culture came with it (V6)."""
        context = self._context
        cultures = frozenset(
            c
            for c in context.codes.read(report.get("code"), _NAMES).concepts
            if context.traits(c).collected_counts
        )
        members = (context.pool.resolve(link, report) or EMPTY for link in objs(report.get("result")))
        sent = NO_CONCEPTS.union(*(context.codes.read(m.get("code"), _NAMES).concepts for m in members))
        if not cultures or cultures & sent:
            return None
        concluded = objs(report.get("conclusionCode"))
        value = {
            "coding": [coding for item in concluded for coding in objs(item.get("coding"))],
            "text": next((name for item in concluded for name in names_of(item)), ""),
        }
        status = "amended" if report.get("status") == "appended" else report.get("status")
        whole = {**report, "status": status, "valueCodeableConcept": value}
        samples = objs(whole.pop("specimen", None))
        return {**whole, "specimen": samples[0]} if samples else whole

    def _contained(self, owner: Json) -> Iterator[Json]:
        """Results inside a report or panel; what a withdrawn one holds is withdrawn with it."""
        if text(owner.get("status")) in _NEVER:
            return
        for inner in objs(owner.get("contained")):
            if inner.get("resourceType") == "Observation":
                inherited = {key: owner[key] for key in _INHERITED if key in owner}
                whole = {**inherited, **inner}
                self._decoder.owners[id(whole)] = (whole, name_of(owner))
                yield whole

    def index(self) -> dict[str, list[Entry]]:
        """Observations by concept. The usual one (final, of our patient, one code of one concept) is entered
        without further questions once its code and its subject have been seen."""
        if self._index is None:
            index: dict[str, list[Entry]] = {}
            usual: dict[tuple[str, str], str] = {}
            ours: set[str] = set()
            for resource in self._arrived():
                try:
                    concept = _usual(resource, usual, ours)
                    if concept is not None:
                        index[concept].append((resource, None, False, True))
                        continue
                    self._enter(resource, index)
                    self._remember(resource, index, usual, ours)
                    concept = _usual(resource, usual, ours)
                    if concept is not None:  # the first of its kind: entered with questions, now known
                        index[concept][-1] = (resource, None, False, True)
                except DAMAGE:
                    self._context.damaged(resource)
            self._index = index
        return self._index

    def _remember(
        self, resource: Json, index: dict[str, list[Entry]], usual: dict[tuple[str, str], str], ours: set[str]
    ) -> None:
        """Make the next Observation of this code and subject a usual one."""
        written = objs(obj(resource.get("code")).get("coding"))
        coded = self._context.codes.single(written[0]) if len(written) == 1 else None
        if coded is not None and len(coded.concepts) == 1:
            (concept,) = coded.concepts
            if concept in index:
                usual[written[0]["system"], written[0]["code"]] = concept
        reference = obj(resource.get("subject")).get("reference")
        if not isinstance(reference, str) or reference.startswith("#"):
            return
        if self._context.pool.subject_of(resource) is Subject.OURS:
            ours.add(reference)

    def _enter(self, resource: Json, index: dict[str, list[Entry]]) -> None:
        context = self._context
        status = resource.get("status")
        if not isinstance(status, str) or (status not in _USED and status != _PENDING):
            if not isinstance(status, str) or status not in _NEVER:
                context.losses.add(LossReason.MALFORMED, name_of(resource), text="status")
            return
        if context.pool.subject_of(resource) is not Subject.OURS and (
            accepted(context.pool, resource, context.losses) is None
        ):
            return
        if "focus" in resource and context.pool.about_another(resource):
            return
        own = self._concepts(resource, resource, index, None)
        if not own and not _coded(resource.get("code")):
            context.losses.add(LossReason.MALFORMED, name_of(resource), text="code")
        if "component" in resource:
            for component in objs(resource["component"]):
                self._concepts(resource, component, index, own)

    def _concepts(
        self, resource: Json, holder: Json, index: dict[str, list[Entry]], parents: frozenset[str] | None
    ) -> frozenset[str]:
        coded = self._context.codes.read(holder.get("code"), _NAMES)
        if coded.contradictory:
            self._context.losses.add(LossReason.CONTRADICTORY, name_of(resource), text="contradictory codes")
            return NO_CONCEPTS
        concepts = coded.concepts or _signed(self._context, resource, holder, coded)
        if len(concepts) > 1:
            concepts = self._told_apart(resource, holder, concepts)
        component = None if parents is None else holder
        for concept in concepts:
            if parents is None or concept not in parents:
                index.setdefault(concept, []).append((resource, component, coded.by_name, False))
        return concepts

    def _told_apart(self, resource: Json, holder: Json, concepts: frozenset[str]) -> frozenset[str]:
        """Concepts that share a code on purpose: saturation by pulse oximeter or in arterial blood."""
        if concepts >= {"spo2", "sao2"}:
            categories = {code for item in objs(resource.get("category")) for _, code in codings(item)}
            arterial = "specimen" in resource or "laboratory" in categories
            return concepts - {"spo2" if arterial else "sao2"}
        return concepts

    # -- series ------------------------------------------------------------------------------------------

    def raw(self, concept: str) -> Series:
        """Series of one concept as sent, conflicts resolved; derived values are added elsewhere."""
        known = self._series.get(concept)
        if known is None:
            entries = self.index().get(concept, [])
            traits = self._context.traits(concept)
            known = unread_series(entries, traits, self._decoder)
            if known is None:
                known = self._decoder.series(entries, traits)
            self._series[concept] = known
        return known

    def method_text(self, reference: str) -> str:
        """`method` of an Observation in words; "" where it has none."""
        method = obj(obj(self._context.pool.get(reference)).get("method"))
        return text(method.get("text")) or " ".join(
            text(c.get("display")) for c in objs(method.get("coding"))
        )

    def has(self, concept: str) -> bool:
        return concept in self.index()


class Decoder:
    """Observations to facts, one concept at a time."""

    __slots__ = ("_context", "_latest", "_ranges", "_shared", "owners")

    def __init__(self, context: Context, patient: Patient) -> None:
        self._context = context
        self._latest = context.latest_allowed
        self._shared: dict[int, _Shared] = {}
        self._ranges = ReferenceRanges(context.values, patient, context.now)
        self.owners: dict[int, tuple[Json, str]] = {}  # contained Observation by identity -> its owner

    def _common(self, resource: Json) -> _Shared:
        if "component" not in resource:
            return self._read_common(resource)
        known = self._shared.get(id(resource))
        if known is None:
            known = self._shared[id(resource)] = self._read_common(resource)
        return known

    def _read_common(self, resource: Json) -> _Shared:
        context = self._context
        read = context.stamps.read
        flags: list[Flag] = []
        started = None
        when = read(resource.get("effectiveDateTime")) or read(resource.get("effectiveInstant"))
        if when is None:
            started, end = context.stamps.period(resource.get("effectivePeriod"))
            when = end or started
        if when is None and (when := read(resource.get("issued"))) is not None:
            flags.append(Flag.ISSUED_TIME)
        status = text(resource.get("status"))
        if status in ("preliminary", "partial"):
            flags.append(Flag.PRELIMINARY)
        if context.pool.subject_of(resource) is Subject.UNSTATED:
            flags.append(Flag.NO_SUBJECT)
        if when is not None and not when.exact and not when.day_known:
            flags.append(Flag.PARTIAL_DATE)
        if ("note" in resource or "interpretation" in resource) and _haemolysed(resource):
            flags.append(Flag.HAEMOLYSED)
        owned = self.owners.get(id(resource)) if self.owners else None
        return _Shared(
            name_of(resource) if owned is None else owned[1],
            status,
            when,
            started,
            text(resource["issued"]) if "issued" in resource else "",
            frozenset(flags) if flags else _NO_FLAGS,
            read_specimen(resource, context) if "specimen" in resource else None,
        )

    def _components(self, resource: Json) -> dict[str, tuple[Value, ...]]:
        """Values of components and panel members by concept."""
        context = self._context
        found: dict[str, list[Value]] = {}
        for component in objs(resource.get("component")):
            coded = context.codes.read(component.get("code"), _NAMES)
            for concept in coded.concepts or _signed(context, resource, component, coded):
                value = context.values.read(component, context.traits(concept))
                if isinstance(value, Value):
                    found.setdefault(concept, []).append(value)
                else:
                    context.losses.add(value.reason, name_of(resource), concept, value.text)
        sent = set(found)
        for link in objs(resource.get("hasMember")):
            member = context.pool.resolve(link, resource)
            if (
                member is None
                or member.get("status") not in _USED
                or member.get("resourceType") != "Observation"
            ):
                continue
            if context.pool.subject_of(member) not in (Subject.OURS, Subject.UNSTATED):
                continue
            for concept in context.codes.read(member.get("code"), _NAMES).concepts - sent:
                value = context.values.read(member, context.traits(concept))
                if isinstance(value, Value):
                    found.setdefault(concept, []).append(value)
        return {concept: tuple(values) for concept, values in found.items()}

    def _growth(self, culture: Json, traits: Traits) -> Value:
        """Result of a culture that its members report (V6): any organism is a positive result."""
        values = [
            value
            for link in objs(culture.get("hasMember"))
            if (member := self._context.pool.resolve(link, culture)) is not None
            and member.get("status") in _USED
            and isinstance(value := self._context.values.read(member, traits), Value)
            and value.result is not None
        ]
        return next((v for v in values if v.result is Result.POSITIVE), values[0] if values else Value())

    def _plain(self, resource: Json, traits: Traits) -> Reported | None:
        """A usual Observation that holds a number at an instant and nothing that could change its meaning,
        read without further questions; None for any other. Says the same as `_decode`, sooner."""
        raw = resource.get("valueQuantity")
        if type(raw) is not dict or not _PLAIN.issuperset(resource) or traits.concept in _ASKED_MORE:
            return None
        context = self._context
        when = context.stamps.read(resource.get("effectiveDateTime"))
        if when is None or when.precision is not Precision.INSTANT or when.latest > self._latest:
            return None
        value = quantitative(raw, traits, context.values)
        if isinstance(value, Unreadable) or (quantity := value.quantity) is None:
            return None
        uln, lln = None, None
        if "referenceRange" in resource:
            uln, lln = self._ranges.limits(resource, quantity, traits)
        (coding,) = resource["code"]["coding"]
        mismatch = traits.lab and "display" in coding and _other_property(coding["display"], quantity)
        observation = Observation(
            name_of(resource),
            traits.concept,
            when,
            value,
            None,
            _NO_COMPONENTS,
            uln,
            lln,
            performers=references(resource["performer"]) if "performer" in resource else (),
            flags=_MISMATCH if mismatch else _NO_FLAGS,
        )
        return Reported(
            observation,
            "final",
            text(resource["issued"]) if "issued" in resource else "",
            text(obj(resource["meta"]).get("lastUpdated")) if "meta" in resource else "",
            _identifiers(resource) if "identifier" in resource else NO_CONCEPTS,
        )

    def _decode(self, entry: Entry, traits: Traits) -> Reported | Loss | None:
        resource, component, by_name, usual = entry
        if usual and (plain := self._plain(resource, traits)) is not None:
            return plain
        context = self._context
        shared = self._common(resource)
        concept = traits.concept
        if traits.lab and not traits.any_specimen and not is_blood(shared.specimen):
            return None
        when = shared.when
        if traits.collected_counts and shared.specimen is not None and shared.specimen.collected is not None:
            when = shared.specimen.collected
        if when is None:
            return Loss(LossReason.MALFORMED, concept, shared.reference, "no time")
        if when.earliest > self._latest:
            return Loss(LossReason.MALFORMED, concept, shared.reference, "in the future")
        holder = resource if component is None else component
        value = context.values.read(holder, traits)
        components: Mapping[str, tuple[Value, ...]] = _NO_COMPONENTS
        if component is None and ("component" in resource or "hasMember" in resource):
            components = self._components(resource)
            if isinstance(value, Value) and value.empty and concept in components:
                value = components[concept][0]
            if isinstance(value, Value) and value.empty and traits.collected_counts:
                value = self._growth(resource, traits)
        if shared.status == _PENDING:
            value = Value()
        elif isinstance(value, Unreadable):
            return Loss(value.reason, concept, shared.reference, value.text)
        elif value.empty and not components and (traits.measured or component is not None):
            reason = value.absent_reason or "no value"
            return Loss(LossReason.NOT_ON_CHART, concept, shared.reference, reason)
        uln, lln = None, None
        if "referenceRange" in holder and value.quantity is not None:
            uln, lln = self._ranges.limits(holder, value.quantity, traits)
        observation = Observation(
            shared.reference,
            concept,
            when,
            value,
            shared.started,
            components,
            uln,
            lln,
            shared.specimen,
            context.sites(resource.get("bodySite")) if "bodySite" in resource else NO_CONCEPTS,
            self._devices(resource) if "device" in resource else NO_CONCEPTS,
            references(resource.get("focus")) if "focus" in resource else (),
            references(resource.get("performer")) if "performer" in resource else (),
            shared.status == _PENDING,
            self._flags(shared, holder, traits, value, by_name),
        )
        return Reported(
            observation,
            shared.status,
            shared.issued,
            text(obj(resource.get("meta")).get("lastUpdated")) if "meta" in resource else "",
            _identifiers(resource) if "identifier" in resource else NO_CONCEPTS,
        )

    def _flags(
        self, shared: _Shared, holder: Json, traits: Traits, value: Value, by_name: bool
    ) -> frozenset[Flag]:
        mismatch = traits.lab and value.quantity is not None and _property_mismatch(holder, value.quantity)
        surface = traits.concept == "body_surface_temperature"
        if not (by_name or surface or mismatch):
            return shared.flags
        extra: list[Flag] = []
        if by_name:
            extra.append(Flag.BY_NAME)
        if surface:
            extra.append(Flag.SURFACE_TEMPERATURE)
        if mismatch:
            extra.append(Flag.PROPERTY_MISMATCH)
        return shared.flags.union(extra)

    def _devices(self, resource: Json) -> frozenset[str]:
        link = resource.get("device")
        device = self._context.pool.resolve(link, resource)
        found = NO_CONCEPTS
        if device is not None:
            found = self._context.codes.all_of(device.get("type"), frozenset({"device"}))
        shown = text(obj(link).get("display"))
        if not found and shown:
            found = self._context.codes.read({"text": shown}, frozenset({"device"})).concepts
        return found

    def series(self, entries: Iterable[Entry], traits: Traits) -> Series:
        """What the entries say of one concept; losses are kept for the chart too."""
        context = self._context
        reports: list[Reported] = []
        pending: list[Observation] = []
        losses: list[Loss] = []
        for entry in entries:
            try:
                read = self._decode(entry, traits)
            except DAMAGE:
                context.damaged(entry[0], traits.concept)
                continue
            if isinstance(read, Loss):
                losses.append(read)
            elif read is not None and read.observation.pending:
                pending.append(read.observation)
            elif read is not None:
                reports.append(read)
        items, contradictions = resolve(reports, traits, context.stamps)
        losses += contradictions
        for loss in losses:
            context.losses.add(loss.reason, loss.resource, loss.concept, loss.text)
        pending.sort(key=lambda one: (one.when.latest, one.reference))
        unique = tuple(sorted(dict.fromkeys(losses), key=in_order))
        return Series(traits.concept, tuple(items), unique, tuple(pending))


def _signed(context: Context, resource: Json, holder: Json, coded: Coded) -> frozenset[str]:
    """Concepts of unverified codes that the unit or the category confirms."""
    if not coded.unsure:
        return NO_CONCEPTS
    kinds = {
        kind
        for item in objs(resource.get("category"))
        for _, code in codings(item)
        if (kind := _CATEGORY_OF_KIND.get(code))
    }
    fitting = context.codes.of_kind(coded.unsure, *kinds) if kinds else NO_CONCEPTS
    raw = obj(holder.get("valueQuantity"))
    if raw:
        measured = {
            concept
            for concept in coded.unsure
            if (traits := context.traits(concept)).exact_unit
            and isinstance(context.values.quantity(raw, traits), Quantity)
        }
        fitting = frozenset(measured & fitting if fitting else measured)
    return fitting if len(fitting) == 1 else NO_CONCEPTS


def _usual(resource: Json, usual: dict[tuple[str, str], str], ours: set[str]) -> str | None:
    """The concept of a usual Observation; None where it must be looked at closely."""
    try:
        (coding,) = resource["code"]["coding"]
        if resource["status"] != "final" or resource["subject"]["reference"] not in ours:
            return None
        if "component" in resource or "focus" in resource:
            return None
        return usual.get((coding["system"], coding["code"]))
    except (KeyError, TypeError, ValueError):
        return None


def _identifiers(resource: Json) -> frozenset[str]:
    return frozenset(
        f"{text(item.get('system'))}|{value}"
        for item in objs(resource.get("identifier"))
        if (value := text(item.get("value")))
    )


def _haemolysed(resource: Json) -> bool:
    written = notes(resource)
    for item in objs(resource.get("interpretation")):
        written += [text(item.get("text")), *(text(c.get("display")) for c in objs(item.get("coding")))]
    return any(_HAEMOLYSED.search(words) and not _NOT_HAEMOLYSED.search(words) for words in written)


def _property_mismatch(holder: Json, quantity: Quantity) -> bool:
    """A name of the code says moles and the unit mass, or the other way round."""
    return any(
        _other_property(c.get("display"), quantity) for c in objs(obj(holder.get("code")).get("coding"))
    )


def _other_property(display: object, quantity: Quantity) -> bool:
    if not isinstance(display, str) or quantity.reported is None:
        return False
    moles = "mol" in quantity.reported.unit
    return ("[Mass/volume]" if moles else "[Moles/volume]") in display


def _coded(code: object) -> bool:
    """Something is written that a code could be read from."""
    return isinstance(code, dict) and bool(code.get("coding") or code.get("text"))
