"""The migrations: run by Alembic, which reads `env.py`."""
