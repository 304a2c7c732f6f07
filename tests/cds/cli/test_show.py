from __future__ import annotations

import io

import pytest
from rich.console import Console

from cds.cli.show import card_panel, outcome_text

CARD = {
    "summary": "Bendamustine 38 days before [bold]leukapheresis[/bold]\x1b[31m",
    "indicator": "critical",
    "detail": "| a | b |\n| --- | --- |\n| 1 &lt; 2 | x |\n\n&lt;script&gt;",
    "source": {"label": "Handbook", "topic": {"code": "washout.example"}},
    "suggestions": [
        {
            "label": "Order it",
            "isRecommended": True,
            "actions": [
                {
                    "type": "create",
                    "description": "Order tocilizumab 560 mg",
                    "resource": {"dosageInstruction": [{"text": "560 mg, once"}]},
                },
                {"type": "delete", "description": "Remove the draft"},
            ],
        }
    ],
    "links": [{"label": "Guideline", "url": "https://example.org"}],
    "extension": {"org.tcell-cds.finding": {"outcome": "not-met"}},
}


def _printed(card: dict[str, object]) -> str:
    console = Console(file=io.StringIO(), width=120, highlight=False, force_terminal=False)
    console.print(card_panel(card))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_a_card_is_shown_with_everything_it_says() -> None:
    out = _printed(CARD)
    for part in (
        "CRITICAL",
        "Bendamustine 38 days before",
        "1 < 2",
        "<script>",
        "▸ Order it  ★",
        "create: Order tocilizumab 560 mg — 560 mg, once",
        "delete: Remove the draft",
        "Guideline: https://example.org",
        "washout.example · not-met · Handbook",
    ):
        assert part in out, part


def test_a_card_cannot_steer_the_terminal() -> None:
    out = _printed(CARD)
    assert "\x1b" not in out
    assert "[bold]leukapheresis[/bold]" in out


def test_a_bare_card_is_shown() -> None:
    assert "x" in _printed({"summary": "x"})


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"issue": [{"details": {"text": "a"}, "diagnostics": "b"}, {"diagnostics": "c"}]}, "a: b; c"),
        ({"issue": "x"}, ""),
        (None, ""),
    ],
)
def test_text_of_an_outcome(body: object, text: str) -> None:
    assert outcome_text(body) == text
