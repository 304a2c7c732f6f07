"""Which rule a vaccine product falls under (tables/vaccine_classes.yaml), and the card where that is open."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any

from cards.finding import (
    Bullet,
    Finding,
    Indicator,
    Missing,
    Name,
    Outcome,
    Paragraph,
    Shown,
    Text,
    msg,
)
from cds.engine.case import Case
from cds.engine.parameters import Parameters
from cds.engine.rule import rule
from cds.engine.tables import shared_table
from fhir_mapping.chart import Drafts, DrugRecord, Route, Vaccine


class VaccineClass(StrEnum):
    """Rows 1 to 7 of the class table."""

    LIVE = "live"
    INFLUENZA = "influenza"
    COVID19 = "covid19"
    ADJUVANTED = "adjuvanted"
    INACTIVATED = "inactivated"
    ANTIBODY = "antibody"
    UNKNOWN = "unknown"

    @property
    def number(self) -> int:
        return list(VaccineClass).index(self) + 1


INJECTED = {Route.INTRAMUSCULAR, Route.SUBCUTANEOUS, Route.INTRALESIONAL}
BCG_INTO_BLADDER = "bcg_intravesical"


@dataclass(frozen=True, slots=True)
class Classified:
    """`concept` decided ("" when none did). `ask`: live or not is open, the order must say which form."""

    vaccine_class: VaccineClass
    concept: str = ""
    ask: bool = False


@cache
def _rows() -> Mapping[str, Mapping[str, Any]]:
    return {str(row["concept"]): row for row in shared_table("vaccine_classes").table("classes")}


def _way(route: Route | None) -> str:
    if route in INJECTED:
        return "injection"
    return {Route.ORAL: "oral", Route.NASAL: "nasal"}.get(route, "") if route is not None else ""


def _candidates(vaccine: Vaccine) -> list[Mapping[str, Any]]:
    """Rows of the table that the vaccine's codes lead to: product rows before group rows."""
    known = [_rows()[concept] for concept in sorted(vaccine.concepts) if concept in _rows()]
    return [row for row in known if row.get("level") == "product"] or known


def protects_as(vaccine: Vaccine, wanted: VaccineClass) -> bool:
    """The dose counts for that class; one combined against influenza and COVID-19 counts for both."""
    return classify(vaccine).vaccine_class is wanted or any(
        row["class"] == wanted for row in _candidates(vaccine)
    )


def classify(vaccine: Vaccine) -> Classified:
    """Product rows before group rows, then the first class of the table (live first)."""
    candidates = _candidates(vaccine)
    if not candidates:
        return Classified(VaccineClass.UNKNOWN)
    settled = [row for row in candidates if row["class"] != "ask"]
    if not settled:
        row = candidates[0]
        by_route = row.get("by_route") or {}
        told = by_route.get(_way(vaccine.route))
        if told is None:
            return Classified(VaccineClass.UNKNOWN, str(row["concept"]), ask=True)
        return Classified(VaccineClass(told), str(row["concept"]))
    found = min(settled, key=lambda row: VaccineClass(row["class"]).number)
    result = Classified(VaccineClass(found["class"]), str(found["concept"]))
    if result.vaccine_class is VaccineClass.INFLUENZA and vaccine.route is Route.NASAL:
        return Classified(VaccineClass.LIVE, "vac_influenza_laiv")  # every nasal influenza vaccine is live
    return result


def post_exposure(vaccine: Vaccine) -> bool:
    """Rabies or tetanus vaccine after an exposure: a life-saving indication, never blocked."""
    rows = shared_table("vaccine_classes").table("post_exposure")
    return "purpose_post_exposure" in vaccine.purposes and any(r["concept"] in vaccine.concepts for r in rows)


def alternative(concept: str) -> str:
    """A vaccine against the same disease under a wider gate; "" where the table has none."""
    for row in shared_table("vaccine_classes").table("alternatives"):
        if row["of"] == concept:
            return str(row["instead"])
    return ""


def _from_drug(record: DrugRecord) -> Vaccine:
    return Vaccine(
        record.reference,
        record.concepts,
        record.timing.first,
        record.name,
        record.route,
        record.purposes,
        flags=record.flags,
    )


def _drafted(drafts: Drafts) -> tuple[Vaccine, ...]:
    """Drafted vaccines; live BCG for the bladder arrives as a drug."""
    seen = {vaccine.reference for vaccine in drafts.vaccines.all}
    drugs = drafts.drugs.of(BCG_INTO_BLADDER, "vac_bcg")
    return (*drafts.vaccines.all, *(_from_drug(d) for d in drugs if d.reference not in seen))


def drafted(case: Case, *classes: VaccineClass) -> tuple[tuple[Vaccine, Classified], ...]:
    """Draft vaccine orders under judgement of these classes, each with its class."""
    selected = case.order.selected
    found = []
    for vaccine in _drafted(case.chart.drafts):
        if selected is not None and vaccine.reference not in selected:
            continue
        told = classify(vaccine)
        if told.vaccine_class in classes:
            found.append((vaccine, told))
    return tuple(found)


def concerns(*classes: VaccineClass) -> Callable[[Drafts, Parameters], bool]:
    """Does a draft hold a vaccine of these classes?"""

    def asked(drafts: Drafts, _: Parameters) -> bool:
        return any(classify(vaccine).vaccine_class in classes for vaccine in _drafted(drafts))

    return asked


def name_of(vaccine: Vaccine, told: Classified) -> Shown:
    """The vaccine as a card names it."""
    if told.concept and told.concept in vaccine.concepts:
        return Name(told.concept)
    if vaccine.text:
        return Text(vaccine.text)
    return Name(told.concept) if told.concept else msg("unnamed")


def at_most_info(vaccine: Vaccine, indicator: Indicator) -> Indicator:
    """A recommendation alone is never an order: information only (chart-facts I2)."""
    return Indicator.INFO if vaccine.recommendation else indicator


@rule("vaccination.class", concerns=concerns(VaccineClass.UNKNOWN))
def unknown_class(case: Case) -> Iterator[Finding]:
    """A vaccine order whose class the chart does not tell."""
    if not case.ordering or not case.chart.course.any_evidence:
        return
    for vaccine, told in drafted(case, VaccineClass.UNKNOWN):
        if told.ask:
            summary, advice, row = (
                msg("summary.ask", vaccine=name_of(vaccine, told)),
                msg("detail.ask"),
                "ask",
            )
        else:
            summary = msg("summary.unknown", vaccine=name_of(vaccine, told))
            advice, row = msg("detail.unknown"), "7"
        yield Finding(
            rule="vaccination.class",
            outcome=Outcome.REVIEW,
            indicator=at_most_info(vaccine, Indicator.WARNING),
            summary=summary,
            subject=vaccine.reference,
            resource=vaccine.reference,
            detail=(Paragraph(advice), Bullet(msg("detail.until-then"))),
            values={"row": row, "vaccine_class": "unknown"},
            missing=(Missing(told.concept or "class_vaccines", text=vaccine.text),),
            unconcluded=True,
        )
