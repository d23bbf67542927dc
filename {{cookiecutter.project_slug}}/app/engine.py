"""The engine: its pool, what each connection is made with, and what it is checked for."""

import re
from functools import lru_cache
from typing import Any

import asyncpg
from sqlalchemy import event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from app.config import Settings
from app.misuse import ReadOnlySessionError

# A query begins so, after white space, brackets and comments; and has none of the other words.
QUERY = re.compile(
    r"(?:\s|\(|--[^\n]*\n|/\*[\s\S]*?\*/)*(?:SELECT|WITH|VALUES|TABLE|SHOW|EXPLAIN)\b", re.IGNORECASE
)
# INSERT and MERGE are always followed by INTO; FOR UPDATE and FOR SHARE lock rows.
WRITE = re.compile(r"(?<![.\w])(?:INTO|UPDATE|DELETE|FOR\s+(?:KEY\s+)?SHARE)\b", re.IGNORECASE)
QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")


def create_engine(settings: Settings) -> AsyncEngine:
    """Return the engine that the settings describe. It connects when it is first used."""
    engine = create_async_engine(
        settings.database_url,
        connect_args=connect_args(settings),
        pool_size=settings.database_pool_size,
        max_overflow=settings.database_max_overflow,
        pool_timeout=settings.database_pool_timeout,
        pool_recycle=settings.database_pool_recycle,
        pool_pre_ping=settings.database_pool_pre_ping,
        pool_use_lifo=True,  # lets connections that a quiet hour does not need go idle and end
    )
    event.listen(engine.sync_engine, "checkout", discard_unusable)
    return engine


def create_read_engine(engine: AsyncEngine) -> AsyncEngine:
    """Return an engine on the same pool for queries alone: no BEGIN before them, no ROLLBACK after."""
    read_engine = engine.execution_options(isolation_level="AUTOCOMMIT")
    event.listen(read_engine.sync_engine, "before_cursor_execute", refuse_writes)
    return read_engine


class CommitVerifyingConnection(asyncpg.Connection):
    """A connection on which a COMMIT that did not commit is an error.

    When a statement failed and its error was caught, PostgreSQL answers the later COMMIT with a ROLLBACK
    and no error; asyncpg and SQLAlchemy pass that on as a success.
    """

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:  # noqa: ASYNC109 as asyncpg has it
        """Execute `query` and return PostgreSQL's command tag.

        Raises:
            asyncpg.InFailedSQLTransactionError: a COMMIT was answered with ROLLBACK.
        """
        status: str = await super().execute(query, *args, timeout=timeout)
        if query == "COMMIT;" and status != "COMMIT":
            raise asyncpg.InFailedSQLTransactionError(
                "PostgreSQL rolled back instead of committing, because a statement had failed and its "
                "error was caught. Let it through, or put the statement into `async with "
                "session.begin_nested():`, which undoes that statement alone."
            )
        return status


async def connect(*args: Any, **kwargs: Any) -> asyncpg.Connection:
    """Open a connection; an unreachable server is a database error, not an `OSError` among others.

    Raises:
        asyncpg.CannotConnectNowError: refused, unknown host, or no answer in time.
    """
    try:
        return await asyncpg.connect(*args, connection_class=CommitVerifyingConnection, **kwargs)
    except OSError as error:
        raise asyncpg.CannotConnectNowError(f"The database cannot be reached: {error}") from error


def connect_args(settings: Settings) -> dict[str, Any]:
    """Return the `connect_args` of an engine: raw SQL sees the configured schema from the start.

    Set at connect, the search path costs no round trip and no rollback can undo it.
    """
    return {"async_creator_fn": connect, "server_settings": {"search_path": quoted_schema(settings)}}


def quoted_schema(settings: Settings) -> str:
    """Return the name of the schema as SQL has it, whatever is in it."""
    return '"' + settings.database_schema.replace('"', '""') + '"'


def discard_unusable(dbapi_connection: Any, _record: Any, _proxy: Any) -> None:
    """Make the pool replace a connection that the driver knows to be closed or inside a transaction.

    The driver knows without asking the server, so this costs no round trip, unlike `pool_pre_ping`.
    """
    connection = dbapi_connection.driver_connection
    if connection.is_closed() or connection.is_in_transaction():
        raise DisconnectionError


def refuse_writes(_conn: Any, _cursor: Any, statement: str, _params: Any, _context: Any, _many: Any) -> None:
    """Let nothing but queries through, whether SQLAlchemy wrote them or you did.

    Raises:
        ReadOnlySessionError: the statement writes, or locks rows, which would be released at once.
    """
    if not is_query(statement):
        raise ReadOnlySessionError(statement)


@lru_cache(maxsize=1_000)
def is_query(statement: str) -> bool:
    """Tell whether the SQL only reads, as far as its text shows: a function that it calls may write."""
    return QUERY.match(statement) is not None and WRITE.search(QUOTED.sub("", statement)) is None
