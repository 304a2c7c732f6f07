"""Rules of the domain grading."""
