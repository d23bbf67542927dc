"""The engines: one for units of work, one for reads; and the errors that SQLAlchemy does not name."""

import asyncio
from typing import Any

import asyncpg
from sqlalchemy import ExceptionContext, event
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from app.config import Settings
from app.db.connect_args import DRIVER, connect_args, of_url
from app.db.errors import ReadOnlySessionError, SessionError, SharedSessionError, TransactionNeededError
from app.db.pool import FairPool
from app.db.replica import Fallback
from app.db.telemetry import watch_statements

# What PostgreSQL refuses on a connection that reads: https://www.postgresql.org/docs/current/errcodes-appendix.html
READ_ONLY = "25006"
READ_ERRORS: dict[str | None, type[SessionError]] = {
    READ_ONLY: ReadOnlySessionError,  # a write
    "25P01": TransactionNeededError,  # a cursor or a savepoint
}
IN_PROGRESS = "operation is in progress"  # asyncpg's words for two tasks on one connection
CLOSE_TIMEOUT = 3  # seconds for all connections together


def create_engine(settings: Settings, *, read_only: bool = False) -> AsyncEngine:
    """Return the engine that the settings describe. It connects when it is first used.

    An engine that only reads does so on the replica, if there is one, and outside any transaction: a query is
    one round trip, without a BEGIN before and a ROLLBACK after it. PostgreSQL itself refuses to write there.
    """
    replica = settings.database_replica_url if read_only else None
    arguments = connect_args(settings, read_only=read_only)
    if replica:
        arguments |= of_url(replica, settings, read_only=True, primary=False)
    engine = create_async_engine(
        DRIVER,
        connect_args=arguments,
        poolclass=FairPool,  # without this line: SQLAlchemy's own pool
        pool_logging_name="reads" if read_only else "primary",  # telemetry calls it so
        pool_size=settings.database_read_pool_size if read_only else settings.database_pool_size,
        max_overflow=0 if read_only else settings.database_max_overflow,
        pool_timeout=settings.database_pool_timeout,
        pool_recycle=settings.database_pool_recycle,
        pool_pre_ping=settings.database_pool_pre_ping,
        pool_use_lifo=True,  # lets connections that a quiet hour does not need go idle and end
        hide_parameters=True,  # no values in error messages
        **({"isolation_level": "AUTOCOMMIT"} if read_only else {}),
    )
    event.listen(engine.sync_engine, "checkout", check_usable)
    event.listen(engine.sync_engine, "handle_error", name_error, retval=True)
    event.listen(
        engine.sync_engine, "handle_error", name_read_error if read_only else leave_standby, retval=True
    )
    if replica and settings.database_replica_fallback:
        Fallback(engine, of_url(settings.database_url, settings, read_only=True))
    watch_statements(engine.sync_engine)
    if isinstance(engine.pool, FairPool):
        engine.pool.report()
    return engine


async def dispose(*engines: AsyncEngine) -> None:
    """Close the connections that are in the pools; break off those of a server that does not answer."""
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT):
            await asyncio.gather(*(engine.dispose() for engine in engines))
    except TimeoutError:
        for pool in (engine.pool for engine in engines):
            for connection in pool.empty() if isinstance(pool, FairPool) else ():
                connection.terminate()


def check_usable(connection: Any, _record: Any, _proxy: Any) -> None:
    """Make the pool replace a connection that is known to be closed, or inside a transaction.

    The driver knows without asking the server, so this costs no round trip, unlike `pool_pre_ping`.
    """
    driver = connection.driver_connection
    if driver.is_closed() or driver.is_in_transaction():
        raise DisconnectionError


def name_read_error(context: ExceptionContext) -> BaseException | None:
    """Say what to use instead where PostgreSQL refused what only a unit of work can do."""
    error = READ_ERRORS.get(getattr(context.original_exception, "sqlstate", None))
    if error is TransactionNeededError:
        # The driver prepared a statement for the cursor. Its tables stay locked until the next statement.
        context.is_disconnect, context.invalidate_pool_on_disconnect = True, False
    return error() if error else None


def leave_standby(context: ExceptionContext) -> None:
    """Drop a connection whose server only reads: another one is the primary now. The answer is a 503."""
    if getattr(context.original_exception, "sqlstate", None) == READ_ONLY:
        context.is_disconnect, context.invalidate_pool_on_disconnect = True, False


def name_error(context: ExceptionContext) -> BaseException | None:
    """Drop a connection that is frozen, or that two tasks use, and say so."""
    error, connection = context.original_exception, context.connection
    if connection is None or connection.invalidated:
        return None
    driver: Any = connection.connection.driver_connection
    if driver.is_closed():
        driver.watch.end_transaction()
    if isinstance(error, TimeoutError):
        canceled = asyncpg.QueryCanceledError("The database did not answer in time.")
        better: BaseException = DBAPIError(None, None, canceled, connection_invalidated=True)
    elif isinstance(error.__cause__, asyncpg.InterfaceError) and IN_PROGRESS in str(error):
        better = SharedSessionError()
        context.invalidate_pool_on_disconnect = False
    elif isinstance(error, asyncpg.PostgresError | asyncpg.InterfaceError):  # of a stream: the driver's own
        if IN_PROGRESS in str(error):
            return SharedSessionError()
        return DBAPIError(None, None, error, connection_invalidated=driver.is_closed())
    else:
        return None
    context.is_disconnect = True
    driver.terminate()  # closed politely, it would wait for the other task, or the answer
    return better
