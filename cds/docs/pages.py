"""All generated pages by their path below docs/."""

from __future__ import annotations

from collections.abc import Mapping

from cds.docs.catalogue import catalogue
from cds.docs.reads import integrators
from cds.docs.settings import settings_page
from cds.engine.rulebook import load_rulebook
from fhir_mapping.terminology import load


def pages() -> Mapping[str, str]:
    """Text by path. The project's own values: a site file or site map is not read."""
    book = load_rulebook(load(), None)
    return {**catalogue(book), "settings.md": settings_page(), "integrators.md": integrators(book)}
