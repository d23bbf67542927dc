"""What each connection to the database is made with, and checked for, on its way through the pool."""

from typing import Any

import asyncpg
from sqlalchemy.exc import DisconnectionError

from app.config import Settings

QUERIES = ("SELECT", "VALUES", "TABLE", "SHOW")


class ReadOnlySessionError(RuntimeError):
    """A statement other than a query was sent through a session that is for reading."""

    def __init__(self, statement: str) -> None:
        super().__init__(
            f"{statement.split(maxsplit=1)[0]} was sent through a read session. "
            "To write, take SessionDep in a route, or sessionmanager.session() elsewhere."
        )


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
    quoted_schema = settings.database_schema.replace('"', '""')
    return {
        "async_creator_fn": connect,
        "server_settings": {"search_path": f'"{quoted_schema}"'},
    }


def discard_unusable(dbapi_connection: Any, _record: Any, _proxy: Any) -> None:
    """Make the pool replace a connection that the driver knows to be closed or inside a transaction.

    The driver knows without asking the server, so this costs no round trip, unlike `pool_pre_ping`.
    """
    connection = dbapi_connection.driver_connection
    if connection.is_closed() or connection.is_in_transaction():
        raise DisconnectionError


def refuse_writes(
    _conn: Any, _cursor: Any, statement: str, _parameters: Any, context: Any, _many: Any
) -> None:
    """Let nothing but queries through: `select()` constructs, and raw SQL that begins like one.

    Raises:
        ReadOnlySessionError: it is something else.
    """
    compiled = context.compiled
    is_select = compiled is not None and getattr(compiled.statement, "is_select", False)
    if not is_select and not statement.lstrip().upper().startswith(QUERIES):
        raise ReadOnlySessionError(statement)
