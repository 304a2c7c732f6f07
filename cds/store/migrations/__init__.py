"""Alembic migrations, applied when the service starts."""
