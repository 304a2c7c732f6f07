"""Rules of the domain readiness."""
