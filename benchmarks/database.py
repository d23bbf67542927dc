"""The rows that everything is measured on."""

import asyncio
import os
from typing import Any

import asyncpg

from app.config import DATABASE_SCHEMA

URL = os.environ["DATABASE_URL"]
TABLE = f'"{DATABASE_SCHEMA}".users'


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
    connection = await asyncpg.connect(URL)
    for statement in statements:
        await connection.execute(statement, timeout=300)
    await connection.close()


def value_of(query: str) -> Any:
    """Return the first value of a query."""

    async def fetch() -> Any:
        connection = await asyncpg.connect(URL)
        try:
            return await connection.fetchval(query)
        finally:
            await connection.close()

    return asyncio.run(fetch())
