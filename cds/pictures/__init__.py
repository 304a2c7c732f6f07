"""Pictures of what the rules found: accessible SVG, drawn on the server, in the card's language.

Nothing here decides anything: grades, runs, windows and dates are those of the rules and their findings.
"""

from cds.pictures.gallery import pictures
from cds.pictures.picture import Picture

__all__ = ["Picture", "pictures"]
