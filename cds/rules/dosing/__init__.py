"""Rules of the domain dosing."""
