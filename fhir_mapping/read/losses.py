"""What could not be read, each thing once."""

from __future__ import annotations

from fhir_mapping.chart import Loss, LossReason

_LONGEST = 80


def in_order(loss: Loss) -> tuple[str, str, str, str]:
    """Sorts losses, whatever the order in which their entries arrived."""
    return loss.resource, loss.concept, loss.reason.value, loss.text


class Losses:
    """Collects losses while a chart is read; order of arrival never shows."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: dict[Loss, None] = {}

    def add(self, reason: LossReason, resource: str = "", concept: str = "", text: str = "") -> Loss:
        loss = Loss(reason, concept, resource, text[:_LONGEST])
        self._seen[loss] = None
        return loss

    def all(self) -> tuple[Loss, ...]:
        return tuple(sorted(self._seen, key=in_order))
