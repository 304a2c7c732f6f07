"""Which drug a medication resource means (chart-facts M3, 2.4)."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from decimal import Decimal

from fhir_mapping.chart import Amount, Flag, LossReason, Route
from fhir_mapping.read.amounts import amount, volume_ml
from fhir_mapping.read.coding import NO_CONCEPTS, Coded, codings, is_name
from fhir_mapping.read.context import Context
from fhir_mapping.read.shape import EMPTY, Json, name_of, obj, objs, text
from fhir_mapping.terminology.systems import CVX, trimmed

DRUG_NAMES = frozenset({"drug", "drug_class", "vaccine", "blood_product"})
_SUBSTANCE_KINDS = ("drug", "vaccine", "blood_product")
_ATC_ROUTES = (
    ("D", Route.TOPICAL),
    ("S01", Route.OPHTHALMIC),
    ("S02", Route.OTIC),
    ("R01", Route.NASAL),
    ("R03", Route.INHALED),
    ("A07EA", Route.RECTAL),
)
_TOPICAL = "_topical"
_ANY_VACCINE = "class_vaccines"
_VACCINE_WORDS = re.compile(r"\bvaccines?\b|疫苗")
_ANTIBODIES = ("globulin", "antitoxin", "antibody", "球蛋白", "抗毒素")  # CVX lists these too: no vaccines
FLUIDS = frozenset({"sodium_chloride", "crystalloid", "hypertonic_saline"})


@dataclass(frozen=True, slots=True)
class Identity:
    """A drug as identified. `strengths`: ingredient and its strength per mL, where the product says so."""

    name: str
    concepts: frozenset[str] = NO_CONCEPTS
    ingredients: tuple[str, ...] = ()
    identified: bool = False
    form: str = ""
    lot: str = ""
    strengths: tuple[tuple[str, Amount], ...] = ()
    atc: tuple[str, ...] = ()
    flags: frozenset[Flag] = frozenset()


def _written(order: Json) -> tuple[object, Json]:
    """CodeableConcept and Reference of an order's medication, in R4, R5 and STU3 shapes."""
    concept: object = order.get("medicationCodeableConcept")
    if concept is not None and "medicationReference" not in order and "medication" not in order:
        return concept, EMPTY
    link = obj(order.get("medicationReference"))
    newer = obj(order.get("medication"))
    if concept is None:
        concept = newer.get("concept")
    if concept is None and "coding" in newer:
        concept = newer
    if not link:
        link = obj(newer.get("reference")) or (newer if isinstance(newer.get("reference"), str) else EMPTY)
    return concept, link


def _strength(ingredient: Json) -> Amount | None:
    """Strength per mL of a solution: mg/mL, mmol/mL ..."""
    ratio = obj(ingredient.get("strength")) or obj(ingredient.get("strengthRatio"))
    top, bottom = amount(ratio.get("numerator")), volume_ml(obj(ratio.get("denominator")))
    if top is None or bottom is None or bottom == 0:
        return None
    return Amount(top.value / bottom, f"{top.unit}/mL")


@dataclass(slots=True)
class _Found:
    concepts: set[str]
    names: list[str]
    atc: list[str]
    coded: bool = False
    contradictory: bool = False
    by_name: bool = False
    known_by_code: bool = False
    vaccine_code: bool = False

    def add(self, coded: Coded, raw: object) -> None:
        if coded.contradictory:
            self.contradictory = True
        self.concepts |= coded.concepts
        self.coded = self.coded or coded.coded
        self.by_name = self.by_name or coded.by_name
        concept = obj(raw)
        written = text(concept.get("text")) or next(
            (d for c in objs(concept.get("coding")) if (d := text(c.get("display")))), ""
        )
        if written:
            self.names.append(written)
        self.vaccine_code = self.vaccine_code or any(trimmed(system) == CVX for system, _ in codings(raw))
        self.atc += [code.upper() for system, code in codings(raw) if "atc" in system.casefold()]


def _ingredients(medication: Json, found: _Found, context: Context) -> list[tuple[str, Amount]]:
    strengths: list[tuple[str, Amount]] = []
    for item in objs(medication.get("ingredient")):
        newer = obj(item.get("item"))
        raw: object = item.get("itemCodeableConcept") or newer.get("concept")
        if raw is None:
            link = item.get("itemReference") or newer.get("reference")
            target = context.pool.resolve(link, medication) or EMPTY
            raw = target.get("code") or {"text": text(obj(link).get("display"))}
        coded = context.codes.read(raw, DRUG_NAMES)
        found.concepts |= coded.concepts
        found.by_name = found.by_name or (coded.by_name and not found.coded)
        strength = _strength(item)
        if strength is not None:
            strengths += [(c, strength) for c in sorted(context.codes.of_kind(coded.concepts, "drug"))]
    return strengths


def identify(order: Json, context: Context) -> Identity:
    """The drug of a MedicationRequest, -Administration, -Dispense or -Statement."""
    concept, link = _written(order)
    if link or not isinstance(concept, dict):
        return _identify(order, concept, link, context)
    key = context.codes.key(concept)
    known = context.memory.identities.get(key)
    if known is None:
        known = _identify(order, concept, link, context)
        if known.identified and is_name(*key):  # an unidentified one is named for every order
            context.memory.identities[key] = known
    return known


def _identify(order: Json, concept: object, link: Json, context: Context) -> Identity:
    found = _Found(set(), [], [])
    strengths: list[tuple[str, Amount]] = []
    form = lot = ""
    if concept is not None:
        found.add(context.codes.read(concept, DRUG_NAMES), concept)
    shown = text(link.get("display"))
    if link:
        medication = context.pool.resolve(link, order)
        if medication is not None and medication.get("status") not in ("entered-in-error",):
            code = medication.get("code")
            found.add(context.codes.read(code, DRUG_NAMES), code)
            strengths = _ingredients(medication, found, context)
            form = _form(medication)
            lot = text(obj(medication.get("batch")).get("lotNumber"))
        if not found.concepts and not found.contradictory and shown:
            found.add(context.codes.read({"text": shown}, DRUG_NAMES), {"text": shown})
    if concept is None and not link:
        context.losses.add(LossReason.MALFORMED, name_of(order), text="medication")
    name = next(iter(found.names), "") or shown
    flags = {Flag.BY_NAME} if found.by_name else set()
    if found.contradictory:
        context.losses.add(LossReason.CONTRADICTORY, name_of(order), text="contradictory codes")
        # codes of two vaccines are still an order of a vaccine: of unknown class
        kept = frozenset({_ANY_VACCINE}) if _some_vaccine(found) else NO_CONCEPTS
        return Identity(name=name, concepts=kept, form=form, lot=lot, flags=frozenset(flags))
    concepts = frozenset(found.concepts)
    named = name or _first_name(concepts, context)
    if not concepts and _some_vaccine(found):
        concepts = frozenset({_ANY_VACCINE})
    unresolved = bool(link) and not (concepts or name or found.coded)
    if unresolved:
        context.losses.add(LossReason.NOT_FETCHED, name_of(order), text="medication")
    return Identity(
        name=named,
        concepts=concepts,
        ingredients=tuple(sorted(context.codes.of_kind(concepts, *_SUBSTANCE_KINDS))),
        identified=bool(concepts or name or found.atc),
        form=form,
        lot=lot,
        strengths=tuple(strengths),
        atc=tuple(found.atc),
        flags=frozenset(flags),
    )


def _some_vaccine(found: _Found) -> bool:
    """No vaccine that is known, but one by its code system or by a word of its name."""
    names = [name.casefold() for name in found.names]
    if any(word in name for name in names for word in _ANTIBODIES):
        return False
    return found.vaccine_code or any(_VACCINE_WORDS.search(name) for name in names)


def _first_name(concepts: frozenset[str], context: Context) -> str:
    drugs = sorted(context.codes.of_kind(concepts, *_SUBSTANCE_KINDS)) or sorted(concepts)
    return context.codes.terminology.display(drugs[0], "en") if drugs else ""


def _form(medication: Json) -> str:
    form = obj(medication.get("form")) or obj(medication.get("doseForm"))
    return text(form.get("text")) or next(
        (d for c in objs(form.get("coding")) if (d := text(c.get("display")))), ""
    )


def read_route(written: object, identity: Identity, context: Context) -> Route | None:
    """Route by coding, else its text, else the product's form, else its ATC group; None: not said."""
    vocabulary = context.codes.terminology
    shown = text(obj(written).get("text"))
    for system, code in codings(written):
        if (found := vocabulary.route(system, code, shown or None)) is not None:
            return Route(found)
    named = [shown, *(text(c.get("display")) for c in objs(obj(written).get("coding")))]
    for name in named:
        if name and (found := vocabulary.route(None, None, name)) is not None:
            return Route(found)
    if codings(written) or shown:
        return Route.OTHER
    for name in (identity.form, identity.name):
        if name and (found := vocabulary.form_route(name)) is not None:
            return Route(found)
    groups = {route for code in identity.atc for prefix, route in _ATC_ROUTES if code.startswith(prefix)}
    systemic = [code for code in identity.atc if not code.startswith(tuple(p for p, _ in _ATC_ROUTES))]
    return groups.pop() if len(groups) == 1 and not systemic else None


def with_route(identity: Identity, route: Route | None, context: Context) -> Identity:
    """Drugs that exist as a systemic and a topical concept under one code are told apart by the route."""
    pairs = [c for c in identity.concepts if c + _TOPICAL in context.codes.terminology] + [
        c.removesuffix(_TOPICAL) for c in identity.concepts if c.endswith(_TOPICAL)
    ]
    concepts = identity.concepts
    for systemic in sorted(set(pairs)):
        local = systemic + _TOPICAL
        topical = route is Route.TOPICAL or (
            systemic not in concepts and (route is None or not route.systemic)
        )
        drop, keep = (systemic, local) if topical else (local, systemic)
        classes = context.codes.terminology.classes
        rest = {c for c in concepts if c not in (systemic, local)}
        others = frozenset().union(*(classes(c) for c in rest if not c.startswith("class_")))
        concepts = frozenset(rest - (classes(drop) - others)) | {keep} | classes(keep)
    if concepts == identity.concepts:
        return identity
    return replace(
        identity,
        concepts=concepts,
        ingredients=tuple(sorted(context.codes.of_kind(concepts, *_SUBSTANCE_KINDS))),
    )


def mg_per_ml(identity: Identity) -> Decimal | None:
    """Strength of a single-drug solution; None for fluids and mixtures."""
    masses = {drug: a.value for drug, a in identity.strengths if a.unit == "mg/mL" and drug not in FLUIDS}
    if len(masses) != 1 or any(drug in FLUIDS for drug, _ in identity.strengths):
        return None
    return next(iter(masses.values()))
