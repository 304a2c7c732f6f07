"""Which way hyperinflammation after CAR-T cells is read: CRS/MAS or IEC-HS (handbook table 14, figure 8).

    CRS at onset                                       answer
    never better, despite treatment                    CRS/MAS
    better by a grade or more, resolved, worse again   IEC-HS
    never on the chart                                 IEC-HS, atypical
    not documented, or not treated yet                 undetermined

It names a pathway, never a diagnosis.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from cards.finding import (
    Block,
    Bullet,
    Evidence,
    Finding,
    Indicator,
    Message,
    Missing,
    Outcome,
    Paragraph,
    Shown,
    Table,
    msg,
)
from cds.engine.case import Case, once_per_case
from cds.engine.rule import rule
from cds.rules.after_cart import therapy_start
from cds.rules.grading.cart_hlh_2018 import HlhState, cart_hlh
from cds.rules.grading.crs_course import Course, CrsCourse, crs_course, improved_lately
from cds.rules.grading.hlh_signs import ferritin_evidence
from cds.rules.grading.iec_hs_episode import IecHsState, Status, iec_hs_now

RULE = "grading.hlh-compare"


class Pathway(StrEnum):
    """The values are outcome words."""

    CRS_MAS = "crs-mas"
    IEC_HS = "iec-hs"
    UNDETERMINED = "undetermined"


@dataclass(frozen=True, slots=True)
class Comparison:
    """The pathway and why. `mixed`: CRS got better so lately that both stay open."""

    pathway: Pathway
    course: CrsCourse
    atypical: bool
    mixed: bool


_PATHWAYS = {
    Course.UNDOCUMENTED: Pathway.UNDETERMINED,
    Course.PERSISTING: Pathway.UNDETERMINED,
    Course.REFRACTORY: Pathway.CRS_MAS,
    Course.NEVER: Pathway.IEC_HS,
    Course.RESOLVING: Pathway.IEC_HS,
    Course.RESOLVED: Pathway.IEC_HS,
    Course.WORSE_AGAIN: Pathway.IEC_HS,
}


@once_per_case
def comparison(case: Case) -> Comparison | None:
    """The pathway of a chart with a ferritin or a coded episode; None elsewhere."""
    state = iec_hs_now(case)
    hlh = cart_hlh(case)
    start = therapy_start(case)
    if start is None or (state is None and hlh is None):
        return None
    at = state.onset if state is not None else case.now
    course = crs_course(case, at)
    if course.course in (Course.PERSISTING, Course.REFRACTORY):
        # treatment given since the onset may have failed by now; a later improvement does not move the onset
        later = crs_course(case, case.now)
        if later.course in (Course.REFRACTORY, Course.PERSISTING):
            course = later
    latest = crs_course(case, case.now)
    mixed = latest.last >= 1 and improved_lately(case, latest) and latest.course is not Course.NEVER
    mixed = mixed or (latest.course is Course.RESOLVED and improved_lately(case, latest))
    return Comparison(_PATHWAYS[course.course], course, course.course is Course.NEVER, mixed)


def fires(state: IecHsState | None, hlh: HlhState | None) -> bool:
    """IEC-HS is at least possible or coded, or the 2018 rule speaks."""
    if hlh is not None and hlh.ferritin_met:
        return True
    return state is not None and (state.open_episode or state.status.rank >= Status.POSSIBLE.rank)


_FEATURES = (
    ("setting", "", "", "refractory", "resolving"),
    ("fever", "HLH-2004, H-score", "fever", "++", "x"),
    ("organomegaly", "HLH-2004, H-score", "splenomegaly", "+/-", "x"),
    ("lung", "MDACC", "lung_infiltrate pulmonary_edema hypoxemia", "", "x"),
    ("renal", "MDACC", "aki dialysis", "", "x"),
    ("cns", "", "icans", "", "x"),
    ("cytopenia", "HLH-2004, H-score", "C5", "++", "x"),
    ("liver", "H-score, MDACC", "C2 bilirubin_direct", "+", "x"),
    ("ferritin", "HLH-2004, H-score, MDACC", "R", "++", "x"),
    ("ldh", "", "ldh", "", "x"),
    ("fibrinogen", "HLH-2004, H-score", "C3", "+/-", "x"),
    ("triglycerides", "HLH-2004, H-score", "triglycerides_fasting", "+", "x"),
    ("haemophagocytosis", "HLH-2004, H-score, MDACC", "C4", "+++", "x"),
    ("coagulopathy", "", "pt aptt", "+/-", "x"),
    ("nk", "HLH-2004", "", "", ""),
)


def _present(state: IecHsState | None) -> frozenset[str]:
    if state is None:
        return frozenset()
    required = {"R"} if state.ferritin.required else set()
    return frozenset(state.other) | {c.key for c, hit in state.judged if hit is not None} | required


def _said(kind: str, course: CrsCourse) -> Message:
    """The sentence on the course; improvement may be a clinician's word, without a lower grade."""
    key = "improving" if course.course is Course.RESOLVING and course.improved is None else course.course
    return msg(f"{kind}.{key}", peak=course.peak, last=course.last)


def _detail(found: Comparison, state: IecHsState | None) -> Iterator[Block]:
    yield Paragraph(_said("why", found.course))
    if found.course.improved is not None and found.course.improved.day_known:
        yield Bullet(msg("improved", when=found.course.improved))
    if found.mixed:
        yield Bullet(msg("mixed"))
    present = _present(state)
    rows: list[tuple[Shown, ...]] = []
    for key, scores, concepts, mas, iec in _FEATURES:
        here = msg("present") if present & set(concepts.split()) else msg("not-seen")
        if key == "setting":
            here = msg(f"course.{found.course.course}")
            rows.append((msg("feature.setting"), here, msg(f"setting.{mas}"), msg(f"setting.{iec}"), "-"))
        else:
            rows.append((msg(f"feature.{key}"), here, mas or "-", iec or "-", scores or "-"))
    head = (msg("head.feature"), msg("head.chart"), msg("head.mas"), msg("head.iec"), msg("head.scores"))
    yield Table(head, tuple(rows))
    yield Paragraph(msg(f"do.{found.pathway}"))
    if found.mixed and found.pathway is not Pathway.UNDETERMINED:
        other = Pathway.IEC_HS if found.pathway is Pathway.CRS_MAS else Pathway.CRS_MAS
        yield Paragraph(msg(f"do.{other}"))
    yield Paragraph(msg("criterion"))


@rule(RULE)
def compare(case: Case) -> Iterator[Finding]:
    """The pathway where either hyperinflammation rule speaks."""
    state, hlh = iec_hs_now(case), cart_hlh(case)
    if not fires(state, hlh):
        return
    found = comparison(case)
    if found is None:
        return
    weighty = (state is not None and state.established) or (
        hlh is not None and bool(hlh.ferritin_met) and hlh.count >= 2
    )
    summary = _said("summary", found.course)
    values: dict[str, str | int | bool] = {
        "row": found.course.course.value,
        "pathway": found.pathway.value,
        "crs_peak": found.course.peak,
        "crs_last": found.course.last,
    }
    if found.atypical:
        values["atypical"] = True
    if found.mixed:
        values["mixed"] = True
    evidence: tuple[Evidence, ...] = (*ferritin_evidence(case), *found.course.evidence)
    undocumented = found.course.course is Course.UNDOCUMENTED
    yield Finding(
        rule=RULE,
        outcome=Outcome(found.pathway.value),
        indicator=Indicator.WARNING if weighty else Indicator.INFO,
        summary=summary,
        detail=tuple(_detail(found, state)),
        values=values,
        evidence=evidence,
        missing=(Missing("crs_grade"),) if undocumented else (),
    )
