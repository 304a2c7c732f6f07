"""Hostile requests by the thousand: `make fuzz`."""
