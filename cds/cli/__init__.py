"""The command `tcell-cds`."""

from cds.cli.main import app

__all__ = ["app"]
