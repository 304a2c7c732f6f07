"""Rules of the domain washout."""
