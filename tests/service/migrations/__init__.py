"""Tables that change, and what Alembic does."""
