"""One picture with its words: title, description and the same facts as a table, for who does not see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cds.pictures.svg import Attribute, Node

FONT = "system-ui, 'Noto Sans TC', 'Noto Sans CJK TC', sans-serif"


@dataclass(frozen=True, slots=True)
class Picture:
    """`kind` tells pictures apart, `rules` whose verdicts it shows; every row is as long as the header."""

    kind: str
    rules: tuple[str, ...]
    title: str
    description: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    svg: str


def document(
    kind: str, title: str, description: str, width: float, height: float, drawn: Sequence[Node]
) -> str:
    """A complete SVG document that a screen reader announces by its title and description. `kind` makes its
    ids differ from those of other pictures on the same page."""
    name = f"picture-{kind}"
    attributes: dict[str, Attribute] = {
        "xmlns": "http://www.w3.org/2000/svg",
        "viewBox": f"0 0 {width:.0f} {height:.0f}",
        "width": round(width),
        "height": round(height),
        "role": "img",
        "aria-labelledby": f"{name}-t {name}-d",
        "font-family": FONT,
        "font-size": 12,
        "fill": "#1b2530",
    }
    words = (
        Node("title", {"id": f"{name}-t"}, (title,)),
        Node("desc", {"id": f"{name}-d"}, (description,)),
    )
    return Node("svg", attributes, (*words, *drawn)).markup()
