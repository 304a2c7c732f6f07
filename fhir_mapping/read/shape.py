"""JSON of any shape, read without surprises: a wrong type reads as "not there", never as an error."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any, TypeAlias

Json: TypeAlias = dict[str, Any]

EMPTY: Json = {}
_LARGEST = Decimal("1e18")  # beyond any clinical number; keeps arithmetic on hostile input cheap


def obj(value: object) -> Json:
    """A JSON object, or an empty one."""
    return value if isinstance(value, dict) else EMPTY


def objs(value: object) -> list[Json]:
    """The objects of a list; a lone object counts as a list of one (seen in the wild for `category`)."""
    if isinstance(value, list):
        return [item for item in value if isinstance(item, dict)]
    return [value] if isinstance(value, dict) else []


def text(value: object) -> str:
    """A trimmed string, or ""."""
    return value.strip() if isinstance(value, str) else ""


def texts(value: object) -> list[str]:
    """The non-empty strings of a list; a lone string counts as a list of one."""
    if isinstance(value, str):
        value = [value]
    return [item.strip() for item in value if isinstance(item, str)] if isinstance(value, list) else []


def boolean(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def number(value: object) -> Decimal | None:
    """A JSON number (or one written as a string) as an exact Decimal; None for anything else."""
    if isinstance(value, float):
        return Decimal(repr(value)) if -1e18 < value < 1e18 else None
    if isinstance(value, bool) or not isinstance(value, (int, str, Decimal)):
        return None
    if isinstance(value, int):
        return Decimal(value) if -(10**18) < value < 10**18 else None
    written = value.strip() if isinstance(value, str) else str(value)
    if len(written) > 40:
        return None
    try:
        result = Decimal(written)
    except InvalidOperation:
        return None
    return result if result.is_finite() and abs(result) <= _LARGEST else None


def whole(value: Decimal | None) -> int | None:
    """The integer that a number is, or None for fractions."""
    if value is None or value != value.to_integral_value():
        return None
    return int(value)


def notes(resource: Json) -> list[str]:
    """Texts of `note` (Annotation list, or a bare string as older versions have it)."""
    raw = resource.get("note")
    return [*texts(raw), *(t for item in objs(raw) if (t := text(item.get("text"))))]


def instruction_texts(resource: Json) -> list[str]:
    """What notes and dosages of a drug resource say in words."""
    written = notes(resource) if "note" in resource else []
    for field in ("dosageInstruction", "dosage"):
        if field in resource:
            written += [words for item in objs(resource[field]) if (words := text(item.get("text")))]
    return written


def name_of(resource: Json) -> str:
    """`Type/id`, or the bare type when the id is unreadable."""
    kind, identity = resource.get("resourceType"), resource.get("id")
    if isinstance(kind, str) and isinstance(identity, str) and identity:
        return f"{kind}/{identity}"
    return text(kind)
