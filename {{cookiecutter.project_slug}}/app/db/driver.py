"""asyncpg's own connection, for what SQLAlchemy does not have: COPY, LISTEN."""

import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.db.connect_args import connect_args
from app.db.connection import connect
from app.db.engine import CLOSE_TIMEOUT
from app.db.errors import DirectURLNeededError, TransactionNeededError
from app.db.read import ReadSession


async def driver_connection(session: AsyncSession) -> asyncpg.Connection:
    """Return asyncpg's connection of a unit of work, inside its transaction. Use it in this block only.

    Raises:
        TransactionNeededError: the session is a read session.
    """
    if isinstance(session.sync_session, ReadSession):
        raise TransactionNeededError
    connection = await session.connection()
    await connection.exec_driver_sql("SELECT")  # SQLAlchemy sends BEGIN before its first statement
    driver: Any = (await connection.get_raw_connection()).driver_connection
    driver.watch.idle = -math.inf  # COPY is not seen, and may take long
    return driver


@asynccontextmanager
async def own_connection(settings: Settings) -> AsyncGenerator[asyncpg.Connection]:
    """Open a connection that no pool knows, and close it. It has no time limits.

    Raises:
        DirectURLNeededError: DATABASE_URL leads through PgBouncer, which keeps no connection for anybody.
        sqlalchemy.exc.DBAPIError: the server cannot be reached, or takes no connection.
    """
    settings = settings.for_script("own connection")
    if settings.database_pgbouncer:
        raise DirectURLNeededError
    arguments = connect_args(settings)
    arguments.pop("async_creator_fn")
    connection = await connect(**arguments)
    try:
        yield connection
    finally:
        with suppress(TimeoutError):  # a server that does not answer is left
            await connection.close(timeout=CLOSE_TIMEOUT)
