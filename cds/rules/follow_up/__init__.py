"""Rules of the domain follow-up."""
