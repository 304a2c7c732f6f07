"""SVG as a tree of typed nodes. Text and attributes are escaped here and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html import escape

Attribute = str | int | float


def _visible(text: str) -> str:
    """Without the control characters that XML 1.0 cannot hold."""
    return "".join(c for c in text if c >= " " or c in "\t\n").replace("\ufffe", "").replace("\uffff", "")


def _written(value: Attribute) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)


@dataclass(frozen=True, slots=True)
class Node:
    """One element. Underscores in attribute names are written as dashes."""

    tag: str
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    children: tuple[Node | str, ...] = ()

    def markup(self) -> str:
        return "".join(self._pieces())

    def _pieces(self) -> Iterator[str]:
        yield f"<{self.tag}"
        for name, value in self.attributes.items():
            yield f' {name.replace("_", "-")}="{escape(_visible(_written(value)))}"'
        if not self.children:
            yield "/>"
            return
        yield ">"
        for child in self.children:
            if isinstance(child, str):
                yield escape(_visible(child), quote=False)
            else:
                yield from child._pieces()
        yield f"</{self.tag}>"


def group(*children: Node, **attributes: Attribute) -> Node:
    return Node("g", attributes, children)


def line(x1: float, y1: float, x2: float, y2: float, **attributes: Attribute) -> Node:
    return Node("line", {"x1": x1, "y1": y1, "x2": x2, "y2": y2, **attributes})


def rect(x: float, y: float, width: float, height: float, **attributes: Attribute) -> Node:
    return Node("rect", {"x": x, "y": y, "width": max(width, 0.0), "height": height, **attributes})


def circle(x: float, y: float, radius: float, **attributes: Attribute) -> Node:
    return Node("circle", {"cx": x, "cy": y, "r": radius, **attributes})


def polygon(points: tuple[tuple[float, float], ...], **attributes: Attribute) -> Node:
    return Node("polygon", {"points": _points(points), **attributes})


def polyline(points: tuple[tuple[float, float], ...], **attributes: Attribute) -> Node:
    return Node("polyline", {"points": _points(points), "fill": "none", **attributes})


def text(x: float, y: float, words: str, **attributes: Attribute) -> Node:
    return Node("text", {"x": x, "y": y, **attributes}, (words,))


def _points(points: tuple[tuple[float, float], ...]) -> str:
    return " ".join(f"{_written(float(x))},{_written(float(y))}" for x, y in points)
