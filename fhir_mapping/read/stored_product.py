"""How a collected or manufactured product was kept, as its own record says (chart-facts Q5)."""

from __future__ import annotations

from collections.abc import Iterator

from fhir_mapping.chart import Flag, Observation, Quantity, Specimen, Value
from fhir_mapping.read.coding import NO_CONCEPTS
from fhir_mapping.read.context import Context
from fhir_mapping.read.shape import Json, name_of, objs, text

_CONCEPT = "storage_temperature"
_PRODUCT = "BiologicallyDerivedProduct"
_OWNERS = ("Procedure", "Specimen", "MedicationAdministration")
_SCALES = {"celsius": "Cel", "farenheit": "[degF]", "fahrenheit": "[degF]"}  # FHIR R4 writes "farenheit"


def storage_temperatures(context: Context) -> list[Observation]:
    """One Observation at the start and one at the end of every storage period with a temperature."""
    found = context.each(_products(context), lambda product: tuple(_of_product(product, context)))
    return [observation for several in found for observation in several]


def _products(context: Context) -> Iterator[Json]:
    yield from context.pool.of(_PRODUCT)
    for kind in _OWNERS:
        for owner in context.pool.of(kind):
            for inner in objs(owner.get("contained")):
                if inner.get("resourceType") == _PRODUCT:
                    yield {**inner, "id": f"{text(owner.get('id'))}#{text(inner.get('id'))}"}


def _of_product(product: Json, context: Context) -> Iterator[Observation]:
    kinds = context.codes.read(product.get("productCode"), NO_CONCEPTS).concepts
    bag = Specimen(name_of(product), kinds)
    for storage in objs(product.get("storage")):
        written = {"value": storage.get("temperature"), "unit": _SCALES.get(text(storage.get("scale")), "")}
        read = context.values.quantity(written, context.traits(_CONCEPT))
        moments = {m for m in context.stamps.period(storage.get("period")) if m is not None}
        if not isinstance(read, Quantity):
            context.losses.add(read.reason, name_of(product), _CONCEPT, read.text)
            continue
        for moment in moments:
            if not context.in_future(moment):
                yield Observation(
                    name_of(product),
                    _CONCEPT,
                    moment,
                    Value(read),
                    specimen=bag,
                    flags=frozenset({Flag.DERIVED}),
                )
