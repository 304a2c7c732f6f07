"""The CDS Hooks service: protocol, prefetch, rules and their engine, store, page and commands."""

__version__ = "0.1.0"
