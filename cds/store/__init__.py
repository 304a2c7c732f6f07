"""What is kept: which rule said what about whom (hashed), and what clinicians did with it.

The request path never waits for the database and survives its loss; see `cds.store.writer`.
"""

from cds.store.database import DatabaseUrlError, async_url, connect
from cds.store.identity import Identity, site_key
from cds.store.report import RuleUse, Usage, usage
from cds.store.store import State, Store, Unavailable

__all__ = [
    "DatabaseUrlError",
    "Identity",
    "RuleUse",
    "State",
    "Store",
    "Unavailable",
    "Usage",
    "async_url",
    "connect",
    "site_key",
    "usage",
]
