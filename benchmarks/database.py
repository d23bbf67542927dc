"""The database, and the rows that everything is measured on."""

import asyncio
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
from alembic import command
from alembic.config import Config

from app.config import DATABASE_SCHEMA
from dev.postgres import running_postgres

MAX_CONNECTIONS = 250  # enough for all contenders at once
TABLE = f'"{DATABASE_SCHEMA}".users'


@contextmanager
def database() -> Generator[None]:
    """Run the project's own PostgreSQL, migrated, and set DATABASE_URL."""
    with running_postgres(Path(".postgres"), f"max_connections={MAX_CONNECTIONS}") as url:
        os.environ["DATABASE_URL"] = url
        command.upgrade(Config(toml_file="pyproject.toml"), "head")
        yield


def fill(rows: int = 1_000) -> None:
    """Make the table hold users 1 to `rows`, and nothing else."""
    asyncio.run(
        execute(
            f"TRUNCATE {TABLE} RESTART IDENTITY CASCADE",
            f"INSERT INTO {TABLE} (email, full_name) "
            f"SELECT 'user' || n || '@example.com', 'User ' || n FROM generate_series(1, {rows}) n",
            f"VACUUM ANALYZE {TABLE}",
            "CHECKPOINT",
        )
    )


async def execute(*statements: str) -> None:
    """Execute the statements, each in its own transaction."""
    connection = await asyncpg.connect(os.environ["DATABASE_URL"])
    for statement in statements:
        await connection.execute(statement, timeout=300)
    await connection.close()


def value_of(query: str) -> Any:
    """Return the first value of a query."""

    async def fetch() -> Any:
        connection = await asyncpg.connect(os.environ["DATABASE_URL"])
        try:
            return await connection.fetchval(query)
        finally:
            await connection.close()

    return asyncio.run(fetch())
