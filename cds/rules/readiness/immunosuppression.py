"""Systemic immunosuppression that is in force today (criterion E8): steroids, GvHD drugs, others.

Exempt: local routes everywhere, and intermittent steroids (single or as-needed doses, no daily order).
"""

from __future__ import annotations

from cds.engine.case import Case, once_per_case
from cds.rules.drug_classes import drug_classes
from cds.rules.washout.uses import membership
from fhir_mapping.chart import DrugRecord, DrugSource, reaches_the_body

# given against the tumour, though ATC lists some of their members as immunosuppressants
_ANTITUMOUR = frozenset({"DC1T4", "DC7", "DC8", "DC9", "DC10", "DC18", "DC22"})


def _supplied(case: Case, record: DrugRecord) -> bool:
    """Handed over for some days, and nothing else on the chart says whether it is still taken."""
    first, last = record.timing.first, record.timing.last
    if record.source is not DrugSource.DISPENSE or first is None or last is None or last.date <= first.date:
        return False
    said = (DrugSource.ORDER, DrugSource.STATEMENT)
    return not any(other.source in said for other in case.chart.drugs.of(*record.ingredients))


def _in_force(case: Case, record: DrugRecord) -> bool:
    if not record.in_force and not _supplied(case, record):
        return False
    first, last = record.timing.first, record.timing.last
    if first is not None and first.first_date > case.today:
        return False  # ordered, not begun
    return record.timing.ongoing or last is None or last.date >= case.today


def _intermittent(record: DrugRecord) -> bool:
    timing = record.timing
    if timing.as_needed:
        return True
    return (
        record.source is DrugSource.ORDER
        and not timing.ongoing
        and len(timing.doses) <= 1
        and (timing.last is None or timing.first is None or timing.last.date == timing.first.date)
    )


@once_per_case
def immunosuppressants(case: Case) -> tuple[DrugRecord, ...]:
    """Records in force of systemic immunosuppressants, each once."""
    found: list[DrugRecord] = []
    for record in case.chart.drugs.all:
        if not _in_force(case, record) or not reaches_the_body(record.route):
            continue
        drugs = drug_classes().drugs_of(record)
        classes = frozenset[str]().union(*(membership(case, record, d).classes for d in drugs))
        steroid = "DC6" in classes
        if steroid and _intermittent(record):
            continue
        other = "class_immunosuppressants" in record.concepts and classes.isdisjoint(_ANTITUMOUR)
        if steroid or "DC11" in classes or other:
            found.append(record)
    return tuple(found)
