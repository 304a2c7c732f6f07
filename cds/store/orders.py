"""What makes two draft orders the same order (contract section 7): its id, else drug, dose and first date."""

from __future__ import annotations

from fhir_mapping.chart import Chart, Moment


def order_parts(resource: str, chart: Chart | None) -> tuple[str, ...]:
    """The parts of an order's identity; () where the finding names no single order.

    `resource` is the reference of a draft, `Type/id`, or the bare type where the client gave no id.
    """
    if not resource:
        return ()
    if resource.partition("/")[2]:
        return ("id", resource)
    if chart is None:
        return ()
    contents = set()
    for drug in chart.drafts.drugs.all:
        if drug.reference == resource:
            amount = drug.dose.amount if drug.dose is not None else None
            dose = "" if amount is None else f"{amount.value.normalize():f} {amount.unit}"
            contents.add(("drug", *drug.ingredients, dose, _day(drug.timing.first)))
    for service in chart.drafts.services.all:
        if service.reference == resource:
            contents.add(("service", *sorted(service.concepts), _day(service.when)))
    return contents.pop() if len(contents) == 1 else ()  # two alike cannot be told apart


def _day(moment: Moment | None) -> str:
    return "" if moment is None else moment.earliest.date().isoformat()
