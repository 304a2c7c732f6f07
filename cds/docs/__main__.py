"""`python -m cds.docs [FOLDER]`: write the generated pages, by default into docs/."""

from __future__ import annotations

import sys
from pathlib import Path

from cds.docs.pages import pages

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs")
sign_off = Path(__file__).parents[2] / "docs" / "sign-off.toml"
for name, text in pages(sign_off).items():
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
