"""Declared rules, the services that follow from them, and their run on one case."""
