"""Reference pages made from the declarations: rules, settings, what each service reads.

`python -m cds.docs` writes them into docs/; no number in them is typed by hand.
"""

from cds.docs.pages import pages

__all__ = ["pages"]
