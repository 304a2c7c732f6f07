"""How much blood to process: rows V1 to V4 by lymphocyte and CD3+ counts; the lower count decides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from cards.finding import (
    Block,
    Bullet,
    Create,
    Evidence,
    Finding,
    Indicator,
    Missing,
    Outcome,
    Paragraph,
    Scalar,
    ServiceProposal,
    Shown,
    Suggestion,
    msg,
)
from cds.engine.case import Case, once_per_case
from cds.engine.rule import rule
from cds.rules.dosing.white_cells import per_ul
from cds.rules.readiness.blood_volume import blood_volume
from cds.rules.readiness.checklist import Look, newest, with_number
from cds.rules.readiness.phase import candidate, collection_order
from fhir_mapping.chart import Amount, Quantity

RULE = "readiness.apheresis-volume"
_LITRE = Decimal("0.1")


@dataclass(frozen=True, slots=True)
class Counts:
    """Lymphocytes and CD3+ cells per microlitre with the row; row "" where there is no usable count."""

    row: str
    alc: Quantity | None
    cd3: Quantity | None
    very_high: bool
    looks: tuple[Look, Look]


def _row(
    alc: Quantity | None, cd3: Quantity | None, two_days: Decimal, low_alc: Decimal, low_cd3: Decimal
) -> str:
    if (alc is not None and alc.below(two_days)) or (cd3 is not None and cd3.below(two_days)):
        return "V1"
    if (alc is not None and alc.at_most(low_alc)) or (cd3 is not None and cd3.at_most(low_cd3)):
        return "V2"
    above = [alc is not None and alc.above(low_alc), cd3 is not None and cd3.above(low_cd3)]
    return "V3" if any(above) else ""


@once_per_case
def counts(case: Case) -> Counts:
    p = case.p(RULE)
    window = case.days_back(p.int("counts_max_age_days"))
    looks = (newest(case, "alc", window, with_number), newest(case, "cd3_abs", window, with_number))
    alc, cd3 = (None if look.observation is None else per_ul(look.observation) for look in looks)
    row = _row(alc, cd3, p["two_days_below_per_ul"], p["low_alc_up_to_per_ul"], p["low_cd3_up_to_per_ul"])
    known = [count for count in (alc, cd3) if count is not None]
    high = row == "V3" and bool(known) and all(count.at_least(p["high_per_ul"]) for count in known)
    return Counts(row, alc, cd3, high, looks)


def _unknown(case: Case, resource: str, found: Counts) -> Finding:
    tests = tuple(Create(ServiceProposal(concept)) for concept in ("cbc_panel", "cd3_abs"))
    return Finding(
        rule=RULE,
        outcome=Outcome.UNKNOWN,
        indicator=Indicator.INFO,
        summary=msg("summary.unknown"),
        subject=resource,
        detail=(Paragraph(msg("detail.unknown")),),
        missing=tuple(m for look in found.looks for m in look.missing),
        resource=resource,
        suggestions=(Suggestion("counts", msg("suggest.counts"), tests, recommended=True),),
        unconcluded=True,
    )


@rule(RULE)
def apheresis_volume(case: Case) -> Iterator[Finding]:
    """Blood volumes and litres for the collection that is ordered."""
    order = collection_order(case)
    if order is None or not candidate(case):
        return
    resource = order.reference
    found, p = counts(case), case.p(RULE)
    if not found.row:
        yield _unknown(case, resource, found)
        return
    band = "low" if found.row == "V2" else "usual"
    low, high = p[f"{band}_volume_min"], p[f"{band}_volume_max"]
    volume = blood_volume(case, p.int("weight_max_age_days"))
    values: dict[str, Scalar] = {"row": found.row}
    shown: dict[str, Shown] = {"low": low, "high": high}
    for name, count in (("alc", found.alc), ("cd3", found.cd3)):
        shown[name] = count if count is not None else msg("none")
        if count is not None:
            values[f"{name}_per_ul"] = count.value
    detail: list[Block] = [
        Paragraph(msg("detail.counts", **shown)),
        Bullet(msg(f"detail.{found.row}", **shown)),
    ]
    if found.row != "V1":
        values |= {"volumes_min": low, "volumes_max": high}
        if volume.ml is not None:
            litres = [(volume.ml * n / 1000).quantize(_LITRE) for n in (low, high)]
            values |= {"litres_min": litres[0], "litres_max": litres[1], "blood_volume_ml": volume.ml}
            detail.append(
                Bullet(msg("detail.litres", low=Amount(litres[0], "L"), high=Amount(litres[1], "L")))
            )
    missing: list[Missing] = [m for look in found.looks for m in look.missing]
    if missing:
        detail.append(Bullet(msg("note.one-count")))
    if found.very_high:
        values["consider"] = "V4"
        detail.append(Bullet(msg("detail.V4")))
    evidence: tuple[Evidence, ...] = tuple(e for look in found.looks for e in look.evidence)
    yield Finding(
        rule=RULE,
        outcome=Outcome.INFO,
        indicator=Indicator.INFO,
        summary=msg(f"summary.{found.row}", **shown),
        subject=resource,
        detail=tuple(detail),
        values=dict(values),
        evidence=(*evidence, *volume.evidence),
        missing=(*missing, *volume.missing),
        resource=resource,
    )
