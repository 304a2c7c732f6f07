"""The time between collection and lymphodepletion: is it running, which bridging cycles were given."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from cards.finding import Days, Evidence, Shown
from cds.engine.case import Case, once_per_case
from cds.rules.drug_classes import drug_classes
from cds.rules.evidence import of_drug, of_fact
from cds.rules.readiness.phase import collected, collection_date, infused
from fhir_mapping.chart import Condition, DrugRecord

ANTIBODIES = ("blinatumomab", "inotuzumab_ozogamicin")


def intervals(case: Case) -> dict[str, Shown]:
    """Days that bridging must end before lymphodepletion, as the washout rule has them (Table 4)."""
    p = case.p("washout.lymphodepletion")
    return {
        "standard": Days(p.int("B3_days")),
        "high_low": p.int("B1_low_days"),
        "high_full": p.int("B1_full_days"),
        "radiotherapy": Days(p.int("radiotherapy_lymphoma_floor_days")),
        "tki": Days(p.int("B6_days")),
        "ibrutinib": Days(p.int("B7_lymphoma_days")),
        "imid": Days(p.int("B9_days")),
    }


def bridging_time(case: Case) -> bool:
    """Collected, and lymphodepletion has not begun."""
    first = case.chart.course.ldc_first
    begun = first is not None and first.date is not None and (first.done or first.date < case.today)
    return collected(case) and not infused(case) and not begun


def antineoplastic(record: DrugRecord) -> bool:
    """Chemotherapy, or one of the two antibodies that the handbook counts as bridging."""
    return any(drug in ANTIBODIES or drug_classes().cytotoxic(drug) for drug in record.ingredients)


def drafts(case: Case) -> tuple[DrugRecord, ...]:
    """Antineoplastic drafts under judgement that are not lymphodepletion, earliest first."""
    own = {record.reference for record in case.chart.course.ldc_records}
    found = [d for d in case.judged_drugs() if antineoplastic(d) and d.reference not in own]
    return tuple(
        sorted(found, key=lambda d: (d.timing.first.latest if d.timing.first else case.now, d.reference))
    )


def causes(case: Case, condition: Condition) -> frozenset[str]:
    """What the event is attributed to (T9): in the Condition itself or by an Observation about it."""
    stated = (o for o in case.chart.series("attributed_to") if condition.reference in o.focus)
    return condition.attributed_to.union(*(o.value.codes for o in stated))


@once_per_case
def bridging_drugs(case: Case) -> tuple[DrugRecord, ...]:
    """What was given against the tumour, lymphodepletion left out; of any time."""
    own = {record.reference for record in case.chart.course.ldc_records}
    return tuple(
        record
        for record in case.chart.drugs.all
        if record.given
        and record.reference not in own
        and (antineoplastic(record) or "purpose_bridging" in record.purposes)
    )


@dataclass(frozen=True, slots=True)
class Dose:
    day: date
    regimens: frozenset[str]
    evidence: Evidence


@once_per_case
def given(case: Case) -> tuple[Dose, ...]:
    """Days of antineoplastic therapy since the collection, lymphodepletion left out."""
    start = collection_date(case)
    own = {record.reference for record in case.chart.course.ldc_records}
    found: list[Dose] = []
    for record in case.chart.drugs.all:
        moment = record.timing.first
        if not record.given or record.reference in own or moment is None or not antineoplastic(record):
            continue
        if start is None or moment.date >= start:
            found.append(Dose(moment.date, record.regimens, of_drug(record)))
    for procedure in case.chart.procedures.of("chemotherapy"):
        moment = procedure.start
        done = procedure.state.begun
        lymphodepleting = bool({"purpose_lymphodepletion", "purpose_conditioning"} & procedure.purposes)
        if not done or moment is None or lymphodepleting or "regimen_flu_cy" in procedure.regimens:
            continue
        if start is None or moment.date >= start:
            found.append(Dose(moment.date, procedure.regimens, of_fact(procedure, "chemotherapy")))
    return tuple(sorted(found, key=lambda d: (d.day, d.evidence.reference)))


def cycles(doses: Iterable[tuple[date, frozenset[str]]], days: int) -> int:
    """Number of cycles: doses at most `days` apart are one cycle, as a weekly dose or a long infusion is, of
    two named regimens two."""
    count, before, names = 0, None, set[str]()
    for day, regimens in sorted(doses, key=lambda d: d[0]):
        apart = before is None or (day - before).days > days
        before = day
        if apart:
            count, names = count + 1, set(regimens)
            continue
        for name in sorted(regimens - names):
            if names:
                count += 1
            names.add(name)
    return count
