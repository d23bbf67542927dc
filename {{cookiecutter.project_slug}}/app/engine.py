"""The engine, and what goes through it."""

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg
from sqlalchemy import ExceptionContext, event
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from app.config import Settings
from app.connection import connect_args
from app.misuse import CommitInsideError, ReadOnlySessionError, SharedSessionError
from app.pool import FairPool
from app.statements import ends_transaction, is_query
from app.telemetry import instrument

READ_ONLY = "read_only"  # an execution option
STATEMENT = "COMMIT or ROLLBACK as a statement"
IN_PROGRESS = "operation is in progress"  # asyncpg's words for two tasks on one connection
CLOSE_TIMEOUT = 3  # seconds for all connections together


def create_engine(settings: Settings, name: str = "primary") -> AsyncEngine:
    """Return the engine that the settings describe. It connects when it is first used.

    Telemetry calls it by its name.
    """
    engine = create_async_engine(
        settings.database_url,
        connect_args=connect_args(settings),
        poolclass=FairPool,
        pool_size=settings.database_pool_size,
        max_overflow=settings.database_max_overflow,
        pool_timeout=settings.database_pool_timeout,
        pool_recycle=settings.database_pool_recycle,
        pool_pre_ping=settings.database_pool_pre_ping,
        hide_parameters=True,  # no values in error messages
        pool_use_lifo=True,  # lets connections that a quiet hour does not need go idle and end
    )
    event.listen(engine.sync_engine, "checkout", discard_unusable)
    do = instrument(engine.sync_engine, name, run)
    # Around the cursor: listeners around the statement take several times as long.
    event.listen(engine.sync_engine, "do_execute", lambda cursor, *args: do(cursor.execute, *args))
    event.listen(engine.sync_engine, "do_executemany", lambda cursor, *args: do(cursor.executemany, *args))
    event.listen(engine.sync_engine, "do_execute_no_params", lambda cursor, *args: do(cursor.execute, *args))
    event.listen(engine.sync_engine, "handle_error", give_up, retval=True)
    return engine


async def dispose(*engines: AsyncEngine) -> None:
    """Close the connections that are in the pools; those of a server that does not answer are broken off."""
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT):
            await asyncio.gather(*(engine.dispose() for engine in set(engines)))
    except TimeoutError:
        for pool in (engine.pool for engine in engines):
            if isinstance(pool, FairPool):
                pool.terminate()


def create_read_engine(engine: AsyncEngine) -> AsyncEngine:
    """Return an engine on the same pool for queries alone: no BEGIN before them, no ROLLBACK after."""
    return engine.execution_options(**{READ_ONLY: True})


def discard_unusable(dbapi_connection: Any, _record: Any, _proxy: Any) -> None:
    """Make the pool replace a connection that is known to be closed, inside a transaction, or busy.

    The driver knows without asking the server, so this costs no round trip, unlike `pool_pre_ping`.
    """
    connection = dbapi_connection.driver_connection
    if connection.is_closed() or connection.is_in_transaction() or connection.busy:
        raise DisconnectionError
    dbapi_connection.autocommit = False  # the last to use it may have been the read engine


def run(execute: Callable[..., None], statement: str, *parameters_and_context: Any) -> bool:
    """Execute a statement, alone on its connection; on one of the read engine, without a transaction.

    Raises:
        SharedSessionError: another task is executing on the connection. The statement would wait for its
            turn, and have it when the connection may be somebody else's.
        CommitInsideError: the statement would end the transaction, or has.
        ReadOnlySessionError: the read engine was sent a statement that writes, or locks rows, which would be
            released at once.
    """
    *parameters, context = parameters_and_context
    dbapi_connection = context.root_connection.connection.dbapi_connection
    driver_connection = dbapi_connection.driver_connection
    if driver_connection.busy:
        raise SharedSessionError
    if context.root_connection.get_execution_options().get(READ_ONLY):
        if not is_query(statement):
            raise ReadOnlySessionError(statement)
        dbapi_connection.autocommit = True
    elif not dbapi_connection.autocommit and ends_transaction(statement):
        raise CommitInsideError(STATEMENT)
    driver_connection.busy = True
    try:
        execute(statement, *parameters)
    finally:
        driver_connection.busy = False
    if not (dbapi_connection.autocommit or driver_connection.is_in_transaction()):
        raise CommitInsideError(STATEMENT)  # in words that were not recognised
    return True  # it is done


def give_up(context: ExceptionContext) -> BaseException | None:
    """Drop a connection that cannot be rolled back, and say why: it is frozen, or busy for another task."""
    error, connection = context.original_exception, context.connection
    if connection is None or connection.invalidated or isinstance(error, SharedSessionError):
        return None
    if isinstance(error, TimeoutError):
        cause = asyncpg.QueryCanceledError("The database did not answer in time.")
        better: BaseException = DBAPIError(None, None, cause, connection_invalidated=True)
    elif isinstance(error.__cause__, asyncpg.InterfaceError) and IN_PROGRESS in str(error):
        better = SharedSessionError()
        context.invalidate_pool_on_disconnect = False
    elif isinstance(error, asyncpg.PostgresError | asyncpg.InterfaceError):  # of a stream: the driver's own
        if IN_PROGRESS in str(error):
            return SharedSessionError()
        driver: Any = connection.connection.driver_connection
        return DBAPIError(None, None, error, connection_invalidated=driver.is_closed())
    else:
        return None
    context.is_disconnect = True
    if driver := connection.connection.driver_connection:
        driver.terminate()  # closed politely, it would wait for the other task
    return better
