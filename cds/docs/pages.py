"""All generated pages by their path below docs/."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cards.sign_off import load_sign_offs
from cds.docs.catalogue import catalogue
from cds.docs.commands import commands_page
from cds.docs.reads import integrators
from cds.docs.settings import settings_page
from cds.engine.rulebook import load_rulebook
from fhir_mapping.terminology import load


def pages(sign_off: Path | None = None) -> Mapping[str, str]:
    """Text by path. The project's own values: a site file or site map is not read. `sign_off` names the
    project's sign-off file. Raises SignOffError."""
    book = load_rulebook(load(), None)
    sign_offs = {} if sign_off is None else load_sign_offs(sign_off, book.rules)
    return {
        **catalogue(book, sign_offs),
        "settings.md": settings_page(),
        "integrators.md": integrators(book),
        "commands.md": commands_page(),
    }
