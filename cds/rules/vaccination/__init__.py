"""Rules of the domain vaccination."""
