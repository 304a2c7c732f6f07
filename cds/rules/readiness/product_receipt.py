"""May the product be used? Release file, specification, out-of-specification papers, receipt, storage.

Rows P1 release file, P2 specification, P3 papers of an out-of-specification product, P4 contamination,
P5 dose of the label (not in the handbook), P6 registration, P7 storage at receipt, P8 identity at receipt.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from enum import StrEnum

from cards.finding import (
    Evidence,
    Finding,
    Indicator,
    Items,
    Message,
    Missing,
    Name,
    Scalar,
    Shown,
    msg,
)
from cds.engine.case import Case
from cds.engine.rule import rule
from cds.rules.body_size import weight
from cds.rules.disease import Disease, disease, disease_evidence
from cds.rules.dosing.ldc import orders
from cds.rules.evidence import of_fact, of_observation
from cds.rules.readiness.checklist import NOTHING, Line, Status, checklist, shown
from cds.rules.readiness.identity import Identity, Stage, identity
from cds.rules.readiness.phase import candidate, infused, infusing
from cds.rules.readiness.product import (
    INFUSIONS,
    MANUFACTURED,
    Release,
    bag_of,
    papers,
    product_status,
    release_of,
    results,
)
from fhir_mapping.chart import Amount, Observation, Quantity, Result

RULE = "readiness.product-receipt"
_DOCUMENTS = ("viable_cell_count", "volume", "transport_log", "sterility", "qc_report")
_PAPERS = ("certificate_deviation", "manufacturer_risk_assessment", "physician_acceptance", "patient_consent")
_HERE = frozenset({"received", "stored"})
_SHIPPED = _HERE | {"in_transit"}
_PRODUCT = "tisagenlecleucel"


class Occasion(StrEnum):
    """What the answer is for."""

    PAGE = "page"
    LYMPHODEPLETION = "lymphodepletion"
    INFUSION = "infusion"


def _since(case: Case, concept: str) -> tuple[Observation, ...]:
    """Results on the manufactured product of this course."""
    return results(case, concept, MANUFACTURED, case.chart.course.collections[-1:])


def _occasion(case: Case) -> tuple[Occasion, str] | None:
    """What is judged and the draft it belongs to; None on an order that is not this rule's."""
    if not case.ordering:
        return Occasion.PAGE, ""
    for draft in case.judged_drugs(*INFUSIONS):
        return Occasion.INFUSION, draft.reference
    for service in case.judged_services(*INFUSIONS):
        return Occasion.INFUSION, service.reference
    ordered = orders(case)
    return (Occasion.LYMPHODEPLETION, ordered.reference) if ordered else None


# --- rows


def _file(case: Case) -> Line:
    """P1: no file at all is not met; single documents that lack are named."""
    seen: dict[str, Evidence] = {}
    for observation in _since(case, "release_document"):
        for code in observation.value.codes:
            seen[code] = of_observation(observation)
    for name in _DOCUMENTS:
        for document in papers(case, name):
            seen.setdefault(name, of_fact(document, name))
    whole = [of_fact(d, "release_document") for d in papers(case, "release_document")]
    missing = tuple(Missing(name) for name in _DOCUMENTS if name not in seen)
    evidence = (*seen.values(), *whole)
    if not seen:
        if whole:
            found = msg("file.unread")
            return Line(
                "P1", Status.UNKNOWN, found, weight=Indicator.INFO, evidence=evidence, missing=missing
            )
        return Line("P1", Status.NOT_MET, missing=(Missing("release_document"),))
    found = msg("file.has", documents=Items(tuple(Name(n) for n in _DOCUMENTS if n in seen)))
    weight_ = Indicator.INFO if whole else None
    status = Status.UNKNOWN if missing else Status.MET
    return Line("P1", status, found, weight=weight_, evidence=evidence, missing=missing)


def _cell(release: Release) -> Shown:
    return NOTHING if release.observation is None else shown(release.observation)


def _specification(release: Release) -> Line:
    if not release.status:
        return Line("P2", Status.UNKNOWN, missing=(Missing("release_status"),))
    if release.status == "in_specification":
        return Line("P2", Status.MET, _cell(release), evidence=release.evidence)
    if release.status == "not_released":
        return Line("P2", Status.NOT_MET, _cell(release), evidence=release.evidence)
    # used out of specification: decided by its papers (P3); contaminated: by P4
    return Line("P2", Status.CAUTION, _cell(release), weight=Indicator.INFO, evidence=release.evidence)


def _papers(case: Case, release: Release, occasion: Occasion) -> Line | None:
    """P3: all four papers, else no infusion."""
    if release.status != "out_of_specification":
        return None
    seen: dict[str, Evidence] = {}
    for observation in _since(case, "oos_document"):
        for code in observation.value.codes:
            seen[code] = of_observation(observation)
    for name in _PAPERS:
        for document in papers(case, name):
            seen.setdefault(name, of_fact(document, name))
    consent = [o for o in _since(case, "consent_oos_product") if o.value.yes is not None]
    if consent and consent[-1].value.yes:
        seen.setdefault("patient_consent", of_observation(consent[-1]))
    for document in papers(case, "consent_oos_product"):
        seen.setdefault("patient_consent", of_fact(document, "consent_oos_product"))
    lacking = [name for name in _PAPERS if name not in seen]
    evidence = tuple(seen.values())
    values: dict[str, Scalar] = {"oos_documents": len(_PAPERS) - len(lacking)}
    if not lacking:
        notes: tuple[Message, ...] = (msg("note.documented"),)
        return Line("P3", Status.CAUTION, msg("papers.all"), {}, notes, Indicator.INFO, values, evidence)
    found = msg("papers.lack", papers=Items(tuple(Name(name) for name in lacking)))
    weight_ = Indicator.CRITICAL if occasion is Occasion.INFUSION else Indicator.WARNING
    missing = tuple(Missing(name) for name in lacking)
    return Line("P3", Status.NOT_MET, found, {}, (msg("note.papers"),), weight_, values, evidence, missing)


def _contamination(case: Case, release: Release) -> Line:
    """P4: growth in the product or a release as contaminated; consent never helps."""
    grown = []
    collected = case.chart.course.collections[-1:]
    first = collected[0].when.first_date if collected and collected[0].when is not None else None
    for observation in case.chart.series("product_culture"):
        if observation.value.result is Result.POSITIVE and (first is None or observation.when.date >= first):
            grown.append(observation)
    evidence = tuple(of_observation(o) for o in grown)
    if grown or release.status == "contaminated":
        found = shown(grown[-1]) if grown else _cell(release)
        evidence = (*evidence, *release.evidence) if release.status == "contaminated" else evidence
        notes = (msg("note.contaminated"),)
        return Line("P4", Status.NOT_MET, found, {}, notes, Indicator.CRITICAL, evidence=evidence)
    return Line("P4", Status.MET, msg("growth.none"))


def _dose(case: Case) -> tuple[Quantity | Amount, Evidence] | None:
    """Cells of the product: as measured on the bags, else as ordered."""
    newest: dict[str, Observation] = {}
    for observation in _since(case, "car_t_cell_dose"):
        if observation.value.quantity is not None:
            newest[bag_of(observation, ())] = observation
    if newest:
        bags = list(newest.values())
        if len(bags) == 1 and bags[0].value.quantity is not None:
            return bags[0].value.quantity, of_observation(bags[0])
        amounts = [o.value.quantity for o in bags if o.value.quantity is not None]
        units = {q.unit for q in amounts}
        if len(units) > 1 or any(q.comparator for q in amounts):
            return None
        return Amount(sum((q.value for q in amounts), Decimal(0)), units.pop()), of_observation(bags[-1])
    for draft in case.judged_drugs(*INFUSIONS):
        amount = None if draft.dose is None else draft.dose.amount
        if amount is not None and amount.unit in ("{cells}", "{cells}/kg"):
            return amount, Evidence(draft.reference, "car_t_cell_dose", amount.value, amount.unit)
    return None


def _dose_line(case: Case) -> Line | None:
    """P5: dose of the label of tisagenlecleucel (outside fact); nothing to say of other products."""
    product, own, p = case.chart.course.product, disease(case), case.p(RULE)
    given = _dose(case)
    if given is None or product is None or product.concept != _PRODUCT:
        return None
    if own is not Disease.B_ALL and not own.lymphoma:
        return None
    dose, source = given
    if isinstance(dose, Quantity) and dose.comparator:
        return None
    evidence = (source, *disease_evidence(case))
    low, high, unit = p["lymphoma_min_cells"], p["lymphoma_max_cells"], "{cells}"
    number: Decimal | None = dose.value
    body = weight(case, p.int("weight_max_age_days"))
    if own is Disease.B_ALL:
        if body.value is None:
            found = msg("dose.cells", count=_short(dose.value))
            return Line(
                "P5",
                Status.UNKNOWN,
                found,
                {"range": msg("range.unknown")},
                missing=body.missing,
                weight=Indicator.INFO,
                evidence=evidence,
            )
        evidence = (*evidence, *body.evidence)
        low, high = p["all_min_cells"], p["all_max_cells"]
        if body.value <= p["all_weight_kg"]:
            low, high, unit = p["all_min_per_kg"], p["all_max_per_kg"], "{cells}/kg"
    if dose.unit != unit:
        if body.value is None:
            number = None
        elif unit == "{cells}/kg":
            number = dose.value / body.value
        else:
            number = dose.value * body.value
    if number is None:
        return None
    key = "kg" if unit == "{cells}/kg" else "cells"
    limits: dict[str, Shown] = {"range": msg(f"range.{key}", low=_short(low), high=_short(high))}
    inside = low <= number <= high
    values: dict[str, Scalar] = {"cells_per_kg" if key == "kg" else "cells": number}
    return Line(
        "P5",
        Status.MET if inside else Status.CAUTION,
        msg(f"dose.{key}", count=_short(number)),
        limits,
        () if inside else (msg("note.dose"),),
        None if inside else Indicator.INFO,
        values,
        evidence,
    )


def _short(cells: Decimal) -> Decimal:
    """In millions."""
    return (cells / Decimal(10) ** 6).quantize(Decimal("0.001")).normalize()


def _registration(case: Case) -> Line:
    """P6: the bag number is on the chart."""
    for concept in (
        "release_status",
        "release_document",
        "product_status",
        "identity_check",
        "car_t_cell_dose",
        "package_integrity",
        "package_count",
    ):
        for observation in _since(case, concept):
            specimen = observation.specimen
            if specimen is not None and MANUFACTURED in specimen.concepts and specimen.identifier:
                return Line(
                    "P6", Status.MET, evidence=(of_observation(observation),), found=msg("bag.entered")
                )
    numbered = [o for o in _since(case, "bag_number") if o.value.text]
    drugs = [d for d in (*case.judged_drugs(*INFUSIONS), *case.chart.drugs.of(*INFUSIONS)) if d.bag_number]
    if numbered or drugs:
        return Line("P6", Status.MET, msg("bag.entered"))
    return Line("P6", Status.UNKNOWN, weight=Indicator.INFO, missing=(Missing("bag_number"),))


def _storage(case: Case) -> Line:
    """P7: number and integrity of the packages at receipt."""
    counted, whole = _since(case, "package_count"), _since(case, "package_integrity")
    evidence = tuple(of_observation(o) for o in (*counted[-1:], *whole[-1:]))
    if whole and whole[-1].value.yes is False:
        found = msg("packages.damaged")
        return Line("P7", Status.NOT_MET, found, {}, (msg("note.damaged"),), evidence=evidence)
    lacking = []
    if not counted:
        lacking.append(Missing("package_count"))
    if not whole or whole[-1].value.yes is None:
        lacking.append(Missing("package_integrity"))
    status = Status.UNKNOWN if lacking else Status.MET
    return Line(
        "P7",
        status,
        msg("packages.whole") if not lacking else NOTHING,
        evidence=evidence,
        missing=tuple(lacking),
    )


def _identity(case: Case) -> Line:
    """P8: chain of identity at receipt."""
    persons = case.p(RULE).int("persons")
    limits: dict[str, Shown] = {"persons": persons}
    check = identity(case, Stage.RECEIPT)
    if check is None or check.answer is None:
        return Line("P8", Status.UNKNOWN, NOTHING, limits, missing=(Missing("identity_check"),))
    found = msg(f"identity.{check.answer.value}", persons=check.persons)
    if check.answer is Identity.MISMATCH:
        notes = (msg("note.mismatch"),)
        return Line("P8", Status.NOT_MET, found, limits, notes, Indicator.CRITICAL, evidence=check.evidence)
    if check.answer is Identity.EXPIRED:
        return Line("P8", Status.NOT_MET, found, limits, evidence=check.evidence)
    if check.persons < persons:
        missing = (Missing("checker_count"),)
        return Line("P8", Status.UNKNOWN, found, limits, evidence=check.evidence, missing=missing)
    return Line("P8", Status.MET, found, limits, evidence=check.evidence)


def _summary(finding: Finding, lines: list[Line]) -> Message:
    """The row that decides, by name; else the shared words."""
    by_row = {line.row: line for line in lines}
    if by_row["P4"].status is Status.NOT_MET:
        return msg("summary.contaminated")
    identity_line = by_row.get("P8")
    if identity_line is not None and identity_line.indicator is Indicator.CRITICAL:
        return msg("summary.mismatch")
    papers = by_row.get("P3")
    if papers is not None and papers.status is Status.NOT_MET:
        return msg("summary.papers", count=papers.values["oos_documents"])
    if papers is not None and finding.indicator is Indicator.INFO:
        return msg("summary.documented")
    return finding.summary


@rule(RULE)
def product_receipt(case: Case) -> Iterator[Finding]:
    """One checklist from shipping to the infusion; on the infusion order it may be critical."""
    asked = _occasion(case)
    if asked is None or infused(case) or not candidate(case):
        return
    occasion, resource = asked
    release, status = release_of(case), product_status(case).words
    contamination = _contamination(case, release)
    check = identity(case, Stage.RECEIPT)
    here = bool(status & _HERE) or check is not None
    spoken = bool(status & _SHIPPED) or bool(release.status) or check is not None
    spoken = spoken or contamination.status is Status.NOT_MET or bool(_since(case, "release_document"))
    if not spoken and not (occasion is Occasion.INFUSION and infusing(case)):
        return
    lines = [_file(case), _specification(release), contamination]
    lines += [line for line in (_papers(case, release, occasion), _dose_line(case)) if line is not None]
    if here or occasion is Occasion.INFUSION:
        lines += [_registration(case), _storage(case), _identity(case)]
    finding = checklist(case, RULE, lines, resource=resource, values={"occasion": occasion.value})
    yield replace(finding, summary=_summary(finding, lines))
