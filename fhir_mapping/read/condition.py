"""Condition and AdverseEvent (chart-facts 1.2, 2.3, sections 8-10)."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

from fhir_mapping.chart import Condition, ConditionState, Flag, Grade, LossReason, Moment
from fhir_mapping.read.coding import NO_CONCEPTS, code_word, codings, names_of
from fhir_mapping.read.context import Context
from fhir_mapping.read.pool import Subject, accepted
from fhir_mapping.read.shape import EMPTY, Json, name_of, number, obj, objs, text, whole
from fhir_mapping.read.tables import rows
from fhir_mapping.terminology.systems import ICD10CM

_ACTIVE = frozenset({"active", "recurrence", "relapse"})
_HISTORY = frozenset({"inactive", "remission", "resolved"})
_SUSPECTED = frozenset({"provisional", "differential", "unconfirmed"})
_GRADED_BY_CODE = frozenset({"crs", "icans"})
_ICD = "icd-10"
_NAME_KINDS = frozenset({"condition"})
_LYMPHOMAS = frozenset(
    "dlbcl follicular_lymphoma mantle_cell_lymphoma burkitt_lymphoma high_grade_b_cell_lymphoma pmbcl "
    "transformed_follicular_lymphoma cll b_all t_all all_lineage_unspecified".split()
)
_DISEASES = _LYMPHOMAS | frozenset("multiple_myeloma primary_cns_lymphoma sclc nsclc lung_cancer_any".split())
_CNS_SITES = frozenset(
    {
        "cns",
        "central nervous system",
        "brain",
        "meninges",
        "leptomeninges",
        "spinal cord",
        "csf",
        "central nervous system structure",
        "brain structure",
        "中樞神經系統",
        "中樞神經",
        "腦",
        "腦膜",
        "21483005",  # SNOMED CT without a display: central nervous system structure
        "12738006",  # brain structure
    }
)
_HISTOLOGY = "histology-morphology-behavior"  # mCODE extension of the code or of the Condition
_SMALL_CELL = {"icd-o": "8041/3", "snomed.info/sct": "74364000"}  # morphology: small cell carcinoma
_B_LINEAGE = re.compile(
    r"^b$|\bb[\s-]*(?:cell|all|lineage|lymphoblastic|precursor)|\b(?:precursor|pre)[\s-]*b\b|b\s*細胞", re.I
)
_T_LINEAGE = re.compile(
    r"^t$|\bt[\s-]*(?:cell|all|lineage|lymphoblastic)|\b(?:precursor|pre)[\s-]*t\b|t\s*細胞", re.I
)
_ENDED_EVENT = frozenset({"resolved", "recovered", "resolvedwithsequelae", "resolved-with-sequelae"})
_LATENT = frozenset({"hbv", "hcv", "hiv"})


@cache
def _ranges() -> tuple[tuple[str, str, frozenset[str]], ...]:
    return tuple((r["first"], r["last"], frozenset(r["concepts"].split())) for r in rows("icd10_ranges"))


@cache
def _implied() -> dict[str, frozenset[str]]:
    return {r["concept"]: frozenset(r["implies"].split()) for r in rows("implied")}


@cache
def _stated() -> dict[tuple[str, str], str]:
    return {(r["system"], r["code"]): r["states"] for r in rows("stated_conditions")}


def stated_concepts(value: object) -> frozenset[str]:
    """What the code of a disease says besides the disease."""
    return frozenset(_stated()[pair] for pair in codings(value) if pair in _stated())


def icd_concepts(value: object) -> frozenset[str]:
    """Concepts that follow from the range an ICD-10 code lies in (infections, malignancies, pregnancy)."""
    found: set[str] = set()
    for system, code in codings(value):
        if _ICD not in system.casefold():
            continue
        bare = code.upper().replace(".", "")
        for first, last, concepts in _ranges():
            if first <= bare and (bare <= last or bare.startswith(last)):
                found |= concepts
    if "not_infection" in found:
        found = {c for c in found if not c.startswith(("infection", "not_infection"))}
    if "secondary_or_skin" in found:
        found -= {"second_malignancy", "secondary_or_skin"}
    return frozenset(found)


def _tumours(value: object, context: Context) -> frozenset[str]:
    """Malignancies by any edition of ICD-10: chapter C is the same in WHO's, in CM and in national ones."""
    found: set[str] = set()
    for system, code in codings(value):
        if _ICD in system.casefold() and code[:1].upper() == "C":
            found.update(context.codes.terminology.concepts_for(ICD10CM, code))
    return frozenset(found)


def infection_concepts(value: object) -> frozenset[str]:
    """The part of `icd_concepts` that names an infection."""
    return frozenset(c for c in icd_concepts(value) if c.startswith("infection"))


def _implications(concepts: frozenset[str]) -> frozenset[str]:
    found = concepts
    for concept in concepts:
        found |= _implied().get(concept, NO_CONCEPTS)
    return found


def _told_from_second(concepts: frozenset[str]) -> frozenset[str]:
    """The disease that is treated, and skin cancer, are no second malignancy (D14)."""
    known = concepts & _DISEASES or "nonmelanoma_skin_cancer" in concepts
    return concepts - {"second_malignancy"} if known else concepts


def _state(resource: Json, context: Context) -> tuple[ConditionState, str] | None:
    verification = code_word(resource.get("verificationStatus"))
    clinical = code_word(resource.get("clinicalStatus"))
    if verification == "entered-in-error":
        return None
    if verification == "refuted":
        return ConditionState.REFUTED, clinical
    if verification in _SUSPECTED:
        return ConditionState.SUSPECTED, clinical
    if verification not in ("", "confirmed") or (clinical and clinical not in _ACTIVE | _HISTORY):
        if verification != "unknown" and clinical != "unknown":
            context.losses.add(LossReason.MALFORMED, name_of(resource), text="status")
        return None
    if not clinical:
        abated = any(key.startswith("abatement") and resource[key] not in (None, False) for key in resource)
        return (ConditionState.HISTORY if abated else ConditionState.ACTIVE), ""
    return (ConditionState.ACTIVE if clinical in _ACTIVE else ConditionState.HISTORY), clinical


def _onset(resource: Json, context: Context) -> tuple[Moment | None, bool]:
    """Onset, and whether the recorded date stands in for it."""
    onset = context.stamps.read(resource.get("onsetDateTime"))
    if onset is None:
        onset = context.stamps.period(resource.get("onsetPeriod"))[0]
    if onset is not None or any(key in resource for key in ("onsetAge", "onsetString", "onsetRange")):
        return onset, False
    recorded = context.stamps.read(resource.get("recordedDate") or resource.get("assertedDate"))
    return recorded, recorded is not None


def _icd_grade(resource: Json, concepts: frozenset[str]) -> Grade | None:
    if _GRADED_BY_CODE.isdisjoint(concepts):
        return None
    for system, code in codings(resource.get("code")):
        bare = code.upper().replace(".", "")
        graded = (bare.startswith("D8983") and len(bare) == 6) or (bare.startswith("G920") and len(bare) == 5)
        if _ICD in system.casefold() and graded and bare[-1] in "12345":
            return Grade(int(bare[-1]))
    return None


def _severity(values: list[object], context: Context, *, derived: bool) -> Grade | None:
    vocabulary = context.codes.terminology
    for value in values:
        for system, code in codings(value):
            found = vocabulary.severity(system, code) or vocabulary.severity(None, None, code)
            if found is not None and found.derived is derived:
                return Grade(found.grade, found.derived)
        for name in names_of(value):
            found = vocabulary.severity(None, None, name)
            if found is not None and found.derived is derived:
                return Grade(found.grade, found.derived)
    return None


def read_grade(resource: Json, concepts: frozenset[str], context: Context) -> Grade | None:
    """Toxicity grade (2.3): an explicit grade > the digit of the ICD-10 code > a severity (derived)."""
    stages = [stage.get("summary") for stage in objs(resource.get("stage"))]
    written = [resource.get("severity"), *stages]
    explicit = _severity(written, context, derived=False)
    for component in objs(resource.get("component")):
        if explicit is None and "ctcae_grade" in context.codes.read(component.get("code")).concepts:
            count = whole(number(component.get("valueInteger")))
            explicit = Grade(count) if count is not None and 0 <= count <= 5 else None
    return explicit or _icd_grade(resource, concepts) or _severity(written, context, derived=True)


def _lineage(concepts: frozenset[str], resource: Json, b_cell_seen: Callable[[], bool]) -> frozenset[str]:
    """C91.0x says no lineage: another coding, the text, or a B-cell antigen on the disease does."""
    if "all_lineage_unspecified" not in concepts:
        return concepts
    told = concepts & {"b_all", "t_all"}
    if not told:
        names = names_of(resource.get("code"))
        if any(_B_LINEAGE.search(name) for name in names):
            told = frozenset({"b_all"})
        elif any(_T_LINEAGE.search(name) for name in names):
            told = frozenset({"t_all"})
        elif b_cell_seen():
            told = frozenset({"b_all"})
    return (concepts - {"all_lineage_unspecified"}) | told if told else concepts


def _histology(concepts: frozenset[str], resource: Json, context: Context) -> frozenset[str]:
    """A lung cancer whose histology extension says small cell (D1)."""
    if "lung_cancer_any" not in concepts or concepts & {"sclc", "nsclc"}:
        return concepts
    for extension in (*objs(resource.get("extension")), *objs(obj(resource.get("code")).get("extension"))):
        if _HISTOLOGY not in text(extension.get("url")):
            continue
        value = extension.get("valueCodeableConcept")
        told = context.codes.read(value, NO_CONCEPTS).concepts & {"sclc", "nsclc"}
        if any(
            named in system and code == small
            for system, code in codings(value)
            for named, small in _SMALL_CELL.items()
        ):
            told = frozenset({"sclc"})
        if told:
            return concepts | told
    return concepts


Causes = Callable[[str], frozenset[str]]


def read_condition(
    resource: Json, context: Context, b_cell_seen: Callable[[], bool], causes: Causes
) -> Condition | None:
    """One problem, diagnosis or history item. `causes(reference)` are causes that Observations state (T9)."""
    known = _state(resource, context)
    if known is None or accepted(context.pool, resource, context.losses) is None:
        return None
    state, clinical = known
    coded = context.codes.read(resource.get("code"), _NAME_KINDS)
    if coded.contradictory:
        context.losses.add(LossReason.CONTRADICTORY, name_of(resource), text="contradictory codes")
        return None
    categories = context.codes.all_of(resource.get("category"))
    unknown_code = coded.by_name or not coded.concepts
    tumours = _tumours(resource.get("code"), context) if unknown_code else NO_CONCEPTS
    concepts = (
        (tumours or coded.concepts)
        | icd_concepts(resource.get("code"))
        | stated_concepts(resource.get("code"))
    )
    kinds = categories & {
        "infection",
        "infection_bacterial",
        "infection_viral",
        "infection_fungal",
        "late_effect",
    }
    concepts = _histology(_lineage(concepts | kinds, resource, b_cell_seen), resource, context)
    concepts = _told_from_second(_implications(concepts))
    if "relapse" in concepts and clinical in ("", "active"):
        clinical = "relapse"  # ICD-10-CM says it in the code: C91.02, in relapse
    sites = context.sites(resource.get("bodySite"))
    if concepts & _LYMPHOMAS and sites & _CNS_SITES:
        concepts |= {"cns_involvement"}
    flags: set[Flag] = set()
    if coded.by_name and not tumours:
        flags.add(Flag.BY_NAME)
        if state is ConditionState.ACTIVE:
            state = ConditionState.SUSPECTED  # a name alone opens a question, it never decides
    if state is ConditionState.SUSPECTED:
        flags.add(Flag.UNCONFIRMED)
    onset, recorded_only = _onset(resource, context)
    if recorded_only:
        flags.add(Flag.RECORDED_DATE)
    if onset is not None and not onset.day_known:
        flags.add(Flag.PARTIAL_DATE)
    if context.pool.subject_of(resource) is Subject.UNSTATED:
        flags.add(Flag.NO_SUBJECT)
    end = context.stamps.read(resource.get("abatementDateTime"))
    return Condition(
        reference=name_of(resource),
        concepts=concepts,
        state=state,
        onset=onset,
        end=end or context.stamps.period(resource.get("abatementPeriod"))[1],
        grade=read_grade(resource, concepts, context),
        clinical_status=clinical,
        categories=categories,
        body_sites=sites,
        attributed_to=_evident_causes(resource, context) | causes(name_of(resource)),
        recorded=context.stamps.read(resource.get("recordedDate") or resource.get("assertedDate")),
        text=next(iter(names_of(resource.get("code"))), ""),
        flags=frozenset(flags),
    )


def read_adverse_event(resource: Json, context: Context) -> Condition | None:
    """An actual AdverseEvent as an event with a grade (T8)."""
    actual = resource.get("actuality", "actual") == "actual"
    if not actual or resource.get("status") == "entered-in-error":
        return None
    if accepted(context.pool, resource, context.losses) is None:
        return None
    raw = resource.get("event") if isinstance(resource.get("event"), dict) else resource.get("code")
    coded = context.codes.read(raw, NO_CONCEPTS)
    if coded.contradictory:
        context.losses.add(LossReason.CONTRADICTORY, name_of(resource), text="contradictory codes")
        return None
    concepts = _told_from_second(_implications(coded.concepts | icd_concepts(raw))) | {"adverse_event"}
    ended = code_word(resource.get("outcome")) in _ENDED_EVENT
    onset = context.stamps.read(resource.get("date")) or context.stamps.read(
        resource.get("occurrenceDateTime")
    )
    return Condition(
        reference=name_of(resource),
        concepts=concepts,
        state=ConditionState.HISTORY if ended else ConditionState.ACTIVE,
        onset=onset,
        grade=_severity([resource.get("severity")], context, derived=False)
        or _severity([resource.get("severity")], context, derived=True),
        attributed_to=_named_causes(
            [item.get("instance") for item in objs(resource.get("suspectEntity"))], resource, context
        ),
        recorded=context.stamps.read(resource.get("recordedDate")),
        text=coded.text,
    )


def _settled(conditions: list[Condition]) -> list[Condition]:
    """Refuted against stated of one concept: the newest recorded date wins (section 19)."""
    dropped: set[int] = set()
    for refuted in conditions:
        if refuted.state is not ConditionState.REFUTED or refuted.recorded is None:
            continue
        for other in conditions:
            shared = refuted.concepts & other.concepts - {"infection_any", "adverse_event"}
            if other.state is ConditionState.REFUTED or other.recorded is None or not shared:
                continue
            dropped.add(id(refuted) if other.recorded.latest > refuted.recorded.latest else id(other))
    return [c for c in conditions if id(c) not in dropped]


def _named_causes(links: object, owner: Json, context: Context) -> frozenset[str]:
    """Drugs and diseases that references name; a result is a finding and no cause."""
    found: frozenset[str] = frozenset()
    for link in objs(links):
        target = context.pool.resolve(link, owner) or EMPTY
        if target.get("resourceType") != "Observation":
            found |= context.codes.all_of([target.get("code"), target.get("medicationCodeableConcept")])
    return found


def _evident_causes(resource: Json, context: Context) -> frozenset[str]:
    """Drugs and diseases that Condition.evidence names as the cause."""
    found: frozenset[str] = frozenset()
    for item in objs(resource.get("evidence")):
        found |= context.codes.all_of(item.get("code"))
        found |= _named_causes(item.get("detail"), resource, context)
    return found


def read_conditions(context: Context, b_cell_seen: Callable[[], bool], causes: Causes) -> list[Condition]:
    """Every condition and adverse event, oldest onset first; undated ones last."""
    pool = context.pool
    found = context.each(pool.of("Condition"), lambda r: read_condition(r, context, b_cell_seen, causes))
    found += context.each(pool.of("AdverseEvent"), lambda r: read_adverse_event(r, context))
    return sorted(
        _settled(found),
        key=lambda c: (c.onset is None, c.onset.earliest if c.onset else None, c.reference),
    )
